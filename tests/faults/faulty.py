"""Programs that may die, run where that can be seen.

`call` runs a function of a test's module in a new interpreter, `forked` runs one in a fork of the process it is called
in. Both give an `Ending`: what it returned, the signal that ended it, and what it had said until then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Ending", "call", "compile_library", "forked", "record", "rounds", "say"]

PAGE = os.sysconf("SC_PAGESIZE")

# Where `say` and the value of a function go: one JSON document to a line.
REPORT = "NDFILE_FAULTY_REPORT"

# The program of a new interpreter. The module is loaded from its file, as pytest does.
PROGRAM = """
import importlib.util, json, os, sys
file, function, arguments, path = json.loads(sys.argv[1])
sys.path[:] = path
spec = importlib.util.spec_from_file_location("faulty_program", file)
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import faulty
faulty.finish(getattr(module, function), arguments)
"""


@dataclasses.dataclass
class Ending:
    """How a program ended.

    Attributes
    ----------
    signal : str or None
        Name of the signal that ended it.
    status : int or None
        Exit status, if no signal ended it.
    value : object
        What the function returned, None if it did not get that far.
    said : list
        What was said before, in order. The last of it names the case that a death belongs to.
    errors : str
        Standard error.
    """

    signal: str | None
    status: int | None
    value: Any
    said: list[Any]
    errors: str

    @property
    def how(self) -> str | int | None:
        """The signal's name or the exit status: what a shell would tell."""
        return self.signal or self.status

    def result(self) -> Any:
        """What the function returned; AssertionError if it was ended or raised."""
        last = self.said[-1] if self.said else "nothing"
        assert self.how == 0, f"ended with {self.how}; the last that it said was {last!r}\n{self.errors}"
        return self.value


def call(
    function: Callable[..., Any], *arguments: Any, timeout_s: float = 3600, environment: dict[str, str] | None = None
) -> Ending:
    """Call a module's function in a new interpreter; arguments and result are what JSON can hold."""
    with _folder() as folder:
        program = json.dumps([function.__code__.co_filename, function.__name__, arguments, sys.path])
        report = os.path.join(folder, "report")
        with open(os.path.join(folder, "errors"), "w+") as errors:
            ended = subprocess.run(
                [sys.executable, "-W", "error", "-c", PROGRAM, program],
                env={**os.environ, REPORT: report, **(environment or {})},
                stderr=errors,
                timeout=timeout_s,
                check=False,
            )
        return _ending(ended.returncode, folder)


def forked(function: Callable[..., Any], *arguments: Any) -> Ending:
    """Call a function in a fork of this process."""
    with _folder() as folder:
        pid = os.fork()
        if pid == 0:
            os.environ[REPORT] = os.path.join(folder, "report")
            errors = os.open(os.path.join(folder, "errors"), os.O_WRONLY | os.O_CREAT)
            os.dup2(errors, 2)
            if faulthandler.is_enabled():
                faulthandler.enable(errors)  # pytest's writes to the terminal, past descriptor 2
            try:
                finish(function, arguments)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        return _ending(os.waitstatus_to_exitcode(status), folder)


def say(thing: Any) -> None:
    """Note something that is to be known even if the process dies right after."""
    report = os.open(os.environ[REPORT], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(report, json.dumps(["said", thing]).encode() + b"\n")
    os.close(report)


def finish(function: Callable[..., Any], arguments: Any) -> None:
    value = function(*arguments)
    report = os.open(os.environ[REPORT], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(report, json.dumps(["value", value]).encode() + b"\n")
    os.close(report)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    # Not tempfile.TemporaryDirectory: a fork that is ended by an error must not remove its parent's.
    folder = tempfile.mkdtemp()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _ending(code: int, folder: str) -> Ending:
    lines = []
    with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, "report")) as report:
        lines = [json.loads(line) for line in report]
    errors = pathlib.Path(folder, "errors").read_text(errors="replace")
    return Ending(
        signal=signal.Signals(-code).name if code < 0 else None,
        status=code if code >= 0 else None,
        value=next((thing for kind, thing in lines if kind == "value"), None),
        said=[thing for kind, thing in lines if kind == "said"],
        errors=errors,
    )


def is_privileged() -> bool:
    """Whether files can be given to others and others be played: root, with rights that some containers take."""
    with open("/proc/self/status") as status:
        rights = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    chown, setuid = 1 << 0, 1 << 7
    return os.geteuid() == 0 and rights & chown != 0 and rights & setuid != 0


def rounds(full: int, short: int) -> int:
    """How many rounds to run: `short`, or the part of `full` that NDFILE_ROUNDS_SCALE says."""
    scale = os.environ.get("NDFILE_ROUNDS_SCALE")
    return short if scale is None else max(short, round(full * float(scale)))


def record(name: str, started: float, **figures: Any) -> None:
    """Write a campaign's figures to the folder that NDFILE_FAULT_RESULTS names. `started` is from time.monotonic."""
    folder = os.environ.get("NDFILE_FAULT_RESULTS")
    if folder:
        os.makedirs(folder, exist_ok=True)
        figures = {"campaign": name, **figures, "seconds": round(time.monotonic() - started, 1)}
        with open(os.path.join(folder, f"{name}.json"), "w") as file:
            json.dump(figures, file, indent=1)
            file.write("\n")


def compile_library(folder: Any, source: str) -> str:
    """Compile C source to a shared library, and give its path."""
    code, library = os.path.join(folder, "library.c"), os.path.join(folder, "library.so")
    pathlib.Path(code).write_text(source)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-pthread", "-o", library, code], check=True)
    return library
