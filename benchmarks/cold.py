"""Runs on data that is not in memory, and data that is, both proven.

A cold run is one sample:

1. Its argument is drawn, a new one for each run: what one contender read may still be in the cache of a device or of
   the machine below a virtual one, so none of them asks for another's places.
2. Its files are synced and dropped from the page cache, and the kernel is asked that no page of them is left
   (`cachestat`, or `mincore` before Linux 6.5). A page that is still mapped anywhere cannot be dropped, so a contender
   that keeps a mapping from one run to the next is found out: `StillCachedError`.
3. The clock runs while the contender opens the files, which takes microseconds, and does its work. What it returns is
   dropped after the clock has stopped.
4. What came from the device is the process's `read_bytes` in /proc/self/io, all threads together. It is noted as a
   multiple of the bytes asked for. Where a run must read them, one that got fewer was not cold: `NotColdError`.

Time is wall time.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from timing import WALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

CACHESTAT = 451  # the same number on every architecture

# Pages that are under way from or to the device are not dropped: so long is waited for them.
DROP_TRIES, DROP_PAUSE_S = 100, 0.02

# The kernel may evict some of what was read, above all while others use the memory too.
WARM_TRIES = 5

PIECE_NBYTES = 8 << 20

_LIBC = ctypes.CDLL(None, use_errno=True)


class StillCachedError(RuntimeError):
    """A file could not be dropped from the page cache."""


class NotColdError(RuntimeError):
    """A run took from the device less than it needed."""


@dataclass(frozen=True, slots=True)
class Cold:
    """A runner of cold runs; see above.

    `act` gets the next one of `arguments`. `nbytes` is what it asks for, `must_read` whether all of that has to come
    from the device. `note` is told the bytes read for each byte asked for. `around` is entered before the contender
    opens anything and left after the clock has stopped.
    """

    paths: tuple[str, ...]
    act: Callable[[Any], object]
    arguments: Iterator[Any]
    nbytes: int
    note: Callable[[float], None]
    must_read: bool = True
    around: Callable[[], AbstractContextManager[None]] = nullcontext

    def __call__(self, count: int) -> float:
        return sum(self._run() for _ in range(count))

    def _run(self) -> float:
        argument = next(self.arguments)
        for path in self.paths:
            drop(path)
        with self.around():
            before = read_nbytes()
            start_s = WALL()
            kept = self.act(argument)
            taken_s = WALL() - start_s
            got = read_nbytes() - before
        del kept
        if self.must_read and got < self.nbytes:
            raise NotColdError(f"{got} of {self.nbytes} bytes came from the device")
        self.note(got / self.nbytes)
        return taken_s


def drop(path: str) -> None:
    """Sync a file, drop it from the page cache, and raise unless nothing of it is left there."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)  # pages that wait to be written are not dropped
        for _ in range(DROP_TRIES):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            left = _cached_nbytes(fd, 0, os.fstat(fd).st_size)
            if not left:
                return
            time.sleep(DROP_PAUSE_S)
    finally:
        os.close(fd)
    raise StillCachedError(f"{left} bytes of {os.path.basename(path)} are still in the page cache: is it mapped?")


def warm(path: str, nbytes: int | None = None) -> None:
    """Read a file, or its first `nbytes`, into the page cache, and raise unless it stays there."""
    fd = os.open(path, os.O_RDONLY)
    try:
        nbytes = os.fstat(fd).st_size if nbytes is None else nbytes
        buffer = bytearray(PIECE_NBYTES)
        for _ in range(WARM_TRIES):
            place = 0
            while place < nbytes:
                place += os.preadv(fd, [buffer], place)
            if _cached_nbytes(fd, 0, nbytes) >= nbytes:
                return
    finally:
        os.close(fd)
    assert_warm(path, nbytes)


def assert_warm(path: str, nbytes: int | None = None) -> None:
    """Raise unless a file, or its first `nbytes`, is in the page cache."""
    fd = os.open(path, os.O_RDONLY)
    try:
        nbytes = os.fstat(fd).st_size if nbytes is None else nbytes
        missing = nbytes - _cached_nbytes(fd, 0, nbytes)
    finally:
        os.close(fd)
    if missing > 0:
        raise RuntimeError(f"{missing} of {nbytes} bytes are not in the page cache: too little memory for this case")


def settle(nbytes: int) -> None:
    """Wait until nothing is left to be written, and have `nbytes` of memory at hand.

    A run that writes must not pay for the one before it. Memory that was touched a moment ago is memory that the
    kernel, and the machine below a virtual one, need not look for.
    """
    os.sync()
    np.ones(nbytes, np.uint8)


def read_nbytes() -> int:
    """Return how much this process has had read from devices since it began."""
    with open("/proc/self/io") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def _cached_nbytes(fd: int, offset: int, nbytes: int) -> int:
    found = (ctypes.c_uint64 * 5)()  # cached, dirty, in writeback, evicted, recently evicted: pages
    asked = (ctypes.c_uint64 * 2)(offset, nbytes)
    numbers = ctypes.c_long(CACHESTAT), ctypes.c_int(fd)
    if _LIBC.syscall(*numbers, ctypes.byref(asked), ctypes.byref(found), ctypes.c_uint(0)) == 0:
        return int(found[0]) * mmap.PAGESIZE
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
        raise OSError(ctypes.get_errno(), "cachestat")
    return _mincore_nbytes(fd, offset, nbytes)


def _mincore_nbytes(fd: int, offset: int, nbytes: int) -> int:
    with mmap.mmap(fd, nbytes, prot=mmap.PROT_READ, offset=offset) as pages:
        resident = np.zeros(-(-nbytes // mmap.PAGESIZE), "u1")
        view = np.frombuffer(pages, "u1")
        address, answers = ctypes.c_void_p(view.ctypes.data), ctypes.c_void_p(resident.ctypes.data)
        failed = _LIBC.mincore(address, ctypes.c_size_t(nbytes), answers)
        del view  # or the mapping could not be closed
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
    return int((resident & 1).sum()) * mmap.PAGESIZE
