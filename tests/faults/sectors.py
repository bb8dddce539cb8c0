"""What a disk may hold after a power cut: a model of what is pending between two syncs.

`recorded` reads what recorder.c wrote, `cuts` gives what may be there at each moment of it. The model is as hostile as
POSIX allows:

- A file has sectors of 512 bytes, each of them whole. Of what was written to one since the last sync of the file any
  version may be there, whatever became of the others. So with the file's size. What nobody wrote is zeros.
- A sync of a file makes its bytes and its size durable, and no name; an msync the bytes of its range, and the size.
- Making, renaming and removing a name are one change each, of which any may be there until the folder is synced.
"""

from __future__ import annotations

import collections
import itertools
import math
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["SECTOR", "Budget", "Change", "Cut", "Files", "Mark", "Recording", "Sync", "cuts", "recorded"]

SECTOR = 512

FOLDER = 0
"""The number that stands for the folder, where a file's is expected."""

Files = dict[str, bytes]
"""The content of a folder by name."""


# ---- What was recorded ----


class Change(NamedTuple):
    """What one call changed, or what was stored through mappings between two.

    Attributes
    ----------
    names : dict
        Name: number of the file that it names from now on, None for a name that is gone.
    sizes : dict
        Number of a file: its new size.
    sectors : dict
        Number of a file, and of a sector in it: the new content.
    """

    names: dict[str, int | None]
    sizes: dict[int, int]
    sectors: dict[tuple[int, int], bytes]


class Sync(NamedTuple):
    """A call that returned when bytes `start` to `end` of a file were durable, or the names of the folder.

    `label` says which it is: the call, the file's name, and how many such there were before.
    """

    label: str
    file: int
    start: int
    end: int


class Mark(NamedTuple):
    """A remark of the program."""

    text: str


Step = Change | Sync | Mark


class Snapshot(NamedTuple):
    """The folder at one moment: what is named, and the content by number."""

    names: dict[str, int]
    contents: dict[int, bytes]


class Recording(NamedTuple):
    """What there was at first, which is taken to be durable, what was done to it, and what there was in the end."""

    first: Snapshot
    steps: list[Step]
    last: Snapshot

    @property
    def syncs(self) -> list[str]:
        """The labels of all syncs."""
        return [step.label for step in self.steps if isinstance(step, Sync)]


def recorded(log: bytes) -> Recording:
    """Read what recorder.c wrote."""
    return _Reader(log).read()


class _Reader:
    def __init__(self, log: bytes) -> None:
        self._log = log
        self._at = 0
        self._folder = self._number()
        self._files: dict[int, int] = {}  # the number of a file by its inode, which another may have later
        self._count = itertools.count(FOLDER + 1)
        self._synced: collections.Counter[str] = collections.Counter()
        self._last = Snapshot({}, {})
        self._aliases: dict[str, str] = {}

    def read(self) -> Recording:
        steps: list[Step] = []
        self._bytes(1)
        first = self._last = self._snapshot()
        while self._at < len(self._log):
            tag = self._bytes(1)
            if tag == b"S":
                now = self._snapshot()
                steps.append(_difference(self._last, now))
                self._last = now
            elif tag == b"M":
                steps.append(Mark(self._text()))
            else:
                steps.extend(self._call())
        return Recording(first, steps, self._last)

    def _snapshot(self) -> Snapshot:
        files, names, contents = {}, {}, {}
        for _ in range(self._number()):
            name, inode, size = self._alias(self._text()), self._number(), self._number()
            if inode not in files:
                files[inode] = self._files[inode] if inode in self._files else next(self._count)
            names[name] = files[inode]
            contents[files[inode]] = self._bytes(size)
        self._files = files
        return Snapshot(names, contents)

    def _alias(self, name: str) -> str:
        """A temporary name is made by lot, which would make each recording another one: they are counted instead."""
        if not name.startswith(".ndfile-"):
            return name
        return self._aliases.setdefault(name, f".ndfile-{len(self._aliases) + 1}")

    def _call(self) -> Iterator[Step]:
        call, inode, start, nbytes = self._text(), self._number(), self._number(), self._number()
        if call not in ("fsync", "fdatasync", "msync"):
            return
        if inode == self._folder:
            file, name = FOLDER, "folder"
        elif inode in self._files:
            file = self._files[inode]
            name = next(name for name, one in self._last.names.items() if one == file)
        else:
            return  # a file of somewhere else, or without a name
        self._synced[f"{call} {name}"] += 1
        yield Sync(f"{call} {name} {self._synced[f'{call} {name}']}", file, start, start + nbytes)

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._log[self._at - count : self._at]

    def _number(self) -> int:
        return struct.unpack("=Q", self._bytes(8))[0]

    def _text(self) -> str:
        return self._bytes(self._number()).decode()


