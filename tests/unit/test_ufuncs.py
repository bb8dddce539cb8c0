"""Ufuncs called by name: NumPy's results, whether the output is large or not."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndfile as nf
from ndfile import _core
from ndfile.compute import ufuncs
from ndfile.errors import ClosedError, FaultError


@pytest.fixture(params=[None, 1], ids=["usual", "streamed"])
def stream(request):
    """Once as for small arrays, once as for large ones."""
    before = _core.stream_from(request.param)
    yield request.param is not None
    _core.stream_from(before)


@pytest.fixture
def streamed(monkeypatch):
    """Outputs are large, and blocks small; gives a list with an item for each call that was not left to NumPy."""
    monkeypatch.setattr(ufuncs, "UFUNC_NBYTES", 64)
    done, real = [], ufuncs._stream
    monkeypatch.setattr(ufuncs, "_stream", lambda call, *args, **named: (done.append(1), real(call, *args, **named)))
    before = _core.stream_from(1)
    yield done
    _core.stream_from(before)


@pytest.fixture
def made(tmp_path):
    """A function that gives a new mapped array with the items of another one."""
    count = iter(range(1 << 30))

    def make(array, order="C"):
        array = np.asarray(array)
        mapped = nf.memmap(tmp_path / f"{next(count)}.dat", array.dtype, "w+", shape=array.shape, order=order)
        mapped[...] = array
        return mapped

    return make


X = np.random.default_rng(0).random((37, 11)) + 0.5


def test_a_result_without_out_is_plain(stream, made):
    a = made(X)
    for got in (np.sqrt(a), np.add(a, 1), np.add(X, a), np.hypot(a, a)):
        assert type(got) is np.ndarray
    assert type(np.add.reduce(a, axis=None)) is np.float64
    np.testing.assert_array_equal(np.add(a, X), X + X)


def test_out_is_given_back_itself(stream, made):
    a, out = made(X), made(X)
    assert np.sqrt(a, out=out) is out
    assert np.sqrt(a, out) is out
    assert np.sqrt(a, out=(out,)) is out
    np.testing.assert_array_equal(out, np.sqrt(X))


def test_each_of_several_outs_is_given_back_itself(stream, made):
    quotient, rest = made(X), np.empty_like(X)
    got = np.divmod(made(X), 0.3, out=(quotient, rest))
    assert got[0] is quotient
    assert got[1] is rest
    np.testing.assert_array_equal(got, np.divmod(X, 0.3))


def test_an_out_may_be_left_out(stream, made):
    mantissa = made(X)
    got = np.frexp(X, out=(mantissa, None))
    assert got[0] is mantissa
    np.testing.assert_array_equal(got[1], np.frexp(X)[1])


@pytest.mark.parametrize("method", ["reduce", "accumulate"])
def test_methods_of_ufuncs_work(stream, made, method):
    a = made(X)
    want = getattr(np.add, method)(X, axis=0)
    out = made(want)
    np.testing.assert_array_equal(getattr(np.add, method)(a, axis=0), want)
    assert getattr(np.add, method)(a, axis=0, out=out) is out


def test_at_changes_the_file(stream, made):
    a = made(np.zeros(5))
    np.add.at(a, [1, 1, 3], 1)
    np.testing.assert_array_equal(a, [0, 2, 0, 1, 0])


def test_outer_and_reduceat_work(stream, made):
    a = made(X[0])
    np.testing.assert_array_equal(np.multiply.outer(a, a), np.multiply.outer(X[0], X[0]))
    np.testing.assert_array_equal(np.add.reduceat(a, [0, 3]), np.add.reduceat(X[0], [0, 3]))


def test_matrix_products_work(stream, made):
    out = made(np.zeros((11, 11)))
    assert np.matmul(made(X).T, made(X), out=out) is out
    np.testing.assert_allclose(out, X.T @ X)


def test_where_leaves_the_others_alone(stream, made):
    a, mask = made(X), X > 1
    out = made(np.full(X.shape, 7.0))
    np.sqrt(a, out=out, where=made(mask))
    np.testing.assert_array_equal(out, np.where(mask, np.sqrt(X), 7))


class Duck:
    """An array of another kind, that has its own say in ufuncs."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return ufunc, method, tuple(map(type, inputs)), kwargs


def test_another_class_has_its_say_and_sees_our_array(stream, made):
    a = made(X)
    assert np.add(a, Duck()) == (np.add, "__call__", (nf.memmap, Duck), {})
    assert np.add(Duck(), a)[2] == (Duck, nf.memmap)
    assert np.add(a, Duck(), out=a)[3]["out"][0] is a


def test_a_class_that_refuses_ufuncs_is_respected(stream, made):
    class Refusing:
        __array_ufunc__ = None

    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.add(made(X), Refusing())


def test_masked_arrays_stay_masked(stream, made):
    masked = np.ma.array(X, mask=X > 1)
    got = np.add(made(X), masked)
    assert isinstance(got, np.ma.MaskedArray)


def test_a_subclass_keeps_its_class(stream, tmp_path):
    class Mine(nf.memmap):
        pass

    mine = Mine(tmp_path / "x.dat", "f8", "w+", shape=(3,))
    assert type(np.sqrt(mine)) is Mine
    assert Mine.__array_ufunc__ is np.ndarray.__array_ufunc__


def test_errors_are_numpys(stream, made):
    out = made(np.zeros(3, "i4"))
    with pytest.raises(TypeError, match="Cannot cast ufunc 'sqrt' output"):
        np.sqrt(np.ones(3), out=out)
    with pytest.raises(ValueError, match="broadcast"):
        np.add(np.ones(4, "i4"), 1, out=out)
    with pytest.raises(TypeError, match="nonsense"):
        np.add(np.ones(3, "i4"), 1, out=out, nonsense=1)
    assert not out.any()


