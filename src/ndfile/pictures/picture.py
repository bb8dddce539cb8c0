"""Picture: what is seen of an array, in pixels, and in words."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.errors import LayoutError
from ndfile.pictures.envelope import Envelope, enveloped
from ndfile.pictures.png import png
from ndfile.pictures.samples import MOST_PAGES, edges_of, sampled
from ndfile.pictures.shades import colour_map, coloured, scale_of, shaded
from ndfile.pictures.words import named, number

if TYPE_CHECKING:
    from ndfile.pictures.subject import Subject

__all__ = ["Box", "Picture", "pictured"]

# An image is drawn to scale as long as its shorter side has this part of its box.
THINNEST = 1 / 8

# A pixel's item is magnified so many times at most.
MOST_MAGNIFIED = 64

INK, PAPER, ZERO = (31, 90, 150, 255), (255, 255, 255, 255), (190, 190, 190, 255)


class Box(NamedTuple):
    """The room that there is for a picture.

    Attributes
    ----------
    height, width : int
        Pixels.
    pixel_height : float
        How high a pixel is, in widths of one.
    """

    height: int
    width: int
    pixel_height: float = 1.0


class Picture(NamedTuple):
    """A picture of an array.

    Attributes
    ----------
    pixels : numpy.ndarray of uint8
        (rows, columns, 4): red, green, blue, opacity.
    title : str
        What is seen.
    is_line : bool
    low, high : float
        What the ends of the scale stand for.
    values : numpy.ndarray of float64
        What was looked at: (rows, columns, channels) of an image, (2, columns) of a line.
    drawn : numpy.ndarray of bool
        (rows, columns): where a line is.
    """

    pixels: np.ndarray
    title: str
    is_line: bool
    low: float
    high: float
    values: np.ndarray
    drawn: np.ndarray

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file, with its title among the texts."""
        return png(self.pixels, {"Title": self.title, "Software": "ndfile"})


def pictured(
    subject: Subject,
    box: Box,
    *,
    extent: tuple[float, float] | None = None,
    colours: str = "grey",
    name: str | None = None,
    most_pages: int = MOST_PAGES,
) -> Picture:
    """Draw a subject.

    Parameters
    ----------
    subject : Subject
    box : Box
        The picture is not larger.
    extent : (float, float), optional
        What the lowest and the highest colour stand for, or the lower and the upper edge of a line's picture. By
        default the 1st and the 99th percentile of the pixels, and a line's least and most.
    colours : {'grey', 'viridis', 'magma', 'bluered'}
    name : str, optional
        How the array is called in the title; by default as its file.
    most_pages : int
        Pages of the file that may be touched.

    Returns
    -------
    Picture

    Raises
    ------
    LayoutError
        A box without room, a colour map that there is not, an extent that is none. A ValueError.
    FaultError, ClosedError
        The items cannot be read.

    Notes
    -----
    Cost: at most `most_pages` pages are read, and some 16 million items; some 20 MiB of memory.

    Platforms: Linux.

    Threads: safe. What the process has mapped of the file is let go.
    """
    if min(operator.index(box.height), operator.index(box.width)) < 1:
        raise LayoutError(f"a picture of {box.height} x {box.width} pixels has none", "Pass sizes of at least 1.")
    if extent is not None and not (np.isfinite(extent).all() and extent[0] < extent[1]):
        raise LayoutError(
            f"the range {extent[0]} to {extent[1]} is none", "Pass two finite numbers, the lower one first."
        )
    table, words = colour_map(colours), [*subject.words]
    title = f"{named(subject.array) if name is None else name}: {subject.array.dtype} {subject.array.shape}"
    if not subject.items.size:
        pixels = np.zeros((1, 1, 4), np.uint8)
        empty = np.zeros((1, 1), bool)
        return Picture(
            pixels, ", ".join([title, *words, "no items"]), False, 0.0, 1.0, np.full((1, 1, 1), np.nan), empty
        )
    draw = _line if subject.kind == "line" else _image
    return draw(subject, box, extent, table, [title, *words], most_pages)


# ---- Images ----


