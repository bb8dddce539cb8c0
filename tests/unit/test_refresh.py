"""Refreshing: what others append is seen in place."""

import contextlib
import json
import os
import pickle
import resource
import threading
import time

import numpy as np
import pytest
from faulty import PAGE, forked
from growing_kinds import numbered
from other_writer import LONG_S, descriptors, writing_elsewhere

import ndfile as nf
from ndfile.errors import ClosedError, FaultError, LayoutError

MIB = 1 << 20


def maps_of(path):
    with open("/proc/self/maps") as maps:
        return [line for line in maps if path in line]


# ---- News ----


def test_without_news_nothing_is_new(kind, pair):
    _, reader = pair
    for _ in range(3):
        assert reader.refresh() == 0
        np.testing.assert_array_equal(kind.rows_of(reader), numbered(4))


@pytest.mark.parametrize("count", [1, 2, 1000, 100_000])
def test_new_rows_are_counted_and_seen_in_place(kind, pair, count):
    writer, reader = pair
    address = reader.ctypes.data
    writer.append(kind.turned(numbered(count, 4)))
    assert kind.rows_of(reader).shape == (4, 3)
    assert reader.refresh() == count
    np.testing.assert_array_equal(kind.rows_of(reader), numbered(4 + count))
    assert reader.ctypes.data == address
    assert reader.refresh() == 0


def test_each_row_is_new_once(kind, pair):
    writer, reader = pair
    for count in range(4, 200):
        writer.append(kind.turned(numbered(1, count)))
        assert reader.refresh() == 1
        np.testing.assert_array_equal(kind.rows_of(reader)[-1], numbered(1, count)[0])
    assert kind.rows_of(reader).shape == (200, 3)


def test_the_first_rows_of_an_empty_array_are_new(kind, tmp_path):
    if kind.suffix == ".dat" and not kind.offset:
        pytest.skip("an empty file cannot be mapped for reading")
    with kind.make(tmp_path, numbered(0)) as writer, kind.reopen(writer, "r") as reader:
        writer.append(kind.turned(numbered(3)))
        assert reader.refresh() == 3
        np.testing.assert_array_equal(kind.rows_of(reader), numbered(3))


def test_rows_that_are_gone_count_as_negative(kind, pair):
    writer, reader = pair
    writer.append(kind.turned(numbered(1000, 4)))
    reader.refresh()
    for rows, change in ((1000, -4), (2, -998), (5, 3), (0, -5)):
        writer.resize(rows)
        assert reader.refresh() == change
        assert kind.rows_of(reader).shape == (rows, 3)
        np.testing.assert_array_equal(kind.rows_of(reader)[:2], numbered(min(rows, 2)))


def test_rows_that_went_and_came_between_two_looks_are_no_news_but_seen(kind, pair):
    writer, reader = pair
    writer.append(kind.turned(numbered(1, 4)))
    assert reader.refresh() == 1
    writer.resize(2)
    writer.append(kind.turned(numbered(3, 50)))
    assert reader.refresh() == 0
    np.testing.assert_array_equal(kind.rows_of(reader), np.vstack([numbered(2), numbered(3, 50)]))


def test_a_reader_that_looked_at_rows_that_are_gone_goes_on(kind, tmp_path):
    with kind.make(tmp_path, numbered(4000)) as writer, kind.reopen(writer, "r") as reader:
        writer.resize(2)
        with contextlib.suppress(FaultError):
            reader.sum()
        assert reader.refresh() == -3998
        np.testing.assert_array_equal(kind.rows_of(reader), numbered(2))
        writer.append(kind.turned(numbered(4000, 2)))
        assert reader.refresh() == 4000
        np.testing.assert_array_equal(kind.rows_of(reader), numbered(4002))
        reader.check()


