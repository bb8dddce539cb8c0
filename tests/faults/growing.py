"""Files that grow and are changed at once: their kinds, what is done with them, and what they then hold.

Rows come first here, whatever the order of a file's items. What a file holds is read without ndfile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ACTS", "JOURNAL", "KINDS", "PENDING", "ROWS", "Act", "Kind", "rows", "status_of"]

# A row is no whole number of pages, nor a page of rows.
WIDTH = 100
ROWS = 30

JOURNAL = ".ndfile-journal"

# What a file says that has a commit in its journal which is not in the file yet.
PENDING = "pending"


def rows(first: int, last: int) -> np.ndarray:
    """Rows that tell from which place they are."""
    return np.arange(first * WIDTH, last * WIDTH, dtype="<i4").reshape(-1, WIDTH) + 1


OLD = rows(0, ROWS)
ONE_MORE = rows(0, ROWS + 1)
NEW = np.zeros((50, WIDTH), "<i4")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file that can grow.

    Attributes
    ----------
    name : str
        Of the file.
    order : {'C', 'F'}
    has_sidecar : bool
    """

    name: str
    order: str = "C"
    has_sidecar: bool = False

    @property
    def names(self) -> set[str]:
        """Of all the files that there are when nothing is going on."""
        return {self.name, f"{self.name}.json"} if self.has_sidecar else {self.name}

    @property
    def is_bare(self) -> bool:
        return self.name.endswith(".dat")

    def turned(self, array: Any) -> Any:
        """An array with its rows first, or rows as the array wants them."""
        return array.T if self.order == "F" else array

    def make(self, path: str, content: np.ndarray) -> None:
        """Write a file; in a bare one nothing but zeros is a hole."""
        if self.is_bare:
            with open(path, "wb") as file:
                file.truncate(content.nbytes)
                if content.any():
                    file.write(content.tobytes())
        else:
            nf.save(path, self.turned(content), sync=False)

    def open(self, path: str, mode: str = "r+") -> Any:
        if not self.is_bare:
            return nf.open(path, mode)
        # As many rows as there are: whoever opens bytes alone has to say that.
        return nf.memmap(path, "<i4", mode, shape=(os.path.getsize(path) // (4 * WIDTH), WIDTH))

    def settle(self, path: str) -> None:
        """Open a file to write, so that what is pending is done, with no say about its rows."""
        nf.open(path, "r+", **({"dtype": "<i4"} if self.is_bare else {})).close()

    def read(self, path: str) -> np.ndarray:
        """The rows that a file holds, through no map and not by ndfile."""
        if path.endswith(".npy"):
            return self.turned(np.load(path))
        if self.has_sidecar:
            with open(f"{path}.json") as sidecar:
                described = json.load(sidecar)
            if described.get("inode", os.stat(path).st_ino) != os.stat(path).st_ino:
                described = described["previous"]  # the file that was to take this one's place never did
            assert described["dtype"] == "<i4"
            # Its length says how many rows there are, or the file's own does.
            assert described["shape"][1:] == [WIDTH]
            wanted = described["shape"][0]
        else:
            wanted = -1
        items = np.fromfile(path, "<i4")
        whole = items[: len(items) // WIDTH * WIDTH].reshape(-1, WIDTH)
        assert wanted in (-1, len(whole))
        return whole

    def nbytes_of(self, path: str, content: np.ndarray) -> int:
        """How long a file with these rows is, with nothing behind them."""
        if not path.endswith(".npy"):
            return content.nbytes
        with open(path, "rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            np.lib.format.read_array_header_1_0(file)  # it leaves the file where the header ends
            return file.tell() + content.nbytes


KINDS = {
    "npy": Kind("x.npy"),
    "npy in F order": Kind("x.npy", order="F"),
    "raw with a sidecar": Kind("x.bin", has_sidecar=True),
    "bare": Kind("x.dat"),
}


def status_of(path: str) -> tuple[int, int]:
    """A file's size, and how many blocks it takes."""
    status = os.stat(path)
    return status.st_size, status.st_blocks


# ---- What is done with an open array ----


class UndoneError(Exception):
    """What a block is left by that is to be rolled back."""


def append(array, kind):
    array.append(kind.turned(rows(ROWS, 55)))


def append_one_row(array, kind):
    array.append(rows(ROWS, ROWS + 1)[0])


def append_durably(array, kind):
    array.append(kind.turned(rows(ROWS, 55)), sync=True)


def append_to_one(array, kind):
    array.append(kind.turned(rows(ROWS + 1, 55)))


def append_past_the_reserve(array, kind):
    array.append(kind.turned(rows(ROWS + 1, 400)))


def append_to_one_durably(array, kind):
    array.append(kind.turned(rows(ROWS + 1, 55)), sync=True)


def extend(array, kind):
    array.extend(kind.turned(rows(start, start + 5)) for start in range(ROWS, 55, 5))


def extend_durably(array, kind):
    array.extend((kind.turned(rows(start, start + 5)) for start in range(ROWS, 55, 5)), sync=True)


def grow(array, kind):
    array.resize(55)


def shrink(array, kind):
    array.resize(12)


def change(array, kind):
    part = kind.turned(array)
    part[3:5] += 7
    part[ROWS - 1] = 9


def changed(content):
    content = content.copy()
    content[3:5] += 7
    content[ROWS - 1] = 9
    return content


def commit(array, kind):
    with array.atomic():
        change(array, kind)


def commit_growth(array, kind):
    with array.atomic():
        change(array, kind)
        array.append(kind.turned(rows(ROWS, 55)))


def commit_shrinkage(array, kind):
    with array.atomic():
        change(array, kind)
        array.resize(12)


def roll_back(array, kind):
    with contextlib.suppress(UndoneError), array.atomic():
        change(array, kind)
        raise UndoneError


def roll_back_growth(array, kind):
    with contextlib.suppress(UndoneError), array.atomic():
        change(array, kind)
        array.append(kind.turned(rows(ROWS, 55)))
        raise UndoneError


def close(array, kind):
    array.close()


@dataclasses.dataclass(frozen=True)
class Act:
    """Something that is done with an array.

    Attributes
    ----------
    do : callable
        Takes the array and its kind.
    after : np.ndarray
        The rows that there are then.
    before : callable or None
        What has been done until then, while nothing failed.
    start : np.ndarray
        The rows that there were after that.
    made : np.ndarray
        The rows that the file was made with.
    is_durable : bool
        It says that all is on the disk.
    """

    do: Callable[[Any, Kind], None]
    after: np.ndarray
    before: Callable[[Any, Kind], None] | None = None
    start: np.ndarray = dataclasses.field(default_factory=lambda: OLD)
    made: np.ndarray = dataclasses.field(default_factory=lambda: OLD)
    is_durable: bool = False


def _durable(do, after, **others):
    return Act(do, after, is_durable=True, **others)


_ON_ONE = {"before": append_one_row, "start": ONE_MORE}

ACTS = {
    "append": Act(append, rows(0, 55)),
    "append one row": Act(append_one_row, ONE_MORE),
    "append durably": _durable(append_durably, rows(0, 55)),
    "append again": Act(append_to_one, rows(0, 55), **_ON_ONE),
    "append again durably": _durable(append_to_one_durably, rows(0, 55), **_ON_ONE),
    "append past the reserve": Act(append_past_the_reserve, rows(0, 400), **_ON_ONE),
    "extend": Act(extend, rows(0, 55)),
    "extend durably": _durable(extend_durably, rows(0, 55)),
    "grow": Act(grow, np.concatenate([OLD, NEW[: 55 - ROWS]])),
    "shrink": Act(shrink, rows(0, 12)),
    "shrink what has grown": Act(shrink, rows(0, 12), **_ON_ONE),
    "commit": _durable(commit, changed(OLD)),
    "commit again": _durable(commit, changed(changed(OLD)), before=commit, start=changed(OLD)),
    "commit after growth": _durable(commit, changed(ONE_MORE), **_ON_ONE),
    "commit growth": _durable(commit_growth, changed(rows(0, 55))),
    "commit growth after a commit": _durable(
        commit_growth, changed(np.concatenate([changed(OLD), rows(ROWS, 55)])), before=commit, start=changed(OLD)
    ),
    "commit shrinkage": _durable(commit_shrinkage, changed(OLD)[:12]),
    "roll back": Act(roll_back, OLD),
    "roll back growth": Act(roll_back_growth, ONE_MORE, **_ON_ONE),
    "close": _durable(close, ONE_MORE, **_ON_ONE),
    "close after a commit": _durable(close, changed(OLD), before=commit, start=changed(OLD)),
}
