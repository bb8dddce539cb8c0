"""Runs on a file that is not in memory, and on one that is, both proven. Nothing is ever written.

A cold run is one whose file was dropped from the page cache, which is asked for afterwards: not a page may be left.
Only clean pages can be dropped, and only those that nobody has mapped. What then came from the device is `read_bytes`
of /proc/self/io; where that is less than what was wanted, the run was not cold either.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import ndfile as nf
from ndfile.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Place", "Trial", "UnprovenError", "drop", "trial", "warm"]

# Pages that are under way are not dropped: so long is waited for them.
DROP_TRIES, DROP_PAUSE_S = 25, 0.02

PIECE_NBYTES = 8 << 20


class UnprovenError(Exception):
    """A file could not be brought out of memory, or into it, for a reason that the text says."""


class Place(NamedTuple):
    """Where in a file the bytes are that runs are about."""

    path: str
    offset: int
    nbytes: int

    def resident_nbytes(self) -> tuple[int, int]:
        """Bytes of its pages, and of those in memory."""
        found = nf.memmap(self.path, np.uint8, "r", self.offset, self.nbytes).residency(1)
        return found.nbytes, found.resident_nbytes


class Trial(NamedTuple):
    """What came of a run.

    Attributes
    ----------
    seconds : float
    read_nbytes : int or None
        Bytes that came from the device; None where the system does not tell.
    """

    seconds: float
    read_nbytes: int | None


def trial(act: Callable[[], Any], least_nbytes: int = 0) -> Trial:
    """Time an act, and raise `UnprovenError` where it got less from the device than it must have."""
    before = _read_nbytes()
    start_s = time.perf_counter()
    kept = act()
    taken_s = time.perf_counter() - start_s
    after = _read_nbytes()
    del kept  # giving memory back is nobody's work here
    got = None if before is None or after is None else after - before
    if got is not None and got < least_nbytes:
        raise UnprovenError(
            f"{in_words(got)} of {in_words(least_nbytes)} came from the device, the rest from elsewhere"
        )
    return Trial(taken_s, got)


def drop(place: Place) -> None:
    """Drop a file's clean pages from the page cache, and raise `UnprovenError` unless none is left."""
    fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(DROP_TRIES):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            _, left_nbytes = place.resident_nbytes()
            if not left_nbytes:
                return
            time.sleep(DROP_PAUSE_S)
    finally:
        os.close(fd)
    raise UnprovenError(
        f"{in_words(left_nbytes)} of it stay in memory: mapped by a process, not written to the disk yet, or in a file "
        "system that lives there"
    )


def warm(place: Place) -> None:
    """Read bytes into the page cache, and raise `UnprovenError` unless they stay there."""
    buffer = bytearray(PIECE_NBYTES)
    fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end, at = place.offset + place.nbytes, place.offset
        while at < end:
            got = os.preadv(fd, [buffer], at)
            if not got:
                break
            at += got
    finally:
        os.close(fd)
    nbytes, resident_nbytes = place.resident_nbytes()
    if resident_nbytes < nbytes:
        raise UnprovenError(f"{in_words(nbytes - resident_nbytes)} do not stay in memory: there is too little of it")


def _read_nbytes() -> int | None:
    with contextlib.suppress(OSError), open("/proc/self/io") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)
    return None
