"""Statistics at their edges: rare types, shapes and arguments are as with numpy.memmap."""

import sys
import warnings

import numpy as np
import pytest

import ndfile as nf
from ndfile._core import stream_from
from ndfile.compute import running

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(12, 7))
INTEGERS = RNG.integers(-128, 127, (12, 7), "i1")
COMPLEX = ROWS + 1j * ROWS[::-1]

DATA = {
    "f8": ROWS,
    "f4": ROWS.astype("f4"),
    ">f8": ROWS.astype(">f8"),
    "g": ROWS.astype("g"),
    "i1": INTEGERS,
    "smallest i1": np.full((5, 9), -128, "i1"),
    "large u8": np.full((30, 4), 2**63 + 5, "u8"),
    "bool": ROWS > 0,
    "complex": COMPLEX,
    "NaN in parts": np.where(ROWS > 1, complex(np.nan, 1), np.where(ROWS < -1, complex(1, np.nan), COMPLEX)),
    "NaN in all of a column": np.where(np.arange(7) == 3, np.nan, ROWS),
    "NaN": np.full((12, 7), np.nan),
    "infinities": np.where(ROWS > 1, np.inf, ROWS),
    "subnormal": np.full(40, 5e-324),
    "negative zeros": np.full(40, -0.0),
    "halves beyond their range": np.full((30, 4), 30000, "f2"),
    "dates": INTEGERS.astype("M8[s]"),
    "NaT": np.where(INTEGERS > 90, np.timedelta64("NaT"), INTEGERS.astype("m8[us]")),
    "strings": np.array([["a", "bc"], ["", "x"]] * 9),
    "records": np.zeros((12, 3), [("x", "f4"), ("y", "i2")]),
    "one": np.ones(1),
    "axes of length 1": np.ones((1, 1, 30)),
    "no axes": np.array(3.5),
    "no items": np.zeros((3, 0)),
    "64 axes": ROWS.reshape(-1)[:64].reshape((2,) * 6 + (1,) * 58),
}

REDUCTIONS = ["sum", "prod", "mean", "std", "var", "min", "max", "any", "all"]
FUNCTIONS = ["nansum", "nanmean", "nanstd", "nanvar", "nanmin", "nanmax", "ptp", "median", "nanmedian"]
FUNCTIONS += ["count_nonzero", "argmin", "argmax"]

# What is on purpose not NumPy's: at least as accurate, without an overflow on the way, and one warning of infinity.
# NumPy's nanmin has other words for what is not numpy.memmap itself, and its medians end at 32 axes.
ACCURATE = {"mean", "std", "var", "nanmean", "nanstd", "nanvar"}
DIFFERENT = {
    *(("halves beyond their range", name) for name in ACCURATE),
    *(("infinities", name) for name in ACCURATE),
    *((data, name) for data in ("strings", "records", "no items") for name in ("nanmin", "nanmax")),
    *(("64 axes", name) for name in ("median", "nanmedian")),
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Arrays of any size are done block by block."""
    before = stream_from(1)
    for name, module in list(sys.modules.items()):
        if name.startswith("ndfile.compute.") and hasattr(module, "BLOCK_NBYTES"):
            monkeypatch.setattr(module, "BLOCK_NBYTES", 64)
    monkeypatch.setattr(running, "MOST_THREADS", 1)
    yield
    stream_from(before)


@pytest.fixture
def compared(tmp_path):
    """A function that makes the same call with an array of ours and with a numpy.memmap, and compares what it gives."""

    def compare(call, data):
        data.tofile(tmp_path / "ours")
        data.tofile(tmp_path / "theirs")
        if data.size == 0:
            (tmp_path / "ours").write_bytes(b"x" * 64)
            (tmp_path / "theirs").write_bytes(b"x" * 64)
        with nf.memmap(tmp_path / "ours", data.dtype, "r+", shape=data.shape) as array:
            results, form = outcome(call, array)
        expected, expected_form = outcome(call, np.memmap(tmp_path / "theirs", data.dtype, "r+", shape=data.shape))
        assert form == expected_form
        for one, other in zip(results, expected, strict=True):
            assert_close(one, other)

    return compare


def outcome(call, array):
    """What a call gives, and of what form that is: classes, types, shapes, errors and warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call(array)
        except Exception as error:
            return [], (type(error), str(error))
    results = list(result) if isinstance(result, tuple) else [result]
    # Results are compared after the file is closed. numpy.memmap gives its class to some copies; ours are plain.
    kinds = [np.ndarray if isinstance(one, np.memmap) else type(one) for one in results]
    arrays = [np.array(one) for one in results]
    # NumPy has other words for scalars, and not always.
    words = {(one.category, str(one.message).replace("scalar ", "")) for one in seen}
    return arrays, (kinds, [(one.dtype, one.shape) for one in arrays], words)


def assert_close(ours, theirs):
    if ours.dtype.kind not in "fc":
        np.testing.assert_array_equal(ours, theirs)
        return
    rounding = {2: 4e-3, 4: 1e-5}.get(ours.real.dtype.itemsize, 1e-11)
    with np.errstate(all="ignore"):
        scale = float(np.max(np.abs(theirs), where=np.isfinite(theirs), initial=0))
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding * scale)


