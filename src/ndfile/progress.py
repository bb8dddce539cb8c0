"""Progress of long work: one convention for the whole library."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    # What a user passes as `progress=`.
    Progress: TypeAlias = bool | Callable[[int, int], object] | None

__all__ = ["bar", "reported"]

# Often enough for the eye, too seldom to cost anything.
REFRESH_S = 0.1

# Back to the beginning of the line, and nothing in it.
CLEARED = "\r\x1b[K"


@contextmanager
def reported(progress: Progress, nbytes: int, label: str) -> Iterator[Callable[[int], None]]:
    """Report work on `nbytes` bytes as the user asked for it.

    Gives a function to call with the number of bytes that are done more. Any thread may call it. What a user's callable
    raises comes out of it.

    Parameters
    ----------
    progress : None, bool or callable
        None and False report nothing. True draws a bar on standard error: that of tqdm where it is installed, otherwise
        a line of text that is refreshed in place. A callable is called with ``(done_nbytes, total_nbytes)``, at first
        with 0 bytes done; never by two threads at a time.
    nbytes : int
        All that there is to do.
    label : str
        What is done, in a few words.
    """
    if progress is None or progress is False:
        yield _ignore
        return
    if progress is not True and not callable(progress):
        raise TypeError(f"progress must be None, a bool or a callable, not {progress!r}")
    count = _Count(nbytes, progress if callable(progress) else bar(nbytes, label))
    try:
        count.advance(0)
        yield count.advance
    finally:
        if progress is True:
            count.show.close()


def _ignore(nbytes: int) -> None:
    pass


class _Count:
    """Bytes done, by all threads together."""

    def __init__(self, total: int, show: Any) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._total = total
        self.show = show

    def advance(self, nbytes: int) -> None:
        with self._lock:
            self._done += nbytes
            self.show(self._done, self._total)


def bar(nbytes: int, label: str, *, stays: bool = True) -> Any:
    """Draw a bar on standard error: a callable as `reported` takes it, with `close`, after which it stays or not."""
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return _Line(label, stays)
    return _Tqdm(tqdm, nbytes, label, stays)


class _Tqdm:
    """A bar of tqdm's."""

    def __init__(self, tqdm: Any, nbytes: int, label: str, stays: bool) -> None:
        # Without the thread that tqdm starts beside its bars, which outlives them.
        kind = type("Bar", (tqdm,), {"monitor_interval": 0})
        self._bar = kind(
            desc=label, total=nbytes, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr, leave=stays
        )

    def __call__(self, done: int, _total: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Line:
    """A line of text, refreshed in place."""

    def __init__(self, label: str, stays: bool) -> None:
        self._label = label
        self._stays = stays
        self._shown_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if done == total or now_s - self._shown_s >= REFRESH_S:
            self._shown_s = now_s
            percent = 100 * done // total if total else 100
            self._write(f"\r{self._label}: {percent:3d}%, {done / 2**20:.1f} of {total / 2**20:.1f} MiB")

    def close(self) -> None:
        self._write("\n" if self._stays else CLEARED)

    def _write(self, text: str) -> None:
        if sys.stderr is not None:  # a program without a console has none
            sys.stderr.write(text)
            sys.stderr.flush()
