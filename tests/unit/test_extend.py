"""Extending: all that an iterable gives."""

import tracemalloc

import numpy as np
import pytest
from growing_kinds import load, numbered, unchanged

from ndfile.errors import LayoutError

MIB = 1 << 20


ITERABLES = {
    "list": list,
    "tuple": tuple,
    "generator": lambda rows: (row for row in rows),
    "array": lambda rows: rows,
    "map": lambda rows: map(np.array, rows),
}


@pytest.mark.parametrize("iterable", ITERABLES.values(), ids=ITERABLES)
@pytest.mark.parametrize("sync", [False, True])
def test_an_array_is_extended_by_the_rows_of_an_iterable(kind, tmp_path, iterable, sync):
    with kind.make(tmp_path, numbered(2)) as array:
        assert array.extend(iterable(numbered(100, 2)), sync=sync) is None
        np.testing.assert_array_equal(kind.read(array), numbered(102))


def test_an_array_is_extended_by_rows_of_several_at_once(kind, tmp_path):
    with kind.make(tmp_path, numbered(2)) as array:
        array.extend([kind.turned(numbered(3, 2)), numbered(1, 5)[0], kind.turned(numbered(0))])
        np.testing.assert_array_equal(kind.read(array), numbered(6))


def test_an_array_of_one_axis_is_extended_by_numbers(npy_of):
    with npy_of(np.arange(3)) as array:
        array.extend(range(3, 100_000))
        np.testing.assert_array_equal(load(array), np.arange(100_000))


def test_an_array_is_extended_by_nothing(kind, tmp_path):
    with kind.make(tmp_path, numbered(2)) as array:
        array.extend([])
        np.testing.assert_array_equal(kind.read(array), numbered(2))


def test_an_array_is_extended_beyond_memory_of_the_rows(npy_of):
    with npy_of(np.zeros((1, 1 << 20), "u1")) as array:
        tracemalloc.start()
        array.extend(np.full(1 << 20, number, "u1") for number in range(1, 65))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(array[:, 0], np.arange(65))
        assert peak < 40 * MIB


def test_an_iterable_that_raises_leaves_whole_rows(npy_of):
    def rows():
        yield from numbered(5, 4)
        raise KeyError("this one")

    with npy_of(numbered(4)) as array:
        with pytest.raises(KeyError, match="this one"):
            array.extend(rows())
        np.testing.assert_array_equal(load(array), numbered(len(array)))
        assert 4 <= len(array) <= 9
        array.append(numbered(1, len(array)))
        np.testing.assert_array_equal(load(array), numbered(len(array)))


@pytest.mark.parametrize("rows", [[1, 2], ["a", "b", "c"], [1, 2, 1e39], 5])
def test_a_row_that_does_not_fit_leaves_those_before_it(npy_of, rows):
    with npy_of(numbered(4)) as array:
        with pytest.raises((LayoutError, TypeError, OverflowError)):
            array.extend([*numbered(2, 4), rows])
        np.testing.assert_array_equal(load(array), numbered(len(array)))
        assert 4 <= len(array) <= 6


def test_rows_may_be_drawn_from_the_array_that_grows(npy_of):
    with npy_of(numbered(4)) as array:
        array.extend(array[number] for number in range(4))
        np.testing.assert_array_equal(load(array), np.vstack([numbered(4), numbered(4)]))


def test_what_is_no_iterable_is_refused(npy_of):
    with npy_of(np.arange(3)) as array, unchanged(array), pytest.raises(TypeError):
        array.extend(5)


def test_an_iterable_may_append_by_itself(npy_of):
    def rows():
        array.append(numbered(1, 90)[0])
        yield numbered(1, 91)[0]

    with npy_of(numbered(4)) as array:
        array.extend(rows())
        np.testing.assert_array_equal(load(array)[4:], numbered(2, 90))
