"""Closing with views alive: the file is given back at once, and whoever touches it afterwards is told."""

import os
import pickle

import numpy as np
import pytest

import ndfile as nf

MODES = ("r", "r+", "w+", "c")

# What is left over, and a use of it.
LEFT_OVER = {
    "the array itself": (lambda a: a, lambda x: x[0, 0]),
    "a view": (lambda a: a[1:], lambda x: x.sum()),
    "a transposed view": (lambda a: a.T, lambda x: x + 1),
    "a view of a view": (lambda a: a[1:][::-1], np.sort),
    "a plain view": (np.asarray, lambda x: x.sum()),
    "a view of a plain view": (lambda a: np.asarray(a)[1:], lambda x: float(x[0, 0])),
    "a memoryview": (memoryview, bytes),
    "the flat iterator": (lambda a: a.flat, lambda x: x.copy()),
    "a buffer of the mapping": (lambda a: memoryview(a._mmap), bytes),
    "an array from the buffer": (lambda a: np.frombuffer(a, "u1"), lambda x: x.max()),
    "a broadcast view": (lambda a: np.broadcast_to(a, (2, 3, 4)), lambda x: x.copy()),
    "a masked array": (np.ma.asarray, lambda x: x.sum()),
    "an array by DLPack": (np.from_dlpack, lambda x: x.tolist()),
}


@pytest.fixture
def array_of(numbers_file):
    """A function that maps the numbers."""
    return lambda mode: nf.memmap(numbers_file, np.float32, mode, shape=(3, 4))


@pytest.mark.parametrize(("hold", "use"), LEFT_OVER.values(), ids=LEFT_OVER)
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_what_is_left_over_raises_each_time_it_is_used(array_of, mode, hold, use, numbers_file):
    if mode == "r" and hold is np.from_dlpack:
        pytest.skip("NumPy exports no read-only array by DLPack")
    array = array_of(mode)
    left_over = hold(array)
    array.close()
    assert array.closed
    for _ in range(3):
        with pytest.raises(nf.ClosedError) as caught:
            use(left_over)
        assert str(caught.value.path) == numbers_file
        assert caught.value.cause == "closed"


@pytest.mark.at_once
@pytest.mark.parametrize("mode", ["r+", "w+", "c"])
def test_writing_to_what_is_left_over_raises_and_reaches_no_file(array_of, mode, numbers_file):
    array = array_of(mode)
    plain = np.asarray(array)
    array.close()
    with open(numbers_file, "rb") as file:
        before = file.read()

    def write():
        plain[0] = 9
        return len("the next line")

    with pytest.raises(nf.ClosedError):
        write()
    with pytest.raises(nf.ClosedError):
        array[0] = 9
    with open(numbers_file, "rb") as file:
        assert file.read() == before


@pytest.mark.parametrize("mode", MODES)
def test_memory_and_descriptor_are_given_back_with_views_alive(array_of, mode, numbers_file):
    descriptors = os.listdir("/proc/self/fd")
    array = array_of(mode)
    views = [array[1:], np.asarray(array), memoryview(array)]
    array.close()
    with open("/proc/self/maps") as maps:
        assert numbers_file not in maps.read()
    assert os.listdir("/proc/self/fd") == descriptors
    assert len(views) == 3


def test_a_view_can_close_the_array(array_of):
    array = array_of("r+")
    array[1:].close()
    assert array.closed


def test_the_changes_made_before_are_in_the_file(array_of, numbers_file):
    array = array_of("r+")
    view = array[1]
    view[:] = 7
    array.close()
    assert np.fromfile(numbers_file, np.float32).reshape(3, 4)[1].tolist() == [7, 7, 7, 7]


def test_the_error_of_a_left_over_view_can_be_pickled(array_of):
    array = array_of("r")
    plain = np.asarray(array)
    array.close()
    with pytest.raises(nf.ClosedError) as caught:
        plain.sum()
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.offset == 0
