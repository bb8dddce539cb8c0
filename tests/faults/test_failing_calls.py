"""System calls that fail, one at a time: no operation says that it succeeded where it did not.

A preloaded library lets the n-th call of a function fail. For every operation, function and error n goes up until the
operation does not make so many calls. What is on the disk afterwards is read by this process, which made none of it.
"""

import contextlib
import ctypes
import errno
import gc
import itertools
import os
import subprocess
import time
import warnings

import pytest
from faulty import PAGE, call, is_privileged, record, rounds

import ndfile as nf

OLD = bytes(range(1, 201)) * 50
NBYTES = 5 * PAGE + 20

ERRORS = [errno.EIO, errno.ENOSPC, errno.EINTR, errno.ENOMEM]
# Of the four errors that each call fails with in full, the short form takes one after the other.
ERRORS_EACH = rounds(full=len(ERRORS), short=1)

SYNCING = ["msync", "fsync", "fdatasync"]
FUNCTIONS = [*SYNCING, "ftruncate", "fallocate", "rename", "link", "mmap", "open", "fchmod", "fchown", "pwrite"]


# ---- Opening ----


def create(path):
    return nf.memmap(path, "u1", "w+", shape=NBYTES)


def create_sparsely(path):
    return nf.memmap(path, "u1", "w+", shape=NBYTES, sparse=True)


def extend(path):
    return nf.memmap(path, "u1", "r+", shape=NBYTES)


def extend_sparsely(path):
    return nf.memmap(path, "u1", "r+", shape=NBYTES, sparse=True)


def open_to_read(path):
    return nf.memmap(path, "u1", "r")


def open_to_copy(path):
    return nf.memmap(path, "u1", "c")


def use_a_file_object(path):
    with open(path, "r+b") as file:
        return nf.memmap(file, "u1", "w+", shape=NBYTES)


def replace_under_a_lock(path):
    return nf.memmap(path, "u1", "w+", shape=NBYTES, lock="exclusive")


def of_somebody_else(path):
    if is_privileged():
        os.chown(path, 1234, 1234)
    os.chmod(path, 0o640)


def with_two_names(path):
    os.link(path, path + ".twin")


# Name: how, what is there before (None: nothing), what else is done to it before.
OPENINGS = {
    "create": (create, None, None),
    "create sparsely": (create_sparsely, None, None),
    "use an empty file": (create, b"", None),
    "replace": (create, OLD, None),
    "replace under a lock": (replace_under_a_lock, OLD, None),
    "replace sparsely": (create_sparsely, OLD, None),
    "replace somebody else's": (create, OLD, of_somebody_else),
    "overwrite one with two names": (create, OLD, with_two_names),
    "use a file object": (use_a_file_object, OLD, None),
    "extend": (extend, OLD, None),
    "extend sparsely": (extend_sparsely, OLD, None),
    "open to read": (open_to_read, OLD, None),
    "open to copy": (open_to_copy, OLD, None),
}

# ---- What is done with an open array ----


def flush(array, path):
    array.flush()


def flush_a_slice(array, path):
    array[PAGE : 2 * PAGE].flush()


def sync(array, path):
    array.sync()


def close(array, path):
    array.close()


def rescue(array, path):
    assert array.rescue(path + ".rescued") == NBYTES


ACTS = {"flush": flush, "flush a slice": flush_a_slice, "sync": sync, "close": close, "rescue": rescue}


