"""Which of NumPy's names lead here, for a large array of ours.

The core asks, for a method by name and for a function by itself. The answer is `NotImplemented` for what NumPy is to do
itself: what is not in the tables, arguments that make no sense (NumPy says so best), and what would not be faster or
smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute import bincounts, deviations, folds, histograms, positions, products, quantiles, totals

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FUNCTIONS", "METHODS", "called", "function", "method", "own"]

METHODS: dict[str, Callable[..., Any]] = {
    "all": folds.all_of,
    "any": folds.any_of,
    "argmax": positions.argmax,
    "argmin": positions.argmin,
    "dot": products.dot,
    "max": folds.largest,
    "mean": totals.mean,
    "min": folds.smallest,
    "prod": folds.prod,
    "std": deviations.std,
    "sum": totals.sum_of,
    "var": deviations.var,
}

# Those of NumPy's functions that do not come to a method by themselves.
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.average: products.average,
    np.bincount: bincounts.bincount,
    np.count_nonzero: folds.count_nonzero,
    np.dot: products.dot,
    np.histogram: histograms.histogram,
    np.histogram_bin_edges: histograms.histogram_bin_edges,
    np.median: quantiles.median,
    np.nanmax: folds.nanmax,
    np.nanmean: totals.nanmean,
    np.nanmedian: quantiles.nanmedian,
    np.nanmin: folds.nanmin,
    np.nanpercentile: quantiles.nanpercentile,
    np.nanquantile: quantiles.nanquantile,
    np.nanstd: deviations.nanstd,
    np.nansum: totals.nansum,
    np.nanvar: deviations.nanvar,
    np.percentile: quantiles.percentile,
    np.ptp: folds.ptp,
    np.quantile: quantiles.quantile,
}

# What ours take beyond NumPy's.
EXTRA = ("progress", "threads", "correction")


def method(name: str, array: np.ndarray, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A method of an array."""
    if not kwargs.keys().isdisjoint(EXTRA) or (len(args) > 1 and name in ("all", "any")):
        return NotImplemented  # these two methods have another second argument than their functions
    return called(METHODS[name], (array, *args), kwargs)


def function(asked: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of NumPy's."""
    own = FUNCTIONS.get(asked)
    return NotImplemented if own is None else called(own, args, kwargs)


def own(asked: Callable[..., Any]) -> Callable[..., Any]:
    """Ours for a function of NumPy's."""
    return FUNCTIONS.get(asked) or METHODS[asked.__name__]


def called(own: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function of ours; what does not fit its signature is left to NumPy, which says so."""
    try:
        return own(*args, **kwargs)
    except TypeError as error:
        # Raised by the call itself, not within it.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            return NotImplemented
        raise
