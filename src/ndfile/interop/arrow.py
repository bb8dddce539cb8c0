"""Arrow: an array as a tensor of pyarrow's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import refuse_lost
from ndfile.dtypes import extension_name
from ndfile.errors import LayoutError
from ndfile.formats.format import require
from ndfile.interop.types import lacking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ndfile import memmap

__all__ = ["tensor_of"]

INSTEAD = "Pass a.copy() to pyarrow.Tensor.from_numpy."


def tensor_of(array: memmap[Any, Any], dim_names: Sequence[str] | None) -> Any:
    """See `ndfile.memmap.to_arrow`."""
    arrow = require("pyarrow", "arrow", "to_arrow")
    refuse_lost(array, "to_arrow")
    _check(array)
    names = None if dim_names is None else list(dim_names)
    if names is not None and len(names) != array.ndim:
        raise LayoutError(f"to_arrow: {len(names)} dim_names for {array.ndim} axes", "Pass a name for each axis.")
    return arrow.Tensor.from_numpy(np.asarray(array), dim_names=names)


def _check(array: memmap[Any, Any]) -> None:
    """Raise where Arrow has no such tensor, or takes it for another one."""
    dtype = array.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or extension_name(dtype) is not None:
        parts = {8: "a.view('f4')", 16: "a.view('f8')"}.get(dtype.itemsize, "a.astype('complex128').view('f8')")
        instead = f"{parts}, the real and imaginary parts" if dtype.kind == "c" else ""
        raise lacking("to_arrow", "an Arrow tensor", dtype, instead)
    if not dtype.isnative:  # Arrow takes the bytes as if they were in its own order
        raise LayoutError(
            f"to_arrow: {dtype} is in an order of bytes that Arrow does not have",
            f"Pass a.astype({dtype.newbyteorder('=').str!r}) to pyarrow.Tensor.from_numpy.",
        )
    if array.ndim == 0:  # Arrow makes one, and dies when it compares it
        raise LayoutError("to_arrow: an Arrow tensor has one axis or more, and the array none", "Pass a.reshape(1).")
    if min(array.strides) < 0 or not array.flags.aligned:
        raise LayoutError(
            f"to_arrow: strides {array.strides} of items of {array.itemsize} bytes; Arrow has no negative strides, and "
            "its items are aligned",
            INSTEAD,
        )
