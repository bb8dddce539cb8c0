"""Processes that follow a file while another one lets it grow: no row is missed, doubled or torn."""

import concurrent.futures
import os
import pathlib
import random
import time

import numpy as np
import pytest
from checked_rows import DTYPE, first_wrong, rows_of
from faulty import call, record, rounds
from growing_files import GROWING, Npy

# How long the writer writes, in each kind of file.
SECONDS = rounds(full=150, short=1)

# As long as a follower waits for news: only a lost wake-up takes so long.
PATIENCE_S = 30

# Who wrote a row. The last row is not like the others, so that everyone knows when it has all.
WRITER, LAST = 1, 2


# ---- Growth without ndfile ----


class SavedAnew(Npy):
    """The control: who has more rows saves them all, who follows loads them all."""

    def create(self, path, count=0):
        np.save(path, np.zeros(self.shape(count), DTYPE))

    def open(self, path, mode):  # noqa: ARG002  # both are copies in memory
        return Loaded(path)


class Loaded:
    def __init__(self, path):
        self.path, self.rows = path, np.load(path)

    @property
    def shape(self):
        return self.rows.shape

    def __getitem__(self, index):
        return self.rows[index]

    def refresh(self):
        old, self.rows = self.rows, np.load(self.path)
        return len(self.rows) - len(old)

    def append(self, rows, *, sync=False):
        self.rows = np.concatenate([self.rows, rows])
        with open(self.path, "wb") as file:
            np.save(file, self.rows)
            if sync:
                os.fsync(file.fileno())

    def extend(self, blocks):
        for rows in blocks:
            self.append(rows)

    def close(self):
        pass


KINDS = GROWING | {"saved anew": SavedAnew()}


# ---- The processes ----


def marker(path, name):
    return pathlib.Path(f"{path}.{name}")


def wait_for(path, *names, patience_s):
    end_s = time.monotonic() + patience_s
    while not all(marker(path, name).exists() for name in names):
        assert time.monotonic() < end_s, f"{names} did not come"
        time.sleep(0.001)


def write(name, path, early, late, seconds):
    """Append until everybody has come, and for some time then. Gives the number of rows."""
    wait_for(path, *early, patience_s=PATIENCE_S)
    writer = Writer(KINDS[name], path)
    writer.write(seconds / 2, [])
    marker(path, "half").touch()
    writer.write(0, late)
    writer.write(seconds / 2, [])
    writer.end()
    return writer.count


class Writer:
    def __init__(self, kind, path):
        self.kind, self.path, self.count = kind, path, 0
        self.array = kind.open(path, "r+")

    def write(self, seconds, awaited):
        end_s = time.monotonic() + seconds
        acts = {self.append: 60, self.append_few: 20, self.append_many: 1, self.extend: 5, self.reopen: 1}
        while time.monotonic() < end_s or not all(marker(self.path, name).exists() for name in awaited):
            assert time.monotonic() < end_s + PATIENCE_S, f"{awaited} did not come"
            for act in random.choices([*acts], [*acts.values()], k=random.randint(1, 20)):
                act()
            time.sleep(random.uniform(0, 0.02))

    def rows(self, count, writer=WRITER):
        rows = rows_of(self.count, count, writer)
        self.count += count
        return self.kind.turned(rows)

    def append(self):
        self.array.append(self.rows(1))

    def append_few(self):
        self.array.append(self.rows(random.randint(1, 60)), sync=random.random() < 0.1)

    def append_many(self):
        self.array.append(self.rows(random.randint(1000, 5000)))

    def extend(self):
        self.array.extend(self.rows(random.randint(0, 90)) for _ in range(3))

    def reopen(self):
        self.array.close()
        self.array = self.kind.open(self.path, "r+")

    def end(self):
        self.array.append(self.rows(1, LAST))
        self.array.close()


class Seen:
    """The rows that have come, each looked at once."""

    def __init__(self):
        self.count, self.times, self.has_last = 0, 0, False

    def take(self, rows):
        wrong = first_wrong(rows, self.count, (WRITER, LAST))
        assert wrong is None, f"row {wrong}, of {self.count} and {len(rows)} more, is {rows[wrong - self.count]}"
        if len(rows):
            self.count += len(rows)
            self.times += 1
            self.has_last = bool(rows[-1, 1] == LAST)


