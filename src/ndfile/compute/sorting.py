"""sort: arrays that are larger than memory, in sorted order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ndfile._core import ArrayBase
from ndfile.compute.lanes import Sorting, check_threads, flat
from ndfile.compute.scratch import folder_for

if TYPE_CHECKING:
    from ndfile._core import Mapping
    from ndfile.progress import Progress

__all__ = ["checked_items", "plain_of", "sort"]

# Whether the order of equal items is kept.
KINDS = {None: False, "quicksort": False, "heapsort": False, "stable": True, "mergesort": True}


def sort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: str | None = None,
    out: np.ndarray | None = None,
    tmp_dir: str | os.PathLike[str] | None = None,
    progress: Progress = None,
    threads: int | None = None,
) -> np.ndarray:
    """Sort an array that may be larger than memory.

    As `numpy.sort`, within 64 MiB of memory beside the result; and the result may be on a file. ``out=a`` sorts in
    place: what ends the process meanwhile (a kill, a power loss) then leaves items of the old order beside some of the
    new one, some of them twice and others lost. Sort into a new array where that matters; ``with a.atomic():`` around
    it is for arrays that fit in memory.

    Parameters
    ----------
    a : array_like
        Of any dtype that NumPy sorts, but those that hold pointers (object, StringDType).
    axis : int or None, default -1
        Along which to sort; None sorts all items as one axis.
    kind : {'quicksort', 'heapsort', 'mergesort', 'stable'}, optional
        By default the order of items that are equal, and differ nevertheless (0.0 and -0.0, NaNs of different bits,
        what is in structured items beside their fields) is left open. ``'stable'`` keeps the order that they had.
    out : numpy.ndarray, optional
        Of the result's shape and dtype: an array on a file, or any other; `a` itself to sort in place. It must not
        share memory with `a` in any other way.
    tmp_dir : path, optional
        A folder for the temporary file, which is as large as one lane along the axis (as all of the array, if it has
        one axis). By default beside `out`, or else `a`, or else the system's folder.
    progress : None, bool or callable
        True draws a bar; a callable is called with ``(done_nbytes, total_nbytes)``, where each pass over the array
        counts.
    threads : int, optional
        By default as many as there are processors. The result does not depend on it.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array in memory.

    Raises
    ------
    TypeError
        Items of this dtype cannot be sorted, or hold pointers.
    ValueError
        `out` does not fit, cannot be written or shares memory with `a`.
    OSError
        There is no space for the temporary file. Nothing was changed.
    FaultError
        The file was cut meanwhile, or has failed. An `out` other than `a` has undefined items then; of an `a` in place
        the same is true, unless it has less than 8 GiB and this was found while it was read.

    See Also
    --------
    unique, numpy.sort

    Notes
    -----
    Cost: lanes up to 8 MiB, and whatever has no `out`, are sorted in memory. Longer ones into an `out` take one pass
    that reads `a` and writes the temporary file in sorted runs of 8 MiB, and one that reads it and writes `out`; from
    8 GiB on one more. Items of one or two bytes are counted: two passes, and no temporary file, unless `kind` is
    'stable' and they are float16. Into an `out`, lanes along an axis that is not the fastest in memory are read in
    narrow columns: turn the array first if it is larger than memory. An interrupt is heard after the block at work.

    Platforms: Linux.

    Threads: `a` must not change meanwhile. Up to 6 are used, so that memory stays within its bound.

    Examples
    --------
    >>> import os, tempfile
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> a = nf.create("x.npy", shape=4, dtype="float32")
    >>> a[:] = [3, 1, 4, 1]
    >>> nf.sort(a)
    array([1., 1., 3., 4.], dtype=float32)
    >>> b = nf.create("sorted.npy", shape=4, dtype="float32")
    >>> nf.sort(a, out=b)
    memmap([1., 1., 3., 4.], dtype=float32)
    >>> nf.sort(a, out=a) is a
    True
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be 'quicksort', 'heapsort', 'mergesort' or 'stable', not {kind!r}")
    a = plain_of(a)
    checked_items(a.dtype, "sort")
    if axis is None:
        shape: tuple[int, ...] = (a.size,)
    else:
        axis, shape = normalize_axis_index(axis, a.ndim), a.shape
    _check_out(out, a, shape)
    folder = folder_for(tmp_dir, out, a)
    check_threads(threads)
    if a.nbytes == 0:
        return np.empty(shape, a.dtype) if out is None else out
    if axis is None:
        a = flat(a, KINDS[kind])
        axis = 0 if a.ndim == 1 else None
    return Sorting(KINDS[kind], folder, threads, progress).sort(a, axis, out)


def plain_of(a: Any) -> np.ndarray:
    """Give an array as one of ours, or a plain one."""
    if isinstance(a, np.ma.MaskedArray):
        raise TypeError("masked arrays are not taken: pass their data, or what compressed() gives")
    return a if isinstance(a, ArrayBase) else np.asarray(a)


def checked_items(dtype: np.dtype[Any], act: str) -> None:
    """Raise if items of a dtype have no order, or are not in the array themselves."""
    if dtype.hasobject:
        raise TypeError(f"{act}: items of dtype {dtype} are pointers to memory. Use numpy.{act}")
    two = np.zeros(2, dtype)
    np.sort(two).searchsorted(two[:1])  # NumPy says in its own words what it cannot do


# ---- What may be given as out ----


def _check_out(out: Any, a: np.ndarray, shape: tuple[int, ...]) -> None:
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an array, not {type(out).__name__}")
    if (out.shape, out.dtype) != (shape, a.dtype):
        raise ValueError(f"out must be of shape {shape} and dtype {a.dtype}, not {out.shape} and {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out cannot be written")
    if out.size and not _is_same(out, a) and (_share_memory(out, a) or _share_file(out, a)):
        raise ValueError("out shares memory with a. Pass out=a to sort in place, or another array")


def _is_same(out: np.ndarray, a: np.ndarray) -> bool:
    return (out.ctypes.data, out.strides, out.shape) == (a.ctypes.data, a.strides, a.shape)


def _share_memory(out: np.ndarray, a: np.ndarray) -> bool:
    if any(step == 0 and n > 1 for step, n in zip(out.strides, out.shape, strict=True)):
        return True  # its items share memory among themselves
    try:
        return np.shares_memory(out, a, max_work=10_000)  # type: ignore[arg-type]  # any number
    except np.exceptions.TooHardError:
        return True


def _share_file(out: np.ndarray, a: np.ndarray) -> bool:
    """Whether both are in one file, mapped twice, at places that overlap."""
    first, second = _mapping(out), _mapping(a)
    if first is None or second is None or first is second or first.filename is None or second.filename is None:
        return False
    try:
        is_one = os.path.samefile(first.filename, second.filename)
    except OSError:  # one of the names is gone
        return False
    return is_one and first.offset < second.offset + len(second) and second.offset < first.offset + len(first)


def _mapping(array: np.ndarray) -> Mapping | None:
    return array._mmap if isinstance(array, ArrayBase) else None  # identity of the file
