"""Making names and bytes survive: folders on the disk, and memory that its own file no longer takes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from ndfile._core import file_system_type
from ndfile.stream import write_all

if TYPE_CHECKING:
    from ndfile._core import Mapping

__all__ = ["leads_to", "save_memory", "sync_folder", "sync_size"]

# Magic numbers of file systems, by statfs(2), that write metadata in order.
IN_ORDER = (0xEF53, 0x58465342)

# Large enough for the device's speed, small beside any memory.
BLOCK_NBYTES = 8 << 20

PAGE_NBYTES = os.sysconf("SC_PAGESIZE")


def leads_to(path: Any, fd: int, *, follow_symlinks: bool = True) -> bool:
    """Tell whether a path is now a name of an open file. Only a look: it may be another's in the next instant."""
    try:
        named = os.stat(path, follow_symlinks=follow_symlinks)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Put the folder's entry for a file on the disk."""
    fd = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_size(fd: int, path: str | os.PathLike[str]) -> bool:
    """Put a file's new size on the disk without the bytes that wait to be written; False where only all can be had.

    ext4 and XFS write what they have been told of sizes and names in the order they were told, so that another file,
    made now and synced, does it: fsync(2) of the file itself would write up to hundreds of MiB of it first.
    """
    if file_system_type(fd) not in IN_ORDER:
        return False
    try:
        other = os.open(os.path.dirname(os.path.abspath(path)), os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:  # a folder that is not ours to write to
        return False
    try:
        os.fsync(other)
    finally:
        os.close(other)
    return True


def save_memory(mapping: Mapping, path: str | os.PathLike[str]) -> int:
    """Write a new file as the mapping has it: its bytes at their offset, behind those of the old file.

    Returns how many of the mapping's bytes could be had; the rest is zeros. Removes the file if anything fails.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _copy_head(mapping, fd)
        saved = _copy_memory(mapping, fd)
        os.fsync(fd)
        sync_folder(path)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    return saved


def _copy_head(mapping: Mapping, fd: int) -> None:
    if mapping.offset == 0 or mapping.filename is None:
        return
    with open(mapping.filename, "rb") as old:
        for start in range(0, mapping.offset, BLOCK_NBYTES):
            _write(fd, old.read(min(BLOCK_NBYTES, mapping.offset - start)), start)


def _copy_memory(mapping: Mapping, fd: int) -> int:
    os.ftruncate(fd, mapping.offset + len(mapping))
    saved = 0
    with memoryview(mapping) as memory:
        for start in range(0, len(mapping), BLOCK_NBYTES):
            block = memory[start : start + BLOCK_NBYTES]
            saved += _copy_block(block, fd, mapping.offset + start)
    return saved


def _copy_block(block: memoryview, fd: int, offset: int) -> int:
    # The kernel answers a lost page with EFAULT, without a signal: then what can be had is found page by page.
    if _write(fd, block, offset):
        return len(block)
    pages = range(0, len(block), PAGE_NBYTES)
    return sum(len(page) for start in pages if _write(fd, page := block[start : start + PAGE_NBYTES], offset + start))


def _write(fd: int, data: memoryview | bytes, offset: int) -> bool:
    """Write all of it, and tell whether the memory could be read."""
    try:
        write_all(fd, data, offset)
    except OSError as error:
        if error.errno == errno.EFAULT:
            return False
        raise
    return True
