"""`ndfile checksum`: hash files, and write the checksums beside them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import ndfile as nf
from ndfile.cli import progress, target
from ndfile.cli.output import Output, add_json
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import argparse

NAME = "checksum"
HELP = "hash files block by block, and write the checksums beside them"

EPILOG = """\
examples:
  ndfile checksum recording.npy
  ndfile checksum shards/*.npy --algorithm blake3

They go into FILE.checksums.json, in place of older ones; 'ndfile verify'
compares the files with them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="any file, whatever its format")
    parser.add_argument(
        "--algorithm", metavar="NAME", help="xxh3, blake3, or one of hashlib's; by default xxh3 if installed, or sha256"
    )
    progress.add_arguments(parser)
    add_json(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    output = Output()
    made = []
    for path in arguments.files:
        with progress.shown(arguments, f"checksum {os.path.basename(path)}") as show:
            sums = nf.checksum(path, algorithm=arguments.algorithm, progress=show)
        made.append(
            {
                "path": os.path.abspath(path),
                "checksums_path": sums.path,
                "algorithm": sums.algorithm,
                "digest": sums.digest,
                "size": sums.size,
                "block_nbytes": sums.block_nbytes,
                "blocks": len(sums.digests),
            }
        )
        if not arguments.json:
            blocks = f"{len(sums.digests):,} block{'s'[: len(sums.digests) != 1]} of {in_words(sums.block_nbytes)}"
            output.line(f"{target.named(path)}: {sums.algorithm}, {blocks}, {sums.digest}")
    if arguments.json:
        output.json({"files": made})
    return 0
