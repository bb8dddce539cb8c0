"""The growth family: rows appended, followed and committed, against the libraries and system calls that do the same.

Everything is timed by the wall clock. A long file is written as in the formats family: before each run nothing waits
for the disk and memory is at hand. What is written to the disk at each step is there in blocks that the file already
has, on both sides, so that a sync is a sync of data alone.
"""

from __future__ import annotations

import contextlib
import os
from itertools import repeat
from typing import TYPE_CHECKING

import h5py
import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Bar, Case, Outcome, near_limit, of_limits_speed
from cold import settle
from npy_append_array import NpyAppendArray
from timing import WALL, Runner, statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

TITLE = "Growth: appending, following, committing"
CONTENDERS = (OURS, NUMPY, EXPERT, LIMIT)
HEADINGS = {NUMPY: "npy-append-array or numpy.memmap", EXPERT: "h5py"}
LIMIT_IS = (
    "The other side is npy-append-array for appending, `numpy.load(path, mmap_mode='r')` anew for following, and "
    "`numpy.memmap` with `flush()`, which may be torn, for committing. h5py resizes a chunked dataset and writes. The "
    "limit of a bulk append is `os.write` of the same pieces; of a commit, and of an append that survives a power "
    "loss, `pwrite` and `fdatasync` of one page into each of two files, or of the row and its count, over blocks that "
    "are there. Rows have 1 KiB. With `fdatasync` means once at the end, where `ndfile` has `flush()`."
)

ROW = np.arange(256, dtype="float32")[None]
ROWS_PER_CHUNK = 64  # from 1 to 4096 it makes no difference
PIECE_NBYTES = 64 << 20
LONG = 4 << 30
PAGE = os.sysconf("SC_PAGESIZE")

# Appends what it is given; ends.
Target = tuple["Callable[[Any], object]", "Callable[[], object]"]

BULK = {
    OURS: (
        "array = nf.create(path, (0, *piece.shape[1:]), piece.dtype)\n"
        "for _ in range(pieces):\n    array.append(piece)\n{}del array",
        "array.flush()\n",
    ),
    NUMPY: (
        "with NpyAppendArray(path) as file:\n    for _ in range(pieces):\n        file.append(piece)\n    {}pass",
        "file.fp.flush(); os.fdatasync(file.fp.fileno())\n    ",
    ),
    LIMIT: (
        "fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)\n"
        "for _ in range(pieces):\n"
        "    left = raw\n"
        "    while left:\n        left = left[os.write(fd, left) :]\n"
        "{}os.close(fd)",
        "os.fdatasync(fd)\n",
    ),
}

TWO_FILES = """\
os.pwrite(journal, page, 0)
os.fdatasync(journal)
os.pwrite(file, page, place)
os.fdatasync(file)"""

ROW_AND_COUNT = """\
os.pwrite(file, row, place)
os.fdatasync(file)
os.pwrite(file, count, 120)
os.fdatasync(file)"""


def times_the_faster(times: float) -> Bar:
    """Ask for at least so many times the speed of the faster of npy-append-array and h5py."""

    def is_met(outcome: Outcome) -> bool:
        seconds = outcome.seconds
        return min(seconds[NUMPY].median, seconds[EXPERT].median) >= times * seconds[OURS].median

    return Bar(f">= {times:g}x the faster", is_met)


def below(seconds: float) -> Bar:
    """Ask for less than so many seconds."""
    return Bar(f"< {1e6 * seconds:g} us", lambda outcome: outcome.seconds[OURS].median < seconds)


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    yield _rows(folder, 2_000 if quick else 20_000)
    yield from _bulk(folder, (1 << 28) if quick else (2 << 30))
    yield _commit(folder)
    yield from _following(folder)
    yield _synced(folder)


def _rows(folder: str, rows: int) -> Case:
    runners = {
        OURS: _appending(_ours, os.path.join(folder, "rows.npy"), rows),
        NUMPY: _appending(_npy_append_array, os.path.join(folder, "theirs.npy"), rows),
        EXPERT: _appending(_h5py, os.path.join(folder, "rows.h5"), rows),
    }
    return Case(f"{rows:,} appends of one row", runners, bars=(times_the_faster(10),), rounds=5)


def _appending(make: Callable[[str], Target], path: str, rows: int) -> Runner:
    """Return a runner that times the appends alone: neither making the file nor closing it."""

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            append, close = make(path)
            os.sync()
            start = WALL()
            for row in repeat(ROW, rows):
                append(row)
            taken += WALL() - start
            close()
            os.unlink(path)
        return taken

    return run


def _ours(path: str) -> Target:
    array = nf.create(path, (0, ROW.size), ROW.dtype)
    return array.append, array.close


def _npy_append_array(path: str) -> Target:
    file = NpyAppendArray(path)
    file.append(ROW)  # makes the file
    return file.append, file.close


