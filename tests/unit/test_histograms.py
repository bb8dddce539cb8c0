"""Histograms by blocks, against NumPy's own."""

import os
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndfile as nf
from ndfile.compute import histograms, tallies
from ndfile.compute.histograms import histogram, histogram_bin_edges
from ndfile.errors import FaultError

# Of each combination of dtypes.
EXAMPLES = 10

FLOATS = ["f2", "f4", "f8", ">f4", ">f8", "g"]
INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i2", ">i4", ">u8"]


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch):
    """Blocks of a few items."""
    monkeypatch.setattr(histograms, "BLOCK_NBYTES", 200)
    monkeypatch.setattr(tallies, "BLOCK_NBYTES", 200)


def outcome(function, *args, **kwargs):
    """What a function gives, or the error that it raises."""
    try:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        return type(error), str(error).replace("-0.0", "0.0")  # which of two zeros is the least is chance


def assert_as_numpy(a, *args, **kwargs):
    ours = outcome(histogram, a, *args, **kwargs, threads=1)
    numpys = outcome(np.histogram, a, *args, **kwargs)
    assert ours is not NotImplemented
    if isinstance(numpys[0], type):
        assert ours == numpys
        return
    assert type(ours) is tuple
    for one, other in zip(ours, numpys, strict=True):
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def numbers(dtype, **kwargs):
    """Arrays of one to three axes, some of them transposed, reversed or strided."""
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=8)
    arrays = hnp.arrays(dtype, shapes, elements=hnp.from_dtype(np.dtype(dtype), **kwargs))
    ways = st.sampled_from([lambda a: a, lambda a: a.T, lambda a: a[::-1], lambda a: np.repeat(a, 2, -1)[..., ::2]])
    return st.builds(lambda way, a: way(a), ways, arrays)


@pytest.mark.parametrize("dtype", FLOATS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data())
def test_any_floats_are_counted_as_by_numpy(dtype, data):
    assert_as_numpy(data.draw(numbers(dtype)), data.draw(st.integers(1, 300)))


@pytest.mark.parametrize("dtype", FLOATS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data())
def test_usual_floats_are_counted_as_by_numpy(dtype, data):
    a = data.draw(numbers(dtype, min_value=-1000, max_value=1000, allow_nan=False))
    assert_as_numpy(a, data.draw(st.integers(1, 100)), density=data.draw(st.booleans()))


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data())
def test_integers_are_counted_as_by_numpy(dtype, data):
    assert_as_numpy(data.draw(numbers(dtype)), data.draw(st.integers(1, 300)), density=data.draw(st.booleans()))


