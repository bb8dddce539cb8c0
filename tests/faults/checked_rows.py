"""Rows that show whether they are whole, where they belong and who wrote them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DTYPE", "WIDTH", "first_wrong", "rows_of"]

DTYPE = "<u8"

# Number, writer and checksums. 40 bytes: rows cross the borders of pages and of the disk's blocks.
WIDTH = 5

ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], DTYPE)


def rows_of(start: int, count: int, writer: int) -> np.ndarray[Any, Any]:
    """Rows `start` to `start + count`, as somebody with this number writes them: (count, WIDTH)."""
    rows = np.empty((count, WIDTH), DTYPE)
    rows[:, 0] = np.arange(start, start + count)
    rows[:, 1] = writer
    rows[:, 2:] = _checksums(rows)
    return rows


def first_wrong(rows: np.ndarray[Any, Any], start: int, writers: tuple[int, int]) -> int | None:
    """Which row, counted from `start`, is the first that is torn, elsewhere, or of none of the writers from a to b."""
    ok = rows[:, 0] == np.arange(start, start + len(rows), dtype=DTYPE)
    ok &= (writers[0] <= rows[:, 1]) & (rows[:, 1] <= writers[1])
    ok &= (rows[:, 2:] == _checksums(rows)).all(axis=1)
    return None if ok.all() else start + int(ok.argmin())


def _checksums(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return ((rows[:, :1] * np.uint64(0x100000001B3)) ^ rows[:, 1:2]) * ODD + ODD
