"""Sums and moments of one block of any form, and of blocks together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ndfile._core import block_moments, block_sums
from ndfile.compute.blocks import memory_order

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

__all__ = [
    "Moments",
    "Sums",
    "counted",
    "counts_along",
    "handles",
    "merge_moments",
    "merge_sums",
    "moments",
    "settled",
    "sums",
]

_MOST_TURNS_ITEMS = 256  # what one turn has at least, so that starting it costs nothing beside it
_WIDE = 48  # columns from which on rows need not lie one behind the other


class Sums(NamedTuple):
    """What `sums` found. Arrays have the reduced axes with length 1."""

    counts: int | Array
    """How many items, an int64 array of those that are not NaN with `skip_nan`."""
    total: Array
    """int64 modulo 2**64 of bool and integers, float64 of floats."""
    error: Array | None
    """What rounding took from the total of floats: the sum is total + error."""
    exceptional: bool
    """NaN came from numbers, or an infinity from finite ones: NumPy has a warning for that."""


class Moments(NamedTuple):
    """What `moments` found. Arrays have the reduced axes with length 1."""

    counts: int | Array
    """How many items, an int64 array of those that are not NaN with `skip_nan`."""
    mean: Array
    """float64; 0 where there are no items."""
    error: Array
    """What rounding took from the mean."""
    m2: Array
    """The sum of the squared deviations from the mean, float64."""
    low: Array | None
    """The smallest items, in their own dtype, as `numpy.min` or `numpy.nanmin` has them."""
    high: Array | None
    """The largest."""
    nans: Array | None
    """How many items are NaN, int64."""
    exceptional: bool
    """NaN came from numbers, or an infinity from numbers or from infinities: such results are NumPy's to make."""


def handles(dtype: np.dtype[Any]) -> bool:
    """Whether items of this dtype, in any byte order, can be summed here: bool, integers, float16, float32, float64."""
    return dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8)


def sums(block: Array, axes: tuple[int, ...], skip_nan: bool = False) -> Sums:
    """Sum a block along axes.

    Parameters
    ----------
    block : numpy.ndarray
        Of a dtype that `handles` accepts, with any strides. A copy may be made of it.
    axes : tuple of int
        From 0 on, in order, each once.
    skip_nan : bool, optional
        Leave NaN out, and count the others.

    Returns
    -------
    Sums
    """
    slab, form = _slab(block, axes)
    total, error, nans, exceptional = block_sums(slab, skip_nan)
    counts = _reduced_size(block, axes)
    return Sums(
        counts if nans is None else counts - form.result(nans),
        form.result(total),
        None if error is None else form.result(error),
        exceptional,
    )


def moments(block: Array, axes: tuple[int, ...], skip_nan: bool = False, extremes: bool = False) -> Moments:
    """Find the mean and the squared deviations of a block along axes, in one read of memory.

    Parameters
    ----------
    block : numpy.ndarray
        Of a dtype that `handles` accepts, with any strides. A copy may be made of it.
    axes : tuple of int
        From 0 on, in order, each once.
    skip_nan : bool, optional
        Leave NaN out, and count the others.
    extremes : bool, optional
        Find the smallest and largest items too, and count those that are NaN.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If extremes of no items are asked for.
    """
    slab, form = _slab(block, axes)
    counts, mean, error, m2, low, high, nans, exceptional = block_moments(slab, skip_nan, extremes)
    is_float = block.dtype.kind == "f"
    own = block.dtype.newbyteorder("=")
    return Moments(
        form.result(counts).astype(np.int64) if skip_nan and is_float else _reduced_size(block, axes),
        form.result(mean),
        form.result(error),
        form.result(m2),
        None if low is None else form.result(low).astype(own, copy=False),
        None if high is None else form.result(high).astype(own, copy=False),
        None if nans is None else form.result(nans),
        exceptional,
    )


def merge_sums(total: Array, error: Array | None, other: Array, other_error: Array | None) -> None:
    """Add other sums of the same shape to `total` and `error`, in place; nothing is lost that these can hold.

    Parameters
    ----------
    total, other : numpy.ndarray
        int64, or float64.
    error, other_error : numpy.ndarray or None
        Of float64 sums.
    """
    if error is None or other_error is None:
        total += other  # modulo 2**64, without a warning
        return
    with np.errstate(all="ignore"):
        now = total + other
        of_other = now - total
        lost = (total - (now - of_other)) + (other - of_other)
        error += np.where(np.isfinite(now), lost + other_error, 0)
        total[...] = now


def settled(total: Array, error: Array) -> Array:
    """Take what rounding took from a total of floats into it, in place; what is not finite stays."""
    with np.errstate(invalid="ignore"):
        return np.add(total, error, where=np.isfinite(total), out=total)


def counted(block: Array, where: Array | None, skip_nan: bool) -> Array | None:
    """Which items of a block count, None for all: those of a mask, without NaN if these are skipped."""
    if not skip_nan:
        return where
    valid = ~np.isnan(block)
    return valid if where is None else where & valid


