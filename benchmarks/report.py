"""Tables of results: on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from case import LIMIT, NOISY, NUMPY, OURS, Note, Result

if TYPE_CHECKING:
    from types import ModuleType

    from timing import Quartiles

LEGEND = (
    "Times are medians of one run; `faster` is numpy.memmap's time over ndfile's in the same round, median and "
    "quartiles; `over` another one is its time over ndfile's; `of limit` is ndfile's time over the limit's. `~` marks "
    f"ratios that spread by more than {NOISY:.0%}. Columns named `each` have the largest number of any run of each "
    "contender, in the order of the table."
)

# Cells on the terminal are at least so wide.
CASE_WIDTH, WIDTH = 28, 12


def duration(seconds: float) -> str:
    """Write seconds with three digits and the unit that suits."""
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def name_of(family: ModuleType) -> str:
    """Return what a family is called: as its module, or else as it says."""
    return str(getattr(family, "NAME", family.__name__))


def verdicts(result: Result) -> str:
    """Say for each bar whether it is reached."""
    text = "; ".join(f"{bar} {'yes' if met else 'NO'}" for bar, met in result.verdicts)
    if any("more" in bar for bar, _ in result.verdicts):
        more: Quartiles = result.outcome.seconds_more
        text += f" ({1e3 * more.median:.1f} ms, {1e3 * more.low:.1f} to {1e3 * more.high:.1f})"
    return text


def header(family: ModuleType) -> list[str]:
    """Return the names of a family's columns."""
    if hasattr(family, "header"):
        return list(family.header())
    headings = getattr(family, "HEADINGS", {})
    return [
        "case",
        *(headings.get(name, name) for name in family.CONTENDERS),
        "faster",
        "quartiles",
        *(f"over {headings.get(name, name)}" for name in _others(family)),
        "of limit",
        *(f"{name}, each" for name in _tallies(family)),
        "bar",
    ]


def row(family: ModuleType, result: Result) -> list[str]:
    """Return the cells of a result, in the order of `header`."""
    if hasattr(family, "row"):
        return list(family.row(result))
    outcome = result.outcome
    seconds, faster, limit = outcome.seconds, outcome.times_faster, outcome.times_limit
    return [
        result.case.name,
        *(duration(seconds[name].median) if name in seconds else "" for name in family.CONTENDERS),
        f"{faster.median:.2f}x{'~' if outcome.is_noisy else ''}",
        f"{faster.low:.2f} to {faster.high:.2f}",
        *(f"{outcome.over[name].median:.2f}x" if name in outcome.over else "" for name in _others(family)),
        f"{limit.median:.2f}x" if limit else "",
        *(_noted(family, outcome.tallies.get(name, {})) for name in _tallies(family)),
        verdicts(result),
    ]


def _others(family: ModuleType) -> list[str]:
    """The contenders that ours is compared with besides numpy.memmap and the limit."""
    return [name for name in family.CONTENDERS if name not in (OURS, NUMPY, LIMIT)]


def _tallies(family: ModuleType) -> tuple[str, ...]:
    return getattr(family, "TALLIES", ())


def _noted(family: ModuleType, largest: dict[str, float]) -> str:
    """The largest that was noted for each contender, in the order of the table."""
    return " / ".join(f"{largest[name]:.3g}" if name in largest else "-" for name in family.CONTENDERS if largest)


def line(cells: list[str]) -> str:
    """Lay cells out for the terminal."""
    return "  ".join([cells[0].ljust(CASE_WIDTH), *(cell.ljust(WIDTH) for cell in cells[1:])]).rstrip()


def summary(results: list[Result]) -> str:
    """Say how many cases reach their bars, and which do not."""
    missed = [result for result in results if not result.is_reached]
    text = f"{len(results) - len(missed)} of {len(results)} cases reach their bars"
    for is_again, how in ((True, "below them, also when measured again for longer"), (False, "below them")):
        if names := [result.case.name for result in missed if (result.case.again > 1) == is_again]:
            text += f"; {how}: {', '.join(names)}"
    return f"{text}."


def save(
    folder: str, family: ModuleType, results: list[Result], notes: list[Note], machine: dict[str, str], command: str
) -> None:
    """Write ``<family>.json`` and ``<family>.md`` into the folder."""
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, name_of(family))
    facts = {
        "family": name_of(family),
        "command": command,
        "machine": machine,
        "notes": [note.text for note in notes],
        "cases": [result.facts() for result in results],
    }
    with open(f"{base}.json", "w") as file:
        json.dump(facts, file, indent=1)
        file.write("\n")
    with open(f"{base}.md", "w") as file:
        file.write(_markdown(family, results, notes, machine, command))


def _markdown(
    family: ModuleType, results: list[Result], notes: list[Note], machine: dict[str, str], command: str
) -> str:
    head = header(family)
    rows = [row(family, result) for result in results]
    table = [head, ["---"] * len(head), *([f"`{name}`", *cells] for name, *cells in rows)]
    lines = [
        f"# {family.TITLE}",
        "",
        f"{summary(results)} Measured by `{command}`.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        *(f"- {note.text}" for note in notes),
        "",
        f"{LEGEND} {family.LIMIT_IS}",
        "",
        *(f"| {' | '.join(cells)} |" for cells in table),
    ]
    return "\n".join(lines) + "\n"
