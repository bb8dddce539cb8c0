"""`ndfile view`: a picture of an array, in the terminal or as a PNG file."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from typing import Any

from ndfile.cli import target
from ndfile.cli.output import Output
from ndfile.cli.picture_files import check_target, write_picture
from ndfile.cli.selection import index_of
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.picture import Box
from ndfile.pictures.shades import COLOUR_MAPS
from ndfile.pictures.subject import KINDS
from ndfile.pictures.terminal import DEPTHS, box_of, depth_of, drawn_in_characters

NAME = "view"
HELP = "show a picture of an array"

EPILOG = """\
examples:
  ndfile view volume.nii
  ndfile view stack.npy --slice 100 -o slice.png --cmap viridis
  ndfile view samples.dat --dtype int16 --shape 1200000,384 --slice ':,7'

An array of any size is shown from some of its items; the line above the picture
says which. What has more than two axes is shown in the middle of the others, a
last axis of 3 or 4 as colours, one axis as a line.
"""

# Pixels of a PNG file, and the most that may be asked for.
PNG_SIZE = (800, 1000)
MOST_PIXELS = 10_000

# Lines of a terminal that are left for the title and the next prompt.
OTHER_LINES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("-o", "--output", metavar="PNG", help="write a PNG file, or '-' for the standard output")
    parser.add_argument("--slice", dest="index", type=index_of, metavar="INDEX", help="look at this, such as '5,::2'")
    parser.add_argument("--field", metavar="NAME", help="of a structured array; by default the first one of numbers")
    parser.add_argument("--as", dest="kind", choices=KINDS, default="auto", help="what to take the array for")
    parser.add_argument(
        "--range", dest="extent", nargs=2, type=float, metavar=("LOW", "HIGH"), help="the ends of the scale"
    )
    parser.add_argument("--cmap", choices=list(COLOUR_MAPS), default="grey", help="colours of the scale")
    parser.add_argument(
        "--width", type=_pixels, metavar="N", help="at most so many pixels, or characters in a terminal"
    )
    parser.add_argument("--height", type=_pixels, metavar="N", help="at most so many pixels, or lines in a terminal")
    parser.add_argument("--depth", choices=DEPTHS, help="what the terminal can show; by default as it says itself")
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    if arguments.output is not None:
        check_target(arguments.output, arguments.file)
    subject = subject_of(target.array_of(arguments), arguments.index, arguments.field, arguments.kind)
    ways: dict[str, Any] = {"extent": arguments.extent, "colours": arguments.cmap, "name": target.called(arguments)}
    if arguments.output is not None:
        box = Box(arguments.height or PNG_SIZE[0], arguments.width or PNG_SIZE[1])
        write_picture(pictured(subject, box, **ways), arguments.output)
        return 0
    output = Output()
    depth = arguments.depth or depth_of(os.environ, getattr(sys.stdout, "encoding", "") or "", output.is_terminal)
    size = shutil.get_terminal_size()
    columns, lines = arguments.width or size.columns, arguments.height or max(size.lines - OTHER_LINES, 1)
    picture = pictured(subject, box_of(columns, lines, depth, subject.kind == "line"), **ways)
    output.line(picture.title)
    if subject.items.size:
        output.line(drawn_in_characters(picture, depth))
    return 0


def _pixels(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 to {MOST_PIXELS}")
    return int(text)
