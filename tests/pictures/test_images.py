"""Images by value: what a picture shows is what plain NumPy computes of the array."""

import io
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

import ndfile as nf
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.picture import Box, frame
from ndfile.pictures.samples import edges_of, pages_of, sampled
from ndfile.pictures.shades import colour_map


def mean_of_cells(values, height, width):
    """The same by plain loops: means of the finite items of each pixel."""
    rows, columns = (edges_of(size, pixels) for size, pixels in zip(values.shape, (height, width), strict=True))
    values = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        cells = [
            np.nanmean(values[a:b, c:d]) for a, b in itertools.pairwise(rows) for c, d in itertools.pairwise(columns)
        ]
    return np.reshape(cells, (height, width))


@pytest.fixture
def saved(tmp_path):
    """A function that saves an array, and opens it."""

    def save(values, name="x.npy"):
        np.save(tmp_path / name, values)
        return nf.open(tmp_path / name)

    return save


def seen(array, height=600, width=800, **ways):
    ways = {name: ways.pop(name) for name in ("index", "field", "kind") if name in ways}, ways
    return pictured(subject_of(array, **ways[0]), Box(height, width), **ways[1])


def test_a_small_array_is_shown_item_by_item(saved):
    values = np.arange(12.0).reshape(3, 4)
    picture = seen(saved(values), 300, 400)
    assert picture.pixels.shape == (192, 256, 4)  # each item is a square of 64 pixels
    assert np.array_equal(picture.values[:, :, 0], values)
    shades = np.floor(values / 11 * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(picture.pixels[32::64, 32::64, 0], shades)
    assert np.array_equal(picture.pixels[:, :, 0], np.kron(shades, np.ones((64, 64), np.uint8)))
    assert picture.title == "x.npy: float64 (3, 4), scale 0 to 11 (least to most)"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "<i2", ">u4", "?", "f2"])
def test_pixels_are_means_of_the_items_that_they_cover(saved, order, dtype):
    values = (np.random.default_rng(1).random((301, 467)) * 100 - (30 if dtype[-2:-1] in ("f", "i") else 0)).astype(
        dtype
    )
    a = saved(np.asarray(values, order=order))
    picture = seen(a, 100, 200)
    height, width = picture.values.shape[:2]
    assert_allclose(picture.values[:, :, 0], mean_of_cells(values.astype(float), height, width), rtol=1e-12)
    low, high = (0, 1) if dtype == "?" else np.percentile(picture.values, [1, 99])
    assert (picture.low, picture.high) == (low, high)
    shades = np.clip((picture.values[:, :, 0] - low) / (high - low), 0, 1) * 255
    assert abs(picture.pixels[:, :, 0] - shades).max() <= 0.5 + 1e-6
    assert "a pixel is the mean of" in picture.title


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.integers(1, 30), st.data())
def test_samples_of_any_shape_and_strides_are_means(rows, columns, height, width, data):
    values = np.random.default_rng(rows).integers(-99, 99, (rows, columns)).astype(float)
    values[np.random.default_rng(columns).random(values.shape) < 0.1] = np.nan
    values = values[:: data.draw(st.sampled_from([1, -1])), :: data.draw(st.sampled_from([1, -1]))]
    height, width = min(height, rows), min(width, columns)
    given_values = values if data.draw(st.booleans()) else np.asfortranarray(values)
    found = sampled(given_values[:, :, None], height, width)
    assert_allclose(found.values[:, :, 0], mean_of_cells(values, height, width), rtol=1e-12, atol=1e-12)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_a_frame_fits_its_box_and_no_item_is_cut(rows, columns, height, width, has_high_pixels):
    box = Box(height, width, 2.0 if has_high_pixels else 1.0)
    found_height, found_width, is_stretched = frame(rows, columns, box)
    assert 1 <= found_height <= height
    assert 1 <= found_width <= width
    for pixels, items in ((found_height, rows), (found_width, columns)):
        assert pixels < items or pixels % items == 0
    if max(rows, columns) <= 2 * min(rows, columns) and min(height, width) > 50 and not has_high_pixels:
        assert not is_stretched


# ---- What is no ordinary number ----


def test_nan_and_infinity_are_transparent_and_leave_the_scale_alone(saved):
    values = np.arange(100.0).reshape(10, 10)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    picture = seen(saved(values), 10, 10)
    assert (picture.low, picture.high) == (3, 99)
    assert picture.pixels[0, :4, 3].tolist() == [0, 0, 0, 255]
    with Image.open(io.BytesIO(picture.png())) as image:
        assert np.array_equal(np.asarray(image.convert("RGBA")), picture.pixels)


@pytest.mark.parametrize("value", [0.0, -7.0, np.nan, np.inf, 1e308, 5e-324])
def test_a_constant_array_is_one_colour(saved, value):
    picture = seen(saved(np.full((20, 30), value)))
    assert (picture.pixels == picture.pixels[0, 0]).all()
    assert ("constant" if np.isfinite(value) else "nothing finite") in picture.title


