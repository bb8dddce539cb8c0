"""The guard family: what the fault guard costs where nothing faults.

The limit is ndfile itself with the guard off. Turning it on and off is not part of what is timed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from case import LIMIT, NEVER_SLOWER, NUMPY, OURS, Case, near_limit
from timing import Runner, statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Guard: the same with and without it"
CONTENDERS = (OURS, NUMPY, LIMIT)
LIMIT_IS = "The limit is ndfile with the guard off."

SHAPE = (1000, 64)
SCAN_ROUNDS = 15

# What two measurements of the same code may differ by.
NO_COST = near_limit(1.03)


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    path = os.path.join(folder, "rows.dat")
    np.zeros(SHAPE, "float32").tofile(path)
    ours, theirs = nf.memmap(path, "f4", "r", shape=SHAPE), np.memmap(path, "f4", "r", shape=SHAPE)
    for code in ("a[3, 4]", "a[5]", "a[5] + a[6]"):
        yield Case(code, _runners(code, {"a": ours}, {"a": theirs}), bars=(NEVER_SLOWER, NO_COST))

    life = "memmap(path, 'f4', 'r', shape=shape)"
    names = {"path": path, "shape": SHAPE}
    yield Case("open, del: r", _runners(life, names | {"memmap": nf.memmap}, names | {"memmap": np.memmap}))

    large = os.path.join(folder, "scan.dat")
    np.ones((2**28 if quick else 2**30) // 4, "float32").tofile(large)
    ours, theirs = nf.memmap(large, "f4", "r"), np.memmap(large, "f4", "r")
    runners = _runners("a.sum()", {"a": ours}, {"a": theirs})
    yield Case("scan: a.sum()", runners, bars=(NEVER_SLOWER, NO_COST), rounds=SCAN_ROUNDS)


def _runners(code: str, ours: dict[str, object], theirs: dict[str, object]) -> dict[str, Runner]:
    return {OURS: statement(code, ours), NUMPY: statement(code, theirs), LIMIT: _without_guard(statement(code, ours))}


def _without_guard(run: Runner) -> Runner:
    def run_unguarded(count: int) -> float:
        nf.guard(False)
        try:
            return run(count)
        finally:
            nf.guard(True)

    return run_unguarded
