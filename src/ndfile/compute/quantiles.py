"""Exact quantiles in bounded memory: `median`, `percentile`, `quantile`, and those that skip NaN.

Few long lanes are searched (see `selection`); many short ones are given to NumPy, a block of lanes at a time.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ndfile._core import ArrayBase
from ndfile.compute.arguments import NO_VALUE, given
from ndfile.compute.blocks import BLOCK_NBYTES, Blocks, Input, memory_order, shape_of
from ndfile.compute.quantile_methods import interpolated, is_discrete, places
from ndfile.compute.running import run
from ndfile.compute.selection import COPIES_NBYTES, LaneOrder, can_select, most_lanes, select, threads_of
from ndfile.progress import reported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ndfile.compute.blocks import Block
    from ndfile.progress import Progress

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]

# A lane that fits so many times in what a thread may copy is left to NumPy, with others.
LANES_IN_COPY = 4
# What NumPy makes for each quantile of each lane, results included.
RESULT_NBYTES = 64


def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,  # noqa: ARG001 # the file is never changed
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute quantiles as `numpy.quantile` does, exactly and in bounded memory.

    The array is never changed, with `overwrite_input` neither.

    Parameters
    ----------
    a : numpy.ndarray
        On a file or in memory: booleans, integers or floats of up to 8 bytes.
    q : array_like of float
        From 0 to 1.
    axis, out, method, keepdims
        As in NumPy.
    overwrite_input : bool
        Without effect.
    weights : None
        Others are left to NumPy.
    progress : None, bool or callable
        Bytes done, of the array's; each pass is half of what is left.
    threads : int, optional
        As many as there are processors, by default.

    Returns
    -------
    scalar or numpy.ndarray
        Of NumPy's dtype and shape. NotImplemented for what is left to NumPy.

    Raises
    ------
    FaultError
        Items were lost meanwhile.
    RuntimeError
        Items changed meanwhile, so there is no answer.

    Notes
    -----
    Cost: two reads of the array in most cases, one for items of 1 or 2 bytes; memory up to 32 MiB, and the result.
    Many short lanes: one read, and a copy of a block at a time.
    Platforms: all.
    Threads: the result does not depend on their number.
    Places among more items than the dtype of `q` can count (float32: 2**24) are computed in float64; NumPy rounds them.

    Examples
    --------
    >>> import numpy as np
    >>> from ndfile.compute.quantiles import quantile
    >>> quantile(np.arange(101.0), [0.25, 0.999])
    array([25. , 99.9])
    """
    return _of(a, _Quantiles.of(q, method, weights), axis, out, keepdims, False, progress, threads)


def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,  # noqa: ARG001 # the file is never changed
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute percentiles as `numpy.percentile` does, exactly and in bounded memory: `quantile` of q / 100.

    Examples
    --------
    >>> import numpy as np
    >>> from ndfile.compute.quantiles import percentile
    >>> percentile(np.arange(101, dtype=np.uint8), 50)
    np.float64(50.0)
    """
    return _of(a, _Quantiles.of(q, method, weights, 100), axis, out, keepdims, False, progress, threads)


def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,  # noqa: ARG001 # the file is never changed
    method: str = "linear",
    keepdims: Any = NO_VALUE,
    *,
    weights: Any = None,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute quantiles of what is not NaN, as `numpy.nanquantile` does; otherwise like `quantile`."""
    return _of(a, _Quantiles.of(q, method, weights), axis, out, keepdims, True, progress, threads)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,  # noqa: ARG001 # the file is never changed
    method: str = "linear",
    keepdims: Any = NO_VALUE,
    *,
    weights: Any = None,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute percentiles of what is not NaN, as `numpy.nanpercentile` does; otherwise like `quantile`."""
    return _of(a, _Quantiles.of(q, method, weights, 100), axis, out, keepdims, True, progress, threads)


def median(
    a: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,  # noqa: ARG001 # the file is never changed
    keepdims: Any = False,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute the median as `numpy.median` does, exactly and in bounded memory; see `quantile`.

    Examples
    --------
    >>> import numpy as np
    >>> from ndfile.compute.quantiles import median
    >>> median(np.array([[7, 2], [4, 1]]), axis=0)
    array([5.5, 1.5])
    """
    return _of(a, _Median(), axis, out, keepdims, False, progress, threads)


