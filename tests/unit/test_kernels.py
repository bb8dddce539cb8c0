"""Sums and moments of a block: exact for integers, as close as NumPy's for floats, whatever the block's form."""

import math
import warnings

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndfile._core import block_moments, block_sums
from ndfile.compute import kernels

INTEGERS = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
FLOATS = ["f2", "f4", "f8"]
# One for each way through the kernels: rows, short rows, narrow and wide columns, two reduced axes with one between.
FORMS = [
    ((70001,), (0,)),
    ((3001, 5), (0,)),
    ((3001, 5), (1,)),
    ((701, 150), (0,)),
    ((701, 150), (1,)),
    ((33, 1100), (0,)),
    ((20, 30, 40), (1,)),
    ((20, 30, 40), (0, 2)),
    ((9, 8, 7, 3), (1, 2)),
    ((9, 8, 7, 3), (0, 2)),
    ((4, 50, 3), (1,)),
    ((40, 50), ()),
]


def random_items(shape, dtype, seed=0):
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return (random.normal(size=shape) * 100).astype(dtype)


def rows_of(array, axes):
    """The items of each result, one row for each, in the results' order."""
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    return array.transpose(kept + list(axes)).reshape(math.prod(array.shape[axis] for axis in kept), -1)


def m2_of(items):
    """The sum of the squared deviations, exactly but for the last rounding."""
    exact = [int(item) for item in items]
    count, total = len(exact), sum(exact)
    return (count * sum(item * item for item in exact) - total * total) / count


@pytest.mark.parametrize(("shape", "axes"), FORMS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_sums_of_integers_are_exact_modulo_2_to_the_64(dtype, shape, axes):
    array = random_items(shape, dtype)
    found = kernels.sums(array, axes)
    wanted = array.sum(axis=axes, keepdims=True, dtype="u8" if array.dtype.kind == "u" else "i8")
    assert found.total.dtype == np.int64
    assert np.array_equal(found.total, wanted.view("i8"))
    assert (found.error, found.exceptional) == (None, False)
    assert found.counts == math.prod(shape[axis] for axis in axes)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_length_of_a_row_is_summed_to_its_end(dtype):
    items = random_items(300, dtype)
    for count in range(301):
        wanted = sum(int(item) for item in items[:count])
        assert int(kernels.sums(items[:count], (0,)).total[0]) % 2**64 == wanted % 2**64


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_extreme_small_integers_do_not_overflow_on_the_way(dtype, end):
    value = getattr(np.iinfo(dtype), end)
    for shape in [(200_001,), (70_001, 3), (70_001, 60)]:
        array = np.full(shape, value, dtype)
        assert (kernels.sums(array, (0,)).total == shape[0] * value).all()
        array[::2] = 0
        found = kernels.moments(array, (0,))
        items = array.reshape(shape[0], -1)[:, 0]
        assert np.allclose(found.m2, m2_of(items), rtol=1e-14)


def test_any_byte_but_zero_is_true():
    array = np.arange(256, dtype="u1").repeat(3).view("?")
    assert kernels.sums(array, (0,)).total.tolist() == [255 * 3]
    assert kernels.sums(array.reshape(256, 3), (0,)).total.tolist() == [[255] * 3]
    assert kernels.moments(array, (0,)).mean.tolist() == [255 / 256]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4"])
def test_moments_of_integers_have_all_digits(dtype):
    for array, axes in [(random_items(50_001, dtype), (0,)), (random_items((9001, 3), dtype), (0,))]:
        found = kernels.moments(array, axes)
        for items, mean, error, m2 in zip(rows_of(array, axes), *map(np.ravel, found[1:4]), strict=True):
            spread = float(np.iinfo(dtype).max) - np.iinfo(dtype).min
            assert mean + error == pytest.approx(items.sum(dtype="i8") / items.size, rel=1e-15, abs=2**-56 * spread)
            assert m2 == pytest.approx(m2_of(items), rel=1e-14)


def hard(name, shape, dtype="f8"):
    random = np.random.default_rng(7)
    array = random.normal(size=shape)
    if name == "far from 0":
        array += 1e8
    elif name == "alternating":
        array = np.where(np.arange(array.size).reshape(shape) % 2, -1, 1) * (array + 1e6)
    elif name == "jumps":
        array[::97] += 1e16
        array[50::97] -= 1e16
    elif name == "growing":
        array = np.exp(array * 12)
    return array.astype(dtype)


@pytest.mark.parametrize("name", ["far from 0", "alternating", "jumps", "growing"])
@pytest.mark.parametrize(
    ("shape", "axes"), [((200_001,), (0,)), ((20_001, 7), (0,)), ((101, 999), (1,)), ((999, 101), (0,))]
)
def test_sums_of_floats_are_as_close_as_those_of_numpy(name, shape, axes):
    array = hard(name, shape)
    found = kernels.sums(array, axes)
    exact = [math.fsum(row) for row in rows_of(array, axes)]
    ours = max(abs(one - other) for one, other in zip(found.total.ravel() + found.error.ravel(), exact, strict=True))
    numpys = max(abs(one - other) for one, other in zip(array.sum(axis=axes).ravel(), exact, strict=True))
    # Where NumPy is right by luck, three roundings of the parts are allowed.
    assert ours <= max(numpys, 3 * 2**-53 * max(math.fsum(abs(row)) for row in rows_of(array, axes)))


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_long_columns_of_short_floats_lose_nothing(dtype):
    array = np.full((300_000, 3), 0.1, dtype)
    found = kernels.sums(array, (0,))
    assert found.total.tolist() == [[300_000 * float(array[0, 0])] * 3]
    assert not np.array_equal(array.sum(axis=0, keepdims=True), found.total.astype(dtype))  # NumPy's columns do


def test_the_error_is_what_rounding_took():
    found = kernels.sums(np.array([1e16, 1.0, 1.0, 1.0]), (0,))
    assert int(found.total[0]) + int(found.error[0]) == 10**16 + 3


@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e300, 1e-300, 12345.678, 2**60 + 0.0])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_equal_items_have_no_deviation(value, dtype):
    with np.errstate(over="ignore", under="ignore"):
        value = np.dtype(dtype).type(value)
    if not np.isfinite(value) or (dtype == "f8" and value > 1e200):
        value = np.dtype(dtype).type(7.7)
    for shape, axes in [((5003,), (0,)), ((501, 7), (0,)), ((501, 7), (1,)), ((801, 300), (0,))]:
        found = kernels.moments(np.full(shape, value, dtype), axes)
        assert not found.m2.any()
        assert (np.abs(found.error) <= 2**-104 * abs(float(value))).all()
        assert (found.mean == float(value)).all()


