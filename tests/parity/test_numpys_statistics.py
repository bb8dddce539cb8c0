"""NumPy's own installed tests of its statistics, run with arrays on files that are done block by block."""

import json
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PLUGIN = "numpy_statistics_are_ours"

# NumPy's test modules that call statistics, which of their tests are run, and how many pass at least.
MODULES = {
    "numpy.lib.tests.test_nanfunctions": ("Test", 1000),
    "numpy.lib.tests.test_function_base": (
        "TestMedian or TestPercentile or TestQuantile or TestAverage or TestBincount or TestPtp or TestAmax or "
        "TestAmin or TestAll or TestAny or TestProd or TestCov or TestCorrCoef or TestLerp or test_any_and_all",
        800,
    ),
    "numpy.lib.tests.test_histograms": ("Test", 60),
    "numpy._core.tests.test_multiarray": (
        "TestStats or TestArgmax or TestArgmin or TestMinMax or TestDot or TestBool or "
        "(TestMethods and not test_partition and not sort)",
        400,
    ),
    "numpy._core.tests.test_numeric": (
        "TestNonarrayArgs or TestBoolArray or TestNonzero or TestStdVar or TestCorrelate",
        20,
    ),
    "numpy._core.tests.test_ufunc": ("sum or reduc or logical or any or all", 100),
    "numpy._core.tests.test_datetime": ("Test", 100),
}

# NumPy's tests that cannot hold, with the reason.
EXCEPTIONS = {
    "test_dot_out_mem_overlap": "compares products bit for bit; where out overlaps they are NumPy's, in another order",
    "(TestNanFunctions_MinMax and test_allnans and 0d)": "NumPy asks whether the class is numpy.memmap itself, and has "
    "other words for a class that is derived from it",
}

# These would hold, and take a minute or more.
SLOW = ["test_count_nonzero", "test_huge_vectordot", "test_identityless_reduction_huge_array", "Fraction"]

# How often each function is to have done the work in all of these tests.
LEAST = {
    **dict.fromkeys(["sum", "mean", "std", "var", "min", "max", "argmin", "argmax", "any", "all", "prod"], 50),
    **dict.fromkeys(["nansum", "nanmean", "nanstd", "nanvar", "nanmin", "nanmax"], 30),
    **dict.fromkeys(["median", "percentile", "quantile", "nanmedian", "nanpercentile", "nanquantile"], 30),
    **dict.fromkeys(["histogram", "bincount", "average", "dot"], 20),
    **dict.fromkeys(["count_nonzero", "ptp"], 3),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of each module what pytest said and how many passed; and how often each function of ours did the work."""
    folder = tmp_path_factory.mktemp("own")
    found, streamed = {}, dict.fromkeys(LEAST, 0)
    for module, (selection, _) in MODULES.items():
        counts = folder / "streamed.json"
        result = pytest_with_ours(folder, counts, " and not ".join([f"({selection})", *SLOW, *EXCEPTIONS]), module)
        found[module] = result.stdout + result.stderr, result.returncode, passed(result.stdout)
        for name, number in json.loads(counts.read_text()).items():
            streamed[name] = streamed.get(name, 0) + number
    return found, streamed


def pytest_with_ours(folder, counts, selection, *modules):
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "-p", PLUGIN]
    command += ["--assert=plain", f"--basetemp={folder / 'base'}", "--pyargs", *modules, "-k", selection]
    environment = os.environ | {"PYTHONPATH": HERE, "PYTHONDONTWRITEBYTECODE": "1", "NDFILE_STREAMED": str(counts)}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def passed(text):
    return int((re.findall(r"(\d+) passed", text) or [0])[-1])


@pytest.mark.parametrize("module", MODULES)
def test_numpys_tests_of_statistics_pass_with_our_arrays(outcomes, module):
    text, code, number = outcomes[0][module]
    assert code == 0, text[-5000:]
    assert number >= MODULES[module][1]


def test_each_function_was_done_block_by_block_in_numpys_tests(outcomes):
    streamed = outcomes[1]
    assert {name: number for name, number in streamed.items() if number < LEAST.get(name, 0)} == {}


def test_an_exception_is_a_test_that_does_fail(tmp_path):
    modules = ["numpy._core.tests.test_multiarray", "numpy.lib.tests.test_nanfunctions"]
    result = pytest_with_ours(tmp_path, tmp_path / "streamed.json", " or ".join(EXCEPTIONS), *modules)
    assert result.returncode == 1
    assert passed(result.stdout) == 0
