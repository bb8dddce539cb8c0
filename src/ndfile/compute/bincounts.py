"""How often each number from 0 on occurs, or what its weights add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute.blocks import Blocks, Input
from ndfile.compute.running import run
from ndfile.compute.tallies import BLOCK_NBYTES, crew, extent_of, flat, tally_of

if TYPE_CHECKING:
    from ndfile.progress import Progress

__all__ = ["bincount"]

# Up to here each block has counts of its own, 1 MiB.
FEW = 1 << 17


def bincount(
    x: Any,
    /,
    weights: Any = None,
    minlength: Any = 0,
    *,
    progress: Progress = None,
    threads: int | None = None,
) -> Any:
    """Count how often each number occurs, as `numpy.bincount` does, without a copy of them as int64.

    Parameters
    ----------
    x : numpy.ndarray of integers or bool
        On one axis; none is negative.
    weights : numpy.ndarray, optional
        As many real numbers.
    minlength : int
        Of the result.
    progress : None, bool or callable
        See `reported`.
    threads : int, optional
        By default as many as there are processors, up to eight.

    Returns
    -------
    numpy.ndarray
        Equal to NumPy's; sums of weights may be rounded otherwise, since they are added up by blocks. NotImplemented
        for what is left to NumPy.

    Raises
    ------
    ValueError
        If there are negative numbers.
    FaultError
        If items are lost.

    Notes
    -----
    Cost: one pass for items of one or two bytes, otherwise two. The result is as long as the largest number is large.
    Platforms: all the same.
    Threads: the result does not depend on them. Only one counts where the result is longer than 131072.

    Examples
    --------
    >>> import numpy as np
    >>> from ndfile.compute.bincounts import bincount
    >>> bincount(np.array([0, 1, 1, 3]))
    array([1, 2, 0, 1])
    """
    if not _are_numbers(x) or type(minlength) is not int or minlength < 0:
        return NotImplemented
    ways: dict[str, Any] = {"progress": progress, "threads": threads, "label": "bincount"}
    if weights is None and x.itemsize <= 2:
        values, counts = tally_of(x, **ways)
        return _spread(values, counts, minlength)
    if weights is not None and not _are_weights(weights, x):
        return NotImplemented
    length = max(_largest(x, threads) + 1, minlength)
    if weights is None:
        return _counted(x, length, ways) if length <= FEW else _counted_in_place(x, length, ways)
    return _weighted(x, weights, length, ways) if length <= FEW else NotImplemented


def _are_numbers(x: Any) -> bool:
    is_array = isinstance(x, np.ndarray) and x.ndim == 1 and x.size > 0
    return is_array and x.dtype.kind in "biu" and np.can_cast(x.dtype, np.intp)


def _are_weights(weights: Any, x: np.ndarray) -> bool:
    is_array = isinstance(weights, np.ndarray) and weights.shape == x.shape
    return is_array and weights.dtype.kind in "biuf" and np.can_cast(weights.dtype, np.double)


def _refuse_negative(least: Any) -> None:
    if least < 0:
        np.bincount(np.array([-1]))  # which says why


def _largest(x: np.ndarray, threads: int | None) -> int:
    least, greatest = extent_of(x, threads=threads)
    _refuse_negative(least)
    return int(greatest)


def _spread(values: np.ndarray, counts: np.ndarray, minlength: int) -> np.ndarray:
    _refuse_negative(values.min())
    places = values.astype(np.intp)
    found = np.zeros(max(int(places.max()) + 1, minlength), np.intp)
    found[places] = counts
    return found


def _counted(x: np.ndarray, length: int, ways: dict[str, Any]) -> np.ndarray:
    source = Input(x)
    total = np.zeros(length, np.intp)

    def work(block: Any) -> np.ndarray:
        found = np.bincount(flat(source.read(block)), minlength=length)
        source.check(block)
        return found

    def take(_block: Any, found: np.ndarray) -> None:
        np.add(total, found, out=total)

    blocks = Blocks.of(x, BLOCK_NBYTES)
    run(work, blocks, take, nbytes=x.nbytes, **ways | {"threads": crew(ways["threads"])})
    return total


def _counted_in_place(x: np.ndarray, length: int, ways: dict[str, Any]) -> np.ndarray:
    source = Input(x)
    total = np.zeros(length, np.intp)

    def work(block: Any) -> None:
        np.add.at(total, flat(source.read(block)), 1)
        source.check(block)

    run(work, Blocks.of(x, BLOCK_NBYTES), _nothing, nbytes=x.nbytes, **ways | {"threads": 1})
    return total


def _nothing(_block: Any, _found: Any) -> None:
    pass


def _weighted(x: np.ndarray, weights: np.ndarray, length: int, ways: dict[str, Any]) -> np.ndarray:
    numbers, shares = Input(x), Input(weights)
    total = np.zeros(length)

    def work(block: Any) -> np.ndarray:
        found = np.bincount(numbers.read(block), shares.read(block), length)
        numbers.check(block)
        shares.check(block)
        return found

    def take(_block: Any, found: np.ndarray) -> None:
        np.add(total, found, out=total)

    blocks = Blocks.of(x, BLOCK_NBYTES)
    run(work, blocks, take, nbytes=x.nbytes + weights.nbytes, **ways | {"threads": crew(ways["threads"])})
    return total
