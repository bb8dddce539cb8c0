"""What is asked of whole arrays, and how users of ndfile, users of `numpy.memmap` and an expert write it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Bar, Outcome, faster, of_limits_speed

import ndfile as nf
from stats import expert, files
from stats.peers import PEERS, SIMPLE, Operation, peers_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from timing import Quartiles

    Array = np.ndarray[Any, Any]

ONE_THREAD = "1 thread"
OFF = "off by"  # the tally of what results differ by
PERCENTS = [1, 50, 99]
WIDE, NARROW = 1000, 4
TARGET = "target"  # the file that is written to


@dataclass(frozen=True, slots=True)
class Side:
    """What one contender does: makes its object of files in a folder, and acts on it."""

    open: Callable[[str], Any]
    act: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the table."""

    operation: Operation
    kind: str
    times: float | None  # the bar and the aim: over numpy.memmap
    aimed: float | None = None
    columns: int = 0  # 0: one dimension
    order: str = "C"
    is_near_limit: float = 0.0  # the aim: this part of the limit's speed
    part: int = 1  # of the file's items

    @property
    def name(self) -> str:
        operation, shape = self.operation, ""
        if self.columns:
            shape = f" of (N, {self.columns}) in {self.order} order, axis {operation.axis}"
        bins = f" of {operation.bins} bins" if operation.bins else ""
        return f"{TITLES.get(operation.name, operation.name)}{bins}, {np.dtype(self.kind).name}{shape}"

    def nbytes(self, folder: str) -> int:
        """What has to be read."""
        return os.path.getsize(files.path_of(folder, self.kind)) // self.part

    def result_nbytes(self, folder: str) -> int:
        """What the result takes, where that is much."""
        if self.operation.name in ("sort", "unique"):
            return self.nbytes(folder)
        is_of_rows = self.operation.axis == -1
        return self.nbytes(folder) // self.columns if is_of_rows else 0

    def bars(self, contenders: Any) -> tuple[tuple[Bar, ...], tuple[Bar, ...]]:
        """Return what to reach, and what is aimed at, in time."""
        reach = [faster(self.times)] if self.times else []
        aims = [faster(self.aimed)] if self.aimed else []
        if self.is_near_limit:
            aims.append(of_limits_speed(self.is_near_limit))
        if self.operation.name == "expression" and "numexpr" in contenders:
            return (faster(1.0, "numexpr"),), (faster(1.3, "numexpr"),)
        if any(name in contenders for name in PEERS):
            reach.append(_over_best_peer(1))
            aims.append(_over_best_peer(2))
        return tuple(reach), tuple(aims)

    def sides(self, modules: dict[str, Any]) -> dict[str, Side]:
        """Return the contenders; ours are not among them where this ndfile has no such function."""
        ours, theirs = partial(_opened, self, _ours), partial(_opened, self, _numpys)
        sides = {name: Side(ours, act) for name, act in _our_acts(self.operation).items()}
        sides[NUMPY] = Side(theirs, _people(self.operation))
        if act := _expert(self.operation):
            sides[EXPERT] = Side(theirs, act)
        if self.operation.name not in ("sort", "unique"):
            limit = _write_sum if self.operation.name in ("hypotenuse", "expression") else read
            sides[LIMIT] = Side(theirs, limit)
        for name, peer in peers_for(self.operation, self.kind, modules).items():
            sides[name] = Side(lambda folder, of=peer.of: of(theirs(folder)), peer.act)
        return sides


TITLES = {
    "describe": "describe against five calls",
    "percentile": "percentile [1, 50, 99]",
    "hypotenuse": "map_blocks(sqrt(a*a + b*b)) into a file",
    "expression": "map_blocks('sqrt(a*a + b*b)') into a file",
}


def best_peer(outcome: Outcome) -> tuple[str, Quartiles] | None:
    """Return the fastest peer whose result is right, and its time over ours."""
    off = outcome.tallies.get(OFF, {})
    right = ((name, over) for name, over in outcome.over.items() if name in PEERS and not off.get(name))
    return min(right, key=lambda found: found[1].median, default=None)


def _over_best_peer(times: float) -> Bar:
    def is_met(outcome: Outcome) -> bool:
        best = best_peer(outcome)
        return best is None or best[1].median >= times

    return Bar(f">= {times:g}x over best peer", is_met)


SAME_RESULT = Bar("same result", lambda outcome: outcome.tallies[OFF].get(OURS) == 0)


def all_tasks() -> Iterator[Task]:
    """Yield the tasks, those on the same file one after the other."""
    for kind in ("f8", "f4"):
        yield Task(Operation("std"), kind, 5, 8, is_near_limit=0.85)
        for name in ("sum", "min" if kind == "f8" else "max"):
            yield Task(Operation(name), kind, 0.97, is_near_limit=1.0)
        for bins in (100, 256):
            yield Task(Operation("histogram", bins=bins), kind, 7, 15)
        yield Task(Operation("percentile"), kind, 5, 12)
        yield Task(Operation("describe"), kind, 5, 10)
    yield from _along_axes("f4")
    for name in ("hypotenuse", "expression"):
        yield Task(Operation(name), "f4", 1.5, 3, part=2)
    for name in ("sort", "unique"):
        yield Task(Operation(name), "f4", None, part=8)
    for kind, (times, aimed), (mean_times, mean_aimed) in (("u1", (20, 50), (4, 8)), ("i2", (8, 15), (2.5, 5))):
        yield Task(Operation("std"), kind, times, aimed)
        yield Task(Operation("mean"), kind, mean_times, mean_aimed)
        yield Task(Operation("sum"), kind, mean_times, mean_aimed)
    for bins in (100, 256):
        yield Task(Operation("histogram", bins=bins), "u1", 7, 15)
    yield Task(Operation("percentile"), "u1", 10, 30)