class Campaign:
    """All runs in one process; what they leave in the folder is for another one to read."""

    def __init__(self, folder, errors_each):
        self.folder = folder
        self.errors_each = errors_each
        self.shim = ctypes.CDLL(None)
        self.numbers = itertools.count()
        self.runs, self.hits, self.raised = 0, {}, 0
        self.problems = []
        self.runs_of = {}  # path: the run that it is of
        self.files = {}  # path: the content that it must have, as hex; None if there must be no file

    def run(self):
        for name in [*OPENINGS, *ACTS]:
            once = self.once_opening if name in OPENINGS else self.once_acting
            once(name, "none", 0, 0)  # so that what Python loads at the first time is there
            for function in FUNCTIONS:
                self.fail_each(once, name, function)
        return {
            "runs": self.runs,
            "raised": self.raised,
            "hits": self.hits,
            "problems": self.problems,
            "files": self.files,
            "runs_of": self.runs_of,
        }

    def fail_each(self, once, name, function):
        for nth in itertools.count(1):
            errors = [ERRORS[(next(self.numbers)) % len(ERRORS)] for _ in range(self.errors_each)]
            reached = [once(name, function, nth, error) for error in errors]
            if not any(reached):
                return
            self.hits[function] = self.hits.get(function, 0) + len(reached)

    @contextlib.contextmanager
    def folder_for(self, *what):
        """A new folder; a note is made if a descriptor is left, or a file that nobody asked for."""
        self.runs += 1
        folder = os.path.join(self.folder, str(self.runs))
        os.mkdir(folder)
        self.runs_of[folder] = " ".join(map(str, what))
        descriptors = len(os.listdir("/proc/self/fd"))
        yield os.path.join(folder, "x.dat"), lambda problem: self.problems.append([*map(str, what), problem])
        gc.collect()
        if len(os.listdir("/proc/self/fd")) != descriptors:
            self.problems.append([*map(str, what), "a descriptor was left"])
        strange = set(os.listdir(folder)) - {"x.dat", "x.dat.twin", "x.dat.rescued"}
        if strange:
            self.problems.append([*map(str, what), f"left: {strange}"])

    def attempt(self, function, nth, error, act, *arguments):
        """Call with one call failing. Gives the result, the error, whether it came so far and whether it was made up
        for by a later call of the same function."""
        self.shim.fail_arm(function.encode(), nth, error)
        result = raised = None
        try:
            result = act(*arguments)
        except OSError as failure:
            raised = str(failure)  # the error itself would keep what its frames hold
        finally:
            calls = self.shim.fail_disarm()
        is_reached = 0 < nth <= calls
        if raised is not None and is_reached:
            self.raised += 1
        return result, raised, is_reached, self.shim.fail_good_after() > 0

    def once_opening(self, name, function, nth, error):
        how, before, prepare = OPENINGS[name]
        with self.folder_for(name, function, nth, errno.errorcode.get(error)) as (path, note):
            if before is not None:
                with open(path, "wb") as file:
                    file.write(before)
            if prepare is not None:
                prepare(path)
            array, raised, is_reached, _ = self.attempt(function, nth, error, how, path)
            if raised is None:
                self.files[path] = self.use(name, array, before, note).hex()
            else:
                # Only where two names forbid a new file the old one is emptied, and the error says so.
                is_emptied = name == "overwrite one with two names" and "The old content is gone" in raised
                self.files[path] = "" if is_emptied else None if before is None else before.hex()
                if not is_reached:
                    note(f"raised {raised} though nothing failed")
            del array
        return is_reached

    def use(self, name, array, before, note):
        """Do what the array is for, and give what the file must have then."""
        if array.mode in ("r", "c"):
            if bytes(array) != before:
                note("reads other bytes than the file has")
            array.close()
            return before
        # A file object's file is used as it is.
        is_new = array.mode == "w+" and name != "use a file object"
        expected = bytearray((b"" if is_new else before).ljust(NBYTES, b"\0"))
        if bytes(array) != expected:
            note("did not start from the right bytes")
        expected[-9:] = bytes(range(9))
        array[-9:] = range(9)
        array.close()
        return expected

    def once_acting(self, name, function, nth, error):
        act = ACTS[name]
        with self.folder_for(name, function, nth, errno.errorcode.get(error)) as (path, note):
            array = nf.memmap(path, "u1", "w+", shape=NBYTES)
            array[:] = 7
            _, raised, is_reached, is_made_up_for = self.attempt(function, nth, error, act, array, path)
            self.files[path] = (b"\7" * NBYTES).hex()
            if raised is not None and not is_reached:
                note(f"raised {raised} though nothing failed")
            is_sync = function in SYNCING
            if raised is None and is_reached and is_sync and not is_made_up_for:
                note("said that the bytes are on the disk after the call for that had failed")
            if name == "rescue":
                self.files[path + ".rescued"] = self.files[path] if raised is None else None
            elif raised is not None and is_sync and name != "close":
                self.expect_final(array, note)
            self.finish(array, note)
            del array
        return is_reached

    def expect_final(self, array, note):
        # A failure to sync the folder is no failure of the file's bytes: the same call may succeed later.
        said = [refuses(array.flush), refuses(array.sync), refuses(array.flush)]
        if len(set(said)) != 1:
            note(f"raised once and was silent later: {said}")

    def finish(self, array, note):
        """Close, whatever happened before, and see that it is closed."""
        with contextlib.suppress(OSError):
            array.close()
        if not array.closed:
            note("close() does not close")
            return
        try:
            array[0]
        except nf.ClosedError:
            pass
        except BaseException as error:
            note(f"reading after close() is a {error!r}")
        else:
            note("can be read after close()")


