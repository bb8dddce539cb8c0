"""Files that are not in memory, and the kernel's own account: pages in the page cache, bytes that a device was read."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ndfile._core import file_system_type

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "PAGE",
    "Reads",
    "cool",
    "counted_reads",
    "dirty_pages",
    "need_counted_reads",
    "pages_in_memory",
    "pages_of",
    "readahead_nbytes",
]

PAGE = mmap.PAGESIZE

CACHESTAT = 451  # the same number on every architecture; Linux 6.5

# Pages that are under way from or to the device are not dropped: so long is waited for them.
DROP_TRIES, DROP_PAUSE_S = 200, 0.01

# Magic numbers of file systems, by statfs(2): tmpfs, ramfs.
IN_MEMORY = (0x01021994, 0x858458F6)

_LIBC = ctypes.CDLL(None, use_errno=True)


def _private_map(fd: int, size: int) -> mmap.mmap:
    # One that could be written to: ctypes tells the address of no other.
    return mmap.mmap(fd, size, mmap.MAP_PRIVATE)


def pages_in_memory(path: str | int) -> np.ndarray:
    """For each page of a file, or of an open one, whether it is in the page cache, by a map that nobody touches."""
    size = os.stat(path).st_size
    with open(path, "rb", closefd=isinstance(path, str)) as file, _private_map(file.fileno(), size) as mapping:
        found = np.zeros(-(-size // PAGE), "u1")
        address = ctypes.c_char.from_buffer(mapping)
        failed = _LIBC.mincore(ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_void_p(found.ctypes.data))
        del address
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
    return (found & 1).astype(bool)


def dirty_pages(path: str) -> int:
    """How many pages of a file the disk has not got yet. Skips the test where the kernel does not tell."""
    span, counts = (ctypes.c_uint64 * 2)(0, os.path.getsize(path)), (ctypes.c_uint64 * 5)()
    fd = os.open(path, os.O_RDONLY)
    try:
        if file_system_type(fd) in IN_MEMORY:
            pytest.skip("files in memory have no dirty pages")
        if _LIBC.syscall(CACHESTAT, fd, span, counts, 0) < 0:
            if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
                pytest.skip("this kernel does not count dirty pages")
            raise OSError(ctypes.get_errno(), "cachestat")
    finally:
        os.close(fd)
    return counts[1] + counts[2]


def cool(path: str) -> str:
    """Let no page of a file be in memory, and prove it. Skips the test on a file system that is memory itself."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if file_system_type(fd) in IN_MEMORY:
            pytest.skip("the files of this file system are always in memory")
        os.fsync(fd)  # what waits to be written is not dropped
        for _ in range(DROP_TRIES):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if not pages_in_memory(path).any():
                return path
            time.sleep(DROP_PAUSE_S)
    finally:
        os.close(fd)
    pytest.skip("a file of this file system cannot be dropped from memory, or somebody has it mapped")


def pages_of(places: np.ndarray) -> set[int]:
    """The pages that bytes of a file are on."""
    return set(np.flatnonzero(np.bincount(places.ravel() // PAGE)).tolist())


def readahead_nbytes(path: str) -> int:
    """How much the kernel reads around a page that is touched; 0 where it does not say."""
    device = os.stat(path).st_dev
    try:
        with open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb") as file:
            return int(file.read()) << 10
    except OSError:
        return 0


class Reads:
    """What the process had the devices read.

    Attributes
    ----------
    nbytes : int or None
        None as long as it is counted.
    """

    nbytes: int | None = None


def _read_nbytes() -> int:
    # All threads of the process, those too that are gone; and the pages that were asked for on its behalf.
    with open("/proc/self/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("read_bytes"))


@contextmanager
def counted_reads() -> Iterator[Reads]:
    """Count what is read from devices in a block."""
    reads = Reads()
    before = _read_nbytes()
    yield reads
    reads.nbytes = _read_nbytes() - before


def need_counted_reads(folder: str) -> None:
    """Skip where reads from the device that holds a folder are not counted."""
    path = os.path.join(folder, "probe")
    with open(path, "wb") as file:
        file.write(bytes(1 << 20))
    cool(path)
    try:
        with counted_reads() as reads, open(path, "rb", buffering=0) as file:
            file.readall()
    except OSError:
        pytest.skip("the system does not tell how much a process has read")
    if reads.nbytes is None or reads.nbytes < 1 << 20:
        pytest.skip("this file system does not count what is read from its device")
