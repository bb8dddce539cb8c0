"""The opening family: whole lives of an array on a warm file of 250 KiB, and the import.

An array that is dropped waits for nobody; one that is flushed waits for the disk, so that case is timed by the wall
clock. numpy.memmap has no close(): it is dropped instead. The import is the CPU time of fresh interpreters that import
NumPy, and NumPy with ndfile, with one BLAS thread, because the idle ones spin.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np
from case import LIMIT, NEVER_SLOWER, NUMPY, OURS, Case, adds, faster, near_limit
from system_calls import IS_EXACT, SystemCalls
from timing import WALL, Runner, statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Opening: a file opened, used and dropped"
CONTENDERS = (OURS, NUMPY, LIMIT)
LIMIT_IS = (
    "The limit is the system calls open, fstat, mmap, close and munmap alone "
    f"{'in a C loop' if IS_EXACT else 'through ctypes, for no C compiler was found'}; for the import, an empty program."
)

SHAPE = (1000, 64)
WRITTEN = 64

WRITE = f"""\
array = {{}}(path, 'float32', 'r+', 0, shape)
array[0, :{WRITTEN}] = 2.5
array.flush()
del array"""

IMPORTS = {OURS: "import numpy, ndfile", NUMPY: "import numpy", LIMIT: "pass"}


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    path = os.path.join(folder, "rows.dat")
    np.zeros(SHAPE, "float32").tofile(path)
    calls = SystemCalls(folder)
    names = {"path": path, "shape": SHAPE, "ours": nf.memmap, "theirs": np.memmap}

    for mode in ("r", "r+", "c"):
        life = f"(path, 'float32', '{mode}', 0, shape)"
        runners = {OURS: statement(f"ours{life}", names), NUMPY: statement(f"theirs{life}", names)}
        runners[LIMIT] = calls.runner(path, mode)
        yield Case(f"open, del: {mode}", runners, bars=(faster(1.8),), aims=(near_limit(1.4),))

    life = "(path, 'float32', 'r', 0, shape)"
    runners = {OURS: statement(f"ours{life}.close()", names), NUMPY: statement(f"theirs{life}", names)}
    closing = runners | {LIMIT: calls.runner(path, "r")}
    yield Case("open, close(): r", closing, bars=(faster(1.8),), aims=(near_limit(1.4),))

    life = "(path, mode='r')"
    runners = {OURS: statement(f"ours{life}", names), NUMPY: statement(f"theirs{life}", names)}
    yield Case("open without a shape, del: r", runners | {LIMIT: calls.runner(path, "r")})

    runners = {
        OURS: statement(WRITE.format("ours"), names, WALL),
        NUMPY: statement(WRITE.format("theirs"), names, WALL),
        LIMIT: calls.runner(path, "r+", 4 * WRITTEN, WALL),
    }
    yield Case("open, write, flush, del: r+", runners, bars=(NEVER_SLOWER,))

    programs = {contender: _program(code) for contender, code in IMPORTS.items()}
    yield Case("import", programs, bars=(adds(0.020),), rounds=15 if quick else 31)


def _program(code: str) -> Runner:
    """Return a runner of fresh interpreters; what they use of the processor is counted by the kernel."""
    command = [sys.executable, "-c", code]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            child = os.posix_spawn(command[0], command, environment)
            _, status, usage = os.wait4(child, 0)
            if status:
                raise RuntimeError(f"{code!r} ended with status {os.waitstatus_to_exitcode(status)}")
            taken += usage.ru_utime + usage.ru_stime
        return taken

    return run
