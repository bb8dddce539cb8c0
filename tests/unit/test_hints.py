"""prefetch, release, advise, residency, backend: the kernel is told and asked, and no byte changes by it."""

import enum
import mmap
import os
import re
import resource
import threading
import time

import numpy as np
import pytest
from cold_files import PAGE, cool, dirty_pages, pages_in_memory, pages_of, readahead_nbytes
from numpy.lib.stride_tricks import sliding_window_view

import ndfile as nf
from ndfile.hints import Residency

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

MIB = 1 << 20

# Rows of 3000 bytes: most pages have parts of two of them.
ROWS, WIDTH, ITEMSIZE = 8000, 375, 8
SHAPE = (ROWS, WIDTH)

# So long a page that was asked for may be on its way.
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def values():
    """Of each item the byte of the file where it begins, so that an index tells the bytes that it names."""
    return np.arange(ROWS * WIDTH, dtype="i8").reshape(SHAPE) * ITEMSIZE


@pytest.fixture(scope="module")
def numbers_path(tmp_path_factory, values):
    path = str(tmp_path_factory.mktemp("hints") / "numbers.dat")
    values.tofile(path)
    return path


@pytest.fixture
def cold(numbers_path):
    """A function that maps the numbers, of which nothing is in memory."""
    opened = []

    def make(mode="r", order="C", shape=SHAPE):
        cool(numbers_path)
        opened.append(nf.memmap(numbers_path, "i8", mode, shape=shape, order=order))
        return opened[-1]

    yield make
    for array in opened:
        array.close()


@pytest.fixture
def fresh(tmp_path):
    """A function that maps a new file of random bytes, mode 'r+'."""
    opened = []

    def make(nbytes=4 * MIB, mode="r+", seed=1):
        path = str(tmp_path / f"{len(opened)}.dat")
        with open(path, "wb") as file:
            file.write(np.random.default_rng(seed).bytes(nbytes))
        opened.append(nf.memmap(path, "u1", mode))
        return opened[-1]

    yield make
    for array in opened:
        array.close()


def wait_until(is_so):
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# ---- prefetch ----


def windows(array):
    return sliding_window_view(array.reshape(-1), 1000, subok=True)[::100_000]


VIEWS = {
    "as it is": lambda a: a,
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1],
    "reversed both ways": lambda a: a[::-1, ::-1],
    "a part": lambda a: a[1000:7000, 100:200],
    "every 64th row": lambda a: a[::64],
    "one axis more": lambda a: a.reshape(80, 100, WIDTH)[:, 7],
}

SOME = np.array([5, 7999, -3, 17, 17, 4000, -8000])

MASK = np.zeros(ROWS, bool)
MASK[[0, 1, 3000, 7999]] = True

INDICES = {
    "int": 7,
    "negative int": -1,
    "numpy int": np.int64(4000),
    "slice": slice(100, 300),
    "slice with a step": slice(None, None, 500),
    "slice backwards": slice(300, 100, -1),
    "slice out of the array": slice(7990, 10**9),
    "tuple": (slice(1000, 1010), 3),
    "tuple of one item": (4000, 30),
    "tuple with an ellipsis": (..., slice(0, 1)),
    "new axis": (None, 17),
    "list": SOME.tolist(),
    "list of bools": MASK.tolist(),
    "array": SOME,
    "array of small ints": np.array([1, 100, -100], "i1"),
    "array of unsigned": np.array([1, 7000], "u8"),
    "array of two axes": np.array([[1, 2], [7000, -1]]),
    "array with gaps": np.arange(0, ROWS, 250)[::-2],
    "mask": MASK,
    "range": range(10, 7000, 1000),
    "empty list": [],
    "empty slice": slice(5, 5),
    "mask of nothing": np.zeros(ROWS, bool),
}


def chosen(values, index):
    if isinstance(index, (list, range)):
        index = np.array(index, bool if len(index) and isinstance(index[0], bool) else int)
    return np.array(values[index])


