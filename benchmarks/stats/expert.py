"""What an expert writes with NumPy for a file that does not fit: chunks that stay in the cache, by all cores.

Deviations by one pass over differences from a first mean, bytes by their counts, everything into buffers that are
there. Percentiles of floats are NumPy's own in place upon a copy.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

CHUNK_ITEMS = 1 << 16  # with float64 buffers beside them they stay in the second level of the cache
SPAN_ITEMS = 1 << 22  # what a thread takes at a time
TILE = 256  # rows of few columns, side by side
LONG_ROWS_ITEMS = 1 << 13  # columns at a time
NARROW = 16  # so few columns are added column by column, for NumPy's loops over the last axis would be short


def in_threads(work: Callable[[Any], Any], parts: Any) -> list[Any]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(work, parts))


def cut(a: Array, items: int) -> list[Array]:
    """Cut along the first axis into parts of about so many items."""
    rows = max(items * len(a) // a.size, 1)
    return [a[start : start + rows] for start in range(0, len(a), rows)]


def std(a: Array, axis: int | None = None) -> Any:
    count = a.size if axis is None else a.shape[axis]
    sums, squares, _ = _moments(np.asarray(a), axis)
    return np.sqrt(np.maximum(squares / count - (sums / count) ** 2, 0))


def mean(a: Array, axis: int | None = None) -> Any:
    a = np.asarray(a)
    if axis is None:
        return total(a) / a.size
    sums, _, first = _moments(a, axis, are_squares_wanted=False)
    return first + sums / a.shape[axis]


def total(a: Array) -> Any:
    def work(span: Array) -> Any:
        return sum(chunk.sum() for chunk in cut(span, CHUNK_ITEMS))

    return sum(in_threads(work, cut(np.asarray(a), SPAN_ITEMS)))


def least(a: Array) -> Any:
    return min(in_threads(np.min, cut(np.asarray(a), SPAN_ITEMS)))


def most(a: Array) -> Any:
    return max(in_threads(np.max, cut(np.asarray(a), SPAN_ITEMS)))


def _moments(a: Array, axis: int | None, are_squares_wanted: bool = True) -> tuple[Any, Any, Any]:
    """Sums of the differences from a first mean and of their squares, and that mean."""
    if a.ndim == 2 and not a.flags.c_contiguous:
        a, axis = a.T, 1 - (axis % 2)  # type: ignore[operator]
    axis = None if axis is None else axis % a.ndim
    if axis == 0 and a.shape[1] <= NARROW:
        return _moments_of_tiles(a, are_squares_wanted)
    if axis == 0 and a.shape[1] > CHUNK_ITEMS:
        return _moments_of_long_rows(a)
    first = cut(a, CHUNK_ITEMS)[0].mean(axis=0 if axis == 0 else None, dtype="f8")
    work = functools.partial(_moments_of, first=first, axis=axis, are_squares_wanted=are_squares_wanted)
    sums, squares = zip(*in_threads(work, cut(a, SPAN_ITEMS)), strict=True)
    join = np.concatenate if axis == 1 else sum
    return join(sums), join(squares), first


def _moments_of_tiles(a: Array, are_squares_wanted: bool) -> tuple[Any, Any, Any]:
    """Those of each column, by many rows side by side as one: so NumPy's loops over the columns are long."""
    rows = len(a) // TILE * TILE
    sums, squares, first = _moments(a[:rows].reshape(-1, TILE * a.shape[1]), 0, are_squares_wanted)
    # The tiles' columns have means of their own; all are moved to that of the first row of the tile.
    sums, squares, first = (each.reshape(TILE, -1) for each in (sums, squares, first))
    moved, count = first - first[0], rows // TILE
    squares = squares + 2 * moved * sums + count * moved**2
    rest = a[rows:] - first[0]
    return (sums + count * moved).sum(0) + rest.sum(0), squares.sum(0) + (rest * rest).sum(0), first[0]


def _moments_of_long_rows(a: Array) -> tuple[Any, Any, Any]:
    """Those of each column, a few columns at a time."""
    first = a[0].astype("f8")
    sums, squares = np.zeros((2, a.shape[1]))

    def work(start: int) -> None:
        here = slice(start, start + LONG_ROWS_ITEMS)
        rest = np.empty(first[here].size)
        for row in a:
            np.subtract(row[here], first[here], out=rest)
            sums[here] += rest
            squares[here] += np.multiply(rest, rest, out=rest)

    in_threads(work, range(0, a.shape[1], LONG_ROWS_ITEMS))
    return sums, squares, first


