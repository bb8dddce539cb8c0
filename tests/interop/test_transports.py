"""Arrays on their way to other processes: by reference where it can be, by value where it cannot, right in any case."""

import multiprocessing
import os
import pickle
import tempfile
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from drawn_views import view_drawn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from receiving import (
    BeforeIt,
    OfThree,
    Tagged,
    error_of_use,
    fill,
    items_at,
    plain_pickle,
    plain_pickle_of_another,
    same,
    see,
    see_all,
    tell,
)
from ways import WAYS

import ndfile as nf

pytestmark = [
    # CPython 3.12 and later say so of any fork in a process with threads, which those of libraries are.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

TIB = 1 << 40


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS)
def ask(request):
    """A function that calls another one in another process."""
    way, *arguments = request.param
    with way(*arguments) as asking:
        assert asking(same, 1) == 1  # what is started with the first call stays
        yield asking


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sent")


@pytest.fixture
def npy(tmp_path):
    """The path of a file of 10 rows of 3 int32."""
    np.save(tmp_path / "x.npy", np.arange(30, dtype="i4").reshape(10, 3))
    return str(tmp_path / "x.npy")


# ---- By reference ----


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_view_arrives_as_the_same_view_of_the_same_file_and_with_the_values_of_a_copy(ask, folder, data):
    view = view_drawn(data.draw, folder)
    found = ask(see_all, {"view": view, "copy": np.array(view)})
    assert found["view"] == see(view)._replace(mode=view.mode if view.flags.writeable else "r")
    assert found["view"].items == found["copy"].items
    returned, _ = ask(same, [view, 5])
    assert see(returned) == found["view"]


def test_an_array_that_no_memory_could_hold_arrives(ask, path):
    array = nf.memmap(path, "u1", "w+", shape=TIB, sparse=True)
    array[TIB - 5] = 7
    assert ask(items_at, array[::-1], [0, 4]) == [0, 7]
    returned = ask(same, {"in": ["a", array]})["in"][1]
    assert returned.shape == (TIB,)


def test_what_another_process_writes_is_in_the_file(ask, npy):
    array = nf.open(npy, "r+")
    ask(fill, array[2:4, ::2], -1)
    assert array[2].tolist() == [-1, 7, -1]
    assert np.load(npy)[1:5].tolist() == [[3, 4, 5], [-1, 7, -1], [-1, 10, -1], [12, 13, 14]]


def test_what_another_process_writes_to_an_array_of_mode_c_is_its_own(ask, npy):
    array = nf.open(npy, "c")
    ask(fill, array, -1)
    assert array.sum() == np.load(npy).sum() == sum(range(30))


def test_a_subclass_arrives_as_what_it_is(ask, npy):
    array = nf.open(npy)[3:].view(OfThree)
    assert ask(OfThree.three, array) == 3
    found = ask(see, array)
    assert (found.kind, found.path) == (OfThree, npy)
    assert found.items == repr(array.tolist())


def test_ceiling_and_backend_arrive(ask, npy):
    array = nf.open(npy, max_rss="8 MiB", backend="read")
    returned = ask(same, array)
    assert (returned.max_rss, returned.backend) == (8 << 20, "read")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_arguments_of_a_process_arrive(folder, npy, method):
    context = multiprocessing.get_context(method)
    views = []

    @settings(max_examples=50, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(st.data())
    def draw(data):
        # A folder for each, for all are there at once.
        views.append(view_drawn(data.draw, tempfile.mkdtemp(dir=folder)))

    draw()
    answers = context.SimpleQueue()
    process = context.Process(target=tell, args=(answers, dict(enumerate(views))), kwargs={"other": nf.open(npy)})
    process.start()
    found = answers.get()
    process.join()
    answers.close()
    process.close()
    assert found.pop("other").path == npy
    assert len(found) == len(views) > 40
    for number, seen in found.items():
        mode = views[number].mode
        if method != "fork" and not views[number].flags.writeable:
            mode = "r"
        assert seen == see(views[number])._replace(mode=mode)


# ---- What cannot be opened there ----


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda path: BeforeIt(os.utime, path, (1, 1)), nf.StaleFileError),
        (lambda path: BeforeIt(os.remove, path), FileNotFoundError),
    ],
    ids=["changed", "removed"],
)
def test_a_file_that_is_not_as_it_was_is_an_error_of_whoever_uses_the_array(ask, npy, change, error):
    raised = ask(error_of_use, change(npy), nf.open(npy)[1:])
    assert type(raised) is error
    assert npy in str(raised)
    assert ask(same, 1) == 1