def assert_pages(path, wanted, spare=64):
    """Check that all of these pages are in memory, and hardly any other."""
    there = set(np.flatnonzero(pages_in_memory(path)).tolist())
    assert wanted <= there
    # The kernel may make a folio of more than one page. It does not read on, as it would after a touch.
    assert len(there) <= 2 * len(wanted) + spare


@pytest.mark.parametrize("name", INDICES)
def test_with_wait_every_page_that_an_index_names_is_in_memory_and_few_others(cold, values, name):
    array = cold()
    assert array.prefetch(INDICES[name], wait=True) is True
    assert_pages(array.filename, pages_of(chosen(values, INDICES[name])))


@pytest.mark.parametrize("name", VIEWS)
def test_with_wait_the_pages_of_a_view_are_in_memory_and_few_others(cold, values, name):
    view = VIEWS[name]
    array = view(cold())
    assert array.prefetch(wait=True) is True
    assert_pages(array.filename, pages_of(view(values)))


@pytest.mark.parametrize("name", VIEWS)
def test_rows_of_a_view_are_its_own(cold, values, name):
    view = VIEWS[name]
    array = view(cold())
    assert array.prefetch([1, 5, -2], wait=True) is True
    assert_pages(array.filename, pages_of(view(values)[[1, 5, -2]]))


def test_windows_that_lie_over_each_other_are_read_where_they_are(cold, values):
    array = windows(cold())
    assert array.prefetch(wait=True) is True
    assert_pages(array.filename, pages_of(windows(values)))


def test_the_rows_of_an_array_in_f_order_are_on_many_pages(cold, values):
    array = cold(order="F", shape=(WIDTH, ROWS))
    in_file = values.reshape(ROWS, WIDTH).T
    assert array.prefetch([1, -1], wait=True) is True
    assert_pages(array.filename, pages_of(in_file[[1, -1]]))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_all_of_an_array_is_read_in_every_mode(cold, mode):
    array = cold(mode)
    assert array.prefetch(wait=True) is True
    assert pages_in_memory(array.filename).all()


def test_of_a_new_file_every_page_is_there(path):
    with nf.memmap(path, "u1", "w+", shape=MIB) as array:
        assert array.prefetch(wait=True) is True
        assert not array.any()


@pytest.mark.parametrize("index", [slice(2000, 2500), SOME, ...], ids=["slice", "rows", "all"])
def test_without_waiting_the_pages_come_soon(cold, values, index):
    array = cold()
    wanted = sorted(pages_of(chosen(values, index)))
    assert array.prefetch(index) is True
    wait_until(lambda: pages_in_memory(array.filename)[wanted].all())


def test_with_wait_the_pages_are_mapped_too(cold):
    """So that a touch is no page fault."""
    array = cold()
    row = array[3000:3100]
    assert row.prefetch(wait=True)
    plain = np.asarray(row)
    plain.sum()  # what NumPy needs for itself
    before = resource.getrusage(resource.RUSAGE_SELF)
    plain.sum()
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_majflt == before.ru_majflt


def test_rows_that_were_appended_are_asked_for(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros((10, 512)))
    with nf.open(path, "r+") as array:
        array.append(np.ones((500, 512)))
        assert array.prefetch([505, -1], wait=True) is True
        assert array.prefetch(slice(400, None), wait=True) is True
        with pytest.raises(IndexError):
            array.prefetch([510])
        assert array.residency().nbytes >= 510 * 4096
        array.flush()
        assert array.release() is True
        assert (array[505] == 1).all()


def test_private_pages_stay_as_they_are(cold):
    array = cold("c")
    array[5] = 77
    assert array.prefetch([5, 6], wait=True) is True
    assert (array[5] == 77).all()


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("index", [Colour.RED, (Colour.RED, 2), (None, -1, ..., None), ()], ids=repr)
def test_what_is_a_basic_index_to_numpy_is_one_here(cold, index):
    assert cold().prefetch(index) is True


# ---- Errors ----