def test_an_out_that_is_read_only_is_refused(stream, numbers_file):
    with pytest.raises(ValueError, match="read-only"):
        np.sqrt(np.ones(12, "f4"), out=nf.memmap(numbers_file, "f4", "r"))


def test_a_closed_array_is_an_error(stream, made):
    a, b = made(X), made(X)
    a.close()
    for arguments in [(a,), (b, a), (a, b)]:
        with pytest.raises(ClosedError):
            np.sqrt(*arguments)


def test_a_file_that_was_cut_is_an_error(stream, made):
    a, out = made(np.ones(1 << 18)), made(np.ones(1 << 18))
    with open(a.filename, "r+b") as file:
        file.truncate(4096)
    with pytest.raises(FaultError):
        np.sqrt(a, out=out)
    with open(out.filename, "r+b") as file:
        file.truncate(4096)
    with pytest.raises(FaultError):
        np.sqrt(np.ones(1 << 18), out=out)


def test_numpy_finds_its_own_unless_a_large_output_is_open(run_python, path):
    run_python(
        """
        import sys
        import numpy as np
        import ndfile as nf

        small = nf.memmap(sys.argv[1], "f8", "w+", shape=(1000,))
        assert nf.memmap.__array_ufunc__ is np.ndarray.__array_ufunc__
        large = nf.memmap(sys.argv[1] + "2", "f8", "w+", shape=(1 << 22,))
        assert nf.memmap.__array_ufunc__ is not np.ndarray.__array_ufunc__
        assert np.add(1, 2, out=large) is large
        assert "ndfile.compute.ufuncs" in sys.modules
        assert (large == 3).all()
        large.close()
        assert nf.memmap.__array_ufunc__ is np.ndarray.__array_ufunc__
        """,
        path,
    )


# ---- What is streamed ----


def test_a_large_output_is_streamed(streamed, made):
    out = made(X)
    np.add(made(X), made(X[0]), out=out)
    assert len(streamed) == 1
    np.testing.assert_array_equal(out, X + X[0])


def laid_out(array, layout):
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1]
    if layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    return np.asarray(array, order=layout)


layouts = st.sampled_from(["C", "F", "reversed", "swapped"])
dtypes = st.sampled_from(["f8", "f4", "i4", "u1", "i8", "c16"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, max_side=7),
    kinds=st.tuples(dtypes, dtypes),
    orders=st.tuples(layouts, layouts),
    out_order=st.sampled_from("CF"),
    ufunc=st.sampled_from([np.add, np.multiply, np.subtract, np.equal]),
    is_masked=st.booleans(),
)
def test_streamed_results_are_numpys(streamed, made, shapes, kinds, orders, out_order, ufunc, is_masked):
    rng = np.random.default_rng(1)
    inputs = [
        laid_out((rng.random(shape) * 9).astype(kind), order)
        for shape, kind, order in zip(shapes.input_shapes, kinds, orders, strict=True)
    ]
    named = {"where": rng.random(shapes.result_shape) > 0.5} if is_masked else {}
    want = np.full(shapes.result_shape, 1, np.asarray(ufunc(*inputs)).dtype)
    out = made(want, out_order)
    before = len(streamed)
    assert ufunc(*inputs, out=out, **named) is out
    assert len(streamed) == before + 1
    ufunc(*inputs, out=want, **named)
    np.testing.assert_array_equal(out, want)


def test_in_place_is_streamed(streamed, made):
    a = made(X)
    np.add(a, a, out=a)
    assert len(streamed) == 1
    np.testing.assert_array_equal(a, X + X)


def test_an_overlap_is_left_to_numpy(streamed, made):
    a = made(np.arange(100.0))
    np.add(a[1:], a[:-1], out=a[1:])
    assert not streamed
    x = np.arange(100.0)
    np.testing.assert_array_equal(a[1:], x[1:] + x[:-1])


def test_keywords_are_respected(streamed, made):
    out = made(np.zeros(99, "i4"))
    np.add(np.full(99, 1.7), 1, out=out, casting="unsafe")
    np.testing.assert_array_equal(out, np.full(99, 2, "i4"))
    out = made(np.zeros(99))
    np.add(np.full(99, 0.1), 1, out=out, dtype="f4")
    np.testing.assert_array_equal(out, np.add(np.full(99, 0.1), 1, dtype="f4", out=np.zeros(99)))
    assert len(streamed) == 2


def test_python_functions_are_left_to_numpy(streamed, made):
    out = made(np.zeros(3))
    np.frompyfunc(lambda x: x + 1, 1, 1)(np.ones(3), out=out, casting="unsafe")
    assert not streamed
    np.testing.assert_array_equal(out, [2, 2, 2])


def test_a_warning_comes_once_and_from_the_calling_line(streamed, made):
    out = made(np.ones(1000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.divide(np.ones(1000), 0, out=out)
    assert [str(one.message) for one in caught] == ["divide by zero encountered in divide"]
    assert caught[0].filename == __file__
    assert np.isinf(out).all()


def test_floating_point_errors_are_raised_in_the_end(streamed, made):
    out = made(np.ones(1000))
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError, match="divide by zero encountered in divide"):
        np.divide(np.ones(1000), 0, out=out)
    assert np.isinf(out).all()
    with np.errstate(all="ignore"):
        np.divide(np.zeros(1000), 0, out=out)
    assert np.isnan(out).all()
    assert len(streamed) == 2


def test_a_callers_error_function_is_left_to_numpy(streamed, made):
    seen = []
    with np.errstate(divide="call", call=lambda *facts: seen.append(facts)):
        np.divide(np.ones(1000), 0, out=made(np.ones(1000)))
    assert len(seen) == 1
    assert not streamed
