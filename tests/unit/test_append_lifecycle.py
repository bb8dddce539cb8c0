"""Appending where files, processes and arrays come and go."""

import contextlib
import io
import os
import pickle
import signal
import tempfile

import numpy as np
import pytest
from faulty import PAGE, forked
from growing_kinds import numbered, unchanged

import ndfile as nf
from ndfile.errors import ClosedError

# ---- Durability ----


def test_rows_are_appended_durably(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        for count in range(4, 10):
            array.append(kind.turned(numbered(1, count)), sync=True)
            np.testing.assert_array_equal(kind.read(array), numbered(count + 1))


def test_sync_is_given_by_its_name(npy_of):
    with npy_of(numbered(4)) as array, unchanged(array), pytest.raises(TypeError):
        array.append(numbered(1), True)


def test_flush_and_sync_take_what_was_appended(kind, tmp_path):
    with kind.make(tmp_path, numbered(4)) as array:
        array.append(kind.turned(numbered(5000, 4)))
        kind.rows_of(array)[-1] = 0
        array.flush()
        array.sync()
        array[1:].flush()
        wanted = numbered(5004)
        wanted[-1] = 0
        np.testing.assert_array_equal(kind.read(array), wanted)


def test_rows_survive_a_kill(kind, tmp_path):
    array = kind.make(tmp_path, numbered(4))
    shape = array.shape
    array.close()

    def append_and_die():
        again = kind.reopen(array)
        for count in range(4, 50):
            again.append(kind.turned(numbered(1, count)))
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(append_and_die).signal == "SIGKILL"
    assert array.shape == shape
    if kind.suffix == ".npy":
        left = os.path.getsize(array.filename) - 128 - numbered(50).nbytes
        assert nf.info(array.filename).notes == (f"{left} bytes follow the array",)
        assert left > 0
    np.testing.assert_array_equal(kind.read(array), numbered(50))
    if kind.suffix != ".dat":
        with kind.reopen(array) as again:
            np.testing.assert_array_equal(kind.rows_of(again), numbered(50))
            again.append(kind.turned(numbered(1, 50)))
        np.testing.assert_array_equal(kind.read(again), numbered(51))
        assert os.path.getsize(array.filename) in (128 + again.nbytes, again.nbytes)


# ---- Places and lifecycle ----


def test_an_array_grows_through_a_link(kind, tmp_path):
    (tmp_path / "real").mkdir()
    array = kind.make(tmp_path / "real", numbered(4))
    array.close()
    link = str(tmp_path / f"link{kind.suffix}")
    os.symlink(array.filename, link)
    if kind.suffix == ".dat":
        through = nf.memmap(link, array.dtype, "r+", kind.offset, array.shape, kind.order)
    else:
        through = nf.open(link, "r+")
    with through:
        through.append(kind.turned(numbered(1, 4)))
        np.testing.assert_array_equal(kind.read(through), numbered(5))
    assert os.path.islink(link)
    assert len(os.listdir(tmp_path / "real")) == 1 + (kind.suffix == ".bin")
    assert sorted(os.listdir(tmp_path)) == [f"link{kind.suffix}", "real"]


def test_an_array_of_a_file_object_grows(tmp_path):
    path = tmp_path / "x.dat"
    numbered(4).tofile(path)
    with open(path, "r+b") as file:
        file.seek(5)
        array = nf.memmap(file, "f4", "r+", shape=(4, 3))
        array.append(numbered(1, 4))
        assert file.tell() == 5
    array.append(numbered(1, 5))
    array.close()
    np.testing.assert_array_equal(np.fromfile(path, "f4").reshape(-1, 3), numbered(6))


def test_an_array_of_a_file_without_a_name_grows():
    fd = os.memfd_create("x")
    with os.fdopen(fd, "r+b") as file:
        file.write(numbered(4).tobytes())
        file.flush()
        with nf.memmap(file, "f4", "r+", shape=(4, 3)) as array:
            array.append(numbered(1, 4))
            array.append(numbered(1, 5), sync=True)
            np.testing.assert_array_equal(array, numbered(6))
        file.seek(0)
        assert file.read() == numbered(6).tobytes()


def test_an_array_grows_in_shared_memory(kind):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, kind.make(folder, numbered(4)) as array:
        array.append(kind.turned(numbered(5000, 4)), sync=True)
        np.testing.assert_array_equal(kind.read(array), numbered(5004))


def test_an_array_grows_after_its_file_was_renamed(npy_of):
    with npy_of(numbered(4)) as array:
        array.append(numbered(1, 4))
        os.rename(array.filename, array.filename + ".old")
        array.append(numbered(50_000, 5))
    np.testing.assert_array_equal(np.load(array.filename + ".old"), numbered(50_005))


def test_an_array_grows_after_its_file_was_removed(npy_of):
    with npy_of(numbered(4)) as array:
        array.append(numbered(1, 4))
        os.unlink(array.filename)
        array.append(numbered(50_000, 5))
        np.testing.assert_array_equal(array, numbered(50_005))


def test_a_file_that_was_cut_does_not_grow(npy_of):
    array = npy_of(numbered(5000))
    os.truncate(array.filename, PAGE)
    with pytest.raises(nf.FaultError):
        array.append(numbered(1))
    with pytest.raises(nf.FaultError):
        array.close()
    assert os.path.getsize(array.filename) == PAGE


def test_a_subclass_grows(tmp_path):
    class Sub(nf.memmap):
        pass

    numbered(4).tofile(tmp_path / "x.dat")
    with Sub(tmp_path / "x.dat", "f4", "r+", shape=(4, 3)) as array:
        array.append(numbered(1, 4))
        assert type(array) is Sub
        np.testing.assert_array_equal(array, numbered(5))


@pytest.mark.parametrize("make", [nf.open_memmap, nf.create], ids=["open_memmap", "create"])
def test_a_new_array_grows(tmp_path, make):
    path = tmp_path / "x.npy"
    array = make(path, (0, 3), "f4") if make is nf.create else make(path, "w+", "f4", (0, 3))
    with array:
        array.append(numbered(3))
    np.testing.assert_array_equal(np.load(path), numbered(3))


def test_a_grown_array_is_pickled_with_all_its_rows(npy_of):
    with npy_of(numbered(4)) as array:
        array.append(numbered(1, 4))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(array, protocol)), numbered(5))
        buffer = io.BytesIO()
        np.save(buffer, array)
        buffer.seek(0)
        np.testing.assert_array_equal(np.load(buffer), numbered(5))


