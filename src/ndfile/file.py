"""Opening files and giving them their size. Knows bytes, not dtypes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any, NoReturn

from ndfile._core import Mapping, regular_size
from ndfile.errors import LayoutError

if TYPE_CHECKING:
    import pathlib

__all__ = ["MODES", "File", "refused_mode"]

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

# A FIFO opened without O_NONBLOCK waits for its other end; regular files do not care.
_COMMON = os.O_CLOEXEC | os.O_NONBLOCK
FLAGS = {
    "r": os.O_RDONLY | _COMMON,
    "c": os.O_RDONLY | _COMMON,
    "r+": os.O_RDWR | _COMMON,
    "w+": os.O_RDWR | os.O_CREAT | _COMMON,
}


def refused_mode(mode: object) -> NoReturn:
    """Raise `LayoutError` for a mode that is not in `MODES`."""
    raise LayoutError(f"mode must be one of {list(MODES)}, not {mode!r}", "Pass one of them.")


class File:
    """A regular file opened to be mapped: a path, or a file object, which is left as it was.

    Attributes
    ----------
    fd : int
        Owned here, and by the mapping after `map`; -1 then.
    mode : {'r', 'c', 'r+', 'w+'}
    name : str, pathlib.Path or None
        Absolute; a Path where one was given, None for a file object without a name.
    size : int
        Bytes, when it was opened.
    """

    __slots__ = ("_is_new", "_is_path", "fd", "mode", "name", "size")

    def __init__(self, source: Any, mode: str) -> None:
        self.mode = mode
        self._is_path = isinstance(source, (str, bytes)) or not hasattr(source, "read")
        self._is_new = False
        self.fd = -1
        try:
            if not self._is_path:
                self.fd = _duplicate(source, mode)
            elif mode == "w+":
                self.fd, self._is_new = _create(source)
            else:
                self.fd = os.open(source, FLAGS[mode])
            self.name = _absolute_name(source)
            self.size = regular_size(self.fd)
        except OSError as error:
            self.abandon()
            raise _explained(error, source) from None
        if self.size < 0:
            refusal = _irregular(os.fstat(self.fd).st_mode, self.name)
            self.abandon()
            raise refusal

    @property
    def path(self) -> str:
        """The name, for messages."""
        return "<file object>" if self.name is None else str(self.name)

    def map(self, offset: int, nbytes: int) -> Mapping:
        """Map bytes of the file; let it grow to hold them in the modes that write, start afresh in ``w+``."""
        # mmap() may reach past the end, so whatever it refuses is known before the file changes.
        mapping = Mapping(self.fd, offset, nbytes, self.mode, self.name)
        self.fd = -1
        if self.mode == "r+" or self.mode == "w+":
            # NumPy leaves a byte in a file that would stay empty, because an empty file cannot be mapped.
            end = max(offset + nbytes, 1)
            if end > self.size:
                mapping.truncate(end)
            if self.mode == "w+" and self._is_path and self.size > 0:
                mapping.truncate(0)
                mapping.truncate(end)
        return mapping

    def abandon(self) -> None:
        """Undo the opening: give back the descriptor, and remove a file that was made for it."""
        if self._is_new:
            os.unlink(self.path)
        if self.fd >= 0:
            os.close(self.fd)


def _create(path: str | bytes | os.PathLike[Any]) -> tuple[int, bool]:
    """Open to write, and tell whether the file is new: who made a file may remove it, should anything fail."""
    try:
        return os.open(path, FLAGS["w+"] | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, FLAGS["w+"], 0o666), False


def _duplicate(fileobject: Any, mode: str) -> int:
    fd: int = fileobject.fileno()
    # What was written through the object so far is part of the file whose size is asked next.
    fileobject.flush()
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    writes = mode in ("r+", "w+")
    if access == os.O_WRONLY or (writes and access == os.O_RDONLY):
        text = f"mode {mode!r} takes a file object that is open for reading{' and writing' if writes else ''}"
        raise PermissionError(errno.EACCES, text, _absolute_name(fileobject))
    return os.dup(fd)


def _absolute_name(source: Any) -> str | pathlib.Path | None:
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
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a character device"}
    kind = kinds.get(stat.S_IFMT(st_mode), "a device")
    return OSError(errno.EINVAL, f"This is {kind}, only regular files can be mapped", name)


def _explained(error: OSError, source: Any) -> OSError:
    """Say what the system's number alone does not."""
    if isinstance(error, FileNotFoundError):
        folder = os.fsdecode(os.path.dirname(os.path.abspath(source)))
        if not os.path.isdir(folder):
            return FileNotFoundError(error.errno, f"{error.strerror}, for there is no folder {folder!r}", source)
    elif error.errno == errno.ENXIO:
        return _irregular(os.stat(source).st_mode, source)
    return error
