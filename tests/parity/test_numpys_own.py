"""NumPy's own installed tests of memmap, run against our class."""

import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PLUGIN = "numpy_memmap_is_ours"

# Each of NumPy's test modules that uses memmap, and which of its tests do.
MODULES = {
    "numpy._core.tests.test_memmap": None,
    "numpy._core.tests.test_arraymethod": "memmap",
    "numpy.lib.tests.test_format": "memmap",
    "numpy.lib.tests.test_io": "memmap",
    "numpy.lib.tests.test_nanfunctions": "memmap",
    "numpy.lib.tests.test_recfunctions": "TestRecFunctions",
}

# NumPy's tests that cannot hold, and where they are.
EXCEPTIONS = {
    # Asks that a copy in memory have the class numpy.memmap; ours is a plain array.
    "test_structured_to_unstructured": "numpy.lib.tests.test_recfunctions",
    # Asks for a warning that NumPy before 1.9 cannot read the file.
    "test_version_2_0_memmap": "numpy.lib.tests.test_format",
}


def pytest_outcome(tmp_path, *arguments):
    """Run pytest by itself, with nothing of this project's configuration, and count its outcomes."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": HERE, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    result = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'own'}"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    last = result.stdout.strip().splitlines()[-1] if result.stdout.strip() else result.stderr
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last)}
    return result, counts


@pytest.mark.parametrize(("module", "selection"), MODULES.items(), ids=MODULES)
def test_numpys_tests_pass_with_our_class(tmp_path, module, selection):
    expression = " and not ".join([f"({selection})" if selection else "Test or test", *EXCEPTIONS])
    selected = ["-k", expression]
    result, counts = pytest_outcome(tmp_path, "-p", PLUGIN, "--pyargs", module, *selected)
    assert result.returncode == 0, result.stdout + result.stderr
    assert counts.pop("passed") > 0
    assert not {"failed", "error", "errors"} & set(counts)


def test_the_number_of_numpys_tests_of_memmap_is_the_same_with_our_class(tmp_path):
    module = "numpy._core.tests.test_memmap"
    _, theirs = pytest_outcome(tmp_path, "--pyargs", module)
    _, ours = pytest_outcome(tmp_path, "-p", PLUGIN, "--pyargs", module)
    assert ours == theirs


WHOSE = """
import sys
import numpy._core.tests.test_memmap as module
import numpy
import numpy.lib.format
import tempfile, os
with tempfile.TemporaryDirectory() as folder:
    opened = numpy.lib.format.open_memmap(os.path.join(folder, "x.npy"), "w+", "f4", (3,))
    print(module.memmap.__module__, numpy.memmap.__module__, type(opened).__module__)
"""


@pytest.mark.parametrize(
    ("substituted", "whose"),
    [(True, "ndfile.array ndfile.array ndfile.array"), (False, "numpy numpy numpy")],
    ids=["with the plugin", "without"],
)
def test_the_class_that_numpys_tests_see_is_ours_only_with_the_plugin(substituted, whose):
    program = (f"import {PLUGIN}\n" if substituted else "") + WHOSE
    environment = os.environ | {"PYTHONPATH": HERE}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == whose


def test_a_class_that_is_wrong_fails_numpys_tests(tmp_path):
    (tmp_path / "wrong_memmap.py").write_text(
        "import numpy as np, ndfile as nf\n"
        "class memmap(nf.memmap):\n"
        "    def __getitem__(self, index):\n"
        "        return np.asarray(super().__getitem__(index))\n"
        "np.memmap = memmap\n"
    )
    plugin = ["-p", "wrong_memmap", "-o", f"pythonpath={tmp_path}"]
    result, counts = pytest_outcome(tmp_path, *plugin, "--pyargs", "numpy._core.tests.test_memmap")
    assert counts.get("failed", 0) > 0, result.stdout + result.stderr


@pytest.mark.parametrize(("name", "module"), EXCEPTIONS.items(), ids=EXCEPTIONS)
def test_an_exception_is_a_test_that_numpy_has_and_that_does_fail(tmp_path, name, module):
    _, theirs = pytest_outcome(tmp_path, "--pyargs", module, "-k", name)
    _, ours = pytest_outcome(tmp_path, "-p", PLUGIN, "--pyargs", module, "-k", name)
    assert theirs["passed"] > 0
    assert ours["failed"] > 0
