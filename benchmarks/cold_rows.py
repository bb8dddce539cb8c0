"""The cold rows family: random rows of a file that is not in memory, fetched and stored.

Each run opens the file anew, and that counts; `cold` says what a cold run is and how it is proven. The experts both
know that a plain miss reads far more than a row. ``expert`` turns that off (`MADV_RANDOM`) and goes over the rows in
the order of the file, into memory that is there; it is given that its rows need not come back in the order that was
asked for. ``asking expert`` asks for each row's pages (`MADV_WILLNEED`, one call in a Python loop) before it copies, so
that all of them are under way at a time; `posix_fadvise` and threads that read took as long or longer. Scatters are
timed until they return; the file is synced before the next run.

The last cases have the device read ahead 128 KiB, what most have, where this may be set.
"""

from __future__ import annotations

import mmap
import os
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import device
import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Case, Note, Tally, at_most, faster, of_limits_speed
from cold import Cold
from random_file import random_file, size_with_room
from random_reads import COMPILER, DEPTH, Blocks, RandomReads

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Index = NDArray[np.int64]
    Act = Callable[[Any], object]

ASKING = "asking expert"
TITLE = "Cold rows: random rows of a file that is not in memory"
CONTENDERS = (OURS, NUMPY, EXPERT, ASKING, LIMIT)
TALLIES = ("read per byte",)
LIMIT_IS = (
    f"The limit is direct reads of the same blocks, {DEPTH} under way at a time, by io_uring (or by threads, where a "
    "note says so); nothing is copied out of them. `expert` is `madvise(MADV_RANDOM)` and the sorted rows by "
    "`take(out=)`; `asking expert` is one `madvise(MADV_WILLNEED)` for each row before it. `read per byte` is what "
    "came from the device (`read_bytes` of /proc/self/io) for each byte asked for; a row below a page costs a page. "
    "Opening counts. Each run has rows of its own, and before it no page of the file is cached "
    "(`cachestat`)."
)

ROWS = 4096
FEW_ROWS = 32  # to compare what they fetch; more would read the whole file
ROUNDS = 5
FEWER_ROUNDS = 3  # where a run of the slowest takes many seconds
USUAL_READAHEAD_KIB = 128
PAGE = mmap.PAGESIZE

GATHER = ((15, 3), (25, 6))  # bars and aims: over people, over the expert
GATHER_USUAL_READAHEAD = ((5, 2), (10,))


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    reads = _limit(folder)
    if reads is None or not reads.is_ring:
        yield Note(f"limit of cold rows: {reads.way if reads else 'none, for there is no C compiler'}")
    may_set = device.may_set_readahead(folder)
    if not may_set:
        yield Note(f"cold rows with {USUAL_READAHEAD_KIB} KiB of readahead: left out, it may not be set here")
    for wanted in (1 << 30,) if quick else (2 << 30, 8 << 30):
        nbytes = size_with_room(folder, wanted)
        if nbytes < wanted:
            yield Note(f"cold rows of {_size(wanted)}: {_size(nbytes)} instead, for the disk has no more room")
        with random_file(os.path.join(folder, "rows.dat"), nbytes) as path:
            rounds = FEWER_ROUNDS if quick or wanted > 2 << 30 else ROUNDS
            yield from _gathers(path, nbytes, reads, rounds)
            if may_set:
                yield from _gathers(path, nbytes, reads, rounds, USUAL_READAHEAD_KIB)
            if wanted <= 2 << 30:
                yield _scatter(path, nbytes, reads, rounds)


def _limit(folder: str) -> RandomReads | None:
    return RandomReads(folder, ROWS, 16 << 10) if COMPILER else None


def _size(nbytes: int) -> str:
    return f"{nbytes >> 30} GiB" if nbytes >= 1 << 30 else f"{nbytes >> 20} MiB"


