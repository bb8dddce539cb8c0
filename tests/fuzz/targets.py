"""What is fuzzed: a parser for each name, and what must hold for it whatever the bytes are.

Nothing here needs a fuzzer. `Watch.run` takes bytes and notes every promise that they break.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
import traceback
import tracemalloc
from typing import Any

import numpy as np

from ndfile.description import Info
from ndfile.errors import FormatError, LibraryError
from ndfile.formats import Source, find, named
from ndfile.integrity.checksums import SUFFIX, Checksums

__all__ = ["TARGETS", "Files", "Target", "Watch"]

# The promise to whoever opens a hostile file, and what the watching itself may take of it.
MOST_SECONDS = 0.050
MOST_NBYTES = 16 << 20

# tracemalloc makes a run several times slower, so that one in this many is watched for memory and open files. The
# process's high-water mark is looked at after every run.
TRACED_EACH = 64

# Values of larger members are not decoded: that takes as long as they are long.
MOST_DECODED_NBYTES = 1 << 20

# A raw file, and a file with checksums: whole items of many widths, and blocks, lie in it.
BESIDE_NBYTES = 1680

# Where code comes from that somebody made out of text. Modules are imported late, which executes them as well.
NO_FILE = "<"
FROZEN = "<frozen"

EXECUTING = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}
CHANGING = {"os.truncate", "os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.chmod", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Broken(Exception):  # noqa: N818  (a promise is)
    """A promise that a parser broke, by a name that tells one breach from another."""


class Files:
    """A file that is written anew for each run, and for some formats one beside it that stays as it is."""

    def __init__(self, folder: Any, name: str, beside: str | None = None) -> None:
        self.path = os.path.join(folder, name)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self.beside = None if beside is None else os.path.join(folder, beside)
        self.beside_fd = -1
        if self.beside is not None:
            self.beside_fd = os.open(self.beside, os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(self.beside_fd, bytes(BESIDE_NBYTES), 0)

    def fill(self, data: bytes) -> None:
        os.pwrite(self.fd, data, 0)
        os.ftruncate(self.fd, len(data))

    def holds(self, data: bytes) -> bool:
        """Whether everything is as it was filled."""
        is_same = os.fstat(self.fd).st_size == len(data) and os.pread(self.fd, len(data) + 1, 0) == data
        if self.beside is not None:
            is_same = is_same and os.pread(self.beside_fd, BESIDE_NBYTES + 1, 0) == bytes(BESIDE_NBYTES)
        return is_same

    def close(self) -> None:
        os.close(self.fd)
        if self.beside is not None:
            os.close(self.beside_fd)


class Target:
    """A parser under watch.

    Attributes
    ----------
    name : str
        Of the format, and of the target.
    file_name : str
        Of the file that the bytes go to.
    beside : str or None
        The file that it tells about, if it is not that itself.
    decodes : bool
        Whether what cannot be mapped is decoded by our own code, and not by another library.
    """

    def __init__(self, name: str, file_name: str, beside: str | None = None, *, decodes: bool = True) -> None:
        self.name, self.file_name, self.beside, self.decodes = name, file_name, beside, decodes

    def format(self) -> Any:
        return named(self.name)

    def parse(self, files: Files) -> None:
        """Do what opening and describing do, and check the outcome. FormatError is an outcome too."""
        is_beside = files.beside is not None
        path, fd = (files.beside, files.beside_fd) if is_beside else (files.path, files.fd)
        source = Source(fd, path, os.fstat(fd).st_size)
        with contextlib.suppress(FormatError):
            find(source, {})
        # As `open(path, format=...)` has it: our parser sees the file whatever it looks like.
        kind = self.format()
        contents = kind.describe(source)
        about = Info(
            path, kind.name, source.size, contents.is_archive, contents.members, contents.metadata, contents.notes
        )
        repr(about)
        json.dumps(about.to_dict())
        for name, member in contents.members.items():
            if name != member.name:
                raise Broken("a member has two names")
            try:
                layout = member.layout(source)
            except FormatError:
                if self.decodes:
                    _decode(kind, source, member)
            else:
                _check_layout(layout, source)


class ChecksumsTarget(Target):
    """The file of checksums, which is no format: it stands beside any file."""

    def parse(self, files: Files) -> None:
        assert files.beside is not None
        found = Checksums.load(files.path, files.beside, BESIDE_NBYTES)
        if len(found.digests) != -(-found.size // found.block_nbytes):
            raise Broken("checksums of another number of blocks")
        repr(found)


TARGETS = {
    "npy": Target("npy", "x.npy"),
    "npz": Target("npz", "x.npz"),
    "raw": Target("raw", "x.bin.json", "x.bin"),
    "safetensors": Target("safetensors", "x.safetensors"),
    "wav": Target("wav", "x.wav"),
    "tiff": Target("tiff", "x.tif", decodes=False),
    "fits": Target("fits", "x.fits", decodes=False),
    "arrow": Target("arrow", "x.arrow", decodes=False),
    "checksums": ChecksumsTarget("checksums", "x.bin" + SUFFIX, "x.bin"),
}


def _check_layout(layout: Any, source: Source) -> None:
    if not 0 <= layout.offset <= layout.end <= source.size:
        raise Broken("a member reaches out of the file")
    if layout.nbytes != layout.end - layout.offset:
        raise Broken("a member has two lengths")
    # What NumPy refuses to make would be an error of its own when the file is mapped.
    backing = bytes(source.size)
    made = np.ndarray(layout.shape, layout.dtype, backing, layout.offset, order=layout.order)
    if made.nbytes != layout.nbytes:
        raise Broken("NumPy makes another array")


def _decode(kind: Any, source: Source, member: Any) -> None:
    if member.obstacle is None or not member.dtype.itemsize or member.nbytes > MOST_DECODED_NBYTES:
        return
    with contextlib.suppress(FormatError):
        found = sum(piece.nbytes for piece in kind.decode(source, member))
        if found != member.nbytes:
            raise Broken("decoding gives another number of bytes")


class Watch:
    """Runs a target, counts, and keeps the smallest input for every promise that was broken.

    Attributes
    ----------
    findings : dict of str to bytes
        By what was broken and where.
    counts : dict of str to int
        Runs by their outcome.
    slowest_s : float
        Processor time of the slowest run, of those that were as slow again.
    most_nbytes : int
        Memory of the hungriest run that was traced.
    """

    def __init__(self, target: Target, folder: Any, traced_each: int = TRACED_EACH) -> None:
        self._target = target
        self._traced_each = traced_each
        self.files = Files(folder, target.file_name, target.beside)
        self._events: list[str] = []
        self.reset()
        with contextlib.suppress(Exception):  # what is imported late is imported now, which executes it
            target.parse(self.files)
        _watch_events()

    def reset(self) -> None:
        """Forget what was found and counted."""
        self.findings: dict[str, bytes] = {}
        self.counts = {"described": 0, "refused": 0, "broken": 0}
        self.slowest_s, self.slowest = 0.0, b""
        self.most_nbytes = 0

    def close(self) -> None:
        _watching.clear()
        self.files.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, data: bytes) -> str:
        """Parse the bytes; gives the outcome's name."""
        self.files.fill(data)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        number = sum(self.counts.values())
        outcome, seconds = self._timed(data)
        if seconds > self.slowest_s:
            # Whatever else the machine did, and what happens once only, does not come again.
            seconds = min(seconds, *(self._timed(data)[1] for _ in range(2)))
            if seconds > self.slowest_s:
                self.slowest_s, self.slowest = seconds, data
            if seconds > MOST_SECONDS:
                self._note("slow", data)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
        if number % self._traced_each == 0 or grown > MOST_NBYTES:
            self._trace(data)
        if not self.files.holds(data):
            self._note("the file was changed", data)
        self.counts[outcome] += 1
        return outcome

    def _timed(self, data: bytes) -> tuple[str, float]:
        started = time.thread_time()
        outcome = self._outcome(data)
        return outcome, time.thread_time() - started

    def _outcome(self, data: bytes) -> str:
        self._events.clear()
        _watching.append(self._events)
        try:
            self._target.parse(self.files)
        except (FormatError, LibraryError) as error:
            return self._refused(error, data)
        except Broken as error:
            return self._note(str(error), data)
        except Exception as error:
            return self._note(f"{type(error).__name__} {_place_of(error)}", data)
        finally:
            _watching.pop()
            if self._events:
                self._note(f"does {self._events[0]}", data)
        return "described"

    def _refused(self, error: Exception, data: bytes) -> str:
        try:
            str(error).encode()
        except Exception as unsaid:
            return self._note(f"{type(unsaid).__name__} of a message {_place_of(error)}", data)
        return "refused"

    def _trace(self, data: bytes) -> None:
        before = os.listdir("/proc/self/fd")
        tracemalloc.start()
        try:
            self._outcome(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if os.listdir("/proc/self/fd") != before:
            self._note("leaves a file open", data)
        self.most_nbytes = max(self.most_nbytes, peak)
        if peak > MOST_NBYTES:
            self._note("takes much memory", data)

    def _note(self, finding: str, data: bytes) -> str:
        found = self.findings.get(finding)
        if found is None or len(data) < len(found):
            self.findings[finding] = data
        return "broken"


def _place_of(error: BaseException) -> str:
    """The innermost line of ours: two errors from there are one."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}ndfile{os.sep}" in frame.filename] or frames
    return f"in {os.path.basename(ours[-1].filename)} {ours[-1].name}"


# Where the audit hook notes what must not happen. A hook cannot be taken away, so that this is empty between runs.
_watching: list[list[str]] = []
_is_hooked = False


def _watch_events() -> None:
    global _is_hooked
    if not _is_hooked:
        sys.addaudithook(_hook)
        _is_hooked = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        _, mode, flags = arguments
        is_bad = (isinstance(flags, int) and flags & WRITING) or (isinstance(mode, str) and set(mode) & set("wax+"))
    elif event == "exec":
        place = getattr(arguments[0], "co_filename", NO_FILE)
        is_bad = place.startswith(NO_FILE) and not place.startswith(FROZEN)
    else:
        is_bad = event in EXECUTING or event in CHANGING
    if is_bad:
        _watching[-1].append(event)
