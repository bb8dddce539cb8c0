"""Any order of open, view, close, del, gc and fork: right values while it is open, ClosedError after, no crash."""

import gc
import os
import random
import time

import faulty
import numpy as np
import pytest
from faulty import PAGE, call, say

import ndfile as nf

FILES = 3
ITEMS = 3 * PAGE // 8 + 7
STEPS = 24

FULL, SHORT = 100_000, 2_000
BATCH = 5_000  # sequences to a process


def values(number):
    return np.arange(ITEMS, dtype="i8") * (number + 1) + 1


class Opened:
    """What is known of one mapping."""

    def __init__(self, array, mode):
        self.mapping = array._mmap
        self.mode = mode
        self.closed = False


class Holder:
    """Something that refers to a mapping's bytes, and what it must show."""

    def __init__(self, opened, thing, expected):
        self.opened = opened
        self.thing = thing
        self.expected = expected


def is_through_class(holder):
    return isinstance(holder.thing, nf.memmap)


def as_array(thing):
    return np.frombuffer(thing, "i8") if isinstance(thing, memoryview) else thing


# Reading: each gives a plain result, and each touches every item.
READS = [
    lambda thing: int(as_array(thing).sum()),
    lambda thing: as_array(thing).copy(),
    lambda thing: as_array(thing)[::-1] + 1,
    lambda thing: thing.tobytes(),
    lambda thing: thing.tolist(),
    lambda thing: as_array(thing)[list(range(0, len(thing), 100))],
]


def outcome(read, thing):
    """What a read gives, or its error's type; raised before the next line at the latest."""
    try:
        return read(thing)
    except (nf.NdfileError, BufferError) as error:
        return type(error)


