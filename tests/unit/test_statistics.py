"""Statistics of mapped arrays by NumPy's own names: streamed when large, accurate, and bounded in memory."""

import inspect
import math
import tracemalloc
import warnings

import numpy as np
import pytest

import ndfile as nf
from ndfile._core import stream_from
from ndfile.compute import blocks, spellings

MIB = 1 << 20

METHODS = sorted(spellings.METHODS.keys() - {"dot"})
FUNCTIONS = sorted(function.__name__ for function in spellings.FUNCTIONS)


@pytest.fixture
def streamed():
    """Arrays of any size are done block by block, in small blocks."""
    before = stream_from(1)
    usual = blocks.BLOCK_NBYTES
    blocks.BLOCK_NBYTES = 4096
    yield
    blocks.BLOCK_NBYTES = usual
    stream_from(before)


@pytest.fixture
def calls(monkeypatch):
    """Which of our functions were called, and did not leave it to NumPy."""
    seen = []

    def watched(name, own):
        def function(*args, **kwargs):
            found = own(*args, **kwargs)
            if found is not NotImplemented:
                seen.append(name)
            return found

        return function

    for name, own in spellings.METHODS.items():
        monkeypatch.setitem(spellings.METHODS, name, watched(name, own))
    for numpys, own in spellings.FUNCTIONS.items():
        monkeypatch.setitem(spellings.FUNCTIONS, numpys, watched(numpys.__name__, own))
    return seen


def saved(tmp_path, array, mode="r"):
    np.save(tmp_path / "x.npy", array)
    return nf.open(tmp_path / "x.npy", mode)


def numbers(shape=(300, 50), dtype="f8"):
    return (np.random.default_rng(0).normal(size=shape) / 5 + 1).astype(dtype)


# ---- NumPy's names lead to it ----


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_a_large_array_is_streamed(tmp_path, streamed, calls, name):
    data = numbers()
    with saved(tmp_path, data) as array:
        result, expected = getattr(array, name)(axis=0), getattr(data, name)(axis=0)
        assert calls == [name]
        assert type(result) is np.ndarray
        np.testing.assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("name", METHODS)
def test_a_function_that_has_a_method_is_streamed(tmp_path, streamed, calls, name):
    data = numbers()
    with saved(tmp_path, data) as array:
        result, expected = getattr(np, name)(array, axis=-1), getattr(np, name)(data, axis=-1)
        assert calls == [name]
        np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_a_dot_product_is_streamed_as_a_method_and_as_a_function(tmp_path, streamed, calls):
    data, factor = numbers(), np.arange(50.0)
    with saved(tmp_path, data) as array:
        np.testing.assert_allclose(array.dot(factor), data.dot(factor), rtol=1e-14)
        np.testing.assert_allclose(np.dot(array, factor), data.dot(factor), rtol=1e-14)
        np.testing.assert_allclose(array[0].dot(array[1]), data[0].dot(data[1]), rtol=1e-14)
    assert calls == ["dot"] * 3