def test_the_ends_of_floats_have_a_scale(saved):
    most = np.finfo(float).max
    picture = seen(saved(np.array([[-most, 0.0], [most, 0.0]])), 2, 2)
    assert picture.pixels[:, :, 0].tolist() == [[0, 128], [255, 128]]


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (0, 0, 3), (3, 0, 4, 4)])
def test_an_empty_array_says_so(saved, shape):
    picture = seen(saved(np.empty(shape)))
    assert picture.pixels.shape == (1, 1, 4)
    assert picture.title.endswith("no items")


def test_outliers_do_not_make_the_rest_one_shade(saved):
    values = np.random.default_rng(0).random((100, 100))
    values[3, 3] = 1e9
    picture = seen(saved(values), 100, 100)
    assert picture.high < 1
    assert picture.title.endswith("(1st to 99th percentile)")


def test_a_range_is_taken_as_given(saved):
    picture = seen(saved(np.array([[0.0, 5.0, 10.0, 20.0]] * 2)), 2, 4, extent=(5, 10))
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 255, 255]
    assert "scale 5 to 10" in picture.title


@pytest.mark.parametrize("extent", [(1, 1), (2, 1), (0, np.nan), (-np.inf, 0)])
def test_a_range_that_is_none_is_refused(saved, extent):
    with pytest.raises(nf.LayoutError, match="range"):
        seen(saved(np.zeros((2, 2))), extent=extent)


def test_colour_maps_have_their_published_ends_and_darken_to_one_side(saved):
    assert colour_map("viridis")[[0, -1]].tolist() == [[0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25]]
    assert colour_map("grey").tolist() == [[i, i, i] for i in range(256)]
    for name in ("viridis", "magma"):
        assert (np.diff(colour_map(name) @ np.array([0.299, 0.587, 0.114])) > -0.6).all()
    matplotlib = pytest.importorskip("matplotlib")
    theirs = matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    assert abs(colour_map("viridis").astype(int) - theirs).max() <= 16  # of ten points, on lines between them
    picture = seen(saved(np.array([[0.0, 1.0]] * 2)), 2, 2, colours="viridis")
    assert np.array_equal(picture.pixels[0, :, :3], colour_map("viridis")[[0, 255]])
    with pytest.raises(nf.LayoutError, match="colour map"):
        seen(saved(np.zeros((2, 2))), colours="jet")


# ---- Colours ----


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4"])
def test_a_last_axis_of_three_or_four_is_colours(saved, channels, dtype):
    most = np.iinfo(dtype).max if dtype[-2] == "u" else 1.0
    values = (np.random.default_rng(2).random((40, 50, channels)) * most).astype(dtype)
    picture = seen(saved(values), 40, 50)
    wanted = np.floor(values.astype(float) / most * 255 + 0.5)
    assert abs(picture.pixels[:, :, :channels] - wanted).max() <= 1e-6
    assert channels == 4 or (picture.pixels[:, :, 3] == 255).all()


def test_floats_beyond_one_are_no_colours_unless_they_are_said_to_be(saved):
    values = np.random.default_rng(3).random((40, 50, 3)) * 3
    a = saved(values)
    assert subject_of(a).kind == "image"
    picture = seen(a, 40, 50, kind="colours", extent=(0, 3))
    assert abs(picture.pixels[:, :, :3] - np.floor(values / 3 * 255 + 0.5)).max() <= 1e-6
    with pytest.raises(nf.LayoutError, match="no colours"):
        subject_of(saved(np.zeros((4, 5, 6)), "y.npy"), kind="colours")


# ---- Large ones: what is looked at are the array's own items ----


@pytest.mark.parametrize(("shape", "order"), [((3000, 2500), "C"), ((2500, 3000), "F"), ((40, 200_000), "C")])
def test_of_a_large_array_each_pixel_is_of_items_in_its_own_cell(path, shape, order):
    with nf.memmap(path, "i4", "w+", shape=shape, order=order) as a:
        for axis in (0, 1):
            a[...] = np.expand_dims(np.arange(shape[axis]), 1 - axis)
            found = sampled(a[:, :, None], 30, 40, most_pages=400)
            numbers = np.moveaxis(found.values[:, :, 0], axis, -1)
            edges = edges_of(shape[axis], numbers.shape[1])
            assert found.values.size > 300
            assert ((numbers >= edges[:-1]) & (numbers < edges[1:])).all()
            assert found.words.startswith("sampled: every ")


def test_a_sample_of_one_item_a_pixel_is_that_item(path):
    values = np.random.default_rng(4).random((64, 1024))
    with nf.memmap(path, "f8", "w+", shape=values.shape) as a:
        a[...] = values
        found = sampled(a.T[:, :, None].swapaxes(0, 1)[:, ::512], 16, 2, most_pages=32)
        assert np.array_equal(found.values[:, :, 0], values[2::4, ::512])
        assert found.words == "sampled: every 4th row"


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([8, 4096, 8192, 12288]), st.sampled_from([8, 4096, 40]))
def test_a_row_is_on_no_more_pages_than_are_counted_for_it(rows, columns, row_step, column_step):
    row = np.lib.stride_tricks.as_strided(np.zeros(1), (rows, columns), (row_step, column_step))
    places = np.arange(rows)[:, None] * row_step + np.arange(columns) * column_step
    for start in (0, 8, 4088):
        touched = {page for place in places.ravel() + start for page in (place // 4096, (place + 7) // 4096)}
        assert len(touched) <= pages_of(row)
