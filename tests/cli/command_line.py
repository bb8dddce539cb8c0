"""Running the command line: in this process where that proves the same, in a terminal or a pipe where it does not."""

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import time
from typing import NamedTuple

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")
NDFILE = (sys.executable, "-W", "error", "-m", "ndfile")
STYLE = re.compile(r"\x1b\[[0-9;]*m")

# What takes longer hangs.
LONG_S = 60


class Result(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str = ""


def environment(**variables):
    """The environment of a person who has set nothing but that."""
    usual = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM", "LINES")}
    return usual | {"PYTHONIOENCODING": "utf-8"} | variables


def piped(*words, **variables):
    """Run a command whose output goes into pipes."""
    command = [*NDFILE, *map(str, words)]
    found = subprocess.run(
        command,
        capture_output=True,
        check=False,
        env=environment(**variables),
        timeout=LONG_S,
        stdin=subprocess.DEVNULL,
    )
    return Result(found.returncode, found.stdout.decode(), found.stderr.decode())


def terminal(width):
    """The two ends of a terminal that is so wide."""
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    return outer, inner


def in_terminal(width, *words, error=None, **variables):
    """Run a command in a terminal; what it shows, output and errors in one."""
    outer, inner = terminal(width)
    try:
        process = subprocess.Popen(
            [*NDFILE, *map(str, words)],
            stdin=inner,
            stdout=inner,
            stderr=inner if error is None else error,
            env=environment(TERM="xterm", **variables),
            start_new_session=True,
        )
    finally:
        os.close(inner)
    with process, open(outer, "rb", buffering=0) as shown:
        text = read_all(shown).decode()
        return Result(process.wait(LONG_S), text.replace("\r\n", "\n"))


def read_all(shown):
    """Read what a terminal shows until its programs have ended, which Linux says by an error."""
    parts = []
    try:
        while part := shown.read(1 << 16):
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)


def read_until(file, text, limit_s=LONG_S):
    """Read from a pipe until a text has come."""
    found = ""
    until_s = time.monotonic() + limit_s
    while text not in found:
        assert time.monotonic() < until_s, found
        part = os.read(file.fileno(), 1 << 16).decode()
        assert part, found
        found += part
    return found


def without_style(text):
    """A text without the codes for colours."""
    return STYLE.sub("", text)


def golden(name, text):
    """Compare a text with the one that was looked at; with NDFILE_GOLDEN set it is written anew, to be looked at."""
    path = os.path.join(GOLDEN, f"{name}.txt")
    if os.environ.get("NDFILE_GOLDEN"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    with open(path, encoding="utf-8") as file:
        assert text == file.read()


class Stream(io.StringIO):
    """An output with an encoding."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def write(self, text):
        text.encode(self._encoding)
        return super().write(text)
