"""`ndfile verify`: compare files with their checksums."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import ndfile as nf
from ndfile.cli import progress, target
from ndfile.cli.messages import sentence
from ndfile.cli.output import Output, add_json

if TYPE_CHECKING:
    import argparse

    from ndfile.integrity.verification import Damage

NAME = "verify"
HELP = "compare files with the checksums beside them"

EPILOG = """\
examples:
  ndfile verify recording.npy
  ndfile verify shards/*.npy --json

The exit code is 1 if a file is not what it was, or could not be compared.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file that 'ndfile checksum' has hashed")
    progress.add_arguments(parser)
    add_json(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    output = Output()
    documents = []
    for path in arguments.files:
        try:
            with progress.shown(arguments, f"verify {os.path.basename(path)}") as show:
                found = nf.verify(path, progress=show)
        except (nf.NdfileError, OSError) as error:  # the other files are compared all the same
            _complain(error)
            documents.append({"path": os.path.abspath(path), "is_whole": None, "error": sentence(error)})
            continue
        documents.append(_document(found))
        if not arguments.json:
            _show(output, path, found)
    are_whole = all(one["is_whole"] for one in documents)
    if arguments.json:
        output.json({"are_whole": are_whole, "files": documents})
    return 0 if are_whole else 1


def _complain(error: Exception) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"ndfile verify: {sentence(error)}\n")


def _show(output: Output, path: str, found: nf.Verification) -> None:
    count = -(-found.expected_size // found.block_nbytes)
    if found:
        output.line(f"{output.styled('whole', 'green')}    {target.named(path)}")
        return
    wrong = sum(len(damage.blocks) for damage in found.damages)
    output.line(f"{output.styled('damaged', 'red')}  {target.named(path)}: {wrong:,} of {count:,} blocks")
    # The first line of the text says what stands above, with the whole path.
    for line in str(found).splitlines()[1:]:
        output.line(f"       {line}")


def _document(found: nf.Verification) -> dict[str, Any]:
    return {
        "path": found.path,
        "is_whole": bool(found),
        "algorithm": found.algorithm,
        "size": found.size,
        "expected_size": found.expected_size,
        "was_written": found.was_written,
        "damages": [_damage(one) for one in found.damages],
    }


def _damage(one: Damage) -> dict[str, Any]:
    def ends(of: range) -> list[int]:
        return [of.start, of.stop]

    rows = {name: ends(rows) for name, rows in one.rows.items()}
    return {"blocks": ends(one.blocks), "bytes": ends(one.bytes), "is_missing": one.is_missing, "rows": rows}
