"""The writing family: a new file filled, and old data overwritten that is not in memory.

Time to return is what the program waits for; time to the disk has `flush()` at the end. Before each run nothing waits
to be written and memory is at hand. A new file really is new: there is nothing under its name. Overwritten files are
dropped from the page cache before, proven as in `cold`; what comes from the device in such a run was read for nothing.
Closing is not timed. Time is wall time.
"""

from __future__ import annotations

import contextlib
import os
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Case, Note, Tally, at_most, faster
from cold import Cold, settle
from random_file import random_file, size_with_room
from timing import WALL, Runner, statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TITLE = "Writing: new files, and cold data overwritten"
CONTENDERS = (OURS, NUMPY, EXPERT, LIMIT)
TALLIES = ("read per byte",)
LIMIT_IS = (
    "The expert writes a new file with `tofile` and maps it afterwards. The limit is `pwrite` of 8 MiB at a time, with "
    "`fdatasync` where the others have `flush()`. The file is filled in blocks of 64 MiB; old data is overwritten by "
    "`a[...] = values`. `read per byte` is what came from the device for each byte written."
)

ROW = 1024  # items of float32
BLOCK_ROWS = (64 << 20) // (4 * ROW)
ROUNDS = 5

BLOCKS = """\
for start in range(0, shape[0], len(block)):
    a[start : start + len(block)] = block
{flush}"""

TOFILE = """\
with open(path, 'wb') as file:
    for start in range(0, shape[0], len(block)):
        block.tofile(file)
    file.flush()
    {sync}
a = np.memmap(path, 'f4', 'r+', shape=shape)"""

PWRITE = """\
fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
place = 0
for start in range(0, shape[0], len(block)):
    for at in range(0, len(raw), 8 << 20):
        place += os.pwrite(fd, raw[at : at + (8 << 20)], place)
{sync}
os.close(fd)"""

OPENERS = {
    "memmap": {
        OURS: "a = nf.memmap(path, 'f4', 'w+', shape=shape)\n",
        NUMPY: "a = np.memmap(path, 'f4', 'w+', shape=shape)\n",
    },
    "create .npy": {
        OURS: "a = nf.create(path, shape, 'f4')\n",
        NUMPY: "a = np.lib.format.open_memmap(path, 'w+', 'f4', shape)\n",
    },
}


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    wanted = 1 << 28 if quick else 4 << 30
    nbytes = size_with_room(folder, wanted)
    if nbytes < wanted:
        yield Note(f"writing: {nbytes >> 20} MiB instead of {wanted >> 20}, for the disk has no more room")
    rounds = 3 if quick else ROUNDS
    to_return, to_disk = ((faster(1.5),), (faster(2),)), ((faster(1),), (faster(1.2),))
    yield _new(folder, nbytes, "memmap", False, rounds, *to_return)
    yield _new(folder, nbytes, "create .npy", False, rounds, *to_return)
    yield _new(folder, nbytes, "memmap", True, rounds, *to_disk)
    yield from _overwritten(folder, 1 << 28 if quick else min(nbytes, 2 << 30), rounds)


def _new(
    folder: str, nbytes: int, opener: str, is_synced: bool, rounds: int, bars: tuple[Any, ...], aims: tuple[Any, ...]
) -> Case:
    block = np.random.default_rng(0).random((BLOCK_ROWS, ROW), "float32")
    path = os.path.join(folder, "new.npy" if "npy" in opener else "new.dat")
    names = {"nf": nf, "np": np, "os": os, "path": path, "block": block, "raw": memoryview(block).cast("B")}
    names["shape"] = (nbytes // (4 * ROW), ROW)
    filled = BLOCKS.format(flush="a.flush()" if is_synced else "")
    codes = {name: opening + filled for name, opening in OPENERS[opener].items()}
    codes[EXPERT] = TOFILE.format(sync="os.fdatasync(file.fileno())" if is_synced else "")
    codes[LIMIT] = PWRITE.format(sync="os.fdatasync(fd)" if is_synced else "")
    runners = {name: _anew(statement(code, names, WALL), path, nbytes) for name, code in codes.items()}
    name = f"{opener}, {nbytes >> 20:,} MiB{', to the disk' if is_synced else ''}"
    return Case(name, runners, bars, aims, rounds, is_once=True, again=1)


def _anew(run: Runner, path: str, nbytes: int) -> Runner:
    """Return a runner whose file is a new one each time."""

    def run_each(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            settle(nbytes)
            try:
                taken += run(1)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        return taken

    return run_each


def _overwritten(folder: str, nbytes: int, rounds: int) -> Iterator[Case]:
    values = np.random.default_rng(0).integers(0, 256, nbytes, "u1").view("f4").reshape(-1, ROW)
    raw, read = memoryview(values).cast("B"), Tally(TALLIES[0])

    def assign(memmap: Any) -> object:
        a = memmap(path, "f4", "r+", shape=values.shape)
        a[...] = values
        return a

    def pwrite(_: object) -> None:
        fd = os.open(path, os.O_WRONLY)
        for start in range(0, nbytes, 8 << 20):
            os.pwrite(fd, raw[start : start + (8 << 20)], start)
        os.close(fd)

    def cold(contender: str, act: Callable[[Any], object], argument: object) -> Runner:
        return Cold((path,), act, repeat(argument), nbytes, read.noter(contender), must_read=False)

    with random_file(os.path.join(folder, "old.dat"), nbytes) as path:
        runners = {
            OURS: cold(OURS, assign, nf.memmap),
            NUMPY: cold(NUMPY, assign, np.memmap),
            LIMIT: cold(LIMIT, pwrite, None),
        }
        bars, aims = (faster(2), at_most(read, 0.01)), (faster(4), at_most(read, 0))
        name = f"overwrite {nbytes >> 20:,} MiB of cold data"
        yield Case(name, runners, bars, aims, rounds, (read,), is_once=True, again=1)
