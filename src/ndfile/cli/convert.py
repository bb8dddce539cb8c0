"""`ndfile convert`: copy the arrays of one file into another format."""

from __future__ import annotations

import os
from errno import EEXIST
from typing import TYPE_CHECKING

import ndfile as nf
from ndfile.cli import progress, target
from ndfile.cli.output import Output, add_json
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import argparse

NAME = "convert"
HELP = "copy the arrays of a file into another format"

EPILOG = """\
examples:
  ndfile convert packed.npz plain.npz
  ndfile convert recording.h5 recording.npy --key traces/raw
  ndfile convert samples.dat samples.npy --dtype int16 --shape 1200000,384

The destination has its name when it is complete and on the disk. Compressed
and chunked sources are decoded.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="SOURCE", help="whatever ndfile can open or decode")
    parser.add_argument("destination", metavar="DESTINATION", help="its suffix tells the format")
    parser.add_argument("--key", metavar="KEY", help="convert this member alone")
    parser.add_argument("--to", metavar="NAME", help="the format of the destination, whatever its suffix")
    parser.add_argument("--overwrite", action="store_true", help="put the new file in the place of an existing one")
    parser.add_argument(
        "--no-sync", dest="sync", action="store_false", help="do not wait until the new file would survive a power loss"
    )
    progress.add_arguments(parser)
    add_json(parser)
    target.add_raw_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    if not arguments.overwrite and os.path.lexists(arguments.destination):
        text = "There is a file already, which was left as it is. Pass --overwrite to replace it"
        raise FileExistsError(EEXIST, text, arguments.destination)
    with progress.shown(arguments, f"convert {os.path.basename(arguments.file)}") as show:
        nf.convert(
            arguments.file,
            arguments.destination,
            key=arguments.key,
            format=arguments.to,
            sync=arguments.sync,
            progress=show,
            **target.hints_of(arguments),
        )
    made = nf.info(arguments.destination, format=arguments.to)
    output = Output()
    if arguments.json:
        output.json({"source": os.path.abspath(arguments.file), "destination": made.to_dict()})
        return 0
    count = len(made.members)
    name = target.named(arguments.destination)
    output.line(f"{name}: {made.format}, {count:,} array{'s'[: count != 1]}, {in_words(made.size)}")
    return 0
