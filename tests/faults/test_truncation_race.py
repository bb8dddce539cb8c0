"""A file that is cut while threads read it: every operation gives the right values or raises."""

import os
import pickle
import random
import threading
import time

import faulty
import numpy as np
import pytest
from faulty import PAGE, call, compile_library, say

import ndfile as nf

THREADS = 8
FULL, SHORT = 200_000, 300
BATCH = 10_000  # rounds to a process

PAGES = 16
ITEMS = PAGES * PAGE // 8
PICKED = np.random.default_rng(1).permutation(ITEMS)[:500]

# The same operation on the array and on the values that it held. All of them pass our class on their way out. What
# does not (a memoryview, a plain view, a destination that is a plain array) is told of faults of its own only: in the
# moment of another thread's it may read zeros.
READS = {
    "sum": lambda a: int(a.sum()),
    "item": lambda a: int(a[-1]),
    "copy": lambda a: a.copy(),
    "slice": lambda a: a[7:-7].copy(),
    "add": lambda a: a + 1,
    "ufunc": lambda a: np.negative(a),
    "max": lambda a: int(a.max()),
    "fancy": lambda a: a[PICKED],
    "astype": lambda a: a.astype("f8"),
    "tobytes": lambda a: a.tobytes(),
    "tolist": lambda a: a[::16].tolist(),
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "sort": lambda a: np.sort(a[::-1]),
    "compare": lambda a: a > 5,
}


def expected_results(base):
    return {name: read(base) for name, read in READS.items()}


class Readers:
    """Threads that live through all rounds, and meet before and after each of them."""

    def __init__(self, base, seed):
        self.barrier = threading.Barrier(THREADS + 1)
        self.expected = expected_results(base)
        self.array = None
        self.is_over = False
        self.problems = []
        self.counts = {"right": 0, "raised": 0}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.live, args=(random.Random(seed + i),)) for i in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def live(self, rng):
        names = list(READS)
        while True:
            self.barrier.wait()
            if self.is_over:
                return
            right, raised = 0, 0
            for _ in range(3):
                name = rng.choice(names)
                answer = self.read(name, self.array)
                right += answer == "right"
                raised += answer == "raised"
                if answer not in ("right", "raised"):
                    self.problems.append([name, answer])
            with self.lock:
                self.counts["right"] += right
                self.counts["raised"] += raised
            self.barrier.wait()

    def read(self, name, array):
        try:
            try:
                result = READS[name](array)
                is_right = np.array_equal(result, self.expected[name])
            except nf.FaultError as error:
                return "raised" if error.cause == "truncated" else repr(error)
        except BaseException as error:
            return f"escaped: {error!r}"
        return "right" if is_right else "missed"

    def end(self):
        self.is_over = True
        self.barrier.wait()
        for thread in self.threads:
            thread.join()


