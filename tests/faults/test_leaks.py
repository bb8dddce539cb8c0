"""Opening and closing a great many times leaves descriptors, mappings and memory as they were."""

import pytest

# A program for an interpreter of its own: `work(i)` opens and lets go of a few arrays; what is left is measured
# after each of ten rounds, of which the first warms up.
PROGRAM = """
import gc, os, sys
import numpy as np
import ndfile as nf

folder, rounds, each = sys.argv[1], 10, int(sys.argv[2])
path, new = os.path.join(folder, "x.dat"), os.path.join(folder, "new.dat")
np.arange(3000, dtype="f4").tofile(path)
kept = []

def refused(*args, **kwargs):
    try:
        nf.memmap(*args, **kwargs)
    except (ValueError, TypeError, OSError):
        return
    raise AssertionError(args, kwargs)

def use(i):
    mode = ("r", "r+", "c")[i % 3]
    array = nf.memmap(path, "f4", mode, 4 * (i % 50), (10, 3))
    kind = i % 10
    if kind < 3:
        array.close()
    elif kind == 3:
        view = array[1:, ::2].T
        del array
        view.sum()
    elif kind == 4:
        try:
            rows = array[1]
            array.close()
        except BufferError:
            del rows
            array.close()
    elif kind == 5:
        with array:
            array + 1
    elif kind == 6:
        array.close()
        try:
            array[0]
        except nf.ClosedError:
            pass
    elif kind == 7:
        array.flush()
        memoryview(array).release()
    elif kind == 8:
        array.me = array
    else:
        array[array > 5].copy()

def fail(i):
    refused(path, "f4", "r", shape=10**6)
    refused(path, "S7", "c")
    refused(path, "f4", "r+", shape=(3, -1))
    refused(path, "f4", "w+")
    refused(new, "u1", "w+", shape=2**62)
    refused(folder, "u1", "r")
    with open(path, "rb") as file:
        refused(file, "u1", "r+")

def make(i):
    nf.memmap(new, "u1", "w+", shape=5000)[-1] = 1
    os.unlink(new)

WORK

def state():
    gc.collect()
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    with open("/proc/self/status") as status:
        (resident,) = [int(line.split()[1]) for line in status if line.startswith("VmRSS")]
    return len(os.listdir("/proc/self/fd")), sum(folder in line for line in lines), len(lines), resident

states = []
for turn in range(rounds):
    for i in range(each):
        work(i)
    states.append(state())
descriptors, ours, maps, resident = zip(*states[1:])
print(max(descriptors) - descriptors[0], max(ours), max(maps) - maps[0], resident[-1] - resident[0])
"""

MIXED = """
def work(i):
    use(i)
    if i % 20 == 0:
        fail(i)
        make(i)
"""


def leaked(run_python, tmp_path, work, each):
    """Descriptors, mappings of files, mappings of any kind, and KiB of memory gained after the first round."""
    return tuple(map(int, run_python(PROGRAM.replace("WORK", work), tmp_path, each).stdout.split()))


def test_a_hundred_thousand_openings_leave_nothing_behind(run_python, tmp_path):
    descriptors, mappings_of_files, mappings, resident_kib = leaked(run_python, tmp_path, MIXED, 10_000)
    assert descriptors == 0
    assert mappings_of_files == 0
    assert mappings <= 4  # the allocator's own
    assert resident_kib < 1024  # 90,000 openings at 12 bytes each would show


@pytest.mark.parametrize(
    ("work", "shown"),
    [
        ("def work(i): kept.append(nf.memmap(path, 'u1', 'r'))", 1),
        ("def work(i): kept.append(nf.memmap(path, 'u1', 'r+'))", 0),
        ("def work(i): kept.append(os.open(path, os.O_RDONLY))", 0),
        ("def work(i): kept.append(bytes(20_000))", 3),
    ],
    ids=["an array kept", "an array that writes kept", "a descriptor kept", "memory kept"],
)
def test_what_is_kept_is_found(run_python, tmp_path, work, shown):
    assert leaked(run_python, tmp_path, work, 20)[shown] > (1024 if shown == 3 else 10)
