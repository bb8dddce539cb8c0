"""A device that cannot read a block: an error that names the page, and the good pages stay as they are.

The file lies on a loop device. Its bad pages are moved to the device's last blocks, and the backing file is cut in
front of these once the file system is mounted: the kernel answers EIO for them, and for nothing else.
"""

import contextlib
import ctypes
import os
import random
import time

import numpy as np
import pytest
from devices import PAGE, make_image, mounted, move_page
from faulty import call, record, rounds

import ndfile as nf

PLACEMENTS = rounds(full=100, short=12)

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


# ---- Ways to use an array whose first bad page begins at `start` ----


def scalar(array, start):
    array[start + 77]


def total(array, start):
    array.sum()


def copy(array, start):
    array.copy()


def fancy(array, start):
    array[np.arange(0, PAGES * PAGE, PAGE)]


def plain_view(array, start):
    np.asarray(array)[start + 77]
    _ = None  # the error comes before the next line


def memory(array, start):
    ctypes.string_at(array.ctypes.data, PAGES * PAGE)
    _ = None  # as above


def store(array, start):
    array[start + 77] = 1


READING = [scalar, total, copy, fancy, plain_view, memory]
WAYS = [(mode, way.__name__) for way in READING for mode in ("r", "r+", "c")] + [("r+", "store"), ("c", "store")]


def fault_of(act, *arguments):
    """What an act is told, or None."""
    try:
        act(*arguments)
    except nf.FaultError as error:
        return [error.cause, error.errno, str(error.path), error.offset // PAGE]


def use(path, image, size, mode, way, bad):
    """Use an array in which some pages are bad: what is told, and which good pages are wrong or given up."""
    array = nf.memmap(path, "u1", mode)
    os.truncate(image, size)
    start, good = min(bad) * PAGE, [page for page in range(PAGES) if page not in bad]
    # Some good pages are read before the fault, the others after it.
    wrong = [page for page in good[::2] if page < min(bad) and array[page * PAGE + 9] != page + 1]
    told = {way: fault_of(globals()[way], array, start), "again": fault_of(scalar, array, start)}
    given_up = []
    for page in good:
        try:
            if array[page * PAGE : (page + 1) * PAGE].tolist() != [page + 1] * PAGE:
                wrong.append(page)
        except nf.FaultError:
            given_up.append(page)
    told["check"] = fault_of(array.check)
    if mode == "r+":
        told["flush"] = fault_of(array.flush)
        told["close"] = fault_of(array.close)
    else:
        array.close()
    return {"told": told, "wrong": wrong, "given_up": given_up}


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
    started = time.monotonic()
    ways = random.Random(2).sample(WAYS, len(WAYS))
    for number, bad in zip(range(PLACEMENTS), placements(), strict=False):
        mode, way = ways[number % len(ways)]
        with disk(bad) as bench:
            seen = call(use, bench.path, bench.image, bench.size, mode, way, bad).result()
        where = f"bad pages {bad}, mode {mode}, {way}"
        expected = {act: ["read failed", 5, bench.path, bad[0]] for act in seen["told"]}
        assert seen["told"] == expected, where
        assert seen["wrong"] == [], where
        assert [page for page in seen["given_up"] if not is_behind_a_run(page, bad)] == [], where
    record("read-error", started, placements=PLACEMENTS, ways=len(WAYS), deaths=0, missed=0)


def rescue(path, image, size, new):
    array = nf.memmap(path, "u1", "r")
    os.truncate(image, size)
    saved = array.rescue(new)
    array.close()
    return saved


def test_the_pages_that_can_be_read_are_rescued(disk, tmp_path):
    bad = [3, 4, 60]
    with disk(bad) as bench:
        saved = call(rescue, bench.path, bench.image, bench.size, str(tmp_path / "saved")).result()
    expected = b"".join(bytes(PAGE) if page in bad else bytes([page + 1]) * PAGE for page in range(PAGES))
    assert saved == (PAGES - len(bad)) * PAGE
    assert (tmp_path / "saved").read_bytes() == expected


def sum_like_numpy(path, image, size, mode):
    array = np.memmap(path, "u1", mode)
    os.truncate(image, size)
    array.sum()


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_numpy_dies_where_a_block_cannot_be_read(disk, mode):
    """The control."""
    with disk([9]) as bench:
        assert call(sum_like_numpy, bench.path, bench.image, bench.size, mode).how == "SIGBUS"


def pages_that_fail(path, image, size):
    fd = os.open(path, os.O_RDONLY)
    os.truncate(image, size)
    failed = []
    for page in range(PAGES):
        try:
            assert os.pread(fd, PAGE, page * PAGE) == bytes([page + 1]) * PAGE
        except OSError as error:
            failed.append([page, error.errno])
    os.close(fd)
    return failed


def test_the_device_reads_all_blocks_but_the_bad_ones(disk):
    """The control of the method: the kernel itself says EIO for the bad pages, and for no other."""
    with disk([5, 40]) as bench:
        assert call(pages_that_fail, bench.path, bench.image, bench.size).result() == [[5, 5], [40, 5]]
