"""A full disk under a sparse file: an error for whoever stores, in bounded memory, and nobody dies."""

import contextlib
import os
import re
import subprocess
import sys
import textwrap
import time

import pytest
from devices import MIB, answer_of, loop_disk, memory_disk, python, record, rounds

CYCLES = rounds(short=16, full=200)
LARGE_NBYTES = rounds(short=1 << 30, full=16 << 30)

MOST_PRIVATE = 128 * MIB
MOST_MAPPINGS = 400  # an interpreter with NumPy has 200 by itself, the kernel allows 65530


@contextlib.contextmanager
def memory(folder):
    with memory_disk(folder / "disk", 4 * MIB) as disk:
        yield disk


@contextlib.contextmanager
def loop(folder):
    with loop_disk(folder / "disk", folder / "image", 16 * MIB) as disk:
        yield disk


@pytest.fixture(params=[memory, loop], ids=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A folder on a small file system of its own."""
    with request.param(tmp_path) as folder:
        yield folder


FILL_UP = """
import ctypes, json, os, random, sys
import numpy as np
import ndfile as nf
from devices import fill_up
"""

CYCLE = (
    FILL_UP
    + """
PAGE, NBYTES = 4096, 64 << 20
disk, cycles = sys.argv[1], int(sys.argv[2])
path = os.path.join(disk, "x.dat")
missed, wrong, kinds = [], [], {}

def an_item(array, page):
    array[page * PAGE + 5] = 1

def a_slice(array, page):
    array[page * PAGE + 5 : page * PAGE + 300] = 1

def many_pages(array, page):
    array[page * PAGE + 5 : (page + 40) * PAGE] = 1

def an_operator(array, page):
    part = array[page * PAGE + 5 : page * PAGE + 300]
    part += 1

def an_out_argument(array, page):
    np.add(0, 1, out=array[page * PAGE + 5 : page * PAGE + 300], casting="unsafe")

def a_plain_view(array, page):
    np.asarray(array)[page * PAGE + 5] = 1
    _ = None  # the error comes before the next line

def a_foreign_store(array, page):
    ctypes.memset(array.ctypes.data + page * PAGE + 5, 1, 10)
    _ = None  # as above

WAYS = [an_item, a_slice, many_pages, an_operator, an_out_argument, a_plain_view, a_foreign_store]

def make_sparse():
    return nf.memmap(path, "u1", "w+", shape=NBYTES, sparse=True)

def open_hole():
    with open(path, "wb") as file:
        file.truncate(NBYTES)
    return nf.memmap(path, "u1", "r+")

for cycle in range(cycles):
    way = WAYS[cycle % len(WAYS)]
    array = [make_sparse, open_hole][cycle // len(WAYS) % 2]()
    array[:3] = 7, 8, 9
    array.flush()
    fill_up(disk)
    page = random.Random(cycle).randrange(1, NBYTES // PAGE - 41)
    try:
        way(array, page)
    except nf.FaultError as error:
        facts = error.cause, error.errno, str(error.path), error.offset // PAGE
        if facts != ("disk full", 28, path, page):
            wrong.append((cycle, way.__name__, facts, page))
    else:
        missed.append((cycle, way.__name__))
    # The loss is not forgotten, and what was stored before is there.
    for act in (array.flush, array.sync, array.check):
        try:
            act()
            missed.append((cycle, act.__name__))
        except nf.FaultError:
            pass
    if array[:3].tolist() != [7, 8, 9]:
        wrong.append((cycle, "before", array[:3].tolist()))
    try:
        array.close()
        missed.append((cycle, "close"))
    except nf.FaultError:
        pass
    # With space the same store works.
    os.unlink(os.path.join(disk, "filler"))
    os.sync()
    with nf.memmap(path, "u1", "r+") as again:
        way(again, page)
        again.flush()
        if again[page * PAGE + 5] != 1 or again[0] != 7:
            wrong.append((cycle, "afterwards"))
    del array, again
    os.unlink(path)
    kinds[way.__name__] = kinds.get(way.__name__, 0) + 1
print(json.dumps({"missed": missed, "wrong": wrong, "kinds": kinds}))
"""
)


def test_each_store_on_a_full_disk_is_a_fault_error_that_names_the_page(disk, request):
    seen = answer_of(CYCLE, disk, CYCLES, PYTHONPATH=with_this_folder())
    assert seen["missed"] == []
    assert seen["wrong"] == []
    record(f"disk-full-{request.node.callspec.id}", cycles=CYCLES, deaths=0, missed=0, by_way=seen["kinds"])


def with_this_folder():
    paths = [os.path.dirname(os.path.abspath(__file__)), os.environ.get("PYTHONPATH")]
    return os.pathsep.join(filter(None, paths))


FILL_LARGE = (
    FILL_UP
    + """
disk, nbytes, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
array = nf.memmap(os.path.join(disk, "x.dat"), "u1", "w+", shape=nbytes, sparse=True)
print("ready", flush=True)
try:
    if way == "class":
        array[:] = 1
    elif way == "view":
        np.asarray(array)[:] = 1
    else:
        ctypes.memset(array.ctypes.data, 1, nbytes)
    print("missed")
except nf.FaultError as error:
    print(error.cause, error.errno, 0 < error.offset < 64 << 20)
try:
    array.close()
    print("missed")
except nf.FaultError:
    print("refused")
"""
)


def watch(process):
    """The most private memory and mappings that a process has until it ends."""
    most_private = most_mappings = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):  # it ended meanwhile
            with open(f"/proc/{process.pid}/smaps_rollup") as rollup:
                kib = re.findall(r"^Private_\w+:\s+(\d+) kB", rollup.read(), re.MULTILINE)
            with open(f"/proc/{process.pid}/maps") as maps:
                mappings = len(maps.readlines())
            most_private = max(most_private, sum(map(int, kib)) * 1024)
            most_mappings = max(most_mappings, mappings)
        time.sleep(0.01)
    return most_private, most_mappings


@pytest.mark.parametrize("way", ["class", "view", "memset"])
def test_an_array_far_larger_than_the_disk_is_filled_in_bounded_memory(disk, way, request):
    command = [sys.executable, "-c", textwrap.dedent(FILL_LARGE), str(disk), str(LARGE_NBYTES), way]
    environment = {**os.environ, "PYTHONPATH": with_this_folder()}
    started_s = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as filler:
        assert filler.stdout.readline() == "ready\n"
        most_private, most_mappings = watch(filler)
        out, err = filler.communicate()
    took_s = time.monotonic() - started_s
    assert (filler.returncode, out) == (0, "disk full 28 True\nrefused\n"), err
    assert most_private < MOST_PRIVATE
    assert most_mappings < MOST_MAPPINGS
    figures = {"nbytes": LARGE_NBYTES, "private_nbytes": most_private, "mappings": most_mappings, "seconds": took_s}
    record(f"disk-full-large-{request.node.callspec.id}", **figures)


def test_numpy_dies_where_a_sparse_file_has_no_space(disk):
    """The control."""
    program = """
    import sys
    import numpy as np
    array = np.memmap(sys.argv[1], "u1", "w+", shape=1 << 30)
    array[:] = 1
    """
    assert python(program, os.path.join(disk, "x.dat")).returncode == -7
