"""Pickles that are kept hold values; the switch, and the warning where that is much."""

import asyncio
import copy
import io
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import cloudpickle
import joblib
import numpy as np
import pytest
from joblib.externals.loky.backend import reduction as loky
from receiving import OfThree, Tagged

import ndfile as nf

LARGE_NBYTES = 64 << 20


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(30, dtype=">i4").reshape(10, 3))
    return str(tmp_path / "x.npy")


def python_dumps(thing):
    return pickle._dumps(thing)


def out_of_band(thing):
    buffers = []
    sent = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return pickle.dumps(pickle.loads(sent, buffers=[bytes(buffer) for buffer in buffers]))


def numpys_file(thing):
    held = np.empty(1, object)
    held[0] = thing
    file = io.BytesIO()
    np.save(file, held, allow_pickle=True)
    file.seek(0)
    return pickle.dumps(np.load(file, allow_pickle=True)[0])


def joblibs_file(thing):
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return pickle.dumps(joblib.load(file))


PICKLES = {
    **{f"protocol {number}": lambda thing, number=number: pickle.dumps(thing, number) for number in range(6)},
    "in Python": python_dumps,
    "out of band": out_of_band,
    "cloudpickle": cloudpickle.dumps,
    "numpy.save": numpys_file,
    "joblib.dump": joblibs_file,
    "a copy": lambda thing: pickle.dumps(copy.copy(thing)),
    "a deep copy": lambda thing: pickle.dumps(copy.deepcopy(thing)),
}


