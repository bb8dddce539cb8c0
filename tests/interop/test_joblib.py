"""joblib's own ways beside ours: what it makes of other arrays, what it keeps, and what it makes of numpy.memmap."""

import os

import joblib
import numpy as np
import pytest
from drawn_views import filled
from receiving import items_at, same, see
from ways import parallel

import ndfile as nf

BACKENDS = ["loky", "multiprocessing"]
MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_there():
    """Start what joblib never ends before the first test."""
    with parallel("loky") as ask:
        ask(same, 1)


@pytest.fixture(params=BACKENDS)
def ask(request):
    with parallel(request.param) as asking:
        yield asking


@pytest.fixture
def npy(tmp_path):
    """The path of a file of (300, 1000) float64, which is more than joblib sends in a pickle."""
    np.save(tmp_path / "x.npy", np.arange(300000.0).reshape(300, 1000))
    return str(tmp_path / "x.npy")


VIEWS = {
    "transposed": lambda array: array.T,
    "reversed": lambda array: array[::-1],
    "reversed in both axes": lambda array: array[::-1, ::-1],
    "with a step": lambda array: array[::7, ::-3],
    "transposed and cut": lambda array: array.T[5:, 1::2],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings", [{}, {"mmap_mode": None}, {"max_nbytes": 10}, {"mmap_mode": "c"}])
def test_views_arrive_with_their_values_whatever_joblib_does_with_others(npy, backend, settings):
    array = nf.open(npy)
    with parallel(backend, **settings) as ask:
        for view in VIEWS.values():
            assert ask(see, view(array)) == see(view(array))


def test_of_numpy_memmap_joblib_sends_other_numbers(npy, ask):
    # Of a transposed view. Of a reversed one it sends an address before the map, and the worker dies.
    view = np.memmap(npy, "f8", "r", 128, (300, 1000)).T
    assert ask(see, view).items != repr(view.tolist())


def test_large_plain_arrays_are_put_into_joblibs_files_as_ever(ask):
    plain = np.arange(MIB)
    found = ask(see, plain)
    assert found.kind is np.memmap
    assert "joblib_memmapping_folder_" in found.path
    assert found.content == plain.tobytes()


def test_a_plain_view_of_an_array_on_a_file_is_a_plain_array_to_joblib(npy, ask):
    plain = np.asarray(nf.open(npy))[::-1]
    found = ask(see, plain)
    assert found.kind is np.memmap  # on a file of joblib's
    assert found.path != npy
    assert found.items == repr(plain.tolist())


def test_arrays_in_an_array_of_objects_arrive_by_reference(path, ask):
    held = np.empty(2, object)
    held[0] = nf.memmap(path, "u1", "w+", shape=1 << 40, sparse=True)
    held[0][1] = 8
    (found, _) = ask(same, held)
    assert items_at(found, [0, 1]) == [0, 8]
    assert (type(found), found.filename) == (nf.memmap, path)


@pytest.mark.parametrize("settings", [{}, {"compress": 3}, {"protocol": 2}])
def test_what_joblib_keeps_outlives_the_file(npy, tmp_path, settings):
    kept = {"whole": nf.open(npy), "view": nf.open(npy)[::-2, 3:5]}
    values = {name: array.tolist() for name, array in kept.items()}
    joblib.dump(kept, tmp_path / "kept.joblib", **settings)
    del kept
    os.remove(npy)
    found = joblib.load(tmp_path / "kept.joblib")
    assert {name: array.tolist() for name, array in found.items()} == values
    assert {type(array) for array in found.values()} == {np.ndarray}


def test_a_cached_result_outlives_the_file(npy, tmp_path):
    values = nf.open(npy)[5:7].tolist()
    memory = joblib.Memory(tmp_path / "cache", verbose=0)

    def rows(first):
        return nf.open(npy)[first : first + 2]

    cached = memory.cache(rows)
    cached(5)
    os.remove(npy)
    assert cached(5).tolist() == values


@pytest.mark.parametrize("dtype", ["f4", ">i2", "S3"])
def test_joblibs_hash_is_that_of_the_plain_array(path, dtype):
    array = nf.memmap(path, dtype, "w+", shape=(4, 6))
    array[...] = filled(dtype, (4, 6))
    for view in (array, array.T, array[::2]):
        theirs = np.memmap(path, dtype, "r", shape=(4, 6))
        assert joblib.hash(view, coerce_mmap=True) == joblib.hash(np.asarray(view), coerce_mmap=True)
        assert joblib.hash(theirs, coerce_mmap=True) == joblib.hash(np.asarray(array), coerce_mmap=True)
