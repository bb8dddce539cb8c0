"""What one pass over an array finds: its extent, or how often each value of one or two bytes occurs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import tally
from ndfile.compute.blocks import Blocks, Input
from ndfile.compute.running import run

if TYPE_CHECKING:
    from ndfile.progress import Progress

__all__ = ["BLOCK_NBYTES", "crew", "extent_of", "flat", "tally_of"]

# Where a block has to be copied, all threads have a copy at a time, and with the counts they stay under 64 MiB.
BLOCK_NBYTES = 4 << 20
MOST_THREADS = 8


def crew(threads: int | None) -> int:
    """How many threads work; more than a few would wait for memory, and have counts and copies of their own."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS) if threads is None else threads


def flat(part: np.ndarray) -> np.ndarray:
    """The items of an array on one axis as a kernel takes them, in whatever order: a view where they lie so already."""
    return np.require(part.ravel(order="K"), part.dtype.newbyteorder("="), ["C", "A"])


def tally_of(
    array: np.ndarray, *, progress: Progress = None, threads: int | None = None, label: str = "tally"
) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct values of an array of items of one or two bytes, and how often each occurs.

    Parameters
    ----------
    array : numpy.ndarray
        Of bool, integers or float16; of any shape, strides and byte order.
    progress, threads, label
        As for `run`.

    Returns
    -------
    values : numpy.ndarray
        In the order of their bits as unsigned numbers. NaNs of different bits are different values.
    counts : numpy.ndarray of int64
    """
    unsigned = np.dtype(f"u{array.itemsize}")
    counts = np.zeros(1 << 8 * array.itemsize, np.int64)
    source = Input(array)

    def work(block: Any) -> np.ndarray:
        found = np.zeros_like(counts)
        tally(flat(source.read(block)).view(unsigned), found)
        source.check(block)
        return found

    def take(_block: Any, found: np.ndarray) -> None:
        np.add(counts, found, out=counts)

    blocks = Blocks.of(array, BLOCK_NBYTES)
    run(work, blocks, take, threads=crew(threads), progress=progress, nbytes=array.nbytes, label=label)
    if array.dtype == np.bool:  # any byte that is not 0 is True
        counts = np.array([counts[0], counts[1:].sum()])
    present = np.flatnonzero(counts)
    return present.astype(unsigned).view(array.dtype.newbyteorder("=")), counts[present]


def extent_of(
    array: np.ndarray, *, progress: Progress = None, threads: int | None = None, label: str = "extent"
) -> tuple[Any, Any]:
    """Find the least and the greatest item, as `array.min()` and `array.max()` do; NaN if there is one.

    Parameters
    ----------
    array : numpy.ndarray
        Of numbers; not empty.
    progress, threads, label
        As for `run`.
    """
    source = Input(array)
    found: list[Any] = []

    def work(block: Any) -> tuple[Any, Any]:
        part = source.read(block)
        least, greatest = part.min(), part.max()
        source.check(block)
        return least, greatest

    def take(_block: Any, extent: tuple[Any, Any]) -> None:
        before = found or extent
        found[:] = np.minimum(before[0], extent[0]), np.maximum(before[1], extent[1])

    blocks = Blocks.of(array, BLOCK_NBYTES)
    run(work, blocks, take, threads=crew(threads), progress=progress, nbytes=array.nbytes, label=label)
    return found[0], found[1]
