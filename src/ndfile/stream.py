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
    def of(cls, array: np.ndarray, order: str | None = None) -> Stream:
        """Stream an array, by default in the order that it has: 'F' if it is Fortran-contiguous only."""
        if order is None:
            order = "F" if array.flags.fnc else "C"
        return cls(array.dtype, array.shape, order, lambda: _pieces(array, order))

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize


def _pieces(array: np.ndarray, order: str) -> Iterator[Any]:
    # As plain bytes: dtypes of other libraries have no buffer of their own.
    plain = array.view(np.ndarray)
    flat = plain.reshape(-1, order="A") if plain.flags.c_contiguous or plain.flags.f_contiguous else None
    if flat is not None and (plain.flags.c_contiguous if order == "C" else plain.flags.f_contiguous):
        raw = flat.view(np.uint8)
        for start in range(0, len(raw), PIECE_NBYTES):
            yield raw[start : start + PIECE_NBYTES]
        return
    count = max(PIECE_NBYTES // plain.dtype.itemsize, 1)
    flags = ["external_loop", "buffered", "zerosize_ok"]
    for piece in np.nditer(plain, flags=flags, buffersize=count, order=order):  # type: ignore[call-overload]
        yield np.ascontiguousarray(piece).view(np.uint8)


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