def _difference(old: Snapshot, new: Snapshot) -> Change:
    names: dict[str, int | None] = {name: file for name, file in new.names.items() if old.names.get(name) != file}
    names |= dict.fromkeys(old.names.keys() - new.names.keys())
    sizes, sectors = {}, {}
    for file, content in new.contents.items():
        before = old.contents.get(file, b"")
        if content == before:
            continue
        if len(content) != len(before):
            sizes[file] = len(content)
        for start in range(0, max(len(content), len(before)), SECTOR):
            sector = content[start : start + SECTOR].ljust(SECTOR, b"\0")
            if sector != before[start : start + SECTOR].ljust(SECTOR, b"\0"):
                sectors[file, start // SECTOR] = sector
    return Change(names, sizes, sectors)


# ---- What may be there ----


class Budget(NamedTuple):
    """How many states of one moment to look at: all of them if there are no more than `most`, else some.

    Some are: every prefix of what was written, everything but one thing, one thing alone, whole files, and `samples`
    at random.
    """

    most: int
    samples: int


class Cut(NamedTuple):
    """One state of the disk at one moment.

    Attributes
    ----------
    moment : int
        How many steps had been made.
    marks : list of str
        The remarks until then.
    files : dict
        Content by name.
    names : dict
        Number by name.
    """

    moment: int
    marks: list[str]
    files: Files
    names: dict[str, int]


def cuts(recording: Recording, budget: Budget, lots: random.Random, ignoring: Collection[str] = ()) -> Iterator[Cut]:
    """What may be there if the power is cut, at each moment; `ignoring` some syncs as if they had not been made.

    The moments are those before a sync or a remark, and the end. At any other less is pending than at the next of
    these, and nothing else has changed.
    """
    disk, marks = _Disk(recording.first), []
    for moment, step in enumerate(recording.steps):
        if isinstance(step, Change):
            disk.change(step)
            continue
        for files, names in disk.states(budget, lots):
            yield Cut(moment, list(marks), files, names)
        if isinstance(step, Mark):
            marks.append(step.text)
        elif step.label not in ignoring:
            disk.sync(step)
    for files, names in disk.states(budget, lots):
        yield Cut(len(recording.steps), list(marks), files, names)


class _Item:
    """One thing of which several versions may be there: the first is durable, the others came at `times`."""

    __slots__ = ("group", "times", "versions", "where")

    def __init__(self, group: int, where: int | str, durable: object) -> None:
        self.group = group
        self.where = where
        self.versions = [durable]
        self.times = [0]

    def add(self, version: object, time: int) -> None:
        self.versions.append(version)
        self.times.append(time)

    def at(self, time: int) -> int:
        """The last version that there was at a time."""
        return max(index for index, one in enumerate(self.times) if one <= time)


SIZE = "size"

Choice = tuple[int, ...]


class _Disk:
    def __init__(self, first: Snapshot) -> None:
        self._time = 0
        self._names = dict(first.names)
        self._renamings: list[_Item] = []
        self._durable = {file: bytearray(content) for file, content in first.contents.items()}
        self._pending: dict[tuple[int, int | str], _Item] = {}  # by file, and the sector or SIZE

    def change(self, change: Change) -> None:
        self._time += 1
        if change.names:
            item = _Item(FOLDER, "names", {})
            item.add(change.names, self._time)
            self._renamings.append(item)
        for file, size in change.sizes.items():
            self._item(file, SIZE).add(size, self._time)
        for (file, index), content in change.sectors.items():
            self._item(file, index).add(content, self._time)

    def sync(self, sync: Sync) -> None:
        if sync.file == FOLDER:
            for item in self._renamings:
                _rename(self._names, item.versions[1])
            self._renamings.clear()
            return
        mine = [item for (file, _), item in self._pending.items() if file == sync.file]
        # A page is written as a whole, but only the sectors that were asked for are promised.
        done = [item for item in mine if item.where == SIZE or _meets(item.where, sync.start, sync.end)]
        self._durable[sync.file] = self._content(sync.file, [(item, len(item.versions) - 1) for item in done])
        for item in done:
            del self._pending[sync.file, item.where]

    def states(self, budget: Budget, lots: random.Random) -> Iterator[tuple[Files, dict[str, int]]]:
        """All that may be there now, or some of it."""
        items = self._items()
        if math.prod(len(item.versions) for item in items) <= budget.most:
            choices: Iterable[Choice] = itertools.product(*(range(len(item.versions)) for item in items))
        else:
            choices = itertools.chain(_telling(items), (_drawn(items, lots) for _ in range(budget.samples)))
        for choice in choices:
            yield self._state(items, choice)

    def _item(self, file: int, where: int | str) -> _Item:
        item = self._pending.get((file, where))
        if item is None:
            durable = self._durable.setdefault(file, bytearray())
            old: object = len(durable) if where == SIZE else _sector(durable, where)
            item = self._pending[file, where] = _Item(file, where, old)
        return item

    def _items(self) -> list[_Item]:
        """What is pending of all that has a name, or may have one."""
        named = set(self._names.values())
        for item in self._renamings:
            named.update(item.versions[1].values())
        return self._renamings + [item for (file, _), item in self._pending.items() if file in named]

    def _state(self, items: list[_Item], choice: Choice) -> tuple[Files, dict[str, int]]:
        names, chosen = dict(self._names), collections.defaultdict(list)
        for item, version in zip(items, choice, strict=True):
            if item.group != FOLDER:
                chosen[item.group].append((item, version))
            elif version:
                _rename(names, item.versions[1])
        return {name: bytes(self._content(file, chosen[file])) for name, file in names.items()}, names

    def _content(self, file: int, chosen: list[tuple[_Item, int]]) -> bytearray:
        content = bytearray(self._durable.setdefault(file, bytearray()))
        size = len(content)
        for item, version in chosen:
            if item.where == SIZE:
                size = item.versions[version]
            elif version:
                start = item.where * SECTOR
                content.extend(bytes(max(0, start + SECTOR - len(content))))
                content[start : start + SECTOR] = item.versions[version]
        content.extend(bytes(max(0, size - len(content))))
        del content[size:]
        return content


def _rename(names: dict[str, int], change: dict[str, int | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def _sector(content: bytearray, index: int) -> bytes:
    return bytes(content[index * SECTOR : (index + 1) * SECTOR]).ljust(SECTOR, b"\0")


def _meets(index: int, start: int, end: int) -> bool:
    return index * SECTOR < end and (index + 1) * SECTOR > start


def _telling(items: list[_Item]) -> Iterator[Choice]:
    """The choices that tell most: see `Budget`."""
    nothing, everything = [0] * len(items), [len(item.versions) - 1 for item in items]
    for time in sorted({0}.union(*(item.times for item in items))):
        yield tuple(item.at(time) for item in items)
    for place, item in enumerate(items):
        for version in range(len(item.versions)):
            for others in (everything, nothing):
                yield (*others[:place], version, *others[place + 1 :])
    groups = sorted({item.group for item in items})
    for taken in itertools.product((False, True), repeat=len(groups)):
        there = {group for group, is_there in zip(groups, taken, strict=True) if is_there}
        yield tuple(last if item.group in there else 0 for item, last in zip(items, everything, strict=True))


def _drawn(items: list[_Item], lots: random.Random) -> Choice:
    """Versions at random. The disk may be done with one file and not have begun with another."""
    share = {item.group: lots.choice((0, 0.1, 0.5, 0.5, 0.9, 1)) for item in items}
    return tuple(0 if lots.random() >= share[item.group] else lots.randrange(1, len(item.versions)) for item in items)
