"""batches: what a plain loop would give, from any position on, with nothing left behind."""

import itertools
import os
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ndfile as nf
from ndfile.sampling import MOST_ITEMS
from ndfile.shuffle import Shuffle


@pytest.fixture
def mapped(tmp_path):
    """A function that maps an array from a .npy file."""
    with_names = (str(tmp_path / f"{number}.npy") for number in itertools.count())
    opened = []

    def make(array, mode="r"):
        path = next(with_names)
        np.save(path, array)
        opened.append(nf.open(path, mode))
        return opened[-1]

    yield make
    for array in opened:
        array.close()


@pytest.fixture(params=["mapped", "plain", "numpy.memmap"])
def kind_of(request, mapped, tmp_path):
    """A function that makes an array of each kind."""
    if request.param == "mapped":
        return mapped
    if request.param == "plain":
        return np.array

    def make(array):
        np.save(tmp_path / "numpy.npy", array)
        return np.load(tmp_path / "numpy.npy", mmap_mode="r")

    return make


def naive(array, rows, batch_size, drop_last=False, windows=None):
    """The batches of one epoch, one item after the other."""
    array = np.array(array)
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        if drop_last and len(some) < batch_size:
            return
        if windows is None:
            yield np.array([array[row] for row in some], array.dtype).reshape(len(some), *array.shape[1:])
        else:
            count = len(array) - windows + 1
            items = [array[row % count : row % count + windows] for row in some]
            yield np.array(items, array.dtype).reshape(len(some), windows, *array.shape[1:])


def assert_same(found, wanted):
    found, wanted = list(found), list(wanted)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert type(one) is np.ndarray
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


NUMBERS = np.arange(60, dtype="int32").reshape(20, 3)


# What comes.


def test_all_rows_come_in_order(kind_of):
    array = kind_of(NUMBERS)
    assert_same(nf.batches(array, batch_size=6), naive(NUMBERS, range(20), 6))


def test_the_last_batch_has_what_is_left_or_is_left_out(kind_of):
    array = kind_of(NUMBERS)
    assert [len(batch) for batch in nf.batches(array, None, 6)] == [6, 6, 6, 2]
    assert [len(batch) for batch in nf.batches(array, None, 6, drop_last=True)] == [6, 6, 6]
    assert [len(batch) for batch in nf.batches(array, None, 5, drop_last=True)] == [5, 5, 5, 5]
    assert [len(batch) for batch in nf.batches(array, None, 100)] == [20]
    assert list(nf.batches(array, None, 100, drop_last=True)) == []


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_an_index_of_any_integers_chooses(kind_of, dtype):
    index = np.array([3, 0, 19, 3, 7], dtype)
    assert_same(nf.batches(kind_of(NUMBERS), index, 2), naive(NUMBERS, index, 2))


def test_negative_numbers_count_from_the_end(kind_of):
    index = [-1, 0, -20, 5, -3]
    assert_same(nf.batches(kind_of(NUMBERS), index, 2), naive(NUMBERS, index, 2))


@pytest.mark.parametrize(
    "index",
    [
        *(range(2, 20, 5), range(19, -1, -1), range(-5, 5, 2), range(0), range(3, 4, 10**30)),
        *(slice(4, None, 3), slice(-2, 0), slice(None)),
        *([], np.empty(0, "uint8"), [True, False] * 10, np.arange(20) % 3 == 0, np.zeros(20, bool)),
    ],
    ids=repr,
)
def test_ranges_slices_lists_and_masks_choose(mapped, index):
    if isinstance(index, slice) or np.asarray(index).dtype == bool:
        rows = np.arange(20)[index]
    else:
        rows = np.asarray(index, dtype=np.int64)
    assert_same(nf.batches(mapped(NUMBERS), index, 3), naive(NUMBERS, rows, 3))


def test_an_index_may_be_mapped_too(mapped):
    index = np.random.default_rng(1).integers(-20, 20, 3 * MOST_ITEMS + 5).astype("int16")
    array, rows = mapped(NUMBERS), mapped(index)
    assert_same(nf.batches(array, rows, 500), naive(NUMBERS, index, 500))
    order = Shuffle(len(index), 4).permute(np.arange(len(index)), 0)
    assert_same(nf.batches(array, rows, 500, seed=4), naive(NUMBERS, index[order], 500))


