"""What prefetch and release have in common: the arrays that are meant, and what is in memory before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ndfile as nf
from ndfile.cli import target
from ndfile.cli.output import Output, add_json
from ndfile.cli.selection import rows_of
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "chosen", "report", "resident_nbytes"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take an array and --rows of it."""
    target.add_arguments(parser)
    parser.add_argument("--rows", type=rows_of, metavar="A:B", help="these rows alone, such as 100:200 or -1000:")
    add_json(parser)


def chosen(arguments: argparse.Namespace) -> list[Any]:
    """The arrays that are meant, or the rows of them: all members of an archive, where none is named."""
    found = target.opened(arguments)
    members = target.members_of(found) if isinstance(found, nf.Archive) else [("", found)]
    arrays = [array for _, array in members if array is not None]
    if arguments.rows is None:
        return arrays
    if any(array.ndim == 0 for array in arrays):
        raise nf.LayoutError("an array of one item has no rows", "Leave --rows out.")
    return [array[arguments.rows] for array in arrays]


def resident_nbytes(arrays: list[Any]) -> tuple[int, int]:
    """Bytes of the pages of some arrays, and of those in memory."""
    found = [array.residency(1) for array in arrays]
    return sum(one.nbytes for one in found), sum(one.resident_nbytes for one in found)


def report(arguments: argparse.Namespace, arrays: list[Any], before_nbytes: int, is_done: bool) -> int:
    """Say what is in memory now, and return the exit code."""
    nbytes, now_nbytes = resident_nbytes(arrays)
    output = Output()
    if arguments.json:
        output.json(
            {
                "path": str(nf.info(arguments.file, format=arguments.format, **target.hints_of(arguments)).path),
                "key": arguments.key,
                "is_done": is_done,
                "nbytes": nbytes,
                "resident_nbytes_before": before_nbytes,
                "resident_nbytes": now_nbytes,
            }
        )
    else:
        was = f", {in_words(before_nbytes)} before" if before_nbytes != now_nbytes else ""
        output.line(f"{in_words(now_nbytes)} of {in_words(nbytes)} in memory{was}")
    return 0 if is_done else 1
