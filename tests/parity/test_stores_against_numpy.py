"""Large stores: every byte of the file, the errors and the warnings are those of numpy.memmap.

A large store may go to the file by another way than through the map. So each case is one in which that way could leave
other bytes than a store into memory does, or fail where that does not, or write where nobody may.
"""

import contextlib
import fcntl
import functools
import gc
import operator
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings

import numpy as np
import pytest
from atomic_tables import UndoneError, refused
from devices import fill_up, memory_disk
from faulty import forked
from hypothesis import event, given, note
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from twins import (
    FLAT_DTYPES,
    KIB,
    MIB,
    PAGE,
    STRUCTURED_DTYPES,
    Twins,
    assert_same_outcome,
    bytes_for,
    comparison_of,
    drop_from_memory,
    meaningful,
    outcome_of,
    read,
    write_at,
)

import ndfile as nf

comparison = comparison_of(150)


def made(shape, dtype, seed=99, order="C"):
    """An array of random bytes."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, int) else shape
    content = bytearray(bytes_for(dtype, int(np.prod(shape)) * dtype.itemsize, seed))
    return np.ndarray(shape, dtype, content, order=order)


def numbers_for(shape, dtype):
    """An array of small numbers, which every dtype of numbers has."""
    return (np.arange(int(np.prod(shape))) % 100).reshape(shape).astype(dtype)


def act_and_go_on(act, *arguments):
    act(*arguments)
    _ = None  # the error of a plain view is raised before the next line


store_and_go_on = functools.partial(act_and_go_on, lambda array, values: operator.setitem(array, ..., values))


class Acting:
    """Values that do something when they are asked what they are."""

    def __init__(self, values, act):
        self.values, self.act = values, act

    def __array__(self, dtype=None, copy=None):
        self.act()
        return self.values


# ---- Ways to store, and what is stored ----

# The part of an array that is stored to, and the store.
WAYS = {
    "a[...] = x": (lambda a: a, lambda a, x: operator.setitem(a, ..., x)),
    "a[:] = x": (lambda a: a, lambda a, x: operator.setitem(a, slice(None), x)),
    "a[i:j] = x": (lambda a: a[3:-2], lambda a, x: operator.setitem(a, slice(3, -2), x)),
    "a[i:] = x": (lambda a: a[1:], lambda a, x: operator.setitem(a, slice(1, None), x)),
    "a[:j] = x": (lambda a: a[:-1], lambda a, x: operator.setitem(a, slice(-1), x)),
    "a[:, i:j] = x": (lambda a: a[:, 1:-1], lambda a, x: operator.setitem(a, np.s_[:, 1:-1], x)),
    "a[i] = x": (lambda a: a[1], lambda a, x: operator.setitem(a, 1, x)),
    "a[-1, ...] = x": (lambda a: a[-1], lambda a, x: operator.setitem(a, (-1, ...), x)),
    "a[i:j:2] = x": (lambda a: a[1:-1:2], lambda a, x: operator.setitem(a, slice(1, -1, 2), x)),
    "a[::-1] = x": (lambda a: a[::-1], lambda a, x: operator.setitem(a, slice(None, None, -1), x)),
    "a[:, ::-1] = x": (lambda a: a[:, ::-1], lambda a, x: operator.setitem(a, np.s_[:, ::-1], x)),
    "a[None] = x": (lambda a: a[None], lambda a, x: operator.setitem(a, None, x)),
    "a.T[...] = x": (lambda a: a.T, lambda a, x: operator.setitem(a.T, ..., x)),
    "a.reshape(-1)[...] = x": (lambda a: a.reshape(-1), lambda a, x: operator.setitem(a.reshape(-1), ..., x)),
    "view of a view": (lambda a: a[1:][2:], lambda a, x: operator.setitem(a[1:][2:], ..., x)),
    "a.flat = x": (lambda a: a, lambda a, x: setattr(a, "flat", x)),
    "a.flat[...] = x": (lambda a: a, lambda a, x: operator.setitem(a.flat, ..., x)),
    "copyto": (lambda a: a, lambda a, x: np.copyto(a, x)),
    "copyto, unsafe": (lambda a: a, lambda a, x: np.copyto(a, x, "unsafe")),
    "copyto a part": (lambda a: a[5:], lambda a, x: np.copyto(a[5:], x, casting="unsafe")),
    "fill": (lambda a: a, lambda a, x: a.fill(x)),
    "fill a part": (lambda a: a[5:, 1:], lambda a, x: a[5:, 1:].fill(x)),
    "a += x": (lambda a: a, operator.iadd),
    "add into": (lambda a: a, lambda a, x: np.add(a, x, out=a, casting="unsafe")),
}

# Each is made of the shape of the part, its dtype, and the array itself.
SOURCES = {
    "same": lambda shape, dtype, _: made(shape, dtype),
    "F order": lambda shape, dtype, _: made(shape, dtype, order="F"),
    "transposed": lambda shape, dtype, _: made(shape[::-1], dtype).T,
    "every other column": lambda shape, dtype, _: made((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2],
    "every other row": lambda shape, dtype, _: made((2 * shape[0], *shape[1:]), dtype)[::2],
    "reversed": lambda shape, dtype, _: made(shape, dtype)[::-1],
    "columns of more": lambda shape, dtype, _: made((*shape[:-1], 3 + shape[-1]), dtype)[..., 2:-1],
    "one byte further": lambda shape, dtype, _: np.frombuffer(
        b"x" + made(shape, dtype).tobytes(), dtype, offset=1
    ).reshape(shape),
    "read-only": lambda shape, dtype, _: np.frombuffer(made(shape, dtype).tobytes(), dtype).reshape(shape),
    "swapped": lambda shape, dtype, _: made(shape, dtype).view(dtype.newbyteorder()),
    "leading one": lambda shape, dtype, _: made((1, *shape), dtype),
    "a row for all": lambda shape, dtype, _: made(shape[1:], dtype),
    "a column for all": lambda shape, dtype, _: made((*shape[:-1], 1), dtype),
    "broadcast": lambda shape, dtype, _: np.broadcast_to(made(shape[1:], dtype), shape),
    "one row, by strides": lambda shape, dtype, _: as_strided(
        made(shape[1:], dtype), shape, (0, *made(shape[1:], dtype).strides)
    ),
    "one item": lambda shape, dtype, _: made((1,) * len(shape), dtype),
    "0-d": lambda _, dtype, __: made((), dtype),
    "an item": lambda _, dtype, __: made((), dtype)[()],
    "too many rows": lambda shape, dtype, _: made((shape[0] + 1, *shape[1:]), dtype),
    "too few columns": lambda shape, dtype, _: made((*shape[:-1], shape[-1] - 1), dtype),
    "as many in another shape": lambda shape, dtype, _: made((shape[0] * 2, shape[-1] // 2, *shape[1:-1]), dtype),
    "flat": lambda shape, dtype, _: made((int(np.prod(shape)),), dtype),
    "a leading two": lambda shape, dtype, _: made((2, *shape), dtype),
    "nothing": lambda _, dtype, __: made((0,), dtype),
    "a few": lambda _, dtype, __: made((7,), dtype),
    "0": lambda *_: 0,
    "3.9": lambda *_: 3.9,
    "-1": lambda *_: -1,
    "1j": lambda *_: 1j,
    "2**70": lambda *_: 2**70,
    "NaN": lambda *_: np.nan,
    "None": lambda *_: None,
    "text": lambda *_: "12",
    "wrong text": lambda *_: "x",
    "bytes": lambda *_: b"34",
    "a list": lambda shape, *_: numbers_for(shape[-1:], "i8").tolist(),
    "a ragged list": lambda *_: [[1, 2], [3]],
    "i1": lambda shape, *_: made(shape, "i1"),
    "u8": lambda shape, *_: made(shape, "u8"),
    ">i4": lambda shape, *_: made(shape, ">i4"),
    "bools": lambda shape, *_: made(shape, "?"),
    "small f8": lambda shape, *_: numbers_for(shape, "f8") - 50,
    "f8": lambda shape, *_: made(shape, "f8"),
    "f2": lambda shape, *_: made(shape, "f2"),
    "c16": lambda shape, *_: made(shape, "c16"),
    "texts": lambda shape, *_: numbers_for(shape, "i8").astype("U3"),
    "bytes of numbers": lambda shape, *_: numbers_for(shape, "i8").astype("S2"),
    "objects": lambda shape, *_: numbers_for(shape, object),
    "dates": lambda shape, *_: numbers_for(shape, "M8[s]"),
    "lists": lambda shape, *_: numbers_for(shape, "i8").tolist(),
    "masked": lambda shape, dtype, _: np.ma.masked_array(made(shape, dtype), mask=numbers_for(shape, "i8") > 50),
    "subclass": lambda shape, dtype, _: made(shape, dtype).view(type("Marked", (np.ndarray,), {})),
    "that has __array__": lambda shape, dtype, _: Acting(made(shape, dtype), lambda: None),
    "memoryview": lambda shape, *_: memoryview(made(shape, "u1")),
    "itself": lambda _, __, a: a,
    "itself, reversed": lambda _, __, a: a[::-1],
    "its columns, reversed": lambda _, __, a: a[:, ::-1],
    "its first rows": lambda shape, _, a: a[: shape[0]],
    "its last rows": lambda shape, _, a: a[-shape[0] :],
    "its first column": lambda _, __, a: a[:, :1],
    "its first row": lambda _, __, a: a[0],
    "a plain view of it, reversed": lambda _, __, a: np.asarray(a)[::-1],
    "its bytes": lambda _, dtype, a: a.view("u1")[:, :: dtype.itemsize],
}
OPENED = {"dtype": "<i4", "offset": 128, "shape": (523, 641)}  # 1.28 MiB


@pytest.fixture(scope="module")
def usual_twins(tmp_path_factory):
    """Two files with an array of 1.28 MiB, with bytes before and behind it."""
    return Twins(tmp_path_factory.mktemp("twins"), bytes_for("u1", 128 + 523 * 641 * 4 + 3333, 17))


def restored(twins):
    for path in twins.paths:
        write_at(path, 0, twins.content)
    return twins


def assert_same_store(twins, opening, act):
    """Check what an act does to an array of numpy.memmap and to ours."""
    theirs, ours = twins.open(**opening)
    second = nf.memmap(twins.paths[1], **{**opening, "mode": "r"})
    expected, got = outcome_of(act, theirs), outcome_of(act, ours)
    if isinstance(expected.value, np.memmap):
        assert (expected.value is theirs) == (got.value is ours)
        expected.value = got.value = None
    assert_same_outcome(expected, got, theirs, ours)
    if np.dtype(opening.get("dtype")).char not in "gG":  # a long double made anew has whatever bytes in its padding
        twins.assert_same_bytes()
    if opening.get("mode", "r+") != "c":
        assert meaningful(second) == meaningful(theirs)
    assert meaningful(ours) == meaningful(theirs)
    return got


def act_of(way, source):
    """A function that stores a source in a way, into the array that it is given."""
    part, store = WAYS[way]

    def act(array):
        view = part(array)
        return store(array, SOURCES[source](view.shape, view.dtype, array))

    return act


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", ["a[...] = x", "a[i:j] = x"])
def test_whatever_is_stored_leaves_what_numpy_leaves(usual_twins, way, source):
    assert_same_store(restored(usual_twins), OPENED, act_of(way, source))


USUAL_SOURCES = ["same", "F order", "swapped", "a row for all", "0", "3.9", "small f8", "f8", "itself, reversed", "0-d"]


@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_stored_it_leaves_what_numpy_leaves(usual_twins, way):
    for source in USUAL_SOURCES:
        assert_same_store(restored(usual_twins), OPENED, act_of(way, source))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", "CF")
def test_a_private_map_keeps_large_stores_to_itself(usual_twins, way, order):
    for source in ("same", "its first row"):
        assert_same_store(restored(usual_twins), {**OPENED, "mode": "c", "order": order}, act_of(way, source))
        assert usual_twins.contents() == [usual_twins.content] * 2


@pytest.mark.parametrize("way", WAYS)
def test_an_array_of_f_order_is_stored_to_as_numpy_does(usual_twins, way):
    for source in ("same", "F order", "its first row", "transposed"):
        assert_same_store(restored(usual_twins), {**OPENED, "order": "F"}, act_of(way, source))


@pytest.mark.parametrize("way", WAYS)
def test_a_read_only_array_refuses_large_stores_as_numpy_does(usual_twins, way):
    for source in ("same", "0", "too many rows", "its first row"):
        act = act_of(way, source)

        def act_on_view(array, act=act):
            view = array[...]
            view.setflags(write=False)
            act(view)

        assert_same_store(restored(usual_twins), {**OPENED, "mode": "r"}, act)
        assert_same_store(usual_twins, OPENED, act_on_view)
        assert usual_twins.contents() == [usual_twins.content] * 2


@pytest.mark.parametrize("how", ["warn", "raise", "ignore", "call"])
@pytest.mark.parametrize("source", ["f8", "NaN", "c16", "2**70", "small f8"])
@pytest.mark.parametrize("dtype", ["<i4", ">f2", "?"])
def test_casts_that_lose_values_are_told_as_numpy_tells_them(tmp_path, how, source, dtype):
    twins = Twins(tmp_path, bytes_for(dtype, 5 * MIB // 4 + 17, 7))
    told = []

    def act(array):
        told.append([])
        with np.errstate(all=how, call=lambda *words: told[-1].append(words)):
            array[...] = SOURCES[source](array.shape, array.dtype, array)

    assert_same_store(twins, {"dtype": dtype, "offset": 1, "shape": (5 * MIB // 4 // np.dtype(dtype).itemsize,)}, act)
    assert told[0] == told[1]


def test_a_warning_that_is_an_error_comes_before_the_first_byte(tmp_path):
    twins = Twins(tmp_path, bytes_for("f4", 2 * MIB, 7))

    def act(array):
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            array[...] = made(array.shape, "c8")

    assert isinstance(assert_same_store(twins, {"dtype": "f4"}, act).error, np.exceptions.ComplexWarning)
    assert twins.contents()[1] == twins.content


@pytest.mark.parametrize("dtype", [*FLAT_DTYPES, *STRUCTURED_DTYPES, "S4097", "U300", "(2,3)<f4"], ids=str)
def test_a_large_store_into_an_array_of_any_dtype(tmp_path, dtype):
    dtype = np.dtype(dtype)
    rows = 3 * MIB // 2 // dtype.itemsize + 1
    twins = Twins(tmp_path, bytes_for(dtype, 9 + rows * dtype.itemsize + 99, 3))
    opening = {"dtype": dtype, "offset": 9, "shape": (rows,)}
    values = made((rows,), dtype, 31)
    for act in (
        lambda a: operator.setitem(a, ..., values),
        lambda a: operator.setitem(a, slice(None, None, -1), values),
        lambda a: operator.setitem(a, slice(7, None), values[7]),
        lambda a: operator.setitem(a, slice(1, None), a[:-1]),
        lambda a: np.copyto(a, values[::-1]),
        lambda a: a.fill(values[3]),
    ):
        assert_same_store(twins, opening, act)


# Sources of as many bytes, which are those that are to be stored or are not, and dtypes that are nearly the same.
PAIRS = [
    *[("<i8", ">i8"), ("<i8", "<u8"), ("<f8", "<i8"), ("<i8", "<f8"), ("l", "q"), ("<M8[s]", "<M8[ms]"), ("?", "u1")],
    *[("u1", "?"), ("<M8[s]", "<i8"), ("<m8[s]", "<i8"), ("<i8", "<m8[s]"), ("V8", "<i8"), ("S8", "S4"), ("S4", "S8")],
    *[("U2", "S8"), ("S8", "U2"), ("<U2", ">U2"), ("<c8", "<f4"), ("<f8", "<c16"), ("<c8", "V8")],
    *[("V8", "V7"), ("V7", "V8"), ("g", "f8")],
    *[("<f4", "f4,f4"), ("<f4,<f4", "<f4,>f4"), ("<f4,<i4", "<i4,<f4"), ("u1,u1", "u2"), ("u1,u1", "u1")],
    ([("a", "<i4"), ("b", "<i4")], [("b", "<i4"), ("a", "<i4")]),
    ([("a", "<i4"), ("b", "<f4")], [("x", "<i4"), ("y", "<f4")]),
    ([("a", "i1"), ("b", "<f8")], {"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [0, 8]}),
    ({"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [0, 8]}, [("a", "i1"), ("b", "<f8")]),
    ({"names": ["a", "b"], "formats": ["i1", "<f8"], "offsets": [0, 8]}, [("a", "u1", (8,)), ("b", "<f8")]),
    ({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [4, 0]}, [("a", "<i4"), ("b", "<i4")]),
    ({"names": ["a"], "formats": ["<i4"], "itemsize": 12}, {"names": ["a"], "formats": ["<i4"], "itemsize": 12}),
    ([(("title", "a"), "<i4")], [("a", "<i4")]),
    (np.dtype("<f8", metadata={"unit": "m"}), "<f8"),
    ([("a", "<f4", (2,))], [("a", "<f4")]),
    ([("a", "<f4", (2,))], "<f4"),
]


@pytest.mark.parametrize(("dtype", "other"), PAIRS, ids=[f"{x} from {y}" for x, y in PAIRS])
def test_dtypes_that_are_nearly_the_same_are_cast_as_numpy_casts_them(tmp_path, dtype, other):
    dtype, other = np.dtype(dtype), np.dtype(other)
    items = 5 * MIB // 4 // dtype.itemsize
    twins = Twins(tmp_path, bytes_for(dtype, items * dtype.itemsize + 5, 3))
    values = numbers_for((items,), "i8").astype(other) if other.kind in "SU" else made((items,), other, 31)
    for act in (lambda a: operator.setitem(a, ..., values), lambda a: np.copyto(a, values)):
        assert_same_store(twins, {"dtype": dtype, "shape": (items,)}, act)


def test_fields_and_what_lies_between_them(tmp_path):
    for dtype in STRUCTURED_DTYPES:
        items = 5 * MIB // 4 // dtype.itemsize
        twins = Twins(tmp_path, bytes_for(dtype, items * dtype.itemsize, 3))
        values = made((items,), dtype, 40)
        first, last = dtype.names[0], dtype.names[-1]
        for act in (
            lambda a, values=values: operator.setitem(a, ..., values),
            lambda a, values=values: operator.setitem(a, slice(1, None), values[:-1]),
            lambda a, first=first, values=values: operator.setitem(a, first, values[first]),
            lambda a, last=last, values=values: operator.setitem(a[last], slice(5, None), values[last][5:]),
            lambda a, first=first, last=last, values=values: operator.setitem(a, [last, first], values[[last, first]]),
            lambda a, values=values: operator.setitem(a, ..., values[5]),
        ):
            assert_same_store(twins, {"dtype": dtype}, act)


# ---- Sizes ----


def sizes_around(*borders):
    return [border + more for border in borders for more in (-1, 0, 1)]


@pytest.mark.parametrize("offset", [0, 1, 128, PAGE - 1, PAGE, PAGE + 1])
@pytest.mark.parametrize("behind", [0, 1, 5000])
def test_a_store_of_a_size_around_a_border_leaves_what_is_before_and_behind(tmp_path, offset, behind):
    for nbytes in [*sizes_around(PAGE, 64 * KIB, MIB, 2 * MIB), 3 * MIB - 128, 4 * MIB + 129]:
        content = np.frombuffer(bytes_for("u1", offset + nbytes + behind, 5), "u1").copy()
        path = str(tmp_path / "x.dat")
        content.tofile(path)
        values = made(nbytes, "u1", 77)
        with nf.memmap(path, "u1", "r+", offset, nbytes) as array:
            array[...] = values
            content[offset : offset + nbytes] = values
            assert read(path) == content.tobytes(), nbytes
            array[1:-1] = values[2:]
            content[offset + 1 : offset + nbytes - 1] = values[2:]
            assert read(path) == content.tobytes(), nbytes
            array.fill(9)
            content[offset : offset + nbytes] = 9
            assert read(path) == content.tobytes(), nbytes


@pytest.mark.parametrize("nbytes", [*sizes_around(8 * MIB), 40 * MIB, 40 * MIB + PAGE - 1])
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
def test_a_store_of_many_pieces(tmp_path, nbytes, is_cold):
    content = np.frombuffer(bytes_for("u1", 200 + nbytes + 4321, 5), "u1").copy()
    path = str(tmp_path / "x.dat")
    content.tofile(path)
    if is_cold:
        drop_from_memory(path)
    values = made(nbytes, "u1", 77)
    with nf.memmap(path, "u1", "r+", 200, nbytes) as array:
        array[...] = values
        content[200:-4321] = values
        assert read(path) == content.tobytes()
        assert np.array_equal(array, values)
        array[7:] = array[:-7]
        content[207:-4321] = values[:-7]
        assert read(path) == content.tobytes()


@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
def test_stores_that_start_and_end_anywhere_in_their_pages(tmp_path, is_cold):
    size = 4 * MIB + 999
    content = np.frombuffer(bytes_for("u1", size, 5), "u1").copy()
    path = str(tmp_path / "x.dat")
    content.tofile(path)
    if is_cold:
        drop_from_memory(path)
    values = made(size, "u1", 77)
    ends = (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * MIB // 3)
    with nf.memmap(path, "u1", "r+") as array:
        for start in ends:
            for end in ends:
                array[start : size - end] = values[end : size - start]
                content[start : size - end] = values[end : size - start]
        assert np.array_equal(array, content)
    assert read(path) == content.tobytes()


ARRAY_SHAPES = [(1, MIB + 3), (MIB + 3, 1), (1, 1, MIB + 3), (17, 61, 1031), (3, 0, 7), (2, 2, 2, 2, 70001)]


@pytest.mark.parametrize("shape", ARRAY_SHAPES, ids=str)
@pytest.mark.parametrize("order", "CF")
def test_a_store_into_an_array_of_any_shape(tmp_path, shape, order):
    twins = Twins(tmp_path, bytes_for("u1", max(1, int(np.prod(shape))) + 7, 5))
    opening = {"offset": 3, "shape": shape, "order": order}
    for act in (
        lambda a: operator.setitem(a, ..., made(shape, "u1")),
        lambda a: operator.setitem(a, ..., made(shape, "u1", 50, "F")),
        lambda a: operator.setitem(a, ..., made(shape[1:], "u1", 60)),
        lambda a: operator.setitem(a, (..., 0), made(shape[:-1], "u1", 70)),
        lambda a: operator.setitem(a, -1, made(shape[1:], "u1", 80)),
        lambda a: operator.setitem(a, ..., a[::-1, ..., ::-1]),
        lambda a: a.fill(7),
    ):
        assert_same_store(twins, opening, act)


@pytest.mark.parametrize("dtype", ["u1", "<i4", ">f8"])
def test_a_square_takes_its_own_transposed(tmp_path, dtype):
    side = 1201
    twins = Twins(tmp_path, bytes_for(dtype, side * side * 8 + 50, 5))
    opening = {"dtype": dtype, "shape": (side, side), "offset": 50}
    for act in (
        lambda a: operator.setitem(a, ..., a.T),
        lambda a: operator.setitem(a, ..., np.asarray(a).T),
        lambda a: operator.setitem(a.T, slice(1, None), a[:, :-1].T),
        lambda a: operator.setitem(a, ..., np.rot90(a)),
    ):
        assert_same_store(twins, opening, act)


@pytest.mark.parametrize("distance", [1, 7, PAGE - 1, PAGE, MIB - 1, MIB, MIB + 5])
def test_an_array_is_moved_within_itself(tmp_path, distance):
    twins = Twins(tmp_path, bytes_for("u1", 3 * MIB + 77, 5))
    for act in (
        lambda a: operator.setitem(a, slice(distance, None), a[:-distance]),
        lambda a: operator.setitem(a, slice(-distance), a[distance:]),
        lambda a: operator.setitem(a, slice(-distance), np.asarray(a)[distance:]),
        lambda a: operator.setitem(a, slice(None, None, -1), a[...]),
        lambda a: operator.setitem(a[::-1], slice(distance, None), a[::-1][:-distance]),
        lambda a: np.copyto(a[distance:], a[:-distance]),
        lambda a: operator.setitem(a, slice(0, 2 * MIB), a[1 : 2 * MIB + 1 : 1]),
        lambda a: operator.setitem(a, slice(0, MIB), a[: 2 * MIB : 2]),
        lambda a: operator.setitem(a, slice(0, MIB), a[2 * MIB : 0 : -2]),
    ):
        assert_same_store(twins, {"offset": 7}, act)


@pytest.mark.parametrize("source_mode", ["r", "r+", "c"])
def test_a_source_that_is_another_map_of_the_same_file(tmp_path, source_mode):
    # As NumPy cannot know that the two overlap, it copies in one direction, from the front. What that leaves where the
    # source lies before the destination depends on how much is copied at a time, so here it lies behind, or apart.
    for start, stop in [(0, 0), (2 * MIB, 2 * MIB), (0, 2 * MIB)]:
        content = np.frombuffer(bytes_for("u1", 4 * MIB, 5), "u1").copy()
        content.tofile(tmp_path / "x.dat")
        with (
            nf.memmap(tmp_path / "x.dat", "u1", source_mode) as source,
            nf.memmap(tmp_path / "x.dat", "u1", "r+") as array,
        ):
            array[stop : stop + 3 * MIB // 2] = source[start : start + 3 * MIB // 2]
            content[stop : stop + 3 * MIB // 2] = content[start : start + 3 * MIB // 2].copy()
            assert read(tmp_path / "x.dat") == content.tobytes()


@st.composite
def stores(draw):
    """An array of some size on a file, a part of it, and what goes there."""
    dtype = np.dtype(draw(st.sampled_from([*FLAT_DTYPES, *STRUCTURED_DTYPES, "S13", "u1", "<f8", "<i4"])))
    nbytes = draw(st.sampled_from([64 * KIB, MIB, MIB, 2 * MIB, 3 * MIB])) + draw(st.integers(-5000, 5000))
    ndim = draw(st.integers(1, 3))
    inner = [draw(st.integers(1, 70)) for _ in range(ndim - 1)]
    rows = max(1, nbytes // dtype.itemsize // int(np.prod(inner)))
    shape = draw(st.permutations([rows, *inner]))
    offset = draw(st.one_of(st.sampled_from([0, 128, PAGE]), st.integers(0, 300)))
    opening = {
        "dtype": dtype,
        "mode": draw(st.sampled_from(["r+", "r+", "r+", "c"])),
        "offset": offset,
        "shape": tuple(shape),
        "order": draw(st.sampled_from("CCF")),
    }
    part = tuple(
        slice(draw(st.sampled_from([None, None, 1, 3])), draw(st.sampled_from([None, None, -1, -2])), step)
        for step in draw(st.lists(st.sampled_from([None, None, 1, 2, -1, -2]), max_size=ndim))
    )
    kind = draw(
        st.sampled_from(
            [
                *(
                    "same",
                    "same",
                    "same",
                    "F order",
                    "reversed",
                    "swapped",
                    "read-only",
                    "leading one",
                    "a row for all",
                ),
                *(
                    "a column for all",
                    "broadcast",
                    "0-d",
                    "an item",
                    "too many rows",
                    "0",
                    "-1",
                    "NaN",
                    "i1",
                    "u8",
                    "f8",
                ),
                *("bools", "c16", "itself", "itself, reversed", "its first rows", "its last rows", "its first row"),
                *("every other row", "every other column", "columns of more", "one byte further", "flat", "masked"),
            ]
        )
    )
    way = draw(st.sampled_from(["a[part] = x", "a[part] = x", "view", "copyto", "flat", "fill", "+="]))
    return opening, draw(st.integers(0, 9)), part, kind, way


def store_by(way, array, part, values):
    if way == "a[part] = x":
        array[part] = values
    elif way == "view":
        array[part][...] = values
    elif way == "copyto":
        np.copyto(array[part], values, casting="unsafe")
    elif way == "flat":
        array[part].flat = values
    elif way == "fill":
        array[part].fill(values)
    else:
        array[part] += values


@comparison
@given(drawn=stores())
def test_a_large_store_drawn_at_random_leaves_what_numpys_leaves(drawn):
    opening, behind, part, kind, way = drawn
    note(repr(drawn))
    event(kind)
    dtype, shape = opening["dtype"], opening["shape"]
    size = opening["offset"] + int(np.prod(shape)) * dtype.itemsize + behind
    with tempfile.TemporaryDirectory() as folder:
        twins = Twins(folder, bytes_for(dtype, size, 3))

        def act(array):
            view = array[part]
            store_by(way, array, part, SOURCES[kind](view.shape, view.dtype, array))

        got = assert_same_store(twins, opening, act)
        event("refused" if got.error else "stored")
        if opening["mode"] == "c":
            assert twins.contents() == [twins.content] * 2


# ---- Files of other kinds ----

SIZE = 3 * MIB + 1234
NEW = made(SIZE, "u1", 200)


@pytest.fixture
def old_file(tmp_path):
    """A file of `SIZE` bytes, its path."""
    path = str(tmp_path / "x.dat")
    with open(path, "wb") as file:
        file.write(bytes_for("u1", SIZE, 1))
    return path


OLD = bytes_for("u1", SIZE, 1)


def assert_takes_stores(array, contents):
    """Check large stores into an array of `SIZE` bytes against what the file holds."""
    array[...] = NEW
    assert contents() == NEW.tobytes()
    array[5:-5] = NEW[10:]
    wanted = NEW.copy()
    wanted[5:-5] = NEW[10:]
    assert contents() == wanted.tobytes()
    array[: 2 * MIB].fill(3)
    wanted[: 2 * MIB] = 3
    assert contents() == wanted.tobytes()
    assert np.array_equal(array, wanted)


@pytest.mark.parametrize("opened", ["r+b", "a+b", "w+b"])
@pytest.mark.parametrize("buffering", [0, -1])
def test_a_file_object_that_appends_is_not_appended_to(old_file, opened, buffering):
    with open(old_file, opened, buffering=buffering) as file:
        if opened == "w+b":
            file.truncate(SIZE)
        file.seek(77)
        with nf.memmap(file, "u1", "r+") as array:
            assert_takes_stores(array, functools.partial(read, old_file))
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 77
    assert os.path.getsize(old_file) == SIZE


def test_a_file_that_is_told_to_append_while_it_is_mapped(old_file):
    with open(old_file, "r+b", buffering=0) as file, nf.memmap(file, "u1", "r+") as array:
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
        assert_takes_stores(array, functools.partial(read, old_file))
        assert os.path.getsize(old_file) == SIZE


@pytest.mark.parametrize("flag", ["O_DIRECT", "O_SYNC", "O_DSYNC", "O_NONBLOCK"])
def test_a_descriptor_with_a_wish_of_its_own(old_file, flag):
    # With O_DIRECT the kernel refuses pieces at odd addresses and of odd sizes.
    try:
        fd = os.open(old_file, os.O_RDWR | getattr(os, flag))
    except OSError as error:
        pytest.skip(f"this file system has no {flag}: {error}")
    with open(fd, "r+b", buffering=0) as file, nf.memmap(file, "u1", "r+", 3, SIZE - 3) as array:
        array[...] = NEW[3:]
        assert read(old_file) == OLD[:3] + NEW[3:].tobytes()


def test_a_file_that_refuses_writes_but_not_stores():
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    with open(fd, "r+b", buffering=0) as file:
        file.write(OLD)
        with nf.memmap(file, "u1", "r+") as array:
            # A map that was there before goes on; write() is told EPERM.
            fcntl.fcntl(file, 1033, 0x0010)  # F_ADD_SEALS, F_SEAL_FUTURE_WRITE
            with pytest.raises(PermissionError):
                os.pwrite(fd, b"x", 0)
            assert_takes_stores(array, lambda: os.pread(fd, SIZE + 1, 0))


def test_a_file_object_is_closed_before_the_store(old_file):
    with open(old_file, "r+b") as file:
        array = nf.memmap(file, "u1", "r+")
    with open(os.path.join(os.path.dirname(old_file), "other"), "w+b") as other:  # has its number now
        assert_takes_stores(array, functools.partial(read, old_file))
        assert os.fstat(other.fileno()).st_size == 0
    array.close()


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced", "replaced by w+"])
def test_a_store_goes_to_the_file_that_is_mapped_whatever_its_name_leads_to(old_file, tmp_path, how):
    held = os.open(old_file, os.O_RDONLY)
    with nf.memmap(old_file, "u1", "r+") as array:
        if how == "deleted":
            os.unlink(old_file)
        elif how == "renamed":
            os.rename(old_file, tmp_path / "y.dat")
        elif how == "replaced":
            (tmp_path / "y.dat").write_bytes(OLD)
            os.replace(tmp_path / "y.dat", old_file)
        else:
            nf.memmap(old_file, "u1", "w+", shape=SIZE).close()
            write_at(old_file, 0, OLD)
        assert_takes_stores(array, lambda: os.pread(held, SIZE + 1, 0))
        assert how not in ("replaced", "replaced by w+") or read(old_file) == OLD
    os.close(held)


@pytest.mark.parametrize("mode", ["w+", "r+"])
def test_a_store_into_a_file_of_holes(tmp_path, mode):
    path = str(tmp_path / "x.dat")
    if mode == "r+":
        with open(path, "wb") as file:
            file.truncate(SIZE)
    options = {"sparse": True} if mode == "w+" else {}
    with nf.memmap(path, "u1", mode, shape=SIZE, **options) as array:
        array[PAGE + 1 : 2 * MIB] = 0
        assert read(path) == bytes(SIZE)
        assert_takes_stores(array, functools.partial(read, path))


def test_a_store_into_a_new_file_goes_to_the_new_one(old_file):
    before = nf.memmap(old_file, "u1", "r")
    with nf.memmap(old_file, "u1", "w+", shape=SIZE) as array:
        assert_takes_stores(array, functools.partial(read, old_file))
    assert before.tobytes() == OLD


@pytest.mark.parametrize("order", "CF")
def test_a_store_into_a_npy_leaves_its_header(tmp_path, order):
    values = made((1031, 521), "<i4", order=order)
    old, new = np.asarray(made((1031, 521), "<i4", 7), order=order), np.zeros_like(values)
    np.save(tmp_path / "x.npy", old)
    for opened in (nf.open, nf.open_memmap):
        with opened(tmp_path / "x.npy", "r+") as array:
            array[...] = values
            np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values)
            array[...] = new.T.copy().T
            array[1:] = values[:-1]
        new[1:] = values[:-1]
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), new)
        new[...] = 0
    with nf.create(str(tmp_path / "y.npy"), shape=(1031, 521), dtype="<i4") as array:
        array[...] = values
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), values)


def test_a_store_into_an_array_that_grows(tmp_path):
    with nf.create(str(tmp_path / "x.npy"), shape=(0, 1000), dtype="u1") as array:
        array.append(made((2000, 1000), "u1"))
        array[...] = 5
        array[100:1500] = made((1400, 1000), "u1", 8)
        array.append(made((3, 1000), "u1", 9))
        wanted = np.full((2003, 1000), 5, "u1")
        wanted[100:1500], wanted[2000:] = made((1400, 1000), "u1", 8), made((3, 1000), "u1", 9)
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), wanted)
        array[...] = array[::-1]
        array.resize(1900, 1000)
        array[...] = wanted[:1900]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), wanted[:1900])


# ---- Who looks on ----


def test_a_store_is_seen_at_once_by_every_view_and_map(old_file):
    with nf.memmap(old_file, "u1", "r+") as array, nf.memmap(old_file, "u1", "r") as second:
        third = np.memmap(old_file, "u1", "r")
        view, plain, bytes_ = array[::-1], np.asarray(array), memoryview(array)
        for values in (NEW, NEW[::-1], NEW[:1]):
            array[...] = values
            wanted = np.broadcast_to(values, SIZE)
            for other in (array, second, third, view[::-1], plain, np.frombuffer(bytes_, "u1")):
                assert np.array_equal(other, wanted)
        plain[7] = 255  # and the other way round
        assert second[7] == 255
        del third, view, plain, bytes_, other


def test_what_was_stored_before_through_the_map_is_not_lost(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        array[::PAGE] = 9  # every page is changed, and not on the disk yet
        array[MIB + 1 : 3 * MIB - 1] = NEW[MIB + 1 : 3 * MIB - 1]
        wanted = np.frombuffer(OLD, "u1").copy()
        wanted[::PAGE] = 9
        wanted[MIB + 1 : 3 * MIB - 1] = NEW[MIB + 1 : 3 * MIB - 1]
        assert np.array_equal(array, wanted)
        array.flush()
    assert read(old_file) == wanted.tobytes()


def test_a_private_map_keeps_what_it_changed_whatever_is_stored_through_another(old_file):
    with nf.memmap(old_file, "u1", "c") as private, nf.memmap(old_file, "u1", "r+") as array:
        private[...] = 7
        array[...] = NEW
        assert np.all(private == 7)
        private[MIB:] = array[MIB:]
        assert np.array_equal(private[MIB:], NEW[MIB:])
        assert np.all(private[:MIB] == 7)
        assert read(old_file) == NEW.tobytes()


def test_threads_store_at_once_into_parts_of_their_own(old_file):
    part = SIZE // 4
    wanted = np.frombuffer(OLD, "u1").copy()
    with nf.memmap(old_file, "u1", "r+") as array:

        def store(number):
            for round_ in range(6):
                array[number * part : (number + 1) * part] = np.roll(NEW, round_)[number * part : (number + 1) * part]

        threads = [threading.Thread(target=store, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted[: 4 * part] = np.roll(NEW, 5)[: 4 * part]
        assert np.array_equal(array, wanted)


def test_a_flush_after_a_store_says_that_it_is_on_the_disk(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        array[...] = NEW
        array.flush()
        array.sync()
        array[MIB:] = 1
    assert read(old_file) == NEW[:MIB].tobytes() + b"\1" * (SIZE - MIB)


# ---- All or nothing ----

IN_A_BLOCK = {
    "a[...] = x": lambda a: operator.setitem(a, ..., NEW),
    "a[i:j] = x": lambda a: operator.setitem(a, slice(5, -PAGE), NEW[PAGE + 5 :]),
    "a[...] = 7": lambda a: operator.setitem(a, ..., 7),
    "fill": lambda a: a.fill(7),
    "copyto": lambda a: np.copyto(a, NEW),
    "a[i] = rows": lambda a: operator.setitem(a, np.arange(SIZE)[::-1], NEW),
    "a[mask] = 7": lambda a: operator.setitem(a, NEW > 20, 7),
    "moved": lambda a: operator.setitem(a, slice(1, None), a[:-1]),
    "+=": lambda a: operator.iadd(a, 1),
    "a view": lambda a: operator.setitem(a[3:][::-1], ..., NEW[3:]),
    "a plain view": lambda a: operator.setitem(np.asarray(a), ..., NEW),
}


@pytest.mark.parametrize("act", IN_A_BLOCK.values(), ids=IN_A_BLOCK)
def test_a_store_in_an_atomic_block_is_in_the_file_at_its_end_and_not_before(old_file, act):
    wanted = np.frombuffer(OLD, "u1").copy()
    act(wanted)
    with nf.memmap(old_file, "u1", "r+") as array, nf.memmap(old_file, "u1", "r") as second:
        with array.atomic():
            act(array)
            assert np.array_equal(array, wanted)
            assert read(old_file) == OLD
            assert second.tobytes() == OLD
        assert read(old_file) == wanted.tobytes()
        act(array)  # and after it stores go to the file again
        act(wanted)
        assert read(old_file) == wanted.tobytes()


@pytest.mark.parametrize("act", IN_A_BLOCK.values(), ids=IN_A_BLOCK)
def test_a_store_in_an_atomic_block_that_fails_is_undone(old_file, act):
    with nf.memmap(old_file, "u1", "r+") as array:
        with refused(array, UndoneError):
            act(array)
            raise UndoneError
        assert read(old_file) == OLD
        assert array.tobytes() == OLD
        array[...] = NEW
        assert read(old_file) == NEW.tobytes()


def test_a_store_beyond_the_limit_of_an_atomic_block_is_undone(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        with pytest.raises(nf.AtomicLimitError), array.atomic(limit=MIB):
            array[...] = NEW
        assert read(old_file) == OLD


def test_an_atomic_block_that_opens_while_the_values_are_asked_has_the_store(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        block = array.atomic()
        array[...] = Acting(NEW, block.__enter__)
        assert np.array_equal(array, NEW)
        assert read(old_file) == OLD
        block.__exit__(UndoneError, UndoneError(), None)
        assert read(old_file) == OLD
        assert array.tobytes() == OLD


def test_an_atomic_block_that_ends_while_the_values_are_asked_has_not_the_store(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        block = contextlib.ExitStack()
        block.enter_context(array.atomic())
        array[:MIB] = 3
        array[MIB:] = Acting(NEW[MIB:], block.close)
        assert read(old_file) == b"\3" * MIB + NEW[MIB:].tobytes()


# ---- Files that are cut ----

CUTS = [0, 1, MIB + PAGE // 2, 2 * MIB, SIZE - PAGE, SIZE - 1]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_store_into_a_file_that_was_cut_raises_and_does_not_grow_it(old_file, cut, mode):
    for act in (
        lambda a: operator.setitem(a, ..., NEW),
        lambda a: operator.setitem(a, slice(MIB // 2, None), NEW[MIB // 2 :]),
        lambda a: operator.setitem(a, ..., 7),
        lambda a: a.fill(7),
        lambda a: operator.setitem(a, slice(None, None, -1), NEW),
    ):
        with open(old_file, "wb") as file:
            file.write(OLD)
        array = nf.memmap(old_file, "u1", mode)
        os.truncate(old_file, cut)
        error = outcome_of(act, array).error
        # A cut inside the last page gives no signal; a store is not bound to ask.
        assert isinstance(error, nf.FaultError) or (error is None and cut > SIZE // PAGE * PAGE)
        assert os.path.getsize(old_file) == cut
        assert mode == "r+" or read(old_file) == OLD[:cut]
        with contextlib.suppress(nf.FaultError):
            array.close()
        assert os.path.getsize(old_file) == cut


def test_a_store_before_the_cut_is_there(old_file):
    array = nf.memmap(old_file, "u1", "r+")
    os.truncate(old_file, 2 * MIB)
    array[: 2 * MIB] = NEW[: 2 * MIB]
    assert read(old_file) == NEW[: 2 * MIB].tobytes()
    with contextlib.suppress(nf.FaultError):
        array.close()


def test_what_a_cut_has_lost_stays_lost_though_the_file_grows_again(old_file):
    array = nf.memmap(old_file, "u1", "r+")
    os.truncate(old_file, MIB)
    with pytest.raises(nf.FaultError):
        array[-1]
    os.truncate(old_file, SIZE)
    with pytest.raises(nf.FaultError):
        array[MIB:] = NEW[MIB:]
    assert read(old_file)[MIB:] == bytes(SIZE - MIB)
    with pytest.raises(nf.FaultError):
        array.close()


@pytest.mark.parametrize("cut", [0, MIB + 7, 2 * MIB])
def test_a_file_that_is_cut_while_the_values_are_asked_is_not_grown(old_file, cut):
    array = nf.memmap(old_file, "u1", "r+")
    with pytest.raises(nf.FaultError):
        array[...] = Acting(NEW, lambda: os.truncate(old_file, cut))
    assert os.path.getsize(old_file) == cut
    with contextlib.suppress(nf.FaultError):
        array.close()


def test_a_file_that_is_cut_during_a_store_is_not_grown(old_file):
    large = 24 * MIB
    values = made(large, "u1", 3)
    for round_ in range(12):
        values.tofile(old_file)
        cut = round_ * MIB + (0, 77)[round_ % 2]
        array = nf.memmap(old_file, "u1", "r+")
        pid = os.fork()
        if pid == 0:
            time.sleep(0.0007 * round_)
            os.truncate(old_file, cut)
            os._exit(0)
        try:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                array[...] = values
        except nf.FaultError:
            os.waitpid(pid, 0)
        with pytest.raises(nf.FaultError):
            array[...] = values
        assert os.path.getsize(old_file) == cut
        with contextlib.suppress(nf.FaultError):
            array.close()
        os.truncate(old_file, 0)


SOURCE_VIEWS = {
    "the map": lambda source: source,
    "a plain view": np.asarray,
    "a memoryview": memoryview,
    "reversed": lambda source: source[::-1],
}


@pytest.mark.parametrize("view", SOURCE_VIEWS.values(), ids=SOURCE_VIEWS)
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("cut", [0, MIB, 2 * MIB + 1])
def test_a_source_that_was_cut_is_named(old_file, tmp_path, view, mode, cut):
    path = str(tmp_path / "source.dat")
    NEW.tofile(path)
    source = nf.memmap(path, "u1", mode)
    values = view(source)
    os.truncate(path, cut)
    with nf.memmap(old_file, "u1", "r+") as array:
        with pytest.raises(nf.FaultError) as caught:
            store_and_go_on(array, values)
        assert (caught.value.cause, str(caught.value.path)) == ("truncated", path)
        assert os.path.getsize(old_file) == SIZE
        array[...] = NEW  # it is the source that is lost
        assert read(old_file) == NEW.tobytes()
        array.flush()
    with contextlib.suppress(nf.FaultError):
        source.close()


@pytest.mark.parametrize("view", [lambda source: source, np.asarray], ids=["the map", "a plain view"])
def test_a_source_that_was_closed_is_told(old_file, tmp_path, view):
    path = str(tmp_path / "source.dat")
    NEW.tofile(path)
    source = nf.memmap(path, "u1", "r")
    values = view(source)
    source.close()
    with nf.memmap(old_file, "u1", "r+") as array:
        with pytest.raises(nf.ClosedError):
            store_and_go_on(array, values)
        array[...] = NEW
        assert read(old_file) == NEW.tobytes()


# ---- What a store into memory does not know ----


@pytest.mark.parametrize("answer", [signal.SIG_IGN, signal.SIG_DFL], ids=["ignored", "default"])
def test_a_limit_of_file_sizes_does_not_hold_for_stores(old_file, answer):
    array = nf.memmap(old_file, "u1", "r+")

    def store():
        signal.signal(signal.SIGXFSZ, answer)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
        array[...] = NEW
        array[MIB // 2 :] = NEW[: -(MIB // 2)]
        array[MIB + 5 :].fill(7)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)  # for the report
        return True

    assert forked(store).result()
    wanted = NEW.copy()
    wanted[MIB // 2 :] = NEW[: -(MIB // 2)]
    wanted[MIB + 5 :] = 7
    assert read(old_file) == wanted.tobytes()


def test_a_child_stores_by_the_map_that_it_inherited(old_file):
    array = nf.memmap(old_file, "u1", "r+")

    def store():
        array[...] = NEW
        return True

    assert forked(store).result()
    assert np.array_equal(array, NEW)
    array[MIB:] = 1
    assert read(old_file) == NEW[:MIB].tobytes() + b"\1" * (SIZE - MIB)


def test_a_full_disk_is_an_error_and_what_was_there_stays(tmp_path):
    with memory_disk(str(tmp_path / "disk"), 6 * MIB) as disk:
        path = os.path.join(disk, "x.dat")
        with open(path, "wb") as file:
            file.truncate(16 * MIB)
            file.seek(8 * MIB)
            file.write(OLD)  # the rest are holes
        array = nf.memmap(path, "u1", "r+")
        fill_up(disk)
        array[8 * MIB : 8 * MIB + SIZE] = NEW  # its blocks are there
        with pytest.raises(nf.FaultError) as caught:
            array[: 4 * MIB] = 1
        assert caught.value.cause == "disk full"
        assert os.path.getsize(path) == 16 * MIB
        assert np.array_equal(array[8 * MIB : 8 * MIB + SIZE], NEW)
        with pytest.raises(nf.FaultError):
            array.close()
        del array, caught
        gc.collect()


CLOSED = {
    **IN_A_BLOCK,
    "flat": lambda a: setattr(a, "flat", NEW),
    "nothing": lambda a: operator.setitem(a, slice(0, 0), NEW[:0]),
    "wrong shape": lambda a: operator.setitem(a, ..., NEW[1:]),
}


@pytest.mark.parametrize("act", [act for name, act in CLOSED.items() if name != "a plain view"])
def test_a_closed_array_refuses_large_stores(old_file, act):
    array = nf.memmap(old_file, "u1", "r+")
    view = array[...]
    array.close()
    for closed in (array, view):
        with pytest.raises(nf.ClosedError):
            act_and_go_on(act, closed)
    assert read(old_file) == OLD


def test_an_array_that_is_closed_while_the_values_are_asked_stores_nothing(old_file):
    array = nf.memmap(old_file, "u1", "r+")
    with open(os.path.join(os.path.dirname(old_file), "other"), "w+b") as other:

        def act():
            array.close()
            os.dup2(other.fileno(), other.fileno() + 1)  # whoever kept a number of a descriptor finds another file
            os.close(other.fileno() + 1)

        with pytest.raises(nf.ClosedError):
            array[...] = Acting(NEW, act)
        assert os.fstat(other.fileno()).st_size == 0
    assert read(old_file) == OLD


class OwnError(Exception):
    """An error of somebody's own."""


