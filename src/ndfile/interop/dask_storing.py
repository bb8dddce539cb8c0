"""Dask arrays into files: chunks written where they belong by whoever has them, and a name when all are there."""

from __future__ import annotations

import math
import os
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.errors import LayoutError
from ndfile.formats.format import require
from ndfile.interop.dask_running import run
from ndfile.layout import Layout
from ndfile.progress import reported
from ndfile.ref import ArrayRef, this_host
from ndfile.regions import write
from ndfile.writing import check_new, format_for, make_from_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ndfile.formats import Format, Member
    from ndfile.progress import Progress

__all__ = ["store"]


def store(
    array: Any,
    path: str | bytes | os.PathLike[Any],
    *,
    format: str | None = None,
    dtype: Any = None,
    order: str = "C",
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    compute: bool = True,
    progress: Progress = None,
    scheduler: Any = None,
) -> Any:
    """Compute a dask array into a file, each chunk written by the worker that has it.

    The file has its name when it is complete and on the disk. Until then an old file of the name stays whole, and
    whatever fails leaves what there was. Under threads, processes and `distributed` alike; the chunks of a worker that
    is lost are computed and written once more.

    Parameters
    ----------
    array : dask.array.Array
        Of NumPy arrays, with known chunk sizes.
    path : str, bytes or os.PathLike
        Where the workers find it too, on one file system. Its suffix tells the format: ``.npy``, ``.bin``, ``.raw`` and
        ``.dat`` with a sidecar, ``.safetensors``.
    format : str, optional
        The format, whatever the suffix.
    dtype : dtype_like, optional
        What to convert the items to, as ``array.astype`` does.
    order : {'C', 'F'}, default 'C'
        Order of the items in the file. Chunks that are one piece of the file in this order are written fastest.
    metadata : mapping, optional
        As for `ndfile.create`.
    overwrite : bool, default False
        Put the new file in the place of an existing one, whose readers keep it whole.
    compute : bool, default True
        False gives a `dask.delayed.Delayed` that does all of it when it is computed.
    progress : bool or callable, optional
        True shows a bar; a callable gets the bytes done and the bytes in all.
    scheduler : optional
        As for `dask.compute`.

    Returns
    -------
    dask.delayed.Delayed or None

    Raises
    ------
    FileExistsError
        There is a file, and `overwrite` is False.
    LayoutError
        Chunks of unknown size, items or an order that no file or not this format can hold. A ValueError. Raised before
        anything is computed; for a block that is not what the array says, when it comes.
    OSError
        The file cannot be written. What was there is unchanged.

    See Also
    --------
    open, ndfile.save

    Notes
    -----
    Cost: what the chunks cost, and one write of each; the disk takes them meanwhile.

    Platforms: Linux. On other hosts than the caller's each chunk is synced by itself. Let chunks begin and end at
    multiples of 4096 bytes there: not every file system on a network takes it well when two hosts write to one page.

    Threads: of several that store to one path without `overwrite`, one succeeds.

    Examples
    --------
    >>> import os, tempfile
    >>> import dask.array as da
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> nf.dask.store(da.arange(10, chunks=4) ** 2, "x.npy", scheduler="sync")
    >>> nf.open("x.npy")
    memmap([ 0,  1,  4,  9, 16, 25, 36, 49, 64, 81])
    """
    da = require("dask.array", "dask", "dask.store")
    if not isinstance(array, da.Array):
        raise TypeError(f"store takes a dask array, not {type(array).__name__}. Use ndfile.save for others.")
    array = array if dtype is None else array.astype(dtype)
    _check(array)
    layout = Layout(array.dtype, tuple(map(int, array.shape)), 0, order)
    work = _Storing(array, os.path.abspath(os.fsdecode(path)), format_for(path, format), layout, metadata, overwrite)
    work.check()
    if compute:
        work(progress, scheduler)
        return None
    from dask.delayed import delayed

    name = f"ndfile-store-{uuid.uuid4().hex}"
    # Whole in one task: whatever fails then, and wherever, there is somebody to take the draft away.
    return delayed(work, name=f"ndfile-storing-{name}", traverse=False, pure=False)(progress, dask_key_name=name)


