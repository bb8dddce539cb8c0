"""A file system whose server is a program of the tests' own: what a network makes slow or fail is made so here.

It needs root and /dev/fuse; where they cannot be had the test is skipped and says why. It is taken down on the way
out, whatever happened. `fuse_server.py` is the other end, and has the options and settings.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import subprocess
import sys

import pytest
from fuse_server import MNT_DETACH

__all__ = ["Counts", "FuseDisk", "fuse_disk"]

SERVER = os.path.join(os.path.dirname(__file__), "fuse_server.py")


@dataclasses.dataclass
class Counts:
    """What the kernel has asked the server for.

    Attributes
    ----------
    reads : list of (int, int)
        Offset and size of each READ in bytes, in the order they came.
    most_under_way, under_way : int
        READs that waited for their answer at one moment: at most, and now.
    requests : dict
        How many of each kind, by name.
    """

    reads: list
    most_under_way: int
    under_way: int
    requests: dict

    @property
    def nbytes(self):
        """Bytes that were asked for."""
        return sum(size for _, size in self.reads)


class FuseDisk:
    """A mounted file system.

    Attributes
    ----------
    folder : str
        Where it is mounted.
    server : int
        The server's process.
    backing : str
        The folder that it shows. Who writes there does it behind the kernel's back, as another client would.
    """

    def __init__(self, folder, backing, options):
        self.folder, self.backing = str(folder), str(backing)
        for made in (folder, backing):
            os.makedirs(made, exist_ok=True)
        self._server = subprocess.Popen(
            [sys.executable, SERVER, self.folder, self.backing, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.server = self._server.pid
        first = json.loads(self._server.stdout.readline() or '{"refused": "the server ended"}')
        if "refused" in first:
            self._end()
            pytest.skip(f"no FUSE file system can be mounted here (not root, not allowed, or none): {first['refused']}")

    def path(self, name="x.dat"):
        """A file's path on the mount."""
        return os.path.join(self.folder, name)

    def behind(self, name="x.dat"):
        """The same file's path at the server."""
        return os.path.join(self.backing, name)

    def set(self, **settings):
        """Change the server's behaviour from now on."""
        self._order("set", settings)

    def reset(self):
        """Count from now on."""
        self._order("reset")

    def counts(self):
        return Counts(**self._order("tell"))

    def kill(self):
        """Let the server die; the mount stays, without anybody behind it."""
        self._server.kill()
        self._server.wait()

    def unmount(self):
        """Take it down; False if something on it was in use, which then is in use without a server."""
        if self._server.stdin.closed:
            return True
        is_free = _unmount(self.folder, 0)
        if not is_free:
            _unmount(self.folder, MNT_DETACH)
            self._server.kill()
        self._end()
        return is_free

    def _order(self, *order):
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def _end(self):
        self._server.wait()
        for pipe in (self._server.stdin, self._server.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def fuse_disk(folder, **options):
    """Mount a new file system at `folder`/mount, which shows `folder`/backing."""
    disk = FuseDisk(os.path.join(folder, "mount"), os.path.join(folder, "backing"), options)
    is_free = False
    try:
        yield disk
    finally:
        is_free = disk.unmount()
    # Not in `finally`: whoever has failed in the block may hold its arrays, and says more.
    if not is_free:
        pytest.fail(f"{disk.folder} was still in use at the end of the test")


def _unmount(folder, flags):
    return ctypes.CDLL(None).umount2(os.fsencode(folder), flags) == 0