def refuse():
    raise OwnError


def test_values_that_refuse_to_be_asked_leave_the_file(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        for values in (Acting(NEW, refuse), NEW.astype("c16")[:5], "x", object(), [NEW[:2], NEW[:3]], {}):
            with pytest.raises((OwnError, ValueError, TypeError)):
                array[...] = values
            assert read(old_file) == OLD


def test_a_cast_that_fails_in_the_middle_touches_nothing_outside(old_file):
    texts = numbers_for((2 * MIB,), "u1").astype("S3")
    texts[MIB + 5] = b"x"
    with nf.memmap(old_file, "u1", "r+") as array:
        with pytest.raises(ValueError, match="invalid literal"):
            array[77 : 77 + 2 * MIB] = texts
        content = read(old_file)
        assert len(content) == SIZE
        assert (content[:77], content[77 + 2 * MIB :]) == (OLD[:77], OLD[77 + 2 * MIB :])


def test_nothing_is_kept_of_what_was_stored(old_file):
    with nf.memmap(old_file, "u1", "r+") as array:
        block, row, wide, wrong = NEW.copy(), NEW[:1].copy(), NEW.astype("u2"), NEW[1:].copy()
        held = [array, array.base, block, row, wide, wrong]

        def every_way():
            array[...] = block
            array[...] = row
            array[...] = wide
            array[1:] = wrong
            array.fill(row[0])
            np.copyto(array, block)
            with contextlib.suppress(ValueError):
                array[...] = wrong

        every_way()
        before = [sys.getrefcount(thing) for thing in held]
        for _ in range(10):
            every_way()
        assert [sys.getrefcount(thing) for thing in held] == before


def test_a_fill_is_as_strict_as_numpys(tmp_path):
    for dtype in ("<i4", ">f8", "u1,<f4", "S3", "M8[s]", "?", "<c8"):
        twins = Twins(tmp_path, bytes_for(dtype, 5 * MIB // 4 // 120 * 120, 3))
        constants = [0, -1, 300, 2**70, 1.5, np.nan, 1j, "1", "x", b"1", None, True, (1, 2), [1], [1, 2], np.ones(1)]
        for constant in [*constants, np.array(3), np.float32(2.5), np.datetime64(3, "D"), np.zeros((), "u1,<f4"), []]:
            assert_same_store(twins, {"dtype": dtype}, lambda a, constant=constant: a.fill(constant))
        assert_same_store(twins, {"dtype": dtype}, lambda a: a.fill())
        assert_same_store(twins, {"dtype": dtype}, lambda a: a.fill(1, 2))
        assert_same_store(twins, {"dtype": dtype}, lambda a: a.fill(value=1))


# ---- The comparison itself ----


def test_a_byte_that_differs_is_found_wherever_it_is(usual_twins):
    for place in (0, 127, 128, 128 + MIB, -3333, -1):
        twins = restored(usual_twins)
        place %= len(twins.content)
        write_at(twins.paths[1], place, bytes([twins.content[place] ^ 1]))
        with pytest.raises(AssertionError, match=f"1 bytes differ, the first at {place},"):
            twins.assert_same_bytes()


def test_a_file_that_differs_in_length_is_found(usual_twins):
    twins = restored(usual_twins)
    with open(twins.paths[1], "ab") as file:
        file.write(b"x")
    with pytest.raises(AssertionError):
        twins.assert_same_bytes()
    os.truncate(twins.paths[1], len(twins.content))


@pytest.mark.parametrize("difference", ["a value", "a warning", "an error"])
def test_a_store_that_differs_is_found(usual_twins, difference):
    def act(array):
        is_ours = type(array) is nf.memmap
        if difference == "a value":
            array[-1] = 2 if is_ours else 1
        elif difference == "a warning":
            array[...] = 1
            if is_ours:
                array[...] = np.zeros(array.shape, "c8")
            array[...] = 0
        else:
            array[...] = np.zeros(2 if is_ours else 3)

    with pytest.raises(AssertionError):
        assert_same_store(restored(usual_twins), OPENED, act)
