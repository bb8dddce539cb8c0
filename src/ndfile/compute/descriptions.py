"""What is in an array, in one read: how many items, how many of them are NaN, mean, deviation, smallest and largest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.compute import kernels, quantiles
from ndfile.compute.arguments import Request
from ndfile.compute.deviations import join_moments
from ndfile.compute.reducing import reduce
from ndfile.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ndfile.compute.blocks import Block
    from ndfile.compute.reducing import State
    from ndfile.progress import Progress

__all__ = ["Description", "describe"]


class Description(NamedTuple):
    """What `describe` has found. Along an axis each field is an array.

    Attributes
    ----------
    count : int
        Items that are not NaN.
    nan_count : int
    mean : float
    std : float
        Of all items: divided by their number.
    min, max : scalar
        Of the array's type.
    percentiles : dict of float to scalar
        Those asked for.
    """

    count: Any
    nan_count: Any
    mean: Any
    std: Any
    min: Any
    max: Any
    percentiles: dict[float, Any]

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in self._fields[:-1]}
        fields |= {f"{percent:g}%": value for percent, value in self.percentiles.items()}
        width = max(len(name) for name in fields)
        return "\n".join(f"{name:<{width}}  {_in_words(value, width + 2)}" for name, value in fields.items())


def _in_words(value: Any, indent: int) -> str:
    if np.ndim(value):
        return np.array2string(value, precision=6, threshold=12, prefix=" " * indent)
    return f"{value:,}" if isinstance(value, (int, np.integer)) else f"{value:.8g}"


class _Everything:
    """Counts, means, squared deviations and extremes by one kernel."""

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> State:
        found = kernels.moments(block, axes, skip_nan=True, extremes=True)
        counts = np.broadcast_to(found.counts, found.mean.shape)
        assert found.low is not None
        assert found.high is not None
        return counts, found.mean, found.error, found.m2, np.zeros_like(found.m2), found.low, found.high

    def join(self, state: State, new: State) -> None:
        join_moments(state[:5], new[:5])
        np.fmin(state[5], new[5], out=state[5])
        np.fmax(state[6], new[6], out=state[6])

    def finish(self, state: State, _place: Block) -> State:
        return state

    def is_enough(self, _state: State) -> bool:
        return False


def describe(
    a: np.ndarray,
    axis: int | tuple[int, ...] | None = None,
    *,
    percentiles: Sequence[float] = (),
    progress: Progress = None,
    threads: int | None = None,
) -> Description:
    """Count, NaN count, mean, standard deviation, minimum and maximum of an array in one read.

    NaN are counted and otherwise left out, as in `numpy.nanmean`.

    Parameters
    ----------
    a : numpy.ndarray
        Of bool, integers or floats of up to 64 bits, on a file or in memory.
    axis : int or tuple of int, optional
        Along which; by default all items together.
    percentiles : sequence of float, optional
        0 to 100: these too, exactly, as `numpy.nanpercentile` has them; that takes further reads.
    progress : None, bool or callable
        True draws a bar; a callable is called with ``(done_nbytes, total_nbytes)``.
    threads : int, optional
        By default as many as there are processors for the process. The result does not depend on it.

    Returns
    -------
    Description
        A named tuple with a readable repr.

    Raises
    ------
    LayoutError
        An array without items, or of another type. A ValueError.
    numpy.exceptions.AxisError
        There is no such axis.
    FaultError
        The file was cut meanwhile, or cannot be read.

    Notes
    -----
    Cost: one pass at the speed of memory or of the device, in less than 64 MiB whatever the size.

    Platforms: all.

    Threads: its own, which are gone when it returns.

    The deviation is that of `numpy.nanstd`; means and squared deviations of blocks are joined by the formula of Chan,
    Golub and LeVeque (1979).

    Examples
    --------
    >>> import numpy as np
    >>> import ndfile as nf
    >>> nf.describe(np.array([1.0, 2.0, 3.0, np.nan]))
    count      3
    nan_count  1
    mean       2
    std        0.81649658
    min        1
    max        3
    """
    array = np.asanyarray(a)
    request = Request.of(array, axis)
    if request is None or not kernels.handles(array.dtype):
        np.empty(array.shape, "?").any(axis=axis) if array.size else None  # an error for an axis that is not there
        raise LayoutError(
            f"describe: an array of {array.dtype} and shape {array.shape}",
            "Pass one with items, of bool, integers or floats of up to 64 bits.",
        )
    counts, mean, _, squares, _, low, high = reduce(
        _Everything(), request, threads=threads, progress=progress, label="describe"
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(counts == 0, np.nan, mean)
        std = np.sqrt(squares / counts)
    found = {}
    if len(percentiles):
        values = quantiles.nanpercentile(array, list(percentiles), axis, progress=progress, threads=threads)
        if values is NotImplemented:
            values = np.nanpercentile(np.asarray(array), list(percentiles), axis)
        found = {float(percent): value for percent, value in zip(percentiles, values, strict=True)}
    of = request.result
    return Description(of(counts), of(request.lane_size - counts), of(mean), of(std), of(low), of(high), found)
