"""Work on many blocks: by several threads, with results taken in the blocks' order, and stopped as one."""

from __future__ import annotations

import os
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

from ndfile.progress import reported

if TYPE_CHECKING:
    from collections.abc import Callable

    from ndfile.progress import Progress

__all__ = ["Numbered", "run", "thread_count"]

# By then memory gives what it can; and what each thread copies stays within bounds for all together.
MOST_THREADS = 8


class Numbered(Protocol):
    """What has a length and items by number, made when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def run(
    work: Callable[[Any], Any],
    blocks: Numbered,
    take: Callable[[Any, Any], bool | None],
    *,
    threads: int | None = None,
    progress: Progress = None,
    nbytes: int = 0,
    label: str = "",
) -> None:
    """Call `work(block)` for each block and `take(block, result)` for each result, in the blocks' order.

    `work` runs in several threads, this one among them. `take` runs in one at a time, and always in the same order: so
    what it makes does not depend on the number of threads. No result waits for long: a thread that is far ahead of the
    slowest waits itself. An exception of either, of a fault, or from Ctrl-C ends it all before the next block; no
    thread is left when this returns.

    Parameters
    ----------
    work : callable
    blocks : sequence
    take : callable
        May return True for "that is enough": the rest is left undone.
    threads : int, optional
        How many, this one included; by default as many as there are processors for the process, up to 8.
    progress : None, bool or callable
        See `reported`.
    nbytes : int
        Of all blocks together, for the progress.
    label : str
        What is done.
    """
    count = thread_count(threads)
    with reported(progress, nbytes, label) as advance:
        _Run(work, blocks, take, advance, nbytes).go(max(min(count, len(blocks)), 1))


def thread_count(threads: int | None) -> int:
    """How many threads that asks for; None for as many as there are processors for the process, up to 8."""
    if threads is None:
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    if isinstance(threads, bool) or threads != int(threads) or threads < 1:
        raise ValueError(f"threads must be a number from 1 on, not {threads!r}")
    return int(threads)


class _Run:
    """One call of `run`."""

    def __init__(self, work: Any, blocks: Any, take: Any, advance: Any, nbytes: int) -> None:
        self._work, self._blocks, self._take, self._advance = work, blocks, take, advance
        self._nbytes = nbytes
        self._count = len(blocks)
        self._turn = threading.Condition()
        self._begun = 0  # blocks that somebody works on, or has done
        self._taken = 0  # results that were taken
        self._results: dict[int, tuple[Any, Any]] = {}  # those whose turn has not come
        self._is_over = False
        self._failure: tuple[int, BaseException] | None = None  # of the first block that has one
        self._most_ahead = 0

    def go(self, threads: int) -> None:
        self._most_ahead = 2 * threads
        others = [
            threading.Thread(target=copy_context().run, args=(self._help,), daemon=True) for _ in range(threads - 1)
        ]
        started = []
        try:
            for other in others:
                other.start()
                started.append(other)
            self._help(is_caller=True)
        finally:
            with self._turn:
                self._is_over = self._is_over or self._taken < self._count
                self._turn.notify_all()
            for other in started:
                other.join()
        if self._failure is not None:
            raise self._failure[1]

    def _help(self, is_caller: bool = False) -> None:
        index = 0
        try:
            while (index := self._next()) >= 0:
                block = self._blocks[index]
                self._hand_in(index, block, self._work(block))
            if is_caller:
                self._wait()
        except BaseException as error:
            with self._turn:
                self._is_over = True
                if self._failure is None or index < self._failure[0]:
                    self._failure = index, error
                self._turn.notify_all()

    def _next(self) -> int:
        """The number of a block that nobody has, or -1."""
        with self._turn:
            while not self._is_over and self._begun - self._taken >= self._most_ahead:
                self._turn.wait()
            if self._is_over or self._begun == self._count:
                return -1
            self._begun += 1
            return self._begun - 1

    def _hand_in(self, index: int, block: Any, result: Any) -> None:
        with self._turn:
            self._results[index] = block, result
            while not self._is_over and self._taken in self._results:
                block, result = self._results.pop(self._taken)
                is_enough = self._take(block, result)
                self._taken += 1
                self._advance(
                    self._nbytes * self._taken // self._count - self._nbytes * (self._taken - 1) // self._count
                )
                if is_enough:
                    self._is_over = True
            self._turn.notify_all()

    def _wait(self) -> None:
        with self._turn:
            while not self._is_over and self._taken < self._count:
                self._turn.wait()
