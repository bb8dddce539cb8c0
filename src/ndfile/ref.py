"""ArrayRef: where an array's bytes are, small enough to be sent."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.array import memmap
from ndfile.errors import LayoutError, StaleFileError
from ndfile.files.file import File
from ndfile.integrity.hashing import algorithm_of
from ndfile.layout import LIMIT, MOST_DIMENSIONS
from ndfile.pathmap import mapped_path

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ArrayRef", "open_as"]

MODES = ("r", "c", "r+")

# What is hashed at once, of a view whose bytes are apart in the file.
PIECE_NBYTES = 4 << 20

# Units that file systems keep times in, in ns: some keep none finer than a second.
TIME_UNITS = (1, 100, 1000, 1_000_000, 1_000_000_000)


@dataclass(frozen=True, slots=True, repr=False)
class ArrayRef:
    """Where an array's bytes are: a file, a place in it, and how to look at it.

    What ``a.ref`` gives, for any view of an array on a file. It holds no bytes and no open file, takes some hundred
    bytes to send, and opens as the same view of the same file, in this process, in another one, or on another machine
    that has the file too. It can be a key of a dict.

    Attributes
    ----------
    path : str
        Absolute path of the file.
    offset : int
        Where in the file item ``[0, ..., 0]`` begins, in bytes.
    dtype : numpy.dtype
    shape, strides : tuple of int
        As the array has them; strides in bytes, negative ones and 0 among them.
    mode : {'r', 'r+', 'c'}
        What `open` takes by default; an array of mode ``'w+'`` has a reference of mode ``'r+'``.
    size, mtime_ns : int
        The stamp: bytes of the file and when it was last changed, when the reference was made.
    inode : int
        The file's number in its file system.
    host : str
        Name of the machine on which it was made.
    max_rss : int or None
        As the array had it; it is set again where the reference is opened.
    backend : {'auto', 'read'}
        As the array had it.
    digest : str or None
        ``"<algorithm>:<hexadecimal>"`` of the view's bytes in C order, if `with_digest` was asked for it.

    See Also
    --------
    memmap.ref, references, map_paths

    Notes
    -----
    Cost: making one asks for the file's size and time, some microseconds; opening one costs what opening an array does.

    Platforms: any file system. A time is compared as finely as the host's file system keeps it; one that is mapped by
    a program that writes through the map, on a tmpfs, keeps its old time. A digest tells for certain.

    Threads: safe.

    Examples
    --------
    >>> import os, pickle, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> np.save("x.npy", np.arange(12).reshape(3, 4))
    >>> a = nf.open("x.npy")
    >>> ref = a[::-1, 1].ref
    >>> len(pickle.dumps(ref)) < 1000
    True
    >>> pickle.loads(pickle.dumps(ref)).open()
    memmap([9, 5, 1])
    """

    path: str
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    mode: str
    size: int
    mtime_ns: int
    inode: int = 0
    host: str = ""
    max_rss: int | None = None
    backend: str = "auto"
    digest: str | None = field(default=None)

    @classmethod
    def of(cls, array: memmap[Any, Any]) -> ArrayRef:
        """The reference to an array; what ``array.ref`` gives.

        LayoutError for an array that no file has as it is.
        """
        mapping = array._mmap  # noqa: SLF001  # what an array knows of its file
        if mapping is None or mapping.filename is None:
            raise _refused("the array has no file with a name", "Send the array itself, by value, or save it first.")
        mapping.check()
        low, high = _extent(array.shape, array.strides, array.itemsize)
        at = array.__array_interface__["data"][0] - mapping.address if array.size else 0
        if mapping.in_block:
            raise _refused("an atomic block is open", "Leave the block first.")
        if mapping.mode == "c" and mapping.changed_nbytes(at + low, high - low):
            raise _refused("mode 'c' has changed it in memory alone", "Save it with ndfile.save, and send that.")
        path = str(mapping.filename)
        status = _status(path)
        if status is None or (status.st_dev, status.st_ino) != mapping.identity:
            raise _refused("its file has lost its name, or another file has taken it", "Save it with ndfile.save.")
        return cls(
            path,
            mapping.offset + at,
            array.dtype,
            array.shape,
            array.strides,
            _mode_of(array),
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
            socket.gethostname(),
            mapping.max_rss,
            "read" if mapping.backend == "read" else "auto",
        )

    def open(self, mode: str | None = None) -> memmap[Any, Any]:
        """Map the same view of the same file.

        Parameters
        ----------
        mode : {'r', 'r+', 'c'}, optional
            By default the reference's own.

        Returns
        -------
        memmap
            A view: it cannot grow.

        Raises
        ------
        StaleFileError
            The file is not as it was: another size, time or digest, or another file of that name. Of a reference of
            mode 'r+' size and time may change, for writing does that; but the bytes must be there. An OSError.
        FileNotFoundError
            There is no such file on this host; the message names both.
        LayoutError
            Another mode, or a reference that no array could have. A ValueError.
        OSError
            The file cannot be opened, or is no regular file.
        """
        mode = self.mode if mode is None else mode
        start, nbytes, low = self._region()
        file = self._opened(mode)
        try:
            path, mapping = file.path, file.map_inside(start, nbytes, 0)
        finally:
            file.abandon()
        if self.backend != "auto":
            mapping.backend = self.backend
        if self.max_rss is not None and mode != "c":
            mapping.set_max_rss(self.max_rss)
        whole: memmap[Any, Any] = memmap._from_mapping(mapping, np.dtype(np.uint8), (nbytes,), "C", 0)  # noqa: SLF001  # as array_over
        view = np.ndarray.__new__(memmap, self.shape, self.dtype, whole, -low, self.strides)
        if self.digest is not None and _digest(view, self.digest.partition(":")[0]) != self.digest:
            raise StaleFileError(path, self.host, f"its bytes have the digest {self.digest}", "they have another one")
        return view

    def _opened(self, mode: str) -> File:
        """The open file, compared with what it was. Who calls abandons it."""
        if mode not in MODES:
            raise LayoutError(f"mode must be one of {list(MODES)}, not {mode!r}", "Pass one of them.")
        start, nbytes, _ = self._region()
        path = mapped_path(self.path)
        try:
            file = File(path, mode)
        except FileNotFoundError as error:
            raise self._missing(path) from error
        try:
            self._check(os.fstat(file.fd), path, start + nbytes)
        except BaseException:
            file.abandon()
            raise
        return file

    def _check_unchanged(self, fd: int | None = None) -> None:
        """Raise `StaleFileError` unless the file, or the one that is open as `fd`, is as it was."""
        path = mapped_path(self.path)
        start, nbytes, _ = self._region()
        self._check(os.stat(path) if fd is None else os.fstat(fd), path, start + nbytes)

    def with_digest(self, algorithm: str | None = None) -> ArrayRef:
        """The same reference with a digest of the bytes, which `open` then compares.

        Parameters
        ----------
        algorithm : str, optional
            ``'xxh3'``, ``'blake3'`` or a name of `hashlib`; by default the fastest that is installed.

        Returns
        -------
        ArrayRef

        Notes
        -----
        Cost: all bytes of the view are read, here and each time it is opened.
        """
        name = algorithm_of(algorithm).name
        return replace(self, digest=_digest(self.open("r"), name))

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def __repr__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.mtime_ns / 1e9))
        return (
            f"<ArrayRef {self.path}: {self.dtype} {self.shape} from byte {self.offset}, mode {self.mode!r}, of {when}>"
        )

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What dask makes a name of: the same for the same view of the same file, in every process."""
        stamp = (self.size, self.mtime_ns, self.inode, self.digest)
        return ("ndfile", self.path, self.offset, repr(self.dtype), self.shape, self.strides, stamp)

    def _region(self) -> tuple[int, int, int]:
        """Where the view's bytes begin in the file, how many there are, and that beginning less `offset`.

        The reference may come from anywhere: all of it is looked at before the file is.
        """
        numbers = (self.offset, *self.shape, *self.strides)
        is_whole = all(type(number) is int for number in numbers) and isinstance(self.dtype, np.dtype)
        if not is_whole or len(self.shape) != len(self.strides) or len(self.shape) > MOST_DIMENSIONS:
            raise self._impossible("its numbers are no offset, shape and strides")
        if self.dtype.hasobject or not self.dtype.itemsize or min(self.shape, default=0) < 0:
            raise self._impossible("no file could hold it")
        low, high = _extent(self.shape, self.strides, self.dtype.itemsize)
        if self.offset + low < 0 or self.offset + high > LIMIT:
            raise self._impossible(f"its bytes are from {self.offset + low} to {self.offset + high}")
        return self.offset + low, high - low, low

    def _impossible(self, why: str) -> LayoutError:
        return LayoutError(f"open {self.path!r}: this reference is none of an array: {why}", "Send the array again.")

    def _missing(self, path: str) -> FileNotFoundError:
        here = socket.gethostname()
        text = (
            f"There is no such file on {here!r}. It was sent from {self.host!r}, where it is {self.path!r}. "
            "Mount it here, and tell with ndfile.map_paths where"
        )
        return FileNotFoundError(errno.ENOENT, text, path)

    def _check(self, found: os.stat_result, path: str, end: int) -> None:
        """Raise `StaleFileError` unless an open file is the one that was meant, as it was."""
        is_here = self.host == socket.gethostname()
        if is_here and self.inode and found.st_ino != self.inode:
            raise self._stale(path, found, "another file has taken its name")
        if self.mode == "r+":
            if found.st_size < end:
                raise self._stale(path, found, f"the array needs its first {end}")
        elif found.st_size != self.size or not self._is_of(found.st_mtime_ns, is_here):
            raise self._stale(path, found, "it was changed")
        elif found.st_size < end:
            raise self._impossible(f"its bytes end at {end}, the file at {found.st_size}")

    def _is_of(self, mtime_ns: int, is_here: bool) -> bool:
        return mtime_ns == self.mtime_ns if is_here else _same_time(mtime_ns, self.mtime_ns)

    def _stale(self, path: str, found: os.stat_result, why: str) -> StaleFileError:
        return StaleFileError(path, self.host, _in_words(self.size, self.mtime_ns), f"{_found_in_words(found)}: {why}")


