"""The blocks behind a file's bytes, reserved before anything is stored: a full disk is then an error, not a fault."""

from __future__ import annotations

import contextlib
import errno
import os

from ndfile._core import allocate

__all__ = ["reserve", "reserve_behind", "restore"]

_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


def reserve(
    fd: int,
    before: os.stat_result,
    end: int,
    path: str,
    *,
    sparse: bool | None,
    left: str = "The file was left as it was",
) -> None:
    """Let a file grow to `end` bytes, with blocks behind the new ones unless it is to be `sparse`; None: it cannot be.

    An OSError leaves the file as it was `before`; `left` says in what state that is.
    """
    if end <= before.st_size:
        return
    try:
        if sparse:
            os.ftruncate(fd, end)
        else:
            _allocate(fd, before.st_size, end)
    except BaseException as error:
        # ext4 keeps what it found before the disk was full, and the size that goes with it.
        restore(fd, before)
        if isinstance(error, OSError):
            raise _refusal(error, fd, end - before.st_size, end, path, left, can_be_sparse=sparse is not None) from None
        raise


def reserve_behind(fd: int, before: os.stat_result, end: int, path: str) -> None:
    """Put blocks behind a file's last byte, up to byte `end`, where the file system can. The file keeps its size."""
    try:
        allocate(fd, before.st_size, end - before.st_size, True)
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return
        os.ftruncate(fd, before.st_size)
        left = "The file was left as it was"
        raise _refusal(error, fd, end - before.st_size, end, path, left, can_be_sparse=False) from None


def restore(fd: int, before: os.stat_result) -> None:
    """Give a file that has grown the size, the blocks and the times that it had."""
    now = os.fstat(fd)
    if (now.st_size, now.st_blocks) != (before.st_size, before.st_blocks):
        os.ftruncate(fd, before.st_size)
    with contextlib.suppress(PermissionError):  # the times are the owner's to set
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))  # an fallocate() that fails changes them too


def _allocate(fd: int, size: int, end: int) -> None:
    try:
        allocate(fd, size, end - size)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        os.ftruncate(fd, end)


def _refusal(error: OSError, fd: int, wanted: int, end: int, path: str, left: str, can_be_sparse: bool) -> OSError:
    room = os.fstatvfs(fd)
    if error.errno == errno.EFBIG:
        advice = "Pass a smaller shape"
    elif can_be_sparse:
        advice = "Free some space, or pass sparse=True to reserve none"
    else:
        advice = "Free some space"
    text = (
        f"{error.strerror}: {wanted} bytes are wanted for a file of {end}, {room.f_bavail * room.f_frsize} are free. "
        f"{left}. {advice}"
    )
    return OSError(error.errno, text, path)
