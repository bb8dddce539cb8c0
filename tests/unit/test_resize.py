"""Resizing: more rows of zeros, or fewer rows, in the file and in place."""

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap

import growing_kinds
import numpy as np
import pytest
from faulty import PAGE, forked
from growing_kinds import unchanged

import ndfile as nf
from ndfile.errors import ClosedError, FaultError, LayoutError, LockedError

MIB = 1 << 20


def numbered(count):
    """Rows that tell their place, without zeros."""
    return growing_kinds.numbered(count) + 1


def resized(rows, count):
    """What an array of these rows is to have after resizing."""
    wanted = np.zeros((count, *rows.shape[1:]), rows.dtype)
    wanted[: len(rows)] = rows[:count]
    return wanted


# ---- More and fewer rows ----

# From and to; a page has 341 rows and a third.
CHANGES = [
    (1, 0),
    (4, 5),
    (4, 400),
    (4, 50_000),
    (0, 3),
    (5, 4),
    (5, 0),
    (400, 4),
    (50_000, 341),
    (50_000, 49_999),
    (4, 4),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_an_array_has_the_rows_that_are_asked_for(kind, tmp_path, before, after):
    with kind.make(tmp_path, numbered(before)) as array:
        start = os.path.getsize(array.filename) - array.nbytes if before else None
        assert array.resize(after) is None
        wanted = resized(numbered(before), after)
        assert array.shape == kind.turned(wanted).shape
        np.testing.assert_array_equal(kind.rows_of(array), wanted)
        if after or kind.suffix == ".npy":
            np.testing.assert_array_equal(kind.read(array), wanted)
    if after or kind.suffix == ".npy":
        np.testing.assert_array_equal(kind.read(array), wanted)
    if start is not None:
        assert os.path.getsize(array.filename) in (start + array.nbytes, max(start + array.nbytes, 1))


def test_a_whole_shape_is_taken(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        for count in (6, 2):
            shape = kind.turned(numbered(count)).shape
            array.resize(shape)
            assert array.shape == shape


@pytest.mark.parametrize("rows", [6, np.int64(6), np.uint8(6), (6,), [6], np.array(6)])
def test_the_rows_of_one_axis_are_a_number_or_a_shape(npy_of, rows):
    with npy_of(np.arange(3)) as array:
        array.resize(rows)
        assert np.load(array.filename).tolist() == [0, 1, 2, 0, 0, 0]


def test_the_argument_of_ndarray_that_means_nothing_here_is_taken(npy_of):
    with npy_of(numbered(3)) as array:
        view = array[1:]
        array.resize((5, 3), refcheck=False)
        array.resize((6, 3), refcheck=True)
        np.testing.assert_array_equal(view, numbered(3)[1:])


def test_everything_that_tells_of_the_shape_changes_with_it(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        address = array.ctypes.data
        for count in (5, 1, 0, 2, 1000, 1):
            array.resize(count)
            like = np.zeros(array.shape, "f4", kind.order)
            assert (array.size, array.nbytes, len(array)) == (like.size, like.nbytes, len(like))
            assert (array.flags.c_contiguous, array.flags.f_contiguous) == (
                like.flags.c_contiguous,
                like.flags.f_contiguous,
            )
            assert array.tobytes() == np.array(array).tobytes()
            assert array.ctypes.data == address


@pytest.mark.parametrize("order", "CF")
def test_rows_of_no_bytes_are_counted(tmp_path, order):
    path = tmp_path / "x.npy"
    with nf.create(path, (2, 0, 3) if order == "C" else (3, 0, 2), "f4", order) as array:
        for count in (5, 1, 0, 7):
            array.resize(count)
            assert np.load(path).shape == array.shape == ((count, 0, 3) if order == "C" else (3, 0, count))


# ---- Zeros ----


def test_no_byte_comes_back_of_a_file_that_lost_all_its_rows(kind, tmp_path):
    with kind.make(tmp_path, np.full((2, 3), 255, "u1")) as array:
        array.resize(0)
        array.resize(1)
        assert not array.any()


@pytest.mark.parametrize("low", [0, 1, 100, 341, 342, 1000])
@pytest.mark.parametrize("between", ["nothing", "flush", "write to a view", "reopen"])
def test_rows_that_were_cut_come_back_as_zeros(kind, tmp_path, low, between):
    array = kind.make(tmp_path, numbered(2000))
    view = array[...]
    array.resize(low)
    if between == "flush":
        array.flush()
    elif between == "write to a view":
        with contextlib.suppress(FaultError):
            view[...] = 7
        with contextlib.suppress(FaultError):
            kind.rows_of(view)[low] = 7
        kind.rows_of(array)[...] = numbered(2000)[:low]
    elif between == "reopen" and (low or kind.suffix == ".npy"):
        del view
        array.close()
        array = kind.reopen(array)
    view = None
    array.resize(2000)
    np.testing.assert_array_equal(kind.rows_of(array), resized(numbered(low), 2000))
    np.testing.assert_array_equal(kind.read(array), resized(numbered(low), 2000))
    array.close()
    np.testing.assert_array_equal(kind.read(array), resized(numbered(low), 2000))


@pytest.mark.parametrize("low", [1, 100])
def test_rows_that_were_cut_in_a_block_come_back_as_zeros(kind, tmp_path, low):
    with kind.make(tmp_path, numbered(low)) as array:
        with array.atomic():
            for by in (array.resize, lambda rows: array.append(kind.turned(numbered(rows)[:-low]))):
                by(2000)
                kind.rows_of(array)[low:] = 7
                array.resize(low)
                array.resize(1000)
                np.testing.assert_array_equal(kind.rows_of(array), resized(numbered(low), 1000))
                array.resize(low)
            array.resize(2000)
        np.testing.assert_array_equal(kind.read(array), resized(numbered(low), 2000))


def test_rows_appended_behind_a_cut_are_what_was_appended(kind, tmp_path):
    with kind.make(tmp_path, numbered(2000)) as array:
        array.resize(100)
        array.append(kind.turned(numbered(5)))
        array.resize(300)
        np.testing.assert_array_equal(kind.read(array), resized(np.vstack([numbered(100), numbered(5)]), 300))


def test_the_space_made_ahead_holds_zeros(kind, tmp_path):
    """What a writer that died has left there does not come up."""
    array = kind.make(tmp_path, numbered(4))
    array.close()
    if kind.suffix == ".npy":
        with open(array.filename, "ab") as file:
            file.write(b"\xa5" * 10_000)
    else:
        with open(array.filename, "ab") as file:
            file.write(b"\xa5" * 11)
    with kind.reopen(array) as array:
        array.resize(2000)
        np.testing.assert_array_equal(kind.rows_of(array), resized(numbered(4), 2000))
        np.testing.assert_array_equal(kind.read(array), resized(numbered(4), 2000))


def test_space_is_reserved_for_the_rows(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        array.resize(100_000)
        assert os.stat(array.filename).st_blocks * 512 >= array.nbytes


def test_the_space_of_rows_that_are_gone_is_given_back(kind, tmp_path):
    with kind.make(tmp_path, numbered(100_000)) as array:
        array.resize(10)
    assert os.stat(array.filename).st_blocks * 512 <= 2 * PAGE


# ---- Views ----

WHOLE = {
    "rows": lambda a: a[:2],
    "row": lambda a: a[1],
    "reversed": lambda a: a[1::-1],
    "plain": lambda a: np.asarray(a)[:2],
    "item": lambda a: a[1, 1:2],
}


@pytest.mark.parametrize("view_of", WHOLE.values(), ids=WHOLE)
def test_a_view_of_rows_that_are_left_stays(kind, tmp_path, view_of):
    with kind.make(tmp_path, numbered(2000)) as array:
        view = view_of(kind.rows_of(array))
        values = view.copy()
        for count in (2, 3000, 2):
            array.resize(count)
            np.testing.assert_array_equal(view, values)
        view[...] = 9
        assert (view_of(kind.read(array)) == 9).all()
        del view


# Each reaches a row that is gone. All that they have in common is that they are touched through our array.
WAYS = {
    "item": lambda v: v[-1, 0],
    "item of numpy's integer": lambda v: v[np.int64(v.shape[0] - 1), np.int64(0)],
    "row": lambda v: v[-1].tolist(),
    "integers": lambda v: v[[0, -1]],
    "mask": lambda v: v[np.ones(len(v), bool)],
    "copy": lambda v: v.copy(),
    "plus": lambda v: v + 1,
    "ufunc": lambda v: np.negative(v),
    "sum": lambda v: v.sum(),
    "np.sum": np.sum,
    "list": lambda v: v.tolist(),
    "bytes": lambda v: v.tobytes(),
    "equal": lambda v: v == 0,
    "iteration": lambda v: [row.sum() for row in v],
    "take": lambda v: v.take([0, -1], 0),
    "pickle": pickle.dumps,
    "text": str,
    "astype": lambda v: v.astype("f8"),
    "concatenate": lambda v: np.concatenate([v, v]),
    "item written": lambda v: v.__setitem__((-1, 0), 5),
    "item of numpy's integer written": lambda v: v.__setitem__((np.int64(-1), np.int64(0)), 5),
    "row written": lambda v: v.__setitem__(-1, 5),
    "rows written": lambda v: v.__setitem__(slice(1, None), 5),
    "integers written": lambda v: v.__setitem__([0, -1], 5),
    "all written": lambda v: v.__setitem__(..., 5),
    "fill": lambda v: v.fill(5),
    "in place": lambda v: v.__iadd__(1),
    "sort": lambda v: v.sort(0),
}

# What NumPy does through its own eyes alone where the row lies in a page that is left.
PLAIN = {"np.sum", "text", "concatenate"}


@pytest.mark.parametrize("count", [5, 2000], ids=["inside a page", "whole pages"])
@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_is_gone_raises(npy_of, way, count):
    if way in PLAIN and count == 5:
        pytest.skip("NumPy reads without asking the array, and the page is there")
    with npy_of(numbered(count)) as array:
        view = array[...]
        array.resize(2)
        gc.disable()  # a callback of the collector's would be a statement too, and get the error
        try:
            with pytest.raises(FaultError):
                WAYS[way](view)
        finally:
            gc.enable()
        np.testing.assert_array_equal(view[0], array[0])
        del view


@pytest.mark.parametrize("way", [lambda v: v[()], lambda v: v.__setitem__((), 5)])
def test_an_array_without_axes_whose_item_is_gone_raises(npy_of, way):
    with npy_of(np.arange(5)) as array:
        view = array[4, ...]
        array.resize(2)
        with pytest.raises(FaultError):
            way(view)
        del view


@pytest.mark.parametrize("way", ["item", "copy", "all written"])
def test_a_row_that_is_gone_raises_in_every_kind_of_file(kind, tmp_path, way):
    with kind.make(tmp_path, numbered(2000)) as array:
        view = kind.rows_of(array)[...]
        array.resize(2)
        with pytest.raises(FaultError):
            WAYS[way](view)
        del view


@pytest.mark.at_once
def test_a_row_that_is_gone_raises_through_a_plain_view(npy_of):
    with npy_of(numbered(5000)) as array:
        view = np.asarray(array)
        array.resize(2)
        with pytest.raises(FaultError):  # noqa: PT012  # it is raised before the next line
            view.sum()
            pytest.fail("went on")
        del view


@pytest.mark.parametrize("count", [1, 2000])
def test_a_row_that_was_rolled_back_raises(kind, tmp_path, count):
    with kind.make(tmp_path, numbered(2)) as array:
        with contextlib.suppress(KeyError), array.atomic():
            array.append(kind.turned(numbered(count)))
            view = kind.rows_of(array)[...]
            raise KeyError
        with pytest.raises(FaultError):
            view[-1, -1]
        np.testing.assert_array_equal(view[:2], numbered(2))
        del view


@pytest.mark.parametrize("before", [0, 1, 1000])
@pytest.mark.parametrize("is_good", [True, False])
def test_a_block_appends_where_rows_were_looked_at_that_are_gone(kind, tmp_path, before, is_good):
    with kind.make(tmp_path, numbered(before + 5000)) as array:
        view, plain = kind.rows_of(array)[...], np.asarray(array)
        array.resize(before)
        with pytest.raises(FaultError):
            view[-1, -1]
        with contextlib.suppress(FaultError):
            plain.sum()
        with contextlib.suppress(KeyError), array.atomic():
            array.append(kind.turned(numbered(6000)))
            kind.rows_of(array)[-1] = 7
            array.resize(before + 100)
            with contextlib.suppress(FaultError):
                plain.sum()
            array.append(kind.turned(numbered(7000)))
            wanted = np.vstack([numbered(before + 5000)[:before], numbered(6000)[:100], numbered(7000)])
            np.testing.assert_array_equal(kind.rows_of(array), wanted)
            if not is_good:
                raise KeyError
        wanted = wanted if is_good else wanted[:before]
        np.testing.assert_array_equal(kind.rows_of(array), wanted)
        array.append(kind.turned(numbered(3)))
        array.flush()
        np.testing.assert_array_equal(kind.read(array), np.vstack([wanted, numbered(3)]))
        del view, plain


def test_a_look_at_rows_that_are_gone_breaks_nothing_else(kind, tmp_path):
    with kind.make(tmp_path, numbered(2000)) as array:
        view, plain = array[...], np.asarray(array)
        array.resize(2)
        with pytest.raises(FaultError):
            view.copy()
        with contextlib.suppress(FaultError):
            plain.sum()
        np.testing.assert_array_equal(kind.rows_of(array), numbered(2))
        kind.rows_of(array)[1] = 7
        array.flush()
        array.check()
        array.append(kind.turned(numbered(1)))
        array.resize(10)
        array.sync()
        wanted = resized(np.vstack([numbered(2), numbered(1)]), 10)
        wanted[1] = 7
        np.testing.assert_array_equal(kind.read(array), wanted)
        del view, plain
    np.testing.assert_array_equal(kind.read(array), wanted)


def test_what_is_written_to_rows_that_are_gone_does_not_reach_the_file(npy_of):
    with npy_of(numbered(10)) as array:
        plain = np.asarray(array)
        array.resize(2)
        plain[5] = 99  # the page is there, so nothing tells
        array.flush()
        array.append(numbered(1))
        array.resize(10)
        np.testing.assert_array_equal(array, resized(np.vstack([numbered(2), numbered(1)]), 10))
        del plain
    np.testing.assert_array_equal(np.load(array.filename), resized(np.vstack([numbered(2), numbered(1)]), 10))


def test_a_view_of_gone_rows_can_be_dropped_at_any_time(kind, tmp_path):
    array = kind.make(tmp_path, numbered(2000))
    views = [array[...], kind.rows_of(array)[1000:], np.asarray(array)]
    array.resize(2)
    views.pop()
    gc.collect()
    array.close()
    views.pop()
    with pytest.raises(ClosedError):
        views[0][0, 0]
    del views


def test_a_reader_of_rows_that_are_gone_does_not_die(kind, tmp_path):
    with kind.make(tmp_path, numbered(5000)) as array, kind.reopen(array, "r") as reader:
        array.resize(2)
        with pytest.raises(FaultError):
            reader.sum()
        np.testing.assert_array_equal(kind.rows_of(reader)[:2], numbered(2))
        assert reader.refresh() == -4998
        np.testing.assert_array_equal(kind.rows_of(reader), numbered(2))


def test_a_reader_in_another_process_does_not_die(npy_of):
    array = npy_of(numbered(5000))
    program = """
        import sys
        import ndfile as nf
        array = nf.open(sys.argv[1])
        print("open", flush=True)
        sys.stdin.readline()
        try:
            array.sum()
        except nf.FaultError:
            print("raised", array.refresh(), array.shape, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), array.filename]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        array.resize(2)
        answer, _ = process.communicate(b"go\n")
    assert answer == b"raised -4998 (2, 3)\n"
    array.close()


# ---- What is refused ----


@pytest.mark.parametrize("shape", [(5,), (5, 2), (4, 4), (5, 3, 1), (), (3, 4), [5, 4], (5, -3)])
def test_a_shape_that_differs_elsewhere_is_refused(npy_of, shape):
    with npy_of(numbered(4)) as array, unchanged(array), pytest.raises(LayoutError):
        array.resize(shape)


@pytest.mark.parametrize("rows", [-1, (-1, 3), -(2**40), 2**62, 2**64, (2**63, 3)])
def test_a_number_that_no_file_has_is_refused(kind, tmp_path, rows):
    with kind.make(tmp_path, numbered(4)) as array:
        rows = rows if isinstance(rows, int) or kind.order == "C" else rows[::-1]
        with unchanged(array), pytest.raises(LayoutError):
            array.resize(rows)


@pytest.mark.parametrize("rows", [1.5, 2.0, "3", None, b"3", np.float64(3), (1.5, 3), ("5", 3)])
def test_what_is_no_number_is_refused(npy_of, rows):
    with npy_of(numbered(4)) as array, unchanged(array), pytest.raises(TypeError):
        array.resize(rows)


def test_more_than_the_disk_has_is_refused(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        status = os.statvfs(tmp_path)
        rows = (status.f_blocks * status.f_frsize // 12) * 2
        array.resize(4)  # the header, or the sidecar, is ready
        with unchanged(array), pytest.raises(OSError, match=r"space|large"):
            array.resize(rows)
        array.append(kind.turned(numbered(1)))
        np.testing.assert_array_equal(kind.read(array), np.vstack([numbered(4), numbered(1)]))
    assert os.stat(array.filename).st_blocks * 512 <= 2 * PAGE


VIEWS = {
    "all of it": lambda a: a[...],
    "slice": lambda a: a[1:],
    "transposed": lambda a: a.T,
    "bytes": lambda a: a.view("u1"),
    "plain": np.asarray,
    "row": lambda a: a[0],
}


@pytest.mark.parametrize("view_of", VIEWS.values(), ids=VIEWS)
def test_a_view_is_resized_as_little_as_any(npy_of, view_of):
    with npy_of(numbered(4)) as array, unchanged(array):
        view = view_of(array)
        with pytest.raises(ValueError, match="own"):
            view.resize(5)
        del view


def test_an_array_without_a_file_is_resized_as_any():
    owner = numbered(4).copy()
    with pytest.raises(ValueError, match="own"):
        owner.view(nf.memmap).resize((5, 3))
    assert np.resize(owner.view(nf.memmap), (5, 3)).shape == (5, 3)


@pytest.mark.parametrize("rows", [2, 4, 5])
@pytest.mark.parametrize("mode", ["r", "c"])
def test_an_array_of_a_mode_that_does_not_change_the_file_is_not_resized(kind, tmp_path, mode, rows):
    made = kind.make(tmp_path, numbered(4))
    made.close()
    with kind.reopen(made, mode) as array, unchanged(array), pytest.raises(LayoutError, match=f"mode '{mode}'"):
        array.resize(rows)


def test_a_closed_array_is_not_resized(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    array.close()
    for rows in (2, 5):
        with pytest.raises(ClosedError):
            array.resize(rows)
    np.testing.assert_array_equal(kind.read(array), numbered(4))


def test_an_array_without_axes_is_not_resized(npy_of):
    with npy_of(np.float32(3)) as array, unchanged(array), pytest.raises(LayoutError):
        array.resize(2)


def test_a_member_of_an_archive_is_not_resized(tmp_path):
    path = tmp_path / "x.safetensors"
    nf.save(path, {"a": numbered(4), "b": numbered(2)})
    with open(path, "rb") as file:
        before = file.read()
    for key in "ab":
        for rows in (1, 9):
            with nf.open(path, "r+", key) as array, pytest.raises(LayoutError):
                array.resize(rows)
    with open(path, "rb") as file:
        assert file.read() == before


# ---- One writer ----


def test_a_second_writer_is_refused(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array, kind.reopen(array) as other:
        array.resize(5)
        for rows in (3, 5, 9):
            with pytest.raises(LockedError):
                other.resize(rows)
        with pytest.raises(LockedError):
            other.append(kind.turned(numbered(1)))
        np.testing.assert_array_equal(kind.read(array), resized(numbered(4), 5))


def _resize_in_a_fork(arrays):
    try:
        arrays[0].resize(2)
    except OSError as error:
        return type(error).__name__
    return "resized"


def test_the_fork_of_a_writer_does_not_resize(npy_of):
    with npy_of(numbered(4)) as array:
        array.resize(5)
        assert forked(_resize_in_a_fork, [array]).result() == "LockedError"
        np.testing.assert_array_equal(np.load(array.filename), resized(numbered(4), 5))


# ---- Lifecycle ----


def test_the_file_keeps_its_size_when_the_array_is_let_go_of(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    path, start = array.filename, os.path.getsize(array.filename) - array.nbytes
    array.resize(1000)
    array.resize(7)
    nbytes = array.nbytes
    del array
    assert os.path.getsize(path) == start + nbytes


def test_what_describes_the_file_tells_of_it(kind, tmp_path):
    if kind.suffix == ".dat":
        pytest.skip("nothing describes it")
    with kind.make(tmp_path, numbered(4)) as array:
        for count in (2, 9):
            array.resize(count)
            assert nf.info(array.filename).shape == array.shape
    assert nf.info(array.filename).notes == ()


def test_a_resized_array_is_pickled_as_it_is(npy_of):
    with npy_of(numbered(4)) as array:
        for count in (9, 2):
            array.resize(count)
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), resized(numbered(4), count))


def test_an_array_in_shared_memory_is_resized(kind):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, kind.make(folder, numbered(4)) as array:
        for count in (5000, 2):
            array.resize(count)
            np.testing.assert_array_equal(kind.read(array), resized(numbered(4), count))


def test_an_array_of_gibibytes_is_resized_in_no_memory(tmp_path):
    with nf.create(tmp_path / "x.npy", (4, MIB), "u1", fill=1) as array:
        view = array[...]
        array.resize(1024)
        assert (view == 1).all()
        assert array[-1, -1] == 0
        array.resize(4)
        assert (view == 1).all()
        del view
    assert os.path.getsize(array.filename) == 128 + 4 * MIB


def test_arrays_are_made_longer_and_shorter_without_the_guard(npy_of, run_python):
    array = npy_of(numbered(4))
    array.close()
    program = """
        import os
        os.environ["NDFILE_GUARD"] = "0"
        import sys
        import numpy as np
        import ndfile as nf
        with nf.open(sys.argv[1], "r+") as array:
            view = array[...]
            array.resize(100_000)
            last = array[-1:]
            assert (array[4:] == 0).all()
            try:
                array.resize(3)
            except BufferError:
                rows = 100_000
            else:
                rows = 3
                try:
                    last.sum()
                except nf.FaultError:
                    pass
            assert array.shape == (rows, 3)
            assert (view[:3] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]).all()
            array.append([7, 8, 9])
            assert np.load(sys.argv[1]).shape == (rows + 1, 3)
            del view, last
        assert os.path.getsize(sys.argv[1]) == 128 + 12 * (rows + 1)
    """
    run_python(program, array.filename)
