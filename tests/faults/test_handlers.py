"""Neighbours: whoever else handles these signals, before or after the guard, sees what they would see without it."""

import ctypes
import faulthandler
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import machinery

import faulty
import numpy as np
import pytest
from faulty import PAGE, call, compile_library, forked, say

import ndfile as nf

SIGNALS = (signal.SIGBUS, signal.SIGSEGV)


def cut_file(folder, name, open_map):
    """A map of a file that was cut under it."""
    path = os.path.join(folder, f"{name}-{os.getpid()}.dat")
    np.ones(4 * PAGE, "u1").tofile(path)
    array = open_map(path)
    os.truncate(path, PAGE)
    return array


def open_ours(path):
    return nf.memmap(path, "u1", "r")


def open_numpys(path):
    return np.memmap(path, "u1", "r")


def second_copy(folder):
    """ndfile once more: other files, other module names, so other variables."""
    copy = tempfile.mkdtemp(dir=folder)
    shutil.copytree(os.path.dirname(nf.__file__), os.path.join(copy, "ndfile"))
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ndfile"}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, copy)
    # An editable installation finds its own files whatever the path says.
    finders = sys.meta_path[:]
    sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, machinery.PathFinder]
    importlib.invalidate_caches()
    import ndfile as second

    sys.meta_path[:] = finders
    sys.path.remove(copy)
    seconds = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ndfile"}
    for name in seconds:
        del sys.modules[name]
    sys.modules.update(ours)
    assert second.__file__.startswith(copy)
    assert second.FaultError is not nf.FaultError
    # Its core looks for its errors by name when it meets its first mapping.
    sys.modules.update(seconds)
    array = second.memmap(second.__file__, "u1", "r")
    sys.modules.update(ours)
    return second, array


# The neighbours


def set_default(folder):
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def set_ignore(folder):
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def set_faulthandler(folder):
    faulthandler.enable()


def set_python(folder):
    for number in SIGNALS:
        signal.signal(number, lambda number, _: say(f"handler of {signal.Signals(number).name}"))


def set_second(folder):
    return second_copy(folder)


NEIGHBOURS = {
    "default": set_default,
    "ignore": set_ignore,
    "faulthandler": set_faulthandler,
    "signal.signal": set_python,
    "second guard": set_second,
}


# What happens then


def our_fault(folder, neighbour):
    array = cut_file(folder, "ours", open_ours)
    for _ in range(2):
        try:
            array.sum()
        except nf.FaultError as error:
            say(error.cause)
    view = np.asarray(array)
    try:
        view.sum()
        return
    except nf.FaultError as error:
        say(error.cause)
    if neighbour is not None:
        second, _ = neighbour
        array = cut_file(folder, "theirs", lambda path: second.memmap(path, "u1", "r"))
        try:
            array.sum()
        except second.FaultError as error:
            say(f"theirs: {error.cause}")


def foreign_segv(folder, neighbour):
    ctypes.string_at(8)


def foreign_bus(folder, neighbour):
    cut_file(folder, "numpys", open_numpys).sum()


def kill_bus(folder, neighbour):
    os.kill(os.getpid(), signal.SIGBUS)


def kill_segv(folder, neighbour):
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_bus_twice(folder, neighbour):
    kill_bus(folder, neighbour)
    kill_bus(folder, neighbour)


FOREIGN = {
    "foreign SIGSEGV": foreign_segv,
    "foreign SIGBUS": foreign_bus,
    "kill -BUS": kill_bus,
    "kill -SEGV": kill_segv,
    "kill -BUS twice": kill_bus_twice,
}
EVENTS = {"our fault": our_fault, **FOREIGN}
WHEN = ("before", "after", "before and after")

CELLS = [(when, neighbour, event) for when in WHEN for neighbour in NEIGHBOURS for event in EVENTS]


def live(folder, when, neighbour, event, has_ndfile):
    """The life of one process: a neighbour's handler, ours, and a signal."""
    # Python's handlers run between instructions of Python, so a fault that goes to one happens again and again.
    is_endless = neighbour == "signal.signal" and event in ("foreign SIGSEGV", "foreign SIGBUS")
    signal.setitimer(signal.ITIMER_REAL, 0.3 if is_endless else 60)
    set_neighbour = NEIGHBOURS[neighbour]
    if not has_ndfile and neighbour == "second guard":
        set_neighbour = NEIGHBOURS["default"]
    second, arrays = None, []
    own = os.path.join(folder, "own.dat")
    if "before" in when:
        second = set_neighbour(folder)
    if has_ndfile:
        arrays.append(open_ours(own))
    if "after" in when:
        second = set_neighbour(folder)
        if has_ndfile:
            arrays.append(open_ours(own))
    EVENTS[event](folder, second)
    say("went on")


