"""How far long work is: a bar on standard error where that is a terminal, which is gone when the work is done."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ndfile.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["add_arguments", "shown"]

# What is done sooner needs no bar.
DELAY_S = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take --progress and --no-progress."""
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="show a bar, by default on a terminal"
    )


@contextmanager
def shown(arguments: argparse.Namespace, label: str) -> Iterator[Bars | None]:
    """Give what functions of ndfile take as `progress`."""
    wanted = arguments.progress
    if wanted is None:
        wanted = sys.stderr is not None and sys.stderr.isatty()
    if not wanted:
        yield None
        return
    bars = Bars(label, 0.0 if arguments.progress else DELAY_S)
    try:
        yield bars
    finally:
        bars.close()


class Bars:
    """A bar for each pass over the data, one at a time.

    Attributes
    ----------
    label : str
        What is done; to be set before a pass begins.
    """

    def __init__(self, label: str, delay_s: float) -> None:
        self.label = label
        self._from_s = time.monotonic() + delay_s
        self._bar: Any = None
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        if done < self._done or done == 0:  # another pass
            self.close()
        self._done = done
        if self._bar is None:
            if time.monotonic() < self._from_s or done == total:
                return
            self._bar = bar(total, self.label, stays=False)
        self._bar(done, total)

    def close(self) -> None:
        """Take the bar away."""
        shown, self._bar = self._bar, None
        if shown is not None:
            shown.close()