def test_a_mask_may_be_mapped_too(mapped):
    mask = np.arange(20) % 3 == 1
    assert_same(nf.batches(mapped(NUMBERS), mapped(mask), 3), naive(NUMBERS, np.flatnonzero(mask), 3))


def test_any_number_of_rows_takes_no_memory_and_starts_anywhere():
    many = np.broadcast_to(np.uint8(7), (10**12,))
    assert [len(batch) for batch in nf.batches(many, start=10**12 // 64 - 1)] == [64]
    for index in (None, range(10**12 - 1, -1, -1)):
        shuffled = nf.batches(many, index, 64, seed=1, epochs=None, start=10**14)
        assert next(shuffled).tolist() == [7] * 64
        assert shuffled.position == 10**14 + 1


@pytest.mark.parametrize("windows", [1, 2, 7, 20])
@pytest.mark.parametrize("shape", [(20,), (20, 3), (20, 2, 0)])
def test_windows_overlap(kind_of, windows, shape):
    values = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    array = kind_of(values)
    count = 20 - windows + 1
    assert_same(nf.batches(array, None, 4, windows=windows), naive(values, range(count), 4, windows=windows))
    index = [0, count - 1, -1, -count, count // 2]
    assert_same(nf.batches(array, index, 2, windows=windows), naive(values, index, 2, windows=windows))


def test_views_that_are_not_contiguous_give_their_own_rows(mapped):
    array = mapped(np.arange(240, dtype="int16").reshape(40, 6))
    for view in (array[::2], array[::-1], array[:, 1::2], array.T, array[5:25, 2], mapped(np.asfortranarray(NUMBERS))):
        plain = np.array(view)
        for out in (None, np.empty((4, *view.shape[1:]), view.dtype)):
            pairs = zip(nf.batches(view, None, 4, out=out), naive(plain, range(len(plain)), 4), strict=True)
            assert all(np.array_equal(found, wanted) for found, wanted in pairs)
        windows = nf.batches(view, None, 4, windows=2)
        assert_same(windows, naive(plain, range(len(plain) - 1), 4, windows=2))


@pytest.mark.parametrize("dtype", ["f4", ">f8", "?", "S3", "M8[s]", [("a", "i2"), ("b", ">f4", 2)]])
def test_the_dtype_stays(kind_of, dtype):
    values = np.zeros(7, dtype)
    values[:] = np.arange(7).astype(dtype) if isinstance(dtype, str) else [(i, i) for i in range(7)]
    assert_same(nf.batches(kind_of(values), [5, 1, 6], 2), naive(values, [5, 1, 6], 2))


def test_arrays_in_step_come_as_tuples(mapped):
    array, labels = mapped(NUMBERS), np.arange(20) * 10
    for arrays in ((array, labels), [array, labels]):
        found = list(nf.batches(arrays, [4, 2, 9], 2))
        assert all(type(batch) is tuple for batch in found)
        assert_same((batch[0] for batch in found), naive(NUMBERS, [4, 2, 9], 2))
        assert_same((batch[1] for batch in found), naive(labels, [4, 2, 9], 2))


def test_arrays_in_step_come_as_dicts_of_the_same_keys(mapped):
    arrays = {"x": mapped(NUMBERS), 1: np.arange(20)}
    found = list(nf.batches(arrays, None, 8, seed=3))
    assert all(type(batch) is dict and list(batch) == ["x", 1] for batch in found)
    assert all(np.array_equal(batch["x"][:, 0], batch[1] * 3) for batch in found)


def test_the_members_of_an_archive_come_in_step(tmp_path):
    np.savez(tmp_path / "a.npz", x=NUMBERS, y=np.arange(20))
    with nf.open(tmp_path / "a.npz") as archive:
        (batch,) = nf.batches(archive, [3, 5])
        assert {name: part.tolist() for name, part in batch.items()} == {"x": NUMBERS[[3, 5]].tolist(), "y": [3, 5]}


def test_one_array_in_a_tuple_comes_in_a_tuple():
    assert [type(batch) for batch in nf.batches((NUMBERS,), None, 20)] == [tuple]


def test_batches_are_copies(mapped):
    array = mapped(NUMBERS, "r+")
    batch = next(nf.batches(array, None, 2))
    batch[:] = -1
    assert array.tolist() == NUMBERS.tolist()


# Batches that are given.


def test_an_iterable_of_batches_is_taken_as_it_is(kind_of):
    given_rows = [[1, 2], np.array([-1], "int8"), [], (5, 5, 5), range(3)]
    found = nf.batches(kind_of(NUMBERS), given_rows, None)
    assert len(found) == 5
    assert_same(found, [NUMBERS[np.array(list(rows), int)] for rows in given_rows])


class Sampler:
    """As torch's BatchSampler over its RandomSampler: another order each time, in lists of numbers."""

    def __init__(self, count, batch_size, seed):
        self.rng = np.random.default_rng(seed)
        self.count, self.batch_size = count, batch_size

    def __len__(self):
        return -(-self.count // self.batch_size)

    def __iter__(self):
        order = self.rng.permutation(self.count).tolist()
        for start in range(0, self.count, self.batch_size):
            yield order[start : start + self.batch_size]


def test_a_sampler_is_iterated_again_each_epoch(mapped):
    found = nf.batches(mapped(NUMBERS), Sampler(20, 6, 1), None, epochs=3)
    assert len(found) == 12
    sampler = Sampler(20, 6, 1)
    assert_same(found, [NUMBERS[rows] for _ in range(3) for rows in sampler])


def test_the_iteration_of_a_sampler_starts_anywhere(mapped):
    array = mapped(NUMBERS)
    everything = list(nf.batches(array, Sampler(20, 6, 1), None, epochs=3))
    for start in range(13):
        assert_same(nf.batches(array, Sampler(20, 6, 1), None, epochs=3, start=start), everything[start:])


def test_a_generator_of_batches_is_taken_once_and_not_further_than_the_lookahead(mapped):
    taken = []

    def rows():
        for number in itertools.count():
            taken.append(number)
            yield [number % 20]

    found = nf.batches(mapped(NUMBERS), rows(), None, lookahead=3)
    assert taken == []
    for number in range(30):
        assert next(found).tolist() == NUMBERS[[number % 20]].tolist()
        assert taken[-1] == number + 3
    with pytest.raises(TypeError, match="no end to them, or none that is known"):
        len(found)


def test_batches_for_ever_of_an_empty_iterable_end():
    assert list(nf.batches(NUMBERS, [], None, epochs=None)) == []


def test_a_wrong_batch_is_an_error_at_its_turn(mapped):
    found = nf.batches(mapped(NUMBERS), [[1], [2], [20], [3]], None, lookahead=3)
    assert next(found).tolist() == NUMBERS[[1]].tolist()
    assert next(found).tolist() == NUMBERS[[2]].tolist()
    for _ in range(2):
        with pytest.raises(IndexError, match="index 20 is out of bounds for 20 rows"):
            next(found)
    assert found.position == 2


def test_an_error_of_a_sampler_comes_at_its_turn(mapped):
    def rows():
        yield [1]
        raise RuntimeError("no more")

    found = nf.batches(mapped(NUMBERS), rows(), None, lookahead=3)
    next(found)
    with pytest.raises(RuntimeError, match="no more"):
        next(found)


# Order, epochs, restart.


def test_a_seed_shuffles_each_epoch_anew(mapped):
    array = mapped(np.arange(50))
    found = nf.batches(array, None, 7, seed=5, epochs=3)
    epochs = [np.concatenate(list(itertools.islice(found, 8))) for _ in range(3)]
    assert [np.sort(epoch).tolist() for epoch in epochs] == [list(range(50))] * 3
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3
    for number, epoch in enumerate(epochs):
        assert np.array_equal(epoch, Shuffle(50, 5).permute(np.arange(50), number))


@pytest.mark.parametrize("size", [50, 3 * MOST_ITEMS])
def test_the_batches_of_a_shuffle_are_the_same_for_the_same_seed_alone(size):
    def rows(seed):
        return np.concatenate(list(nf.batches(np.arange(size), None, 1000, seed=seed)))

    assert np.array_equal(rows(1), rows(1))
    assert not np.array_equal(rows(1), rows(2))
    assert np.array_equal(np.sort(rows(1)), np.arange(size))


def test_without_a_seed_the_order_is_that_of_the_index_in_each_epoch(mapped):
    index = [5, 3, 5]
    found = nf.batches(mapped(NUMBERS), index, 2, epochs=2)
    assert_same(found, [*naive(NUMBERS, index, 2), *naive(NUMBERS, index, 2)])


def test_no_batch_has_rows_of_two_epochs():
    sizes = [len(batch) for batch in nf.batches(NUMBERS, None, 8, epochs=3, seed=1)]
    assert sizes == [8, 8, 4] * 3


def test_epochs_none_goes_on_for_ever(mapped):
    found = nf.batches(mapped(NUMBERS), None, 8, epochs=None)
    assert_same(itertools.islice(found, 10), list(naive(NUMBERS, range(20), 8)) * 3 + [NUMBERS[:8]])
    with pytest.raises(TypeError, match="no end"):
        len(found)


def test_no_epochs_are_no_batches():
    assert list(nf.batches(NUMBERS, epochs=0)) == []


@pytest.mark.parametrize("seed", [None, 8])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("lookahead", [0, 1, 2, 50])
def test_an_iteration_goes_on_from_any_position(mapped, seed, drop_last, lookahead):
    array = mapped(np.arange(23))

    def start_at(position):
        return nf.batches(array, None, 5, seed=seed, epochs=3, drop_last=drop_last, start=position, lookahead=lookahead)

    whole = start_at(0)
    everything = []
    for number in range(len(whole)):
        assert whole.position == number
        everything.append(next(whole))
    assert whole.position == len(everything) == (12 if drop_last else 15)
    for position in range(len(everything) + 1):
        again = start_at(position)
        assert again.position == position
        assert len(again) == len(everything)
        assert_same(again, everything[position:])
        assert again.position == len(everything)


def test_an_iteration_of_many_rows_goes_on_from_any_position():
    size = 2 * MOST_ITEMS + 77
    everything = list(nf.batches(np.arange(size), None, 700, seed=2, epochs=2))
    for position in range(len(everything)):
        again = nf.batches(np.arange(size), None, 700, seed=2, epochs=2, start=position)
        assert np.array_equal(next(again), everything[position])
        if position + 1 < len(everything):
            assert np.array_equal(next(again), everything[position + 1])


def test_batches_larger_than_what_is_worked_out_at_a_time_are_whole():
    size = 3 * MOST_ITEMS
    found = nf.batches(np.arange(size), None, 2 * MOST_ITEMS + 1)
    assert [len(batch) for batch in found] == [2 * MOST_ITEMS + 1, MOST_ITEMS - 1]


def test_ranks_share_the_rows_out_without_a_gap():
    parts = [np.concatenate(list(nf.batches(np.arange(23), range(rank, 23, 4), 3, seed=1))) for rank in range(4)]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(23))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_arguments_give_what_a_loop_gives(data):
    draw = data.draw
    rows = draw(st.integers(1, 40))
    shape = (rows, *draw(st.lists(st.integers(0, 3), max_size=2)))
    values = np.arange(np.prod(shape), dtype="int32").reshape(shape)
    windows = draw(st.none() | st.integers(1, rows))
    count = rows if windows is None else rows - windows + 1
    index = draw(st.none() | st.lists(st.integers(-count, count - 1), max_size=30))
    batch_size, epochs, drop_last = draw(st.integers(1, 12)), draw(st.integers(0, 3)), draw(st.booleans())
    seed = draw(st.none() | st.integers(0, 2**64))
    chosen = np.arange(count) if index is None else np.array(index, dtype=np.int64)
    wanted = []
    for epoch in range(epochs):
        order = np.arange(len(chosen))
        if seed is not None:
            order = Shuffle(len(chosen), seed).permute(order, epoch)
        wanted += naive(values, chosen[order], batch_size, drop_last, windows)
    start = draw(st.integers(0, len(wanted)))
    out = draw(st.sampled_from([None, np.empty((batch_size, *((windows,) if windows else ()), *shape[1:]), "int32")]))
    found = nf.batches(
        values,
        index,
        batch_size,
        windows=windows,
        epochs=epochs,
        drop_last=drop_last,
        seed=seed,
        start=start,
        out=out,
        lookahead=draw(st.integers(0, 5)),
    )
    assert len(found) == len(wanted)
    assert_same((batch.copy() for batch in found), wanted[start:])


# out.


def test_every_batch_is_written_to_out_and_is_a_view_of_it(kind_of):
    out = np.full((6, 3), -1, "int32")
    wanted = naive(NUMBERS, range(20), 6)
    for batch, other in zip(nf.batches(kind_of(NUMBERS), None, 6, out=out), wanted, strict=True):
        assert np.array_equal(batch, other)
        assert batch.base is out
        assert np.array_equal(out[: len(batch)], batch)
    assert np.array_equal(out[2:], NUMBERS[14:18])  # of the batch before the last, which was shorter


@pytest.mark.parametrize("kind", ["C", "longer", "strided", "F"])
def test_out_may_have_any_strides_and_more_room(mapped, kind):
    out = {
        "C": np.empty((6, 3), "int32"),
        "longer": np.empty((9, 3), "int32"),
        "strided": np.empty((12, 6), "int32")[::2, ::-2],
        "F": np.empty((6, 3), "int32", order="F"),
    }[kind]
    found = (batch.copy() for batch in nf.batches(mapped(NUMBERS), None, 6, seed=1, out=out))
    assert_same(found, nf.batches(NUMBERS, None, 6, seed=1))


def test_out_of_windows_has_their_shape(kind_of):
    values = np.arange(30, dtype="uint16")
    out = np.empty((4, 5), "uint16")
    found = (batch.copy() for batch in nf.batches(kind_of(values), None, 4, windows=5, seed=1, out=out))
    assert_same(found, nf.batches(values, None, 4, windows=5, seed=1))


def test_out_of_arrays_in_step_is_matched_by_place_or_name(mapped):
    x, y = mapped(NUMBERS), np.arange(20.0)
    outs = np.empty((4, 3), "int32"), np.empty(4)
    for batch in nf.batches((x, y), None, 4, out=outs):
        assert type(batch) is tuple
        assert [part.base is out for part, out in zip(batch, outs, strict=True)] == [True, True]
    batch = next(nf.batches({"x": x, "y": y}, None, 4, out={"y": outs[1], "x": outs[0]}))
    assert list(batch) == ["x", "y"]
    assert batch["x"].base is outs[0]


def test_out_may_be_mapped(mapped):
    out = mapped(np.zeros((4, 3), "int32"), "r+")
    for batch in nf.batches(mapped(NUMBERS), [3, 9, 1, 2], 4, out=out):
        assert np.array_equal(batch, NUMBERS[[3, 9, 1, 2]])
        assert isinstance(batch, nf.memmap)
    assert np.array_equal(np.load(out.filename), NUMBERS[[3, 9, 1, 2]])


def test_given_batches_are_written_to_an_out_with_room_for_them(mapped):
    out = np.empty((3, 3), "int32")
    found = nf.batches(mapped(NUMBERS), [[1, 2], [4, 5, 6], [0] * 4], None, out=out)
    assert next(found).tolist() == NUMBERS[[1, 2]].tolist()
    assert next(found).tolist() == NUMBERS[[4, 5, 6]].tolist()
    with pytest.raises(nf.LayoutError, match="a batch of index has 4 rows, and out has room for 3"):
        next(found)


# Errors, all before a row is read.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrays": np.array(3)}, r"batches: array has no axis to take rows of\. Nothing was changed"),
        ({"arrays": ()}, "there is no array"),
        ({"arrays": (NUMBERS, NUMBERS[:7])}, "array 0 has 20 rows and array 1 has 7"),
        ({"arrays": {"x": NUMBERS, "y": NUMBERS[:7]}}, "array 'x' has 20 rows and array 'y' has 7"),
        ({"arrays": np.ma.masked_equal(NUMBERS, 3)}, "has a mask, which batches do not keep"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"lookahead": -1}, "lookahead must be 0 or more, not -1"),
        ({"epochs": -1}, "epochs must be 0 or more, not -1"),
        ({"start": -2}, "start must be 0 or more, not -2"),
        ({"start": 4, "batch_size": 7}, "start=4 is past the end, there are 3 batches in all"),
        ({"windows": 0}, "windows of 0 rows cannot be had from 20 rows"),
        ({"windows": 21}, "windows of 21 rows cannot be had from 20 rows"),
        ({"index": np.zeros((2, 2), int)}, r"index has shape \(2, 2\), it must have one axis.*batch_size=None"),
        ({"index": [[1], [2, 3]]}, "index is a list of unequal lists, it must have one axis.*batch_size=None"),
        ({"index": 3}, r"index has shape \(\)"),
        ({"index": [[1]], "batch_size": None, "seed": 1}, "index gives the batches as they are, and seed=1"),
        ({"index": [[1]], "batch_size": None, "drop_last": True}, "drop_last=True"),
        ({"index": iter([[1]]), "batch_size": None, "epochs": 2}, "an iterator, which gives its batches once"),
        ({"index": [], "epochs": None}, "epochs=None asks for batches without end, and 0 items give none of 64"),
        ({"epochs": None, "drop_last": True}, "20 items give none of 64"),
        ({"out": np.empty((64, 3))}, r"out is float64 \(64, 3\) for batches of int32 \(64, 3\).*numpy.empty"),
        ({"out": np.empty((64, 4), "int32")}, r"out is int32 \(64, 4\) for batches of int32 \(64, 3\)"),
        ({"out": np.empty((63, 3), "int32")}, r"out is int32 \(63, 3\) for batches of int32 \(64, 3\)"),
        ({"out": np.frombuffer(bytes(64 * 12), "i4").reshape(64, 3)}, "out is read-only"),
        ({"out": (np.empty((64, 3), "int32"),)}, r"out has arrays \[0\], for one array"),
        ({"arrays": {"x": NUMBERS}, "out": np.empty((64, 3), "int32")}, r"out has one array, for arrays \['x'\]"),
        ({"arrays": {"x": NUMBERS}, "out": {"y": np.empty((64, 3), "int32")}}, r"arrays \['y'\], for arrays \['x'\]"),
    ],
)
def test_what_does_not_go_together_is_a_layout_error(arguments, message):
    with pytest.raises(nf.LayoutError, match=message):
        nf.batches(**{"arrays": NUMBERS, **arguments})


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0, 20], r"index 20 is out of bounds for 20 rows\. Nothing was read\. Pass numbers from -20 to 19\."),
        ([-21, 3], "index -21 is out of bounds for 20 rows"),
        (np.array([2**64 - 1], "uint64"), "index 18446744073709551615 is out of bounds"),
        (range(30), "index 29 is out of bounds"),
        (range(5, -30, -1), "index -29 is out of bounds"),
        ([1.0, 2.0], "index is of dtype float64.*Pass integers, or a mask of bool"),
        (["a"], "index is of dtype <U1"),
        ([True] * 19, r"the mask has 19 items for 20 rows.*Pass a mask of shape \(20,\)"),
    ],
)
def test_an_index_that_does_not_fit_is_an_index_error_at_once(index, message):
    with pytest.raises(IndexError, match=message):
        nf.batches(NUMBERS, index)