def live_all(folder, has_ndfile):
    np.ones(PAGE, "u1").tofile(os.path.join(folder, "own.dat"))
    lives = []
    for when, neighbour, event in CELLS:
        if event == "our fault" and not has_ndfile:
            lives.append(None)
            continue
        say([when, neighbour, event])
        ending = forked(live, folder, when, neighbour, event, has_ndfile)
        lives.append({"how": ending.how, "said": ending.said, "dumps": dumps(ending.errors)})
    return lives


def dumps(errors):
    """What faulthandler told: which faults, and where."""
    told = ("Fatal", "in foreign", "in kill")
    return [line.strip() for line in errors.splitlines() if any(words in line for words in told)]


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """How each cell ended with ndfile and without."""
    started = time.monotonic()
    ours = call(live_all, str(tmp_path_factory.mktemp("with")), True).result()
    without = call(live_all, str(tmp_path_factory.mktemp("without")), False).result()
    faulty.record("handlers", started, cells=len(CELLS))
    return {cell: pair for cell, *pair in zip(CELLS, ours, without, strict=True)}


# The second copy has no error classes of its own: its facts arrive only where they are raised at once.
BESIDE = [pytest.param(n, marks=pytest.mark.at_once) if n == "second guard" else n for n in NEIGHBOURS]


@pytest.mark.parametrize("neighbour", BESIDE)
@pytest.mark.parametrize("when", WHEN)
def test_our_faults_become_errors_beside_every_neighbour(lives, when, neighbour):
    ours, _ = lives[when, neighbour, "our fault"]
    theirs = ["theirs: truncated"] if neighbour == "second guard" else []
    assert ours == {"how": 0, "said": ["truncated"] * 3 + theirs + ["went on"], "dumps": []}


@pytest.mark.parametrize("event", FOREIGN)
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("when", WHEN)
def test_other_signals_end_as_they_would_without_ndfile(lives, when, neighbour, event):
    ours, without = lives[when, neighbour, event]
    assert ours == without


def test_control_without_ndfile_faults_kill_and_handlers_are_called(lives):
    ends = {cell: without["how"] for cell, (_, without) in lives.items() if without is not None}
    assert ends["before", "default", "foreign SIGSEGV"] == "SIGSEGV"
    assert ends["before", "ignore", "foreign SIGBUS"] == "SIGBUS"
    assert ends["before", "ignore", "kill -BUS"] == 0
    assert ends["before", "default", "kill -BUS"] == "SIGBUS"
    assert ends["before", "signal.signal", "foreign SIGSEGV"] == "SIGALRM"
    without = lives["after", "signal.signal", "kill -SEGV"][1]
    assert (without["how"], without["said"]) == (0, ["handler of SIGSEGV", "went on"])
    without = lives["before", "faulthandler", "foreign SIGBUS"][1]
    assert without["how"] == "SIGBUS"
    assert without["dumps"][0] == "Fatal Python error: Bus error"
    assert any("in foreign_bus" in line for line in without["dumps"])


# Handlers in C, which may jump out of a fault or mend it


C_HANDLER = """
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static sigjmp_buf place;
static volatile int code;

static void jump(int number, siginfo_t *info, void *context) { code = info->si_code; siglongjmp(place, number); }

void set_handler(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = jump;
    action.sa_flags = SA_SIGINFO;
    sigaction(number, &action, 0);
}

int probe(const volatile char *address) {
    int number = sigsetjmp(place, 1);
    if (number == 0) { (void)*address; }
    return number;
}
"""


def probe_addresses(folder, library, after):
    c = ctypes.CDLL(library)
    own = os.path.join(folder, "own.dat")
    np.ones(PAGE, "u1").tofile(own)
    arrays = [open_ours(own)] if after else []
    for number in SIGNALS:
        c.set_handler(int(number))
    arrays.append(open_ours(own))
    numpys = cut_file(folder, "numpys", open_numpys)
    answers = []
    for _ in range(3):
        answers += [c.probe(ctypes.c_void_p(8)), c.probe(ctypes.c_void_p(numpys.ctypes.data + 2 * PAGE))]
    ours = cut_file(folder, "ours", open_ours)
    try:
        ours.sum()
    except nf.FaultError:
        say("ours")
    return answers


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_handler_that_jumps_out_of_foreign_faults_keeps_working(tmp_path, after):
    library = compile_library(tmp_path, C_HANDLER)
    ending = call(probe_addresses, str(tmp_path), library, after, timeout_s=60)
    assert ending.result() == [int(signal.SIGSEGV), int(signal.SIGBUS)] * 3
    assert ending.said == ["ours"]


# Outside of the guard's business


def dispositions(process="self"):
    """The numbers of signals that a process catches and ignores, from the set of SIGNALS."""
    sets = {}
    with open(f"/proc/{process}/status") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name in ("SigCgt", "SigIgn"):
                sets[name] = [int(number) for number in SIGNALS if int(value, 16) >> (number - 1) & 1]
    return sets


