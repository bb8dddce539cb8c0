"""Space: blocks are reserved before a byte is stored, and a full disk leaves everything as it was."""

import contextlib
import errno
import os
import subprocess

import numpy as np
import pytest

import ndfile as nf
from ndfile._core import allocate
from ndfile.errors import TruncationWarning

MIB = 1 << 20


def run(*command):
    """Run a command and say whether it worked; mounting is for root, and not for root everywhere."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def tmpfs(folder):
    folder.mkdir()
    if not run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder):
        pytest.skip("a tmpfs cannot be mounted here: not root, or not allowed")
    try:
        yield str(folder)
    finally:
        assert run("umount", folder)


@contextlib.contextmanager
def ext4(folder):
    image = folder.with_suffix(".image")
    image.write_bytes(b"")
    os.truncate(image, 16 * MIB)
    folder.mkdir()
    if not (run("mkfs.ext4", "-q", "-m", "0", image) and run("mount", "-o", "loop", image, folder)):
        pytest.skip("an ext4 on a loop device cannot be mounted here: not root, not allowed, or no mkfs.ext4")
    try:
        yield str(folder)
    finally:
        assert run("umount", folder)


@pytest.fixture(params=[tmpfs, ext4], ids=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A folder on a small file system of its own."""
    with request.param(tmp_path / "disk") as folder:
        os.sync()
        yield folder


def free(folder):
    """Bytes that are free once the file system has caught up with what was removed."""
    os.sync()
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def state_of(path):
    status = os.stat(path)
    with open(path, "rb") as file:
        return file.read(), status.st_size, status.st_mtime_ns, status.st_ino


def assert_given_back(folder, room):
    # ext4 keeps the one block in which it wrote where a longer file's blocks were.
    assert room - free(folder) in (0, os.statvfs(folder).f_frsize)


def file_on(disk, content=b"precious" * 1000):
    path = os.path.join(disk, "x.dat")
    with open(path, "wb") as file:
        file.write(content)
    os.sync()
    return path


def test_a_new_file_that_does_not_fit_is_an_error_and_leaves_nothing(disk):
    before = free(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        nf.memmap(os.path.join(disk, "new"), "u1", "w+", shape=2 * before)
    assert caught.value.errno == errno.ENOSPC
    assert [name for name in os.listdir(disk) if name != "lost+found"] == []
    assert free(disk) == before


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_an_old_file_for_which_there_is_no_space_stays_as_it_was(disk, mode):
    path = file_on(disk)
    before, room, names = state_of(path), free(disk), os.listdir(disk)
    with pytest.raises(OSError, match="left as it was") as caught:
        nf.memmap(path, "u1", mode, shape=2 * room)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, path)
    assert state_of(path) == before
    assert_given_back(disk, room)
    assert os.listdir(disk) == names


def test_a_file_object_for_which_there_is_no_space_stays_as_it_was(disk):
    path = file_on(disk)
    before, room = state_of(path), free(disk)
    with open(path, "r+b") as file, pytest.raises(OSError, match="left as it was"):
        nf.memmap(file, "u1", "w+", shape=2 * room)
    assert state_of(path) == before
    assert_given_back(disk, room)


