"""`ndfile residency`, `prefetch` and `release`: what is in memory is what the library says."""

import os

import numpy as np
import pytest
from command_line import golden

import ndfile as nf

ROW_NBYTES = 1 << 20


@pytest.fixture
def table():
    """Rows of 1 MiB each, on the disk, and nothing of them in memory."""
    np.save("table.npy", np.ones((64, ROW_NBYTES), "u1"))
    drop("table.npy")
    if nf.open("table.npy").residency(1).share > 0.5:
        pytest.skip("the file system keeps all in memory")
    return "table.npy"


def drop(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_rows_are_brought_into_memory_and_out_of_it(table, document):
    found = document("prefetch", table, "--rows", "10:20", "--wait")
    assert found["is_done"]
    assert found["resident_nbytes"] >= 10 * ROW_NBYTES
    parts = document("residency", table, "--parts", 64)["parts"]
    assert all(share == 1 for share in parts[11:19])
    before = document("residency", table)["resident_nbytes"]
    found = document("release", table, "--rows", "12:18")
    assert found["is_done"]
    assert found["resident_nbytes_before"] >= 6 * ROW_NBYTES
    assert found["resident_nbytes"] <= 2 << 20
    assert document("residency", table)["resident_nbytes"] < before - 4 * ROW_NBYTES


def test_the_whole_file_is_brought_into_memory_and_out_of_it(table, fine):
    assert fine("prefetch", table, "--wait").startswith("64 MiB of 64 MiB in memory, ")
    assert fine("residency", table).splitlines()[1] == "100% in memory, 64 MiB of 64 MiB"
    assert fine("release", table).endswith(" of 64 MiB in memory, 64 MiB before\n")
    assert np.load(table).all()


def test_columns_of_order_f_are_told_in_the_order_of_the_file(fine):
    np.save("x.npy", np.zeros((3, 50), order="F"))
    with open("x.npy") as file:
        os.fsync(file.fileno())  # nothing is to be written then
    golden("residency_fortran", fine("residency", "x.npy"))


def test_the_members_of_an_archive(fine, document):
    np.savez("x.npz", first=np.zeros(10000), second=np.zeros((20, 30), "u1"))
    golden("residency_archive", fine("residency", "x.npz"))
    found = document("residency", "x.npz")["members"]
    assert [(name, one["share"]) for name, one in found.items()] == [("first", 1), ("second", 1)]
    for verb in ("prefetch", "release"):
        assert document(verb, "x.npz")["is_done"]
        assert document(verb, "x.npz", "--key", "first", "--rows", "-10:")["is_done"]


def test_members_that_cannot_be_mapped_have_no_pages(fine, document):
    np.savez_compressed("x.npz", x=np.zeros(10000))
    assert "not mappable" in fine("residency", "x.npz")
    assert document("residency", "x.npz")["members"] == {"x": None}


def test_bars_in_an_encoding_without_blocks(recording, fine):
    assert fine("residency", recording, encoding="ascii").splitlines()[2] == f"|{'#' * 78}|"


def test_a_single_item_has_no_rows(weights, ndfile):
    assert ndfile("prefetch", weights, "--key", "step", "--rows", "0").code == 1
    assert ndfile("residency", weights, "--key", "step").code == 0


def test_no_parts_is_1(recording, ndfile):
    assert ndfile("residency", recording, "--parts", "0", "--json").code == 1
