"""Rows of a file that is not in memory: the device is asked for their pages, and not for much else."""

import os

import numpy as np
import pytest
from cold_files import (
    PAGE,
    cool,
    counted_reads,
    dirty_pages,
    need_counted_reads,
    pages_in_memory,
    pages_of,
    readahead_nbytes,
)
from faulty import forked, is_privileged
from numpy.lib.stride_tricks import sliding_window_view

import ndfile as nf

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

KIB, MIB = 1 << 10, 1 << 20

# Rows of 1 KiB, each of them its own number over and over.
ROWS, WIDTH = 65536, 256
ROW_NBYTES = WIDTH * 4
NBYTES = ROWS * ROW_NBYTES

# A device may be asked for so many times the pages that rows are on.
MOST_TIMES = 5

# What a system reads for itself, such as where the blocks of a file are.
SPARE_NBYTES = 256 * KIB

CHOSEN = np.random.default_rng(5).choice(ROWS, 500, replace=False)


@pytest.fixture(scope="module", autouse=True)
def _device(tmp_path_factory):
    need_counted_reads(tmp_path_factory.mktemp("device"))


def made(path):
    with open(path, "wb") as file:
        for start in range(0, ROWS, 8192):
            np.repeat(np.arange(start, start + 8192, dtype="u4"), WIDTH).tofile(file)
    return str(path)


@pytest.fixture(scope="module")
def file_path(tmp_path_factory):
    """The file of the rows, which nobody changes."""
    return made(tmp_path_factory.mktemp("cold") / "rows.dat")


@pytest.fixture
def cold(file_path):
    """A function that maps the file when nothing of it is in memory."""
    opened = []

    def make(mode="r", shape=(ROWS, WIDTH), order="C", kind=nf.memmap):
        cool(file_path)
        opened.append(kind(file_path, "u4", mode, shape=shape, order=order))
        return opened[-1]

    yield make
    for array in opened:
        (array.close if isinstance(array, nf.memmap) else array._mmap.close)()


def pages_nbytes(rows):
    return len(pages_of(np.asarray(rows) * ROW_NBYTES)) * PAGE


# ---- Gathering ----

MASK = np.zeros(ROWS, bool)
MASK[CHOSEN] = True

