"""The statistics family: one pass over files of 1 GiB (128 MiB with ``--quick``), and some of 2 GiB not in memory.

Every contender maps the same `.npy` file itself and has read it before, so every page is mapped; that the file is in
memory is checked before each case. ndfile is called as NumPy is, which takes all processors, and, as ``1 thread``, by
`nf.compute` with `threads=1`. `tasks` says what people write, `expert` what an expert does, `peers` how the other
libraries are called, `contender` how often everything runs, and `memory` how the extra memory is seen. All results are
compared with the expert's, which are made of float64, or else with NumPy's. Time is wall time.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import report
from case import EXPERT, LIMIT, NUMPY, OURS, Case, Note, Tally, at_most
from cold import warm

from stats import files, peers, tasks, uncached
from stats.contender import MOST_S, Trials
from stats.memory import Watcher
from stats.tasks import OFF, ONE_THREAD, SAME_RESULT, TARGET, best_peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from case import Result

    from stats.tasks import Task

NAME = "statistics"  # which this package cannot be called, for the standard library's would not be found
TITLE = "Statistics: one pass over arrays that are larger than they should be in memory"
CONTENDERS = (OURS, ONE_THREAD, NUMPY, EXPERT, LIMIT, *peers.PEERS)
PEAK, READ = "peak MiB", "read per byte"
TALLIES = (PEAK, OFF, READ)
LIMIT_IS = (
    "The limit is reading the file's memory once by all threads, sums of 8-byte words; where a file is written, adding "
    "the two arrays into it; for cold data, reading the file into buffers by all threads. The expert goes by chunks "
    "that stay in the cache, by all threads. Peers are called as they document it, bottleneck and numbagg by their nan "
    "variants; blosc2 has copied the file into a compressed array before. `peak MiB` is the largest "
    "growth of the process's anonymous memory (`RssAnon`, looked at every ms) during opening and one run, the result "
    "included, pages of files not: in a new process for ndfile, numpy.memmap and the expert. No contender is timed for "
    f"more than {MOST_S:g} s in a case; then its times so far stand for the rounds that are left, and a run that takes "
    "longer is the only one. A peer whose result is not the same is no best peer."
)

ROUNDS = 5
NBYTES, QUICK_NBYTES = 1 << 30, 1 << 27
MOST_PEAK_MIB, AIMED_PEAK_MIB = 64, 32


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    modules = peers.found()
    if missing := [name for name in peers.PEERS if name not in modules]:
        yield Note(f"statistics, not installed: {', '.join(missing)}")
    wanted = QUICK_NBYTES if quick else NBYTES
    nbytes = files.fitting(folder, wanted)
    if nbytes < wanted:
        yield Note(
            f"statistics: files of {nbytes >> 20} MiB instead of {wanted >> 20}, for memory or disk have no room"
        )
    with Watcher() as watcher, contextlib.ExitStack() as stack:
        kind = ""
        for task in tasks.all_tasks():
            if task.kind != kind:
                stack.close()
                kind = task.kind
                _write(folder, kind, nbytes, stack)
            yield _case(task, folder, modules, watcher)
    yield from uncached.cases(folder, quick)


def _write(folder: str, kind: str, nbytes: int, stack: contextlib.ExitStack) -> None:
    files.write(folder, kind, nbytes)
    stack.callback(files.remove, folder, kind)
    if kind == "f4":
        files.write_zeros(folder, TARGET, kind, 2)
        stack.callback(files.remove, folder, TARGET)


def _case(task: Task, folder: str, modules: dict[str, object], watcher: Watcher) -> Case | Note:
    sides = task.sides(modules)
    if OURS not in sides:
        return Note(f"{task.name}: left out, this ndfile has no such function")
    warm(files.path_of(folder, task.kind))
    peak, off = Tally(PEAK), Tally(OFF)
    trials = Trials(task, folder, watcher, peak, off)
    names = sorted(sides, key=(EXPERT, NUMPY, *sides).index)  # what the others are compared with comes first
    runners = {name: trials.runner(name, sides[name]) for name in names}
    bars, aims = task.bars(runners)
    result_mib = task.result_nbytes(folder) >> 20
    bars = (*bars, SAME_RESULT, at_most(peak, MOST_PEAK_MIB + result_mib))
    aims = (*aims, at_most(peak, AIMED_PEAK_MIB + result_mib))
    return Case(task.name, runners, bars, aims, ROUNDS, (peak, off), again=1, nbytes=task.nbytes(folder))


def header() -> list[str]:
    """Return the names of the table's columns."""
    return [
        "case",
        OURS,
        ONE_THREAD,
        "GB/s",
        NUMPY,
        EXPERT,
        LIMIT,
        "faster",
        "quartiles",
        "over expert",
        "limit's speed",
        "over best peer",
        "peers",
        "peak MiB",
        f"of {NUMPY} / expert / best peer",
        "other results",
        "read per byte, each",
        "bar",
    ]


def row(result: Result) -> list[str]:
    """Return the cells of a result."""
    outcome, peaks = result.outcome, result.outcome.tallies.get(PEAK, {})
    seconds, faster, limit, best = outcome.seconds, outcome.times_faster, outcome.times_limit, best_peer(outcome)
    others = [peaks.get(name) for name in (NUMPY, EXPERT, best[0] if best else "")]
    read = outcome.tallies.get(READ, {})
    peers_s = sorted((seconds[name].median, name) for name in peers.PEERS if name in seconds)
    return [
        result.case.name,
        *(_duration(result, name) for name in (OURS, ONE_THREAD)),
        f"{result.case.nbytes / seconds[OURS].median / 1e9:.3g}",
        *(_duration(result, name) for name in (NUMPY, EXPERT, LIMIT)),
        f"{faster.median:.2f}x{'~' if outcome.is_noisy else ''}",
        f"{faster.low:.2f} to {faster.high:.2f}",
        f"{outcome.over[EXPERT].median:.2f}x" if EXPERT in outcome.over else "",
        f"{100 / limit.median:.0f} %" if limit else "",
        f"{best[1].median:.2f}x" if best else "",
        ", ".join(f"{name} {report.duration(median)}" for median, name in peers_s),
        f"{peaks[OURS]:.3g}" if OURS in peaks else "",
        " / ".join("-" if peak is None else f"{peak:.3g}" for peak in others) if peaks else "",
        ", ".join(f"{name} off by {off:.1g}" for name, off in outcome.tallies.get(OFF, {}).items() if off),
        " / ".join(f"{read[name]:.3g}" for name in (OURS, NUMPY, EXPERT, LIMIT) if name in read),
        report.verdicts(result),
    ]


def _duration(result: Result, name: str) -> str:
    found = result.outcome.seconds.get(name)
    return report.duration(found.median) if found else ""
