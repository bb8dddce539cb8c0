"""Fixtures that every test may use, and the check that follows every test."""

import collections
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import hypothesis
import numpy as np
import pytest

import ndfile as nf

# A run by default repeats the last one; a longer one looks for something new.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
if "NDFILE_EXAMPLES" not in os.environ:
    hypothesis.settings.load_profile("repeatable")

_REPORT = pytest.StashKey[pytest.TestReport]()


def pytest_collection_finish(session):
    # What the imports left is no test's garbage: leaving it out makes the collection after each test cheap.
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    if sys.version_info >= (3, 12):
        reason = (
            "this Python tells a thread of a fault in a plain view at its next call, not before its next instruction"
        )
        for item in items:
            if item.get_closest_marker("at_once"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[_REPORT] = report
    return report


def _descriptors():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself


_FOLDER = os.fsencode(os.path.realpath(tempfile.gettempdir()) + os.sep)


def _maps_of_temporary_files():
    with open("/proc/self/maps", "rb") as maps:
        lines = maps.read().split(b"\n")  # thousands, with the libraries of all formats, and twice a test
    found = [line[line.index(_FOLDER) :] for line in lines if _FOLDER in line]
    # Libraries of an environment that lives there stay, those with a version behind their suffix too.
    return [path for path in found if not path.endswith(b".so") and b".so." not in path]


def _resources():
    return collections.Counter([*_descriptors(), *_maps_of_temporary_files(), *threading.enumerate()])


# After each test all garbage is collected, which takes as long as there are objects: a library that the tests of one
# format imported, and the reports of the tests so far, are not looked through again: so many tests later at most.
_TESTS_TO_A_FREEZE = 50
_tests = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def _garbage_of_other_modules():
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_leaks(request):
    """Prove after every test that it left no descriptor, no mapping of a temporary file and no thread."""
    before = _resources()
    yield
    report = request.node.stash.get(_REPORT, None)
    if report is None or not report.passed:
        return  # a failed test's traceback keeps its arrays
    gc.collect()
    deadline = time.monotonic() + 10
    while leaked := _resources() - before:  # a library's threads may let go of a file an instant later
        assert time.monotonic() < deadline, leaked
        time.sleep(1e-3)
    if next(_tests) % _TESTS_TO_A_FREEZE == 0:
        gc.freeze()


@pytest.fixture
def no_thread_is_left():
    """Prove that no thread is left, of those too that Python does not know."""
    before = len(os.listdir("/proc/self/task"))
    yield
    deadline = time.monotonic() + 10
    # One that was joined may be there for an instant more. A fork ends those of a BLAS, so there may be fewer.
    while len(os.listdir("/proc/self/task")) > before:
        assert time.monotonic() < deadline
        time.sleep(1e-3)


@pytest.fixture
def path(tmp_path):
    """A name for a file that does not exist yet."""
    return str(tmp_path / "x.dat")


@pytest.fixture
def file_of(path):
    """A function that writes bytes to a file and gives its path."""

    def write(content):
        with open(path, "wb") as file:
            file.write(content)
        return path

    return write


@pytest.fixture
def numbers():
    """The values that are in `numbers_file`: float32, (3, 4)."""
    return np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def numbers_file(file_of, numbers):
    return file_of(numbers.tobytes())


@pytest.fixture
def array(request, numbers_file):
    """The numbers, mapped with mode 'r+'. pytest holds it too, so a test of close() opens its own."""
    yield nf.memmap(numbers_file, np.float32, "r+", shape=(3, 4))
    request.node.funcargs.clear()


@pytest.fixture
def content():
    """A function that reads a whole file, not through a mapping."""

    def read(path):
        with open(path, "rb") as file:
            return file.read()

    return read


@pytest.fixture(scope="session")
def run_python():
    """A function that runs a program in a new interpreter and fails unless it ends well, or is to fail."""

    def run(program, *arguments, fails=False):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode != 0) == fails, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run
