"""A case: one thing that several contenders do, the bars for it, and what came out.

The contenders are named

- ``ndfile``: ours,
- ``numpy.memmap``: the same as people write it,
- ``expert``: numpy.memmap as an expert writes it, where that differs,
- ``limit``: what no library can beat; each family says what that is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from timing import ROUNDS, Quartiles, Runner, differences, interleave, ratios

if TYPE_CHECKING:
    from collections.abc import Callable

OURS, NUMPY, EXPERT, LIMIT = ("ndfile", "numpy.memmap", "expert", "limit")

# Ratios whose middle half is wider than this part of the median are marked.
NOISY = 0.10

# A missed bar is measured again with so many times the rounds before it is reported.
AGAIN = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the contenders of a case took, in seconds for one run, and how they compare."""

    seconds: dict[str, Quartiles]
    times_faster: Quartiles  # numpy.memmap's time over ours
    times_limit: Quartiles | None  # our time over the limit's
    seconds_more: Quartiles  # our time less numpy.memmap's
    rounds: int

    @classmethod
    def of(cls, samples: dict[str, list[float]]) -> Outcome:
        ours, theirs, limit = samples[OURS], samples[NUMPY], samples.get(LIMIT)
        return cls(
            {name: Quartiles.of(sample) for name, sample in samples.items()},
            ratios(theirs, ours),
            ratios(ours, limit) if limit else None,
            differences(ours, theirs),
            len(ours),
        )

    @property
    def is_noisy(self) -> bool:
        return self.times_faster.spread > NOISY


@dataclass(frozen=True, slots=True)
class Bar:
    """Something to reach, in words and as a test."""

    text: str
    is_met: Callable[[Outcome], bool]


def faster(times: float) -> Bar:
    """Ask for at least so many times numpy.memmap's speed."""
    return Bar(f">= {times:g}x", lambda outcome: outcome.times_faster.median >= times)


def near_limit(times: float) -> Bar:
    """Ask for at most so many times the limit's time."""
    return Bar(
        f"<= {times:g}x limit", lambda outcome: bool(outcome.times_limit and outcome.times_limit.median <= times)
    )


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

    def as_control(self) -> Case:
        """Return the case with numpy.memmap in our place: its ratio is 1, as far as the measurement is good."""
        return replace(self, runners=self.runners | {OURS: self.runners[NUMPY]}, bars=(NEVER_SLOWER,), aims=())

    def measure(self) -> Result:
        """Run the contenders, and once more for longer if a bar is missed."""
        outcome = Outcome.of(interleave(self.runners, self.rounds))
        if not all(bar.is_met(outcome) for bar in self.bars):
            outcome = Outcome.of(interleave(self.runners, AGAIN * self.rounds))
        return Result(self, outcome)


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
            "seconds": as_list,
            "times_faster_than_numpy": [faster.low, faster.median, faster.high],
            "times_limit": limit and [limit.low, limit.median, limit.high],
            "seconds_more_than_numpy": [more.low, more.median, more.high],
            "is_noisy": self.outcome.is_noisy,
            "bars": dict(self.verdicts),
        }
