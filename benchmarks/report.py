"""Tables of results: on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from case import AGAIN, NOISY, Result

if TYPE_CHECKING:
    from types import ModuleType

    from timing import Quartiles

LEGEND = (
    "Times are medians of one run; `faster` is numpy.memmap's time over ndfile's in the same round, median and "
    f"quartiles; `of limit` is ndfile's time over the limit's. `~` marks ratios that spread by more than {NOISY:.0%}."
)
COMPARED = ["faster", "quartiles", "of limit", "bar"]

# Cells on the terminal are at least so wide.
CASE_WIDTH, WIDTH = 28, 12


def duration(seconds: float) -> str:
    """Write seconds with three digits and the unit that suits."""
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _verdicts(result: Result) -> str:
    text = "; ".join(f"{bar} {'yes' if met else 'NO'}" for bar, met in result.verdicts)
    if any("more" in bar for bar, _ in result.verdicts):
        more: Quartiles = result.outcome.seconds_more
        text += f" ({1e3 * more.median:.1f} ms, {1e3 * more.low:.1f} to {1e3 * more.high:.1f})"
    return text


def header(family: ModuleType) -> list[str]:
    """Return the names of a family's columns."""
    headings = getattr(family, "HEADINGS", {})
    return ["case", *(headings.get(name, name) for name in family.CONTENDERS), *COMPARED]


def row(family: ModuleType, result: Result) -> list[str]:
    """Return the cells of a result, in the order of `header`."""
    seconds, faster, limit = result.outcome.seconds, result.outcome.times_faster, result.outcome.times_limit
    times = [duration(seconds[name].median) if name in seconds else "" for name in family.CONTENDERS]
    return [
        result.case.name,
        *times,
        f"{faster.median:.2f}x{'~' if result.outcome.is_noisy else ''}",
        f"{faster.low:.2f} to {faster.high:.2f}",
        f"{limit.median:.2f}x" if limit else "",
        _verdicts(result),
    ]


def line(cells: list[str]) -> str:
    """Lay cells out for the terminal."""
    return "  ".join([cells[0].ljust(CASE_WIDTH), *(cell.ljust(WIDTH) for cell in cells[1:])]).rstrip()


def summary(results: list[Result]) -> str:
    """Say how many cases reach their bars, and which do not."""
    missed = [result.case.name for result in results if not result.is_reached]
    text = f"{len(results) - len(missed)} of {len(results)} cases reach their bars"
    if not missed:
        return f"{text}."
    return f"{text}; below them, also when measured again with {AGAIN} times the rounds: {', '.join(missed)}."


def save(folder: str, family: ModuleType, results: list[Result], machine: dict[str, str], command: str) -> None:
    """Write ``<family>.json`` and ``<family>.md`` into the folder."""
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, family.__name__)
    facts = {
        "family": family.__name__,
        "command": command,
        "machine": machine,
        "cases": [result.facts() for result in results],
    }
    with open(f"{base}.json", "w") as file:
        json.dump(facts, file, indent=1)
        file.write("\n")
    with open(f"{base}.md", "w") as file:
        file.write(_markdown(family, results, machine, command))


def _markdown(family: ModuleType, results: list[Result], machine: dict[str, str], command: str) -> str:
    head = header(family)
    rows = [row(family, result) for result in results]
    table = [head, ["---"] * len(head), *([f"`{name}`", *cells] for name, *cells in rows)]
    lines = [
        f"# {family.TITLE}",
        "",
        f"{summary(results)} Measured by `{command}`.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
        f"{LEGEND} {family.LIMIT_IS}",
        "",
        *(f"| {' | '.join(cells)} |" for cells in table),
    ]
    return "\n".join(lines) + "\n"