OUT_OF_RANGE = [ROWS, -ROWS - 1, (0, WIDTH), [0, ROWS], [-ROWS - 1], np.array([3, ROWS]), np.array([[2**40]]), (0,) * 3]
NO_INDEX = ["x", b"x", 1.5, slice(1.5), [1.5], np.array([1.5]), np.ones(ROWS - 1, bool), [True] * 3]


@pytest.mark.parametrize("act", ["prefetch", "release"])
@pytest.mark.parametrize("index", [*OUT_OF_RANGE, *NO_INDEX], ids=lambda index: repr(index)[:30])
def test_an_index_that_numpy_refuses_is_refused_in_its_words(cold, values, act, index):
    with pytest.raises((IndexError, TypeError)) as theirs:
        values[index]
    array = cold()
    with pytest.raises(theirs.type, match=f"^{re.escape(str(theirs.value))}$"):
        getattr(array, act)(index)


ODD = [
    ([1, 2], 3),
    (slice(None), [1, 2]),
    ([1, 2], [3, 4]),
    np.ones(SHAPE, bool),
    np.array([1, 2], object),
    [[1, 2], [3]],
    True,
    np.True_,
    (True, 1),
    np.array(True),
    np.array(5),
    {1, 2},
]


@pytest.mark.parametrize("act", ["prefetch", "release", "advise"])
@pytest.mark.parametrize("index", ODD, ids=lambda index: repr(index)[:30])
def test_an_index_of_another_kind_is_refused(cold, act, index):
    array = cold()
    arguments = ("random", index) if act == "advise" else (index,)
    with pytest.raises((ValueError, IndexError), match=r"Pass|inhomogeneous|valid indices|of integer"):
        getattr(array, act)(*arguments)


def test_advice_for_rows_by_number_is_refused(cold):
    with pytest.raises(nf.LayoutError, match="no rows by number"):
        cold().advise("random", [1, 2])


@pytest.mark.parametrize("advice", ["nonsense", "", "RANDOM", None, 1, b"random", "dontneed", "free", "remove"])
def test_advice_that_there_is_not_is_refused(cold, advice):
    """Above all what would lose bytes."""
    with pytest.raises(nf.LayoutError, match="advice must be one of"):
        cold().advise(advice)


@pytest.mark.parametrize("parts", [1.5, "3", None])
def test_parts_are_a_whole_number(cold, parts):
    with pytest.raises(TypeError):
        cold().residency(parts)


@pytest.mark.parametrize("parts", [0, -1, -(10**30)])
def test_less_than_one_part_is_refused(cold, parts):
    with pytest.raises(nf.LayoutError, match="parts must be at least 1"):
        cold().residency(parts)


