"""joblib's own installed tests of what it does with memory maps, run with arrays of our class in their place."""

from test_numpys_own import pytest_outcome

PLUGIN = "joblib_memmap_is_ours"
MODULE = "joblib.test.test_memmapping"

# The tests that send a map of their own, and those of joblib's own files, which have to go on as ever. The others are
# about the folders of these files, about Windows, about functions that make a numpy.memmap themselves, and about
# its memory being an mmap.mmap.
TESTS = [
    "test_high_dimension_memmap_array_reducing",
    "test_pool_with_memmap[multiprocessing]",  # with loky it starts ten interpreters
    "test_memmapping_pool_for_large_arrays",
    "test_memmapping_pool_for_large_arrays_in_return",
    "test_workaround_against_bad_memmap_with_copied_buffers",
    "test_memmap_returned_as_regular_array",
    "test_pool_memmap_with_big_offset[multiprocessing, 0]",
    "test_pool_memmap_with_big_offset[loky, 0]",
    "test_parallel_memmap2d_as_memmap_1d_base",
]

# Ask that a plain view, numpy.asarray(a), is sent as a map of the same file. To joblib, and to pickle, it is an array
# like any other: what our class has does not reach it. Its values arrive.
OF_PLAIN_VIEWS = ["test_memmap_based_array_reducing", "test_pool_with_memmap_array_view[multiprocessing]"]


def outcome(tmp_path, names, *plugins):
    return pytest_outcome(tmp_path, "-W", "ignore", *plugins, "--pyargs", *(f"{MODULE}::{name}" for name in names))


def test_joblibs_tests_pass_with_our_class(tmp_path):
    result, counts = outcome(tmp_path, TESTS, "-p", PLUGIN)
    assert result.returncode == 0, result.stdout + result.stderr
    assert counts.pop("passed") >= len(TESTS)
    assert not counts


def test_a_class_that_sends_something_else_fails_joblibs_tests(tmp_path):
    (tmp_path / "wrong_memmap.py").write_text(
        "import numpy as np, ndfile as nf\n"
        "class memmap(nf.memmap):\n"
        "    def __reduce_ex__(self, protocol):\n"
        "        return np.zeros, (self.shape,)\n"
        "nf.memmap = memmap\n"
        f"from {PLUGIN} import *\n"
    )
    result, counts = outcome(tmp_path, TESTS[:1], "-p", "wrong_memmap", "-o", f"pythonpath={tmp_path}")
    assert counts == {"failed": 1}, result.stdout + result.stderr


def test_an_exception_is_a_test_that_joblib_has_and_that_does_fail(tmp_path):
    _, theirs = outcome(tmp_path, OF_PLAIN_VIEWS)
    _, ours = outcome(tmp_path, OF_PLAIN_VIEWS, "-p", PLUGIN)
    assert theirs == {"passed": len(OF_PLAIN_VIEWS)}
    assert ours == {"failed": len(OF_PLAIN_VIEWS)}
