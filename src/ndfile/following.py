"""Seeing what another array, here or in another process, has appended to the same file."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any

from ndfile._core import watch
from ndfile.errors import ClosedError, LayoutError
from ndfile.growth import catch_up, owned_mapping, way_of
from ndfile.rows import axis_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile._core import ArrayBase, Mapping

__all__ = ["follow", "refresh"]

# How long to wait before looking again, at most: not every file system tells of every change.
LONGEST_WAIT_S = 0.25
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0002, 0.05


def refresh(array: ArrayBase[Any, Any]) -> int:
    """See `ndfile.memmap.refresh`."""
    mapping = owned_mapping(array, "refresh")
    _refuse_copy(mapping, "refresh")
    is_writer = mapping.growth is not None and mapping.growth.is_writer
    if is_writer or way_of(mapping) is None:
        return 0  # the one writer has nothing to learn
    mapping.note_seen()
    try:
        return catch_up(array, mapping)
    except BaseException:
        mapping.note_seen(False)  # it is still news
        raise


def _refuse_copy(mapping: Mapping, act: str) -> None:
    if mapping.mode == "c":
        raise LayoutError(f"{act}: an array of mode 'c' keeps its own state", "Open it with mode='r'.")


def follow(array: ArrayBase[Any, Any], timeout_s: float | None) -> Iterator[Any]:
    """See `ndfile.memmap.follow`."""
    mapping = owned_mapping(array, "follow")
    _refuse_copy(mapping, "follow")
    if timeout_s is not None and not timeout_s >= 0:
        raise LayoutError(
            f"follow: timeout_s must be 0 or more seconds, not {timeout_s!r}", "Pass None to wait for ever."
        )
    return _follow(array, mapping, timeout_s)


def _follow(array: ArrayBase[Any, Any], mapping: Mapping, timeout_s: float | None) -> Iterator[Any]:
    axis = axis_of(array)
    with contextlib.ExitStack() as stack:
        watched = _watched(mapping, stack)
        seen = array.shape[axis]
        last_news_s, pause_s = time.monotonic(), LONGEST_PAUSE_S
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
            # Rows come first, and their number right after: who was woken by the rows looks again, less and less often.
            if pause_s < LONGEST_PAUSE_S or watched is None:
                time.sleep(min(left_s, pause_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            elif _has_changed(watched, min(left_s, LONGEST_WAIT_S)):
                pause_s = FIRST_PAUSE_S


def _watched(mapping: Mapping, stack: contextlib.ExitStack) -> int | None:
    """A descriptor that tells of changes to the file; None where there is no such thing."""
    try:
        fd = watch(str(mapping.filename))
    except OSError:
        return None
    stack.callback(os.close, fd)
    return fd


def _has_changed(watched: int, wait_s: float) -> bool:
    """Wait for a change of the file."""
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    if not poll.poll(max(1, int(wait_s * 1000))):
        return False
    with contextlib.suppress(BlockingIOError):
        os.read(watched, 1 << 16)
    return True
