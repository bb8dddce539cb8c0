"""Rows in and out by integer arrays and masks: results, layout, errors and the file's bytes are NumPy's.

The random comparisons look everywhere; each case by name below them is a way in which a loop over rows that somebody
writes by hand goes wrong.
"""

import contextlib
import functools
import gc
import operator
import os
import sys
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from rows_drawn import INTEGERS, ONE_PLACE_EACH, VIEWS, Marked, arrays_on_files, indices_of, masks_of
from twins import (
    FLAT_DTYPES,
    MIB,
    PAGE,
    STRUCTURED_DTYPES,
    Twins,
    assert_same_outcome,
    assert_same_result,
    bytes_for,
    comparison_of,
    drop_from_memory,
    meaningful,
    outcome_of,
    read,
    resident_pages,
    write_at,
)

import ndfile as nf

comparison = comparison_of(300)


class Labelled(nf.memmap):
    """A user's own class of map."""


@contextlib.contextmanager
def twins_of(opening, content):
    with tempfile.TemporaryDirectory() as folder:
        twins = Twins(folder, content)
        yield twins, *twins.open(**opening)


def part_of(draw, array, names):
    """A function to a view of an array, by one or two steps."""
    steps = [VIEWS[name] for name in draw(st.lists(st.sampled_from(names), max_size=2))]
    return lambda array: functools.reduce(lambda view, step: step(view), steps, array)


def is_solid(dtype):
    dtype = dtype.base
    if dtype.names:
        parts = [dtype[name] for name in dtype.names]
        return sum(part.itemsize for part in parts) == dtype.itemsize and all(map(is_solid, parts))
    return dtype.char not in "gG"


def change_every_byte(path):
    content = read(path)
    write_at(path, 0, (np.frombuffer(content, "u1") ^ 1).tobytes())


# ---- Out: what is drawn ----

# An index of rows among other indices. `index` is of the axis that `axis` names.
PLACES = {
    "a[i]": (0, lambda i, _: i),
    "a[(i,)]": (0, lambda i, _: (i,)),
    "a[i, ...]": (0, lambda i, _: (i, ...)),
    "a[i, 1:3]": (0, lambda i, _: (i, slice(1, 3))),
    "a[i, ::-1]": (0, lambda i, _: (i, slice(None, None, -1))),
    "a[i, ..., 0]": (0, lambda i, _: (i, ..., 0)),
    "a[i, None]": (0, lambda i, _: (i, None)),
    "a[None, i]": (0, lambda i, _: (None, i)),
    "a[i, 0]": (0, lambda i, _: (i, 0)),
    "a[..., i]": (-1, lambda i, _: (..., i)),
    "a[:, i]": (1, lambda i, _: (slice(None), i)),
    "a[1:3, i]": (1, lambda i, _: (slice(1, 3), i)),
    "a[0, i]": (1, lambda i, _: (0, i)),
    "a[i, j]": (0, lambda i, j: (i, j)),
    "a[i, :, j]": (0, lambda i, j: (i, slice(None), j)),
}
TWO = ("a[i, j]", "a[i, :, j]")


def subscript_of(draw, shape):
    """A subscript with an index of rows or a mask in it."""
    if draw(st.integers(0, 3)) == 0:
        mask = draw(masks_of(shape))
        event("mask")
        return draw(st.sampled_from([mask, mask, (mask,), (mask, ...), (..., mask), (mask, None)]))
    name = draw(st.sampled_from([*PLACES, *["a[i]"] * 10]))
    axis, place = PLACES[name]
    event(name)
    length = shape[axis] if -len(shape) <= axis < len(shape) else 3
    index, other = draw(indices_of(length)), None
    if name in TWO:
        other_axis = 1 if name == "a[i, j]" else 2
        other_length = shape[other_axis] if other_axis < len(shape) else 3
        other = draw(indices_of(other_length, draw(st.sampled_from([np.shape(index), (), (1,), (4,)]))))
    return place(index, other)


def destination_of(draw, shape, dtype):
    """A function from the source to what take may be given as `out`."""
    kind = draw(
        st.sampled_from(["right", "right", "F order", "stepped", "wrong shape", "swapped", "other", "read-only"])
    )
    event(f"out {kind}")
    seed = draw(st.integers(0, 250))

    def make(_):
        wanted = dtype
        if kind == "swapped":
            wanted = dtype.newbyteorder()
        if kind == "other" and dtype.kind in "biufc":
            wanted = np.dtype("c16")
        sizes = (*shape[:-1], shape[-1] + 1) if kind == "wrong shape" and shape else shape
        spread = (*sizes[:-1], 2 * sizes[-1]) if kind == "stepped" and sizes else sizes
        nbytes = int(np.prod(spread)) * wanted.itemsize
        content = np.frombuffer(bytearray(bytes_for(wanted, nbytes, seed)), "u1")
        out = np.ndarray(spread, wanted, content, order="F" if kind == "F order" else "C")
        if kind == "stepped" and sizes:
            out = out[..., ::2]
        if kind == "read-only":
            out.setflags(write=False)
        return out

    return make


def take_of(draw, plain):
    """A function that takes from an array, and gives the result and `out`."""
    axis = draw(st.sampled_from([0, 0, 0, None, -1, 1]))
    mode = draw(st.sampled_from(["raise", "raise", "wrap", "clip"]))
    if mode == "wrap" and plain.shape.count(0) > 1:
        mode = "clip"  # NumPy goes round an axis without items for ever where the result has none either
    length = plain.size if axis is None else plain.shape[axis] if -plain.ndim <= axis < plain.ndim else 3
    index = draw(indices_of(length, mode=mode))
    event(f"take {mode}")
    call = draw(st.sampled_from([lambda a, *arguments: a.take(*arguments), np.take]))
    if draw(st.booleans()):
        return lambda a: call(a, index, axis, None, mode)
    shape = getattr(outcome_of(plain.take, index, axis, None, mode).value, "shape", plain.shape)
    destination = destination_of(draw, shape, plain.dtype)

    def take(array):
        out = destination(array)
        result = outcome_of(call, array, index, axis, out, mode)
        assert result.error is not None or result.value is out
        return out, repr(result.error), result.warnings

    return take


def gather_of(draw, plain):
    """A function that gathers from an array."""
    kind = draw(st.sampled_from(["subscript", "subscript", "take", "compress"]))
    if kind == "subscript":
        subscript = subscript_of(draw, plain.shape)
        note(f"a[{subscript!r}]")
        return lambda a: a[subscript]
    if kind == "take":
        return take_of(draw, plain)
    axis = draw(st.sampled_from([0, 0, None, -1, 1]))
    length = plain.size if axis is None else plain.shape[axis] if -plain.ndim <= axis < plain.ndim else 3
    condition = draw(masks_of((length,)))
    if draw(st.booleans()):
        return lambda a: np.compress(condition, a, axis)
    return lambda a: a.compress(condition, axis)


@comparison
@given(drawn=arrays_on_files(("r", "r+", "c")), data=st.data())
def test_what_is_gathered_is_what_numpy_gathers(drawn, data):
    opening, content = drawn
    note(repr(opening))
    with twins_of(*drawn) as (twins, theirs, ours):
        view = part_of(data.draw, theirs, list(VIEWS))
        plain, array = view(np.asarray(theirs)), view(ours)
        copies = []
        for _ in range(data.draw(st.integers(1, 4))):
            gather = gather_of(data.draw, plain)
            expected, got = outcome_of(gather, plain), outcome_of(gather, array)
            assert_same_outcome(expected, got, plain, array)
            event("refused" if got.error else "gathered")
            if type(got.value) is np.ndarray:
                copies.append((got.value, meaningful(got.value)))
        assert twins.contents() == [content, content]
        change_every_byte(twins.paths[1])
        for copy, values in copies:
            assert meaningful(copy) == values
        del theirs, ours, plain, array, expected, got


# ---- In: what is drawn ----

OTHER_DTYPES = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i4",
    "<u8",
    "<f2",
    ">f4",
    "<f8",
    "c8",
    "S3",
    "U4",
    "V8",
    "M8[D]",
    "m8[s]",
    "O",
]


