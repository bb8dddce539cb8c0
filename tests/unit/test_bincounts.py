"""Counts of numbers by blocks, against NumPy's own."""

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndfile as nf
from ndfile.compute import bincounts, tallies
from ndfile.compute.bincounts import bincount
from ndfile.errors import FaultError

DTYPES = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", ">i2", ">u4", ">i8"]


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch):
    """Blocks of a few items."""
    monkeypatch.setattr(bincounts, "BLOCK_NBYTES", 200)
    monkeypatch.setattr(tallies, "BLOCK_NBYTES", 200)


def assert_as_numpy(x, *args, **kwargs):
    ours, numpys = bincount(x, *args, **kwargs), np.bincount(x, *args, **kwargs)
    assert (type(ours), ours.dtype) == (type(numpys), numpys.dtype)
    np.testing.assert_array_equal(ours, numpys)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_counts_are_numpys(dtype, data):
    elements = st.booleans() if dtype == "b1" else st.integers(0, 120)
    x = data.draw(hnp.arrays(dtype, st.integers(1, 300), elements=elements))
    x = data.draw(st.sampled_from([x, x[::-1], x[::3]]))
    assert_as_numpy(x, minlength=data.draw(st.sampled_from([0, 5, 1000])))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["b1", "u1", "i8", "f4", ">f8"])
def test_weights_are_added_up(dtype, kind):
    rng = np.random.default_rng(0)
    x, weights = rng.integers(0, 50, 3000).astype(dtype), rng.integers(0, 9, 3000).astype(kind)
    assert_as_numpy(x, weights)
    assert_as_numpy(x[::-2], weights[::2], 80)


@pytest.mark.parametrize("dtype", ["u4", "i8", ">i4"])
def test_counts_may_be_more_than_a_block_bears(dtype):
    x = np.random.default_rng(1).integers(0, 400_000, 2000).astype(dtype)
    assert_as_numpy(x)
    assert bincount(x, np.ones(x.size)) is NotImplemented


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8"])
def test_negative_numbers_are_numpys_error(dtype):
    x = np.arange(100).astype(dtype)
    x[70] = -1
    with pytest.raises(ValueError, match="negative") as numpys:
        np.bincount(x)
    with pytest.raises(ValueError, match="negative") as ours:
        bincount(x)
    assert str(ours.value) == str(numpys.value)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (([1, 2],), {}),
        ((np.zeros(0, int),), {}),
        ((np.zeros(3),), {}),
        ((np.zeros(3, np.uint64),), {}),
        ((np.zeros((3, 3), int),), {}),
        ((np.zeros(3, int),), {"minlength": -1}),
        ((np.zeros(3, int),), {"minlength": None}),
        ((np.zeros(3, int), np.zeros(2)), {}),
        ((np.zeros(3, int), np.zeros(3, complex)), {}),
        ((np.zeros(3, int), [1, 2, 3]), {}),
    ],
    ids=str,
)
def test_the_rest_is_left_to_numpy(args, kwargs):
    assert bincount(*args, **kwargs) is NotImplemented


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8"])
def test_the_number_of_threads_changes_nothing(dtype):
    rng = np.random.default_rng(2)
    x, weights = rng.integers(0, 100, 3000).astype(dtype), rng.normal(size=3000)
    for args in ((x,), (x, weights)):
        assert len({bincount(*args, threads=threads).tobytes() for threads in (1, 2, 5)}) == 1


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "i8"])
@pytest.mark.parametrize("minlength", [0, 300_000])
def test_a_file_that_was_cut_is_an_error(tmp_path, dtype, minlength):
    np.ones(50_000, dtype).tofile(tmp_path / "x.bin")
    with nf.memmap(tmp_path / "x.bin", dtype, "r") as x:
        assert_as_numpy(x, minlength=minlength)
        os.truncate(x.filename, 8192)
        with pytest.raises(FaultError):
            bincount(x, minlength=minlength)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "i4", ">i8"])
@pytest.mark.parametrize("length", [10, 200_000])
def test_memory_is_bounded(monkeypatch, dtype, length):
    monkeypatch.undo()
    x = np.zeros(96 << 20, np.uint8).view(dtype)
    bincount(x[:100])
    tracemalloc.start()
    try:
        bincount(x, minlength=length, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
