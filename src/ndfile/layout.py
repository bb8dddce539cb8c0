"""Where an array's bytes lie in a file: dtype, shape, order and offset. Arithmetic only, opens nothing."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.errors import LayoutError, SizeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Layout"]

# The largest size in bytes that a file, or an address space, can have.
LIMIT = 2**63 - 1

# NumPy's NPY_MAXDIMS.
MOST_DIMENSIONS = 64

# What NumPy takes as an order, and what it makes of it for a new array.
ORDERS = {name: order for order, names in {"C": "CcAaKk", "F": "Ff"}.items() for name in names} | {None: "C"}


def _unfit(dtype: np.dtype[Any]) -> LayoutError:
    if dtype.hasobject:
        return LayoutError(
            f"dtype {dtype!r} holds pointers, which mean nothing in a file",
            "Use a dtype of fixed width, such as 'S16' or 'U16' for strings.",
        )
    return LayoutError(f"dtype {dtype!r} has items of 0 bytes", "Give the width too, as in 'S16'.")


def _checked_shape(shape: Any) -> tuple[int, ...]:
    try:
        # The usual case first: a product of type int has factors of that type.
        if type(shape) is tuple and type(math.prod(shape)) is int:
            sizes = shape
        elif isinstance(shape, (tuple, list)):
            sizes = tuple(map(index, shape))
        else:
            sizes = _sizes_of(shape)
    except TypeError:
        raise TypeError(f"shape must be an integer or a sequence of integers, not {shape!r}") from None
    if sizes and min(sizes) < 0:
        raise LayoutError(f"shape {sizes} has a negative size, {min(sizes)}", "Sizes are 0 or more.")
    return sizes


def _sizes_of(shape: Any) -> tuple[int, ...]:
    # An integer array of one item is a sequence too; only what has an __index__ of its own is a single size.
    try:
        return (index(shape),)
    except TypeError:
        return tuple(map(index, shape))


class Layout:
    """An array as a range of bytes.

    Parameters are those of `ndfile.memmap`; all of them are checked here. With ``shape=None`` the layout is open
    until `fill` gives it a shape.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int
        Empty until `fill`, where none was given.
    order : {'C', 'F'}
    offset : int
        Bytes before the first item.
    is_open : bool
        True as long as there is no shape.
    nbytes : int
        Bytes of all items.
    end : int
        One past the last byte, counted from the file's beginning.
    """

    __slots__ = ("dtype", "end", "is_open", "nbytes", "offset", "order", "shape")

    def __init__(self, dtype: DTypeLike, shape: Any, offset: Any, order: Any) -> None:
        self.dtype = dtype = np.dtype(dtype)
        if dtype.hasobject or not dtype.itemsize:
            raise _unfit(dtype)
        self.is_open = shape is None
        self.shape = sizes = () if shape is None else _checked_shape(shape)
        self.nbytes = 0 if shape is None else math.prod(sizes) * dtype.itemsize
        self.offset = offset = index(offset)
        self.end = offset + self.nbytes
        if not self.nbytes or len(sizes) + dtype.ndim > MOST_DIMENSIONS:
            self._check_strides()
        if order not in ORDERS:
            raise LayoutError(f"order must be 'C' or 'F', not {order!r}", "Pass one of them.")
        self.order = ORDERS[order]
        if offset < 0:
            raise LayoutError(f"offset {offset} is negative", "Offsets count bytes from the file's beginning.")
        if self.end > LIMIT:
            raise LayoutError(
                f"{self} from offset {self.offset} ends at byte {self.end}, a file at most at {LIMIT}",
                "Pass a smaller shape or offset.",
            )

    def __str__(self) -> str:
        return str(self.dtype) if self.is_open else f"{self.dtype} {self.shape}"

    def _check_strides(self) -> None:
        """Refuse what NumPy cannot make an array of: too many dimensions, or sizes too large beside a size of zero."""
        sizes = (*self.shape, *self.dtype.shape)
        if len(sizes) > MOST_DIMENSIONS:
            raise LayoutError(
                f"{self} has {len(sizes)} dimensions, an array at most {MOST_DIMENSIONS}", "Pass fewer dimensions."
            )
        widest = math.prod(size for size in self.shape if size) * self.dtype.itemsize
        if widest > LIMIT:
            raise LayoutError(
                f"{self} without its sizes of 0 has {widest} bytes, an array at most {LIMIT}", "Pass smaller sizes."
            )

    def fill(self, path: object, size: int) -> None:
        """Take the shape of the whole items between the offset and the end of a file of `size` bytes."""
        nbytes = size - self.offset
        if nbytes < 0 or nbytes % self.dtype.itemsize:
            raise SizeError(path, str(self), self.offset, None, size, self.dtype.itemsize)
        self.is_open = False
        self.shape = (nbytes // self.dtype.itemsize,)
        self.nbytes = nbytes
        self.end = size

    def check_inside(self, path: object, size: int) -> None:
        """Raise `SizeError` unless a file of `size` bytes holds the whole layout."""
        if size == 0 or self.end > size:
            raise SizeError(path, str(self), self.offset, self.nbytes, size, self.dtype.itemsize)
