"""`ndfile stats`: the figures are NumPy's, and the histogram counts every value once."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from command_line import golden
from hypothesis.extra import numpy as npst

NUMBERS = st.one_of(
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)
FIGURES = ("mean", "std", "min", "max")


def test_the_figures_of_a_recording(recording, document):
    values = np.load(recording)
    found = document("stats", recording)
    assert found["count"] == values.size
    for name in FIGURES:
        assert found[name] == pytest.approx(getattr(values, name)())
    for percent, value in found["percentiles"].items():
        assert value == np.percentile(values, float(percent))
    assert sum(found["histogram"]["counts"]) == values.size
    counts, _ = np.histogram(values, found["histogram"]["edges"])
    assert found["histogram"]["counts"] == counts.tolist()


def test_the_figures_of_every_channel(recording, document, fine):
    values = np.load(recording)
    found = document("stats", recording, "--axis", 0, "--percentiles", "10,50")
    for name in FIGURES:
        np.testing.assert_allclose(found[name], getattr(values, name)(0))
    np.testing.assert_allclose(found["percentiles"]["10"], np.percentile(values, 10, 0))
    assert found["histogram"] is None
    golden("stats_channels", fine("stats", recording, "--axis", 0))


def test_a_drawing_of_a_recording(recording, fine):
    golden("stats_recording", fine("stats", recording))


def test_a_drawing_in_an_encoding_without_blocks(recording, fine):
    golden("stats_ascii", fine("stats", recording, "--bins", 8, "--percentiles", "none", encoding="ascii"))


def test_a_field_of_structured_items(events, document, fine, ndfile):
    found = document("stats", events, "--field", "energy")
    assert found["max"] == 4.9
    assert found["field"] == "energy"
    golden("stats_field", fine("stats", events, "--field", "place"))
    for words in (["stats", events], ["stats", events, "--field", "name"], ["stats", events, "--field", "charge"]):
        code, out, err = ndfile(*words)
        assert (code, out, err.count("\n")) == (1, "", 1)


def test_nan_are_counted_and_left_out(document, fine):
    np.save("x.npy", np.array([1.0, np.nan, 3.0, np.nan]))
    found = document("stats", "x.npy")
    assert (found["count"], found["nan_count"], found["mean"], sum(found["histogram"]["counts"])) == (2, 2, 2.0, 2)
    assert "nan    2\n" in fine("stats", "x.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_told_without_warnings(value, document, fine):
    np.save("x.npy", np.full((5, 2), value))
    found = document("stats", "x.npy")
    assert found["histogram"] is None
    assert found["mean"] is None or found["mean"] == "Infinity"
    fine("stats", "x.npy", "--axis", 0)


def test_infinities_are_outside_of_the_histogram(document, fine):
    np.save("x.npy", np.append(np.arange(1000.0), [np.inf, -np.inf]))
    found = document("stats", "x.npy")
    assert (found["mean"], found["min"], found["max"]) == (None, "-Infinity", "Infinity")
    histogram = found["histogram"]
    assert sum(histogram["counts"]) + histogram["outside"] == 1002
    assert histogram["outside"] < 30
    assert f"{histogram['outside']} values are outside" in fine("stats", "x.npy")


def test_the_range_of_the_histogram_can_be_given(recording, document, ndfile):
    values = np.load(recording)
    found = document("stats", recording, "--range", "-50", "50", "--bins", "4")["histogram"]
    assert found["edges"] == [-50, -25, 0, 25, 50]
    assert found["counts"] == np.histogram(values, 4, (-50, 50))[0].tolist()
    assert found["outside"] == (abs(values) > 50).sum()
    assert ndfile("stats", recording, "--range", "5", "5").code == 1


@pytest.mark.parametrize("value", [0, 7.5, -1e300])
def test_values_that_are_all_the_same_have_a_histogram(value, document, fine):
    np.save("x.npy", np.full(50, value))
    assert sum(document("stats", "x.npy")["histogram"]["counts"]) == 50
    assert fine("stats", "x.npy").count("50  █") == 1


@pytest.mark.parametrize(
    "values",
    [np.zeros(0), np.zeros(3, "c8"), np.zeros(3, "S2"), np.zeros((3, 0), "i4")],
    ids=lambda values: values.dtype.str,
)
def test_what_cannot_be_described_is_1(values, ndfile):
    np.save("x.npy", values)
    code, out, err = ndfile("stats", "x.npy")
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_an_axis_that_there_is_not_is_1(recording, ndfile):
    code, out, err = ndfile("stats", recording, "--axis", 2)
    assert (code, out) == (1, "")
    assert "axis 2 is out of bounds" in err


def test_a_single_item_and_truth_values(weights, fine, document):
    assert "mean   7\n" in fine("stats", weights, "--key", "step")
    np.save("x.npy", np.arange(10) < 3)
    found = document("stats", "x.npy")
    assert (found["mean"], found["histogram"]["edges"], found["histogram"]["counts"]) == (0.3, [0, 1, 2], [7, 3])
    assert (found["min"], found["max"]) == (False, True)


def test_many_lanes_show_their_ends(fine):
    np.save("x.npy", np.arange(9000.0).reshape(3, 3000))
    lines = fine("stats", "x.npy", "--axis", 0).splitlines()
    assert len(lines) == 2 + 20 + 1 + 20
    assert lines[-1].split()[0] == "2999"


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=50)
@hypothesis.given(
    values=npst.arrays(NUMBERS, st.integers(1, 9)),
    bins=st.integers(1, 30),
)
def test_every_value_is_counted_once_whatever_the_range(values, bins, document, fine):
    np.save("x.npy", values)
    found = document("stats", "x.npy", "--bins", bins)
    if found["histogram"] is None:
        assert not np.isfinite(values).any() or not np.isfinite(np.nanpercentile(values, [1, 25, 50, 75, 99])).any()
        return
    counted = sum(found["histogram"]["counts"]) + found["histogram"]["outside"]
    assert counted == found["count"]
    assert len(found["histogram"]["counts"]) <= bins
    if np.isfinite(values).all():
        assert found["histogram"]["outside"] == 0
    fine("stats", "x.npy", "--bins", bins)
