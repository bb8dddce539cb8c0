"""What threads do to an array, and processes that are forked, while others of its rows are on their way."""

import contextlib
import operator
import signal
import threading
import time

import numpy as np
import pytest
from faulty import forked

import ndfile as nf

KIB = 1 << 10
ROW_NBYTES = 64 * KIB
ROWS = 64


@pytest.fixture
def rows_file(tmp_path):
    """The path of 64 rows of 64 KiB, of zeros."""
    path = tmp_path / "rows"
    path.write_bytes(bytes(ROWS * ROW_NBYTES))
    return str(path)


def mapped(path, mode="r+"):
    return nf.memmap(path, np.uint8, mode, shape=(ROWS, ROW_NBYTES))


@contextlib.contextmanager
def other_thread(act):
    """`act` in a thread that has begun; what it raises comes in the end."""
    errors, begun = [], threading.Event()

    def work():
        begun.set()
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    yield thread
    thread.join()
    if errors:
        raise errors[0]


def store_for_long(array):
    """A store of one row, 100,000 times over: about a second without the interpreter's lock."""
    array[np.zeros(100_000, np.intp)] = np.ones(ROW_NBYTES, np.uint8)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_can_close_an_array_whose_rows_another_thread_of_its_parent_stores(rows_file):
    array = mapped(rows_file)

    def close():
        signal.alarm(30)  # ends it if it waits for a thread that it has not
        array.close()
        return array.closed

    def store():
        while not stop.is_set():
            store_for_long(array)

    stop = threading.Event()
    with other_thread(store):
        try:
            time.sleep(0.02)
            closed = forked(close)
        finally:
            stop.set()
    assert closed.result() is True
    array.close()


def test_closing_does_not_wait_for_ever_where_threads_gather_without_a_pause(rows_file):
    array = mapped(rows_file)
    index = np.tile(np.arange(ROWS), 8)

    def gather():
        with contextlib.suppress(nf.ClosedError):
            for _ in range(3000):
                array[index]
            pytest.fail("it was not closed")

    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(other_thread(gather))
        array.close()


def test_an_atomic_block_begins_though_another_thread_stores_without_a_pause(rows_file):
    done, values = [], np.ones((ROWS, ROW_NBYTES), np.uint8)

    def store():
        for _ in range(2000):
            array[...] = values
            done.append(1)
            if stop.is_set():
                break

    stop = threading.Event()
    with mapped(rows_file) as array, other_thread(store):
        time.sleep(0.01)
        with array.atomic():
            begun_after = len(done)
        stop.set()
    assert begun_after < 2000


ACTS = {"gather": lambda array, index: array[index], "scatter": lambda array, index: operator.setitem(array, index, 1)}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_rows_that_another_thread_cuts_off_while_they_are_moved_raise(tmp_path, act):
    """They are on the page on which the array then ends: that page gives no fault."""
    index = np.full(40_000_000, 99)  # for some hundredths of a second
    raised = []

    def move():
        try:
            result = act(array, index)
        except nf.FaultError as error:
            raised.append(error)
        else:
            assert result is None or result.all()

    for number in range(20):  # who is not given a processor comes too late to cut
        np.save(tmp_path / f"{number}.npy", np.ones(100, np.uint8))
        with nf.open(str(tmp_path / f"{number}.npy"), "r+") as array, other_thread(move):
            time.sleep(0.015)
            array.resize(50)
        if raised:
            break
    assert raised
