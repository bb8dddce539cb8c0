"""kill -9 at any instant of growth: every acknowledged row is there, none is torn, no append is half published."""

import os
import random
import time

import numpy as np
import pytest
from checked_rows import DTYPE, WIDTH, first_wrong, rows_of
from faulty import record, rounds
from growing_files import GROWING, ROW_NBYTES, Npy
from killing import Folder, Stepped, at_every_call, at_every_change, killed, with_killing_calls

import ndfile as nf

# In every kind of file.
KILLS = rounds(full=2500, short=50)

# Longer than the longest act takes.
MOST_S = 0.05

# A file is cut when it has more rows, and made anew after so many kills: the first append has windows of its own.
MOST_ROWS = 15_000
KILLS_A_FILE = 12

# After how many kills at calls somebody goes on with what is left.
GO_ON_EACH = 1 if "NDFILE_ROUNDS_SCALE" in os.environ else 3


# ---- Files that are grown ----


class LongHeader(Npy):
    """A header of several sectors and pages, which the first append rewrites by way of a journal."""

    def create(self, path, count=0):
        nf.create(path, self.shape(count), DTYPE, metadata={"about": "x" * 6000}).close()

    def settle(self, path):
        nf.recover(path)


class GrownByHand(Npy):
    """The control: growth as it is written with NumPy, the header, then the file's size, then the rows."""

    def create(self, path, count=0):
        np.save(path, np.zeros(self.shape(count), DTYPE))

    def open(self, path, mode):
        return ByHand(path) if mode == "r+" else np.load(path)


class NumberFirst(GrownByHand):
    """The control: both through a map that is larger than need be, and in the wrong order."""

    def open(self, path, mode):
        return Stores(path) if mode == "r+" else np.load(path)


class SavedAnew(GrownByHand):
    """The control: growth as it is written without maps."""

    def open(self, path, mode):
        return InMemory(path) if mode == "r+" else np.load(path)


class ByHand:
    def __init__(self, path):
        self.path = path
        self.shape = np.load(path).shape

    def append(self, rows, *, sync=False):
        count = self.shape[0]
        self.resize((count + len(rows), WIDTH))
        self[count:] = rows
        if sync:
            self.flush()

    def extend(self, blocks):
        for rows in blocks:
            self.append(rows)

    def resize(self, shape):
        self.shape = shape = (shape, WIDTH) if isinstance(shape, int) else shape
        header = {"descr": DTYPE, "fortran_order": False, "shape": self.shape}
        with open(self.path, "r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + shape[0] * ROW_NBYTES)

    def __getitem__(self, index):
        return np.load(self.path)[index]

    def __setitem__(self, index, rows):
        np.load(self.path, mmap_mode="r+")[index] = rows

    def flush(self):
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())

    def close(self):
        pass


class Stores(ByHand):
    def __init__(self, path):
        super().__init__(path)
        self.head_nbytes = os.path.getsize(path) - self.shape[0] * ROW_NBYTES
        os.truncate(path, self.head_nbytes + 500 * ROW_NBYTES)
        self.file = np.memmap(path, "u1", "r+")
        self.count_at = self.file.tobytes().index(b"(") + 1

    def append(self, rows, *, sync=False):
        start = self.head_nbytes + self.shape[0] * ROW_NBYTES
        self.shape = (self.shape[0] + len(rows), WIDTH)
        self.file[self.count_at] += len(rows)  # the digit
        self.file[start : start + rows.nbytes] = rows.view("u1").reshape(-1)
        if sync:
            self.file.flush()


class InMemory(ByHand):
    def append(self, rows, *, sync=False):
        np.save(self.path, np.concatenate([np.load(self.path), rows]))
        self.shape = (self.shape[0] + len(rows), WIDTH)
        if sync:
            self.flush()

    def resize(self, shape):
        self.shape = shape = (shape, WIDTH) if isinstance(shape, int) else shape
        grown = np.zeros(shape, DTYPE)
        kept = np.load(self.path)[: len(grown)]
        grown[: len(kept)] = kept
        np.save(self.path, grown)

    def __setitem__(self, index, rows):
        changed = np.load(self.path)
        changed[index] = rows
        np.save(self.path, changed)


KINDS = GROWING | {"long header": LongHeader()}
KINDS |= {"by hand": GrownByHand(), "number first": NumberFirst(), "saved anew": SavedAnew()}


