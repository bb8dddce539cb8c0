"""Types that NumPy has no names for: bfloat16 and the eight-bit floats, by the library ml_dtypes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ndfile.errors import LibraryError

__all__ = ["EXTENSIONS", "extension", "extension_name"]

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


def extension(name: str) -> np.dtype[Any]:
    """The dtype of one of the names above."""
    try:
        kind: type[Any] = getattr(import_module("ml_dtypes"), name)
        return np.dtype(kind)
    except ImportError:
        raise LibraryError("ml_dtypes", "ml", f"dtype {name}") from None


def extension_name(dtype: np.dtype[Any]) -> str | None:
    """The name, if the dtype is one of those above."""
    return dtype.name if dtype.name in EXTENSIONS and dtype.kind in "Vf" and dtype.names is None else None
