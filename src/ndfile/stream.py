"""An array's bytes in a file's order, a bounded piece at a time."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["PIECE_NBYTES", "Stream", "pour"]

# Large enough for the device's speed, small beside any memory.
PIECE_NBYTES = 8 << 20

# What has to be put into another order is copied in larger pieces: with more rows at once a page is used fewer times.
COPY_NBYTES = 16 << 20


def _ignore(nbytes: int) -> None:
    pass


class Stream(NamedTuple):
    """The bytes of an array that may not fit in memory, or of one that does not exist yet.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int
    order : {'C', 'F'}
        In which the items come.
    pieces : callable
        Gives the bytes anew each time, as contiguous buffers. One is used up before the next is asked for.
    check : callable
        Raises if what `pieces` gave were not the array's bytes, because its file was cut or has failed.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    pieces: Callable[[], Iterable[Any]]
    check: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, array: np.ndarray, order: str | None = None, used: Callable[[int], None] = _ignore) -> Stream:
        """Stream an array, by default in the order that it has: 'F' if it is Fortran-contiguous only.

        `used` is called with the number of bytes that were read since it was called last, more or less.
        """
        if order is None:
            order = "F" if array.flags.fnc else "C"
        return cls(array.dtype, array.shape, order, lambda: _pieces(array, order, used))

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize


def _pieces(array: np.ndarray, order: str, used: Callable[[int], None]) -> Iterator[Any]:
    plain = array.view(np.ndarray)
    if order == "F":
        plain = plain.T
    if not plain.flags.c_contiguous:
        yield from _copies(plain, used)
        return
    # As plain bytes: dtypes of other libraries have no buffer of their own.
    raw = plain.reshape(-1).view(np.uint8)
    for start in range(0, len(raw), PIECE_NBYTES):
        piece = raw[start : start + PIECE_NBYTES]
        yield piece
        used(len(piece))


def _copies(array: np.ndarray, used: Callable[[int], None]) -> Iterator[Any]:
    """Copies of the rows of an array, as many at a time as fit into a piece."""
    row_nbytes = array[0].size * array.itemsize
    if row_nbytes > COPY_NBYTES and array.ndim > 1:
        for row in array:
            yield from _copies(row, used)
        return
    count = max(COPY_NBYTES // row_nbytes, 1)
    for start in range(0, len(array), count):
        rows = array[start : start + count]
        piece = np.empty(rows.shape, rows.dtype)
        _copy(rows, piece, used)
        yield piece.reshape(-1).view(np.uint8)


def _copy(rows: np.ndarray, piece: np.ndarray, used: Callable[[int], None]) -> None:
    """Copy part by part along the axis with the longest steps in memory, so that little of it is in use at once."""
    axis = max(range(rows.ndim), key=lambda one: abs(rows.strides[one]))
    step = abs(rows.strides[axis])
    count = max(COPY_NBYTES // step, 1) if step else rows.shape[axis]
    rows, piece = np.moveaxis(rows, axis, 0), np.moveaxis(piece, axis, 0)
    for start in range(0, len(rows), count):
        piece[start : start + count] = rows[start : start + count]
        used(min(count, len(rows) - start) * step)


def pour(stream: Stream, fd: int, offset: int) -> int:
    """Write a stream into a file from `offset` on. Returns the number of bytes."""
    start = offset
    for piece in stream.pieces():
        offset += write_all(fd, piece, offset)
    return offset - start


def write_all(fd: int, data: Any, offset: int) -> int:
    """Write all of a buffer at an offset, however many calls that takes. Returns the number of bytes."""
    view = memoryview(data).cast("B")
    written = 0
    while written < len(view):
        written += os.pwrite(fd, view[written:], offset + written)
    return written