def with_keywords(name, keywords):
    return lambda a: getattr(np, name)(a, **keywords)


def axes_for(data):
    tuples = [(1, 0), (0, 0)] if data.ndim > 1 else [(0,)]
    return [None, (), -1, *tuples, data.ndim, [0], True, np.int64(0)]


@pytest.mark.parametrize("name", REDUCTIONS + FUNCTIONS)
@pytest.mark.parametrize("kind", DATA)
def test_rare_arrays_and_axes_are_as_with_numpy_memmap(compared, kind, name):
    if (kind, name) in DIFFERENT:
        pytest.skip("different on purpose")
    for axis in axes_for(DATA[kind]):
        if name.startswith("nanm") and name != "nanmean" and isinstance(axis, tuple) and not axis:
            continue  # NumPy's words for warnings, as above
        compared(with_keywords(name, {"axis": axis}), DATA[kind])
    compared(with_keywords(name, {"keepdims": True}), DATA[kind])


@pytest.mark.parametrize("name", ["sum", "prod", "min", "max"])
@pytest.mark.parametrize("kind", ["f8", "f4", "i1", "bool", "complex"])
def test_initial_values_of_any_type_are_as_with_numpy_memmap(compared, kind, name):
    values = [5, -3, 2.5, np.float64(3), np.float32(1e10), np.nan, 1j, -0.0, ROWS[0], np.arange(1), None, "x", 300]
    for initial in [*values, 2**70, True, np.int8(3)]:
        for more in ({}, {"axis": 1, "keepdims": True}, {"axis": 1, "where": np.arange(7) > 2}):
            compared(with_keywords(name, {"initial": initial, **more}), DATA[kind])


def test_a_sum_of_negative_zeros_is_one_only_from_a_negative_zero(compared):
    for initial in (0.0, -0.0, -0j):
        compared(lambda a, initial=initial: str(a.sum(initial=initial)), DATA["negative zeros"])


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("kind", ["f8", "i1", "bool", "complex"])
def test_out_is_as_with_numpy_memmap(compared, kind, name):
    data = DATA[kind]
    function = getattr(np, name)

    def into(out, axis=0, **keywords):
        def call(a):
            target = out(a)
            found = function(a, axis=axis, out=target, **keywords)
            return found is target, np.array(target), np.array(a)

        return call

    for dtype in ("f8", "f4", "i8", "i4", "?", "D", "M8[s]", ">f8"):
        compared(into(lambda _, dtype=dtype: np.zeros(7, dtype)), data)
    compared(into(lambda a: a[0]), data)  # overlapping the input
    compared(into(lambda a: a[:, 2], axis=1), data)
    compared(into(lambda a: np.zeros((1, 7), a.dtype), keepdims=True), data)
    compared(into(lambda a: np.zeros(7, a.dtype), keepdims=True), data)
    compared(into(lambda a: np.zeros(8, a.dtype)), data)
    compared(into(lambda a: np.broadcast_to(np.zeros(1, a.dtype), (7,))), data)
    compared(into(lambda _: [0] * 7), data)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_masks_and_other_keywords_are_as_with_numpy_memmap(compared, name):
    masks = [True, False, np.False_, np.ones(7, "?"), np.zeros((12, 1), "?"), np.ones((12, 7), "i1"), [True] * 7, 1, 0]
    for mask in [*masks, np.ones((3, 12, 7), "?"), np.arange(7) % 2 == 0, np.ones(5, "?")]:
        compared(with_keywords(name, {"axis": 0, "where": mask}), ROWS)
    others = [{"keepdims": None}, {"keepdims": 1}, {"keepdims": "x"}, {"threads": 1}, {"progress": None}, {"bogus": 1}]
    others += [{"dtype": one} for one in (None, "f4", "i8", "?", "O", ">f8", "g", float, complex, "u1", "m8[s]")]
    others += [{"ddof": one} for one in (1, 0.5, 12, 13, None, True)]
    others += [
        {"correction": 1},
        {"correction": 0, "ddof": 1},
        {"mean": 3.0},
        {"mean": np.zeros((1, 7))},
        {"mean": None},
    ]
    for keywords in others:
        compared(with_keywords(name, {"axis": 0, **keywords}), ROWS)
        compared(lambda a, keywords=keywords: getattr(a, name)(axis=0, **keywords), ROWS)
        compared(lambda a, keywords=keywords: getattr(np, name)(a=a, **keywords), INTEGERS)


