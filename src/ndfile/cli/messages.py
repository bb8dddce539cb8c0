"""What went wrong, in one line, and in the words of the command line."""

from __future__ import annotations

import re
import sys
from typing import Any

import ndfile as nf

__all__ = ["sentence", "warn"]

# What is quoted is a path or a name, and stays as it is.
QUOTED = re.compile(r"""('[^']*'|"[^"]*")""")

# Errors advise calls and keywords; whoever types commands has verbs and options.
SPELLINGS = [
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\b[Cc]all (?=ndfile\.)", "run "),
        (r"ndfile\.recover\(path, copied=True\)", "ndfile recover --copied FILE"),
        (r"ndfile\.recover\(path, copied=False\)", "ndfile recover --replaced FILE"),
        (r"ndfile\.convert\(source, destination\)", "ndfile convert SOURCE DESTINATION"),
        (r"ndfile\.(recover|checksum)(?:\(path\))?", r"ndfile \1 FILE"),
        (r"ndfile\.(info|convert)\b", r"ndfile \1"),
        (r"\b(key|dtype|shape|order|offset|format|algorithm)=(?=[\s,.)]|$)", r"--\1"),
        (r"\b(key|dtype|shape|order|offset|format|algorithm)=", r"--\1 "),
        (r"(?<=\. )run ", "Run "),
        (r" Nothing was changed\.", ""),
    )
]


def sentence(error: BaseException) -> str:
    """Say what happened, in one line."""
    if isinstance(error, MemoryError) and not str(error):
        return "there is not enough memory"
    if isinstance(error, OSError) and not isinstance(error, nf.NdfileError) and error.strerror:
        text = error.strerror if error.filename is None else f"{str(error.filename)!r}: {error.strerror}"
    else:
        text = str(error)
    return _in_one_line("".join(part if i % 2 else respelled(part) for i, part in enumerate(QUOTED.split(text))))


def respelled(text: str) -> str:
    """A text of the library's in the words of the command line."""
    for pattern, instead in SPELLINGS:
        text = pattern.sub(instead, text)
    return text


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as the command line does, without the line of a program that it came from."""
    if sys.stderr is not None:
        sys.stderr.write(f"ndfile: warning: {_in_one_line(str(message))}\n")


def _in_one_line(text: str) -> str:
    # Names in a file may hold anything, what moves a terminal's cursor among it.
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in " ".join(text.split()))
