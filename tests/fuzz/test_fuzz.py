"""Our own parsers under a fuzzer: whatever a file's bytes are, it is described within its bounds or refused."""

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from controls import CONTROLS, FINDINGS
from regressions import REGRESSIONS
from seeds import WORDS, seeds
from targets import TARGETS, Watch

HERE = os.path.dirname(os.path.abspath(__file__))
RUNS = 2000

needs_fuzzer = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")


@pytest.fixture(scope="module", autouse=True)
def _libraries():
    # What seeds and parsers import late stays, and would look as if a test had left it.
    for library in ("ml_dtypes", "pyarrow.ipc", "safetensors.numpy", "soundfile", "tifffile"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)


@pytest.fixture
def fuzz(tmp_path):
    """A function that fuzzes a target for a short while, and gives its figures."""

    def run(name, runs=RUNS):
        command = [sys.executable, os.path.join(HERE, "fuzz_formats.py"), name, f"-runs={runs}", "-seed=1"]
        environment = {**os.environ, "NDFILE_FUZZ_RESULTS": str(tmp_path)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (tmp_path / f"{name}.json").exists(), ended.stderr
        figures = json.loads((tmp_path / f"{name}.json").read_text())
        assert ended.returncode == bool(figures["findings"]), ended.stderr
        return figures

    return run


@pytest.mark.parametrize(
    ("name", "regression"), [(name, regression) for name in TARGETS for regression in REGRESSIONS[name]]
)
def test_what_broke_a_promise_once_keeps_it_now(name, regression, tmp_path):
    with Watch(TARGETS[name], tmp_path, traced_each=1) as watch:
        watch.run(REGRESSIONS[name][regression])
        assert watch.findings == {}


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_with_is_described_and_keeps_every_promise(name, tmp_path):
    with Watch(TARGETS[name], tmp_path, traced_each=1) as watch:
        for data in seeds(name):
            watch.run(data)
        assert watch.findings == {}
        assert watch.counts["refused"] == 0
        assert all(len(word) <= 64 for word in WORDS[name])


@pytest.mark.parametrize("name", ["slow", "hungry", "writing", "leaking", "unpickling"])
def test_the_watch_sees_each_kind_of_breach(name, tmp_path):
    with Watch(CONTROLS[name], tmp_path, traced_each=1) as watch:
        for data in seeds(CONTROLS[name].name):
            watch.run(data)
        assert FINDINGS[name] in watch.findings
    while name == "leaking" and CONTROLS[name].left:
        os.close(CONTROLS[name].left.pop())


@needs_fuzzer
@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_keeps_its_promises_under_a_short_fuzzing(name, fuzz):
    figures = fuzz(name)
    assert figures["findings"] == {}
    assert figures["crashes"] == 0
    assert figures["executions"] >= RUNS
    assert figures["described"] > 0
    assert figures["refused"] > 0
    assert figures["features"] > 100, "the parser is not instrumented, so that nothing guides the fuzzer"


@needs_fuzzer
@pytest.mark.parametrize("name", ["reaching", "raising", "dying"])
def test_fuzzing_finds_a_planted_fault(name, fuzz):
    findings = fuzz(name, 10 * RUNS)["findings"]
    assert any(FINDINGS[name] in finding for finding in findings), findings