def follow(name, path, me, is_late, by_polling):
    """Look at every row until the last. Gives how many there were, and how often some came."""
    if is_late:
        wait_for(path, "half", patience_s=SECONDS + 2 * PATIENCE_S)
    kind, seen = KINDS[name], Seen()
    try:
        array = kind.open(path, "r")
    finally:
        marker(path, me).touch()  # nobody is to wait for one who failed
    seen.take(kind.turned(array[:]))
    assert not is_late or seen.count > 0
    at_first = kind.turned(array[:])
    (poll if by_polling else iterate)(kind, array, seen)
    # A view from the beginning is what and where it was.
    assert first_wrong(at_first, 0, (WRITER, WRITER)) is None
    assert at_first.ctypes.data == array.ctypes.data or name not in GROWING
    array.close()
    return {"rows": seen.count, "times": seen.times}


def iterate(kind, array, seen):
    for rows in array.follow(timeout_s=PATIENCE_S):
        seen.take(kind.turned(rows))
        assert kind.length(array) == seen.count
        if seen.has_last:
            return
    raise AssertionError(f"no row came for {PATIENCE_S} s after row {seen.count}")


def poll(kind, array, seen):
    newest_s = time.monotonic()
    while not seen.has_last:
        news = array.refresh()
        assert news >= 0
        if news:
            newest_s = time.monotonic()
            seen.take(kind.turned(array)[seen.count : seen.count + news])
            assert kind.length(array) == seen.count
        else:
            assert time.monotonic() < newest_s + PATIENCE_S, f"no row came for {PATIENCE_S} s after row {seen.count}"
            time.sleep(random.choice([0, 0, 0, 0.001]))


def load(name, path, me):
    """Load the file as NumPy does, all the time, and look at its last rows."""
    times, count = 0, 0
    marker(path, me).touch()
    while True:
        array = np.load(path, mmap_mode="r" if count > 10_000 else None)
        rows = KINDS[name].turned(array)
        assert len(rows) >= count
        times, count = times + 1, len(rows)
        start = max(0, count - 2000)
        assert first_wrong(rows[start:], start, (WRITER, LAST)) is None
        if count and rows[-1, 1] == LAST:
            return {"rows": count, "times": times}


def follow_together(name, path, seconds):
    """Let one write and four follow, and who reads `.npy` load; give the endings, the writer's first."""
    KINDS[name].create(path)
    followers = {"early": (False, False), "early poll": (False, True), "late": (True, False), "late poll": (True, True)}
    if name == "saved anew":  # nothing wakes its followers
        followers = {"early poll": (False, True), "late poll": (True, True)}
    early = [one for one, (is_late, _) in followers.items() if not is_late]
    late = [one for one in followers if one not in early]
    has_loader = KINDS[name].is_exact
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(call, follow, name, path, one, *how) for one, how in followers.items()]
        if has_loader and name != "saved anew":
            runs.append(pool.submit(call, load, name, path, "load"))
            early.append("load")
        runs.insert(0, pool.submit(call, write, name, path, early, late, seconds))
    return [one.result() for one in runs]


# ---- The proof ----


@pytest.mark.parametrize("name", GROWING)
def test_followers_see_every_row_once_and_whole(tmp_path, name):
    started_s = time.monotonic()
    path = str(tmp_path / KINDS[name].name)
    writer, *followers = follow_together(name, path, SECONDS)
    os.unlink(path)  # hundreds of megabytes in the long form
    count = writer.result()
    seen = [one.result() for one in followers]
    assert [one["rows"] for one in seen] == [count] * len(seen)
    assert all(one["times"] > 5 for one in seen)  # they saw it grow
    times = [one["times"] for one in seen]
    record(f"followers-{name}", started_s, rows=count, times=times, missed=0, doubled=0, torn=0)


def test_who_follows_by_loading_what_is_saved_anew_finds_it_torn(tmp_path):
    """The control: at most three tries."""
    for attempt in range(3):
        (folder := tmp_path / str(attempt)).mkdir()
        _, *followers = follow_together("saved anew", str(folder / "x.npy"), 1)
        if any(one.how for one in followers):
            return
    raise AssertionError("loading while np.save writes came through it")