# ---- Who is killed ----


class Promise:
    """What the file may be held to at this instant.

    It has `low` or `high` rows, and any number between them where it is not exact. Those from `fresh` on are of
    `writer`, those before of any one until then. Where there is a `filler`, those from `low` on were made as zeros, and
    he may have filled them, or a part.
    """

    def __init__(self, low=0, high=0, is_exact=True, fresh=0, writer=0, filler=None):
        self.low, self.high, self.is_exact = low, high, is_exact
        self.fresh, self.writer, self.filler = fresh, writer, filler


class Appender:
    """Grows a file, and tells before and after each act what may be there."""

    def __init__(self, tell, kind, path, count, writer, filler=None):
        self.tell, self.kind, self.path, self.writer = tell, kind, path, writer
        self.count = self.fresh = count
        self.array = kind.open(path, "r+")
        length = kind.length(self.array)
        if length != count:  # somebody else was filling rows when he was killed
            self.count = length
            self.will_have(count, filler=filler)
            self.array.resize(self.kind.shape(count))
            self.has(count)

    def will_have(self, count, *, is_exact=True, filler=None):
        self.tell(*sorted([self.count, count]), is_exact, self.fresh, self.writer, filler)

    def has(self, count):
        assert self.array.shape == self.kind.shape(count)
        self.count, self.fresh = count, min(self.fresh, count)
        self.tell(count, count, True, self.fresh, self.writer)

    def rows(self, start, count):
        return self.kind.turned(rows_of(start, count, self.writer))

    def append(self, count, sync=False):
        rows = self.rows(self.count, count)
        self.will_have(self.count + count, is_exact=self.kind.is_exact)
        self.array.append(rows, sync=sync)
        self.has(self.count + count)

    def extend(self, *counts):
        starts = [self.count + sum(counts[:n]) for n in range(len(counts))]
        self.will_have(self.count + sum(counts), is_exact=False)
        self.array.extend(self.rows(*block) for block in zip(starts, counts, strict=True))
        self.has(self.count + sum(counts))

    def make_room(self, count):
        """Zeros first, the rows then."""
        start, end = self.count, self.count + count
        self.will_have(end, filler=self.writer)
        self.array.resize(end)  # rows, or the whole shape: both are right
        assert not self.kind.turned(self.array)[start:].any(), "what is made as zeros has something else"
        self.kind.turned(self.array)[start:] = rows_of(start, count, self.writer)
        self.has(end)

    def cut(self, count):
        self.will_have(count)
        self.array.resize(self.kind.shape(count))
        self.has(count)

    def reopen(self):
        self.array.close()
        self.array = self.kind.open(self.path, "r+")
        self.has(self.count)

    def flush(self):
        self.array.flush()

    def close(self):
        self.array.close()


