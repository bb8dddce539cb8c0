"""Types that another library lacks, and what works instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndfile.errors import LayoutError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["lacking"]

_INSTEAD = {
    "M": "a.view('{order}i8'), the numbers of ticks",
    "m": "a.view('{order}i8'), the numbers of ticks",
    "S": "a.view('u1'), the bytes",
    "U": "a.view('{order}u4'), the numbers of the characters",
    "V": "a.view('u1'), the bytes",
    "c": "a.astype('complex128')",
    "f": "a.astype('float64')",
}


def lacking(act: str, library: str, dtype: np.dtype[Any], instead: str = "") -> LayoutError:
    """The error for a dtype that a library has no type for; `instead` is what to pass, if that is the library's own."""
    if dtype.names:
        instead = f"one of its fields, such as a[{dtype.names[0]!r}]"
    elif dtype.type.__module__ != "numpy":  # of ml_dtypes
        instead = "a.astype('float32')"
    elif not instead:
        instead = _INSTEAD[dtype.kind].format(order="" if dtype.isnative else ">")
    return LayoutError(f"{act}: {library} has no type for {dtype}", f"Pass {instead}.")