def values_for(draw, plain, selected):
    """A function from the array to values for places of the shape `selected`."""
    kind = draw(
        st.sampled_from(
            [
                *("block", "block", "block", "swapped", "spread", "F order", "row", "leading ones", "ones inside"),
                *("other dtype", "other dtype", "wrong", "too many axes", "list", "constant", "item", "0-d", "none"),
                *("the array", "reversed array", "rows of the array", "its last items", "subclass"),
            ]
        )
    )
    event(kind)
    dtype, seed = plain.dtype, draw(st.integers(0, 250))

    def made(shape, dtype=dtype):
        content = bytearray(bytes_for(dtype, int(np.prod(shape)) * dtype.itemsize, seed))
        return np.ndarray(shape, dtype, content)

    def values():
        if kind in ("block", "swapped", "spread", "F order", "list", "subclass"):
            block = made(selected)
            return {
                "block": lambda: block,
                "swapped": lambda: block.view(dtype.newbyteorder()),
                "spread": lambda: np.repeat(block, 2, -1)[..., ::2] if block.ndim else block,
                "F order": lambda: np.asfortranarray(block),
                "list": block.tolist,
                "subclass": lambda: block.view(Marked),
            }[kind]()
        shape = {
            "row": selected[1:],
            "leading ones": (1, 1, *selected),
            "ones inside": tuple(1 if i % 2 else n for i, n in enumerate(selected)),
            "wrong": (*selected[:-1], selected[-1] + 1) if selected else (2,),
            "too many axes": (2, *selected),
            "0-d": (),
            "item": (),
        }.get(kind)
        if shape is not None:
            return made(shape)[()] if kind == "item" else made(shape)
        return None

    if kind == "other dtype":
        other = np.dtype(draw(st.sampled_from(OTHER_DTYPES)))
        block = made(selected, np.dtype("i1")).astype(other) if other.kind in "OSU" else made(selected, other)
        return lambda _: block
    if kind == "constant":
        constant = draw(st.sampled_from([0, 1, -1, 2.5, 1e30, 1j, True, b"1", "x", None, np.nan, 2**70, (1, 2)]))
        return lambda _: constant
    first = selected[0] if selected else 1
    of_the_array = {
        "the array": lambda a: a,
        "reversed array": lambda a: a[::-1] if a.ndim else a,
        "rows of the array": lambda a: a[:first],
        "its last items": lambda a: a[-first:],
    }
    if kind in of_the_array:
        return of_the_array[kind]
    value = values()
    return lambda _: value


def scatter_of(draw, plain):
    """A function that scatters into an array."""
    kind = draw(st.sampled_from(["subscript"] * 6 + ["put", "putmask", "place"]))
    if kind == "subscript":
        subscript = subscript_of(draw, plain.shape)
        selected = getattr(outcome_of(lambda: plain[subscript]).value, "shape", plain.shape)
        values = values_for(draw, plain, selected)
        note(f"a[{subscript!r}] = ...")
        return lambda a: operator.setitem(a, subscript, values(a))
    if kind == "put":
        mode = draw(st.sampled_from(["raise", "wrap", "clip"]))
        index = draw(indices_of(plain.size, mode=mode))
        values = values_for(draw, plain, np.shape(index))
        call = draw(st.sampled_from([np.put, lambda a, *arguments: a.put(*arguments)]))
        return lambda a: call(a, index, values(a), mode)
    mask = draw(masks_of(plain.shape))
    values = values_for(draw, plain, (draw(st.integers(0, 5)),))
    return lambda a: (np.putmask if kind == "putmask" else np.place)(a, mask, values(a))


@comparison
@given(drawn=arrays_on_files(("r+", "r+", "c", "r")), data=st.data())
def test_what_is_scattered_lies_where_numpy_puts_it(drawn, data):
    opening, content = drawn
    note(repr(opening))
    with twins_of(*drawn) as (twins, theirs, ours):
        view = part_of(data.draw, theirs, ONE_PLACE_EACH)
        plain, array = view(np.asarray(theirs)), view(ours)
        for _ in range(data.draw(st.integers(1, 4))):
            scatter = scatter_of(data.draw, plain)
            before = np.asarray(theirs).tobytes()
            expected, got = outcome_of(scatter, plain), outcome_of(scatter, array)
            assert_same_outcome(expected, got, plain, array)
            event("refused" if got.error else "scattered")
            assert meaningful(ours) == meaningful(theirs)
            if expected.error is not None and np.asarray(theirs).tobytes() == before:
                assert np.asarray(ours).tobytes() == before
        if opening["mode"] == "r+" and is_solid(ours.dtype):
            twins.assert_same_bytes()
        elif opening["mode"] != "r+":
            assert twins.contents() == [content, content]
        start, stop = opening["offset"], opening["offset"] + ours.nbytes
        after = read(twins.paths[1])
        assert (after[:start], after[stop:]) == (content[:start], content[stop:])
        del theirs, ours, plain, array, expected, got


# ---- By name ----

ROWS, COLUMNS = 400, 6
TABLE = np.random.default_rng(2).integers(-(2**40), 2**40, (ROWS, COLUMNS), "<i8")
SOME = np.array([5, -1, 0, 399, 5, -400, 17, 200])


