"""Opening files and giving them their size. Knows bytes, not dtypes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ndfile._core import Mapping, open_file, regular_size
from ndfile.errors import LayoutError
from ndfile.files import locks
from ndfile.files.durable import leads_to
from ndfile.files.journal import settle
from ndfile.files.space import reserve, restore

if TYPE_CHECKING:
    import pathlib

__all__ = [
    "LARGE_ROOM_NBYTES",
    "MODES",
    "PLAIN",
    "ROOM_NBYTES",
    "TRIES",
    "File",
    "Options",
    "absolute_name",
    "end_of",
    "map_beside",
    "names_a_path",
    "refused_mode",
]

# NumPy's long names stand for the same modes.
MODES = {
    "r": "r",
    "c": "c",
    "r+": "r+",
    "w+": "w+",
    "readonly": "r",
    "copyonwrite": "c",
    "readwrite": "r+",
    "write": "w+",
}

# A FIFO opened without O_NONBLOCK waits for its other end, and a terminal without O_NOCTTY may become ours; regular
# files do not care.
_COMMON = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
FLAGS = {
    "r": os.O_RDONLY | _COMMON,
    "c": os.O_RDONLY | _COMMON,
    "r+": os.O_RDWR | _COMMON,
    "w+": os.O_RDWR | _COMMON,
}

# Address space for a mapping to grow into. It costs no memory, but some of the time that opening takes; what is opened
# as an array of a format that grows gets more.
ROOM_NBYTES = {"r": 1 << 30, "c": 0, "r+": 16 << 30, "w+": 16 << 30}
LARGE_ROOM_NBYTES = 128 << 30

# How often a path may come to name another file between two looks at it. Somebody else's replacement costs one of them.
TRIES = 1000


class Options(NamedTuple):
    """What can be asked of a file beyond NumPy's parameters; see `ndfile.memmap`."""

    sparse: bool = False
    lock: str | None = None
    lock_timeout_s: float = 0.0
    follow_symlinks: bool = True
    block_device: bool = False

    def check(self, mode: str) -> None:
        """Raise `LayoutError` for what cannot be had in a mode."""
        if self.lock is not None:
            locks.check(self.lock, self.lock_timeout_s, mode)
        if self.block_device and mode == "w+":
            raise LayoutError("mode 'w+' makes a new file, which a block device is not", "Pass mode='r+'.")


PLAIN = Options()


def refused_mode(mode: object) -> NoReturn:
    """Raise `LayoutError` for a mode that is not in `MODES`."""
    raise LayoutError(f"mode must be one of {list(MODES)}, not {mode!r}", "Pass one of them.")


def names_a_path(source: Any) -> bool:
    """Tell a path from a file object."""
    return isinstance(source, (str, bytes)) or not hasattr(source, "read")


class File:
    """A regular file opened to be mapped: a path, or a file object, which is left as it was.

    Attributes
    ----------
    fd : int
        Owned here, and by the mapping after `map`; -1 then.
    mode : {'r', 'c', 'r+', 'w+'}
        ``w+`` is for file objects and `NewFile` only.
    name : str, pathlib.Path or None
        Absolute; a Path where one was given, None for a file object without a name.
    options : Options
    size : int
        Bytes, when it was opened.
    """

    __slots__ = ("_is_path", "_source", "fd", "mode", "name", "options", "size")

    def __init__(self, source: Any, mode: str, options: Options = PLAIN, *, settles: bool = True) -> None:
        self.mode = mode
        self.options = options
        self._is_path = is_path = names_a_path(source)
        self.fd = -1
        try:
            self.name = absolute_name(source)
            if is_path and options is PLAIN and mode != "w+":
                self.fd, self.size, has_journal = open_file(source, FLAGS[mode])
                if has_journal and settles:
                    self._settle()
                if self.size < 0:
                    raise _irregular(os.fstat(self.fd).st_mode, self.name)
            else:
                self._source = source
                self._find()
        except OSError as error:
            self.abandon()
            raise _explained(error, source, options) from None

    @property
    def path(self) -> str:
        """The name, for messages."""
        return "<file object>" if self.name is None else str(self.name)

    def map(self, offset: int, nbytes: int) -> Mapping:
        """Map bytes of the file; let it grow to hold them in the modes that write."""
        mode = self.mode
        if (mode == "r+" or mode == "w+") and (offset + nbytes > self.size or self.size == 0):
            return self._grow(offset, nbytes)
        if self.options is not PLAIN:
            return self.map_inside(offset, nbytes)
        mapping = Mapping(self.fd, offset, nbytes, mode, self.name, False, ROOM_NBYTES[mode])  # as map_inside does
        self.fd = -1
        return mapping

    def map_inside(self, offset: int, nbytes: int, room: int | None = None) -> Mapping:
        """Map bytes that the file has; it never grows by that, nor is it replaced.

        `room`: bytes that the mapping can grow by, if not the usual number.
        """
        # A lock lives as long as the descriptor, which modes that only read would close.
        keeps = self.options.lock is not None
        room = ROOM_NBYTES[self.mode] if room is None else room
        mapping = Mapping(self.fd, offset, nbytes, self.mode, self.name, keeps, room)
        self.fd = -1
        return mapping

    def abandon(self) -> None:
        """Give back what is open."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _find(self) -> None:
        """Open the file and take the lock, and see that the path is still the file's name then."""
        wait_until_s = time.monotonic() + self.options.lock_timeout_s
        for _ in range(TRIES):
            self._open()
            if self.fd < 0:
                self.size = 0
                return
            if self.mode != "w+":
                self._settle()
            self.size = self._measure()
            if self.options.lock is not None:
                locks.take(self.fd, self.options.lock, wait_until_s, self.path)
                self.size = self._measure()
            if self._is_settled():
                return
            self.abandon()
        raise self._unsettled()

    def _settle(self) -> None:
        """Look after a commit that was interrupted."""
        if self.name is None or not leads_to(self.name, self.fd):
            return
        if settle(self.fd, self.name, may_write=self.mode in ("r+", "w+")):
            self.size = regular_size(self.fd)

    def _open(self) -> None:
        if not self._is_path:
            self.fd = _duplicate(self._source, self.mode)
            if self.options.lock is not None:
                self._reopen()
            return
        self.fd = os.open(self._source, FLAGS[self.mode] | (0 if self.options.follow_symlinks else os.O_NOFOLLOW))

    def _reopen(self) -> None:
        """Get an opening of our own: a lock lives as long as the opening, and a file object's may live longer."""
        shared, self.fd = self.fd, -1
        try:
            self.fd = os.open(f"/proc/self/fd/{shared}", FLAGS[self.mode])
        except FileNotFoundError:
            raise OSError(errno.ENOLCK, "A lock through a file object needs /proc, which is not there") from None
        finally:
            os.close(shared)

    def _measure(self) -> int:
        size = regular_size(self.fd)
        if size >= 0:
            return size
        st_mode = os.fstat(self.fd).st_mode
        if self.options.block_device and stat.S_ISBLK(st_mode):
            return os.lseek(self.fd, 0, os.SEEK_END)
        raise _irregular(st_mode, self.name)

    def _is_settled(self) -> bool:
        """Tell whether the path names the open file, as far as that matters."""
        return not self._is_path or self.options.lock is None or self._is_named()

    def _is_named(self) -> bool:
        return leads_to(self._source, self.fd, follow_symlinks=self.options.follow_symlinks)

    def _unsettled(self) -> OSError:
        return OSError(errno.EBUSY, f"The path came to name another file {TRIES} times while it was opened", self.name)

    def _grow(self, offset: int, nbytes: int) -> Mapping:
        """Map bytes of the open file, which grows to hold them."""
        end = end_of(offset, nbytes)
        self._refuse_device(end)
        before = os.fstat(self.fd)
        reserve(self.fd, before, end, self.path, sparse=self.options.sparse)
        try:
            return self.map_inside(offset, nbytes)
        except BaseException:
            restore(self.fd, before)
            raise

    def _refuse_device(self, end: int) -> None:
        if self.options.block_device and stat.S_ISBLK(os.fstat(self.fd).st_mode):
            text = f"A block device of {self.size} bytes cannot be extended to {end}. Nothing was changed"
            raise OSError(errno.ENOSPC, text, self.name)


