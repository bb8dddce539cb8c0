"""How much memory of its own a process takes while it does something: what is neither a file's nor shared.

Another process looks at the anonymous part of the resident memory (`RssAnon` of /proc/PID/status) every millisecond,
so that neither the interpreter's lock nor a busy thread hides a peak. Pages of mapped files are not in it. What is
freed and used again between two looks is not seen, which for numbers of whole MiB does not matter.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Watcher:
    """A process that watches others."""

    def __init__(self) -> None:
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "watch.py")
        self._process = subprocess.Popen(
            [sys.executable, "-S", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.stdin.close()  # type: ignore[union-attr]

    @contextlib.contextmanager
    def watching(self, pid: int, note: Callable[[float], None]) -> Iterator[None]:
        """Note by how many MiB the memory of a process grew at most meanwhile."""
        self._say(str(pid))  # returns when the level before is known
        yield
        note(int(self._say("")) / 1024)

    def _say(self, text: str) -> str:
        self._process.stdin.write(f"{text}\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return self._process.stdout.readline()  # type: ignore[union-attr]
