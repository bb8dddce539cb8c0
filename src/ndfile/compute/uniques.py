"""unique: the distinct items of an array that is larger than memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute.blocks import Input
from ndfile.compute.lanes import COUNTED_NBYTES, Place, check_threads, copy_of, flat, limited, native, places
from ndfile.compute.patterns import Patterns, can_be_counted
from ndfile.compute.running import run
from ndfile.compute.runs import Runs, batches, fan_in
from ndfile.compute.scratch import Scratch, folder_for
from ndfile.compute.sorting import checked_items, plain_of
from ndfile.progress import reported

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TypeAlias

    from ndfile.progress import Progress

    # Distinct items in sorted order, and how often each occurs, if that is wanted.
    Found: TypeAlias = tuple[np.ndarray, np.ndarray | None]

__all__ = ["unique"]

# Of the blocks, and of what is found in all of them while it is in memory.
BLOCK_NBYTES = 4 << 20

# More than that of one block is set aside at once.
FEW_NBYTES = 1 << 20

# Of the parts of what was set aside: beside each of its items there is a count, and a number for its place.
PART_NBYTES = 2 << 20

# By which an array in memory grows: the system moves it without a copy.
GROWTH_NBYTES = 16 << 20


def unique(
    a: Any,
    *,
    return_counts: bool = False,
    equal_nan: bool = True,
    tmp_dir: str | os.PathLike[str] | None = None,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Find the distinct items of an array that may be larger than memory, in sorted order.

    As `numpy.unique` of all items, within 64 MiB of memory beside the result. It gives no indices: `return_index`,
    `return_inverse` and `axis` are not taken.

    Parameters
    ----------
    a : array_like
        Of any dtype that NumPy sorts, but those that hold pointers (object, StringDType).
    return_counts : bool, default False
        Give how often each occurs, too.
    equal_nan : bool, default True
        Whether all NaNs (NaTs) are one item. Otherwise each is one of its own.
    tmp_dir : path, optional
        A folder for the temporary files, which are needed where there are more than 4 MiB of distinct items, and no
        larger than all blocks' distinct items together; while more than 1024 runs are made fewer, twice that. By
        default beside `a`, or the system's folder.
    progress : None, bool or callable
        True draws a bar; a callable is called with ``(done_nbytes, total_nbytes)`` of `a`.
    threads : int, optional
        By default as many as there are processors. The result does not depend on it.

    Returns
    -------
    values : numpy.ndarray
        1-D, of `a`'s dtype.
    counts : numpy.ndarray
        int64, where `return_counts` asks for them.

    Raises
    ------
    TypeError
        Items of this dtype cannot be sorted, or hold pointers.
    OSError
        There is no space for the temporary file.
    FaultError
        The file was cut meanwhile, or has failed.

    See Also
    --------
    sort, numpy.unique

    Notes
    -----
    Cost: one read of `a`; what is distinct in its blocks of 4 MiB is sorted together, by way of a temporary file if it
    is much. Items of one or two bytes are counted.

    Platforms: Linux.

    Threads: `a` must not change meanwhile. Up to 3 are used, so that memory stays within its bound.

    Examples
    --------
    >>> import ndfile as nf
    >>> nf.unique([3, 1, 3, 2])
    array([1, 2, 3])
    >>> nf.unique([3, 1, 3, 2], return_counts=True)
    (array([1, 2, 3]), array([1, 1, 2]))
    """
    a = plain_of(a)
    checked_items(a.dtype, "unique")
    folder = folder_for(tmp_dir, a)
    check_threads(threads)
    if a.nbytes == 0:
        found: Any = np.unique(np.asarray(a), return_counts=True)
    else:
        a = flat(a)
        with reported(progress, a.nbytes, "unique") as advance:
            found = _found(a, bool(return_counts), bool(equal_nan), folder, threads, advance)
    values, counts = found
    values = _in_order_of(values, a.dtype)
    return (values, counts) if return_counts else values