USES = {
    "an attribute": lambda array: array.shape,
    "an item": lambda array: array[0],
    "a store": lambda array: array.__setitem__(0, 1),
    "its length": len,
    "iteration": list,
    "a method": lambda array: array.sum(),
    "arithmetic": lambda array: array + 1,
    "arithmetic, on the right": lambda array: np.ones(3) * array,
    "in place": lambda array: np.ones(3).__iadd__(array),
    "a comparison": lambda array: array == 1,
    "a ufunc": np.sqrt,
    "a function": np.median,
    "an array": np.asarray,
    "a copy": np.array,
    "the truth": bool,
    "a number": float,
    "a block": lambda array: array.__enter__(),
    "what is asked of it": lambda array: hasattr(array, "filename"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_use_of_what_could_not_be_opened_raises_why(npy, use):
    sent = ForkingPickler.dumps(nf.open(npy))
    os.utime(npy, (1, 1))
    unopened = pickle.loads(sent)
    assert "StaleFile" not in repr(unopened)
    assert npy in repr(unopened)
    for _ in range(2):
        with pytest.raises(nf.StaleFileError, match="it was changed"):
            use(unopened)


def test_what_could_not_be_opened_may_be_sent_on_to_where_it_can(npy, tmp_path):
    sent = ForkingPickler.dumps([nf.open(npy).view(OfThree)])
    os.rename(npy, tmp_path / "moved")
    unopened = pickle.loads(sent)
    sent_on = pickle.dumps(unopened)
    os.rename(tmp_path / "moved", npy)
    (found,) = pickle.loads(sent_on)
    assert (type(found), found.tolist()) == (OfThree, nf.open(npy).tolist())


def test_a_pickle_of_references_raises_at_once(npy):
    with nf.references():
        kept = pickle.dumps(nf.open(npy))
    os.remove(npy)
    with pytest.raises(FileNotFoundError):
        pickle.loads(kept)


# ---- By value ----


def changed_in_memory(npy):
    array = nf.open(npy, "c")
    array[1] = -5
    return array


def unlinked(npy):
    array = nf.open(npy, "r+")
    os.remove(npy)
    return array


def replaced(npy):
    array = nf.open(npy)
    np.save(npy + "-.npy", np.zeros((10, 3), "i4"))
    os.rename(npy + "-.npy", npy)
    return array


def without_a_name(npy):
    with tempfile.TemporaryFile() as file:
        array = nf.memmap(file, "i4", "w+", shape=(10, 3))
    array[...] = 8
    return array


@pytest.mark.parametrize("make", [changed_in_memory, unlinked, replaced, without_a_name])
def test_what_no_other_process_could_open_arrives_by_value(ask, npy, make):
    array = make(npy)
    view = array[::-2, 1:]
    found = ask(see_all, {"array": array, "view": view})
    for one, sent in [(found["array"], array), (found["view"], view)]:
        assert (one.kind, one.path) == (np.ndarray, None)
        assert one.items == repr(sent.tolist())


def test_what_has_a_name_in_this_process_alone_arrives_by_value(ask, npy):
    fd = os.open(npy, os.O_RDONLY)
    try:
        found = ask(see, nf.memmap(f"/proc/self/fd/{fd}", "i4", "r", 128, (10, 3)))
    finally:
        os.close(fd)
    assert (found.kind, found.items) == (np.ndarray, repr(nf.open(npy).tolist()))


def test_what_is_changed_in_an_atomic_block_arrives_by_value(ask, npy):
    array = nf.open(npy, "r+")
    with array.atomic():
        array[0] = -1
        found = ask(see, array)
    assert (found.kind, found.items) == (np.ndarray, repr(array.tolist()))
    assert ask(see, array).kind is nf.memmap


def test_a_subclass_that_says_what_its_pickles_hold_is_sent_as_it_says(ask, npy):
    array = nf.open(npy).view(Tagged)
    array.tag = "a tag"
    returned = ask(same, array)
    assert (type(returned), returned.tag, returned.tolist()) == (Tagged, "a tag", array.tolist())
    assert returned.filename is None


# Deep in the stack of a worker there is the transport, but it is not that which pickles.
@pytest.mark.parametrize("function", [plain_pickle, plain_pickle_of_another, pickle.dumps])
def test_a_plain_pickle_made_in_a_worker_holds_values(ask, npy, function):
    sent = ask(function, nf.open(npy))
    os.remove(npy)
    found = pickle.loads(sent)
    found = found["b"][0] if isinstance(found, dict) else found
    assert (type(found), found.tolist()) == (np.ndarray, np.arange(30).reshape(10, 3).tolist())
