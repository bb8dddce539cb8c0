"""What of an array is looked at, and that the title says so."""

import numpy as np
import pytest

import ndfile as nf
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.picture import Box


@pytest.fixture
def saved(tmp_path):
    def save(values):
        nf.save(tmp_path / "x.npy", values)
        return nf.open(tmp_path / "x.npy")

    return save


def seen(array, **ways):
    subject = subject_of(array, **ways)
    return subject, pictured(subject, Box(60, 80))


def test_of_more_axes_the_last_two_are_seen_in_the_middle_of_the_others(saved):
    values = np.random.default_rng(0).random((5, 7, 20, 30))
    subject, picture = seen(saved(values))
    assert np.array_equal(subject.items[:, :, 0], values[2, 3])
    assert subject.axes == (2, 3)
    assert "[2, 3, :, :]" in picture.title


def test_in_order_f_the_first_two_are_seen_for_their_items_are_near(saved):
    values = np.asfortranarray(np.random.default_rng(0).random((20, 30, 5, 7)))
    subject, picture = seen(saved(values))
    assert np.array_equal(subject.items[:, :, 0], values[:, :, 2, 3])
    assert "[:, :, 2, 3]" in picture.title


def test_axes_of_one_are_passed_by(saved):
    values = np.random.default_rng(0).random((1, 20, 1, 30))
    assert np.array_equal(seen(saved(values))[0].items[:, :, 0], values[0, :, 0])
    assert seen(saved(values[:, :1]))[0].kind == "line"


def test_a_slice_is_looked_at_as_it_is_asked_for(saved):
    values = np.random.default_rng(0).random((5, 7, 20, 30))
    subject, picture = seen(saved(values), index=(4, slice(None, None, 3), Ellipsis, -1))
    assert np.array_equal(subject.items[:, :, 0], values[4, ::3, :, -1])
    assert "[4, ::3, ..., -1]" in picture.title
    assert "of it [1, :, :]" in seen(saved(values), index=4)[1].title.replace("of it [3", "of it [1")


def test_a_structured_array_is_seen_by_a_field(saved):
    values = np.zeros((10, 12), [("name", "S3"), ("at", [("x", "f4"), ("y", ">f8")]), ("n", "i2", (3,))])
    values["at"]["y"] = np.random.default_rng(0).random((10, 12))
    values["n"] = np.random.default_rng(0).integers(0, 9, (10, 12, 3))
    a = saved(values)
    subject, picture = seen(a, field="at.y")
    assert np.array_equal(subject.items[:, :, 0], values["at"]["y"])
    assert "field 'at', field 'y'" in picture.title
    assert np.array_equal(seen(a)[0].items[:, :, 0], values["at"]["x"])  # the first one of numbers
    assert seen(a, field="n")[0].items.shape == (12, 3, 1)
    for field in ("z", "at.z", "at.x.y", ""):
        with pytest.raises(nf.LayoutError, match="no field"):
            subject_of(a, field=field)


@pytest.mark.parametrize("dtype", ["S3", "U2", "V5"])
def test_what_is_no_number_is_refused(saved, dtype):
    with pytest.raises(nf.LayoutError, match="no numbers"):
        subject_of(saved(np.zeros(3, dtype)))


def test_complex_items_are_seen_by_their_magnitude(saved):
    values = np.random.default_rng(0).random((9, 9)) * np.exp(1j * np.arange(9))
    _, picture = seen(saved(values))
    np.testing.assert_allclose(picture.values[:, :, 0], abs(values))
    assert "magnitude" in picture.title


@pytest.mark.parametrize("dtype", ["<M8[D]", ">M8[s]", "m8[ms]"])
def test_times_have_a_scale_of_times_and_nat_is_nothing(saved, dtype):
    values = np.arange(100).astype(dtype).reshape(10, 10)
    values[0, 0] = "NaT"
    _, picture = seen(saved(values))
    assert picture.pixels[0, 0, 3] == 0
    assert picture.pixels[-1, -1, 3] == 255
    assert (picture.low, picture.high) == (1, 99)
    assert f"scale {values[0, 1]} to {values[-1, -1]}" in picture.title


def test_types_of_ml_dtypes_are_numbers(saved):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.arange(100).reshape(10, 10).astype(ml_dtypes.bfloat16)
    assert np.array_equal(seen(saved(values))[1].values[:, :, 0], values.astype(float))


def test_views_reversed_and_transposed_are_seen_as_they_are(saved):
    values = np.random.default_rng(0).random((20, 30))
    a = saved(values)
    for view, wanted in ((a.T, values.T), (a[::-1], values[::-1]), (a[3:9, ::-2], values[3:9, ::-2])):
        assert np.array_equal(seen(view)[1].values[:, :, 0], wanted)


def test_an_array_without_a_file_is_seen_too():
    _, picture = seen(np.arange(12).reshape(3, 4))
    assert picture.title.startswith("array: int64 (3, 4)")


def test_a_single_item_is_a_line(saved):
    assert seen(saved(np.array(5.0)))[1].title == "x.npy: float64 (), 5 to 5 (constant)"


@pytest.mark.parametrize(
    ("ways", "error"),
    [
        ({"index": ([1, 2],)}, nf.LayoutError),
        ({"index": 99}, IndexError),
        ({"index": (1, 2, 3)}, IndexError),
        ({"kind": "sound"}, nf.LayoutError),
        ({"index": 1, "kind": "image"}, nf.LayoutError),
        ({"field": "x"}, nf.LayoutError),
    ],
)
def test_what_does_not_fit_is_refused(saved, ways, error):
    with pytest.raises(error):
        subject_of(saved(np.zeros((4, 5))), **ways)


def test_names_that_would_move_a_cursor_are_escaped_in_titles(tmp_path):
    np.save(tmp_path / "a\x1b[2J\nb.npy", np.zeros((2, 2)))
    title = seen(nf.open(tmp_path / "a\x1b[2J\nb.npy"))[1].title
    assert title.isprintable()
    assert title.startswith(r"a\x1b[2J\nb.npy: float64")


def test_a_closed_array_says_so(saved):
    a = saved(np.zeros((5, 5)))
    a.close()
    with pytest.raises(nf.ClosedError):
        seen(a)