def test_views_of_the_reader_stay_where_and_as_they_are(kind, pair):
    writer, reader = pair
    views = [reader[...], reader.T, kind.rows_of(reader)[::-1], np.asarray(reader), kind.rows_of(reader)[1:3]]
    states = [(view.ctypes.data, view.shape, view.strides, view.copy()) for view in views]
    for count in (1, 1000, 100_000):
        writer.append(kind.turned(numbered(count)))
        assert reader.refresh() == count
        for view, (address, shape, strides, values) in zip(views, states, strict=True):
            assert (view.ctypes.data, view.shape, view.strides) == (address, shape, strides)
            np.testing.assert_array_equal(view, values)
    kind.rows_of(writer)[1] = 77
    assert (views[0] == np.asarray(reader)[tuple(slice(size) for size in views[0].shape)]).all()
    assert (kind.rows_of(views[1].T)[1] == 77).all()


def test_a_view_of_rows_that_are_gone_raises(kind, tmp_path):
    with kind.make(tmp_path, numbered(4000)) as writer, kind.reopen(writer, "r") as reader:
        view = reader[...]
        writer.resize(2)
        assert reader.refresh() == -3998
        with pytest.raises(FaultError):
            view.sum()
        np.testing.assert_array_equal(kind.rows_of(view)[:2], numbered(2))
        np.testing.assert_array_equal(kind.rows_of(reader), numbered(2))
        del view


def test_everything_that_tells_of_the_shape_changes_with_it(kind, pair):
    writer, reader = pair
    for count in (5, 1, 0, 2, 1000):
        writer.resize(count)
        reader.refresh()
        like = np.zeros(writer.shape, "f4", kind.order)
        assert (reader.shape, reader.size, reader.nbytes, len(reader)) == (
            *(like.shape, like.size, like.nbytes),
            len(like),
        )
        assert reader.flags.c_contiguous == like.flags.c_contiguous
        assert reader.flags.f_contiguous == like.flags.f_contiguous
        assert not reader.flags.writeable


def test_changed_values_are_seen_without_a_look(kind, pair):
    writer, reader = pair
    kind.rows_of(writer)[2] = 99
    assert (kind.rows_of(reader)[2] == 99).all()
    writer.append(kind.turned(numbered(1)))
    kind.rows_of(writer)[2] = 98
    assert (kind.rows_of(reader)[2] == 98).all()


