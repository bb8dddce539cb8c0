"""Locks: taken before anything is changed, held as long as the mapping, and named when they are in the way."""

import errno
import fcntl
import mmap
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import ndfile as nf
from ndfile.errors import LayoutError, LockedError
from ndfile.files import locks

CONTENT = b"\7" * mmap.PAGESIZE

# (what is held, what is wanted, whether that can be)
PAIRS = [
    (("r+", "exclusive"), ("r+", "exclusive"), False),
    (("r+", "exclusive"), ("r", "shared"), False),
    (("r", "shared"), ("r+", "exclusive"), False),
    (("r", "shared"), ("r", "shared"), True),
    (("c", "shared"), ("r+", "shared"), True),
    (("c", "shared"), ("w+", "exclusive"), False),
    (("w+", "exclusive"), ("c", "shared"), False),
    (("w+", "shared"), ("r", "shared"), True),
]


@pytest.fixture
def file(file_of):
    return file_of(CONTENT)


@pytest.fixture
def held_elsewhere():
    """A function that lets another process hold a lock until the test ends, and gives its number."""
    processes = []

    def hold(path, mode, lock):
        program = """
            import sys
            import ndfile as nf
            array = nf.memmap(sys.argv[1], "u1", sys.argv[2], shape=10, lock=sys.argv[3])
            print("held", flush=True)
            sys.stdin.read()
        """
        command = [sys.executable, "-c", textwrap.dedent(program), path, mode, lock]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in processes:
        process.communicate()


def opened(path, mode, lock, **arguments):
    return nf.memmap(path, "u1", mode, shape=10, lock=lock, **arguments)


@pytest.mark.parametrize(("held", "wanted", "possible"), PAIRS)
def test_locks_exclude_each_other_in_one_process(file, held, wanted, possible):
    first = opened(file, *held)
    if possible:
        opened(file, *wanted).close()
    else:
        with pytest.raises(LockedError, match="this process holds a lock"):
            opened(file, *wanted)
    first.close()
    opened(file, *wanted).close()


@pytest.mark.parametrize(("held", "wanted", "possible"), PAIRS)
def test_locks_exclude_each_other_between_processes(file, held_elsewhere, held, wanted, possible):
    process = held_elsewhere(file, *held)
    if possible:
        opened(file, *wanted).close()
    else:
        with pytest.raises(LockedError, match=rf"process {process.pid} \(python"):
            opened(file, *wanted)
    process.communicate()
    opened(file, *wanted).close()


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_a_refused_lock_changes_nothing(file, content, mode):
    holder = opened(file, "r", "shared")
    before = os.stat(file)
    with pytest.raises(LockedError):
        nf.memmap(file, "u1", mode, shape=1 << 20, lock="exclusive")
    after = os.stat(file)
    assert content(file) == CONTENT
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(os.path.dirname(file)) == ["x.dat"]
    holder.close()


def test_the_error_has_its_facts_and_is_the_systems_kind(file):
    holder = opened(file, "r+", "exclusive")
    with pytest.raises(LockedError) as caught:
        opened(file, "r", "shared")
    error = caught.value
    assert isinstance(error, BlockingIOError)
    assert (error.path, error.lock, error.holder) == (file, "shared", "this process")
    assert (error.errno, error.filename) == (errno.EAGAIN, file)
    assert "Nothing was changed" in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.errno, copied.holder) == (str(error), errno.EAGAIN, "this process")
    holder.close()


def test_a_lock_of_the_older_kind_excludes_too_and_names_its_process(file):
    program = """
        import fcntl, sys
        file = open(sys.argv[1], "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(LockedError, match=f"process {process.pid} "):
            opened(file, "r", "shared")
        process.communicate()


def test_closing_another_descriptor_does_not_drop_the_lock(file):
    """The control: the older kind of lock is dropped by it."""
    array = opened(file, "r+", "exclusive")
    with open(file, "rb"):
        pass
    with pytest.raises(LockedError):
        opened(file, "r+", "exclusive")
    array.close()

    program = """
        import fcntl, sys, subprocess
        file = open(sys.argv[1], "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX)
        open(sys.argv[1], "rb").close()
        other = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        sys.exit(subprocess.run([sys.executable, "-c", other, sys.argv[1]]).returncode)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program), file], check=False).returncode == 0