def map_beside(fd: int, offset: int, nbytes: int, mode: str, name: Any, room: int = 0) -> Mapping:
    """Map bytes of an open file whose descriptor stays the caller's."""
    own = os.dup(fd)
    try:
        return Mapping(own, offset, nbytes, mode, name, False, room)
    except BaseException:
        os.close(own)
        raise


def end_of(offset: int, nbytes: int) -> int:
    """The size that a file is to have for these bytes."""
    # NumPy leaves a byte in a file that would stay empty, because an empty file cannot be mapped.
    return max(offset + nbytes, 1)


def _duplicate(fileobject: Any, mode: str) -> int:
    fd: int = fileobject.fileno()
    # What was written through the object so far is part of the file whose size is asked next.
    fileobject.flush()
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    writes = mode in ("r+", "w+")
    if access == os.O_WRONLY or (writes and access == os.O_RDONLY):
        text = f"mode {mode!r} takes a file object that is open for reading{' and writing' if writes else ''}"
        raise PermissionError(errno.EACCES, text, absolute_name(fileobject))
    return os.dup(fd)


def absolute_name(source: Any) -> str | pathlib.Path | None:
    """The absolute path of what is to be opened: a Path where one was given, None for a file object without a name."""
    if isinstance(source, str):
        return os.path.normpath(source) if source.startswith("/") else os.path.abspath(source)
    if isinstance(source, os.PathLike):
        import pathlib  # not needed where paths are strings

        return pathlib.Path(os.fsdecode(source)).resolve()
    name = source if isinstance(source, bytes) else getattr(source, "name", None)
    return os.path.abspath(os.fsdecode(name)) if isinstance(name, (str, bytes)) else None


def _irregular(st_mode: int, name: object) -> OSError:
    if stat.S_ISDIR(st_mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if stat.S_ISBLK(st_mode):
        text = "This is a block device, only regular files can be mapped unless block_device=True is passed"
        return OSError(errno.EINVAL, text, name)
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a character device"}
    kind = kinds.get(stat.S_IFMT(st_mode), "a device")
    return OSError(errno.EINVAL, f"This is {kind}, only regular files can be mapped", name)


def _explained(error: OSError, source: Any, options: Options) -> OSError:
    """Say what the system's number alone does not."""
    if isinstance(error, FileNotFoundError):
        folder = os.fsdecode(os.path.dirname(os.path.abspath(source)))
        if not os.path.isdir(folder):
            return FileNotFoundError(error.errno, f"{error.strerror}, for there is no folder {folder!r}", source)
    elif error.errno == errno.ENXIO:
        return _irregular(os.stat(source).st_mode, source)
    elif error.errno == errno.ELOOP and not options.follow_symlinks:
        return OSError(errno.ELOOP, "This is a symbolic link, and follow_symlinks=False", source)
    return error
