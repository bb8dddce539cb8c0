"""What the kernel is told, and tells, about the memory under an array. All of it is hints: no byte changes by it."""

from __future__ import annotations

from itertools import pairwise
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.errors import LayoutError

if TYPE_CHECKING:
    from ndfile._core import ArrayBase

__all__ = ["BACKENDS", "Residency", "advise", "check_backend", "prefetch", "release", "residency", "set_backend"]

BACKENDS = ("auto", "map", "read")

ADVICE = ("normal", "random", "sequential", "hugepage", "nohugepage", "cold", "pageout")

# From empty to full.
SHADES = " ░▒▓█"
BAR_WIDTH = 32


class Residency(NamedTuple):
    """How much of an array is in memory: in the page cache, whoever brought it there.

    Attributes
    ----------
    nbytes : int
        Of the file's pages from the array's first byte to its last.
    resident_nbytes : int
        Of those in memory.
    dirty_nbytes : int
        Of those that the disk has not got yet; 0 where the kernel does not tell (before Linux 6.5).
    parts : tuple of float
        The share in memory, 0 to 1, of parts of equal length.
    """

    nbytes: int
    resident_nbytes: int
    dirty_nbytes: int
    parts: tuple[float, ...]

    @property
    def share(self) -> float:
        """The share in memory, 0 to 1; 1 for an array without items."""
        return self.resident_nbytes / self.nbytes if self.nbytes else 1.0

    def __repr__(self) -> str:
        changed = f", {_in_words(self.dirty_nbytes)} to be written" if self.dirty_nbytes else ""
        text = f"{_in_words(self.resident_nbytes)} of {_in_words(self.nbytes)} in memory{changed}"
        return f"<Residency: {text} |{self._bar()}|>"

    def _bar(self) -> str:
        width = min(BAR_WIDTH, len(self.parts))
        edges = [i * len(self.parts) // width for i in range(width + 1)] if width else [0]
        means = [sum(self.parts[a:b]) / (b - a) for a, b in pairwise(edges)]
        # What has anything at all is not shown as empty, nor what lacks anything as full.
        return "".join(SHADES[min(int(mean * 3) + (mean > 0), 3) if mean < 1 else 4] for mean in means)


def prefetch(array: ArrayBase[Any, Any], index: Any, wait: bool) -> bool:
    view, rows = _chosen(array, index)
    return _taken(view, view._prefetch(rows, wait), index)


def release(array: ArrayBase[Any, Any], index: Any) -> bool:
    view, rows = _chosen(array, index)
    return _taken(view, view._release(rows), index)


def advise(array: ArrayBase[Any, Any], advice: str, index: Any) -> bool:
    view, rows = _chosen(array, index)
    if rows is not None:
        raise LayoutError("advise takes no rows by number", "Pass a slice.")
    done = view._advise(advice)
    if done is NotImplemented:
        raise LayoutError(f"advice must be one of {list(ADVICE)}, not {advice!r}", "Pass one of them.")
    return done


def residency(array: ArrayBase[Any, Any], parts: int) -> Residency:
    if parts < 1:
        raise LayoutError(f"parts must be at least 1, not {parts}", "Pass a larger number.")
    found = array._residency(parts)
    nbytes, resident, dirty = (sum(part[i] for part in found) for i in range(3))
    return Residency(nbytes, resident, dirty, tuple(part[1] / part[0] for part in found))


def check_backend(backend: object, mode: str) -> None:
    """Raise `LayoutError` for a backend that there is not, or not in this mode."""
    if backend not in BACKENDS:
        raise LayoutError(f"backend must be one of {list(BACKENDS)}, not {backend!r}", "Pass one of them.")
    if backend == "read" and mode == "c":
        raise LayoutError(
            "mode 'c' keeps changes in memory, which reading the file would pass by", "Use backend='map', or mode 'r'."
        )


def set_backend(array: ArrayBase[Any, Any], backend: str) -> None:
    mapping = array._mmap
    if mapping is None:
        raise LayoutError("the array has no file to read", "Set it on an array that has.")
    check_backend(backend, mapping.mode)
    mapping.backend = backend


def _chosen(array: ArrayBase[Any, Any], index: Any) -> tuple[ArrayBase[Any, Any], Any]:
    """A view, and rows of it by number or None for all of it."""
    if index is Ellipsis:
        return array, None
    if isinstance(index, (list, np.ndarray)) and np.ndim(index) > 0:
        return array, index if len(index) else np.zeros(0, np.intp)
    whole = index if isinstance(index, tuple) else (index,)
    if not all(_is_basic(one) for one in whole):
        raise LayoutError("the index is not one of rows, nor a basic one", "Pass row numbers, a mask, or slices.")
    # An ellipsis makes a view of a single item too.
    view: Any = array[whole if Ellipsis in whole else (*whole, ...)]
    return view, None


def _is_basic(index: Any) -> bool:
    """True for what gives a view, alone or with others such."""
    return isinstance(index, (int, np.integer, slice, EllipsisType)) and not isinstance(index, bool)


def _taken(array: ArrayBase[Any, Any], done: bool, index: Any) -> bool:
    """Raise if the core could not make out rows, as NumPy would."""
    if done is NotImplemented:
        np.broadcast_to(np.zeros((), "?"), array.shape)[index]
        raise LayoutError("the index is not one of rows", "Pass row numbers, a mask of the first axis, or slices.")
    return done


def _in_words(nbytes: int) -> str:
    size, units = float(nbytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{nbytes} bytes" if units[0] == "bytes" else f"{size:.3g} {units[0]}"
