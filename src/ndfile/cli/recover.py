"""`ndfile recover`: complete or discard a commit that was interrupted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import ndfile as nf
from ndfile.cli import target
from ndfile.cli.output import Output, add_json

if TYPE_CHECKING:
    import argparse

NAME = "recover"
HELP = "complete a commit that was interrupted"

EPILOG = """\
examples:
  ndfile recover table.npy
  ndfile recover --copied table-copy.npy

A commit that was interrupted is completed if all of it had reached the
journal, and otherwise discarded: the file is then as it was before. Opening a
file for writing does the same.
"""

ANSWERS = {
    "replayed": "the commit is complete now",
    "discarded": "the commit had not come into effect, and was discarded; the file is as it was",
    None: "nothing to recover",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file with a journal beside it")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--copied", action="store_true", help="the file and its journal were copied together: complete the commit"
    )
    whose.add_argument(
        "--replaced", action="store_true", help="the file is a new one, the journal an old one's: discard it"
    )
    add_json(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    copied = True if arguments.copied else False if arguments.replaced else None
    answer = nf.recover(arguments.file, copied=copied)
    output = Output()
    if arguments.json:
        output.json({"path": os.path.abspath(arguments.file), "answer": answer})
    else:
        output.line(f"{target.named(arguments.file)}: {ANSWERS[answer]}")
    return 0
