"""A file system whose server is slow, fails, is cut behind the kernel's back and dies: values, errors, no death.

The servers differ in what they let the kernel do. Most of what surprises on a network is among these choices.
"""

import contextlib
import errno
import gc
import os
import signal
import threading
import time

import numpy as np
import pytest
from devices import PAGE, bytes_of
from faulty import call, say
from fuse_disk import FuseDisk, fuse_disk

import ndfile as nf
from ndfile._core import file_system_type, is_remote

SERVERS = {
    "usual": {},
    "nothing is believed": {"valid_s": 0},
    "pages are kept": {"keep_cache": True},
    "one read at a time": {"async_read": False},
    "maps of direct files": {"direct_io": True, "direct_io_mmap": True},
    "writes wait": {"writeback": True},
}
# Who lets writes wait is not asked for a file's size any more, so that nobody hears of a cut there.
HEARD = {name: options for name, options in SERVERS.items() if name != "writes wait"}

MODES = ("r", "r+", "c")

PAGES = 256
SIZE = PAGES * PAGE
HALF = SIZE // 2
CONTENT = np.repeat(np.arange(PAGES) % 255 + 1, PAGE).astype("u1")  # no page is zeros


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a server with options; x.dat is on it."""
    with contextlib.ExitStack() as stack:
        stack.callback(gc.collect)  # an error's traceback may hold the array that it tells of

        def mount(**options):
            disk = stack.enter_context(fuse_disk(tmp_path, **options))
            stack.callback(gc.collect)
            CONTENT.tofile(disk.behind())
            return disk

        yield mount


def of_every_kind(servers):
    return pytest.mark.parametrize("options", servers.values(), ids=[name.replace(" ", "-") for name in servers])


def open_array(disk, mode):
    return nf.memmap(disk.path(), "u1", mode)


def closed(array):
    """Close an array that has lost something, which modes that write say again."""
    with contextlib.suppress(OSError):
        array.close()


# ---- What is there ----


def test_the_file_system_is_known_as_one_of_a_program(mounted):
    fd = os.open(mounted().path(), os.O_RDONLY)
    try:
        assert file_system_type(fd) == 0x65735546
        assert is_remote(file_system_type(fd))
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", MODES)
@of_every_kind(SERVERS)
def test_a_file_is_mapped_with_its_values(mounted, options, mode):
    disk = mounted(**options)
    with open_array(disk, mode) as array:
        np.testing.assert_array_equal(array, CONTENT)
    assert disk.counts().nbytes >= SIZE


@of_every_kind(SERVERS)
def test_what_is_flushed_is_at_the_server(mounted, options):
    disk = mounted(**options)
    with open_array(disk, "r+") as array:
        array[HALF:] = 0
        array.flush()
        np.testing.assert_array_equal(np.fromfile(disk.behind(), "u1"), np.where(np.arange(SIZE) < HALF, CONTENT, 0))


def test_what_is_changed_in_a_private_map_stays_away_from_the_server(mounted):
    disk = mounted()
    with open_array(disk, "c") as array:
        array[:] = 0
        array.flush()
        assert bytes_of(disk.behind()) == CONTENT.tobytes()


@of_every_kind(SERVERS)
def test_a_new_file_takes_the_place_of_the_old_one(mounted, options):
    disk = mounted(**options)
    with open_array(disk, "r") as old, nf.memmap(disk.path(), "f4", "w+", shape=(30, 100)) as new:
        new[...] = 7
        new.flush()
        np.testing.assert_array_equal(np.fromfile(disk.behind(), "f4"), np.full(3000, 7, "f4"))
        np.testing.assert_array_equal(old, CONTENT)
    assert os.listdir(disk.backing) == ["x.dat"]


@of_every_kind(SERVERS)
def test_a_file_that_grows_is_the_server_s_too(mounted, options):
    disk = mounted(**options)
    nf.save(disk.path("y.npy"), np.zeros((2, 3)))
    with nf.open(disk.path("y.npy"), "r+") as writer, nf.open(disk.path("y.npy")) as reader:
        for _ in range(3):
            writer.append(np.ones((500, 3)))
        writer.sync()
        reader.refresh()
        assert reader.shape == (1502, 3)
        assert reader.sum() == 4500
    np.testing.assert_array_equal(np.load(disk.behind("y.npy"))[2:], np.ones((1500, 3)))


@of_every_kind(SERVERS)
def test_an_atomic_block_is_there_or_not(mounted, options):
    disk = mounted(**options)
    with open_array(disk, "r+") as array:
        with array.atomic():
            array[: 3 * PAGE] = 9
        with contextlib.suppress(KeyError), array.atomic():
            array[:] = 0
            raise KeyError
    expected = CONTENT.copy()
    expected[: 3 * PAGE] = 9
    assert bytes_of(disk.behind()) == expected.tobytes()


def test_locks_hold_others_up(mounted):
    disk = mounted()
    with nf.memmap(disk.path(), "u1", "r+", lock="exclusive"), pytest.raises(nf.LockedError):
        nf.memmap(disk.path(), "u1", "r", lock="shared")


# ---- A server that keeps the kernel's page cache out of it ----


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_a_file_without_pages_is_not_mapped_to_be_shared(mounted, mode):
    disk = mounted(direct_io=True)
    with pytest.raises(OSError, match=disk.folder) as caught:
        nf.memmap(disk.path(), "u1", mode, shape=SIZE)
    assert caught.value.errno == errno.ENODEV
    assert os.listdir(disk.backing) == ["x.dat"]
    assert bytes_of(disk.behind()) == CONTENT.tobytes()


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_file_without_pages_is_mapped_to_be_read(mounted, mode):
    with open_array(mounted(direct_io=True), mode) as array:
        np.testing.assert_array_equal(array, CONTENT)


def test_numpy_maps_no_file_without_pages_to_be_read(mounted):
    """The control."""
    disk = mounted(direct_io=True)
    with pytest.raises(OSError, match="No such device") as caught:
        np.memmap(disk.path(), "u1", "r")
    assert caught.value.errno == errno.ENODEV


# ---- A file that is cut by another client ----


@pytest.mark.parametrize("mode", MODES)
@of_every_kind(HEARD)
def test_a_file_that_another_client_cut_is_a_fault_error(mounted, options, mode):
    disk = mounted(**options)
    array = open_array(disk, mode)
    os.truncate(disk.behind(), HALF)
    for act in (array.sum, array.check):
        with pytest.raises(nf.FaultError) as caught:
            act()
        assert caught.value.cause == "truncated"
    np.testing.assert_array_equal(array[:HALF], CONTENT[:HALF])
    closed(array)


def cut_under_numpy(path, behind, mode):
    array = np.memmap(path, "u1", mode)
    os.truncate(behind, HALF)
    array.sum()


@pytest.mark.parametrize("mode", MODES)
def test_numpy_dies_where_another_client_cut_the_file(mounted, mode):
    """The control."""
    disk = mounted()
    assert call(cut_under_numpy, disk.path(), disk.behind(), mode).how == "SIGBUS"


def test_where_writes_wait_a_cut_by_another_client_reads_as_zeros(mounted):
    """The kernel's choice, and a limit: neither a signal nor the size nor a read tells of it."""
    disk = mounted(writeback=True, valid_s=0)
    with open_array(disk, "r") as array, open(disk.path(), "rb", buffering=0) as file:
        os.truncate(disk.behind(), HALF)
        np.testing.assert_array_equal(array[HALF:], 0)
        array.check()
        assert os.fstat(file.fileno()).st_size == SIZE
        assert os.pread(file.fileno(), PAGE, HALF) == bytes(PAGE)


