"""The memory and the space that an atomic block takes, and the limit that it can be given."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest
from atomic_tables import OLD, UndoneError, assert_is, enter, refused
from faulty import PAGE, call

import ndfile as nf
from ndfile.errors import AtomicLimitError


@pytest.fixture
def pages(path):
    """A bare file of 64 pages of zeros, mapped from its first byte."""
    array = nf.memmap(path, "u1", "w+", shape=64 * PAGE)
    yield array
    array.close()


# As often as the pages may be looked at, and some more.
MANY_LOOKS_S = 10


@pytest.mark.parametrize(
    "store", [lambda a, n: a.__setitem__(n * PAGE, 1), lambda a, n: np.asarray(a)[n * PAGE :].fill(1)]
)
def test_stores_beyond_the_limit_raise_and_the_block_is_rolled_back(pages, path, store):
    ended_s = time.monotonic() + MANY_LOOKS_S
    with refused(pages, AtomicLimitError, limit=4 * PAGE):
        while time.monotonic() < ended_s:
            for number in range(64):
                store(pages, number)
        pytest.fail("no store raised")
    assert not pages.any()
    assert not np.fromfile(path, "u1").any()
    pages[5] = 1
    assert np.fromfile(path, "u1")[5] == 1


def test_a_block_that_is_quickly_beyond_the_limit_is_not_committed(pages, path):
    with refused(pages, AtomicLimitError, limit=4 * PAGE):
        pages[: 5 * PAGE] = 1
    assert not pages.any()
    assert not np.fromfile(path, "u1").any()


def test_a_block_as_large_as_the_limit_is_committed(pages, path):
    with pages.atomic(limit=4 * PAGE):
        pages[: 4 * PAGE] = 1
        time.sleep(0.1)
        pages[: 4 * PAGE] = 2
    assert np.fromfile(path, "u1").sum() == 8 * PAGE


def test_the_error_is_a_memory_error_that_names_file_and_limit(pages, path):
    with refused(pages, MemoryError, limit=4 * PAGE) as caught:
        pages[:] = 1
    assert isinstance(caught.value, AtomicLimitError)
    assert path in str(caught.value)


def test_a_caught_limit_error_does_not_let_the_rest_be_committed(pages, path):
    with refused(pages, AtomicLimitError, limit=4 * PAGE):
        with contextlib.suppress(AtomicLimitError):
            pages[:] = 1
            time.sleep(0.1)
            pages[:] = 1
        assert not np.fromfile(path, "u1").any()
    assert not np.fromfile(path, "u1").any()


def test_another_threads_stores_beyond_the_limit_raise_there(pages, path):
    seen = []

    def store():
        ended_s = time.monotonic() + MANY_LOOKS_S
        try:
            while time.monotonic() < ended_s:
                pages[:] = 1
        except AtomicLimitError as error:
            seen.append(error)

    with refused(pages, AtomicLimitError, limit=4 * PAGE):
        thread = threading.Thread(target=store)
        thread.start()
        thread.join()
    assert len(seen) == 1
    assert not np.fromfile(path, "u1").any()


def test_appended_rows_count_too(table, table_file):
    with refused(table, AtomicLimitError, limit=8 * PAGE):
        table[0] = -1
        table.append(OLD)
        time.sleep(0.1)
        table[-1] = 1
    assert table.shape == OLD.shape
    assert_is(table, table_file, OLD)
    table.append(OLD)
    assert len(np.load(table_file)) == 2 * len(OLD)


def test_a_block_after_one_beyond_the_limit_is_as_any(pages, path):
    with contextlib.suppress(AtomicLimitError), pages.atomic(limit=PAGE):
        pages[:] = 1
    with pages.atomic():
        pages[:] = 2
    assert (np.fromfile(path, "u1") == 2).all()


@pytest.mark.parametrize("limit", [-1, 1.5, "1 GiB", b"", [4096]])
def test_a_limit_that_is_none_is_refused(table, limit):
    with pytest.raises((TypeError, ValueError)):
        table.atomic(limit=limit).__enter__()
    enter(table)


def threads_of_the_system():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("undone", [False, True])
def test_nothing_that_watches_the_limit_outlives_the_block(pages, undone):
    before = threads_of_the_system(), len(os.listdir("/proc/self/fd"))
    enter(pages)
    with contextlib.suppress(UndoneError), pages.atomic(limit=PAGE):
        pages[0] = 1
        if undone:
            raise UndoneError
    pages.close()
    # The array kept its descriptor, which is closed now.
    assert (threads_of_the_system(), len(os.listdir("/proc/self/fd")) + 1) == before


def memory_of_my_own():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) << 10


def change_here_and_there(path):
    """How much memory a block takes over a file of 64 GiB, all hole, in which 1000 pages are changed."""
    nbytes = 64 << 30
    array = nf.memmap(path, "u1", "w+", shape=nbytes, sparse=True)
    with array.atomic():
        array[0] = 1
    before = memory_of_my_own()
    with array.atomic():
        array[: 64 << 20].max()  # reading takes none
        array[:: nbytes // 1000] = 1
        inside = memory_of_my_own() - before
    after = memory_of_my_own() - before
    count = int(array[:: nbytes // 1000].sum())
    array.close()
    return inside, after, count, os.stat(path).st_blocks * 512


def test_memory_and_space_are_taken_for_changed_pages_alone(path):
    inside, after, count, space = call(change_here_and_there, path).result()
    assert count == 1001
    assert 1000 * PAGE <= inside < 1000 * PAGE + (4 << 20)
    assert after < 4 << 20
    assert space < 2000 * PAGE + (4 << 20)
