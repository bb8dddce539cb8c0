"""Power cuts: the states in which a cut could have left a disk, and what a program was promised to find there.

A disk keeps what was written before its last flush. Of what was written since it keeps any part, in sectors of 512
bytes, in any order. `History` ties a program's promises to positions in the log of a recorded disk; `states` builds
what cuts at random positions could leave; `cut_often` mounts each state (which runs the file system's own recovery) and
asks what is there.
"""

import bisect
import collections
import contextlib
import dataclasses
import fcntl
import itertools
import mmap
import os
from collections.abc import Callable

import numpy as np
from recorded_disk import DISK_NBYTES, SECTOR, loop_device, mounted_ext4, recorded_disk, records_of

BLKFLSBUF = 0x1261


# ---- What was promised ----


@dataclasses.dataclass
class Step:
    """One change of what is on the disk.

    Attributes
    ----------
    state : ndarray
        What is there afterwards.
    begun, done : int or None
        Positions. A disk that was cut before `begun` has nothing of it; one that was cut at or after `done` has all.
    between : callable
        Whether something may be found that is no state, given that and the states from the last that was promised to
        the one that is being made.
    """

    state: np.ndarray
    begun: int
    done: int | None
    between: Callable[[np.ndarray, list[np.ndarray]], bool]


def nothing(found, states):
    """A step happens as a whole or not at all."""
    return False


def each_item(found, states):
    """Each item is that of any state."""
    same_shape = all(state.shape == found.shape for state in states)
    return same_shape and bool(np.any([found == state for state in states], axis=0).all())


def more_rows(found, states):
    """The rows that were promised, and whatever behind them."""
    first, last = states[0], states[-1]
    return len(first) <= len(found) <= len(last) and _same(found[: len(first)], first)


class History:
    """The steps of a program; the first is done before the rest begins."""

    def __init__(self, disk):
        self._disk = disk
        self.steps = []

    @contextlib.contextmanager
    def step(self, state, *, between=nothing, is_promised=True):
        """Note that the block leads to `state` and, if its end is a promise, that this is kept from there on."""
        one = Step(state, self._disk.position, None, between)
        self.steps.append(one)
        yield
        if is_promised:
            one.done = self._disk.position

    @property
    def span(self):
        """The positions between which cuts are of interest."""
        return self.steps[0].done, max(step.done or step.begun for step in self.steps)

    def verdict(self, position, found):
        """'whole', 'lost' (an older state than was promised) or 'torn' (none that may be)."""
        promised = max(number for number, step in enumerate(self.steps) if step.done and step.done <= position)
        begun = max(number for number, step in enumerate(self.steps) if step.begun <= position)
        possible = [step.state for step in self.steps[promised : begun + 1]]
        if any(_same(found, state) for state in possible) or self.steps[begun].between(found, possible):
            return "whole"
        return "lost" if any(_same(found, step.state) for step in self.steps[:promised]) else "torn"


def _same(found, state):
    return found.dtype == state.dtype and np.array_equal(found, state)


# ---- Cuts ----


def worked(folder, work):
    """Let `work(folder, history)` run on a disk; gives the disk with its log, and the history."""
    with recorded_disk(folder) as disk:
        history = History(disk)
        work(disk.folder, history)
    return disk, history


