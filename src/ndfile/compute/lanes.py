"""Lanes of an array sorted, each in the way that suits its length."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.compute.blocks import Blocks, Input, memory_order, shape_of
from ndfile.compute.patterns import Patterns, can_be_counted, ordered
from ndfile.compute.running import run
from ndfile.compute.runs import Lane, Runs, batches, fan_in
from ndfile.compute.scratch import Scratch
from ndfile.progress import reported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ndfile.compute.blocks import Block
    from ndfile.compute.runs import Source
    from ndfile.progress import Progress

__all__ = ["Place", "Sorting", "check_threads", "copy_of", "flat", "limited", "native", "places"]

# Of one run, and of one part of their union. Several are in memory at a time, one to a thread.
RUN_NBYTES = 8 << 20

# From so many on items are counted, where they can be: a count for each possible value has its price too.
COUNTED_NBYTES = 1 << 20

# Of all that the threads of one call have in memory together.
MOST_NBYTES = 48 << 20


def check_threads(threads: int | None) -> None:
    """Raise if it is no number of threads."""
    run(lambda block: block, (None,), lambda _block, _found: None, threads=threads)


def limited(threads: int | None, nbytes: int) -> int:
    """As many threads as there may be if each has so many bytes in memory."""
    wanted = len(os.sched_getaffinity(0)) if threads is None else threads
    return max(min(wanted, MOST_NBYTES // max(nbytes, 1)), 1)


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In which items are sorted. Those with fields stay as they are: another layout would lose what is in between."""
    return dtype if dtype.names is not None else ordered(dtype)


def flat(a: np.ndarray, in_order: bool = False) -> np.ndarray:
    """All items as one axis, in C's order or any, if that takes no copy; otherwise the array itself."""
    for one in (a, a if in_order else a.T):
        if one.flags.c_contiguous:
            return one.reshape(-1)
    return a


class Place(NamedTuple):
    """A block, and which of all items are in it when the blocks stand one after the other."""

    block: Block
    start: int
    stop: int