def test_an_index_out_of_bounds_is_found_in_any_part_of_a_long_one(mapped):
    index = np.zeros((1 << 20) + 3, "int8")
    index[-1] = 20
    with pytest.raises(IndexError, match="index 20 is out of bounds"):
        nf.batches(NUMBERS, mapped(index))


def test_an_index_out_of_bounds_of_windows_says_how_many_there_are():
    with pytest.raises(IndexError, match="index 16 is out of bounds for 16 windows of 5 in 20 rows"):
        nf.batches(NUMBERS, [16], windows=5)


def test_an_index_out_of_bounds_of_nothing_says_so():
    with pytest.raises(IndexError, match=r"index 0 is out of bounds for 0 rows.*Pass an empty index"):
        nf.batches(NUMBERS[:0], [0])
    assert list(nf.batches(NUMBERS[:0])) == []


def test_an_index_that_changes_later_reads_no_other_memory():
    index = np.zeros(4 * MOST_ITEMS, int)
    found = nf.batches(NUMBERS, index, MOST_ITEMS, lookahead=0)
    next(found)
    index[:] = 20
    with pytest.raises(IndexError, match="index 20 is out of bounds"):
        next(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arrays": "x.npy"}, "arrays must be an array, or a tuple, list or mapping of arrays"),
        ({"arrays": [1, 2]}, "array 0 must be an ndarray, not int"),
        ({"out": 3}, "out must be an array"),
        ({"index": iter([1, 2])}, "index is an iterator.*batch_size=None"),
        ({"index": None, "batch_size": None}, "index must be an iterable of batches, not None"),
        ({"batch_size": 2.0}, "float"),
        ({"seed": 1.5}, "float"),
    ],
)
def test_arguments_of_the_wrong_kind_are_type_errors(arguments, message):
    with pytest.raises(TypeError, match=message):
        nf.batches(**{"arrays": NUMBERS, **arguments})


