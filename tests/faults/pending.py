"""From what a program does to its files to what is wrong after a power cut.

A `Promise` is what the program says of its file as it goes on, `Recorder` notes what it does, and a `Campaign` builds
the states that the model permits (`sectors.py`), opens each, and holds what it finds against the promise.
"""

import contextlib
import ctypes
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import tempfile

import numpy as np
import pytest
from faulty import rounds
from sectors import Budget, cuts, recorded

# Of one moment, all subsets of 12 pending things that are there or not, and some of more.
BUDGET = Budget(most=rounds(full=1 << 12, short=1 << 5), samples=rounds(full=500, short=20))

# Of the states in which opening changes files, how many are recovered under the recorder and cut again.
CUTS_INSIDE = rounds(full=60, short=4)


def fail_next(call):
    """Let the next call of this name fail under the recorder, and not be made."""
    ctypes.CDLL(None).recorder_fail(call.encode())


class Promise:
    """What a program says about its file while it goes on: what it will be, and when that is certain.

    Attributes
    ----------
    values : list
        The array after each step, from what there was at first; None for no file.
    loose : set of int
        Steps that promise nothing until they are acknowledged but to leave alone what they do not change.
    """

    def __init__(self, path, first, mark):
        self.path = path
        self.values = [first]
        self.loose = set()
        self.mark = mark

    @property
    def last(self):
        """What it is to be now."""
        return self.values[-1]

    @contextlib.contextmanager
    def step(self, after, loose=False, acknowledged=True):
        number = len(self.values)
        self.values.append(None if after is None else np.array(after, order="K"))
        if loose:
            self.loose.add(number)
        self.mark(b"begin %d" % number)
        yield
        if acknowledged:
            self.mark(b"kept %d" % number)

    def verdict(self, value, marks):
        """None if the value is what the remarks so far permit, or what is wrong with it."""
        if isinstance(value, str):
            return value
        last = {kind: int(number) for kind, number in (mark.split() for mark in marks)}
        kept, begun = last.get("kept", 0), last.get("begin", 0)
        permitted = self.values[kept : begun + 1]
        if any(is_same(value, one) for one in permitted) or self.is_mixed(value, kept, begun):
            return None
        seen = "no file" if value is None else f"{value.shape} with {np.unique(value.ravel('K').view('i8'))}"
        return f"{seen} is neither what it was after step {kept} nor after {begun}"

    def is_mixed(self, value, kept, begun):
        """Whether it differs from one of the values only where a loose step was at work."""
        loose = [number for number in range(kept + 1, begun + 1) if number in self.loose]
        if value is None or not loose:
            return False
        for whole in self.values[kept : begun + 1]:
            if whole is None or whole.shape != value.shape:
                continue
            fits = value == whole
            for number in loose:
                fits |= free_at(value, self.values[number - 1], self.values[number])
            if fits.all():
                return True
        return False


def is_same(value, one):
    if value is None or one is None:
        return value is one
    return value.shape == one.shape and value.dtype == one.dtype and np.array_equal(value, one)


def free_at(value, old, new):
    """Where a step may leave what `value` has: the old or the new, or zeros in rows that come or go."""
    free = np.zeros(value.shape, bool)
    common, longest = min(len(old), len(new), len(value)), max(len(old), len(new))
    was, will, now = old[:common], new[:common], value[:common]
    free[:common] = (was != will) & ((now == was) | (now == will))
    longer = (old if len(old) == longest else new)[common : len(value)]
    rest = value[common : common + len(longer)]
    free[common : common + len(longer)] = (rest == longer) | (rest == 0)
    return free


class Recorder:
    """The preloaded library."""

    def __init__(self, folder):
        self.library = ctypes.CDLL(None)
        self.mark = self.library.recorder_mark
        self.log = os.path.join(folder, "log")

    def of(self, folder, act, *arguments):
        """What an act does to the files of a folder."""
        self.library.recorder_start(os.path.realpath(folder).encode(), self.log.encode())
        try:
            act(*arguments)
        finally:
            self.library.recorder_stop()
        return recorded(pathlib.Path(self.log).read_bytes())


