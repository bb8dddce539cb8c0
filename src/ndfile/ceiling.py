"""The ceiling on the resident memory of a mapping: what may be asked for."""

from __future__ import annotations

from typing import Any

from ndfile.errors import LayoutError
from ndfile.files.memory import most_nbytes
from ndfile.sizes import nbytes_of

__all__ = ["checked"]

# What "auto" takes of the memory that there is: room for as much again in the page cache, and for everything else.
AUTO_PART = 4


def checked(max_rss: Any, mode: str | None) -> int | None:
    """The ceiling in bytes, or None for none; LayoutError for one that cannot be had in a mode."""
    if max_rss is None:
        return None
    if mode is None:
        raise LayoutError("max_rss: the array has no file", "Only what is mapped can be let go.")
    if mode == "c":
        raise LayoutError(
            "max_rss: mode 'c' keeps changes in memory alone, and a ceiling would lose them",
            "Open it with mode='r' or 'r+'.",
        )
    return most_nbytes() // AUTO_PART if max_rss == "auto" else nbytes_of(max_rss, "max_rss")