def _moments_of(span: Array, first: Any, axis: int | None, are_squares_wanted: bool) -> tuple[Any, Any]:
    chunks = cut(span, CHUNK_ITEMS)
    buffer = np.empty(chunks[0].shape)
    sums, squares = [], []
    for chunk in chunks:
        rest = np.subtract(chunk, first, out=buffer[: len(chunk)])
        sums.append(_sum(rest, axis))
        squares.append(_sum_of_squares(rest, axis) if are_squares_wanted else sums[-1])
    join = np.concatenate if axis == 1 else sum
    return join(sums), join(squares)


def _sum(rest: Array, axis: int | None) -> Any:
    if rest.ndim == 2 and rest.shape[1] <= NARROW:
        columns = rest.T
        return functools.reduce(np.add, columns) if axis == 1 else np.array([column.sum() for column in columns])
    return rest.sum(axis=axis)


def _sum_of_squares(rest: Array, axis: int | None) -> Any:
    if rest.ndim == 2 and rest.shape[1] <= NARROW:
        return _sum(np.multiply(rest, rest, out=rest), axis)
    if axis is None:
        return np.einsum("i,i->", rest, rest)
    return np.einsum("ij,ij->j" if axis == 0 else "ij,ij->i", rest, rest)


def counts(a: Array) -> Array:
    """Count each value of an array of bytes."""

    def work(span: Array) -> Any:
        return sum(np.bincount(chunk, minlength=256) for chunk in cut(span, CHUNK_ITEMS))

    return sum(in_threads(work, cut(np.asarray(a), SPAN_ITEMS)))  # type: ignore[return-value]


def histogram(a: Array, bins: int) -> tuple[Array, Array]:
    if a.dtype == np.uint8:
        found = counts(a)
        (values,) = np.nonzero(found)
        return np.histogram(values, bins, weights=found[values])
    ends = least(a), most(a)
    edges = np.histogram_bin_edges(np.empty(0, a.dtype), bins, ends)

    def work(span: Array) -> Any:
        return sum(np.histogram(chunk, bins, ends)[0] for chunk in cut(span, CHUNK_ITEMS))

    return sum(in_threads(work, cut(np.asarray(a), SPAN_ITEMS))), edges  # type: ignore[return-value]


def percentile(a: Array, q: list[float]) -> Any:
    if a.dtype != np.uint8:
        return np.percentile(np.array(a), q, overwrite_input=True)
    up_to = np.cumsum(counts(a))
    places = (a.size - 1) * np.asarray(q) / 100
    below, above = (np.searchsorted(up_to, np.floor(places) + more, side="right") for more in (0, 1))
    return below + (above - below) * (places - np.floor(places))


def describe(a: Array) -> tuple[Any, ...]:
    def work(span: Array) -> tuple[Any, ...]:
        buffer = np.empty(CHUNK_ITEMS)
        found = [_described(chunk, first, buffer) for chunk in cut(span, CHUNK_ITEMS)]
        return tuple(how(column) for how, column in zip(HOWS, zip(*found, strict=True), strict=True))

    a = np.asarray(a)
    first = a[:CHUNK_ITEMS].mean(dtype="f8")
    found = in_threads(work, cut(a, SPAN_ITEMS))
    nans, low, high, sums, squares = (how(column) for how, column in zip(HOWS, zip(*found, strict=True), strict=True))
    count = a.size - nans
    return nans, first + sums / count, np.sqrt(squares / count - (sums / count) ** 2), low, high


HOWS = (sum, min, max, sum, sum)


def _described(chunk: Array, first: float, buffer: Array) -> tuple[Any, ...]:
    rest = np.subtract(chunk, first, out=buffer[: chunk.size])
    nans = np.count_nonzero(np.isnan(rest)) if chunk.dtype.kind == "f" else 0
    if nans:
        chunk, rest = chunk[~np.isnan(chunk)], rest[~np.isnan(rest)]
    return nans, chunk.min(), chunk.max(), rest.sum(), np.einsum("i,i->", rest, rest)


def hypotenuse(operands: tuple[Array, Array, Array]) -> None:
    """Write the root of a*a + b*b into the third array."""

    def work(parts: tuple[Array, ...]) -> None:
        left, right = np.empty((2, CHUNK_ITEMS), parts[0].dtype)
        for a, b, c in zip(*(cut(part, CHUNK_ITEMS) for part in parts), strict=True):
            x, y = np.multiply(a, a, out=left[: a.size]), np.multiply(b, b, out=right[: a.size])
            np.sqrt(np.add(x, y, out=x), out=c)

    in_threads(work, zip(*(cut(np.asarray(operand), SPAN_ITEMS) for operand in operands), strict=True))
