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

comparison = comparison_of(500)


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
    "a[i]": (0, lambda i, j: i),
    "a[(i,)]": (0, lambda i, j: (i,)),
    "a[i, ...]": (0, lambda i, j: (i, ...)),
    "a[i, 1:3]": (0, lambda i, j: (i, slice(1, 3))),
    "a[i, ::-1]": (0, lambda i, j: (i, slice(None, None, -1))),
    "a[i, ..., 0]": (0, lambda i, j: (i, ..., 0)),
    "a[i, None]": (0, lambda i, j: (i, None)),
    "a[None, i]": (0, lambda i, j: (None, i)),
    "a[i, 0]": (0, lambda i, j: (i, 0)),
    "a[..., i]": (-1, lambda i, j: (..., i)),
    "a[:, i]": (1, lambda i, j: (slice(None), i)),
    "a[1:3, i]": (1, lambda i, j: (slice(1, 3), i)),
    "a[0, i]": (1, lambda i, j: (0, i)),
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
    kind = draw(st.sampled_from(["right", "right", "F order", "stepped", "wrong shape", "swapped", "other", "read-only"]))
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
    length = plain.size if axis is None else plain.shape[axis] if -plain.ndim <= axis < plain.ndim else 3
    index = draw(indices_of(length))
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

OTHER_DTYPES = ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8", "c8", "S3", "U4", "V8", "M8[D]", "m8[s]", "O"]


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
        index, mode = draw(indices_of(plain.size)), draw(st.sampled_from(["raise", "wrap", "clip"]))
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
