"""dask arrays of files, files of dask arrays, and arrays on their way through dask and distributed."""

import json
import os
import pickle
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize
from dask.sizeof import sizeof

import ndfile as nf

PROGRAM = os.path.join(os.path.dirname(__file__), "dask_on_a_cluster.py")


@pytest.fixture(autouse=True)
def own_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def values():
    return np.random.default_rng(0).random((30, 40, 50))


@pytest.fixture
def npy(tmp_path, values):
    path = str(tmp_path / "x.npy")
    np.save(path, values)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of 2 GiB, all but one row of which is holes."""
    path = str(tmp_path_factory.mktemp("large") / "large.npy")
    with nf.create(path, (2048, 1024, 256), "f4", sparse=True) as array:
        array[5] = 1
    return path


def resident_nbytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# ---- to dask ----


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: a[::2, ::-3],
        lambda a: a[7],
        lambda a: a[:, 3:4, ::-1],
        lambda a: a[..., 2],
        lambda a: a[3:3],
        lambda a: a[1, 2, 3:4].reshape(()),
        lambda a: np.broadcast_to(a[0], (3, 40, 50), subok=True),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 4, axis=2, subok=True),
    ],
)
def test_a_dask_array_has_the_values_of_the_view_whatever_its_chunks(tmp_path, values, view, order):
    np.save(tmp_path / "x.npy", np.asarray(values, order=order))
    a = view(nf.open(tmp_path / "x.npy"))
    for chunks in ("auto", "4 kB", 7, -1):
        made = a.to_dask(chunks)
        found = made.compute()
        assert type(found) is np.ndarray
        assert np.array_equal(found, a)
        if a.ndim and a.shape[0] > 2:
            assert np.array_equal(made[1:, ..., ::-1].compute(), a[1:, ..., ::-1])
            assert np.array_equal(made[[2, 0, 2]].compute(), a[[2, 0, 2]])
            assert np.array_equal(made[-1, None].compute(), a[-1, None])


def test_the_graph_of_a_large_array_is_small_and_takes_no_memory(large):
    from distributed.protocol import pickle as sent

    a = nf.open(large)
    before = resident_nbytes()
    for made in (a.to_dask(chunks=(21, -1, -1)), da.from_array(a, chunks=(21, -1, -1))):
        assert made.npartitions == 98
        assert len(sent.dumps(made.__dask_graph__())) < 10_000
        assert len(sent.dumps(made)) < 10_000
    assert resident_nbytes() - before < 16 << 20
    assert a.residency().resident_nbytes < a.nbytes // 8
    assert float(made[5].sum().compute()) == 1024 * 256


@pytest.mark.parametrize("order", ["C", "F"])
def test_automatic_chunks_are_one_piece_of_the_file_each_and_begin_at_pages(tmp_path, order):
    a = nf.create(tmp_path / "x.npy", (300, 64, 300), "f8", order=order, sparse=True)
    with dask.config.set({"array.chunk-size": "1 MiB"}):
        for made in (a.to_dask(), da.from_array(a)):
            whole = np.empty((), "f8")
            like = np.lib.stride_tricks.as_strided(whole, a.shape, a.strides)
            first = like[tuple(slice(0, sizes[0]) for sizes in made.chunks)]
            assert first.nbytes <= 1 << 20
            assert first.nbytes > 1 << 18
            squeezed = first.squeeze()
            assert squeezed.flags.c_contiguous or squeezed.flags.f_contiguous
        assert a.to_dask().chunks == made.chunks
    nbytes = first.nbytes
    assert nbytes % 4096 == 0


def test_what_is_no_number_of_bytes_is_refused_as_chunks(npy):
    with pytest.raises(nf.LayoutError, match="chunks must be 'auto'"):
        nf.open(npy).to_dask("many")


def test_an_array_without_a_file_as_it_is_has_no_dask_array(npy):
    a = nf.open(npy, "c")
    a[0] = 1
    with pytest.raises(nf.LayoutError):
        a.to_dask()
    assert isinstance(da.from_array(a, chunks=-1), da.Array)


@pytest.mark.parametrize("chunk", [(30, 40, 50), (30, 40, 3)], ids=["one run", "short runs"])
def test_a_file_that_was_changed_raises_when_it_is_computed(npy, chunk):
    made = nf.dask.open(npy, chunks=chunk)
    assert made.sum().compute() > 0
    os.utime(npy, ns=(0, 10**9))
    with pytest.raises(nf.StaleFileError):
        made.sum().compute()


def test_a_file_is_opened_by_its_path_and_the_name_of_an_array(tmp_path, values):
    nf.save(tmp_path / "two.npz", {"x": values, "y": values * 2})
    made = nf.dask.open(tmp_path / "two.npz", key="y", chunks=(10, -1, -1))
    assert np.array_equal(made.compute(), values * 2)
    with pytest.raises(nf.MemberError):
        nf.dask.open(tmp_path / "two.npz")


def test_names_tell_views_and_changes_apart_and_are_the_same_in_every_process(npy, run_python):
    a = nf.open(npy)
    assert tokenize(a[1:]) == tokenize(nf.open(npy)[1:])
    assert a[1:].to_dask().name == nf.open(npy)[1:].to_dask().name
    assert len({tokenize(view) for view in (a, a[1:], a[:-1], a.T, a[::-1])}) == 5
    program = """
        import sys, ndfile as nf
        from dask.base import tokenize
        a = nf.open(sys.argv[1])
        print(tokenize(a[1:]), a[1:].to_dask().name)
    """
    assert run_python(program, npy).stdout.split() == [tokenize(a[1:]), a[1:].to_dask().name]
    before = tokenize(a)
    os.utime(npy, ns=(0, 10**9))
    assert tokenize(nf.open(npy)) != before


def test_a_store_through_a_map_gives_another_name(npy):
    a = nf.open(npy, "r+")
    names = set()
    for number in range(3):
        a[0, 0, 0] = number
        names.add(tokenize(a))
    assert len(names) == 3


def test_what_has_no_file_as_it_is_has_a_name_of_its_values(npy):
    one, other = nf.open(npy, "c"), nf.open(npy, "c")
    one[0] = other[0] = 5
    assert tokenize(one) == tokenize(other)
    other[0] = 6
    assert tokenize(one) != tokenize(other)


def test_the_size_is_what_an_array_holds_in_memory(npy):
    assert sizeof(nf.open(npy)) < 1000
    a = nf.open(npy, "c")
    a[:10] = 0
    assert a[:10].nbytes <= sizeof(a) < a.nbytes


def test_from_array_does_not_copy_and_copy_still_does(large):
    a = nf.open(large)
    made = da.from_array(a)
    assert b"Source" in pickle.dumps(made.__dask_graph__())

    def from_array(x):
        return x.copy()

    assert type(from_array(a[:2])) is np.ndarray
    assert type(made[5, 0].compute()) is np.ndarray


def test_a_subclass_goes_through_from_array_too(npy):
    class Sub(nf.memmap):
        pass

    a = nf.open(npy).view(Sub)
    assert np.array_equal(da.from_array(a, chunks=20).compute(), a)


# ---- store ----


@pytest.mark.parametrize(
    ("name", "order"), [("y.npy", "C"), ("y.npy", "F"), ("y.bin", "C"), ("y.bin", "F"), ("y.safetensors", "C")]
)
@pytest.mark.parametrize("compute", [True, False], ids=["now", "later"])
def test_a_stored_array_has_the_values(tmp_path, values, name, order, compute):
    path = tmp_path / name
    made = nf.dask.store(
        da.from_array(values, chunks=(7, 11, 13)), path, order=order, metadata={"a": "b"}, compute=compute
    )
    if not compute:
        assert not path.exists()
        made.compute()
    found = nf.open(path, key="data")
    assert np.array_equal(found, values)
    assert found.flags.f_contiguous == (order == "F")
    assert nf.info(path).metadata == {"a": "b"}
    assert found._mmap.offset % 4096 == 0
    assert sorted(os.listdir(tmp_path)) == sorted({name, *([f"{name}.json"] if name.endswith("bin") else [])})


def test_a_stored_npy_is_one_for_numpy_and_can_grow(tmp_path):
    nf.dask.store(da.arange(10, chunks=3), tmp_path / "y.npy", dtype="f4")
    assert np.load(tmp_path / "y.npy").dtype == np.float32
    with nf.open(tmp_path / "y.npy", "r+") as a:
        a.append(np.float32([10]))
    assert np.load(tmp_path / "y.npy").tolist() == list(range(11))


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (3, 0, 2), (1, 1)])
def test_arrays_of_few_items_are_stored(tmp_path, shape):
    nf.dask.store(da.ones(shape), tmp_path / "y.npy")
    found = np.load(tmp_path / "y.npy")
    assert found.shape == shape
    assert (found == 1).all()


REFUSED = {
    "unknown chunks": (lambda x: x[x > 0], "y.npy", nf.LayoutError),
    "objects": (lambda x: x.astype(object), "y.npy", nf.LayoutError),
    "masked": (lambda x: da.ma.masked_equal(x, 1), "y.npy", nf.LayoutError),
    "a format that is written as a whole": (lambda x: x, "y.npz", nf.LayoutError),
    "a suffix of nobody's": (lambda x: x, "y.xyz", nf.LayoutError),
    "no folder": (lambda x: x, "no/y.npy", FileNotFoundError),
    "a file that is there": (lambda x: x, "x.npy", FileExistsError),
    "no dask array": (lambda x: np.asarray(x.shape), "y.npy", TypeError),
}


@pytest.mark.parametrize("compute", [True, False], ids=["now", "later"])
@pytest.mark.parametrize(("made", "name", "error"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_stored_is_refused_before_anything_is_computed(npy, tmp_path, made, name, error, compute):
    computed = []

    def compute_one(block):
        computed.append(1)
        return block

    array = da.ones((4, 4), chunks=2).map_blocks(compute_one, meta=np.empty((0, 0)))
    with pytest.raises(error):
        nf.dask.store(made(array), tmp_path / name, compute=compute)
    assert not computed
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize(
    "wrong",
    [lambda block: block[1:], lambda block: block + 1j, lambda block: block[5, 5]],
    ids=["shape", "dtype", "raises"],
)
def test_a_block_that_is_not_what_was_said_leaves_the_old_file_and_nothing_else(npy, tmp_path, values, wrong):
    array = da.ones((4, 4), chunks=2).map_blocks(wrong, meta=np.empty((0, 0)))
    with pytest.raises((nf.LayoutError, IndexError)):
        nf.dask.store(array, npy, overwrite=True)
    assert os.listdir(tmp_path) == ["x.npy"]
    assert np.array_equal(np.load(npy), values)


def test_an_array_is_stored_over_the_very_file_it_is_computed_from(npy, values):
    nf.dask.store(nf.dask.open(npy, chunks=(7, 20, 50)) + 1, npy, overwrite=True)
    assert np.array_equal(np.load(npy), values + 1)


def test_what_a_killed_store_has_left_is_taken_away_by_its_second_run(tmp_path, run_python):
    made = nf.dask.store(da.ones(100, chunks=10), tmp_path / "y.npy", compute=False)
    with open(tmp_path / "made.pickle", "wb") as file:
        pickle.dump(made, file)
    program = """
        import os, pickle, signal, sys
        import dask, ndfile.interop.dask_storing as storing
        storing.run = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with open(sys.argv[1], "rb") as file:
            pickle.load(file).compute(scheduler="sync")
    """
    run_python(program, tmp_path / "made.pickle", fails=True)
    assert len(os.listdir(tmp_path)) == 2  # the killed one's draft
    made.compute()
    assert sorted(os.listdir(tmp_path)) == ["made.pickle", "y.npy"]


# ---- on a cluster ----


@pytest.fixture(scope="module")
def facts(tmp_path_factory, large):
    """What came of the program's work on a cluster. It goes into a process of its own: distributed's threads stay."""
    command = [sys.executable, PROGRAM, str(tmp_path_factory.mktemp("cluster")), large]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


MAPPED = ["memmap", True]


def test_arguments_go_to_workers_by_reference(facts):
    assert facts["submit"] == facts["delayed"] == [MAPPED, 499500.0]
    assert facts["map"] == [[MAPPED, 19900.0], [MAPPED, 479600.0]]
    assert facts["map_blocks"] == [0.0] * 4


def test_scattered_arrays_are_mapped_where_they_arrive(facts):
    assert facts["scatter"] == [MAPPED, 494550.0]
    assert facts["scattered is gathered"] == MAPPED


def test_results_are_mapped_where_they_arrive(facts):
    assert facts["result"] == [MAPPED, True]
    assert facts["result elsewhere"] == [MAPPED, 29900.0]
    assert facts["in a list"] == [MAPPED, MAPPED]
    assert facts["subclass"] == ["Sub", True]


def test_an_array_that_was_changed_in_memory_goes_by_value(facts):
    assert facts["changed in memory"] == [[["ndarray", False], 5000.0], ["ndarray", False]]


def test_a_worker_counts_a_mapped_result_as_small_and_spills_its_reference(facts):
    assert facts["held"] < 1000
    nbytes, came_back = facts["spilled"]
    assert nbytes < 2000
    assert came_back == MAPPED


def test_a_store_gives_the_same_file_under_every_scheduler(facts):
    for scheduler in ("threads", "processes", "cluster"):
        is_equal, first, last = facts[f"store {scheduler}"]
        assert is_equal
        assert (first, last) == ([0, 4_800_000], [4_800_000, 4_800_000])
    assert facts["store delayed"]


def test_dasks_own_store_into_an_array_writes_to_its_file_from_other_processes(facts):
    assert facts["store into an array, str"]
    assert facts["store into an array, Client"]


def test_a_worker_with_less_memory_than_the_file_scans_it(facts):
    assert facts["large scan"] == facts["the same by from_array"] == 1024 * 256
    assert facts["most resident"] < 600e6
    assert facts["same workers"]


def test_a_worker_that_maps_the_file_by_numpy_is_ended(facts):
    assert facts["numpy.memmap"] == "KilledWorker"


def test_workers_that_are_killed_cost_no_chunk(facts):
    assert facts["workers were lost"] > 0
    assert facts["store with a loss"]
    assert facts["delayed store with a loss"]
    assert facts["scan with a loss"]


def test_a_task_that_raises_leaves_the_old_file_and_no_draft(facts):
    for name in ("store", "delayed store", "threads", "processes"):
        assert facts[f"failed {name}"] == [[0, 1, 2], "no such luck"]
    assert facts["left over"] == []
