"""A disk that records: an ext4 whose device notes each write and each flush, in order.

The device is a loop device, which turns a flush into a sync of the file behind it. `recorder.py` serves that file.
"""

import contextlib
import ctypes
import dataclasses
import os
import subprocess
import sys

import devices
import numpy as np
import pytest
import recorder

DISK_NBYTES = 16 * devices.MIB
SECTOR = 512

# With checksums ext4 refuses a superblock of which one sector of two was written: that would be its loss, not ours.
FEATURES = "^metadata_csum"

# A file that replaces another one gets no help: ext4 by default guesses that it should be written first.
OPTIONS = "noauto_da_alloc"

libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass
class Disk:
    """A mounted file system and the log of its device.

    Attributes
    ----------
    folder : str
        Where it is mounted.
    served : str
        The file behind its loop device, which notes what is done to it.
    before : bytes
        The device's content when the log began.
    log : bytes
        The log; empty until the disk is unmounted.
    """

    folder: str
    served: str
    before: bytes
    log_fd: int
    log: bytes = b""

    @property
    def position(self):
        """The length of the log: all that was written and flushed until now lies before it."""
        return os.fstat(self.log_fd).st_size


@dataclasses.dataclass
class Record:
    """A write, in sectors; or a flush, of none. `end` is the position behind it."""

    offset: int
    data: np.ndarray
    end: int

    @property
    def is_flush(self):
        return len(self.data) == 0


def records_of(log):
    """What a log says, in order."""
    whole, start = np.frombuffer(log, "u1"), 0
    records = []
    while start < len(log):
        offset, nbytes = recorder.HEAD.unpack_from(log, start)
        end = start + recorder.HEAD.size + nbytes
        records.append(Record(offset, whole[end - nbytes : end].reshape(-1, SECTOR), end))
        start = end
    return records


@contextlib.contextmanager
def recorded_disk(folder, before=None):
    """A small ext4 with a journal, new or in the state `before`; gives a `Disk`, whose log is complete at the end."""
    image, served, disk = (os.path.join(folder, name) for name in ("image", "served", "disk"))
    os.makedirs(disk, exist_ok=True)
    if before is None:
        devices.make_image(image, DISK_NBYTES, features=FEATURES)
    else:
        with open(image, "wb") as file:
            file.write(before)
    log = os.memfd_create("log")
    try:
        with _recording(served, log, image), loop_device(served) as loop, mounted_ext4(loop, disk):
            found = Disk(disk, served, devices.bytes_of(image), log)
            yield found
        found.log = os.pread(log, found.position, 0)
    finally:
        os.close(log)


@contextlib.contextmanager
def _recording(served, log, image):
    """Run the program behind the file `served`, for as long as that is mounted."""
    with open(served, "w"):
        pass
    with contextlib.ExitStack() as stack:
        with _or_skip():
            fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            program = [sys.executable, "-I", "-S", recorder.__file__, str(fuse), str(log), image]
            running = subprocess.Popen(program, pass_fds=(fuse, log))
            stack.callback(_wait, running)
            options = f"fd={fuse},rootmode=100600,user_id=0,group_id=0"
            with _or_skip():
                stack.enter_context(_mounted("recorder", served, "fuse", options))
        finally:
            os.close(fuse)
        yield
    assert running.returncode == 0


def _wait(running):
    try:
        running.wait(10)
    except subprocess.TimeoutExpired:  # something is still mounted, which has been said
        running.kill()
        running.wait()


@contextlib.contextmanager
def loop_device(path):
    """The name of a loop device over a file."""
    with _or_skip():
        command = ["losetup", "--find", "--show", path]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
    loop = made.stdout.strip()
    try:
        yield loop
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def mounted_ext4(device, folder):
    """Mount what is on a device. An OSError where the kernel does not take it."""
    return _mounted(device, folder, "ext4", OPTIONS)


@contextlib.contextmanager
def _mounted(source, target, kind, options):
    # The system call: starting mount(8) takes longer than all the rest of a state.
    if libc.mount(*(text.encode() for text in (source, target, kind)), ctypes.c_ulong(0), options.encode()):
        raise OSError(ctypes.get_errno(), f"{kind} cannot be mounted: {os.strerror(ctypes.get_errno())}", target)
    try:
        yield
    finally:
        if libc.umount2(target.encode(), 0):
            why = os.strerror(ctypes.get_errno())
            subprocess.run(["umount", "--lazy", target], check=False)
            pytest.fail(f"{target} was still in use: {why}")


@contextlib.contextmanager
def _or_skip():
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk that records can be made here (not root, not allowed, or no tools): {error}")
