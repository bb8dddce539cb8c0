"""Processes that are killed: at a random instant, at every instant around their system calls, at every instruction.

What a process tells before it dies is what it may be held to: `killed` gives all of it, in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import random
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

from faulty import call, compile_library

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Folder",
    "Killed",
    "Stepped",
    "at_every_call",
    "at_every_change",
    "killed",
    "with_killing_calls",
]

# A pipe that holds what a process tells until it is killed, so that it never waits for a reader.
PIPE_NBYTES = 1 << 20

# Exit status of a process that may not be traced.
FORBIDDEN = 77


class Killed:
    """A process that was killed.

    Attributes
    ----------
    told : list
        What it told, in order.
    where : str or None
        The system call at which it was killed, if that was chosen.
    has_ended : bool
        It had come to its end before.
    """

    def __init__(self, told: list[Any], where: str | None, has_ended: bool) -> None:
        self.told = told
        self.where = where
        self.has_ended = has_ended


def killed(
    work: Callable[..., Any],
    *arguments: Any,
    within_s: float | None = None,
    at: int | None = None,
    may_end: bool = False,
) -> Killed:
    """Run ``work(tell, *arguments)`` in a fork and kill it, `within_s` seconds or at an instant around its calls."""
    told_end, tell_end = _pipe()
    where_end, kill_end = _pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(told_end)
            os.close(where_end)
            random.seed()  # a fork draws its parent's lots
            os.write(tell_end, b"\n")
            if at is not None:
                ctypes.CDLL(None).kill_arm(at, kill_end)
            work(lambda *facts: os.write(tell_end, json.dumps(facts).encode() + b"\n"), *arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(tell_end)
    os.close(kill_end)
    with open(told_end, "rb") as told, open(where_end, "rb") as where:
        told.readline()
        if within_s is not None:
            time.sleep(within_s * random.random() ** 2)  # early more often than late
            os.kill(pid, signal.SIGKILL)
        lines, place = told.read().splitlines(), where.read().decode()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == -signal.SIGKILL or (code == 0 and (may_end or at is not None)), f"it ended by itself, with {code}"
    return Killed([json.loads(line) for line in lines], place or None, code == 0)


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    with contextlib.suppress(PermissionError):  # somebody has many large pipes: a small one does too
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_NBYTES)
    return ends


class Folder:
    """All files of a folder as they are now, to be put back."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = {one.name: one.read_bytes() for one in pathlib.Path(path).iterdir()}

    def digest(self) -> bytes:
        content = hashlib.sha256()
        for name in sorted(self.files):
            content.update(f"{name} {len(self.files[name])} ".encode())
            content.update(self.files[name])
        return content.digest()

    def put_back(self) -> None:
        for name in set(os.listdir(self.path)) - self.files.keys():
            os.unlink(os.path.join(self.path, name))
        for name, content in self.files.items():
            pathlib.Path(self.path, name).write_bytes(content)


def with_killing_calls(campaign: Callable[..., Any], folder: Any, *arguments: Any) -> Any:
    """The result of a campaign that may use `at_every_call`: run in an interpreter with the library preloaded."""
    source = pathlib.Path(__file__).with_name("killing_calls.c").read_text()
    return call(campaign, *arguments, environment={"LD_PRELOAD": compile_library(folder, source)}).result()


def at_every_call(folder: Folder, work: Callable[..., Any], *arguments: Any, after: Callable[[Killed], None]) -> int:
    """Kill `work` at each instant around its calls in turn, each time with the folder as it was; look `after` each.

    Gives the number of instants. The run that reaches its end is the last, and is looked at too.
    """
    for at in itertools.count(1):
        folder.put_back()
        ending = killed(work, *arguments, at=at)
        after(ending)
        if ending.has_ended:
            return at - 1
    raise AssertionError


class Stepping(ctypes.Structure):
    _fields_ = (("steps", ctypes.c_long), ("goes", ctypes.c_int), ("status", ctypes.c_int))


class Stepped:
    """Something whose methods are to be stepped through."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.whole, name)

        def step(*arguments: Any, **options: Any) -> Any:
            os.kill(os.getpid(), signal.SIGSTOP)
            result = value(*arguments, **options)
            os.kill(os.getpid(), signal.SIGWINCH)
            return result

        return step if callable(value) else value


def at_every_change(
    folder: Any, path: str, work: Callable[..., Any], *arguments: Any, look: Callable[[list[Any]], None]
) -> int | None:
    """Run ``work(tell, *arguments)``, what is `Stepped` in it by single instructions; `look` where the file changes.

    While `look` is called with what was told until then, the process stands still: a kill at this instruction, or at
    any until the next change, would leave what is there. Changes are those of the file's size and of its first bytes.
    Gives the number of instructions; None where processes may not be traced.
    """
    source = pathlib.Path(__file__).with_name("stepping.c").read_text()
    library = ctypes.CDLL(compile_library(folder, source))
    told_end, tell_end = _pipe()
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # two processes that take turns do so fastest on one
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(told_end)
            if library.step_me():
                os.kill(os.getpid(), signal.SIGWINCH)
                work(lambda *facts: os.write(tell_end, json.dumps(facts).encode() + b"\n"), *arguments)
                status = 0
            else:
                status = FORBIDDEN
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        os.close(tell_end)
        code, steps = _step_through(library, pid, path, told_end, look)
    finally:
        os.sched_setaffinity(0, cpus)
    assert code in (0, FORBIDDEN), f"it ended with {code}"
    return steps if code == 0 else None


def _step_through(
    library: ctypes.CDLL, pid: int, path: str, told_end: int, look: Callable[[list[Any]], None]
) -> tuple[int, int]:
    os.set_blocking(told_end, False)
    stepping, told = Stepping(0, 1, 0), []
    _, status = os.waitpid(pid, 0)
    file = os.open(path, os.O_RDONLY)
    with open(told_end, "rb") as pipe:
        while os.WIFSTOPPED(status) and library.step_to_change(pid, file, ctypes.byref(stepping)):
            told += [json.loads(line) for line in (pipe.read() or b"").splitlines()]
            try:
                look(told)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
    os.close(file)
    return os.waitstatus_to_exitcode(stepping.status if os.WIFSTOPPED(status) else status), stepping.steps