@pytest.mark.parametrize("dumps", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_pickle_that_is_kept_holds_values_and_outlives_the_file(npy, dumps, mode):
    array = nf.open(npy, mode)
    view = array[::-2, 1:].T
    values = view.tolist()
    kept = dumps({"deep": [view, (view,)]})
    del array, view
    os.remove(npy)
    found = pickle.loads(kept)["deep"]
    assert (type(found[0]), found[0].tolist()) == (np.ndarray, values)
    assert found[0].flags.writeable
    assert found[0] is found[1][0]


def test_a_pickle_of_what_mode_c_has_changed_holds_the_change(npy):
    array = nf.open(npy, "c")
    array[0, 0] = -1
    with nf.references():
        assert pickle.loads(pickle.dumps(array)).tolist() == array.tolist()


def test_a_subclass_is_kept_as_what_it_is(npy):
    found = pickle.loads(pickle.dumps(nf.open(npy).view(OfThree)))
    assert (type(found), found.filename, found.three()) == (OfThree, None, 3)
    assert found.tolist() == nf.open(npy).tolist()


def test_a_closed_array_cannot_be_pickled(npy):
    array = nf.open(npy)
    array.close()
    for dumps in (pickle.dumps, ForkingPickler.dumps):
        with pytest.raises(nf.ClosedError):
            dumps(array)


def test_a_cut_file_is_found_when_it_is_sent(npy):
    array = nf.open(npy)
    os.truncate(npy, 130)
    with pytest.raises(nf.FaultError):
        ForkingPickler.dumps(array)


# ---- What is sent ----


@pytest.mark.parametrize("dumps", [ForkingPickler.dumps, loky.dumps])
def test_what_a_transport_pickles_is_small(path, dumps):
    array = nf.memmap(path, "u1", "w+", shape=1 << 40, sparse=True)
    assert len(dumps(array)) < 1000
    assert len(dumps({"deep": [array, array]})) < 1000
    found, again = pickle.loads(dumps([array, array]))
    assert found is again


class Asking:
    """What pickles an array for itself, while it is pickled."""

    def __init__(self, array):
        self.array = array

    def __getstate__(self):
        return {"kept": pickle.dumps(self.array)}


def test_what_an_object_pickles_for_itself_on_its_way_holds_values(npy):
    found = pickle.loads(ForkingPickler.dumps(Asking(nf.open(npy))))
    os.remove(npy)
    assert pickle.loads(found.kept).shape == (10, 3)


def test_a_spawned_process_imports_what_it_needs_and_no_warning_is_in_the_way(npy, run_python):
    program = """
    import multiprocessing, sys
    import ndfile as nf
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(len, (nf.open(sys.argv[1])[3:],)))
        pool.close()
        pool.join()
    """
    assert run_python(program, npy).stdout == "7\n"


# ---- The switch ----


def is_by_reference(sent):
    return type(pickle.loads(sent)) is nf.memmap


@pytest.mark.parametrize(
    "dumps", [pickle.dumps, python_dumps, cloudpickle.dumps, PICKLES["protocol 0"], PICKLES["protocol 2"]]
)
def test_in_the_block_pickles_hold_references(npy, dumps):
    array = nf.open(npy)[2:]
    assert not is_by_reference(dumps(array))
    with nf.references():
        sent = dumps(array)
    assert not is_by_reference(dumps(array))
    found = pickle.loads(sent)
    assert (type(found), found.filename, found.tolist()) == (nf.memmap, npy, array.tolist())


def test_a_subclass_is_referred_to_as_what_it_is(npy):
    with nf.references():
        found = pickle.loads(pickle.dumps(nf.open(npy).view(OfThree)))
    assert (type(found), found.filename) == (OfThree, npy)


def test_a_subclass_that_says_what_its_pickles_hold_is_asked_in_the_block_too(npy):
    array = nf.open(npy).view(Tagged)
    array.tag = 5
    with nf.references():
        found = pickle.loads(pickle.dumps(array))
    assert (type(found), found.tag, found.tolist()) == (Tagged, 5, array.tolist())


def test_copies_are_copies_in_the_block_too(npy):
    array = nf.open(npy)
    with nf.references():
        assert type(copy.copy(array)) is type(copy.deepcopy(array)) is np.ndarray


def test_blocks_may_lie_in_each_other_and_an_exception_ends_one(npy):
    array = nf.open(npy)
    with nf.references():
        with nf.references():
            pass
        assert is_by_reference(pickle.dumps(array))
    with pytest.raises(KeyError), nf.references():
        raise KeyError
    assert not is_by_reference(pickle.dumps(array))


def test_a_block_is_of_its_thread(npy):
    array = nf.open(npy)
    with ThreadPoolExecutor(1) as other:
        with nf.references():
            assert not is_by_reference(other.submit(pickle.dumps, array).result())
        inside, over = threading.Event(), threading.Event()

        def hold():
            with nf.references():
                inside.set()
                over.wait()

        holding = other.submit(hold)
        inside.wait()
        assert not is_by_reference(pickle.dumps(array))
        over.set()
        holding.result()


def test_a_block_is_of_its_task(npy):
    array = nf.open(npy)

    async def hold(inside, over):
        with nf.references():
            inside.set()
            await over.wait()
            return is_by_reference(pickle.dumps(array))

    async def both():
        inside, over = asyncio.Event(), asyncio.Event()
        holding = asyncio.create_task(hold(inside, over))
        await inside.wait()
        other = is_by_reference(pickle.dumps(array))
        over.set()
        return await holding, other

    assert asyncio.run(both()) == (True, False)


# ---- The warning ----


def by_pickle(array):
    return pickle.dumps(array)


def by_python(array):
    return pickle._dumps(array)


def by_cloudpickle(array):
    return cloudpickle.dumps(array)


def by_a_pickler(array):
    return pickle.Pickler(io.BytesIO()).dump([array])


def by_joblib(array):
    return joblib.dump(array, os.devnull)


def by_a_transport(array):
    return ForkingPickler.dumps(array)


@pytest.fixture
def large(request, path):
    """An array of one byte more than may be copied without a warning."""
    yield nf.memmap(path, "u1", "w+", shape=LARGE_NBYTES + 1, sparse=True)
    request.node.funcargs.clear()  # pytest holds it, too


def warnings_of(function, *arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments)
    return caught


@pytest.mark.parametrize("dump", [by_pickle, by_python, by_cloudpickle, by_a_pickler, by_joblib])
def test_a_large_copy_warns_at_the_line_that_makes_it(large, dump):
    (warning,) = warnings_of(dump, large)
    assert warning.category is nf.CopyWarning
    assert (warning.filename, warning.lineno) == (__file__, dump.__code__.co_firstlineno + 1)
    for part in (repr(large.filename), "64 MiB", "a.ref", "ndfile.references()"):
        assert part in str(warning.message)
    assert warnings_of(dump, large[1:]) == []


def test_a_warning_that_is_an_error_stops_the_copy(large):
    with warnings.catch_warnings():
        warnings.simplefilter("error", nf.CopyWarning)
        with pytest.raises(nf.CopyWarning):
            pickle.dumps(large)


def test_what_cannot_be_referred_to_warns_with_the_reason(path, large):
    private = nf.memmap(path, "u1", "c")
    private[0] = 1
    (warning,) = warnings_of(by_a_transport, private)
    assert "mode 'c' has changed it in memory alone" in str(warning.message)
    assert "ndfile.save" in str(warning.message)
    with nf.references():
        (warning,) = warnings_of(by_pickle, private)
    assert warning.lineno == by_pickle.__code__.co_firstlineno + 1


def test_references_and_copies_without_pickles_do_not_warn(large):
    assert warnings_of(by_a_transport, large) == []
    assert warnings_of(copy.deepcopy, large) == []
    with nf.references():
        assert warnings_of(by_pickle, large) == []
