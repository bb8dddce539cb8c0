"""dask: arrays on files as dask arrays, and dask arrays into files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ndfile
from ndfile.errors import LayoutError, MemberError
from ndfile.formats.format import require
from ndfile.interop.dask_source import Source, contiguous_chunks, reference
from ndfile.interop.dask_storing import store

if TYPE_CHECKING:
    import os

    from ndfile.array import memmap

__all__ = ["open", "store", "to_dask"]


def open(path: str | bytes | os.PathLike[Any], chunks: Any = "auto", key: str | None = None, **options: Any) -> Any:
    """Open a file as a dask array.

    Nothing is read until dask computes: each task opens the file, reads its own region into memory and closes it.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Where the workers find it too; see `ndfile.map_paths`.
    chunks : as dask has it, default "auto"
        "auto" makes chunks that are one piece of the file each, of dask's ``array.chunk-size`` or a little less; a
        number of bytes, as ``"64 MiB"``, of that size. Everything else is dask's.
    key : str, optional
        Which array, of a file that holds several.
    **options
        As for `ndfile.open`.

    Returns
    -------
    dask.array.Array

    Raises
    ------
    MemberError
        The file holds several arrays, and `key` does not name one. A KeyError.
    LibraryError
        dask is not installed. An ImportError.
    FormatError, LayoutError, OSError
        As `ndfile.open`.

    See Also
    --------
    memmap.to_dask, store

    Notes
    -----
    Cost: that of opening the file, and a millisecond; each chunk is one read, with no page of the file mapped.

    Platforms: Linux.

    Threads: safe. A file that was changed since, or changes while a chunk is read, raises `StaleFileError` there.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> nf.save("x.npy", np.arange(12).reshape(4, 3))
    >>> nf.dask.open("x.npy", chunks=(2, 3)).sum(axis=0).compute(scheduler="sync")
    array([18, 22, 26])
    """
    found = ndfile.open(path, "r", key, **options)
    with found:
        if isinstance(found, ndfile.Archive):
            raise MemberError(path, key, tuple(found))
        return to_dask(found, chunks)


def to_dask(array: memmap[Any, Any], chunks: Any = "auto") -> Any:
    """A dask array of an array on a file; what `memmap.to_dask` gives."""
    da = require("dask.array", "dask", "to_dask")
    from dask.base import tokenize
    from dask.config import get
    from dask.utils import parse_bytes

    ref = reference(array)
    if isinstance(chunks, str):
        try:
            limit = parse_bytes(get("array.chunk-size") if chunks == "auto" else chunks)
        except ValueError:
            problem = f"to_dask: chunks must be 'auto', a number of bytes or what dask takes, not {chunks!r}"
            raise LayoutError(problem, "Pass chunks='auto'.") from None
        chunks = contiguous_chunks(ref, limit)
    sizes = da.core.normalize_chunks(chunks, ref.shape, dtype=ref.dtype)
    name = f"ndfile-{tokenize(ref, sizes)}"
    meta = np.empty((0,) * len(ref.shape), ref.dtype)
    return da.from_array(Source(ref), chunks=sizes, name=name, asarray=True, inline_array=True, meta=meta)
