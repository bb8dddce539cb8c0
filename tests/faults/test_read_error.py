"""A device that cannot read a block: an error that names the page, and the good pages stay as they are.

The file lies on a loop device. Its bad pages are moved to the device's last blocks, and the backing file is cut in
front of these once the file system is mounted: the kernel answers EIO for them, and for nothing else.
"""

import contextlib
import os
import random

import pytest
from devices import PAGE, answer_of, make_image, mounted, move_page, python, record, rounds

PLACEMENTS = rounds(short=12, full=100)

PAGES = 64
BLOCKS = 2048
CONTENT = b"".join(bytes([page + 1]) * PAGE for page in range(PAGES))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An unmounted file system with x.dat on it."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "content").mkdir()
    (folder / "content" / "x.dat").write_bytes(CONTENT)
    make_image(folder / "image", BLOCKS * PAGE, content=folder / "content")
    return (folder / "image").read_bytes()


class Disk:
    """The folder of a mounted disk, and the cut that makes pages of x.dat bad."""

    def __init__(self, folder, image, bad):
        self.path, self.image, self.bad = str(folder / "x.dat"), str(image), bad
        self.size = (BLOCKS - len(bad)) * PAGE


@pytest.fixture
def disk(image, tmp_path):
    """A function that gives a context: a mounted disk on which some pages are going to be bad."""
    @contextlib.contextmanager
    def mount(bad):
        copy = tmp_path / "disk.image"
        copy.write_bytes(image)
        for block, page in enumerate(bad, BLOCKS - len(bad)):
            move_page(copy, "/x.dat", page, block)
        with mounted(tmp_path / "disk", "-o", "loop", copy) as folder:
            yield Disk(folder, copy, bad)

    return mount


READ = """
import ctypes, json, os, sys
import numpy as np
import ndfile as nf

PAGE, PAGES = 4096, 64
path, image, size, mode, way = sys.argv[1:6]
bad = json.loads(sys.argv[6])
array = nf.memmap(path, "u1", mode)
os.truncate(image, int(size))
first = min(bad)
faults = {}

def note(name, call):
    try:
        call()
    except nf.FaultError as error:
        faults[name] = error.cause, error.errno, str(error.path), error.offset // PAGE
    else:
        faults[name] = "missed"

def scalar():
    array[first * PAGE + 77]

def total():
    array.sum()

def copy():
    array.copy()

def fancy():
    array[np.arange(0, PAGES * PAGE, PAGE)]

def plain_view():
    plain = np.asarray(array)
    plain[first * PAGE + 77]
    _ = None  # the error comes before the next line

def memory():
    ctypes.string_at(array.ctypes.data, PAGES * PAGE)
    _ = None  # as above

def store():
    array[first * PAGE + 77] = 1

# The pages before the bad one are as they were, whether they were read before the fault or after it.
good = [page for page in range(PAGES) if page not in bad]
before = [int(array[page * PAGE + 9]) for page in good[::2] if page < first]
note(way, globals()[way])
wrong, given_up = [], []
for page in good:
    try:
        if array[page * PAGE : (page + 1) * PAGE].tolist() != [page + 1] * PAGE:
            wrong.append(page)
    except nf.FaultError:
        given_up.append(page)
note("again", scalar)
note("check", array.check)
if mode == "r+":
    note("flush", array.flush)
    note("close", array.close)
else:
    array.close()
print(json.dumps({"faults": faults, "before": before, "wrong": wrong, "given_up": given_up}))
"""

READING = ["scalar", "total", "copy", "fancy", "plain_view", "memory"]
WAYS = [(mode, way) for way in READING for mode in ("r", "r+", "c")] + [("r+", "store"), ("c", "store")]


def placements():
    """Where the bad pages are: first and last, alone and several, then anywhere."""
    yield from [[0], [PAGES - 1], [7, 8, 9], [3, 30, 50]]
    anywhere = random.Random(1)
    while True:
        yield sorted(anywhere.sample(range(PAGES), anywhere.choice([1, 1, 2, 5])))


def is_behind_a_run(page, bad):
    """Behind a run of bad pages as many may be given up as the run is long: so a long run takes few faults."""
    return any(page - gap in bad and page - gap - 1 in bad for gap in range(1, len(bad) + 1))


def test_a_block_that_cannot_be_read_is_a_fault_error_that_names_the_page(disk):
    anyhow = random.Random(2)
    ways = [*WAYS]
    anyhow.shuffle(ways)
    for number, bad in zip(range(PLACEMENTS), placements(), strict=False):
        mode, way = ways[number % len(ways)]
        with disk(bad) as bench:
            seen = answer_of(READ, bench.path, bench.image, bench.size, mode, way, bad)
        expected = ["read failed", 5, bench.path, bad[0]]
        where = f"bad pages {bad}, mode {mode}, {way}"
        assert {name: fault for name, fault in seen["faults"].items() if fault != expected} == {}, where
        assert seen["before"] == [page + 1 for page in range(PAGES) if page not in bad][: len(seen["before"]) * 2 : 2]
        assert seen["wrong"] == [], where
        assert [page for page in seen["given_up"] if not is_behind_a_run(page, bad)] == [], where
    record("read-error", placements=PLACEMENTS, deaths=0, missed=0, ways=len(WAYS))


def test_the_pages_that_can_be_read_are_rescued(disk, tmp_path):
    program = """
    import json, os, sys
    import ndfile as nf
    array = nf.memmap(sys.argv[1], "u1", "r")
    os.truncate(sys.argv[2], int(sys.argv[3]))
    print(json.dumps(array.rescue(sys.argv[4])))
    array.close()
    """
    bad = [3, 4, 60]
    with disk(bad) as bench:
        saved = answer_of(program, bench.path, bench.image, bench.size, tmp_path / "saved")
    expected = b"".join(bytes(PAGE) if page in bad else bytes([page + 1]) * PAGE for page in range(PAGES))
    assert saved == (PAGES - len(bad)) * PAGE
    assert (tmp_path / "saved").read_bytes() == expected


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_numpy_dies_where_a_block_cannot_be_read(disk, mode):
    """The control."""
    program = """
    import os, sys
    import numpy as np
    array = np.memmap(sys.argv[1], "u1", sys.argv[4])
    os.truncate(sys.argv[2], int(sys.argv[3]))
    array.sum()
    """
    with disk([9]) as bench:
        assert python(program, bench.path, bench.image, bench.size, mode).returncode == -7


def test_the_device_reads_all_blocks_but_the_bad_ones(disk):
    """The control of the method: the kernel itself says EIO for the bad pages, and for no other."""
    program = """
    import json, os, sys
    fd = os.open(sys.argv[1], os.O_RDONLY)
    os.truncate(sys.argv[2], int(sys.argv[3]))
    bad = []
    for page in range(64):
        try:
            assert os.pread(fd, 4096, page * 4096) == bytes([page + 1]) * 4096
        except OSError as error:
            bad.append([page, error.errno])
    print(json.dumps(bad))
    """
    with disk([5, 40]) as bench:
        assert answer_of(program, bench.path, bench.image, bench.size) == [[5, 5], [40, 5]]
        assert os.path.getsize(bench.path) == PAGES * PAGE
