"""Locks on whole files, between processes and between the openings of one process.

Open-file-description locks: one belongs to the opening, not to the process, so that closing another descriptor of the
same file does not drop it, and two arrays of one process exclude each other too. They are advisory: only who asks for
a lock is held up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import struct
import time
from typing import TYPE_CHECKING

from ndfile.errors import LayoutError, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check", "holder", "is_held", "release", "take"]

KINDS = {"exclusive": fcntl.F_WRLCK, "shared": fcntl.F_RDLCK}

# Not every build of Python 3.11 exports them; the numbers are the kernel's.
OFD_GETLK: int = getattr(fcntl, "F_OFD_GETLK", 36)
OFD_SETLK: int = getattr(fcntl, "F_OFD_SETLK", 37)

# struct flock: l_type, l_whence, l_start, l_len (0: to the end, wherever it goes) and l_pid.
FLOCK = struct.Struct("hhqqi")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.1

# Looking for a holder is a kindness to the reader of a message, so it may not take long. The thread's own time on a
# processor: on a machine that has much else to do the holder is found too.
SEARCH_S = 0.2


def check(lock: object, timeout_s: float, mode: str) -> None:
    """Raise `LayoutError` for a lock that no file could have."""
    if lock not in KINDS:
        raise LayoutError(f"lock must be None, 'exclusive' or 'shared', not {lock!r}", "Pass one of them.")
    if lock == "exclusive" and mode in ("r", "c"):
        raise LayoutError(
            f"lock='exclusive' needs a file that is open for writing, which mode {mode!r} does not do",
            "Pass lock='shared', or mode='r+'.",
        )
    if math.isnan(timeout_s) or timeout_s < 0:
        raise LayoutError(f"lock_timeout_s must be 0 or more seconds, not {timeout_s!r}", "Pass 0 not to wait.")


def take(fd: int, lock: str, deadline_s: float, path: str, act: str = "open") -> None:
    """Lock the whole file, or raise `LockedError` once the monotonic clock has passed `deadline_s`.

    Closing every descriptor that shares the opening releases it too.
    """
    pause_s = FIRST_PAUSE_S
    # The kernel can wait by itself, but not for a limited time.
    while not _try(fd, lock, path):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise LockedError(path, lock, holder(fd, lock), act)
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def release(fd: int) -> None:
    """Give a lock back."""
    fcntl.fcntl(fd, OFD_SETLK, FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))


def is_held(fd: int, against: str = "shared") -> bool:
    """Tell whether another opening has the exclusive lock, or any that stands `against` an exclusive one."""
    try:
        found = fcntl.fcntl(fd, OFD_GETLK, _request(against))
    except OSError:  # a file system without locks
        return False
    return bool(FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _request(lock: str) -> bytes:
    return FLOCK.pack(KINDS[lock], os.SEEK_SET, 0, 0, 0)


def _try(fd: int, lock: str, path: str) -> bool:
    try:
        fcntl.fcntl(fd, OFD_SETLK, _request(lock))
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        text = f"{error.strerror}: the file system gives no {lock} lock. Nothing was changed. Pass lock=None"
        raise OSError(error.errno, text, path) from None
    return True


def holder(fd: int, lock: str) -> str:
    """Name who holds a lock that is in the way, as far as the system tells."""
    pid = FLOCK.unpack(fcntl.fcntl(fd, OFD_GETLK, _request(lock)))[-1]
    if pid <= 0:  # -1 stands for a lock of our own kind, which has no process
        pid = _process_with_lock(os.fstat(fd))
    if pid is None:
        return "an unknown process"
    return "this process" if pid == os.getpid() else f"process {pid}{_command(pid)}"


def _process_with_lock(file: os.stat_result) -> int | None:
    """Look through the descriptors of all processes that may be looked at, this one first."""
    wanted = f" {os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino} "
    deadline_s = time.thread_time() + SEARCH_S
    for pid in [os.getpid(), *_processes()]:
        for text in _descriptors(pid):
            if any(line.startswith("lock:") and wanted in line for line in text.splitlines()):
                return pid
            if time.thread_time() > deadline_s:
                return None
    return None


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _descriptors(pid: int) -> Iterator[str]:
    """What the kernel says about each descriptor of a process; nothing where it may not be asked, or is gone."""
    folder = f"/proc/{pid}/fdinfo"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError), open(f"{folder}/{name}", errors="replace") as file:
            yield file.read()


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return f" ({file.read().strip()})"
    except OSError:
        return ""