# ---- Reads that fail ----


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_read_that_fails_is_a_fault_error_that_names_the_page(mounted, number, mode):
    disk = mounted()
    array = open_array(disk, mode)
    disk.set(bad=[HALF, HALF + PAGE], read_errno=number)
    with pytest.raises(nf.FaultError) as caught:
        array.sum()
    assert (caught.value.cause, caught.value.offset) == ("read failed", HALF)
    good = np.r_[:HALF, HALF + PAGE : SIZE]
    np.testing.assert_array_equal(np.r_[array[:HALF], array[HALF + PAGE :]], CONTENT[good])
    closed(array)


def sum_like_numpy(path, mode):
    np.memmap(path, "u1", mode).sum()


@pytest.mark.parametrize("mode", MODES)
def test_numpy_dies_where_a_read_fails(mounted, mode):
    """The control."""
    disk = mounted()
    disk.set(bad=[HALF, HALF + PAGE])
    assert call(sum_like_numpy, disk.path(), mode).how == "SIGBUS"


# ---- Writes that fail ----


@of_every_kind(SERVERS)
def test_a_write_that_failed_once_is_told_for_ever(mounted, options):
    disk = mounted(**options)
    array = open_array(disk, "r+")
    array[HALF] = 0
    disk.set(write_errno=errno.EDQUOT)
    with pytest.raises(OSError, match="mount"):
        array.flush()
    disk.set(write_errno=0)
    for act in (array.flush, array.sync, array.close):
        with pytest.raises(OSError, match="mount"):
            act()
    # The kernel takes the page as written, whatever became of it; who opens the file anew may see the old one.
    assert bytes_of(disk.behind()) == CONTENT.tobytes()


