"""Many threads and processes that replace one file at once: each works on a whole file of its own."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
from faulty import record, rounds

import ndfile as nf

THREADS = 8
PROCESSES = 4
ROUNDS = rounds(full=200, short=12)
ITEMS = 1 << 16

# Every worker has a number of its own, small enough for the items' type.
PROGRAM = """
import sys, threading, warnings
import numpy as np
import ndfile as nf

memmap = {"ndfile": nf.memmap, "numpy": np.memmap}[sys.argv[1]]
path, rounds, first, threads, items = sys.argv[2], *map(int, sys.argv[3:])
wrong, errors = [], []

def work(number):
    for _ in range(rounds):
        try:
            array = memmap(path, "u4", "w+", shape=items)
            array[:] = number
            total = int(array.sum(dtype="u8"))
            if total != number * items:
                wrong.append([number, total])
        except Exception as error:
            errors.append(repr(error))

print("ready", flush=True)
sys.stdin.readline()
workers = [threading.Thread(target=work, args=(first + i,)) for i in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(len(wrong), len(errors), *set(errors), sep="|")
"""


def storm(library, path, processes, threads, rounds):
    """Let the processes run together; give their exit codes and what they say, wrong sums and errors first."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, library, path, *map(str, (rounds, 1 + n * threads, threads, ITEMS))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in started]
    return [process.returncode for process in started], said


def test_whoever_replaces_a_file_that_others_replace_gets_a_whole_one(path):
    started_s = time.monotonic()
    with open(path, "wb") as file:
        file.write(b"old" * 1000)
    codes, said = storm("ndfile", path, PROCESSES, THREADS, ROUNDS)
    assert codes == [0] * PROCESSES
    assert said == ["0|0"] * PROCESSES
    # Nothing is left but the last one's file, and that is of one piece.
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert len(set(np.fromfile(path, "u4"))) == 1
    assert os.path.getsize(path) == 4 * ITEMS
    record("replace-storm", started_s, rounds=ROUNDS * THREADS * PROCESSES, deaths=0, wrong_sums=0)


def test_who_reads_during_a_storm_reads_one_whole_file(path):
    with nf.memmap(path, "u4", "w+", shape=ITEMS) as array:
        array[:] = 99
    mixtures, sums = [], 0
    is_over = threading.Event()

    def read():
        nonlocal sums
        while not is_over.is_set():
            with nf.memmap(path, "u4", "r") as array:
                first = array.copy()
                # Its writer may still be filling it, but nobody cuts it or fills it anew.
                if not set(np.unique(first)) <= {0, first.max()} or len(first) != ITEMS:
                    mixtures.append(np.unique(first).tolist())
                sums += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        codes, said = storm("ndfile", path, 2, 2, ROUNDS)
    finally:
        is_over.set()
        reader.join()
    assert codes == [0, 0]
    assert said == ["0|0"] * 2
    assert mixtures == []
    assert sums > 0


def test_numpy_dies_or_sums_wrong_numbers_in_a_storm(path):
    """The control: at most three tries."""
    for _ in range(3):
        codes, said = storm("numpy", path, PROCESSES, THREADS, 20)
        died = -signal.SIGBUS in codes
        if died or any(not text.startswith("0|") for text in said):
            return
    raise AssertionError(f"numpy.memmap came through it: {codes}, {said}")
