"""`ndfile follow`: rows of another process as they come."""

import json
import select
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from command_line import LONG_S, NDFILE, environment, read_until

import ndfile as nf

WRITER = """
import sys
import numpy as np
import ndfile as nf
with nf.open(sys.argv[1], "r+") as array:
    print("open", flush=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        rows = np.arange(first, last)
        array.append(np.stack([rows, -rows], -1 if array.flags.c_contiguous else 0).astype(array.dtype))
        print("done", flush=True)
"""


@pytest.fixture
def writer():
    """A function that lets another process append rows that are numbered."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), "log.npy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "open\n"

        def write(first, last):
            process.stdin.write(f"{first} {last}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        yield write
        process.communicate(timeout=LONG_S)
    assert process.returncode == 0


@pytest.fixture
def log():
    with nf.create("log.npy", (3, 2), "f4") as array:
        array[...] = [[0, 0], [1, -1], [2, -2]]


@pytest.fixture
def following():
    """A function that starts the command, with its output in a pipe."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [*NDFILE, "follow", "log.npy", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("words", "first", "more"),
    [
        ([], "[0. 0.]\n[ 1. -1.]\n[ 2. -2.]\n", "[ 3. -3.]\n[ 4. -4.]\n"),
        (["-n", 1, "--csv"], "2.0,-2.0\n", "3.0,-3.0\n4.0,-4.0\n"),
        (["-n", 2, "--json"], "[1.0, -1.0]\n[2.0, -2.0]\n", "[3.0, -3.0]\n[4.0, -4.0]\n"),
    ],
    ids=["text", "csv", "json"],
)
@pytest.mark.usefixtures("log")
def test_rows_are_printed_as_another_process_appends_them(words, first, more, writer, following):
    process = following(*words)
    assert read_until(process.stdout, first) == first
    writer(3, 4)
    assert read_until(process.stdout, "\n") == more.partition("\n")[0] + "\n"
    writer(4, 5)
    assert read_until(process.stdout, "\n") == more.partition("\n")[2]


@pytest.mark.usefixtures("log")
def test_no_row_is_left_out_or_printed_twice(writer, following):
    process = following("-n", 0, "--json", "--timeout", 3)
    # It says nothing before the first row: one that is there tells when it has begun.
    first = 3
    while not select.select([process.stdout], [], [], 0.2)[0]:
        writer(first, first + 1)
        first += 1
    for start in range(first, first + 5000, 1000):
        writer(start, start + 1000)
    out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (0, b"")
    rows = [json.loads(line)[0] for line in out.splitlines()]
    assert rows == list(range(int(rows[0]), first + 5000))


def test_rows_of_order_f_are_along_the_last_axis(fine, writer_free_log):
    assert fine("follow", "log.npy", "--csv", "--timeout", 0) == "0.0,0.0\n1.0,-1.0\n2.0,-2.0\n"


@pytest.fixture
def writer_free_log():
    with nf.create("log.npy", (2, 3), "f4", order="F") as array:
        array[...] = [[0, 1, 2], [0, -1, -2]]


def test_structured_rows_have_one_header(events, fine):
    lines = fine("follow", events, "--csv", "-n", 2, "--timeout", 0).splitlines()
    assert lines[0] == "time,energy,place[0],place[1],name"
    assert len(lines) == 3


def test_it_ends_without_news(recording, fine):
    assert fine("follow", recording, "-n", 1, "--timeout", 0.05).count("\n") == 1


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_a_time_that_there_is_not_is_1_before_anything_is_printed(seconds, recording, ndfile):
    code, out, _ = ndfile("follow", recording, f"--timeout={seconds}")
    assert (code, out) == (1, "")


def test_what_cannot_grow_cannot_be_followed(ndfile):
    np.save("x.npy", np.int64(3))
    code, out, err = ndfile("follow", "x.npy", "--timeout", 0)
    assert (code, out, err.count("\n")) == (1, "", 1)