def _check(array: Any) -> None:
    if any(math.isnan(size) for sizes in array.chunks for size in sizes):
        problem = f"store: the array's chunks have unknown sizes, shape {array.shape}"
        raise LayoutError(problem, "Call array.compute_chunk_sizes() first.")
    if isinstance(array._meta, np.ma.MaskedArray):
        raise LayoutError("store: the array is masked, which no format keeps", "Store array.filled() and its mask.")
    if not isinstance(array._meta, np.ndarray):
        problem = f"store: the array's blocks are of {type(array._meta).__name__}, not of numpy.ndarray"
        raise LayoutError(problem, "Convert them with array.map_blocks.")


class _Storing:
    """All that is done to store an array, here or in a task. It hides the array from dask, which would compute it."""

    def __init__(
        self, array: Any, path: str, kind: Format, layout: Layout, metadata: Mapping[str, Any] | None, overwrite: bool
    ) -> None:
        self._array = array
        self._path = path
        self._kind = kind.name
        self._layout = layout
        self._metadata = metadata
        self._overwrite = overwrite
        self._series = f"{uuid.uuid4().hex[:16]}-"

    def check(self) -> None:
        """Raise what can be known before anything is computed."""
        kind = format_for(self._path, self._kind)
        check_new(self._path, kind, self._layout, self._metadata, overwrite=self._overwrite)

    def __call__(self, progress: Progress = None, scheduler: Any = None) -> None:
        layout, metadata = self._layout, self._metadata

        def fill(fd: int, member: Member) -> None:
            target = _Target(_reference(fd, member))
            with (
                _client() as client,
                reported(progress, layout.nbytes, f"store {os.path.basename(self._path)}") as advance,
            ):
                run(self._array, target, client, scheduler, advance)

        kind = format_for(self._path, self._kind)
        make_from_parts(self._path, kind, layout, metadata, fill, overwrite=self._overwrite, series=self._series)


class _Target:
    """What dask's tasks hold of the new file: they assign their blocks to it."""

    def __init__(self, ref: ArrayRef) -> None:
        self._ref = ref
        self.shape = ref.shape
        self.dtype = ref.dtype
        self.ndim = len(ref.shape)

    def __setitem__(self, index: Any, block: Any) -> None:
        if np.ma.is_masked(block):
            raise LayoutError("store: a block has masked items, which no format keeps", "Fill them first.")
        write(self._ref, index, np.asarray(block))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self._ref.__dask_tokenize__()  # the draft has a name that no other has


def _reference(fd: int, member: Member) -> ArrayRef:
    """The reference to a file that has no name of its own yet."""
    status = os.fstat(fd)
    strides = _strides(member.shape, member.dtype.itemsize, member.order)
    return ArrayRef(
        os.readlink(f"/proc/self/fd/{fd}"),
        member.offset or 0,
        member.dtype,
        member.shape,
        strides,
        "r+",
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
        this_host(),
    )


def _strides(shape: tuple[int, ...], itemsize: int, order: str) -> tuple[int, ...]:
    lengths = [max(length, 1) for length in (shape if order == "F" else shape[::-1])]
    strides = tuple(itemsize * math.prod(lengths[:axis]) for axis in range(len(lengths)))
    return strides if order == "F" else strides[::-1]


@contextmanager
def _client() -> Iterator[Any]:
    """The client of the worker of distributed's that this is a task of, whose place others take meanwhile; or None."""
    if not _is_in_worker():
        yield None
        return
    with sys.modules["distributed"].worker_client() as client:
        yield client


def _is_in_worker() -> bool:
    worker = sys.modules.get("distributed.worker")
    try:
        return worker is not None and worker.get_worker() is not None
    except ValueError:
        return False
