"""What dask's tasks hold of an array: its reference, which each of them reads its own region by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ndfile.errors import LayoutError
from ndfile.ref import ArrayRef
from ndfile.regions import Runs, part_of, read

if TYPE_CHECKING:
    import numpy as np

    from ndfile.array import memmap

__all__ = ["Source", "contiguous_chunks", "lazily", "reference"]

PAGE_NBYTES = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """An array that is read when it is indexed, in bulk and into memory, and takes some hundred bytes itself.

    Each read opens the file, and compares it with the reference before and after: a descriptor that a worker kept would
    show an old file on a network for as long as the worker lives, and an opening is little beside a chunk.
    """

    ref: ArrayRef

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ref.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.ref.dtype

    @property
    def ndim(self) -> int:
        return len(self.ref.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """What `dask.array.from_array` is to begin with, as it does with the chunks of HDF5 and Zarr."""
        from dask.config import get
        from dask.utils import parse_bytes

        return contiguous_chunks(self.ref, parse_bytes(get("array.chunk-size")))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return read(self.ref, index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the items of a file are read into memory, which is a copy")
        return read(self.ref).astype(dtype or self.dtype, copy=False)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.ref.__dask_tokenize__()


def reference(array: memmap[Any, Any]) -> ArrayRef:
    """The reference by which dask reads an array: of the file as it is now. LayoutError for an array without one."""
    # A file's time tells of a store into a page only if the page was on the disk before; and then other hosts see it.
    if array.mode in ("r+", "w+") and array.flags.writeable:
        array.flush()
    return replace(ArrayRef.of(array), mode="r")


def lazily(array: memmap[Any, Any]) -> Source | None:
    """What `dask.array.from_array` gets for an array that it wants to copy; None if it has to."""
    try:
        return Source(reference(array))
    except LayoutError:
        return None


def contiguous_chunks(ref: ArrayRef, limit_nbytes: int) -> tuple[int, ...]:
    """The largest chunks of at most so many bytes that are one run of the file each, and of whole pages if they can."""
    runs = Runs.of(part_of(ref, ()))
    sizes = dict.fromkeys(runs.axes, 1)
    nbytes = ref.dtype.itemsize
    for axis in reversed(runs.axes):
        length = ref.shape[axis]
        if length * nbytes <= limit_nbytes:
            sizes[axis] = max(length, 1)
            nbytes *= max(length, 1)
            continue
        count = max(limit_nbytes // nbytes, 1)
        to_a_page = PAGE_NBYTES // math.gcd(PAGE_NBYTES, nbytes)
        sizes[axis] = count - count % to_a_page if count > to_a_page else count
        break
    return tuple(sizes[axis] for axis in range(len(ref.shape)))
