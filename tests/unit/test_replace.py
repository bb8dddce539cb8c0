"""Mode w+: a new file in the old one's place. Who has the old one mapped keeps it whole."""

import concurrent.futures
import contextlib
import errno
import os
import stat
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
import pytest
from faulty import is_privileged

import ndfile as nf
from ndfile.errors import LockedError, TruncationWarning

NBYTES = 1 << 16


@pytest.fixture
def old(file_of):
    """The path of a file full of sevens."""
    return file_of(b"\7" * NBYTES)


def afresh(path, **arguments):
    return nf.memmap(path, "u1", "w+", shape=NBYTES, **arguments)


@contextlib.contextmanager
def truncation(reason):
    """Expect the warning, from this file, and no new file."""
    with pytest.warns(TruncationWarning, match=reason) as caught:
        yield
    assert [warning.filename for warning in caught] == [__file__]


@contextlib.contextmanager
def without_privileges():
    if not is_privileged():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def names(path):
    return sorted(os.listdir(os.path.dirname(path)))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_map_of_the_old_file_keeps_it_whole(old, mode):
    reader = nf.memmap(old, "u1", mode)
    array = afresh(old)
    assert int(reader.sum()) == 7 * NBYTES
    assert not array.any()
    assert names(old) == ["x.dat"]
    reader.close()
    array.close()


def test_numpy_takes_the_old_file_from_under_its_readers(old, run_python):
    """The control: the reader sees another file, or dies."""
    program = """
        import numpy as np, sys
        reader = np.memmap(sys.argv[1], "u1", "r")
        np.memmap(sys.argv[1], "u1", "w+", shape=1)
        assert reader[0] == 7
    """
    with pytest.raises(AssertionError, match="exit 1"):
        run_python(program, old)


def test_the_new_file_has_the_name_and_the_array_too(old):
    before = os.stat(old).st_ino
    array = afresh(old)
    array[:] = 9
    array.flush()
    assert array.filename == old
    assert os.stat(old).st_ino != before
    assert nf.memmap(old, "u1", "r")[NBYTES - 1] == 9
    array.close()


def test_mode_and_owner_are_kept(old):
    os.chmod(old, 0o751)
    if is_privileged():  # for others the kernel drops the set-user-id bit of a file that grows
        os.chown(old, 1234, 4321)
        os.chmod(old, 0o4751)
    before = os.stat(old)
    afresh(old).close()
    after = os.stat(old)
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_extended_attributes_are_kept(old):
    try:
        os.setxattr(old, "user.origin", b"telescope")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    afresh(old).close()
    assert os.getxattr(old, "user.origin") == b"telescope"


def test_a_new_file_has_the_permissions_that_the_process_gives(path):
    mask = os.umask(0o027)
    try:
        afresh(path).close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


@pytest.mark.parametrize("wrap", [str, os.fsencode], ids=["str", "bytes"])
def test_a_relative_path_is_replaced(old, monkeypatch, wrap):
    monkeypatch.chdir(os.path.dirname(old))
    reader = nf.memmap("x.dat", "u1", "r")
    afresh(wrap("x.dat")).close()
    assert (reader[0], nf.memmap("x.dat", "u1", "r")[0]) == (7, 0)
    reader.close()


