"""What can be appended: dtypes, values and shapes that fit, and that nothing is changed by what does not."""

import numpy as np
import pytest
from growing_kinds import load, numbered, unchanged

import ndfile as nf
from ndfile.errors import LayoutError

MIB = 1 << 20


# ---- Values ----


KINDS_OF_NUMBERS = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G"]
OTHER_KINDS = ["S3", "U3", "M8[s]", "M8[D]", "m8[s]", "V4", "O"]


@pytest.mark.parametrize("dtype", KINDS_OF_NUMBERS)
def test_casting_is_that_of_same_kind(npy_of, dtype):
    with npy_of(np.zeros(1, dtype)) as array:
        for other in KINDS_OF_NUMBERS + OTHER_KINDS:
            rows = np.ones(2, other) if other in KINDS_OF_NUMBERS else np.zeros(2, other)
            if np.can_cast(other, dtype, "same_kind"):
                array.append(rows)
                np.testing.assert_array_equal(load(array)[-2:], rows.astype(dtype))
            else:
                with unchanged(array), pytest.raises(TypeError, match="same_kind"):
                    array.append(rows)


FITS = {
    "largest": ("u1", np.array([0, 255], "u8")),
    "smallest": ("i1", np.array([-128, 127], "i8")),
    "infinite": ("f4", np.array([np.inf, -np.inf], "f8")),
    "no number": ("f4", np.array([np.nan, -np.nan], "f8")),
    "largest float": ("f4", np.array([np.finfo("f4").max, np.finfo("f4").min], "f8")),
    "rounded": ("f4", np.array([0.1, 1 / 3], "f8")),
    "too small for a float": ("f4", np.array([1e-300, -1e-300], "f8")),
    "rounded integer": ("f4", np.array([2**24 + 1, 2**62 + 1], "i8")),
    "complex": ("c8", np.array([1 + 2j, complex(np.inf, np.nan)], "c16")),
    "text": ("S3", np.array([b"abc", b"a"], "S9")),
    "unicode": ("U3", np.array(["abc", "\u00e9"], "U9")),
    "other order": (">i2", np.array([1, -1], "<i8")),
    "no time": ("M8[D]", np.array(["NaT", "2020-01-01"], "M8[s]")),
    "coarser time": ("M8[D]", np.array(["2020-01-01T12", "1969-12-31T23"], "M8[s]")),
    "fields": ([("a", "u1"), ("b", "f4")], np.array([(255, 1.5), (0, np.inf)], [("a", "u2"), ("b", "f8")])),
    "bool": ("?", np.array([True, False])),
}


@pytest.mark.parametrize(("dtype", "rows"), FITS.values(), ids=FITS)
def test_a_value_that_fits_is_appended_as_numpy_casts_it(npy_of, dtype, rows):
    with npy_of(np.zeros(1, dtype)) as array:
        array.append(rows)
        assert load(array)[1:].tobytes() == rows.astype(dtype).tobytes()


TOO_LARGE = {
    "integer": ("u1", np.array([1, 256], "u2")),
    "smaller integer": ("i1", np.array([1, -129], "i8")),
    "larger integer": ("i4", np.array([1, 2**31], "i8")),
    "unsigned in signed": ("i4", np.array([1, 2**31], "u4")),
    "one of 64 bits in signed": ("i8", np.array([1, 2**63], "u8")),
    "that wraps to itself": ("i8", np.array([1, 2**64 - 1], "u8")),
    "float": ("f4", np.array([1, 1e39], "f8")),
    "half float": ("f2", np.array([1, 65520], "f4")),
    "integer in a half float": ("f2", np.array([1, 70_000], "i4")),
    "long float": ("f8", np.array([1, 2], "g") * np.longdouble("1e4000")),
    "complex": ("c8", np.array([1, 1e39j], "c16")),
    "float in complex": ("c8", np.array([1, -1e39], "f8")),
    "text": ("S3", np.array([b"abc", b"abcd"], "S4")),
    "unicode": ("U3", np.array(["abc", "abcd"], "U4")),
    "number in text": ("S2", np.array([1, 100], "i8")),
    "time": ("M8[ns]", np.array(["2020-01-01", "9999-01-01"], "M8[D]")),
    "duration": ("m8[ns]", np.array([1, 2**60], "m8[s]")),
    "field": ([("a", "u1"), ("b", "f4")], np.array([(1, 1), (256, 1)], [("a", "u2"), ("b", "f4")])),
    "float in a field": ([("a", "u1"), ("b", "f4")], np.array([(1, 1), (1, 1e39)], [("a", "u1"), ("b", "f8")])),
    "text in a field": ([("a", "S2")], np.array([(b"ab",), (b"abc",)], [("a", "S3")])),
    "in a field of arrays": ([("a", "u1", (2,))], np.array([([1, 2],), ([3, 256],)], [("a", "u2", (2,))])),
}