def test_a_closed_array_that_grew_raises_through_its_views(npy_of):
    array = npy_of(numbered(4))
    view = array[1:]
    array.append(numbered(50_000))
    new = array[4:]
    array.close()
    for one in (array, view, new):
        with pytest.raises(ClosedError):
            one[0, 0]
    assert array.closed


def test_many_arrays_grow_at_once(tmp_path):
    with contextlib.ExitStack() as stack:
        arrays = [stack.enter_context(nf.create(tmp_path / f"{n}.npy", (0, 3), "f4")) for n in range(200)]
        for array in arrays:
            array.append(numbered(3))
        for array in arrays:
            np.testing.assert_array_equal(array, numbered(3))


def test_an_array_grows_where_address_space_is_short(npy_of, run_python):
    """As far as there is space, and further once it was opened again."""
    array = npy_of(numbered(4))
    array.close()
    program = """
        import resource, sys
        import numpy as np
        import ndfile as nf
        with open("/proc/self/status") as status:
            used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), used + (1 << 28)))
        array, openings = nf.open(sys.argv[1], "r+"), 1
        some = np.ones((1 << 16, 3), "f4")
        for count in range(64):
            rows = len(array)
            assert rows == 4 + (count << 16)
            try:
                array.append(some)
            except OSError as error:
                assert "again" in str(error), error
                assert len(array) == rows
                array.close()
                array, openings = nf.open(sys.argv[1], "r+"), openings + 1
                array.append(some)
        assert (array[4:] == 1).all()
        assert openings < 20
        array.close()
    """
    run_python(program, array.filename)


def test_arrays_grow_without_the_guard(npy_of, run_python):
    array = npy_of(numbered(4))
    array.close()
    program = """
        import os
        os.environ["NDFILE_GUARD"] = "0"
        import sys
        import numpy as np
        import ndfile as nf
        assert not nf.guard()
        array = nf.open(sys.argv[1], "r+")
        view = array[1:]
        for _ in range(14):
            array.append(array)
        array.extend([[1, 2, 3], [4, 5, 6]])
        array.resize(100_000)
        assert view.shape == (3, 3) and (view == array[1:4]).all() and (array[-1] == 0).all()
        reader = nf.open(sys.argv[1])
        array.append([7, 8, 9])
        assert reader.refresh() == 1 and (reader[-1] == [7, 8, 9]).all()
        try:
            array.close()
        except BufferError:
            pass
        else:
            raise SystemExit("closed under a view")
        del view
        array.close()
        reader.close()
        assert np.load(sys.argv[1]).shape == (100_001, 3)
        assert os.path.getsize(sys.argv[1]) == 128 + 12 * 100_001
    """
    run_python(program, array.filename)