def play(first, count, folder):
    """Cut a file once in every round, somewhere in the middle of its being read. Never grow what is mapped."""
    base = np.arange(ITEMS, dtype="i8") * 3 + 1
    content = base.tobytes()
    path = os.path.join(folder, "race.dat")
    readers = Readers(base, first)
    rng = random.Random(first)
    before = None
    for number in range(first, first + count):
        with open(path, "wb") as file:  # restores the file under the mapping of the last round, which is lost already
            file.write(content)
        array = readers.array = nf.memmap(path, "i8", ("r", "r+", "c")[number % 3])
        cut = rng.randrange(PAGES) * PAGE
        delay = rng.random() * 300e-6
        readers.barrier.wait()
        until = time.perf_counter() + delay
        while time.perf_counter() < until:
            pass
        os.truncate(path, cut)
        readers.barrier.wait()
        # By now it is cut for everybody, and what the last round lost is lost for good.
        for name in ("sum", rng.choice(list(READS))):
            answer = readers.read(name, array)
            if answer != "raised":
                readers.problems.append([name, f"after the cut: {answer}"])
        if before is not None and readers.read("copy", before) != "raised":
            readers.problems.append(["copy", "of the round before"])
        if not np.array_equal(array[: cut // 8], base[: cut // 8]):
            readers.problems.append(["data", "before the cut"])
        before = array
        if number % 100 == 0:
            say(f"alive at round {number}")
    readers.end()
    return {**readers.counts, "problems": readers.problems}


def test_threads_that_read_a_file_while_it_is_cut_get_right_values_or_an_error(tmp_path):
    started = time.monotonic()
    rounds = faulty.rounds(full=FULL, short=SHORT)
    figures = {"right": 0, "raised": 0}
    problems = []
    for first in range(0, rounds, BATCH):
        played = call(play, first, min(BATCH, rounds - first), str(tmp_path)).result()
        problems += played.pop("problems")
        for name, number in played.items():
            figures[name] += number
    faulty.record("truncation_race", started, rounds=rounds, deaths=0, missed=len(problems), **figures)
    assert problems == []
    # The control: the rounds met both sides of the cut.
    assert min(figures.values()) > 0  # both happened, or there was no race


def read_numpys(folder):
    path = os.path.join(folder, "race.dat")
    np.ones(ITEMS, "i8").tofile(path)
    array = np.memmap(path, "i8", "r")

    def read():
        while True:
            array.sum()

    threads = [threading.Thread(target=read, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    os.truncate(path, PAGE)
    for thread in threads:
        thread.join()


def test_control_numpys_memmap_dies_in_the_same_race(tmp_path):
    assert call(read_numpys, str(tmp_path)).how == "SIGBUS"


# Another thread's fault opens the lost pages for a moment. Here the moment lasts.


HOLD = """
#include <unistd.h>

int touch_and_wait(const volatile char *address, int told, int go) {
    char byte = *address;
    write(told, &byte, 1);
    read(go, &byte, 1);
    return 0;
}
"""


def read_while_another_holds_the_pages_open(folder, library, mode):
    import ctypes

    touch = ctypes.CDLL(library).touch_and_wait
    base = np.arange(ITEMS, dtype="i8") * 3 + 1
    path = os.path.join(folder, "held.dat")
    base.tofile(path)
    array = nf.memmap(path, "i8", mode)
    os.truncate(path, PAGE)
    (told_out, told), (go, go_in) = os.pipe(), os.pipe()
    caught = []

    def hold():
        try:
            touch(ctypes.c_void_p(array.ctypes.data + 2 * PAGE), told, go)
            return
        except nf.FaultError as error:
            caught.append(error.cause)

    holder = threading.Thread(target=hold)
    holder.start()
    os.read(told_out, 1)
    readers = Readers.__new__(Readers)
    readers.expected = expected_results(base)
    answers = {name: readers.read(name, array) for name in READS}
    os.write(go_in, b"x")
    holder.join()
    return [answers, caught]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_an_operation_raises_also_while_another_thread_has_the_lost_pages_open(tmp_path, mode):
    library = compile_library(tmp_path, HOLD)
    answers, caught = call(read_while_another_holds_the_pages_open, str(tmp_path), library, mode).result()
    assert answers == dict.fromkeys(READS, "raised")
    assert caught == ["truncated"]


# Plain views: the thread that faulted is told before its next line


def sum_a_cut_view(folder, log):
    path = os.path.join(folder, f"view-{threading.get_ident()}.dat")
    np.ones(ITEMS, "i8").tofile(path)
    view = np.asarray(nf.memmap(path, "i8", "r"))
    os.truncate(path, PAGE)
    try:
        view.sum()
        log.append("next line")
    except nf.FaultError as error:
        log.append([error.cause, error.offset, error.path == path])


def sum_in_threads(folder, rounds):
    log = []
    for _ in range(rounds):
        sum_a_cut_view(folder, log)
        # The main thread is inside join() for all of the thread's life.
        thread = threading.Thread(target=sum_a_cut_view, args=(folder, log))
        thread.start()
        thread.join()
    return [entry for entry in log if entry != ["truncated", PAGE, True]], len(log)


def test_a_plain_view_raises_before_the_next_line_in_the_main_thread_and_beside_a_main_thread_in_join(tmp_path):
    rounds = faulty.rounds(full=20_000, short=300)
    wrong, told = call(sum_in_threads, str(tmp_path), rounds).result()
    assert wrong == []
    assert told == 2 * rounds


def sum_in_many_threads(folder, rounds):
    log = []

    def work():
        for _ in range(rounds):
            sum_a_cut_view(folder, log)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [entry for entry in log if entry != ["truncated", PAGE, True]], len(log)


def test_plain_views_of_many_threads_at_once_each_raise_before_the_next_line(tmp_path):
    rounds = faulty.rounds(full=20_000, short=100)
    wrong, told = call(sum_in_many_threads, str(tmp_path), rounds).result()
    assert wrong == []
    assert told == THREADS * rounds
