"""Tests of libraries that take seconds to import, or whose threads stay: a file's tests in a process of their own."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
# A file takes some seconds; a process that hangs is not waited for.
MOST_S = 600

IS_APART = "NDFILE_TESTS_ARE_APART" in os.environ

_outcomes = {}


def apart(test):
    """Let a test run in the process of its file, and do here what it did there: pass, fail or be skipped."""
    if IS_APART:
        return test

    @functools.wraps(test)
    def look_up(*arguments, **fixtures):
        file, _, name = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)").partition("::")
        if file not in _outcomes:
            _outcomes[file] = run_file(os.path.join(ROOT, file))
        outcomes, said = _outcomes[file]
        assert name in outcomes, f"the process did not come to the end of this test\n{said}"
        how, text = outcomes[name]
        if how == "skipped":
            pytest.skip(text)
        if how != "passed":
            pytest.fail(f"{how}\n{text}", pytrace=False)

    return look_up


def errors_of(act):
    """The types of the errors that an act raises: those that threads of a library meet come later, one by one."""
    errors = set()

    def nested(depth):
        try:
            if depth:
                nested(depth - 1)
            else:
                act()
            for _ in range(10):
                time.sleep(1e-3)
        except (OSError, ValueError) as error:
            errors.add(type(error))

    nested(30)
    return errors


def run_file(path):
    """What became of each test of a file, by its name, and what the process said."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.xml")
        options = [
            "-v",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--junitxml",
            report,
            "--basetemp",
            f"{folder}/files",
        ]
        command = [sys.executable, "-X", "faulthandler", "-m", "pytest", path, *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment["NDFILE_TESTS_ARE_APART"] = "1"
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=MOST_S
        )
        cases = ElementTree.parse(report).iter("testcase") if os.path.exists(report) else ()
        outcomes = {case.get("name"): _outcome(case) for case in cases}
    return outcomes, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"


def _outcome(case):
    for how in ("error", "failure", "skipped"):
        found = case.find(how)
        if found is not None:
            return how, f"{found.get('message')}\n{found.text}"
    return "passed", ""
