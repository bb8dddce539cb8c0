"""kill -9 at any instant of a commit, and of a recovery: all of its changes are there, or none."""

import contextlib
import io
import os
import pathlib
import random
import struct
import time
import zlib
from typing import NamedTuple

import numpy as np
import pytest
from checked_rows import DTYPE, WIDTH
from faulty import PAGE, record, rounds
from growing_files import GROWING, Npy
from killing import Folder, at_every_call, killed, with_killing_calls

import ndfile as nf
from ndfile.errors import NeedsRecoveryError

# In every kind of file.
KILLS = rounds(full=2500, short=50)

# Both ways to recover, or for every state one of them by turns.
WAYS = rounds(full=2, short=1)

# Of how many states one has its recovery killed at each call.
EACH = 1 if "NDFILE_ROUNDS_SCALE" in os.environ else 9

# The last version that is killed at each of its calls. The first cuts the file, the third and fifth let it grow.
LAST = rounds(full=5, short=3)

# Longer than a commit takes, and than a recovery.
MOST_S = 0.05
MOST_RECOVERY_S = 0.003


# ---- What is committed ----


class Story(NamedTuple):
    """What versions are like."""

    rows: int  # at the beginning
    most_items: int  # that a version changes one by one
    grows: bool = True


LONG = Story(4096, 40)  # 40 pages, of which a version changes most
SHORT = Story(256, 3)  # for each of whose instants there is time


class ChangeError(Exception):
    """Raised in a block, to roll it back."""


def is_plain(version, story):
    """Whether a version is one row, appended without a block: growth outside and inside have to go together."""
    return story.grows and version % 4 == 2


