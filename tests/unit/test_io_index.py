"""Indices of rows that interrupt, close the array, or lie where the rows go."""

import operator
import os

import numpy as np
import pytest

import ndfile as nf

MIB = 1 << 20


@pytest.fixture
def array(tmp_path):
    """2 MiB of the numbers from 0 on, mapped with mode 'r+'."""
    np.arange(2 * MIB // 8).tofile(tmp_path / "x")
    with nf.memmap(str(tmp_path / "x"), np.int64, "r+") as array:
        yield array


class Acting:
    """A row number that does something when it is asked for the first time."""

    def __init__(self, act):
        self.act = act

    def _asked(self):
        act, self.act = self.act, lambda: None
        act()

    def __array__(self, dtype=None, copy=None):
        self._asked()
        return np.array([3])

    def __index__(self):
        self._asked()
        return 3


ACTS = {
    "a[[i]]": lambda a, i: a[[i]],
    "a[[i], :1]": lambda a, i: a.reshape(-1, 2)[[i], :1],
    "a.take([i])": lambda a, i: a.take([i]),
    "a[[i]] = 1": lambda a, i: operator.setitem(a, [i], 1),
    "a[[i], :1] = 1": lambda a, i: operator.setitem(a.reshape(-1, 2), ([i], slice(1)), 1),
    "a[i:] = 1": lambda a, i: operator.setitem(a, slice(i, None), 1),
    "a[i:,] = 1": lambda a, i: operator.setitem(a, (slice(i, None),), 1),
    "prefetch": lambda a, i: a.prefetch([i]),
    "release": lambda a, i: a.release([i]),
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_an_interrupt_while_the_index_is_asked_is_not_lost(array, act, error):
    def interrupt():
        raise error

    with pytest.raises(error):
        act(array, Acting(interrupt))
    assert array[3] == 3


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_an_array_that_is_closed_while_the_index_is_asked_closes_no_descriptor_of_others(array, act):
    others = []

    def close():
        array.close()
        others.extend(os.open(array.filename, os.O_RDONLY) for _ in range(3))

    try:
        with pytest.raises(nf.ClosedError):
            act(array, Acting(close))
    finally:
        for other in others:
            os.close(other)
    assert others


def test_an_array_that_is_read_by_its_descriptor_is_not_opened_again_once_it_is_closed(array):
    with nf.memmap(array.filename, np.int64, "r") as reader:
        reader.backend = "read"
        descriptors = os.listdir("/proc/self/fd")
        with pytest.raises(nf.ClosedError):
            reader[[Acting(reader.close)]]
        assert os.listdir("/proc/self/fd") == descriptors


def test_take_into_an_array_that_overlaps_the_index_is_numpys(array):
    buffer = np.arange(100)[::-1].copy()
    expected = buffer[:-1].copy()
    array.take(buffer[:-1], out=buffer[1:])
    np.testing.assert_array_equal(buffer[1:], expected)


def test_rows_of_a_broadcast_array_that_are_too_many_are_refused_as_numpy_refuses_them(array):
    wide = np.broadcast_to(array.view(np.uint8)[:4, None], (4, 2**60), subok=True)
    for gather in (lambda a: a[[0] * 100], lambda a: a.take([0] * 100, 0)):
        with pytest.raises(ValueError, match="too big"):
            gather(wide)
    assert wide.prefetch()
    assert wide.prefetch([1, 2])


@pytest.mark.parametrize("index", [True, np.True_, (True,), np.array(True), ([0], 1)], ids=repr)
@pytest.mark.parametrize("name", ["prefetch", "release"])
def test_an_index_that_copies_is_refused_where_pages_are_meant(array, name, index):
    with pytest.raises(nf.LayoutError, match="not one of rows"):
        getattr(array.reshape(-1, 2), name)(index)


@pytest.mark.parametrize("index", ["x", 1.5, ([1], 2)], ids=repr)
@pytest.mark.parametrize("name", ["prefetch", "release"])
def test_an_index_that_is_none_is_refused_in_numpys_words(array, name, index):
    table = array.reshape(-1, 2)
    with pytest.raises(IndexError) as theirs:
        np.asarray(table)[index]
    with pytest.raises(IndexError) as ours:
        getattr(table, name)(index)
    assert str(ours.value) == str(theirs.value)


def test_of_no_rows_there_is_nothing_to_ask_for(array):
    assert array.prefetch([])
    assert array.prefetch(np.zeros(0, int))
