"""What writes to the file instead of storing, or gives up pages, while another thread makes it wrong to do so."""

import contextlib
import ctypes
import os
import threading
import time

import numpy as np
import pytest
from failing import compile_shim
from faulty import call

import ndfile as nf

SHAPE = (64, 1 << 16)


@pytest.fixture(scope="module")
def slow_calls(tmp_path_factory):
    """The path of a library by which such calls begin late."""
    return compile_shim(tmp_path_factory.mktemp("shim"), "slow_calls")


@contextlib.contextmanager
def late(name, act):
    """`act` in another thread, up to its first call of a function; in the end it is done."""
    library = ctypes.CDLL(None)
    library.slow_arm(name.encode())
    thread = threading.Thread(target=act)
    thread.start()
    while library.slow_calls() == 0:
        time.sleep(0.001)
    library.slow_arm(b"")
    yield thread
    thread.join()


def release_late(path):
    with nf.open(path, "r+") as array, late("madvise", array.release) as thread:
        with array.atomic():
            array[0] = 7
            thread.join()
        return np.unique(array[0]).tolist()


def store_late_and_change_in_a_block(path):
    with nf.open(path, "r+") as array:
        with array.atomic():
            pass  # the first one makes a journal, which takes its time
        array.release()
        with late("pwrite", lambda: array.fill(1)) as thread, array.atomic():
            array[32, 5] = 7
            thread.join()
        return np.unique(array[32], return_counts=True)[1].tolist()


def store_late_and_shorten(path):
    with nf.open(path, "r+") as array:
        array.release()
        errors = []

        def fill():
            try:
                array.fill(1)
            except nf.FaultError as error:
                errors.append(str(error))

        with late("pwrite", fill):
            array.resize((1, SHAPE[1]))
        return [array.offset + array.nbytes, os.path.getsize(path)]


@pytest.fixture
def done(slow_calls, tmp_path):
    """A function that calls another one with the path of a file of zeros, where such calls begin late."""
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros(SHAPE, np.uint8))
    return lambda act: call(act, path, environment={"LD_PRELOAD": slow_calls}, timeout_s=60).result()


def test_what_an_atomic_block_changes_is_not_lost_by_a_release_that_began_before(done):
    assert done(release_late) == [7]


def test_of_a_store_and_an_atomic_block_that_began_meanwhile_none_is_lost(done):
    assert done(store_late_and_change_in_a_block) == [SHAPE[1] - 1, 1]


def test_a_store_does_not_let_the_file_grow_that_was_cut_meanwhile(done):
    end, size = done(store_late_and_shorten)
    assert size == end
