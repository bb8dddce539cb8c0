"""A case: one thing that several contenders do, the bars for it, and what came out.

The contenders are named

- ``ndfile``: ours,
- ``numpy.memmap``: the same as people write it,
- ``expert``: numpy.memmap as an expert writes it, where that differs,
- ``limit``: what no library can beat; each family says what that is,

and whatever else a family likes to compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from timing import ROUNDS, Quartiles, Runner, differences, interleave, ratios

if TYPE_CHECKING:
    from collections.abc import Callable

OURS, NUMPY, EXPERT, LIMIT = ("ndfile", "numpy.memmap", "expert", "limit")

# Ratios whose middle half is wider than this part of the median are marked.
NOISY = 0.10

# A missed bar is measured again with so many times the rounds before it is reported, unless the case says otherwise.
AGAIN = 4


@dataclass(frozen=True, slots=True)
class Tally:
    """What runs used besides time, such as bytes from the disk: a number for each run, that the runner notes."""

    name: str
    noted: dict[str, list[float]] = field(default_factory=dict)

    def noter(self, contender: str) -> Callable[[float], None]:
        """Return what the contender's runner calls once for each run."""
        return lambda value: self.noted.setdefault(contender, []).append(value)

    @property
    def largest(self) -> dict[str, float]:
        return {contender: max(values) for contender, values in self.noted.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the contenders of a case took, in seconds for one run, and how they compare."""

    seconds: dict[str, Quartiles]
    over: dict[str, Quartiles]  # every other contender's time, but the limit's, over ours
    times_limit: Quartiles | None  # our time over the limit's
    seconds_more: Quartiles  # our time less numpy.memmap's
    rounds: int
    tallies: dict[str, dict[str, float]]  # each tally's name: the largest that was noted for each contender

    @classmethod
    def of(cls, samples: dict[str, list[float]], tallies: tuple[Tally, ...] = ()) -> Outcome:
        ours, theirs, limit = samples[OURS], samples[NUMPY], samples.get(LIMIT)
        return cls(
            {name: Quartiles.of(sample) for name, sample in samples.items()},
            {name: ratios(sample, ours) for name, sample in samples.items() if name not in (OURS, LIMIT)},
            ratios(ours, limit) if limit else None,
            differences(ours, theirs),
            len(ours),
            {tally.name: tally.largest for tally in tallies},
        )

    @property
    def times_faster(self) -> Quartiles:
        """numpy.memmap's time over ours."""
        return self.over[NUMPY]

    @property
    def is_noisy(self) -> bool:
        return self.times_faster.spread > NOISY


@dataclass(frozen=True, slots=True)
class Bar:
    """Something to reach, in words and as a test."""

    text: str
    is_met: Callable[[Outcome], bool]


def faster(times: float, than: str = NUMPY) -> Bar:
    """Ask for at least so many times numpy.memmap's speed, or another contender's."""
    whom = "" if than == NUMPY else f" over {than}"
    return Bar(f">= {times:g}x{whom}", lambda outcome: outcome.over[than].median >= times)


def near_limit(times: float) -> Bar:
    """Ask for at most so many times the limit's time."""
    return Bar(
        f"<= {times:g}x limit", lambda outcome: bool(outcome.times_limit and outcome.times_limit.median <= times)
    )


def of_limits_speed(part: float) -> Bar:
    """Ask for at least this part of the limit's speed."""
    return Bar(f">= {part:g}x limit's speed", near_limit(1 / part).is_met)


def at_most(tally: Tally, value: float) -> Bar:
    """Ask for no run of ours that used more. It is missed where nothing could be noted."""
    return Bar(f"{tally.name} <= {value:g}", lambda outcome: outcome.tallies[tally.name].get(OURS, math.inf) <= value)


def adds(seconds: float) -> Bar:
    """Ask for at most so many seconds more than numpy.memmap takes."""
    return Bar(f"<= {1e3 * seconds:g} ms more", lambda outcome: outcome.seconds_more.median <= seconds)


# 1 less what two measurements of the same code differ by: `run.py --control` shows how much that is.
NEVER_SLOWER = faster(0.97)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a family's table."""

    name: str
    runners: dict[str, Runner]
    bars: tuple[Bar, ...] = (NEVER_SLOWER,)
    aims: tuple[Bar, ...] = ()
    rounds: int = ROUNDS
    tallies: tuple[Tally, ...] = ()
    is_once: bool = False  # a round has one run of each contender, and none is made to warm up
    again: int = AGAIN  # 1: a missed bar is not measured again, for it takes too long
    nbytes: int = 0  # what a run goes over, where the family's table says how fast

    def as_control(self) -> Case:
        """Return the case with numpy.memmap in our place: its ratio is 1, as far as the measurement is good."""
        return replace(self, runners=self.runners | {OURS: self.runners[NUMPY]}, bars=(NEVER_SLOWER,), aims=())

    def measure(self) -> Result:
        """Run the contenders, and once more for longer if a bar is missed."""
        outcome = self._outcome(self.rounds)
        if self.again > 1 and not all(bar.is_met(outcome) for bar in self.bars):
            outcome = self._outcome(self.again * self.rounds)
        # What a runner holds, such as a mapping, must not outlive its case: the next one may want the file cold.
        return Result(replace(self, runners={}), outcome)

    def _outcome(self, rounds: int) -> Outcome:
        for tally in self.tallies:
            tally.noted.clear()
        return Outcome.of(interleave(self.runners, rounds, is_once=self.is_once), self.tallies)


@dataclass(frozen=True, slots=True)
class Note:
    """What a family says in place of a case: what was left out or made smaller, and why."""

    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """A case and its outcome."""

    case: Case
    outcome: Outcome

    @property
    def verdicts(self) -> list[tuple[str, bool]]:
        """Each bar, then each aim, and whether it was reached."""
        bars = [(bar.text, bar.is_met(self.outcome)) for bar in self.case.bars]
        return bars + [(f"aim {aim.text}", aim.is_met(self.outcome)) for aim in self.case.aims]

    @property
    def is_reached(self) -> bool:
        return all(bar.is_met(self.outcome) for bar in self.case.bars)

    def facts(self) -> dict[str, Any]:
        """Return what JSON takes."""
        as_list = {name: [q.low, q.median, q.high] for name, q in self.outcome.seconds.items()}
        faster, limit, more = self.outcome.times_faster, self.outcome.times_limit, self.outcome.seconds_more
        return {
            "case": self.case.name,
            "rounds": self.outcome.rounds,
            "nbytes": self.case.nbytes,
            "seconds": as_list,
            "times_faster_than_numpy": [faster.low, faster.median, faster.high],
            "times_faster_than": {name: [q.low, q.median, q.high] for name, q in self.outcome.over.items()},
            "times_limit": limit and [limit.low, limit.median, limit.high],
            "seconds_more_than_numpy": [more.low, more.median, more.high],
            "is_noisy": self.outcome.is_noisy,
            "largest": self.outcome.tallies,
            "bars": dict(self.verdicts),
        }