@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+"])
def test_a_lock_lives_until_the_array_is_closed(file, mode):
    array = opened(file, mode, "shared")
    view = array[2:]
    del array
    with pytest.raises(LockedError):
        opened(file, "r+", "exclusive")
    view.close()
    opened(file, "r+", "exclusive").close()


@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+"])
def test_a_lock_lives_no_longer_than_the_last_view(file, mode):
    array = opened(file, mode, "shared")
    del array
    opened(file, "r+", "exclusive").close()


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_lock_through_a_file_object_is_the_arrays_own(file, mode):
    with open(file, "r+b") as source:
        array = opened(source, mode, "shared")
        with pytest.raises(LockedError):
            opened(source, "r+", "exclusive")
        array.close()
        opened(source, "r+", "exclusive").close()
        assert source.read(1) == b"\7"


def test_an_opening_that_fails_gives_the_lock_back(file):
    with pytest.raises(nf.SizeError):
        nf.memmap(file, "u1", "r", shape=1 << 20, lock="shared")
    with pytest.raises(OSError, match="too large"):
        nf.memmap(file, "u1", "r+", shape=2**62, lock="exclusive")
    opened(file, "r+", "exclusive").close()


# Waiting


def test_waiting_ends_when_the_lock_is_free(file):
    holder = opened(file, "r+", "exclusive")
    timer = threading.Timer(0.3, holder.close)
    timer.start()
    start = time.monotonic()
    array = opened(file, "r+", "exclusive", lock_timeout_s=100)
    assert holder.closed
    assert time.monotonic() - start < 50
    array.close()
    timer.join()


def test_waiting_ends_with_the_timeout(file):
    holder = opened(file, "r+", "exclusive")
    start = time.monotonic()
    with pytest.raises(LockedError):
        opened(file, "r", "shared", lock_timeout_s=0.3)
    assert 0.3 <= time.monotonic() - start < 30
    holder.close()


def test_a_file_that_was_replaced_while_waiting_is_not_the_one_that_is_opened(file, tmp_path):
    holder = opened(file, "r+", "exclusive")
    new = tmp_path / "new"
    new.write_bytes(b"\5" * 10)

    def replace():
        os.rename(new, file)
        holder.close()

    timer = threading.Timer(0.2, replace)
    timer.start()
    array = opened(file, "r", "shared", lock_timeout_s=10)
    assert array[0] == 5
    timer.join()
    array.close()


def test_one_at_a_time_counts_right(file_of, tmp_path):
    """Four processes add one, fifty times each, in a read, a pause and a write."""
    path = file_of(bytes(8))
    program = """
        import sys, time
        import ndfile as nf
        for _ in range(50):
            array = nf.memmap(sys.argv[1], "i8", "r+", lock="exclusive", lock_timeout_s=30)
            count = int(array[0])
            time.sleep(0)
            array[0] = count + 1
            array.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), path]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert nf.memmap(path, "i8", "r")[0] == 200


# What cannot be


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_mode_that_only_reads_takes_no_exclusive_lock(file, mode):
    with pytest.raises(LayoutError, match=f"mode '{mode}' does not"):
        opened(file, mode, "exclusive")


@pytest.mark.parametrize("lock", ["", "write", True, 1, b"shared"])
def test_a_lock_that_is_none_is_refused_before_the_file_is_made(path, lock):
    with pytest.raises(LayoutError, match="lock must be"):
        opened(path, "w+", lock)
    assert not os.path.exists(path)


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), -float("inf")])
def test_a_timeout_that_is_none_is_refused_before_the_file_is_made(path, timeout_s):
    with pytest.raises(LayoutError, match="lock_timeout_s must be"):
        opened(path, "w+", "exclusive", lock_timeout_s=timeout_s)
    assert not os.path.exists(path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_an_error(file, content, monkeypatch, number):
    # There is none to be had here, so this is what the system would say.
    def refuse(fd, command, argument=0):
        if command == locks.OFD_SETLK:
            raise OSError(number, os.strerror(number))
        return real(fd, command, argument)

    real = fcntl.fcntl
    monkeypatch.setattr(locks.fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match="gives no exclusive lock") as caught:
        nf.memmap(file, "u1", "w+", shape=1, lock="exclusive")
    assert (caught.value.errno, caught.value.filename) == (number, file)
    assert content(file) == CONTENT


def test_the_request_is_the_systems_struct():
    # What sizeof(struct flock) is on 64-bit Linux, with the padding that the compiler puts behind l_pid.
    assert locks.FLOCK.size <= struct.calcsize("hhqqi0q") == 32
