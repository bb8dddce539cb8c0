"""Which rows each batch has. Knows indices, not the arrays that they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase
from ndfile.errors import LayoutError
from ndfile.shuffle import Shuffle

if TYPE_CHECKING:
    from typing import Self, TypeAlias

    Chosen: TypeAlias = range | np.ndarray

__all__ = ["Given", "Items", "Order"]

# Rows are worked out for so many items at a time: it then costs little for each, and little memory.
MOST_ITEMS = 8192

# An index may be a mapped array too. So many of its items are looked at at once.
MOST_CHECKED = 1 << 20


class Items:
    """What an index chooses from: so many items, in words too, for errors.

    Parameters
    ----------
    count : int
    words : str
        Such as "1000 rows".
    """

    def __init__(self, count: int, words: str) -> None:
        self.count = count
        self.words = words

    def rows(self, index: np.ndarray) -> np.ndarray:
        """An index as a new array of int64 from 0 on. IndexError if one of them is out of bounds."""
        least = self.least(index)
        rows = np.array(index, np.int64, subok=False)
        if least < 0:
            rows[rows < 0] += self.count
        return rows

    def least(self, index: np.ndarray | range) -> int:
        """The smallest number of an index. IndexError if one is out of bounds."""
        if not len(index):
            return 0
        if isinstance(index, range):
            least, most = sorted((index[0], index[-1]))
        else:
            least, most = int(index.min()), int(index.max())
        if least < -self.count or most >= self.count:
            raise IndexError(
                f"batches: index {most if most >= self.count else least} is out of bounds for {self.words}. "
                "Nothing was read. "
                + (f"Pass numbers from {-self.count} to {self.count - 1}." if self.count else "Pass an empty index.")
            )
        return least


def _chosen(index: Any, items: Items) -> Chosen:
    """An index as a range, or as an array of integers within bounds."""
    if index is None:
        return range(items.count)
    if isinstance(index, slice):
        return range(*index.indices(items.count))
    if isinstance(index, range):
        items.least(index)
        return index
    if isinstance(index, Iterator):
        raise TypeError("batches: index is an iterator. Pass an array, or batch_size=None if it gives whole batches.")
    array = _as_index(index)
    if array.dtype == bool:
        if len(array) != items.count:
            raise IndexError(
                f"batches: the mask has {len(array)} items for {items.words}. Nothing was read. "
                f"Pass a mask of shape ({items.count},)."
            )
        return np.flatnonzero(array)
    for start in range(0, len(array), MOST_CHECKED):
        items.least(array[start : start + MOST_CHECKED])
    return array


def _as_index(index: Any) -> np.ndarray:
    """An array of one axis of integers, or of bool; not copied."""
    try:
        array = index if isinstance(index, ArrayBase) else np.asarray(index)
        problem = None if array.ndim == 1 else f"has shape {array.shape}"
    except ValueError:
        problem = "is a list of unequal lists"
    if problem is not None:
        raise LayoutError(
            f"batches: index {problem}, it must have one axis",
            "Pass one number for each item, or batch_size=None for an iterable of whole batches.",
        )
    if array.dtype.kind not in "iub":
        if not array.size:
            return np.empty(0, np.int64)  # an empty list is one of floats to NumPy
        raise IndexError(
            f"batches: index is of dtype {array.dtype}. Nothing was read. Pass integers, or a mask of bool."
        )
    return array


class Order:
    """The rows of each batch, from its number alone: it can start anywhere, at once.

    Parameters
    ----------
    index : None, slice, range, or array_like of integers or bool
    items : Items
    batch_size : int
    epochs : int or None
    seed : int or None
    drop_last : bool
    start : int
        The number of the batch that comes first, over all epochs.

    Attributes
    ----------
    total : int or None
        Batches of all epochs; None if there is no end.
    """

    def __init__(
        self,
        index: Any,
        items: Items,
        batch_size: int,
        *,
        epochs: int | None,
        seed: int | None,
        drop_last: bool,
        start: int,
    ) -> None:
        self._items = items
        self._index = _chosen(index, items)
        self._batch_size = batch_size
        count = len(self._index)
        self._shuffle = None if seed is None else Shuffle(count, seed)
        self._per_epoch = count // batch_size if drop_last else -(-count // batch_size)
        self._used = min(self._per_epoch * batch_size, count)
        if epochs is None and not self._per_epoch:
            raise LayoutError(
                f"batches: epochs=None asks for batches without end, and {count} items give none of {batch_size}",
                "Pass a number of epochs, or more items.",
            )
        self.total = None if epochs is None else epochs * self._per_epoch
        if self.total is not None and start > self.total:
            raise LayoutError(
                f"batches: start={start} is past the end, there are {self.total} batches in all",
                "Pass the position of an iteration with the same arguments, or more epochs.",
            )
        self._number = start
        self._rows, self._first, self._end = np.empty(0, np.int64), start, start

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> np.ndarray:
        number = self._number
        if number >= self._end:
            if number == self.total:
                raise StopIteration
            self._work_out(number)
        begin = (number - self._first) * self._batch_size
        self._number = number + 1
        return self._rows[begin : begin + self._batch_size]

    def _work_out(self, number: int) -> None:
        """Work out the rows of a batch and of some that come after it in the same epoch."""
        epoch, within = divmod(number, self._per_epoch)
        count = min(max(MOST_ITEMS // self._batch_size, 1), self._per_epoch - within)
        begin = within * self._batch_size
        # What was checked in the beginning is checked again, as its array may have changed.
        self._rows = self._items.rows(self._at(begin, min(begin + count * self._batch_size, self._used), epoch))
        self._first, self._end = number, number + count

    def _at(self, begin: int, end: int, epoch: int) -> np.ndarray:
        """What the index has at some positions of an epoch."""
        index = self._index
        if self._shuffle is None and isinstance(index, np.ndarray):
            return index[begin:end]
        positions = np.arange(begin, end, dtype=np.int64)
        if self._shuffle is not None:
            positions = self._shuffle.permute(positions, epoch)
        if isinstance(index, np.ndarray):
            return index[positions]
        if len(index) > 1:  # the step of a shorter one may be any number
            positions *= index.step
        positions += index.start
        return positions


class Given:
    """The rows of each batch, from an iterable of batches.

    Parameters
    ----------
    batches : iterable of array_like of integers
        Iterated once for each epoch.
    items : Items
    epochs : int or None
    start : int
        So many are taken and left out first.
    most : int or None
        Rows that a batch may have; None for any number.

    Attributes
    ----------
    total : int or None
        Batches of all epochs; None if it cannot be told.
    """

    def __init__(self, batches: Any, items: Items, *, epochs: int | None, start: int, most: int | None) -> None:
        if not isinstance(batches, Iterable):
            raise TypeError(f"batches: with batch_size=None, index must be an iterable of batches, not {batches!r}")
        if isinstance(batches, Iterator) and epochs != 1:
            raise LayoutError(
                f"batches: index is an iterator, which gives its batches once, and epochs={epochs}",
                "Pass something that can be iterated again, such as a list or a sampler.",
            )
        self._batches = batches
        self._items = items
        self._epochs = epochs
        self._most = most
        self._left_out = start
        self.total = len(batches) * epochs if isinstance(batches, Sized) and epochs is not None else None
        self._epoch = 0
        self._current: Iterator[Any] | None = None
        self._is_empty = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> np.ndarray:
        while self._left_out:
            self._next()
            self._left_out -= 1
        given = self._next()
        index = _as_index(given)
        if index.dtype == bool:
            raise IndexError("batches: a batch of index is a mask. Nothing was read. Pass the numbers of its rows.")
        if self._most is not None and len(index) > self._most:
            raise LayoutError(
                f"batches: a batch of index has {len(index)} rows, and out has room for {self._most}",
                "Pass an out for the largest batch.",
            )
        return self._items.rows(index)

    def _next(self) -> Any:
        while True:
            if self._current is None:
                if self._epoch == self._epochs:
                    raise StopIteration
                self._current = iter(self._batches)
                self._is_empty = True
            for given in self._current:
                self._is_empty = False
                return given
            self._current = None
            self._epoch += 1
            if self._is_empty:  # and will be again, for ever perhaps
                self._epochs = self._epoch
