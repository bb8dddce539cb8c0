"""Faults, signals, forks and other threads in the middle of many rows: right values or an error, and nothing after."""

import contextlib
import gc
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
from cold_files import PAGE, cool
from devices import make_image, mounted, move_page
from faulty import call, forked, record, rounds, say

import ndfile as nf

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

# Rows of 1 KiB, each of them its own number over and over. All of them are enough for several threads.
ROWS, WIDTH = 4 << 10, 256
ROW_NBYTES = WIDTH * 4
NBYTES = ROWS * ROW_NBYTES
CUT = NBYTES // 2
ALL = np.arange(ROWS)
SHUFFLED = np.random.default_rng(1).permutation(ROWS)
OFTEN = np.tile(SHUFFLED, 4)  # takes a while
FEW = np.array([ROWS - 1, 3, ROWS - 2])

MODES = ["r", "r+", "c"]


def content():
    return np.repeat(ALL.astype("u4"), WIDTH).reshape(ROWS, WIDTH)


def make_file(folder, name="rows.dat"):
    path = os.path.join(folder, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    content().tofile(path)
    return path


def open_rows(path, mode="r", kind=nf.memmap, **options):
    return kind(path, "u4", mode, shape=(ROWS, WIDTH), **options)


def tasks():
    return len(os.listdir("/proc/self/task"))


needs_two_processors = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor, so one thread")


# ---- Ways to move many rows ----


def set_rows(array, index):
    array[index] = np.uint32(7)


def set_rows_from_array(array, index):
    array[index] = np.full((len(index), WIDTH), 8, "u4")


def set_all(array):
    array[...] = np.full((ROWS, WIDTH), 9, "u4")


READS = {
    "all, in order": lambda a: a[ALL],
    "all, shuffled": lambda a: a[SHUFFLED],
    "few": lambda a: a[FEW],
    "one": lambda a: a[[ROWS - 1]],
    "a list": lambda a: a[FEW.tolist()],
    "a mask": lambda a: a[np.ones(ROWS, bool)],
    "a part of each": lambda a: a[SHUFFLED, 1:3],
    "items": lambda a: a.reshape(-1)[SHUFFLED * WIDTH],
    "reversed": lambda a: a[::-1][SHUFFLED],
    "columns": lambda a: a.T[[0, 1, 255]],
    "take": lambda a: a.take(SHUFFLED, 0),
    "take into": lambda a: a.take(SHUFFLED, 0, out=np.empty((ROWS, WIDTH), "u4")),
    "batches": lambda a: list(nf.batches(a, SHUFFLED[:2000], 500)),
    "copy": lambda a: a.copy(),
}

STORES = {
    "store a number": lambda a: set_rows(a, SHUFFLED),
    "store an array": lambda a: set_rows_from_array(a, SHUFFLED),
    "store into few": lambda a: set_rows(a, FEW),
    "store by a mask": lambda a: set_rows(a, np.ones(ROWS, bool)),
    "add": lambda a: a.__setitem__(FEW, a[:3] + a[FEW]),
    "assign all": set_all,
    "assign a slice": lambda a: a.__setitem__(slice(100, None), np.uint32(5)),
    "assign, cast": lambda a: a.__setitem__(..., np.full((ROWS, WIDTH), 9, "i8")),
    "fill": lambda a: a.fill(3),
}


def ways(mode):
    return READS if mode == "r" else {**READS, **STORES}


def told_by(act):
    """The errors that an act is told, at the latest some lines later."""
    told = []
    try:
        act()
        _ = [divmod(7, 3) for _ in range(100)]  # calls and jumps, where an error of a plain view would come
    except nf.FaultError as error:
        told.append([error.cause, error.offset])
    try:
        _ = [divmod(7, 3) for _ in range(100)]
        left = nf._core.take_fault()
    except nf.FaultError as error:
        told.append(["late", error.offset])
        left = None
    return told if left is None else [*told, ["left", left[0]]]


# ---- A file that was cut ----


def use_cut_file(folder, mode, backend, is_warm):
    """What is not as it should be."""
    wrong = []
    for name, way in ways(mode).items():
        say([mode, backend, is_warm, name])
        path = make_file(folder)
        if not is_warm:
            cool(path)
        with contextlib.suppress(nf.FaultError), open_rows(path, mode, backend=backend) as array:
            if is_warm:
                for _ in range(20):  # from then on nothing is asked before
                    array[FEW[:1]]
                array.prefetch(wait=True)
            os.truncate(path, CUT)
            told = told_by(lambda array=array, way=way: way(array))
            if told != [["truncated", CUT]]:
                wrong.append([name, told])
            if told_by(lambda array=array: array[:10].sum()) or nf._core.take_fault() is not None:
                wrong.append([name, "the next statement"])
            there = np.arange(1000, 1050)
            if name not in STORES and not np.array_equal(array[there], content()[there]):
                wrong.append([name, "the rows that are left"])
            if told_by(lambda array=array: array[FEW]) != [["truncated", CUT]]:
                wrong.append([name, "again"])
        if os.path.getsize(path) != CUT:
            wrong.append([name, "the file's size"])
    return wrong


@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(
    ("mode", "backend"), [("r", "map"), ("r+", "map"), ("c", "map"), ("r", "read"), ("r+", "read")]
)
def test_many_rows_of_a_cut_file_are_one_error_and_nothing_after_it(tmp_path, mode, backend, is_warm):
    if not is_warm:
        cool(make_file(tmp_path))  # or skip
    assert call(use_cut_file, str(tmp_path), mode, backend, is_warm).result() == []


def use_numpys(folder, mode, way):
    path = make_file(folder)
    array = open_rows(path, mode, np.memmap)
    os.truncate(path, CUT)
    {**READS, **STORES}[way](array)


@pytest.mark.parametrize(("mode", "way"), [("r", "all, shuffled"), ("r+", "store an array"), ("r+", "assign all")])
def test_control_numpys_memmap_dies_of_it(tmp_path, mode, way):
    assert forked(use_numpys, str(tmp_path), mode, way).how == "SIGBUS"


# ---- Helper threads ----


def most_tasks_while(act, wanted):
    """How many threads the process has at most while an act is repeated, until there are as many as wanted."""
    most, is_over = [0], threading.Event()

    def watch():
        while not is_over.is_set():
            most[0] = max(most[0], tasks())

    watching = threading.Thread(target=watch)
    watching.start()
    deadline = time.monotonic() + 60
    while most[0] < wanted and time.monotonic() < deadline:
        act()
    is_over.set()
    watching.join()
    return most[0]


@needs_two_processors
def test_many_rows_in_memory_are_copied_by_several_threads_that_end(tmp_path):
    with open_rows(make_file(tmp_path)) as array:
        array.prefetch(wait=True)
        wanted = tasks() + 2  # the one that watches, and a helper
        assert most_tasks_while(lambda: array[OFTEN], wanted) >= wanted


def use_cut_file_in_shares(folder):
    """Rows that are lost in the caller's share, in a helper's, in all."""
    path = make_file(folder)
    array = open_rows(path)
    array.prefetch(wait=True)
    array[ALL]
    os.truncate(path, CUT)
    there, gone = ALL[: ROWS // 2], ALL[ROWS // 2 :]
    shares = {
        "caller": np.concatenate([gone, there, there, there]),
        "helper": np.concatenate([there, there, there, gone]),
        "last row": np.concatenate([there, there, there, gone[-1:]]),
        "all": np.concatenate([gone] * 4),
        "none": np.concatenate([there] * 4),
    }
    told = {}
    for name, index in shares.items():
        say(name)
        for _ in range(10):
            told.setdefault(name, []).append(told_by(lambda index=index: array[index]))
    return [told, np.array_equal(array[shares["none"]], content()[shares["none"]])]


@needs_two_processors
def test_a_fault_of_a_helper_is_the_caller_s_error_and_only_one(tmp_path):
    told, is_right = call(use_cut_file_in_shares, str(tmp_path)).result()
    one = [["truncated", CUT]]
    assert told == {**dict.fromkeys(["caller", "helper", "last row", "all"], [one] * 10), "none": [[]] * 10}
    assert is_right


def gather_in_two_threads(folder, count):
    """Both gather at once: one the rows that are left, the other those that are not.

    Lost pages are open for a moment while the second one is told. What the first one does to the array in that moment
    raises too, whatever its rows are.
    """
    path = make_file(folder)
    array = open_rows(path)
    array.prefetch(wait=True)
    os.truncate(path, CUT)
    there = np.tile(ALL[: ROWS // 2], 4)
    wanted = content()[there]
    wrong, told, seen = [], [], {"right": 0, "raised": 0}
    start = threading.Barrier(2)

    def whole():
        for _ in range(count):
            start.wait()
            try:
                if not np.array_equal(array[there], wanted):
                    wrong.append("values")
                seen["right"] += 1
            except nf.FaultError as error:
                if [error.cause, error.offset] != ["truncated", CUT]:
                    wrong.append(repr(error))
                seen["raised"] += 1

    def lost():
        for _ in range(count):
            start.wait()
            told.extend(told_by(lambda: array[SHUFFLED]))

    threads = [threading.Thread(target=whole), threading.Thread(target=lost)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not np.array_equal(array[there], wanted):
        wrong.append("values in the end")
    return [sorted(set(wrong)), told, seen, nf._core.take_fault()]


def test_of_two_threads_that_gather_the_one_that_faults_is_told(tmp_path):
    count = rounds(full=300, short=20)
    wrong, told, seen, left = call(gather_in_two_threads, str(tmp_path), count).result()
    assert wrong == []
    assert told == [["truncated", CUT]] * count
    assert sum(seen.values()) == count
    assert left is None


# ---- A file that is cut meanwhile ----


RACE_NBYTES = 4 << 20
RACE_ROWS = RACE_NBYTES // ROW_NBYTES


def race(folder, count):
    """Cut a file somewhere in the middle of a gather or a store, once in every round."""
    base = content()[:RACE_ROWS]
    path = os.path.join(folder, "race.dat")
    rng = random.Random(3)
    seen = {"right": 0, "raised": 0}
    problems = []
    index = np.tile(np.random.default_rng(2).permutation(RACE_ROWS), 2)
    for number in range(count):
        say(number)
        base.tofile(path)
        mode, act = rng.choice([("r", "gather"), ("r+", "gather"), ("r+", "store"), ("r+", "assign"), ("c", "gather")])
        array = nf.memmap(path, "u4", mode, shape=base.shape)
        cut = rng.randrange(RACE_NBYTES // PAGE) * PAGE
        delay_s = rng.random() * 3e-3
        cutting = threading.Thread(target=lambda cut=cut, s=delay_s: (time.sleep(s), os.truncate(path, cut)))
        cutting.start()
        try:
            for _ in range(3):
                if act == "gather":
                    problems += [] if np.array_equal(array[index], base[index]) else [[number, "values"]]
                elif act == "store":
                    array[index] = base[index]
                else:
                    array[...] = base
                seen["right"] += 1
        except nf.FaultError as error:
            problems += [] if error.cause == "truncated" else [[number, repr(error)]]
            seen["raised"] += 1
        cutting.join()
        if nf._core.take_fault() is not None:
            problems.append([number, "left"])
        if os.path.getsize(path) > cut:
            problems.append([number, "grown again"])
        with contextlib.suppress(nf.FaultError):
            array.close()
        os.unlink(path)
    return [seen, problems]


def test_a_file_that_is_cut_in_the_middle_gives_right_rows_or_an_error(tmp_path):
    started = time.monotonic()
    count = rounds(full=3000, short=60)
    seen, problems = call(race, str(tmp_path), count).result()
    record("gather_race", started, rounds=count, deaths=0, missed=len(problems), **seen)
    assert problems == []
    assert min(seen.values()) > 0  # both happened, or there was no race


# ---- A device that fails ----

DISK_BLOCKS = 8192  # of 4 KiB
DISK_PAGES = 4096
BAD = [1000, 3000]


def use_bad_disk(path, mode, way):
    """What a way of moving rows, of one page each, is told, and whether the good rows are right then."""
    array = nf.memmap(path, "u1", mode, shape=(DISK_PAGES, PAGE))
    index = np.random.default_rng(4).permutation(DISK_PAGES)
    good = np.setdiff1d(index[:200], [page + more for page in BAD for more in range(-2, 3)])
    told = told_by(lambda: BAD_WAYS[way](array, index))
    is_right = bool((array[good, 9] == good % 251).all()) if way != "store" else True
    hints = [array.prefetch(BAD, wait=True), array.prefetch(), array.residency().nbytes == array.nbytes]
    with contextlib.suppress(nf.FaultError):
        array.close()
    return [told, is_right, hints, nf._core.take_fault()]


def store_parts(array, index):
    array[index, 5:9] = 1  # so that each page has to be read


BAD_WAYS = {
    "gather": lambda a, index: a[index],
    "take": lambda a, index: a.take(index, 0),
    "in order": lambda a, index: a[np.sort(index)],
    "a part of each": lambda a, index: a[index, 3],
    "store": store_parts,
}


@pytest.fixture(scope="module")
def bad_disk(tmp_path_factory):
    """The path of a file on a disk that cannot read two pages of it."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "content").mkdir()
    pages = np.repeat((np.arange(DISK_PAGES) % 251).astype("u1"), PAGE)
    pages.tofile(folder / "content" / "x.dat")
    image = folder / "image"
    make_image(image, DISK_BLOCKS * PAGE, content=folder / "content")
    for block, page in enumerate(BAD, DISK_BLOCKS - len(BAD)):
        move_page(image, "/x.dat", page, block)
    with mounted(folder / "disk", "-o", "loop", image) as disk:
        os.truncate(image, (DISK_BLOCKS - len(BAD)) * PAGE)
        yield str(disk / "x.dat")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", BAD_WAYS)
def test_a_page_that_cannot_be_read_is_one_error_that_names_it(bad_disk, mode, way):
    if way == "store" and mode == "r":
        pytest.skip("a map that only reads")
    told, is_right, hints, left = forked(use_bad_disk, bad_disk, mode, way).result()
    assert len(told) == 1
    assert told[0][0] == "read failed"
    assert told[0][1] // PAGE in BAD
    assert is_right
    assert hints[0] is False  # some of it cannot be had
    assert hints[1:] == [True, True]
    assert left is None


def sum_bad_disk_like_numpy(path):
    np.memmap(path, "u1", "r", shape=(DISK_PAGES, PAGE))[np.arange(DISK_PAGES)].sum()


def test_control_numpys_memmap_dies_of_such_a_page(bad_disk):
    assert forked(sum_bad_disk_like_numpy, bad_disk).how == "SIGBUS"


# ---- Closing, interrupting, forking meanwhile ----


@pytest.mark.parametrize("backend", ["map", "read"])
@pytest.mark.parametrize("way", ["gather", "store", "assign"])
def test_closing_while_another_thread_moves_rows_waits_for_it(tmp_path, way, backend):
    wanted = content()
    path = make_file(tmp_path)
    for number in range(rounds(full=200, short=8)):
        array = open_rows(path, "r+", backend=backend)
        seen, begins = [], threading.Event()

        def move(array=array, seen=seen, begins=begins):
            begins.set()
            try:
                if way == "gather":
                    seen.append(array[OFTEN])
                elif way == "store":
                    array[OFTEN] = wanted[OFTEN]
                else:
                    array[...] = wanted
            except nf.ClosedError as error:
                seen.append(error)

        moving = threading.Thread(target=move)
        moving.start()
        begins.wait()
        time.sleep(number * 0.5e-3)
        array.close()
        moving.join()
        if seen and isinstance(seen[0], np.ndarray):
            assert np.array_equal(seen[0], wanted[OFTEN])
        assert array.closed
        assert nf._core.take_fault() is None
        assert np.array_equal(np.fromfile(path, "u4").reshape(ROWS, WIDTH), wanted)


class InterruptedGatherError(Exception):
    pass


@pytest.mark.parametrize("backend", ["map", "read"])
def test_a_signal_in_the_middle_is_answered_and_leaves_everything_whole(tmp_path, backend):
    wanted = content()[OFTEN]
    path = make_file(tmp_path)

    def answer(*_):
        raise InterruptedGatherError

    before = signal.signal(signal.SIGALRM, answer)
    try:
        with open_rows(path, "r+", backend=backend) as array:
            interrupted = 0
            for number in range(rounds(full=400, short=40)):
                array.release()
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-4 + (number % 20) * 1e-3)
                    result = array[OFTEN]
                    array[OFTEN] = wanted
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    assert np.array_equal(result, wanted)
                except InterruptedGatherError:
                    interrupted += 1
                assert nf._core.take_fault() is None
            assert interrupted > 0
            assert np.array_equal(array[OFTEN], wanted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert np.array_equal(np.fromfile(path, "u4").reshape(ROWS, WIDTH), content())


def fork_while_a_thread_gathers(folder, backend, count):
    """Children that use the array, and close it."""
    wanted = content()[OFTEN]
    array = open_rows(make_file(folder), "r+", backend=backend)
    is_over = threading.Event()
    wrong = []

    def gather():
        while not is_over.is_set():
            if not np.array_equal(array[OFTEN], wanted):
                wrong.append("values in the parent")

    gathering = threading.Thread(target=gather)
    gathering.start()
    for number in range(count):
        say(number)
        pid = os.fork()
        if pid == 0:
            is_right = np.array_equal(array[OFTEN], wanted)
            view = array[3:5]
            array.close()
            try:
                view.sum()
                is_right = False
            except nf.ClosedError:
                pass
            os._exit(0 if is_right else 1)
        deadline = time.monotonic() + 30
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(1e-3)
        if ended == (0, 0):
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
        if ended[1] != 0:
            wrong.append(["child", ended[1]])
            break
    is_over.set()
    gathering.join()
    return wrong


@pytest.mark.parametrize("backend", ["map", "read"])
def test_a_child_that_is_forked_while_a_thread_gathers_works_and_closes(tmp_path, backend):
    """What the thread was doing never ends in the child."""
    assert call(fork_while_a_thread_gathers, str(tmp_path), backend, rounds(full=300, short=20)).result() == []


# ---- Growing, and atomic blocks ----


@pytest.fixture
def table(tmp_path):
    """A `.npy` of the rows, mapped 'r+'."""
    path = str(tmp_path / "x.npy")
    np.save(path, content())
    with nf.open(path, "r+") as array:
        yield array


def test_rows_are_gathered_while_another_thread_appends(table):
    wanted = content()
    start = len(table)
    is_over = threading.Event()

    def append():
        number = start
        while not is_over.is_set() and number < start + 4000:
            table.append(np.full((10, WIDTH), number, "u4"))
            number += 10

    appending = threading.Thread(target=append)
    appending.start()
    try:
        for _ in range(20):
            assert np.array_equal(table[SHUFFLED], wanted[SHUFFLED])
            last = len(table)
            newest = table[np.arange(start, last)]
            assert (newest == (start + np.arange(last - start) // 10 * 10)[:, None]).all()
            assert (table[[-1]] >= last - 10).all()
    finally:
        is_over.set()
        appending.join()


@pytest.mark.parametrize("backend", ["map", "read"])
def test_rows_stored_in_an_atomic_block_are_seen_in_it_and_reach_the_file_at_its_end(table, backend):
    path = table.filename
    table.backend = backend
    wanted = content()
    some = SHUFFLED[:1000]
    with table.atomic():
        table[some] = wanted[some] = np.uint32(5)
        table[FEW] = wanted[FEW] = np.uint32(6)
        table[1000:3000] = wanted[1000:3000] = wanted[:2000] + 1
        assert np.array_equal(table[SHUFFLED], wanted[SHUFFLED])
        assert np.array_equal(table.take(ALL, 0), wanted)
        assert np.array_equal(table.copy(), wanted)
        assert table.prefetch(SHUFFLED, wait=True) is True
        assert np.array_equal(np.load(path), content())
    assert np.array_equal(np.load(path), wanted)
    assert np.array_equal(table[SHUFFLED], wanted[SHUFFLED])


def test_rows_stored_in_a_block_that_ends_by_an_error_are_gone(table):
    with contextlib.suppress(InterruptedGatherError), table.atomic():
        table[SHUFFLED] = 1
        table[...] = 2
        raise InterruptedGatherError
    assert np.array_equal(table[SHUFFLED], content()[SHUFFLED])
    assert np.array_equal(np.load(table.filename), content())


def test_a_gather_in_another_thread_sees_rows_of_before_or_after_a_block(table):
    """Pages become private and then the file's again under it, at the same addresses."""
    is_over = threading.Event()
    odd = []

    def gather():
        while not is_over.is_set():
            rows = table[SHUFFLED]
            # A row is one page or two, and a block changes all of its items by one.
            if not (np.abs(rows[:, 0].astype("i8") - SHUFFLED) <= 10).all():
                odd.append(rows)

    gathering = threading.Thread(target=gather)
    gathering.start()
    try:
        for _ in range(10):
            with table.atomic():
                table[ALL] = table[ALL] + 1
    finally:
        is_over.set()
        gathering.join()
    assert not odd
    assert np.array_equal(table[ALL], content() + 10)
    assert np.array_equal(np.load(table.filename), content() + 10)
