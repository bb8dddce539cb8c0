"""Numbers of bytes as people write them."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndfile.errors import LayoutError
from ndfile.sizes import LIMIT, UNITS, nbytes_of


@pytest.mark.parametrize(
    ("size", "nbytes"),
    [
        (1, 1),
        (np.int16(77), 77),
        ("512 MiB", 512 << 20),
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 << 29),
        (" 64kib ", 64 << 10),
        ("4096", 4096),
        ("10 bytes", 10),
        ("0.5 TiB", 1 << 39),
    ],
)
def test_a_size_is_what_it_says(size, nbytes):
    assert nbytes_of(size, "max_rss") == nbytes


@given(st.integers(1, LIMIT))
def test_an_int_and_its_text_are_the_same_size(number):
    assert nbytes_of(number, "x") == nbytes_of(str(number), "x") == nbytes_of(f"{number} B", "x") == number


@given(st.integers(1, 10**6), st.integers(0, 999), st.sampled_from(sorted(UNITS)))
def test_a_fraction_of_a_unit_is_rounded_down_and_exact(whole, thousandths, unit):
    number = whole * UNITS[unit] + thousandths * UNITS[unit] // 1000
    text = f"{whole}.{thousandths:03} {unit.upper()}"
    if number <= LIMIT:
        assert nbytes_of(text, "x") == number
    else:
        with pytest.raises(LayoutError):
            nbytes_of(text, "x")


@given(st.text())
def test_any_text_is_a_size_or_a_layout_error(text):
    with contextlib.suppress(LayoutError):
        assert 0 < nbytes_of(text, "x") <= LIMIT


@pytest.mark.parametrize(
    "size", [0, -1, "0", "0.2 B", "-1", "1 XB", "", "MiB", "1e9", "1 2", "1.", "9" * 31, 2**63, "٣"]
)
def test_what_is_no_number_of_bytes_above_zero_is_refused(size):
    with pytest.raises(LayoutError, match="max_rss"):
        nbytes_of(size, "max_rss")


@pytest.mark.parametrize("size", [True, np.True_, 1.5, b"1", [1], object()])
def test_what_is_neither_an_int_nor_a_text_is_a_type_error(size):
    with pytest.raises(TypeError, match="max_rss must be an int"):
        nbytes_of(size, "max_rss")
