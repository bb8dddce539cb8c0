"""How often each value of one or two bytes occurs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndfile._core import tally

DTYPES = ["b1", "i1", "u1", "i2", "u2"]


def tallied(values):
    counts = np.zeros(1 << 8 * values.itemsize, np.int64)
    tally(values, counts)
    return counts


def expected(values):
    return np.bincount(values.view(f"u{values.itemsize}"), minlength=1 << 8 * values.itemsize)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(0, 2**32 - 1), st.integers(0, 70_000), st.integers(0, 9))
def test_each_value_is_counted_at_the_place_of_its_bits(dtype, seed, nbytes, start):
    raw = np.random.default_rng(seed).integers(0, 256, nbytes + start, np.uint8)
    values = raw[start:][: nbytes // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].copy().view(dtype)
    np.testing.assert_array_equal(tallied(values), expected(values))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_values_are_counted_through_tables(dtype):
    values = np.random.default_rng(0).integers(0, 256, 600_001 * np.dtype(dtype).itemsize, np.uint8).view(dtype)
    np.testing.assert_array_equal(tallied(values), expected(values))


@pytest.mark.parametrize("dtype", DTYPES)
def test_runs_of_equal_values_are_counted(dtype):
    values = np.repeat(np.arange(100), 1001).astype(dtype)
    np.testing.assert_array_equal(tallied(values), expected(values))


def test_counts_are_added_to():
    counts = np.arange(256)
    tally(np.array([3, 3, 255], np.uint8), counts)
    assert (counts[3], counts[4], counts[255]) == (5, 4, 256)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(4, np.int32),
        np.zeros(4, np.float16),
        np.zeros((2, 2), np.uint8),
        np.zeros(8, np.uint8)[::2],
        np.zeros(4, np.dtype(np.int16).newbyteorder()),
        [1, 2],
    ],
)
def test_other_values_are_refused(values):
    with pytest.raises(TypeError, match="values must be"):
        tally(values, np.zeros(256, np.int64))


def fixed(counts):
    counts.flags.writeable = False
    return counts


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(255, np.int64),
        np.zeros(256, np.uint64),
        np.zeros(256, np.int32),
        np.zeros(512, np.int64)[::2],
        fixed(np.zeros(256, np.int64)),
        None,
    ],
)
def test_other_counts_are_refused(counts):
    with pytest.raises(TypeError, match="counts must be"):
        tally(np.zeros(4, np.uint8), counts)
