"""What the guard does, fact by fact."""

import contextlib
import ctypes
import errno
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from faulty import PAGE, call, compile_library, forked, say

import ndfile as nf

PAGES = 8
SIZE = PAGES * PAGE


def content():
    return (np.arange(SIZE) % 251).astype("u1")


def make_file(folder, name="x.dat"):
    path = os.path.join(folder, name)
    content().tofile(path)
    return path


def map_cut_file(folder, mode="r"):
    """A map whose file was cut to its first page, and its path."""
    path = make_file(folder)
    array = nf.memmap(path, "u1", mode)
    os.truncate(path, PAGE)
    return array, path


def facts_of(error):
    return [type(error).__name__, error.path, error.cause, error.offset]


# Writes through maps that only read


def write(array, start, nbytes, byte=7):
    ctypes.memset(array.ctypes.data + start, byte, nbytes)


@pytest.mark.parametrize("start", [0, 1, PAGE, SIZE - 1])
def test_a_write_through_a_map_that_only_reads_raises_and_changes_nothing(tmp_path, start):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r")
    for _ in range(3):
        with pytest.raises(nf.ReadOnlyError) as caught:
            write(array, start, SIZE - start)
        assert facts_of(caught.value) == ["ReadOnlyError", path, "read-only", start]
        np.testing.assert_array_equal(array, content())
        np.testing.assert_array_equal(np.fromfile(path, "u1"), content())
    array.check()


def test_a_write_through_a_forced_array_over_a_map_that_only_reads_raises(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r")
    # What torch.from_numpy does: the address, without the flag.
    forced = np.ctypeslib.as_array(ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_uint8)), (SIZE,))
    with pytest.raises(nf.ReadOnlyError):
        forced.fill(9)
    np.testing.assert_array_equal(array, content())
    assert not array.flags.writeable


def write_to_numpys(path):
    write(np.memmap(path, "u1", "r"), 0, SIZE)


def test_control_a_write_through_numpys_memmap_that_only_reads_dies(tmp_path):
    assert call(write_to_numpys, make_file(tmp_path)).how == "SIGSEGV"


def private_mib():
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty")) // 1024


def count_maps():
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)


class Watch(threading.Thread):
    """The most private memory and mappings that this process is seen with."""

    def __init__(self):
        super().__init__()
        self.mib, self.maps, self.samples = 0, 0, 0
        self.is_over = threading.Event()
        self.start()

    def run(self):
        while not self.is_over.is_set():
            self.mib, self.maps = max(self.mib, private_mib()), max(self.maps, count_maps())
            self.samples += 1

    def end(self):
        self.is_over.set()
        self.join()


def watch_long_write(path, nbytes, mode):
    array = nf.memmap(path, "u1", mode)
    if mode == "r+":
        os.truncate(path, PAGE)
    private, maps = private_mib(), count_maps()
    watch = Watch()
    try:
        write(array, 0, nbytes)  # without the interpreter's lock: the other thread looks on
        return None
    except (nf.ReadOnlyError, nf.FaultError) as error:
        cause = error.cause
    watch.end()
    return {"cause": cause, "mib": watch.mib - private, "maps": watch.maps - maps, "samples": watch.samples}


@pytest.mark.parametrize(("mode", "cause"), [("r", "read-only"), ("r+", "truncated")])
def test_a_long_write_that_has_nowhere_to_go_takes_bounded_memory_and_few_mappings(tmp_path, mode, cause):
    path, nbytes = str(tmp_path / "sparse.dat"), 1 << 30
    with open(path, "wb") as file:
        file.truncate(nbytes)
    seen = call(watch_long_write, path, nbytes, mode).result()
    assert seen["cause"] == cause
    assert seen["samples"] > 10  # the control: it was looked at meanwhile
    assert seen["mib"] < 128
    assert seen["maps"] < 64


# Closed mappings


