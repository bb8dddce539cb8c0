"""Paths: only regular files, unless asked; no link where none is wanted; never a wait, never the path twice."""

import contextlib
import errno
import os
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
from other_writer import LONG_S

import ndfile as nf

MODES = ("r", "r+", "c", "w+")
WRITING = ("r+", "w+")
CONTENT = b"precious" * 512


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").write_bytes(CONTENT)
    return tmp_path / "target"


@pytest.fixture
def link(target):
    path = target.with_name("link")
    path.symlink_to(target)
    return path


@contextlib.contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def opened(path, mode, **arguments):
    return nf.memmap(path, "u1", mode, shape=16, **arguments)


def mounted(*command):
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{command[0]} does not work here: not root, or not allowed")


# Links


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrap", [str, os.fsencode, lambda path: path], ids=["str", "bytes", "Path"])
def test_a_link_can_be_refused(link, target, mode, wrap):
    with pytest.raises(OSError, match="a symbolic link, and follow_symlinks=False") as caught:
        opened(wrap(link), mode, follow_symlinks=False)
    assert caught.value.errno == errno.ELOOP
    assert target.read_bytes() == CONTENT
    assert link.is_symlink()


@pytest.mark.parametrize("mode", MODES)
def test_a_link_is_followed_otherwise(link, target, mode):
    array = opened(str(link), mode)
    assert array[0] == (0 if mode == "w+" else CONTENT[0])
    array.close()
    assert link.is_symlink()


@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_link_opens_with_links_refused(target, mode):
    opened(str(target), mode, follow_symlinks=False).close()


def test_a_file_is_made_with_links_refused(tmp_path):
    opened(str(tmp_path / "new"), "w+", follow_symlinks=False).close()
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("mode", MODES)
def test_a_link_to_a_folder_above_is_no_matter(tmp_path, target, mode):
    (tmp_path / "folder").symlink_to(tmp_path)
    opened(str(tmp_path / "folder" / "target"), mode, follow_symlinks=False).close()


@pytest.mark.parametrize("mode", MODES)
def test_a_dangling_link_is_refused(tmp_path, mode):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="a symbolic link"):
        opened(str(tmp_path / "link"), mode, follow_symlinks=False)
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.parametrize("mode", MODES)
def test_a_dangling_link_into_no_folder_is_an_error(tmp_path, mode):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    with pytest.raises(FileNotFoundError):
        opened(str(tmp_path / "link"), mode)
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.parametrize("mode", MODES)
def test_a_link_to_itself_is_an_error(tmp_path, mode):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(OSError, match="Too many levels"):
        opened(str(tmp_path / "link"), mode)


# What is no regular file


@pytest.fixture(params=["folder", "FIFO", "socket", "/dev/zero", "/dev/null", "/dev/tty", "link to a FIFO"])
def odd(request, tmp_path):
    path = str(tmp_path / "odd")
    if request.param == "folder":
        os.mkdir(path)
    elif request.param == "FIFO":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    elif request.param == "link to a FIFO":
        os.mkfifo(path + "2")
        os.symlink(path + "2", path)
    else:
        path = request.param
    return path


@pytest.mark.parametrize(
    ("mode", "block_device"), [*((mode, False) for mode in MODES), ("r", True), ("c", True), ("r+", True)]
)
def test_what_is_no_regular_file_is_refused_at_once(odd, mode, block_device):
    before = os.stat(odd)
    with within(30), pytest.raises(OSError):  # noqa: PT011  # EISDIR, EINVAL, and ENXIO for a process without a terminal
        opened(odd, mode, block_device=block_device)
    assert os.path.samestat(before, os.stat(odd))


@pytest.mark.parametrize(("mode", "arguments"), [("w+", {}), ("w+", {"lock": "exclusive"}), ("r", {"lock": "shared"})])
def test_a_fifo_is_refused_before_it_is_locked_or_replaced(tmp_path, mode, arguments):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with within(30), pytest.raises(OSError, match="This is a FIFO"):
        opened(path, mode, **arguments)