def nanmedian(
    a: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,  # noqa: ARG001 # the file is never changed
    keepdims: Any = NO_VALUE,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute the median of what is not NaN, as `numpy.nanmedian` does; otherwise like `median`."""
    return _of(a, _Median(), axis, out, keepdims, True, progress, threads)


@dataclass(frozen=True)
class _Quantiles:
    """Quantiles of lanes: what is asked, and what comes of order statistics."""

    q: np.ndarray
    is_weak: bool  # a Python number, which leaves the result the dtype of the items
    method: str

    @classmethod
    def of(cls, q: Any, method: str, weights: Any, whole: int = 1) -> _Quantiles | None:
        """None where NumPy should do it, or say what is wrong."""
        if weights is not None or not isinstance(method, str):
            return None
        try:
            given = np.asanyarray(q) if whole == 1 else np.asanyarray(np.true_divide(q, whole))
        except (TypeError, ValueError):
            return None
        if type(given) is not np.ndarray or given.size == 0 or given.ndim > 2 or given.dtype.char not in "efdgl":
            return None
        return cls(given, type(q) in (int, float), method)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.q.shape

    def is_for(self, out: np.dtype[Any], items: np.dtype[Any], usual: np.dtype[Any]) -> bool:
        """Whether NumPy writes the result into arrays of that dtype."""
        return out == items if is_discrete(self.q, self.method) else np.can_cast(usual, out, "same_kind")

    def ranks(self, n: int) -> np.ndarray:
        found = places(n, self.q, self.method)
        return np.unique(np.concatenate([found.previous.ravel(), found.next.ravel()]))

    def of_ranks(self, values: np.ndarray, n: int, has_nan: Any, out: np.ndarray | None = None) -> Any:
        """From the values at `ranks(n)`, by their first axis; the others are those of the lanes."""
        found = places(n, self.q, self.method)
        ranks = self.ranks(n)
        previous, following = (np.searchsorted(ranks, place) for place in (found.previous, found.next))
        result: Any
        if found.gamma is None:
            result = np.take(values, previous, axis=0, out=out)
        else:
            lanes = (1,) * (values.ndim - 1)
            gamma = float(found.gamma) if self.is_weak else found.gamma.reshape(self.shape + lanes)
            result = interpolated(values[previous], values[following], gamma, out)
        if np.any(has_nan):
            if result.ndim == 0 and out is None:
                return values.dtype.type(np.nan)
            np.copyto(result, values.dtype.type(np.nan), where=has_nan)
        return result

    def of_lanes(self, lanes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """By NumPy, which may change the lanes: those along the last axis."""
        q = self.q.item() if self.is_weak else self.q
        return np.asanyarray(np.quantile(lanes, q, axis=-1, out=out, overwrite_input=True, method=self.method))  # type: ignore[call-overload]


class _Median:
    """Medians of lanes."""

    shape: tuple[int, ...] = ()

    def is_for(self, out: np.dtype[Any], _items: np.dtype[Any], usual: np.dtype[Any]) -> bool:
        return np.can_cast(usual, out, "same_kind")

    def ranks(self, n: int) -> np.ndarray:
        return np.arange((n - 1) // 2, n // 2 + 1)

    def of_ranks(self, values: np.ndarray, _n: int, has_nan: Any, out: np.ndarray | None = None) -> Any:
        result = np.mean(values, axis=0, out=out)
        if np.any(has_nan) and isinstance(result, np.ndarray):
            np.copyto(result, values.dtype.type(np.nan), where=has_nan)
        return result

    def of_lanes(self, lanes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.asanyarray(np.median(lanes, axis=-1, out=out, overwrite_input=True))


@dataclass(frozen=True)
class _Task:
    """One call, its arguments checked."""

    array: np.ndarray
    statistic: _Quantiles | _Median
    axes: tuple[int, ...]
    kept: tuple[int, ...]
    out: np.ndarray | None  # without the axes of length 1 that are kept
    usual: np.dtype[Any]  # of the result
    skip_nan: bool
    threads: int | None

    @property
    def lane_items(self) -> int:
        return math.prod(self.array.shape[axis] for axis in self.axes)

    @property
    def lanes_shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[axis] for axis in self.kept)

    def groups(self, lanes: int) -> Blocks:
        """Parts of the array with at most so many lanes each, all of them whole."""
        order = memory_order(self.array)
        slow = [axis for axis in order if axis in self.kept]
        fast = [axis for axis in order if axis in self.axes]
        return Blocks(self.array.shape, (*slow, *fast), max(lanes, 1) * self.lane_items)

    def place(self, group: Block) -> tuple[Any, ...]:
        """Where the results of a group's lanes belong."""
        return (..., *(group[axis] for axis in self.kept))


def _of(
    array: Any,
    statistic: _Quantiles | _Median | None,
    axis: Any,
    out: Any,
    keepdims: Any,
    skip_nan: bool,
    progress: Progress,
    threads: int | None,
) -> Any:
    if statistic is None or not (type(array) is np.ndarray or isinstance(array, ArrayBase)):
        return NotImplemented
    keeps = bool(given(keepdims, False))
    task = _checked(array, statistic, axis, out, keeps, skip_nan, threads)
    if task is None:
        return NotImplemented
    share = max(COPIES_NBYTES // threads_of(threads), 1 << 16)
    if not task.kept:
        result = _of_one_lane(task, progress)
    elif task.lane_items * array.itemsize * LANES_IN_COPY <= share:
        result = _by_blocks(task, share, progress)
    else:
        result = _by_selection(task, progress)
    if out is not None:
        return out
    if keeps:
        result = result[(..., *(np.newaxis if axis in task.axes else slice(None) for axis in range(array.ndim)))]
    return result


def _checked(
    array: np.ndarray, statistic: Any, axis: Any, out: Any, keeps: bool, skip_nan: bool, threads: int | None
) -> _Task | None:
    """None where NumPy should do it, or say what is wrong: before anything is read."""
    if not can_select(array.dtype) or array.size == 0 or array.ndim == 0:
        return None
    try:
        axes = tuple(range(array.ndim)) if axis is None else normalize_axis_tuple(axis, array.ndim)
        # Where NaNs are skipped, NumPy takes the lanes one by one. It refuses here what it does not take.
        usual = statistic.of_lanes(np.ones(2 if skip_nan else (1, 2), array.dtype)).dtype
    except (TypeError, ValueError):
        return None
    if len(axes) == 0:
        return None
    axes = tuple(sorted(axes))
    kept = tuple(one for one in range(array.ndim) if one not in axes)
    if skip_nan and len(statistic.shape) > 1 and len(axes) > 1 and kept:
        return None  # NumPy has an order of the result's axes of its own here
    if out is not None:
        lengths = [
            1 if keeps and one in axes else array.shape[one] for one in range(array.ndim) if keeps or one in kept
        ]
        is_fit = isinstance(out, np.ndarray) and out.shape == (*statistic.shape, *lengths) and out.flags.writeable
        if not is_fit or not statistic.is_for(out.dtype, array.dtype, usual) or np.may_share_memory(array, out):
            return None
        if keeps:
            out = out[(..., *(0 if one in axes else slice(None) for one in range(array.ndim)))]
    return _Task(array, statistic, axes, kept, out, usual, skip_nan, threads)


def _wanted(task: _Task) -> Callable[[int, int], np.ndarray]:
    def ranks(valid: int, nans: int) -> np.ndarray:
        if valid == 0 or (nans > 0 and not task.skip_nan):
            return np.empty(0, np.int64)
        return task.statistic.ranks(valid)

    return ranks


def _warn_all_nan(lanes: int) -> None:
    for _ in range(lanes):
        warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=2)


def _nothing(task: _Task) -> Any:
    """What a lane of nothing but NaN gives where they are skipped."""
    return np.full(task.statistic.shape, np.nan, task.array.dtype)[()]


def _of_one_lane(task: _Task, progress: Progress) -> Any:
    (lane,) = select(task.array, task.axes, _wanted(task), threads=task.threads, progress=progress, nbytes=BLOCK_NBYTES)
    if not task.skip_nan:
        return _of_order(task, [lane], task.out, ())
    if lane.valid == 0:
        _warn_all_nan(1)
        result = _nothing(task)
    else:
        result = _of_valid(task, lane)
    if task.out is not None:
        task.out[...] = result
    return result


def _of_valid(task: _Task, lane: LaneOrder) -> Any:
    return task.statistic.of_ranks(lane.values.astype(task.array.dtype), lane.valid, False)


def _of_order(task: _Task, lanes: list[LaneOrder], out: np.ndarray | None, shape: tuple[int, ...]) -> Any:
    """The results of lanes of that shape, those with NaN included."""
    n = task.lane_items
    values = np.empty((len(task.statistic.ranks(n)), len(lanes)), task.array.dtype)
    for index, lane in enumerate(lanes):
        values[:, index] = lane.values if lane.nans == 0 else np.nan
    has_nan = np.array([lane.nans > 0 for lane in lanes]).reshape(shape)
    return task.statistic.of_ranks(values.reshape(-1, *shape), n, has_nan, out)


class _Results:
    """The results of many lanes, group by group, the first lane's first."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._shape = task.statistic.shape + task.lanes_shape
        self._array = task.out
        self.all_nan = 0

    def begin(self, is_first_all_nan: bool) -> None:
        """A first lane without numbers has the items' dtype, and NumPy gives it to all of them."""
        if self._array is None:
            is_items = is_first_all_nan and isinstance(self._task.statistic, _Quantiles)
            self._array = np.empty(self._shape, _nothing(self._task).dtype if is_items else self._task.usual)

    def put(self, group: Block, result: Any) -> None:
        assert self._array is not None  # begun
        place = self._array[self._task.place(group)]
        place[...] = result.reshape(place.shape)

    def whole(self) -> Any:
        _warn_all_nan(self.all_nan)
        return self._array


def _by_selection(task: _Task, progress: Progress) -> Any:
    results = _Results(task)
    with reported(progress, task.array.nbytes, "selecting") as advance:
        for group in task.groups(most_lanes(task.array.dtype, task.threads)):
            lanes = select(
                task.array[group],
                task.axes,
                _wanted(task),
                threads=task.threads,
                progress=_going_on(advance),
                nbytes=BLOCK_NBYTES,
            )
            results.begin(task.skip_nan and lanes[0].valid == 0)
            if task.skip_nan:
                results.all_nan += sum(lane.valid == 0 for lane in lanes)
                each = [_of_valid(task, lane) if lane.valid else _nothing(task) for lane in lanes]
                results.put(group, np.stack(each, axis=-1))
            else:
                part = None if task.out is None else task.out[task.place(group)]
                shape = tuple(shape_of(group)[axis] for axis in task.kept)
                result = _of_order(task, lanes, part, shape)
                if part is None:
                    results.put(group, result)
    return results.whole()


def _going_on(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A `progress` that moves on one that others move too."""
    before = 0

    def show(done: int, _total: int) -> None:
        nonlocal before
        advance(done - before)
        before = done

    return show


def _by_blocks(task: _Task, share: int, progress: Progress) -> Any:
    """Many lanes at a time by NumPy, from a copy that it may change."""
    source = Input(task.array)
    order = task.kept + task.axes
    items_nbytes = task.lane_items * task.array.itemsize * (3 if task.skip_nan else 1)
    lane_nbytes = items_nbytes + RESULT_NBYTES * math.prod(task.statistic.shape)
    results = _Results(task)
    native = task.array.dtype.newbyteorder("=")

    def work(block: Block) -> tuple[np.ndarray, int, bool]:
        part = source.read(block).transpose(order)
        lanes = np.array(part, native, order="C", copy=True, subok=False).reshape(-1, task.lane_items)
        source.check(block)
        if task.skip_nan and native.kind == "f":
            return _skipping(task, lanes)
        out = None if task.out is None else np.empty((*task.statistic.shape, len(lanes)), task.out.dtype)
        return task.statistic.of_lanes(lanes, out), 0, False

    def take(block: Block, found: tuple[np.ndarray, int, bool]) -> None:
        results.begin(found[2])
        results.all_nan += found[1]
        results.put(block, found[0])

    blocks = task.groups(share // lane_nbytes)
    run(work, blocks, take, threads=task.threads, progress=progress, nbytes=task.array.nbytes, label="selecting")
    return results.whole()


def _skipping(task: _Task, lanes: np.ndarray) -> tuple[np.ndarray, int, bool]:
    """Lanes without their NaNs: the results, how many have nothing else, and whether the first is one of these."""
    nans = np.count_nonzero(np.isnan(lanes), axis=1)
    if not nans.any():
        return task.statistic.of_lanes(lanes), 0, False
    lanes.sort(axis=1)  # NaNs come last
    result = np.empty((*task.statistic.shape, len(lanes)), task.usual)
    for valid, which in _by_number(lanes.shape[1] - nans):
        result[..., which] = task.statistic.of_lanes(lanes[which, :valid]) if valid else np.nan
    return result, int(np.count_nonzero(nans == lanes.shape[1])), bool(nans[0] == lanes.shape[1])


def _by_number(numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each number that occurs, and where."""
    order = np.argsort(numbers, kind="stable")
    found, begins = np.unique(numbers[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, begins[1:]), strict=True)
