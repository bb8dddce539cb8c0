"""The scan family: one pass over a file of 2 GiB (512 MiB with ``--quick``).

``a.sum()`` goes over an array that was read before; the other warm case opens, sums and drops, so that every page is
mapped anew. Both libraries read the same file. That it is warm is checked before each case. In the cold case nothing of
the file is in the page cache, see `cold`; the expert tells the kernel what is to come (`MADV_SEQUENTIAL`).
"""

from __future__ import annotations

import mmap
import os
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Case, Tally
from cold import Cold, assert_warm
from timing import statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TITLE = "Scan: one pass over a file"
CONTENDERS = (OURS, NUMPY, EXPERT, LIMIT)
TALLIES = ("read per byte",)
LIMIT_IS = (
    "The limit is the same pass over a plain ndarray in memory; for cold data, reading the file 8 MiB at a time into "
    "the same buffer. The expert says `madvise(MADV_SEQUENTIAL)`."
)

ROUNDS, COLD_ROUNDS = 15, 7
PIECE_NBYTES = 8 << 20


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    path = os.path.join(folder, "scan.dat")
    items = (2**29 if quick else 2**31) // 4
    plain = np.ones(items, "float32")
    plain.tofile(path)
    arrays: dict[str, np.ndarray[Any, Any]] = {OURS: nf.memmap(path, "f4", "r"), NUMPY: np.memmap(path, "f4", "r")}
    assert_warm(path)
    runners = {contender: statement("a.sum()", {"a": array}) for contender, array in (arrays | {LIMIT: plain}).items()}
    yield Case("a.sum()", runners, rounds=ROUNDS)

    del arrays, runners
    assert_warm(path)
    code = "memmap(path, 'f4', 'r').sum()"
    lives = {OURS: {"memmap": nf.memmap, "path": path}, NUMPY: {"memmap": np.memmap, "path": path}}
    again = {contender: statement(code, names) for contender, names in lives.items()}
    yield Case("open, sum(), del", again | {LIMIT: statement("a.sum()", {"a": plain})}, rounds=ROUNDS)
    del plain, again
    yield _cold(path)
    os.unlink(path)


def _cold(path: str) -> Case:
    read = Tally(TALLIES[0])

    def expert(_: object) -> object:
        a = np.memmap(path, "f4", "r")
        a._mmap.madvise(mmap.MADV_SEQUENTIAL)  # type: ignore[attr-defined]
        return a, a.sum()

    def by_pieces(_: object) -> None:
        buffer = bytearray(PIECE_NBYTES)
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    def plain(memmap: Any) -> Callable[[object], object]:
        def act(_: object) -> object:
            a = memmap(path, "f4", "r")
            return a, a.sum()

        return act

    acts = {OURS: plain(nf.memmap), NUMPY: plain(np.memmap), EXPERT: expert, LIMIT: by_pieces}
    nbytes = os.path.getsize(path)
    runners = {name: Cold((path,), act, repeat(None), nbytes, read.noter(name)) for name, act in acts.items()}
    return Case("open, sum(), cold", runners, rounds=COLD_ROUNDS, tallies=(read,), is_once=True, again=2)
