"""Sums and means: each block's total with what its rounding has lost, so that many blocks lose no more than one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute import kernels
from ndfile.compute.arguments import NO_VALUE, Request
from ndfile.compute.reducing import reduce
from ndfile.compute.warned import LeftToNumPy, warn_of

if TYPE_CHECKING:
    from ndfile.compute.blocks import Block
    from ndfile.compute.reducing import State
    from ndfile.progress import Progress

__all__ = ["mean", "nanmean", "nansum", "sum_of"]


class _Totals:
    """Totals by the core's kernels: of integers exactly, modulo 2**64, of floats as float64 and an error.

    Parameters
    ----------
    request : Request
    skip_nan : bool
    wanted : numpy.dtype
        The result's.
    is_mean : bool
        Whether totals are divided by their counts, and so those of integers have no limit.
    """

    def __init__(self, request: Request, skip_nan: bool, wanted: np.dtype[Any], is_mean: bool) -> None:
        self._request, self._skip_nan, self._wanted, self._is_mean = request, skip_nan, wanted, is_mean
        self.has_empty = False

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        found = kernels.sums(block, axes, self._skip_nan)
        if found.exceptional:
            raise LeftToNumPy
        total, error = found.total, found.error
        if error is None and not self._is_mean:
            return (total,)
        if error is None:
            total, error = _as_floats(total, block, axes)
        return (total, error, np.asarray(found.counts)) if self._skip_nan and self._is_mean else (total, error)

    def join(self, state: State, new: State) -> None:
        error, new_error = (state[1], new[1]) if len(state) > 1 else (None, None)
        kernels.merge_sums(state[0], error, new[0], new_error)
        if len(state) > 2:
            state[2][...] += new[2]

    def finish(self, state: State, _place: Block) -> State:
        total = state[0]
        if len(state) > 1:
            total = kernels.settled(total, state[1])
        if self._is_mean:
            total = self._divided(total, state[2] if len(state) > 2 else np.asarray(self._request.lane_size))
        return (_as(total, self._wanted),)

    def _divided(self, total: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if not counts.all():
            self.has_empty = True  # by any thread: never taken back
        if not self._skip_nan:
            return self._request.divided(total, counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.true_divide(total, counts))

    def is_enough(self, _state: State) -> bool:
        return False


def _as_floats(total: np.ndarray, block: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An exact total of integers as the sum of two floats."""
    if block.dtype.itemsize < 8:
        return total.astype(np.float64), np.zeros(total.shape)  # below 2**53 in any block
    # Known modulo 2**64; how many times 2**64 it is, a sum with rounding tells.
    found = kernels.moments(block, axes)
    whole = 2.0**64 * np.rint((found.mean * found.counts - total.astype(np.float64)) / 2.0**64)
    error, nothing = np.zeros(total.shape), np.zeros(total.shape)
    kernels.merge_sums(whole, error, (total >> 32) * 2.0**32, nothing)
    kernels.merge_sums(whole, error, (total & 0xFFFFFFFF).astype(np.float64), nothing)
    return whole, error