ACTS = {
    "prefetch": lambda a: a.prefetch(),
    "prefetch of a slice": lambda a: a.prefetch(slice(3)),
    "prefetch of an item": lambda a: a.prefetch(0),
    "prefetch of rows": lambda a: a.prefetch([0]),
    "release": lambda a: a.release(),
    "release of rows": lambda a: a.release([0]),
    "advise": lambda a: a.advise("random"),
    "residency": lambda a: a.residency(),
    "backend": lambda a: a.backend,
    "set backend": lambda a: setattr(a, "backend", "map"),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_closed_array_refuses(numbers_file, name):
    array = nf.memmap(numbers_file, "f4", "r+", shape=(3, 4))
    view = array[1:]
    array.close()
    for closed in (array, view):
        with pytest.raises(nf.ClosedError):
            ACTS[name](closed)


# ---- Arrays without a file, and without bytes ----


def test_an_array_that_numpy_made_has_nothing_to_ask_for(cold):
    array = np.zeros_like(cold()[:4])
    assert type(array) is nf.memmap
    assert [array.prefetch(), array.prefetch([1]), array.release(), array.advise("random")] == [False] * 4
    assert array.residency() == (0, 0, 0, ())
    assert array.backend is None
    with pytest.raises(nf.LayoutError, match="no file"):
        array.backend = "map"
    assert array.prefetch(3) is False
    for index in (4, [4]):
        with pytest.raises(IndexError):
            array.prefetch(index)
    with pytest.raises(nf.LayoutError):
        array.advise("nonsense")


@pytest.mark.parametrize("view", [lambda a: a[:0], lambda a: a[:, :0], lambda a: a[3:3, ::-1]])
def test_a_view_without_items_has_no_pages(cold, view):
    array = view(cold())
    assert array.prefetch(wait=True) is array.release() is array.advise("random") is True
    found = array.residency()
    assert found == (0, 0, 0, ())
    assert found.share == 1
    assert repr(found) == "<Residency: 0 bytes of 0 bytes in memory ||>"
    assert array.backend == "map"
    assert not pages_in_memory(array.filename).any()


def test_an_array_of_no_rows_that_grows_has_pages_later(tmp_path):
    with nf.create(str(tmp_path / "x.npy"), shape=(0, 512), dtype="f8") as array:
        assert array.prefetch() is array.release() is True
        assert array.residency().nbytes == 0
        array.append(np.ones((3, 512)))
        assert array.prefetch([2], wait=True) is True
        assert array.residency().nbytes >= 3 * 4096


# ---- release ----


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_pages_that_are_released_leave_the_page_cache(cold, mode):
    array = cold(mode)
    array.prefetch(wait=True)
    assert array.release() is True
    assert not pages_in_memory(array.filename).any()
    assert array.residency().resident_nbytes == 0


def test_the_pages_of_a_slice_leave_and_the_others_stay(cold, values):
    array = cold()
    array.prefetch(wait=True)
    assert array.release(slice(2000, 6000)) is True
    there = pages_in_memory(array.filename)
    inner = sorted(pages_of(values[2500:5500]))  # the folios at both ends may hold others too
    assert not there[inner].any()
    assert there[sorted(pages_of(values[:1500]))].all()
    assert there[sorted(pages_of(values[6500:]))].all()


def test_memory_that_the_process_has_of_the_pages_is_given_back(cold):
    array = cold()

    def mapped_nbytes():
        with open("/proc/self/smaps") as maps:
            text = maps.read()
        entries = text[text.index(array.filename) :]
        return int(re.search(r"Rss: +(\d+) kB", entries)[1]) << 10

    array.sum()
    assert mapped_nbytes() == array.residency().nbytes
    array.release()
    assert mapped_nbytes() == 0


def test_what_another_map_has_in_use_stays_in_the_page_cache(cold):
    array = cold()
    with nf.memmap(array.filename, "i8", "r") as other:
        other.sum()
        assert array.release() is True
        assert pages_in_memory(array.filename).all()


@pytest.mark.parametrize("index", [..., slice(1, None), np.arange(0, 4 * MIB, 100)], ids=["all", "slice", "rows"])
def test_what_was_stored_and_not_flushed_is_never_lost(fresh, index):
    array = fresh()
    content = np.random.default_rng(2).integers(0, 256, array.size, dtype="u1")
    for part, store in enumerate([lambda a, x: np.copyto(np.asarray(a), x), lambda a, x: a.__setitem__(..., x)]):
        half = slice(part * 2 * MIB, (part + 1) * 2 * MIB)
        store(array[half], content[half])
    for _ in range(3):
        array.release(index)
        assert np.array_equal(np.fromfile(array.filename, "u1"), content)
        assert np.array_equal(array, content)
        content[::1000] += 1
        array[::1000] += 1
    array.close()
    cool(array.filename)
    assert np.array_equal(np.fromfile(array.filename, "u1"), content)


def test_stores_of_another_thread_meanwhile_are_never_lost(fresh):
    array = fresh(MIB)
    array[:] = 0

    def count():
        plain = np.asarray(array)
        for _ in range(300):
            plain[:] += 1  # 300 in all, less 256: a lost one would be seen

    storing = threading.Thread(target=count)
    storing.start()
    while storing.is_alive():
        array.release()
    storing.join()
    assert (array == 300 - 256).all()


def test_private_pages_are_not_released(fresh):
    array = fresh(mode="c")
    array[::PAGE] = 7
    assert array.release() is False
    assert array.release([3]) is False
    assert (array[::PAGE] == 7).all()


def test_pages_of_an_atomic_block_are_not_released(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros(MIB, "u1"))
    with nf.open(path, "r+") as array:
        with array.atomic():
            array[:] = 9
            assert array.release() is False
            assert (array == 9).all()
            assert not np.load(path).any()
        assert (np.load(path) == 9).all()
        assert array.release() is True
        assert (array == 9).all()


def test_a_release_by_another_thread_never_takes_the_pages_of_a_block(tmp_path):
    """The block may begin at any moment of it."""
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros((64, 512)))
    is_over = threading.Event()
    with nf.open(path, "r+") as array:

        def release():
            while not is_over.is_set():
                array.release()

        releasing = threading.Thread(target=release)
        releasing.start()
        try:
            for number in range(1, 100):
                with array.atomic():
                    array[::7] = number
                    for _ in range(10):
                        assert (array[::7] == number).all()
                assert (np.load(path)[::7] == number).all()
        finally:
            is_over.set()
            releasing.join()


