"""A disk that is full at every page of what grows or is committed: an error, what was there before, and its space."""

import contextlib
import errno
import functools
import os
import shutil
import time
import traceback

import numpy as np
import pytest
from devices import MIB, PAGE, fill_up, loop_disk, memory_disk
from failing import Failure, Shim, compile_shim, folder_in_memory, told_by
from faulty import call, record, rounds
from growing import ACTS, KINDS, WIDTH, Act, changed, commit, rows
from growth_trials import Acting, Creating, Naive, Recovering, open_to_write, recover

# The short form takes one kind of file after the other.
KINDS_EACH = rounds(full=len(KINDS), short=1)

# More than any of the acts takes, with what is reserved ahead.
MOST_PAGES = 150

# A journal is kept until the array is closed, but not what a commit without space has put into it. And a file system
# takes blocks for itself: for a folder, or to say where a file's blocks are.
MOST_KEPT_PAGES = 16 + 2


@contextlib.contextmanager
def memory(folder):
    with memory_disk(str(folder / "disk"), 2 * MIB) as disk:
        yield disk


@contextlib.contextmanager
def loop(folder):
    with (
        folder_in_memory(folder) as in_memory,
        loop_disk(str(folder / "disk"), os.path.join(in_memory, "image"), 4 * MIB) as disk,
    ):
        yield disk


