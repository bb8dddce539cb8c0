"""The windows family: batches of random windows of tokens, as a language model is trained on.

The file is one long row of uint16 tokens. A batch is 64 windows of 1,025 tokens, delivered as inputs and targets, int64
arrays of 64 by 1,024 each, on both sides. The other side is the loop of nanoGPT's `get_batch` without the step to
torch: a slice for each window, `astype(np.int64)`, and `np.stack`; with the map kept, and with the map opened again for
each batch, as nanoGPT does to keep resident memory down. Warm runs draw from the first part of the file, which is read
before and proven to be in the page cache; maps are kept there from run to run. Time is wall time.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from case import LIMIT, NUMPY, OURS, Case, Note, Tally, faster
from cold import Cold, assert_warm, warm
from random_file import random_file, size_with_room
from random_reads import COMPILER, DEPTH, Blocks, RandomReads
from timing import WALL, Runner

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Starts = NDArray[np.int64]
    Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
    # Goes through the batches that begin at these places.
    Loop = Callable[[Starts], Iterator[Batch]]

REOPENED = "map reopened"
TITLE = "Windows: batches of random token windows"
CONTENDERS = (OURS, NUMPY, REOPENED, LIMIT)
HEADINGS = {NUMPY: "nanoGPT's loop"}
TALLIES = ("read per byte",)
LIMIT_IS = (
    "The other side is the loop of nanoGPT's `get_batch`, with `np.stack` in torch's place; `map reopened` makes a "
    f"new `np.memmap` for each batch. The limit is direct reads of the same blocks, {DEPTH} under way at a time. A "
    "batch is 64 windows of 1,025 uint16 tokens, delivered as two int64 arrays of 64 by 1,024. `read per byte` is what "
    "came from the device for each byte of a window."
)

BATCH, WINDOW = 64, 1025
TOKENS = 50_304
WINDOW_NBYTES = 2 * WINDOW

COLD_BATCHES, WARM_BATCHES = 32, 64
COLD_ROUNDS = 5
WARM_NBYTES = 2 << 30


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    if not hasattr(nf, "batches"):
        yield Note("windows: left out, this ndfile has no batches()")
        return
    wanted = 1 << 30 if quick else 16 << 30
    nbytes = size_with_room(folder, wanted)
    if nbytes < wanted:
        yield Note(f"windows: {nbytes >> 30} GiB instead of {wanted >> 30}, for the disk has no more room")
    with random_file(os.path.join(folder, "tokens.bin"), nbytes, below=TOKENS) as path:
        _assert_same(path, nbytes)
        yield _cold(folder, path, nbytes, 3 if quick else COLD_ROUNDS)
        yield _warm(path, min(nbytes, WARM_NBYTES))


def _ours(a: Any, starts: Starts) -> Iterator[Batch]:
    for batch in nf.batches(a, starts, batch_size=BATCH, windows=WINDOW):
        yield batch[:, :-1].astype(np.int64), batch[:, 1:].astype(np.int64)


def _nanogpt(map_of: Callable[[], Any], starts: Starts) -> Iterator[Batch]:
    for first in range(0, len(starts), BATCH):
        data, places = map_of(), starts[first : first + BATCH]
        x = np.stack([data[i : i + WINDOW - 1].astype(np.int64) for i in places])
        y = np.stack([data[i + 1 : i + WINDOW].astype(np.int64) for i in places])
        yield x, y


def _opened(path: str) -> dict[str, Loop]:
    """Return loops that open the file when they begin; the one of `REOPENED` for each batch."""

    def opened() -> Any:
        return np.memmap(path, "u2", "r")

    def kept(starts: Starts) -> Iterator[Batch]:
        data = opened()
        return _nanogpt(lambda: data, starts)

    return {
        OURS: lambda starts: _ours(nf.memmap(path, "u2", "r"), starts),
        NUMPY: kept,
        REOPENED: partial(_nanogpt, opened),
    }


def _exhaust(loop: Loop, starts: Starts) -> None:
    for x, y in loop(starts):
        if x.shape != (BATCH, WINDOW - 1) or y.dtype != np.int64:
            raise AssertionError(f"a batch of {x.shape} and {y.dtype}")


def _starts(nbytes: int, batches: int) -> Iterator[Starts]:
    rng = np.random.default_rng(3)
    while True:
        yield rng.integers(0, nbytes // 2 - WINDOW, BATCH * batches)


def _assert_same(path: str, nbytes: int) -> None:
    """Raise unless all of them deliver the same arrays."""
    starts = next(_starts(nbytes, 2))
    ours, *others = (list(loop(starts)) for loop in _opened(path).values())
    for other in others:
        np.testing.assert_array_equal(np.array(ours), np.array(other))


def _cold(folder: str, path: str, nbytes: int, rounds: int) -> Case:
    read, starts = Tally(TALLIES[0]), _starts(nbytes, COLD_BATCHES)
    asked = BATCH * COLD_BATCHES * WINDOW_NBYTES

    def cold(contender: str, act: Callable[[Any], object], arguments: Iterator[Any]) -> Runner:
        return Cold((path,), act, arguments, asked, read.noter(contender))

    runners = {name: cold(name, partial(_exhaust, loop), starts) for name, loop in _opened(path).items()}
    if COMPILER:
        reads = RandomReads(folder, BATCH * COLD_BATCHES, WINDOW_NBYTES)
        blocks = (Blocks.under(2 * places, WINDOW_NBYTES) for places in starts)
        runners[LIMIT] = cold(LIMIT, partial(reads, path), blocks)
    bars, aims = (faster(5), faster(5, REOPENED)), (faster(10), faster(10, REOPENED))
    name = f"cold: {COLD_BATCHES} batches of {nbytes >> 30} GiB"
    return Case(name, runners, bars, aims, rounds, (read,), is_once=True, again=1)


def _warm(path: str, nbytes: int) -> Case:
    warm(path, nbytes)
    ours, theirs = nf.memmap(path, "u2", "r"), np.memmap(path, "u2", "r")
    for array in (ours, theirs):
        np.asarray(array)[: nbytes // 2 : 2048].max()  # each page's first touch
    assert_warm(path, nbytes)
    loops: dict[str, Loop] = {
        OURS: partial(_ours, ours),
        NUMPY: partial(_nanogpt, lambda: theirs),
        REOPENED: partial(_nanogpt, lambda: np.memmap(path, "u2", "r")),
    }
    drawn = _starts(nbytes, WARM_BATCHES)
    pool = [next(drawn) for _ in range(20)]
    runners = {name: _warm_runner(loop, cycle(pool)) for name, loop in loops.items()}
    name = f"warm: {WARM_BATCHES} batches of {nbytes >> 30} GiB"
    return Case(name, runners, (faster(1), faster(1, REOPENED)), (faster(2), faster(2, REOPENED)), rounds=15)


def _warm_runner(loop: Loop, pool: Iterator[Starts]) -> Runner:
    def run(count: int) -> float:
        start_s = WALL()
        for _ in range(count):
            _exhaust(loop, next(pool))
        return WALL() - start_s

    return run
