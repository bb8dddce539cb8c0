"""Variances and standard deviations in one pass.

Each block gives its mean and the sum of the squared deviations from that; two of them are joined by the formula of Chan,
Golub and LeVeque (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979). So nothing is
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
    from ndfile.compute.reducing import State
    from ndfile.progress import Progress

__all__ = ["join_moments", "nanstd", "nanvar", "std", "var"]


def join_moments(state: State, new: State) -> None:
    """Join counts, means, their errors, squared deviations and their errors; the order of blocks is all that matters."""
    added = np.zeros_like(state[3])
    kernels.merge_moments(*state[:3], added, kernels.Moments(*new[:4], None, None, None, False))
    kernels.merge_sums(state[3], state[4], added, new[4])


class _Moments:
    """Count, mean and squared deviations by the core's kernels."""

    def __init__(self, skip_nan: bool) -> None:
        self._skip_nan = skip_nan
        self.is_exceptional = False

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        found = kernels.moments(block, axes, self._skip_nan)
        self.is_exceptional |= found.exceptional
        counts = np.broadcast_to(found.counts, found.mean.shape)
        return counts, found.mean, found.error, found.m2, np.zeros_like(found.m2)

    def join(self, state: State, new: State) -> None:
        join_moments(state, new)

    def finish(self, state: State) -> State:
        counts, mean, _, squares, error = state
        return counts, mean, np.add(squares, error, where=np.isfinite(squares), out=squares)

    def is_enough(self, _state: State) -> bool:
        return False


class _AnyMoments(_Moments):
    """The same by NumPy on blocks: of complex and long numbers, and of some of the items only."""

    def __init__(self, skip_nan: bool, dtype: np.dtype[Any]) -> None:
        super().__init__(skip_nan)
        self._dtype = np.result_type(dtype, np.float64)

    def of(self, block: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        if self._skip_nan:
            valid = ~np.isnan(block)
            where = valid if where is None else where & valid
        mask: Any = True if where is None else where
        with np.errstate(all="ignore"):
            total = np.add.reduce(block, axes, self._dtype, keepdims=True, where=mask)
            counts = np.full(total.shape, block.size // total.size, np.intp)
            if where is not None:
                counts = np.add.reduce(where, axes, np.intp, keepdims=True)
            mean = total / np.maximum(counts, 1)
            apart = np.subtract(block, mean, dtype=self._dtype)
            squares = np.add.reduce((apart * apart.conj()).real, axes, keepdims=True, where=mask)
            self.is_exceptional |= bool(np.isinf(block).any(where=mask))
        return counts, mean, np.zeros_like(mean), squares, np.zeros_like(squares)


def _moments(
    request: Request, skip_nan: bool, dtype: np.dtype[Any], threads: int | None, progress: Progress, label: str
) -> tuple[State, bool]:
    own = request.array.dtype
    if request.where is None and kernels.handles(own) and dtype.kind == "f" and dtype.itemsize <= 8:
        fast = _Moments(skip_nan)
        state = reduce(fast, request, threads=threads, progress=progress, label=label)
        if not fast.is_exceptional:
            return state, False
    # Where the squares leave the range of numbers, too.
    statistic = _AnyMoments(skip_nan, np.result_type(own, dtype))
    state = reduce(statistic, request, threads=threads, progress=progress, label=label, has_copies=True)
    return state, statistic.is_exceptional


def _var(
    request: Request | None,
    dtype: Any,
    ddof: Any,
    mean: Any,
    skip_nan: bool,
    root: bool,
    threads: int | None,
    progress: Progress,
) -> Any:
    if request is None or request.array.dtype.kind not in "biufc" or not isinstance(ddof, numbers.Real):
        return NotImplemented
    array = request.array
    skip_nan = skip_nan and array.dtype.kind in "fc"
    inner = np.dtype(dtype) if dtype is not None else np.mean(np.zeros(1, array.dtype)).dtype
    wanted = inner if dtype is not None else np.zeros(0, inner).real.dtype
    if inner.kind not in "fc" or (inner.kind == "c") != (array.dtype.kind == "c") or not request.gives(wanted):
        return NotImplemented
    if dtype is not None and array.dtype.kind == "c":
        return NotImplemented
    around = None
    if mean is not NO_VALUE and mean is not None:
        around = np.asarray(mean)
        if around.dtype != inner or np.broadcast_shapes(around.shape, request.kept_shape) != request.kept_shape:
            return NotImplemented
    (counts, means, squares), is_exceptional = _moments(
        request, skip_nan, inner, threads, progress, "std" if root else "var"
    )
    if is_exceptional:
        _warn_of_infinity(array.dtype)
    if around is not None:
        with np.errstate(all="ignore"):
            apart = means - around
            squares = squares + counts * (apart * apart.conj()).real
    return request.result(_finished(request, counts, squares, ddof, wanted, skip_nan, root))


def _warn_of_infinity(dtype: np.dtype[Any]) -> None:
    """As NumPy does where it takes an infinite mean from an infinite item."""
    infinite = np.array([np.inf], np.result_type(dtype, np.float16))
    np.subtract(infinite, infinite)


def _finished(
    request: Request,
    counts: np.ndarray,
    squares: np.ndarray,
    ddof: Any,
    wanted: np.dtype[Any],
    skip_nan: bool,
    root: bool,
) -> np.ndarray:
    free = counts - ddof
    if skip_nan:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.true_divide(squares, free).astype(wanted)
        if (free <= 0).any():
            warn_of("Degrees of freedom <= 0 for slice.")
            found[free <= 0] = np.nan
    else:
        if (free <= 0).any():
            warn_of("Degrees of freedom <= 0 for slice")
        free = np.maximum(free, 0)
        found = request.divided(squares, free)
    if root:
        found = np.sqrt(found)
    with np.errstate(over="ignore"):
        return found.astype(wanted)


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
        return _var(request, dtype, ddof, mean, skip_nan, root, threads, progress)

    return found


var, std, nanvar, nanstd = (_deviation(name) for name in ("var", "std", "nanvar", "nanstd"))
