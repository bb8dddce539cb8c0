"""Quantiles of arrays of any size are NumPy's, in bounded memory."""

import itertools
import os
import tracemalloc
import warnings

import numpy as np
import pytest

import ndfile as nf
from ndfile import _core
from ndfile.compute import quantiles, selection

METHODS = [
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "linear",
    "median_unbiased",
    "normal_unbiased",
    "lower",
    "higher",
    "midpoint",
    "nearest",
]
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i2", ">u8", ">f4", ">f8"]
QS = [
    0.5,
    0,
    1,
    0.3,
    np.float32(0.3),
    [0.0, 0.99, 0.5],
    np.array([[0, 0.2], [0.7, 1]]),
    np.array([0.25, 0.6], "f4"),
    np.array([0.25, 0.6], "f2"),
    np.array(0.4),
]


def shrink(monkeypatch):
    """Make blocks, tables and what may be collected so small that little arrays need many of them."""
    monkeypatch.setattr(quantiles, "BLOCK_NBYTES", 512)
    monkeypatch.setattr(selection, "COLLECTED_NBYTES", 256)
    monkeypatch.setattr(selection, "FIRST_BITS", 6)


@pytest.fixture(params=["lanes searched", "lanes by NumPy"])
def small(request, monkeypatch):
    shrink(monkeypatch)
    if request.param == "lanes searched":
        monkeypatch.setattr(quantiles, "LANES_IN_COPY", 1 << 40)


def same(ours, numpys):
    assert type(ours) is type(numpys)
    assert np.shape(ours) == np.shape(numpys)
    assert ours.dtype == numpys.dtype
    np.testing.assert_array_equal(ours, numpys)