def steps_of(version, count, story):
    """What a version does to an array of so many rows."""
    lots = random.Random(version)
    if is_plain(version, story):
        yield "append", count, count + 1
        return
    for _ in range(lots.randint(1, story.most_items)):
        yield "item", lots.randrange(count), lots.randrange(WIDTH)
    start = lots.randrange(count)
    yield "rows", start, min(count, start + lots.choice([1, 3, 300]))
    if not story.grows:
        return
    if count > 2 * story.rows:
        yield "cut", story.rows, None
    elif version % 3 == 0:
        yield "append", count, count + lots.choice([1, 20, 500])
    elif version % 7 == 1:
        yield "cut", lots.randint(story.rows // 2, count), None
    elif version % 7 == 5:
        yield "make room", count + 100, None


def values(version, start, stop):
    """What a version writes into rows: every item tells the version and its place."""
    places = np.arange(start * WIDTH, stop * WIDTH, dtype=DTYPE).reshape(-1, WIDTH)
    return places + np.uint64(version << 32)


def carry_out(version, story, kind, array):
    """Make the changes of a version, items and rows through views."""
    for what, one, other in steps_of(version, kind.length(array), story):
        rows = kind.turned(array)
        if what == "item":
            rows[one][other] = values(version, one, one + 1)[0, other]
        elif what == "rows":
            rows[one:other] = values(version, one, other)
        elif what == "append":
            array.append(kind.turned(values(version, one, other)))
        else:
            array.resize(one)


class Copy:
    """An array in memory that does what a version needs."""

    def __init__(self, rows):
        self.rows = rows

    @property
    def shape(self):
        return self.rows.shape

    def append(self, rows):
        self.rows = np.concatenate([self.rows, rows])

    def resize(self, count):
        zeros = np.zeros((max(0, count - len(self.rows)), WIDTH), DTYPE)
        self.rows = np.concatenate([self.rows[:count], zeros])

    def __getitem__(self, index):
        return self.rows[index]

    def __setitem__(self, index, rows):
        self.rows[index] = rows


class History:
    """The rows at each version, made from those before it."""

    def __init__(self, story):
        self.story = story
        self.rows = {0: np.zeros((story.rows, WIDTH), DTYPE)}

    def at(self, version):
        for one in range(max(self.rows) + 1, version + 1):
            copy = Copy(self.rows[one - 1].copy())
            carry_out(one, self.story, Npy(), copy)
            self.rows[one] = copy.rows
        return self.rows[version]

    def forget_before(self, version):
        self.rows = {one: rows for one, rows in self.rows.items() if one >= version}

    def version_of(self, rows, versions):
        """Which of the versions these are, None if they are none of them."""
        return next((one for one in versions if np.array_equal(rows, self.at(one))), None)


# ---- Who is killed ----


def commit(tell, story, kind, array, version):
    with contextlib.nullcontext() if is_plain(version, story) else array.atomic():
        carry_out(version, story, kind, array)
    tell(version)


def take_back(story, kind, array, version):
    with contextlib.suppress(ChangeError), array.atomic():
        carry_out(version, story, kind, array)
        raise ChangeError


def commit_forever(tell, name, path, version, story):
    kind = KINDS[name]
    array = kind.open(path, "r+")
    while True:
        lot = random.random()
        if lot < 0.1:
            take_back(story, kind, array, version + 100)
        elif lot < 0.2:
            array.close()
            array = kind.open(path, "r+")
        else:
            version += 1
            commit(tell, story, kind, array, version)


def commit_in_every_way(tell, name, path):
    """Changes alone, growth and a cut; a block that is taken back; closing and coming back."""
    kind = KINDS[name]
    array = kind.open(path, "r+")
    commit(tell, SHORT, kind, array, 1)
    take_back(SHORT, kind, array, 101)
    commit(tell, SHORT, kind, array, 2)
    array.close()
    array = kind.open(path, "r+")
    for version in range(3, LAST + 1):
        commit(tell, SHORT, kind, array, version)
    array.close()


def recover(tell, name, path, way):
    KINDS[name].recover(path, way)


# ---- Files with commits, ours and the controls ----


def with_recovery(kind):
    """A kind of growing files, with how to recover one."""

    class Recovered(type(kind)):
        pending = NeedsRecoveryError

        def recover(self, path, way):
            if way == 0:
                nf.open(path, "r+", **({"dtype": "u1"} if self.hints(path) else {})).close()
            else:
                nf.recover(path)

        def notes(self, path):
            return nf.info(path, **self.hints(path)).notes

    return Recovered()


class PendingError(OSError):
    """A journal of the control's is there."""


class WithLog(Npy):
    """The control: commits with a log that is right but for one mistake."""

    pending = PendingError

    def __init__(self, mistake):
        self.mistake = mistake

    def create(self, path, count=0):
        np.save(path, np.zeros((count, WIDTH), DTYPE))

    def open(self, path, mode):
        if mode == "r+":
            self.recover(path)
            return Logged(path, self)
        if self.logged(path) is not None:
            raise PendingError
        return np.load(path)

    def notes(self, path):
        return ["pending"] if self.logged(path) is not None else []

    def logged(self, path):
        """The content that the file is to have, None without a whole log."""
        try:
            content = pathlib.Path(path + ".log").read_bytes()
        except FileNotFoundError:
            return None
        size, checksum = struct.unpack("<QI", content[:12].ljust(12, b"\0"))
        if self.mistake == "no checksum":
            return content[12:].ljust(size, b"\0")
        return content[12:] if len(content) == size + 12 and zlib.crc32(content[12:]) == checksum else None

    def recover(self, path, way=0):  # noqa: ARG002  # there is one
        content = self.logged(path)
        if os.path.exists(path + ".log") and self.mistake == "recovery forgets first":
            os.unlink(path + ".log")
        if content is not None:
            self.apply(path, content)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ".log")

    def apply(self, path, content):
        fd = os.open(path, os.O_RDWR)
        for start in range(0, len(content), PAGE):
            os.pwrite(fd, content[start : start + PAGE], start)
        os.ftruncate(fd, len(content))
        os.fdatasync(fd)
        os.close(fd)

    def commit(self, path, content):
        if self.mistake != "in place":
            fd = os.open(path + ".log", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.pwrite(fd, struct.pack("<QI", len(content), zlib.crc32(content)) + content, 0)
            os.fdatasync(fd)
            os.close(fd)
        self.apply(path, content)
        if self.mistake != "in place":
            os.unlink(path + ".log")


class Logged(Copy):
    def __init__(self, path, kind):
        super().__init__(np.load(path))
        self.path, self.kind = path, kind

    @contextlib.contextmanager
    def atomic(self):
        old = self.rows.copy()
        try:
            yield
        except ChangeError:
            self.rows = old
            raise
        content = io.BytesIO()
        np.save(content, self.rows)
        self.kind.commit(self.path, content.getvalue())

    def close(self):
        pass


class Mapped(WithLog):
    """The control: the changes as they are made through `numpy.memmap`, then a flush. Its file cannot grow."""

    def __init__(self):
        super().__init__("in place")

    def open(self, path, mode):
        return InPlace(np.load(path, mmap_mode="r+")) if mode == "r+" else np.load(path)


class InPlace(Copy):
    @contextlib.contextmanager
    def atomic(self):
        yield
        self.rows.flush()

    def close(self):
        pass


MISTAKES = ["in place", "recovery forgets first", "no checksum"]
KINDS = {name: with_recovery(kind) for name, kind in GROWING.items()}
KINDS |= {"numpy.memmap": Mapped()} | {name: WithLog(name) for name in MISTAKES}


# ---- Who looks afterwards ----


def seen_by_readers(kind, path):
    """The rows that a reader gets, None if it is told to recover the file first."""
    try:
        array = kind.open(path, "r")
    except kind.pending:
        assert kind.notes(path), "info tells nothing of a file that needs recovery"
        return None
    rows = kind.turned(np.array(array))
    if hasattr(array, "close"):
        array.close()
    return rows


def needs_recovery(kind, path):
    try:
        array = kind.open(path, "r")
    except kind.pending:
        return True
    except (ValueError, OSError, EOFError):  # which `settled` meets again
        return False
    if hasattr(array, "close"):
        array.close()
    return False


def settled(kind, path, way, history, versions):
    """Recover the file. Gives the version, of those allowed, that it has now; or what is wrong, as text."""
    try:
        return _settled(kind, path, way, history, versions)
    except (ValueError, OSError, EOFError) as error:
        return repr(error)


def _settled(kind, path, way, history, versions):
    before = seen_by_readers(kind, path)
    kind.recover(path, way)
    rows = seen_by_readers(kind, path)
    version = None if rows is None else history.version_of(rows, versions)
    if version is None:
        return f"not one of versions {versions}"
    if before is not None and not np.array_equal(before, rows):
        return f"readers saw something else before version {version} was recovered"
    if not np.array_equal(rows, kind.turned(kind.load(path))):
        return "NumPy reads something else"
    left = set(os.listdir(os.path.dirname(path))) - {kind.name, f"{kind.name}.json"}
    left = {one for one in left if not one.startswith(".ndfile-")}  # of a sidecar that was not made to its end
    if way == 0 and before is not None:  # opening leaves a journal that is not complete to the next writer
        left -= {f"{kind.name}.ndfile-journal"}
    return f"left after recovery: {left}" if left else version


def warm_up(kind, path):
    """Import what commits need, so that no fork is killed while it does."""
    kind.create(path, SHORT.rows)
    array = kind.open(path, "r+")
    with array.atomic():
        array[0] = 1
    array.close()
    kind.recover(path, 1)
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))


