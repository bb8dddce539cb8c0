"""Write-back that fails: the first failure is final, and what is in memory can be rescued.

The file lies on an ext4 whose backing file is sparse and lies on a disk too small for it: the file system gives its
blocks away, and the kernel finds out that they do not exist when it writes.
"""

import concurrent.futures
import contextlib
import errno
import os
import re
import time

import numpy as np
import pytest
from devices import MIB, PAGE, bytes_of, loop_disk, memory_disk
from faulty import call, record, rounds

import ndfile as nf

ROUNDS = rounds(full=50, short=3)


@contextlib.contextmanager
def thin(folder):
    """A disk of 64 MiB with 4 MiB behind it."""
    with (
        memory_disk(folder / "behind", 4 * MIB) as behind,
        loop_disk(folder / "disk", os.path.join(behind, "image"), 64 * MIB) as disk,
    ):
        yield disk


@pytest.fixture
def thin_disk(tmp_path):
    with thin(tmp_path) as disk:
        yield disk


@contextlib.contextmanager
def failing(disk, name="x.dat"):
    """An array whose bytes cannot reach the device, after its first flush has said so; and what it holds."""
    array = nf.memmap(os.path.join(disk, name), "u4", "w+", shape=4 * MIB)
    array[:] = np.arange(4 * MIB)
    with pytest.raises(OSError, match=name) as caught:
        array.flush()
    assert caught.value.errno in (errno.EIO, errno.ENOSPC)
    try:
        yield array
    finally:
        with contextlib.suppress(OSError):
            array.close()


def test_after_one_failed_flush_every_flush_and_sync_raises(thin_disk):
    with failing(thin_disk) as array:
        for act in (array.flush, array.flush, array.sync, array[:10].flush, array.flush, array.sync):
            with pytest.raises(OSError, match=re.escape("x.dat")) as caught:
                act()
            assert caught.value.errno in (errno.EIO, errno.ENOSPC)


def test_a_failed_sync_is_as_final_as_a_failed_flush(thin_disk):
    array = nf.memmap(os.path.join(thin_disk, "x.dat"), "u4", "w+", shape=4 * MIB)
    array[:] = 1
    for act in (array.sync, array.sync, array.flush, array.close):
        with pytest.raises(OSError, match=re.escape("x.dat")):
            act()


def test_close_raises_and_closes_all_the_same(thin_disk):
    with failing(thin_disk) as array:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match=re.escape("x.dat")):
            array.close()
        assert array.closed
        assert len(os.listdir("/proc/self/fd")) == before - 1
        with pytest.raises(nf.ClosedError):
            array[0]
        array.close()


def test_the_bytes_in_memory_are_as_they_were_and_can_be_rescued_to_another_disk(thin_disk, tmp_path):
    rescued = str(tmp_path / "rescued.dat")
    with failing(thin_disk) as array:
        np.testing.assert_array_equal(array, np.arange(4 * MIB))
        assert array.rescue(rescued) == array.nbytes
        assert bytes_of(rescued) == np.arange(4 * MIB, dtype="u4").tobytes()


def test_a_rescue_to_the_same_full_disk_fails_and_leaves_no_file(thin_disk):
    with failing(thin_disk) as array:
        rescued = os.path.join(thin_disk, "rescued.dat")
        with pytest.raises(OSError, match=r"Input/output|No space"):
            array.rescue(rescued)
        assert not os.path.exists(rescued)