class Sequence:
    """One random life, checked step by step."""

    def __init__(self, seed, folder):
        self.random = random.Random(seed)
        self.folder = folder
        self.holders = []
        self.contents = [values(number) for number in range(FILES)]
        self.is_child = False

    def run(self):
        steps = [
            *[self.open] * 3,
            *[self.slice] * 3,
            *[self.plain_view] * 2,
            *[self.buffer] * 2,
            *[self.read] * 6,
            *[self.write] * 2,
            *[self.close] * 2,
            *[self.drop] * 3,
            self.make_cycle,
            self.collect,
            self.reopen,
        ]
        for _ in range(STEPS):
            self.random.choice(steps)()
        if self.random.random() < 0.01:
            self.fork()
        for holder in self.holders:
            self.check(holder)
        self.holders.clear()

    def pick(self):
        return self.random.choice(self.holders) if self.holders else None

    def open(self):
        # File 0 is the only one that is written to, and never through private pages.
        mode = self.random.choice(["r", "r+", "c"])
        number = 0 if mode == "r+" else self.random.randrange(1 if mode == "c" else 0, FILES)
        array = nf.memmap(os.path.join(self.folder, f"{number}.dat"), "i8", mode)
        expected = self.contents[number].copy() if mode == "c" else self.contents[number]
        self.holders.append(Holder(Opened(array, mode), array, expected))

    def slice(self):
        holder = self.pick()
        if holder is None or isinstance(holder.thing, memoryview):
            return
        start = self.random.randrange(len(holder.expected) or 1)
        cut = self.random.choice([np.s_[start:], np.s_[:start], np.s_[::-1], np.s_[::3]])
        if holder.opened.closed and is_through_class(holder):
            assert outcome(lambda thing: thing[cut], holder.thing) is nf.ClosedError
            return
        self.holders.append(Holder(holder.opened, holder.thing[cut], holder.expected[cut]))

    def plain_view(self):
        holder = self.pick()
        if holder is not None:
            plain = as_array(holder.thing) if isinstance(holder.thing, memoryview) else np.asarray(holder.thing)
            self.holders.append(Holder(holder.opened, plain, holder.expected))

    def buffer(self):
        holder = self.pick()
        if holder is None or not holder.expected.flags.c_contiguous or not len(holder.expected):
            return
        if holder.opened.closed and is_through_class(holder):
            assert outcome(memoryview, holder.thing) is nf.ClosedError
            return
        self.holders.append(Holder(holder.opened, memoryview(holder.thing), holder.expected))

    def read(self):
        holder = self.pick()
        if holder is not None:
            self.check(holder)

    def check(self, holder):
        read = self.random.choice(READS)
        result = outcome(read, holder.thing)
        if not len(holder.expected):
            return
        if holder.opened.closed:
            assert result is nf.ClosedError, (READS.index(read), type(holder.thing), result)
            return
        assert np.array_equal(result, read(holder.expected)), (READS.index(read), type(holder.thing), result)

    def write(self):
        holder = self.pick()
        if holder is None or isinstance(holder.thing, memoryview) or not len(holder.expected):
            return
        if holder.opened.mode == "r" or (self.is_child and holder.opened.mode == "r+"):
            return
        place, value = self.random.randrange(len(holder.expected)), self.random.randrange(1 << 40)
        written = outcome(lambda thing: thing.__setitem__(place, value), holder.thing)
        if holder.opened.closed:
            assert written is nf.ClosedError, (type(holder.thing), written)
        else:
            assert written is None, written
            holder.expected[place] = value

    def close(self):
        holder = self.pick()
        if holder is None:
            return
        if is_through_class(holder):
            holder.thing.close()
        else:
            holder.opened.mapping.close()
        holder.opened.closed = True

    def drop(self):
        if self.holders:
            del self.holders[self.random.randrange(len(self.holders))]

    def make_cycle(self):
        holder = self.pick()
        if holder is not None:
            cycle = [holder.thing, holder.opened.mapping]
            cycle.append(cycle)

    def collect(self):
        if self.random.random() < 0.1:
            gc.collect()

    def reopen(self):
        """Replace a file by a new one with the same content; mappings of the old one keep it."""
        number = self.random.randrange(1, FILES)
        path = os.path.join(self.folder, f"{number}.dat")
        values(number).tofile(path + ".new")
        os.rename(path + ".new", path)

    def fork(self):
        pid = os.fork()
        if pid == 0:
            self.is_child = True
            status = 1
            try:
                self.live_on()
                status = 0
            finally:
                os._exit(status)
        # Closing in the child closes nothing here.
        for holder in self.holders:
            self.check(holder)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for holder in self.holders:
            self.check(holder)

    def live_on(self):
        for _ in range(STEPS):
            self.random.choice(
                [self.slice, self.plain_view, self.buffer, self.read, self.write, self.close, self.drop]
            )()
        for holder in self.holders:
            self.check(holder)
            if is_through_class(holder):
                holder.thing.close()
                holder.opened.closed = True
            self.check(holder)


def write_files(folder):
    for number in range(FILES):
        values(number).tofile(os.path.join(folder, f"{number}.dat"))


def run_batch(first, count, folder):
    for seed in range(first, first + count):
        if seed % 100 == 0:
            say(f"alive at seed {seed}")
        values(0).tofile(os.path.join(folder, "0.dat"))
        try:
            Sequence(seed, folder).run()
        except BaseException:
            say(f"failed at seed {seed}")
            raise
    return lines_of_maps(folder)


def lines_of_maps(folder):
    gc.collect()
    with open("/proc/self/maps") as maps:
        return sum(folder in line for line in maps)


@pytest.mark.at_once
def test_random_lives_never_crash_and_every_step_shows_right_values_or_closed_error(tmp_path):
    started = time.monotonic()
    count = faulty.rounds(full=FULL, short=SHORT)
    write_files(tmp_path)
    for first in range(0, count, BATCH):
        left_over = call(run_batch, first, min(BATCH, count - first), str(tmp_path)).result()
        assert left_over == 0
    faulty.record("lifetime", started, sequences=count, steps=count * STEPS, crashes=0, wrong=0)


def read_numpys_view_of_a_closed_map(folder):
    array = np.memmap(os.path.join(folder, "1.dat"), "i8", "r")
    view = np.asarray(array)
    array._mmap.close()
    return int(view.sum())


def test_control_a_view_of_numpys_memmap_dies_when_its_map_is_closed(tmp_path):
    write_files(tmp_path)
    ending = call(read_numpys_view_of_a_closed_map, str(tmp_path))
    assert ending.how == "SIGSEGV"
