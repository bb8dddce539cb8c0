"""The standard output: how wide it is, what it can show, and the ways to write to it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

__all__ = ["Output", "add_json", "cells", "shortened"]

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}

# Below it nothing can be laid out.
LEAST_WIDTH = 40

# Where nobody looks, columns need not end anywhere.
ANY_WIDTH = 1 << 16


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command take --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


class Output:
    """The standard output.

    Attributes
    ----------
    is_terminal : bool
    width : int
        Of the terminal; elsewhere 80, or what the variable COLUMNS says.
    table_width : int
        How wide tables may be: elsewhere than on a terminal, as wide as they are.
    has_colours : bool
        On a terminal that has them, and without the variable NO_COLOR.
    """

    def __init__(self) -> None:
        self._stream = sys.stdout
        self.is_terminal = self._stream is not None and self._stream.isatty()
        self.width = max(shutil.get_terminal_size().columns, LEAST_WIDTH)
        self.table_width = self.width if self.is_terminal else ANY_WIDTH
        self.has_colours = (
            self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        )

    def can_show(self, text: str) -> bool:
        """Tell whether the encoding has all characters."""
        try:
            text.encode(self._encoding())
        except UnicodeEncodeError:
            return False
        return True

    def write(self, text: str) -> None:
        """Write a text; characters that the encoding has not got as escapes."""
        if self._stream is None:  # a program without a console has none
            return
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._encoding()
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def line(self, text: str = "", style: str | None = None) -> None:
        """Write a line."""
        self.write(f"{self.styled(text, style)}\n")

    def flush(self) -> None:
        """Let whoever reads see what was written."""
        if self._stream is not None:
            self._stream.flush()

    def styled(self, text: str, style: str | None) -> str:
        """A text in a style, where there are colours."""
        if style is None or not text or not self.has_colours:
            return text
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m"

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Write what is known, a line each, with names in a column."""
        known = list(facts)
        width = max((cells(name) for name, _ in known), default=0)
        for name, text in known:
            self.line(f"{self.styled(name.ljust(width), 'dim')}  {text}".rstrip())

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), optional: int = 0
    ) -> None:
        """Write a table; columns in `left` begin at the same place, the others end there.

        On a terminal that is too narrow, the last columns are left out, as many of them as are `optional`. Nothing is
        cut: a name that is not whole is no name.
        """
        widths = [max(cells(row[i]) for row in (head, *rows)) for i in range(len(head))]
        while optional and sum(widths) + 2 * (len(widths) - 1) > self.table_width:
            widths.pop()
            optional -= 1
        for row in (head, *rows):
            texts = [_padded(row[i], width, i in left) for i, width in enumerate(widths)]
            self.line("  ".join(texts).rstrip(), "dim" if row is head else None)

    def json(self, document: Any) -> None:
        """Write a JSON document; on a terminal, for reading."""
        # ASCII: names in a file may hold what no encoding has.
        self.line(json.dumps(document, allow_nan=False, indent=2 if self.is_terminal else None))

    def _encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"


def cells(text: str) -> int:
    """How many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def shortened(text: str, most: int) -> str:
    """The beginning of a text that may have any length."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _padded(text: str, width: int, is_left: bool) -> str:
    space = " " * max(width - cells(text), 0)
    return f"{text}{space}" if is_left else f"{space}{text}"
