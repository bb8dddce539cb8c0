"""Which part of an array comes next: blocks of bounded size, in the order of the memory."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase, refuse_lost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    # One slice for each axis.
    Block: TypeAlias = tuple[slice, ...]

__all__ = ["BLOCK_NBYTES", "Blocks", "Input", "kept", "memory_order", "shape_of", "share_in_memory"]

# Large enough for the device's speed and for what Python does once a block, small beside any memory.
BLOCK_NBYTES = 8 << 20


def memory_order(array: np.ndarray) -> tuple[int, ...]:
    """The axes of an array, from the one with the longest steps in memory to the one with the shortest."""
    return tuple(sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis)))


class Blocks:
    """Blocks of at most so many items that together are an array, one after the other in memory.

    They are the same whatever runs them: shape, order and size alone tell where they begin and end.

    Parameters
    ----------
    shape : tuple of int
        None of the axes is empty.
    order : sequence of int
        The axes, slowest first.
    items : int
        In one block, at most; at least 1.
    """

    def __init__(self, shape: tuple[int, ...], order: tuple[int, ...], items: int) -> None:
        self.shape = shape
        self._steps = list(shape)
        for axis in order:
            # Whole along all faster axes; along this one, as much as fits.
            inner = math.prod(self._steps) // self._steps[axis]
            self._steps[axis] = min(max(items // inner, 1), shape[axis])
            if self._steps[axis] > 1:
                break
        self._axes = order
        self._counts = [-(-shape[axis] // self._steps[axis]) for axis in order]

    @classmethod
    def of(cls, array: np.ndarray, nbytes: int | None = None) -> Blocks:
        """Those of an array in the order of its memory."""
        nbytes = BLOCK_NBYTES if nbytes is None else nbytes
        return cls(array.shape, memory_order(array), max(nbytes // max(array.itemsize, 1), 1))

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(index)
        found = [slice(0, 0)] * len(self.shape)
        for axis, count in zip(reversed(self._axes), reversed(self._counts), strict=True):
            index, place = divmod(index, count)
            step = self._steps[axis]
            found[axis] = slice(place * step, min((place + 1) * step, self.shape[axis]))
        return tuple(found)

    def __iter__(self) -> Iterator[Block]:
        return (self[index] for index in range(len(self)))


def shape_of(block: Block) -> tuple[int, ...]:
    """The shape of a block."""
    return tuple(one.stop - one.start for one in block)


def kept(block: Block, axes: tuple[int, ...]) -> Block:
    """Where a block's result belongs in that of the whole, with the reduced axes kept as axes of length 1."""
    return tuple(slice(0, 1) if axis in axes else one for axis, one in enumerate(block))


class Input:
    """An array that is read block by block, by any number of threads.

    Parameters
    ----------
    array : numpy.ndarray
        On a file or in memory.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        mapping = array._mmap if isinstance(array, ArrayBase) else None
        self._is_mapped = mapping is not None
        self._by_reading = mapping is not None and mapping.backend == "read"

    def read(self, block: Any) -> np.ndarray:
        """The items of a block, as a plain array: a view, or a copy where the file is better read than mapped."""
        part: Any = self.array[block]
        if self._is_mapped and not part.flags.forc and self._is_missing:
            # Many short pieces: around each of them too much would be read.
            part._prefetch(None, False, True)
        return np.asarray(part.copy() if self._by_reading else part)

    @cached_property
    def _is_missing(self) -> bool:
        return not self._by_reading and share_in_memory(self.array) < 1

    def check(self, block: Any) -> None:
        """Raise if items of a block are lost: what was computed from them is not to be used."""
        if self._is_mapped:
            refuse_lost(self.array[block], "read")


def share_in_memory(array: Any) -> float:
    """The share of the pages under an array on a file that are in memory."""
    nbytes, resident, _dirty = array._residency(1)[0]
    return resident / nbytes if nbytes else 1.0
