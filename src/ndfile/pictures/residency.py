"""A picture of which parts of an array are in memory. No page of it is read by that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.files.publication import publish
from ndfile.pictures.picture import Picture
from ndfile.pictures.shades import shaded
from ndfile.pictures.words import named
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import os

    from ndfile.hints import Residency

__all__ = ["in_words_of", "residency_picture", "save_picture"]

# Squares in a row of the picture, rows, and pixels to a square, with a line between it and the next.
COLUMNS, ROWS, SIDE = 64, 16, 10

# From nothing in memory to all of it.
COLOURS = np.linspace((222, 226, 230), (13, 110, 190), 256).round().astype(np.uint8)


def residency_picture(array: Any, name: str | None = None) -> Picture:
    """Draw which parts of an array are in memory, from its first byte to its last, in rows of squares.

    Parameters
    ----------
    array : memmap
    name : str, optional
        How it is called in the title; by default as its file.

    Returns
    -------
    Picture
        `values` has the share of each part, 0 to 1; NaN behind the last one.

    Raises
    ------
    ClosedError
        The array is closed. A ValueError.

    Notes
    -----
    Cost: that of `memmap.residency` with 1024 parts. No page is read.

    Platforms: Linux.

    Threads: safe.
    """
    found = array.residency(COLUMNS * ROWS)
    rows = max(math.ceil(len(found.parts) / COLUMNS), 1)
    shares = np.full(rows * COLUMNS, np.nan)
    shares[: len(found.parts)] = found.parts
    values = shares.reshape(rows, COLUMNS)
    # What has anything at all is seen not to be empty, and what lacks anything not to be full.
    seen = np.where((values > 0) & (values < 1), 0.15 + 0.7 * values, values)
    pixels = np.repeat(np.repeat(shaded(seen, 0.0, 1.0, COLOURS), SIDE, 0), SIDE, 1)
    pixels[SIDE - 1 :: SIDE, :, 3] = pixels[:, SIDE - 1 :: SIDE, 3] = 0
    title = f"{named(array) if name is None else name}: {in_words_of(found)}"
    if len(found.parts) > 1:
        title += f", a square is {in_words(found.nbytes // len(found.parts))}"
    return Picture(pixels, title, False, 0.0, 1.0, values[:, :, None], np.zeros(pixels.shape[:2], bool))


def save_picture(picture: Picture, path: str | bytes | os.PathLike[Any]) -> None:
    """Write a picture to a PNG file. One that exists is replaced when the new one is complete."""
    content = picture.png()

    def write(fd: int, _: str) -> None:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)

    publish(path, write, overwrite=True, sync=False)


def in_words_of(found: Residency) -> str:
    """How much of an array is in memory, in words."""
    changed = f", {in_words(found.dirty_nbytes)} to be written" if found.dirty_nbytes else ""
    share = f" ({found.share:.0%})" if found.nbytes else ""
    return f"{in_words(found.resident_nbytes)} of {in_words(found.nbytes)} in memory{share}{changed}"
