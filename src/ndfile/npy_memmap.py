"""`open_memmap`, under NumPy's signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.errors import LayoutError
from ndfile.files.file import MODES, refused_mode
from ndfile.formats.npy import MOST_HEADER_NBYTES, Npy
from ndfile.layout import Layout
from ndfile.reading import open as open_file
from ndfile.stream import Stream
from ndfile.writing import make

if TYPE_CHECKING:
    import os

    from numpy.typing import DTypeLike

    from ndfile.array import Shape, memmap

__all__ = ["open_memmap"]


def open_memmap(
    filename: str | bytes | os.PathLike[Any],
    mode: str = "r+",
    dtype: DTypeLike | None = None,
    shape: Shape | None = None,
    fortran_order: bool = False,
    version: tuple[int, int] | None = None,
    *,
    max_header_size: int = MOST_HEADER_NBYTES,
) -> memmap[Any, Any]:
    """Map a ``.npy`` file, or make one: `numpy.lib.format.open_memmap` with ndfile's arrays.

    Parameters
    ----------
    filename : str, bytes or os.PathLike
    mode : {'r+', 'r', 'w+', 'c'}, default 'r+'
        ``'w+'`` puts a new file in the place of an old one, whose readers keep it whole.
    dtype : dtype_like, optional
        Of a new file, by default float64.
    shape : int or sequence of ints
        Of a new file.
    fortran_order : bool, default False
        Order of a new file.
    version : {(1, 0), (2, 0), (3, 0)}, optional
        Of a new file, by default the oldest that can hold its header.
    max_header_size : int, default 10000
        Longest header to be read: a long one takes time to evaluate.

    Returns
    -------
    memmap
        Of mode 'r+' where 'w+' was asked for.

    Raises
    ------
    FormatError
        The file is no ``.npy`` file, or is broken. A ValueError.
    LayoutError
        No ``.npy`` file could be like that. A ValueError.
    OSError
        The file cannot be opened or made.

    See Also
    --------
    numpy.lib.format.open_memmap, ndfile.open, ndfile.create

    Notes
    -----
    Cost: that of `ndfile.open` and `ndfile.create`.

    Platforms: Linux.

    Threads: safe.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> a = nf.open_memmap(path, mode="w+", dtype="int16", shape=(2, 2))
    >>> a[:] = 3
    >>> a.close()
    >>> np.load(path)
    array([[3, 3],
           [3, 3]], dtype=int16)
    """
    short = MODES.get(mode) or refused_mode(mode)
    if hasattr(filename, "read"):
        raise LayoutError("filename is a file object", "Pass the path; ndfile.memmap takes file objects.")
    if short != "w+":
        found: memmap[Any, Any] = open_file(filename, short, format="npy", max_header_size=max_header_size)
        return found
    if shape is None:
        raise LayoutError("mode 'w+' makes a new file, and shape is None", "Pass the new array's shape.")
    layout = Layout(np.dtype(dtype), shape, 0, "F" if fortran_order else "C")
    kind = Npy(version)
    return make(filename, kind, Stream(layout.dtype, layout.shape, layout.order, tuple), {}, overwrite=True)
