"""memmap: an array on a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from ndfile._core import ArrayBase
from ndfile.errors import LayoutError
from ndfile.file import MODES, File, refused_mode
from ndfile.layout import Layout

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import IO, Literal, SupportsIndex, TypeAlias

    from numpy.typing import DTypeLike

    Source: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes]
    Mode: TypeAlias = Literal["r", "c", "r+", "w+", "readonly", "copyonwrite", "readwrite", "write"]
    Shape: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | np.ndarray[Any, np.dtype[np.integer[Any]]]

__all__ = ["memmap"]

ShapeT = TypeVar("ShapeT", bound=tuple[int, ...], covariant=True)
DTypeT = TypeVar("DTypeT", bound=np.dtype[Any], covariant=True)
ScalarT = TypeVar("ScalarT", bound=np.generic)


class memmap(ArrayBase, np.memmap[ShapeT, DTypeT]):  # type: ignore[misc]  # filename may be a Path, or None
    """Map an array in a file into memory.

    Takes what `numpy.memmap` takes and behaves as it does, and can be closed. It is an ordinary array over the file's
    bytes: reading an item reads its page of the file, and in the modes that write, changing an item changes the file.
    Basic slices are views of the same file; every other result (arithmetic, fancy indexing, `copy`, `astype`,
    reductions) is a plain array or scalar in memory.

    Parameters
    ----------
    filename : str, bytes, os.PathLike or binary file object
        A regular file. A file object must have a descriptor; its position does not matter and does not change, and it
        can be closed while the array lives on.
    dtype : dtype_like, default uint8
        Type of the items, structured and byte-swapped ones included. Types that hold pointers (object, StringDType)
        are refused.
    mode : {'r+', 'r', 'w+', 'c'}, default 'r+'
        - ``'r'``: read only.
        - ``'r+'``: read and write a file that exists.
        - ``'w+'``: as ``'r+'``, but create the file, or replace its content by zeros. Needs `shape`.
        - ``'c'``: copy on write; changes stay in memory, the file is opened read only.

        ``'readonly'``, ``'readwrite'``, ``'write'`` and ``'copyonwrite'`` are other names for the same.
    offset : int, default 0
        Bytes before the first item; any number. Where the array ends past the end of the file, ``'r+'`` and ``'w+'``
        extend the file with zeros.
    shape : int or sequence of ints, optional
        By default 1-D, of as many items as there are from `offset` to the end of the file.
    order : {'C', 'F'}, default 'C'
        Order of the items in the file: last index fastest, or first.

    Attributes
    ----------
    filename : str, pathlib.Path or None
        Absolute path; a Path if one was given, None for a file without a name.
    offset : int
        As given. Slices keep the offset of the array that they came from.
    mode : str
        The short name.
    closed : bool

    Raises
    ------
    LayoutError
        A dtype, shape, offset, order or mode that no file could satisfy. A ValueError.
    SizeError
        The file is too short, or no whole number of items long. A ValueError.
    OSError
        The file cannot be opened, extended or mapped, or is no regular file.

    See Also
    --------
    numpy.memmap

    Notes
    -----
    Cost: opening takes a few microseconds whatever the size; pages are read when they are first touched.

    Platforms: Linux.

    Threads: as with any array, reading from several threads is safe, and so is writing to different items.

    All arguments are checked before the file is touched. A mode that only reads keeps no descriptor.

    Examples
    --------
    Make a file that holds an array, in a temporary folder:

    >>> import numpy as np
    >>> import ndfile as nf
    >>> from tempfile import mkdtemp
    >>> import os.path as path
    >>> filename = path.join(mkdtemp(), "newfile.dat")
    >>> data = np.arange(12, dtype="float32")
    >>> data.resize((3, 4))

    >>> fp = nf.memmap(filename, dtype="float32", mode="w+", shape=(3, 4))
    >>> fp
    memmap([[0., 0., 0., 0.],
            [0., 0., 0., 0.],
            [0., 0., 0., 0.]], dtype=float32)

    Fill it:

    >>> fp[:] = data[:]
    >>> fp
    memmap([[ 0.,  1.,  2.,  3.],
            [ 4.,  5.,  6.,  7.],
            [ 8.,  9., 10., 11.]], dtype=float32)
    >>> fp.filename == path.abspath(filename)
    True

    Put it on the disk and let go of it; ``fp.close()`` would do both at once:

    >>> fp.flush()
    >>> del fp

    Read it again:

    >>> fpr = nf.memmap(filename, dtype="float32", mode="r", shape=(3, 4))
    >>> fpr.flags.writeable
    False

    Change it in memory only:

    >>> fpc = nf.memmap(filename, dtype="float32", mode="c", shape=(3, 4))
    >>> fpc.flags.writeable
    True
    >>> fpc[0, :] = 0
    >>> fpc
    memmap([[ 0.,  0.,  0.,  0.],
            [ 4.,  5.,  6.,  7.],
            [ 8.,  9., 10., 11.]], dtype=float32)
    >>> fpr
    memmap([[ 0.,  1.,  2.,  3.],
            [ 4.,  5.,  6.,  7.],
            [ 8.,  9., 10., 11.]], dtype=float32)

    Start at the second row:

    >>> nf.memmap(filename, dtype="float32", mode="r", offset=16)
    memmap([ 4.,  5.,  6.,  7.,  8.,  9., 10., 11.], dtype=float32)
    """

    # Instances have the __dict__ of numpy.memmap's, for whoever hangs something on them.
    __slots__ = ()

    # ndarray's own: NumPy then calls nothing when it makes a view. What an array knows about its file it asks the
    # mapping at the end of its chain of bases, so there is nothing to hand on.
    __array_finalize__ = np.ndarray.__array_finalize__  # type: ignore[assignment]

    @overload
    def __new__(
        cls,
        filename: Source,
        dtype: type[np.uint8] = ...,
        mode: Mode = ...,
        offset: SupportsIndex = ...,
        shape: Shape | None = ...,
        order: Literal["C", "F"] = ...,
    ) -> memmap[Any, np.dtype[np.uint8]]: ...
    @overload
    def __new__(
        cls,
        filename: Source,
        dtype: type[ScalarT] | np.dtype[ScalarT],
        mode: Mode = ...,
        offset: SupportsIndex = ...,
        shape: Shape | None = ...,
        order: Literal["C", "F"] = ...,
    ) -> memmap[Any, np.dtype[ScalarT]]: ...
    @overload
    def __new__(
        cls,
        filename: Source,
        dtype: DTypeLike,
        mode: Mode = ...,
        offset: SupportsIndex = ...,
        shape: Shape | None = ...,
        order: Literal["C", "F"] = ...,
    ) -> memmap[Any, np.dtype[Any]]: ...
    def __new__(
        cls,
        filename: Source,
        dtype: DTypeLike = np.uint8,
        mode: str = "r+",
        offset: SupportsIndex = 0,
        shape: Shape | None = None,
        order: str = "C",
    ) -> Any:
        mode = MODES.get(mode) or refused_mode(mode)
        layout = Layout(dtype, shape, offset, order)
        if mode == "w+" and shape is None:
            raise LayoutError("mode 'w+' makes a new file, and shape is None", "Pass the new array's shape.")
        file = File(filename, mode)
        try:
            if shape is None:
                layout.fill(file.name, file.size)
            if mode == "r" or mode == "c":  # half the time of a tuple
                layout.check_inside(file.name, file.size)
            mapping = file.map(layout.offset, layout.nbytes)
        except BaseException:
            file.abandon()
            raise
        return cls._from_mapping(mapping, layout.dtype, layout.shape, layout.order)
