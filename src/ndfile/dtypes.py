"""Types that NumPy has no names for: bfloat16 and the eight-bit floats, by the library ml_dtypes."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import numpy as np
from numpy.lib import format as numpy_format

from ndfile.errors import LayoutError, LibraryError

__all__ = ["EXTENSIONS", "check_descr", "descr_of", "dtype_of", "extension", "extension_name"]

# Those whose items are whole bytes, with the width: ml_dtypes keeps narrower ones in a byte each, no file does.
EXTENSIONS = {
    "bfloat16": 2,
    "float8_e3m4": 1,
    "float8_e4m3": 1,
    "float8_e4m3b11fnuz": 1,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
}


# A unit of time as NumPy writes it. NumPy 2.4 takes others too: a divisor of 0, +0 or 2**32 (which it takes for 0), and
# then divides by it, so that the process dies.
UNIT = re.compile(r"\[(?:[1-9][0-9]{0,9})?[A-Za-z\u03bc]+(?:/[1-9][0-9]{0,8})?\]")


def extension(name: str) -> np.dtype[Any]:
    """The dtype of one of the names above."""
    try:
        kind: type[Any] = getattr(import_module("ml_dtypes"), name)
        return np.dtype(kind)
    except ImportError:
        raise LibraryError("ml_dtypes", "ml", f"dtype {name}") from None


def descr_of(dtype: np.dtype[Any]) -> Any:
    """What `numpy.lib.format` writes for a dtype, or the name of one that NumPy has no name for.

    LayoutError for one that would come back as another.
    """
    name = extension_name(dtype)
    if name is not None:
        return name
    try:
        descr: Any = numpy_format.dtype_to_descr(dtype)
        is_same = numpy_format.descr_to_dtype(descr) == dtype
    except (TypeError, ValueError):  # fields that overlap, or stand in another order than in memory
        is_same = False
    if not is_same:
        raise LayoutError(f"no file can tell what {dtype!r} is", "Use a dtype of NumPy's own, or one of ml_dtypes.")
    return descr


def dtype_of(descr: Any) -> np.dtype[Any]:
    """The dtype that a file says, as `descr_of` writes it; ValueError, TypeError or LibraryError for what is none."""
    if isinstance(descr, str) and descr in EXTENSIONS:
        return extension(descr)
    check_descr(descr)
    found: np.dtype[Any] = numpy_format.descr_to_dtype(descr)
    if found.isbuiltin == 2:
        raise ValueError(f"{descr!r} is a type of another library")
    return found


def check_descr(descr: Any) -> None:
    """ValueError for what `numpy.lib.format` does not write, which NumPy may take all the same, and die of."""
    if isinstance(descr, str):
        if "[" in UNIT.sub("", descr):
            raise ValueError(f"{descr!r} has a unit that is none")
    elif isinstance(descr, list):
        for field in descr:
            if not isinstance(field, tuple) or len(field) not in (2, 3):
                raise ValueError("fields are tuples of a name, a type and perhaps a shape")
            check_descr(field[1])
            _check_shape(*field[2:])
    elif isinstance(descr, tuple) and len(descr) == 2:
        check_descr(descr[0])
        _check_shape(descr[1])
    else:
        raise ValueError(f"{descr!r} is no type")


def _check_shape(shape: Any = ()) -> None:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(size, int) for size in sizes):
        raise ValueError(f"{shape!r} is no shape")


def extension_name(dtype: np.dtype[Any]) -> str | None:
    """The name, if the dtype is one of those above."""
    return dtype.name if dtype.name in EXTENSIONS and dtype.kind in "Vf" and dtype.names is None else None
