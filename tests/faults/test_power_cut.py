"""The power fails at any instant: what was promised is there, and nothing is half there."""

import os
import time

import numpy as np
import pytest
from faulty import record, rounds
from power import (
    SHAPE,
    arrays,
    changed,
    changes,
    cut,
    cut_often,
    each_item,
    first_state,
    judging,
    more_rows,
    nothing,
    states,
    worked,
)
from recorded_disk import DISK_NBYTES, SECTOR, recorded_disk

import ndfile as nf
from ndfile.errors import NeedsRecoveryError

STATES = rounds(full=1000, short=100)
STEPS = 24

# A recovery takes a disk of its own.
RECOVERIES, CUTS = rounds(full=200, short=20), 20

# ---- save and create ----


def opened(path):
    """A function that reads the one array of a file."""

    def look(folder):
        with nf.open(os.path.join(folder, path)) as found:
            yield np.array(found["data"] if isinstance(found, nf.Archive) else found)

    return look


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "bin"])
def test_of_a_saved_file_the_old_one_or_the_new_one_is_there_and_the_new_one_if_save_returned(tmp_path, suffix):
    started_s = time.monotonic()
    name = f"x.{suffix}"

    def work(folder, history):
        for array in arrays(STEPS):
            with history.step(array):
                nf.save(os.path.join(folder, name), array)

    found = cut(tmp_path, work, opened(name), STATES)
    assert set(found) == {"whole"}
    record(f"power-cut-save-{suffix}", started_s, states=STATES, torn=0, lost=0)


@pytest.mark.parametrize("suffix", ["npy", "safetensors", "bin"])
def test_of_a_created_file_the_old_one_or_the_new_one_is_there_and_the_new_one_if_create_returned(tmp_path, suffix):
    started_s = time.monotonic()
    name = f"x.{suffix}"

    def work(folder, history):
        for number, array in enumerate(arrays(STEPS), 1):
            new = np.full_like(array, number)
            with history.step(new):
                nf.create(os.path.join(folder, name), new.shape, new.dtype, fill=number, overwrite=True).close()

    found = cut(tmp_path, work, opened(name), STATES)
    assert set(found) == {"whole"}
    record(f"power-cut-create-{suffix}", started_s, states=STATES, torn=0, lost=0)


# ---- Changes in place ----


def test_what_was_flushed_is_there_and_what_was_not_is_there_item_by_item(tmp_path):
    started_s = time.monotonic()

    def work(folder, history):
        first = first_state()
        with history.step(first):
            array = nf.memmap(os.path.join(folder, "x.dat"), first.dtype, "w+", shape=first.shape)
            array[:] = first
            array.sync()  # its name too
        for state, rows in changes(first, STEPS):
            with history.step(state, between=each_item):
                array[rows] = state[rows]
                for row in rows:
                    array[row].flush()
        array.close()

    def look(folder):
        with nf.memmap(os.path.join(folder, "x.dat"), "i8", "r", shape=SHAPE) as array:
            yield np.array(array)

    assert set(cut(tmp_path, work, look, STATES)) == {"whole"}
    record("power-cut-flush", started_s, states=STATES, lost=0)


# ---- Growth ----


def rows_of(count, seed=2):
    """The rows of an array, each of more than a page."""
    return np.random.default_rng(seed).integers(0, 1 << 60, (count, 700))


def appended(path, rows):
    """A function that reads an array, and appends to it what comes next."""

    def look(folder):
        name = os.path.join(folder, path)
        with nf.open(name) as array:
            found = np.array(array)
        yield found
        with nf.open(name, mode="r+") as array:
            array.append(rows[-1], sync=True)  # what the cut left behind the end is in nobody's way
        with nf.open(name) as array:
            assert np.array_equal(array, np.concatenate([found, rows[-1:]]))

    return look


def every_one(step):
    return True


def every_third(step):
    return step % 3 == 0