def places(a: np.ndarray, nbytes: int, in_order: bool = False) -> list[Place]:
    """The blocks of an array, in the order of its memory, or of its items as C counts them."""
    order = tuple(range(a.ndim)) if in_order else memory_order(a)
    found, end = [], 0
    for block in Blocks(a.shape, order, max(nbytes // a.itemsize, 1)):
        start, end = end, end + math.prod(shape_of(block))
        found.append(Place(block, start, end))
    return found


def copy_of(source: Input, block: Block, in_order: bool = False) -> np.ndarray:
    """A block's items as one axis, in the machine's byte order."""
    order: Any = "C" if in_order else "K"
    items = np.array(source.read(block), native(source.array.dtype), order=order, copy=True)
    source.check(block)
    return items.ravel(order)


def _is_all_value(dtype: np.dtype[Any]) -> bool:
    """Whether equal items are the same bytes: their order cannot be told then."""
    return dtype.kind in "biumMSU" or (dtype.type is np.void and dtype.names is None)


class Sorting:
    """One call of `sort`, whose arguments are checked.

    Parameters
    ----------
    is_stable : bool
        Whether equal items keep their order.
    folder : str
        Where a temporary file goes.
    threads : int or None
    progress : None, bool or callable
    """

    def __init__(self, is_stable: bool, folder: str, threads: int | None, progress: Progress) -> None:
        self._is_stable, self._folder, self._threads, self._progress = is_stable, folder, threads, progress
        self._advance: Callable[[int], None]

    def sort(self, a: np.ndarray, axis: int | None, out: np.ndarray | None) -> np.ndarray:
        """Sort along an axis, or with None all items into one axis. There are some."""
        self._is_stable = self._is_stable and not _is_all_value(a.dtype)
        way: Callable[[np.ndarray, int | None, np.ndarray | None], np.ndarray]
        lane_nbytes = a.nbytes if axis is None else a.shape[axis] * a.itemsize
        if axis is not None and lane_nbytes <= RUN_NBYTES and not (a.ndim == 1 and self._is_countable(a)):
            passes, way = 1, self._short
        elif self._is_countable(a) and lane_nbytes >= COUNTED_NBYTES:
            passes, way = 2, self._counted
        elif out is None and not self._is_stable and native(a.dtype).itemsize == a.itemsize:
            passes, way = 2, self._in_memory
        else:
            passes, way = 1 + len(fan_in(-(-lane_nbytes // RUN_NBYTES))), self._merged
        with reported(self._progress, passes * a.nbytes, "sort") as self._advance:
            return way(a, axis, out)

    def _is_countable(self, a: np.ndarray) -> bool:
        return can_be_counted(a.dtype) and not self._is_stable

    @property
    def _kind(self) -> Any:
        return "stable" if self._is_stable else None

    def _each(self, work: Callable[[Any], int], blocks: Sequence[Any], nbytes: int) -> None:
        """Do work that needs so many bytes of memory, and gives how many are done."""
        run(work, blocks, lambda _block, done: self._advance(done), threads=limited(self._threads, nbytes))

    # ---- Lanes of which some fit in a block ----

    def _short(self, a: np.ndarray, axis: int | None, out: np.ndarray | None) -> np.ndarray:
        assert axis is not None
        found = np.empty_like(a, subok=False) if out is None else out
        source, kind, along = Input(a), self._kind, axis
        others = [i for i in range(a.ndim) if i != along]
        order = [others.index(i) for i in memory_order(a) if i != along]
        items = max(RUN_NBYTES // (a.itemsize * a.shape[along]), 1)
        blocks = Blocks(tuple(a.shape[i] for i in others), tuple(order), items)

        def work(block: Block) -> int:
            block = (*block[:along], slice(0, a.shape[along]), *block[along:])
            part = np.array(source.read(block), native(a.dtype), order="K", copy=True)
            source.check(block)
            part.sort(along, kind=kind)
            found[block] = part
            return part.nbytes

        self._each(work, list(blocks), 2 * items * a.itemsize * a.shape[along])
        return found

    # ---- Long lanes, one after the other ----

    def _lanes(self, a: np.ndarray, axis: int | None, out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if axis is None:
            yield a, out
            return
        a, out = np.moveaxis(a, axis, -1), np.moveaxis(out, axis, -1)
        for place in np.ndindex(a.shape[:-1]):
            yield a[place], out[place]

    def _result(self, a: np.ndarray, axis: int | None) -> np.ndarray:
        """A new array in which each lane is in one piece."""
        if axis is None:
            return np.empty(a.size, a.dtype)
        turned = np.moveaxis(np.broadcast_to(np.empty((), np.int8), a.shape), axis, -1)
        return np.moveaxis(np.empty(turned.shape, a.dtype), -1, axis)

    def _counted(self, a: np.ndarray, axis: int | None, out: np.ndarray | None) -> np.ndarray:
        found = self._result(a, axis) if out is None else out
        for lane, target in self._lanes(a, axis, found):
            self._count(lane, target)
        return found

    def _count(self, lane: np.ndarray, target: np.ndarray) -> None:
        patterns, source = Patterns(lane.dtype), Input(lane)

        def take(place: Place, counts: np.ndarray) -> None:
            patterns.add(counts)
            self._advance((place.stop - place.start) * lane.itemsize)

        threads = limited(self._threads, 2 * COUNTED_NBYTES)
        run(lambda place: patterns.count(source, place.block), places(lane, COUNTED_NBYTES), take, threads=threads)
        ends = np.concatenate([[0], np.cumsum(patterns.counts)])

        def fill(place: Place) -> int:
            target[place.start : place.stop] = patterns.items(ends, place.start, place.stop)
            return (place.stop - place.start) * lane.itemsize

        self._each(fill, places(target, COUNTED_NBYTES), COUNTED_NBYTES)

    def _in_memory(self, a: np.ndarray, axis: int | None, _out: np.ndarray | None) -> np.ndarray:
        """Into a new array, which is sorted where it is."""
        found = self._result(a, axis)
        keys = found.view(native(a.dtype))
        source = Input(a)

        def copy(place: Place) -> int:
            if axis is None:
                keys[place.start : place.stop] = copy_of(source, place.block)
            else:
                keys[place.block] = source.read(place.block)
                source.check(place.block)
            return (place.stop - place.start) * a.itemsize

        self._each(copy, places(a, RUN_NBYTES), RUN_NBYTES)
        for _, lane in self._lanes(a, axis, keys):
            self._sort_in_place(lane)
        if keys.dtype != found.dtype:
            self._each(lambda place: keys[place.block].byteswap(inplace=True).nbytes * 0, places(keys, RUN_NBYTES), 0)
        return found

    def _sort_in_place(self, lane: np.ndarray) -> None:
        """Parted at its middle, and the halves at theirs, until the parts are small enough for a thread each."""
        most = max(RUN_NBYTES // lane.itemsize, 1)
        spans = [(0, len(lane))]
        # NumPy parts what it has no way of its own for by sorting all of it.
        while lane.dtype.kind in "iufc" and spans[0][1] - spans[0][0] > most:
            self._each(lambda span: _part(lane, *span), spans, 0)
            spans = [half for low, high in spans for half in ((low, (low + high) // 2), ((low + high) // 2, high))]

        def work(span: tuple[int, int]) -> int:
            part = lane[slice(*span)]
            part.sort()
            return part.nbytes

        self._each(work, spans, 0)

    # ---- Long lanes by way of a temporary file ----

    def _merged(self, a: np.ndarray, axis: int | None, out: np.ndarray | None) -> np.ndarray:
        found = self._result(a, axis) if out is None else out
        items = a.size if axis is None else a.shape[axis]
        with Scratch(self._folder, native(a.dtype), items) as scratch:
            for lane, target in self._lanes(a, axis, found):
                self._merge(lane, target, scratch)
        return found

    def _merge(self, lane: np.ndarray, target: np.ndarray, scratch: Scratch) -> None:
        """Sort runs, and make them fewer and longer: to and fro between the scratch and the target, which is last."""
        pieces = places(lane, RUN_NBYTES, self._is_stable)
        fans = fan_in(len(pieces))
        ways: list[Source] = [scratch, Lane(target, scratch.dtype)]
        if len(fans) % 2 == 0:
            ways.reverse()
        source, kind, is_stable, first = Input(lane), self._kind, self._is_stable, ways[0]

        def sort_run(piece: Place) -> int:
            items = copy_of(source, piece.block, is_stable)
            items.sort(kind=kind)
            first.write(piece.start, items)
            return items.nbytes

        self._each(sort_run, pieces, self._part_nbytes)
        starts = np.array([piece.start for piece in pieces], np.int64)
        stops = np.array([piece.stop for piece in pieces], np.int64)
        for fan in fans:
            runs = Runs(ways[0], starts, stops)
            for group in runs.groups(fan):
                self._unite(group, ways[1])
            starts, stops = starts[::fan], np.append(stops[fan - 1 : -1 : fan], stops[-1])
            ways.reverse()

    @property
    def _part_nbytes(self) -> int:
        return 2 * RUN_NBYTES if self._is_stable else RUN_NBYTES

    def _unite(self, group: Runs, target: Source) -> None:
        """One run of several, at the same place in the target."""
        kind, end = self._kind, int(group.starts[0])
        most = max(RUN_NBYTES // target.dtype.itemsize, 1)

        def work(placed: tuple[int, Runs]) -> int:
            start, part = placed
            items = part.gather()
            items.sort(kind=kind)
            target.write(start, items)
            return items.nbytes

        for batch in batches(group.parts(most)):
            starts = np.cumsum([end, *(part.items for part in batch)]).tolist()
            self._each(work, list(zip(starts, batch, strict=False)), self._part_nbytes)
            end = starts[-1]


def _part(lane: np.ndarray, low: int, high: int) -> int:
    lane[low:high].partition((high - low) // 2)
    return 0