@pytest.mark.parametrize("rows", [[True, False], np.zeros(20, bool), [1.5], [[1], [2]], 3])
def test_a_given_batch_that_is_no_row_numbers_is_refused(rows):
    with pytest.raises((IndexError, nf.LayoutError), match="batches: "):
        next(nf.batches(NUMBERS, [rows], None))


# The file and the array under it.


@pytest.mark.parametrize("arguments", [{}, {"windows": 3}, {"out": np.empty((4, 1024))}])
def test_a_file_that_was_cut_is_a_fault_error_and_what_is_left_is_read(mapped, arguments):
    array = mapped(np.arange(16.0 * 1024).reshape(16, 1024))
    if "windows" in arguments:
        array = array.reshape(-1)
    found = nf.batches(array, None, 4, lookahead=0, **arguments)
    assert np.array_equal(
        np.ravel(next(found))[:4], np.ravel(array[:4])[:4] if "windows" not in arguments else [0, 1, 2, 1]
    )
    os.truncate(array.filename, 8192)
    last = nf.batches(array, [len(array) - 3], 4, **arguments)
    for _ in range(2):
        with pytest.raises(nf.FaultError, match="was cut while it was mapped"):
            next(last)
    assert last.position == 0
    del found, last


@pytest.mark.parametrize("windows", [None, 3])
@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_closed_array_is_a_closed_error(mapped, windows, lookahead):
    array = mapped(np.arange(100))
    found = nf.batches(array, None, 4, windows=windows, lookahead=lookahead)
    next(found)
    array.close()
    with pytest.raises(nf.ClosedError):
        next(found)


