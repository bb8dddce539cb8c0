"""kill -9 at any instant of a save: the file is the old one or the new one, and at most a temporary file is left."""

import os
import random
import signal
import time

import numpy as np
import pytest
from faulty import record, rounds

import ndfile as nf

KILLS = rounds(full=4000, short=80)

# Different types, shapes and sizes: a mixture of the two cannot be opened, or is neither.
OLD = np.arange(700_000, dtype="<i4").reshape(700, 1000)
NEW = np.linspace(0, 1, 200_003)

# Longer than a save takes, with time to spare for the first.
MOST_S = 0.02


def save_by_turns(save, path):
    random.seed()  # a fork draws its parent's lots
    turn = random.randrange(2)
    while True:
        save(path, (NEW, OLD)[turn % 2])
        turn += 1


def killed(save, path):
    """Save in another process until it is killed."""
    ready, ready_there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(ready_there, b"!")
            save_by_turns(save, path)
        finally:
            os._exit(1)
    os.close(ready_there)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(random.uniform(0, MOST_S))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the writer ended by itself"


def state_of(path):
    """'old', 'new', or what is wrong."""
    try:
        opened = nf.open(path)
    except (ValueError, OSError) as error:
        return repr(error)
    with opened:
        array = opened["data"] if isinstance(opened, nf.Archive) else opened
        for name, wanted in (("old", OLD), ("new", NEW)):
            if array.dtype == wanted.dtype and np.array_equal(array, wanted):
                return name
        return f"{array.dtype} {array.shape} of other values"


def kill_often(save, path, kills):
    """Give how often the file was in which state, and the most temporary files that one kill left."""
    states, most_left = {}, 0
    folder, name = os.path.split(path)
    save(path, OLD)
    for _ in range(kills):
        killed(save, path)
        state = state_of(path)
        states[state] = states.get(state, 0) + 1
        left = set(os.listdir(folder)) - {name, f"{name}.json"}
        assert all(one.startswith(".ndfile-") for one in left), left
        most_left = max(most_left, len(left))
        for one in left:
            os.unlink(os.path.join(folder, one))
    return states, most_left


def saved(path, array):
    nf.save(path, array, sync=random.random() < 0.3)


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "bin"])
def test_a_killed_save_leaves_the_old_file_or_the_new_one(tmp_path, suffix):
    started_s = time.monotonic()
    path = str(tmp_path / f"x.{suffix}")
    states, most_left = kill_often(saved, path, KILLS)
    assert set(states) == {"old", "new"}
    assert most_left <= (2 if suffix == "bin" else 1)  # the sidecar is a file too
    saved(path, NEW)  # nothing that was left is in the way
    assert state_of(path) == "new"
    if suffix == "bin":
        with open(f"{path}.json") as sidecar:
            assert "previous" not in sidecar.read()
    record(f"save-kill-{suffix}", started_s, kills=KILLS, torn=0, most_left=most_left)


def test_a_killed_create_leaves_the_old_file_or_the_new_one(tmp_path):
    def create(path, array):
        nf.create(path, array.shape, array.dtype, fill=array.flat[1], overwrite=True).close()

    path = str(tmp_path / "x.npy")
    create(path, OLD)
    seen = set()
    for _ in range(KILLS // 2):
        killed(create, path)
        with nf.open(path) as array:
            wanted = OLD if array.dtype == OLD.dtype else NEW
            assert array.shape == wanted.shape
            assert (array == wanted.flat[1]).all()
            seen.add(array.shape)
        for name in set(os.listdir(tmp_path)) - {"x.npy"}:
            assert name.startswith(".ndfile-")
            os.unlink(tmp_path / name)
    assert seen == {OLD.shape, NEW.shape}


def test_what_numpy_saves_is_torn(tmp_path):
    """The control: the harness kills in the middle of a save."""
    states, _ = kill_often(np.save, str(tmp_path / "x.npy"), 40)
    assert set(states) - {"old", "new"}