@pytest.mark.parametrize(("dtype", "rows"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_value_that_does_not_fit_is_refused(npy_of, dtype, rows):
    with npy_of(np.zeros(1, dtype)) as array:
        assert np.can_cast(rows.dtype, array.dtype, "same_kind")
        with unchanged(array), pytest.raises(OverflowError):
            array.append(rows)


def test_a_value_that_does_not_fit_is_found_in_the_last_of_many_pieces(npy_of):
    with npy_of(np.zeros(1, "u1")) as array:
        rows = np.zeros(20 * MIB, "u2")
        rows[-1] = 256
        with unchanged(array), pytest.raises(OverflowError):
            array.append(rows)


NUMBERS = {
    "integers": ("u1", [0, 255]),
    "negative integers": ("i1", [-128, 127]),
    "integers for floats": ("f4", [1, 2]),
    "floats": ("f4", [0.1, float("inf")]),
    "integers for complex": ("c8", [1, 2]),
    "complex": ("c8", [1j, 2]),
    "large integers": ("u8", [2**64 - 1, 0]),
    "bools": ("?", [True, False]),
    "bools for integers": ("i4", [True, False]),
    "bytes": ("S3", [b"abc", b""]),
    "text": ("U3", ["abc", "\u00e9"]),
    "tuples": ([("a", "u1"), ("b", "f4")], [(1, 2.5), (3, 4)]),
    "times": ("M8[s]", ["2020-01-01", "NaT"]),
    "numpy's times": ("M8[s]", [np.datetime64("2020-01-01", "D"), np.datetime64("NaT")]),
    "numpy's numbers": ("f4", [np.float64(1.5), np.int64(3)]),
}


@pytest.mark.parametrize(("dtype", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_a_list_is_taken_as_the_arrays_dtype(npy_of, dtype, numbers):
    with npy_of(np.zeros(1, dtype)) as array:
        array.append(numbers)
        np.testing.assert_array_equal(load(array)[1:], np.array(numbers, dtype))


NOT_NUMBERS = {
    "too large": ("u1", [1, 256], OverflowError),
    "negative": ("u1", [1, -1], OverflowError),
    "larger than any": ("i8", [1, 2**70], OverflowError),
    "too large a float": ("f4", [1.0, 1e39], OverflowError),
    "too large an integer for a float": ("f2", [1, 70_000], OverflowError),
    "float": ("i4", [1.5, 2.5], TypeError),
    "whole float": ("i4", [1.0, 2.0], TypeError),
    "complex": ("f8", [1j, 2], TypeError),
    "integer for bool": ("?", [1, 0], TypeError),
    "text": ("f8", ["1", "2"], TypeError),
    "nothing": ("f8", [None, None], TypeError),
    "objects": ("f8", [object(), object()], TypeError),
    "long bytes": ("S2", [b"ab", b"abc"], OverflowError),
    "long text": ("U2", ["ab", "abc"], OverflowError),
    "too large a field": ([("a", "u1")], [(1,), (256,)], OverflowError),
    "ragged": ("f8", [[1, 2], [3]], ValueError),
}


@pytest.mark.parametrize(("dtype", "numbers", "error"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_a_list_that_is_nothing_of_that_is_refused(npy_of, dtype, numbers, error):
    with npy_of(np.zeros(1, dtype)) as array, unchanged(array), pytest.raises(error):
        array.append(numbers)


def test_a_number_of_numpys_has_its_own_dtype(npy_of):
    with npy_of(np.zeros(1, "i4")) as array, unchanged(array), pytest.raises(TypeError, match="float64"):
        array.append(np.float64(3))


# ---- Shapes ----


@pytest.mark.parametrize("shape", [(), (2,), (4,), (2, 2), (2, 4), (1, 1), (1, 2, 3), (2, 3, 1), (0,), (0, 2)])
def test_rows_of_another_shape_are_refused_by_both_names(npy_of, shape):
    with npy_of(numbered(5)) as array, unchanged(array), pytest.raises(LayoutError) as caught:
        array.append(np.zeros(shape, "f4"))
    assert str(shape) in str(caught.value)
    assert "(5, 3)" in str(caught.value)


@pytest.mark.parametrize("shape", [(), (2,), (3,), (3, 5), (4, 2), (5, 3, 1)])
def test_columns_of_another_shape_are_refused(tmp_path, shape):
    with nf.create(tmp_path / "x.npy", (5, 3), "f4", "F") as array, unchanged(array), pytest.raises(LayoutError):
        array.append(np.zeros(shape, "f4"))


def test_no_rows_must_have_the_shape_of_rows(npy_of):
    with npy_of(numbered(5)) as array:
        array.append(np.zeros((0, 3), "f4"))
        with unchanged(array), pytest.raises(LayoutError):
            array.append([])


def test_a_square_row_is_one_row(npy_of):
    """Equal sizes do not make it ambiguous: the number of axes tells."""
    with npy_of(np.zeros((2, 2, 2))) as array:
        array.append(np.ones((2, 2)))
        assert array.shape == (3, 2, 2)


def test_an_array_without_axes_does_not_grow(tmp_path):
    np.save(tmp_path / "x.npy", np.float64(3))
    with nf.open(tmp_path / "x.npy", "r+") as array, unchanged(array), pytest.raises(LayoutError):
        array.append(np.float64(3))
