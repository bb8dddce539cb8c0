"""A full disk under a sparse file: an error for whoever stores, in bounded memory, and nobody dies."""

import contextlib
import ctypes
import os
import random
import re
import threading
import time

import numpy as np
import pytest
from devices import MIB, PAGE, fill_up, loop_disk, memory_disk
from faulty import call, record, rounds

import ndfile as nf

CYCLES = rounds(full=200, short=21)
LARGE_NBYTES = rounds(full=16 << 30, short=1 << 30)

MOST_PRIVATE = 128 * MIB
MOST_MAPPINGS = 400  # an interpreter with NumPy has 200 by itself, the kernel allows 65530


@contextlib.contextmanager
def memory(folder):
    with memory_disk(str(folder / "disk"), 4 * MIB) as disk:
        yield disk


@contextlib.contextmanager
def loop(folder):
    with loop_disk(str(folder / "disk"), folder / "image", 16 * MIB) as disk:
        yield disk


@pytest.fixture(params=[memory, loop], ids=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A folder on a small file system of its own."""
    with request.param(tmp_path) as folder:
        yield folder


# ---- Ways to store into a page, five bytes behind its start ----


def an_item(array, start):
    array[start] = 1


def a_slice(array, start):
    array[start : start + 300] = 1


def many_pages(array, start):
    array[start : start + 40 * PAGE] = 1


def an_operator(array, start):
    part = array[start : start + 300]
    part += 1


def an_out_argument(array, start):
    np.add(np.zeros(300, "u1"), 1, out=array[start : start + 300], casting="unsafe")


def a_plain_view(array, start):
    np.asarray(array)[start] = 1
    _ = None  # the error comes before the next line


def a_foreign_store(array, start):
    ctypes.memset(array.ctypes.data + start, 1, 10)
    _ = None  # as above


WAYS = [an_item, a_slice, many_pages, an_operator, an_out_argument, a_plain_view, a_foreign_store]

SPARSE_NBYTES = 64 * MIB


def make_sparse(path):
    return nf.memmap(path, "u1", "w+", shape=SPARSE_NBYTES, sparse=True)


def open_hole(path):
    with open(path, "wb") as file:
        file.truncate(SPARSE_NBYTES)
    return nf.memmap(path, "u1", "r+")


def fault_of(act, *arguments):
    """What an act is told, or None."""
    try:
        act(*arguments)
    except nf.FaultError as error:
        return [error.cause, error.errno, str(error.path), error.offset // PAGE]


def go_through_cycles(disk, cycles):
    """Fill the disk, store, make space, store; gives what was not as it should be."""
    path = os.path.join(disk, "x.dat")
    wrong = []
    for cycle in range(cycles):
        way, how = WAYS[cycle % len(WAYS)], [make_sparse, open_hole][cycle // len(WAYS) % 2]
        page = random.Random(cycle).randrange(1, SPARSE_NBYTES // PAGE - 41)
        array = how(path)
        array[:3] = 7, 8, 9
        array.flush()
        fill_up(disk)
        expected = ["disk full", 28, path, page]
        # The loss is not forgotten: whoever would say that all is saved says this instead.
        for act, arguments in [
            (way, (array, page * PAGE + 5)),
            (array.flush, ()),
            (array.sync, ()),
            (array.check, ()),
            (array.close, ()),
        ]:
            if act == array.close and array[:3].tolist() != [7, 8, 9]:
                wrong.append([cycle, way.__name__, "what was stored before", array[:3].tolist()])
            told = fault_of(act, *arguments)
            if told != expected:
                wrong.append([cycle, way.__name__, act.__name__, told, expected])
        os.unlink(os.path.join(disk, "filler"))
        os.sync()
        with nf.memmap(path, "u1", "r+") as again:
            way(again, page * PAGE + 5)
            again.flush()
            if again[page * PAGE + 5] != 1 or again[0] != 7:
                wrong.append([cycle, way.__name__, "the same store on a disk with space"])
        del array, again
        os.unlink(path)
    return wrong


def test_each_store_on_a_full_disk_is_a_fault_error_that_names_the_page(disk, request):
    started = time.monotonic()
    assert call(go_through_cycles, disk, CYCLES).result() == []
    record(f"disk-full-{request.node.callspec.id}", started, cycles=CYCLES, deaths=0, missed=0)


def read_a_hole(disk, mode):
    path = os.path.join(disk, "x.dat")
    with open(path, "wb") as file:
        file.truncate(SPARSE_NBYTES)
    fill_up(disk)
    array = nf.memmap(path, "u1", mode)
    return fault_of(array.__getitem__, 9 * PAGE + 5)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_hole_that_cannot_be_read_for_want_of_a_block_is_a_full_disk(tmp_path, mode):
    """A tmpfs takes a block for a hole that is only read, if it is read through a map."""
    with memory(tmp_path) as disk:
        told = call(read_a_hole, disk, mode).result()
    assert told == ["disk full", 28, os.path.join(disk, "x.dat"), 9]


# ---- An array far larger than the disk ----


def note(most):
    """Keep the most private memory and mappings that this process has had."""
    with open("/proc/self/smaps_rollup") as rollup:
        kib = re.findall(r"^Private_\w+:\s+(\d+) kB", rollup.read(), re.MULTILINE)
    with open("/proc/self/maps") as maps:
        mappings = len(maps.readlines())
    most["private_nbytes"] = max(most.get("private_nbytes", 0), sum(map(int, kib)) * 1024)
    most["mappings"] = max(most.get("mappings", 0), mappings)


def watch(most, is_over):
    while not is_over.wait(0.01):
        note(most)


def through_the_class(array):
    array[:] = 1


def through_a_plain_view(array):
    np.asarray(array)[:] = 1
    _ = None  # the error comes before the next line


def through_a_foreign_function(array):
    ctypes.memset(array.ctypes.data, 1, array.nbytes)
    _ = None  # as above


def fill_large(disk, nbytes, way):
    array = nf.memmap(os.path.join(disk, "x.dat"), "u1", "w+", shape=nbytes, sparse=True)
    most, is_over = {}, threading.Event()
    watcher = threading.Thread(target=watch, args=(most, is_over))
    watcher.start()
    told = fault_of(globals()[way], array)
    is_over.set()
    watcher.join()
    note(most)  # a quick fill is over before the first look, and what it took is still there
    return [told, fault_of(array.close), most]


@pytest.mark.parametrize("way", ["through_the_class", "through_a_plain_view", "through_a_foreign_function"])
def test_an_array_far_larger_than_the_disk_is_filled_in_bounded_memory(disk, way, request):
    started = time.monotonic()
    told, refused, most = call(fill_large, disk, LARGE_NBYTES, way).result()
    assert told[:3] == ["disk full", 28, os.path.join(disk, "x.dat")]
    assert 0 < told[3] * PAGE <= 16 * MIB
    assert refused == told
    assert most["private_nbytes"] < MOST_PRIVATE
    assert most["mappings"] < MOST_MAPPINGS
    record(f"disk-full-large-{request.node.callspec.id}", started, nbytes=LARGE_NBYTES, **most)


def fill_like_numpy(path):
    np.memmap(path, "u1", "w+", shape=64 * MIB)[:] = 1


def test_numpy_dies_where_a_sparse_file_has_no_space(disk):
    """The control."""
    assert call(fill_like_numpy, os.path.join(disk, "x.dat")).how == "SIGBUS"