@pytest.mark.at_once
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_every_access_through_a_left_over_plain_view_raises_closed_error(tmp_path, mode):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", mode)
    view, buffer = np.asarray(array), memoryview(array)
    array.close()
    for _ in range(3):
        for use in (lambda: view.sum(), lambda: bytes(buffer), lambda: buffer[0], lambda: view[-1]):
            with pytest.raises(nf.ClosedError) as caught:
                use()
            assert (caught.value.path, caught.value.cause) == (path, "closed")
        with pytest.raises(nf.ClosedError):
            array.sum()


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_writes_through_a_left_over_plain_view_raise_and_reach_no_file(tmp_path, mode):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", mode)
    view = np.asarray(array)
    array.close()
    for _ in range(2):
        with pytest.raises(nf.ClosedError):
            view.fill(3)
    np.testing.assert_array_equal(np.fromfile(path, "u1"), content())


def test_closing_writes_what_was_changed_and_gives_back_the_file_with_views_alive(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r+")
    views = [np.asarray(array), array[1:], memoryview(array), array.T, array.reshape(2, -1)]
    array[0] = 99
    descriptors = os.listdir("/proc/self/fd")
    array.close()
    assert len(os.listdir("/proc/self/fd")) == len(descriptors) - 1
    with open("/proc/self/maps") as maps:
        assert path not in maps.read()
    assert np.fromfile(path, "u1")[0] == 99
    os.unlink(path)
    np.zeros(3).tofile(path)
    assert nf.memmap(path, "f8", "r").sum() == 0
    for view in views:
        with pytest.raises(nf.ClosedError):
            np.asarray(view).sum()


def close_and_unmount(folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    array = nf.memmap(make_file(folder), "u1", "r+")
    view = np.asarray(array)
    was_busy = subprocess.run(["umount", folder], check=False, capture_output=True).returncode != 0
    array.close()
    unmounted = subprocess.run(["umount", folder], check=False).returncode == 0
    try:
        view.sum()
        return None
    except nf.ClosedError:
        return [was_busy, unmounted]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_the_file_system_of_a_closed_map_can_be_unmounted(tmp_path):
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("mounting is not allowed here")
    assert call(close_and_unmount, str(tmp_path)).result() == [True, True]


def sum_view_of_closed(folder):
    array = nf.memmap(make_file(folder), "u1", "r")
    view = np.asarray(array)
    ended = forked(close_in_child, array, view)
    return [ended.how, ended.said, int(view[5])]


def close_in_child(array, view):
    array.close()
    try:
        view.sum()
        return
    except nf.ClosedError:
        say("closed")


def test_a_child_that_closes_leaves_its_parents_map_open(tmp_path):
    assert call(sum_view_of_closed, str(tmp_path)).result() == [0, ["closed"], 5]


# Errors


def test_a_fault_tells_path_offset_cause_and_number(tmp_path):
    array, path = map_cut_file(tmp_path)
    with pytest.raises(OSError, match=r"the file was cut while it was mapped, it ends at byte 4096") as caught:
        array.sum()
    error = caught.value
    assert facts_of(error) == ["FaultError", path, "truncated", PAGE]
    assert (error.errno, error.strerror, error.filename) == (errno.ENODATA, os.strerror(errno.ENODATA), path)
    assert str(path) in str(error)


# In Python's own structures. Each statement is the last of its block: there the next one is already outside.


@pytest.fixture
def view(request, tmp_path):
    """A plain view of a map whose file was cut to its first page."""
    array, _ = map_cut_file(tmp_path)
    yield np.asarray(array)
    request.node.funcargs.clear()


def last_is_a_call(view):
    try:
        view.sum()
    except nf.FaultError:
        return "caught"
    return "next line"


def last_is_an_operator(view):
    try:
        view + 1
    except nf.FaultError:
        return "caught"
    return "next line"


def last_is_an_assignment(view):
    try:
        item = view[-1]
    except nf.FaultError:
        return "caught"
    return f"next line with {item}"


def last_is_an_assert(view):
    try:
        assert view[-1] == 0
    except nf.FaultError:
        return "caught"
    return "next line"


def in_a_with_block(view):
    with pytest.raises(nf.FaultError):
        view[-1]
    return "caught"


def in_a_called_function(view):
    def item():
        return view[-1]

    try:
        return item()
    except nf.FaultError:
        return "caught"


def in_a_lambda(view):
    item = lambda: view[-1]  # noqa: E731  # a function of one line
    try:
        return item()
    except nf.FaultError:
        return "caught"


def in_a_generator(view):
    def items():
        try:
            yield view[-1]
        except nf.FaultError:
            yield "caught"

    return next(items())


def in_a_generator_that_does_not_catch(view):
    def items():
        yield view[-1]

    try:
        return next(items())
    except nf.FaultError:
        return "caught"


def in_a_comprehension(view):
    try:
        return [view[place] for place in (-1, -2)]
    except nf.FaultError:
        return "caught"


def in_a_loop(view):
    for _ in range(3):
        try:
            view[-1]
        except nf.FaultError:
            return "caught"
    return "next line"


def in_a_condition(view):
    try:
        if view[-1] == 0:
            return "branch"
    except nf.FaultError:
        return "caught"
    return "next line"


def in_finally(view):
    try:
        try:
            raise KeyError
        finally:
            view[-1]
    except nf.FaultError as error:
        return "caught" if isinstance(error.__context__, KeyError) else repr(error.__context__)
    except KeyError:
        return "KeyError"


def in_an_except_block(view):
    try:
        try:
            raise KeyError
        except KeyError:
            view[-1]
    except nf.FaultError:
        return "caught"
    return "next line"


def in_exit(view):
    class Manager:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            view.sum()

    try:
        with Manager():
            pass
    except nf.FaultError:
        return "caught"
    return "next line"


def in_sorted(view):
    try:
        return sorted((1, 2), key=lambda place: view[-place])
    except nf.FaultError:
        return "caught"


STRUCTURES = {
    function.__name__: function
    for function in (
        last_is_a_call,
        last_is_an_operator,
        last_is_an_assignment,
        last_is_an_assert,
        in_a_with_block,
        in_a_called_function,
        in_a_lambda,
        in_a_generator,
        in_a_generator_that_does_not_catch,
        in_a_comprehension,
        in_a_loop,
        in_a_condition,
        in_finally,
        in_an_except_block,
        in_exit,
        in_sorted,
    )
}


@pytest.mark.at_once
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_a_fault_in_a_plain_view_is_caught_where_it_happens(view, structure):
    try:
        answers = [structure(view), structure(view)]
    except nf.FaultError:
        answers = "too late: raised behind the statement"
    assert answers == ["caught", "caught"]


# Here the faulting instruction is the last of its block, so that the next one is outside: the error comes before the
# next line, but behind the block.


def last_is_a_return(view):
    try:
        return view[-1]
    except nf.FaultError:
        return "caught"


def last_is_a_store(view):
    try:
        np.empty(SIZE, "u1")[:] = view
    except nf.FaultError:
        return "caught"
    return "next line"


def in_map(view):
    try:
        return list(map(view.item, (-1, -2)))
    except nf.FaultError:
        return "caught"


@pytest.mark.at_once
@pytest.mark.parametrize("structure", [last_is_a_return, last_is_a_store, in_map])
def test_a_fault_in_the_last_instruction_of_a_block_is_raised_before_the_next_line(view, structure):
    for _ in range(2):
        reached = []
        with pytest.raises(nf.FaultError):
            reached.append(structure(view))
        assert reached == []


@pytest.mark.at_once
def test_a_fault_in_a_coroutine_is_caught_where_it_happens(view):
    import asyncio

    async def read():
        await asyncio.sleep(0)
        try:
            view[-1]
        except nf.FaultError:
            return "caught"
        return "next line"

    async def read_three():
        return await asyncio.gather(read(), read(), read())

    assert asyncio.run(read_three()) == ["caught"] * 3


# Other threads


TOUCH = """
#include <pthread.h>

static void *run(void *address) { volatile char byte = *(volatile char *)address; (void)byte; return 0; }

int touch_in_a_thread(void *address) {
    pthread_t thread;
    return pthread_create(&thread, 0, run, address) || pthread_join(thread, 0);
}
"""


def touch_in_threads_of_c(folder, library):
    touch = ctypes.CDLL(library).touch_in_a_thread
    array, path = map_cut_file(folder)
    told = []
    for _ in range(3):
        try:
            touch(ctypes.c_void_p(array.ctypes.data + 2 * PAGE))
            for _ in range(1000):
                pass
        except nf.FaultError as error:
            told.append([error.cause, error.path == path, error.offset])
    view = np.asarray(array)
    try:
        view.sum()
        told.append("next line")
    except nf.FaultError as error:
        told.append([error.cause, error.path == path, error.offset])
    return told


def test_a_fault_in_a_thread_that_is_not_pythons_is_raised_in_the_main_thread(tmp_path):
    library = compile_library(tmp_path, TOUCH)
    told = call(touch_in_threads_of_c, str(tmp_path), library).result()
    assert told == [["truncated", True, PAGE]] * 4


def touch_in_many_threads_of_c(folder, library):
    """More threads than the guard has records: none may be kept by a thread that is gone."""
    touch = ctypes.CDLL(library).touch_in_a_thread
    array, _ = map_cut_file(folder)
    for _ in range(1000):
        with contextlib.suppress(nf.FaultError):
            touch(ctypes.c_void_p(array.ctypes.data + 2 * PAGE))
    other = nf.memmap(make_file(folder, "other.dat"), "u1", "r")
    os.truncate(other.filename, 2 * PAGE)
    try:
        np.asarray(other).sum()
        return "next line"
    except nf.FaultError as error:
        return [error.path == other.filename, error.offset]


def test_a_thousand_faults_in_threads_that_are_gone_leave_the_guard_as_it_was(tmp_path):
    library = compile_library(tmp_path, TOUCH)
    assert call(touch_in_many_threads_of_c, str(tmp_path), library).result() == [True, 2 * PAGE]


def test_an_error_in_a_worker_is_the_workers_alone(tmp_path):
    array, _ = map_cut_file(tmp_path)
    view, log = np.asarray(array), []

    def work():
        try:
            view.sum()
            log.append("next line")
        except nf.FaultError:
            log.append("told")

    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert log == ["told"] * 20


def use_under(setter, getter, wanted, folder):
    """Meet a fault with a tracer or profiler set, and one before it is set."""
    events = []

    def watcher(frame, event, argument):
        events.append(event)
        return watcher

    array, _ = map_cut_file(folder)
    view = np.asarray(array)
    answers = [last_is_a_call(view)]
    setter(watcher)
    answers.append(last_is_a_call(view))
    kept = getter() is watcher
    setter(None)
    return [answers, kept, sorted(wanted.intersection(events))]


def use_traced(folder):
    return use_under(sys.settrace, sys.gettrace, {"call", "line", "exception", "return"}, folder)


def use_profiled(folder):
    return use_under(sys.setprofile, sys.getprofile, {"call", "return"}, folder)


def test_a_traced_thread_keeps_its_tracer_and_is_told(tmp_path):
    events = ["call", "exception", "line", "return"]
    assert call(use_traced, str(tmp_path), timeout_s=60).result() == [["caught"] * 2, True, events]


@pytest.mark.at_once
def test_a_profiled_thread_keeps_its_profiler_and_is_told(tmp_path):
    assert call(use_profiled, str(tmp_path), timeout_s=60).result() == [["caught"] * 2, True, ["call", "return"]]


def test_after_a_fault_no_tracer_is_left(view):
    assert last_is_a_call(view) == "caught"
    assert sys.gettrace() is None
    with pytest.raises(nf.FaultError):
        memoryview(view).tobytes()
    assert sys.gettrace() is None


def raise_later(thread):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(KeyboardInterrupt))
    for _ in range(1000):
        pass


def test_an_asynchronous_exception_of_somebody_else_is_not_lost(tmp_path):
    array, _ = map_cut_file(tmp_path)
    with pytest.raises(nf.FaultError):
        array.sum()
    thread = ctypes.c_ulong(threading.get_ident())
    with pytest.raises(KeyboardInterrupt):
        raise_later(thread)


# After a fault


def test_a_fault_in_one_map_leaves_the_others_alone(tmp_path):
    whole = nf.memmap(make_file(tmp_path, "whole.dat"), "u1", "r+")
    array, _ = map_cut_file(tmp_path)
    with pytest.raises(nf.FaultError):
        array.sum()
    whole[0] = 3
    whole.flush()
    whole.check()
    assert whole[0] == 3


def test_lost_pages_are_given_back_with_the_array(tmp_path):
    before = count_maps()
    for _ in range(50):
        array, _ = map_cut_file(tmp_path)
        with pytest.raises(nf.FaultError):
            array.sum()
        del array
        gc.collect()
    assert count_maps() - before < 10
