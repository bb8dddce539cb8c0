"""Items of one or two bytes: so few values are possible that they are counted instead of sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ndfile.compute.blocks import Block, Input

__all__ = ["Patterns", "can_be_counted", "ordered"]

# Numbers from here on have the dtypes that other libraries register.
FIRST_OF_OTHERS = 256

# np.bincount makes an intp of each item.
PIECE_ITEMS = 1 << 18


def can_be_counted(dtype: np.dtype[Any]) -> bool:
    """Whether items are so short, and nothing but their value: fields, and what is between them, are more."""
    return dtype.itemsize in (1, 2) and dtype.names is None and dtype.subdtype is None


def ordered(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In what to sort: the machine's byte order, and floats of other libraries as floats: those do not order NaNs."""
    return np.dtype(np.float32) if dtype.num >= FIRST_OF_OTHERS else dtype.newbyteorder("=")


class Patterns:
    """Every value that the bits of a type can be, in sorted order, and how often each occurs.

    Parameters
    ----------
    dtype : numpy.dtype
        Of one or two bytes, in any byte order.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._bits = np.dtype(np.uint8 if dtype.itemsize == 1 else np.uint16)
        every = np.arange(1 << 8 * dtype.itemsize, dtype=self._bits)
        self._order = np.argsort(every.view(dtype).astype(ordered(dtype)), kind="stable")
        self.values = every[self._order].view(dtype)
        self._counts = np.zeros(len(every), np.int64)

    def count(self, source: Input, block: Block) -> np.ndarray:
        """How often each occurs in a block, to be given to `add`. May be called by any thread."""
        items = np.array(source.read(block), order="K").ravel("K").view(self._bits)
        source.check(block)
        counts = np.zeros(len(self.values), np.int64)
        for start in range(0, len(items), PIECE_ITEMS):
            counts += np.bincount(items[start : start + PIECE_ITEMS], minlength=len(counts))
        return counts

    def add(self, counts: np.ndarray) -> None:
        self._counts += counts

    @property
    def counts(self) -> np.ndarray:
        """How often each of `values` occurs."""
        return self._counts[self._order]

    def items(self, ends: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Give some of the items in sorted order; `ends` are 0 and the sums of the counts."""
        return np.repeat(self.values, np.diff(np.clip(ends, start, stop)))
