"""Statistics block by block against NumPy: values, types, shapes, warnings and errors."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndfile as nf
from ndfile.compute import blocks

EXAMPLES = int(os.environ.get("NDFILE_EXAMPLES", "40"))
USUAL = settings(deadline=None, max_examples=EXAMPLES, derandomize="NDFILE_EXAMPLES" not in os.environ)

DTYPES = ["?", "i1", "u1", ">i2", "u2", "i4", ">u4", "i8", "u8", "f2", "f4", ">f4", "f8", ">f8", "g", "F", "D", ">D"]
TIMES = ["M8[s]", "m8[ms]", ">m8[ns]"]

TOTALS = ["sum", "mean", "nansum", "nanmean", "prod"]
DEVIATIONS = ["std", "var", "nanstd", "nanvar"]
EXTREMES = ["min", "max", "nanmin", "nanmax", "ptp"]
POSITIONS = ["argmin", "argmax"]
TRUTHS = ["any", "all", "count_nonzero"]


@pytest.fixture(autouse=True, params=[64, 1000], ids=["tiny", "small"])
def _small_blocks(monkeypatch, request):
    monkeypatch.setattr(blocks, "BLOCK_NBYTES", request.param)


def outcome(function, *args, **kwargs):
    """What a call gives, or raises, and the warnings on its way."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            return type(error), str(error), set()
    # NumPy has other words for scalars, and not always.
    return result, None, {(one.category, str(one.message).replace("scalar ", "")) for one in seen}


def assert_same(ours, theirs, rounding=0.0, same_warnings=True):
    result, text, warned = ours
    expected, expected_text, expected_warned = theirs
    assert text == expected_text
    if text is not None:
        assert result is expected
        return
    assert type(result) is type(expected)
    assert not same_warnings or warned == expected_warned
    if not isinstance(expected, (np.ndarray, np.generic)):
        assert result == expected
        return
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if rounding and result.dtype.kind in "fc":
        wide = "D" if result.dtype.kind == "c" else "d"
        result, expected = np.asarray(result, wide), np.asarray(expected, wide)
        scale = float(np.max(np.abs(expected[np.isfinite(expected)]), initial=1))
        np.testing.assert_allclose(result, expected, rtol=rounding, atol=rounding * scale)
    else:
        np.testing.assert_array_equal(result, expected)


def rounding_of(array, dtype=None):
    kinds = [np.dtype(one) for one in (dtype, array.dtype) if one is not None]
    nbytes = min({"c": kind.itemsize // 2, "f": kind.itemsize}.get(kind.kind, 8) for kind in kinds)
    return 64 * {2: 1e-3, 4: 1.2e-7, 8: 2.3e-16, 16: 2e-16}[nbytes] * max(array.size, 1) ** 0.5


@st.composite
def arrays(draw, dtypes=DTYPES, least=1):
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=least, max_side=9))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["usual", "few", "special"]))
    raw = rng.normal(size=shape) * (3 if kind == "usual" else 1) if kind != "few" else rng.integers(0, 3, shape)
    if dtype.kind in "mM":
        array = rng.integers(0, 1000, shape).astype(dtype)
        if kind == "special":
            array[rng.random(shape) < 0.2] = "NaT"
    elif dtype.kind in "iu" and kind == "usual":
        info = np.iinfo(dtype)
        array = rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True).astype(dtype)
    else:
        with np.errstate(invalid="ignore"):
            array = np.asarray(np.abs(raw) if dtype.kind == "u" else raw).astype(dtype)
        if kind == "special" and dtype.kind in "fc":
            array = np.array(array)
            array[rng.random(shape) < 0.2] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    array = np.asarray(array, order=draw(st.sampled_from("CF")))
    if array.ndim and draw(st.booleans()):
        axis = draw(st.integers(0, array.ndim - 1))
        array = np.flip(array, axis)
    if array.ndim > 1 and draw(st.booleans()):
        array = array.transpose(draw(st.permutations(range(array.ndim))))
    if array.ndim and draw(st.booleans()):
        array = array[..., :: draw(st.integers(1, 2))]
    return array


