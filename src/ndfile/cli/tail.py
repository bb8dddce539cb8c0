"""`ndfile tail`: the last rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndfile.cli import items, target
from ndfile.cli.output import Output
from ndfile.cli.selection import count

if TYPE_CHECKING:
    import argparse

NAME = "tail"
HELP = "print the last rows"

EPILOG = """\
examples:
  ndfile tail recording.npy
  ndfile tail log.npy -n 1 --json

'ndfile follow' goes on with the rows that another process appends.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("-n", dest="rows", type=count, default=10, metavar="ROWS", help="how many, by default 10")
    items.add_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    array = target.array_of(arguments)
    items.write(Output(), array[max(len(array) - arguments.rows, 0) :] if array.ndim else array, arguments)
    return 0
