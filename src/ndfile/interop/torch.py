"""torch: an array as a tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import refuse_lost
from ndfile.dtypes import extension_name
from ndfile.errors import LayoutError
from ndfile.formats.format import require
from ndfile.interop.types import lacking

if TYPE_CHECKING:
    from ndfile import memmap

__all__ = ["tensor_of"]


def tensor_of(array: memmap[Any, Any], copy: bool | None) -> Any:
    """See `ndfile.memmap.to_torch`."""
    torch = require("torch", "torch", "to_torch")
    refuse_lost(array, "to_torch")
    kind = _kind_of(array.dtype, torch)
    if copy or array.size == 0:
        return _over(_in_memory(array), kind, torch)
    if not array.dtype.isnative:
        if copy is None:
            return _over(_in_memory(array), kind, torch)
        raise LayoutError(
            f"to_torch: copy=False, and {array.dtype} is in an order of bytes that torch does not have",
            "Pass copy=None or copy=True.",
        )
    _check_steps(array)
    return _over(array if array.flags.writeable else _copy_on_write(array), kind, torch)


def _kind_of(dtype: np.dtype[Any], torch: Any) -> Any:
    """The type that torch has for a dtype."""
    name = extension_name(dtype)
    if name is None and dtype.kind in "biufc":  # other names may mean something else in torch, as int4 does
        name = dtype.name
    kind = None if name is None else getattr(torch, name, None)
    if kind is None:
        raise lacking("to_torch", f"torch {torch.__version__}", dtype)
    return kind


def _in_memory(array: memmap[Any, Any]) -> np.ndarray[Any, Any]:
    return array.copy() if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_steps(array: memmap[Any, Any]) -> None:
    """Raise where torch cannot go from item to item as the array does."""
    step = array.itemsize
    taken = [stride for length, stride in zip(array.shape, array.strides, strict=True) if length > 1]
    if any(stride < 0 or stride % step for stride in taken):
        raise LayoutError(
            f"to_torch: strides {array.strides}, and torch's are 0 or positive multiples of an item's {step} bytes",
            "Pass copy=True.",
        )
    if not array.flags.aligned:  # torch takes it, but its compiler was told that this cannot be
        raise LayoutError(
            f"to_torch: its items do not begin at multiples of {array.dtype.alignment} bytes, as {array.dtype} must",
            "Pass copy=True.",
        )


def _copy_on_write(array: memmap[Any, Any]) -> memmap[Any, Any]:
    """The same view of the same file, mapped anew: writes change memory of its own."""
    try:
        # A writer that is at the file meanwhile changes its size and time; in mode 'r+' that is no other file.
        return replace(array.ref, mode="r+").open("c")
    except LayoutError as error:
        raise LayoutError(
            "to_torch: the array is read-only, which no tensor is, and cannot be mapped anew as copy-on-write: "
            f"{error.problem.removeprefix('ref: ')}",
            "Pass copy=True.",
        ) from None


def _over(array: np.ndarray[Any, Any], kind: Any, torch: Any) -> Any:
    """A tensor over the array's memory, which it keeps alive."""
    # NumPy and torch know the same types, but for short floats, which integers of their width stand for.
    carrier = array.dtype.str if extension_name(array.dtype) is None else f"i{array.itemsize}"
    # The stride of an axis of length 1 is never taken, and may be anything; torch looks at it all the same.
    strides = [array.itemsize if length == 1 else step for length, step in zip(array.shape, array.strides, strict=True)]
    plain = np.lib.stride_tricks.as_strided(np.asarray(array).view(carrier), strides=strides)
    return torch.from_numpy(plain).view(kind)
