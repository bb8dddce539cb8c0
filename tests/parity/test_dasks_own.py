"""dask's own installed tests of names, sizes and arrays, where memmap can matter, run against our class."""

import pytest
from test_numpys_own import PLUGIN, pytest_outcome

MODULES = {
    "dask.tests.test_tokenize": "test",
    "dask.tests.test_sizeof": "test",
    "dask.array.tests.test_array_core": "memmap or from_array or store or copy or asarray",
}

# dask's tests that cannot hold, both of dask.tests.test_tokenize. They ask that an array which has been through a
# pickle have the name of the one that has not: ours are named by their file, and a pickle holds the values and no file.
# The second asks as well that two files with the same values have one name.
EXCEPTIONS = ("test_tokenize_numpy_memmap_offset", "test_tokenize_numpy_memmap")

# Warnings are dask's own matter.
QUIET = ("-W", "ignore")


@pytest.mark.parametrize(("module", "selection"), MODULES.items(), ids=MODULES)
def test_dasks_tests_pass_with_our_class(tmp_path, module, selection):
    selected = f"({selection}) and (no_filename or not test_tokenize_numpy_memmap)"
    result, counts = pytest_outcome(tmp_path, *QUIET, "-p", PLUGIN, "--pyargs", module, "-k", selected)
    assert result.returncode == 0, result.stdout + result.stderr
    assert counts["passed"] > 5
    assert not {"failed", "error", "errors"} & set(counts)


def test_the_exceptions_are_tests_that_dask_has_and_that_do_fail(tmp_path):
    selected = ("--pyargs", "dask.tests.test_tokenize", "-k", "test_tokenize_numpy_memmap and not no_filename")
    _, theirs = pytest_outcome(tmp_path, *QUIET, *selected)
    _, ours = pytest_outcome(tmp_path, *QUIET, "-p", PLUGIN, *selected)
    assert theirs["passed"] == ours["failed"] == len(EXCEPTIONS)


def test_where_pickles_hold_references_names_survive_them(tmp_path):
    selected = ("--pyargs", "dask.tests.test_tokenize", "-k", "test_tokenize_numpy_memmap_offset")
    result, ours = pytest_outcome(tmp_path, *QUIET, "-p", "dask_pickles_references", *selected)
    assert ours == {"passed": 1}, result.stdout