NEEDS_MORE = {"percentile": 30, "quantile": 0.3, "nanpercentile": 30, "nanquantile": 0.3, "dot": np.ones(50)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_streamed(tmp_path, streamed, calls, name):
    data = numbers()
    if name == "bincount":
        data = data.astype("u1").ravel()
    more = (NEEDS_MORE[name],) if name in NEEDS_MORE else ()
    keywords = {"weights": np.ones(data.shape)} if name == "average" else {}
    with saved(tmp_path, data) as array:
        result = getattr(np, name)(array, *more, **keywords)
        assert calls == [name]
        expected = getattr(np, name)(data, *more, **keywords)
        pairs = zip(result, expected, strict=True) if isinstance(result, tuple) else [(result, expected)]
        for one, other in pairs:
            assert type(one) is type(other)
            np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("name", [*METHODS, *FUNCTIONS])
def test_ours_take_numpys_arguments(name):
    own = spellings.own(getattr(np, name))
    theirs = list(inspect.signature(getattr(np, name)).parameters)
    assert set(theirs) - {"a", "x", "arr"} <= set(inspect.signature(own).parameters)
    positional = [
        one.name
        for one in inspect.signature(getattr(np, name)).parameters.values()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    assert list(inspect.signature(own).parameters)[1 : len(positional)] == positional[1:]


def test_a_small_array_goes_straight_to_numpy(tmp_path, calls):
    with saved(tmp_path, numbers((10,))) as array:
        array.std()
        np.median(array)
        np.nansum(array)
    assert calls == []


def test_sizes_from_which_on_it_is_streamed(tmp_path, calls):
    for count, name, is_streamed in [
        ((128 << 10) - 1, "std", False),
        (128 << 10, "std", True),
        ((4 << 20) - 1, "sum", False),
        (4 << 20, "sum", True),
        ((32 << 20) - 1, "max", False),
        (32 << 20, "max", True),
    ]:
        calls.clear()
        with nf.memmap(tmp_path / "x.bin", "u1", "w+", shape=count, sparse=True) as array:
            assert getattr(array, name)() == 0
        assert calls == [name] * is_streamed


def test_a_subclass_keeps_to_numpy(tmp_path, streamed, calls):
    class Other(nf.memmap):
        pass

    numbers().tofile(tmp_path / "x.bin")
    with Other(tmp_path / "x.bin", "f8", "r") as array:
        array.std()
        np.nansum(array)
    assert calls == []


def test_arguments_that_make_no_sense_have_numpys_errors(tmp_path, streamed):
    data = numbers()
    cases = [
        lambda a: a.sum(axis=2),
        lambda a: a.sum(axis=(0, 0)),
        lambda a: a.std(axis="x"),
        lambda a: a.std(correction=1),
        lambda a: a.sum(unknown=1),
        lambda a: a.mean(out=np.empty(3)),
        lambda a: a.min(where=np.ones(50, "?")),
        lambda a: a.var(dtype="U3"),
        lambda a: np.std(a, ddof=1, correction=1),
        lambda a: np.nanmean(a, dtype="i4"),
        lambda a: np.nansum(a, where=np.ones(7, "?")),
        lambda a: a.argmax(axis=(0, 1)),
        lambda a: np.ptp(a, axis=5),
    ]
    with saved(tmp_path, data) as array:
        for case in cases:
            with pytest.raises(Exception) as theirs:  # noqa: PT011
                case(data)
            with pytest.raises(type(theirs.value)) as ours:
                case(array)
            assert str(ours.value) == str(theirs.value)


def test_out_is_filled_and_given_back(tmp_path, streamed, calls):
    data = numbers()
    with saved(tmp_path, data) as array:
        for name in ("sum", "mean", "std", "min", "argmax", "any"):
            expected = getattr(data, name)(axis=0)
            out = np.empty_like(expected)
            assert getattr(array, name)(axis=0, out=out) is out
            np.testing.assert_allclose(out, expected, rtol=1e-13)
        with nf.memmap(tmp_path / "out.bin", "f8", "w+", shape=(50,)) as out:
            assert np.mean(array, axis=0, out=out) is out
            np.testing.assert_allclose(out, data.mean(axis=0), rtol=1e-13)
    assert len(calls) == 7


def test_views_are_streamed_as_they_are(tmp_path, streamed, calls):
    data = numbers((40, 30, 20))
    with saved(tmp_path, data) as array:
        for view in (lambda a: a.T, lambda a: a[::-1, ::3], lambda a: a[:, 5], lambda a: a.transpose(1, 0, 2)[2:]):
            np.testing.assert_allclose(view(array).std(axis=0), view(data).std(axis=0), rtol=1e-12)
            assert view(array).max() == view(data).max()
            assert view(array).argmin() == view(data).argmin()
    assert len(calls) == 12


def test_infinity_warns_as_numpy_does(tmp_path, streamed):
    data = numbers()
    data[7, 7] = np.inf
    with saved(tmp_path, data) as array:
        for name in ("std", "var"):
            with pytest.warns(RuntimeWarning, match="invalid value encountered in subtract"):
                assert np.isnan(getattr(array, name)())
        data[8, 8] = -np.inf
    with saved(tmp_path, data) as array, pytest.warns(RuntimeWarning, match="invalid value encountered in reduce"):
        assert np.isnan(array.sum())


# ---- Accuracy ----


def hard():
    rng = np.random.default_rng(1)
    return {
        "offset": 1e8 + rng.normal(size=200_000),
        "offset f4": (1e4 + rng.normal(size=200_000)).astype("f4"),
        "halves": rng.normal(size=100_000).astype("f2"),
        "alternating": np.tile([1e16, 1.0, -1e16, 1.0], 50_000),
        "long tail": rng.lognormal(0, 5, 200_000),
        "ramp": np.linspace(-1, 1e6, 200_000),
        "large integers": rng.integers(-(2**62), 2**62, 100_000),
        "largest integers": np.full(100_000, 2**63 - 1),
        "large unsigned": rng.integers(0, 2**64, 100_000, "u8", endpoint=False),
    }


@pytest.mark.parametrize("kind", hard())
@pytest.mark.parametrize("shape", [(-1,), (-1, 4), (4, -1), (-1, 1000)], ids=str)
@pytest.mark.parametrize("axis", [0, -1])
def test_sums_means_and_deviations_are_at_least_as_accurate_as_numpys(streamed, kind, shape, axis):
    data = hard()[kind].reshape(shape)
    lanes = np.moveaxis(data, axis, -1).reshape(-1, data.shape[axis])[:5]
    exact_means = [math.fsum(lane.tolist()) / len(lane) for lane in lanes]
    if data.dtype.kind in "iu":
        exact_means = [sum(lane.tolist()) / len(lane) for lane in lanes]
    exact_sums = [exact * len(lane) for exact, lane in zip(exact_means, lanes, strict=True)]
    exact_stds = [
        math.sqrt(math.fsum((float(x) - exact) ** 2 for x in lane.tolist()) / len(lane))
        for exact, lane in zip(exact_means, lanes, strict=True)
    ]
    for name, exact in {"sum": exact_sums, "mean": exact_means, "std": exact_stds}.items():
        if name == "sum" and data.dtype.kind in "iu":
            continue  # modulo 2**64: exact, see the comparison with NumPy
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = getattr(nf.compute, name)(data, axis=axis).reshape(-1)[:5].astype("f8")
            theirs = getattr(np, name)(data, axis=axis).reshape(-1)[:5].astype("f8")
        # Half a unit in the last place of the result's type is nobody's fault.
        dtype = getattr(np, name)(data[:1], axis=0).dtype
        last_place = np.spacing(np.abs(np.asarray(exact)).astype(dtype)).astype("f8")
        # Nor is one rounding of the sum of the magnitudes, where NumPy's order happens to be a lucky one.
        unavoidable = 2 * last_place
        if name != "std":
            magnitude = np.abs(lanes.astype("f8")).sum(axis=-1) / (1 if name == "sum" else lanes.shape[-1])
            unavoidable = np.maximum(unavoidable, magnitude * 2.0**-52)
        errors, numpys = np.abs(ours - exact), np.abs(theirs - exact)
        assert (errors <= np.maximum(numpys, unavoidable)).all(), (name, errors, numpys)


def test_a_constant_has_no_deviation(streamed):
    for value in (0.1, 1e300, -3.3e-5):
        assert nf.compute.std(np.full(100_001, value)) == 0
        assert (nf.compute.var(np.full((100, 1001), value, ">f8"), axis=0) == 0).all()


@pytest.mark.parametrize("name", ["sum", "mean", "std", "nanvar", "min", "argmax", "describe"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_number_of_threads_changes_no_bit(streamed, name, axis):
    data = numbers((501, 77), "f4")
    function = getattr(nf, name, None) or getattr(nf.compute, name)
    found = []
    for threads in (1, 2, 3, 8):
        if name == "argmax" and axis is None:
            found.append(repr(function(data, threads=threads)))
        else:
            result = function(data, axis, threads=threads)
            fields = result[:-1] if name == "describe" else [result]
            found.append(repr([np.asarray(one).tobytes() for one in fields]))
    assert len(set(found)) == 1


# ---- describe ----


def test_describe_has_what_six_calls_have(tmp_path):
    data = numbers((200, 30))
    data[3, ::7] = np.nan
    with saved(tmp_path, data) as array:
        for axis in (None, 0, 1, -1, (0, 1)):
            found = nf.describe(array, axis, percentiles=[1, 50])
            np.testing.assert_array_equal(found.count, (~np.isnan(data)).sum(axis))
            np.testing.assert_array_equal(found.nan_count, np.isnan(data).sum(axis))
            np.testing.assert_allclose(found.mean, np.nanmean(data, axis), rtol=1e-14)
            np.testing.assert_allclose(found.std, np.nanstd(data, axis), rtol=1e-13)
            np.testing.assert_array_equal(found.min, np.nanmin(data, axis))
            np.testing.assert_array_equal(found.max, np.nanmax(data, axis))
            for percent in (1, 50):
                np.testing.assert_array_equal(found.percentiles[percent], np.nanpercentile(data, percent, axis))


@pytest.mark.parametrize("dtype", ["?", "i1", ">u2", "i8", "u8", "f2", ">f4", "f8"])
def test_describe_takes_all_usual_types(dtype):
    data = np.arange(100).astype(dtype)
    found = nf.describe(data)
    assert (found.count, found.nan_count) == (100, 0)
    assert found.min == data.min()
    assert found.max == data.max()
    assert found.min.dtype == data.dtype.newbyteorder("=")
    assert found.mean == data.mean(dtype="f8")
    assert math.isclose(found.std, data.std(dtype="f8"), rel_tol=1e-14)


def test_describe_of_nothing_but_nan_is_nan():
    found = nf.describe(np.full(10, np.nan))
    assert (found.count, found.nan_count) == (0, 10)
    assert np.isnan([found.mean, found.std, found.min, found.max]).all()


def test_describe_refuses_what_has_no_mean():
    for data in (np.zeros(0), np.zeros(3, "U2"), np.zeros(3, "D"), np.zeros(3, "M8[s]")):
        with pytest.raises(nf.LayoutError, match="describe: an array of"):
            nf.describe(data)
    with pytest.raises(np.exceptions.AxisError):
        nf.describe(np.ones(3), axis=1)


def test_a_description_is_readable():
    text = repr(nf.describe(np.arange(12345.0), percentiles=[50]))
    assert text.splitlines()[0] == "count      12,345"
    assert text.splitlines()[-1] == "50%        6172"


# ---- Memory ----


@pytest.mark.parametrize(
    "call",
    [
        lambda a: a.std(),
        lambda a: a.std(axis=0),
        lambda a: a.std(axis=1),
        lambda a: a.T.var(axis=0),
        lambda a: a.mean(dtype=np.float64),
        lambda a: np.nanstd(a),
        lambda a: np.nanmean(a, axis=0),
        lambda a: a.sum(where=a[0] > 1),
        lambda a: a.argmax(),
        lambda a: np.ptp(a, axis=1),
        lambda a: nf.describe(a),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("dtype", ["f4", ">f8", "u1", "F"])
def test_memory_stays_within_64_mib(tmp_path, call, dtype):
    rows = 128 * MIB // (1000 * np.dtype(dtype).itemsize)
    with nf.create(tmp_path / "x.npy", shape=(rows, 1000), dtype=dtype, fill=3) as array:
        if dtype == "F" and {"nf", "float64"} & set(call.__code__.co_names):
            pytest.skip("not of complex numbers")
        tracemalloc.start()
        try:
            call(array)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 64 * MIB


WITHIN_A_LIMIT = """
    import resource, sys
    import numpy as np
    import ndfile as nf

    path, call = sys.argv[1:]
    mapped = nf.memmap if call.startswith("ours") else np.memmap
    a = mapped(path, "f8", "r", shape=(1 << 13, 1 << 13))
    np.std(np.ones(10)), nf.compute
    used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + (160 << 20), resource.RLIM_INFINITY))
    print({
        "std": lambda: np.std(a),
        "std of rows": lambda: np.std(a, axis=1).max(),
        "nanmean": lambda: np.nanmean(a, axis=0).max(),
        "percentile": lambda: np.percentile(a, 10),
        "histogram": lambda: np.histogram(a, 10, range=(0, 1))[0][0],
    }[call.split(": ")[1]]())
"""


@pytest.mark.parametrize("name", ["std", "std of rows", "nanmean", "percentile", "histogram"])
def test_a_file_larger_than_the_memory_that_there_is(tmp_path, run_python, name):
    path = tmp_path / "x.bin"
    with open(path, "wb") as file:
        file.truncate(1 << 29)
    result = run_python(WITHIN_A_LIMIT, path, f"ours: {name}")
    assert float(result.stdout) == (1 << 26 if name == "histogram" else 0)


@pytest.mark.parametrize("name", ["std", "percentile"])
def test_numpy_needs_more_memory_than_there_is(tmp_path, run_python, name):
    """The control."""
    path = tmp_path / "x.bin"
    with open(path, "wb") as file:
        file.truncate(1 << 29)
    result = run_python(WITHIN_A_LIMIT, path, f"numpys: {name}", fails=True)
    assert "MemoryError" in result.stderr


# ---- Other ways ----


def test_a_file_that_is_better_read_than_mapped(tmp_path, streamed, calls):
    data = numbers((300, 50), "f4")
    np.save(tmp_path / "x.npy", data)
    with nf.open(tmp_path / "x.npy", backend="read") as array:
        np.testing.assert_array_equal(np.std(array, axis=0), nf.compute.std(data, axis=0))
        assert array.max() == data.max()
        assert array.argmin() == data.argmin()
    assert calls == ["std", "max", "argmin"]


def test_a_file_that_is_cut_meanwhile_is_an_exception(tmp_path, streamed):
    (tmp_path / "x.bin").write_bytes(bytes(64 << 12))
    with nf.memmap(tmp_path / "x.bin", mode="r") as array:
        with open(tmp_path / "x.bin", "r+b") as file:
            file.truncate(8 << 12)
        for call in (np.std, np.sum, np.min, np.argmax, np.any, np.count_nonzero, nf.describe):
            with pytest.raises(nf.FaultError):
                call(array)
        assert np.std(array[: 4 << 12]) == 0


def test_a_large_call_in_a_fork_of_a_threaded_process(tmp_path, run_python):
    np.save(tmp_path / "x.npy", numbers((1 << 17,)))
    program = """
        import os, sys, threading
        import numpy as np
        import ndfile as nf
        a = nf.open(sys.argv[1])
        nf.compute  # a fork while another thread imports would wait for that forever, as Python has it
        other = threading.Thread(target=lambda: [nf.compute.std(a, threads=2) for _ in range(20)])
        other.start()
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if nf.compute.std(a, threads=3) > 0 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        other.join()
        assert threading.active_count() == 1
    """
    run_python(program, tmp_path / "x.npy")


def test_ctrl_c_ends_a_statistic(tmp_path, run_python):
    with open(tmp_path / "x.bin", "wb") as file:
        file.truncate(1 << 36)
    program = """
        import signal, sys, threading
        import numpy as np
        import ndfile as nf
        a = nf.memmap(sys.argv[1], "f8", "r")
        threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
        try:
            np.std(a)
        except KeyboardInterrupt:
            assert threading.active_count() == 1, threading.enumerate()
            print("ended")
    """
    assert run_python(program, tmp_path / "x.bin").stdout.strip() == "ended"
