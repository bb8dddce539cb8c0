"""The command line: `ndfile VERB FILE`, one module for each verb.

A module has `NAME`, `HELP` (one line), `add_arguments(parser)` and `run(arguments)`, which returns the exit code: 0 for
fine, 1 for an answer that is no. What went wrong with a file it raises, and `main` makes one line of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

import ndfile as nf
from ndfile.cli.messages import sentence, warn
from ndfile.cli.selection import protected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main", "parser"]

VERBS = (
    "info",
    "head",
    "tail",
    "slice",
    "stats",
    "view",
    "residency",
    "prefetch",
    "release",
    "follow",
    "convert",
    "checksum",
    "verify",
    "recover",
    "bench",
)

FINE, FAILED, MISUSED = 0, 1, 2

# What a shell reports of a program that these signals end.
INTERRUPTED, PIPE_CLOSED = 130, 141

EPILOG = """\
examples:
  ndfile info recording.npy
  ndfile head weights.npz --key layer0/kernel
  ndfile slice recording.npy '1000:1010,::4' --csv
  ndfile stats samples.dat --dtype int16 --shape 1200000,384

'ndfile VERB --help' has more of them. Exit codes: 0 fine, 1 the answer is no
or the file failed, 2 usage.
"""


class Command(Protocol):
    """What the module of a verb has."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = parser().parse_args(protected(words))
    except SystemExit as end:  # argparse has said why
        code = int(end.code or FINE)
        return _run(lambda _: code, argparse.Namespace(verb=""))
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = warn
        return _run(arguments.run, arguments)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line; programs that write completions for shells take it from here."""
    made = argparse.ArgumentParser(
        prog="ndfile",
        description="Look at arrays on files, of any size, and look after them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("-V", "--version", action="version", version=f"ndfile {nf.__version__}")
    verbs = made.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        command = cast("Command", import_module(f"ndfile.cli.{verb}"))
        one = verbs.add_parser(
            command.NAME,
            help=command.HELP,
            description=f"{command.HELP[:1].upper()}{command.HELP[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    return made


def _run(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    try:
        code = run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read has seen enough
        _give_up_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    # An index that is out of bounds is NumPy's to say.
    except (nf.NdfileError, OSError, IndexError, MemoryError) as error:
        _give_up_output()
        if sys.stderr is not None:
            sys.stderr.write(f"{f'ndfile {arguments.verb}'.strip()}: {sentence(error)}\n")
        return FAILED


def _give_up_output() -> None:
    """Leave nothing for the interpreter to write at its end, where an error would have no one to catch it."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, sys.stdout.fileno())
        finally:
            os.close(null)
