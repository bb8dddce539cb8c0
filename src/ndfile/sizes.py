"""Numbers of bytes as people write them: 536870912, "512 MiB", "2GB". Floor 0, opens nothing."""

from __future__ import annotations

import contextlib
import re
from operator import index
from typing import Any

from ndfile.errors import LayoutError

__all__ = ["in_words", "nbytes_of"]

# KB and the like are powers of 1000, KiB and the like of 1024.
UNITS: dict[str, int] = {"": 1, "b": 1, "byte": 1, "bytes": 1} | {
    f"{letter}{infix}b": base ** (power + 1)
    for power, letter in enumerate("kmgtp")
    for infix, base in (("", 1000), ("i", 1024))
}

# No process has more; and a number from a file may have any number of digits.
LIMIT = 2**62
TEXT = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*", re.ASCII)

ADVICE = "Pass a number of bytes above 0, as in 536870912, '512 MiB' or '2 GB'."


def nbytes_of(size: Any, name: str) -> int:
    """The number of bytes that an int or a text stands for, at least 1.

    `name` is what it was given for. LayoutError for what is no such number, a TypeError for what is of no such kind.
    """
    number = _read(size, name) if isinstance(size, str) else _whole(size, name)
    if number < 1 or number > LIMIT:
        raise LayoutError(f"{name} {size!r} is {number} bytes", ADVICE)
    return number


def _whole(size: Any, name: str) -> int:
    # A bool has an index too, but whoever passes one means something else.
    with contextlib.suppress(TypeError):
        if not isinstance(size, bool):
            return index(size)
    raise TypeError(f"{name} must be an int, a text such as '512 MiB', or None, not {size!r}")


def _read(size: str, name: str) -> int:
    found = TEXT.fullmatch(size)
    unit = None if found is None else UNITS.get(found[2].lower())
    if found is None or unit is None:
        raise LayoutError(f"{name} {size[:99]!r} is no number of bytes", ADVICE)
    whole, _, part = found[1].partition(".")
    parts: int = 10 ** len(part)
    return int(whole) * unit + int(part or 0) * unit // parts


def in_words(nbytes: int) -> str:
    """A number of bytes for people, with three digits, or four before the next unit."""
    size, units = float(nbytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{nbytes} bytes" if units[0] == "bytes" else f"{size:.{3 if size < 999.5 else 4}g} {units[0]}"
