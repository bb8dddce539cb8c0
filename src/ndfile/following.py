"""Seeing what another array, here or in another process, has appended to the same file."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any

from ndfile._core import watch
from ndfile.errors import ClosedError, FormatError, LayoutError
from ndfile.formats.raw import is_open_ended
from ndfile.growth import axis_of, check_room, owned_mapping, row_nbytes_of, way_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile._core import ArrayBase, Mapping

__all__ = ["follow", "refresh"]

# How long to wait before looking again, at most: not every file system tells of every change.
LONGEST_WAIT_S = 0.25
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0005, 0.05

# A header that is rewritten while it is read is read again.
TRIES = 100


def refresh(array: ArrayBase[Any, Any]) -> int:
    """See `ndfile.memmap.refresh`."""
    mapping = owned_mapping(array, "refresh")
    if mapping.mode == "c":
        raise LayoutError("refresh: an array of mode 'c' keeps its own state", "Open it with mode='r'.")
    if mapping.growth is not None or way_of(mapping) is None:
        return 0  # the one writer has nothing to learn
    before = array.shape[axis_of(array)]
    mapping.note_seen()
    after = _published_rows(array, mapping)
    if after != before:
        check_room(mapping, after * row_nbytes_of(array), "refresh")
        array._set_rows(after)
        mapping.check()
    return int(after - before)


def _published_rows(array: ArrayBase[Any, Any], mapping: Mapping) -> int:
    """How many rows the file says it has."""
    if way_of(mapping) == "header":
        return _counted_rows(mapping, "F" if mapping.is_fortran else "C")
    rows: int = array.shape[axis_of(array)]
    row_nbytes = row_nbytes_of(array)
    if row_nbytes == 0 or not _is_told_by_size(mapping, row_nbytes):
        return rows
    return max(mapping.size() - mapping.offset, 0) // row_nbytes


def _counted_rows(mapping: Mapping, order: str) -> int:
    for _ in range(TRIES):
        head = mapping.head()
        with contextlib.suppress(ValueError, SyntaxError):
            rows: int = mapping.format.counter(head, order).rows
            if mapping.head() == head:
                return rows
        time.sleep(FIRST_PAUSE_S)
    raise FormatError(mapping.filename, None, 0, "its header makes no sense any more", "Open the file again.")


def _is_told_by_size(mapping: Mapping, row_nbytes: int) -> bool:
    """Whether what follows in the file are more rows, not something else."""
    if mapping.format is None:
        return mapping.followed_by < row_nbytes
    return is_open_ended(mapping.filename)


def follow(array: ArrayBase[Any, Any], timeout_s: float | None) -> Iterator[Any]:
    """See `ndfile.memmap.follow`."""
    mapping = owned_mapping(array, "follow")
    axis = axis_of(array)
    with contextlib.ExitStack() as stack:
        watched = _watched(mapping, stack)
        seen = array.shape[axis]
        last_news_s = time.monotonic()
        pause_s = FIRST_PAUSE_S
        while not mapping.closed:
            try:
                refresh(array)
            except ClosedError:
                return
            rows = array.shape[axis]
            start, seen = min(seen, rows), rows
            if start < rows:
                yield array[(slice(None),) * axis + (slice(start, rows),)]
                last_news_s, pause_s = time.monotonic(), FIRST_PAUSE_S
                continue
            left_s = LONGEST_WAIT_S if timeout_s is None else last_news_s + timeout_s - time.monotonic()
            if left_s <= 0:
                return
            _wait(watched, min(left_s, pause_s if watched is None else LONGEST_WAIT_S))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _watched(mapping: Mapping, stack: contextlib.ExitStack) -> int | None:
    """A descriptor that tells of changes to the file; None where there is no such thing."""
    try:
        fd = watch(str(mapping.filename))
    except OSError:
        return None
    stack.callback(os.close, fd)
    return fd


def _wait(watched: int | None, wait_s: float) -> None:
    if watched is None:
        time.sleep(wait_s)
        return
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    if poll.poll(max(1, int(wait_s * 1000))):
        with contextlib.suppress(BlockingIOError):
            os.read(watched, 1 << 16)
