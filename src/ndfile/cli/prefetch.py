"""`ndfile prefetch`: let a file be read into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndfile.cli import paging, progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

NAME = "prefetch"
HELP = "let a file, or rows of it, be read into memory"

EPILOG = """\
examples:
  ndfile prefetch recording.npy --wait
  ndfile prefetch recording.npy --rows 100000:200000
  ndfile prefetch weights.safetensors --key layer0/kernel

Without --wait it is only asked for: the kernel reads on when this command has
ended. The exit code is 1 if the kernel took no notice, or not all could be
read.
"""

# What is waited for at a time: a bar moves, and Ctrl-C is heard.
PIECE_NBYTES = 32 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    paging.add_arguments(parser)
    parser.add_argument("--wait", action="store_true", help="return when everything is in memory")
    progress.add_arguments(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    arrays = paging.chosen(arguments)
    nbytes, before_nbytes = paging.resident_nbytes(arrays)
    is_done = True
    done = 0
    with progress.shown(arguments, "prefetch") as show:
        for piece in (piece for array in arrays for piece in _pieces(array)):
            is_done &= piece.prefetch(wait=arguments.wait)
            done += piece.nbytes
            if show is not None:
                show(min(done, nbytes), nbytes)
    return paging.report(arguments, arrays, before_nbytes, is_done)


def _pieces(array: Any) -> Iterator[Any]:
    """Views that together are the array, one after the other in the file."""
    if array.nbytes <= PIECE_NBYTES or array.ndim == 0:
        yield array
        return
    by_last = array.ndim > 1 and array.flags.fnc
    count = array.shape[-1 if by_last else 0]
    step = max(count * PIECE_NBYTES // array.nbytes, 1)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        yield array[..., rows] if by_last else array[rows]