VIEWS = {
    "reversed": lambda a: a[::-1, ::-2],
    "transposed": lambda a: a.T,
    "broadcast": lambda a: np.broadcast_to(a[0, :1], (9, 7), subok=True),
    "windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, 0, subok=True),
    "new axes": lambda a: a[None, :, None],
    "masked": lambda a: np.ma.masked_array(a, np.asarray(a) == np.asarray(a)[1, 1]),
    "list": lambda a: [a, a],
    "rows": list,
    "record array": lambda a: a.view(np.recarray),
    "objects": lambda a: a.astype(object),
    "plain": np.asarray,
}


@pytest.mark.parametrize("name", [*REDUCTIONS, "nansum", "nanmean", "ptp", "count_nonzero", "argmin"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_and_what_holds_ours_are_as_with_numpy_memmap(compared, view, name):
    for data in (ROWS, INTEGERS, DATA["dates"]):
        for keywords in ({}, {"axis": 0}, {"axis": -1}):
            compared(lambda a, keywords=keywords: getattr(np, name)(VIEWS[view](a), **keywords), data)


@pytest.mark.parametrize("name", ["sum", "prod", "min", "nansum", "ptp", "median", "count_nonzero"])
@pytest.mark.parametrize("action", ["raise", "ignore"])
def test_floating_point_errors_are_as_with_numpy_memmap(compared, name, action):
    def call(a):
        with np.errstate(over=action, invalid=action, divide=action):
            return getattr(np, name)(a)

    for kind in ("f8", "halves beyond their range", "large u8", "infinities", "NaN", "negative zeros", "complex"):
        compared(call, DATA[kind])


@pytest.mark.parametrize("name", ["var", "std", "nanvar", "nanstd"])
def test_a_variance_beyond_the_range_of_numbers_has_numpys_warning(compared, name):
    compared(with_keywords(name, {}), np.array([1e300, -1e300] * 20))


def test_a_failing_method_of_a_view_by_strides_raises_numpys_error(compared):
    compared(
        lambda a: np.lib.stride_tricks.as_strided(a, (3, 2), (8, 16), subok=True).sum(), DATA["dates"].astype("M8[s]")
    )


@pytest.mark.parametrize("bins", [10, 0, 2.5, "auto", [0, 1, 2], [2, 1, 0]], ids=str)
@pytest.mark.parametrize("kind", ["f8", "i1", "bool", "complex", "dates", "strings", "no axes", "one", "no items"])
def test_histograms_of_rare_arrays_are_as_with_numpy_memmap(compared, kind, bins):
    for keywords in ({}, {"range": (0, 1)}, {"range": (1, 0)}, {"range": (0, np.inf)}, {"density": True}):
        compared(lambda a, keywords=keywords: np.histogram(a, bins, **keywords), DATA[kind])
