"""What cannot work is refused before anything is touched."""

import contextlib
import errno
import os
import pathlib
import resource
import socket
import stat
import tempfile

import numpy as np
import pytest

import ndfile as nf

MODES = ("r", "r+", "w+", "c")
WRITING = ("r+", "w+")

# What no file could hold: arguments after the filename, beginning with the dtype.
IMPOSSIBLE = {
    "negative size": {"shape": (3, -4)},
    "negative int": {"shape": -1},
    "negative with zero": {"shape": (0, -1)},
    "product over 64 bits": {"shape": (2**40, 2**40)},
    "product over 63 bits": {"shape": (2**31, 2**32), "dtype": "u1"},
    "bytes over 63 bits": {"shape": (2**61,), "dtype": "f8"},
    "end over 63 bits": {"shape": 1, "offset": 2**63 - 1},
    "size over 64 bits": {"shape": 2**70},
    "size over 64 bits beside a zero": {"shape": (0, 2**70)},
    "product over 64 bits beside a zero": {"shape": (0, 2**62, 2**62)},
    "bytes over 63 bits beside a zero": {"shape": (0, 2**61), "dtype": "f8"},
    "more than any address space": {"shape": 2**62, "dtype": "u1"},
    "65 dimensions": {"shape": (1,) * 65},
    "66 dimensions with those of the dtype": {"shape": (1,) * 64, "dtype": "(2,2)u1"},
    "float": {"shape": 3.0},
    "floats": {"shape": (3.0, 4)},
    "text": {"shape": "3"},
    "nothing in a tuple": {"shape": (None,)},
    "no such dtype": {"shape": 3, "dtype": "nonsense"},
    "object": {"shape": 3, "dtype": object},
    "object in a field": {"shape": 3, "dtype": [("a", "f4"), ("b", object)]},
    "StringDType": {"shape": 3, "dtype": np.dtypes.StringDType()},
    "dtype of no bytes": {"shape": 3, "dtype": "S"},
    "no such order": {"shape": 3, "order": "Z"},
    "unhashable order": {"shape": 3, "order": []},
    "negative offset": {"shape": 3, "offset": -1},
    "float offset": {"shape": 3, "offset": 4.0},
    "huge offset": {"shape": 3, "offset": 2**64},
}
MODES_THAT_ARE_NONE = ["w", "a", "rb", "", "R", "r+b", None, 0, [], b"r"]


@pytest.fixture
def state_of(content):
    """A function that tells what a failure may not change: bytes, identity, mode bits and times of a file."""

    def look(path):
        status = os.stat(path)
        return content(path), status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns

    return look


