"""What the file system knows of a file: blocks, holes, locks, and a journal beside it."""

from __future__ import annotations

import errno
import os
from typing import Any, NamedTuple

from ndfile.files import journal, locks

__all__ = ["OnDisk", "file_system", "look"]

# A file of more pieces is counted as far as that.
MOST_PIECES = 100_000


class OnDisk(NamedTuple):
    """What `look` has found.

    Attributes
    ----------
    nbytes : int
        Of the blocks that it has on the disk.
    holes : int or None
        Stretches without data, which read as zeros; None where the file system does not tell.
    hole_nbytes : int or None
    journal : {None, 'interrupted', 'being completed', 'of another file', 'unreadable'}
        The state of the commit that is pending.
    lock : {None, 'exclusive', 'shared'}
    holder : str or None
        Who has the lock, as far as the system tells.
    """

    nbytes: int
    holes: int | None
    hole_nbytes: int | None
    journal: str | None
    lock: str | None
    holder: str | None


def look(path: Any) -> OnDisk:
    """Look at a regular file, without reading it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        holes, hole_nbytes = _holes(fd, status.st_size)
        lock, holder = _lock(fd)
        return OnDisk(status.st_blocks * 512, holes, hole_nbytes, journal.state_of(fd, path), lock, holder)
    finally:
        os.close(fd)


def _holes(fd: int, size: int) -> tuple[int | None, int | None]:
    holes = nbytes = place = 0
    try:
        while place < size and holes < MOST_PIECES:
            start = os.lseek(fd, place, os.SEEK_HOLE)
            if start >= size:
                break
            place = _data_after(fd, start, size)
            holes, nbytes = holes + 1, nbytes + place - start
    except OSError:  # not every file system can tell
        return None, None
    return holes, nbytes


def _data_after(fd: int, place: int, size: int) -> int:
    try:
        return min(os.lseek(fd, place, os.SEEK_DATA), size)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size  # nothing but a hole to the end


def _lock(fd: int) -> tuple[str | None, str | None]:
    if locks.is_held(fd):
        return "exclusive", locks.holder(fd, "shared")
    try:
        is_free = not locks.is_held(fd, "exclusive")
    except OSError:
        return None, None
    return (None, None) if is_free else ("shared", locks.holder(fd, "exclusive"))


def file_system(path: Any) -> str:
    """The name of the file system's type, or nothing where the system does not tell."""
    real = os.path.realpath(path)
    found = ("", "")
    try:
        with open("/proc/self/mountinfo", errors="replace") as mounts:
            for line in mounts:
                before, _, after = line.partition(" - ")
                point = before.split()[4].replace("\\040", " ")
                if len(point) >= len(found[0]) and f"{real}/".startswith(f"{point.rstrip('/')}/"):
                    found = point, after.split()[0]
    except (OSError, IndexError):
        return ""
    return found[1]
