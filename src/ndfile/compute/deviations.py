"""Variances and standard deviations in one pass.

Each block gives its mean and the sum of the squared deviations from that; two of them are joined by the formula of
Chan, Golub and LeVeque (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979). So nothing is
subtracted from something much larger, as in the mean of the squares less the square of the mean.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute import kernels
from ndfile.compute.arguments import NO_VALUE, Request
from ndfile.compute.reducing import reduce
from ndfile.compute.warned import warn_of

if TYPE_CHECKING:
    from ndfile.compute.blocks import Block
    from ndfile.compute.reducing import State
    from ndfile.progress import Progress

__all__ = ["join_moments", "nanstd", "nanvar", "std", "var"]


def join_moments(state: State, new: State) -> None:
    """Join counts, means, their errors, squared deviations and their errors, in the order of the blocks."""
    added = np.zeros_like(state[3])
    counts, mean, error, squares, squares_error = state
    other = kernels.Moments(new[0], new[1], new[2], new[3], None, None, None, False)
    kernels.merge_moments(counts, mean, error, added, other)
    kernels.merge_sums(squares, squares_error, added, new[4])


class _Moments:
    """Count, mean and squared deviations by the core's kernels.

    Parameters
    ----------
    request : Request
    skip_nan : bool
    wanted : numpy.dtype
        The result's.
    ddof : float
        What is taken from the count.
    root : bool
        For the standard deviation.
    around : numpy.ndarray, optional
        The mean, where it is given.
    """

    def __init__(
        self, request: Request, skip_nan: bool, wanted: np.dtype[Any], ddof: Any, root: bool, around: np.ndarray | None
    ) -> None:
        self._request, self._skip_nan, self._wanted, self._ddof, self._root = request, skip_nan, wanted, ddof, root
        self._around = None if around is None else np.broadcast_to(around, request.kept_shape)
        self.is_exceptional = self.is_short = False

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        found = kernels.moments(block, axes, self._skip_nan)
        if found.exceptional:
            self.is_exceptional = True  # by any thread: never taken back
        counts = np.broadcast_to(found.counts, found.mean.shape)
        return counts, found.mean, found.error, found.m2, np.broadcast_to(0.0, found.mean.shape)

    def join(self, state: State, new: State) -> None:
        join_moments(state, new)

    def finish(self, state: State, place: Block) -> State:
        counts, mean, _, squares, error = state
        with np.errstate(all="ignore"):
            squares = kernels.settled(squares, error)
            if self._around is not None:
                apart = mean - self._around[place]
                squares = squares + counts * (apart * apart.conj()).real
        free = (counts if self._counts_differ else np.asarray(self._request.lane_size)) - self._ddof
        found = self._divided(squares, free)
        if self._root:
            found = np.sqrt(found, out=found)
        with np.errstate(over="ignore"):
            return (found.astype(self._wanted, copy=False),)

    @property
    def _counts_differ(self) -> bool:
        return self._skip_nan or self._request.where is not None

    def _divided(self, squares: np.ndarray, free: np.ndarray) -> np.ndarray:
        is_short = free <= 0
        if is_short.any():
            self.is_short = True
        if not self._skip_nan:
            return self._request.divided(squares, np.maximum(free, 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.asarray(np.true_divide(squares, free))
        found[is_short] = np.nan
        return found

    def is_enough(self, _state: State) -> bool:
        return False


class _AnyMoments(_Moments):
    """The same by NumPy on blocks: of complex and long numbers, and of some of the items only."""

    def of(self, block: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        where = kernels.counted(block, where, self._skip_nan)
        mask: Any = True if where is None else where
        dtype = np.result_type(block.dtype, self._wanted, np.float64)
        with np.errstate(all="ignore"):
            total = np.add.reduce(block, axes, dtype, keepdims=True, where=mask)
            counts = kernels.counts_along(block, where, axes)
            mean = total / np.maximum(counts, 1)
            apart = np.subtract(block, mean, dtype=dtype)
            squares = np.add.reduce((apart * apart.conj()).real, axes, keepdims=True, where=mask)
            if np.isinf(block).any(where=mask):
                self.is_exceptional = True
        return counts, mean, np.zeros_like(mean), squares, np.zeros_like(squares)


def _found(request: Request, dtype: np.dtype[Any], more: tuple[Any, ...], options: dict[str, Any]) -> np.ndarray:
    """Variances or deviations, computed in `dtype` or better."""
    skip_nan = more[0]
    if request.where is None and kernels.handles(request.array.dtype) and dtype.kind == "f" and dtype.itemsize <= 8:
        found = _Moments(request, *more)
        (result,) = reduce(found, request, **options)
        if not found.is_exceptional:
            return _warned(result, found, skip_nan)
    # Where the squares leave the range of numbers, too.
    found = _AnyMoments(request, *more)
    (result,) = reduce(found, request, **options, has_copies=True)
    if found.is_exceptional:
        _warn_of_infinity(request.array.dtype)
    return _warned(result, found, skip_nan)


def _warned(result: np.ndarray, found: _Moments, skip_nan: bool) -> np.ndarray:
    if found.is_short:
        warn_of("Degrees of freedom <= 0 for slice" + "." * skip_nan)
    elif not found.is_exceptional and np.isinf(result).any():
        _warn_of_overflow(skip_nan)
    return result


def _var(
    request: Request | None,
    dtype: Any,
    ddof: Any,
    mean: Any,
    skip_nan: bool,
    root: bool,
    options: dict[str, Any],
) -> Any:
    if request is None or request.array.dtype.kind not in "biufc" or not isinstance(ddof, numbers.Real):
        return NotImplemented
    array = request.array
    skip_nan = skip_nan and array.dtype.kind in "fc"
    inner = np.dtype(dtype) if dtype is not None else np.mean(np.zeros(1, array.dtype)).dtype
    wanted = inner if dtype is not None else np.zeros(0, inner).real.dtype
    if (
        inner.kind not in "fc"
        or not inner.isnative
        or (inner.kind == "c") != (array.dtype.kind == "c")
        or not request.gives(wanted)
    ):
        return NotImplemented
    if dtype is not None and array.dtype.kind == "c":
        return NotImplemented
    around = None
    if mean is not NO_VALUE and mean is not None:
        around = np.asarray(mean)
        if around.dtype != inner or np.broadcast_shapes(around.shape, request.kept_shape) != request.kept_shape:
            return NotImplemented
    return request.result(_found(request, inner, (skip_nan, wanted, ddof, root, around), options))


def _warn_of_infinity(dtype: np.dtype[Any]) -> None:
    """As NumPy does where it takes an infinite mean from an infinite item."""
    infinite = np.array([np.inf], np.result_type(dtype, np.float16))
    np.subtract(infinite, infinite)


def _warn_of_overflow(skip_nan: bool) -> None:
    """As NumPy does where a square is too large."""
    large = np.array([np.finfo(np.float64).max])
    np.multiply(large, large) if skip_nan else np.square(large)


def _deviation(name: str) -> Any:
    """`var`, `std`, `nanvar` or `nanstd`: with NumPy's signature."""
    skip_nan, root = name.startswith("nan"), name.endswith("std")

    def found(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: Any = 0,
        keepdims: Any = NO_VALUE,
        *,
        where: Any = NO_VALUE,
        mean: Any = NO_VALUE,
        correction: Any = NO_VALUE,
        progress: Progress = None,
        threads: int | None = None,
    ) -> Any:
        if correction is not NO_VALUE:
            if ddof != 0:
                return NotImplemented  # an error
            ddof = correction
        request = Request.of(a, axis, keepdims, out, where)
        options = {"threads": threads, "progress": progress, "label": name}
        return _var(request, dtype, ddof, mean, skip_nan, root, options)

    return found


var, std, nanvar, nanstd = (_deviation(name) for name in ("var", "std", "nanvar", "nanstd"))
