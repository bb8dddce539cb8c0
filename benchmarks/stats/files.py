"""The files of the statistics family: numbers that no case finds easy, as `.npy`, in one dimension.

Normal numbers about 3 with deviation 2 (`f4`, `f8`) or about 0 with 3,000 (`i2`), and bytes of every value (`u1`). The
numbers are drawn once; each piece of a file is another one by a roll and, where there are values enough, a factor.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from random_file import size_with_room

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

PIECE_NBYTES = 32 << 20

# Beside each folder's files stand small ones of the same names, on which a contender is tried out first.
TINY, TINY_NBYTES = "tiny", 64 << 10

# numpy.memmap needs eight times the bytes of a file of `u1` for their deviation, and something more for all else.
MEMORY_FOR_EACH_BYTE = 10


def path_of(folder: str, kind: str) -> str:
    return os.path.join(folder, f"{kind}.npy")


def write(folder: str, kind: str, nbytes: int) -> None:
    """Make the file of a kind, and the small one."""
    tiny = os.path.join(folder, TINY)
    os.makedirs(tiny, exist_ok=True)
    drawn = _drawn(kind)
    for place, size in ((tiny, TINY_NBYTES), (folder, nbytes)):
        _write(path_of(place, kind), drawn, size // drawn.itemsize)


def write_zeros(folder: str, kind: str, like: str, part: int) -> None:
    """Make a file to be written to, all of its blocks there, of a part of another's items, and the small one."""
    for place in (os.path.join(folder, TINY), folder):
        other = np.load(path_of(place, like), mmap_mode="r")
        np.save(path_of(place, kind), np.zeros(other.size // part, other.dtype))


def remove(folder: str, kind: str) -> None:
    for place in (folder, os.path.join(folder, TINY)):
        os.unlink(path_of(place, kind))


def fitting(folder: str, wanted: int) -> int:
    """Return `wanted` bytes, or the largest half, quarter, ... for which disk and memory suffice."""
    nbytes = size_with_room(folder, wanted)
    while nbytes * MEMORY_FOR_EACH_BYTE > _available_nbytes() and nbytes > 1 << 26:
        nbytes //= 2
    return nbytes


def _drawn(kind: str) -> Array:
    rng, items = np.random.default_rng(0), PIECE_NBYTES // np.dtype(kind).itemsize
    if kind == "u1":
        return rng.integers(0, 256, items, "u1")
    normal = rng.standard_normal(items, "f4" if kind == "f4" else "f8")
    return (3000 * normal).astype("i2") if kind == "i2" else 3 + 2 * normal


def _write(path: str, drawn: Array, items: int) -> None:
    file = np.lib.format.open_memmap(path, "w+", drawn.dtype, (items,))
    for number, start in enumerate(range(0, items, drawn.size)):
        piece = np.roll(drawn, 1009 * number)[: items - start]
        factor = drawn.dtype.type(1 + number / 4096) if drawn.dtype.kind == "f" else drawn.dtype.type(1)
        np.multiply(piece, factor, out=file[start : start + piece.size])
    file.flush()


def _available_nbytes() -> int:
    with open("/proc/meminfo") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
