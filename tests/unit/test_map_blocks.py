"""map_blocks: what the whole would give, block by block."""

import signal
import subprocess
import sys
import textwrap
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndfile as nf
from ndfile.compute import operands, transformation
from ndfile.compute.transformation import map_blocks
from ndfile.errors import FaultError, LibraryError

N = 1 << 18  # of f8: eight pieces


@pytest.fixture
def mapped(path):
    """A function that gives a new file of so many f8."""

    def make(shape=(N,), dtype="f8"):
        return nf.memmap(path, dtype, "w+", shape=shape)

    return make


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).random(N)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(transformation, "PIECE_NBYTES", 64)
    monkeypatch.setattr(transformation, "EXPRESSION_NBYTES", 64)
    monkeypatch.setattr(operands, "BLOCK_NBYTES", 256)


def hypot(x, y):
    return np.sqrt(x * x + y * y)


def laid_out(array, layout):
    """The same items in another order of memory, or another order of bytes."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array
    return array.astype(array.dtype.newbyteorder()) if layout == "swapped" else array


layouts = st.sampled_from(["C", "F", "strided", "reversed", "swapped"])
dtypes = st.sampled_from(["f8", "f4", "i4", "u1", "i8", "c16", "f2"])


@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=9, min_side=0),
    kinds=st.tuples(dtypes, dtypes),
    orders=st.tuples(layouts, layouts, layouts),
    threads=st.sampled_from([1, 2, 5]),
)
def test_the_result_is_that_of_the_whole(shapes, kinds, orders, threads):
    rng = np.random.default_rng(1)
    one, other = (
        laid_out((rng.random(shape) * 9).astype(kind), order)
        for shape, kind, order in zip(shapes.input_shapes, kinds, orders[:2], strict=True)
    )
    want = np.asarray(np.add(one, other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformation, "PIECE_NBYTES", 64)
        patch.setattr(operands, "BLOCK_NBYTES", 256)
        got = map_blocks(np.add, one, other, threads=threads)
        out = laid_out(np.zeros(want.shape, want.dtype), orders[2])
        assert map_blocks(np.add, one, other, out=out, threads=threads) is out
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_file_gets_the_results(mapped, numbers, threads):
    out = mapped()
    assert map_blocks(hypot, numbers, numbers[::-1], out=out, threads=threads) is out
    assert out.tobytes() == hypot(numbers, numbers[::-1]).tobytes()


def test_a_file_whose_pages_are_missing_gets_the_results(path, numbers):
    out = nf.memmap(path, "f8", "w+", shape=(1 << 20,), sparse=True)
    x = np.resize(numbers, out.shape)
    map_blocks(np.sqrt, x, out=out)
    assert out.tobytes() == np.sqrt(x).tobytes()


def test_numbers_and_other_values_are_given_as_they_are(numbers):
    got = map_blocks(lambda x, y, text: x + y if text == "?" else None, numbers.astype("f4"), 2.0, "?")
    assert got.dtype == "f4"


def test_named_arrays_are_cut_too(numbers):
    got = map_blocks(np.clip, numbers, a_min=0.25, a_max=numbers[::-1])
    np.testing.assert_array_equal(got, np.clip(numbers, 0.25, numbers[::-1]))


def test_blocks_are_plain_arrays(mapped):
    seen = []
    map_blocks(lambda x: seen.append(type(x)) or x, mapped(), threads=1)
    assert set(seen) == {np.ndarray}


def test_a_new_array_lies_as_the_input_does(numbers):
    assert map_blocks(np.sqrt, numbers.reshape(8, -1).T).flags.f_contiguous


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_arrays_without_items_or_axes_work(shape):
    got = map_blocks(lambda x: x.astype("f4") + 1, np.zeros(shape))
    assert got.shape == shape
    assert got.dtype == "f4"
    assert isinstance(got, np.ndarray)


def test_each_item_is_given_once(numbers):
    lock, count = threading.Lock(), [0]

    def counted(x):
        with lock:
            count[0] += x.size
        return x

    map_blocks(counted, numbers)
    assert count == [N]


# ---- Rows ----


def test_rows_may_be_reduced(small_pieces, numbers):
    x = numbers[:700].reshape(100, 7)
    np.testing.assert_array_equal(map_blocks(lambda b: b.sum(axis=1), x, rows=True), x.sum(axis=1))


def test_rows_may_get_other_axes(small_pieces, mapped, numbers):
    x, w = numbers[:700].reshape(100, 7), numbers[:14].reshape(1, 7, 2)
    out = mapped((100, 2))
    map_blocks(lambda b, w: b @ w[0], x, w, out=out, rows=True)
    np.testing.assert_allclose(out, x @ w[0])


@pytest.mark.parametrize("threads", [2, 5])
def test_blocks_of_rows_do_not_depend_on_the_number_of_threads(small_pieces, numbers, threads):
    def centred(block):
        return block - block.mean(axis=0)

    x = numbers[:999].reshape(-1, 3)
    one = map_blocks(centred, x, rows=True, threads=1)
    assert map_blocks(centred, x, rows=True, threads=threads).tobytes() == one.tobytes()


def test_no_rows_give_no_rows():
    assert map_blocks(lambda x: x.sum(axis=1), np.zeros((0, 3)), rows=True).shape == (0,)


def test_rows_of_different_numbers_are_refused():
    with pytest.raises(ValueError, match="broadcast"):
        map_blocks(np.add, np.zeros((3, 2)), np.zeros((4, 2)), rows=True)


# ---- In place ----


def test_out_may_be_an_input(small_pieces, mapped, numbers):
    a = mapped((1000,))
    a[:] = numbers[:1000]
    map_blocks(hypot, a, a[::1], out=a)
    np.testing.assert_array_equal(a, hypot(numbers[:1000], numbers[:1000]))


@pytest.mark.parametrize("other", [lambda a: a[::-1], lambda a: a[:1]])
def test_an_overlap_is_refused_before_anything_is_written(mapped, other):
    a = mapped()
    a[:] = np.arange(N)
    with pytest.raises(ValueError, match="another view"):
        map_blocks(np.add, a, other(a), out=a)
    assert (a == np.arange(N)).all()


def test_views_that_have_no_item_in_common_are_not_an_overlap(mapped):
    a = mapped((N, 2))
    a[:] = 1
    map_blocks(np.add, a[:, 0], 1, out=a[:, 1])
    assert (a == [1, 2]).all()


# ---- Errors ----


def test_an_exception_tells_the_block(small_pieces, numbers):
    def picky(x):
        if x[0] == numbers[16]:
            raise KeyError("no")
        return x

    with pytest.raises(KeyError) as raised:
        map_blocks(picky, numbers[:100])
    assert raised.value.__notes__ == ["map_blocks: this came from the block [16:24]."]


def test_a_result_of_a_wrong_shape_tells_the_block(small_pieces):
    x = np.arange(32.0)
    with pytest.raises(ValueError, match=r"block \[8:16\] has shape \(7,\), not \(8,\)"):
        map_blocks(lambda x: x[1:] if x[0] == 8 else x, x)
    with pytest.raises(ValueError, match=r"block \[0:8\] has shape \(\), not \(8,\)"):
        map_blocks(np.sum, x)


def test_a_result_of_another_dtype_tells_the_block(small_pieces):
    x = np.arange(32.0)
    with pytest.raises(TypeError, match=r"block \[8:16\] is float32, that for the first one was float64"):
        map_blocks(lambda x: x.astype("f4") if x[0] == 8 else x, x, threads=1)
    got = map_blocks(lambda x: x.astype("f8") if x[0] == 8 else x, x, dtype="f4")
    assert got.dtype == "f4"


def test_a_dtype_that_cannot_be_cast_is_refused_before_anything_is_written(mapped):
    out = mapped(dtype="i8")
    with pytest.raises(TypeError, match="same_kind"):
        map_blocks(np.sqrt, np.ones(N), out=out)
    assert not out.any()


def test_a_read_only_out_is_refused_before_func_is_called(numbers_file):
    out = nf.memmap(numbers_file, "f4", "r")
    with pytest.raises(ValueError, match="read-only"):
        map_blocks(lambda _: pytest.fail("called"), np.ones(12), out=out)


@pytest.mark.parametrize("out", [np.zeros(3), np.zeros((4, 1)), [0, 0, 0, 0]])
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises((ValueError, TypeError), match="out"):
        map_blocks(np.sqrt, np.ones(4), out=out)


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="mask"):
        map_blocks(np.sqrt, np.ma.zeros(3))


def test_a_bad_number_of_threads_is_refused():
    with pytest.raises(ValueError, match="threads"):
        map_blocks(np.sqrt, np.ones(4), threads=0)


def test_a_file_that_is_cut_meanwhile_is_an_error(path, mapped):
    a = mapped((1 << 20,))

    def cutting(x):
        with open(path, "r+b") as file:
            file.truncate(4096)
        return x * 2

    with pytest.raises(FaultError):
        map_blocks(cutting, a)


def test_a_closed_array_is_an_error(mapped):
    a = mapped()
    a.close()
    with pytest.raises(nf.ClosedError):
        map_blocks(np.sqrt, a)


# ---- Expressions ----


@pytest.mark.parametrize("out", [False, True])
def test_an_expression_gives_what_numexpr_gives(small_pieces, mapped, numbers, out):
    pytest.importorskip("numexpr")
    a, b = numbers[:1000].reshape(10, 100), numbers[:100]
    into = mapped(a.shape) if out else None
    got = map_blocks("sqrt(a*a + b*b) * k", a=a, b=b, k=3, out=into)
    np.testing.assert_allclose(got, hypot(a, b) * 3)


def test_an_expression_may_work_in_place(small_pieces, mapped, numbers):
    pytest.importorskip("numexpr")
    a = mapped((1000,))
    a[:] = x = numbers[:1000]
    map_blocks("a*2 + a*a*a - sqrt(a)*a", a=a, out=a)
    np.testing.assert_allclose(a, x * 2 + x * x * x - np.sqrt(x) * x)


@pytest.mark.parametrize("layout", ["F", "strided", "reversed", "swapped"])
def test_an_expression_takes_any_layout(small_pieces, numbers, layout):
    pytest.importorskip("numexpr")
    a = laid_out(numbers[:1000].reshape(10, 100), layout)
    np.testing.assert_array_equal(map_blocks("a*2", a=a), a * 2)


def test_an_expression_takes_arrays_by_name_only(numbers):
    with pytest.raises(TypeError, match="by name"):
        map_blocks("a*2", numbers)


def test_an_expression_leaves_nothing_of_the_arrays_behind(mapped):
    pytest.importorskip("numexpr")
    a = mapped()
    map_blocks("a*2", a=a, out=a)
    a.close()  # conftest sees that no mapping is left


def test_without_numexpr_an_expression_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numexpr", None)
    with pytest.raises(LibraryError, match=r"pip install 'ndfile\[numexpr\]'"):
        map_blocks("a*2", a=np.ones(3))


# ---- Memory, progress, Ctrl-C ----


def test_memory_is_bounded(mapped):
    a = mapped((8 << 20,))  # 64 MiB
    tracemalloc.start()
    try:
        map_blocks(hypot, a, a, out=a)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 33 << 20


def test_progress_is_told_in_bytes(numbers):
    calls = []
    map_blocks(np.sqrt, numbers, progress=lambda *counts: calls.append(counts))
    assert calls[0] == (0, numbers.nbytes)
    assert calls[-1] == (numbers.nbytes, numbers.nbytes)


def test_ctrl_c_ends_it():
    program = textwrap.dedent(
        """
        import threading, time
        import numpy as np
        from ndfile.compute.transformation import map_blocks

        def slow(x):
            print("x", flush=True)
            time.sleep(0.01)
            return x

        try:
            map_blocks(slow, np.zeros(1 << 25), threads=3)
        except KeyboardInterrupt:
            assert threading.active_count() == 1
            print("interrupted", flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0].split()
    assert said[-1] == "interrupted"
    assert len(said) < 200  # of 1024 pieces
    assert process.returncode == 0
