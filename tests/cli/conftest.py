"""Files as people have them, in a folder of their own, and the command line in this process."""

import json
import sys

import numpy as np
import pytest
from command_line import Result, Stream

import ndfile as nf
from ndfile.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder where a test and its commands are."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def ndfile(monkeypatch):
    """A function that runs a command line in this process, with output that is no terminal."""

    def run(*words, encoding="utf-8"):
        with monkeypatch.context() as patch:
            out, err = Stream(encoding), Stream()
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = main([str(word) for word in words])
        return Result(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def fine(ndfile):
    """A function that runs a command that is to go well without complaint, and gives its output."""

    def run(*words, **ways):
        found = ndfile(*words, **ways)
        assert (found.code, found.err) == (0, "")
        return found.out

    return run


@pytest.fixture
def document(fine):
    """A function that runs a command with --json and gives the document, which must be strict JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    def run(*words):
        return json.loads(fine(*words, "--json"), parse_constant=refuse)

    return run


@pytest.fixture
def recording():
    """A recording of 3000 samples of 8 channels."""
    with nf.create("recording.npy", (3000, 8), "int16", metadata={"unit": "uV", "rate_hz": 30000}) as array:
        array[...] = np.random.default_rng(0).normal(0, 100, (3000, 8)).round()
    return "recording.npy"


@pytest.fixture
def weights():
    """An archive of three members."""
    values = {
        "encoder/kernel": np.arange(12, dtype="f4").reshape(3, 4),
        "encoder/bias": np.zeros(4),
        "step": np.int64(7),
    }
    np.savez("weights.npz", **values)
    return "weights.npz"


EVENT = np.dtype([("time", "M8[ms]"), ("energy", "f4"), ("place", "f8", (2,)), ("name", "S6")])


@pytest.fixture
def events():
    """Structured items: times, numbers, pairs and text."""
    values = np.zeros(50, EVENT)
    values["time"] = np.datetime64("2024-05-01T12:00") + np.arange(50) * np.timedelta64(250, "ms")
    values["energy"] = np.arange(50) / 10
    values["place"] = np.arange(100).reshape(50, 2) / 4
    values["name"] = b"photon"
    np.save("events.npy", values)
    return "events.npy"


@pytest.fixture
def samples():
    """Raw bytes without a description."""
    np.arange(1200, dtype=">i2").tofile("samples.dat")
    return "samples.dat"