def kill_often(name, folder, kills, story):
    """Kill at random, in commits and in recoveries; give the problems, and what was seen."""
    kind = KINDS[name]
    path = os.path.join(folder, kind.name)
    warm_up(kind, path)
    problems = []
    seen = {"kills": kills, "commits": 0, "unacknowledged": 0, "killed in recovery": 0, "pending": 0}
    version = None
    for _ in range(kills):
        if version is None:
            for one in os.listdir(folder):
                os.unlink(os.path.join(folder, one))
            kind.create(path, story.rows)
            version, history = 0, History(story)
        told = killed(commit_forever, name, path, version, story, within_s=MOST_S).told
        seen["commits"] += len(told)
        version = told[-1][0] if told else version
        while os.path.exists(f"{path}.ndfile-journal") and random.random() < 0.7:
            recovery = killed(recover, name, path, random.randrange(2), within_s=MOST_RECOVERY_S, may_end=True)
            seen["killed in recovery"] += not recovery.has_ended
        seen["pending"] += needs_recovery(kind, path)
        result = settled(kind, path, random.randrange(2), history, (version, version + 1))
        if isinstance(result, str):
            problems.append(result)
            version = None
        else:
            seen["unacknowledged"] += result - version
            version = result
            history.forget_before(version)
    return problems, seen


