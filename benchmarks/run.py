"""Measure ndfile against numpy.memmap.

``.venv/bin/python benchmarks/run.py [--only FAMILY] [--case TEXT] [--quick] [--save] [--control]``.

A family is a module beside this one, listed in `FAMILIES`. It has

- ``TITLE``: a line,
- ``CONTENDERS``: the names of those that compete, in the table's order,
- ``HEADINGS``: optionally, other headings for some of the contenders' columns,
- ``TALLIES``: optionally, the names of what its runs note besides time, a column each,
- ``header()`` and ``row(result)``: optionally, a table of its own,
- ``NAME``: optionally, another name than the module's,
- ``LIMIT_IS``: a sentence on what the contender ``limit`` does,
- ``cases(folder, quick)``: a generator of `case.Case`, or of `case.Note` where one is left out; it may make files in
  the folder, a temporary one, and removes the large ones.

This is a report and no test: it ends with status 0 whatever came out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

import bounded
import cold_rows
import digests
import drop_in
import formats
import growth
import guard
import libraries
import machine
import opening
import pictures
import report
import scan
import sending
import stats
import warm_rows
import windows
import writing
from case import Note

if TYPE_CHECKING:
    from types import ModuleType

    from case import Result

FAMILIES = (
    drop_in,
    opening,
    scan,
    guard,
    formats,
    digests,
    growth,
    cold_rows,
    warm_rows,
    writing,
    windows,
    bounded,
    stats,
    sending,
    pictures,
    libraries,
)


def measure(family: ModuleType, folder: str, arguments: argparse.Namespace) -> tuple[list[Result], list[Note]]:
    """Run a family's cases one by one and print each as it is done."""
    print(f"\n{family.TITLE}\n{family.LIMIT_IS}\n\n{report.line(report.header(family))}")
    results, notes = [], []
    for case in family.cases(folder, arguments.quick):
        if isinstance(case, Note):
            notes.append(case)
            print(case.text, flush=True)
        elif arguments.case in case.name:
            results.append((case.as_control() if arguments.control else case).measure())
            print(report.line(report.row(family, results[-1])), flush=True)
        del case  # or it would be alive while the family prepares the next one
    print(f"\n{report.summary(results)}")
    return results, notes


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure ndfile against numpy.memmap.")
    parser.add_argument(
        "--only", metavar="FAMILY", choices=[report.name_of(f) for f in FAMILIES], help="one family of cases"
    )
    parser.add_argument("--case", metavar="TEXT", default="", help="only cases with this text in their names")
    parser.add_argument("--quick", action="store_true", help="smaller files")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    parser.add_argument("--control", action="store_true", help="numpy.memmap in ndfile's place too: shows the noise")
    arguments = parser.parse_args()
    if arguments.save and (arguments.case or arguments.control):
        parser.error("--save takes whole families of real results, so neither --case nor --control")

    # The readahead that a family changes is put back, and large files are removed, when the run is ended from outside.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    command = shlex.join([".venv/bin/python", "benchmarks/run.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="ndfile-bench-") as folder:
        facts = machine.facts(folder)
        print(", ".join(f"{name}: {value}" for name, value in facts.items()), report.LEGEND, sep="\n")
        for family in FAMILIES:
            if arguments.only in (None, report.name_of(family)):
                results, notes = measure(family, folder, arguments)
                if arguments.save:
                    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
                    report.save(target, family, results, notes, facts, command)


if __name__ == "__main__":
    main()