GATHERS = {
    "by number": lambda a: a[CHOSEN],
    "by negative numbers": lambda a: a[CHOSEN - ROWS],
    "by a list": lambda a: a[CHOSEN.tolist()],
    "by an index of two axes": lambda a: a[CHOSEN.reshape(20, 25)],
    "sorted": lambda a: a[np.sort(CHOSEN)],
    "by a mask": lambda a: a[MASK],
    "a part of each": lambda a: a[CHOSEN, 1:3],
    "an item of each": lambda a: a[CHOSEN, 7],
    "take": lambda a: a.take(CHOSEN, axis=0),
    "np.take": lambda a: np.take(a, CHOSEN, axis=0),
    "take into an array": lambda a: a.take(CHOSEN, axis=0, out=np.empty((500, WIDTH), "u4")),
    "take with wrap": lambda a: a.take(CHOSEN + ROWS, axis=0, mode="wrap"),
    "of a reversed view": lambda a: a[::-1][ROWS - 1 - CHOSEN],
    "of every other row": lambda a: a[::2][CHOSEN // 2],
    "of a flat view": lambda a: a.reshape(-1)[CHOSEN * WIDTH],
    "one at a time": lambda a: np.stack([a[[row]][0] for row in CHOSEN]),
    "in batches": lambda a: np.concatenate(list(nf.batches(a, CHOSEN, 50, lookahead=2))),
    "in batches without lookahead": lambda a: np.concatenate(list(nf.batches(a, CHOSEN, 50, lookahead=0))),
}


@pytest.mark.parametrize("name", GATHERS)
def test_a_gather_of_scattered_rows_reads_their_pages_and_little_else(cold, name):
    gather = GATHERS[name]
    array = cold()
    with counted_reads() as reads:
        result = gather(array)
    assert reads.nbytes <= MOST_TIMES * pages_nbytes(CHOSEN)
    rows = {"by a mask": np.sort(CHOSEN), "sorted": np.sort(CHOSEN), "of every other row": CHOSEN // 2 * 2}
    wanted = rows.get(name, CHOSEN)
    assert result.size % len(wanted) == 0
    assert (result.reshape(len(wanted), -1) == wanted[:, None]).all()


def test_control_numpys_memmap_reads_far_more(cold, file_path):
    if readahead_nbytes(file_path) < 16 * PAGE:
        pytest.skip("this device is not read ahead, or does not say so")
    array = cold(kind=np.memmap)
    with counted_reads() as reads:
        result = array[CHOSEN]
    assert (result == CHOSEN[:, None]).all()
    assert reads.nbytes > 2 * MOST_TIMES * pages_nbytes(CHOSEN)


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_gather_reads_as_little_in_the_other_modes(cold, mode):
    array = cold(mode)
    with counted_reads() as reads:
        assert (array[CHOSEN] == CHOSEN[:, None]).all()
    assert reads.nbytes <= MOST_TIMES * pages_nbytes(CHOSEN)


def test_rows_of_an_array_in_f_order_are_pieces_on_many_pages(cold):
    columns = 16
    per_column = NBYTES // 4 // columns
    array = cold(shape=(per_column, columns), order="F")
    rows = np.random.default_rng(6).choice(per_column, 30, replace=False)
    items = rows[:, None] + np.arange(columns) * per_column
    with counted_reads() as reads:
        assert np.array_equal(array[rows], items // WIDTH)
    assert reads.nbytes <= MOST_TIMES * len(pages_of(items * 4)) * PAGE


@pytest.mark.parametrize("way", ["index", "batches"])
def test_windows_of_a_flat_array_are_read_where_they_lie(cold, way):
    array = cold(shape=(NBYTES // 4,))
    starts = np.random.default_rng(7).choice(array.size - 257, 300, replace=False)
    with counted_reads() as reads:
        if way == "index":
            result = sliding_window_view(array, 257, subok=True)[starts]
        else:
            result = np.concatenate(list(nf.batches(array, starts, 25, windows=257)))
    items = starts[:, None] + np.arange(257)
    assert np.array_equal(result, items // WIDTH)
    assert reads.nbytes <= MOST_TIMES * len(pages_of(items * 4)) * PAGE


def test_a_gather_through_the_file_reads_as_little(cold):
    array = cold()
    array.backend = "read"
    with counted_reads() as reads:
        assert (array[CHOSEN] == CHOSEN[:, None]).all()
    assert reads.nbytes <= max(MOST_TIMES * pages_nbytes(CHOSEN), NBYTES // 2)


def test_rows_that_are_in_memory_are_not_read(cold):
    array = cold()
    array.prefetch(wait=True)
    with counted_reads() as reads:
        for _ in range(20):
            array[CHOSEN]
            array.take(CHOSEN, 0)
    assert reads.nbytes == 0


def test_after_many_warm_gathers_a_cold_one_still_reads_little(cold, file_path):
    """By then nothing is asked before: that rows are missing shows in the time that the first ones take."""
    array = cold()
    array.prefetch(wait=True)
    for _ in range(25):
        array[CHOSEN]
    for time in range(6):
        assert array.release() is True
        assert not pages_in_memory(file_path).any()
        with counted_reads() as reads:
            assert (array[CHOSEN] == CHOSEN[:, None]).all()
        # The first rows are touched, and so read ahead of, before it is noticed.
        touched = 4 * max(readahead_nbytes(file_path), PAGE) if time == 0 else 0
        assert reads.nbytes <= MOST_TIMES * pages_nbytes(CHOSEN) + touched


def test_each_of_many_cold_gathers_reads_little(cold):
    array = cold()
    rng = np.random.default_rng(8)
    for _ in range(20):
        rows = rng.choice(ROWS, 20, replace=False)
        assert array.release() is True
        with counted_reads() as reads:
            assert (array[rows] == rows[:, None]).all()
        assert reads.nbytes <= MOST_TIMES * pages_nbytes(rows)


def gather_as_somebody_else(path, nobody=65534):
    """What mincore says of the file, whether the rows are right, and what was read from the device for them."""
    array = nf.memmap(path, "u4", "r", shape=(ROWS, WIDTH))
    with open(path, "rb") as file, open("/proc/self/io", "rb", buffering=0) as account:
        os.seteuid(nobody)
        told = int(pages_in_memory(file.fileno()).sum())
        texts = [account.read()]
        is_right = bool((array[CHOSEN] == CHOSEN[:, None]).all())
        account.seek(0)
        texts.append(account.read())
        os.seteuid(0)  # to report
    before, after = (int(text.split(b"\nread_bytes: ")[1].split()[0]) for text in texts)
    return [told, is_right, after - before]


@pytest.mark.skipif(not is_privileged(), reason="needs root, to be somebody else")
def test_who_may_not_ask_what_is_in_memory_reads_little_too(file_path):
    """Of somebody else's file mincore says that all is there."""
    os.chmod(file_path, 0o444)
    cool(file_path)
    told, is_right, nbytes = forked(gather_as_somebody_else, file_path).result()
    assert told == NBYTES // PAGE  # or this is no such case
    assert is_right
    # Each time that rows are missing, some are touched before it is noticed.
    assert nbytes <= min(MOST_TIMES * pages_nbytes(CHOSEN) + 8 * readahead_nbytes(file_path), NBYTES - MIB)


# ---- Storing rows ----


@pytest.fixture
def own(tmp_path):
    """A cold file of the rows that the test may change, mapped."""
    array = nf.memmap(cool(made(tmp_path / "own.dat")), "u4", "r+", shape=(ROWS, WIDTH))
    yield array
    array.close()


VALUES = np.arange(500, dtype="u4")[:, None] + 10**6

SCATTERS = {
    "by number": lambda a: a.__setitem__(CHOSEN, VALUES),
    "by number, whole rows": lambda a: a.__setitem__(CHOSEN, np.repeat(VALUES, WIDTH, 1)),
    "by a list": lambda a: a.__setitem__(CHOSEN.tolist(), VALUES),
    "by number, to be cast": lambda a: a.__setitem__(CHOSEN, VALUES.astype("i8")),
    "a list of lists": lambda a: a.__setitem__(CHOSEN, VALUES.tolist()),
}


@pytest.mark.parametrize("name", SCATTERS)
def test_a_scatter_reads_the_pages_of_its_rows_and_little_else(own, name):
    with counted_reads() as reads:
        SCATTERS[name](own)
    assert reads.nbytes <= MOST_TIMES * pages_nbytes(CHOSEN)
    wanted = np.repeat(np.arange(ROWS, dtype="u4"), WIDTH).reshape(ROWS, WIDTH)
    wanted[CHOSEN] = VALUES
    assert np.array_equal(np.fromfile(own.filename, "u4").reshape(ROWS, WIDTH), wanted)


def test_rows_are_added_to_where_they_are(own):
    """A gather, and then a scatter of pages that are there."""
    with counted_reads() as reads:
        own[CHOSEN] += 1
    assert reads.nbytes <= MOST_TIMES * pages_nbytes(CHOSEN)
    assert (own[CHOSEN] == CHOSEN[:, None] + 1).all()


# ---- Overwriting ----

X = np.random.default_rng(9).integers(0, 2**32, (ROWS // 4, WIDTH), dtype="u4")

PART = slice(10, 10 + len(X))

OVERWRITES = {
    "an array": lambda a, x: a.__setitem__(PART, x),
    "in another dtype": lambda a, x: a.__setitem__(PART, x.astype("i8")),
    "in another byte order": lambda a, x: a.__setitem__(PART, x.astype(">u4")),
    "in another order": lambda a, x: a.__setitem__(PART, np.asfortranarray(x)),
    "a column": lambda a, x: a.__setitem__(PART, x[:, :1]),
    "a row": lambda a, x: a.__setitem__(PART, x[0]),
    "a number": lambda a, x: a.__setitem__(PART, int(x[3, 3])),
    "an item": lambda a, x: a.__setitem__((PART, ...), x[5, 5]),
    "fill": lambda a, x: a[PART].fill(x[7, 7]),
    "backwards": lambda a, x: a.__setitem__(slice(PART.stop - 1, PART.start - 1, -1), x),
    "a view as a whole": lambda a, x: a[PART].__setitem__(..., x),
}


@pytest.mark.parametrize("name", OVERWRITES)
def test_what_is_overwritten_is_not_read_before(own, name):
    """But for the pages at both ends of which a part stays."""
    with counted_reads() as reads:
        OVERWRITES[name](own, X)
    assert reads.nbytes <= SPARE_NBYTES
    wanted = np.repeat(np.arange(ROWS, dtype="u4"), WIDTH).reshape(ROWS, WIDTH)
    OVERWRITES[name](wanted, X)
    assert np.array_equal(np.fromfile(own.filename, "u4").reshape(ROWS, WIDTH), wanted)
    assert np.array_equal(own, wanted)


def test_an_array_in_f_order_is_overwritten_without_reading(own):
    path = own.filename
    own.close()
    with nf.memmap(cool(path), "u4", "r+", shape=(ROWS, WIDTH), order="F") as array:
        half = np.repeat(X[:, :128], 4, 0)
        with counted_reads() as reads:
            array[:, 64:192] = half
        assert reads.nbytes <= SPARE_NBYTES
        assert np.array_equal(array[:, 64:192], half)


def test_control_stores_of_numpys_memmap_read_first(own):
    path = own.filename
    own.close()
    array = np.memmap(cool(path), "u4", "r+", shape=(ROWS, WIDTH))
    with counted_reads() as reads:
        array[PART] = X
    assert reads.nbytes > X.nbytes // 2
    array._mmap.close()


# ---- Creating ----


@pytest.mark.parametrize("dtype", ["f8", "i2", "?", "c16", "S7", "M8[s]", "f4,i4"])
def test_a_new_file_of_zeros_has_its_blocks_and_is_not_written(tmp_path, dtype):
    path = str(tmp_path / "x.npy")
    zero = np.zeros((), dtype)[()]
    with nf.create(path, shape=(1 << 20,), dtype=dtype, fill=zero) as array:
        status = os.stat(path)
        assert status.st_size == 128 + array.nbytes
        assert status.st_blocks * 512 >= array.nbytes
        assert dirty_pages(path) <= 2  # the header
        assert pages_in_memory(path).sum() <= MIB // PAGE
        assert not np.asarray(array).view("u1").any()


def test_a_zero_with_a_sign_is_written(tmp_path):
    with nf.create(str(tmp_path / "x.npy"), shape=1 << 20, dtype="f8", fill=-0.0) as array:
        assert np.signbit(array).all()
