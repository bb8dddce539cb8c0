"""Sorted runs, and their union cut into parts that fit in memory, each to be sorted by itself.

Runs are not merged item by item. Some items of each are taken as a sample, and the sample tells values between which so
many items lie as fit in a part. Where such a value lies in each run is found exactly. So a part is known by where it
begins and ends in each run, and by where it belongs in the whole: parts are independent, and any thread can do any.

Equal items are told apart by the run that they are in and by their place in it. So it does not matter how often a value
occurs, parts are never larger than they may be, and parts that are sorted by a stable sort are a stable sort of all.
"""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_RUNS", "Lane", "Runs", "Source", "batches", "fan_in"]

# Of so many at once: each gives a part only few KiB to be read.
MOST_RUNS = 1024

# Of all samples that are in memory at a time.
SAMPLE_NBYTES = 4 << 20

# It is cheaper to read all items between two of a sample than to read each of the sample alone.
NEAR_NBYTES = 16 << 10


class Source(Protocol):
    """Items that can be read from any place, in the machine's byte order."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    def read(self, start: int, items: np.ndarray, /) -> None: ...
    def write(self, start: int, items: np.ndarray, /) -> None: ...


class Lane:
    """The items of an array of one axis, as a source and a target.

    Parameters
    ----------
    array : numpy.ndarray
        On a file or in memory, in any byte order.
    dtype : numpy.dtype
        In which the items are given.
    """

    def __init__(self, array: np.ndarray, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._array = array

    def read(self, start: int, items: np.ndarray) -> None:
        items[...] = self._array[start : start + len(items)]

    def write(self, start: int, items: np.ndarray) -> None:
        self._array[start : start + len(items)] = items


class Runs(NamedTuple):
    """Sorted runs in one source.

    Attributes
    ----------
    source : Source
    starts, stops : numpy.ndarray
        int64: where each begins and ends.
    """

    source: Source
    starts: np.ndarray
    stops: np.ndarray

    @property
    def items(self) -> int:
        """How many there are in all."""
        return int((self.stops - self.starts).sum())

    def gather(self, source: Source | None = None) -> np.ndarray:
        """All items, run by run, of the same places in another source if one is given."""
        source = source or self.source
        found = np.empty(self.items, source.dtype)
        end = 0
        for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True):
            source.read(start, found[end : end + stop - start])
            end += stop - start
        return found

    def groups(self, count: int) -> list[Runs]:
        """So many runs to each, but for the last."""
        firsts = range(0, len(self.starts), count)
        return [Runs(self.source, self.starts[i : i + count], self.stops[i : i + count]) for i in firsts]

    def parts(self, most: int) -> Iterator[Runs]:
        """What has at most `most` items to each, the least items first."""
        if self.items <= most:
            if self.items:
                yield self
            return
        cuts = self._cuts(most)
        for low, high in pairwise([self.starts, *cuts, self.stops]):
            is_there = low < high
            yield from Runs(self.source, low[is_there], high[is_there]).parts(most)

    def _cuts(self, most: int) -> list[np.ndarray]:
        """Where each run is cut, so that what is between two cuts has at most `most` items, or far less than all."""
        count, items = len(self.starts), self.items
        most_samples = max(SAMPLE_NBYTES // self.source.dtype.itemsize, 16 * count)
        step = max(most // (4 * count), -(-items // most_samples), 1)
        most = most if step == 1 else max(most, 4 * count * step)
        # From one splitter to the next come so many of the sample with their steps, and of each run part of a step.
        between = max((most - count * (step - 1)) // step, 1)

        counts = (self.stops - self.starts) // step
        sample = np.empty(int(counts.sum()), self.source.dtype)
        end = 0
        for start, n in zip(self.starts.tolist(), counts.tolist(), strict=True):
            self._sample(start, step, sample[end : end + n])
            end += n
        order = np.argsort(sample, kind="stable")  # by value, then by run, then by place
        run_of = np.repeat(np.arange(count), counts)[order]
        before = np.zeros(count, np.int64)  # of each run's sample, those up to the splitter
        cuts = []
        for low in range(0, len(order) - between, between):
            before += np.bincount(run_of[low : low + between], minlength=count)
            last = low + between - 1
            cuts.append(self._cut(sample[order[last] : order[last] + 1], int(run_of[last]), before, step))
        return cuts

    def _sample(self, start: int, step: int, found: np.ndarray) -> None:
        """Every `step`-th item of a run, the last of each step."""
        if step * self.source.dtype.itemsize > NEAR_NBYTES:
            for index in range(len(found)):
                self.source.read(start + (index + 1) * step - 1, found[index : index + 1])
            return
        at_once = max((1 << 20) // (step * self.source.dtype.itemsize), 1)
        for low in range(0, len(found), at_once):
            part = found[low : low + at_once]
            items = np.empty(len(part) * step, self.source.dtype)
            self.source.read(start + low * step, items)
            part[...] = items[step - 1 :: step]

    def _cut(self, splitter: np.ndarray, its_run: int, before: np.ndarray, step: int) -> np.ndarray:
        """How far each run's items come before the splitter or are it, from what its sample tells."""
        found: np.ndarray = self.starts + before * step
        buffer = np.empty(step - 1, self.source.dtype)
        for run, (start, stop) in enumerate(zip(found.tolist(), self.stops.tolist(), strict=True)):
            if run == its_run:
                continue  # the splitter is the last of a step
            items = buffer[: stop - start]
            if len(items):
                self.source.read(start, items)
                found[run] += items.searchsorted(splitter, "right" if run < its_run else "left")[0]
        return found


def fan_in(count: int) -> list[int]:
    """How many runs are made one, each time until one is left: as seldom as can be, and evenly."""
    times = 1
    while MOST_RUNS**times < count:
        times += 1
    each = max(round(count ** (1 / times)), 2)
    while each**times < count:
        each += 1
    return [each] * times


def batches(parts: Iterator[Any], count: int = 64) -> Iterator[list[Any]]:
    """So many parts at a time: where each begins is known for these only."""
    while batch := list(islice(parts, count)):
        yield batch
