"""A reduction block by block: what each block gives is joined, in order, with what the blocks before it gave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ndfile.compute import blocks
from ndfile.compute.blocks import Blocks, Input, kept, memory_order, shape_of
from ndfile.compute.running import run

if TYPE_CHECKING:
    from typing import TypeAlias

    from ndfile.compute.arguments import Request
    from ndfile.compute.blocks import Block
    from ndfile.progress import Progress

    # One or more arrays of the same shape.
    State: TypeAlias = tuple[np.ndarray, ...]

__all__ = ["Statistic", "reduce"]

# Results that are in the making at the same time; each of them takes some tens of bytes for each block on its way.
TILE_ITEMS = 1 << 16

# Items of a lane that a block has at least, where lanes lie across the memory: joining blocks then costs little beside
# them.
LEAST_OF_LANE = 256


class Statistic(Protocol):
    """What is to be found of an array, along axes."""

    def of(self, block: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        """What a block gives; the axes are kept, with length 1."""

    def join(self, state: State, new: State) -> None:
        """Join what the next block gives to what there is, in place."""

    def finish(self, state: State, place: Block) -> State:
        """The results, once all blocks were joined; `place` is where they belong. May use the state's memory."""

    def is_enough(self, state: State) -> bool:
        """Whether no further block can change anything, for a result of a single item."""


def reduce(
    statistic: Statistic,
    request: Request,
    *,
    threads: int | None = None,
    progress: Progress = None,
    label: str = "reduce",
    has_copies: bool = False,
) -> State:
    """The results of a statistic, with the axes that go kept as axes of length 1.

    `has_copies` is for statistics that make some arrays as large as the block, which then is a small one.
    """
    work = _Reduction(statistic, request, blocks.BLOCK_NBYTES // (8 if has_copies else 1))
    nbytes = request.array.size * request.array.itemsize
    run(work.of, work.parts, work.take, threads=threads, progress=progress, nbytes=nbytes, label=label)
    return work.results()


class _Parts:
    """The blocks of all tiles, one tile after the other.

    A tile is what belongs to a bounded part of the result; so what is in the making is bounded too.
    """

    def __init__(self, request: Request, block_nbytes: int) -> None:
        array = request.array
        order = memory_order(array)
        items = max(block_nbytes // array.itemsize, 1)
        # A lane that lies along the memory is in one block, if it fits.
        lane = request.lane_size if order[-1] in request.axes else min(request.lane_size, LEAST_OF_LANE)
        self._tiles = Blocks(request.kept_shape, order, min(TILE_ITEMS, max(items // lane, 1)))
        self._axes = request.axes
        self._array_shape = array.shape
        self._order = order
        self._items = items
        self._made: dict[tuple[int, ...], Blocks] = {}  # all tiles but those at the borders have the same shape
        self._ends = np.cumsum([len(self._of(tile)) for tile in self._tiles])

    def _of(self, tile: Block) -> Blocks:
        shape = tuple(
            self._array_shape[axis] if axis in self._axes else one.stop - one.start for axis, one in enumerate(tile)
        )
        if shape not in self._made:
            self._made[shape] = Blocks(shape, self._order, self._items)
        return self._made[shape]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[int, Block, Block]:
        """The tile's number, the tile, and the block within the whole array."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        tile = self._tiles[number]
        block = self._of(tile)[index - (int(self._ends[number - 1]) if number else 0)]
        whole = tuple(
            one if axis in self._axes else slice(place.start + one.start, place.start + one.stop)
            for axis, (one, place) in enumerate(zip(block, tile, strict=True))
        )
        return number, tile, whole


class _Reduction:
    """One call of `reduce`."""

    def __init__(self, statistic: Statistic, request: Request, block_nbytes: int) -> None:
        self.parts = _Parts(request, block_nbytes)
        self._statistic, self._request = statistic, request
        self._input = Input(request.array)
        self._where = None if request.where is None else Input(request.where)
        self._is_single = math.prod(request.kept_shape) == 1
        self._number = -1
        self._tile: Block = ()
        self._state: State = ()
        self._results: State = ()

    def of(self, part: tuple[int, Block, Block]) -> tuple[bool, State]:
        """What a block gives, and whether that is the result already: where it is all of its tile."""
        _, tile, block = part
        where = None if self._where is None else self._where.read(block)
        state = self._statistic.of(self._input.read(block), where, self._request.axes)
        self._input.check(block)
        is_all = self._place(block) == tile and all(
            shape_of(block)[axis] == self._request.array.shape[axis] for axis in self._request.axes
        )
        return is_all, self._statistic.finish(state, tile) if is_all else state

    def _place(self, block: Block) -> Block:
        return kept(block, self._request.axes)

    def take(self, part: tuple[int, Block, Block], found: tuple[bool, State]) -> bool:
        number, tile, block = part
        is_all, new = found
        if is_all:
            self._keep(tile, new)
            return False
        if number != self._number:
            self._finish()
            self._number, self._tile = number, tile
            self._state = tuple(np.empty(shape_of(tile), one.dtype) for one in new)
        here = tuple(
            slice(one.start - place.start, one.stop - place.start)
            for one, place in zip(self._place(block), tile, strict=True)
        )
        state = tuple(one[here] for one in self._state)
        if all(block[axis].start == 0 for axis in self._request.axes):
            for one, part_of_it in zip(state, new, strict=True):
                one[...] = part_of_it
        else:
            self._statistic.join(state, new)
        return self._is_single and self._statistic.is_enough(state)

    def _finish(self) -> None:
        if self._number >= 0:
            self._keep(self._tile, self._statistic.finish(self._state, self._tile))
            self._number = -1

    def _keep(self, tile: Block, found: State) -> None:
        if shape_of(tile) == self._request.kept_shape:
            self._results = found
            return
        if not self._results:
            self._results = tuple(np.empty(self._request.kept_shape, one.dtype) for one in found)
        for whole, part in zip(self._results, found, strict=True):
            whole[tile] = part

    def results(self) -> State:
        self._finish()
        return self._results