def test_an_array_that_is_closed_already_is_a_closed_error(mapped):
    array = mapped(NUMBERS)
    array.close()
    with pytest.raises(nf.ClosedError):
        next(nf.batches(array))


def test_rows_that_are_appended_later_take_no_part(tmp_path):
    with nf.create(tmp_path / "x.npy", shape=4, dtype="int64", fill=1) as array:
        found = nf.batches(array, None, 3, epochs=2)
        windows = nf.batches(array, None, 3, windows=2)
        array.append([2, 2, 2, 2])
        assert [batch.tolist() for batch in found] == [[1, 1, 1], [1]] * 2
        assert [batch.tolist() for batch in windows] == [[[1, 1]] * 3]


@pytest.mark.parametrize("windows", [None, 2])
@pytest.mark.parametrize("has_out", [False, True])
def test_rows_that_are_gone_are_a_fault_error_and_never_other_rows(tmp_path, windows, has_out):
    with nf.create(tmp_path / "x.npy", shape=(4, 2), dtype="int64", fill=1) as array:
        out = np.empty((4, 2, 2) if windows else (4, 2), "int64") if has_out else None
        found = nf.batches(array, [2], 4, windows=windows, out=out)
        array.resize(1, 2)
        with pytest.raises(nf.FaultError):
            next(found)