def kill_at_each_call(name, folder, ways, each, most_problems):
    """Kill at every call of `commit_in_every_way`, and at every call of the recoveries of what that leaves.

    A recovery that is killed leaves a file that is recovered, and killed, in its turn, until no new state comes up (or
    so many problems have). Every state is recovered; of so many, the recovery of one `each` is killed.
    """
    kind, history = KINDS[name], History(SHORT)
    path = os.path.join(folder, kind.name)
    warm_up(kind, path)
    kind.create(path, SHORT.rows)
    problems, seen = [], {"instants of commits": 0, "states": 0, "instants of recoveries": 0, "ended": False}
    known, states = set(), []

    def note(ending, versions):
        state = Folder(folder)
        key = (state.digest(), versions)
        if key not in known:
            known.add(key)
            states.append((state, versions, ending.where))

    def after_commit(ending):
        version = ending.told[-1][0] if ending.told else 0
        seen["ended"] = ending.has_ended and version == LAST
        note(ending, (version,) if ending.has_ended else (version, version + 1))

    seen["instants of commits"] = at_every_call(Folder(folder), commit_in_every_way, name, path, after=after_commit)
    while states and len(problems) < most_problems:
        state, versions, where = states.pop()
        seen["states"] += 1
        for way in range(seen["states"] % 2, seen["states"] % 2 + ways):
            state.put_back()
            version = settled(kind, path, way % 2, history, versions)
            if isinstance(version, str):
                problems.append(f"{where}, versions {versions}: {version}")
                break
            if seen["states"] % each == 0:
                seen["instants of recoveries"] += at_every_call(
                    state, recover, name, path, way % 2, after=lambda ending, version=version: note(ending, (version,))
                )
    return problems, seen


# ---- The proof ----


@pytest.mark.parametrize("name", GROWING)
def test_no_kill_tears_or_loses_a_commit(working_folder, name):
    started_s = time.monotonic()
    problems, seen = kill_often(name, working_folder, KILLS, LONG)
    assert problems == []
    assert seen["commits"] > KILLS // 5  # it was killed at work
    record(f"atomic-kill-{name}", started_s, **seen, torn=0, lost=0)


@pytest.mark.parametrize("name", GROWING)
def test_no_kill_at_any_call_of_a_commit_or_a_recovery_tears_it(tmp_path, working_folder, name):
    started_s = time.monotonic()
    problems, seen = with_killing_calls(kill_at_each_call, tmp_path, name, working_folder, WAYS, EACH, 10)
    assert problems == []
    assert seen["ended"]
    assert seen["instants of commits"] > 50
    assert seen["instants of recoveries"] > 20
    record(f"atomic-kill-calls-{name}", started_s, **seen, torn=0, lost=0)


def test_changes_through_numpy_memmap_are_torn(working_folder):
    """The control: the harness kills between two changes."""
    problems, _ = kill_often("numpy.memmap", working_folder, 40, LONG._replace(grows=False))
    assert problems


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_log_with_a_mistake_is_found_out(tmp_path, working_folder, mistake):
    """The control: the harness kills at the call where it matters, in recovery too."""
    problems, _ = with_killing_calls(kill_at_each_call, tmp_path, mistake, working_folder, WAYS, EACH, 1)
    assert problems