def test_a_file_that_has_lost_its_name_is_not_released(fresh):
    """A map that only reads keeps no descriptor, and has no other way to the file."""
    array = fresh(mode="r")
    total = array.sum()
    os.rename(array.filename, array.filename + ".old")
    assert array.release() is False
    assert array.sum() == total
    os.rename(array.filename + ".old", array.filename)
    assert array.release() is True


# ---- advise ----

ADVICE = {"normal": 0, "random": 1, "sequential": 2, "hugepage": 14, "nohugepage": 15, "cold": 20, "pageout": 21}


@pytest.mark.parametrize("word", ADVICE)
def test_the_kernel_s_answer_is_given(fresh, word):
    array = fresh(mode="r")
    with open(array.filename, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as bare:
        try:
            bare.madvise(ADVICE[word])
            is_known = True
        except OSError:
            is_known = False
    before = array.copy()
    assert array.advise(word) is is_known
    assert array[MIB : 2 * MIB].advise(word) is is_known
    assert array.advise(word, slice(MIB, None, 3)) is is_known
    assert np.array_equal(array, before)


def flagged_nbytes(path, flag):
    """How much of a file's maps the kernel has flagged so."""
    with open("/proc/self/smaps") as maps:
        entries = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", maps.read(), flags=re.MULTILINE)
    own = [entry for entry in entries if entry.split("\n")[0].endswith(path)]
    spans = [
        [int(end, 16) for end in entry.split()[0].split("-")]
        for entry in own
        if flag in re.search(r"VmFlags: (.*)", entry)[1].split()
    ]
    return sum(end - start for start, end in spans)


@pytest.mark.parametrize(("word", "flag"), [("random", "rr"), ("sequential", "sr")])
def test_advice_holds_for_the_pages_named_until_there_is_another(fresh, word, flag):
    array = fresh(mode="r")
    assert flagged_nbytes(array.filename, flag) == 0
    array.advise(word, slice(MIB, 2 * MIB))
    assert flagged_nbytes(array.filename, flag) == MIB
    array.advise(word)
    assert flagged_nbytes(array.filename, flag) == 4 * MIB
    array.advise("normal")
    assert flagged_nbytes(array.filename, flag) == 0


def test_advice_never_loses_a_store(fresh):
    for mode in ("r+", "c"):
        array = fresh(mode=mode)
        array[:] = 5
        for word in ADVICE:
            array.advise(word)
        assert (array == 5).all()


# ---- residency ----


def test_what_is_in_memory_is_what_mincore_counts(cold):
    array = cold()
    np.asarray(array)[4000].sum()
    array.prefetch([1, 2, 7000], wait=True)
    there = pages_in_memory(array.filename)
    assert there.any()
    assert array.residency().resident_nbytes == there.sum() * PAGE
    found = array.residency(10)
    assert found.nbytes == len(there) * PAGE
    assert sum(found.parts) * found.nbytes / len(found.parts) == pytest.approx(found.resident_nbytes, rel=0.1)
    assert found.share == found.resident_nbytes / found.nbytes


@pytest.mark.parametrize("parts", [1, 2, np.int64(7), 64, 1000, 10**6, 10**30])
def test_parts_are_equal_pieces_of_the_file(cold, parts):
    array = cold()
    array.prefetch([5, 3000, 3001, 7990], wait=True)
    there = pages_in_memory(array.filename)
    found = array.residency(parts)
    assert 1 <= len(found.parts) <= parts
    step = -(-len(there) // parts)
    wanted = [there[at : at + step].mean() for at in range(0, len(there), step)]
    assert found.parts == pytest.approx(wanted)


def test_a_view_tells_of_its_own_pages(cold):
    array = cold()
    array.prefetch(slice(4000, 8000), wait=True)
    assert array[4100:7900].residency().share == 1
    assert array[4100:7900].T[::-1].residency().share == 1
    assert array[:100].residency().resident_nbytes == 0
    half = array.residency(2).parts
    assert half[0] < 0.01
    assert half[1] == 1


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_every_mode_tells_and_reads_nothing_by_it(cold, mode):
    array = cold(mode)
    found = array.residency()
    assert found == (found.nbytes, 0, 0, (0.0,) * len(found.parts))
    assert not pages_in_memory(array.filename).any()


def test_a_sparse_file_of_a_tebibyte_is_told_of(path):
    with nf.memmap(path, "u1", "w+", shape=1 << 40, sparse=True) as array:
        assert array.residency() == (1 << 40, 0, 0, (0.0,) * 64)
        assert array.prefetch([1 << 39], wait=True)
        found = array.residency(4)
        assert [part > 0 for part in found.parts] == [False, False, True, False]
        assert PAGE <= found.resident_nbytes <= max(MIB, readahead_nbytes(path))
        assert repr(found).startswith("<Residency: ")
        assert array.release([1 << 39]) is True


def test_what_the_disk_has_not_got_is_counted_until_a_flush(fresh):
    array = fresh()
    dirty_pages(array.filename)  # or it is not told here
    array.flush()
    assert array.residency().dirty_nbytes == 0
    np.asarray(array)[2 * MIB : 2 * MIB + 3 * PAGE] = 1
    assert array.residency().dirty_nbytes >= 3 * PAGE
    assert array[:MIB].residency().dirty_nbytes == 0
    assert "to be written" in repr(array.residency())
    array.flush()
    assert array.residency().dirty_nbytes == 0
    assert "to be written" not in repr(array.residency())


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ((0, 0, 0, ()), "<Residency: 0 bytes of 0 bytes in memory ||>"),
        ((4096, 4096, 0, (1.0,)), "<Residency: 4 KiB of 4 KiB in memory |█|>"),
        ((8192, 0, 0, (0.0, 0.0)), "<Residency: 0 bytes of 8 KiB in memory |  |>"),
        ((1 << 30, 1 << 29, 4096, (1.0, 0.0)), "<Residency: 512 MiB of 1 GiB in memory, 4 KiB to be written |█ |>"),
        ((4 << 40, 1 << 10, 0, (1e-9, 0.5, 0.999, 1)), "<Residency: 1 KiB of 4 TiB in memory |░▒▓█|>"),
    ],
)
def test_a_residency_shows_itself(found, text):
    assert repr(Residency(*found)) == text


