"""Histograms: how many items lie in which bins, or occur how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import count_bins
from ndfile.compute.bins import MOST_BINS, thresholds_of_edges, thresholds_of_range
from ndfile.compute.blocks import Blocks, Input
from ndfile.compute.running import run
from ndfile.compute.tallies import BLOCK_NBYTES, crew, extent_of, flat, tally_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ndfile.progress import Progress

__all__ = ["histogram", "histogram_bin_edges"]

# Items that NumPy counts at a time, and adds up: with the same pieces, sums of weights are rounded alike.
PIECE = 65536


def histogram(
    a: Any,
    bins: Any = 10,
    range: Any = None,
    density: Any = None,
    weights: Any = None,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Count the items in bins, as `numpy.histogram` does, in one pass, or in two where the range has to be found.

    Parameters
    ----------
    a : numpy.ndarray
        Of integers, bool or real floats, of any shape, strides and byte order.
    bins, range, density, weights
        As for `numpy.histogram`.
    progress : None, bool or callable
        See `reported`.
    threads : int, optional
        By default as many as there are processors, up to eight.

    Returns
    -------
    hist, bin_edges : numpy.ndarray
        Equal to NumPy's. Sums of weights that are rounded may be rounded otherwise, unless the array is contiguous and
        its bins are of equal width. NotImplemented for bins by name and what else is left to NumPy.

    Raises
    ------
    FaultError
        If items are lost.

    Notes
    -----
    Cost: one pass at 1 to 2 ns an item and thread; bytes, numbers of two bytes and float16 are faster. With weights, or
    with more than 65534 bins, by NumPy's own code, in pieces.
    Platforms: all the same.
    Threads: the result does not depend on them.

    Examples
    --------
    >>> import numpy as np
    >>> from ndfile.compute.histograms import histogram
    >>> histogram(np.arange(10.0), bins=3)
    (array([3, 3, 4]), array([0., 3., 6., 9.]))
    """
    if not _is_ours(a) or isinstance(bins, str) or not _are_weights(weights, a):
        return NotImplemented
    ways: dict[str, Any] = {"progress": progress, "threads": threads, "label": "histogram"}
    if weights is None and a.itemsize <= 2:
        values, counts = tally_of(a, **ways)
        return np.histogram(values, bins, range, density, counts)
    dtype = a.dtype.newbyteorder("=")
    extent: Any = range
    is_uniform = np.ndim(bins) == 0
    if is_uniform and range is None:
        ways["progress"] = _half(progress, 0)
        extent = extent_of(a, **ways)
        ways["progress"] = _half(progress, 1)
    edges = _edges(dtype, bins, range, extent)
    if edges.size < 2 or edges.size > 2 * MOST_BINS:
        return NotImplemented
    if is_uniform:
        first, last = _widened(*extent)
        thresholds = thresholds_of_range(edges, first, last, dtype, has_all=range is None)
    else:
        thresholds = thresholds_of_edges(edges, dtype)
    if weights is not None or thresholds is None or dtype.char not in "fdilqILQ":
        found = _by_pieces(a, weights, bins if is_uniform else edges, extent, edges.size - 1, ways)
    else:
        found = _counted(a, thresholds, ways)
    if density:
        found = found / np.diff(edges).astype(float) / found.sum()
    return found, edges


def histogram_bin_edges(
    a: Any,
    bins: Any = 10,
    range: Any = None,
    weights: Any = None,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Compute the edges that `histogram` uses.

    Parameters
    ----------
    a, bins, range, weights, progress, threads
        As for `histogram`.

    Returns
    -------
    numpy.ndarray
        Equal to NumPy's; NotImplemented for bins by name and what else is left to NumPy.

    Raises
    ------
    FaultError
        If items are lost.

    Notes
    -----
    Cost: one pass at the speed of memory where the range has to be found, otherwise none.
    Platforms: all the same.
    Threads: the result does not depend on them.

    Examples
    --------
    >>> import numpy as np
    >>> from ndfile.compute.histograms import histogram_bin_edges
    >>> histogram_bin_edges(np.arange(10.0), bins=3)
    array([0., 3., 6., 9.])
    """
    if not _is_ours(a) or a.dtype.kind == "b" or isinstance(bins, str) or weights is not None:
        return NotImplemented
    is_to_be_found = np.ndim(bins) == 0 and range is None
    extent = extent_of(a, progress=progress, threads=threads) if is_to_be_found else range
    return _edges(a.dtype.newbyteorder("="), bins, range, extent)


def _is_ours(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.size > 0 and a.ndim > 0 and a.dtype.kind in "biuf"


def _are_weights(weights: Any, a: np.ndarray) -> bool:
    """Whether these are no weights, or such as we can add up by pieces."""
    if weights is None:
        return True
    is_alike = isinstance(weights, np.ndarray) and weights.shape == a.shape
    return is_alike and weights.dtype.kind in "iufc" and a.dtype.kind != "b"


def _half(progress: Progress, which: int) -> Progress:
    """Half of a progress, of two passes."""
    if not callable(progress):
        return progress
    return lambda done, total: progress(which * total + done, 2 * total)


def _edges(dtype: np.dtype[Any], bins: Any, given: Any, extent: Any) -> np.ndarray:
    """NumPy's edges, and its errors: of the values it looks at nothing but the type and the extent."""
    values = np.zeros(1, dtype) if extent is given else np.array(extent, dtype)
    return np.histogram_bin_edges(values, bins, given)


def _widened(first: Any, last: Any) -> tuple[Any, Any]:
    """The range that NumPy makes of one."""
    return (first - 0.5, last + 0.5) if first == last else (first, last)


def _counted(a: np.ndarray, thresholds: np.ndarray, ways: dict[str, Any]) -> np.ndarray:
    counts = np.zeros(thresholds.size + 1, np.int64)
    source = Input(a)

    def work(block: Any) -> np.ndarray:
        found = np.zeros_like(counts)
        count_bins(flat(source.read(block)), thresholds, found)
        source.check(block)
        return found

    _summed(work, Blocks.of(a, BLOCK_NBYTES), counts, a.nbytes, ways)
    return counts[1:-1].copy()  # without those below the first edge and above the last


def _by_pieces(a: np.ndarray, weights: Any, bins: Any, extent: Any, count: int, ways: dict[str, Any]) -> np.ndarray:
    arrays = [a] if weights is None else [a, weights]
    if all(one.flags.c_contiguous for one in arrays):
        arrays = [one.reshape(-1) for one in arrays]
    total = np.zeros(count, np.intp if weights is None else weights.dtype)
    sources = [Input(one) for one in arrays]

    def work(block: Any) -> np.ndarray:
        parts = [source.read(block) for source in sources]
        found = np.histogram(parts[0], bins, extent, weights=parts[1] if len(parts) > 1 else None)[0]
        for source in sources:
            source.check(block)
        return found

    _summed(work, Blocks(arrays[0].shape, tuple(np.arange(arrays[0].ndim)), PIECE), total, a.nbytes, ways)
    return total


def _summed(
    work: Callable[[Any], np.ndarray], blocks: Blocks, total: np.ndarray, nbytes: int, ways: dict[str, Any]
) -> None:
    """Add what `work` finds in the blocks, one after the other."""

    def take(_block: Any, found: np.ndarray) -> None:
        np.add(total, found, out=total, casting="unsafe")

    run(work, blocks, take, nbytes=nbytes, **ways | {"threads": crew(ways["threads"])})
