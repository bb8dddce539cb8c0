"""Layout: dtype, shape, offset and order as a range of bytes."""

import numpy as np
import pytest

from ndfile import LayoutError, SizeError
from ndfile.layout import LIMIT, Layout


@pytest.mark.parametrize(
    ("dtype", "shape", "offset", "nbytes"),
    [
        ("u1", (), 0, 1),
        ("f4", (3, 4), 0, 48),
        (">i8", 5, 7, 40),
        ("f4", (0, 10**9), 3, 0),
        ("u1,f8", (2,), 1, 18),
        ("(2,3)f4", (5,), 0, 120),
        ("S5", [4], 11, 20),
        ("M8[s]", np.array([2, 2]), 0, 32),
        ("u1", (2**31, 2**31), 0, 2**62),
    ],
)
def test_the_range_is_the_items_after_the_offset(dtype, shape, offset, nbytes):
    layout = Layout(dtype, shape, offset, "C")
    assert (layout.nbytes, layout.offset, layout.end) == (nbytes, offset, offset + nbytes)
    assert layout.dtype == np.dtype(dtype)
    assert not layout.is_open


@pytest.mark.parametrize("shape", [7, np.int32(7), np.array(7), (7,), [7], np.array([7]), range(7, 8), (np.uint8(7),)])
def test_any_integer_or_sequence_of_integers_is_a_shape(shape):
    sizes = Layout("u1", shape, 0, "C").shape
    assert sizes == (7,)
    assert type(sizes[0]) is int


@pytest.mark.parametrize("shape", [1.0, (1.0,), "3", ("3",), (None,), {}.keys, np.array([1.5]), b"\x01"[:0].decode])
def test_a_shape_of_anything_else_is_a_type_error_that_shows_it(shape):
    with pytest.raises(TypeError, match="shape must be an integer or a sequence of integers, not"):
        Layout("u1", shape, 0, "C")


@pytest.mark.parametrize(
    ("shape", "negative"), [(-1, "-1"), ((3, -4), "-4"), ((0, -2), "-2"), ((-1, -1), "-1"), ([2, -7], "-7")]
)
def test_a_negative_size_is_refused_by_name(shape, negative):
    with pytest.raises(LayoutError, match=f"negative size, {negative}"):
        Layout("u1", shape, 0, "C")


@pytest.mark.parametrize(
    ("order", "taken"), [("C", "C"), ("c", "C"), ("F", "F"), ("f", "F"), ("A", "C"), ("K", "C"), (None, "C")]
)
def test_an_order_is_what_numpy_makes_of_it(order, taken):
    assert Layout("u1", 1, 0, order).order == taken
    assert np.ndarray((2, 2), order=order).flags.f_contiguous == (taken == "F")


@pytest.mark.parametrize("order", ["Z", "", "CF", "fortran", 1])
def test_another_order_is_refused(order):
    with pytest.raises(LayoutError, match=f"not {order!r}"):
        Layout("u1", 1, 0, order)


@pytest.mark.parametrize(
    "dtype", [object, "O", [("a", "u1"), ("b", object)], ("O", 3), np.dtypes.StringDType()], ids=str
)
def test_a_dtype_that_holds_pointers_is_refused(dtype):
    with pytest.raises(LayoutError, match="holds pointers"):
        Layout(dtype, 1, 0, "C")


@pytest.mark.parametrize("dtype", ["S", "U", "V", "V0", "S0", [], ("f4", (0,))], ids=str)
def test_a_dtype_without_bytes_is_refused(dtype):
    with pytest.raises(LayoutError, match="items of 0 bytes"):
        Layout(dtype, 1, 0, "C")


@pytest.mark.parametrize("dtype", ["nonsense", "f3", 3.5, ("f4", "f8", "f4")], ids=str)
def test_no_dtype_at_all_is_the_error_that_numpy_raises(dtype):
    with pytest.raises(TypeError):
        np.dtype(dtype)
    with pytest.raises(TypeError):
        Layout(dtype, 1, 0, "C")


def test_a_negative_offset_is_refused_by_name():
    with pytest.raises(LayoutError, match="offset -8 is negative"):
        Layout("u1", 1, -8, "C")


@pytest.mark.parametrize("offset", [1.0, "1", None, (1,)])
def test_an_offset_that_is_no_integer_is_a_type_error(offset):
    with pytest.raises(TypeError):
        Layout("u1", 1, offset, "C")


@pytest.mark.parametrize(
    ("dtype", "shape", "offset"),
    [
        ("u1", 2**63, 0),
        ("f8", (2**31, 2**31), 0),
        ("u1", (2**40, 2**40, 2**40), 0),
        ("u1", 1, LIMIT),
        ("u1", None, 2**63),
        ("u1", 2**62, 2**62),
    ],
)
def test_an_end_that_no_file_has_is_refused_with_both_numbers(dtype, shape, offset):
    with pytest.raises(LayoutError, match=rf"ends at byte \d+, a file at most at {LIMIT}"):
        Layout(dtype, shape, offset, "C")


def test_the_last_byte_of_the_largest_file_can_be_named():
    assert Layout("u1", LIMIT, 0, "C").end == LIMIT
    assert Layout("u1", 1, LIMIT - 1, "C").end == LIMIT


def test_an_open_layout_takes_the_whole_items_that_are_there():
    layout = Layout("f4", None, 5, "C")
    assert layout.is_open
    layout.fill("x", 25)
    assert (layout.shape, layout.nbytes, layout.end, layout.is_open) == ((5,), 20, 25, False)


def test_an_open_layout_at_the_end_of_the_file_has_no_items():
    layout = Layout("f4", None, 8, "C")
    layout.fill("x", 8)
    assert layout.shape == (0,)


@pytest.mark.parametrize(("offset", "size", "left_over"), [(0, 10, 2), (1, 8, 3)])
def test_a_part_of_an_item_does_not_fill_a_layout(offset, size, left_over):
    with pytest.raises(SizeError, match=rf"{size - offset} bytes .* items of 4 bytes \({left_over} left over\)"):
        Layout("f4", None, offset, "C").fill("x", size)


def test_a_file_that_ends_before_the_offset_does_not_fill_a_layout():
    with pytest.raises(SizeError, match=r"offset 9, the file ends at 4 \(5 bytes before it\)"):
        Layout("f4", None, 9, "C").fill("x", 4)


def test_a_layout_fits_a_file_that_ends_with_it_and_no_shorter_one():
    layout = Layout("f4", (3,), 2, "C")
    layout.check_inside("x", 14)
    with pytest.raises(SizeError, match=r"needs 12 bytes from offset 2, the file has 11 \(1 short\)"):
        layout.check_inside("x", 13)


def test_no_layout_fits_an_empty_file():
    with pytest.raises(SizeError, match="empty file of 0 bytes"):
        Layout("f4", (0,), 0, "C").check_inside("x", 0)


@pytest.mark.parametrize(("shape", "text"), [(None, "float32"), ((2, 3), "float32 (2, 3)"), (4, "float32 (4,)")])
def test_a_layout_shows_as_dtype_and_shape(shape, text):
    assert str(Layout("f4", shape, 0, "C")) == text