@pytest.mark.parametrize("arguments", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("mode", WRITING)
def test_what_is_impossible_leaves_the_old_file_as_it_was(numbers_file, state_of, arguments, mode):
    before = state_of(numbers_file)
    with pytest.raises((ValueError, TypeError, OSError)):
        nf.memmap(numbers_file, mode=mode, **arguments)
    assert state_of(numbers_file) == before


@pytest.mark.parametrize("arguments", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_is_impossible_makes_no_file(path, arguments):
    with pytest.raises((ValueError, TypeError, OSError)):
        nf.memmap(path, mode="w+", **arguments)
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize("arguments", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_impossible_leaves_a_file_object_as_it_was(numbers_file, state_of, arguments, mode):
    before = state_of(numbers_file)
    with open(numbers_file, "r+b") as file:
        file.seek(7)
        with pytest.raises((ValueError, TypeError, OSError)):
            nf.memmap(file, mode=mode, **arguments)
        assert file.tell() == 7
    assert state_of(numbers_file) == before


@pytest.mark.parametrize("arguments", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("mode", ["r", "c"])
def test_what_is_impossible_is_refused_for_reading_too(numbers_file, arguments, mode):
    with pytest.raises((ValueError, TypeError)):
        nf.memmap(numbers_file, mode=mode, **arguments)


@pytest.mark.parametrize("mode", MODES_THAT_ARE_NONE, ids=repr)
def test_an_impossible_mode_leaves_the_old_file_and_makes_no_other(numbers_file, state_of, tmp_path, mode):
    before = state_of(numbers_file)
    for name in (numbers_file, str(tmp_path / "new")):
        with pytest.raises((ValueError, TypeError)):
            nf.memmap(name, np.float32, mode, shape=3)
    assert state_of(numbers_file) == before
    assert os.listdir(tmp_path) == ["x.dat"]


def test_w_plus_without_a_shape_leaves_the_old_file_and_makes_no_other(numbers_file, state_of, tmp_path):
    before = state_of(numbers_file)
    for name in (numbers_file, str(tmp_path / "new")):
        with pytest.raises(nf.LayoutError, match="shape is None"):
            nf.memmap(name, np.float32, "w+")
    assert state_of(numbers_file) == before
    assert os.listdir(tmp_path) == ["x.dat"]


# Files too short


@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize(
    ("offset", "shape", "facts"),
    [
        (0, 13, ("52 bytes", "has 48", "4 short")),
        (8, (4, 3), ("48 bytes", "has 40", "8 short")),
        (47, 1, ("4 bytes", "has 1", "3 short")),
        (48, (), ("4 bytes", "has 0", "4 short")),
        (49, 0, ("offset 49", "ends at 48", "1 bytes")),
        (100, 1, ("offset 100", "ends at 48", "52 bytes")),
        (0, 2**40, (str(2**42), "has 48", str(2**42 - 48))),
    ],
)
def test_a_file_too_short_to_read_is_refused_with_all_the_numbers(numbers_file, state_of, mode, offset, shape, facts):
    before = state_of(numbers_file)
    with pytest.raises(nf.SizeError) as caught:
        nf.memmap(numbers_file, np.float32, mode, offset, shape)
    for fact in (*facts, numbers_file):
        assert fact in str(caught.value)
    assert (caught.value.path, caught.value.size, caught.value.offset) == (numbers_file, 48, offset)
    assert state_of(numbers_file) == before


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize(
    ("dtype", "offset", "facts"),
    [("f8", 1, ("47 bytes", "8 bytes", "7 left")), ("S5", 0, ("48", "5 bytes", "3 left"))],
)
def test_no_whole_number_of_items_is_refused_with_all_the_numbers(numbers_file, state_of, mode, dtype, offset, facts):
    before = state_of(numbers_file)
    with pytest.raises(nf.SizeError) as caught:
        nf.memmap(numbers_file, dtype, mode, offset)
    for fact in facts:
        assert fact in str(caught.value)
    assert state_of(numbers_file) == before


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_an_offset_past_the_end_without_a_shape_is_refused_with_both_numbers(numbers_file, state_of, mode):
    before = state_of(numbers_file)
    with pytest.raises(nf.SizeError, match=r"offset 52, the file ends at 48 \(4 bytes"):
        nf.memmap(numbers_file, np.float32, mode, 52)
    assert state_of(numbers_file) == before


@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize("shape", [None, 0, 1])
def test_an_empty_file_is_refused_for_reading(file_of, mode, shape):
    with pytest.raises(nf.SizeError, match="empty file of 0 bytes"):
        nf.memmap(file_of(b""), np.float32, mode, shape=shape)


# What is no regular file


def make_folder(path):
    os.mkdir(path)


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def make_link_to_a_device(path):
    os.symlink("/dev/zero", path)


@pytest.fixture
def short_folder():
    """A folder whose name is short enough for a socket's."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (make_folder, IsADirectoryError, "Is a directory"),
        (make_fifo, OSError, "This is a FIFO, only regular files can be mapped"),
        (make_socket, OSError, "This is a socket, only regular files can be mapped"),
        (make_link_to_a_device, OSError, "This is a character device, only regular files can be mapped"),
    ],
    ids=["folder", "FIFO", "socket", "device"],
)
@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_regular_file_is_refused_by_what_it_is(short_folder, make, error, words, wrap, mode):
    path = os.path.join(short_folder, "x")
    make(path)
    before = os.lstat(path)
    with pytest.raises(error, match=words) as caught:
        nf.memmap(wrap(path), np.uint8, mode, shape=3)
    assert os.fsdecode(caught.value.filename) in (path, os.path.realpath(path))
    assert os.path.samestat(os.lstat(path), before)
    assert os.lstat(path).st_mtime_ns == before.st_mtime_ns  # to follow a link changes its time of access alone


@pytest.mark.parametrize("mode", MODES)
def test_a_pipe_is_refused_as_a_file_object(mode):
    reader, writer = os.pipe()
    with open(reader, "rb") as read_end, open(writer, "wb"):
        with pytest.raises(OSError, match=r"FIFO|mode '"):
            nf.memmap(read_end, np.uint8, mode, shape=3)
        assert not read_end.closed


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_parent_is_named(tmp_path, mode):
    path = str(tmp_path / "none" / "such" / "x")
    with pytest.raises(FileNotFoundError, match="no folder") as caught:
        nf.memmap(path, np.uint8, mode, shape=3)
    assert str(tmp_path / "none" / "such") in str(caught.value)
    assert caught.value.filename == path
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_missing_file_is_not_made(path, mode):
    with pytest.raises(FileNotFoundError) as caught:
        nf.memmap(path, np.uint8, mode, shape=3)
    assert caught.value.filename == path
    assert not os.path.exists(path)


@pytest.mark.parametrize("mode", MODES)
def test_a_file_in_the_place_of_a_folder_is_the_systems_error(numbers_file, mode):
    with pytest.raises(NotADirectoryError):
        nf.memmap(os.path.join(numbers_file, "x"), np.uint8, mode, shape=3)


@pytest.mark.parametrize(("name", "error"), [("", FileNotFoundError), ("a\0b", ValueError), ("n" * 5000, OSError)])
@pytest.mark.parametrize("mode", MODES)
def test_a_name_that_no_file_has_is_the_systems_error(name, error, mode):
    with pytest.raises(error):
        nf.memmap(name, np.uint8, mode, shape=3)


def test_a_loop_of_links_is_the_systems_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for mode in MODES:
        with pytest.raises(OSError, match="symbolic links"):
            nf.memmap(str(tmp_path / "a"), np.uint8, mode, shape=3)


# Permissions


@pytest.mark.parametrize("mode", WRITING)
@pytest.mark.parametrize("shape", [12, 13])
def test_a_file_object_that_only_reads_is_refused_for_writing(numbers_file, state_of, mode, shape):
    before = state_of(numbers_file)
    with open(numbers_file, "rb") as file:
        file.seek(5)
        with pytest.raises(PermissionError, match="open for reading and writing"):
            nf.memmap(file, np.float32, mode, shape=shape)
        assert file.tell() == 5
    assert state_of(numbers_file) == before


@contextlib.contextmanager
def without_privileges():
    """Be somebody whom the permission bits concern."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except PermissionError:
        pytest.skip("running as root without the right to become somebody else, so no permission is ever refused")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def protected():
    """A file of 48 bytes that nobody may write, in a folder that nobody may write."""
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "x.dat")
    np.arange(12, dtype=np.float32).tofile(path)
    os.chmod(path, 0o444)
    os.chmod(folder, 0o555)
    yield path
    os.chmod(folder, 0o755)
    os.unlink(path)
    os.rmdir(folder)


@pytest.mark.parametrize("mode", WRITING)
def test_a_file_that_may_not_be_written_is_refused_and_left(protected, state_of, mode):
    before = state_of(protected)
    with without_privileges(), pytest.raises(PermissionError) as caught:
        nf.memmap(protected, np.float32, mode, shape=3)
    assert caught.value.filename == protected
    assert state_of(protected) == before


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_file_that_may_not_be_written_can_be_read_and_changed_in_memory(protected, state_of, mode):
    before = state_of(protected)
    with without_privileges():
        array = nf.memmap(protected, np.float32, mode)
    if mode == "c":
        array[3] = 33
    assert array[3] == (33 if mode == "c" else 3)
    assert state_of(protected) == before


def test_no_file_is_made_in_a_folder_that_may_not_be_written(protected):
    folder = os.path.dirname(protected)
    with without_privileges(), pytest.raises(PermissionError):
        nf.memmap(os.path.join(folder, "new"), np.float32, "w+", shape=3)
    assert os.listdir(folder) == ["x.dat"]


# Extending that fails


@contextlib.contextmanager
def largest_file(nbytes):
    """Let the system refuse to make files larger than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


LIMIT = 1 << 20


@pytest.mark.parametrize("mode", WRITING)
def test_a_refused_extension_leaves_the_old_file_as_it_was(numbers_file, state_of, mode):
    before = state_of(numbers_file)
    with largest_file(LIMIT), pytest.raises(OSError, match="File too large") as caught:
        nf.memmap(numbers_file, np.float32, mode, shape=LIMIT)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, numbers_file)
    assert state_of(numbers_file) == before


def test_a_refused_extension_removes_the_new_file(path):
    with largest_file(LIMIT), pytest.raises(OSError, match="File too large"):
        nf.memmap(path, np.float32, "w+", shape=LIMIT)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_refused_extension_of_a_file_object_leaves_it_as_it_was(numbers_file, state_of):
    before = state_of(numbers_file)
    with open(numbers_file, "r+b") as file:
        file.seek(9)
        with largest_file(LIMIT), pytest.raises(OSError, match="File too large"):
            nf.memmap(file, np.float32, "w+", shape=LIMIT)
        assert file.tell() == 9
    assert state_of(numbers_file) == before


def test_an_array_that_ends_at_the_limit_is_made(path):
    with largest_file(LIMIT):
        nf.memmap(path, np.uint8, "w+", shape=LIMIT)
    assert os.path.getsize(path) == LIMIT


@pytest.mark.parametrize("mode", WRITING)
def test_more_than_the_address_space_leaves_the_old_file_as_it_was(numbers_file, state_of, mode):
    before = state_of(numbers_file)
    with pytest.raises(OSError, match=f"File too large: .* a file of {2**62}, .* left as it was"):
        nf.memmap(numbers_file, np.uint8, mode, shape=2**62)
    assert state_of(numbers_file) == before


def test_a_limit_on_memory_is_the_systems_error_and_makes_no_file(run_python, path):
    run_python(
        """
        import errno, os, resource, sys
        import ndfile as nf

        resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
        try:
            nf.memmap(sys.argv[1], "u1", "w+", shape=1 << 33)
        except OSError as error:
            assert error.errno == errno.ENOMEM
        else:
            raise AssertionError
        assert not os.path.exists(sys.argv[1])
        """,
        path,
    )


def test_every_failure_gives_back_what_it_had_opened(numbers_file, short_folder):
    make_fifo(os.path.join(short_folder, "fifo"))
    descriptors = os.listdir("/proc/self/fd")
    attempts = [
        (numbers_file, {"mode": "r", "shape": 99}),
        (numbers_file, {"mode": "c", "dtype": "S7"}),
        (numbers_file, {"mode": "r+", "dtype": "S7"}),
        (numbers_file, {"mode": "w+", "shape": (1,) * 65}),
        (numbers_file, {"mode": "r", "shape": (1,) * 65}),
        (os.path.join(short_folder, "new"), {"mode": "w+", "shape": 2**62}),
        (os.path.join(short_folder, "fifo"), {"mode": "r"}),
        (os.path.join(short_folder, "fifo"), {"mode": "w+", "shape": 1}),
        (short_folder, {"mode": "r"}),
    ]
    for source, arguments in attempts * 20:
        with pytest.raises((ValueError, OSError)):
            nf.memmap(source, **arguments)
    assert os.listdir("/proc/self/fd") == descriptors
    assert os.listdir(short_folder) == ["fifo"]
    assert stat.S_ISFIFO(os.stat(os.path.join(short_folder, "fifo")).st_mode)