def test_a_residency_of_many_parts_is_shown_in_32_signs(cold):
    array = cold()
    array.prefetch(slice(ROWS // 2), wait=True)
    bar = re.search(r"\|(.*)\|", repr(array.residency(1000)))[1]
    assert len(bar) == 32
    assert bar[:15] == "█" * 15
    assert bar[18:] == " " * 14


# ---- backend ----


def test_files_of_this_machine_are_read_through_the_map(cold):
    array = cold()
    assert array.backend == "map"
    assert array[5:].backend == "map"
    array.backend = "auto"
    assert array.backend == "map"


def test_a_backend_is_the_mapping_s(cold):
    array = cold()
    array[3:].backend = "read"
    assert array.backend == "read"
    array.backend = "auto"
    assert array[7].backend == "map"


@pytest.mark.parametrize("is_cold", [True, False], ids=["cold", "warm"])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_reading_gives_what_the_map_gives(cold, values, mode, is_cold):
    rng = np.random.default_rng(3)
    array = cold(mode)
    array.backend = "read"
    if not is_cold:
        array.prefetch(wait=True)
    some = rng.integers(-ROWS, ROWS, 3000)
    assert np.array_equal(array[some], values[some])
    cool_again = [array.release] if is_cold else []
    for act in [
        lambda a: a[some[:50], 3:70:2],
        lambda a: a.T[[0, 374, 7]],
        lambda a: a[::-1][some],
        lambda a: a[MASK],
        lambda a: a.take(some, 0),
        lambda a: a.copy(),
    ]:
        for again in cool_again:
            again()
        assert np.array_equal(act(array), act(values))


def test_what_was_stored_through_the_map_is_read(fresh):
    array = fresh()
    array.backend = "read"
    rows = array.reshape(-1, 1024)
    rows[[7, 4000]] = 9
    np.asarray(rows)[8] = 8
    assert (rows[[7, 8, 4000, 7]] == np.array([9, 8, 9, 9])[:, None]).all()


@pytest.mark.parametrize("opener", ["memmap", "open"])
def test_a_backend_can_be_asked_for_at_opening(tmp_path, opener):
    path = str(tmp_path / "x.npy")
    np.save(path, np.arange(10))
    arguments = {"memmap": {"dtype": "i8", "mode": "r", "offset": 128}, "open": {}}[opener]
    for backend, got in [("auto", "map"), ("map", "map"), ("read", "read")]:
        with getattr(nf, opener)(path, backend=backend, **arguments) as array:
            assert array.backend == got
            assert array[[3, 1]].tolist() == [3, 1]
    with pytest.raises(nf.LayoutError, match="backend must be one of"):
        getattr(nf, opener)(path, backend="nonsense", **arguments)


def test_private_pages_cannot_be_read_from_the_file(cold):
    array = cold("c")
    assert array.backend == "map"
    with pytest.raises(nf.LayoutError, match="mode 'c'"):
        array.backend = "read"
    with pytest.raises(nf.LayoutError, match="mode 'c'"):
        nf.memmap(array.filename, "i8", "c", backend="read")
    array.backend = "auto"
    assert array.backend == "map"


@pytest.mark.parametrize("backend", ["nonsense", "", None, 1, b"map", ["map"], "MAP", "ma\udc00"])
def test_a_backend_that_there_is_not_is_refused(cold, backend):
    array = cold()
    with pytest.raises(nf.LayoutError, match="backend must be one of"):
        array.backend = backend
    assert array.backend == "map"


def test_the_core_refuses_them_too(cold):
    """It is asked by Python code alone, and does not rely on that."""
    mapping = cold("c")._mmap
    for backend in ("read", "nonsense", None, 1):
        with pytest.raises(ValueError, match="backend is one of"):
            mapping.backend = backend
    with pytest.raises(ValueError, match="backend"):
        del mapping.backend
    assert mapping.backend == "map"


def test_an_atomic_block_is_read_through_the_map(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros((4000, 1024), "u1"))
    with nf.open(path, "r+") as array:
        array.backend = "read"
        with array.atomic():
            array[[3, 3999]] = 5
            assert (array[[3, 3999]] == 5).all()
            assert not np.load(path).any()
        array.release()
        assert (array[[3, 3999]] == 5).all()