class Number:
    """An index of a class of somebody's own."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


class Acting:
    """An index, or values, that do something when they are asked what they are."""

    def __init__(self, numbers, act):
        self.numbers, self.act = np.asarray(numbers), act

    def __array__(self, dtype=None, copy=None):
        self.act()
        return self.numbers


@pytest.fixture
def tables(tmp_path):
    """The table twice, behind 40 other bytes and with 9 behind it: the twins, and a function that opens them."""
    twins = Twins(tmp_path, bytes(range(40)) + TABLE.tobytes() + b"the rest.")
    return twins, lambda mode="r+", **options: twins.open("<i8", mode, 40, TABLE.shape, **options)


def assert_same_of(tables, act, mode="r+"):
    """Check what an act on the table comes to, and the files afterwards."""
    twins, opened = tables
    theirs, ours = opened(mode)
    plain = np.asarray(theirs)
    expected, got = outcome_of(act, plain), outcome_of(act, ours)
    assert_same_outcome(expected, got, plain, ours)
    assert ours.tobytes() == theirs.tobytes()
    twins.assert_same_bytes()
    return got


GATHERS = {
    "no rows, as a list": lambda a: a[[]],
    "no rows, as an array": lambda a: a[np.zeros(0, "i8")],
    "no rows, of floats": lambda a: a[np.zeros(0)],
    "no rows of no rows": lambda a: a[0:0][[]],
    "a row of no rows": lambda a: a[0:0][[0]],
    "no rows of two axes": lambda a: a[np.zeros((0, 3), "i8")],
    "rows of no items": lambda a: a[:, 0:0][SOME],
    "rows of no items, out of range": lambda a: a[:, 0:0][[0, ROWS]],
    "a 0-d array": lambda a: a[np.array(3)],
    "a 0-d array, of an item": lambda a: a[:, 2][np.array(3)],
    "a NumPy number": lambda a: a[np.uint8(3)],
    "one row": lambda a: a[[3]],
    "one row of an array of one": lambda a: a[7:8][[0, -1, 0]],
    "a range": lambda a: a[range(10, 2, -3)],
    "a list of lists": lambda a: a[[[1, 2], [3, 4]]],
    "a ragged list": lambda a: a[[[1, 2], [3]]],
    "a tuple is an item": lambda a: a[(3, 2)],
    "a tuple of lists": lambda a: a[[1, 2], [3, 4]],
    "lists that do not fit": lambda a: a[[1, 2, 3], [3, 4]],
    "lists of three axes": lambda a: a[[1], [2], [3]],
    "np.ix_": lambda a: a[np.ix_([1, 5], [0, 2, 4])],
    "a list of booleans": lambda a: a[[True, False] * (ROWS // 2)],
    "a list of too few booleans": lambda a: a[[True, False]],
    "a list of booleans and numbers": lambda a: a[[True, 2]],
    "true": lambda a: a[True],
    "false": lambda a: a[np.False_],
    "an array of true": lambda a: a[np.array(True)],
    "a list of numbers with an index": lambda a: a[[Number(3), np.int8(-1), 7]],
    "a list with None": lambda a: a[[1, None]],
    "a list of text": lambda a: a[["1"]],
    "text": lambda a: a["1"],
    "floats": lambda a: a[[1.0, 2.0]],
    "an array of floats": lambda a: a[np.array([1.0])],
    "complex": lambda a: a[np.array([1j])],
    "dates": lambda a: a[np.array([1], "M8[s]")],
    "objects": lambda a: a[np.array([1, 2], object)],
    "a structured index": lambda a: a[np.zeros(2, "i8,i8")],
    "two ellipses": lambda a: a[..., [1], ...],
    "more than all axes": lambda a: a[[1], 0, 0],
    "int64's smallest": lambda a: a[np.array([1, -(2**63)])],
    "int64's largest": lambda a: a[np.array([2**63 - 1, 1])],
    "more than int64": lambda a: a[[2**63]],
    "uint64's largest": lambda a: a[np.array([1, 2**64 - 1], "u8")],
    "uint64 that reads as -1": lambda a: a[np.array([2**64 - 1], "u8")],
    "uint64 behind int64": lambda a: a[np.array([2**63], "u8")],
    "uint32 that reads as -1": lambda a: a[np.array([2**32 - 1], "u4")],
    "int32 behind the rows": lambda a: a[np.array([2**31 - 1], "i4")],
    "int8, below 0": lambda a: a[np.array([-1, -128, 127], "i1")],
    "uint8 above 127": lambda a: a[np.array([255, 128], "u1")],
    "swapped": lambda a: a[SOME.astype(">i8")],
    "swapped, out of range": lambda a: a[np.array([1, ROWS], ">i4")],
    "C's long and long long": lambda a: (a[SOME.astype("l")], a[SOME.astype("q")]),
    "stepped index": lambda a: a[np.repeat(SOME, 5)[2::5]],
    "reversed index": lambda a: a[SOME[::-1]],
    "column of a table": lambda a: a[np.stack([SOME, SOME * 0 + 999], 1)[:, 0]],
    "broadcast index": lambda a: a[np.broadcast_to(np.array(3), 50)],
    "an index of F order": lambda a: a[np.asfortranarray(SOME.reshape(2, 4))],
    "an index of three axes": lambda a: a[SOME.reshape(2, 1, 4)],
    "an index at an odd address": lambda a: a[np.frombuffer(b"x" + SOME.tobytes(), "i8", offset=1)],
    "a field of a structured index": lambda a: a[np.array([(1, 2), (3, 4)], "u1,i8")["f1"]],
    "a read-only index": lambda a: a[np.frombuffer(SOME.tobytes(), "i8")],
    "a masked index": lambda a: a[np.ma.masked_array(SOME, SOME < 0)],
    "a matrix": lambda a: a[SOME.reshape(2, 4).view(Marked)],
    "every row": lambda a: a[np.arange(ROWS)],
    "every row, backwards": lambda a: a[np.arange(ROWS)[::-1]],
    "one row a thousand times": lambda a: a[np.full(1000, -1)],
    "more rows than there are": lambda a: a[np.arange(3000) % ROWS],
    "items": lambda a: a.reshape(-1)[np.arange(0, ROWS * COLUMNS, 7)],
    "items of a column": lambda a: a[:, 3][SOME],
    "columns": lambda a: a[:, [0, -1, 3, 3]],
    "columns, out of range": lambda a: a[:, [0, COLUMNS]],
    "columns, far out of range": lambda a: a[:, [0, -COLUMNS - 1]],
    "rows of the transposed": lambda a: a.T[[0, 5, -1]],
    "rows of the reversed": lambda a: a[::-1][SOME],
    "rows of every other": lambda a: a[::2][[0, -1, 199]],
    "rows of every other, out of range": lambda a: a[::2][[200]],
    "rows of a part": lambda a: a[100:200][[0, 99, -100]],
    "rows of a part, out of range": lambda a: a[100:200][[0, 100]],
    "rows before a part": lambda a: a[100:200][[-101]],
    "columns of rows": lambda a: a[SOME, 1:3],
    "stepped columns of rows": lambda a: a[SOME, ::-2],
    "an item of rows": lambda a: a[SOME, ..., 0],
    "rows and a new axis": lambda a: a[SOME, None],
    "rows of a row without axes": lambda a: a[0, 0, ...][[0]],
    "overlapping windows": lambda a: as_strided(a, (300, 12), (8, 16), subok=True)[SOME % 300],
    "rows alike": lambda a: as_strided(a, (300, 6), (0, 8), subok=True)[SOME % 300],
    "a row that goes backwards in itself": lambda a: a[:, ::-1][SOME],
    "a mask": lambda a: a[np.arange(ROWS) % 3 == 0],
    "a mask of nothing": lambda a: a[np.zeros(ROWS, bool)],
    "a mask of everything": lambda a: a[np.ones(ROWS, bool)],
    "a mask of the last": lambda a: a[np.arange(ROWS) == ROWS - 1],
    "a short mask": lambda a: a[np.ones(ROWS - 1, bool)],
    "a long mask of nothing": lambda a: a[np.zeros(ROWS + 1, bool)],
    "a mask of no rows": lambda a: a[np.zeros(0, bool)],
    "a mask of items": lambda a: a[np.asarray(a) > 0],
    "a mask of items, wrong columns": lambda a: a[np.ones((ROWS, COLUMNS + 1), bool)],
    "a mask with too many axes": lambda a: a[np.ones((ROWS, COLUMNS, 1), bool)],
    "a stepped mask": lambda a: a[(np.arange(2 * ROWS) % 3 == 0)[::2]],
    "a transposed mask": lambda a: a[(np.asarray(a).T > 0).T],
    "a mask whose true is 255": lambda a: a[np.full(ROWS, 255, "u1").view("?")],
    "a mask of columns": lambda a: a[:, np.array([True, False] * 3)],
    "a mask and a number": lambda a: a[np.arange(ROWS) < 5, 2],
    "a mask and a list": lambda a: a[np.arange(ROWS) < 2, [2, 3]],
    "a masked mask": lambda a: a[np.ma.masked_array(np.arange(ROWS) < 9, np.arange(ROWS) < 4)],
    "compress": lambda a: a.compress(np.arange(ROWS) % 3 == 0, axis=0),
    "compress, short": lambda a: np.compress([0, 1, 1], a, axis=0),
    "compress, long": lambda a: np.compress(np.ones(ROWS + 1, bool), a, axis=0),
    "compress, long of nothing behind": lambda a: np.compress(np.arange(ROWS + 5) < 3, a, axis=0),
    "compress all": lambda a: a.compress([1, 0, 5]),
    "compress into": lambda a: a.compress([True, True], 0, np.zeros((2, COLUMNS), "i8")),
    "extract": lambda a: np.extract(np.asarray(a) > 0, a),
    "take_along_axis": lambda a: np.take_along_axis(a, SOME[:, None] % 5, 0),
    "choose": lambda a: np.choose([0, 1, 1, 0, 2, 0], list(a[:3])),
    "take": lambda a: a.take(SOME, 0),
    "take all": lambda a: a.take(SOME),
    "take a number": lambda a: a.take(3, 0),
    "take an item": lambda a: a.take(-1),
    "take nothing": lambda a: a.take([], 0),
    "take nothing, of integers": lambda a: a.take(np.zeros((0, 2), "i8"), axis=0),
    "take from nothing": lambda a: a[0:0].take([0], 0),
    "take nothing from nothing": lambda a: a[0:0].take(np.zeros(0, "i8"), 0, mode="clip"),
    "take wrapped from nothing": lambda a: a[0:0].take([0], 0, mode="wrap"),
    "take clipped from nothing": lambda a: a[0:0].take([0], 0, mode="clip"),
    "take of no axis": lambda a: a[0, 0, ...].take([0, -1, 0], 0),
    "take columns": lambda a: a.take([0, -1], 1),
    "take the last axis": lambda a: np.take(a, [0, -1, 3], axis=-1),
    "take an axis that is not there": lambda a: a.take([0], 2),
    "take an axis of floats": lambda a: a.take([0], 1.0),
    "take an axis by a NumPy number": lambda a: a.take([0], axis=np.int8(-2)),
    "take wrapped": lambda a: a.take([ROWS, -ROWS - 1, 5 * ROWS + 3, -7], 0, mode="wrap"),
    "take clipped": lambda a: a.take([ROWS, -1, 2**62, -(2**63)], 0, mode="clip"),
    "take wrapped, as a number": lambda a: a.take([ROWS], 0, None, 1),
    "take in a mode in bytes": lambda a: a.take([ROWS], 0, None, b"clip"),
    "take in no mode": lambda a: a.take([0], 0, None, "nearest"),
    "take in capitals": lambda a: a.take([ROWS], 0, mode="CLIP"),
    "take out of range": lambda a: a.take([0, ROWS], 0),
    "take out of range of all": lambda a: a.take([ROWS * COLUMNS]),
    "take out of range of columns": lambda a: a.take([COLUMNS], axis=1),
    "take floats": lambda a: a.take([1.5], 0),
    "take booleans": lambda a: a.take([True, False], 0),
    "take unsigned": lambda a: a.take(np.array([3], "u8"), 0),
    "take text": lambda a: a.take(["x"], 0),
    "take None": lambda a: a.take(None),
    "take with no index": lambda a: a.take(),
    "take with too much": lambda a: a.take([0], 0, None, "raise", 1),
    "take with another argument": lambda a: a.take([0], axes=0),
    "take twice the index": lambda a: a.take([0], indices=[0]),
    "take by names": lambda a: a.take(indices=SOME, axis=0, out=None, mode="raise"),
    "take an index of F order": lambda a: a.take(np.asfortranarray(SOME.reshape(4, 2)), 0),
    "take of the transposed": lambda a: a.T.take([5, 0], 0),
    "take columns of the transposed": lambda a: a.T.take(SOME, 1),
    "take of the stepped": lambda a: a[::3].take([0, -1], 0),
    "take all of the reversed": lambda a: a[::-1].take(SOME),
    "take with out of no array": lambda a: a.take([0], 0, [1]),
    "NumPy's function by names": lambda a: np.take(a, indices=SOME, axis=0, mode="wrap"),
}


@pytest.mark.parametrize("gather", GATHERS.values(), ids=GATHERS)
def test_a_gather_by_name_is_numpys(tables, gather):
    assert_same_of(tables, gather)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_gather_from_a_map_of_any_mode_can_be_changed(tables, mode):
    rows = assert_same_of(tables, lambda a: a[SOME], mode).value
    rows[...] = 1
    assert np.array_equal(tables[1](mode)[1], TABLE)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("where", ["first", "in the middle", "last", "alone"])
def test_an_index_out_of_range_is_told_as_numpy_tells_it(tables, dtype, where):
    index = np.arange(101, dtype=dtype)
    place = {"first": 0, "in the middle": 50, "last": 100, "alone": 0}[where]
    for bad in (ROWS, ROWS + 7, -ROWS - 1, np.iinfo(dtype).min, np.iinfo(dtype).max):
        if not np.iinfo(dtype).min <= bad <= np.iinfo(dtype).max:
            continue
        index[place] = bad
        numbers = index[:1] if where == "alone" else index
        for gather in (lambda a, i: a[i], lambda a, i: a[i, 0], lambda a, i: a.take(i, 0), lambda a, i: a.T[:, i]):
            got = assert_same_of(tables, lambda a, gather=gather, numbers=numbers: gather(a, numbers))
            if (
                np.dtype(dtype).kind != "u" or np.dtype(dtype).itemsize < 8
            ):  # NumPy takes its largest number for -1 here, and refuses it there
                assert isinstance(got.error, IndexError) == (not -ROWS <= bad < ROWS)


def test_of_several_indices_out_of_range_the_same_is_named(tables):
    for numbers in ([1, 999, -999], [-999, 999], [[3, 4], [888, 777]], np.array([[3, 888], [4, 777]]).T):
        assert_same_of(tables, lambda a, numbers=numbers: a[numbers])
        assert_same_of(tables, lambda a, numbers=numbers: a.take(numbers, 0))
        assert_same_of(tables, lambda a, numbers=numbers: operator.setitem(a, numbers, 1))


@pytest.mark.parametrize("dtype", [*FLAT_DTYPES, *STRUCTURED_DTYPES, "(2,3)<f4"], ids=str)
def test_rows_of_any_dtype_come_out_and_go_in(tmp_path, dtype):
    dtype = np.dtype(dtype)
    rows = 700
    nbytes = rows * 3 * dtype.itemsize
    twins = Twins(tmp_path, bytes_for(dtype, nbytes + 77, 3))
    theirs, ours = twins.open(dtype, "r+", 5, (rows, 3))
    plain = np.asarray(theirs)
    index = np.random.default_rng(4).integers(-rows, rows, 500)
    for gather in (lambda a: a[index], lambda a: a.take(index, 0), lambda a: a[:, 1][index], lambda a: a.take(index)):
        assert_same_outcome(outcome_of(gather, plain), outcome_of(gather, ours), plain, ours)
    values = np.asarray(theirs)[::-1][:500].copy()
    for array in (plain, ours):
        array[index] = values
    assert meaningful(ours) == meaningful(theirs)
    if is_solid(dtype):
        twins.assert_same_bytes()


def test_bytes_between_fields_are_treated_as_numpy_treats_them(tmp_path):
    for dtype in STRUCTURED_DTYPES:
        twins = Twins(tmp_path, bytes_for(dtype, 100 * dtype.itemsize, 3))
        theirs, ours = twins.open(dtype)
        values = np.frombuffer(bytearray(bytes_for(dtype, 10 * dtype.itemsize, 99)), dtype)
        for array in (np.asarray(theirs), ours):
            array[np.arange(0, 100, 10)] = values
        twins.assert_same_bytes()


@pytest.mark.parametrize(
    "nbytes", [1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 32, 64, 100, 1023, PAGE - 1, PAGE, PAGE + 1, 9999]
)
def test_rows_of_any_size_come_out_and_go_in(tmp_path, nbytes):
    rows = 3 * MIB // max(nbytes, 256)
    twins = Twins(tmp_path, bytes_for("u1", rows * nbytes + 11, 7))
    theirs, ours = twins.open("u1", "r+", 11, (rows, nbytes))
    plain = np.asarray(theirs)
    index = np.random.default_rng(4).integers(-rows, rows, 600)
    for gather in (lambda a: a[index], lambda a: a.take(index, 0), lambda a: a.view(f"V{nbytes}")[:, 0][index]):
        assert_same_outcome(outcome_of(gather, plain), outcome_of(gather, ours), plain, ours)
    for array in (plain, ours):
        array[index] = (np.arange(600 * nbytes) % 251).reshape(600, nbytes)
    twins.assert_same_bytes()


def test_the_index_is_not_changed(tables):
    _, ours = tables[1]()
    for dtype in ("i8", "i4", ">i8", "u4"):
        index = (SOME % ROWS if dtype == "u4" else SOME).astype(dtype)
        before = index.tobytes()
        ours[index], ours.take(index, 0), ours.take(index, 0, mode="wrap"), ours.take(index, 0, mode="clip")
        ours[index] = 3
        ours.put(index, 4)
        assert index.tobytes() == before
    mask = np.arange(ROWS) % 2 == 0
    ours[mask] = ours[mask][::-1]
    assert np.array_equal(mask, np.arange(ROWS) % 2 == 0)


def test_an_index_can_be_in_a_map_too(tables, tmp_path):
    SOME.tofile(tmp_path / "index.dat")
    (np.arange(ROWS) % 3 == 0).tofile(tmp_path / "mask.dat")
    for cls in (np.memmap, nf.memmap):
        for mode in ("r", "r+", "c"):
            index, mask = cls(tmp_path / "index.dat", "i8", mode), cls(tmp_path / "mask.dat", "?", mode)
            assert_same_of(tables, lambda a, index=index: a[index])
            assert_same_of(tables, lambda a, index=index: a.take(index, 0))
            assert_same_of(tables, lambda a, mask=mask: a[mask])
            assert_same_of(tables, lambda a, index=index: operator.setitem(a, index, index[:COLUMNS]))


def test_an_index_can_be_the_very_bytes_that_are_read(tmp_path):
    twins = Twins(tmp_path, np.random.default_rng(5).permutation(900).astype("i8").tobytes())
    theirs, ours = twins.open("i8")
    plain = np.asarray(theirs)
    for gather in (lambda a: a[a], lambda a: a.take(a), lambda a: a[a[::-3]], lambda a: a.reshape(30, 30)[a[:9] % 30]):
        assert_same_outcome(outcome_of(gather, plain), outcome_of(gather, ours), plain, ours)
    for array in (plain, ours):
        array[array[:100][array[:100] >= 100]] = -1  # nothing of the index is stored to
    twins.assert_same_bytes()


def test_an_index_that_its_own_stores_change_stays_inside_the_array(tmp_path):
    # The numbers that are stored are far outside of the array: whoever checks the index and then reads it again from
    # the array stores somewhere else. NumPy's outcome is that of an index that was read before.
    content = np.arange(900)[::-1].copy()
    Twins(tmp_path, content.tobytes())
    ours = nf.memmap(tmp_path / "ours.dat", "i8")
    index = ours[:400:2] % 400
    ours[index] = 2**50
    content[content[:400:2] % 400] = 2**50
    assert np.array_equal(ours, content)


def test_a_class_of_the_users_own_keeps_its_class(tables):
    _, opened = tables
    theirs, ours = opened(classes=(np.memmap, Labelled))
    plain = np.asarray(theirs)
    ours.label = "mine"
    for gather in (lambda a: a[SOME], lambda a: a[[]], lambda a: a[np.arange(ROWS) < 5], lambda a: a[SOME, 1:3]):
        result = gather(ours)
        assert type(result) is Labelled
        assert_same_result(gather(plain), result, plain, ours)
    for taken in (ours.take(SOME, 0), np.take(ours, [0, 1], 1), ours.compress([1, 0, 1], 0)):
        assert type(taken) is Labelled


def test_a_copy_in_memory_has_no_file(tables):
    _, ours = tables[1]()
    for rows in (ours[SOME], ours.take(SOME, 0), ours[np.arange(ROWS) < 9], ours.compress([1, 1], 0)):
        assert type(rows) is np.ndarray
        assert rows.flags.owndata
        assert rows.base is None
    ours.close()


def test_rows_outlive_the_file(tables):
    twins, opened = tables
    _, ours = opened()
    rows = [ours[SOME], ours.take(SOME, 0), ours[np.isin(np.arange(ROWS), SOME)]]
    ours[...] = 0
    ours.close()
    os.truncate(twins.paths[1], 0)
    os.unlink(twins.paths[1])
    assert np.array_equal(rows[0], TABLE[SOME])
    assert np.array_equal(rows[1], TABLE[SOME])
    assert np.array_equal(rows[2], TABLE[np.unique(SOME % ROWS)])


def test_nothing_is_kept(tables):
    _, ours = tables[1]("c")
    index, mask, values, out = (
        SOME.copy(),
        np.arange(ROWS) < 8,
        np.zeros((8, COLUMNS), "i8"),
        np.zeros((8, COLUMNS), "i8"),
    )
    bad, narrow = np.array([0, ROWS]), np.zeros((8, 2))
    held = [ours, ours.base, ours.dtype, index, mask, values, out, bad, narrow]

    def every_way():
        ours[index], ours[mask], ours.take(index, 0), ours.compress(mask, 0), ours.take(index, 0, mode="clip")
        ours.take(index, 0, out), ours.take(index, axis=0, out=out, mode="wrap"), ours[0:0].take([], 0)
        ours[index] = values
        ours[mask] = values
        ours[index] = 1
        ours[...] = 2
        ours.fill(3)
        for wrong in (
            lambda: ours[bad],
            lambda: ours.take(bad, 0),
            lambda: ours.take(bad, 0, out),
            lambda: operator.setitem(ours, bad, 1),
            lambda: operator.setitem(ours, index, narrow),
            lambda: operator.setitem(ours, ..., narrow),
            lambda: ours.take(index, 0, narrow),
            lambda: ours[mask[1:]],
            lambda: ours.take(index, 7),
        ):
            with contextlib.suppress(IndexError, ValueError, TypeError):
                wrong()

    every_way()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in held]
    for _ in range(50):
        every_way()
    gc.collect()
    # Some of these are shared with everybody, so their counts move by themselves. A way that keeps one keeps 50.
    assert max(sys.getrefcount(thing) - count for thing, count in zip(held, before, strict=True)) < 25


# ---- Into an array of the caller's ----


def take_into(out):
    def take(array):
        destination = out()
        result = outcome_of(array.take, SOME, 0, destination)
        assert result.error is not None or result.value is destination
        return destination, repr(result.error), result.warnings

    return take


def frozen(array):
    array.setflags(write=False)
    return array


RESULT_SHAPE = (len(SOME), COLUMNS)


def full_of_ones(shape=RESULT_SHAPE, dtype="i8", order="C"):
    return np.ones(shape, dtype, order)


DESTINATIONS = {
    "right": full_of_ones,
    "F order": lambda: full_of_ones(order="F"),
    "stepped": lambda: full_of_ones((2 * len(SOME), 2 * COLUMNS))[::2, ::2],
    "reversed": lambda: full_of_ones()[::-1, ::-1],
    "unaligned": lambda: np.frombuffer(bytearray(1 + SOME.size * COLUMNS * 8), "i8", offset=1).reshape(-1, COLUMNS),
    "swapped": lambda: full_of_ones(dtype=">i8"),
    "wider": lambda: full_of_ones(dtype="f8"),
    "complex": lambda: full_of_ones(dtype="c16"),
    "narrower": lambda: full_of_ones(dtype="i4"),
    "unsigned": lambda: full_of_ones(dtype="u8"),
    "of objects": lambda: full_of_ones(dtype=object),
    "of text": lambda: full_of_ones(dtype="U30"),
    "too many rows": lambda: full_of_ones((len(SOME) + 1, COLUMNS)),
    "too few columns": lambda: full_of_ones((len(SOME), COLUMNS - 1)),
    "as many items, other shape": lambda: full_of_ones((COLUMNS, len(SOME))),
    "one axis more": lambda: full_of_ones((1, len(SOME), COLUMNS)),
    "flat": lambda: full_of_ones(len(SOME) * COLUMNS),
    "broadcast": lambda: np.broadcast_to(np.zeros(COLUMNS, "i8"), (len(SOME), COLUMNS)),
    "one row for all": lambda: as_strided(np.zeros(COLUMNS, "i8"), (len(SOME), COLUMNS), (0, 8)),
    "read-only": lambda: frozen(full_of_ones()),
    "subclass": lambda: full_of_ones().view(Marked),
    "masked": lambda: np.ma.masked_array(full_of_ones(), mask=full_of_ones() > 0),
}


@pytest.mark.parametrize("out", DESTINATIONS.values(), ids=DESTINATIONS)
@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_take_fills_the_callers_array_as_numpy_does(tables, out, mode):
    def take(array):
        destination = out()
        result = outcome_of(lambda: array.take(SOME, axis=0, out=destination, mode=mode))
        assert result.error is not None or result.value is destination
        return destination, repr(result.error), result.warnings

    assert_same_of(tables, take)


def test_take_that_is_refused_leaves_the_callers_array(tables):
    def take(array):
        destination = full_of_ones()
        index = SOME.copy()
        index[-1] = ROWS
        with pytest.raises(IndexError):
            array.take(index, 0, destination)
        return destination

    assert np.array_equal(assert_same_of(tables, take).value, full_of_ones())


OVERLAPPING = {
    "the rows themselves": lambda a: a[: len(SOME)],
    "rows further on": lambda a: a[200 : 200 + len(SOME)],
    "every other row": lambda a: a[: 2 * len(SOME) : 2],
    "rows backwards": lambda a: a[len(SOME) - 1 :: -1],
    "across rows": lambda a: a.reshape(-1)[3 : 3 + len(SOME) * COLUMNS].reshape(len(SOME), COLUMNS),
}


@pytest.mark.parametrize("out", OVERLAPPING.values(), ids=OVERLAPPING)
@pytest.mark.parametrize("mode", ["raise", "wrap", "clip"])
def test_take_into_the_array_that_it_takes_from(tables, out, mode):
    index = SOME % 7
    assert_same_of(tables, lambda a: a.take(index, 0, out(a), mode) is not None)


def test_take_into_another_map(tables, tmp_path):
    _, ours = tables[1]()
    with nf.memmap(tmp_path / "out.dat", "i8", "w+", shape=(len(SOME), COLUMNS)) as out:
        assert ours.take(SOME, 0, out) is out
        assert np.take(ours, SOME, 0, out=out) is out
        assert read(tmp_path / "out.dat") == TABLE[SOME].tobytes()


# ---- In ----


def put_at(index, values):
    return lambda a: operator.setitem(a, index, values)


BLOCK = np.random.default_rng(6).integers(-999, 999, (len(SOME), COLUMNS), "<i8")

SCATTERS = {
    "a number": put_at(SOME, 3),
    "a float": put_at(SOME, 3.9),
    "NaN": put_at(SOME, np.nan),
    "an array with NaN": put_at(SOME, np.full(COLUMNS, np.nan)),
    "floats too large": put_at(SOME, np.full((len(SOME), COLUMNS), 1e30)),
    "complex": put_at(SOME, BLOCK.astype("c16")),
    "a complex number": put_at(SOME, 1j),
    "a number too large": put_at(SOME, 2**64),
    "uint64 too large": put_at(SOME, np.full(COLUMNS, 2**64 - 1, "u8")),
    "None": put_at(SOME, None),
    "text": put_at(SOME, "12"),
    "no text of a number": put_at(SOME, "x"),
    "an array of text": put_at(SOME, BLOCK.astype("U9")),
    "a list of text": put_at(SOME, ["1", "2", "3", "4", "5", "6"]),
    "dates": put_at(SOME, np.array(3, "M8[D]")),
    "a block": put_at(SOME, BLOCK),
    "a block as lists": put_at(SOME, BLOCK.tolist()),
    "a block of F order": put_at(SOME, np.asfortranarray(BLOCK)),
    "a block, swapped": put_at(SOME, BLOCK.astype(">i8")),
    "a block, narrower": put_at(SOME, BLOCK.astype("i2")),
    "a block, stepped": put_at(SOME, np.repeat(BLOCK, 2, 1)[:, ::2]),
    "a block of objects": put_at(SOME, BLOCK.astype(object)),
    "a row": put_at(SOME, BLOCK[0]),
    "a column": put_at(SOME, BLOCK[:, :1]),
    "leading ones": put_at(SOME, BLOCK[None, None]),
    "one item": put_at(SOME, BLOCK[:1, :1]),
    "no items": put_at(SOME, []),
    "too few rows": put_at(SOME, BLOCK[:-1]),
    "too few columns": put_at(SOME, BLOCK[:, :-1]),
    "a leading two": put_at(SOME, np.stack([BLOCK, BLOCK])),
    "the transposed": put_at(SOME, BLOCK.T),
    "as many in one axis": put_at(SOME, BLOCK.ravel()),
    "nowhere, a number": put_at([], 3),
    "nowhere, a row": put_at([], BLOCK[0]),
    "nowhere, a wrong row": put_at([], [1, 2]),
    "nowhere, a block": put_at(np.zeros(0, "i8"), BLOCK),
    "one row": put_at([3], BLOCK[0]),
    "one row, by a 0-d array": put_at(np.array(3), BLOCK[0]),
    "the same row with other values": put_at([3] * len(SOME), BLOCK),
    "rows twice": put_at([3, 4, 3, -ROWS + 3, 4, 5, 3, 3], BLOCK),
    "rows twice, a 2-d index of F order": put_at(np.array([[3, 4], [4, 3]]).T, BLOCK[:4].reshape(2, 2, COLUMNS)),
    "out of range last": put_at([0, 1, ROWS], 7),
    "out of range first": put_at([-ROWS - 1, 1, 2], 7),
    "out of range last, in columns": put_at((SOME, [0] * 7 + [COLUMNS]), 7),
    "wrong rows and out of range": put_at([0, ROWS], BLOCK),
    "out of range behind many": put_at(np.append(np.arange(ROWS), ROWS), 7),
    "columns of rows": put_at((SOME, slice(1, 3)), BLOCK[:, :2]),
    "backwards columns of rows": put_at((SOME, slice(None, None, -1)), BLOCK),
    "an item of rows": put_at((SOME, 2), BLOCK[:, 0]),
    "items": put_at((SOME, [0, 1, 2, 3, 4, 5, 0, 1]), BLOCK[:, 0]),
    "columns": put_at((slice(None), [4, 0]), np.arange(2 * ROWS).reshape(ROWS, 2)),
    "np.ix_": put_at(np.ix_([1, 5], [0, 2]), [[1, 2], [3, 4]]),
    "a mask": put_at(np.arange(ROWS) % 50 == 0, BLOCK),
    "a mask, a number": put_at(np.arange(ROWS) % 50 == 0, -7),
    "a mask, a row": put_at(np.arange(ROWS) % 50 == 0, BLOCK[0]),
    "a mask, too few rows": put_at(np.arange(ROWS) % 50 == 0, BLOCK[:-1]),
    "a mask of nothing": put_at(np.zeros(ROWS, bool), BLOCK),
    "a mask of nothing, no rows": put_at(np.zeros(ROWS, bool), BLOCK[:0]),
    "a mask of everything": put_at(np.ones(ROWS, bool), 5),
    "a short mask": put_at(np.ones(ROWS - 1, bool), 5),
    "a mask of items, a number": put_at(TABLE > 0, 5),
    "a mask of items, as many": put_at(TABLE > 0, np.arange(np.count_nonzero(TABLE > 0))),
    "a mask of items, one too many": put_at(TABLE > 0, np.arange(np.count_nonzero(TABLE > 0) + 1)),
    "a mask of items, too few": put_at(TABLE > 0, np.arange(7)),
    "a mask of items, one": put_at(TABLE > 0, [7]),
    "a mask of items, two axes": put_at(TABLE > 0, [[7, 8]]),
    "floats as an index": put_at([1.0], 5),
    "text as an index": put_at("x", 5),
    "true": put_at(True, 5),
    "false": put_at(np.False_, 5),
    "itself": lambda a: operator.setitem(a, SOME, a[SOME]),
    "itself, moved": lambda a: operator.setitem(a, np.arange(1, 9), a[np.arange(8)]),
    "a view that overlaps, up": lambda a: operator.setitem(a, np.arange(1, ROWS), a[:-1]),
    "a view that overlaps, down": lambda a: operator.setitem(a, np.arange(ROWS - 1), a[1:]),
    "its rows backwards": lambda a: operator.setitem(a, np.arange(ROWS), a[::-1]),
    "its rows onto a mask": lambda a: operator.setitem(a, np.arange(ROWS) % 2 == 1, a[: ROWS // 2]),
    "its transposed": lambda a: operator.setitem(a, np.arange(COLUMNS), a[:COLUMNS].T),
    "one of its rows to all": lambda a: operator.setitem(a, np.arange(ROWS)[::-1], a[7]),
    "one of its columns": lambda a: operator.setitem(a, SOME, a[:8, :1]),
    "a plain view of itself": lambda a: operator.setitem(a, np.arange(1, ROWS), np.asarray(a)[:-1]),
    "its bytes": lambda a: operator.setitem(a, np.arange(ROWS), a.view("u1")[:, ::8]),
    "rows of the reversed": lambda a: operator.setitem(a[::-1], SOME, BLOCK),
    "rows of the transposed": lambda a: operator.setitem(a.T, [5, 0], np.arange(ROWS)),
    "rows of a part": lambda a: operator.setitem(a[100:200, 1:3], [0, -1, 99, 3], 7),
    "rows of a part, out of range": lambda a: operator.setitem(a[100:200], [0, 100], 7),
    "overlapping windows, a number": lambda a: operator.setitem(
        as_strided(a, (300, 12), (8, 16), subok=True), SOME % 300, 7
    ),
    "add to rows": lambda a: operator.setitem(a, SOME, a[SOME] + 1),
    "add.at": lambda a: np.add.at(a, SOME, 1),
    "put": lambda a: a.put(SOME, BLOCK),
    "put, repeated": lambda a: np.put(a, SOME, [1, 2, 3]),
    "put nothing": lambda a: np.put(a, SOME, []),
    "put out of range": lambda a: np.put(a, [0, ROWS * COLUMNS], 5),
    "put clipped": lambda a: a.put([2**62, -5], [7, 8], mode="clip"),
    "put wrapped": lambda a: a.put([ROWS * COLUMNS, -1], [7, 8], "wrap"),
    "put floats": lambda a: a.put([1.5], 7),
    "put in a stepped view": lambda a: np.put(a[::3, ::-1], SOME, BLOCK),
    "place": lambda a: np.place(a, TABLE > 0, [1, 2, 3]),
    "place nothing": lambda a: np.place(a, TABLE > 0, []),
    "place at nothing": lambda a: np.place(a, TABLE > 2**50, [1]),
    "putmask": lambda a: np.putmask(a, TABLE > 0, np.arange(7)),
    "putmask, all": lambda a: np.putmask(a, TABLE > 0, TABLE * 2),
    "putmask, wrong mask": lambda a: np.putmask(a, [True], 1),
    "putmask from itself": lambda a: np.putmask(a, TABLE > 0, a[::-1]),
    "put_along_axis": lambda a: np.put_along_axis(a, np.zeros((1, COLUMNS), "i8"), 9, 0),
    "copyto with a mask": lambda a: np.copyto(a, BLOCK[0], where=TABLE > 0),
    "fill_diagonal": lambda a: np.fill_diagonal(a, 7),
}


@pytest.mark.parametrize("scatter", SCATTERS.values(), ids=SCATTERS)
def test_a_scatter_by_name_is_numpys(tables, scatter):
    assert_same_of(tables, scatter)


@pytest.mark.parametrize("scatter", SCATTERS.values(), ids=SCATTERS)
def test_a_scatter_into_a_private_map_leaves_the_file(tables, scatter):
    assert_same_of(tables, scatter, "c")
    assert tables[0].contents() == [tables[0].content] * 2


READ_ONLY = {
    name: SCATTERS[name]
    for name in [
        *(
            "a number",
            "a block",
            "a block as lists",
            "nowhere, a number",
            "out of range last",
            "a mask",
            "too few rows",
        ),
        *(
            "a mask of nothing",
            "put",
            "place",
            "putmask",
            "columns of rows",
            "itself",
            "text as an index",
            "true",
            "NaN",
        ),
    ]
}


@pytest.mark.parametrize("scatter", READ_ONLY.values(), ids=READ_ONLY)
def test_a_scatter_into_a_read_only_map_is_refused_as_numpy_refuses_it(tables, scatter):
    got = assert_same_of(tables, scatter, "r")
    assert isinstance(got.error, (ValueError, IndexError))
    _, ours = tables[1]("r+")
    view = ours[...]
    view.setflags(write=False)
    assert type(outcome_of(scatter, view).error) is type(got.error)
    assert read(tables[0].paths[1]) == tables[0].content


@pytest.mark.parametrize("how", ["warn", "raise", "ignore"])
def test_a_cast_that_loses_values_is_told_as_numpy_tells_it(tables, how):
    for values in (np.full((len(SOME), COLUMNS), np.nan), np.full((len(SOME), COLUMNS), 1e300, "f8")):

        def scatter(array, values=values):
            with np.errstate(all=how):
                array[SOME] = values

        assert_same_of(tables, scatter)


def test_scattered_rows_are_seen_at_once_by_every_view_and_map(tables):
    twins, opened = tables
    _, ours = opened()
    second, theirs = (
        nf.memmap(twins.paths[1], "i8", "r", 40, TABLE.shape),
        np.memmap(twins.paths[1], "i8", "r", 40, TABLE.shape),
    )
    view, plain = ours[::-1], np.asarray(ours).T
    wanted = TABLE.copy()
    wanted[SOME] = BLOCK
    ours[SOME] = BLOCK
    for other in (ours, second, theirs, view[::-1], plain.T):
        assert np.array_equal(other, wanted)


# ---- Many rows, and large ones ----

LARGE_NBYTES = 64 * MIB

GEOMETRIES = {
    "rows of 5,000 bytes": (5000, "u1", 3000),
    "rows of 1 KiB": (128, "<f8", 9000),
    "rows of a page": (PAGE, "u1", 4000),
    "rows of 1 MiB": (MIB // 4, "<u4", 24),
    "rows of 1 MiB and 1 byte": (MIB + 1, "u1", 24),
    "items of 8 bytes": (0, "<i8", 200_000),
    "items of 1 byte": (0, "u1", 300_000),
    "items of 16 bytes": (0, "<c16", 100_000),
    "items of 3 bytes": (0, "V3", 100_000),
}


def orders_of(rows, count):
    rng = np.random.default_rng(8)
    drawn = rng.integers(0, rows, count)
    return {
        "random": drawn,
        "sorted": np.sort(drawn),
        "falling": np.sort(drawn)[::-1] - rows,
        "one after the other": np.arange(count) % rows,
        "one for all": np.full(min(count, 5000), rows - 1),
        "the two ends in turn": np.where(np.arange(min(count, 4000)) % 2, 0, -1),
        "int32": drawn.astype("i4"),
    }


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """A file of 64 MiB that is not changed, and its bytes."""
    content = np.frombuffer(bytes_for("u1", LARGE_NBYTES, 0), "u1")
    path = str(tmp_path_factory.mktemp("large") / "x.dat")
    content.tofile(path)
    return path, content


def shaped(content, columns, dtype):
    """As many whole rows as there are."""
    items = content[: content.nbytes // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)
    return items[: len(items) // columns * columns].reshape(-1, columns) if columns else items


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_many_rows_of_a_large_file_are_right(large_file, geometry):
    path, content = large_file
    columns, dtype, count = geometry
    rows = shaped(content, columns, dtype)
    with nf.memmap(path, dtype, "r", shape=rows.shape) as array:
        for name, index in orders_of(len(rows), count).items():
            wanted = rows[index]
            for got in (array[index], array.take(index, 0)):
                assert got.tobytes() == wanted.tobytes(), name
            out = np.empty_like(wanted)
            assert array.take(index, 0, out, "clip" if index.min() >= 0 else "wrap") is out
            assert out.tobytes() == wanted.tobytes(), name


@pytest.mark.parametrize(
    ("geometry", "way"),
    [
        *[(geometry, "subscript") for geometry in GEOMETRIES],
        *[("rows of 5,000 bytes", way) for way in ("take", "mask", "columns", "out of range")],
        *[("items of 8 bytes", way) for way in ("take", "mask")],
    ],
)
def test_many_rows_of_a_cold_file_are_right(large_file, geometry, way):
    path, content = large_file
    columns, dtype, count = GEOMETRIES[geometry]
    rows = shaped(content, columns, dtype)
    index = np.random.default_rng(9).integers(-len(rows), len(rows), count)
    drop_from_memory(path)
    assert resident_pages(path) < LARGE_NBYTES // PAGE // 10
    with nf.memmap(path, dtype, "r", shape=rows.shape) as array:
        if way == "mask":
            mask = np.zeros(len(rows), bool)
            mask[index[: count // 2]] = True
            assert array[mask].tobytes() == rows[mask].tobytes()
        elif way == "columns":
            assert (
                array[index, columns // 3 : columns // 2].tobytes()
                == rows[index, columns // 3 : columns // 2].tobytes()
            )
        elif way == "out of range":
            index[-1] = len(rows)
            with pytest.raises(
                IndexError, match=f"index {len(rows)} is out of bounds for axis 0 with size {len(rows)}"
            ):
                array[index]
        else:
            got = array.take(index, 0) if way == "take" else array[index]
            assert got.tobytes() == rows[index].tobytes()


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "cold"])
def test_many_rows_are_scattered_over_a_large_file(tmp_path, large_file, geometry, is_cold):
    _, content = large_file
    columns, dtype, count = geometry
    wanted = content[: 9 * MIB + 321].copy()
    path = str(tmp_path / "x.dat")
    wanted.tofile(path)
    rows = shaped(wanted[77:], columns, dtype)
    index = np.random.default_rng(9).integers(-len(rows), len(rows), min(count, len(rows)))  # some of them twice
    values = shaped(content[51 * MIB :], columns, dtype)[: len(index)]
    rows[index] = values
    if is_cold:
        drop_from_memory(path)
    with nf.memmap(path, dtype, "r+", 77, rows.shape) as array:
        array[index] = values
        assert array[index].tobytes() == rows[index].tobytes()
    assert np.array_equal(np.fromfile(path, "u1"), wanted)


def test_rows_at_the_files_end_are_read_to_the_last_byte(tmp_path):
    for nbytes in (PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 7):
        content = bytes_for("u1", nbytes, 5)
        (tmp_path / "x.dat").write_bytes(content)
        for width in (1, 7, 61):
            rows = shaped(np.frombuffer(content, "u1")[nbytes % width :], width, "u1")
            with nf.memmap(tmp_path / "x.dat", "u1", "r", nbytes % width, rows.shape) as array:
                last = np.arange(-min(len(rows), 70), 0)
                assert array[last].tobytes() == rows[last].tobytes()
                assert array.take(last % len(rows), 0).tobytes() == rows[last].tobytes()


# ---- Who acts meanwhile ----


def test_threads_gather_at_once_each_its_own(large_file):
    path, content = large_file
    rows = shaped(content, 1000, "u1")
    wrong = []
    with nf.memmap(path, "u1", "r", shape=rows.shape) as array:

        def gather(seed):
            rng = np.random.default_rng(seed)
            out = np.empty((2000, 1000), "u1")
            for _ in range(8):
                index = rng.integers(-len(rows), len(rows), 2000)
                wanted = rows[index]
                if not np.array_equal(array[index], wanted) or not np.array_equal(
                    array.take(index, 0, out, "wrap"), wanted
                ):
                    wrong.append(seed)

        threads = [threading.Thread(target=gather, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_threads_scatter_at_once_into_rows_of_their_own(tmp_path):
    rows = np.zeros((8000, 300), "u1")
    with nf.memmap(tmp_path / "x.dat", "u1", "w+", shape=rows.shape) as array:

        def scatter(number):
            rng = np.random.default_rng(number)
            for _ in range(8):
                array[rng.permutation(np.arange(number, 8000, 4))] = number + 1

        threads = [threading.Thread(target=scatter, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(4):
            rows[number::4] = number + 1
        assert np.array_equal(array, rows)


def test_an_index_that_gathers_itself_while_it_is_asked(tables):
    def gather(array):
        nested = []
        index = [
            Number(3, lambda: nested.append(array[SOME])),
            Number(-1, lambda: nested.append(array.take([1, 2], 0))),
        ]
        return [array[index], *nested]

    assert_same_of(tables, gather)


@pytest.mark.parametrize(
    "act",
    [
        lambda a, index: a[index],
        lambda a, index: a.take(index, 0),
        lambda a, index: operator.setitem(a, index, 1),
        lambda a, index: operator.setitem(a, [0, 1], Acting([1] * COLUMNS, index.act)),
    ],
    ids=["a[i]", "take", "a[i] = 1", "a[i] = values"],
)
def test_an_array_that_is_closed_while_the_index_is_asked_is_told_as_closed(tables, act):
    _, ours = tables[1]()
    with pytest.raises(nf.ClosedError):
        act(ours, Acting([3, 1], ours.close))
    assert read(tables[0].paths[1]) == tables[0].content


CLOSED = {
    "a[i]": lambda a: a[SOME],
    "a[[]]": lambda a: a[[]],
    "take": lambda a: a.take(SOME, 0),
    "np.take": lambda a: np.take(a, SOME, 0),
    "compress": lambda a: a.compress([1, 1], 0),
    "mask": lambda a: a[np.ones(ROWS, bool)],
    "a[i] = 1": lambda a: operator.setitem(a, SOME, 1),
    "put": lambda a: np.put(a, SOME, 1),
    "out of range": lambda a: a[[ROWS]],
}


@pytest.mark.parametrize("act", CLOSED.values(), ids=CLOSED)
def test_a_closed_array_refuses(tables, act):
    _, ours = tables[1]()
    view = ours[1:]
    ours.close()
    for array in (ours, view):
        with pytest.raises(nf.ClosedError):
            act(array)
    assert read(tables[0].paths[1]) == tables[0].content


# ---- Cut files ----

CUT_ROWS, CUT_WIDTH = 600, 5000


@pytest.fixture
def cut_file(tmp_path):
    """A file of 600 rows of 5,000 bytes whose second half is cut off, mapped before. Rows 300 to 599 are not there."""
    content = np.frombuffer(bytes_for("u1", CUT_ROWS * CUT_WIDTH, 1), "u1").reshape(CUT_ROWS, CUT_WIDTH)
    path = str(tmp_path / "x.dat")
    content.tofile(path)
    size = CUT_ROWS // 2 * CUT_WIDTH

    def opened(mode):
        array = nf.memmap(path, "u1", mode, shape=content.shape)
        os.truncate(path, size)
        return array

    return path, size, content, opened


READS_BEHIND = {
    "a[i]": lambda a: a[[1, 500, 2]],
    "a[all]": lambda a: a[np.arange(CUT_ROWS)],
    "take": lambda a: a.take([1, 500, 2], 0),
    "take all": lambda a: a.take(np.arange(CUT_ROWS), 0, mode="clip"),
    "take into": lambda a: a.take([1, 500, 2], 0, np.empty((3, CUT_WIDTH), "u1"), "wrap"),
    "a[mask]": lambda a: a[np.arange(CUT_ROWS) == 500],
    "compress": lambda a: a.compress(np.arange(CUT_ROWS) == 500, 0),
    "items": lambda a: a[[500, 501], [0, 4]],
    "items of all": lambda a: a.reshape(-1)[[7, CUT_ROWS * CUT_WIDTH - 7]],
}
WRITES_BEHIND = {
    "a[i] = 1": lambda a: operator.setitem(a, [1, 500, 2], 1),
    "a[all] = rows": lambda a: operator.setitem(a, np.arange(CUT_ROWS), np.ones(a.shape, "u1")),
    "a[mask] = 1": lambda a: operator.setitem(a, np.arange(CUT_ROWS) > 450, 1),
    "items": lambda a: operator.setitem(a, ([500, 501], [0, 4]), 1),
}


@pytest.mark.parametrize(
    ("mode", "act"),
    [
        *[
            pytest.param(mode, act, id=f"{mode} {name}")
            for mode in ("r", "r+", "c")
            for name, act in READS_BEHIND.items()
        ],
        *[pytest.param(mode, act, id=f"{mode} {name}") for mode in ("r+", "c") for name, act in WRITES_BEHIND.items()],
    ],
)
def test_rows_that_were_cut_off_raise(cut_file, mode, act):
    path, size, _, opened = cut_file
    array = opened(mode)
    for _ in range(2):
        with pytest.raises(nf.FaultError) as caught:
            act(array)
        assert (caught.value.cause, caught.value.offset, str(caught.value.path)) == ("truncated", size, path)
    assert os.path.getsize(path) == size


def test_rows_before_the_cut_are_there(cut_file):
    path, _, content, opened = cut_file
    array = opened("r+")
    index = np.array([299, 0, -600, 17])
    assert array[index].tobytes() == content[index].tobytes()
    assert array.take(index, 0, mode="wrap").tobytes() == content[index].tobytes()
    array[index] = 3
    wanted = content.copy()
    wanted[index] = 3
    assert read(path) == wanted[:300].tobytes()


@pytest.mark.parametrize(
    "act",
    [
        lambda a, index: a[index],
        lambda a, index: a.take(index, 0),
        lambda a, index: operator.setitem(a, index, 1),
        lambda a, index: operator.setitem(a, [500, 1], Acting([1], index.act)),
    ],
    ids=["a[i]", "take", "a[i] = 1", "a[i] = values"],
)
def test_a_file_that_is_cut_while_the_index_is_asked_is_found_out(cut_file, act):
    path, size, content, _ = cut_file
    array = nf.memmap(path, "u1", "r+", shape=content.shape)
    with pytest.raises(nf.FaultError):
        act(array, Acting([500, 1], lambda: os.truncate(path, size)))
    assert os.path.getsize(path) == size


# ---- The comparison itself ----


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (np.zeros(3), np.zeros(3, "f4")),
        (np.zeros(3), np.zeros(3, ">f8")),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros((3, 2)), np.zeros((3, 2), order="F")),
        (np.zeros(3), np.array([0, 0, -0.0])),
        (np.zeros(3), np.zeros(3).view(np.memmap)),
        (np.zeros(3), frozen(np.zeros(3))),
        (np.zeros(3), np.zeros(6)[:3]),
        (np.float64(1), np.float32(1)),
        (np.float64(1), np.array(1.0)),
        ((1, 2), (1, 3)),
    ],
)
def test_a_result_that_differs_in_one_thing_is_found(tables, theirs, ours):
    _, array = tables[1]()
    with pytest.raises(AssertionError):
        assert_same_result(theirs, ours, TABLE, array)


@pytest.mark.parametrize(
    "act",
    [
        lambda a: operator.setitem(a, [1], 1 if type(a) is np.ndarray else 2),
        lambda a: a[[ROWS]] if type(a) is np.ndarray else a[[ROWS + 1]],
        lambda a: a[[1]] if type(a) is np.ndarray else a[1:2],
        lambda a: None if type(a) is np.ndarray else operator.setitem(a, [1], a[[1]].astype("c16")),
    ],
    ids=["a value", "a number in an error", "a view", "a warning"],
)
def test_an_act_that_differs_in_one_thing_is_found(tables, act):
    with pytest.raises(AssertionError):
        assert_same_of(tables, act)
