"""A line as its smallest and largest items for each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ndfile._core import ArrayBase
from ndfile.pictures.samples import MOST_ITEMS, MOST_PAGES, PAGE, chosen, edges_of, let_go, pages_of, picked, real

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Envelope", "enveloped"]

PIECE_ITEMS = 1 << 18

# Places in each pixel's part of a line at which is looked, where the line is too long to be read.
MOST_WINDOWS = 32


class Envelope(NamedTuple):
    """What a line is between, for each pixel.

    Attributes
    ----------
    low, high : numpy.ndarray of float64
        Of the finite items; NaN where there are none.
    words : str
        Which items were looked at; empty if each pixel is one.
    """

    low: np.ndarray
    high: np.ndarray
    words: str


def enveloped(items: np.ndarray, width: int, most_pages: int = MOST_PAGES) -> Envelope:
    """Look at a line of items at a number of pixels, not more than there are items."""
    count = len(items)
    if pages_of(items) <= most_pages and count <= MOST_ITEMS:
        low, high = _extremes(_all(items, width), width)
        return Envelope(
            low, high, "" if width == count else f"a pixel is from least to most of {count / width:.3g} items"
        )
    window = max(PAGE // max(abs(items.strides[0]), 1), 1)
    # A window lies on two pages where it begins inside one.
    each = max(min(most_pages // (width * (1 + (window > 1))), MOST_ITEMS // (width * window), MOST_WINDOWS), 1)
    windows = items[: count // window * window].reshape(-1, window)
    rows, owners = chosen(len(windows), width, each)
    pieces = ((found, owners[piece]) for piece, found in picked(windows, rows, pages_of(windows[0])))
    low, high = _extremes(((found.reshape(-1), np.repeat(whose, window)) for found, whose in pieces), width)
    words = f"sampled: from least to most of {each} x {window} of {count / width:.6g} items a pixel"
    return Envelope(low, high, words)


def _all(items: np.ndarray, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All items, some at a time, and whose they are."""
    edges = edges_of(len(items), width)
    mapping = items._mmap if isinstance(items, ArrayBase) else None
    for start in range(0, len(items), PIECE_ITEMS):
        piece = np.asarray(items[start : start + PIECE_ITEMS])
        yield piece, np.searchsorted(edges, np.arange(start, start + len(piece)), "right") - 1
        if mapping is not None:
            let_go(mapping)


def _extremes(pieces: Iterator[tuple[np.ndarray, np.ndarray]], width: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for items, owners in pieces:
        values = real(items)
        are_finite = np.isfinite(values)
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        whose = owners[firsts]
        least = np.minimum.reduceat(np.where(are_finite, values, np.inf), firsts)
        most = np.maximum.reduceat(np.where(are_finite, values, -np.inf), firsts)
        low[whose] = np.minimum(low[whose], least)
        high[whose] = np.maximum(high[whose], most)
    is_empty = low > high
    low[is_empty] = high[is_empty] = np.nan
    return low, high