class _Additions(_Totals):
    """Totals by NumPy on blocks: of any type, in any type, and of some of the items only."""

    def __init__(
        self, request: Request, skip_nan: bool, wanted: np.dtype[Any], is_mean: bool, dtype: np.dtype[Any]
    ) -> None:
        super().__init__(request, skip_nan, wanted, is_mean)
        self._dtype = None if dtype.kind == "m" else dtype

    def of(self, block: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        where = kernels.counted(block, where, self._skip_nan)
        if self._skip_nan and self._wanted.kind in "biu":
            block = np.where(
                np.isnan(block), 0, block
            )  # NaN as an integer would be warned of, where it does not count too
        mask: Any = True if where is None else where
        total = np.add.reduce(block, axes, self._dtype, keepdims=True, where=mask)
        state = (total, np.zeros_like(total)) if total.dtype.kind in "fc" else (total,)
        if not self._is_mean:
            return state
        return (total, np.zeros_like(total), kernels.counts_along(block, where, axes))


def _reduced(
    request: Request,
    skip_nan: bool,
    wanted: np.dtype[Any],
    is_mean: bool,
    threads: int | None,
    progress: Progress,
) -> np.ndarray:
    """Sums or means; in float64 or int64 where the kernels can, otherwise in the type that NumPy would use."""
    own = request.array.dtype
    skip_nan = skip_nan and own.kind in "fc"  # NumPy keeps NaT
    if _suits_kernels(request, own, wanted, is_mean):
        found = _Totals(request, skip_nan, wanted, is_mean)
    else:
        # NumPy sums halves for their mean in single precision.
        inner = np.dtype(np.float32) if is_mean and wanted == np.float16 else wanted
        found = _Additions(request, skip_nan, wanted, is_mean, inner)
    label = "mean" if is_mean else "sum"
    (result,) = reduce(found, request, threads=threads, progress=progress, label=label)
    if found.has_empty:
        warn_of("Mean of empty slice")
    return result


def _suits_kernels(request: Request, own: np.dtype[Any], wanted: np.dtype[Any], is_mean: bool) -> bool:
    if request.where is not None or not kernels.handles(own):
        return False
    if own.kind == "f":
        return wanted.kind == "f" and wanted.itemsize <= 8 and wanted.itemsize >= own.itemsize
    return wanted == np.float64 if is_mean else wanted in (np.int64, np.uint64)


def _sum(name: str) -> Any:
    """`sum` or `nansum`: with NumPy's signature."""

    def found(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        initial: Any = NO_VALUE,
        where: Any = NO_VALUE,
        *,
        progress: Progress = None,
        threads: int | None = None,
    ) -> Any:
        request = Request.of(a, axis, keepdims, out, where)
        if request is None or a.dtype.kind not in "biufcm" or _is_negative_zero(initial):
            return NotImplemented
        if name == "sum" and request.is_light:
            return NotImplemented
        if initial is None:
            if request.where is not None:
                return NotImplemented  # an error
            initial = NO_VALUE
        with np.errstate(all="ignore"):
            wanted = np.add.reduce(np.zeros(1, a.dtype), dtype=dtype, initial=initial, keepdims=True).dtype
        if not request.gives(wanted) or wanted.kind == "O":
            return NotImplemented
        try:
            result = _reduced(request, name == "nansum", wanted, False, threads, progress)
        except LeftToNumPy:
            return NotImplemented
        if initial is not NO_VALUE:
            result = np.add.reduce(result[np.newaxis], axis=0, initial=initial)  # of any type: it becomes the result's
        return request.result(result)

    return found


sum_of, nansum = _sum("sum"), _sum("nansum")


def _is_negative_zero(initial: Any) -> bool:
    """With that, and only then, NumPy's sum of negative zeros is one too."""
    if not isinstance(initial, (float, complex, np.inexact, np.ndarray)) or np.any(np.not_equal(initial, 0)):
        return False
    parts = np.asarray(initial)
    return bool(np.signbit(parts.real).any() or np.signbit(parts.imag).any())


def _as(total: np.ndarray, wanted: np.dtype[Any]) -> np.ndarray:
    """In NumPy's type. What was in range, and is no longer, NumPy warns of in its own words."""
    if total.dtype == wanted:
        return total
    if wanted.kind in "iu":
        return total.view(wanted)
    if np.can_cast(total.dtype, wanted):
        return total.astype(wanted)
    with np.errstate(over="ignore"):
        result = total.astype(wanted)
    if not np.isfinite(result).all() and not np.array_equal(np.isfinite(result), np.isfinite(total)):
        raise LeftToNumPy
    return result


def _mean(name: str) -> Any:
    """`mean` or `nanmean`: with NumPy's signature."""

    def found(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        *,
        where: Any = NO_VALUE,
        progress: Progress = None,
        threads: int | None = None,
    ) -> Any:
        request = Request.of(a, axis, keepdims, out, where)
        if request is None or a.dtype.kind not in "biufc" or (name == "mean" and request.is_light):
            return NotImplemented
        wanted = np.dtype(dtype) if dtype is not None else np.mean(np.zeros(1, a.dtype)).dtype
        if wanted.kind not in "fc" or not wanted.isnative or not request.gives(wanted):
            return NotImplemented
        try:
            return request.result(_reduced(request, name == "nanmean", wanted, True, threads, progress))
        except LeftToNumPy:
            return NotImplemented

    return found


mean, nanmean = _mean("mean"), _mean("nanmean")