def _image(subject: Subject, box: Box, extent: Any, table: np.ndarray, words: list[str], most_pages: int) -> Picture:
    rows, columns, _channels = subject.items.shape
    height, width, is_stretched = frame(rows, columns, box)
    values, how = sampled(subject.items, min(rows, height), min(columns, width), most_pages)
    words += [how] if how else []
    dtype = subject.items.dtype
    if subject.kind == "colours":
        low, high = extent or (0.0, float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0)
        pixels = coloured(values - low, high - low)
        words.append(f"colours {low:.6g} to {high:.6g}")
    else:
        low, high, found = (*extent, "") if extent else scale_of(values, dtype)
        pixels = shaded(values[:, :, 0], low, high, table)
        words.append(f"scale {number(low, dtype)} to {number(high, dtype)}{f' ({found})' if found else ''}")
    words += ["not to scale"] if is_stretched else []
    pixels = _magnified(_magnified(pixels, height, 0), width, 1)
    return Picture(pixels, ", ".join(words), False, low, high, values, np.zeros(pixels.shape[:2], bool))


def frame(rows: int, columns: int, box: Box) -> tuple[int, int, bool]:
    """How many pixels an image has in a box, and whether one side had to be stretched."""
    scale = min(box.height * box.pixel_height / rows, box.width / columns, MOST_MAGNIFIED)
    height, width = rows * scale / box.pixel_height, columns * scale
    if scale >= 1 and box.pixel_height == 1.0:
        return rows * int(scale), columns * int(scale), False
    least_height, least_width = min(box.height, max(box.height * THINNEST, 1)), max(box.width * THINNEST, 1)
    is_stretched = height < least_height or width < least_width
    # Where there are fewer items than that, whole numbers of pixels for each.
    height, width = _whole(max(height, least_height), rows), _whole(max(width, least_width), columns)
    return min(height, box.height), min(width, box.width), is_stretched


def _whole(pixels: float, items: int) -> int:
    found = max(round(pixels), 1)
    return found if found < items else found // items * items


def _magnified(pixels: np.ndarray, wanted: int, axis: int) -> np.ndarray:
    count = pixels.shape[axis]
    if count >= wanted:
        return pixels
    return np.repeat(pixels, np.diff(edges_of(wanted, count)), axis)


# ---- Lines ----


def _line(subject: Subject, box: Box, extent: Any, _: np.ndarray, words: list[str], most_pages: int) -> Picture:
    items = subject.items
    width = _whole(box.width, len(items)) if len(items) <= box.width else box.width
    envelope = enveloped(items, min(len(items), width), most_pages)
    words += [envelope.words] if envelope.words else []
    low, high = extent or _ends(envelope)
    if np.isnan(envelope.low).all():
        words.append("nothing finite")
    else:
        words.append(f"{number(low, items.dtype)} to {number(high, items.dtype)}{'' if low < high else ' (constant)'}")
    drawn = _magnified(_drawn(envelope, low, high, box.height), width, 1)
    pixels = np.full((*drawn.shape, 4), PAPER, np.uint8)
    if low < 0 < high and items.dtype.kind not in "mM":
        pixels[_rows_of(np.zeros(1), low, high, box.height)[0]] = ZERO
    pixels[drawn] = INK
    values = np.stack([envelope.low, envelope.high])
    return Picture(pixels, ", ".join(words), True, low, high, values, drawn)


def _ends(envelope: Envelope) -> tuple[float, float]:
    if np.isnan(envelope.low).all():
        return 0.0, 1.0
    return float(np.nanmin(envelope.low)), float(np.nanmax(envelope.high))


def _rows_of(values: np.ndarray, low: float, high: float, height: int) -> np.ndarray:
    """Which row of the picture values are on: the highest is on the first."""
    span = high / 2 - low / 2
    share = (values / 2 - low / 2) / span if span > 0 else np.full(values.shape, 0.5)
    return np.rint((1 - np.clip(share, -1, 2)) * (height - 1)).astype(np.int64)


def _drawn(envelope: Envelope, low: float, high: float, height: int) -> np.ndarray:
    """Which pixels are between least and most, so that each column touches the next."""
    is_there = ~np.isnan(envelope.low)
    tops = _rows_of(np.where(is_there, envelope.high, low), low, high, height)
    bottoms = _rows_of(np.where(is_there, envelope.low, low), low, high, height)
    # Up to where the column before begins, if that is above or below.
    both = is_there[1:] & is_there[:-1]
    above, below = both & (bottoms[:-1] < tops[1:]), both & (tops[:-1] > bottoms[1:])
    joined_tops, joined_bottoms = tops.copy(), bottoms.copy()
    joined_tops[1:][above] = bottoms[:-1][above] + 1
    joined_bottoms[1:][below] = tops[:-1][below] - 1
    rows = np.arange(height)[:, None]
    drawn: np.ndarray = (rows >= joined_tops) & (rows <= joined_bottoms) & is_there
    return drawn
