"""Sums of products: weighted means and dot products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ndfile.compute import kernels
from ndfile.compute.arguments import NO_VALUE, Request
from ndfile.compute.blocks import Blocks, Input
from ndfile.compute.reducing import reduce
from ndfile.compute.running import run

if TYPE_CHECKING:
    from ndfile.compute.blocks import Block
    from ndfile.compute.reducing import State
    from ndfile.progress import Progress

__all__ = ["average", "dot"]


# ---- Weighted means ----


class _Weighted:
    """Sums of the items times their weights, and of the weights, each with what rounding took."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype

    def of(self, block: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        weights: Any = where  # they come with the blocks as a mask would
        product = np.multiply(block, weights, dtype=self._dtype)
        return (*self._sums(product, axes), *self._sums(np.broadcast_to(weights, block.shape), axes))

    def _sums(self, items: np.ndarray, axes: tuple[int, ...]) -> State:
        if self._dtype.kind == "f" and items.dtype.kind == "f" and kernels.handles(self._dtype):
            found = kernels.sums(items, axes)
            if not found.exceptional and found.error is not None:
                return found.total, found.error
        total = np.add.reduce(items, axes, np.result_type(self._dtype, np.float64), keepdims=True)
        return total, np.zeros_like(total)

    def join(self, state: State, new: State) -> None:
        kernels.merge_sums(*state[:2], *new[:2])
        kernels.merge_sums(*state[2:], *new[2:])

    def finish(self, state: State, _place: Block) -> State:
        total, scale = ((one + error).astype(self._dtype) for one, error in (state[:2], state[2:]))
        if np.any(scale == 0):
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        return np.true_divide(total, scale).astype(self._dtype), scale

    def is_enough(self, _state: State) -> bool:
        return False


def average(
    a: Any,
    axis: Any = None,
    weights: Any = None,
    returned: Any = False,
    *,
    keepdims: Any = NO_VALUE,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """numpy.average with weights; without them it is a mean."""
    request = Request.of(a, axis, keepdims)
    if request is None or weights is None or a.dtype.kind not in "biufc":
        return NotImplemented
    given = np.asanyarray(weights)
    placed = None if given.dtype.kind not in "biufc" else _placed(given, a, axis)
    if placed is None:
        return NotImplemented
    dtype = np.result_type(a.dtype, given.dtype, *([np.float64] if a.dtype.kind in "biu" else []))
    found = reduce(
        _Weighted(dtype),
        request._replace(where=placed),
        threads=threads,
        progress=progress,
        label="average",
        has_copies=True,
    )
    mean, scale = (request.result(one) for one in found)
    return (mean, scale) if returned else mean


def _placed(weights: np.ndarray, array: np.ndarray, axis: Any) -> np.ndarray | None:
    """The weights as an array of the array's shape, or None if NumPy is to say what is wrong with them."""
    if weights.shape == array.shape:
        return weights
    if axis is None:
        return None
    axes = normalize_axis_tuple(axis, array.ndim)
    if weights.shape != tuple(array.shape[one] for one in axes):
        return None
    shape = [array.shape[one] if one in axes else 1 for one in range(array.ndim)]
    return np.broadcast_to(np.transpose(weights, np.argsort(axes)).reshape(shape), array.shape)


# ---- Dot products ----


def dot(a: Any, b: Any, out: Any = None, *, progress: Progress = None, threads: int | None = None) -> Any:
    """numpy.dot of a vector or of rows one after the other; BLAS gets blocks of them."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a.size == 0 or b.size == 0:
        return NotImplemented
    if a.dtype.kind not in "iufc" or b.dtype.kind not in "iufc" or a.shape[-1:] != b.shape[:1]:
        return NotImplemented
    if a.ndim == 1 and b.ndim == 1 and out is None:
        return _of_vectors(a, b, progress, threads)
    if a.ndim == 2 and b.ndim in (1, 2) and a.flags.c_contiguous and b.nbytes <= a.nbytes:
        return _of_rows(a, b, out, progress, threads)
    return NotImplemented


def _of_vectors(a: np.ndarray, b: np.ndarray, progress: Progress, threads: int | None) -> Any:
    one, other = Input(a), Input(b)
    dtype = np.dot(a[:1].view(np.ndarray), b[:1].view(np.ndarray)).dtype
    wide = np.result_type(dtype, np.float64) if dtype.kind in "fc" else dtype
    total, error = np.zeros(1, wide), np.zeros(1, wide) if dtype.kind in "fc" else None

    def of(block: Block) -> Any:
        found = np.dot(one.read(block), other.read(block))
        one.check(block)
        other.check(block)
        return found

    def take(_block: Block, found: Any) -> None:
        kernels.merge_sums(total, error, np.array([found], wide), np.zeros(1, wide) if error is not None else None)

    run(of, Blocks.of(a), take, threads=threads, progress=progress, nbytes=a.nbytes, label="dot")
    return (total if error is None else total + error).astype(dtype)[0]


def _of_rows(a: np.ndarray, b: np.ndarray, out: Any, progress: Progress, threads: int | None) -> Any:
    dtype = np.result_type(a.dtype, b.dtype)
    result = np.empty((len(a), *b.shape[1:]), dtype) if out is None else out
    if not isinstance(result, np.ndarray) or result.shape != (len(a), *b.shape[1:]) or result.dtype != dtype:
        return NotImplemented  # an error
    if not result.flags.c_contiguous or any(np.may_share_memory(result, one) for one in (a, b)):
        return NotImplemented
    source, target, factor = Input(a), result.view(np.ndarray), Input(b).read(...)
    row_blocks = Blocks.of(a)

    def of(block: Block) -> None:
        if block[1] == slice(0, a.shape[1]):
            target[block[0]] = np.dot(source.read(block), factor)
        else:  # less than a row
            part = np.dot(source.read(block), factor[block[1]])
            target[block[0]] = part if block[1].start == 0 else target[block[0]] + part
        source.check(block)

    # BLAS has threads of its own, and parts of one row are added in their order.
    is_serial = dtype.kind in "fc" or row_blocks[0][1].stop < a.shape[1]
    count = 1 if is_serial else threads
    run(of, row_blocks, lambda *_: None, threads=count, progress=progress, nbytes=a.nbytes, label="dot")
    Input(b).check(...)
    return result
