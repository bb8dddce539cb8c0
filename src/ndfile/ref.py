"""ArrayRef: where an array's bytes are, small enough to be sent."""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.array import memmap
from ndfile.errors import FaultError, LayoutError, StaleFileError
from ndfile.files.file import File
from ndfile.integrity.hashing import algorithm_of
from ndfile.layout import LIMIT, MOST_DIMENSIONS
from ndfile.pathmap import mapped_path

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ArrayRef", "open_as", "this_host"]

MODES = ("r", "c", "r+")

# What is hashed at once, of a view whose bytes are apart in the file.
PIECE_NBYTES = 4 << 20

# Units that file systems keep times in, in ns: the coarsest is FAT's.
TIME_UNITS = (1, 100, 1000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)

# Names of files that other processes know by other names, or not at all.
OWN_NAMES = ("/proc/", "/dev/fd/")


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
    shape : tuple of int
    strides : tuple of int
        In bytes; negative ones and 0 among them.
    mode : {'r', 'r+', 'c'}
        What `open` takes by default. An array of mode ``'w+'`` has a reference of mode ``'r+'``, and a read-only view
        one of mode ``'r'``.
    size : int
        Bytes of the file when the reference was made; with `mtime_ns` and `inode` its stamp.
    mtime_ns : int
        When the file was last changed.
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
    digest: str | None = None

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
        path = str(mapping.filename)
        if at + high > len(mapping):
            raise FaultError("refer to", path, mapping.offset + len(mapping), "shrunk")
        if mapping.in_block:
            raise _refused("an atomic block is open", "Leave the block first.")
        if mapping.mode == "c" and mapping.changed_nbytes(at + low, high - low):
            raise _refused("mode 'c' has changed it in memory alone", "Save it with ndfile.save, and send that.")
        status = _status(path)
        if status is None or (status.st_dev, status.st_ino) != mapping.identity or path.startswith(OWN_NAMES):
            raise _refused("its file has lost its name, or another file has taken it", "Save it with ndfile.save.")
        if not stat.S_ISREG(status.st_mode):
            raise _refused("it is on a block device", "Send the device's path, and open it there.")
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
            this_host(),
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
        file = self._opened(mode, start + nbytes)
        try:
            path, mapping = file.path, file.map_inside(start, nbytes, 0)
        finally:
            file.abandon()
        if mode != "c" and self.backend != "auto":  # pages of mode 'c' are no longer the file's
            mapping.backend = self.backend
        if mode != "c" and self.max_rss is not None:
            mapping.set_max_rss(self.max_rss)
        whole: memmap[Any, Any] = memmap._from_mapping(mapping, np.dtype(np.uint8), (nbytes,), "C", 0)  # noqa: SLF001  # as array_over
        view = np.ndarray.__new__(memmap, self.shape, self.dtype, whole, -low, self.strides)
        if self.digest is not None and _digest(view, self.digest.partition(":")[0]) != self.digest:
            raise StaleFileError(path, self.host, f"bytes of the digest {self.digest}", "bytes of another one")
        return view

    def _opened(self, mode: str, end: int) -> File:
        """The open file, compared with what it was, bytes up to `end` of which are wanted. Who calls abandons it."""
        if not _is_one_of(mode, MODES):
            raise LayoutError(f"mode must be one of {list(MODES)}, not {mode!r}", "Pass one of them.")
        path = mapped_path(self.path)
        try:
            file = File(path, mode)
        except FileNotFoundError as error:
            raise self._missing(path) from error
        try:
            self._check(os.fstat(file.fd), path, end)
        except BaseException:
            file.abandon()
            raise
        return file

    def _check_unchanged(self, fd: int | None = None) -> None:
        """Raise `StaleFileError` unless the file, or the one that is open as `fd`, is as it was."""
        path = mapped_path(self.path)
        self._check(os.stat(path) if fd is None else os.fstat(fd), path, self._end())

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
        return math.prod(self.shape) * self.dtype.itemsize

    def __reduce__(self) -> tuple[Any, ...]:
        # A fourth of the time, and two thirds of the bytes, of what dataclasses with slots do by themselves.
        return ArrayRef, tuple(getattr(self, name) for name in self.__slots__)

    def __repr__(self) -> str:
        return f"<ArrayRef {self.path!r}: {self.dtype} {self.shape} from byte {self.offset}, mode {self.mode!r}>"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What dask makes a name of: the same for the same view of the same file, in every process."""
        stamp = (self.size, self.mtime_ns, self.inode, self.digest)
        return ("ndfile", self.path, self.offset, repr(self.dtype), self.shape, self.strides, stamp)

    def _region(self) -> tuple[int, int, int]:
        """Where the view's bytes begin in the file, how many there are, and that beginning less `offset`.

        The reference may come from anywhere: all of it is looked at before the file is.
        """
        wrong = next((name for name, is_right in self._checked_fields() if not is_right), None)
        if wrong is not None:
            raise self._impossible(f"its {wrong} is {_shortened(getattr(self, wrong))}")
        low, high = _extent(self.shape, self.strides, self.dtype.itemsize)
        if self.offset + low < 0 or self.offset + high > LIMIT:
            raise self._impossible(f"its bytes are from {self.offset + low} to {self.offset + high}")
        return self.offset + low, high - low, low

    def _end(self) -> int:
        """The byte of the file at which the view's bytes end."""
        start, nbytes, _ = self._region()
        return start + nbytes

    def _checked_fields(self) -> Iterator[tuple[str, bool]]:
        """The fields by name, and whether an array could have them, those before being right."""
        yield "path", _is_path(self.path)
        yield "offset", _is_whole(self.offset, 0, LIMIT)
        yield "dtype", _is_dtype(self.dtype)
        yield "shape", type(self.shape) is tuple and len(self.shape) <= MOST_DIMENSIONS
        yield "shape", all(_is_whole(length, 0, LIMIT) for length in self.shape)
        yield "shape", math.prod(length for length in self.shape if length) * self.dtype.itemsize <= LIMIT
        yield "strides", type(self.strides) is tuple and len(self.strides) == len(self.shape)
        yield "strides", all(_is_whole(stride, -LIMIT, LIMIT) for stride in self.strides)
        yield "mode", _is_one_of(self.mode, MODES)
        yield "size", _is_whole(self.size, 0, LIMIT)
        yield "mtime_ns", _is_whole(self.mtime_ns, -LIMIT, LIMIT)
        yield "inode", _is_whole(self.inode, 0, 2 * LIMIT + 1)
        yield "host", type(self.host) is str
        yield "max_rss", self.max_rss is None or _is_whole(self.max_rss, 1, LIMIT)
        yield "backend", _is_one_of(self.backend, ("auto", "read"))
        yield "digest", self.digest is None or type(self.digest) is str

    def _impossible(self, why: str) -> LayoutError:
        problem = f"open {_shortened(self.path)}: this reference is of no array: {why}"
        return LayoutError(problem, "Send the array again.")

    def _missing(self, path: str) -> FileNotFoundError:
        text = (
            f"There is no such file on {this_host()!r}. It was sent from {self.host!r}, where it is "
            f"{self.path!r}. Mount it here, and tell with ndfile.map_paths where"
        )
        return FileNotFoundError(errno.ENOENT, text, path)

    def _check(self, found: os.stat_result, path: str, end: int) -> None:
        """Raise `StaleFileError` unless an open file is the one that was meant, as it was."""
        # What another host has, or has mounted elsewhere, has its own numbers and its own clock.
        is_here = self.host == this_host() and path == self.path
        if is_here and self.inode not in (0, found.st_ino):
            raise self._stale(path, found, "another file has taken its name")
        if self.mode == "r+":
            if found.st_size < end:
                raise self._stale(path, found, f"the array needs its first {end}")
            return
        units = TIME_UNITS[:1] if is_here else TIME_UNITS
        if found.st_size != self.size or not _is_same_time(found.st_mtime_ns, self.mtime_ns, units):
            raise self._stale(path, found, "it was changed")
        if found.st_size < end:
            raise self._impossible(f"its bytes end at {end}, the file at {found.st_size}")

    def _stale(self, path: str, found: os.stat_result, why: str) -> StaleFileError:
        then, now = _in_words(self.size, self.mtime_ns), _in_words(found.st_size, found.st_mtime_ns)
        return StaleFileError(path, self.host, then, f"{now}: {why}")