def open_as(ref: ArrayRef, cls: type[memmap[Any, Any]]) -> memmap[Any, Any]:
    """Open a reference as an array of a subclass: what pickles that hold references call."""
    opened: memmap[Any, Any] = ref.open().view(cls)
    return opened


def _refused(problem: str, advice: str) -> LayoutError:
    return LayoutError(f"ref: {problem}", advice)


def _mode_of(array: memmap[Any, Any]) -> str:
    """The mode that gives the same array; what cannot be written through is only read."""
    if array.mode == "c":
        return "c"
    return "r+" if array.mode != "r" and array.flags.writeable else "r"


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _extent(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """The first byte and the one past the last, counted from the item at [0, ..., 0]; nothing for no items."""
    if 0 in shape:
        return 0, 0
    ways = [stride * (length - 1) for length, stride in zip(shape, strides, strict=True)]
    return sum(way for way in ways if way < 0), sum(way for way in ways if way > 0) + itemsize


def _same_time(one_ns: int, other_ns: int) -> bool:
    """Tell whether two times are the same, as finely as the coarser of two file systems keeps them."""
    return any(one_ns // unit == other_ns // unit for unit in TIME_UNITS if one_ns % unit == 0 or other_ns % unit == 0)


def _in_words(size: int, mtime_ns: int) -> str:
    seconds, rest = divmod(mtime_ns, 1_000_000_000)
    return f"{size} bytes of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest:09}"


def _found_in_words(found: os.stat_result) -> str:
    return _in_words(found.st_size, found.st_mtime_ns)


def _digest(view: memmap[Any, Any], name: str) -> str:
    hasher = algorithm_of(name).make()
    for piece in _pieces(view):
        hasher.update(np.ascontiguousarray(piece).view(np.uint8).data if piece.ndim else piece.tobytes())
    view.check()  # the guard answers lost pages with zeros
    return f"{name}:{hasher.hexdigest()}"


def _pieces(view: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """The view in pieces, in C order."""
    axis = next((axis for axis, length in enumerate(view.shape) if length > 1), None)
    if axis is None or view.nbytes <= PIECE_NBYTES:
        if view.size:
            yield view
        return
    half = view.shape[axis] // 2
    before = (slice(None),) * axis
    yield from _pieces(view[(*before, slice(half))])
    yield from _pieces(view[(*before, slice(half, None))])