def test_a_link_stays_a_link_and_its_target_is_replaced(old, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to("x.dat")
    reader = nf.memmap(old, "u1", "r")
    afresh(str(folder / "link")).close()
    assert os.readlink(folder / "link") == str(tmp_path / "second")
    assert os.readlink(tmp_path / "second") == "x.dat"
    assert (reader[0], nf.memmap(old, "u1", "r")[0]) == (7, 0)
    assert os.listdir(folder) == ["link"]
    assert names(old) == ["elsewhere", "second", "x.dat"]
    reader.close()


def test_a_dangling_links_target_is_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    afresh(str(tmp_path / "link")).close()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").stat().st_size == NBYTES


def test_an_empty_file_is_used_as_it_is(file_of):
    path = file_of(b"")
    before = os.stat(path).st_ino
    afresh(path).close()
    assert os.stat(path).st_ino == before
    assert os.path.getsize(path) == NBYTES


def test_a_temporary_file_is_used_as_it_is():
    with tempfile.NamedTemporaryFile() as file:
        array = afresh(file.name)
        array[:] = 7
        array.close()
        assert file.read(1) == b"\7"


def test_a_file_object_is_used_as_it_is(old):
    before = os.stat(old).st_ino
    with open(old, "r+b") as file:
        nf.memmap(file, "u1", "w+", shape=2 * NBYTES).close()
    assert os.stat(old).st_ino == before
    assert os.path.getsize(old) == 2 * NBYTES


# Where it cannot be


def test_a_hard_link_is_truncated_with_a_warning(old, tmp_path):
    os.link(old, tmp_path / "twin")
    with truncation("it has 2 names"):
        array = afresh(old)
    assert os.path.samefile(old, tmp_path / "twin")
    assert not array.any()
    assert names(old) == ["twin", "x.dat"]
    array.close()


def test_a_name_that_a_killed_maker_left_does_not_count(old, tmp_path):
    os.link(old, tmp_path / ".ndfile-0123")
    reader = nf.memmap(old, "u1", "r")
    afresh(old).close()
    assert reader[0] == 7
    assert names(old) == ["x.dat"]
    reader.close()


def test_a_warning_that_is_an_error_changes_nothing(old, tmp_path, content):
    os.link(old, tmp_path / "twin")
    with pytest.raises(TruncationWarning, match="Other maps of it lose their data"):
        afresh(old)
    assert content(old) == b"\7" * NBYTES


@pytest.mark.parametrize("shape", [1, NBYTES, 3 * NBYTES])
def test_a_truncated_file_has_the_new_arrays_size_and_zeros(old, tmp_path, content, shape):
    os.link(old, tmp_path / "twin")
    with truncation("it has 2 names"):
        nf.memmap(old, "u1", "w+", shape=shape).close()
    assert content(old) == bytes(shape)


def test_a_file_in_an_unwritable_folder_is_truncated_with_a_warning(old, tmp_path):
    os.chmod(old, 0o666)
    os.chmod(tmp_path, 0o555)
    before = os.stat(old).st_ino
    try:
        with reachable(tmp_path), without_privileges(), truncation("Permission denied"):
            afresh(old).close()
    finally:
        os.chmod(tmp_path, 0o755)
    assert os.stat(old).st_ino == before
    assert names(old) == ["x.dat"]


@contextlib.contextmanager
def reachable(folder):
    """Let everybody through the folders above, which pytest keeps to their owner."""
    changed = []
    for above in folder.parents:
        mode = stat.S_IMODE(above.stat().st_mode)
        if mode & 0o111 != 0o111:
            changed.append((above, mode))
            above.chmod(mode | 0o111)
    yield
    for above, mode in changed:
        above.chmod(mode)


@pytest.mark.skipif(not is_privileged(), reason="only root can give files away")
def test_a_file_whose_owner_cannot_be_kept_is_truncated_with_a_warning(old, tmp_path):
    os.chown(old, 1234, 4321)
    os.chmod(old, 0o666)
    os.chmod(tmp_path, 0o777)
    before = os.stat(old)
    with reachable(tmp_path), without_privileges(), truncation("its owner and permissions cannot be given"):
        afresh(old).close()
    after = os.stat(old)
    assert (after.st_ino, after.st_uid) == (before.st_ino, 1234)
    assert names(old) == ["x.dat"]


def test_a_mount_point_is_truncated_with_a_warning(old, tmp_path):
    mounted = tmp_path / "mounted"
    mounted.write_bytes(b"\5" * NBYTES)
    if subprocess.run(["mount", "--bind", old, mounted], capture_output=True, check=False).returncode:
        pytest.skip("a file cannot be mounted here: not root, or not allowed")
    try:
        with truncation("Device or resource busy"):
            afresh(str(mounted)).close()
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert mounted.read_bytes() == b"\5" * NBYTES
    assert names(old) == ["mounted", "x.dat"]


def test_a_file_without_a_name_is_truncated_with_a_warning(content):
    with tempfile.TemporaryFile() as file:
        file.write(b"\7" * NBYTES)
        file.flush()
        with truncation("no name of its own"):
            array = afresh(f"/proc/self/fd/{file.fileno()}")
        array[0] = 5
        array.close()
        file.seek(0)
        assert file.read() == b"\5" + bytes(NBYTES - 1)


def test_what_fails_leaves_the_old_file_and_no_other(old, content):
    with pytest.raises(OSError, match="The old file was left as it was") as caught:
        nf.memmap(old, "u1", "w+", shape=2**50)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert content(old) == b"\7" * NBYTES
    assert names(old) == ["x.dat"]


# With locks


def test_a_holder_of_the_old_file_is_respected(old, content):
    holder = nf.memmap(old, "u1", "r", lock="shared")
    with pytest.raises(LockedError):
        afresh(old, lock="exclusive")
    assert content(old) == b"\7" * NBYTES
    assert names(old) == ["x.dat"]
    holder.close()
    afresh(old, lock="exclusive").close()


def test_the_new_file_is_locked_too(old):
    array = afresh(old, lock="exclusive")
    with pytest.raises(LockedError):
        nf.memmap(old, "u1", "r", lock="shared")
    array.close()
    nf.memmap(old, "u1", "r", lock="shared").close()


def test_a_file_that_is_made_is_locked(path):
    array = afresh(path, lock="exclusive")
    with pytest.raises(LockedError):
        nf.memmap(path, "u1", "r+", lock="exclusive")
    array.close()


def test_who_waited_for_the_old_file_gets_the_new_one(old):
    first = afresh(old, lock="exclusive")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = [pool.submit(afresh, old, lock="exclusive", lock_timeout_s=20) for _ in range(4)]
        first.close()
        for future in concurrent.futures.as_completed(waiting):
            array = future.result()
            assert os.path.samestat(os.stat(old), os.fstat(descriptor_of(array)))
            array.close()
    assert names(old) == ["x.dat"]


def descriptor_of(array):
    """The one descriptor of this process on a file of that name; the others are closed, or on files that had it."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == array.filename:
                return int(name)
    raise AssertionError("no descriptor")


# A storm

ROUND = """
    import os, sys, threading
    import numpy as np
    import ndfile as nf

    path, rounds, seed, threads = sys.argv[1], *map(int, sys.argv[2:])
    errors = []

    def write(number):
        try:
            for step in range(rounds):
                value = (seed * 31 + number * 7 + step) % 250 + 1
                array = nf.memmap(path, "u1", "w+", shape=20000)
                assert array.shape == (20000,) and not array.any(), "not a new file"
                array[:] = value
                assert int(array.sum()) == 20000 * value, "somebody else wrote into it"
                reader = nf.memmap(path, "u1", "r")
                assert reader.shape == (20000,), "not a whole file"
                int(reader.sum())
                reader.close()
                array.close()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    if errors: raise errors[0]
"""


@pytest.mark.parametrize("start", ["from nothing", "from a file"])
def test_a_storm_leaves_everybody_a_whole_file_and_no_temporary_one(path, start):
    if start == "from a file":
        with open(path, "wb") as file:
            file.write(b"\7" * 20000)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(ROUND), path, "25"]
    processes = [subprocess.Popen([*command, str(seed), "8"], stderr=subprocess.PIPE, text=True) for seed in range(4)]
    results = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert results == [("", 0)] * 4
    assert names(path) == ["x.dat"]
    assert os.path.getsize(path) == 20000


def test_a_storm_kills_numpy(path):
    """The control: with numpy.memmap a process dies, or sees what is not its own."""
    np.zeros(20000, "u1").tofile(path)
    program = textwrap.dedent(ROUND).replace("nf.memmap", "np.memmap").replace(".close()", "._mmap.flush()")
    processes = [
        subprocess.Popen([sys.executable, "-c", program, path, "100", str(seed), "4"], stderr=subprocess.DEVNULL)
        for seed in range(4)
    ]
    results = [process.wait(timeout=60) for process in processes]
    assert any(results)