# Ahead of its use.


class Noted(nf.memmap):
    """An array that notes what is asked for, and what is copied after that."""

    notes = []

    def _prefetch(self, rows, *_how):
        self.notes.append(("ask", rows.tolist()))
        return True

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            self.notes.append(("copy", index.tolist()))
        return super().__getitem__(index)


@pytest.fixture
def noted(path, monkeypatch):
    """An array of 12 numbers that notes."""
    np.arange(12).tofile(path)
    monkeypatch.setattr(Noted, "notes", [])
    with Noted(path, "int64") as array:
        yield array


def test_the_next_batches_are_asked_for_before_one_is_copied(noted):
    assert len(list(nf.batches(noted, [5, 4, -1, 0, 3], 1, lookahead=2))) == 5
    assert noted.notes == [
        *(("ask", [5]), ("ask", [4]), ("ask", [11]), ("copy", [5])),
        *(("ask", [0]), ("copy", [4])),
        *(("ask", [3]), ("copy", [11])),
        *(("copy", [0]), ("copy", [3])),
    ]


def test_without_a_lookahead_nothing_is_asked_for(noted):
    list(nf.batches(noted, None, 4, lookahead=0))
    assert [act for act, _ in noted.notes] == ["copy"] * 3


def test_each_array_in_step_is_asked_for_and_windows_are_by_their_numbers(noted):
    found = nf.batches((noted, np.arange(12), noted), [2, 1], 2, windows=3)
    assert next(found)[0].tolist() == [[2, 3, 4], [1, 2, 3]]
    assert noted.notes == [("ask", [2, 1])] * 2 + [("copy", [2, 1])] * 2


