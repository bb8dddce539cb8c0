"""`ndfile release`: give back the memory that a file takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndfile.cli import paging

if TYPE_CHECKING:
    import argparse

NAME = "release"
HELP = "give back the memory that a file, or rows of it, takes"

EPILOG = """\
examples:
  ndfile release recording.npy
  ndfile release recording.npy --rows :1000000

No byte is lost: what is used again is read again. Pages that a process has
mapped, and what is not on the disk yet, stay. The exit code is 1 if nothing
could be done.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    paging.add_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    arrays = paging.chosen(arguments)
    _, before_nbytes = paging.resident_nbytes(arrays)
    done = [array.release() for array in arrays]
    return paging.report(arguments, arrays, before_nbytes, all(done))
