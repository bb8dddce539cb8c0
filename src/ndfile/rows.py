"""Rows that are to be appended, as the file of an array has them: checked, cast and in pieces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase
from ndfile.errors import LayoutError
from ndfile.stream import PIECE_NBYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["axis_of", "pieces", "row_nbytes_of", "rows_for"]


def axis_of(array: ArrayBase[Any, Any]) -> int:
    """The axis that grows."""
    return int(array.ndim) - 1 if array._mmap is not None and array._mmap.is_fortran else 0


def row_nbytes_of(array: ArrayBase[Any, Any]) -> int:
    """Bytes of one step along the axis that grows."""
    axis = axis_of(array)
    others: int = math.prod(size for i, size in enumerate(array.shape) if i != axis)
    return others * int(array.dtype.itemsize)


def rows_for(array: ArrayBase[Any, Any], rows: Any) -> np.ndarray:
    """The rows as an array with all dimensions, still of any dtype that fits."""
    values = _as_array(rows, array.dtype)
    axis = axis_of(array)
    others = array.shape[:axis] + array.shape[axis + 1 :]
    if values.shape == others:
        values = np.expand_dims(values, axis)
    if values.ndim != array.ndim or values.shape[:axis] + values.shape[axis + 1 :] != others:
        wanted = ", ".join("n" if i == axis else str(size) for i, size in enumerate(array.shape))
        raise LayoutError(
            f"append: rows of shape {values.shape} do not fit the array's {array.shape}",
            f"Pass shape ({wanted}{',' if array.ndim == 1 else ''}), or {others} for one row.",
        )
    if not np.can_cast(values.dtype, array.dtype, "same_kind"):
        raise TypeError(
            f"append: rows of {values.dtype} cannot be cast to the array's {array.dtype} with casting='same_kind'. "
            "Nothing was changed. Convert them with astype first."
        )
    if not np.can_cast(values.dtype, array.dtype, "safe") or array.dtype.kind in "mM":  # a finer unit has less room
        for _ in pieces(values, array.dtype, axis):
            pass
    return values


def _as_array(rows: Any, dtype: np.dtype[Any]) -> np.ndarray:
    if isinstance(rows, ArrayBase):
        rows.check()
    if isinstance(rows, np.ndarray):
        if np.ma.is_masked(rows):
            raise LayoutError("append: the rows have masked items, which a file does not keep", "Append rows.filled().")
        return rows
    values = np.asarray(rows)
    if hasattr(rows, "dtype"):
        return values
    if dtype.kind in "MmV" or values.size == 0:
        return np.asarray(rows, dtype)
    if dtype.kind in "SU" and values.dtype.kind in "SU":
        return _cast(values, dtype, "unsafe")  # from str to bytes too
    # Numbers of Python's have no width of their own: those that fit are taken as the file's.
    if dtype.kind in "fc" and values.dtype.kind in "iuf":
        return _cast(values, dtype, "unsafe")
    if dtype.kind in "iu" and (values.dtype.kind in "iu" or _are_integers(rows)):
        try:
            return np.asarray(rows, dtype)
        except OverflowError:
            raise _overflow(np.asarray(rows, object), dtype) from None
    return values


def _are_integers(rows: Any) -> bool:
    """Whether all are integers, which NumPy makes floats or objects of where they are large."""
    return all(isinstance(value, (int, np.integer)) for value in np.asarray(rows, object).flat)


def _cast(values: np.ndarray, dtype: np.dtype[Any], casting: Any = "same_kind") -> np.ndarray:
    """The values as the file's dtype; OverflowError where one does not fit."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="raise", invalid="ignore"):
        try:
            cast = values.astype(dtype, casting=casting)
        except FloatingPointError:
            cast = None
    if cast is None or not _holds(values, cast):
        raise _overflow(values, dtype)
    return cast


def _overflow(values: np.ndarray, dtype: np.dtype[Any]) -> OverflowError:
    return OverflowError(
        f"append: a value of {values.dtype} does not fit the array's {dtype}. Nothing was changed. "
        "Append what fits, or make an array of a dtype that takes it."
    )


def _holds(values: np.ndarray, cast: np.ndarray) -> bool:
    """Whether the cast has lost no value. That floats and times are rounded is no loss."""
    if values.dtype.kind in "iu" and cast.dtype.kind in "iu":
        info = np.iinfo(cast.dtype)
        return not values.size or (int(values.min()) >= info.min and int(values.max()) <= info.max)
    if values.dtype.kind in "mM":
        back = cast.astype(values.dtype)
        is_coarser = not np.can_cast(values.dtype, cast.dtype, "safe")
        return is_coarser or bool(np.array_equal(back, values, equal_nan=True))
    if values.dtype.names is not None and cast.dtype.names is not None:
        fields = zip(values.dtype.names, cast.dtype.names, strict=True)
        return all(_holds(values[name], cast[other]) for name, other in fields)
    if cast.dtype.kind in "SU":
        try:
            return bool((cast.astype(values.dtype) == values).all())
        except ValueError:  # a number that was cut in two
            return False
    return True


def pieces(values: np.ndarray, dtype: np.dtype[Any], axis: int) -> Iterator[memoryview]:
    """The bytes of the rows as the file has them, some MiB at a time."""
    order = "C" if axis == 0 else "F"
    count = values.shape[axis]
    row_nbytes = values.nbytes // count if count else 1
    step = max(PIECE_NBYTES // max(row_nbytes, 1), 1)
    for start in range(0, count if values.nbytes else 0, step):
        some = values[start : start + step] if axis == 0 else values[..., start : start + step]
        piece = np.asarray(_cast(some, dtype), order=order)  # type: ignore[call-overload]
        yield memoryview(piece.reshape(-1, order="A").view(np.uint8))