@pytest.mark.parametrize("name", ["new/", "target/", ".", "", "target/x"])
def test_a_name_that_no_file_can_have_makes_none(tmp_path, target, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        opened(name, "w+")
    assert os.listdir(tmp_path) == ["target"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("mode", MODES)
def test_a_read_only_file_system_is_the_systems_error_or_is_read(tmp_path, mode):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    try:
        (folder / "x.dat").write_bytes(CONTENT)
        mounted("mount", "-o", "remount,ro", folder)
        if mode in WRITING:
            with pytest.raises(OSError, match="Read-only file system"):
                opened(str(folder / "x.dat"), mode)
        else:
            array = opened(str(folder / "x.dat"), mode)
            assert array[0] == CONTENT[0]
            array.close()
        with pytest.raises(OSError, match=r"Read-only file system|No such file"):
            opened(str(folder / "new"), mode)
        assert (folder / "x.dat").read_bytes() == CONTENT
    finally:
        subprocess.run(["umount", folder], check=True)


# Swapped between two looks


class Swapping(threading.Thread):
    """Makes a name a link to the target and a plain file in turn, as fast as it can."""

    def __init__(self, name, target):
        super().__init__()
        self.name_to_swap, self.target = str(name), str(target)
        self.rounds = 0
        self.wanted = True

    def run(self):
        spare = self.name_to_swap + ".spare"
        while self.wanted:
            os.symlink(self.target, spare)
            os.rename(spare, self.name_to_swap)
            with open(spare, "wb") as file:
                file.write(b"\1" * 64)
            os.rename(spare, self.name_to_swap)
            self.rounds += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.wanted = False
        self.join()


def write_while_swapped(path, target, mode, is_enough, **arguments):
    """Open and write for a while, and until it is enough; give how often that was done and how often refused."""
    path.write_bytes(b"\1" * 64)
    done = refused = 0
    with Swapping(path, target) as swapping:
        end = time.monotonic() + 0.7
        while time.monotonic() < (end if is_enough(done, refused) else end + LONG_S):
            try:
                array = opened(str(path), mode, **arguments)
            except OSError:
                refused += 1
            else:
                array[:] = 9
                array.close()
                done += 1
    assert swapping.rounds > 0
    return done, refused


@pytest.mark.parametrize("mode", WRITING)
@pytest.mark.parametrize("arguments", [{}, {"lock": "exclusive"}], ids=["", "locked"])
def test_nothing_is_written_through_a_refused_link_however_it_is_swapped(tmp_path, target, mode, arguments):
    done, refused = write_while_swapped(
        tmp_path / "swapped", target, mode, lambda *counts: min(counts) > 0, follow_symlinks=False, **arguments
    )
    assert target.read_bytes() == CONTENT
    assert min(done, refused) > 0
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_a_swapped_link_is_written_through_where_links_are_followed(tmp_path, target):
    """The control."""
    write_while_swapped(tmp_path / "swapped", target, "r+", lambda *_: target.read_bytes() != CONTENT)
    assert target.read_bytes() != CONTENT


def test_a_replaced_link_target_is_the_file_that_was_opened(tmp_path):
    """A link that leads to one of two files in turn: each stays a whole file, and the link stays a link."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"\1" * 64)
    (tmp_path / "link").symlink_to("one")

    def swap():
        while not done.is_set():
            for name in ("one", "two"):
                os.symlink(name, tmp_path / "spare")
                os.rename(tmp_path / "spare", tmp_path / "link")

    done = threading.Event()
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            array = opened(str(tmp_path / "link"), "w+")
            assert not array.any()
            array.close()
    finally:
        done.set()
        swapping.join()
    assert sorted(os.listdir(tmp_path)) == ["link", "one", "two"]
    assert (tmp_path / "link").is_symlink()
    assert {(tmp_path / name).stat().st_size for name in ("one", "two")} == {16}


# Block devices


@pytest.fixture
def device(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(np.arange(1 << 18, dtype="<u4").tobytes())
    result = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("a loop device cannot be had here: not root, or not allowed")
    yield result.stdout.strip()
    subprocess.run(["losetup", "--detach", result.stdout.strip()], check=True)


@pytest.mark.parametrize("mode", MODES)
def test_a_block_device_is_refused_unless_it_is_asked_for(device, mode):
    with pytest.raises(OSError, match="unless block_device=True is passed"):
        opened(device, mode)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_a_block_device_is_mapped_as_a_whole(device, mode):
    array = nf.memmap(device, "<u4", mode, block_device=True)
    assert array.shape == (1 << 18,)
    assert array[(1 << 18) - 1] == (1 << 18) - 1
    array.close()


def test_a_block_device_can_be_written(device):
    array = nf.memmap(device, "<u4", "r+", block_device=True)
    array[5] = 55
    array.close()
    assert nf.memmap(device, "<u4", "r", block_device=True)[5] == 55


def test_a_block_device_is_not_replaced(device):
    with pytest.raises(nf.LayoutError, match="a new file, which a block device is not"):
        opened(device, "w+", block_device=True)
    assert nf.memmap(device, "<u4", "r", block_device=True)[1] == 1


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_block_device_has_the_size_that_it_has(device, mode):
    with pytest.raises((OSError, nf.SizeError), match="1048576"):
        nf.memmap(device, "<u4", mode, shape=(1 << 18) + 1, block_device=True)


def test_asking_for_block_devices_takes_files_too(target):
    opened(str(target), "r", block_device=True).close()
    assert opened(str(target), "r+", block_device=True)[0] == CONTENT[0]