def test_the_error_names_the_path_the_bytes_and_what_to_do(disk):
    path = os.path.join(disk, "new")
    room = free(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        nf.memmap(path, "u1", "w+", shape=64 * MIB)
    assert path in str(caught.value)
    assert f"{64 * MIB} bytes are wanted" in str(caught.value)
    assert f"{room} are free" in str(caught.value)
    assert "pass sparse=True" in str(caught.value)


def test_two_hundred_full_disks_leave_no_trace(disk):
    path = file_on(disk)
    before, room = state_of(path), free(disk)
    for cycle in range(100):
        for mode in ("r+", "w+"):
            with pytest.raises(OSError, match="No space left"):
                nf.memmap(path, "u1", mode, shape=room + cycle * 4096 + 16384)
    assert state_of(path) == before
    assert_given_back(disk, room)


def test_what_was_reserved_can_be_stored_when_the_disk_is_full(disk):
    array = nf.memmap(os.path.join(disk, "x.dat"), "u1", "w+", shape=MIB)
    assert not run("dd", "if=/dev/zero", f"of={disk}/fill", "bs=64k")
    array[:] = 7
    array.flush()
    assert int(array.sum()) == 7 * MIB
    array.close()


def test_a_sparse_file_may_be_larger_than_the_disk(disk):
    path = os.path.join(disk, "x.dat")
    array = nf.memmap(path, "u1", "w+", shape=256 * MIB, sparse=True)
    assert os.stat(path).st_blocks == 0
    array[-1] = 7
    assert array[256 * MIB - 1] == 7
    array.close()


def test_extending_sparsely_reserves_nothing(disk):
    path = file_on(disk)
    blocks = os.stat(path).st_blocks
    array = nf.memmap(path, "u1", "r+", shape=256 * MIB, sparse=True)
    assert (os.path.getsize(path), os.stat(path).st_blocks) == (256 * MIB, blocks)
    array.close()


def test_a_hard_link_that_cannot_grow_stays_as_it_was(disk):
    path = file_on(disk)
    os.link(path, os.path.join(disk, "twin"))
    os.sync()
    before, room = state_of(path), free(disk)
    with (
        pytest.warns(TruncationWarning),
        pytest.raises(OSError, match="left as it was"),
    ):
        nf.memmap(path, "u1", "w+", shape=2 * room)
    assert state_of(path) == before
    assert_given_back(disk, room)


def test_numpy_is_killed_by_a_full_disk(disk, run_python):
    """The control: the same disk does not survive numpy.memmap."""
    program = "import numpy as np, sys; np.memmap(sys.argv[1], 'u1', 'w+', shape=64 << 20)[:] = 7"
    with pytest.raises(AssertionError, match="exit -7"):
        run_python(program, os.path.join(disk, "x.dat"))


def test_a_new_file_has_all_its_blocks(path):
    array = nf.memmap(path, "u1", "w+", shape=MIB)
    assert os.stat(path).st_blocks * 512 >= MIB
    array.close()


def test_a_longer_file_has_the_new_blocks_and_keeps_its_content(file_of, content):
    path = file_of(b"12345")
    array = nf.memmap(path, "u1", "r+", offset=2 * MIB, shape=MIB)
    assert os.stat(path).st_blocks * 512 >= 3 * MIB
    assert content(path) == b"12345" + bytes(3 * MIB - 5)
    array.close()


@pytest.mark.parametrize("mode", ["r+", "w+"])
@pytest.mark.parametrize("sparse", [False, True], ids=["reserved", "sparse"])
def test_a_mapping_that_fails_takes_the_space_back(file_of, mode, sparse, run_python):
    path = file_of(b"12345")
    os.utime(path, ns=(1, 1))
    before, names = state_of(path), os.listdir(os.path.dirname(path))
    run_python(
        """
        import errno, os, resource, sys
        import ndfile as nf

        resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
        try:
            nf.memmap(sys.argv[1], "u1", sys.argv[2], shape=5 << 30, sparse=sys.argv[3] == "True")
        except OSError as error:
            assert error.errno == errno.ENOMEM
        else:
            raise AssertionError
        """,
        path,
        mode,
        sparse,
    )
    assert state_of(path) == before
    assert os.stat(path).st_blocks <= 16
    assert os.listdir(os.path.dirname(path)) == names


def test_more_than_a_file_can_hold_is_no_matter_of_space(path):
    with pytest.raises(OSError, match="Pass a smaller shape") as caught:
        nf.memmap(path, "u1", "w+", shape=2**62)
    assert caught.value.errno == errno.EFBIG
    assert not os.path.exists(path)


def test_a_file_system_that_cannot_reserve_gets_a_file_all_the_same(tmp_path):
    """ext2 has no fallocate."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 16 * MIB)
    folder.mkdir()
    if not (run("mkfs.ext2", "-q", image) and run("mount", "-o", "loop", image, folder)):
        pytest.skip("an ext2 on a loop device cannot be mounted here: not root, not allowed, or no mkfs.ext2")
    try:
        with open(folder / "probe", "wb") as file, pytest.raises(OSError, match="not supported"):
            allocate(file.fileno(), 0, 4096)
        path = str(folder / "x.dat")
        array = nf.memmap(path, np.int32, "w+", shape=1000)
        array[:] = 7
        array.close()
        array = nf.memmap(path, np.int32, "r+", shape=2000)
        assert array[999] == 7
        assert array[1999] == 0
        array.close()
    finally:
        assert run("umount", folder)