@pytest.mark.parametrize("suffix", ["npy", "bin"])
@pytest.mark.parametrize("is_promised", [every_one, every_third])
def test_rows_that_were_appended_with_sync_are_there(tmp_path, suffix, is_promised):
    started_s = time.monotonic()
    rows = rows_of(5 * STEPS)
    name = f"x.{suffix}"
    # A file that says how many rows it has never says so before they are there, if all of them are synced.
    between = nothing if suffix == "npy" and is_promised is every_one else more_rows

    def work(folder, history):
        path = os.path.join(folder, name)
        with history.step(rows[:0]):
            array = nf.create(path, (0, 700), rows.dtype)
            array.sync()
        for step in range(1, STEPS):
            start, end = len(array), len(array) + step % 5 + 1
            with history.step(rows[:end], between=between, is_promised=is_promised(step)):
                array.append(rows[start:end], sync=is_promised(step))
            if step % 7 == 0:
                # Closing gives space back, which makes no row durable and loses none.
                array.close()
                array = nf.open(path, mode="r+")
        array.close()

    found = cut(tmp_path, work, appended(name, rows), STATES)
    assert set(found) == {"whole"}
    record(f"power-cut-append-{suffix}-{is_promised.__name__}", started_s, states=STATES, torn=0, lost=0)


# Its header says the number of rows across the border of two sectors.
LONG = np.dtype([("n" * 436, "<i8")])


@pytest.mark.parametrize("dtype", [np.dtype("<i8"), LONG], ids=["short-header", "long-header"])
def test_the_first_append_to_a_file_of_numpys_keeps_it_whole(tmp_path, dtype):
    """It rewrites the header."""
    started_s = time.monotonic()
    every = np.random.default_rng(4).integers(0, 1 << 60, (STEPS, 9000)).view(dtype)
    count = every.shape[1] - 1

    def work(folder, history):
        path = os.path.join(folder, "x.npy")
        for values in every:
            with history.step(values[:count]):
                with open(f"{path}.new", "wb") as file:
                    np.save(file, values[:count])
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(f"{path}.new", path)
                os.sync()
            with history.step(values), nf.open(path, mode="r+") as array:
                array.append(values[count:], sync=True)

    def look(folder):
        path = os.path.join(folder, "x.npy")
        nf.recover(path)
        with nf.open(path) as array:
            yield np.array(array)

    assert set(cut(tmp_path, work, look, STATES)) == {"whole"}
    kind = "long" if dtype == LONG else "short"
    record(f"power-cut-first-append-{kind}-header", started_s, states=STATES, torn=0, lost=0)


def test_rows_that_were_appended_without_sync_are_lost(tmp_path):
    """The control."""
    rows = rows_of(2 * STEPS)

    def work(folder, history):
        with history.step(rows[:0]):
            array = nf.create(os.path.join(folder, "x.npy"), (0, 700), rows.dtype)
            array.sync()
        for end in range(1, STEPS):
            with history.step(rows[:end], between=more_rows):
                array.append(rows[end - 1])
            os.sync()
        array.close()

    assert cut(tmp_path, work, opened("x.npy"), STATES)["lost"]


# ---- All or nothing ----


def a_block(array, state, history, random):
    state, places = changed(state, random)
    with history.step(state), array.atomic():
        array[places] = state[places]
    return state


def a_block_that_grows(array, state, history, random):
    state, places = changed(state, random)
    state = np.concatenate([state, random.integers(0, 1 << 60, (8, SHAPE[1]))])
    with history.step(state), array.atomic():
        array[places] = state[places]
        array.append(state[-8:])
    return state


def a_block_that_shrinks(array, state, history, random):
    state, places = changed(state[:-3], random)
    with history.step(state), array.atomic():
        array.resize(len(state))
        array[places] = state[places]
    return state


def plain_stores(array, state, history, random):
    state, places = changed(state, random)
    with history.step(state, between=each_item):
        array[places] = state[places]
        sync_file_alone(array)  # the journal of the block before may still be on the disk
        array.flush()
    return state


def plain_rows(array, state, history, random):
    rows = random.integers(0, 1 << 60, (5, SHAPE[1]))
    state = np.concatenate([state, rows])
    with history.step(state, between=more_rows, is_promised=False):
        array.append(rows)
        sync_file_alone(array)
    with history.step(state, between=more_rows):
        array.sync()
    return state


