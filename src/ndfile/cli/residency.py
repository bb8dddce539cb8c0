"""`ndfile residency`: which parts of a file are in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ndfile as nf
from ndfile.cli import target
from ndfile.cli.charts import occupancy, percent, residency_bar, residency_in_words
from ndfile.cli.output import Output, add_json
from ndfile.cli.picture_files import check_target, write_picture
from ndfile.pictures import residency_picture
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ndfile.hints import Residency

NAME = "residency"
HELP = "show which parts of a file are in memory"

EPILOG = """\
examples:
  ndfile residency recording.npy
  ndfile residency weights.safetensors
  ndfile residency recording.npy --png resident.png
  ndfile residency recording.npy --parts 1000 --json

In memory is what is in the page cache, whoever brought it there. Nothing is
read.
"""

# In a table of members, what each has for its bar; and in JSON, the parts of each.
SMALL_WIDTH = 16
PARTS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("--parts", type=int, metavar="N", help=f"parts that --json tells apart, by default {PARTS}")
    parser.add_argument("--png", metavar="PNG", help="write a picture, or with '-' write it to the standard output")
    add_json(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    if arguments.png is not None:
        check_target(arguments.png, arguments.file)
        write_picture(residency_picture(target.array_of(arguments), target.called(arguments)), arguments.png)
        return 0
    found = target.opened(arguments)
    output = Output()
    if isinstance(found, nf.Archive):
        _run_archive(output, arguments, found)
    elif arguments.json:
        residency = found.residency(PARTS if arguments.parts is None else arguments.parts)
        output.json({"path": str(found.filename), "key": arguments.key, **_document(residency)})
    else:
        _show(output, arguments, found)
    return 0


def _show(output: Output, arguments: argparse.Namespace, array: Any) -> None:
    residency = array.residency(output.width - 2)
    output.line(target.title(arguments, array), "bold")
    output.line(residency_in_words(residency))
    output.line(residency_bar(output, residency.parts, output.width))
    if array.ndim and array.size:
        # Bytes in order F go by the last index.
        is_fortran = array.ndim > 1 and array.flags.fnc
        what, end = ("columns", array.shape[-1]) if is_fortran else ("rows", array.shape[0])
        first, last = f"{what[:-1]} 0", f"{end:,} {what}"
        output.line(f"{first}{last.rjust(max(output.width - len(first), len(last) + 1))}", "dim")


def _run_archive(output: Output, arguments: argparse.Namespace, archive: nf.Archive) -> None:
    found = _members(archive, SMALL_WIDTH if arguments.parts is None else arguments.parts)
    if arguments.json:
        members = {name: None if one is None else _document(one) for name, one in found.items()}
        output.json({"path": str(archive.filename), "members": members})
        return
    rows = [_row(output, name, one) for name, one in found.items()]
    output.line(f"{target.named(arguments.file)}  {archive.format}, {len(archive):,} members", "bold")
    output.table(("member", "size", "in memory", ""), rows, left=(0, 3), optional=1)


def _members(archive: nf.Archive, parts: int) -> Mapping[str, Residency | None]:
    return {name: None if one is None else one.residency(parts) for name, one in target.members_of(archive)}


def _row(output: Output, name: str, found: Residency | None) -> tuple[str, str, str, str]:
    if found is None:
        return target.named(name), "-", "not mappable", ""
    bar = occupancy(output, found.parts, SMALL_WIDTH)
    return target.named(name), in_words(found.nbytes), percent(found.share), f"|{bar}|"


def _document(found: Residency) -> dict[str, Any]:
    return {
        "nbytes": found.nbytes,
        "resident_nbytes": found.resident_nbytes,
        "dirty_nbytes": found.dirty_nbytes,
        "share": found.share,
        "parts": list(found.parts),
    }