def test_a_second_opening_for_writing_sees_news_too(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as writer, kind.reopen(writer, "r+") as other:
        writer.append(kind.turned(numbered(2, 4)))
        assert other.refresh() == 2
        np.testing.assert_array_equal(kind.rows_of(other), numbered(6))
        kind.rows_of(other)[5] = 99
        assert (kind.rows_of(writer)[5] == 99).all()
    assert other.closed


def test_the_writer_has_no_news(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as writer:
        assert writer.refresh() == 0
        writer.append(kind.turned(numbered(2, 4)))
        assert writer.refresh() == 0
        np.testing.assert_array_equal(kind.rows_of(writer), numbered(6))


def test_news_of_another_process_are_seen(kind, pair):
    writer, reader = pair
    writer.close()

    def append():
        with kind.reopen(writer, "r+") as other:
            for count in range(4, 10):
                other.append(kind.turned(numbered(1, count)))

    forked(append).result()
    assert reader.refresh() == 6
    np.testing.assert_array_equal(kind.rows_of(reader), numbered(10))


def test_news_of_a_writer_that_was_killed_are_seen(npy_pair):
    writer, reader = npy_pair
    writer.close()

    def append():
        other = nf.open(writer.filename, "r+")
        for count in range(4, 10):
            other.append(numbered(1, count))
        os.kill(os.getpid(), 9)

    assert forked(append).signal == "SIGKILL"
    assert reader.refresh() == 6
    np.testing.assert_array_equal(reader, numbered(10))


def test_a_fork_has_news_of_its_own(npy_pair):
    writer, reader = npy_pair

    def look():
        return [reader.refresh(), reader.shape[0]]

    writer.append(numbered(1, 4))
    assert forked(look).result() == [1, 5]
    assert reader.refresh() == 1


def test_rows_of_another_program_are_seen(tmp_path):
    """Of any that appends bytes to a raw file: the size tells. A part of a row is not one yet."""
    path = tmp_path / "x.dat"
    numbered(4).tofile(path)
    with nf.memmap(path, "f4", "r", shape=(4, 3)) as reader, open(path, "ab", buffering=0) as file:
        data = numbered(3, 4).tobytes()
        file.write(data[:5])
        assert reader.refresh() == 0
        file.write(data[5:30])
        assert reader.refresh() == 2
        file.write(data[30:])
        assert reader.refresh() == 1
        np.testing.assert_array_equal(reader, numbered(7))


@pytest.mark.parametrize("shape", [[-1, 3], None])
def test_rows_of_another_program_are_seen_through_a_sidecar_that_lets_the_size_tell(tmp_path, shape):
    path = tmp_path / "x.bin"
    numbered(4).tofile(path)
    fields = {"dtype": "<f4"} if shape is None else {"dtype": "<f4", "shape": shape}
    (tmp_path / "x.bin.json").write_text(json.dumps(fields))
    with nf.open(path) as reader, open(path, "ab", buffering=0) as file:
        file.write(numbered(2, 4).tobytes() + b"xyz")
        assert reader.refresh() == (6 if shape is None else 2)
        np.testing.assert_array_equal(reader.reshape(-1, 3), numbered(6))


def test_a_growing_size_must_stand_in_its_place(tmp_path):
    numbered(4).tofile(tmp_path / "x.bin")
    for shape, order in (([4, -1], "C"), ([-1, 3], "F"), ([-1, -1], "C"), ([-2, 3], "C")):
        (tmp_path / "x.bin.json").write_text(json.dumps({"dtype": "<f4", "shape": shape, "order": order}))
        with pytest.raises(nf.FormatError):
            nf.open(tmp_path / "x.bin")


def test_rows_that_are_made_durable_are_news(kind, pair):
    writer, reader = pair
    writer.append(kind.turned(numbered(1, 4)), sync=True)
    assert reader.refresh() == 1


def test_rows_of_no_bytes_are_news(tmp_path):
    with nf.create(tmp_path / "x.npy", (2, 0), "f4") as writer, nf.open(tmp_path / "x.npy") as reader:
        writer.append(np.zeros((3, 0), "f4"))
        assert reader.refresh() == 3
        assert reader.shape == (5, 0)


def test_a_number_that_gets_its_ninth_digit_is_news(tmp_path):
    with (
        nf.create(tmp_path / "x.npy", 99_999_999, "u1", sparse=True) as writer,
        nf.open(tmp_path / "x.npy") as reader,
    ):
        for count in range(3):
            writer.append(count)
            assert reader.refresh() == 1
            assert reader[-1] == count
    os.unlink(tmp_path / "x.npy")


def test_a_header_that_is_too_short_to_grow_has_no_news(tmp_path):
    path = tmp_path / "x.npy"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }\n"
    path.write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + numbered(4).tobytes())
    for mode in ("r", "r+"):
        with nf.open(path, mode) as array:
            assert array.refresh() == 0
            os.utime(path)
            assert array.refresh() == 0
            np.testing.assert_array_equal(array, numbered(4))


# ---- What it costs ----


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_look_keeps_no_descriptor(kind, tmp_path, mode):
    with kind.make(tmp_path, numbered(4)) as writer, kind.reopen(writer, mode) as reader:
        writer.append(kind.turned(numbered(1, 4)))
        before = descriptors()
        assert reader.refresh() == 1
        assert descriptors() == before
        for _ in range(3):
            assert reader.refresh() == 0
        writer.append(kind.turned(numbered(100_000)))
        reader.refresh()
        assert descriptors() == before


def test_a_look_without_news_maps_nothing_anew(kind, pair):
    writer, reader = pair
    writer.append(kind.turned(numbered(100_000)))
    reader.refresh()
    before = maps_of(writer.filename)
    for _ in range(1000):
        assert reader.refresh() == 0
    assert maps_of(writer.filename) == before