def _h5py(path: str) -> Target:
    file = h5py.File(path, "w", libver="latest")
    chunks, longest = (ROWS_PER_CHUNK, ROW.size), (None, ROW.size)
    rows = file.create_dataset("rows", (0, ROW.size), ROW.dtype, chunks=chunks, maxshape=longest)
    length = 0

    def append(row: Any) -> None:
        nonlocal length
        rows.resize(length + 1, axis=0)
        rows[length] = row
        length += 1

    return append, file.close


def _bulk(folder: str, nbytes: int) -> Iterator[Case]:
    piece = np.random.default_rng(0).random((PIECE_NBYTES >> 10, ROW.size), "float32")
    raw, pieces = memoryview(piece).cast("B"), nbytes // PIECE_NBYTES
    names = {"nf": nf, "os": os, "NpyAppendArray": NpyAppendArray, "piece": piece, "raw": raw, "pieces": pieces}
    path = os.path.join(folder, "bulk.npy")
    for how, is_synced in (("", False), (", with fdatasync", True)):
        runners = {
            name: _anew(statement(code.format(sync * is_synced), names | {"path": path}, WALL), path, nbytes)
            for name, (code, sync) in BULK.items()
        }
        name = f"{nbytes >> 20:,} MiB in pieces of {PIECE_NBYTES >> 20} MiB{how}"
        yield Case(name, runners, bars=(of_limits_speed(0.9),), rounds=5)


def _anew(run: Runner, path: str, nbytes: int) -> Runner:
    """Return a runner whose file is a new one each time, with nothing left to be written and with memory at hand."""

    def run_each(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            settle(2 * nbytes)
            taken += run(1)
        os.unlink(path)
        return taken

    return run_each


def _commit(folder: str) -> Case:
    """One page of a file of 4 GiB, all hole but for that page: it has its block before anything is timed."""
    paths = [os.path.join(folder, f"{number}.npy") for number in range(3)]
    place = LONG // 2
    for path in paths:
        with nf.create(path, (LONG // 4,), "float32", sparse=True) as array:
            array[place // 4 : place // 4 + PAGE] = 1
            array.sync()
    journal = _preallocated(os.path.join(folder, "journal"), PAGE)
    file = os.open(paths[2], os.O_RDWR)
    ours, theirs = nf.open(paths[0], mode="r+"), np.load(paths[1], mmap_mode="r+")
    names = {"os": os, "at": place // 4, "journal": journal, "file": file, "place": place, "page": bytes(PAGE)}
    runners = {
        OURS: statement("with array.atomic():\n    array[at] += 1", names | {"array": ours}, WALL),
        NUMPY: statement("array[at] += 1\narray.flush()", names | {"array": theirs}, WALL),
        LIMIT: statement(TWO_FILES, names, WALL),
    }
    return Case("commit one page of 4 GiB", runners, bars=(near_limit(1.3),))


def _preallocated(path: str, nbytes: int) -> int:
    """Make a file whose blocks have been written, and return its descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.pwrite(fd, bytes(nbytes), 0)
    os.fsync(fd)
    return fd


def _following(folder: str) -> Iterator[Case]:
    for suffix, again in ((".npy", "np.load(path, mmap_mode='r')"), (".bin", "np.memmap(path, 'float32', 'r')")):
        path = os.path.join(folder, f"followed{suffix}")
        writer = nf.create(path, (0, ROW.size), ROW.dtype)
        writer.append(ROW)
        names = {"np": np, "path": path, "a": nf.open(path)}
        runners = {OURS: statement("a.refresh()", names, WALL), NUMPY: statement(again, names, WALL)}
        yield Case(f"{suffix}: refresh, no news", runners, bars=(below(2e-6),))
        runners = {
            OURS: _after(writer, statement("a.refresh()", names, WALL)),
            NUMPY: _after(writer, statement(again, names, WALL)),
        }
        yield Case(f"{suffix}: refresh, a new row", runners, bars=())
        writer.close()


def _after(writer: nf.memmap[Any, Any], look: Runner) -> Runner:
    """Return a runner that appends a row before each look, and times the look."""

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            writer.append(ROW)
            taken += look(1)
        return taken

    return run


def _synced(folder: str) -> Case:
    array = nf.create(os.path.join(folder, "synced.npy"), (0, ROW.size), ROW.dtype)
    theirs = NpyAppendArray(os.path.join(folder, "theirs.npy"))
    theirs.append(ROW)
    file = _preallocated(os.path.join(folder, "plain"), 64 << 10)
    names = {"os": os, "row": ROW, "count": bytes(8), "file": file, "place": PAGE, "a": array, "theirs": theirs}
    runners = {
        OURS: statement("a.append(row, sync=True)", names, WALL),
        NUMPY: statement("theirs.append(row)\ntheirs.fp.flush()\nos.fdatasync(theirs.fp.fileno())", names, WALL),
        LIMIT: statement(ROW_AND_COUNT, names, WALL),
    }
    return Case("append one row, sync=True", runners, bars=())