@pytest.fixture(params=[memory, loop], ids=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A folder on a small file system of its own."""
    with request.param(tmp_path) as folder:
        yield folder


@pytest.fixture
def copies(tmp_path):
    """A folder for what is found after a crash."""
    with folder_in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return compile_shim(tmp_path_factory.mktemp("shim"))


class FullDisk:
    """What makes a trial one on a disk with a few free pages: as many as the failure's number says."""

    def __init__(self, disk, *arguments):
        super().__init__(*arguments)
        self.disk = disk
        self.folder = os.path.join(disk, "now")
        self.path = os.path.join(self.folder, self.kind.name)
        self.still = None  # what storing again told while the disk was full

    def attempt(self, act, *arguments):
        with self.few_free_pages():
            before = self.free_pages()
            self.told = told = told_by(act, *arguments)
            told.is_reached = told.error is not None
            if told.error is not None:
                self.still = told_by(self.store_again, *arguments)
                free = self.free_pages()
        if told.error is not None:
            if told.errno != errno.ENOSPC:
                self.note(f"raised {told.error} {told.text}")
            if free < before - MOST_KEPT_PAGES and "journal" not in told.text:
                self.note(f"raised {told.text}, and took {before - free} of the last {before} pages")
        return told

    @contextlib.contextmanager
    def few_free_pages(self):
        for name in os.listdir(self.folder):
            with open(os.path.join(self.folder, name), "rb") as file:
                os.fsync(file.fileno())
        fill_up(self.disk)
        filler = os.path.join(self.disk, "filler")
        os.truncate(filler, os.path.getsize(filler) - self.failure.nth * PAGE)
        try:
            yield
        finally:
            os.unlink(filler)

    def free_pages(self):
        status = os.statvfs(self.disk)
        return status.f_bfree * status.f_bsize // PAGE

    def store_again(self, *arguments):
        """Store what is there, where the file has blocks, and flush it."""


class ActingOnAFullDisk(FullDisk, Acting):
    def store_again(self, array, _):
        if not array.closed and self.act.made.any():
            array[:] = np.array(array)
            array.flush()

    def judge_error(self, array, state, content, before):
        super().judge_error(array, state, content, before)
        if state is None and self.still.error is not None:
            self.note(f"on the full disk what is there cannot be stored again: {self.still.text}")


class CreatingOnAFullDisk(FullDisk, Creating):
    pass


class RecoveringOnAFullDisk(FullDisk, Recovering):
    pass


class ActingNaivelyOnAFullDisk(FullDisk, Acting):
    def opened(self):
        return Naive(self.path)


class Sweep:
    """Trials with one free page more each time, until there are enough."""

    def __init__(self, disk, folder):
        self.disk, self.folder = disk, folder
        self.shim = Shim()
        self.runs, self.raised, self.problems = 0, 0, []

    def run(self, name, make):
        """Give the fewest free pages that it works with."""
        enough = []
        for pages in range(MOST_PAGES):
            if self.once(name, make, pages):
                enough.append(pages)
                # Two more, to see that it was not by chance.
                if len(enough) == 3:
                    break
        if enough != list(range(enough[0], enough[0] + 3)):
            self.problems.append(f"{name}: it works with {enough} free pages, and not with those between or behind")
        return enough[0]

    def once(self, name, make, pages):
        """True if there was enough space."""
        self.runs += 1
        now = os.path.join(self.disk, "now")
        os.mkdir(now)
        trial = make(self.folder, Failure("free pages", pages, errno.ENOSPC), self.shim)
        try:
            trial.go()
        except Exception:
            trial.note(f"the judge met {traceback.format_exc()}")
        shutil.rmtree(now)
        self.raised += trial.told.error is not None
        self.problems += [f"{name}, {trial.kind.name}, {pages} free pages: {problem}" for problem in trial.problems]
        return trial.told.error is None


MANY = rows(0, 600)
HOLES = np.zeros((200, WIDTH), "<i4")


def change_all(array, kind):
    with array.atomic():
        kind.turned(array)[:] += 1


ANY, DESCRIBED = list(KINDS), [name for name in KINDS if name != "bare"]

# Name: the trial, its first argument, the kinds of files.
TRIALS = {
    **{name: (ActingOnAFullDisk, act, ANY) for name, act in ACTS.items()},
    "commit many pages": (ActingOnAFullDisk, Act(change_all, MANY + 1, None, MANY, MANY, is_durable=True), ANY),
    "create": (CreatingOnAFullDisk, False, DESCRIBED),
    "replace": (CreatingOnAFullDisk, True, DESCRIBED),
    "open a commit": (RecoveringOnAFullDisk, open_to_write, ANY),
    "recover": (RecoveringOnAFullDisk, recover, ANY),
}


def sweep_all(disk, folder, names):
    sweep, pages = Sweep(disk, folder), {}
    for number, name in enumerate(names):
        trial, argument, kinds = TRIALS[name]
        for kind in [kinds[(number + more) % len(kinds)] for more in range(min(KINDS_EACH, len(kinds)))]:
            make = functools.partial(trial, disk, argument, KINDS[kind])
            pages[f"{name}, {kind}"] = sweep.run(name, make)
    return {"runs": sweep.runs, "raised": sweep.raised, "problems": sweep.problems, "pages": pages}


# A tmpfs takes a block for a hole that is only read through a map: there each store is a fault by itself.
HOLES_ON_EXT4 = "commit into holes"
TRIALS[HOLES_ON_EXT4] = (ActingOnAFullDisk, Act(commit, changed(HOLES), None, HOLES, HOLES, is_durable=True), ["bare"])

GROUPS = {
    "growing": [name for name in ACTS if name.startswith(("append", "extend", "grow", "shrink"))],
    "committing": [name for name in TRIALS if name.startswith(("commit", "roll")) and name != HOLES_ON_EXT4],
    "opening": ["close", "close after a commit", "create", "replace", "open a commit", "recover"],
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_disk_that_is_full_at_any_page_is_an_error_and_leaves_what_was_there(disk, shim, copies, group, request):
    started = time.monotonic()
    arguments = (disk, copies, GROUPS[group])
    seen = call(sweep_all, *arguments, environment={"LD_PRELOAD": shim}).result()
    assert seen["problems"] == []
    # The control of the method: the disk was full for most.
    assert seen["raised"] > 0
    kind_of_disk = request.node.callspec.params["disk"].__name__
    record(f"growth-disk-full-{group}-{kind_of_disk}", started, runs=seen["runs"], raised=seen["raised"])


def test_a_commit_into_holes_on_a_full_disk_is_an_error_and_leaves_them(shim, tmp_path, copies):
    with loop(tmp_path) as disk:
        arguments = (disk, copies, [HOLES_ON_EXT4])
        seen = call(sweep_all, *arguments, environment={"LD_PRELOAD": shim}).result()
    assert seen["problems"] == []
    assert seen["raised"] > 0


# ---- The controls ----


def sweep_naively(disk, folder, pages):
    sweep = Sweep(disk, folder)
    for count in range(pages):
        make = functools.partial(ActingNaivelyOnAFullDisk, disk, ACTS["append durably"], KINDS["npy"])
        sweep.once("append", make, count)
    return sweep.problems


def test_growth_as_people_write_it_loses_rows_on_a_full_disk(disk, shim, copies):
    """The control."""
    problems = call(sweep_naively, disk, copies, 4, environment={"LD_PRELOAD": shim}).result()
    assert any("after a crash it cannot be read" in problem for problem in problems), problems


def grow_like_numpy(disk):
    path = os.path.join(disk, "x.dat")
    np.memmap(path, "<i4", "w+", shape=(10, WIDTH))
    fill_up(disk)
    filler = os.path.join(disk, "filler")
    os.truncate(filler, os.path.getsize(filler) - 5 * PAGE)  # enough for the last byte, which it writes
    np.memmap(path, "<i4", "r+", shape=(5000, WIDTH))[:] = 1


def test_numpy_dies_where_a_file_cannot_grow(disk):
    """The control."""
    assert call(grow_like_numpy, disk).how == "SIGBUS"
