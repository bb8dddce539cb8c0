"""Large files of random bytes: real blocks, neither holes nor anything that a device could compress."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_NBYTES = 32 << 20

# So much of a file at a time is in the page cache while it is made.
UNSYNCED_NBYTES = 1 << 30

# Left to everybody else on the disk.
MARGIN_NBYTES = 8 << 30


@contextlib.contextmanager
def random_file(path: str, nbytes: int, below: int | None = None) -> Iterator[str]:
    """Make a file, synced and not in the page cache, and remove it in the end.

    Its bytes are random, or, with `below`, uint16 items less than that. Random numbers are made once; each piece is
    another one by an exclusive or, or a roll, for those cost less than the disk does.
    """
    rng = np.random.default_rng(0)
    items = rng.integers(0, below or 1 << 16, PIECE_NBYTES // 2, "u2")
    with open(path, "wb", buffering=0) as file:
        for start in range(0, nbytes, PIECE_NBYTES):
            number = start // PIECE_NBYTES
            piece: np.ndarray[Any, Any] = np.roll(items, 1009 * number) if below else items ^ np.uint16(number)
            file.write(memoryview(piece).cast("B")[: nbytes - start])
            if (start + PIECE_NBYTES) % UNSYNCED_NBYTES == 0:
                _let_go(file.fileno())
        _let_go(file.fileno())
    try:
        yield path
    finally:
        os.unlink(path)


def size_with_room(folder: str, nbytes: int) -> int:
    """Return `nbytes`, or the largest half, quarter, ... of it that the disk has room for."""
    free = shutil.disk_usage(folder).free - MARGIN_NBYTES
    while nbytes > max(free, 1 << 28):
        nbytes //= 2
    return nbytes


def _let_go(fd: int) -> None:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
