"""The power is cut at any moment: whatever of the pending sectors, sizes and names the disk has, all is as it was or as
it was to be.

A preloaded library records what an operation of ours does to its files. A model says which states of the disk that
permits (`sectors.py`); each is built as files and opened. What was acknowledged is there, and nothing that is neither
before nor after.
"""

import contextlib
import gc
import io
import itertools
import os
import pathlib
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from faulty import PAGE, call, record, rounds, say
from pending import Campaign, Promise, Recorder, compiled_recorder, fail_next, folder_in_memory, is_same, put, taken
from sectors import SECTOR

import ndfile as nf

# How many states of each scenario are built, opened and recovered; a scenario that has fewer is repeated so often.
STATES = rounds(full=9_000, short=100)
MOST_ROUNDS = 20


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    return compiled_recorder(tmp_path_factory.mktemp("recorder"))


# ---- What is done to our files ----


class Kind(NamedTuple):
    """A kind of file: its name, what is in it first, how it is made, and what must be said to open it."""

    name: str
    first: np.ndarray
    make: Callable[[str, np.ndarray], None]
    hints: dict[str, Any]

    def values(self, path, mode):
        with nf.open(path, mode, **self.hints) as array:
            return np.array(array, order="K")


def few(shape, order="C"):
    """Mostly zeros, so that few sectors of a journal's page are written; but every page has something to lose."""
    values = np.zeros(shape, "<i8", order)
    values.ravel("K")[69::256] = np.arange(1, values.size // 256 + 1)
    return values


def with_a_header_that_breaks():
    """An array whose header has its shape in two sectors, the number of rows in the first."""
    for width in range(400, 600):
        values = np.zeros(24, [("x" * width, "<i8", 64)])
        text = io.BytesIO()
        np.lib.format.write_array_header_1_0(text, np.lib.format.header_data_from_array_1_0(values))
        if text.getvalue().index(b"(24,)") == SECTOR - 3:
            return values
    raise AssertionError("no such header")


def with_a_journal(path, values):
    """A file whose last commit was cut before any of it came into the file: with it, it is the values."""
    nf.save(path, np.where(np.arange(len(values))[:, None] % 5, values, 0))
    before = pathlib.Path(path).read_bytes()
    with nf.open(path, "r+") as array:
        with array.atomic():
            store(array, values)
        journal = pathlib.Path(path + ".ndfile-journal").read_bytes()
    pathlib.Path(path).write_bytes(before)
    pathlib.Path(path + ".ndfile-journal").write_bytes(b"NDFJRNL1" + journal[8:])


NPY = Kind("x.npy", few((24, 64)), nf.save, {})
LARGE = Kind("x.npy", few((136, 64)), nf.save, {})  # more than a journal has space for at first
LEFT = Kind("x.npy", few((24, 64)) + 100, with_a_journal, {})
COLUMNS = Kind("x.npy", few((64, 24), "F"), nf.save, {})
BROKEN = Kind("x.npy", with_a_header_that_breaks(), nf.save, {})
RAW = Kind("x.bin", few((24, 64)), nf.save, {})
BARE = Kind("x.raw", few(24 * 64), lambda path, values: values.tofile(path), {"dtype": "<i8"})


def numbers_of(values):
    """The numbers in an array, in the order of the file."""
    return values.ravel("K").view("<i8")


def scattered(values, lots, mark):
    """Three changes in different pages."""
    after = values.copy(order="K")
    numbers = numbers_of(after)
    pages = range(0, len(numbers), PAGE // 8)
    for place in lots.sample(pages, min(3, len(pages))):
        numbers[min(place + lots.randrange(PAGE // 8), len(numbers) - 1)] = mark
    return after


def store(array, after):
    """Store only what is different."""
    for place in np.argwhere(np.asarray(array) != after):
        array[tuple(place)] = after[tuple(place)]


def grown(values, rows, mark):
    """More rows (of the file, be they columns), with a number in each sector."""
    axis = values.ndim - 1 if values.flags.fnc else 0
    shape = (*values.shape[:axis], rows, *values.shape[axis + 1 :])
    more = np.zeros(shape, values.dtype, order="F" if axis else "C")
    numbers_of(more)[7::64] = mark
    return more, np.asarray(np.concatenate([values, more], axis), order="F" if axis else "C")


def commit(promise, lots, array, mark=100):
    after = scattered(promise.last, lots, mark)
    with promise.step(after), array.atomic():
        store(array, after)


def append(promise, array, rows=2, sync=True):
    """A raw file has as many rows as its size says, so that they may be there before their numbers are."""
    more, after = grown(promise.last, rows, 10 + len(promise.values))
    is_raw = not promise.path.endswith(".npy")
    with promise.step(after, loose=is_raw or not sync, acknowledged=sync):
        array.append(more, sync=sync)


def flushed_stores(promise, array, more):
    """Change again what was changed last, and flush."""
    after = promise.last.copy()
    after[after >= 100] += more
    with promise.step(after, loose=True):
        store(array, after)
        array.flush()


def one_commit(promise, lots, array):
    commit(promise, lots, array)


def two_commits(promise, lots, array):
    commit(promise, lots, array, 100)
    commit(promise, lots, array, 200)


def a_commit_that_appends(promise, lots, array):
    stored = scattered(promise.last, lots, 100)
    more, after = grown(stored, 2, 101)
    with promise.step(after), array.atomic():
        store(array, stored)
        array.append(more)
    commit(promise, lots, array, 200)


def a_commit_that_shrinks(promise, lots, array):
    after = scattered(promise.last, lots, 100)[:17]
    with promise.step(after), array.atomic():
        array.resize(17)
        store(array, after)
    commit(promise, lots, array, 200)


def a_commit_that_grows_by_zeros(promise, lots, array):
    stored = scattered(promise.last, lots, 100)
    with promise.step(grown(stored, 30, 0)[1]), array.atomic():
        store(array, stored)
        array.resize(54)


def a_commit_after_one_rolled_back(promise, lots, array):
    with contextlib.suppress(InterruptedError), array.atomic():
        array[::4, 3] = 5
        array.append(np.ones((3, 64), "<i8"))
        raise InterruptedError
    commit(promise, lots, array)


def a_commit_that_fails(promise, lots, array):
    """Until it has said so anything may be; from then on it must not come true."""
    before, after = promise.last, scattered(promise.last, lots, 50)
    fail_next("fdatasync")
    with pytest.raises(OSError, match="Input/output"), promise.step(after, acknowledged=False), array.atomic():
        store(array, after)
    with promise.step(before):
        pass
    commit(promise, lots, array)


def a_commit_after_stores(promise, lots, array):
    stored = scattered(promise.last, lots, 50)
    with promise.step(stored, loose=True, acknowledged=False):
        store(array, stored)
    commit(promise, lots, array)


def stores_after_a_commit(promise, lots, array):
    """The journal of the commit must not undo what is flushed later, by this array or by the next."""
    commit(promise, lots, array)
    flushed_stores(promise, array, 100)
    array.close()
    with nf.open(promise.path, "r+") as array:
        flushed_stores(promise, array, 200)


def stores_after_a_commit_and_close(promise, lots, array):
    commit(promise, lots, array)
    array.close()
    with nf.open(promise.path, "r+") as array:
        flushed_stores(promise, array, 100)


def a_flushed_slice_after_a_commit(promise, lots, array):
    commit(promise, lots, array)
    after = promise.last.copy()
    after[after >= 100] += 100
    with promise.step(after, loose=True):
        for row in np.flatnonzero((after >= 100).any(1)):
            array[row] = after[row]
            array[row].flush()


def stores_after_a_commit_and_the_end_of_the_array(promise, lots, array):
    array.close()
    commit(promise, lots, nf.open(promise.path, "r+"))
    gc.collect()
    with nf.open(promise.path, "r+") as array:
        flushed_stores(promise, array, 100)


def a_commit_by_the_next_array(promise, lots, array):
    commit(promise, lots, array)
    array.close()
    with nf.open(promise.path, "r+") as array:
        commit(promise, lots, array, 200)
        flushed_stores(promise, array, 100)


def a_large_commit_and_a_small_one(promise, lots, array):
    after = promise.last.copy()
    after[::8, 3] = 50
    with promise.step(after), array.atomic():
        array[::8, 3] = 50
    commit(promise, lots, array)


def a_close_with_stores(promise, lots, array):
    stored = scattered(promise.last, lots, 100)
    with promise.step(stored, loose=True):
        store(array, stored)
        array.close()


def a_close_with_rows(promise, lots, array):
    more, after = grown(promise.last, 2, 300)
    with promise.step(after, loose=True):
        array.append(more)
        array.close()


def stores_after_a_recovery(promise, lots, array):
    """The journal that was found must not come back."""
    flushed_stores(promise, array, 100)


def stores_by_another_after_a_commit(promise, lots, array):
    """The journal of the commit must not undo what another array flushed."""
    with nf.open(promise.path, "r+") as other:
        commit(promise, lots, array)
        flushed_stores(promise, other, 100)


def appends_after_a_commit(promise, lots, array):
    commit(promise, lots, array)
    append(promise, array)
    append(promise, array)


def a_flushed_append_after_a_commit(promise, lots, array):
    commit(promise, lots, array)
    more, after = grown(promise.last, 2, 300)
    with promise.step(after, loose=True):
        array.append(more)
        array.flush()


def three_appends(promise, lots, array):
    append(promise, array)
    append(promise, array, 1)
    append(promise, array, 3)


def appends_without_a_sync(promise, lots, array):
    """What is not synced may be lost, but nothing else with it."""
    append(promise, array, 2, sync=True)
    append(promise, array, 2, sync=False)
    append(promise, array, 1, sync=False)
    append(promise, array, 2, sync=True)
    append(promise, array, 200, sync=False)


def an_extension(promise, lots, array):
    """All of it is durable in the end; before, any of it."""
    more, after = grown(promise.last, 5, 300)
    with promise.step(after, loose=True):
        array.extend((more[:2], more[2:3], more[3:]), sync=True)
    append(promise, array)


def resizes_after_a_commit(promise, lots, array):
    commit(promise, lots, array)
    for rows in (17, 40):
        before = promise.last
        after = grown(before, rows - len(before), 0)[1] if rows > len(before) else before[:rows]
        with promise.step(after, loose=True):
            array.resize(rows)
            array.flush()


def appends_without_any_sync(promise, lots, array):
    append(promise, array, 2, sync=False)
    append(promise, array, 1, sync=False)


def a_resize(promise, lots, array):
    """Nothing says when it is durable, but the rows that are left have nothing to fear."""
    for rows in (40, 13):
        before = promise.last
        after = grown(before, rows - len(before), 0)[1] if rows > len(before) else before[:rows]
        with promise.step(after, loose=True, acknowledged=False):
            array.resize(rows)


def a_new_file(promise, lots, array):
    after = np.full((3, 64), 7, "<i8")
    with promise.step(after):
        nf.create(promise.path, after.shape, after.dtype, fill=7).close()


def a_new_file_that_grows(promise, lots, array):
    with promise.step(np.zeros((0, 64), "<i8")):
        array = nf.create(promise.path, (0, 64), "<i8")
    with array:
        append(promise, array, 20)
        commit(promise, lots, array)


def a_saved_file_after_a_commit(promise, lots, array):
    """The journal of the old file is not the new one's."""
    commit(promise, lots, array)
    after = np.full((3, 64), 7, "<i8")
    with promise.step(after):
        nf.save(promise.path, after)


def a_saved_file(promise, lots, array):
    for turn in (1, 2):
        after = np.full((turn + 1, 64), turn, "<i8")
        with promise.step(after):
            nf.save(promise.path, after)


SCENARIOS = {
    "one commit": (NPY, one_commit),
    "two commits": (NPY, two_commits),
    "a commit that appends": (NPY, a_commit_that_appends),
    "a commit that shrinks": (NPY, a_commit_that_shrinks),
    "a commit that grows by zeros": (NPY, a_commit_that_grows_by_zeros),
    "a commit after one rolled back": (NPY, a_commit_after_one_rolled_back),
    "a commit that fails": (NPY, a_commit_that_fails),
    "a commit after stores": (NPY, a_commit_after_stores),
    "stores after a commit": (NPY, stores_after_a_commit),
    "stores after a commit and close": (NPY, stores_after_a_commit_and_close),
    "a flushed slice after a commit": (NPY, a_flushed_slice_after_a_commit),
    "stores after a commit and the end of the array": (NPY, stores_after_a_commit_and_the_end_of_the_array),
    "a commit by the next array": (NPY, a_commit_by_the_next_array),
    "a large commit and a small one": (LARGE, a_large_commit_and_a_small_one),
    "a close with stores": (NPY, a_close_with_stores),
    "a close with rows": (NPY, a_close_with_rows),
    "an extension": (NPY, an_extension),
    "resizes after a commit": (NPY, resizes_after_a_commit),
    "stores after a recovery": (LEFT, stores_after_a_recovery),
    "stores by another after a commit": (NPY, stores_by_another_after_a_commit),
    "appends after a commit": (NPY, appends_after_a_commit),
    "a flushed append after a commit": (NPY, a_flushed_append_after_a_commit),
    "three appends": (NPY, three_appends),
    "appends without a sync": (NPY, appends_without_a_sync),
    "appends without any sync": (NPY, appends_without_any_sync),
    "a resize": (NPY, a_resize),
    "appends of columns": (COLUMNS, three_appends),
    "appends behind a header of two sectors": (BROKEN, three_appends),
    "commits of columns": (COLUMNS, two_commits),
    "raw appends": (RAW, appends_without_a_sync),
    "raw commits that append": (RAW, a_commit_that_appends),
    "bare appends": (BARE, appends_without_a_sync),
    "bare commits that append": (BARE, a_commit_that_appends),
    "a new file": (NPY, a_new_file),
    "a new file that grows": (NPY, a_new_file_that_grows),
    "a saved file": (NPY, a_saved_file),
    "a saved file after a commit": (NPY, a_saved_file_after_a_commit),
}
MAKERS = (a_new_file, a_new_file_that_grows, a_saved_file)


def record_scenario(folder, recorder, name, seed):
    """Let a scenario run in a folder that has nothing else."""
    kind, act = SCENARIOS[name]
    for left in os.listdir(folder):
        os.unlink(os.path.join(folder, left))
    path = os.path.join(folder, kind.name)
    if act in MAKERS:
        promise, run = Promise(path, None, recorder.mark), act
    else:
        kind.make(path, kind.first)
        promise = Promise(path, kind.first, recorder.mark)

        def run(promise, lots, _):
            with nf.open(path, "r+", **kind.hints) as array:
                act(promise, lots, array)

    return recorder.of(folder, run, promise, random.Random(seed), None), promise


def found(kind, folder, files):
    """What opening the file after a power cut gives, however it is opened, and whether that changed the disk."""
    path = os.path.join(folder, kind.name)
    try:
        done = nf.recover(path)
        once = taken(folder)
        if nf.recover(path) is not None or taken(folder) != once:
            return f"recovery was not done when it had {done}", False
        value = kind.values(path, "r")
        put(folder, files, kind.name)
        try:
            read = kind.values(path, "r")
        except nf.errors.NeedsRecoveryError:
            if done != "replayed":
                return f"a reader was sent to recover() what that has {done}", False
            read = value
        written = kind.values(path, "r+")
        loaded = np.load(path) if kind.name.endswith(".npy") else value
        if not all(is_same(value, one) for one in (read, written, loaded)):
            return "what a reader, a writer and recover() find is not the same", False
        if taken(folder)[kind.name] != once[kind.name]:
            return "opening for writing and recover() leave different files", False
    except (OSError, ValueError) as error:
        return repr(error), False
    return value, done == "replayed"


def run_scenario(folder, name):
    """Record a scenario, again and again at other places, until so many states were opened; then drop each sync."""
    kind, _ = SCENARIOS[name]
    recorder, problems, seeds = Recorder(folder), [], itertools.count(1)

    def recover(folder):
        nf.recover(os.path.join(folder, kind.name))

    with folder_in_memory(folder) as place:
        campaign = Campaign(place, kind.name, recorder, lambda folder, files: found(kind, folder, files))
        while not problems and len(campaign.outcomes) < STATES and (seed := next(seeds)) <= MOST_ROUNDS:
            recording, promise = record_scenario(place, recorder, name, seed)
            problems += itertools.islice(campaign.problems(recording, promise.verdict), 5)
            problems += itertools.islice(campaign.problems_inside(promise, recover), 5)
        figures = {"states": len(campaign.outcomes), "judged": campaign.judged, "cut again": campaign.cut_again}
        syncs = campaign.syncs_that_matter(recording, promise.verdict) if name in SYNCS and not problems else None
        return {"problems": problems, "figures": figures, "syncs": syncs}


def run_scenarios(folder, names):
    for name in names:
        say([name, run_scenario(folder, name)])


@pytest.fixture(scope="module")
def seen(request, recorder, tmp_path_factory):
    """What was seen of each scenario of the tests that are to run, all of them in one process."""
    started, folder = time.monotonic(), str(tmp_path_factory.mktemp("scenarios"))
    asked = {item.name for item in request.session.items if item.path == request.path}
    names = [name for name in SCENARIOS if TEST_OF_ALL in asked or any(one.endswith(f"[{name}]") for one in asked)]
    ending = call(run_scenarios, folder, names, environment={"LD_PRELOAD": recorder})
    assert ending.how == 0, ending.errors
    results = dict(ending.said)
    figures = [result["figures"] for result in results.values()]
    sums = {key: sum(one[key] for one in figures) for key in ("states", "judged", "cut again")}
    record("pending-sectors", started, scenarios=len(names), **sums)
    return results


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_power_cut_the_file_is_as_it_was_or_as_it_was_to_be(seen, name):
    assert seen[name]["problems"] == []


def test_of_all_scenarios_so_many_states_were_opened(seen):
    assert sum(result["figures"]["states"] for result in seen.values()) >= rounds(full=200_000, short=3_000)


TEST_OF_ALL = test_of_all_scenarios_so_many_states_were_opened.__name__


# ---- The controls: without a sync a scenario fails ----


class Syncs(NamedTuple):
    """The syncs of a scenario.

    Attributes
    ----------
    matter : list of str
        Without any one of these it fails.
    rest : list of str
        It would do without any one of these: those of a close, which make the next scenario safe; the first of a
        journal, which makes later ones short; the first of a file that grows, without which only appends that are not
        synced are unsafe; and a raw file has two for its one change.
    rest_matters : bool
        Whether it fails without all of the rest.
    """

    matter: list[str]
    rest: list[str]
    rest_matters: bool = False


SYNCS = {
    "two commits": Syncs(
        ["fsync folder 1", "fdatasync journal 1", "fdatasync file 1", "fdatasync journal 2", "fdatasync file 2"],
        ["fsync journal 1", "fdatasync journal 3", "msync file 1"],
    ),
    "a commit that appends": Syncs(
        ["fsync folder 1", "fdatasync journal 1", "fdatasync file 1", "fdatasync journal 2", "fdatasync file 2"],
        ["fsync journal 1", "fdatasync journal 3", "msync file 1"],
    ),
    "a commit that shrinks": Syncs(
        ["fsync folder 1", "fdatasync journal 1", "fdatasync file 1", "fdatasync journal 2", "fdatasync file 2"],
        ["fsync journal 1", "fdatasync journal 3", "msync file 1"],
    ),
    "stores after a commit": Syncs(
        [
            "fsync folder 1",
            "fdatasync journal 1",
            "fdatasync file 1",
            "fdatasync journal 2",
            "msync file 1",
            "msync file 3",
        ],
        ["fsync journal 1", "msync file 2", "msync file 4"],
    ),
    "stores after a commit and close": Syncs(
        ["fsync folder 1", "fdatasync journal 1", "fdatasync file 1", "fdatasync journal 2", "msync file 2"],
        ["fsync journal 1", "msync file 1", "msync file 3"],
    ),
    "stores after a commit and the end of the array": Syncs(
        ["fsync folder 1", "fdatasync journal 1", "fdatasync file 1", "fdatasync journal 2", "msync file 2"],
        ["msync file 1", "fsync journal 1", "msync file 3"],
    ),
    "a commit by the next array": Syncs(
        [
            "fsync folder 1",
            "fdatasync journal 1",
            "fdatasync file 1",
            "fsync folder 2",
            "fdatasync journal 3",
            "fdatasync file 2",
            "fdatasync journal 4",
            "msync file 2",
        ],
        ["fsync journal 1", "fdatasync journal 2", "msync file 1", "fsync journal 2", "msync file 3"],
    ),
    "stores after a recovery": Syncs(["fdatasync file 1", "fsync folder 1", "msync file 1"], ["msync file 2"]),
    "three appends": Syncs(
        [
            "fdatasync file 2",
            "fdatasync file 3",
            "fdatasync file 4",
            "fdatasync file 5",
            "fdatasync file 6",
            "fdatasync file 7",
        ],
        ["fdatasync file 1", "msync file 1"],
    ),
    "appends without any sync": Syncs(["fdatasync file 1"], ["msync file 1"]),
    "an extension": Syncs(
        ["fdatasync file 3", "fdatasync file 4", "fdatasync file 5"],
        ["fdatasync file 1", "fdatasync file 2", "msync file 1"],
        rest_matters=True,
    ),
    "a resize": Syncs(["fdatasync file 1", "fdatasync file 2"], ["msync file 1"]),
    "a close with rows": Syncs(["fdatasync file 1", "msync file 1"], []),
    "raw appends": Syncs(
        ["fsync .ndfile-1 1", "fsync folder 1", "fdatasync file 1", "fdatasync file 2"],
        ["msync file 1"],
    ),
    "bare commits that append": Syncs(
        ["fsync folder 1", "fdatasync journal 1", "fdatasync file 1", "fdatasync journal 2", "fdatasync file 2"],
        ["fsync journal 1", "fdatasync journal 3", "msync file 1"],
    ),
    "a new file": Syncs(["fsync .ndfile-1 1", "fsync folder 1"], ["msync file 1"]),
    "a saved file": Syncs(["fsync .ndfile-1 1", "fsync folder 1", "fsync .ndfile-2 1", "fsync folder 2"], []),
}


@pytest.mark.parametrize("name", SYNCS)
def test_a_scenario_fails_without_any_of_the_syncs_that_matter(seen, name):
    def short(label):
        return label.replace(f"{kind.name}.ndfile-journal", "journal").replace(kind.name, "file")

    kind, _ = SCENARIOS[name]
    assert seen[name]["problems"] == []
    matter, rest, rest_matters = seen[name]["syncs"]
    assert Syncs([short(one) for one in matter], [short(one) for one in rest], rest_matters) == SYNCS[name]