def grow_forever(tell, kind, path, *state):
    one = Appender(tell, KINDS[kind], path, *state)
    acts = {
        lambda: one.append(1): 40,
        lambda: one.append(random.randint(2, 60)): 20,
        lambda: one.append(random.randint(1000, 5000)): 6,
        lambda: one.append(random.randint(0, 9), sync=True): 1,
        lambda: one.extend(1, 1, random.randint(0, 900), 2): 5,
        lambda: one.make_room(random.randint(1, 3000)): 4,
        lambda: one.cut(random.randint(0, one.count)): 2,
        one.reopen: 8,
        one.flush: 1,
    }
    while True:
        if one.count > MOST_ROWS:
            one.cut(random.randint(0, MOST_ROWS // 4))
        (act,) = random.choices([*acts], [*acts.values()])
        act()


def grow_in_every_way(tell, kind, path, count, writer):
    """Every window once: the first append, reserving, growing over what is reserved, cutting, trimming, coming back."""
    one = Appender(tell, KINDS[kind], path, count, writer)
    one.append(1)
    one.append(3)
    one.append(1700)  # more than what is reserved at first
    one.append(2, sync=True)
    one.extend(1, 0, 7)
    one.make_room(10)
    one.cut(one.count - 5)
    one.append(1)
    one.reopen()
    one.append(1)
    one.cut(3)
    one.append(2)
    one.close()


def append_by_steps(tell, name, path):
    """Appends into reserved space: the way of most."""
    one = Appender(tell, KINDS[name], path, 0, 1)
    one.append(1)
    one.array = Stepped(one.array)
    one.append(1)
    one.append(120)


def append_one_by_steps(tell, name, path):
    one = Appender(tell, KINDS[name], path, 0, 1)
    one.array = Stepped(one.array)
    one.append(1)


def grow_by_steps(tell, name, path):
    """The ways of all others: the first, with a sync, growing beyond what is reserved, and cutting."""
    one = Appender(tell, KINDS[name], path, 0, 1)
    one.array = Stepped(one.array)
    one.append(1)
    one.append(2, sync=True)
    one.append(1700)
    one.cut(9)
    one.append(1)
    one.close()


# ---- Who looks afterwards ----


def found(kind, path, promise):
    """How many rows can be relied on, or what is wrong, as text."""
    try:
        kind.settle(path)
        with_numpy = kind.turned(kind.load(path))
        array = kind.open(path, "r")
        rows = kind.turned(np.array(array))
        about = nf.info(path, **kind.hints(path))
    except (ValueError, OSError, EOFError) as error:
        return repr(error)
    if hasattr(array, "close"):
        array.close()
    if not np.array_equal(rows, with_numpy):
        return f"{rows.shape} rows here, {with_numpy.shape} or others for NumPy"
    if about.shape != kind.shape(len(rows)):
        return f"info tells {about.shape} of {kind.shape(len(rows))}"
    after = about.size - about.offset - len(rows) * ROW_NBYTES
    if after and f"{after} bytes follow the array" not in about.notes:
        return f"info tells {about.notes} of {after} bytes more"
    return _as_promised(rows, promise)


def _as_promised(rows, promise):
    count = len(rows)
    if not promise.low <= count <= promise.high:
        return f"{count} rows, not {promise.low} to {promise.high}"
    if promise.is_exact and count not in (promise.low, promise.high):
        return f"{count} rows, neither {promise.low} nor {promise.high}"
    if promise.filler is not None:
        wanted = _bytes(rows_of(promise.low, count - promise.low, promise.filler))
        rows, rest = rows[: promise.low], _bytes(rows[promise.low :])
        if not ((rest == 0) | (rest == wanted)).all():
            return f"neither rows nor zeros after row {promise.low}"
    old, new = rows[: promise.fresh], rows[promise.fresh :]
    wrong = first_wrong(old, 0, (0, promise.writer))
    if wrong is None:
        wrong = first_wrong(new, promise.fresh, (promise.writer, promise.writer))
    return len(rows) if wrong is None else f"row {wrong} of {count} is {rows[wrong].tolist()}"


def _bytes(rows):
    return np.ascontiguousarray(rows).view("u1")


def only_files_of(kind, folder):
    """Nothing is left but the file, and what a killed writer of its sidecar may leave; that is taken away."""
    for name in set(os.listdir(folder)) - {kind.name, f"{kind.name}.json"}:
        assert name.startswith(".ndfile-"), name
        os.unlink(os.path.join(folder, name))


def warm_up(kind, path):
    """Make the file; import what growth needs, so that no fork is killed while it does."""
    kind.create(path)
    told = []
    one = Appender(lambda *facts: told.append(facts), kind, path, 0, 0)
    one.append(1)
    one.cut(0)
    one.close()
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))
    kind.create(path)


def kill_often(name, folder, kills):
    """Kill at random; give the problems, and what was seen."""
    kind = KINDS[name]
    path = os.path.join(folder, kind.name)
    warm_up(kind, path)
    problems, seen = [], {"kills": kills, "told": 0, "in an act": 0, "files": 0, "longer than told": 0}
    count = None
    for writer in range(1, kills + 1):
        if count is None or writer % KILLS_A_FILE == 0:
            for one in os.listdir(folder):
                os.unlink(os.path.join(folder, one))
            kind.create(path)
            count, promise = 0, Promise()
            seen["files"] += 1
        try:
            told = killed(grow_forever, name, path, count, writer, promise.filler, within_s=MOST_S).told
        except AssertionError as error:
            problems.append(str(error))
            count = None
            continue
        promise = Promise(*told[-1]) if told else promise
        result = found(kind, path, promise)
        seen["told"] += len(told)
        seen["in an act"] += promise.low != promise.high
        if isinstance(result, str):
            problems.append(result)
            count = None
        else:
            seen["longer than told"] += result > promise.low
            count = result
        only_files_of(kind, folder)
    return problems, seen


