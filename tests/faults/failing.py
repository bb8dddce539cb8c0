"""Trials: something is done while a system call fails, and what is left of it is judged.

For every trial and function n goes up until the function is not called so often. `failing_calls.c` is preloaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import gc
import itertools
import os
import shutil
import subprocess
import tempfile
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from faulty import rounds
from growing import JOURNAL, PENDING

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from growing import Kind

__all__ = [
    "FUNCTIONS",
    "SYNCING",
    "Campaign",
    "Failure",
    "Shim",
    "Told",
    "Trial",
    "compile_shim",
    "describe",
    "folder_in_memory",
    "told_by",
]

ERRORS = [errno.EIO, errno.ENOSPC, errno.EINTR, errno.ENOMEM]
BY_HALF = 0  # a read or write does less than it should

SYNCING = ["msync", "fsync", "fdatasync"]
TRANSFERS = ["read", "pread", "write", "pwrite"]
MEMORY = ["mmap", "mprotect", "madvise"]
LOOKS = ["stat", "fstat", "statx"]
NAMES = ["open", "rename", "link", "unlink", "faccessat"]
FILES = ["fchmod", "fchown", "ftruncate", "fallocate", "fstatfs", "fcntl", "ioctl"]
FUNCTIONS = [*SYNCING, *TRANSFERS, *MEMORY, *LOOKS, *NAMES, *FILES]

# Of the ways in which a call can fail the short form takes one after the other, and so with the kinds of files.
WAYS_EACH = rounds(full=99, short=1)
KINDS_EACH = rounds(full=99, short=1)


@dataclasses.dataclass
class Failure:
    """How a call is to fail."""

    function: str
    nth: int
    error: int
    goes_on: bool = False

    def __str__(self) -> str:
        error = "by half" if self.error == BY_HALF else errno.errorcode[self.error]
        return f"{self.function} {self.nth}{' and on' if self.goes_on else ''} {error}"

    @property
    def is_about_a_sync(self) -> bool:
        return self.function in SYNCING

    @property
    def numbers(self) -> set[int]:
        """What it may be told as: permissions that cannot be given are a matter of rights, whatever failed, and a file
        that cannot be looked at is not there.
        """
        others = {"fchmod": errno.EPERM, "fchown": errno.EPERM, **dict.fromkeys(LOOKS, errno.ENOENT)}
        return {self.error, others.get(self.function, self.error)}


NONE = Failure("nothing", 0, errno.EIO)


def ways_to_fail(function: str) -> list[tuple[int, bool]]:
    """Errors, and whether all later calls fail too."""
    ways = [(error, False) for error in ERRORS]
    if function in TRANSFERS:
        ways.append((BY_HALF, False))
    # Not EINTR: it is tried again, without an end.
    return ways + [(error, True) for error in ERRORS if error != errno.EINTR]


@dataclasses.dataclass
class Told:
    """What the one who called came to know. Not the error itself, which would keep what its frames hold."""

    value: Any = None
    error: str | None = None  # its class
    errno: int | None = None
    text: str = ""
    is_ours: bool = False
    is_reached: bool = False  # the call that fails was made
    is_made_up_for: bool = False  # and again, and worked
    inode: int = 0  # of the file that could not be synced; 0 for memory

    @property
    def needs_recovery(self) -> bool:
        return self.error == "NeedsRecoveryError"


def told_by(act: Callable[..., Any], *arguments: Any) -> Told:
    """Call, and give what was told."""
    try:
        return Told(act(*arguments))
    except Exception as error:
        is_ours = isinstance(error, nf.errors.NdfileError)
        text = str(error) if isinstance(error, OSError) or is_ours else traceback.format_exc()
        return Told(None, type(error).__name__, getattr(error, "errno", None), text, is_ours)


def compile_shim(folder: Any, name: str = "failing_calls") -> str:
    """Make a library to preload, in a folder, and give its path."""
    library = os.path.join(folder, f"{name}.so")
    source = os.path.join(os.path.dirname(__file__), f"{name}.c")
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source, "-o", library]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc to compile the library with")
    return library


@contextlib.contextmanager
def folder_in_memory(otherwise: Any) -> Iterator[str]:
    """A folder for thousands of syncs: in memory, where there is such a place."""
    if not os.access("/dev/shm", os.W_OK):
        yield str(otherwise)
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield folder


class Shim:
    """The preloaded library."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.fail_inode.restype = ctypes.c_ulonglong

    def attempt(self, failure: Failure, act: Callable[..., Any], *arguments: Any) -> Told:
        arm = self._library.fail_arm_from if failure.goes_on else self._library.fail_arm
        arm(failure.function.encode(), failure.nth, failure.error)
        try:
            told = told_by(act, *arguments)
        finally:
            calls = self._library.fail_disarm()
        told.is_reached = 0 < failure.nth <= calls
        told.is_made_up_for = self._library.fail_good_after() > 0
        told.inode = self._library.fail_inode()
        return told


