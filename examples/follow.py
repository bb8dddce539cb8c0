"""Append rows to a file in one process and follow it in another, while the writer is killed again and again.

    python examples/follow.py write log.npy --rows 100000      # in one terminal; go on with it as often as you like
    python examples/follow.py read log.npy --rows 100000       # in another one
    python examples/follow.py                                  # both, and kill -9 for the writer, in a temporary folder

Row i of the file is made of i alone, so the reader can tell a whole row from half a one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import textwrap
import time

import numpy as np

import ndfile as nf

WIDTH = 64


def rows_from(first: int, count: int) -> np.ndarray:
    """What rows must hold: no two of them, and no two halves, are alike, and none is zeros."""
    numbers = np.arange(first + 1, first + count + 1, dtype="int64")[:, None]
    return numbers * WIDTH + np.arange(WIDTH)


def write(path: str, rows: int, pause_s: float) -> int:
    """Append until there are `rows`, going on behind what there is."""
    # A file is created whole or not at all, so what exists can be opened, whatever has happened to its writer.
    log = nf.open(path, mode="r+") if os.path.exists(path) else nf.create(path, shape=(0, WIDTH), dtype="int64")
    with log:
        print(f"writer {os.getpid()} begins behind row {len(log):,}", flush=True)
        rng = random.Random(os.getpid())
        while len(log) < rows:
            log.append(rows_from(len(log), min(rng.randint(1, 40), rows - len(log))))
            time.sleep(rng.random() * pause_s)
    return 0


def read(path: str, rows: int, timeout_s: float) -> int:
    """Follow until there are `rows`; at each look compare what is new, and load the file as anyone else would."""
    deadline_s = time.monotonic() + timeout_s
    while not os.path.exists(path):
        if time.monotonic() > deadline_s:
            print(f"{path} was not made within {timeout_s:g} s")
            return 1
        time.sleep(0.01)
    seen = looks = wrong = invalid = 0
    with nf.open(path) as log:
        if len(log):  # follow() gives what is new since the opening
            wrong += count_wrong(log, 0)
            seen = len(log)
        for news in log.follow(timeout_s) if seen < rows else ():
            wrong += count_wrong(news, seen)
            seen, looks = seen + len(news), looks + 1
            invalid += not is_valid(path, seen)
            if seen >= rows:
                break
    print(f"reader: {seen:,} rows in {looks:,} looks, {wrong} of them wrong; numpy.load failed {invalid} times")
    return int(bool(wrong or invalid or seen < rows))


def count_wrong(found: np.ndarray, first: int) -> int:
    """Rows that are not what they must be: torn, twice there, left out or in another order."""
    return int((found != rows_from(first, len(found))).any(axis=1).sum())


def is_valid(path: str, least: int) -> bool:
    """Whether NumPy can read the file at this instant, has at least what was seen, and all of it is right."""
    try:
        found = np.load(path)
    except (ValueError, OSError, EOFError):
        return False
    return len(found) >= least and not count_wrong(found, 0)


def both(path: str, rows: int, kills: int) -> int:
    """Start a reader and a writer, and kill the writer at random moments, each time with a new one after it."""
    program = [sys.executable, os.path.abspath(__file__)]
    writing = [*program, "write", path, "--rows", str(rows), "--pause", "0.002"]
    rng = random.Random(kills)
    killed, words = 0, ""
    with subprocess.Popen([*program, "read", path, "--rows", str(rows)], stdout=subprocess.PIPE, text=True) as reader:
        while True:
            with subprocess.Popen(writing, stdout=subprocess.PIPE, text=True) as writer:
                words += writer.stdout.readline()
                if killed < kills:
                    time.sleep(rng.random() * 0.1)
                    writer.kill()  # SIGKILL
            killed += writer.returncode < 0
            if writer.returncode >= 0:
                break
        reports = reader.communicate()[0]
    begun = [int(number.replace(",", "")) for number in re.findall(r"row ([\d,]+)", words)]
    rows_begun = f"its successors began behind rows {', '.join(map(str, begun[1:]))}"
    print(textwrap.fill(f"The writer was killed {killed} times; {rows_begun}.", 99))
    print(reports.strip().capitalize() + ".")
    with nf.open(path) as log:
        notes = nf.info(path).notes
        print(
            f"At the end the file has {len(log):,} rows, {count_wrong(log, 0)} of them wrong, and {notes or 'no rest'}."
        )
    return writer.returncode or reader.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="without a command: fewer rows and kills, for tests")
    commands = parser.add_subparsers(dest="command", metavar="{write,read}")
    for command, what in (("write", "append rows"), ("read", "follow them")):
        one = commands.add_parser(command, help=what, description=what)
        one.add_argument("path", help="a .npy file; write makes it if it is not there")
        one.add_argument("--rows", type=int, default=100_000, help="until there are so many (default %(default)s)")
        if command == "write":
            one.add_argument(
                "--pause", type=float, default=0.05, help="s between appends, at most (default %(default)s)"
            )
        else:
            one.add_argument(
                "--timeout", type=float, default=30, help="s without news to end after (default %(default)s)"
            )
    options = parser.parse_args()
    if options.command == "write":
        sys.exit(write(options.path, options.rows, options.pause))
    if options.command == "read":
        sys.exit(read(options.path, options.rows, options.timeout))
    with tempfile.TemporaryDirectory(prefix="ndfile-example-") as folder:
        sys.exit(both(os.path.join(folder, "log.npy"), *((10_000, 3) if options.small else (40_000, 20))))


if __name__ == "__main__":
    main()