def kill_at_each_call(name, folder):
    """Kill at every call of `grow_in_every_way`; give the problems, and where each kill was."""
    kind = KINDS[name]
    path = os.path.join(folder, kind.name)
    warm_up(kind, path)
    problems, places = [], []

    def look(ending):
        places.append(ending.where)
        promise = Promise(*ending.told[-1]) if ending.told else Promise()
        count = found(kind, path, promise)
        if not isinstance(count, str) and len(places) % GO_ON_EACH == 0:
            try:
                count = go_on(count)
            except AssertionError as error:
                count = str(error)
        if isinstance(count, str):
            problems.append(f"{ending.where}, after {ending.told[-2:]}: {count}")

    def go_on(count):
        """Append to what the killed one left."""
        only_files_of(kind, folder)
        told = []
        one = Appender(lambda *facts: told.append(facts), kind, path, count, 2)
        one.make_room(3)  # where the killed one may have written
        one.append(3)
        one.close()
        result = found(kind, path, Promise(*told[-1]))
        spare = os.path.getsize(path) % ROW_NBYTES if not kind.is_exact else nf.info(path).notes
        return f"{spare} is left after close" if spare and not isinstance(result, str) else result

    at_every_call(Folder(folder), grow_in_every_way, name, path, 0, 1, after=look)
    return problems, places


def step_through(work, name, library_folder, folder):
    """Look at the file at every instruction that changes it; give the problems, the looks and the instructions."""
    kind = KINDS[name]
    path = os.path.join(folder, kind.name)
    warm_up(kind, path)
    problems, looks = [], []

    def look(told):
        looks.append(told[-1])
        count = found(kind, path, Promise(*told[-1]))
        if isinstance(count, str):
            problems.append(f"after {told[-2:]}: {count}")

    steps = at_every_change(library_folder, path, work, name, path, look=look)
    if steps is None:
        pytest.skip("processes may not be traced here")
    return problems, looks, steps


# ---- The proof ----


@pytest.mark.parametrize("name", GROWING)
def test_no_kill_tears_or_loses_a_row(working_folder, name):
    started_s = time.monotonic()
    problems, seen = kill_often(name, working_folder, KILLS)
    assert problems == []
    assert seen["in an act"] > KILLS // 20  # it was killed at work
    record(f"append-kill-{name}", started_s, **seen, torn=0, lost=0)


@pytest.mark.parametrize("name", [*GROWING, "long header"])
def test_no_kill_at_any_call_tears_or_loses_a_row(tmp_path, working_folder, name):
    started_s = time.monotonic()
    problems, places = with_killing_calls(kill_at_each_call, tmp_path, name, working_folder)
    assert problems == []
    assert len(places) > 20
    assert places[-1] is None  # the last one came to its end
    record(f"append-kill-calls-{name}", started_s, instants=len(places) - 1, torn=0, lost=0)


@pytest.mark.parametrize("name", GROWING)
def test_no_instruction_of_an_append_leaves_a_torn_file(tmp_path, working_folder, name):
    problems, looks, _ = step_through(append_by_steps, name, tmp_path, working_folder)
    assert problems == []
    assert len(looks) >= 2  # each append changes the number of rows


@pytest.mark.skipif("NDFILE_ROUNDS_SCALE" not in os.environ, reason="takes a minute: it is of the long form")
@pytest.mark.parametrize("name", GROWING)
def test_no_instruction_of_growth_leaves_a_torn_file(tmp_path, working_folder, name):
    started_s = time.monotonic()
    problems, looks, steps = step_through(grow_by_steps, name, tmp_path, working_folder)
    assert problems == []
    assert len(looks) >= 5
    record(f"append-kill-instructions-{name}", started_s, instructions=steps, changes=len(looks), torn=0)


# ---- The controls ----


@pytest.mark.parametrize("name", ["by hand", "saved anew"])
def test_growth_by_hand_is_torn_at_random_and_at_calls(tmp_path, working_folder, name):
    """The harness kills where it matters, and sees what is torn."""
    problems, _ = kill_often(name, working_folder, 20)
    assert problems
    problems, _ = with_killing_calls(kill_at_each_call, tmp_path, name, working_folder)
    assert problems


def test_a_number_that_is_stored_before_its_rows_is_seen(tmp_path, working_folder):
    """Both are stores into memory: no system call comes between."""
    problems, _, _ = step_through(append_one_by_steps, "number first", tmp_path, working_folder)
    assert problems