def test_a_look_without_news_makes_no_system_call_that_opens(npy_pair):
    """Descriptors that cannot be had are not missed."""
    writer, reader = npy_pair
    writer.append(numbered(1, 4))
    assert reader.refresh() == 1
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, old[1]))
    try:
        news = [reader.refresh() for _ in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert news == [0] * 100


def test_many_small_news_leave_one_mapping(npy_pair):
    writer, reader = npy_pair
    for _ in range(300):
        writer.append(numbered(400))
        reader.refresh()
    assert len(maps_of(writer.filename)) <= 6


# ---- Odd files ----


def test_a_file_in_the_place_of_the_old_one_is_not_taken_for_it(kind, pair):
    writer, reader = pair
    path = writer.filename
    writer.close()
    np.save(path + ".new.npy", kind.turned(numbered(9, 100)))
    os.rename(path + ".new.npy", path)
    with contextlib.suppress(OSError):
        assert reader.refresh() == 0
    np.testing.assert_array_equal(kind.rows_of(reader), numbered(4))
    with contextlib.suppress(OSError):
        assert reader.refresh() == 0
    np.testing.assert_array_equal(kind.rows_of(reader), numbered(4))


def test_a_file_that_was_renamed_or_removed_breaks_nothing(kind, pair):
    writer, reader = pair
    os.rename(writer.filename, writer.filename + ".old")
    writer.append(kind.turned(numbered(1, 4)))
    with contextlib.suppress(OSError):
        assert reader.refresh() in (0, 1)
    os.unlink(writer.filename + ".old")
    with contextlib.suppress(OSError):
        assert reader.refresh() in (0, 1)
    np.testing.assert_array_equal(kind.rows_of(reader)[:4], numbered(4))


def test_a_file_that_somebody_cut_says_so(tmp_path):
    np.save(tmp_path / "x.npy", numbered(4000))
    with nf.open(tmp_path / "x.npy") as reader:
        os.truncate(tmp_path / "x.npy", PAGE)
        with contextlib.suppress(FaultError):
            assert reader.refresh() == 0
        with pytest.raises(FaultError):
            reader.check()


def test_a_header_that_is_no_header_any_more_says_so(npy_pair):
    writer, reader = npy_pair
    with open(writer.filename, "r+b") as file:
        file.seek(20)
        file.write(b"\0" * 90)
    os.utime(writer.filename)
    with contextlib.suppress(ValueError, OSError):
        assert reader.refresh() == 0
    assert reader.shape == (4, 3)
    np.testing.assert_array_equal(reader, numbered(4))


# ---- What cannot be refreshed ----


def test_a_copy_on_write_is_not_refreshed(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as writer, kind.reopen(writer, "c") as copy:
        writer.append(kind.turned(numbered(1, 4)))
        with pytest.raises(LayoutError, match="mode 'c'"):
            copy.refresh()
        with pytest.raises(LayoutError, match="mode 'c'"):
            next(copy.follow(0))
        assert copy.shape == kind.turned(numbered(4)).shape


@pytest.mark.parametrize("part", [lambda a: a[...], lambda a: a[1:], lambda a: a.T, lambda a: a.view("u4")])
def test_a_view_is_not_refreshed(npy_pair, part):
    writer, reader = npy_pair
    view = part(reader)
    writer.append(numbered(1, 4))
    shape = view.shape
    with pytest.raises(LayoutError, match="view"):
        view.refresh()
    with pytest.raises(LayoutError, match="view"):
        next(view.follow(0))
    assert view.shape == shape


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_closed_array_is_not_refreshed(kind, tmp_path, mode):
    with kind.make(tmp_path, numbered(4)) as writer:
        array = kind.reopen(writer, mode)
        array.close()
        with pytest.raises(ClosedError):
            array.refresh()
        writer.append(kind.turned(numbered(1)))
        with pytest.raises(ClosedError):
            array.refresh()


def test_an_array_without_a_file_is_not_refreshed():
    with pytest.raises(LayoutError):
        numbered(4).view(nf.memmap).refresh()


def test_a_member_of_an_archive_has_no_news(tmp_path):
    nf.save(tmp_path / "x.safetensors", {"a": numbered(4), "b": numbered(2)})
    with nf.open(tmp_path / "x.safetensors", "r", "b") as member:
        with open(tmp_path / "x.safetensors", "ab") as file:
            file.write(bytes(100))
        with contextlib.suppress(LayoutError):
            assert member.refresh() == 0
        assert member.shape == (2, 3)


def test_a_part_of_a_file_has_no_news(tmp_path):
    path = tmp_path / "x.dat"
    numbered(6).tofile(path)
    with nf.memmap(path, "f4", "r", shape=(4, 3)) as part:
        with open(path, "ab") as file:
            file.write(numbered(2, 6).tobytes())
        with contextlib.suppress(LayoutError):
            assert part.refresh() == 0
        np.testing.assert_array_equal(part, numbered(4))


def test_an_array_without_axes_has_no_news(tmp_path):
    np.save(tmp_path / "x.npy", np.float32(3))
    with nf.open(tmp_path / "x.npy") as array:
        with contextlib.suppress(LayoutError):
            assert array.refresh() == 0
        assert array.shape == ()


# ---- Lifecycle ----


def test_a_refreshed_array_is_pickled_as_it_is(npy_pair):
    writer, reader = npy_pair
    writer.append(numbered(2, 4))
    reader.refresh()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)), numbered(6))