def test_the_next_epoch_is_asked_for_while_the_last_is_not_over(noted):
    found = nf.batches(noted, None, 6, epochs=2, lookahead=1)
    next(found)
    next(found)
    assert [rows[0] for act, rows in noted.notes if act == "ask"] == [0, 6, 0]


# What is left behind.


def test_after_close_there_is_nothing_more_and_nothing_is_held(mapped):
    values, index, out = np.arange(20), np.arange(20), np.empty(3, int)
    gone = [weakref.ref(one) for one in (values, index, out)]
    found = nf.batches(values, index, 3, out=out)
    next(found)
    found.close()
    found.close()
    del values, index, out
    assert all(one() is None for one in gone)
    assert list(found) == []
    assert found.position == 1
    assert len(found) == 7


def test_at_its_end_an_iteration_holds_nothing():
    values = np.arange(20)
    gone = weakref.ref(values)
    found = nf.batches(values)
    list(found)
    del values
    assert gone() is None
    assert next(found, None) is None


def test_a_with_block_closes_and_leaves_the_array_open(mapped):
    array = mapped(NUMBERS)
    with nf.batches(array, None, 3) as found:
        next(found)
    assert next(found, None) is None
    assert not array.closed


def test_an_iteration_is_its_own_iterator():
    found = nf.batches(NUMBERS, None, 5)
    assert iter(found) is found
    assert isinstance(found, nf.Batches)
    assert [len(list(itertools.islice(found, 2))), len(list(found)), len(list(found))] == [2, 2, 0]