def counts_along(block: Array, where: Array | None, axes: tuple[int, ...]) -> Array:
    """How many items of a block count along axes, which are kept with length 1."""
    if where is not None:
        return np.add.reduce(where, axes, np.intp, keepdims=True)
    size = _reduced_size(block, axes)
    return np.full([1 if axis in axes else length for axis, length in enumerate(block.shape)], size, np.intp)


def merge_moments(
    counts: int | Array,
    mean: Array,
    error: Array,
    m2: Array,
    other: Moments,
) -> int | Array:
    """Join other moments of the same shape to these, in place, by Chan's formula.

    Parameters
    ----------
    counts : int or numpy.ndarray
        Of the items that the first moments are of. An array is changed in place.
    mean, error, m2 : numpy.ndarray
        As `Moments` has them.
    other : Moments

    Returns
    -------
    int or numpy.ndarray
        The counts of both.
    """
    both = counts + other.counts
    with np.errstate(all="ignore"):
        share = other.counts / np.maximum(both, 1)
        rest = other.error - error
        delta = other.mean - mean
        step = delta * share
        now = mean + step
        of_step = now - mean
        lost = (mean - (now - of_step)) + (step - of_step)
        apart = delta + rest
        m2 += other.m2 + (apart * apart.conj()).real * (counts * share)
        is_finite = np.isfinite(delta)
        error += np.where(is_finite, rest * share + lost, 0)
        mean[...] = np.where(is_finite, now, mean + np.where(share > 0, other.mean, 0))
    if isinstance(counts, np.ndarray):
        counts[...] = both
        return counts
    return both


class _Form(NamedTuple):
    """How results of a slab become those of its block."""

    kept: tuple[int, ...]  # axes that are not reduced, in the order that the slab has them in
    shape: tuple[int, ...]  # of the block's results, reduced axes with length 1

    def result(self, of_slab: Array) -> Array:
        """Results [outer, inner] as those of the block."""
        reduced = [axis for axis in range(len(self.shape)) if axis not in self.kept]
        order = (*self.kept, *reduced)
        whole = of_slab.reshape([self.shape[axis] for axis in order])
        return np.ascontiguousarray(whole.transpose([order.index(axis) for axis in range(len(order))])).reshape(
            self.shape
        )


def _reduced_size(block: Array, axes: tuple[int, ...]) -> int:
    return math.prod(block.shape[axis] for axis in axes)


def _slab(block: Array, axes: tuple[int, ...]) -> tuple[Array, _Form]:
    """The block as `block_sums` takes it, a copy only where strides or dtype want one."""
    shape = tuple(1 if axis in axes else length for axis, length in enumerate(block.shape))
    order = memory_order(block)
    kept = tuple(axis for axis in order if axis not in axes)
    form = _Form(kept, shape)
    if block.dtype.kind == "f" and block.dtype.itemsize == 2:
        block = block.astype(np.float32)
    elif not (block.dtype.isnative and block.flags.aligned):
        block = block.astype(block.dtype.newbyteorder("="), order="K")
    view = np.asarray(block).transpose(order)
    groups = _merged(view, [axis in axes for axis in order])
    slab = _as_slab(view, groups)
    if slab is None:
        # Kept axes first, then the reduced ones: rows.
        reduced = tuple(axis for axis in order if axis in axes)
        rows = np.ascontiguousarray(block.transpose((*kept, *reduced)))
        slab = rows.reshape(1, math.prod(shape), -1 if rows.size else _reduced_size(block, axes), 1)
    return slab, form


class _Group(NamedTuple):
    """Neighbouring axes in memory that are one."""

    length: int
    stride: int
    is_reduced: bool


def _merged(view: Array, are_reduced: list[bool]) -> list[_Group]:
    groups: list[_Group] = []
    for length, stride, is_reduced in zip(view.shape, view.strides, are_reduced, strict=True):
        if length == 1:
            continue
        last = groups[-1] if groups else None
        if last is not None and last.is_reduced == is_reduced and last.stride == length * stride:
            groups[-1] = _Group(last.length * length, stride, is_reduced)
        else:
            groups.append(_Group(length, stride, is_reduced))
    return groups


def _as_slab(view: Array, groups: list[_Group]) -> Array | None:
    """The view with axes (turns, outer, reduced, inner), or None if it has not that form, or would be slow in it."""
    one = _Group(1, 0, False)
    places = [one, one, one, one]
    rest = list(groups)
    if rest and not rest[-1].is_reduced:
        places[3] = rest.pop()
    for place, is_reduced in ((2, True), (1, False), (0, True)):
        if rest and rest[-1].is_reduced == is_reduced:
            places[place] = rest.pop()
    turns, outer, reduced, inner = places
    last = inner if inner.length > 1 else reduced
    is_dense = reduced.stride == inner.length * view.itemsize or reduced.length == 1
    if rest or (last.length > 1 and last.stride != view.itemsize):
        return None
    if turns.length > 1 and outer.length * reduced.length * inner.length < _MOST_TURNS_ITEMS:
        return None
    if 1 < inner.length < _WIDE and not is_dense:
        return None
    return np.lib.stride_tricks.as_strided(
        view, [place.length for place in places], [place.stride for place in places], writeable=False
    )