@pytest.mark.parametrize(
    ("shape", "axes"), [((300_001,), (0,)), ((30_001, 3), (0,)), ((3001, 300), (0,)), ((300, 3001), (1,))]
)
def test_deviations_far_from_zero_are_as_close_as_those_of_numpy(shape, axes):
    array = hard("far from 0", shape)
    found = kernels.moments(array, axes)
    wide = array.astype("g")
    exact = ((wide - wide.mean(axis=axes, keepdims=True)) ** 2).sum(axis=axes, keepdims=True)
    numpys = np.abs(array.var(axis=axes, keepdims=True) * found.counts - exact) / exact
    ours = np.abs(found.m2 - exact) / exact
    assert ours.max() <= max(numpys.max(), 1e-14)
    assert np.abs(found.mean + found.error.astype("g") - wide.mean(axis=axes, keepdims=True)).max() <= 1e-8


blocks = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in ["i2", ">i4", "u1", "f4", ">f8", "f2", "i8"]]),
    hnp.array_shapes(max_dims=5, max_side=9, min_side=0),
    elements={"min_value": 0, "max_value": 100},
    fill=st.nothing(),
)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_any_axes_of_any_strides_give_what_numpy_gives(data):
    block = data.draw(blocks)
    block = block.transpose(data.draw(st.permutations(range(block.ndim))))
    block = block[tuple(slice(None, None, data.draw(st.sampled_from([1, 1, -1, 2, -3]))) for _ in range(block.ndim))]
    axes = tuple(axis for axis in range(block.ndim) if data.draw(st.booleans()))
    found = kernels.sums(block, axes)
    wanted = block.astype("i8" if block.dtype.kind in "iu" else "f8").sum(axis=axes, keepdims=True)
    assert found.total.shape == wanted.shape
    np.testing.assert_allclose(found.total, wanted, rtol=1e-12)
    if block.size == 0:
        return
    both = kernels.moments(block, axes, extremes=True)
    wide = block.astype("f8")
    np.testing.assert_allclose(both.mean, wide.mean(axis=axes, keepdims=True), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(both.m2 / both.counts, wide.var(axis=axes, keepdims=True), rtol=1e-9, atol=1e-12)
    assert np.array_equal(both.low, block.min(axis=axes, keepdims=True))
    assert np.array_equal(both.high, block.max(axis=axes, keepdims=True))
    assert both.low.dtype == block.dtype.newbyteorder("=")


@pytest.mark.parametrize(("shape", "axes"), FORMS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_is_skipped_and_counted_where_asked(dtype, shape, axes):
    array = random_items(shape, dtype)
    array[np.random.default_rng(1).random(shape) < 0.3] = np.nan
    is_number = ~np.isnan(array)
    counts = is_number.sum(axis=axes, keepdims=True)
    wide = array.astype("f8")
    found, both = kernels.sums(array, axes, skip_nan=True), kernels.moments(array, axes, skip_nan=True, extremes=True)
    assert np.array_equal(found.counts, counts)
    assert np.array_equal(both.counts, counts)
    assert np.array_equal(both.nans, math.prod(shape[axis] for axis in axes) - counts)
    assert not found.exceptional
    assert not both.exceptional
    np.testing.assert_allclose(found.total, np.nansum(wide, axis=axes, keepdims=True), rtol=1e-9, atol=1e-9)
    with warnings.catch_warnings(action="ignore"):
        mean, variance = (call(wide, axis=axes, keepdims=True) for call in (np.nanmean, np.nanvar))
        low, high = (call(array, axis=axes, keepdims=True) for call in (np.nanmin, np.nanmax))
    some = counts > 0
    np.testing.assert_allclose(both.mean[some], mean[some], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose((both.m2 / np.maximum(counts, 1))[some], variance[some], rtol=1e-9, atol=1e-9)
    assert np.array_equal(both.low, low, equal_nan=True)
    assert np.array_equal(both.high, high, equal_nan=True)


@pytest.mark.parametrize(("shape", "axes"), FORMS)
def test_nan_that_is_not_skipped_goes_through_and_is_nothing_exceptional(shape, axes):
    array = random_items(shape, "f8")
    array[(1,) * len(shape)] = np.nan
    found, both = kernels.sums(array, axes), kernels.moments(array, axes, extremes=True)
    wanted = np.isnan(array).any(axis=axes, keepdims=True)
    for result in (found.total, both.mean, both.m2, both.low, both.high):
        assert np.array_equal(np.isnan(result), wanted)
    assert not found.exceptional
    assert not both.exceptional


@pytest.mark.parametrize(("shape", "axes"), FORMS)
def test_infinite_sums_are_those_of_numpy(shape, axes):
    array = hard("far from 0", shape)
    array[(2,) * len(shape)] = np.inf
    found = kernels.sums(array, axes)
    is_finite = np.isfinite(found.total)
    assert np.array_equal(is_finite, np.isfinite(array).all(axis=axes, keepdims=True))
    assert (found.total[~is_finite] == np.inf).all()
    assert (found.error[~is_finite] == 0).all()
    assert not found.exceptional
    exact = [math.fsum(row) for row in rows_of(array, axes)]
    np.testing.assert_allclose(found.total.ravel(), exact, rtol=1e-15)


def test_what_numpy_warns_of_is_exceptional():
    assert kernels.sums(np.array([np.inf, 1.0, -np.inf]), (0,)).exceptional
    assert kernels.sums(np.array([1e308, 1e308]), (0,)).exceptional
    assert kernels.moments(np.array([np.inf, 1.0]), (0,)).exceptional
    assert kernels.moments(np.array([[1e200], [-1e200]]), (0,)).exceptional


def test_the_kernels_leave_no_warning_behind():
    kernels.sums(np.array([np.inf, 1.0, -np.inf]), (0,))
    assert np.add(np.ones(3), 1.0).tolist() == [2, 2, 2]  # a warning would be an error


@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", "f8"])
def test_no_items_give_zeros_and_no_places_give_none(dtype):
    none = kernels.sums(np.zeros((0, 3), dtype), (0,))
    assert none.total.tolist() == [[0, 0, 0]]
    assert none.counts == 0
    assert kernels.sums(np.zeros((0, 3), dtype), (1,)).total.shape == (0, 1)
    assert kernels.moments(np.zeros((0, 3), dtype), (0,)).m2.tolist() == [[0, 0, 0]]
    with pytest.raises(ValueError, match="extremes"):
        kernels.moments(np.zeros((0, 3), dtype), (0,), extremes=True)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
@pytest.mark.parametrize("skip_nan", [False, True])
def test_merged_blocks_are_the_whole(dtype, skip_nan):
    array = random_items((5000, 4), dtype)
    if skip_nan and dtype != "u2":
        array[:2000, 1] = np.nan
        array[3000:, 2] = np.nan
    whole_sums, whole = kernels.sums(array, (0,), skip_nan), kernels.moments(array, (0,), skip_nan)
    parts = [array[start : start + 700] for start in range(0, 5000, 700)]
    first, both = kernels.sums(parts[0], (0,), skip_nan), kernels.moments(parts[0], (0,), skip_nan)
    counts = both.counts
    for part in parts[1:]:
        more = kernels.sums(part, (0,), skip_nan)
        kernels.merge_sums(first.total, first.error, more.total, more.error)
        counts = kernels.merge_moments(counts, both.mean, both.error, both.m2, kernels.moments(part, (0,), skip_nan))
    assert np.array_equal(counts, whole.counts)
    np.testing.assert_allclose(first.total, whole_sums.total, rtol=1e-14)
    np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(both.m2, whole.m2, rtol=1e-13)


def test_merged_sums_keep_what_rounding_takes():
    total, error = np.array([1e16]), np.array([0.0])
    for _ in range(1000):
        kernels.merge_sums(total, error, np.array([1.0]), np.array([0.0]))
    assert int(total[0]) + int(error[0]) == 10**16 + 1000


def test_merged_infinities_stay_infinite():
    total, error = np.array([1.0, np.inf, np.inf]), np.zeros(3)
    kernels.merge_sums(total, error, np.array([np.inf, 1.0, -np.inf]), np.zeros(3))
    assert np.array_equal(total, [np.inf, np.inf, np.nan], equal_nan=True)
    assert not error.any()


def test_only_dtypes_with_kernels_are_handled():
    for name in [*INTEGERS, *FLOATS, ">i4", ">f2", "q", "Q", "l"]:
        assert kernels.handles(np.dtype(name))
    for name in ["g", "c8", "M8[s]", "m8[s]", "S3", "U3", "O", "V4"]:
        assert not kernels.handles(np.dtype(name))


@pytest.mark.parametrize(
    "face", [lambda *given: block_sums(*given, False), lambda *given: block_moments(*given, False, False)]
)
def test_the_faces_refuse_what_they_cannot_take(face):
    good = np.zeros((1, 2, 3, 4))
    face(good)
    for wrong, error in [
        ([1.0], TypeError),
        (good.astype("c16"), TypeError),
        (good.astype("f2"), TypeError),
        (good.astype("M8[s]"), TypeError),
        (good[0], ValueError),
        (good.astype(">f8"), ValueError),
        (good[..., ::2], ValueError),
        (np.zeros((1, 2, 6, 1))[:, :, ::2], ValueError),
        (np.frombuffer(bytearray(8 * 24 + 1), "f8", 24, 1).reshape(good.shape), ValueError),
    ]:
        with pytest.raises(error):
            face(wrong)


@pytest.mark.parametrize("face", [block_sums, block_moments])
def test_the_faces_refuse_a_wrong_number_of_arguments(face):
    good = np.zeros((1, 2, 3, 4))
    for given_ in [(), (good,), (good, False, False, False)]:
        with pytest.raises(TypeError, match="takes a block"):
            face(*given_)