# ---- A server that dies ----


@pytest.mark.parametrize("mode", MODES)
@of_every_kind(SERVERS)
def test_a_server_that_is_gone_is_an_exception(mounted, options, mode):
    disk = mounted(**options)
    array = open_array(disk, mode)
    assert array[0] == CONTENT[0]
    disk.kill()
    for act in (array.sum, array.check):
        with pytest.raises(nf.FaultError) as caught:
            act()
        assert caught.value.cause == "read failed"
    assert array[0] == CONTENT[0]  # the page had come before
    closed(array)
    with pytest.raises(OSError, match="mount") as caught:
        open_array(disk, mode)
    assert caught.value.errno == errno.ENOTCONN


def test_what_can_no_longer_be_flushed_is_told_and_can_be_rescued(mounted, tmp_path):
    disk = mounted()
    array = open_array(disk, "r+")
    np.testing.assert_array_equal(array, CONTENT)
    array[HALF:] = 0
    disk.kill()
    for act in (array.flush, array.flush, array.sync):
        with pytest.raises(OSError, match="mount") as caught:
            act()
        assert caught.value.errno == errno.ENOTCONN
    assert array.rescue(str(tmp_path / "saved")) == SIZE
    assert bytes_of(tmp_path / "saved") == CONTENT[:HALF].tobytes() + bytes(HALF)
    with pytest.raises(OSError, match="mount"):
        array.close()


def lose_the_server(path, server, mode):
    array = np.memmap(path, "u1", mode)
    os.kill(server, signal.SIGKILL)
    while True:  # until the kernel has noticed
        array.sum()
        os.listdir(os.path.dirname(path))


@pytest.mark.parametrize("mode", MODES)
def test_numpy_dies_where_the_server_is_gone(mounted, mode):
    """The control."""
    disk = mounted()
    assert call(lose_the_server, disk.path(), disk.server, mode).how == "SIGBUS"


def test_a_mount_whose_server_is_gone_can_be_taken_down(mounted):
    disk = mounted()
    disk.kill()
    with pytest.raises(OSError, match="mount") as caught:
        os.listdir(disk.folder)
    assert caught.value.errno == errno.ENOTCONN
    assert disk.unmount()
    assert os.listdir(disk.folder) == []


