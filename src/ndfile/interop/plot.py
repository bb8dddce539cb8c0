"""Pictures by matplotlib of arrays of any size. The library is imported when the first one is drawn."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute.histograms import histogram as counted
from ndfile.errors import LayoutError
from ndfile.formats.format import require
from ndfile.pictures.picture import Box, pictured
from ndfile.pictures.residency import in_words_of
from ndfile.pictures.subject import subject_of
from ndfile.pictures.words import named

if TYPE_CHECKING:
    from ndfile.progress import Progress

__all__ = ["histogram", "image", "residency"]

PARTS = 512

# Letters in a line of a title.
TITLE_WIDTH = 64


def residency(a: Any, ax: Any = None) -> Any:
    """Draw which parts of an array are in memory, from its first byte to its last. Reads none of them.

    Parameters
    ----------
    a : memmap
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes of pyplot.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    LibraryError
        matplotlib is not installed. An ImportError.
    ClosedError
        The array is closed. A ValueError.

    Notes
    -----
    Cost: that of `memmap.residency` with 512 parts.

    Platforms: Linux.

    Threads: as matplotlib, which wants one.

    Examples
    --------
    >>> import os, tempfile
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> nf.save("x.npy", np.zeros((4, 1000)))
    >>> nf.plot.residency(nf.open("x.npy")).get_xlabel()
    'bytes from the first'
    """
    axes = _axes(ax)
    found = a.residency(PARTS)
    edges = np.linspace(0, found.nbytes, len(found.parts) + 1)
    axes.stairs(found.parts, edges, fill=True)
    axes.set(xlim=(0, found.nbytes or 1), ylim=(0, 1), xlabel="bytes from the first", ylabel="share in memory")
    _name(axes, f"{named(a)}: {in_words_of(found)}")
    return axes


def image(
    a: Any,
    ax: Any = None,
    *,
    index: Any = None,
    field: str | None = None,
    kind: str = "auto",
    size: tuple[int, int] = (600, 800),
    range: tuple[float, float] | None = None,
    cmap: Any = None,
    **options: Any,
) -> Any:
    """Draw an array of any size as an image, in colours or as a line, from the items that the picture needs.

    The axes show the array's own indices, whatever was left out.

    Parameters
    ----------
    a : numpy.ndarray
        Of any dtype of numbers. One with more than two axes is shown in the middle of the others, unless the last one
        has 3 or 4 for colours; a line as what is between its smallest and largest items.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes of pyplot.
    index : basic index, optional
        What of the array is looked at, as in ``a[index]``.
    field : str, optional
        Of a structured array.
    kind : {'auto', 'image', 'colours', 'line'}
    size : (int, int), default (600, 800)
        Rows and columns of pixels to look at, at most.
    range : (float, float), optional
        The ends of the scale; by default the 1st and the 99th percentile of the pixels.
    cmap : str or matplotlib colormap, optional
        By default grey.
    **options
        Further ones of `matplotlib.axes.Axes.imshow`, of a line those of `fill_between`.

    Returns
    -------
    matplotlib.axes.Axes
        ``ax.images[-1]`` is what ``Figure.colorbar`` takes.

    Raises
    ------
    LibraryError
        matplotlib is not installed. An ImportError.
    LayoutError
        There is nothing to see. A ValueError.

    Notes
    -----
    Cost: at most 96 MiB of the file are read, some 20 MiB of memory are used: half a second for a file of any size.

    Platforms: Linux.

    Threads: as matplotlib, which wants one.

    Examples
    --------
    >>> import os, tempfile
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> a = nf.memmap("x.dat", "f4", "w+", shape=(100_000, 268_435), sparse=True)
    >>> ax = nf.plot.image(a)
    >>> ax.get_xlim(), ax.get_ylim()
    ((np.float64(-0.5), np.float64(268434.5)), (np.float64(99999.5), np.float64(-0.5)))
    """
    axes = _axes(ax)
    subject = subject_of(a, index, field, kind)
    if not subject.items.size:
        raise LayoutError(f"an array of shape {subject.items.shape} has no items to see", "Pass one that has.")
    picture = pictured(subject, Box(*size), extent=range)
    if picture.is_line:
        return _line(axes, subject, picture, options)
    rows, columns = subject.items.shape[:2]
    values: Any = picture.values
    if subject.kind == "colours":
        values = np.clip((values - picture.low) / (picture.high - picture.low), 0, 1)
        values[np.isnan(values).any(2)] = 0 if values.shape[2] == 4 else 1
    else:
        values = np.ma.masked_invalid(values[:, :, 0])
        options = {"vmin": picture.low, "vmax": picture.high, "cmap": cmap or "gray"} | options
    wanted: dict[str, Any] = {"extent": (-0.5, columns - 0.5, rows - 0.5, -0.5), "origin": "upper"}
    wanted |= {"aspect": "equal" if max(rows, columns) <= 8 * min(rows, columns) else "auto"}
    wanted |= {"interpolation": "nearest"}
    axes.imshow(values, **wanted | options)
    _name(axes, picture.title)
    return axes


def histogram(
    a: Any,
    bins: Any = 100,
    ax: Any = None,
    *,
    range: tuple[float, float] | None = None,
    density: bool = False,
    progress: Progress = None,
    **options: Any,
) -> Any:
    """Draw how many items of an array lie in which bins. All of them are counted, block by block.

    Parameters
    ----------
    a : numpy.ndarray
        Of integers, bool or real floats.
    bins, range, density
        As for `numpy.histogram`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes of pyplot.
    progress : None, bool or callable
        Report how far the counting is.
    **options
        Further ones of `matplotlib.axes.Axes.stairs`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    LibraryError
        matplotlib is not installed. An ImportError.
    ValueError, TypeError
        As `numpy.histogram`.

    Notes
    -----
    Cost: the whole array is read, once, or twice where the range has to be found; at most 64 MiB of memory.

    Platforms: Linux.

    Threads: as matplotlib, which wants one.

    Examples
    --------
    >>> import os, tempfile
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> nf.save("x.npy", np.arange(1000))
    >>> nf.plot.histogram(nf.open("x.npy"), bins=10).get_ylabel()
    'items'
    """
    axes = _axes(ax)
    found = counted(a, bins, range, density, progress=progress)
    counts, edges = np.histogram(a, bins, range, density) if found is NotImplemented else found
    axes.stairs(counts, edges, **{"fill": True} | options)
    axes.set(xlabel="value", ylabel="density" if density else "items")
    _name(axes, f"{named(a)}: {a.dtype} {a.shape}")
    return axes


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    require("matplotlib", "plot", "drawing")
    return require("matplotlib.pyplot", "plot", "drawing").gca()


def _line(axes: Any, subject: Any, picture: Any, options: dict[str, Any]) -> Any:
    count, (low, high) = len(subject.items), picture.values
    is_time = subject.items.dtype.kind in "mM"
    if is_time:
        low, high = (_as_times(values, subject.items.dtype) for values in (low, high))
    edges = np.arange(len(low) + 1) * count // len(low)
    middles = (edges[:-1] + edges[1:] - 1) / 2
    if len(low) == count:
        axes.plot(middles, low, **options)
    else:
        axes.fill_between(middles, low, high, **{"edgecolor": "face", "linewidth": 1.0} | options)
    axes.set_xlim(-0.5, count - 0.5)
    if not is_time and picture.low < picture.high:
        axes.set_ylim(picture.low, picture.high)
    _name(axes, picture.title)
    return axes


def _as_times(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    are_none = np.isnan(values)
    counts = np.where(are_none, 0, values).astype(np.int64)
    counts[are_none] = np.iinfo(np.int64).min  # NaT
    return counts.view(dtype.newbyteorder("="))


def _name(axes: Any, title: str) -> None:
    # A name may have dollars, which matplotlib would take for formulas.
    axes.set_title(fill(title.replace("$", r"\$"), TITLE_WIDTH), fontsize="small")
