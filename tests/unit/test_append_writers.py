"""Who may append: arrays opened as a whole, one writer at a time, all of its threads."""

import contextlib
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import zipfile

import numpy as np
import pytest
from faulty import forked
from growing_kinds import KINDS, load, numbered, unchanged

import ndfile as nf
from ndfile.errors import ClosedError, LayoutError, LockedError

# ---- What does not grow ----


PARTS = {
    "all of it": lambda a: a[...],
    "slice": lambda a: a[:],
    "rows": lambda a: a[1:],
    "transposed": lambda a: a.T,
    "view": lambda a: a.view(),
    "bytes": lambda a: a.view("V4"),
    "reshaped": lambda a: a.reshape(-1, order="A"),
    "row": lambda a: a[0],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_view_does_not_grow(kind, tmp_path, part):
    with kind.make(tmp_path, numbered(4)) as array, unchanged(array):
        view = part(array)
        with pytest.raises(LayoutError, match="view"):
            view.append(view)
        with pytest.raises(LayoutError, match="view"):
            view.extend([view])
        del view


@pytest.mark.parametrize("mode", ["r", "c"])
def test_an_array_of_a_mode_that_does_not_change_the_file_does_not_grow(kind, tmp_path, mode):
    made = kind.make(tmp_path, numbered(4))
    made.close()
    with kind.reopen(made, mode) as array, unchanged(array), pytest.raises(LayoutError, match=f"mode '{mode}'"):
        array.append(kind.turned(numbered(1)))


def test_a_closed_array_does_not_grow(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    array.close()
    with pytest.raises(ClosedError):
        array.append(kind.turned(numbered(1)))
    with pytest.raises(ClosedError):
        array.extend([kind.turned(numbered(1))])
    np.testing.assert_array_equal(kind.read(array), numbered(4))


def test_an_array_that_was_closed_after_growing_does_not_grow(npy_of):
    array = npy_of(numbered(4))
    array.append(numbered(1, 4))
    array.close()
    with pytest.raises(ClosedError):
        array.append(numbered(1, 5))
    assert array.shape == (5, 3)
    np.testing.assert_array_equal(load(array), numbered(5))


def test_an_array_without_a_file_does_not_grow():
    array = numbered(4).view(nf.memmap)
    with pytest.raises(LayoutError, match="no file"):
        array.append(numbered(1))


def test_a_member_of_an_archive_does_not_grow(tmp_path):
    nf.save(tmp_path / "x.safetensors", {"a": numbered(4), "b": numbered(2)})
    with open(tmp_path / "x.safetensors", "rb") as file:
        before = file.read()
    for key in "ab":
        with nf.open(tmp_path / "x.safetensors", "r+", key) as array, pytest.raises(LayoutError):
            array.append(numbered(1))
    with nf.open(tmp_path / "x.safetensors", "r+") as archive, pytest.raises(LayoutError):
        archive["b"].append(numbered(1))
    with open(tmp_path / "x.safetensors", "rb") as file:
        assert file.read() == before


def test_a_member_of_a_zip_file_does_not_grow(tmp_path):
    np.savez(tmp_path / "x.npz", a=numbered(4))
    with nf.open(tmp_path / "x.npz", "c")["a"] as array, pytest.raises(LayoutError):
        array.append(numbered(1))
    assert zipfile.ZipFile(tmp_path / "x.npz").testzip() is None


def test_a_file_of_another_format_does_not_grow(tmp_path):
    wave = pytest.importorskip("wave")
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(100, dtype="<i2").tobytes())
    with nf.open(tmp_path / "x.wav", "r+") as array, unchanged(array), pytest.raises(LayoutError, match="wav"):
        array.append(array[:1])


# ---- One writer ----


def test_a_second_writer_of_the_process_is_refused(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array, kind.reopen(array) as other:
        array.append(kind.turned(numbered(1, 4)))
        with unchanged(other), pytest.raises(LockedError, match="this process"):
            other.append(kind.turned(numbered(1)))
        array.append(kind.turned(numbered(1, 5)))
        np.testing.assert_array_equal(kind.read(array), numbered(6))


def test_opening_alone_makes_no_writer(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array, kind.reopen(array) as other:
        array[0] = other[0]
        other.append(kind.turned(numbered(1, 4)))
        with pytest.raises(LockedError):
            array.append(kind.turned(numbered(1)))


def test_a_writer_that_is_closed_makes_way_for_another(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        array.append(kind.turned(numbered(1, 4)))
    with kind.reopen(array) as other:
        other.append(kind.turned(numbered(1, 5)))
        np.testing.assert_array_equal(kind.read(other), numbered(6))


def test_a_writer_that_is_let_go_of_makes_way_for_another(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    other = kind.reopen(array)
    array.append(kind.turned(numbered(0)))
    array.append(kind.turned(numbered(1, 4)))
    del array
    other.refresh()
    other.append(kind.turned(numbered(1, 5)))
    np.testing.assert_array_equal(kind.read(other), numbered(6))
    other.close()


def test_the_rows_of_the_writer_before_are_never_written_over(kind, tmp_path):
    """By an array that was opened before they came, and did not look since."""
    array = kind.make(tmp_path, numbered(4))
    other = kind.reopen(array)
    array.append(kind.turned(numbered(2, 4)))
    array.close()
    with contextlib.suppress(LayoutError, OSError):
        other.append(kind.turned(numbered(1, 6)))
    with contextlib.suppress(OSError):
        other.close()
    found = kind.rows_of(np.array(kind.reopen(array, "r"))) if kind.suffix == ".dat" else kind.read(array)
    np.testing.assert_array_equal(found[:6], numbered(6))
    assert len(found) in (6, 7)
    np.testing.assert_array_equal(found[6:], numbered(len(found) - 6, 6))


def test_a_refused_writer_becomes_one_when_the_other_is_closed(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    other = kind.reopen(array)
    array.append(kind.turned(numbered(1, 4)))
    with pytest.raises(LockedError):
        other.append(kind.turned(numbered(1)))
    array.close()
    assert other.refresh() == 1
    other.append(kind.turned(numbered(1, 5)))
    np.testing.assert_array_equal(kind.read(other), numbered(6))
    other.close()


def test_a_writer_in_another_process_is_in_the_way(npy_of, tmp_path):
    array = npy_of(numbered(4))
    program = """
        import sys
        import ndfile as nf
        array = nf.open(sys.argv[1], "r+")
        array.append(array[:1])
        print("held", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), array.filename]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with unchanged(array), pytest.raises(LockedError, match=f"process {process.pid} "):
            array.append(numbered(1))
        process.communicate()
    assert array.refresh() == 1
    array.append(numbered(1))
    np.testing.assert_array_equal(load(array), np.vstack([numbered(4), numbered(1), numbered(1)]))
    array.close()


def _append_in_a_fork(arrays):
    try:
        arrays[0].append(numbered(1))
    except OSError as error:
        return type(error).__name__
    return "appended"


def test_the_fork_of_a_writer_does_not_append(npy_of):
    with npy_of(numbered(4)) as array:
        array.append(numbered(1, 4))
        assert forked(_append_in_a_fork, [array]).result() == "LockedError"
        array.append(numbered(1, 5))
        np.testing.assert_array_equal(load(array), numbered(6))


def test_the_end_of_a_fork_takes_no_space_from_the_writer(npy_of):
    with npy_of(numbered(4)) as array:
        array.append(numbered(1, 4))
        size = os.path.getsize(array.filename)
        assert size > 128 + array.nbytes
        forked(array.close).result()
        assert os.path.getsize(array.filename) == size
        array.append(numbered(1, 5))
    np.testing.assert_array_equal(load(array), numbered(6))


def test_a_fork_is_no_writer_and_its_parent_can_be(npy_of):
    """Both have the opening of before the fork, and a lock belongs to an opening."""
    with npy_of(numbered(4)) as array:
        assert forked(_append_in_a_fork, [array]).result() == "LockedError"
        array.append(numbered(1, 4))
        np.testing.assert_array_equal(array, numbered(5))


def test_a_fork_that_opens_the_file_again_can_be_the_writer(npy_of):
    with npy_of(numbered(4)) as array:
        pid = os.fork()
        if pid == 0:
            with nf.open(array.filename, "r+") as own:
                own.append(numbered(1, 4))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        assert array.refresh() == 1
        array.append(numbered(1, 5))
        np.testing.assert_array_equal(array, numbered(6))


def test_a_reader_with_a_lock_is_in_the_way(tmp_path):
    with KINDS["bare"].make(tmp_path, numbered(4)) as array:
        reader = nf.memmap(array.filename, "f4", "r", shape=(4, 3), lock="shared")
        with unchanged(array), pytest.raises(LockedError):
            array.append(numbered(1))
        reader.close()
        array.append(numbered(1, 4))
        with pytest.raises(LockedError):
            nf.memmap(array.filename, "f4", "r", shape=(4, 3), lock="shared")
    nf.memmap(array.filename, "f4", "r", shape=(5, 3), lock="shared").close()


@pytest.mark.parametrize("lock", ["shared", "exclusive"])
def test_an_array_with_a_lock_of_its_own_grows(tmp_path, lock):
    path = tmp_path / "x.dat"
    numbered(4).tofile(path)
    with nf.memmap(path, "f4", "r+", shape=(4, 3), lock=lock) as array:
        array.append(numbered(1, 4))
    np.testing.assert_array_equal(np.fromfile(path, "f4").reshape(-1, 3), numbered(5))


# ---- Threads ----


def in_threads(count, function):
    """Call a function of a number in threads that start together, and raise what one of them raised."""
    barrier, errors = threading.Barrier(count), []

    def run(number):
        barrier.wait()
        try:
            function(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_append_to_one_array_at_once(kind, tmp_path):
    with kind.make(tmp_path, np.zeros((0, 100), "u1")) as array:

        def append(number):
            for count in range(200):
                array.append(kind.turned(np.full((1 + count % 3, 100), number + 1, "u1")))

        in_threads(4, append)
        rows = kind.read(array)
        assert (rows == rows[:, :1]).all(), "a row is torn"
        per_thread = sum(1 + count % 3 for count in range(200))
        assert np.bincount(rows[:, 0]).tolist() == [0, *[per_thread] * 4]
        lengths = [len(list(group)) for _, group in itertools.groupby(rows[:, 0])]
        assert sum(lengths) == len(rows)


def test_each_append_of_several_threads_stays_together(npy_of):
    with npy_of(np.zeros((0, 8), "u1")) as array:

        def append(number):
            for _ in range(50):
                array.append(np.full((7, 8), number + 1, "u1"))

        in_threads(4, append)
        starts = load(array)[:, 0].reshape(-1, 7)
        assert (starts == starts[:, :1]).all()


def test_threads_read_what_another_appends(npy_of):
    with npy_of(np.zeros((1, 1000), "i8")) as array:
        done = threading.Event()

        def work(number):
            if number == 0:
                for count in range(1, 3000):
                    array.append(np.full((1, 1000), count))
                done.set()
            while not done.is_set():
                last = array[-1]
                assert (last == last[0]).all()
                assert array[len(array) - 1].shape == (1000,)

        in_threads(3, work)
        assert (load(array)[:, 0] == np.arange(3000)).all()


def test_threads_extend_and_resize_at_once(npy_of):
    with npy_of(np.zeros((1, 10), "u1")) as array:
        in_threads(4, lambda number: array.extend([np.full(10, number, "u1")] * 100))
        assert load(array).shape == (401, 10)
