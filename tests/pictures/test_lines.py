"""Lines by value: each column of pixels reaches from the least to the most of its items."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndfile as nf
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.envelope import enveloped
from ndfile.pictures.picture import Box
from ndfile.pictures.samples import PAGE, edges_of


def extremes(values, width):
    edges = edges_of(len(values), width)
    parts = [values[a:b][np.isfinite(values[a:b])] for a, b in itertools.pairwise(edges)]
    return [
        [part.min() if len(part) else np.nan for part in parts],
        [part.max() if len(part) else np.nan for part in parts],
    ]


@given(st.integers(1, 3000), st.integers(1, 300), st.integers(0, 9), st.sampled_from([1, -1, 3]))
def test_an_envelope_is_the_extremes_of_each_pixels_items(count, width, seed, step):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=count * 3)
    values[rng.random(len(values)) < 0.05 * seed] = rng.choice([np.nan, np.inf, -np.inf])
    values = values[::step]
    width = min(width, len(values))
    low, high, _ = enveloped(values, width)
    np.testing.assert_array_equal([low, high], extremes(values, width))


@pytest.mark.parametrize("dtype", [">i2", "u1", "f8", "?", "c8", "M8[s]"])
def test_a_line_is_drawn_from_low_to_high(path, dtype):
    values = (np.sin(np.arange(5000) / 300) * 100 + 100.5).astype("u1").astype(dtype)
    if dtype == "?":
        values = np.arange(5000) % 700 < 300
    np.save(path + ".npy", values)
    picture = pictured(subject_of(nf.open(path + ".npy")), Box(100, 250))
    real = abs(values) if dtype == "c8" else values
    low, high = extremes(real.astype("i8" if dtype[0] == "M" else float).astype(float), 250)
    np.testing.assert_array_equal(picture.values, [low, high])
    assert picture.drawn.shape == (100, 250)
    tops, bottoms = picture.drawn.argmax(0), 99 - picture.drawn[::-1].argmax(0)
    rows = [np.rint((1 - (np.array(ends) - picture.low) / (picture.high - picture.low)) * 99) for ends in (high, low)]
    assert (tops <= rows[0]).all()
    assert (bottoms >= rows[1]).all()
    assert picture.drawn[0].any()
    assert picture.drawn[-1].any()
    # Columns touch, and none is drawn further than to its neighbour.
    assert (tops[1:] <= bottoms[:-1] + 1).all()
    assert (bottoms[1:] >= tops[:-1] - 1).all()
    assert (np.maximum(tops, np.r_[0, tops[:-1]]) <= rows[0]).mean() > 0.4
    assert np.array_equal((picture.pixels == (31, 90, 150, 255)).all(2), picture.drawn)


def test_few_items_are_steps_as_wide_as_they_fit(path):
    np.save(path + ".npy", np.array([0, 1, 0.5]))
    picture = pictured(subject_of(nf.open(path + ".npy")), Box(11, 32))
    assert picture.drawn.shape == (11, 30)
    assert picture.drawn[10, :10].all()
    assert picture.drawn[0, 10:20].all()
    assert picture.drawn[5, 20:].all()


def test_gaps_of_nan_are_empty_and_a_line_of_nothing_else_is_too(path):
    values = np.arange(1000.0)
    values[400:600] = np.nan
    np.save(path + ".npy", values)
    picture = pictured(subject_of(nf.open(path + ".npy")), Box(50, 100))
    assert not picture.drawn[:, 40:60].any()
    assert picture.drawn[:, :40].any(0).all()
    np.save(path + "2.npy", np.full(1000, np.nan))
    picture = pictured(subject_of(nf.open(path + "2.npy")), Box(50, 100))
    assert not picture.drawn.any()
    assert picture.title.endswith("nothing finite")


@pytest.mark.parametrize("step", [1, -1, 7, 2048])
def test_a_line_too_long_to_be_read_is_sampled_in_windows_of_its_own_pixel(path, step):
    values = np.arange(1 << 20, dtype="i4")
    with nf.memmap(path, "i4", "w+", shape=values.shape) as a:
        a[...] = values
        width = min(50, len(values[::step]) // 4)
        low, high, words = enveloped(a[::step], width, most_pages=200)
        least, most = extremes(values[::step], width)
        slack = PAGE // 4  # a window may reach over the edge of its pixel
        assert (low >= np.array(least) - slack).all()
        assert (high <= np.array(most) + slack).all()
        assert (low <= high).all()
        assert words.startswith("sampled: ")


def test_a_range_cuts_a_line(path):
    np.save(path + ".npy", np.arange(1000.0))
    picture = pictured(subject_of(nf.open(path + ".npy")), Box(50, 100), extent=(400, 600))
    assert not picture.drawn[:, :30].any()
    assert not picture.drawn[:, 70:].any()
    assert picture.drawn[:, 42:58].any(0).all()
