"""Fixtures of files that grow, and of a table that atomic blocks change."""

import numpy as np
import pytest
from atomic_tables import OLD
from growing_kinds import KINDS, numbered

import ndfile as nf


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    """Every kind of file that grows."""
    return request.param


@pytest.fixture
def npy_of(tmp_path):
    """A function that writes an array to a `.npy` file and opens it to let it grow."""

    def make(array, name="x.npy"):
        np.save(tmp_path / name, array)
        return nf.open(str(tmp_path / name), "r+")

    return make


@pytest.fixture
def pair(kind, tmp_path):
    """A writer of four rows, and a reader of the same file."""
    with kind.make(tmp_path, numbered(4)) as writer, kind.reopen(writer, "r") as reader:
        yield writer, reader


@pytest.fixture
def npy_pair(tmp_path):
    """A writer of a `.npy` file of four rows, and a reader."""
    with KINDS["npy"].make(tmp_path, numbered(4)) as writer, nf.open(writer.filename) as reader:
        yield writer, reader


@pytest.fixture
def table_file(tmp_path):
    """The path of a .npy of `OLD`."""
    path = str(tmp_path / "x.npy")
    np.save(path, OLD)
    return path


@pytest.fixture
def table(table_file):
    """`OLD`, mapped with mode 'r+'."""
    array = nf.open(table_file, "r+")
    yield array
    array.close()
