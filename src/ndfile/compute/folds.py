"""Reductions by an operation that may be applied in any grouping: a block's result is joined by the same operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute.arguments import NO_VALUE, Request, given
from ndfile.compute.reducing import reduce
from ndfile.compute.warned import warn_of

if TYPE_CHECKING:
    from ndfile.compute.blocks import Block
    from ndfile.compute.reducing import State
    from ndfile.progress import Progress

__all__ = ["Fold", "all_of", "any_of", "count_nonzero", "largest", "nanmax", "nanmin", "prod", "ptp", "smallest"]


class Fold:
    """A ufunc's reduction.

    Parameters
    ----------
    ufunc : numpy.ufunc
        Associative and commutative.
    dtype : numpy.dtype, optional
        In which it is done; by default as the ufunc chooses.
    initial : optional
        With what each block begins; once or several times must make no difference.
    end : optional
        A result that nothing can change any more.
    """

    def __init__(self, ufunc: np.ufunc, dtype: Any = None, initial: Any = NO_VALUE, end: Any = None) -> None:
        self._ufunc, self._dtype, self._initial, self._end = ufunc, dtype, initial, end

    def of(self, block: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        mask: Any = True if where is None else where
        found = self._ufunc.reduce(block, axes, self._dtype, keepdims=True, initial=self._initial, where=mask)
        return (found,)

    def join(self, state: State, new: State) -> None:
        self._ufunc(state[0], new[0], out=state[0], casting="unsafe")

    def finish(self, state: State, _place: Block) -> State:
        return state

    def is_enough(self, state: State) -> bool:
        return self._end is not None and bool(state[0].item() == self._end)


def _extreme(ufunc: np.ufunc, label: str) -> Any:
    """`min`, `max`, `nanmin` or `nanmax`: with NumPy's signature."""

    def found(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        initial: Any = NO_VALUE,
        where: Any = NO_VALUE,
        *,
        progress: Progress = None,
        threads: int | None = None,
    ) -> Any:
        request = Request.of(a, axis, keepdims, out, where)
        if request is None or a.dtype.kind not in "biufcmM" or not request.gives(_native(a.dtype)):
            return NotImplemented
        if request.is_light and not label.startswith("nan"):
            return NotImplemented
        if given(where, True) is not True and initial is NO_VALUE:
            return NotImplemented  # an error
        (result,) = reduce(Fold(ufunc, initial=initial), request, threads=threads, progress=progress, label=label)
        has_only_nan = label.startswith("nan") and a.dtype.kind in "fcmM" and np.isnan(result).any()
        result = request.result(result)
        if has_only_nan:
            warn_of("All-NaN slice encountered")
        return result

    return found


smallest, largest = _extreme(np.minimum, "min"), _extreme(np.maximum, "max")
nanmin, nanmax = _extreme(np.fmin, "nanmin"), _extreme(np.fmax, "nanmax")


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of NumPy's result: in the machine's byte order."""
    return dtype.newbyteorder("=")


class _Range:
    """Smallest and largest in one read."""

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        low = np.minimum.reduce(block, axes, keepdims=True)
        return low, np.maximum.reduce(block, axes, keepdims=True)

    def join(self, state: State, new: State) -> None:
        np.minimum(state[0], new[0], out=state[0])
        np.maximum(state[1], new[1], out=state[1])

    def finish(self, state: State, _place: Block) -> State:
        return state

    def is_enough(self, _state: State) -> bool:
        return False


def ptp(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    request = Request.of(a, axis, keepdims, out)
    if request is None or a.dtype.kind not in "iufmM":
        return NotImplemented
    low, high = reduce(_Range(), request, threads=threads, progress=progress, label="ptp")
    found = np.subtract(high, low)
    return request.result(found) if request.gives(found.dtype) else NotImplemented


def _logical(ufunc: np.ufunc, end: bool, label: str) -> Any:
    """`any` or `all`: with NumPy's signature."""

    def found(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = NO_VALUE,
        *,
        where: Any = NO_VALUE,
        progress: Progress = None,
        threads: int | None = None,
    ) -> Any:
        request = Request.of(a, axis, keepdims, out, where)
        if request is None or a.dtype.kind not in "biufcmM" or not request.gives(np.bool_):
            return NotImplemented
        fold = Fold(ufunc, np.dtype("?"), end=end)
        (result,) = reduce(fold, request, threads=threads, progress=progress, label=label)
        return request.result(result)

    return found


any_of = _logical(np.logical_or, True, "any")
all_of = _logical(np.logical_and, False, "all")


def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = NO_VALUE,
    where: Any = True,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    request = Request.of(a, axis, keepdims, out, where)
    if request is None or a.dtype.kind not in "biufc":
        return NotImplemented
    if initial is None:
        if request.where is not None:
            return NotImplemented  # an error
        initial = NO_VALUE
    with np.errstate(all="ignore"):
        wanted = np.multiply.reduce(np.ones(1, a.dtype), dtype=dtype, initial=initial, keepdims=True).dtype
    if not request.gives(wanted) or wanted.kind == "O" or (wanted.kind in "iu" and a.dtype.kind in "fc"):
        return NotImplemented
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        (result,) = reduce(Fold(np.multiply, wanted), request, threads=threads, progress=progress, label="prod")
    if initial is not NO_VALUE:
        with np.errstate(all="ignore"):
            result = np.multiply.reduce(result[np.newaxis], axis=0, initial=initial)
    if wanted.kind in "fc" and not np.isfinite(result).all():
        return NotImplemented  # 0 and infinity may have met in another order than NumPy's, and it has warnings for them
    return request.result(result)


class _Count:
    """How many items are not zero, False or empty."""

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        return (np.asarray(np.count_nonzero(block, axis=axes, keepdims=True)),)

    def join(self, state: State, new: State) -> None:
        state[0][...] += new[0]

    def finish(self, state: State, _place: Block) -> State:
        return state

    def is_enough(self, _state: State) -> bool:
        return False


def count_nonzero(
    a: Any,
    axis: Any = None,
    *,
    keepdims: Any = False,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    request = Request.of(a, axis, keepdims)
    if request is None:
        return NotImplemented
    (result,) = reduce(_Count(), request, threads=threads, progress=progress, label="count_nonzero")
    return request.result(result)
