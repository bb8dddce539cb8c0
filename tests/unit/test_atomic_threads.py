"""Atomic blocks, and the threads and forks that are there while one is open, and while it ends."""

import contextlib
import gc
import itertools
import signal
import sys
import threading
import time

import numpy as np
import pytest
from atomic_tables import OLD, UndoneError, assert_is, enter, names
from faulty import PAGE, call, forked
from growing import JOURNAL

import ndfile as nf
from ndfile.errors import LockedError

# ---- Threads ----


def store_until(stop, part, lost):
    """Store rising numbers into rows of one's own, and see after each that it is still there."""
    for number in itertools.count(1):
        part[:] = number
        if not (part == number).all():
            lost.append(number)
        if stop.is_set():
            return


def end_blocks_under_stores(table, undone, rounds=40):
    """Open and end blocks while threads store, and stop them at once. Gives what they found lost."""
    plain, lost = np.asarray(table), []
    for _ in range(rounds):
        stop = threading.Event()
        parts = [plain[3:20], plain[21:40]]
        threads = [threading.Thread(target=store_until, args=(stop, part, lost)) for part in parts]
        for thread in threads:
            thread.start()
        with contextlib.suppress(UndoneError), table.atomic():
            table[0] -= 1
            time.sleep(0.002)
            if undone:
                raise UndoneError
        stop.set()
        for thread in threads:
            thread.join()
    return lost


def test_stores_of_other_threads_while_a_block_commits_are_not_lost(table, table_file):
    lost = end_blocks_under_stores(table, undone=False)
    assert lost == []
    assert table[0, 0] == -40
    assert_is(table, table_file, np.array(table))


def test_stores_of_other_threads_after_a_rollback_are_in_the_file(table, table_file):
    end_blocks_under_stores(table, undone=True)
    assert table[0, 0] == 0
    assert (table[3:20] > 0).all()
    assert_is(table, table_file, np.array(table))


def test_stores_of_threads_that_ended_before_the_block_are_part_of_it(table, table_file):
    for undone in (True, False):
        with contextlib.suppress(UndoneError), table.atomic():
            threads = [threading.Thread(target=table.__setitem__, args=(row, -row - 1)) for row in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if undone:
                raise UndoneError
        wanted = OLD.copy()
        if not undone:
            wanted[:8] = -np.arange(1, 9)[:, None]
        assert_is(table, table_file, wanted)


def test_a_block_may_be_ended_by_another_thread(table, table_file):
    block = table.atomic()
    block.__enter__()
    table[0] = -1
    thread = threading.Thread(target=block.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert np.load(table_file)[0, 0] == -1


def test_of_many_threads_that_open_the_first_block_each_has_it_alone_or_is_told(table_file):
    switching_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            seen = []
            with nf.open(table_file, "r+") as table:
                start = threading.Barrier(4)
                threads = [threading.Thread(target=enter_and_count, args=(table, start, seen)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert set(seen) <= {"alone", "LockedError"}
                assert "alone" in seen
    finally:
        sys.setswitchinterval(switching_s)


def enter_and_count(table, start, seen):
    start.wait()
    try:
        with table.atomic():
            table[0] += 1
            seen.append("alone" if (table[0] == OLD[0] + 1).all() else "together")
            table[0] = OLD[0]
    except Exception as error:
        seen.append(type(error).__name__)


# ---- Forks ----

# A block that is looked after by a thread, which no fork has, and one that is not.
LIMITS = pytest.mark.parametrize("limit", [None, 32 * PAGE])

# A fork that hangs is ended, and seen to have ended badly.
HANGS_S = 20


@LIMITS
def test_a_fork_cannot_commit_and_its_parent_can(table, table_file, limit):
    block = table.atomic(limit=limit)

    def end():
        signal.alarm(HANGS_S)
        table[1] = -2
        try:
            block.__exit__(None, None, None)
        except OSError as error:
            return str(error)
        return "committed"

    with block:
        table[0] = -1
        assert "fork" in forked(end).result()
        np.testing.assert_array_equal(np.load(table_file), OLD)
        assert table[1, 0] == OLD[1, 0]
    wanted = OLD.copy()
    wanted[0] = -1
    assert_is(table, table_file, wanted)


@LIMITS
@pytest.mark.parametrize("end", [nf.memmap.close, id], ids=["close", "exit"])
def test_what_a_fork_does_leaves_its_parents_block_as_it_is(table, table_file, end, limit):
    with table.atomic(limit=limit):
        table[0] = -1

        def change_and_end():
            signal.alarm(HANGS_S)
            assert table[0, 0] == -1
            table[1:9] = -2
            end(table)

        forked(change_and_end).result()
        assert names(table_file) == ["x.npy", f"x.npy{JOURNAL}"]
        assert table[1, 0] == OLD[1, 0]
    wanted = OLD.copy()
    wanted[0] = -1
    assert_is(table, table_file, wanted)


def test_a_fork_of_a_writer_cannot_open_a_block_of_its_own(table, table_file):
    enter(table)

    def enter_too():
        with pytest.raises(OSError, match=table_file) as caught:
            enter(table)
        return isinstance(caught.value, LockedError)

    assert forked(enter_too).result()
    with table.atomic():
        table[0] = -1
    assert np.load(table_file)[0, 0] == -1


# ---- Without the guard ----


def commit_and_roll_back(path):
    table = nf.open(path, "r+")
    with table.atomic():
        table[0] = -1
    with contextlib.suppress(UndoneError), table.atomic():
        table[1] = -1
        raise UndoneError
    with contextlib.suppress(MemoryError), table.atomic(limit=PAGE):
        table[:] = -1
    del table
    gc.collect()


def test_blocks_do_without_the_guard(table_file):
    call(commit_and_roll_back, table_file, environment={"NDFILE_GUARD": "0"}).result()
    wanted = OLD.copy()
    wanted[0] = -1
    np.testing.assert_array_equal(np.load(table_file), wanted)
    assert names(table_file) == ["x.npy"]


def lose_stores(path):
    return len(end_blocks_under_stores(nf.open(path, "r+"), undone=False))


def test_stores_of_other_threads_are_lost_without_the_guard(table_file):
    """The control of the threads above: nothing holds their stores up."""
    assert call(lose_stores, table_file, environment={"NDFILE_GUARD": "0"}).result() > 0


def change_in_place(path):
    array = np.load(path, mmap_mode="r+")
    array[:32] = -1
    raise UndoneError


def test_numpy_leaves_half_of_it_in_the_file(table_file):
    """The control: an exception in the middle of a change in place."""
    with pytest.raises(UndoneError):
        change_in_place(table_file)
    assert np.unique(np.load(table_file) == -1).tolist() == [False, True]
