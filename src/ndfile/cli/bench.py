"""`ndfile bench`: what a disk and a file give."""

from __future__ import annotations

import os
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import ndfile as nf
from ndfile.cli import on_disk, progress, target
from ndfile.cli.output import Output, add_json
from ndfile.cli.trials import Place, Trial, UnprovenError, drop, trial, warm
from ndfile.files.memory import available_nbytes
from ndfile.formats import Contents
from ndfile.reading import chosen
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ndfile.cli.progress import Bars
    from ndfile.formats import Member

NAME = "bench"
HELP = "measure what a file gives: random rows and a scan, cold and warm"

EPILOG = """\
examples:
  ndfile bench recording.npy
  ndfile bench weights.safetensors --key layer0/kernel --json

It takes about ten seconds and never writes to the file. For the cold runs the
file's clean pages are dropped from the page cache, again and again: whoever
else reads it has to read it anew. Before each of them it is proven that
nothing of it is in memory.
"""

OURS, NUMPYS = "ndfile", "numpy.memmap"

# A run takes about a second: what a machine can do in that is measured first, on as little as this.
RUN_S = 1.0
PROBE_ROWS, PROBE_NBYTES = 16, 16 << 20
LEAST_ROWS, MOST_ROWS = 32, 4096
MOST_GATHERED_NBYTES = 64 << 20
LEAST_SCANNED_NBYTES, MOST_SCANNED_NBYTES = 16 << 20, 1 << 30

# Of each kind, as many runs as go into so many seconds.
MOST_ROUNDS, ROUNDS_S = 5, 1.5

# Rows that are longer are no rows to pick from: pieces of a usual length are picked instead.
MOST_ROW_NBYTES, USUAL_NBYTES = 1 << 20, 64 << 10


