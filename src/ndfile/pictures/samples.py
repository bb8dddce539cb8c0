"""Which items of an array stand for the pixels of an image, and what they are, read with few pages."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.array import memmap
from ndfile.pictures.words import taken

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_ITEMS", "MOST_PAGES", "PAGE", "Samples", "chosen", "edges_of", "pages_of", "picked", "real", "sampled"]

PAGE = mmap.PAGESIZE

# A picture touches so many pages of a file at most: a disk of today reads them in half a second wherever they are.
MOST_PAGES = 24576

# And looks at so many items, which takes as long.
MOST_ITEMS = 1 << 24

# And gathers so many rows, whose numbers take memory too.
MOST_ROWS = 1 << 20

# So many items at once are made floats.
PIECE_ITEMS = 1 << 18

# The kernel maps what is around a page that is touched, if it is in memory: some 64 KiB. So after so many it is let go.
PIECE_PAGES = 256

# In the middle of each pixel's columns so many are looked at, where it is too far to the next pixel's to read all.
WINDOW = 64


class Samples(NamedTuple):
    """The values of an image's pixels.

    Attributes
    ----------
    values : numpy.ndarray of float64
        (rows, columns, channels): means of the finite items that stand for a pixel, NaN where there are none. There may
        be fewer rows and columns than were asked for, where a file is too large for more.
    words : str
        Which items these are; empty if every pixel is one item and every item a pixel.
    """

    values: np.ndarray
    words: str


def sampled(items: np.ndarray, height: int, width: int, most_pages: int = MOST_PAGES) -> Samples:
    """Look at an image at a number of pixels.

    Parameters
    ----------
    items : numpy.ndarray
        (rows, columns, channels)
    height, width : int
        Pixels, not more than there are rows and columns, and at least 1.
    most_pages : int
        Of the file, to touch.
    """
    # Rows are what is gathered, so they are what is further apart.
    is_turned = abs(items.strides[0]) < abs(items.strides[1])
    if is_turned:
        items, height, width = items.swapaxes(0, 1), width, height
    plan = Plan.of(items, height, width, most_pages)
    values = _means(items, plan)
    names = ("column", "row") if is_turned else ("row", "column")
    return Samples(values.swapaxes(0, 1) if is_turned else values, plan.words(items, names))


class Plan(NamedTuple):
    """How many rows and columns are looked at."""

    height: int
    width: int
    rows_each: int  # of each pixel
    columns_each: int  # of each pixel
    reads_whole_rows: bool

    @classmethod
    def of(cls, items: np.ndarray, height: int, width: int, most_pages: int) -> Plan:
        rows, columns, channels = items.shape
        row_pages, row_items = pages_of(items[0]), columns * channels
        by_pages = rows if pages_of(items) <= most_pages else most_pages // row_pages
        most_rows = min(by_pages, MOST_ITEMS // row_items, MOST_ROWS)
        window = min(WINDOW, columns // width, max(PAGE // 2 // max(abs(items.strides[1]), 1), 1))
        # If pixels are that far apart that each needs a page of its own, both sides get fewer. Some need two.
        pages_each = 1 + window * abs(items.strides[1]) / PAGE if window > 1 else 1.0
        both = min(math.sqrt(most_pages / (height * width * pages_each)), 1.0)
        if most_rows >= height * both:
            height = min(height, most_rows)
            most = rows if most_rows >= rows else most_rows // height
            return cls(height, width, _rows_each(rows, height, most), -(-columns // width), True)
        height, width = max(int(height * both), 1), max(int(width * both), 1)
        most = min(int(most_pages / (height * width * pages_each)), MOST_ITEMS // (height * width * window * channels))
        return cls(height, width, _rows_each(rows, height, most), window, False)

    def words(self, items: np.ndarray, names: tuple[str, str]) -> str:
        rows, columns = items.shape[:2]
        row, column = names
        cell_rows, cell_columns = rows / self.height, columns / self.width
        is_all = self.rows_each * self.height >= rows and self.reads_whole_rows
        if is_all and cell_rows == cell_columns == 1:
            return ""
        if is_all:
            cell = (cell_columns, cell_rows) if row == "column" else (cell_rows, cell_columns)
            return f"a pixel is the mean of {cell[0]:.3g} x {cell[1]:.3g} items"
        found = f"sampled: {taken(self.height * self.rows_each, rows, row)}"
        if not self.reads_whole_rows and self.columns_each < cell_columns:
            found += f", {self.columns_each} {column}s of {cell_columns:.0f}"
        return found if self.rows_each == self.columns_each == 1 else f"{found}, means"


def _rows_each(rows: int, height: int, most: int) -> int:
    """How many rows of a pixel's are looked at: all, or as many as every pixel has."""
    return -(-rows // height) if most >= -(-rows // height) else max(min(most, rows // height), 1)


def pages_of(row: np.ndarray) -> int:
    """Most pages that the items of a row can be on."""
    spans = sorted(zip(map(abs, row.strides), row.shape, strict=True), reverse=True)
    pages, near = 1, row.itemsize
    for stride, count in spans:
        if stride >= PAGE:
            pages *= count
        else:
            near += stride * (count - 1)
    return pages * (-(-near // PAGE) + (near % PAGE != 1))


def edges_of(count: int, pixels: int) -> np.ndarray:
    """Where the items of each pixel begin, and the last one's end."""
    return np.arange(pixels + 1) * count // pixels


def chosen(count: int, pixels: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that stand for the pixels of an axis, evenly spread in each, and whose they are."""
    edges = edges_of(count, pixels)
    sizes = np.diff(edges)
    if each >= sizes.max(initial=0):
        return np.arange(count), np.repeat(np.arange(pixels), sizes)
    places = (2 * np.arange(each) + 1) * sizes[:, None] // (2 * each)
    return (edges[:-1, None] + places).reshape(-1), np.repeat(np.arange(pixels), each)


# ---- Reading ----


def picked(items: np.ndarray, rows: np.ndarray, row_pages: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Gather rows, some at a time, and say which of `rows` they are.

    Missing pages are asked for all at once, and nothing is read around them. What the process has of the file in memory
    by it is let go after each piece.
    """
    row_items = max(math.prod(items.shape[1:]), 1)
    gap = (int(rows[-1]) - int(rows[0])) / len(rows) if len(rows) else 0.0
    pages_each = min(row_pages, max(abs(items.strides[0]) * gap, 1) / PAGE)  # several rows may lie on a page
    step = max(min(PIECE_ITEMS // row_items, int(PIECE_PAGES / pages_each)), 1)
    mapping = items._mmap if isinstance(items, memmap) else None
    for start in range(0, len(rows), step):
        piece = slice(start, start + step)
        if isinstance(items, memmap):
            items.prefetch(rows[piece], wait=True)
        yield piece, np.asarray(items[rows[piece]])
        if mapping is not None:
            let_go(mapping)


def let_go(mapping: Any) -> None:
    """Give up what the process has mapped of a file. It stays in the page cache; what was changed is there too."""
    if mapping.mode != "c":
        mapping.madvise(mmap.MADV_DONTNEED)  # which does nothing in an atomic block, whose pages exist nowhere else


def real(items: np.ndarray) -> np.ndarray:
    """Items as floats: the magnitude of complex ones, times as counts of their unit, NaN for none."""
    if items.dtype.kind in "mM":
        counts = items.astype(items.dtype.newbyteorder("=")).view(np.int64)
        return np.where(np.isnat(items), np.nan, counts)
    with np.errstate(all="ignore"):  # random bytes are NaN of the kind that casts warn of
        return np.asarray(np.abs(items) if items.dtype.kind == "c" else items, np.float64)


def _means(items: np.ndarray, plan: Plan) -> np.ndarray:
    """The means of the finite items that stand for each pixel."""
    shape = (plan.height, plan.width, items.shape[2])
    sums, counts = np.zeros(shape), np.zeros(shape, np.int64)
    rows, owners = chosen(len(items), plan.height, plan.rows_each)
    edges = edges_of(items.shape[1], plan.width)
    if plan.reads_whole_rows:
        _add(items, rows, owners, edges[:-1], sums, counts)
        return _divided(sums, counts)
    for column in range(plan.width):
        start = edges[column] + (edges[column + 1] - edges[column] - plan.columns_each) // 2
        view, here = items[:, start : start + plan.columns_each], slice(column, column + 1)
        _add(view, rows, owners, np.zeros(1, np.intp), sums[:, here], counts[:, here])
    return _divided(sums, counts)


def _add(
    items: np.ndarray, rows: np.ndarray, owners: np.ndarray, starts: np.ndarray, sums: np.ndarray, counts: np.ndarray
) -> None:
    """Add rows to the sums of the pixels whose they are; columns from each of `starts` on are a pixel's."""
    for piece, found in picked(items, rows, pages_of(items[0])):
        with np.errstate(all="ignore"):
            values = real(found)
            are_finite = np.isfinite(values)
            if not are_finite.all():
                values = np.where(are_finite, values, 0.0)
            whose = owners[piece]
            firsts = np.flatnonzero(np.diff(whose, prepend=-1))
            sums[whose[firsts]] += _summed(_summed(values, starts, 1), firsts, 0)
            counts[whose[firsts]] += _summed(_summed(are_finite.astype(np.int64), starts, 1), firsts, 0)


def _summed(values: np.ndarray, starts: np.ndarray, axis: int) -> np.ndarray:
    return values if len(starts) == values.shape[axis] else np.add.reduceat(values, starts, axis)


def _divided(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)
