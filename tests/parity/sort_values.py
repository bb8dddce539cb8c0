"""Items to sort, of every type, and how they are compared."""

import ml_dtypes
import numpy as np

import ndfile as nf

DTYPES = [
    *("?", "i1", ">u2", "f2", "i4", ">i8", "u8", "f4", ">f8", "g", "c8", ">c16", "M8[s]", ">m8[D]", "S1", "S5", ">U2"),
    *("V3", [("a", "i2"), ("b", ">f4")], ml_dtypes.bfloat16, ml_dtypes.float8_e5m2),
]


def items_of(dtype, count, seed):
    """Some items, many of them equal, with NaNs, zeros of both signs and infinities where there are."""
    dtype, draw = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.names:
        found = np.zeros(count, dtype)
        found["a"], found["b"] = draw.integers(-3, 3, count), draw.integers(0, 3, count)
        return found
    if dtype.kind in "SU":
        return draw.choice(np.array([b"ab", b"", b"zzzz", b"b"]), count).astype(dtype)
    if dtype.kind == "V" and dtype.num < 256:
        return draw.integers(0, 3, (count, dtype.itemsize), np.uint8).reshape(-1).view(dtype)
    if dtype.kind in "biumM":
        found = draw.integers(-9, 9, count).astype(dtype)
        if dtype.kind in "mM":
            found[draw.random(count) < 0.2] = "NaT"
        return found
    found = draw.integers(-9, 9, count).astype(dtype)
    for value in (-0.0, np.inf, np.nan):
        found[draw.random(count) < 0.1] = value
    return found


def expected_of(array, axis, kind="stable"):
    if array.dtype.num < 256:
        return np.sort(array, axis, kind)
    return np.sort(array.astype("f4"), axis, kind).astype(array.dtype)  # ml_dtypes do not order NaNs


def assert_same(found, expected):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype.num >= 256:
        found, expected = found.astype("f4"), expected.astype("f4")
    np.testing.assert_array_equal(np.asarray(found), expected)


def mapped(path, values):
    """A .npy of values, to be written."""
    nf.save(path, values)
    return nf.open(path, "r+")
