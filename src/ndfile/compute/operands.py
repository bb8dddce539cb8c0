"""Arrays that are worked on together: inputs and outputs that are cut alike, into blocks, and these into pieces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase, refuse_lost
from ndfile.compute.blocks import BLOCK_NBYTES, Blocks, Input, shape_of, share_in_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ndfile.compute.blocks import Block

__all__ = ["PIECE_NBYTES", "Cut", "Operand", "Output", "aligned", "share_memory", "within"]

# Of one operand in one call of a function: temporaries stay in the processor's cache, NumPy uses them again for the
# next step of a formula (from this size on), and what Python does for each call takes little of the time.
PIECE_NBYTES = 256 << 10

# In the blocks of all threads together that are copied.
MOST_NBYTES = 32 << 20

# Smaller blocks NumPy itself assigns as fast.
BY_FILE_NBYTES = 1 << 20

# How hard to look whether two arrays have an item in common; beyond that they count as if they had.
OVERLAP_WORK = 1000


class Cut:
    """A whole in blocks, and each block in pieces. A thread takes a block, and a function gets a piece.

    Parameters
    ----------
    shape : tuple of int
        Of the whole.
    order : tuple of int
        Its axes, slowest first.
    piece_items : int
        How many items a piece has, at most. The pieces do not depend on the size of the blocks.
    pieces : int
        How many a block has, more or less.
    """

    def __init__(self, shape: tuple[int, ...], order: tuple[int, ...], piece_items: int, pieces: int) -> None:
        self._order = order
        self._items = piece_items
        self._indices: dict[Any, list[Any]] = {}
        self.blocks = _blocks(shape, order, piece_items * pieces)

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        order: tuple[int, ...],
        item_nbytes: int,
        operands: Sequence[Operand | Output],
        threads: int,
        piece_nbytes: int = PIECE_NBYTES,
    ) -> Cut:
        """Pieces of so many bytes of the largest operand, and blocks of which so many threads may have copies."""
        copies = threads * sum(one.is_copied for one in operands)
        block_nbytes = min(BLOCK_NBYTES, MOST_NBYTES // max(copies, 1))
        return cls(shape, order, max(piece_nbytes // max(item_nbytes, 1), 1), max(block_nbytes // piece_nbytes, 1))

    def pieces(self, block: Block) -> list[Block]:
        """The pieces of a block, relative to where it begins."""
        shape = shape_of(block)
        if shape not in self._indices:
            self._indices[shape] = list(_blocks(shape, self._order, self._items))
        return self._indices[shape]

    def indices(self, block: Block, axes: tuple[int, ...]) -> list[Any]:
        """The places of a block's pieces in an operand's part for that block."""
        key = shape_of(block), axes
        if key not in self._indices:
            self._indices[key] = [within(piece, axes) for piece in self.pieces(block)]
        return self._indices[key]


def _blocks(shape: tuple[int, ...], order: tuple[int, ...], items: int) -> Any:
    if math.prod(shape) == 0:
        return [tuple(slice(0, n) for n in shape)]  # a function is called once for these too: it knows the dtype
    return Blocks(shape, order, items)


def aligned(array: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """For each axis of an array the axis of the whole along which it is cut, or -1 for one that is repeated."""
    missing = len(shape) - array.ndim
    return tuple(-1 if n != shape[missing + axis] else missing + axis for axis, n in enumerate(array.shape))


def within(block: Block, axes: tuple[int, ...]) -> Any:
    """The part of an array for a block of the whole, as an index that gives an array in any case."""
    return (*(slice(None) if axis < 0 else block[axis] for axis in axes), ...)


def share_memory(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether writing to one array may change another's items, other than those in the same place of it."""
    if not np.may_share_memory(one, other) or _are_alike(one, other):
        return False
    try:
        return np.shares_memory(one, other, max_work=OVERLAP_WORK)  # type: ignore[arg-type]  # any number is allowed
    except np.exceptions.TooHardError:
        return True


def _are_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are views of the same items in the same places."""
    return (
        one.__array_interface__["data"] == other.__array_interface__["data"]
        and one.shape == other.shape
        and one.strides == other.strides
        and one.itemsize == other.itemsize
    )


class Operand(Input):
    """An input, and how it is cut.

    Parameters
    ----------
    array : numpy.ndarray
    axes : tuple of int
        See `aligned`.
    """

    def __init__(self, array: np.ndarray, axes: tuple[int, ...]) -> None:
        super().__init__(array)
        self.axes = axes

    @property
    def is_copied(self) -> bool:
        """Whether the blocks that are read are copies in memory."""
        return self._by_reading


class Output:
    """An array that is filled block by block, by any number of threads.

    Parameters
    ----------
    array : numpy.ndarray
        On a file or in memory.
    axes : tuple of int
        See `aligned`.
    is_direct : bool
        Whether each item has to be stored in its place at once.
    """

    def __init__(self, array: np.ndarray, axes: tuple[int, ...], is_direct: bool = False) -> None:
        self.array = array
        self.axes = axes
        self.is_mapped = isinstance(array, ArrayBase) and array._mmap is not None
        # The blocks may be in memory before they are in the file.
        self.is_copied = isinstance(array, ArrayBase) and self.is_mapped and not is_direct and array.mode != "c"
        self._spare: list[np.ndarray] = []

    def target(self, block: Block) -> Target:
        """Where the results of a block go."""
        return Target(self, within(block, self.axes), self.is_copied)

    def borrow(self, like: np.ndarray) -> np.ndarray:
        """An array in memory for a block."""
        spare = self._spare.pop() if self._spare else None
        return spare if spare is not None and spare.shape == like.shape else np.empty_like(like, subok=False)

    def give_back(self, memory: np.ndarray) -> None:
        """Keep it for the next block."""
        self._spare.append(memory)


class Target:
    """A block of an output. Results of pieces go through the map, or into memory and then to the file all at once.

    Through the map, pages that are not in memory would be read before they are written to, and faulted in one by one:
    by the array's own assignment the file takes them two to three times as fast. What is in memory is best written to
    in its place.
    """

    def __init__(self, output: Output, index: Any, is_copied: bool) -> None:
        self._output = output
        self._index = index
        self._room: np.ndarray | None = None
        array = output.array[index]
        self._place = self._to = np.asarray(array)
        if is_copied and array.nbytes >= BY_FILE_NBYTES and share_in_memory(array) < 0.5:
            self._to = output.borrow(self._place)

    def room(self, index: Any) -> np.ndarray:
        """An array for the items of a piece, to be filled and then stored."""
        self._room = self._to[index]
        return self._room

    def store(self, index: Any, items: np.ndarray) -> None:
        """Take the items of a piece; those in its room are there."""
        if items is not self._room:
            np.copyto(self._to[index], items, casting="same_kind")

    def finish(self) -> None:
        """Write what is not in its place yet, and stand behind it all."""
        if self._to is not self._place:
            self._output.array[self._index] = self._to
            self._output.give_back(self._to)
        if self._output.is_mapped:
            refuse_lost(self._output.array[self._index], "write")
