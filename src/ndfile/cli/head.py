"""`ndfile head`: the first rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndfile.cli import items, target
from ndfile.cli.output import Output
from ndfile.cli.selection import count

if TYPE_CHECKING:
    import argparse

NAME = "head"
HELP = "print the first rows"

EPILOG = """\
examples:
  ndfile head recording.npy
  ndfile head weights.npz --key bias -n 3
  ndfile head samples.dat --dtype int16 --shape 1200000,384 --csv > first.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("-n", dest="rows", type=count, default=10, metavar="ROWS", help="how many, by default 10")
    items.add_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    array = target.array_of(arguments)
    items.write(Output(), array[: arguments.rows] if array.ndim else array, arguments)
    return 0
