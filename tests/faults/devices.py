"""Small disks of a test's own, to be filled, cut and broken.

A disk is a file system in memory or on a loop device. Both need root and a system that permits mounts; where they
cannot be had the test is skipped and says why. They are taken down on the way out, whatever happened.
"""

import contextlib
import errno
import os
import subprocess

import pytest

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")


def _try(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"there is no {command[0]}"
    return "" if result.returncode == 0 else result.stderr.strip() or f"{command[0]} failed"


def _need(*command):
    complaint = _try(*command)
    if complaint:
        pytest.skip(f"no disk can be made here (not root, not allowed, or no tools): {complaint}")


@contextlib.contextmanager
def mounted(folder, *options):
    """Mount what the options of mount(8) say."""
    os.makedirs(folder, exist_ok=True)
    _need("mount", *options, folder)
    try:
        yield folder
    finally:
        if _try("umount", folder):
            # Something is still open there. Without its name it goes when that is closed, and the test has failed.
            _try("umount", "--lazy", folder)
            pytest.fail(f"{folder} was still in use at the end of the test")


@contextlib.contextmanager
def memory_disk(folder, nbytes):
    """A tmpfs that takes `nbytes`."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs"):
        yield folder


@contextlib.contextmanager
def loop_disk(folder, image, nbytes, *, content=None, features="^has_journal"):
    """An ext4 on a loop device over the sparse file `image`; `content` is a folder to start from."""
    make_image(image, nbytes, content=content, features=features)
    with mounted(folder, "-o", "loop", image):
        yield folder


def make_image(image, nbytes, *, content=None, features="^has_journal"):
    """A file with an ext4 inside, of blocks as large as pages."""
    with open(image, "wb") as file:
        file.truncate(nbytes)
    start_from = () if content is None else ("-d", content)
    _need("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-O", features, *start_from, image)


def move_page(image, name, page, block):
    """Let a page of a file in an unmounted image lie at another block of it, with its content."""
    old = subprocess.run(["debugfs", "-R", f"bmap {name} {page}", image], capture_output=True, text=True, check=True)
    with open(image, "r+b") as disk:
        disk.seek(int(old.stdout) * 4096)
        content = disk.read(4096)
        disk.seek(block * 4096)
        disk.write(content)
    _need("debugfs", "-w", "-R", f"sif {name} bmap[{page}] {block}", image)


def fill_up(folder, name="filler"):
    """Take every block that is left on a disk."""
    with open(os.path.join(folder, name), "wb", buffering=0) as file:
        for nbytes in (1 << 16, 1 << 12):
            while True:
                # What was promised to be written later may turn out to need less: ask until two answers agree.
                os.fsync(file.fileno())
                try:
                    file.write(bytes(nbytes))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break


def bytes_of(path):
    """A whole file, not through a mapping."""
    with open(path, "rb") as file:
        return file.read()
