"""The bounded family: a scan under a ceiling on resident memory.

``max_rss`` has pages leave the process's memory while a scan goes on. That must cost nothing, and the ceiling must
hold: what the process had resident at most during a run (`VmHWM` of /proc/self/status, which is set back before each
run, less what was resident then) is noted. Opening counts. Time is wall time.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from case import NUMPY, OURS, Case, Note, Tally, at_most, faster
from cold import Cold, warm
from random_file import random_file, size_with_room
from timing import WALL, Runner

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNLIMITED = "ndfile without it"
CEILING, MOST_MIB = "64 MiB", 128
TITLE = f'Bounded: a scan with max_rss="{CEILING}"'
CONTENDERS = (OURS, NUMPY, UNLIMITED)
TALLIES = ("peak MiB", "read per byte")
LIMIT_IS = (
    f'`ndfile` scans with `max_rss="{CEILING}"`, the others without any limit. `peak MiB` is the largest growth of the '
    "process's resident memory in a run (`VmHWM`)."
)

WARM_ROUNDS, COLD_ROUNDS = 7, 3


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    wanted = 1 << 30 if quick else 8 << 30
    nbytes = size_with_room(folder, wanted)
    if nbytes < wanted:
        yield Note(f"bounded: {nbytes >> 30} GiB instead of {wanted >> 30}, for the disk has no more room")
    path = os.path.join(folder, "scan.dat")
    with random_file(path, nbytes):
        try:
            nf.memmap(path, "u8", "r", max_rss=CEILING).close()
        except TypeError:
            yield Note("bounded: left out, this ndfile has no max_rss")
            return
        acts = {
            OURS: partial(_sum, nf.memmap, path, max_rss=CEILING),
            NUMPY: partial(_sum, np.memmap, path),
            UNLIMITED: partial(_sum, nf.memmap, path),
        }
        yield _cold(path, nbytes, acts)
        warm(path)
        yield _warm(nbytes, acts)


def _sum(memmap: Any, path: str, **options: str) -> object:
    a = memmap(path, "u8", "r", **options)
    return a, a.sum()


def _case(name: str, runners: dict[str, Runner], peak: Tally, rounds: int, others: tuple[Tally, ...] = ()) -> Case:
    bars = (faster(0.95), faster(0.95, UNLIMITED), at_most(peak, MOST_MIB))
    return Case(name, runners, bars, (), rounds, (peak, *others), is_once=True, again=1)


def _cold(path: str, nbytes: int, acts: dict[str, Callable[[], object]]) -> Case:
    peak, read = map(Tally, TALLIES)

    def runner(contender: str, act: Callable[[], object]) -> Runner:
        def run(_: object) -> object:
            with _peak(peak.noter(contender)):
                return act()

        return Cold((path,), run, repeat(None), nbytes, read.noter(contender))

    runners = {contender: runner(contender, act) for contender, act in acts.items()}
    return _case(f"a.sum(), {nbytes >> 30} GiB, cold", runners, peak, COLD_ROUNDS, (read,))


def _warm(nbytes: int, acts: dict[str, Callable[[], object]]) -> Case:
    peak = Tally(TALLIES[0])

    def runner(contender: str, act: Callable[[], object]) -> Runner:
        def run(count: int) -> float:
            start_s = WALL()
            for _ in range(count):
                with _peak(peak.noter(contender)):
                    act()
            return WALL() - start_s

        return run

    runners = {contender: runner(contender, act) for contender, act in acts.items()}
    return _case(f"a.sum(), {nbytes >> 30} GiB, warm", runners, peak, WARM_ROUNDS)


@contextlib.contextmanager
def _peak(note: Callable[[float], None]) -> Iterator[None]:
    """Note by how many MiB resident memory grew at most; nothing where the kernel does not set its mark back."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        yield
        return
    before = _status_kib("VmRSS")
    yield
    note((_status_kib("VmHWM") - before) / 1024)


def _status_kib(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