def _along_axes(kind: str) -> Iterator[Task]:
    for columns in (WIDE, NARROW):
        for order in ("C", "F"):
            for axis in (0, -1):
                yield Task(Operation("std", axis), kind, 4, 8, columns, order)
                yield Task(Operation("mean", axis), kind, 0.97, None, columns, order)


def _ours(path: str, mode: str) -> Any:
    return nf.open(path, mode)


def _numpys(path: str, mode: str) -> Any:
    return np.load(path, mmap_mode=mode)  # type: ignore[arg-type]


def _opened(task: Task, opener: Callable[[str, str], Any], folder: str) -> Any:
    """Open a task's file, or files, in a folder and lay its items out."""
    a = opener(files.path_of(folder, task.kind), "r")
    if task.operation.name in ("hypotenuse", "expression"):
        return a[: a.size // 2], a[a.size // 2 :], opener(files.path_of(folder, TARGET), "r+")
    a = a[: a.size // task.part]
    if not task.columns:
        return a
    rows = a.size // task.columns
    a = a[: rows * task.columns]
    return a.reshape(rows, task.columns) if task.order == "C" else a.reshape(task.columns, rows).T


def _our_acts(operation: Operation) -> dict[str, Callable[[Any], Any]]:
    name, options = operation.name, _options(operation)
    streaming = getattr(nf.compute, name, None) if hasattr(nf, "compute") else None
    if name in (*SIMPLE, "histogram", "percentile"):
        acts = {OURS: lambda a: getattr(np, name)(a, **options)}
        return acts | ({ONE_THREAD: lambda a: streaming(a, **options, threads=1)} if streaming else {})
    ours = getattr(nf, "map_blocks" if name in ("hypotenuse", "expression") else name, None)
    if ours is None:
        return {}
    if name == "hypotenuse":
        return _by_threads(lambda o, **more: ours(lambda a, b: np.sqrt(a * a + b * b), o[0], o[1], out=o[2], **more))
    if name == "expression":
        return {OURS: lambda o: ours("sqrt(a*a + b*b)", a=o[0], b=o[1], out=o[2])}  # the threads are numexpr's
    return _by_threads(ours)


def _by_threads(act: Callable[..., Any]) -> dict[str, Callable[[Any], Any]]:
    return {OURS: act, ONE_THREAD: lambda a: act(a, threads=1)}


def _options(operation: Operation) -> dict[str, Any]:
    if operation.name == "histogram":
        return {"bins": operation.bins}
    return {"q": PERCENTS} if operation.name == "percentile" else {"axis": operation.axis}


def _people(operation: Operation) -> Callable[[Any], Any]:
    def hypotenuse(operands: Any) -> None:
        a, b, c = operands
        c[...] = np.sqrt(a * a + b * b)

    def describe(a: Any) -> Any:
        return np.count_nonzero(np.isnan(a)), np.mean(a), np.std(a), np.min(a), np.max(a)

    acts = {
        "hypotenuse": hypotenuse,
        "expression": hypotenuse,
        "describe": describe,
        "sort": np.sort,
        "unique": np.unique,
    }
    return acts.get(operation.name) or (lambda a: getattr(np, operation.name)(a, **_options(operation)))


def _expert(operation: Operation) -> Callable[[Any], Any] | None:
    acts: dict[str, Callable[[Any], Any]] = {
        "std": lambda a: expert.std(a, operation.axis),
        "mean": lambda a: expert.mean(a, operation.axis),
        "sum": expert.total,
        "min": expert.least,
        "max": expert.most,
        "histogram": lambda a: expert.histogram(a, operation.bins),
        "percentile": lambda a: expert.percentile(a, PERCENTS),
        "describe": expert.describe,
        "hypotenuse": expert.hypotenuse,
    }
    return acts.get(operation.name)


def read(a: Array) -> None:
    """Read every byte of an array, as fast as all threads can: sums of words."""
    a = np.asarray(a)
    flat = a.ravel(order="K")
    words = flat[: flat.size // 8 * 8].view("u8")
    expert.in_threads(np.add.reduce, expert.cut(words, 1 << 20))


def _write_sum(operands: tuple[Array, Array, Array]) -> None:
    """Read both arrays and write the third: the least arithmetic that does."""
    parts = zip(*(expert.cut(np.asarray(operand), expert.CHUNK_ITEMS) for operand in operands), strict=True)
    expert.in_threads(lambda part: np.add(part[0], part[1], out=part[2]), parts)


def digest(operation: Operation, operand: Any, result: Any) -> Array:
    """Return numbers that are the same for the same results, whatever holds them."""
    if operation.name in ("hypotenuse", "expression"):
        result = operand[2]
    elif hasattr(result, "nan_count"):
        result = result.nan_count, result.mean, result.std, result.min, result.max
    elif operation.name == "histogram":
        # Parts of all: a value on an edge that is rounded to the other side makes no other result.
        result = 1 + np.cumsum(result[0]) / np.sum(result[0]), result[1]
    found: list[Any] = []
    for part in result if isinstance(result, tuple) else (result,):
        flat = np.asarray(part).ravel()
        found.extend([[flat.size], flat[:: max(flat.size // 1000, 1)]])
    return np.concatenate(found).astype("f8")