def on_the_disk(path):
    """What a file has once nothing of it is cached."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("sparse", [False, True], ids=["reserved", "sparse"])
def test_an_array_that_is_opened_again_on_a_disk_with_space_saves_what_it_says(tmp_path, sparse):
    # ext4 takes blocks that it once failed to write for written as long as it has their pages, and loses the next
    # bytes too, without an error: they must have left the page cache before the file is opened again.
    with memory_disk(tmp_path / "behind", 8 * MIB) as behind:
        ballast = os.path.join(behind, "ballast")
        with open(ballast, "wb") as file:
            file.write(bytes(6 * MIB))
        with loop_disk(tmp_path / "disk", os.path.join(behind, "image"), 64 * MIB) as disk:
            path = os.path.join(disk, "x.dat")
            array = nf.memmap(path, "u4", "w+", shape=MIB, sparse=sparse)
            array[:] = 1
            for _ in range(2):
                with pytest.raises(OSError, match=re.escape("x.dat")):
                    array.flush()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(ballast)
            with pytest.raises(OSError, match=re.escape("x.dat")):
                array.close()
            with nf.memmap(path, "u4", "r+") as again:
                again[:] = 5
                again.flush()
                again.sync()
            assert on_the_disk(path) == np.full(MIB, 5, "u4").tobytes()


def test_no_flush_succeeds_after_threads_that_flushed_together_met_a_failure(thin_disk):
    """The system tells one of several callers; the array tells everybody who asks afterwards."""
    started, failures = time.monotonic(), []

    def flush(array):
        try:
            array.flush()
        except OSError as error:
            failures.append(error)

    for number in range(ROUNDS):
        array = nf.memmap(os.path.join(thin_disk, "x.dat"), "u4", "w+", shape=2 * MIB)
        array[:] = number
        parts = [array[start : start + MIB // 4] for start in range(0, 2 * MIB, MIB // 4)]
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            list(threads.map(flush, [array, *parts, array, *parts]))
        said = [refuses(array.flush), refuses(array.sync), refuses(array.close)]
        assert array.closed
        assert failures
        assert said == [True, True, True]
        failures.clear()
    record("thin-disk-flushes", started, rounds=ROUNDS, silent=0)


def refuses(act):
    try:
        act()
    except OSError:
        return True
    return False


def flush_like_numpy(path):
    array = np.memmap(path, "u4", "w+", shape=4 * MIB)
    array[:] = np.arange(4 * MIB)
    said = []
    for _ in range(4):
        try:
            array.flush()
            said.append("success")
        except OSError as error:
            said.append(error.errno)
    del array
    try:
        return said, on_the_disk(path) == np.arange(4 * MIB, dtype="u4").tobytes()
    except OSError:
        return said, False


def test_numpy_says_that_bytes_are_saved_which_are_gone(thin_disk):
    """The control."""
    said, is_saved = call(flush_like_numpy, os.path.join(thin_disk, "x.dat")).result()
    assert said[0] != "success"
    assert said[-1] == "success"
    assert not is_saved


# ---- How much a flush writes ----


def dirty_pages(array):
    """How many pages under an array the disk does not have yet."""
    kib, is_ours = 0, False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            name, *rest = line.split()
            if "-" in name:
                low, high = (int(end, 16) for end in name.split("-"))
                is_ours = low < array.ctypes.data + array.nbytes and high > array.ctypes.data
            elif is_ours and name in ("Shared_Dirty:", "Private_Dirty:"):
                kib += int(rest[0])
    return kib * 1024 // PAGE


def test_a_slice_flushes_the_pages_that_it_touches_and_no_other(tmp_path):
    with (
        loop_disk(tmp_path / "disk", tmp_path / "image", 16 * MIB) as disk,
        nf.memmap(os.path.join(disk, "x.dat"), "u1", "w+", shape=64 * PAGE) as array,
    ):
        array[:] = 1
        left = [dirty_pages(array)]
        for part in (
            array[3 * PAGE + 5 : 5 * PAGE + 1],
            array[7 * PAGE + 1 : 7 * PAGE + 2],
            array.reshape(64, PAGE)[20:30],
            array[::-1][:PAGE],
            array[10:10],
            array,
        ):
            part.flush()
            left.append(dirty_pages(array))
        del part
    assert left == [64, 61, 60, 50, 49, 49, 0]


@pytest.mark.parametrize("mode", ["r", "c"])
def test_modes_that_never_change_the_file_flush_nothing(mode, path):
    with open(path, "wb") as file:
        file.write(b"x" * PAGE)
    array = nf.memmap(path, "u1", mode)
    if mode == "c":
        array[:] = 1
    os.truncate(path, 0)  # so that anything that was done would be an error
    array.flush()
    array.sync()
    array.close()
    assert os.path.getsize(path) == 0
