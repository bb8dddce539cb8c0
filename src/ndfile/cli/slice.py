"""`ndfile slice`: any part of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndfile.cli import items, target
from ndfile.cli.output import Output
from ndfile.cli.selection import index_of, spelled

if TYPE_CHECKING:
    import argparse

NAME = "slice"
HELP = "print a part, given as an index"

EPILOG = """\
examples:
  ndfile slice recording.npy '1000:1010,::4'
  ndfile slice images.npy '0,...,-1' --full
  ndfile slice recording.npy -1000: --csv > last.csv

INDEX is what would stand in the brackets: numbers, slices and '...', from the
end where negative. Of what is long, CSV and JSON are written a block at a
time.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("index", type=index_of, metavar="INDEX", help="such as '10:20,::4'")
    items.add_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    array = target.array_of(arguments)
    try:
        values = array[arguments.index]
    except IndexError as error:
        raise IndexError(f"[{spelled(arguments.index)}] of an array of shape {array.shape}: {error}") from None
    items.write(Output(), values, arguments)
    return 0