def judging(history, look):
    """A function that compares what `look(folder)` gives, each time that it looks, with what was promised."""

    def judge(folder, position):
        try:
            verdicts = {history.verdict(position, array) for array in look(folder)}
        except (OSError, ValueError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        return "whole" if verdicts == {"whole"} else max(verdicts - {"whole"})

    return judge


def cut(folder, work, look, count):
    """Let a program run on a disk and cut its power often, then; gives how often was found what."""
    disk, history = worked(folder, work)
    return cut_often(disk, folder, history.span, count, judging(history, look))


def cut_often(disk, folder, span, count, look):
    """Cut the power `count` times between two positions, and give how often was found what.

    `look(folder, position)` is called with each state mounted, and says what it found.
    """
    found = collections.Counter()
    with _second_disk(folder) as second:
        for position in states(disk, span, count, second.content):
            with second.mounted() as mounted_at:
                found[look(mounted_at, position)] += 1
    return dict(found)


def states(disk, span, count, content):
    """Put one state after the other into `content`, an array of sectors, and give the position of each cut."""
    random = np.random.default_rng()
    records = records_of(disk.log)
    first, last = (bisect.bisect_left([record.end for record in records], position) + 1 for position in span)
    kept, flushed = np.frombuffer(bytearray(disk.before), "u1").reshape(-1, SECTOR), 0
    # Sorted, so that what lies before the last flush is only ever added to.
    for cut in sorted(_draw(random, records, first, min(last, len(records)), count)):
        until = _last_flush(records, cut)
        for record in records[flushed:until]:
            _write(kept, record, ...)
        flushed = until
        content[:] = kept
        for record, survives in _survivors(random, records[until:cut]):
            _write(content, record, survives)
        yield records[cut - 1].end


def _write(content, record, survives):
    first = record.offset // SECTOR
    content[first : first + len(record.data)][survives] = record.data[survives]


def _last_flush(records, cut):
    """How many of the records before a cut are certain to be on the disk."""
    return next((number for number in range(cut, 0, -1) if records[number - 1].is_flush), 0)


def _draw(random, records, first, last, count):
    """Numbers of records behind which to cut.

    Anywhere; or, because most of the records are of the few long writes, anywhere between two flushes that were drawn
    first; or just before a flush, when most is at stake.
    """
    flushes = [number for number in range(first, last) if records[number].is_flush]
    periods = [pair for pair in itertools.pairwise([first, *flushes, last]) if pair[1] - pair[0] > 1] or [(first, last)]
    for _ in range(count):
        way = random.integers(3)
        start, end = (first, last) if way == 0 else periods[random.integers(len(periods))]
        yield int(end if way == 2 else random.integers(start, end + 1))


def _survivors(random, records):
    """Each write with a mask of its sectors that reached the disk: the same part of all sectors, or of all writes."""
    part = random.choice([0.02, 0.1, 0.5, 0.9, 0.98])
    is_by_writes = len(records) > 1 and random.integers(2)
    for record in records:
        count = len(record.data)
        drawn = random.random(1).repeat(count) if is_by_writes else random.random(count)
        yield record, drawn < part


class _Second:
    """A disk in memory that takes one state after the other."""

    def __init__(self, folder, loop, memory):
        self._folder, self._loop = folder, loop
        self.content = np.frombuffer(memory, "u1").reshape(-1, SECTOR)

    @contextlib.contextmanager
    def mounted(self):
        device = os.open(self._loop, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, BLKFLSBUF)  # what the kernel kept of the state before
        finally:
            os.close(device)
        with mounted_ext4(self._loop, self._folder):
            yield self._folder


@contextlib.contextmanager
def _second_disk(folder):
    folder = os.path.join(folder, "second")
    os.makedirs(folder, exist_ok=True)
    file = os.memfd_create("state")
    try:
        os.truncate(file, DISK_NBYTES)
        # The array holds the memory, which goes with it.
        memory = mmap.mmap(file, DISK_NBYTES)
        with loop_device(f"/proc/{os.getpid()}/fd/{file}") as loop:
            yield _Second(folder, loop, memory)
    finally:
        os.close(file)


# ---- What programs write ----

SHAPE = (64, 512)  # 64 pages of 8-byte items


def arrays(count, seed=0):
    """Arrays of different types, shapes and sizes: a mixture of two cannot be opened, or is neither."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        dtype = random.choice(["<i4", "<f8", "<u2"])
        yield random.integers(1, 60_000, (int(random.integers(1, 90)), 500)).astype(dtype)


def changed(state, random):
    """A state with some of its rows changed, and which."""
    rows = random.choice(len(state), random.integers(1, 30), replace=False)
    state = state.copy()
    state[rows] = random.integers(0, 1 << 60, (len(rows), SHAPE[1]))
    return state, rows


def changes(first, count, seed=1):
    """States of an array after the first one, each with a few rows of the one before changed; and which."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        first, rows = changed(first, random)
        yield first, rows


def first_state():
    return np.random.default_rng(0).integers(0, 1 << 60, SHAPE)
