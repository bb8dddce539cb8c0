"""`ndfile bench`: proven cold and warm, bounded, and without a change to the file."""

import os

import numpy as np
import pytest

import ndfile as nf
from ndfile.cli import trials

KINDS = [
    (case, state, who) for case in ("rows", "scan") for state in ("cold", "warm") for who in ("ndfile", "numpy.memmap")
]


@pytest.fixture
def table():
    """8 MiB on the disk."""
    np.save("table.npy", np.arange(1 << 20).reshape(4096, 256))
    fd = os.open("table.npy", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    try:
        trials.drop(trials.Place(os.path.abspath("table.npy"), 128, 8 << 20))
    except trials.UnprovenError:
        pytest.skip("the file system keeps all in memory")
    return "table.npy"


def test_cold_and_warm_runs_are_what_they_say(table, document):
    before = os.stat(table)
    found = document("bench", table)
    after = os.stat(table)
    assert (before.st_mtime_ns, before.st_ctime_ns, before.st_blocks) == (
        after.st_mtime_ns,
        after.st_ctime_ns,
        after.st_blocks,
    )
    assert [(one["case"], one["state"], one["contender"]) for one in found["results"]] == KINDS
    assert found["left_out"] == []
    for one in found["results"]:
        wanted = 8 << 20 if one["case"] == "scan" else found["rows"] * found["row_nbytes"]
        assert one["nbytes"] == wanted
        assert one["seconds"] > 0
        assert (one["read_nbytes"] >= wanted) if one["state"] == "cold" else (one["read_nbytes"] < 1 << 20)
        assert (one["times_as_fast"] is None) == (one["contender"] != "ndfile")


def test_what_is_mapped_elsewhere_is_not_called_cold(table, fine):
    other = np.memmap(table, mode="r")
    other.max()  # its pages cannot be dropped now
    _, results, left_out = fine("bench", table).split("\n\n")
    assert "cold" not in results
    assert [line.partition(", ")[0] for line in results.splitlines() if "warm" in line] == ["rows", "scan"]
    assert [line[:24] for line in left_out.splitlines()] == ["rows, cold: left out, 8 ", "scan, cold: left out, 8 "]
    assert "MiB of it stay in memory" in left_out
    del other


def test_the_table_has_a_line_for_each(table, fine):
    lines = fine("bench", table).splitlines()
    assert lines[0] == "table.npy  int64 (4096, 256)"
    assert lines[2] == "rows: 4,096 at random, of 2 KiB; scan: 8 MiB"
    assert lines[4].split() == ["time", "MB/s", "read", "faster"]
    assert [line[:10].strip() for line in lines[5:]] == [
        "rows, cold",
        "",
        "rows, warm",
        "",
        "scan, cold",
        "",
        "scan, warm",
        "",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.save("x.npy", np.zeros((5, 3), order="F")),
        lambda: np.save("x.npy", np.zeros(1)),
        lambda: np.save("x.npy", np.zeros((3, 1 << 20), "u2")),
        lambda: np.save("x.npy", np.zeros(7, "S3,f4")),
        lambda: np.savez("x.npy", a=np.zeros(99, ">f8")),
    ],
    ids=["order F", "one item", "long rows", "structured", "archive"],
)
def test_arrays_of_every_kind_can_be_measured(make, document):
    make()
    if os.path.exists("x.npy.npz"):
        os.rename("x.npy.npz", "x.npy")
    found = document("bench", "x.npy")
    assert len(found["results"]) + 2 * len(found["left_out"]) == 8


@pytest.mark.parametrize("values", [np.zeros(0), np.float64(3)], ids=["no items", "no rows"])
def test_nothing_to_measure_is_1(values, ndfile):
    np.save("x.npy", values)
    code, out, err = ndfile("bench", "x.npy")
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_a_run_that_took_less_from_the_device_than_it_must_is_found_out():
    with pytest.raises(trials.UnprovenError, match="came from the device"):
        trials.trial(lambda: None, 1 << 40)


def test_what_is_not_read_is_not_called_warm(table, monkeypatch):
    place = trials.Place(os.path.abspath(table), 128, 8 << 20)
    trials.warm(place)
    assert place.resident_nbytes()[1] == place.resident_nbytes()[0]
    assert nf.open(table).residency(1).share == 1
