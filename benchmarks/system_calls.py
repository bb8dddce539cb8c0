"""The floor under opening an array: open, fstat, mmap, close and munmap alone, in a C loop.

Compiled when it is needed. Without a compiler the same calls go through ctypes, which adds about two microseconds;
`IS_EXACT` is False then.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from timing import CPU

if TYPE_CHECKING:
    from collections.abc import Callable

    from timing import Runner

COMPILER = shutil.which("cc") or shutil.which("gcc")
IS_EXACT = COMPILER is not None

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "system_calls.c")

_READ, _BOTH = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
# What open() and mmap() are told in each mode of an array.
FLAGS = {
    "r": (os.O_RDONLY | os.O_CLOEXEC, _READ, mmap.MAP_SHARED),
    "r+": (os.O_RDWR | os.O_CLOEXEC, _BOTH, mmap.MAP_SHARED),
    "c": (os.O_RDONLY | os.O_CLOEXEC, _BOTH, mmap.MAP_PRIVATE),
}


class SystemCalls:
    """The calls, compiled into `folder`."""

    def __init__(self, folder: str) -> None:
        self._cycle = _compiled(folder) if COMPILER else _cycle_through_ctypes

    def runner(self, path: str, mode: str, nwritten: int = 0, clock: Callable[[], float] = CPU) -> Runner:
        """Return a runner of one cycle; it writes and syncs `nwritten` bytes, if any."""
        name, nbytes, cycle = os.fsencode(path), os.path.getsize(path), self._cycle

        def run(count: int) -> float:
            start = clock()
            error = cycle(name, nbytes, *FLAGS[mode], nwritten, count)
            taken = clock() - start
            if error:
                raise OSError(error, os.strerror(error), path)
            return taken

        return run


def _compiled(folder: str) -> Callable[..., int]:
    library = os.path.join(folder, "system_calls.so")
    subprocess.run([str(COMPILER), "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    cycle = ctypes.CDLL(library).cycle
    size, number = ctypes.c_size_t, ctypes.c_int
    cycle.argtypes = [ctypes.c_char_p, size, number, number, number, size, ctypes.c_long]
    return cycle  # type: ignore[no-any-return]


def _cycle_through_ctypes(
    path: bytes, nbytes: int, open_flags: int, prot: int, map_flags: int, nwritten: int, count: int
) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    arguments = (None, ctypes.c_size_t(nbytes), prot, map_flags)
    for _ in range(count):
        fd = os.open(path, open_flags)
        os.fstat(fd)
        data = libc.mmap(*arguments, fd, ctypes.c_long(0))
        os.close(fd)
        if data == ctypes.c_void_p(-1).value:
            return ctypes.get_errno()
        if nwritten:
            ctypes.memset(data, 1, nwritten)
            if libc.msync(ctypes.c_void_p(data), ctypes.c_size_t(nbytes), 4):  # MS_SYNC
                return ctypes.get_errno()
        libc.munmap(ctypes.c_void_p(data), ctypes.c_size_t(nbytes))
    return 0
