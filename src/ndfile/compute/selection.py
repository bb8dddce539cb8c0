"""Order statistics of long lanes in bounded memory, by passes over the blocks: count, narrow, collect what is left."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import collect_within, count_digits, count_within, tally
from ndfile.compute.blocks import BLOCK_NBYTES, Blocks, Input, memory_order
from ndfile.compute.running import MOST_THREADS, run
from ndfile.progress import reported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from ndfile.compute.blocks import Block
    from ndfile.progress import Progress

    # How many valid items and how many NaNs a lane has -> the ranks that are wanted, ascending.
    Ranks: TypeAlias = Callable[[int, int], np.ndarray]

__all__ = ["LaneOrder", "can_select", "most_lanes", "order_statistics", "select", "threads_of"]

# Of all tables for counting, of the items that are collected, and of the copies of blocks, all threads together.
TABLES_NBYTES = 8 << 20
COLLECTED_NBYTES = 8 << 20
COPIES_NBYTES = 16 << 20
# Of the first digit: a table stays in the processor's nearer caches.
FIRST_BITS = 14
MOST_BITS = 16
# With fewer, many lanes at once take more passes than lanes one after the other.
LEAST_FIRST_BITS = 10
# What is looked at beforehand, to see where the values lie.
SAMPLES, SAMPLE_NBYTES = 64, 16 << 10


def can_select(dtype: np.dtype[Any]) -> bool:
    """Whether values of a dtype have keys: booleans, integers and floats of up to 8 bytes."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def threads_of(threads: int | None) -> int:
    """How many threads `run` takes."""
    if threads is None:
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return max(int(threads), 1)  # `run` says what is wrong with others


