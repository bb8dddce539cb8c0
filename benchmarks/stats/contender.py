"""A contender of a task as a runner: tried once, watched and compared, and then timed, but not for ever."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from case import LIMIT
from timing import WALL

from stats import files, tasks
from stats.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from case import Tally

    from stats.memory import Watcher
    from stats.tasks import Task

# No contender is timed for longer in one case: its times so far stand for the rounds that are left.
MOST_S = 1.5

# Results that differ by no more than this part are the same. float32 has 6e-8.
TOLERANCE = 1e-5

ONCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "once.py")


class Limited:
    """A runner whose times come again from the first one on, once it has taken `MOST_S` in all."""

    def __init__(self, run: Callable[[], float]) -> None:
        self._run = run
        self.taken: list[float] = []
        self._next = 0

    def __call__(self, count: int) -> float:
        return sum(self._one() for _ in range(count))

    def _one(self) -> float:
        if sum(self.taken) < MOST_S:
            self.taken.append(self._run())
            return self.taken[-1]
        self._next += 1
        return self.taken[(self._next - 1) % len(self.taken)]


class Trials:
    """The first runs of a task's contenders: their extra memory is noted, their results are compared.

    Ours, numpy.memmap and the expert run in a process of their own each. A peer runs here, after a small file, for
    importing and compiling it takes longer than its work.
    """

    def __init__(self, task: Task, folder: str, watcher: Watcher, peak: Tally, off: Tally) -> None:
        self._task, self._folder, self._watcher, self._peak, self._off = task, folder, watcher, peak, off
        self._digests: dict[str, np.ndarray[Any, Any]] = {}

    def runner(self, name: str, side: tasks.Side) -> Callable[[int], float]:
        task, folder, operands = self._task, self._folder, []

        def run() -> float:
            if not operands:
                operands.append(side.open(folder))
                side.act(operands[0])  # has the pages mapped
            if task.operation.name in ("hypotenuse", "expression"):
                os.sync()  # what the run before wrote is not this one's to wait for
            start_s = WALL()
            result = side.act(operands[0])
            taken_s = WALL() - start_s
            del result
            return taken_s

        timed = Limited(run)

        def tried_first(count: int) -> float:
            if name in self._digests:
                return timed(count)
            taken_s = self._here(name, side, operands) if name in PEERS else self._apart(name)
            if taken_s > MOST_S:
                timed.taken.append(taken_s)
            return taken_s

        return tried_first

    def _here(self, name: str, side: tasks.Side, operands: list[Any]) -> float:
        side.act(side.open(os.path.join(self._folder, files.TINY)))
        gc.collect()
        with self._watcher.watching(os.getpid(), self._peak.noter(name)):
            operands.append(side.open(self._folder))
            start_s = WALL()
            result = side.act(operands[0])
            taken_s = WALL() - start_s
        self._compare(name, tasks.digest(self._task.operation, operands[0], result))
        return taken_s

    def _apart(self, name: str) -> float:
        command = [sys.executable, ONCE, self._folder, self._task.name, name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            assert process.stdout
            if not process.stdout.readline():
                raise RuntimeError(f"{self._task.name}: {name} failed with the small file")
            with self._watcher.watching(process.pid, self._peak.noter(name)):
                print(file=process.stdin, flush=True)
                process.stdout.readline()
            out, _ = process.communicate("\n")
        if process.returncode:
            raise RuntimeError(f"{self._task.name}: {name} failed")
        taken_s, *found = map(float, out.split())
        self._compare(name, np.array(found))
        return taken_s

    def _compare(self, name: str, found: np.ndarray[Any, Any]) -> None:
        """Note by how much a result differs from that of the contender that was first; by 0 where that is nothing."""
        self._digests[name] = found
        expected = next(iter(self._digests.values()))
        self._off.noter(name)(0.0 if name == LIMIT else relative_error(found, expected))


def relative_error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Return the largest one, 0 for what is only rounding, and infinity for results that cannot be compared."""
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return math.inf
    known = ~np.isnan(expected)
    off = np.abs(found - expected)[known] / np.maximum(np.abs(expected[known]), 1e-30)
    return float(off.max()) if off.max(initial=0) > TOLERANCE else 0.0