BOUNDS = st.one_of(
    st.integers(-200, 200),
    st.floats(-200, 200),
    st.floats(-200, 200, width=32).map(np.float32),
    st.floats(-200, 200).map(np.float64),
    st.integers(-200, 200).map(np.int64),
    st.integers(-(2**62), 2**62),
)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data(), st.integers(1, 50), BOUNDS, BOUNDS)
def test_a_range_is_taken_as_by_numpy(dtype, data, bins, first, last):
    assume(not (np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize == 2 and max(abs(first), abs(last)) > 1e4))
    assert_as_numpy(data.draw(numbers(dtype)), bins, (first, last))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(
    st.integers(1, 120),
    st.floats(-1e4, 1e4),
    st.floats(1e-3, 1e4),
    st.sampled_from([None, float, np.float32, np.float64]),
)
def test_values_on_edges_and_beside_them_are_in_numpys_bins(dtype, bins, first, width, kind):
    last = first + width
    edges = np.linspace(first, last, bins + 1).astype(dtype)
    a = np.concatenate(
        [edges, np.nextafter(edges, edges.dtype.type(np.inf)), np.nextafter(edges, edges.dtype.type(-np.inf))]
    )
    assert_as_numpy(a, bins)
    if kind is not None:
        assert_as_numpy(a, bins, (kind(first), kind(last)))
        assert_as_numpy(a, bins, (kind(edges[0]), kind(edges[-1])))


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "g", "u1", "i4", "i8", "u8"])
@pytest.mark.parametrize("edge_dtype", ["f4", "f8", "i2", "i8", "u8"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data())
def test_given_edges_are_used_as_by_numpy(dtype, edge_dtype, data):
    edges = np.sort(
        data.draw(
            hnp.arrays(edge_dtype, st.integers(2, 40), elements=hnp.from_dtype(np.dtype(edge_dtype), allow_nan=False))
        )
    )
    a = data.draw(numbers(dtype))
    if data.draw(st.booleans()):
        with np.errstate(all="ignore"):
            a = np.concatenate([a.ravel(), edges.astype(dtype)])
    assert_as_numpy(a, edges)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
@pytest.mark.parametrize(
    "edges",
    [
        np.logspace(-3, 3, 60),
        np.logspace(-300, 300, 60),
        [0, 0, 0, 1, 1, 5, 5],
        [-np.inf, -1, 0, 3, np.inf],
        [-np.inf, np.inf],
        [2, 2],
        np.concatenate([np.linspace(0, 1, 500), [1e6]]),
        range(-5, 6),
    ],
    ids=str,
)
def test_uneven_edges_are_used_as_by_numpy(dtype, edges):
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        a = np.concatenate([rng.normal(0, 3, 500), 10 ** rng.uniform(-4, 4, 500), edges, [0, 1e30, -1e30]]).astype(
            dtype
        )
    assert_as_numpy(a, edges)


@pytest.mark.parametrize("bins", [1, 7, 100, 1000, 5000, 65534, 65535, 70000])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_bins_may_be_many(many_blocks, monkeypatch, dtype, bins):
    monkeypatch.setattr(histograms, "BLOCK_NBYTES", 1 << 14)
    assert_as_numpy((np.random.default_rng(1).normal(0, 1, 20_000) * 1e6).astype(dtype), bins)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
def test_no_range_is_found_where_it_is_not_finite(dtype, value):
    a = np.arange(100).astype(dtype)
    a[60] = value
    with pytest.raises(ValueError, match=r"autodetected range of .* is not finite"):
        histogram(a)
    assert_as_numpy(a)
    assert_as_numpy(a, 7, (3, 70))
    assert_as_numpy(a, [3, 50, 60, 70])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((0,), {}),
        ((2.5,), {}),
        (([1, 0],), {}),
        (([[1, 2]],), {}),
        ((5, (2, 1)), {}),
        ((5, (0, np.inf)), {}),
        ((5, (0, 1, 2)), {}),
        ((5, (7, 7)), {}),
        ((5, (1e300, 1e301)), {}),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1", "f2"])
def test_wrong_arguments_are_numpys_errors(dtype, args, kwargs):
    assert_as_numpy(np.arange(100).astype(dtype), *args, **kwargs)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "range", [(0, 1e-310), (-1.7e308, 1.7e308), (1e8, 1e8 + 1), (-3e38, 3e38), (16777216, 16777316), (0, 5e-324)]
)
def test_ranges_at_the_limits_of_floats_are_numpys(dtype, range):
    with np.errstate(all="ignore"):
        a = np.concatenate([np.linspace(*np.array(range) / 2, 300) * 2, np.linspace(*range, 11)]).astype(dtype)
    for bins in (1, 10, 33):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert_as_numpy(a, bins, range)
            assert_as_numpy(a, bins)


def test_bools_become_integers_with_numpys_warning():
    a = np.array([True, False, True] * 50)
    with pytest.warns(RuntimeWarning, match="Converting input from bool"):
        assert_as_numpy(a, 2)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8"])
@pytest.mark.parametrize("kind", ["i4", "u1", "f4", "f8", "c16", "g"])
@pytest.mark.parametrize("bins", [10, [-30, 0, 5, 30]])
def test_weights_are_added_up(monkeypatch, dtype, kind, bins):
    monkeypatch.setattr(histograms, "PIECE", 100)
    rng = np.random.default_rng(2)
    a = rng.normal(0, 20, (40, 30)).astype(dtype)
    weights = rng.integers(0, 3, a.shape).astype(kind)
    for way in (lambda x: x, lambda x: x.T, lambda x: x[::2, ::-3]):
        assert_as_numpy(way(a), bins, weights=way(weights))
        assert_as_numpy(way(a), bins, (-10, 12), weights=way(weights), density=True)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rounded_sums_of_weights_are_numpys_for_contiguous_arrays(dtype):
    rng = np.random.default_rng(3)
    a, weights = rng.normal(size=(2, 500, 600)).astype(dtype)
    assert_as_numpy(a, 20, weights=weights)