def _in_order_of(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """In the dtype of the input, without a second array."""
    if values.dtype == dtype:
        return values
    # Another width: of a type that has few values.
    return values.astype(dtype) if values.itemsize != dtype.itemsize else values.byteswap(inplace=True).view(dtype)


def _found(
    a: np.ndarray, has_counts: bool, equal_nan: bool, folder: str, threads: int | None, advance: Callable[[int], None]
) -> Found:
    if can_be_counted(a.dtype) and a.nbytes >= COUNTED_NBYTES:
        return _counted(a, equal_nan, threads, advance)
    with _Uniques(folder, native(a.dtype), has_counts, equal_nan, threads) as uniques:
        uniques.look_through(a, advance)
        return uniques.all()


# ---- Items in sorted order -> the distinct ones ----


def _distinct(items: np.ndarray, counts: np.ndarray | None, equal_nan: bool, has_counts: bool) -> Found:
    """The first of each that are equal; `counts` are those of the items, 1 each if there are none."""
    is_first = np.empty(len(items), np.bool_)
    is_first[:1] = True
    is_first[1:] = items[1:] != items[:-1]
    if equal_nan and items.dtype.kind in "cfmM" and len(items) and np.isnan(items[-1]):
        is_first[1:] &= ~(np.isnan(items[1:]) & np.isnan(items[:-1]))
    if not has_counts:
        return items if is_first.all() else items[is_first], None
    places = np.flatnonzero(is_first)
    found = items[places]
    if counts is None:
        return found, np.diff(places, append=len(items))
    return found, np.add.reduceat(counts, places) if len(places) else counts


def _sorted(items: np.ndarray, counts: np.ndarray | None, equal_nan: bool) -> Found:
    """The distinct ones of items in any order."""
    if counts is None:
        items.sort()
        return _distinct(items, None, equal_nan, False)
    order = np.argsort(items, kind="stable")
    return _distinct(items[order], counts[order], equal_nan, True)


def _cut(found: Found, start: int, stop: int | None) -> Found:
    values, counts = found
    return values[start:stop], None if counts is None else counts[start:stop]


def _joined(parts: list[Found]) -> Found:
    """One part behind the other."""
    counts = [counts for _, counts in parts if counts is not None]
    # By itself it would make the fields of items native.
    values = np.concatenate([values for values, _ in parts], dtype=parts[0][0].dtype)
    return values, np.concatenate(counts) if counts else None


def _counted(a: np.ndarray, equal_nan: bool, threads: int | None, advance: Callable[[int], None]) -> Found:
    """Those of an array of so short items that every value that is possible has a count."""
    patterns, source = Patterns(a.dtype), Input(a)

    def take(place: Place, counts: np.ndarray) -> None:
        patterns.add(counts)
        advance((place.stop - place.start) * a.itemsize)

    threads = limited(threads, 2 * COUNTED_NBYTES)
    run(lambda place: patterns.count(source, place.block), places(a, COUNTED_NBYTES), take, threads=threads)
    occurs = patterns.counts > 0
    found = patterns.values[occurs].astype(native(a.dtype)), patterns.counts[occurs]
    values, counts = _distinct(*found, equal_nan, True)
    is_own = values != values  # NaN
    if counts is None or equal_nan or not is_own.any():
        return values, counts
    times = np.where(is_own, counts, 1)
    return np.repeat(values, times), np.repeat(np.where(is_own, 1, counts), times)


# ---- What is found is kept ----


class _Growing:
    """An array in memory that grows at its end."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._array = np.empty(0, dtype)
        self._items = 0

    def append(self, items: np.ndarray) -> None:
        end = self._items + len(items)
        if end > len(self._array):
            self._array.resize(end + GROWTH_NBYTES // self._array.itemsize, refcheck=False)
        self._array[self._items : end] = items
        self._items = end

    def array(self) -> np.ndarray:
        self._array.resize(self._items, refcheck=False)
        return self._array


class _Aside:
    """Distinct items, and their counts if there are some, in temporary files: as many runs as come.

    Parameters
    ----------
    folder : str
    dtype : numpy.dtype
    has_counts : bool
    """

    def __init__(self, folder: str, dtype: np.dtype[Any], has_counts: bool) -> None:
        self._folder, self._dtype, self._has_counts = folder, dtype, has_counts
        self._lock = threading.Lock()
        self.values: Scratch | None = None
        self.counts: Scratch | None = None
        self.end = 0

    def put(self, found: Found) -> tuple[int, int]:
        """Set a run aside, from any thread. Gives where it begins and ends."""
        values, counts = found
        with self._lock:
            self.values = self.values or Scratch(self._folder, self._dtype)
            if self._has_counts:
                self.counts = self.counts or Scratch(self._folder, np.dtype(np.int64))
                self.counts.extend(len(values))
            start = self.values.extend(len(values))
            self.end = start + len(values)
        self.values.write(start, values)
        if self.counts is not None and counts is not None:
            self.counts.write(start, counts)
        return start, start + len(values)

    def close(self) -> None:
        for scratch in (self.values, self.counts):
            if scratch is not None:
                scratch.close()


class _Uniques:
    """Distinct items of blocks: in memory while they are few, otherwise as runs in a temporary file."""

    def __init__(
        self, folder: str, dtype: np.dtype[Any], has_counts: bool, equal_nan: bool, threads: int | None
    ) -> None:
        self._folder, self._dtype, self._has_counts, self._equal_nan = folder, dtype, has_counts, equal_nan
        self._threads = threads
        self._few: list[Found] = []
        self._few_nbytes = 0
        self._aside = self._another()
        self._runs: list[tuple[int, int]] = []

    def _another(self) -> _Aside:
        return _Aside(self._folder, self._dtype, self._has_counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._aside.close()

    def look_through(self, a: np.ndarray, advance: Callable[[int], None]) -> None:
        """Find the distinct items of each block."""
        source = Input(a)

        def work(place: Place) -> Found | tuple[int, int]:
            items = copy_of(source, place.block)
            items.sort()
            found = _distinct(items, None, self._equal_nan, self._has_counts)
            return self._aside.put(found) if found[0].nbytes > FEW_NBYTES else found

        def take(place: Place, found: Any) -> None:
            if isinstance(found[0], int):
                self._runs.append(found)
            else:
                self._keep(found)
            advance((place.stop - place.start) * a.itemsize)

        run(work, places(a, BLOCK_NBYTES), take, threads=limited(self._threads, 4 * BLOCK_NBYTES))

    def _keep(self, found: Found) -> None:
        self._few.append(found)
        self._few_nbytes += found[0].nbytes
        if self._few_nbytes > BLOCK_NBYTES:
            self._few = [_sorted(*_joined(self._few), self._equal_nan)]
            self._few_nbytes = self._few[0][0].nbytes
            if self._few_nbytes > BLOCK_NBYTES // 2:
                self._set_aside()

    def _set_aside(self) -> None:
        if self._few:
            self._runs.append(self._aside.put(_sorted(*_joined(self._few), self._equal_nan)))
            self._few, self._few_nbytes = [], 0

    def all(self) -> Found:
        """The distinct items of all blocks."""
        if not self._runs:
            return _sorted(*_joined(self._few), self._equal_nan)
        self._set_aside()
        fans = fan_in(len(self._runs))
        for fan in fans[:-1]:
            self._make_fewer(fan)
        values, counts = _Growing(self._dtype), _Growing(np.dtype(np.int64))

        def keep(found: Found) -> None:
            values.append(found[0])
            if found[1] is not None:
                counts.append(found[1])

        self._unite(self._as_runs(), keep)
        return values.array(), counts.array()

    def _as_runs(self) -> Runs:
        assert self._aside.values is not None
        starts, stops = np.array(self._runs, np.int64).T
        return Runs(self._aside.values, starts, stops)

    def _make_fewer(self, fan: int) -> None:
        """Of so many runs one, in new files."""
        longer, runs = self._another(), []
        try:
            for group in self._as_runs().groups(fan):
                start = longer.end
                self._unite(group, longer.put)
                runs.append((start, longer.end))
        except BaseException:
            longer.close()
            raise
        self._aside.close()
        self._aside, self._runs = longer, runs

    def _unite(self, runs: Runs, put: Callable[[Found], object]) -> None:
        """Give the distinct items of all runs, in pieces."""
        counts_of = self._aside.counts
        last: list[Found] = []

        def work(part: Runs) -> Found:
            return _sorted(part.gather(), None if counts_of is None else part.gather(counts_of), self._equal_nan)

        def take(_part: Runs, found: Found) -> None:
            # Equal items may be in two parts: the last of one waits for the first of the next.
            if last:
                both = _distinct(*_joined([*last, _cut(found, 0, 1)]), self._equal_nan, self._has_counts)
                found[0][:1] = both[0][-1:]
                if found[1] is not None and both[1] is not None:
                    found[1][:1] = both[1][-1:]
                if len(both[0]) > 1:
                    put(last[0])
            values, counts = _cut(found, -1, None)
            last[:] = [(values.copy(), None if counts is None else counts.copy())]
            put(_cut(found, 0, -1))

        threads = limited(self._threads, 8 * PART_NBYTES)
        for batch in batches(runs.parts(max(PART_NBYTES // self._dtype.itemsize, 1))):
            run(work, batch, take, threads=threads)
        put(last[0])