def test_no_thread_and_no_descriptor_is_there_at_any_time(mapped):
    array = mapped(NUMBERS)

    def state():
        return threading.active_count(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    before = state()
    found = nf.batches(array, None, 2, lookahead=5, seed=1, epochs=None)
    for _ in range(20):
        next(found)
        assert state() == before


def test_a_forked_child_goes_on_by_itself(mapped):
    found = nf.batches(mapped(NUMBERS), None, 2, seed=1)
    next(found)
    pid = os.fork()
    if not pid:
        os._exit(0 if len(list(found)) == 9 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(list(found)) == 9


def test_the_repr_reads_nothing(mapped):
    array = mapped(np.arange(2000, dtype="u1"))
    found = nf.batches(array, None, 10, windows=1025)
    assert repr(found) == "<Batches of 976 windows of 1025 in 2000 rows, batch_size=10, position=0 of 98>"
    array.close()
    assert repr(found).endswith("position=0 of 98>")
    assert repr(nf.batches(NUMBERS, [[1]], None)) == "<Batches of 20 rows, as given, position=0 of 1>"
    assert repr(nf.batches(NUMBERS, epochs=None)) == "<Batches of 20 rows, batch_size=64, position=0>"


def test_batches_are_not_pickled():
    import pickle

    with pytest.raises(TypeError, match=r"cannot be pickled\..*start=position"):
        pickle.dumps(nf.batches(NUMBERS))
