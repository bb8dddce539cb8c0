"""The pictures family: what `ndfile view` does, of files larger than memory.

A run is a process of its own, which draws a PNG of 800 by 1000 pixels from a file that it has not opened before: what a
person waits for, the start of Python and the imports included. Real files are dropped from the page cache before,
proven as in `cold`. `numpy.memmap` is the same process with what people write, every n-th row and column of a
`numpy.memmap`, drawn by the same encoder. Time is wall time; `peak MiB` is the largest resident memory of the process
(`VmHWM`), less what it had when everything was imported; `read MiB` is what came from the device.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from case import NUMPY, OURS, Bar, Case, Note, Tally, at_most
from cold import drop
from random_file import random_file, size_with_room
from timing import WALL, Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Pictures: a PNG of a file larger than memory"
CONTENDERS = (OURS, NUMPY)
TALLIES = ("peak MiB", "read MiB")
LIMIT_IS = "Each run is a new process. `numpy.memmap` takes every n-th row and column, which shows as much and no more."

MOST_S, MOST_MIB = 2.0, 64
ROUNDS = 3

PROGRAM = """\
import sys
import numpy as np
import ndfile as nf
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.picture import Box

def facts(path, name):
    with open(path) as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

before = facts("/proc/self/status", "VmRSS"), facts("/proc/self/io", "read_bytes")
whose, path, target, shape = sys.argv[1], sys.argv[2], sys.argv[3], tuple(map(int, sys.argv[4].split(",")))
if whose == "ndfile":
    a = nf.memmap(path, "f4", "r", shape=shape)
else:
    a = np.memmap(path, "f4", "r", shape=shape)
    a = np.array(a[tuple(slice(None, None, max(n // most, 1)) for n, most in zip(shape, (800, 1000)))])
with open(target, "wb") as file:
    file.write(pictured(subject_of(a), Box(800, 1000)).png())
after = facts("/proc/self/status", "VmHWM"), facts("/proc/self/io", "read_bytes")
print((after[0] - before[0]) / 1024, (after[1] - before[1]) / (1 << 20))
"""


def within(seconds: float) -> Bar:
    """Ask for at most so many seconds."""
    return Bar(f"<= {seconds:g} s", lambda outcome: outcome.seconds[OURS].median <= seconds)


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    path = os.path.join(folder, "view.dat")
    with open(path, "wb") as file:
        file.truncate(100 << 30)
    side = int(((100 << 30) // 4) ** 0.5)
    yield _case("sparse 100 GiB, square", path, (side, side), is_cold=False)
    yield _case("sparse 100 GiB, a line", path, (25 << 30,), is_cold=False)
    os.unlink(path)
    wanted = 1 << 30 if quick else 8 << 30
    nbytes = size_with_room(folder, wanted)
    if nbytes < wanted:
        yield Note(f"pictures: {nbytes >> 20} MiB instead of {wanted >> 20}, for the disk has no more room")
    with random_file(path, nbytes):
        side = int((nbytes // 4) ** 0.5)
        size = f"{nbytes >> 30} GiB, cold"
        yield _case(f"{size}, square", path, (side, side), is_cold=True)
        yield _case(f"{size}, rows of 1 KiB", path, (nbytes // 1024, 256), is_cold=True)
        yield _case(f"{size}, rows of 128 MiB", path, (nbytes // (128 << 20), 32 << 20), is_cold=True)
        yield _case(f"{size}, a line", path, (nbytes // 4,), is_cold=True)


def _case(name: str, path: str, shape: tuple[int, ...], *, is_cold: bool) -> Case:
    peak, read = map(Tally, TALLIES)

    def runner(contender: str) -> Runner:
        command = [sys.executable, "-c", PROGRAM, contender, path, f"{path}.png", ",".join(map(str, shape))]

        def run(count: int) -> float:
            taken_s = 0.0
            for _ in range(count):
                if is_cold:
                    drop(path)
                start_s = WALL()
                result = subprocess.run(command, check=True, capture_output=True, text=True)
                taken_s += WALL() - start_s
                grown, nbytes = map(float, result.stdout.split())
                peak.noter(contender)(grown)
                read.noter(contender)(nbytes)
            return taken_s

        return run

    runners = {contender: runner(contender) for contender in CONTENDERS}
    bars = (within(MOST_S), at_most(peak, MOST_MIB), at_most(read, 130))
    return Case(name, runners, bars, (), ROUNDS, (peak, read), is_once=True, again=1)
