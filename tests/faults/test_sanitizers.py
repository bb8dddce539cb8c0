"""The core under the address and undefined-behaviour sanitizers: no test makes them report anything."""

import os
import re
import subprocess
import sys

import pytest
from faulty import rounds

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, os.pardir)
ROOT = os.path.normpath(os.path.join(TESTS, os.pardir))
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]

# By name: what the sanitizers' own need of address space and memory does not let run or be measured, what has no part
# of the core in it, and the documents, whose other libraries take long to be imported.
NOT_UNDER_SANITIZERS = (
    "not limit_on_memory and not test_max_rss and not test_shuffle and not test_digests and not test_doctest"
)


@pytest.fixture(scope="module")
def libasan():
    """The sanitizer's library, which has to be loaded before Python's own."""
    try:
        found = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no gcc, whose sanitizers these tests use")
    if not os.path.isabs(found.strip()):
        pytest.skip("gcc is there but libasan is not (Debian has it in libgcc-12-dev, Fedora in libasan)")
    return os.path.realpath(found.strip())


class Sanitized:
    """Runs Python with the sanitizers' libraries; collects what they report from it and from its children."""

    def __init__(self, libasan, folder, site):
        self.folder = folder
        self.printed = ""
        # Files cut under their maps are what some tests are about: SIGBUS is no report, though it does end the run.
        options = (
            f"log_path={folder / 'report'}:halt_on_error=1:detect_leaks=0:allocator_may_return_null=1:handle_sigbus=0"
        )
        self.environment = os.environ | {
            "LD_PRELOAD": libasan,
            "ASAN_OPTIONS": options,
            "UBSAN_OPTIONS": options + ":print_stacktrace=1",
            "PYTHONMALLOC": "malloc",  # every object is then an allocation that the sanitizer knows
            "PYTHONPATH": os.pathsep.join([str(site), HERE]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments):
        command = [sys.executable, *arguments]
        result = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        self.printed += result.stdout + result.stderr
        return result

    def reports(self):
        """What the address sanitizer wrote to files, and what the other one prints."""
        files = [path.read_text() for path in self.folder.glob("report*")]
        # It also says where it found no memory of its own, in tests that limit memory; that is no report.
        files = [text for text in files if "AddressSanitizer" in text]
        return files + [line for line in self.printed.splitlines() if "runtime error:" in line]


@pytest.fixture
def sanitized(libasan, tmp_path):
    """A function that makes a Sanitized whose packages come from a folder."""
    (tmp_path / "reports").mkdir()
    return lambda site: Sanitized(libasan, tmp_path / "reports", site)


@pytest.fixture(scope="module")
def site(libasan, tmp_path_factory):
    """A folder with the package, its core compiled with the sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    setup = [
        "-Db_lundef=false",
        "-Dbuildtype=debugoptimized",
        f"-Dc_args={' '.join(FLAGS)}",
        f"-Dc_link_args={FLAGS[0]}",
    ]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-build-isolation"]
    pip += ["--no-deps", "--no-index", "--target", str(folder / "site"), f"-Cbuild-dir={folder / 'build'}"]
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    result = subprocess.run(
        [*pip, *(f"-Csetup-args={argument}" for argument in setup), ROOT],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "site"


def test_the_core_that_is_tested_is_the_sanitized_one(sanitized, site):
    result = sanitized(site).run("-c", "import ndfile._core; print(ndfile._core.__file__)")
    assert result.stdout.startswith(str(site)), result.stderr
    with open(result.stdout.strip(), "rb") as file:
        core = file.read()
    assert b"__asan_init" in core
    assert b"__ubsan_handle" in core


# The tests of the core, how many examples are drawn, and which of them: the sanitizers make each a few times slower,
# and hundreds of large stores take the same few ways. `make sanitize` runs all of them; the short form runs most tests
# too, with one of their sets of parameters, and the same examples every time.
OF_EACH = rounds(full=1_000_000, short=1)
# Files of tests whose subject is written in Python; the short form leaves them out.
OF_PYTHON = (
    *("archive", "batches", "convert", "create", "errors", "file", "follow", "info", "layout", "locks", "map_blocks"),
    *("open", "paths", "progress", "ref", "replace", "running", "save", "signatures", "sizes", "sort", "unique"),
)
SHORTENED = (
    "--hypothesis-seed=0",
    *(f"--ignore={os.path.join(TESTS, 'unit', f'test_{name}.py')}" for name in OF_PYTHON),
)
SANITIZED = {
    "unit": ("150", NOT_UNDER_SANITIZERS),
    "parity/test_against_numpy.py": ("150", NOT_UNDER_SANITIZERS),
    "parity/test_rows_against_numpy.py": ("50", NOT_UNDER_SANITIZERS),
    "parity/test_stores_against_numpy.py": ("20", "drawn or any_dtype or nearly or cut or overlap"),
}


@pytest.mark.parametrize("tests", SANITIZED)
def test_no_test_makes_the_sanitizers_report_anything(sanitized, site, tests):
    python = sanitized(site)
    python.environment["NDFILE_EXAMPLES"], chosen = SANITIZED[tests]
    python.environment["NDFILE_SAMPLED"] = str(OF_EACH)
    arguments = ["-q", "-p", "sampled", "-p", "no:cacheprovider", "--capture=sys", "-k", chosen]
    arguments += SHORTENED if OF_EACH == 1 else ()
    result = python.run("-m", "pytest", *arguments, os.path.join(TESTS, tests))
    passed = re.search(r"(\d+) passed", result.stdout)
    assert python.reports() == []
    assert passed, result.stdout + result.stderr
    assert int(passed[1]) > 2
    assert result.returncode in (0, 1)  # a test that fails anywhere is not these tests' subject, a crash is


WRONG = r"""
#include <stdlib.h>
#include <string.h>

char *bytes;
int past_the_end(int index) { bytes = calloc(8, 1); memset(bytes, 1, index + 1); return bytes[0]; }
int after_free(int index) { bytes = calloc(8, 1); free(bytes); memset(bytes, 1, index); return bytes[0]; }
int overflow(int index) { return 0x7fffffff + index; }
"""


@pytest.mark.parametrize(
    ("function", "report"),
    [
        ("past_the_end", "AddressSanitizer: heap-buffer-overflow"),
        ("after_free", "AddressSanitizer: heap-use-after-free"),
        ("overflow", "runtime error: signed integer overflow"),
    ],
)
def test_what_is_wrong_in_c_is_reported(sanitized, tmp_path, function, report):
    source, library = tmp_path / "wrong.c", tmp_path / "wrong.so"
    source.write_text(WRONG)
    subprocess.run(["gcc", "-shared", "-fPIC", *FLAGS, str(source), "-o", str(library)], check=True)
    python = sanitized(tmp_path)
    result = python.run("-c", f"import ctypes; ctypes.CDLL({str(library)!r}).{function}(8)")
    assert result.returncode != 0
    assert [text for text in python.reports() if report in text]
