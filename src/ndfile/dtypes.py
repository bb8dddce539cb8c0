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


DIVIDED_BY_ZERO = re.compile(r"/\s*0*\s*\]|\[\s*0+\s*[a-zA-Z\]]")


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
    """Refuse what NumPy does not: a unit of time that is divided by 0 ends the process (NumPy 2.4)."""
    if isinstance(descr, str):
        if DIVIDED_BY_ZERO.search(descr):
            raise ValueError(f"{descr!r} has a unit of no length")
    elif isinstance(descr, list):
        for field in descr:
            if isinstance(field, tuple) and len(field) > 1:
                check_descr(field[1])
    elif isinstance(descr, tuple) and descr:
        check_descr(descr[0])


def extension_name(dtype: np.dtype[Any]) -> str | None:
    """The name, if the dtype is one of those above."""
    return dtype.name if dtype.name in EXTENSIONS and dtype.kind in "Vf" and dtype.names is None else None
