"""A ceiling on resident memory holds whatever touches the pages, and loses nothing.

The ceiling goes by how soon its thread is let run: where all processors are busy with other programs, it may be too
late once. So the least of three tries counts. Each runs in a process of its own. What is resident is the process's
pages of files, above what was there before. A thread of C's looks at it, since one of Python's would wait for the
interpreter.
"""

import ctypes
import os
import subprocess
import threading
import time

import numpy as np
import pytest
from faulty import call, record

import ndfile as nf

MIB = 1 << 20
SIZE = 1 << 30
CEILING = 128 * MIB
SLACK = 64 * MIB

SAMPLER = r"""
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static volatile long most;
static volatile int is_over;
static pthread_t thread;

static long pages(int fd) {
    char text[128] = {0};
    long size, resident, shared = 0;
    if (pread(fd, text, sizeof text - 1, 0) > 0) sscanf(text, "%ld %ld %ld", &size, &resident, &shared);
    return shared;
}
static void *sample(void *ignored) {
    int fd = open("/proc/self/statm", O_RDONLY);
    long before = pages(fd);
    while (!is_over) {
        long now = pages(fd) - before;
        if (now > most) most = now;
        nanosleep(&(struct timespec){.tv_nsec = 300 * 1000}, NULL);
    }
    close(fd);
    return ignored;
}
void start(void) { pthread_create(&thread, NULL, sample, NULL); }
long stop(void) { is_over = 1; pthread_join(thread, NULL); return most * sysconf(_SC_PAGESIZE); }
"""


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """A library that looks at resident memory every 0.3 ms."""
    folder = tmp_path_factory.mktemp("sampler")
    (folder / "sampler.c").write_text(SAMPLER)
    command = [
        "gcc",
        "-O1",
        "-pthread",
        "-shared",
        "-fPIC",
        str(folder / "sampler.c"),
        "-o",
        str(folder / "sampler.so"),
    ]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc for the library that looks at memory")
    return str(folder / "sampler.so")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files of 1 GiB: a hole, and one with numbers on the disk."""
    folder = tmp_path_factory.mktemp("large")
    with open(folder / "hole", "wb") as file:
        file.truncate(SIZE)
    piece = np.arange(MIB, dtype="u8")
    with open(folder / "numbers", "wb") as file:
        file.writelines(piece + start for start in range(0, SIZE, piece.nbytes))
    yield {name: str(folder / name) for name in ("hole", "numbers")}
    for name in ("hole", "numbers"):
        os.remove(folder / name)


def loop(a):
    for start in range(0, len(a), MIB):
        a[start : start + MIB].sum()


def random(a):
    chance = np.random.default_rng(threading.get_ident())
    for _ in range(20):
        np.take(a, chance.integers(0, len(a), 200))


def backwards(a):
    for start in range(len(a), 0, -MIB):
        a[start - MIB : start].max()


TOUCHES = {"loop": loop, "sum": np.sum, "random": random, "backwards": backwards}


def touch(path, library, mode, touches, threads, ceiling):
    """The most that was resident while so many threads touch a plain array."""
    a = nf.memmap(path, "u8", mode, max_rss=ceiling)
    plain, sampled = np.asarray(a), ctypes.CDLL(library)
    sampled.stop.restype = ctypes.c_long
    time.sleep(0.1)
    sampled.start()
    workers = [threading.Thread(target=TOUCHES[touches], args=(plain,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sampled.stop()


def least(function, most_nbytes, *arguments):
    """What `function` gives in a new process, at the first of three times that it is less than `most_nbytes`."""
    for _ in range(3):
        nbytes = call(function, *arguments).result()
        if nbytes < most_nbytes:
            break
    return nbytes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("touches", TOUCHES)
@pytest.mark.parametrize(("name", "mode"), [("hole", "r"), ("numbers", "r"), ("numbers", "r+")])
def test_plain_arrays_stay_below_the_ceiling_and_64_mib(sampler, files, name, mode, touches, threads):
    started = time.monotonic()
    most = least(touch, CEILING + SLACK, files[name], sampler, mode, touches, threads, CEILING)
    record(f"max-rss-{name}-{mode.strip('+')}-{touches}-{threads}", started, ceiling=CEILING, most=most)
    assert most < CEILING + SLACK


@pytest.mark.parametrize("touches", ["loop", "sum"])
def test_without_a_ceiling_all_of_the_file_becomes_resident(sampler, files, touches):
    """The control."""
    assert call(touch, files["numbers"], sampler, "r", touches, 1, None).result() > SIZE // 2


def write_all(path, library, ceiling, seed):
    """Store random bytes by plain stores, while another mapping is read; the most that was resident."""
    a = nf.memmap(path, "u8", "r+", max_rss=ceiling)
    other = nf.memmap(f"{path}.other", "u8", "r", max_rss=ceiling // 2)
    sampled, is_over = ctypes.CDLL(library), threading.Event()
    sampled.stop.restype = ctypes.c_long

    def read():
        while not is_over.is_set():
            loop(np.asarray(other))

    reader = threading.Thread(target=read)
    time.sleep(0.1)
    sampled.start()
    reader.start()
    plain, chance = np.asarray(a), np.random.default_rng(seed)
    for start in range(0, len(plain), MIB):
        plain[start : start + MIB] = chance.integers(0, 2**63, len(plain[start : start + MIB]), "u8")
    is_over.set()
    reader.join()
    return sampled.stop()


def test_what_is_stored_under_a_ceiling_is_in_the_file_byte_for_byte(sampler, tmp_path):
    path = str(tmp_path / "x")
    for name in (path, f"{path}.other"):
        with open(name, "wb") as file:
            file.truncate(SIZE // 2)
    limit = 16 * MIB + SLACK + 8 * MIB + SLACK
    assert least(write_all, limit, path, sampler, 16 * MIB, 7) < limit
    chance = np.random.default_rng(7)
    with open(path, "rb") as file:
        for _ in range(SIZE // 2 // (8 * MIB)):
            assert file.read(8 * MIB) == chance.integers(0, 2**63, MIB, "u8").tobytes()


def fork_and_touch(path, library, ceiling):
    """The most that was resident in a child that has the parent's mapping."""
    a = nf.memmap(path, "u8", "r", max_rss=ceiling)
    inlet, outlet = os.pipe()
    pid = os.fork()
    if pid == 0:
        sampled = ctypes.CDLL(library)
        sampled.stop.restype = ctypes.c_long
        sampled.start()
        np.asarray(a).sum()
        os.write(outlet, str(sampled.stop()).encode())
        os._exit(0)
    np.asarray(a).sum()
    os.waitpid(pid, 0)
    return int(os.read(inlet, 99))


def test_a_forked_child_stays_below_the_ceiling_too(sampler, files):
    limit = CEILING + SLACK
    assert least(fork_and_touch, limit, files["numbers"], sampler, CEILING) < limit
