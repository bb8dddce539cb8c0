"""Datasets that hold arrays, in the workers of torch's DataLoader, and arrays in torch's own files."""

import numpy as np
import pytest
import torch
from receiving import Rows, Writing, same, see
from torch.utils.data import DataLoader

import ndfile as nf

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
TIB = 1 << 40


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(60, dtype="i4").reshape(20, 3))
    return str(tmp_path / "x.npy")


def batches_of(dataset, method):
    return list(DataLoader(dataset, 4, num_workers=2, multiprocessing_context=method, collate_fn=same))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_dataset_has_its_array_in_each_worker(npy, method):
    array = nf.open(npy)[::-1, ::2]
    for held in (array, {"deep": [array]}):
        items = [item for batch in batches_of(Rows(held), method) for item in batch]
        assert [index for index, _, _ in items] == list(range(20))
        for index, row, seen in items:
            assert row.tolist() == array[index].tolist()
            assert seen == see(array)[:-2]
        if method == "spawn":  # which takes seconds
            break


def test_a_dataset_that_no_memory_could_hold_reaches_its_workers(path):
    array = nf.memmap(path, "u1", "w+", shape=(8, TIB // 8), sparse=True)
    array[5, 3] = 9
    items = [item for batch in batches_of(Rows({"deep": [array[:, 3:5]]}), "spawn") for item in batch]
    assert [row.tolist() for _, row, _ in items] == [[0, 0]] * 5 + [[9, 0]] + [[0, 0]] * 2


def test_what_workers_write_is_in_the_file(npy):
    array = nf.open(npy, "r+")
    assert [index for batch in batches_of(Writing(array), "fork") for index in batch] == list(range(20))
    assert array[:, 0].tolist() == [-index for index in range(20)]


def test_a_file_of_torchs_own_holds_values(npy, tmp_path):
    torch.save({"a": nf.open(npy)[2:4]}, tmp_path / "x.pt")
    (tmp_path / "x.npy").unlink()
    found = torch.load(tmp_path / "x.pt", weights_only=False)["a"]
    assert (type(found), found.tolist()) == (np.ndarray, [[6, 7, 8], [9, 10, 11]])
