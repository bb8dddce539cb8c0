"""Interleaved timing: alternatives take turns inside one process.

Every contender runs for at least `ROUND_S` in each round, in an order that is shuffled from round to round, so that a
busy machine, a changing clock frequency or a warm cache hits all of them alike. A ratio is formed inside each round,
and the median and the quartiles of these ratios are what counts. The garbage collector is off during the rounds.

The clock is the CPU time of the calling thread, user and system: other processes' turns on the same core do not
count, nor do the idle threads of a BLAS, which spin. Work that waits for a disk or for other threads takes `WALL`.

This is not done by pyperf or timeit alone: they measure one contender after the other, in processes of its own, and
have no place for what comes before each single run of a cold case.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CPU = time.thread_time
WALL = time.perf_counter

ROUND_S = 0.005
ROUNDS = 25

# Runs the thing so many times, and returns the seconds that all of them took together.
Runner = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The middle half of a sample."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, sample: list[float]) -> Quartiles:
        return cls(*statistics.quantiles(sample, n=4, method="inclusive"))

    @property
    def spread(self) -> float:
        """Distance between the quartiles, as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def statement(code: str, names: dict[str, Any], clock: Callable[[], float] = CPU) -> Runner:
    """Return a runner for code that uses `names` as local variables. The empty loop around it counts too."""
    setup = "\n".join(f"{name} = the_{name}" for name in names) or "pass"
    return timeit.Timer(code, setup, clock, {f"the_{name}": value for name, value in names.items()}).timeit


def repeats_for(run: Runner, seconds: float = ROUND_S) -> int:
    """Return how often to run to take `seconds`; runs it, and so warms it up."""
    count = 1
    run(count)
    while (taken := run(count)) < seconds:
        # Not more than tenfold at once: the first runs are the slowest.
        count = min(10 * count, max(count + 1, int(1.1 * count * seconds / max(taken, 1e-9))))
    return count


def interleave(runners: dict[str, Runner], rounds: int, *, is_once: bool = False) -> dict[str, list[float]]:
    """Return the seconds of one run of each, round by round.

    With `is_once` there is a single run of each in a round and none to warm up.
    """
    counts = {name: 1 if is_once else repeats_for(run) for name, run in runners.items()}
    samples: dict[str, list[float]] = {name: [] for name in runners}
    order = list(runners)
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                samples[name].append(runners[name](counts[name]) / counts[name])
    finally:
        if collecting:
            gc.enable()
    return samples


def ratios(above: list[float], below: list[float]) -> Quartiles:
    """Return the quartiles of the ratios inside each round."""
    return Quartiles.of([a / b for a, b in zip(above, below, strict=True)])


def differences(left: list[float], right: list[float]) -> Quartiles:
    """Return the quartiles of the differences inside each round."""
    return Quartiles.of([a - b for a, b in zip(left, right, strict=True)])