class Campaign:
    """The states of one scenario, each built and opened once: many moments have the same.

    They are built where the scenario was recorded, and the file `main` keeps its inode: a journal may name it.
    `outcome_of` gives, for a folder that has the files of a state, what is in the array and whether opening it changed
    what is worth another power cut.
    """

    def __init__(self, folder, main, recorder, outcome_of):
        self.folder = folder
        self.main = main
        self.recorder = recorder
        self.outcome_of = outcome_of
        self.lots = random.Random(1)
        self.budget = BUDGET
        self.outcomes = {}
        self.values = {}
        self.judged = self.cut_again = 0
        self.worth_a_cut = []
        self.seen_worth = 0

    def outcome(self, files):
        """What was found in a state, and whether it was worth a cut."""
        if self.main not in files:
            return None, False
        key = digest(b"".join(b"%s %d " % (name.encode(), len(files[name])) + files[name] for name in sorted(files)))
        if key not in self.outcomes:
            put(self.folder, files, self.main)
            value, is_worth_a_cut = self.outcome_of(self.folder, files)
            if isinstance(value, np.ndarray):  # there are few, and many states
                value = self.values.setdefault((value.shape, digest(value.tobytes())), value)
            self.outcomes[key] = value, is_worth_a_cut
        return self.outcomes[key]

    def problems(self, recording, verdict, ignoring=(), is_inside=False):
        """What is wrong, at each state of each moment."""
        for cut in cuts(recording, self.budget, self.lots, ignoring):
            if not self.can_be_built(cut, recording.last):
                continue
            self.judged += 1
            value, is_worth_a_cut = self.outcome(cut.files)
            problem = verdict(value, cut.marks)
            if problem is not None:
                yield f"cut after {cut.moment} of {len(recording.steps)} steps, {cut.marks}: {problem}"
            elif is_worth_a_cut and not ignoring and not is_inside:
                self.keep(cut)

    def can_be_built(self, cut, last):
        """A journal names an inode, and the one of a file that was replaced is not to be had any more."""
        has_journal = any(name.endswith("journal") for name in cut.names)
        return not has_journal or cut.names.get(self.main) == last.names.get(self.main)

    def keep(self, cut):
        """Keep some, with the same chance for each."""
        self.seen_worth += 1
        if len(self.worth_a_cut) < CUTS_INSIDE:
            self.worth_a_cut.append(cut)
        elif (place := self.lots.randrange(self.seen_worth)) < CUTS_INSIDE:
            self.worth_a_cut[place] = cut

    def problems_inside(self, promise, recover):
        """What is wrong if the power is cut again while `recover` is at work, which is given the folder."""
        for cut in self.worth_a_cut:
            value, _ = self.outcome(cut.files)
            put(self.folder, cut.files, self.main)
            recording = self.recorder.of(self.folder, self.recover_and_say_so, recover)
            self.cut_again += 1

            def verdict(again, marks, cut=cut, value=value):
                # Who has seen what was recovered has seen it for good.
                if marks and not is_same(again, value):
                    return "what was recovered is gone"
                return promise.verdict(again, cut.marks)

            for problem in self.problems(recording, verdict, is_inside=True):
                yield f"cut after {cut.moment} steps, {cut.marks}, and again: {problem}"
        self.worth_a_cut.clear()
        self.seen_worth = 0

    def recover_and_say_so(self, recover):
        recover(self.folder)
        self.recorder.mark(b"recovered")

    def syncs_that_matter(self, recording, verdict):
        """The syncs without which something goes wrong, each alone; those without which nothing does; and whether
        anything does without all of these."""
        matter = [label for label in recording.syncs if any(self.problems(recording, verdict, ignoring=[label]))]
        rest = [label for label in recording.syncs if label not in matter]
        return [matter, rest, any(self.problems(recording, verdict, ignoring=rest))]


def digest(content):
    return hashlib.blake2b(content, digest_size=16).digest()


def put(folder, files, main):
    """Let a folder have these files and no other; `main` is the file that it was."""
    for name in os.listdir(folder):
        if name != main:
            os.unlink(os.path.join(folder, name))
    for name, content in files.items():
        fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, content)
        os.close(fd)


def taken(folder):
    """The files of a folder."""
    return {name: pathlib.Path(folder, name).read_bytes() for name in os.listdir(folder)}


@contextlib.contextmanager
def folder_in_memory(folder):
    """A folder for files that live for a moment; in the test's own folder where there is no memory to be had."""
    memory = "/dev/shm"
    place = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else folder)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def compiled_recorder(folder):
    """The library to preload."""
    library = os.path.join(folder, "recorder.so")
    source = os.path.join(os.path.dirname(__file__), "recorder.c")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    try:
        subprocess.run(["gcc", *flags, source, "-o", library], check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc to compile the library with")
    return library
