"""Statistics of files that are not in memory: opened and read for the first time in each run, see `cold`."""

from __future__ import annotations

import mmap
import os
import threading
from itertools import repeat
from typing import TYPE_CHECKING

from case import EXPERT, LIMIT, NUMPY, OURS, Case, Note, Tally, faster
from cold import PIECE_NBYTES, Cold

from stats import expert, files
from stats.contender import Limited
from stats.peers import Operation
from stats.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stats.tasks import Side

ROUNDS = 3
NBYTES, QUICK_NBYTES = 2 << 30, 1 << 28
READ = "read per byte"


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the cases."""
    wanted = QUICK_NBYTES if quick else NBYTES
    for kind in ("f4", "u1"):
        # The deviation of bytes takes people eight times the file's memory, and half a minute.
        nbytes = files.fitting(folder, wanted if kind == "f4" else wanted // 2)
        files.write(folder, kind, nbytes)
        for name in ("std", "percentile"):
            yield _case(Task(Operation(name), kind, None), folder, nbytes)
        files.remove(folder, kind)


def _case(task: Task, folder: str, nbytes: int) -> Case:
    path, read, sides = files.path_of(folder, task.kind), Tally(READ), task.sides({})
    acts = {name: _opening(sides[name], folder) for name in (OURS, NUMPY)}
    acts[EXPERT] = lambda _: _expert(sides[EXPERT], folder)
    acts[LIMIT] = lambda _: _read(path)
    colds = {name: Cold((path,), act, repeat(None), nbytes, read.noter(name)) for name, act in acts.items()}
    runners = {name: Limited(lambda cold=cold: cold(1)) for name, cold in colds.items()}
    name = f"cold: {task.name}, {nbytes >> 20:,} MiB"
    return Case(name, runners, (faster(1),), (), ROUNDS, (read,), is_once=True, again=1, nbytes=nbytes)


def _opening(side: Side, folder: str) -> Callable[[object], object]:
    def act(_: object) -> object:
        a = side.open(folder)
        return a, side.act(a)

    return act


def _expert(side: Side, folder: str) -> object:
    a = side.open(folder)
    a._mmap.madvise(mmap.MADV_SEQUENTIAL)
    return a, side.act(a)


def _read(path: str) -> None:
    """Read a file by all threads, in pieces, the next free one each."""
    fd, own = os.open(path, os.O_RDONLY), threading.local()

    def work(start: int) -> None:
        if not hasattr(own, "buffer"):
            own.buffer = bytearray(PIECE_NBYTES)
        os.preadv(fd, [own.buffer], start)

    expert.in_threads(work, range(0, os.fstat(fd).st_size, PIECE_NBYTES))
    os.close(fd)