class Result(NamedTuple):
    """What a contender has made of a case."""

    case: str
    state: str
    contender: str
    seconds: float
    nbytes: int
    read_nbytes: int | None
    rounds: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    progress.add_arguments(parser)
    add_json(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    about = nf.info(arguments.file, format=arguments.format, **target.hints_of(arguments))
    member = chosen(Contents(about.members, about.is_archive), about.path, arguments.key)
    if member.offset is None:
        target.array_of(arguments)  # raises what there is to say
    with progress.shown(arguments, f"bench {os.path.basename(arguments.file)}") as show:
        bench = _Bench(str(about.path), member, show)
        bench.run()
    output = Output()
    if arguments.json:
        output.json(bench.document())
        return 0
    name = target.named(os.path.basename(arguments.file))
    output.line(f"{name}  {target.typed(member.dtype)} {member.shape}", "bold")
    bench.write(output)
    return 0


class _Bench:
    """All runs on one array."""

    def __init__(self, path: str, member: Member, show: Bars | None) -> None:
        if not member.nbytes or not member.shape:
            raise nf.LayoutError("an array without rows has nothing to measure", "Choose another one.")
        assert member.offset is not None
        self._place = Place(path, member.offset, member.nbytes)
        self._dtype, self._shape = _as_rows(member)
        self._random = np.random.default_rng()
        self._show = show
        self.rows = min(self._shape[0], MOST_ROWS)
        self.row_nbytes = member.nbytes // self._shape[0] if self._dtype == member.dtype else USUAL_NBYTES
        self.scanned = self._place
        self.results: list[Result] = []
        self.left_out: list[str] = []

    def run(self) -> None:
        """Measure everything, what cannot be proven left out."""
        self._choose_sizes()
        cases = [
            ("rows", "cold", partial(drop, self._place), self._gathers(self._shape[0])),
            ("rows", "warm", partial(warm, self.scanned), self._gathers(self._rows_scanned())),
            ("scan", "cold", partial(drop, self._place), self._scans()),
            ("scan", "warm", partial(warm, self.scanned), self._scans()),
        ]
        for number, (case, state, prepare, acts) in enumerate(cases):
            if self._show is not None:
                self._show(number * self.scanned.nbytes, len(cases) * self.scanned.nbytes)
            try:
                self.results += self._rounds(case, state, prepare, acts)
            except UnprovenError as error:
                self.left_out.append(f"{case}, {state}: left out, {error}")

    def _rounds(
        self, case: str, state: str, prepare: Callable[[], None], acts: dict[str, Iterator[Callable[[], Any]]]
    ) -> list[Result]:
        nbytes = self.rows * self.row_nbytes if case != "scan" else self.scanned.nbytes
        until_s = time.monotonic() + ROUNDS_S
        found: dict[str, list[Trial]] = {contender: [] for contender in acts}
        for number in range(MOST_ROUNDS):
            # Who is first takes turns.
            for contender in sorted(acts, reverse=number % 2 == 1):
                prepare()
                found[contender].append(trial(next(acts[contender]), nbytes if state == "cold" else 0))
            if time.monotonic() > until_s:
                break
        return [_result(case, state, contender, nbytes, trials) for contender, trials in found.items()]

    def _choose_sizes(self) -> None:
        """As many rows, and as much of the file, as slow disks can give in a second."""
        rows = min(self.rows, PROBE_ROWS)
        try:
            drop(self._place)
            rows_s = trial(next(self._gathers(self._shape[0], rows)[NUMPYS])).seconds
            drop(self._place)
        except UnprovenError:
            rows_s = 0.0
        most = min(self.rows, max(MOST_GATHERED_NBYTES // self.row_nbytes, 1))
        probe = self._place._replace(nbytes=min(self._place.nbytes, PROBE_NBYTES))
        taken_s = trial(partial(_read, probe)).seconds
        nbytes = min(int(probe.nbytes * RUN_S / max(taken_s, 1e-6)), MOST_SCANNED_NBYTES, available_nbytes() // 4)
        self.scanned = self._place._replace(nbytes=min(max(nbytes, LEAST_SCANNED_NBYTES), self._place.nbytes))
        if self.scanned != self._place:  # no number of rows takes longer than all of it
            most = min(most, max(int(rows * RUN_S / max(rows_s, 1e-6)), LEAST_ROWS))
        self.rows = most

    def _rows_scanned(self) -> int:
        return max(self.scanned.nbytes // self.row_nbytes, 1)

    def _gathers(self, among: int, rows: int | None = None) -> dict[str, Iterator[Callable[[], Any]]]:
        def acts(memmap: Any) -> Iterator[Callable[[], Any]]:
            while True:
                # Others each time: a device may remember those before.
                count = min(self.rows if rows is None else rows, among)
                index = self._random.choice(among, count, replace=False)
                yield partial(_gather, memmap, self._place, self._dtype, self._shape, index)

        return {OURS: acts(nf.memmap), NUMPYS: acts(np.memmap)}

    def _scans(self) -> dict[str, Iterator[Callable[[], Any]]]:
        def acts(memmap: Any) -> Iterator[Callable[[], Any]]:
            while True:
                yield partial(_scan, memmap, self.scanned)

        return {OURS: acts(nf.memmap), NUMPYS: acts(np.memmap)}

    def write(self, output: Output) -> None:
        """Write the results as a table."""
        on = on_disk.file_system(self._place.path)
        output.line(f"{in_words(self._place.nbytes)}{f' on {on}' if on else ''}")
        output.line(
            f"rows: {self.rows:,} at random, of {in_words(self.row_nbytes)}; scan: {in_words(self.scanned.nbytes)}"
        )
        if self.results:
            output.line()
            rows = [_row(one, self._ratio(one)) for one in self.results]
            output.table(("", "", "time", "MB/s", "read", "faster"), rows, left=(0, 1))
        if self.left_out:
            output.line()
        for text in self.left_out:
            output.line(text)

    def _ratio(self, one: Result) -> float | None:
        """How many times as fast as numpy.memmap ours is."""
        if one.contender != OURS:
            return None
        return next(other.seconds / one.seconds for other in self.results if other[:3] == (one.case, one.state, NUMPYS))

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "path": self._place.path,
            "file_system": on_disk.file_system(self._place.path),
            "nbytes": self._place.nbytes,
            "rows": self.rows,
            "row_nbytes": self.row_nbytes,
            "scanned_nbytes": self.scanned.nbytes,
            "results": [
                {**one._asdict(), "mb_per_s": one.nbytes / one.seconds / 1e6, "times_as_fast": self._ratio(one)}
                for one in self.results
            ],
            "left_out": self.left_out,
        }


def _as_rows(member: Member) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The array with its rows one after the other in the file: of order F, these are its last index's."""
    shape = member.shape[::-1] if member.order == "F" else member.shape
    if member.nbytes // shape[0] <= MOST_ROW_NBYTES:
        return member.dtype, shape
    return np.dtype(np.uint8), (member.nbytes // USUAL_NBYTES, USUAL_NBYTES)


def _gather(memmap: Any, place: Place, dtype: np.dtype[Any], shape: tuple[int, ...], index: np.ndarray) -> Any:
    array = memmap(place.path, dtype, "r", place.offset, shape)
    return array, array[index]


def _scan(memmap: Any, place: Place) -> Any:
    array = memmap(place.path, np.uint8, "r", place.offset, place.nbytes)
    return array, array.max()


def _read(place: Place) -> None:
    fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.pread(fd, place.nbytes, place.offset)
    finally:
        os.close(fd)


def _result(case: str, state: str, contender: str, nbytes: int, trials: list[Trial]) -> Result:
    seconds = statistics.median(one.seconds for one in trials)
    read = [one.read_nbytes for one in trials if one.read_nbytes is not None]
    return Result(case, state, contender, seconds, nbytes, int(statistics.median(read)) if read else None, len(trials))


def _row(one: Result, ratio: float | None) -> tuple[str, ...]:
    is_first = one.contender == OURS
    return (
        f"{one.case}, {one.state}" if is_first else "",
        one.contender,
        _time(one.seconds),
        f"{one.nbytes / one.seconds / 1e6:.3g}"
        if one.nbytes / one.seconds < 1e9
        else f"{one.nbytes / one.seconds / 1e6:,.0f}",
        "-" if one.read_nbytes is None else in_words(one.read_nbytes) if one.read_nbytes else "0",
        "" if ratio is None else f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x",
    )


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.2g} us"