def most_lanes(dtype: np.dtype[Any], threads: int | None) -> int:
    """How many lanes fit in one search."""
    if dtype.itemsize <= 2:
        return max(TABLES_NBYTES // ((threads_of(threads) + 1) * 8 << 8 * dtype.itemsize), 1)
    return max(TABLES_NBYTES // ((4 * threads_of(threads) + 8) << LEAST_FIRST_BITS), 1)


@dataclass(frozen=True)
class LaneOrder:
    """What is known of one lane."""

    values: np.ndarray  # at the ranks that were wanted, of the lane's dtype in native byte order
    valid: int  # items that are not NaN
    nans: int


def order_statistics(
    array: np.ndarray | Input,
    ranks: Any,
    skip_nan: bool = False,
    threads: int | None = None,
    progress: Progress = None,
) -> tuple[np.ndarray, int, int]:
    """Give the items that would be at some places if all items of an array were sorted.

    Parameters
    ----------
    array : numpy.ndarray or Input
        Booleans, integers or floats of up to 8 bytes, of any shape; not empty.
    ranks : array_like of int
        From 0 on, NaN not counted; ascending.
    skip_nan : bool
        False: an array that has NaNs has no order, so nothing is looked up.
    threads, progress
        See `run`.

    Returns
    -------
    values : numpy.ndarray
        At those ranks; empty if there is NaN and it is not skipped.
    valid, nans : int
        Items that are not NaN, and those that are.

    Raises
    ------
    IndexError
        A rank is not below the number of valid items.
    """
    wanted = np.atleast_1d(np.asarray(ranks, np.int64))

    def ranks_of(valid: int, nans: int) -> np.ndarray:
        if nans > 0 and not skip_nan:
            return wanted[:0]
        if wanted.size > 0 and not 0 <= wanted.min() <= wanted.max() < valid:
            raise IndexError(f"ranks from {wanted.min()} to {wanted.max()} of {valid} items")
        return wanted

    plain = array.array if isinstance(array, Input) else array
    (found,) = select(plain, tuple(range(plain.ndim)), ranks_of, threads=threads, progress=progress)
    return found.values, found.valid, found.nans


def select(
    array: np.ndarray,
    axes: tuple[int, ...],
    ranks: Ranks,
    *,
    threads: int | None = None,
    progress: Progress = None,
    nbytes: int = BLOCK_NBYTES,
) -> list[LaneOrder]:
    """Give order statistics of all lanes of an array: those along `axes`, in the order of the other axes.

    All lanes are searched at the same time, by the same passes; they should be no more than `most_lanes`.

    Notes
    -----
    Cost: two passes in most cases; one for items of 1 or 2 bytes or few different integers; never more than two and
    half as many as an item has bytes. Memory is bounded whatever the items are.
    """
    lanes = _Lanes(array, axes, threads, nbytes)
    search = _count_all if array.dtype.itemsize <= 2 else _search
    with reported(progress, array.nbytes, "selecting") as advance:
        lanes.progress = _Passes(advance, array.nbytes)
        found = search(lanes, ranks)
        lanes.progress.end()
    return found


class _Passes:
    """The progress of passes whose number nobody knows: each takes half of what is left."""

    def __init__(self, advance: Callable[[int], None], nbytes: int) -> None:
        self._advance = advance
        self._left = nbytes

    def begin(self) -> Callable[[int, int], None]:
        share, done = self._left // 2, 0

        def show(nbytes: int, total: int) -> None:
            nonlocal done
            now = share * nbytes // max(total, 1)
            self._advance(now - done)
            self._left -= now - done
            done = now

        return show

    def end(self) -> None:
        self._advance(self._left)


class _Lanes:
    """The lanes of an array, read block by block."""

    def __init__(self, array: np.ndarray, axes: tuple[int, ...], threads: int | None, nbytes: int) -> None:
        self.dtype = array.dtype.newbyteorder("=")
        self.threads = threads_of(threads)
        kept = tuple(axis for axis in range(array.ndim) if axis not in axes)
        self._order = kept + axes
        self.count = int(np.prod([array.shape[axis] for axis in kept], dtype=np.int64))
        self.items = array.size // self.count
        self._input = Input(array)
        self._array = array
        self._along = [axis for axis in memory_order(array) if axis in axes]
        self._blocks = self._cut(min(nbytes, max(COPIES_NBYTES // self.threads, 1 << 16)))
        self._asked = threads
        self.progress: _Passes

    def _cut(self, nbytes: int) -> Blocks:
        """Blocks that have some items of every lane."""
        across = [axis for axis in memory_order(self._array) if axis not in self._along]
        items = max(nbytes // self.dtype.itemsize, self.count)
        return Blocks(self._array.shape, (*self._along, *across), items)

    def _rows(self, block: Block) -> np.ndarray:
        part = self._input.read(block)
        if self.count == 1:
            return part.ravel(order="K").reshape(1, -1)  # any order will do
        return part.transpose(self._order).reshape(self.count, -1)

    def _plain(self, row: np.ndarray) -> np.ndarray:
        return np.require(row, self.dtype, ["C", "A"])

    def each(self, use: Callable[[int, np.ndarray, Any], None], tables: _Tables | None = None) -> None:
        """Make a pass: call `use(lane, values, table)` for each lane of each block."""

        def work(block: Block) -> None:
            rows = self._rows(block)
            if tables is None:
                for lane in range(self.count):
                    use(lane, self._plain(rows[lane]), None)
            else:
                with tables.borrowed(rows.shape[1]) as table:
                    for lane in range(self.count):
                        use(lane, self._plain(rows[lane]), table[lane])
            self._input.check(block)

        run(
            work,
            self._blocks,
            lambda _block, _result: None,
            threads=self._asked,
            progress=self.progress.begin(),
            nbytes=self._array.nbytes,
        )

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest of some items of each lane; NaN if they all are."""
        blocks = self._cut(SAMPLE_NBYTES)
        found = []
        for index in np.unique(np.linspace(0, len(blocks) - 1, SAMPLES).astype(np.int64)):
            rows = self._rows(blocks[int(index)])
            found.append((np.fmin.reduce(rows, axis=1), np.fmax.reduce(rows, axis=1)))
            self._input.check(blocks[int(index)])
        lows, highs = zip(*found, strict=True)
        return np.fmin.reduce(lows).astype(self.dtype), np.fmax.reduce(highs).astype(self.dtype)


@dataclass
class _Own:
    """The tables of one thread."""

    tables: list[np.ndarray]
    items: int = 0  # counted in them


class _Tables:
    """Tables that several threads count in: each has its own, and their sum is the count.

    Parameters
    ----------
    shapes : list of tuple
        Of each lane's table.
    dtype : dtype
        Of the counters.
    """

    def __init__(self, shapes: list[tuple[int, ...]], dtype: type = np.uint32) -> None:
        self._shapes = shapes
        self._dtype = dtype
        self._most = np.iinfo(dtype).max
        self._lock = threading.Lock()
        self._free: list[_Own] = []
        self._totals: list[np.ndarray] | None = None

    @contextmanager
    def borrowed(self, items: int) -> Iterator[list[np.ndarray]]:
        """Tables for one thread, with room for so many items more in each counter."""
        with self._lock:
            mine = self._free.pop() if self._free else _Own([np.zeros(shape, self._dtype) for shape in self._shapes])
            if mine.items + items > self._most:
                self._add(mine.tables)
                mine.items = 0
        mine.items += items
        yield mine.tables
        with self._lock:
            self._free.append(mine)

    def _add(self, tables: list[np.ndarray]) -> None:
        if self._totals is None:
            self._totals = [np.zeros(shape, np.int64) for shape in self._shapes]
        for total, table in zip(self._totals, tables, strict=True):
            total += table
            table[...] = 0

    def totals(self) -> list[np.ndarray]:
        for mine in self._free:
            self._add(mine.tables)
        self._free = []
        assert self._totals is not None  # there was a block
        return self._totals


def _count_all(lanes: _Lanes, ranks: Ranks) -> list[LaneOrder]:
    """Of values of one or two bytes: there are so few that all are counted."""
    bits = np.dtype(f"u{lanes.dtype.itemsize}")
    patterns = np.arange(1 << 8 * bits.itemsize, dtype=bits)
    values = patterns.astype(bool) if lanes.dtype.kind == "b" else patterns.view(lanes.dtype)
    order = np.argsort(values, kind="stable")  # NaN last
    values = values[order]
    numbers = patterns.size - int(np.count_nonzero(np.isnan(values))) if values.dtype.kind == "f" else patterns.size
    tables = _Tables([(patterns.size,)] * lanes.count, np.int64)
    lanes.each(lambda _lane, items, table: tally(items.view(bits), table), tables)
    found = []
    for counts in tables.totals():
        ends = np.cumsum(counts[order])
        valid = int(ends[numbers - 1])
        nans = lanes.items - valid
        places = np.searchsorted(ends, ranks(valid, nans), side="right")
        found.append(LaneOrder(values[places], valid, nans))
    return found


def _keys_of(values: np.ndarray) -> np.ndarray:
    """The keys of a few values that are not NaN, as int64: see select.h."""
    keys = values.view(f"i{values.dtype.itemsize}")
    if values.dtype.kind == "f":
        keys = np.where(keys < 0, keys ^ np.iinfo(keys.dtype).max, keys)
    elif values.dtype.kind == "u":
        keys = keys ^ np.iinfo(keys.dtype).min
    return keys.astype(np.int64)


def _values_of(keys: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The values that have those keys."""
    bits = keys.astype(f"i{dtype.itemsize}")
    if dtype.kind == "f":
        bits = np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)
    elif dtype.kind == "u":
        bits = bits ^ np.iinfo(bits.dtype).min
    return bits.view(dtype)


@dataclass
class _Range:
    """Keys among which some wanted ones are."""

    low: int
    high: int  # included
    below: int  # valid items with smaller keys
    inside: int


@dataclass
class _Digits:
    """How the keys of a range are told apart: 2**bits digits of 2**shift keys each, from `low` on."""

    low: int
    shift: int


class _Lane:
    """The search for the order statistics of one lane."""

    def __init__(self, lanes: _Lanes) -> None:
        self._dtype = lanes.dtype
        least = np.iinfo(f"i{lanes.dtype.itemsize}")
        self._all = _Range(least.min, least.max, 0, 0)
        self.nans = 0
        self.valid = 0
        self.ranges: list[_Range] = []
        self._ranks = np.empty(0, np.int64)
        self._keys = np.empty(0, np.int64)

    def window(self, smallest: Any, largest: Any, bits: int) -> _Digits:
        """Digits for the first pass, from where most values lie."""
        if np.isnan(smallest):  # nothing is known
            return _Digits(self._all.low, 8 * self._dtype.itemsize - bits)
        low, high = (int(key) for key in _keys_of(np.array([smallest, largest], self._dtype)))
        return _Digits(low, max((high - low).bit_length() - bits, 0))

    def begin(self, digits: _Digits, counts: np.ndarray, nans: int, items: int, ranks: Ranks) -> None:
        self.nans, self.valid = nans, items - nans
        self._ranks = ranks(self.valid, nans)
        self._keys = np.zeros(self._ranks.size, np.int64)
        self._all.inside = self.valid
        self.ranges = [self._all] if self._ranks.size else []
        self.narrow([digits], counts[None])

    def digits(self, bits: int) -> list[_Digits]:
        return [_Digits(one.low, max((one.high - one.low).bit_length() - bits, 0)) for one in self.ranges]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([r.low for r in self.ranges], np.int64), np.array([r.high for r in self.ranges], np.int64)

    def narrow(self, digits: list[_Digits], counts: np.ndarray) -> None:
        """Go on with those digits of each range that have something wanted."""
        narrower: list[_Range] = []
        for one, how, count in zip(self.ranges, digits, counts, strict=False):
            narrower += self._parts(one, how, count)
        self.ranges = narrower

    def _mine(self, one: _Range) -> slice:
        first, last = np.searchsorted(self._ranks, [one.below, one.below + one.inside])
        return slice(first, last)

    def _parts(self, one: _Range, how: _Digits, counts: np.ndarray) -> Iterator[_Range]:
        ends = np.cumsum(counts)
        if ends[-1] != one.inside:
            raise _changed()
        wanted = self._ranks[self._mine(one)] - one.below
        for digit in np.unique(np.searchsorted(ends, wanted, side="right")).tolist():
            low = one.low if digit == 0 else how.low + (digit << how.shift)
            high = one.high if digit == len(counts) - 1 else min(how.low + ((digit + 1) << how.shift) - 1, one.high)
            inside = int(counts[digit])
            part = _Range(low, high, one.below + int(ends[digit]) - inside, inside)
            if low == high:
                self._keys[self._mine(part)] = low
            else:
                yield part

    def settle(self, found: np.ndarray) -> None:
        """Find the rest among the keys of all ranges."""
        before = 0
        for one in self.ranges:  # which are ascending
            mine = self._mine(one)
            self._keys[mine] = self._ranks[mine] - one.below + before
            before += one.inside
        places = np.concatenate([self._keys[self._mine(one)] for one in self.ranges])
        found.partition(np.unique(places))
        for one in self.ranges:
            mine = self._mine(one)
            self._keys[mine] = found[self._keys[mine]]
        self.ranges = []

    def result(self) -> LaneOrder:
        return LaneOrder(_values_of(self._keys, self._dtype), self.valid, self.nans)


def _changed() -> RuntimeError:
    return RuntimeError("the items changed while their order statistics were computed. Nothing was changed by that.")


def _search(lanes: _Lanes, ranks: Ranks) -> list[LaneOrder]:
    """Of values of 4 or 8 bytes."""
    found = _count_first(lanes, ranks)
    while (inside := sum(one.inside for lane in found for one in lane.ranges)) > 0:
        if inside * lanes.dtype.itemsize <= COLLECTED_NBYTES:
            _collect(lanes, found)
        else:
            _count_next(lanes, found)
    return [lane.result() for lane in found]


def _affordable_bits(lanes: _Lanes, tables: int, most: int) -> int:
    """Of a digit, so that so many tables for each thread and their sums are not too large."""
    room = TABLES_NBYTES // (tables * (4 * lanes.threads + 8))
    return max(min(room.bit_length() - 1, most), 1)


def _count_first(lanes: _Lanes, ranks: Ranks) -> list[_Lane]:
    found = [_Lane(lanes) for _ in range(lanes.count)]
    smallest, largest = lanes.sample()
    copies = 2 if lanes.count == 1 else 1
    bits = _affordable_bits(lanes, lanes.count * copies, FIRST_BITS)
    digits = [lane.window(low, high, bits) for lane, low, high in zip(found, smallest, largest, strict=True)]
    if lanes.count == 1 and 0 < digits[0].shift <= MOST_BITS - bits:
        # So few integers that they can all be told apart.
        bits += digits[0].shift
        digits[0].shift = 0
    tables = _Tables([(copies, 1 << bits)] * lanes.count)
    nans = [0] * lanes.count
    lock = threading.Lock()

    def count(lane: int, values: np.ndarray, table: Any) -> None:
        missing = count_digits(values, digits[lane].low, digits[lane].shift, table)
        if missing:
            with lock:
                nans[lane] += missing

    lanes.each(count, tables)
    for lane, how, counts, missing in zip(found, digits, tables.totals(), nans, strict=True):
        lane.begin(how, counts.sum(axis=0), missing, lanes.items, ranks)
    return found


def _count_next(lanes: _Lanes, found: list[_Lane]) -> None:
    bits = _affordable_bits(lanes, sum(len(lane.ranges) for lane in found), MOST_BITS)
    digits = [lane.digits(bits) for lane in found]
    shifts = [np.array([how.shift for how in one], np.int64) for one in digits]
    bounds = [lane.bounds() for lane in found]
    tables = _Tables([(len(lane.ranges), 1 << bits) for lane in found])

    def count(lane: int, values: np.ndarray, table: Any) -> None:
        if shifts[lane].size:
            count_within(values, *bounds[lane], shifts[lane], table)

    lanes.each(count, tables)
    for lane, how, counts in zip(found, digits, tables.totals(), strict=True):
        lane.narrow(how, counts)


def _collect(lanes: _Lanes, found: list[_Lane]) -> None:
    key = np.dtype(f"i{lanes.dtype.itemsize}")
    keys = [np.empty(sum(one.inside for one in lane.ranges), key) for lane in found]
    places = [np.zeros(1, np.int64) for _ in found]
    bounds = [lane.bounds() for lane in found]

    def collect(lane: int, values: np.ndarray, _table: Any) -> None:
        if keys[lane].size:
            collect_within(values, *bounds[lane], keys[lane], places[lane])

    lanes.each(collect)
    for lane, mine, place in zip(found, keys, places, strict=True):
        if place[0] != mine.size:
            raise _changed()
        if mine.size:
            lane.settle(mine)
