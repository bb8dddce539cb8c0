"""The floor under fetching rows that are not in memory: direct reads of their blocks, many under way at a time.

By io_uring where the system allows it, otherwise by as many threads. Compiled when it is needed; without a compiler
there is no such floor, and `COMPILER` is None.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from system_calls import COMPILER

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "random_reads.c")

# What direct reads are aligned to: no device asks for more than a page.
BLOCK_NBYTES = 4096

# Reads under way at a time. 64 took a tenth longer for single blocks and the same for four at a time; 512 nothing less.
DEPTH = 256
THREADS = 64

# What io_uring_setup says where a kernel, a sandbox or an administrator does without it.
NOT_ALLOWED = (errno.ENOSYS, errno.EPERM, errno.EACCES)


class Blocks(NamedTuple):
    """Whole blocks of a file: where they begin and how long they are, in bytes, each place once."""

    offsets: NDArray[np.int64]
    nbytes: NDArray[np.int64]

    @classmethod
    def under(cls, starts: NDArray[np.int64], nbytes: int) -> Blocks:
        """Return the blocks under ranges of `nbytes` that begin at `starts`."""
        offsets = np.unique(starts // BLOCK_NBYTES * BLOCK_NBYTES)
        # The range that begins last in its first block needs the most of them.
        last = np.full(len(offsets), -1)
        np.maximum.at(last, np.searchsorted(offsets, starts // BLOCK_NBYTES * BLOCK_NBYTES), starts + nbytes)
        return cls(offsets, -(-last // BLOCK_NBYTES) * BLOCK_NBYTES - offsets)


class RandomReads:
    """The reads, compiled into `folder`, with memory for `count` places of up to `nbytes` each."""

    def __init__(self, folder: str, count: int, nbytes: int) -> None:
        if COMPILER is None:
            raise RuntimeError("there is no C compiler")
        library = os.path.join(folder, "random_reads.so")
        flags = ("-std=gnu11", "-O2", "-pthread", "-shared", "-fPIC")
        subprocess.run([str(COMPILER), *flags, "-o", library, SOURCE], check=True)
        self._functions = ctypes.CDLL(library)
        self._depth = DEPTH
        # A direct read that begins anywhere in a block reaches into one more.
        self._stride = -(-nbytes // BLOCK_NBYTES) * BLOCK_NBYTES + BLOCK_NBYTES
        self._pages = mmap.mmap(-1, count * self._stride)
        self._buffer = np.frombuffer(self._pages, np.uint8)
        self._buffer[::BLOCK_NBYTES] = 1  # or its pages would be made while the clock runs
        self.way = f"io_uring, {DEPTH} reads under way"
        self.is_ring = True
        self._read = self._functions.read_by_ring
        self._try(folder)

    def __call__(self, path: str, blocks: Blocks) -> None:
        """Read the blocks of a file."""
        if error := self._call(path, blocks):
            raise OSError(error, os.strerror(error), path)

    def _try(self, folder: str) -> None:
        path = os.path.join(folder, "block")
        with open(path, "wb") as file:
            file.write(bytes(BLOCK_NBYTES))
        error = self._call(path, Blocks.under(np.zeros(1, np.int64), BLOCK_NBYTES))
        os.unlink(path)
        if error in NOT_ALLOWED:
            self._read = self._functions.read_by_threads
            self._depth = THREADS
            self.is_ring = False
            self.way = f"pread, by {THREADS} threads"
        elif error:
            raise OSError(error, os.strerror(error), path)

    def _call(self, path: str, blocks: Blocks) -> int:
        pointers = (ctypes.c_void_p(column.ctypes.data) for column in blocks)
        count, buffer = ctypes.c_long(len(blocks.offsets)), ctypes.c_void_p(self._buffer.ctypes.data)
        stride, depth = ctypes.c_size_t(self._stride), ctypes.c_int(self._depth)
        return int(self._read(os.fsencode(path), *pointers, count, buffer, stride, depth))
