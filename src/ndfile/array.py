"""memmap: an array on a file."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import numpy as np

from ndfile import hints
from ndfile._core import ArrayBase, UfuncAttribute, refuse_lost
from ndfile.ceiling import checked as checked_ceiling
from ndfile.errors import LayoutError
from ndfile.files.durable import save_memory, sync_folder
from ndfile.files.file import MODES, PLAIN, File, Options, names_a_path, refused_mode
from ndfile.files.new_file import NewFile
from ndfile.layout import Layout

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO, Literal, Self, SupportsIndex, TypeAlias

    from numpy.typing import ArrayLike, DTypeLike
    from pyarrow import Tensor as ArrowTensor
    from torch import Tensor

    from ndfile._core import Mapping
    from ndfile.atomic import Atomic
    from ndfile.ref import ArrayRef

    Source: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | IO[bytes]
    Mode: TypeAlias = Literal["r", "c", "r+", "w+", "readonly", "copyonwrite", "readwrite", "write"]
    Lock: TypeAlias = Literal["exclusive", "shared"]
    Backend: TypeAlias = Literal["auto", "map", "read"]
    Shape: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | np.ndarray[Any, np.dtype[np.integer[Any]]]

__all__ = ["above", "array_over", "memmap"]

ShapeT = TypeVar("ShapeT", bound=tuple[int, ...], covariant=True)
DTypeT = TypeVar("DTypeT", bound=np.dtype[Any], covariant=True)
ScalarT = TypeVar("ScalarT", bound=np.generic)


class memmap(ArrayBase[ShapeT, DTypeT], np.memmap[ShapeT, DTypeT]):  # type: ignore[misc]  # filename may be a Path, or None
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
        - ``'w+'``: as ``'r+'``, but on a new file of zeros. It takes the name of an old one, with its owner and
          permissions, once nothing can fail any more; who has the old one mapped keeps it whole. An empty file and a
          file object are used as they are. Needs `shape`.
        - ``'c'``: copy on write; changes stay in memory, the file is opened read only.

        ``'readonly'``, ``'readwrite'``, ``'write'`` and ``'copyonwrite'`` are other names for the same.
    offset : int, default 0
        Bytes before the first item; any number. Where the array ends past the end of the file, ``'r+'`` and ``'w+'``
        extend the file with zeros.
    shape : int or sequence of ints, optional
        By default 1-D, of as many items as there are from `offset` to the end of the file.
    order : {'C', 'F'}, default 'C'
        Order of the items in the file: last index fastest, or first.
    sparse : bool, default False
        Make and extend files without reserving space on the disk for them. Storing into the array can then find the
        disk full.
    lock : {'exclusive', 'shared'}, optional
        Lock the file until the array is closed, against everybody else who asks for a lock: ``'exclusive'`` against
        all of them, ``'shared'`` against exclusive ones. Modes that only read take ``'shared'``. A forked child holds
        it too.
    lock_timeout_s : float, default 0.0
        Seconds to wait for the lock.
    follow_symlinks : bool, default True
        If False, a symbolic link as the last part of the path is refused.
    block_device : bool, default False
        Take block devices as well as regular files, in the modes that need an existing file.
    backend : {'auto', 'map', 'read'}, default 'auto'
        By which way much is read at once: through the map, or by many reads at a time, as it suits a file on a network.
        By default the file system's type tells.
    max_rss : int or str, optional
        A ceiling on the array's resident memory, in bytes, as ``"512 MiB"`` or ``"auto"``; see the attribute. Not in
        mode ``'c'``.

    Attributes
    ----------
    filename : str, pathlib.Path or None
        Absolute path; a Path if one was given, None for a file without a name.
    offset : int
        As given. Slices keep the offset of the array that they came from.
    mode : str
        The short name.
    closed : bool
    max_rss : int or None

    Raises
    ------
    LayoutError
        A dtype, shape, offset, order or mode that no file could satisfy. A ValueError.
    SizeError
        The file is too short, or no whole number of items long. A ValueError.
    LockedError
        Somebody else holds a lock on the file. An OSError.
    OSError
        The file cannot be opened, extended or mapped, or is no regular file. A disk without the space for a new or
        longer file among them: the file is then as it was.

    Warns
    -----
    TruncationWarning
        Mode ``'w+'`` cannot put a new file in the old one's place (hard links, an unwritable folder, an owner that
        cannot be kept, a mount point) and truncates the old one under its other readers.

    See Also
    --------
    numpy.memmap

    Notes
    -----
    Cost: opening takes a few microseconds whatever the size; pages are read when they are first touched.

    Platforms: Linux.

    Threads: as with any array, reading from several threads is safe, and so is writing to different items.

    All arguments are checked before the file is touched. A mode that only reads keeps no descriptor, unless it keeps a
    lock.

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

    __array_ufunc__ = UfuncAttribute(ArrayBase)

    @overload
    def __new__(
        cls,
        filename: Source,
        dtype: type[np.uint8] = ...,
        mode: Mode = ...,
        offset: SupportsIndex = ...,
        shape: Shape | None = ...,
        order: Literal["C", "F"] = ...,
        *,
        sparse: bool = ...,
        lock: Lock | None = ...,
        lock_timeout_s: float = ...,
        follow_symlinks: bool = ...,
        block_device: bool = ...,
        backend: Backend = ...,
        max_rss: int | str | None = ...,
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
        *,
        sparse: bool = ...,
        lock: Lock | None = ...,
        lock_timeout_s: float = ...,
        follow_symlinks: bool = ...,
        block_device: bool = ...,
        backend: Backend = ...,
        max_rss: int | str | None = ...,
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
        *,
        sparse: bool = ...,
        lock: Lock | None = ...,
        lock_timeout_s: float = ...,
        follow_symlinks: bool = ...,
        block_device: bool = ...,
        backend: Backend = ...,
        max_rss: int | str | None = ...,
    ) -> memmap[Any, np.dtype[Any]]: ...
    def __new__(
        cls,
        filename: Source,
        dtype: DTypeLike = np.uint8,
        mode: str = "r+",
        offset: SupportsIndex = 0,
        shape: Shape | None = None,
        order: str = "C",
        *,
        sparse: bool = False,
        lock: str | None = None,
        lock_timeout_s: float = 0.0,
        follow_symlinks: bool = True,
        block_device: bool = False,
        backend: str = "auto",
        max_rss: int | str | None = None,
    ) -> Any:
        mode = MODES.get(mode) or refused_mode(mode)
        if backend != "auto":
            hints.check_backend(backend, mode)
        layout = Layout(dtype, shape, offset, order)
        if mode == "w+" and shape is None:
            raise LayoutError("mode 'w+' makes a new file, and shape is None", "Pass the new array's shape.")
        ceiling = None if max_rss is None else checked_ceiling(max_rss, mode)
        if sparse or lock is not None or not follow_symlinks or block_device:
            options = Options(sparse, lock, lock_timeout_s, follow_symlinks, block_device)
            options.check(mode)
        else:
            options = PLAIN
        if mode == "w+" and names_a_path(filename):
            file: File = NewFile(filename, options)
        else:
            file = File(filename, mode, options)
        try:
            if shape is None:
                layout.fill(file.name, file.size)
            if mode == "r" or mode == "c":  # half the time of a tuple
                layout.check_inside(file.name, file.size)
            mapping = file.map(layout.offset, layout.nbytes)
        except BaseException:
            file.abandon()
            raise
        if backend != "auto":
            mapping.backend = backend
        if ceiling is not None:
            mapping.set_max_rss(ceiling)
        return cls._from_mapping(mapping, layout.dtype, layout.shape, layout.order)

    @property
    def max_rss(self) -> int | None:
        """Ceiling on the resident memory of the array's mapping in bytes, or None.

        May be set at any time, on any view: to a number of bytes, a text such as ``"512 MiB"`` or ``"2 GB"``,
        ``"auto"`` for a quarter of what the machine and the control groups around the process allow, or None for no
        ceiling. Whatever touches the bytes, plain arrays and other libraries among it, the mapping's part of the
        process's resident memory then stays below the ceiling and 64 MiB. Nothing is lost: pages are let go, and stay
        in the page cache.

        Raises
        ------
        LayoutError
            A number below 1, a text that is none, an array of mode ``'c'`` or without a file. A ValueError.
        TypeError
            It is no number or text.
        ClosedError
            The array is closed. A ValueError.

        Notes
        -----
        Cost: a page that was let go is faulted in again when it is touched. Reading once through an array costs little
        more than without; jumping about in more than the ceiling allows costs a fault, some microseconds, for many of
        the jumps. While nothing happens the thread takes a fraction of a percent of a processor. Advice that was given
        before may be forgotten.

        Platforms: Linux; before 6.7 other arrays' growth may be taken for this one's, and pages let go too early. It
        goes by how fast one thread can let go, 20 to 200 GB/s: many threads that touch a byte here and there of what
        is in the page cache are faster, and go beyond it for some milliseconds, as they do where all processors are
        busy and the process may not raise a thread's priority.

        Threads: one thread for all arrays with a ceiling, which goes with the last. A forked child has its own.

        Examples
        --------
        >>> import os, tempfile
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("x.npy", shape=1000, dtype="float32", max_rss="512 MiB")
        >>> a.max_rss
        536870912
        >>> a[10:].max_rss = None
        >>> a.max_rss is None
        True
        """
        mapping = self._mmap
        return None if mapping is None else mapping.max_rss

    @max_rss.setter
    def max_rss(self, max_rss: int | str | None) -> None:
        ceiling = checked_ceiling(max_rss, self.mode)
        mapping = self._mmap
        if mapping is not None:
            mapping.set_max_rss(ceiling)

    def sync(self) -> None:
        """Write the whole mapping, the file's metadata and its name in the folder to the disk, and wait for it.

        What `flush` leaves out is what a new file needs to be found again after a power loss. Does nothing in modes
        ``'r'`` and ``'c'``, which never change the file.

        Raises
        ------
        OSError
            The disk did not take the bytes. From then on every `flush`, `sync` and `close` raises it again: which
            bytes were lost cannot be known, see `rescue`.
        FaultError
            The file was cut, or has failed.
        """
        mapping = self._mmap
        if mapping is not None:
            mapping.sync()
            if mapping.mode in ("r+", "w+") and mapping.filename is not None:
                sync_folder(mapping.filename)

    def append(self, rows: ArrayLike, *, sync: bool = False) -> None:
        """Put rows behind the last one, in the file and in place.

        The first axis grows, of arrays in order 'F' the last one. `shape` changes; views keep theirs, and nothing moves
        or is copied. In between any two appends, and after a kill at any moment, the file is a valid one with whole
        appends: ``numpy.load`` can read a ``.npy`` meanwhile.

        Parameters
        ----------
        rows : array_like
            Of the array's shape but for the axis that grows; or without that axis, for one row. Cast with
            ``casting="same_kind"``, and no value may be lost by it.
        sync : bool, default False
            Return when the rows survive a power loss: first the disk has the rows, then the number of them.

        Raises
        ------
        LayoutError
            The shape does not fit; the array is a view, of a mode that only reads, or in a format that cannot grow. A
            ValueError.
        TypeError
            The dtype cannot be cast.
        OverflowError
            A value does not fit the array's dtype.
        LockedError
            Somebody else appends to the file. An OSError.
        OSError
            The disk is full, or failed. Nothing was appended.

        See Also
        --------
        extend, resize, refresh

        Notes
        -----
        Cost: one write for the rows and one for their number, some two microseconds for rows of 1 KiB. Space is made
        ahead in growing steps, 1 to 256 MiB, and given back when the array is closed.

        Platforms: Linux. The file is locked for this opening until it is closed.

        Threads: several may append; each of their appends stays together.

        Examples
        --------
        >>> import os, tempfile
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("log.npy", shape=(0, 2), dtype="float32")
        >>> a.append([[1, 2], [3, 4]])
        >>> first = a[0]
        >>> a.append([5, 6])
        >>> a.shape, first
        ((3, 2), memmap([1., 2.], dtype=float32))
        """
        if sync or not self._append(rows):
            from ndfile import growth

            growth.append(self, rows, sync)

    def extend(self, iterable: Iterable[ArrayLike], *, sync: bool = False) -> None:
        """Append everything that an iterable gives, some MiB at a time.

        Parameters
        ----------
        iterable : iterable of array_like
            Each as for `append`.
        sync : bool, default False
            Return when all of it survives a power loss.

        Raises
        ------
        LayoutError, TypeError, OverflowError, LockedError, OSError
            As `append`. What came before is appended or not, in whole batches.

        See Also
        --------
        append
        """
        from ndfile import growth

        growth.extend(self, iterable, sync)

    def resize(self, *shape: Any, refcheck: bool = True) -> None:
        """Let the array have more rows, of zeros, or fewer, in the file and in place.

        Parameters
        ----------
        *shape : int, or tuple of int
            Rows, or a whole shape that differs in the axis that grows alone.
        refcheck : bool
            As `numpy.ndarray.resize` has it; views stay valid in any case. What a view has of rows that are gone raises
            `FaultError`.

        Raises
        ------
        LayoutError, LockedError, OSError
            As `append`.
        BufferError
            The guard is off, and the array cannot be made shorter without it.

        See Also
        --------
        append

        Notes
        -----
        Cost: the space is reserved, or given back; to shorten a ``.npy`` takes one sync.

        Platforms: Linux.

        Threads: as `append`.

        Examples
        --------
        >>> import os, tempfile
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("x.npy", shape=2, dtype="int8", fill=7)
        >>> a.resize(4)
        >>> a
        memmap([7, 7, 0, 0], dtype=int8)
        """
        mapping = self._mmap
        base: Any = self.base
        if mapping is None or base is not mapping:
            super().resize(*shape, refcheck=refcheck)  # of a view, this raises: it does not own its data
            return
        from ndfile import growth

        growth.resize(self, shape[0] if len(shape) == 1 else shape)

    def refresh(self) -> int:
        """See what another array, here or in another process, has appended to the file.

        Returns
        -------
        int
            How many rows are new; `shape` has changed, in place. Negative if the file has become shorter.

        Raises
        ------
        LayoutError
            The array is a view, or of mode 'c'. A ValueError.
        FaultError
            The file is shorter than it says.

        See Also
        --------
        follow, append

        Notes
        -----
        Cost: about a microsecond without news: no remapping, no read.

        Platforms: Linux.

        Threads: one at a time for one array.
        """
        mapping = self._mmap
        base: Any = self.base
        if mapping is not None and base is mapping and mapping.mode != "c" and not mapping.has_news():
            return 0
        from ndfile import following

        return following.refresh(self)

    def follow(self, timeout_s: float | None = None) -> Iterator[Self]:
        """Iterate over new rows as they are published, by another process for example.

        Parameters
        ----------
        timeout_s : float, optional
            End after so many seconds without news. By default only closing the array ends it.

        Yields
        ------
        memmap
            A view of the rows that are new.

        Raises
        ------
        LayoutError, FaultError
            As `refresh`; and for a negative time.

        See Also
        --------
        refresh, append

        Notes
        -----
        Cost: none while it waits, where the file system tells of changes (inotify); else a look every 50 ms.

        Platforms: Linux.

        Threads: one at a time for one array.
        """
        from ndfile import following

        return following.follow(self, timeout_s)

    def atomic(self, limit: int | None = None) -> Atomic:
        """Change the file all at once or not at all: ``with a.atomic(): ...``.

        Whatever is changed in the block, through this array or any view of the same mapping, by any thread, appends
        among it, is kept in memory, where nobody else sees it. The end of the block puts it on the disk, so that a kill
        or a power loss leaves all of it or nothing. An exception rolls back and goes on.

        Parameters
        ----------
        limit : int, optional
            Most bytes of changed pages, by default half of the memory that is available. A change beyond it raises.

        Returns
        -------
        context manager
            Gives the array.

        Raises
        ------
        LayoutError
            The array's mode only reads, or its file has no name. A ValueError.
        LockedError
            A block is open already, or somebody else writes to the file. An OSError.
        AtomicLimitError
            The block has changed more than `limit`, and was rolled back. A MemoryError.
        OSError
            The disk is full, or failed. The message says whether the commit is durable; if not, nothing was changed.

        See Also
        --------
        ndfile.recover

        Notes
        -----
        Cost: memory for the pages that change, not for the array; at the end two syncs, and each changed page is
        written twice. The journal, ``<path>.ndfile-journal``, goes when the array is closed.

        Platforms: Linux.

        Threads: one block at a time for one mapping. Stores of other threads belong to the block; at its end they wait.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("x.npy", shape=3, dtype="int8")
        >>> with a.atomic():
        ...     a[0] = 1
        ...     a[2] = 1
        >>> np.load("x.npy")
        array([1, 0, 1], dtype=int8)
        """
        from ndfile.atomic import Atomic

        return Atomic(self, limit)

    def prefetch(self, index: Any = ..., *, wait: bool = False) -> bool:
        """Ask for parts of the file to be read into memory, before they are used.

        Parameters
        ----------
        index : int, slice, tuple of these, array or list of ints, or mask of the first axis
            What is going to be used, by default all of the array. Of a view with a step only the pages that it has.
        wait : bool, default False
            Return when everything is in memory, and mapped.

        Returns
        -------
        bool
            False if the kernel took no notice, or with `wait` could not read all of it: nothing is lost by that.

        Raises
        ------
        IndexError
            A row is out of bounds.
        LayoutError
            An index of another kind. A ValueError.

        See Also
        --------
        release, residency, ndfile.batches

        Notes
        -----
        Cost: one or two system calls for some thousand rows, and about a microsecond for each run of pages. Rows by
        number that are about to be copied need no asking: ``a[rows]`` does it itself.

        Platforms: Linux; waiting needs 5.14.

        Threads: safe.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import ndfile as nf
        >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
        >>> np.save(path, np.zeros((1000, 512)))
        >>> a = nf.open(path)
        >>> a.prefetch(slice(100, 200)), a.prefetch([7, 900, 3], wait=True)
        (True, True)
        """
        return hints.prefetch(self, index, wait)

    def release(self, index: Any = ...) -> bool:
        """Give the memory back that parts of the file take, in this process and in the page cache.

        No byte is lost: what is used again is read again. What was changed and is not on the disk yet stays in the page
        cache; `flush` before.

        Parameters
        ----------
        index : as for `prefetch`
            What is not going to be used, by default all of the array; whole pages are given up.

        Returns
        -------
        bool
            False if nothing was done, or not all of it: in mode 'c' and in an atomic block, whose pages exist nowhere
            else; and where the file cannot be found again by its name.

        Raises
        ------
        IndexError, LayoutError
            As `prefetch`.

        See Also
        --------
        prefetch, residency

        Notes
        -----
        Cost: two system calls for each run of pages. Pages that another process has mapped stay in the page cache.

        Platforms: Linux.

        Threads: safe; somebody who reads meanwhile brings pages back.
        """
        return hints.release(self, index)

    def advise(self, advice: str, index: Any = ...) -> bool:
        """Tell the kernel how the array, or a part of it, is going to be used.

        Parameters
        ----------
        advice : {'normal', 'random', 'sequential', 'hugepage', 'nohugepage', 'cold', 'pageout'}
            As madvise(2) has them. 'random' turns reading ahead off, which makes later scans slow, and since Linux 6.4
            pages in use may be given up; gathering rows by number does not need it.
        index : int, slice or tuple of these
            By default all of the array.

        Returns
        -------
        bool
            False if the kernel does not know this advice, or not for files like this one.

        Raises
        ------
        LayoutError
            Another word, or an index of rows by number. A ValueError.

        See Also
        --------
        prefetch, release

        Notes
        -----
        Cost: a system call. The advice holds for whole pages, for every view of them, until there is another one.

        Platforms: Linux.

        Threads: safe.
        """
        return hints.advise(self, advice, index)

    def residency(self, parts: int = 64) -> hints.Residency:
        """Tell how much of the array is in memory.

        Parameters
        ----------
        parts : int, default 64
            In so many parts of equal length the share is told apart.

        Returns
        -------
        Residency
            With `nbytes`, `resident_nbytes`, `dirty_nbytes`, `share` and `parts`: of the file's pages from the array's
            first byte to its last.

        Raises
        ------
        LayoutError
            `parts` is less than 1. A ValueError.

        See Also
        --------
        prefetch, release

        Notes
        -----
        Cost: a system call for each part, which takes as long as the part has pages in memory: terabytes that are not
        cost nothing. No page is read or mapped by it.

        Platforms: Linux; before 6.5 by looking at each page. Of a file that is not the caller's to write the kernel may
        say that all is in memory.

        Threads: safe.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import ndfile as nf
        >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
        >>> nf.save(path, np.zeros(1 << 20))
        >>> a = nf.open(path)
        >>> a.residency(8)
        <Residency: 8 MiB of 8 MiB in memory |████████|>
        """
        return hints.residency(self, parts)

    @property
    def backend(self) -> str | None:
        """By which way much of the file is read at once: 'map' or 'read', or None without a file.

        'read' is for files on the other side of a network or of a process, where each page fault would be a way there
        and back: rows by number and copies are then fetched by many reads at a time. Setting it to 'auto' lets the type
        of the file system tell, as it does by default.
        """
        mapping = self._mmap
        return None if mapping is None else mapping.backend

    @backend.setter
    def backend(self, backend: str) -> None:
        hints.set_backend(self, backend)

    @property
    def ref(self) -> ArrayRef:
        """A reference to the array: some hundred bytes that open as the same view of the same file elsewhere.

        multiprocessing, joblib, torch's workers and dask send it by themselves in the array's place; by hand it is for
        everything else.

        Raises
        ------
        LayoutError
            The file does not have the array as it is: changed in memory by mode 'c' or in an atomic block, or a file
            that has lost its name. A ValueError.
        ClosedError, FaultError
            As `check`.

        See Also
        --------
        ndfile.ArrayRef, ndfile.references

        Examples
        --------
        >>> import os, tempfile
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("x.npy", shape=(4, 3), dtype="int8", fill=5)
        >>> b = a[1:, ::2].ref.open()
        >>> b[0, 0] = 7
        >>> a[1]
        memmap([7, 5, 5], dtype=int8)
        """
        found: ArrayRef = above("ref").ArrayRef.of(self)
        return found

    def to_dask(self, chunks: Any = "auto") -> Any:
        """A dask array of the file's items, which its tasks read by reference.

        Parameters
        ----------
        chunks : as dask has it, default "auto"
            "auto" makes chunks that are one piece of the file each, of dask's ``array.chunk-size`` or a little less; a
            number of bytes, as ``"64 MiB"``, of that size. Everything else is dask's.

        Returns
        -------
        dask.array.Array
            Of plain arrays. Its graph holds one reference, whatever the size; nothing is read before it is computed.

        Raises
        ------
        LayoutError
            The file does not have the array as it is; see `ref`. A ValueError.
        LibraryError
            dask is not installed. An ImportError.

        See Also
        --------
        ref, ndfile.ArrayRef

        Notes
        -----
        Cost: a millisecond; of an array that is written to, what `flush` costs.

        Platforms: Linux.

        Threads: safe. A task finds a file that was changed since, or changes while it is read, and raises
        `StaleFileError`.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> np.save("x.npy", np.arange(12).reshape(4, 3))
        >>> nf.open("x.npy")[::-1].to_dask(chunks=(2, 3)).max(axis=1).compute(scheduler="sync")
        array([11,  8,  5,  2])
        """
        return above("interop.dask").to_dask(self, chunks)

    def __dask_tokenize__(self) -> Any:
        return above("interop.dask_types").token(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # A subclass that says itself what its pickles hold, holds more than the array.
        if type(self).__reduce__ is memmap.__reduce__:
            by_reference = above("transports").reference_or_none(self, sys._getframe(1))  # noqa: SLF001  # no other name
            if by_reference is not None:
                return by_reference
        return super().__reduce_ex__(protocol)

    def to_torch(self, copy: bool | None = None) -> Tensor:
        """Give the array as a tensor of torch's that shares its memory.

        Of an array that can be written, writing to the tensor changes the file, and in mode ``'c'`` the array's memory.
        A tensor can always be written, so one over an array that is read-only is copy-on-write: the same bytes of the
        file, mapped anew, where writing changes memory alone. Neither the file nor the array see it.

        Parameters
        ----------
        copy : bool, optional
            True gives a tensor in memory of its own, with the items in C order. False never copies. None, the default,
            copies an array whose items are in the other order of bytes, which torch does not have, and nothing else.

        Returns
        -------
        torch.Tensor
            On the CPU. It keeps the file mapped.

        Raises
        ------
        LayoutError
            torch has no type for the items; without `copy`, it has no negative strides and none that are no multiple of
            an item, and a read-only array has no file that could be mapped anew. A ValueError.
        ClosedError, FaultError
            As `check`.
        LibraryError
            torch is not installed. An ImportError.

        See Also
        --------
        ref, ndfile.batches

        Notes
        -----
        Cost: some microseconds, and no memory. A page of a copy-on-write tensor takes memory once it is written;
        `max_rss` does not hold for it.

        Platforms: Linux. The types of ml_dtypes that torch has, bfloat16 and floats of eight bits, are taken too.

        Threads: as for the array. An error of the file that a thread of torch's own meets is raised in the main thread.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("x.npy", shape=(2, 3), dtype="float32")
        >>> t = a.to_torch()
        >>> t[0, 1] = 7
        >>> a[0]
        memmap([0., 7., 0.], dtype=float32)
        >>> t = nf.open("x.npy").to_torch()
        >>> t += 1
        >>> t[0].tolist(), a[0].tolist()
        ([1.0, 8.0, 1.0], [0.0, 7.0, 0.0])
        """
        tensor: Tensor = above("interop.torch").tensor_of(self, copy)
        return tensor

    def to_arrow(self, dim_names: Sequence[str] | None = None) -> ArrowTensor:
        """Give the array as a tensor of Arrow's that shares its memory, and copies nothing.

        Parameters
        ----------
        dim_names : sequence of str, optional
            A name for each axis.

        Returns
        -------
        pyarrow.Tensor
            It keeps the file mapped. `bool` becomes uint8, for want of a type.

        Raises
        ------
        LayoutError
            Arrow has no such type, order of bytes or strides, or there are not as many names as axes. A ValueError.
        ClosedError, FaultError
            As `check`.
        LibraryError
            pyarrow is not installed. An ImportError.

        Notes
        -----
        Cost: some microseconds, and no memory.

        Platforms: Linux.

        Threads: safe.

        Examples
        --------
        >>> import os, tempfile
        >>> import ndfile as nf
        >>> os.chdir(tempfile.mkdtemp())
        >>> a = nf.create("x.npy", shape=(2, 3), dtype="float32", fill=1)
        >>> t = a.to_arrow(["row", "column"])
        >>> t.shape, t.dim_names
        ((2, 3), ['row', 'column'])
        >>> a[0, 0] = 7
        >>> t.to_numpy()[0]
        array([7., 1., 1.], dtype=float32)
        """
        tensor: ArrowTensor = above("interop.arrow").tensor_of(self, dim_names)
        return tensor

    def __dlpack__(self, /, *, copy: bool | None = None, **wanted: Any) -> Any:
        refuse_lost(self, "export")
        steps = [step for length, step in zip(self.shape, self.strides, strict=True) if length > 1]
        if not copy and self.size and min(steps, default=0) < 0:
            # torch.from_dlpack would end the process.
            raise BufferError(
                f"export {str(self.filename)!r}: strides {self.strides}, and DLPack's readers bear no negative ones. "
                "Nothing was exported. Pass a.copy()."
            )
        return super().__dlpack__(copy=copy, **wanted)

    def _repr_html_(self) -> str:
        """What notebooks show: what is known of the file, and which parts are in memory. No page of it is read."""
        found: str = above("pictures.notebook").html_of_array(self)
        return found

    def rescue(self, path: str | os.PathLike[str]) -> int:
        """Save the bytes in memory to a new file, durably.

        For an array whose own file no longer takes them: the new file is what the old one would be. Bytes that are not
        in memory any more, and cannot be read again, are zeros in it.

        Parameters
        ----------
        path : str or os.PathLike
            Must not exist yet.

        Returns
        -------
        int
            How many of the mapping's bytes could be saved.

        Raises
        ------
        FileExistsError
            There is something at `path`.
        OSError
            The new file could not be written; it was removed.
        """
        mapping = self._mmap
        if mapping is None:
            raise ValueError("rescue: the array has no file. Nothing was saved. Use numpy.save.")
        return save_memory(mapping, path)


def above(module: str) -> Any:
    """A module of a floor above, which has methods' work to do: looked up when it is, for imports point down."""
    return import_module(f"ndfile.{module}")


class Described(Protocol):
    """What says dtype, shape and order: a `Layout`, or the member of an archive."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def order(self) -> str: ...


def array_over(mapping: Mapping, layout: Described, start: int = 0) -> memmap[Any, Any]:
    """An array over the bytes of a mapping, from byte `start` of it on."""
    return memmap._from_mapping(mapping, layout.dtype, layout.shape, layout.order, start)  # noqa: SLF001  # its own class
