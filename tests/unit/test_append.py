"""Appending: rows behind the last one, in the file and in place."""

import gc
import os
import tracemalloc

import numpy as np
import pytest
from faulty import PAGE
from growing_kinds import KINDS, Kind, load, numbered, unchanged

import ndfile as nf
from ndfile.errors import ClosedError, LayoutError

MIB = 1 << 20
# ---- What it does ----


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_rows_come_behind_the_last_one(kind, tmp_path, count):
    with kind.make(tmp_path, numbered(4)) as array:
        assert array.append(kind.turned(numbered(count, 4))) is None
        wanted = numbered(4 + count)
        assert array.shape == kind.turned(wanted).shape
        np.testing.assert_array_equal(kind.rows_of(array), wanted)
        np.testing.assert_array_equal(kind.read(array), wanted)
    np.testing.assert_array_equal(kind.read(array), wanted)


def test_one_row_comes_without_the_axis_that_grows(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        array.append(numbered(1, 4)[0])
        np.testing.assert_array_equal(kind.read(array), numbered(5))


def test_no_rows_change_nothing(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        array.append(kind.turned(numbered(0)))
        assert array.shape == kind.turned(numbered(4)).shape
        np.testing.assert_array_equal(kind.read(array), numbered(4))


def test_an_array_without_rows_gets_its_first(kind, tmp_path):
    with kind.make(tmp_path, numbered(0)) as array:
        array.append(kind.turned(numbered(2)))
        np.testing.assert_array_equal(kind.read(array), numbered(2))
    np.testing.assert_array_equal(kind.read(array), numbered(2))


def test_the_file_is_whole_between_any_two(kind, tmp_path):
    with kind.make(tmp_path, numbered(1)) as array:
        for count in range(1, 130):
            array.append(numbered(1, count)[0])
            np.testing.assert_array_equal(kind.read(array), numbered(count + 1))


def test_the_file_that_is_left_is_one_of_numpys(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        array.append(kind.turned(numbered(5000, 4)))
    with kind.reopen(array, "r") as again:
        np.testing.assert_array_equal(kind.rows_of(again), numbered(5004))


def test_the_space_that_was_made_ahead_is_given_back_by_closing(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        start = os.path.getsize(array.filename) - array.nbytes
        for count in range(100):
            array.append(numbered(1, 4 + count)[0])
    assert os.path.getsize(array.filename) == start + array.nbytes
    assert os.stat(array.filename).st_blocks * 512 <= 2 * PAGE


def test_the_space_that_was_made_ahead_is_given_back_when_the_last_view_dies(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    path, start = array.filename, os.path.getsize(array.filename) - array.nbytes
    array.append(kind.turned(numbered(100, 4)))
    view, nbytes = array[1:], array.nbytes
    del array
    view[...] = 0
    del view
    assert os.path.getsize(path) == start + nbytes
    assert os.stat(path).st_blocks * 512 <= 2 * PAGE


def test_the_space_is_given_back_of_an_array_in_a_cycle(npy_of):
    holder = [npy_of(numbered(4))]
    holder.append(holder)
    path = holder[0].filename
    holder[0].append(numbered(1))
    del holder
    gc.collect()
    assert os.path.getsize(path) == 128 + numbered(5).nbytes


def test_the_space_is_given_back_at_the_end_of_a_program(npy_of, run_python):
    array = npy_of(numbered(4))
    array.close()
    run_python("import sys, ndfile as nf; a = nf.open(sys.argv[1], 'r+'); a.append(a)", array.filename)
    assert os.path.getsize(array.filename) == 128 + numbered(8).nbytes


def test_space_is_made_in_steps_that_grow(npy_of):
    """Made anew for each row it would have been asked for 20,000 times."""
    with npy_of(np.zeros((1, 1024), "u1")) as array:
        row = np.ones(1024, "u1")
        sizes = set()
        for _ in range(20_000):
            array.append(row)
            sizes.add(os.path.getsize(array.filename))
    assert len(sizes) < 40
    assert max(sizes) < 2 * array.nbytes


def test_what_was_made_ahead_is_bounded(npy_of):
    with npy_of(np.zeros((1, 8), "u1")) as array:
        array.append(array)
        assert os.path.getsize(array.filename) <= 128 + 16 + (1 << 20) + PAGE


# ---- In place ----


VIEWS = {
    "all": lambda a: a[...],
    "slice": lambda a: a[1:],
    "row": lambda a: a[2],
    "column": lambda a: a[:, 1],
    "strided": lambda a: a[::2],
    "reversed": lambda a: a[::-1, ::-1],
    "transposed": lambda a: a.T,
    "plain": np.asarray,
    "plain slice": lambda a: np.asarray(a)[:, :2],
    "bytes": lambda a: a.view("V4"),
    "memoryview": lambda a: np.asarray(memoryview(a)),
    "diagonal": lambda a: a.diagonal(),
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "from dlpack": np.from_dlpack,
    "flat": lambda a: a.reshape(-1, order="A"),
}


@pytest.mark.parametrize("view_of", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("name", ["npy", "npy F", "bare from 100"])
def test_a_view_keeps_its_place_shape_and_values(tmp_path, name, view_of):
    kind = KINDS[name]
    with kind.make(tmp_path, numbered(4)) as array:
        view = view_of(array)
        address, strides, values = view.__array_interface__["data"], view.strides, view.copy()
        for count in (1, 1000, 100_000):
            array.append(kind.turned(numbered(count)))
        assert view.__array_interface__["data"] == address
        assert view.strides == strides
        assert view.shape == values.shape
        np.testing.assert_array_equal(view, values)
        array[...] = 7
        np.testing.assert_array_equal(view, view_of(np.full(kind.turned(numbered(4)).shape, 7, "f4", kind.order)))
        del view


def test_a_view_that_was_made_before_writes_into_the_file(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        view = kind.rows_of(array)[1]
        array.append(kind.turned(numbered(50_000)))
        view[...] = 99
        assert (kind.read(array)[1] == 99).all()


def test_the_array_stays_where_it_is(kind, tmp_path):
    with kind.make(tmp_path, numbered(1)) as array:
        address = array.ctypes.data
        while array.nbytes < 10 * MIB:
            array.append(array)
            assert array.ctypes.data == address


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 3), (0, 1), (1, 1), (0,), (1,), (1, 2, 1), (0, 0)])
@pytest.mark.parametrize("order", "CF")
def test_everything_that_tells_of_the_shape_changes_with_it(tmp_path, shape, order):
    shape = shape if order == "C" else shape[::-1]
    array = nf.create(tmp_path / "x.npy", shape, "i2", order)
    axis = 0 if order == "C" else array.ndim - 1
    for count in (1, 1, 2):
        array.append(np.ones([count if i == axis else size for i, size in enumerate(shape)], "i2"))
        like = np.zeros(array.shape, "i2", order)
        assert (array.size, array.nbytes, len(array)) == (like.size, like.nbytes, len(like))
        for flag in ("c_contiguous", "f_contiguous", "contiguous", "fnc", "forc", "carray", "farray", "writeable"):
            assert getattr(array.flags, flag) == getattr(like.flags, flag), flag
        if like.size:
            assert array.strides == like.strides
        assert array.tobytes() == np.array(array.tolist(), "i2").reshape(array.shape).tobytes()
        assert memoryview(array).nbytes == like.nbytes
    array.close()


def test_a_wide_view_of_many_rows_is_whole(npy_of):
    with npy_of(numbered(1)) as array:
        for count in (1, 10, 100_000):
            array.append(numbered(count, len(array)))
        np.testing.assert_array_equal(array.sum(0), numbered(len(array)).sum(0))
        np.testing.assert_array_equal(array[[0, -1, 77]], numbered(len(array))[[0, -1, 77]])
        np.testing.assert_array_equal(array[-1], numbered(1, len(array) - 1)[0])


def test_iterating_sees_the_rows_that_come_meanwhile(npy_of):
    with npy_of(np.arange(3)) as array:
        seen = []
        for value in array:
            seen.append(int(value))
            if value < 3:
                array.append(value + 10)
        assert seen == [0, 1, 2, 10, 11, 12]


def test_memory_does_not_grow_by_what_is_appended(npy_of):
    def private_nbytes():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))

    rows = np.ones((16, 65536), "u1")
    with npy_of(rows) as array:
        array.append(rows)
        before = private_nbytes()
        for _ in range(64):
            array.append(rows)
        assert array.nbytes > 64 * MIB
        assert private_nbytes() - before < 8 * MIB


def test_no_mapping_and_no_descriptor_is_added_by_growing(kind, tmp_path):
    def held(path):
        with open("/proc/self/maps") as maps:
            return maps.read().count(path), len(os.listdir("/proc/self/fd"))

    with kind.make(tmp_path, numbered(1)) as array:
        array.append(array)
        before = held(array.filename)
        while array.nbytes < 4 * MIB:
            array.append(array)
        assert held(array.filename) == before


# ---- Rows ----


DTYPES = [
    *("?", "i1", "u1", ">i2", "<u4", ">i8", "u8", "<f2", ">f4", "f8", "g", "<c8", ">c16", "M8[s]", ">M8[D]", "m8[ns]"),
    *("S5", "<U3", ">U2", "V7"),
    [("a", "u1"), ("b", "<f4"), ("c", "S3")],
    [("a", [("x", "<i2"), ("y", ">u4")]), ("b", "f4", (2,))],
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", "CF")
def test_every_dtype_is_appended_to(tmp_path, dtype, order):
    dtype = np.dtype(dtype)
    rows = np.arange(12 * dtype.itemsize, dtype="u1")
    rows = (rows % 2 if dtype.kind == "?" or dtype.kind == "b" else rows % 100).astype("u1")
    rows = (np.zeros(12, dtype) if dtype.kind == "U" else rows.view(dtype)).reshape(4, 3)
    with nf.create(tmp_path / "x.npy", rows.shape, dtype, order) as array:
        array[...] = rows
        array.append(rows)
        axis = 0 if order == "C" else 1
        wanted = np.concatenate([rows, rows], axis)
        assert array.dtype == dtype
        assert np.array_equal(array, wanted, equal_nan=dtype.kind in "fcmM")
    assert load(array).dtype == dtype
    assert np.array_equal(load(array), wanted, equal_nan=dtype.kind in "fcmM")


@pytest.mark.parametrize("rows", [5, 5.0, np.float32(5), np.array(5), [5], (5,), np.array([5]), range(5, 6)])
def test_a_number_is_a_row_of_an_array_of_one_axis(npy_of, rows):
    with npy_of(np.arange(3, dtype="f8")) as array:
        array.append(rows)
        np.testing.assert_array_equal(load(array), [0, 1, 2, 5])


FORMS = {
    "list": lambda rows: rows.tolist(),
    "tuple": lambda rows: tuple(map(tuple, rows.tolist())),
    "list of arrays": list,
    "memoryview": memoryview,
    "fortran": np.asfortranarray,
    "reversed": lambda rows: rows[::-1].copy()[::-1],
    "strided": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "swapped": lambda rows: rows.astype(rows.dtype.newbyteorder()),
    "read only": lambda rows: np.frombuffer(rows.tobytes(), rows.dtype).reshape(rows.shape),
    "masked": np.ma.asarray,
    "matrix": lambda rows: rows.view(type("Sub", (np.ndarray,), {})),
    "with __array__": lambda rows: type("Like", (), {"__array__": lambda *_, **__: rows})(),
    "unaligned": lambda rows: np.frombuffer(b"x" + rows.tobytes(), rows.dtype, -1, 1).reshape(rows.shape),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rows_come_in_any_form(kind, tmp_path, form):
    with kind.make(tmp_path, numbered(2)) as array:
        array.append(form(np.ascontiguousarray(kind.turned(numbered(4, 2)))))
        np.testing.assert_array_equal(kind.read(array), numbered(6))


def test_rows_that_share_their_bytes_are_written_each(npy_of):
    with npy_of(numbered(1)) as array:
        array.append(np.broadcast_to(np.float32(7), (4, 3)))
        np.testing.assert_array_equal(load(array)[1:], np.full((4, 3), 7))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_of_no_bytes_are_counted_by_a_header(npy_of, count):
    with npy_of(np.zeros((2, 0, 3))) as array:
        array.append(np.zeros((count, 0, 3)))
        array.append(np.zeros((0, 3)))
        assert load(array).shape == array.shape == (3 + count, 0, 3)


@pytest.mark.parametrize("suffix", [".bin", ".dat"])
def test_rows_of_no_bytes_are_refused_where_the_size_counts(tmp_path, suffix):
    with Kind(suffix, "C").make(tmp_path, np.zeros((2, 0))) as array, pytest.raises(LayoutError, match="0 bytes"):
        array.append(np.zeros((1, 0)))


@pytest.mark.parametrize("suffix", [".bin", ".dat"])
def test_the_byte_of_an_empty_file_is_no_row(tmp_path, suffix):
    """NumPy leaves a byte in a file that it maps without any."""
    kind = Kind(suffix, "C")
    with kind.make(tmp_path, np.zeros(0, "u1")) as array:
        array.append([5])
        assert kind.read(array).tolist() == [5]
    assert kind.read(array).tolist() == [5]


@pytest.mark.parametrize("suffix", [".bin", ".dat"])
def test_an_array_that_lost_all_its_rows_gets_others(tmp_path, suffix):
    kind = Kind(suffix, "C")
    with kind.make(tmp_path, np.full(3, 9, "u1")) as array:
        array.resize(0)
        array.append([6, 7])
        assert kind.read(array).tolist() == [6, 7]
        array.resize(0)
    if suffix == ".bin":
        assert nf.info(array.filename).shape == (0,)


# ---- An array appended to itself ----


OWN = {
    "all of it": lambda a: a,
    "a view": lambda a: a[...],
    "some rows": lambda a: a[1:3],
    "reversed": lambda a: a[::-1],
    "transposed": lambda a: a.T,
    "plain": np.asarray,
    "one row": lambda a: a[1],
    "its bytes": lambda a: memoryview(a),
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_an_array_is_appended_to_itself(npy_of, own):
    with npy_of(numbered(3)) as array:
        wanted = np.vstack([numbered(3), own(numbered(3))])
        array.append(own(array))
        np.testing.assert_array_equal(load(array), wanted)
        np.testing.assert_array_equal(array, wanted)


def test_an_array_larger_than_a_piece_is_appended_to_itself(npy_of):
    with npy_of(numbered(2 * MIB, dtype="i4")) as array:
        array.append(array[::-1])
        np.testing.assert_array_equal(array[2 * MIB :], array[: 2 * MIB][::-1])


def test_an_array_is_extended_by_itself_once(run_python, tmp_path):
    """In a program that cannot fill the disk."""
    program = """
        import resource, signal, sys
        import numpy as np
        import ndfile as nf
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
        with nf.create(sys.argv[1], shape=(3, 2), dtype="i4", fill=7) as array:
            array.extend(array)
            assert array.shape == (6, 2), array.shape
    """
    run_python(program, tmp_path / "x.npy")


# ---- From elsewhere ----


@pytest.mark.parametrize(("name", "mode"), [("npy", "r"), ("npy", "r+"), ("npy", "c"), ("npy F", "r"), ("bare", "r")])
def test_rows_come_from_another_file_that_is_larger_than_a_piece(tmp_path, npy_of, name, mode):
    kind = KINDS[name]
    npy_of(numbered(3 * MIB, dtype="i4"), "source.npy").close()
    with nf.open(tmp_path / "source.npy", mode) as source, kind.make(tmp_path, numbered(1, dtype="i4")) as array:
        tracemalloc.start()
        array.append(kind.turned(source))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(kind.rows_of(array)[1:], source)
        assert peak < source.nbytes / 2


def test_rows_that_are_cast_are_cast_in_pieces(npy_of):
    with npy_of(numbered(1)) as array:
        rows = np.broadcast_to(np.float64(1.5), (4 * MIB, 3))
        tracemalloc.start()
        array.append(rows)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (array[1:] == 1.5).all()
        assert peak < array.nbytes


def test_rows_come_from_numpys_memmap(npy_of, tmp_path):
    np.save(tmp_path / "source.npy", numbered(5))
    source = np.load(tmp_path / "source.npy", mmap_mode="r")
    with npy_of(numbered(1)) as array:
        array.append(source)
        np.testing.assert_array_equal(load(array)[1:], source)
    source._mmap.close()


def test_rows_come_from_another_opening_of_the_same_file(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array, kind.reopen(array, "r") as other:
        array.append(other)
        np.testing.assert_array_equal(kind.read(array), np.vstack([numbered(4), numbered(4)]))


def test_rows_of_a_closed_array_are_refused(npy_of):
    source = npy_of(numbered(4), "source.npy")
    source.close()
    with npy_of(numbered(2)) as array, unchanged(array), pytest.raises(ClosedError):
        array.append(source)


def test_rows_of_a_file_that_was_cut_are_refused(npy_of):
    with nf.open(npy_of(numbered(4000), "source.npy").filename) as source, npy_of(numbered(2)) as array:
        os.truncate(source.filename, PAGE)
        with pytest.raises(OSError):  # noqa: PT011  # the write that meets the hole, or the fault
            array.append(source)
        assert array.shape == (2, 3)
        np.testing.assert_array_equal(load(array), numbered(2))
