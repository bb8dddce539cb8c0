"""The warm rows family: random rows of a file that is in the page cache and mapped already.

Where nothing has to be fetched, looking for what is missing must cost nothing. ``a[idx]`` makes a new array, so all
contenders do; with ``out=`` all of them fill the same one. The rows are new in each run, from lists that were drawn
before, long enough to be out of the processor's cache when they come round. ``opened anew`` is a mapping without page
tables: the data is in memory, but each page's first touch is a fault. Time is wall time.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, NUMPY, OURS, Case, faster
from cold import assert_warm, warm
from random_file import random_file
from timing import WALL, statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from timing import Runner

TITLE = "Warm rows: random rows of a file that is in memory"
CONTENDERS = (OURS, NUMPY, EXPERT)
LIMIT_IS = (
    "There is no limit here: the expert keeps `p = np.asarray(a)` and calls `p.take(idx, axis=0, mode='clip')`. "
    "With `out=` the others call `a.take(idx, axis=0, out=out)`, the expert the same with `mode='clip'`, which spares "
    "NumPy a copy."
)

ROW_NBYTES = (64, 1 << 10, 4 << 10, 16 << 10)
COUNTS = (8, 64, 4096, 400_000)
MOST_NBYTES = 2 << 30

# From here on a gather is bound by memory, and fetching ahead can pay.
LARGE_NBYTES = 1 << 20
HUGE_NBYTES = 1 << 27

# Lists of rows: together so many bytes, but not more lists than this.
POOL_NBYTES, MOST_LISTS = 1 << 29, 1 << 14

ROUNDS, HUGE_ROUNDS = 15, 5

NEVER_SLOWER = (faster(0.95), faster(0.95, EXPERT))
AIM = (faster(1.5), faster(1.5, EXPERT))

CODES = {
    "a[idx]": {
        OURS: "a[next(lists)]",
        NUMPY: "a[next(lists)]",
        EXPERT: "a.take(next(lists), axis=0, mode='clip')",
    },
    "a.take(idx, 0, out=)": {
        OURS: "a.take(next(lists), axis=0, out=out)",
        NUMPY: "a.take(next(lists), axis=0, out=out)",
        EXPERT: "a.take(next(lists), axis=0, out=out, mode='clip')",
    },
}
MEMMAPS = {OURS: nf.memmap, NUMPY: np.memmap}
ANEW = "memmap(path, 'u1', 'r', shape=shape)[next(lists)]"


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    nbytes, rounds = (1 << 28, 5) if quick else (MOST_NBYTES, ROUNDS)
    with random_file(os.path.join(folder, "rows.dat"), nbytes) as path:
        warm(path)
        for row_nbytes, count in itertools.product(ROW_NBYTES, COUNTS):
            rows = min(count, nbytes // row_nbytes)
            if rows == count or count == COUNTS[-1]:
                yield from _gathers(path, (nbytes // row_nbytes, row_nbytes), rows, rounds)
        yield _opened_anew(path, (nbytes >> 10, 1 << 10), rounds)


def _gathers(path: str, shape: tuple[int, int], rows: int, rounds: int) -> Iterator[Case]:
    moved = rows * shape[1]
    is_huge = moved >= HUGE_NBYTES
    out = np.ones((rows, shape[1]), "u1")
    lists = _lists(shape, rows)
    maps = {name: _touched(memmap(path, "u1", "r", shape=shape)) for name, memmap in MEMMAPS.items()}
    maps[EXPERT] = np.asarray(maps[NUMPY])
    for code, codes in CODES.items():
        assert_warm(path)
        runners: dict[str, Runner] = {}
        for contender, text in codes.items():
            names = {"a": maps[contender], "out": out}
            runners[contender] = statement(text, names | {"lists": itertools.cycle(lists)}, WALL)
        yield Case(
            f"{code}: {rows:,} of {_size(shape[1])}",
            runners,
            NEVER_SLOWER,
            AIM if moved >= LARGE_NBYTES else (),
            HUGE_ROUNDS if is_huge else rounds,
            is_once=is_huge,
            again=1 if is_huge else 2,
        )


def _opened_anew(path: str, shape: tuple[int, int], rounds: int) -> Case:
    lists = _lists(shape, 4096)
    assert_warm(path)
    names = {"path": path, "shape": shape, "lists": itertools.cycle(lists)}
    runners = {name: statement(ANEW, names | {"memmap": memmap}, WALL) for name, memmap in MEMMAPS.items()}
    return Case("opened anew, a[idx]: 4,096 of 1 KiB", runners, (faster(0.95),), rounds=rounds)


def _lists(shape: tuple[int, int], rows: int) -> list[Any]:
    rng = np.random.default_rng(rows)
    number = max(2, min(MOST_LISTS, POOL_NBYTES // (rows * shape[1])))
    return [rng.integers(0, shape[0], rows) for _ in range(number)]


def _touched(a: Any) -> Any:
    """Have every page of a map in the page tables, so that no run pays for a first touch."""
    np.asarray(a).reshape(-1)[::4096].max()
    return a


def _size(nbytes: int) -> str:
    return f"{nbytes >> 10} KiB" if nbytes >= 1 << 10 else f"{nbytes} B"