class Trial:
    """One act while one call fails. `go` does and judges it, with the methods that are here.

    Attributes
    ----------
    kind : Kind
    path : str
        Where the file is, in a folder of its own.
    failure : Failure
    told : Told
        What the act told, once it is done.
    problems : list of str
    """

    def __init__(self, kind: Kind, folder: str, failure: Failure, shim: Shim) -> None:
        self.kind = kind
        self.folder = os.path.join(folder, "now")  # the other folders in there are for what is found after a crash
        self.path = os.path.join(self.folder, kind.name)
        self.failure = failure
        self.told = Told()
        self.problems: list[str] = []
        self._shim = shim
        self._copies = (os.path.join(folder, f"after a crash {number}") for number in itertools.count())

    def go(self) -> None:
        raise NotImplementedError

    def note(self, problem: str) -> None:
        self.problems.append(problem)

    def attempt(self, act: Callable[..., Any], *arguments: Any) -> Told:
        """Do it while something fails; a note is made if what was told is not what failed."""
        self.told = told = self._shim.attempt(self.failure, act, *arguments)
        if told.error is not None:
            if not told.is_reached:
                self.note(f"raised {told.error} {told.text} though nothing failed")
            elif self.failure.error == BY_HALF:
                self.note(f"raised {told.error} {told.text} though something was only done by half")
            elif told.errno not in self.failure.numbers and not told.is_ours:
                self.note(f"raised {told.error} {told.text}")
        return told

    def judge_promise(self) -> None:
        """It was said that all is on the disk: then no sync failed, but one that was interrupted and made again."""
        if self.told.is_reached and self.failure.is_about_a_sync:
            if self.failure.error != errno.EINTR:
                self.note("said that the bytes are on the disk after the disk had refused them")
            elif not self.told.is_made_up_for:
                self.note("said that the bytes are on the disk after the call for that had not been made")

    def in_memory(self, array: Any) -> np.ndarray:
        return self.kind.turned(np.array(array))

    def after_a_crash(self) -> tuple[str | None, np.ndarray]:
        """PENDING if it must be recovered, and the rows that are found then, if all processes die at this moment."""
        folder = next(self._copies)
        shutil.copytree(self.folder, folder)
        try:
            return self._found_in(folder)
        finally:
            shutil.rmtree(folder)

    def _found_in(self, folder: str) -> tuple[str | None, np.ndarray]:
        kind, path = self.kind, os.path.join(folder, self.kind.name)
        seen = told_by(self._rows_in, path, "r")
        if seen.error is not None and not seen.needs_recovery:
            self.note(f"after a crash it cannot be read: {seen.text}")
        if seen.error is None and not np.array_equal(seen.value, kind.read(path)):
            self.note("after a crash a plain reader finds other rows than we do")
        if seen.needs_recovery:
            nf.recover(path, copied=True)  # the journal is for the file that this is a copy of
        recovered = self._rows_in(path, "r+")
        if seen.error is None and not np.array_equal(seen.value, recovered):
            self.note("after a crash writers find other rows than readers")
        if not np.array_equal(recovered, kind.read(path)):
            self.note("after a crash and opening to write a plain reader finds other rows than we do")
        # Neither drafts nor a journal without a whole commit are in anybody's way.
        left = self.beside(folder, but=".ndfile-") - {kind.name + JOURNAL}
        if left:
            self.note(f"after a crash and opening to write there is {left}")
        return (PENDING if seen.needs_recovery else None), recovered

    def _rows_in(self, path: str, mode: str) -> np.ndarray:
        with self.kind.open(path, mode) as array:
            return self.in_memory(array)

    def beside(self, folder: str | None = None, but: str | None = None) -> set[str]:
        """Files that should not be there, `but` those whose name begins so."""
        left = set(os.listdir(folder or self.folder)) - self.kind.names
        return {name for name in left if but is None or not name.startswith(but)}

    def judge_what_is_left(self, content: np.ndarray, is_closed_well: bool) -> None:
        """Nobody has the file open, and nothing fails any more: who opens it finds the rows, and uses it."""
        left = self.beside(but=".ndfile-" if self.failure.function == "unlink" else None)
        # Closing looks whose journal it is, and removes it.
        if not is_closed_well or self.failure.function in ("unlink", *LOOKS):
            left -= {self.kind.name + JOURNAL}
        if left:
            self.note(f"left {left}")
        if is_closed_well and os.path.getsize(self.path) != self.kind.nbytes_of(self.path, content):
            self.note(f"has {os.path.getsize(self.path)} bytes when it is closed")
        self.kind.settle(self.path)
        with self.kind.open(self.path) as again:
            if not np.array_equal(self.in_memory(again), content):
                self.note(f"opened again it has {describe(self.in_memory(again))}")
            again.append(self.kind.turned(content[:1]), sync=True)
        if not np.array_equal(self.kind.read(self.path), np.concatenate([content, content[:1]])):
            self.note(f"opened again and appended to it has {describe(self.kind.read(self.path))}")