def refuses(act):
    try:
        act()
    except OSError:
        return True
    return False


def run_campaign(folder, errors_each):
    # Where a file cannot be replaced for what has failed it is truncated, and a warning says so.
    warnings.simplefilter("ignore", nf.errors.TruncationWarning)
    return Campaign(folder, errors_each).run()


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library to preload."""
    library = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    source = os.path.join(os.path.dirname(__file__), "failing_calls.c")
    command = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source, "-o", str(library)]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("there is no gcc to compile the library with")
    return str(library)


def content_of(path):
    try:
        with open(path, "rb") as file:
            return file.read().hex()
    except FileNotFoundError:
        return None


def test_no_failed_call_is_taken_for_a_success_or_leaves_a_trace(shim, tmp_path):
    started = time.monotonic()
    seen = call(run_campaign, str(tmp_path), ERRORS_EACH, environment={"LD_PRELOAD": shim}).result()
    wrong = [path for path, expected in seen["files"].items() if content_of(path) != expected]
    wrong = [f"{seen['runs_of'][os.path.dirname(path)]}: {os.path.basename(path)}" for path in wrong]
    assert [" ".join(problem) for problem in seen["problems"]] == []
    assert wrong == []
    # The control of the method: the calls came through the library, and of each kind some failed.
    never = {"fdatasync"} if is_privileged() else {"fdatasync", "fchown"}
    assert set(seen["hits"]) == set(FUNCTIONS) - never
    assert seen["raised"] > sum(seen["hits"].values()) / 2
    record("failing-calls", started, **{name: seen[name] for name in ("runs", "raised", "hits")})


def flush_like_numpy(path):
    import numpy as np

    shim = ctypes.CDLL(None)
    array = np.memmap(path, "u1", "w+", shape=NBYTES)
    array[:] = 7
    shim.fail_arm(b"msync", 1, errno.EIO)
    said = [refuses(array.flush), refuses(array.flush)]
    return [said, shim.fail_disarm()]


def test_numpy_reports_a_failed_flush_once_and_then_a_success(shim, path):
    """The control."""
    assert call(flush_like_numpy, path, environment={"LD_PRELOAD": shim}).result() == [[True, False], 2]


def replace_like_numpy(path):
    import numpy as np

    shim = ctypes.CDLL(None)
    with open(path, "wb") as file:
        file.write(OLD)
    shim.fail_arm(b"ftruncate", 1, errno.ENOSPC)
    with contextlib.suppress(OSError, ValueError):
        np.memmap(path, "u1", "w+", shape=2**62)
    shim.fail_disarm()


def test_numpy_destroys_the_old_file_before_it_fails(shim, path):
    """The control."""
    call(replace_like_numpy, path, environment={"LD_PRELOAD": shim}).result()
    assert content_of(path) != OLD.hex()