def _gathers(
    path: str, nbytes: int, reads: RandomReads | None, rounds: int, readahead_kib: int | None = None
) -> Iterator[Case]:
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    (people, expert), aimed = GATHER
    if readahead_kib:
        around = partial(device.readahead, os.path.dirname(path), readahead_kib)
        (people, expert), aimed = GATHER_USUAL_READAHEAD
    for row_nbytes in (1 << 10, 16 << 10):
        shape = (nbytes // row_nbytes, row_nbytes)
        acts = _gather_acts(path, shape)
        _assert_same(acts, next(_indices(shape[0]))[:FEW_ROWS])
        read = Tally(TALLIES[0])
        runners = _cold(path, acts, shape, reads, read, around)
        bars = [faster(people), faster(expert, EXPERT), at_most(read, 5)]
        aims = [faster(times, than) for times, than in zip(aimed, (NUMPY, EXPERT), strict=False)]
        if LIMIT in runners and not readahead_kib:
            aims.append(of_limits_speed(0.8))
        name = f"{ROWS:,} rows of {row_nbytes >> 10} KiB of {_size(nbytes)}"
        name += f", {readahead_kib} KiB of readahead" if readahead_kib else ""
        yield Case(name, runners, tuple(bars), tuple(aims), rounds, (read,), is_once=True, again=1)


def _gather_acts(path: str, shape: tuple[int, int]) -> dict[str, Act]:
    out = np.ones((ROWS, shape[1]), "u1")

    def ours(index: Index) -> object:
        a = nf.memmap(path, "u1", "r", shape=shape)
        return a, a[index]

    def people(index: Index) -> object:
        a = np.memmap(path, "u1", "r", shape=shape)
        return a, a[index]

    def expert(index: Index) -> object:
        a = np.memmap(path, "u1", "r", shape=shape)
        a._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
        return a, np.asarray(a).take(np.sort(index), axis=0, out=out[: len(index)], mode="clip")

    def asking(index: Index) -> object:
        a = np.memmap(path, "u1", "r", shape=shape)
        _ask(a, index)
        return a, np.asarray(a).take(index, axis=0, out=out[: len(index)], mode="clip")

    return {OURS: ours, NUMPY: people, EXPERT: expert, ASKING: asking}


def _assert_same(acts: dict[str, Act], index: Index) -> None:
    """Raise unless all of them fetch the same rows, the expert in the order of the file."""
    ours = acts[OURS](index)[1]  # type: ignore[index]
    for contender, act in acts.items():
        order = np.argsort(index) if contender == EXPERT else slice(None)
        np.testing.assert_array_equal(act(index)[1], ours[order], contender)  # type: ignore[index]


def _ask(a: np.memmap[Any, Any], index: Index) -> None:
    """Ask for the pages of each row, in the order of the file."""
    advise, nbytes = a._mmap.madvise, a.shape[1]  # type: ignore[attr-defined]
    for start in np.sort(index * nbytes).tolist():
        page = start // PAGE * PAGE
        advise(mmap.MADV_WILLNEED, page, start + nbytes - page)


def _scatter(path: str, nbytes: int, reads: RandomReads | None, rounds: int) -> Case:
    shape = (nbytes >> 10, 1 << 10)
    values = np.random.default_rng(2).integers(0, 256, (ROWS, shape[1]), "u1")

    def plain(memmap: Any, index: Index) -> object:
        a = memmap(path, "u1", "r+", shape=shape)
        a[index] = values
        return a

    def expert(index: Index) -> object:
        a = np.memmap(path, "u1", "r+", shape=shape)
        a._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
        order = np.argsort(index)
        np.asarray(a)[index[order]] = values[order]
        return a

    def asking(index: Index) -> object:
        a = np.memmap(path, "u1", "r+", shape=shape)
        _ask(a, index)
        np.asarray(a)[index] = values
        return a

    acts: dict[str, Act] = {OURS: partial(plain, nf.memmap), NUMPY: partial(plain, np.memmap)}
    acts |= {EXPERT: expert, ASKING: asking}
    read = Tally(TALLIES[0])
    runners = _cold(path, acts, shape, reads, read)
    name = f"a[idx] = values, {ROWS:,} rows of 1 KiB of {_size(nbytes)}"
    return Case(name, runners, (faster(5),), (faster(15),), rounds, (read,), is_once=True, again=1)


def _cold(
    path: str,
    acts: dict[str, Act],
    shape: tuple[int, int],
    reads: RandomReads | None,
    read: Tally,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Any]:
    """Return cold runners of the acts and, under the name `LIMIT`, of direct reads."""
    indices = _indices(shape[0])

    def cold(contender: str, act: Act, arguments: Iterator[Any]) -> Cold:
        return Cold((path,), act, arguments, ROWS * shape[1], read.noter(contender), around=around)

    runners = {contender: cold(contender, act, indices) for contender, act in acts.items()}
    if reads:
        blocks = (Blocks.under(index * shape[1], shape[1]) for index in indices)
        runners[LIMIT] = cold(LIMIT, partial(reads, path), blocks)
    return runners


def _indices(rows: int) -> Iterator[Index]:
    """Draw rows, none of them twice, in no order."""
    rng = np.random.default_rng(1)
    while True:
        yield rng.choice(rows, ROWS, replace=False)