def look_before_and_after_the_first_mapping(folder):
    path = os.path.join(folder, "own.dat")
    np.ones(PAGE, "u1").tofile(path)
    before = dispositions(), len(os.listdir("/proc/self/task"))
    array = open_ours(path)
    after = dispositions(), len(os.listdir("/proc/self/task"))
    array.close()
    return [before, after]


def test_there_is_no_handler_before_the_first_mapping_and_never_a_thread(tmp_path):
    before, after = call(look_before_and_after_the_first_mapping, str(tmp_path)).result()
    assert before[0] == {"SigCgt": [], "SigIgn": []}
    assert after[0] == {"SigCgt": [int(number) for number in SIGNALS], "SigIgn": []}
    assert before[1] == after[1]


def run_cat(folder):
    path = os.path.join(folder, "own.dat")
    np.ones(PAGE, "u1").tofile(path)
    array = open_ours(path)
    assert dispositions()["SigCgt"]
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    array.close()
    return [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigCgt", "SigIgn"))]


def test_programs_started_from_here_have_the_default(tmp_path):
    for signals in call(run_cat, str(tmp_path)).result():
        assert not any(signals >> (number - 1) & 1 for number in SIGNALS)


GDB_SCRIPT = """
set debuginfod enabled off
set confirm off
run
printf "first %#lx\\n", (unsigned long)$pc
continue
printf "second %#lx\\n", (unsigned long)$pc
continue
"""


@pytest.mark.skipif(shutil.which("gdb") is None, reason="needs gdb")
def test_a_foreign_fault_ends_the_process_at_its_true_place(tmp_path):
    # The second stop is the one that a core dump would show: nothing handles it any more.
    program = f"import sys; sys.path[:] = {sys.path!r}; import ndfile, ctypes; " + (
        f"array = ndfile.memmap({str(tmp_path / 'x.dat')!r}, 'u1', 'r'); ctypes.string_at(8)"
    )
    np.ones(PAGE, "u1").tofile(tmp_path / "x.dat")
    (tmp_path / "script").write_text(GDB_SCRIPT)
    command = ["gdb", "-batch", "-nx", "-x", str(tmp_path / "script"), "--args", sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    places = dict(line.split() for line in output.splitlines() if line.startswith(("first ", "second ")))
    assert places["first"] == places["second"], output
    assert "SIGSEGV" in output


# Off


def use_cut_file(folder, off_by_call):
    if off_by_call:
        array = cut_file(folder, "ours", open_ours)
        try:
            array.sum()
        except nf.FaultError:
            say("on")
        assert nf.guard(False) is True
    assert nf.guard() is False
    array = cut_file(folder, "ours", open_ours)
    say("off")
    array.sum()


@pytest.mark.parametrize("by_call", [False, True], ids=["NDFILE_GUARD=0", "nf.guard(False)"])
def test_without_the_guard_a_cut_file_kills(tmp_path, by_call):
    ending = call(use_cut_file, str(tmp_path), by_call, environment=None if by_call else {"NDFILE_GUARD": "0"})
    assert ending.how == "SIGBUS"
    assert ending.said == (["on", "off"] if by_call else ["off"])


def close_with_views(folder):
    path = os.path.join(folder, "own.dat")
    np.ones(PAGE, "u1").tofile(path)
    refused = []
    for hold in (np.asarray, memoryview, lambda array: array[1:], lambda array: memoryview(array._mmap)):
        array = open_ours(path)
        view = hold(array)
        try:
            array.close()
        except BufferError:
            refused.append(not array.closed and int(view[-1]) == 1)
        del view
        array.close()
        refused.append(array.closed)
    return refused


def turn_off_and_on(folder):
    was_on = nf.guard(False)
    refused = close_with_views(folder)
    caught_while_off = dispositions()["SigCgt"]
    was_off = not nf.guard(True)
    array = cut_file(folder, "ours", open_ours)
    view = np.asarray(array)
    try:
        view.sum()
        return None
    except nf.FaultError:
        say("fault")
    array.close()
    try:
        view.sum()
        return None
    except nf.ClosedError:
        say("closed")
    return [was_on, was_off, caught_while_off, refused]


def test_without_the_guard_closing_with_views_is_refused_and_it_can_be_turned_on_again(tmp_path):
    ending = call(turn_off_and_on, str(tmp_path))
    assert ending.result() == [True, True, [], [True] * 8]
    assert ending.said == ["fault", "closed"]


def test_with_the_guard_off_in_the_environment_closing_with_views_is_refused(tmp_path):
    assert call(close_with_views, str(tmp_path), environment={"NDFILE_GUARD": "0"}).result() == [True] * 8


def open_map_then_turn_off(folder):
    array = cut_file(folder, "ours", open_ours)
    nf.guard(False)
    nf.guard(True)
    try:
        array.sum()
    except nf.FaultError:
        return "fault"
    return None


def test_mappings_opened_before_it_was_off_are_guarded_when_it_is_on_again(tmp_path):
    assert call(open_map_then_turn_off, str(tmp_path)).result() == "fault"
