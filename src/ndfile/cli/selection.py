"""Which part of an array is meant: an index as people write it, without its brackets."""

from __future__ import annotations

import argparse
import re
from types import EllipsisType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["count", "index_of", "integers_of", "protected", "rows_of", "spelled"]

Part: TypeAlias = "int | slice | EllipsisType"

NUMBER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)

# An index that begins with a negative number would be an option to argparse.
NEGATIVE = re.compile(r"-[0-9]+\s*[:,].*", re.ASCII | re.DOTALL)


def protected(words: Sequence[str]) -> list[str]:
    """Words of a command line, in which no index looks like an option."""
    return [f" {word}" if NEGATIVE.fullmatch(word) else word for word in words]


def index_of(text: str) -> tuple[Part, ...]:
    """The index that a text such as ``10:20,::4`` is."""
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    found = tuple(_part(one.strip(), text) for one in inner.split(","))
    if sum(one is Ellipsis for one in found) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} has more than one '...'")
    return found


def _part(text: str, whole: str) -> Part:
    if text == "...":
        return ...
    numbers = [_number(one.strip(), whole) for one in text.split(":")]
    if len(numbers) == 1 and numbers[0] is not None:
        return numbers[0]
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] == 0):
        raise _refusal(whole)
    return slice(*numbers)


def _number(text: str, whole: str) -> int | None:
    if text and not NUMBER.fullmatch(text):
        raise _refusal(whole)
    return int(text) if text else None


def _refusal(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(
        f"{text.strip()!r} is no index: give numbers and slices, such as '5', '10:20,::4' or '...,-1'"
    )


def rows_of(text: str) -> slice:
    """The rows that a text such as ``100:200`` or ``7`` is."""
    found = index_of(text)
    if len(found) != 1 or found[0] is Ellipsis:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} are no rows: give a slice, such as '100:200' or '-1000:'")
    (part,) = found
    assert not isinstance(part, EllipsisType)
    if isinstance(part, slice):
        return part
    return slice(part, part + 1 if part != -1 else None)


def integers_of(text: str) -> tuple[int, ...]:
    """The sizes that a text such as ``1000,512`` or ``(1000, 512)`` is."""
    inner = text.strip().removeprefix("(").removesuffix(")").strip().removesuffix(",")
    parts = [one.strip() for one in re.split("[,x]", inner)] if inner else []
    if not all(NUMBER.fullmatch(one) for one in parts):
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is no shape: give sizes, such as '1000,512'")
    return tuple(map(int, parts))


def count(text: str) -> int:
    """A number of rows, or of anything else that there may be none of."""
    if not re.fullmatch("[0-9]{1,18}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return int(text)


def spelled(index: Sequence[Part]) -> str:
    """An index as it is written."""
    return ",".join("..." if one is Ellipsis else _spelled_part(one) for one in index)


def _spelled_part(one: Part) -> str:
    if not isinstance(one, slice):
        return str(one)
    first, last, step = ("" if part is None else str(part) for part in (one.start, one.stop, one.step))
    return f"{first}:{last}:{step}" if step else f"{first}:{last}"