def die_with_a_mount(folder):
    say(FuseDisk(os.path.join(folder, "mount"), os.path.join(folder, "backing"), {}).folder)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_mount_goes_with_the_process_that_asked_for_it(mounted, tmp_path):
    """Of the harness: nothing is left of a test run that is killed."""
    mounted()  # or the test is skipped here
    ended = call(die_with_a_mount, str(tmp_path / "other"))
    assert ended.how == "SIGKILL"
    (folder,) = ended.said
    until_s = time.monotonic() + 60
    while os.path.ismount(folder):
        assert time.monotonic() < until_s
        time.sleep(0.01)


# ---- Reading instead of mapping ----


ROWS, ROW_NBYTES = 16384, 4096
HEADER = 128  # of rows.npy: rows begin inside a page and end inside the next
DELAY_S = 0.005


@pytest.fixture(scope="module")
def rows():
    """64 MiB in which each row differs from every other."""
    return np.random.default_rng(7).integers(0, 1 << 32, (ROWS, ROW_NBYTES // 4), dtype="u4")


@pytest.fixture
def index():
    return np.random.default_rng(8).permutation(ROWS)[:1000]


@pytest.fixture
def slow(mounted, rows):
    """A function that mounts a slow server with options; rows.npy is on it."""

    def mount(**options):
        disk = mounted(**options)
        np.save(disk.behind("rows.npy"), rows)
        disk.set(delay_s=DELAY_S)
        return disk

    return mount


def open_rows(disk, mode="r", backend="auto"):
    return nf.open(disk.path("rows.npy"), mode, backend=backend)


def place(row):
    """Where a row begins in the file, in bytes."""
    return HEADER + int(row) * ROW_NBYTES


def mapped_nbytes(path):
    """How much of a file has come into this process through a map of it."""
    total, is_ours = 0, False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            if line[0] in "0123456789abcdef":
                is_ours = line.rstrip().endswith(path)
            elif is_ours and line.startswith("Rss:"):
                total += int(line.split()[1]) << 10
    return total


def test_auto_reads_from_a_server_and_maps_a_disk(slow, numbers_file):
    with open_rows(slow()) as array:
        assert array.backend == "read"
    with nf.memmap(numbers_file, "f4", "r", backend="auto") as array:
        assert array.backend == "map"


@of_every_kind(SERVERS)
def test_rows_are_gathered_by_many_reads_at_a_time(slow, rows, index, options):
    disk = slow(**options)
    with open_rows(disk) as array:
        disk.reset()
        np.testing.assert_array_equal(array[index], rows[index])
        counts = disk.counts()
        assert mapped_nbytes(disk.path("rows.npy")) < len(index) * PAGE
    assert counts.most_under_way >= 8
    assert len(counts.reads) <= 3 * len(index)
    assert counts.nbytes <= 3 * len(index) * ROW_NBYTES


@pytest.mark.parametrize("way", [lambda array: array[:].copy(), lambda array: array.copy()], ids=["slice", "whole"])
def test_a_large_copy_is_made_by_several_reads_at_a_time(slow, rows, way):
    disk = slow()
    with open_rows(disk) as array:
        disk.reset()
        np.testing.assert_array_equal(way(array), rows)
        assert disk.counts().most_under_way >= 4


def test_the_map_can_be_asked_for(slow, rows, index):
    disk = slow()
    with open_rows(disk, backend="map") as array:
        assert array.backend == "map"
        disk.reset()
        np.testing.assert_array_equal(array[index], rows[index])
        assert len(disk.counts().reads) > 0
        assert mapped_nbytes(disk.path("rows.npy")) >= len(index) * PAGE


@of_every_kind(SERVERS)
def test_rows_that_were_written_are_read_as_written(slow, rows, index, options):
    disk = slow(**options)
    disk.set(delay_s=0)
    expected = rows.copy()
    with open_rows(disk, "r+") as array:
        np.testing.assert_array_equal(array[index], expected[index])  # the pages are there before they change
        for number, row in enumerate(index[:200]):
            expected[row] = number
            if number % 2:
                array[row] = number
            else:
                np.asarray(array)[row] = number  # a store that nobody sees
        np.testing.assert_array_equal(array[index], expected[index])
        array.flush()
        np.testing.assert_array_equal(array[index], expected[index])
    np.testing.assert_array_equal(np.load(disk.behind("rows.npy")), expected)


def test_rows_changed_in_a_private_map_are_seen(slow, rows, index):
    """They are in no file, so that no read has them."""
    disk = slow()
    with open_rows(disk, "c") as array:
        np.asarray(array)[index[7]] = 1
        expected = rows.copy()
        expected[index[7]] = 1
        np.testing.assert_array_equal(array[index], expected[index])
        np.testing.assert_array_equal(array.copy(), expected)


def test_rows_changed_in_an_atomic_block_are_seen_in_it(slow, rows, index):
    disk = slow()
    expected = rows.copy()
    with open_rows(disk, "r+") as array:
        with contextlib.suppress(KeyError), array.atomic():
            array[index[7]] = expected[index[7]] = 1
            np.testing.assert_array_equal(array[index], expected[index])
            raise KeyError
        np.testing.assert_array_equal(array[index], rows[index])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_read_that_fails_in_a_gather_is_a_fault_error(slow, rows, index, number, mode):
    disk = slow()
    array = open_rows(disk, mode)
    disk.set(bad=[place(index[500]), place(index[500]) + ROW_NBYTES], read_errno=number)
    with pytest.raises(nf.FaultError) as caught:
        array[index]
    assert caught.value.cause == "read failed"
    assert caught.value.offset // PAGE in range(place(index[500]) // PAGE, place(index[500] + 1) // PAGE + 1)
    # A row beside the bad ones, not their neighbour.
    assert np.array_equal(array[index[:1]], rows[index[:1]])
    closed(array)


@pytest.mark.parametrize("mode", MODES)
@of_every_kind(HEARD)
def test_a_file_that_another_client_cut_fails_a_gather(slow, rows, index, options, mode):
    disk = slow(**options)
    array = open_rows(disk, mode)
    os.truncate(disk.behind("rows.npy"), place(ROWS // 2) + 99)
    with pytest.raises(nf.FaultError) as caught:
        array[index]
    assert caught.value.cause == "truncated"
    whole = index[index < ROWS // 2]
    np.testing.assert_array_equal(array[whole], rows[whole])
    closed(array)


@of_every_kind(HEARD)
def test_a_file_that_another_client_cut_fails_a_large_copy(slow, options):
    disk = slow(**options)
    array = open_rows(disk)
    os.truncate(disk.behind("rows.npy"), place(ROWS // 2) + 99)
    with pytest.raises(nf.FaultError) as caught:
        array.copy()
    assert caught.value.cause == "truncated"
    array.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_is_gone_fails_a_gather(slow, index, mode):
    disk = slow()
    array = open_rows(disk, mode)
    disk.kill()
    with pytest.raises(nf.FaultError):
        array[index]
    closed(array)


@pytest.mark.parametrize("way", ["gather", "copy"])
def test_closing_while_another_thread_reads_is_safe(slow, rows, index, way):
    disk = slow()
    array = open_rows(disk)
    disk.set(delay_s=20 * DELAY_S)
    seen = []

    def read():
        try:
            seen.append(array[index] if way == "gather" else array.copy())
        except nf.ClosedError as error:
            seen.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while reader.is_alive() and disk.counts().under_way == 0:
        pass
    array.close()
    disk.set(delay_s=0)
    reader.join()
    if not isinstance(seen[0], nf.ClosedError):
        np.testing.assert_array_equal(seen[0], rows[index] if way == "gather" else rows)
    # The file is let go of: the fixture could not unmount otherwise.
