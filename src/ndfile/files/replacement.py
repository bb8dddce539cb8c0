"""A new file in the place of an old one: whole before it gets the name, so that the old file's readers keep theirs."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Any

__all__ = ["CANNOT_REPLACE", "Draft", "Place"]

# What the system says where a file may be written but its name not be given to another: the folder is not ours, the
# name is a mount point, the owner cannot be kept.
CANNOT_REPLACE = (errno.EXDEV, errno.EBUSY, errno.EPERM, errno.EACCES, errno.EROFS)

# File systems without hard links say one of these.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


_PREFIX = ".ndfile-"


class Place:
    """A name in a folder that is kept open, so that neither is swapped for another between two calls.

    Attributes
    ----------
    folder : int
        Descriptor, to be used as ``dir_fd``.
    name : str
        Of the file itself, not of a link to it, if links are followed.
    path : str
        For messages.
    """

    __slots__ = ("folder", "name", "path")

    def __init__(self, source: str | bytes | os.PathLike[Any], follow_symlinks: bool) -> None:
        self.path = path = os.fsdecode(source)
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        head, tail = os.path.split(os.path.realpath(path) if follow_symlinks else path)
        if path.endswith("/") or tail in ("", ".", ".."):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self.name = tail
        self.folder = os.open(head or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def holds(self, fd: int) -> bool:
        """Tell whether the name is that of the open file."""
        return self._is_name_of(fd, self.name)

    def finish(self, fd: int) -> None:
        """Take away what temporary name an open file has beside its own.

        Who makes a file gives it its name first and takes the temporary one away then; it may have been killed between,
        or be there just now.
        """
        with contextlib.suppress(OSError):
            for name in self._names():
                if name.startswith(_PREFIX) and self._is_name_of(fd, name):
                    os.unlink(name, dir_fd=self.folder)

    def clear(self, prefix: str) -> None:
        """Take away the temporary files whose names begin so."""
        for name in self._names():
            if name.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self.folder)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.folder)

    def _names(self) -> list[str]:
        # O_PATH is no opening to read by, which not every folder allows.
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            return os.listdir(readable)
        finally:
            os.close(readable)

    def _is_name_of(self, fd: int, name: str) -> bool:
        try:
            named = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(fd))


class Draft:
    """A file under a temporary name in the folder of its place.

    Of a `series` there is one at a time: who begins one takes those away that were given up, or are about to be.

    Attributes
    ----------
    fd : int
        Owned here until somebody sets it to -1.
    """

    __slots__ = ("_name", "_place", "_series", "fd")

    def __init__(self, place: Place, series: str = "") -> None:
        self._place = place
        self._series = series
        self._name = f"{_PREFIX}{series}{os.urandom(12).hex()}"
        self.fd = -1

    def open(self, permissions: int) -> None:
        """Make the file, empty; from here on it is there until `discard`, `add` or `replace`."""
        if self._series:
            self._place.clear(f"{_PREFIX}{self._series}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self.fd = os.open(self._name, flags, permissions, dir_fd=self._place.folder)
        except OSError as error:
            raise self._about_place(error) from None

    def resemble(self, old: int) -> None:
        """Take the owner, the extended attributes (access lists among them) and the permissions of an open file.

        PermissionError where one of them cannot be had.
        """
        status, mine = os.fstat(old), os.fstat(self.fd)
        try:
            if (status.st_uid, status.st_gid) != (mine.st_uid, mine.st_gid):
                os.fchown(self.fd, status.st_uid, status.st_gid)
            _copy_attributes(old, self.fd)
            os.fchmod(self.fd, stat.S_IMODE(status.st_mode))
        except OSError as error:
            text = f"its owner and permissions cannot be given to a new file ({error.strerror})"
            raise PermissionError(errno.EPERM, text, self._place.path) from None

    def replace(self) -> None:
        """Give the file its name, whatever had it."""
        try:
            os.rename(self._name, self._place.name, src_dir_fd=self._place.folder, dst_dir_fd=self._place.folder)
        except OSError as error:
            raise self._about_place(error) from None

    def add(self) -> None:
        """Give the file its name, or raise FileExistsError if there is one of that name."""
        folder = self._place.folder
        try:
            os.link(self._name, self._place.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise self._about_place(error) from None
            os.close(os.open(self._place.name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=folder))
            self.replace()
        else:
            self._remove()

    def discard(self) -> None:
        """Remove the file."""
        if self.fd >= 0:
            os.close(self.fd)
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._place.folder)

    def _about_place(self, error: OSError) -> OSError:
        # Nobody knows the temporary name.
        return OSError(error.errno, error.strerror, self._place.path)


def _copy_attributes(old: int, new: int) -> None:
    try:
        names = os.listxattr(old)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return
        raise
    there = os.listxattr(new)
    for name in set(there).difference(names):  # a folder can give its new files an access list
        os.removexattr(new, name)
    for name in names:
        value = os.getxattr(old, name)
        if name not in there or os.getxattr(new, name) != value:
            os.setxattr(new, name, value)