def both(name, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of infinities; those of lanes without numbers have a test of their own
        same(getattr(quantiles, name)(*args, threads=1, **kwargs), getattr(np, name)(*args, **kwargs))


def drawn(dtype, shape, kind="spread"):
    random = np.random.default_rng(7)
    values = random.standard_normal(shape) * 50
    if kind == "ties":
        values = np.round(values / 30)
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = values.astype(dtype)
    if array.dtype.kind == "f" and kind == "nan":
        array[random.random(shape) < 0.2] = np.nan
    if array.dtype.kind == "f" and kind == "inf":
        array[random.random(shape) < 0.2] = np.inf
        array[random.random(shape) < 0.2] = -np.inf
        array[random.random(shape) < 0.2] = -0.0
    return array


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
def test_quantiles_of_all_items_are_numpys(name, method, monkeypatch):
    shrink(monkeypatch)
    kinds = ["spread", "ties", "nan", "inf"]
    for number, (dtype, q) in enumerate(itertools.product(DTYPES, QS)):
        array = drawn(dtype, (5, 31), kinds[number % 4])
        if array.dtype.kind == "b" and quantiles.quantile(array, q, method=method) is NotImplemented:
            with pytest.raises(TypeError):
                np.quantile(array, q, method=method)
            continue
        both(name, array, q, method=method)


@pytest.mark.parametrize("axis", [0, -1, 1, (0, 2), (2, 1), (0, 1, 2)])
@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
def test_quantiles_along_axes_are_numpys(name, axis, small):
    for number, (dtype, kind) in enumerate(itertools.product(["i1", "f4", ">f8"], ["ties", "nan", "inf"])):
        array = drawn(dtype, (2, 3, 4), kind)
        for at, q in enumerate(QS[:6]):
            method = METHODS[(number + at) % len(METHODS)]
            both(name, array, q, axis=axis, method=method, keepdims=at % 2 == 0)


@pytest.mark.parametrize("name", ["median", "nanmedian"])
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_medians_are_numpys(name, axis, small):
    for number, dtype in enumerate(DTYPES):
        shape = (3, 2, 3) if number % 2 else (4, 3, 2)
        for kind in ("ties", "nan", "inf") if np.dtype(dtype).kind == "f" else ("ties",):
            both(name, drawn(dtype, shape, kind), axis=axis, keepdims=number % 3 == 0)


@pytest.mark.parametrize("name", ["percentile", "nanpercentile"])
def test_percentiles_are_numpys(name, small):
    for q in (50, 0, 99.9, [1, 50, 99], np.float32(33), np.array([5, 95], "f4")):
        both(name, drawn("f4", (40, 50), "nan"), q)
        both(name, drawn("i2", (40, 50)), q, axis=0)


def test_strided_and_reversed_views_are_read_as_they_are(small):
    base = drawn("f8", (40, 60, 3))
    for view in (base[::-2, 1::3], base.transpose(2, 0, 1), np.asfortranarray(base), base[..., 1]):
        both("quantile", view, [0.1, 0.9])
        both("median", view, axis=0)


def test_a_result_goes_where_out_says(small):
    array = drawn("f4", (30, 20), "nan")
    for name, axis, keepdims in itertools.product(["quantile", "nanquantile"], [None, 1], [False, True]):
        expected = getattr(np, name)(array, [0.2, 0.5], axis=axis, keepdims=keepdims)
        out = np.zeros(expected.shape, np.float64)
        assert getattr(quantiles, name)(array, [0.2, 0.5], axis=axis, out=out, keepdims=keepdims) is out
        numpys = np.zeros_like(out)
        getattr(np, name)(array, [0.2, 0.5], axis=axis, out=numpys, keepdims=keepdims)
        np.testing.assert_array_equal(out, numpys)


@pytest.mark.parametrize(
    "arguments",
    [
        {"q": 1.5},
        {"q": []},
        {"q": "a"},
        {"q": 0.5j},
        {"q": np.zeros((1, 1, 1))},
        {"q": 0.5, "axis": 7},
        {"q": 0.5, "axis": (0, 0)},
        {"q": 0.5, "axis": ()},
        {"q": 0.5, "method": "none"},
        {"q": 0.5, "method": "inverted_cdf", "weights": np.ones((2, 3))},
        {"q": 0.5, "out": np.zeros(3)},
        {"q": 0.5, "out": np.zeros((), np.int32)},
    ],
)
def test_what_numpy_should_refuse_is_left_to_it(arguments):
    assert quantiles.quantile(np.ones((2, 3)), **arguments) is NotImplemented


@pytest.mark.parametrize("array", [np.ones(0), np.ones(()), np.ones(3, complex), np.ones(3, object), [1, 2]])
def test_arrays_of_other_kinds_are_left_to_numpy(array):
    assert quantiles.median(array) is NotImplemented


def test_lanes_without_numbers_are_nan_and_each_is_warned_of(small):
    array = np.ones((3, 4), np.float32)
    array[[0, 2]] = np.nan
    with pytest.warns(RuntimeWarning, match="All-NaN") as caught:
        found = quantiles.nanquantile(array, np.array([0.5]), axis=1)
    assert len(caught) == 2
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        same(found, np.nanquantile(array, np.array([0.5]), axis=1))  # float32, as its first lane
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        assert np.isnan(quantiles.nanmedian(array[0]))


HARD = {
    "equal": lambda n: np.full(n, 7.25),
    "two values": lambda n: np.arange(n) % 2 * 1e-300,
    "one bucket": lambda n: 1 + np.arange(n) * 2.0**-52,
    "sorted": lambda n: np.sort(np.random.default_rng(1).standard_normal(n)),
    "outliers": lambda n: np.where(np.arange(n) == n // 3, 1e300, 0.5),
    "all magnitudes": lambda n: np.ldexp(1.0, np.arange(n) % 2000 - 1000) * np.where(np.arange(n) % 3, 1, -1),
}


@pytest.mark.parametrize("data", HARD)
@pytest.mark.parametrize("collected", [0, 1 << 12, 8 << 20])
def test_hard_data_are_exact_after_few_passes(data, collected, monkeypatch):
    monkeypatch.setattr(selection, "COLLECTED_NBYTES", collected)
    passes = []
    each = selection._Lanes.each
    monkeypatch.setattr(selection._Lanes, "each", lambda self, *a: (passes.append(1), each(self, *a))[1])
    array = HARD[data](100_003)
    both("quantile", array, [0, 0.01, 1 / 3, 0.5, 0.99, 1])
    assert len(passes) <= array.itemsize // 2 + 2


def test_many_quantiles_share_the_passes():
    array = np.random.default_rng(2).standard_normal(300_000)
    for dtype in ("f4", "f8", "i8"):
        both("percentile", (array * 1000).astype(dtype), np.linspace(0, 100, 201))


def test_ranks_among_more_items_than_float32_counts_are_exact():
    n = (1 << 24) + 11
    array = np.arange(n, dtype=np.int32)
    assert quantiles.quantile(array, np.array([1.0, 0.5], "f4"), method="higher").tolist() == [n - 1, n // 2]


def test_order_statistics_are_items_of_the_sorted_array():
    array = np.random.default_rng(3).integers(-1000, 1000, (100, 200))
    ranks = [0, 5, 9_999, 19_999]
    values, valid, nans = selection.order_statistics(array, ranks)
    assert values.tolist() == np.sort(array, axis=None)[ranks].tolist()
    assert (valid, nans) == (20_000, 0)
    with pytest.raises(IndexError):
        selection.order_statistics(array, [20_000])


def test_order_statistics_with_nan_need_them_skipped():
    array = np.array([3, np.nan, 1, np.nan])
    assert selection.order_statistics(array, [0])[0].size == 0
    values, valid, nans = selection.order_statistics(array, [0, 1], skip_nan=True)
    assert (values.tolist(), valid, nans) == ([1, 3], 2, 2)


def test_nan_of_any_bits_is_nan():
    bits = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x3F800000], np.uint32)
    array = np.repeat(bits, 100).view(np.float32)
    with np.errstate(invalid="ignore"):
        assert selection.order_statistics(array, [50], skip_nan=True)[1:] == (100, 400)
        assert np.isnan(quantiles.median(array))
        assert quantiles.nanmedian(array) == 1


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1"])
def test_the_number_of_threads_changes_no_byte(dtype, small):
    array = drawn(dtype, (100, 80), "nan")
    for axis in (None, 0):
        one = quantiles.nanquantile(array, [0.1, 0.77], axis=axis, threads=1)
        many = quantiles.nanquantile(array, [0.1, 0.77], axis=axis, threads=5)
        assert one.tobytes() == many.tobytes()


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("kind", ["spread", "equal"])
def test_memory_is_bounded(axis, kind):
    array = np.ones((6_000_000, 4), np.float32)
    if kind == "spread":
        np.random.default_rng(0).random(array.shape, out=array, dtype=np.float32)
    if axis == 1:
        array = array.reshape(4, -1)
    tracemalloc.start()
    try:
        quantiles.percentile(array, [1, 50, 99], axis=axis, threads=2)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.fixture
def floats_file(path):
    np.random.default_rng(4).random(1 << 18).tofile(path)
    return path


@pytest.mark.parametrize("axis", [None, 1])
def test_a_mapped_array_is_never_overwritten(floats_file, axis):
    with nf.memmap(floats_file, np.float64, "r+", shape=(512, 512)) as array:
        before = np.array(array)
        found = quantiles.quantile(array, 0.3, axis=axis, overwrite_input=True)
        same(found, np.quantile(before, 0.3, axis=axis))
        np.testing.assert_array_equal(np.asarray(array), before)


@pytest.mark.parametrize("axis", [None, 1])
def test_a_file_cut_meanwhile_is_a_fault(floats_file, axis, monkeypatch):
    monkeypatch.setattr(quantiles, "BLOCK_NBYTES", 1 << 16)
    monkeypatch.setattr(quantiles, "COPIES_NBYTES", 1 << 17)

    def cut(done, _total):
        if done:
            os.truncate(floats_file, 8192)

    with nf.memmap(floats_file, np.float64, "r", shape=(512, 512)) as array, pytest.raises(nf.FaultError):
        quantiles.quantile(array, 0.3, axis=axis, progress=cut)


@pytest.mark.parametrize("axis", [None, 0])
def test_progress_ends_at_all_bytes(axis, small):
    seen = []
    array = drawn("f8", (50, 60))
    quantiles.quantile(array, 0.3, axis=axis, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, array.nbytes)
    assert seen[-1] == (array.nbytes, array.nbytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_items_that_change_meanwhile_are_an_error(monkeypatch):
    monkeypatch.setattr(selection, "FIRST_BITS", 4)
    array = np.random.default_rng(5).random(10_000)
    collect = selection.collect_within

    def change(*arguments):
        array[:] = 0.5
        collect(*arguments)

    monkeypatch.setattr(selection, "collect_within", change)
    with pytest.raises(RuntimeError, match="changed"):
        quantiles.median(array, threads=1)


def ranges(*pairs):
    return [np.array(side, np.int64) for side in zip(*pairs, strict=True)]


def test_kernels_refuse_arrays_that_would_not_fit():
    values = np.ones(10, np.float32)
    tables = np.zeros((1, 16), np.uint32)
    place = np.zeros(1, np.int64)
    for wrong in (values[::2], values.astype(">f4"), values.astype("f2"), values.astype("c8"), values.reshape(2, 5)):
        with pytest.raises(TypeError):
            _core.count_digits(wrong, 0, 0, tables)
    for wrong in (tables[:, :15], tables.astype(np.int32), np.zeros((3, 16), np.uint32), tables[0]):
        with pytest.raises(TypeError):
            _core.count_digits(values, 0, 0, wrong)
    for low, shift in ((0, 29), (0, -1), (1 << 31, 0)):
        with pytest.raises(ValueError, match="window"):
            _core.count_digits(values, low, shift, tables)
    found = np.zeros(3, np.int32)
    for pairs in ([(5, 4)], [(1, 2), (2, 3)], [(5, 6), (1, 2)], [(0, 1 << 31)], [(-(1 << 31) - 1, 0)]):
        with pytest.raises(ValueError, match="ranges"):
            _core.collect_within(values, *ranges(*pairs), found, place)
    with pytest.raises(TypeError):
        _core.collect_within(values, *ranges((0, 1)), found.astype(np.int64), place)
    with pytest.raises(TypeError):
        _core.count_within(values, *ranges((0, 1)), np.array([32]), tables)


def test_keys_without_room_are_left_out():
    values = np.arange(1000, dtype=np.int32)
    found = np.full(12, -1, np.int32)
    place = np.zeros(1, np.int64)
    _core.collect_within(values, *ranges((0, 499)), found[:10], place)
    assert place[0] == 500
    assert found.tolist() == [*range(10), -1, -1]
