"""System calls that fail while a file grows or is changed all at once: an error, and what was there before."""

import ctypes
import errno
import functools
import itertools
import re
import subprocess
import threading
import time

import pytest
from failing import FUNCTIONS, Campaign, compile_shim, folder_in_memory
from faulty import call, record, say
from growing import ACTS, KINDS
from growth_trials import Acting, Creating, Naive, Recovering, Refreshing, open_to_read, open_to_write, recover

import ndfile as nf
from ndfile import _core

# ---- The campaigns ----


def of_all_kinds(trial, *arguments, kinds=tuple(KINDS)):
    return [functools.partial(trial, *arguments, KINDS[name]) for name in kinds]


GROUPS = {
    "appending": [name for name in ACTS if name.startswith(("append", "extend"))],
    "resizing": ["grow", "shrink", "shrink what has grown"],
    "committing": [name for name in ACTS if name.startswith("commit")],
    "rolling back": ["roll back", "roll back growth"],
    "closing": ["close", "close after a commit"],
}

# Bytes alone are made by nf.memmap, which has tests of its own.
DESCRIBED = [name for name in KINDS if name != "bare"]

TRIALS = {
    **{group: {name: of_all_kinds(Acting, ACTS[name]) for name in names} for group, names in GROUPS.items()},
    "creating": {
        "create": of_all_kinds(Creating, False, kinds=DESCRIBED),
        "replace": of_all_kinds(Creating, True, kinds=DESCRIBED),
    },
    "recovering": {
        "open to write": of_all_kinds(Recovering, open_to_write),
        "open to read": of_all_kinds(Recovering, open_to_read),
        "recover": of_all_kinds(Recovering, recover),
    },
    "refreshing": {name: of_all_kinds(Refreshing, ACTS[name]) for name in ("append", "shrink")},
}


def run_campaign(folder, group):
    return Campaign(folder, say).run(TRIALS[group], FUNCTIONS)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def folder(tmp_path):
    with folder_in_memory(tmp_path) as in_memory:
        yield in_memory


@pytest.mark.parametrize("group", TRIALS)
def test_a_failed_call_is_an_error_and_leaves_what_was_there(shim, folder, group):
    started = time.monotonic()
    seen = call(run_campaign, folder, group, environment={"LD_PRELOAD": shim}).result()
    assert seen["problems"] == []
    # The control of the method: the calls came through the library, and failures were told.
    assert seen["raised"] > 0
    figures = {name: seen[name] for name in ("runs", "raised", "hits")}
    record(f"growth-failures-{group.replace(' ', '-')}", started, **figures)


# ---- A file that cannot be watched ----


def follow_unwatched(path):
    """Follow a writer while the system gives no watches; gives whether one was asked for, and whether the row came."""
    library, seen = ctypes.CDLL(None), []
    with nf.create(path, (0, 3), "i8") as writer, nf.open(path) as reader:
        for nth, error in itertools.product((1, 2), (errno.EMFILE, errno.ENOSPC)):
            library.fail_arm(b"inotify", nth, error)
            rows = reader.follow(timeout_s=60)
            # It waits when this comes.
            later = threading.Timer(0.05, writer.append, ([[nth, error, 0]],))
            later.start()
            row = next(rows)
            later.join()
            seen.append([library.fail_disarm() >= nth, row.tolist() == [[nth, error, 0]]])
            rows.close()
            del row
    return seen


def test_a_file_that_cannot_be_watched_is_followed_all_the_same(shim, tmp_path):
    seen = call(follow_unwatched, str(tmp_path / "x.npy"), environment={"LD_PRELOAD": shim}).result()
    assert seen == [[True, True]] * 4


# ---- The calls that there are ----

# Of the calls of the system those that the extension may make without a trial in which they fail.
LEFT_ALONE = {
    "close",  # it has closed, whatever it says
    "munmap",  # there is nothing else to be done with the memory
    "lseek",  # of a regular file: it looks for holes, and one that is not found is filled later
    "clock_gettime",
    "getpid",
    "getrusage",  # what it does not tell is taken for a page that was read, or for none
    "mincore",  # what it does not tell is taken to be in memory
    "sched_getaffinity",  # then there is one processor
    "syscall",  # process_madvise, cachestat, userfaultfd and the like: hints, each with another way
    "getrlimit",
    "nanosleep",
    "sched_yield",
}


def symbols(library, option):
    """Names that a library has, or wants, as the kernel calls them."""
    listed = subprocess.run(["nm", "-D", option, library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1].partition("@")[0] for line in listed.splitlines()}
    return {name.removeprefix("__").removesuffix("_chk").removesuffix("64") for name in names}


def test_every_system_call_of_the_extension_can_be_made_to_fail(shim):
    command, program = ["gcc", "-E", "-dM", "-x", "c", "-"], "#include <sys/syscall.h>"
    listed = subprocess.run(command, input=program, capture_output=True, text=True, check=True).stdout
    system_calls = {name.removesuffix("64") for name in re.findall(r"^#define SYS_(\w+)", listed, re.MULTILINE)}
    made = symbols(_core.__file__, "--undefined-only") & (system_calls | {"syscall"})
    assert {"mmap", "pwrite", "fdatasync"} <= made
    assert made - symbols(shim, "--defined-only") - LEFT_ALONE == set()


# ---- The controls ----


class ActingNaively(Acting):
    def opened(self):
        return Naive(self.path)


def run_naive_campaign(folder, name, function):
    return Campaign(folder, say).run({name: of_all_kinds(ActingNaively, ACTS[name], kinds=["npy"])}, [function])[
        "problems"
    ]


@pytest.mark.parametrize(
    ("act", "function", "problem"),
    [
        ("append durably", "write", "said that it was done, and after a crash there are"),
        ("append durably", "write", "kept space"),
        ("append durably", "fsync", "after the disk had refused some bytes"),
        ("commit", "msync", "after the disk had refused some bytes"),
    ],
)
def test_growth_as_people_write_it_is_damaged(shim, folder, act, function, problem):
    """The control."""
    environment = {"LD_PRELOAD": shim, "NDFILE_ROUNDS_SCALE": "1"}
    problems = call(run_naive_campaign, folder, act, function, environment=environment).result()
    assert any(problem in one for one in problems), problems