@pytest.mark.parametrize(
    ("a", "kwargs"),
    [
        ([1, 2, 3], {}),
        (np.zeros(0), {}),
        (np.zeros(5, complex), {}),
        (np.zeros(5, object), {}),
        (np.zeros(5), {"bins": "auto"}),
        (np.zeros(5), {"bins": [1]}),
        (np.zeros(5), {"bins": 1 << 20}),
        (np.zeros(5), {"weights": [1, 1, 1, 1, 1]}),
        (np.zeros(5), {"weights": np.ones(4)}),
        (np.zeros(5), {"weights": np.ones(5, bool)}),
    ],
    ids=str,
)
def test_the_rest_is_left_to_numpy(a, kwargs):
    assert histogram(a, **kwargs) is NotImplemented


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "i2", "f2"])
@pytest.mark.parametrize("bins", [10, [0, 1, 5]])
def test_the_number_of_threads_changes_nothing(dtype, bins):
    rng = np.random.default_rng(4)
    a = (rng.normal(0, 5, 3000)).astype(dtype)
    weights = rng.normal(size=a.shape)
    for kwargs in ({}, {"weights": weights}):
        results = [histogram(a, bins, **kwargs, threads=threads)[0].tobytes() for threads in (1, 2, 5)]
        assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["f4", "i8", "u1", "f2"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(st.data())
def test_edges_alone_are_numpys(dtype, data):
    a = data.draw(numbers(dtype))
    bins = data.draw(st.integers(1, 30) | st.just([0, 1, 4]))
    given_range = data.draw(st.none() | st.just((0, 5.5)))
    ours, numpys = (
        outcome(histogram_bin_edges, a, bins, given_range),
        outcome(np.histogram_bin_edges, a, bins, given_range),
    )
    assert type(ours) is type(numpys)
    np.testing.assert_array_equal(ours, numpys)


def test_progress_of_two_passes_is_one_progress():
    seen = []
    histogram(np.arange(100.0), progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 1600)
    assert seen[-1] == (1600, 1600)
    assert seen == sorted(seen)


@pytest.fixture
def file_of(tmp_path):
    """A function that writes an array to a file and maps it."""

    def make(array):
        array.tofile(tmp_path / "x.bin")
        return nf.memmap(tmp_path / "x.bin", array.dtype, "r", shape=array.shape)

    return make


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1", "i2"])
def test_mapped_arrays_are_counted(file_of, dtype):
    with file_of(np.random.default_rng(5).normal(0, 50, (30, 40)).astype(dtype)) as a:
        for view in (a, a.T, a[3:20, ::3], a.reshape(-1)):
            assert_as_numpy(view, 12)
            assert_as_numpy(view, [-20, 0, 1, 30])
            assert_as_numpy(view, 5, (-3, 3), weights=view)


@pytest.mark.parametrize("dtype", ["f4", "u1", "i2"])
@pytest.mark.parametrize(
    "kwargs", [{}, {"range": (-3, 3)}, {"bins": [0, 1, 2]}, {"bins": 5, "range": (0, 3), "weights": 1}]
)
def test_a_file_that_was_cut_is_an_error(file_of, dtype, kwargs):
    kwargs = dict(kwargs)
    with file_of(np.ones(50_000, dtype)) as a:
        if "weights" in kwargs:
            kwargs["weights"] = np.ones(a.shape)
        os.truncate(a.filename, 8192)
        with pytest.raises(FaultError):
            histogram(a, **kwargs)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i4", "u1", "i2"])
@pytest.mark.parametrize("bins", [100, 65534])
def test_memory_is_bounded(monkeypatch, dtype, bins):
    monkeypatch.undo()
    a = np.zeros(96 << 20, np.uint8).view(dtype)
    a[:1000] = 1
    histogram(a[:5000], bins, (0, 1))
    tracemalloc.start()
    try:
        histogram(a, bins, (0, 1), threads=2)
        histogram(a[::2], bins, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