def open_as(ref: ArrayRef, cls: type[memmap[Any, Any]]) -> memmap[Any, Any]:
    """Open a reference as an array of a subclass: what pickles that hold references call."""
    opened = ref.open()
    return opened if cls is memmap else opened.view(cls)


def this_host() -> str:
    """The name of this machine, as references have it."""
    return os.uname().nodename


def _refused(problem: str, advice: str) -> LayoutError:
    return LayoutError(f"ref: {problem}", advice)


def _mode_of(array: memmap[Any, Any]) -> str:
    """The mode that gives the same array; what cannot be written through is only read."""
    if not array.flags.writeable:
        return "r"
    return "c" if array.mode == "c" else "r+"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 99 else f"{text[:95]}..."


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_one_of(value: object, words: tuple[str, ...]) -> bool:
    return type(value) is str and value in words


def _is_dtype(value: object) -> bool:
    return isinstance(value, np.dtype) and value.subdtype is None and not value.hasobject and value.itemsize > 0


def _is_path(value: object) -> bool:
    try:
        return type(value) is str and value.startswith("/") and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


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


def _is_same_time(one_ns: int, other_ns: int, units: tuple[int, ...]) -> bool:
    """Tell whether two times are the same, where one of the file systems may keep it in one of these units."""
    return any(one_ns // unit == other_ns // unit for unit in units if one_ns % unit == 0 or other_ns % unit == 0)


def _in_words(size: int, mtime_ns: int) -> str:
    seconds, rest = divmod(mtime_ns, 1_000_000_000)
    return f"{size} bytes of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest:09}"


def _digest(view: memmap[Any, Any], name: str) -> str:
    hasher = algorithm_of(name).make()
    # As items without fields: a copy of others leaves out what is between the fields.
    for piece in _pieces(view.view(np.ndarray).view(f"V{view.itemsize}")):
        hasher.update(np.ascontiguousarray(piece).view(np.uint8).reshape(-1).data)
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