def a_plain_shrink(array, state, history, random):
    with history.step(state[:-2], is_promised=False):
        array.resize(len(state) - 2)
        sync_file_alone(array)
    with history.step(state[:-2]):
        array.sync()
    return state[:-2]


def a_plain_growth(array, state, history, random):
    state = np.concatenate([state, np.zeros((2, SHAPE[1]), state.dtype)])
    with history.step(state, is_promised=False):
        array.resize(len(state))
        sync_file_alone(array)
    with history.step(state):
        array.sync()
    return state


def sync_file_alone(array):
    """What the kernel does at any time, and a stranger may."""
    with open(array.filename, "rb") as file:
        os.fsync(file.fileno())


KINDS = [
    a_block,
    plain_stores,
    a_block_that_grows,
    a_block,
    plain_rows,
    a_block_that_shrinks,
    plain_rows,
    a_block,
    a_plain_shrink,
    a_block,
    a_plain_growth,
]


def steps_of(folder, name, history):
    """Blocks that change pages all over an array, some that grow or shrink it too, and plain changes between them."""
    path = os.path.join(folder, name)
    random, state = np.random.default_rng(3), first_state()
    with history.step(state):
        array = nf.create(path, state.shape, state.dtype)
        array[:] = state
        array.sync()
    for step in range(STEPS):
        state = KINDS[step % len(KINDS)](array, state, history, random)
        if step % 5 == 4:
            array.close()
            array = nf.open(path, mode="r+")
    array.close()


def recover(path):
    nf.recover(path)


def open_to_write(path):
    nf.open(path, mode="r+").close()


class Recovering:
    """Reads an array as it is found, then as it is after its recovery, and uses it."""

    def __init__(self, name, way):
        self.name, self.way, self.pending = name, way, 0

    def __call__(self, folder):
        path = os.path.join(folder, self.name)
        before = None
        try:
            nf.info(path)
            before = self.read(path)
            yield before
        except NeedsRecoveryError:
            self.pending += 1
        self.way(path)
        after = self.read(path)
        yield after
        assert before is None or np.array_equal(before, after), (
            "nothing was pending, and the recovery changed the array"
        )
        assert nf.recover(path) != "replayed"
        with nf.open(path, mode="r+") as array, array.atomic():
            array[::2] = 7
        after[::2] = 7
        assert np.array_equal(self.read(path), after)

    def read(self, path):
        with nf.open(path) as array:
            return np.array(array)


@pytest.mark.parametrize("way", [recover, open_to_write])
@pytest.mark.parametrize("suffix", ["npy", "bin"])
def test_a_block_is_there_as_a_whole_or_not_at_all_and_there_if_it_ended(tmp_path, suffix, way):
    started_s = time.monotonic()
    name = f"x.{suffix}"
    look = Recovering(name, way)
    found = cut(tmp_path, lambda folder, history: steps_of(folder, name, history), look, STATES)
    assert set(found) == {"whole"}
    assert look.pending  # the cuts did hit commits
    record(f"power-cut-atomic-{suffix}-{way.__name__}", started_s, states=STATES, replayed=look.pending, torn=0, lost=0)


def test_a_recovery_that_is_cut_is_made_good_by_the_next(tmp_path):
    started_s = time.monotonic()
    look = Recovering("x.npy", recover)
    disk, history = worked(tmp_path, lambda folder, history: steps_of(folder, "x.npy", history))
    judge = judging(history, look)
    content, found, recoveries = np.empty((DISK_NBYTES // SECTOR, SECTOR), "u1"), set(), 0
    for position in states(disk, history.span, RECOVERIES, content):
        with recorded_disk(tmp_path / "again", content) as again:
            is_replayed = nf.recover(os.path.join(again.folder, "x.npy")) == "replayed"
            end = again.position
        if is_replayed:
            recoveries += 1
            found |= cut_often(again, tmp_path, (0, end), CUTS, lambda folder, _, at=position: judge(folder, at)).keys()
    assert found == {"whole"}
    record("power-cut-recovery", started_s, recoveries=recoveries, states=recoveries * CUTS, torn=0, lost=0)
