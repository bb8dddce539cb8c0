"""Words for titles. Names of files and of fields come from anywhere, so no control character of theirs gets through."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

__all__ = ["named", "number", "printable", "taken"]


def printable(text: object) -> str:
    """A text of which each character can be seen: control characters and broken ones are escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in str(text))


def named(array: Any, key: str | None = None) -> str:
    """The name of an array: that of its file, without the folder, and of its member."""
    filename = getattr(array, "filename", None)
    name = "array" if filename is None else printable(os.path.basename(os.fsdecode(filename)))
    return name if key is None else f"{name}[{printable(key)!r}]"


def number(value: float, dtype: np.dtype[Any]) -> str:
    """A number of a scale; a time where the array holds times."""
    if dtype.kind in "mM":
        return str(np.array(round(value), np.int64).view(dtype.newbyteorder("=")))
    return f"{value:.6g}"


def taken(count: int, total: int, thing: str) -> str:
    """Which of `total` things are taken, in words: "every 3rd row", "9 of 10 rows"."""
    step = total / count
    if step < 2:
        return f"every {thing}" if count >= total else f"{count} of {total} {thing}s"
    whole = round(step)
    ending = "th" if whole // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"every {whole}{ending} {thing}"