def describe(content: np.ndarray) -> str:
    """Enough of some rows to tell what they are."""
    return f"{len(content)} rows, {content[:5, 0].tolist()} ... {content[-2:, 0].tolist()}"


class Campaign:
    """Trials, in folders of their own.

    Attributes
    ----------
    runs, raised : int
        How many there were, and how many of them ended with an error.
    hits : dict
        How often a call of each function failed.
    problems : list of str
    """

    def __init__(self, folder: str, say: Callable[[Any], None]) -> None:
        self.folder = folder
        self.shim = Shim()
        self._say = say
        self.runs, self.raised = 0, 0
        self.hits: dict[str, int] = {}
        self.problems: list[str] = []
        self._numbers = itertools.count()

    def run(self, trials: dict[str, list[Callable[..., Trial]]], functions: list[str]) -> dict[str, Any]:
        """Give what is to be reported. Of those under one name each failure meets one, or all in the full form."""
        for name, kinds in trials.items():
            for trial in kinds:
                self.once(name, trial, NONE)  # so that what Python loads at the first time is there
            for function in functions:
                self.fail_each(name, kinds, function)
        return {"runs": self.runs, "raised": self.raised, "hits": self.hits, "problems": self.problems}

    def fail_each(self, name: str, kinds: list[Callable[..., Trial]], function: str) -> None:
        ways = ways_to_fail(function)
        for nth in itertools.count(1):
            reached = [
                self.once(name, trial, Failure(function, nth, *way))
                for trial in self.some(kinds, KINDS_EACH)
                for way in self.some(ways, WAYS_EACH)
            ]
            if not any(reached):
                return
            self.hits[function] = self.hits.get(function, 0) + sum(reached)

    def some(self, things: list[Any], count: int) -> list[Any]:
        if count >= len(things):
            return things
        # Not in step with each other: all pairs come together.
        number = next(self._numbers)
        return [things[(number + number // len(things) + more) % len(things)] for more in range(count)]

    def once(self, name: str, make: Callable[..., Trial], failure: Failure) -> bool:
        """Do one trial. True if it came so far that something failed."""
        self.runs += 1
        folder = os.path.join(self.folder, str(self.runs))
        os.makedirs(os.path.join(folder, "now"))
        descriptors = len(os.listdir("/proc/self/fd"))
        trial = make(folder, failure, self.shim)
        self._say(f"{name}, {trial.kind.name}, {failure}")  # if it ends here
        try:
            trial.go()
        except Exception:
            trial.note(f"the judge met {traceback.format_exc()}")
        if len(os.listdir("/proc/self/fd")) != descriptors:
            gc.collect()
            if len(os.listdir("/proc/self/fd")) != descriptors:
                trial.note("a descriptor was left")
        self.raised += trial.told.error is not None
        self.problems += [f"{name}, {trial.kind.name}, {failure}: {problem}" for problem in trial.problems]
        shutil.rmtree(folder)
        return trial.told.is_reached
