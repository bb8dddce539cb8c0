"""`ndfile follow`: rows as another process appends them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.cli import items, target
from ndfile.cli.output import Output
from ndfile.cli.selection import count
from ndfile.rows import axis_of

if TYPE_CHECKING:
    import argparse

NAME = "follow"
HELP = "print rows as another process appends them"

EPILOG = """\
examples:
  ndfile follow log.npy
  ndfile follow log.npy -n 0 --json | jq .temperature
  ndfile follow log.npy --csv --timeout 60 > new.csv

Ends with Ctrl-C, or after --timeout seconds without news. --json prints a
line of JSON for each row.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument(
        "-n", dest="rows", type=count, default=10, metavar="ROWS", help="so many of the last rows first, by default 10"
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="end after so many seconds without new rows")
    items.add_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    array = target.array_of(arguments)
    news = array.follow(arguments.timeout)  # refuses what cannot grow before anything is printed
    axis = axis_of(array)
    printer = _Printer(arguments)
    there = array.shape[axis]
    if arguments.rows:
        printer.print(_by_rows(array, axis, max(there - arguments.rows, 0)))
    # What was appended meanwhile, before the first look for news.
    for rows in news:
        printer.print(_by_rows(rows, axis))
    return 0


def _by_rows(array: Any, axis: int, start: int = 0) -> np.ndarray:
    return np.moveaxis(np.asarray(array), axis, 0)[start:]


class _Printer:
    """Prints rows, a line each where they fit."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._output = Output()
        self._is_first = True

    def print(self, rows: np.ndarray) -> None:
        """Print rows, and let whoever reads see them at once."""
        if self._arguments.csv:
            items.write_csv(self._output, rows, with_header=self._is_first)
        elif self._arguments.json:
            for row in rows:
                self._output.line(json.dumps(items.as_json(np.asarray(row)), allow_nan=False))
        else:
            for row in rows:
                items.write_text(self._output, np.asarray(row), self._arguments)
        self._is_first = False
        self._output.flush()