def axes_of(draw, array, tuples=True):
    choices = [None]
    if array.ndim:
        choices += [draw(st.integers(-array.ndim, array.ndim - 1))]
        if tuples:
            choices += [tuple(draw(st.permutations(range(array.ndim)))[: draw(st.integers(1, array.ndim))])]
    return draw(st.sampled_from(choices))


def compared(name, array, rounding=0.0, **kwargs):
    kwargs = {key: value for key, value in kwargs.items() if value is not None or key == "axis"}
    ours = outcome(getattr(nf.compute, name), array, **kwargs)
    # The same with other threads, byte for byte.
    again = outcome(getattr(nf.compute, name), array, **kwargs, threads=3)
    np.testing.assert_array_equal(np.asarray(ours[0]).view(), np.asarray(again[0]))
    # Of infinity, and of nothing, NumPy warns in each step of its formula that it spoils; we do so once.
    same_warnings = name not in DEVIATIONS or not (np.isinf(array).any() or "where" in kwargs)
    assert_same(ours, outcome(getattr(np, name), array, **kwargs), rounding, same_warnings)


@pytest.mark.parametrize("name", EXTREMES + TRUTHS)
@USUAL
@given(data=st.data())
def test_what_is_exact_is_numpys(name, data):
    array = data.draw(arrays(DTYPES + TIMES))
    compared(name, array, axis=axes_of(data.draw, array), keepdims=data.draw(st.sampled_from([None, True])))


@pytest.mark.parametrize("name", POSITIONS)
@USUAL
@given(data=st.data())
def test_positions_are_numpys(name, data):
    array = data.draw(arrays(DTYPES + TIMES))
    axis = axes_of(data.draw, array, tuples=False)
    compared(name, array, axis=axis, keepdims=data.draw(st.sampled_from([None, True])))


@pytest.mark.parametrize("name", TOTALS)
@USUAL
@given(data=st.data())
def test_totals_are_numpys_but_for_rounding(name, data):
    array = data.draw(arrays([*DTYPES, "m8[s]"] if name in ("sum", "mean") else DTYPES))
    dtype = data.draw(st.sampled_from([None, None, "f8", "f4", "i8", "D"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        compared(
            name,
            array,
            rounding_of(array, dtype) * (array.size if name == "prod" else 1),
            axis=axes_of(data.draw, array),
            dtype=dtype,
            keepdims=data.draw(st.sampled_from([None, True])),
        )


@pytest.mark.parametrize("name", DEVIATIONS)
@USUAL
@given(data=st.data())
def test_deviations_are_numpys_but_for_rounding(name, data):
    array = data.draw(arrays())
    dtypes = [None, "f8", "D"] + (["f4"] if np.can_cast(array.dtype, "f4") else [])  # else NumPy's f4 is wrong
    dtype = data.draw(st.sampled_from(dtypes))
    spread = float(np.max(np.abs(np.asarray(array, "D" if array.dtype.kind == "c" else "d")), initial=1))
    if not np.isfinite(spread) or spread > 1e4:
        spread = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        compared(
            name,
            array,
            rounding_of(array, dtype) * spread,
            axis=axes_of(data.draw, array),
            dtype=dtype,
            ddof=data.draw(st.sampled_from([None, 1, 1.5, 100])),
            keepdims=data.draw(st.sampled_from([None, True])),
        )


@pytest.mark.parametrize("name", [*TOTALS, *DEVIATIONS, "min", "nanmax", "any", "all"])
@USUAL
@given(data=st.data())
def test_some_of_the_items_are_counted_as_numpy_does(name, data):
    array = data.draw(arrays(["i2", "f4", "f8", ">f8", "D"] if name not in ("min", "nanmax") else ["i2", "f8"]))
    where = data.draw(st.sampled_from([True, "all", "row"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    if where == "all":
        where = rng.random(array.shape) < 0.7
    elif where == "row":
        where = rng.random(array.shape[-1:]) < 0.7
    more = (
        {"initial": 2}
        if name in ("min", "nanmax") or (name in ("sum", "prod", "nansum") and rng.random() < 0.5)
        else {}
    )
    rounding = rounding_of(array) * (array.size if name == "prod" else 1) * 100
    compared(name, array, rounding, axis=axes_of(data.draw, array), where=where, **more)