def test_a_reader_outlives_the_writer(kind, pair):
    writer, reader = pair
    for count in range(4, 100):
        writer.append(kind.turned(numbered(1, count)))
    writer.close()
    assert reader.refresh() == 96
    np.testing.assert_array_equal(kind.rows_of(reader), numbered(100))
    assert reader.refresh() == 0


def test_a_reader_without_the_guard_sees_news(npy_pair, run_python):
    writer, _ = npy_pair
    writer.close()
    program = """
        import os
        os.environ["NDFILE_GUARD"] = "0"
        import sys
        import numpy as np
        import ndfile as nf
        with nf.open(sys.argv[1], "r+") as writer, nf.open(sys.argv[1]) as reader:
            view = reader[...]
            for _ in range(10):
                writer.append(writer)
                assert reader.refresh() == len(writer) // 2
            assert (reader == writer).all() and (view == writer[:4]).all()
            writer.append([1, 2, 3])
            (rows,) = reader.follow(0.01)
            assert (rows == [1, 2, 3]).all()
            del view, rows
    """
    run_python(program, writer.filename)


# ---- Threads and processes at once ----


def test_a_thread_looks_while_another_appends(npy_pair):
    writer, reader = npy_pair
    counts, done = [], threading.Event()

    def look():
        while not done.is_set():
            counts.append(reader.refresh())

    thread = threading.Thread(target=look)
    thread.start()
    for count in range(4, 2000):
        writer.append(numbered(1, count))
    done.set()
    thread.join()
    assert sum(counts) + reader.refresh() == 1996
    np.testing.assert_array_equal(reader, numbered(2000))


def test_no_row_is_missed_doubled_or_torn(npy_pair):
    writer, reader = npy_pair
    writer.close()
    with writing_elsewhere(reader.filename, 20_000) as process:
        process.stdin.write(b"go\n")
        process.stdin.flush()
        seen, until_s = 4, time.monotonic() + LONG_S
        while seen < 20_000 and time.monotonic() < until_s:
            new = reader.refresh()
            assert new >= 0
            assert reader.shape == (seen + new, 3)
            assert (reader[seen:] == np.arange(seen, seen + new)[:, None]).all()
            seen += new
    assert seen == 20_000


def test_a_file_that_is_appended_to_can_be_opened_at_any_time(npy_pair):
    writer, _ = npy_pair
    writer.close()
    with writing_elsewhere(writer.filename, 20_000) as process:
        process.stdin.write(b"go\n")
        process.stdin.flush()
        seen, until_s = 0, time.monotonic() + LONG_S
        while seen < 20_000 and time.monotonic() < until_s:
            with nf.open(writer.filename) as array:
                assert len(array) >= seen
                seen = len(array)
                assert (array[4:] == np.arange(4, seen)[:, None]).all()
            assert len(np.load(writer.filename, mmap_mode="r")) >= seen
    assert seen == 20_000
