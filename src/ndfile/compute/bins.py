"""Between which thresholds a value has to lie to be in a bin, exactly as `numpy.histogram` decides it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["MOST_BINS", "thresholds_of_edges", "thresholds_of_range"]

# What the kernel takes.
MOST_BINS = 65534

# Integers up to here are compared as doubles like integers, and nothing larger becomes one of them.
EXACT = 2**53


def thresholds_of_edges(edges: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """Thresholds for edges that were given, or None where only NumPy itself can compare values with them.

    Parameters
    ----------
    edges : numpy.ndarray
        Two or more; they do not decrease.
    dtype : numpy.dtype
        Of the values.
    """
    common = np.result_type(edges.dtype, dtype)
    if edges.dtype.kind not in "iuf" or edges.size > MOST_BINS + 1 or common.itemsize > 8:
        return None
    if common.kind != "f" and not -EXACT < edges[0] <= edges[-1] < EXACT:
        return None
    # Values and edges are compared as what both can be.
    compared = edges.astype(common).astype(np.float64)
    return None if np.isnan(compared).any() else _thresholds(compared, dtype)


def thresholds_of_range(
    edges: np.ndarray, first: Any, last: Any, dtype: np.dtype[Any], has_all: bool = False
) -> np.ndarray | None:
    """Thresholds for bins of equal width, or None where NumPy may find others than the edges say.

    NumPy computes a value's bin and corrects it by one, if that is what the edges say. So its bin is that between two
    edges, unless the computation may be wrong by more, which is seen at the ends of all bins: it never gives a larger
    value an earlier bin.

    Parameters
    ----------
    edges : numpy.ndarray
        Those that NumPy computed from the range.
    first, last
        The range, as it was given or found.
    dtype : numpy.dtype
        Of the values.
    has_all : bool
        No value is outside of the range.
    """
    if edges.size > MOST_BINS + 1 or edges.dtype not in (np.float32, np.float64):
        return None
    with np.errstate(all="ignore"):
        for bound, edge in ((first, edges[0]), (last, edges[-1])):
            if not (has_all and bound == edge) and not _is_compared_as(bound, edge, dtype):
                return None
        return _thresholds(edges.astype(np.float64), dtype) if _is_computed_well(edges, first, last) else None


def _is_compared_as(bound: Any, edge: np.floating[Any], dtype: np.dtype[Any]) -> bool:
    """Whether values reach a bound of the range just where they reach that edge."""
    if isinstance(bound, bool) or not isinstance(bound, int | float | np.integer | np.floating):
        return False
    if dtype.kind == "f":
        # A number of Python's becomes one of the values' type.
        return bool((dtype.type(bound) if type(bound) in (int, float) else bound) == edge)
    return bool(bound == edge) and (isinstance(bound, float | np.floating) or abs(int(bound)) < EXACT)


def _is_computed_well(edges: np.ndarray, first: Any, last: Any) -> bool:
    """Whether the bins that NumPy computes for the least and the greatest value of each bin are at most one off."""
    count = edges.size - 1
    bins = np.arange(count)
    greatest = np.append(np.nextafter(edges[1:-1], edges.dtype.type(-np.inf)), edges[-1])
    width = _difference(last, first)
    places = _difference(np.stack([edges[:-1], greatest]), first) / width * count
    if not np.isfinite(places).all():
        return False
    lowest, highest = np.minimum(places.astype(np.intp), count - 1)
    return bool(np.all(lowest >= np.maximum(bins - 1, 0)) and np.all(highest <= np.minimum(bins + 1, count - 1)))


def _difference(high: Any, low: Any) -> Any:
    """That of two numbers or arrays in NumPy's type for both; for signed integers in the unsigned one with room."""
    dtype = np.result_type(high, low)
    if dtype.kind != "i":
        return np.subtract(high, low, dtype=dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.subtract(np.asarray(high, dtype).view(unsigned), np.asarray(low, dtype).view(unsigned))


def _thresholds(edges: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The least values that reach the edges; the last edge is passed, not reached."""
    real = np.float32 if dtype == np.float32 else np.float64
    with np.errstate(all="ignore"):
        found = edges.astype(real)
        is_low = found < edges
        is_low[-1] = found[-1] <= edges[-1]
        found[is_low] = np.nextafter(found[is_low], real(np.inf))
    if edges[-1] == np.inf:
        found[-1] = np.nan  # which nothing passes
    return found
