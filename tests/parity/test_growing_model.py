"""Arrays that grow, shrink, are viewed, written, committed, rolled back, closed and opened anew, against a plain model.

The model is an ndarray that is built anew whenever rows come or go. A view is a list of steps from the rows that there
were when it was made, so that what it has to show can be told from any later model. After every step all that can be
seen must be what the model says: the array, its views, a second array that looks on, and the file as NumPy reads it.
"""

import contextlib
import dataclasses
import functools
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from faulty import record
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import ndfile as nf

RUNS = int(os.environ.get("NDFILE_EXAMPLES", "60"))

# As in the comparison with numpy.memmap: a run by default repeats the last one, a longer one looks for something new.
# What a run of all steps draws is more than the usual test's share.
growing = settings(
    max_examples=RUNS,
    stateful_step_count=50,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],  # to explain takes longer than to look
    derandomize="NDFILE_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

DTYPES = ["u1", "<f4", ">i8", [("a", "u1"), ("b", "<f4"), ("c", "S3")], "S5"]

# Other dtypes whose values each of them takes.
NARROWER = {"|u1": "?", "<f4": "<i2", ">i8": "<u4", "|S5": "S3"}
WIDER = {"|u1": "<u2", "<f4": ">f8", ">i8": "<i8", "|S5": "S9"}

ROW_SHAPES = [(), (3,), (2, 2), (1, 3, 1)]
EMPTY_ROW_SHAPES = [(0,), (2, 0)]

# More than the space that is reserved at once, so that a few such steps reach all of a growing file's states.
LARGE_NBYTES = 70_000
MOST_NBYTES = 300_000

MOST_VIEWS = 6


# ---- Files ----


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file: how it is written without us, made by us, opened, and read without us.

    The functions take the kind, the path, and an array like the one that the file holds.
    """

    write: Callable[..., None]
    make: Callable[..., None]
    open: Callable[..., nf.memmap]
    read: Callable[..., np.ndarray]
    offset_of: Callable[..., int]
    suffix: str
    order: str = "C"
    offset: int = 0
    counts_bytes: bool = True
    describes_itself: bool = True

    def size(self, path: str, like: np.ndarray) -> int:
        return self.offset_of(self, path) + like.nbytes


def write_npy(kind: Kind, path: str, values: np.ndarray) -> None:
    descr = np.lib.format.dtype_to_descr(values.dtype)
    head = {"descr": descr, "fortran_order": kind.order == "F", "shape": values.shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        file.write(values.tobytes(kind.order))


def create(kind: Kind, path: str, values: np.ndarray) -> None:
    with nf.create(path, values.shape, values.dtype, kind.order) as array:
        array[...] = values


def open_what_it_is(kind: Kind, path: str, mode: str, like: np.ndarray) -> nf.memmap:
    return nf.open(path, mode)


def load(kind: Kind, path: str, like: np.ndarray) -> np.ndarray:
    return np.load(path)


def offset_of_npy(kind: Kind, path: str) -> int:
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def write_raw(kind: Kind, path: str, values: np.ndarray) -> None:
    with open(path, "wb") as file:
        file.write(b"\xa5" * kind.offset + values.tobytes(kind.order))


def make_raw(kind: Kind, path: str, values: np.ndarray) -> None:
    with nf.memmap(path, values.dtype, "w+", kind.offset, values.shape, kind.order) as array:
        array[...] = values


def map_raw(kind: Kind, path: str, mode: str, like: np.ndarray) -> nf.memmap:
    return nf.memmap(path, like.dtype, mode, kind.offset, like.shape, kind.order)


def read_raw(kind: Kind, path: str, like: np.ndarray) -> np.ndarray:
    with open(path, "rb") as file:
        data = file.read()[kind.offset :]
    shape = shape_of(like, len(data) // row_nbytes(like, kind.order), kind.order)
    return np.frombuffer(data, like.dtype, math.prod(shape)).reshape(shape, order=kind.order)


def offset_of_raw(kind: Kind, path: str) -> int:
    return kind.offset


npy = functools.partial(Kind, write_npy, create, open_what_it_is, load, offset_of_npy, ".npy", counts_bytes=False)
described = functools.partial(Kind, create, create, open_what_it_is, read_raw, offset_of_raw, ".bin")
raw = functools.partial(Kind, write_raw, make_raw, map_raw, read_raw, offset_of_raw, ".dat", describes_itself=False)

KINDS = {
    **{f"{make.args[-1]} {order}": make(order) for make in (npy, described) for order in "CF"},
    **{f".dat {order} from {offset}": raw(order, offset) for order, offset in [("C", 0), ("F", 100), ("C", 5000)]},
}


# ---- The model ----


def axis_of(order: str) -> int:
    return 0 if order == "C" else -1


def shape_of(like: np.ndarray, rows: int, order: str) -> tuple[int, ...]:
    return (rows, *like.shape[1:]) if order == "C" else (*like.shape[:-1], rows)


def row_nbytes(like: np.ndarray, order: str) -> int:
    return like.itemsize * math.prod(shape_of(like, 1, order))


def first(array: np.ndarray, rows: int, order: str) -> np.ndarray:
    return array[:rows] if order == "C" else array[..., :rows]


def values_of(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Items of any bytes, with more zeros and ones than chance gives."""
    rng = np.random.default_rng(seed)
    nbytes = math.prod(shape) * dtype.itemsize
    return rng.integers(0, (2, 256)[seed % 2], nbytes, np.uint8).view(dtype).reshape(shape)


def same_bytes(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@dataclasses.dataclass(eq=False)
class View:
    """A view with how it was made: the rows that there were, and a function for each step."""

    array: np.ndarray
    rows: int
    steps: tuple[Any, ...] = ()

    def of(self, model: np.ndarray, order: str) -> np.ndarray:
        return self.walk(first(model, self.rows, order))

    def walk(self, array: np.ndarray) -> np.ndarray:
        return functools.reduce(lambda found, step: step(found), self.steps, array)

    def row_numbers(self, shape: tuple[int, ...], dtype: np.dtype, order: str) -> np.ndarray:
        """Which row each of its items lies in."""
        numbers = np.arange(self.rows) if order == "F" else np.arange(self.rows).reshape(-1, *[1] * (len(shape) - 1))
        whole = np.empty(shape, np.dtype([(name, "i8") for name in dtype.names or ("",)]))
        for name in whole.dtype.names:
            whole[name] = numbers
        found = self.walk(whole if dtype.names else whole[whole.dtype.names[0]])
        return found[found.dtype.names[0]] if found.dtype.names else found


@contextlib.contextmanager
def raising(kind: type[BaseException], text: str = "") -> Iterator[None]:
    """As pytest.raises, which keeps the error, and with it the array, for a while."""
    try:
        yield
    except kind as error:
        said = str(error)
    else:
        raise AssertionError(f"no {kind.__name__} was raised")
    assert text in said


class UndoneError(Exception):
    """What a block ends with that is to be rolled back."""


class Growing(RuleBasedStateMachine):
    """An array, its views, a second array on its file, and what they should be.

    `model` is what the array has to show. `before` is what everybody else has to see where that is something else:
    within a block, and in mode 'c'.
    """

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.array = self.store = self.before = self.block = self.follower = self.mode = None
        self.views, self.lost = [], []
        self.is_locked = False

    # What the controls replace.

    def do_append(self, rows, **arguments):
        return self.array.append(rows, **arguments)

    def do_resize(self, shape):
        return self.array.resize(shape)

    def do_write(self, target, index, values):
        target[index] = values

    def do_refresh(self):
        return self.follower.refresh()

    def do_end(self, error):
        return self.block.__exit__(type(error) if error else None, error, None)

    def do_close(self):
        self.array.close()

    # Helpers.

    @property
    def model(self):
        return None if self.store is None else first(self.store, self.rows, self.kind.order)

    @model.setter
    def model(self, values):
        # With room for the rows that there were: a view of those that are left may be told from the end of the others.
        self.rows = values.shape[axis_of(self.kind.order)]
        room = self.rows if self.store is None else max(self.store.shape[axis_of(self.kind.order)], self.rows)
        self.store = np.zeros(shape_of(values, room, self.kind.order), values.dtype)
        self.model[...] = values

    @property
    def published(self):
        return self.model if self.before is None else self.before

    @property
    def least_rows(self):
        """An empty file of bytes cannot be told from one of the byte that an empty mapping leaves."""
        return 1 if self.kind.counts_bytes and row_nbytes(self.model, self.kind.order) == 1 else 0

    @property
    def is_writer(self):
        return self.array is not None and self.mode == "r+"

    def shape_with(self, rows):
        return shape_of(self.model, rows, self.kind.order)

    def draw_rows(self, data, most=5):
        many = 0
        if row_nbytes(self.model, self.kind.order) and self.model.nbytes < MOST_NBYTES:
            many = LARGE_NBYTES // row_nbytes(self.model, self.kind.order)
        return data.draw(st.one_of(st.integers(0, most), st.sampled_from([1, 2, many])), "rows")

    def draw_view(self, data, label, *, whole=False):
        # By its number: what is drawn is kept, and the array would live on with it.
        number = data.draw(st.integers(0, len(self.views) - (not whole)), label)
        return self.views[number] if number < len(self.views) else View(self.array, self.rows)

    def added(self, rows):
        self.model = np.concatenate([self.model, rows], axis_of(self.kind.order)).astype(self.model.dtype)
        self.is_locked = self.is_locked or bool(rows.shape[axis_of(self.kind.order)])

    def shrunk(self):
        """Look at the views that have rows which are gone, and let go of them."""
        whole = []
        for view in self.views:
            numbers = view.row_numbers(self.shape_with(view.rows), self.model.dtype, self.kind.order)
            gone = np.argwhere(numbers >= self.rows)
            if not len(gone):
                whole.append(view)
                continue
            if isinstance(view.array, nf.memmap) and numbers.ndim:
                with raising(nf.FaultError):
                    view.array[tuple(gone[0].tolist())]
            self.lost.append(view.array)  # let go of with the array, as it would be in a program
        self.views = whole

    def forget(self):
        self.views, self.lost, self.array, self.mode, self.block, self.is_locked = [], [], None, None, None, False
        if self.before is not None:
            self.model, self.before = self.before, None

    def can_be_opened_to_read(self):
        """An empty file without a description cannot be mapped, as NumPy has it."""
        return self.model is not None and (self.kind.describes_itself or self.kind.size(self.path, self.published))

    def open(self, mode):
        self.array = self.kind.open(self.kind, self.path, mode, self.model)
        self.mode, self.is_locked = mode, False
        self.address = self.array.__array_interface__["data"][0]
        if mode == "c":
            self.before = self.model.copy()

    # Rules.

    @initialize(
        kind=st.sampled_from(list(KINDS)),
        dtype=st.sampled_from(DTYPES),
        rows=st.integers(0, 12),
        row_shape=st.sampled_from(ROW_SHAPES),
        empty_row_shape=st.sampled_from([None] * 9 + EMPTY_ROW_SHAPES),
        seed=st.integers(0, 99),
        is_ours=st.booleans(),
    )
    def make(self, kind, dtype, rows, seed, row_shape, empty_row_shape, is_ours):
        kind = KINDS[kind]
        if empty_row_shape is not None and not kind.counts_bytes:
            row_shape = empty_row_shape
        self.kind = kind
        self.path = os.path.join(self.folder, f"x{kind.suffix}")
        shape = (rows, *row_shape) if kind.order == "C" else (*row_shape, rows)
        self.model = values_of(np.dtype(dtype), shape, seed)
        if rows < self.least_rows:
            self.model = values_of(np.dtype(dtype), self.shape_with(1), seed)
        (kind.make if is_ours else kind.write)(kind, self.path, self.model)
        self.open("r+")

    @precondition(lambda self: self.is_writer)
    @rule(data=st.data(), seed=st.integers(0, 99), sync=st.sampled_from([False, False, False, True]))
    def append(self, data, seed, sync):
        rows = values_of(self.model.dtype, self.shape_with(self.draw_rows(data)), seed)
        given = rows
        name = rows.dtype.str
        form = data.draw(st.sampled_from(["same", "C", "F", "reversed", "list", "narrower", "wider"]), "form")
        if form in ("C", "F"):
            given = np.array(rows, order=form)
        elif form == "reversed":
            given = rows[::-1].copy()[::-1]
        elif form == "list" and name in ("|u1", ">i8", "|S5") and rows.size:
            given = rows.tolist()
        elif form == "narrower" and name in NARROWER:
            given = np.zeros(rows.shape, NARROWER[name])
            given[...] = 1
            rows = given.astype(rows.dtype)
        elif form == "wider" and name in WIDER:
            rows = np.zeros(rows.shape, rows.dtype)
            rows[...] = 1
            given = rows.astype(WIDER[name])
        assert self.do_append(given, sync=sync) is None
        self.added(rows)

    @precondition(lambda self: self.is_writer)
    @rule(seed=st.integers(0, 99))
    def append_one_row(self, seed):
        rows = values_of(self.model.dtype, self.shape_with(1), seed)
        self.do_append(np.squeeze(rows, axis_of(self.kind.order)))
        self.added(rows)

    @precondition(lambda self: self.is_writer and self.model.nbytes < MOST_NBYTES)
    @rule(is_reversed=st.booleans())
    def append_itself(self, is_reversed):
        index = slice(None, None, -1) if is_reversed else slice(None)
        index = (index,) if self.kind.order == "C" else (..., index)
        self.do_append(self.array[index])
        self.added(self.model[index].copy())

    @precondition(lambda self: self.is_writer)
    @rule(seed=st.integers(0, 99), count=st.integers(0, 9), is_generator=st.booleans())
    def extend(self, seed, count, is_generator):
        rows = values_of(self.model.dtype, self.shape_with(count), seed)
        separate = list(np.moveaxis(rows, axis_of(self.kind.order), 0))
        assert self.array.extend(iter(separate) if is_generator else separate) is None
        self.added(rows)

    @precondition(lambda self: self.is_writer)
    @rule(data=st.data(), is_shape=st.booleans())
    def resize(self, data, is_shape):
        rows = data.draw(st.one_of(st.integers(0, self.rows), st.just(self.rows + self.draw_rows(data))), "new rows")
        rows = max(rows, self.least_rows)
        assert self.do_resize(self.shape_with(rows) if is_shape else rows) is None
        old, self.model = self.model, np.zeros(self.shape_with(rows), self.model.dtype)
        kept = min(rows, first(old, rows, self.kind.order).shape[axis_of(self.kind.order)])
        first(self.model, kept, self.kind.order)[...] = first(old, kept, self.kind.order)
        self.is_locked = self.is_locked or self.model.shape != old.shape
        self.shrunk()

    @precondition(lambda self: self.array is not None and len(self.views) < MOST_VIEWS)
    @rule(data=st.data(), count=st.integers(1, 3))
    def view(self, data, count):
        for _ in range(count):
            self.take_view(data)

    def take_view(self, data):
        view = self.draw_view(data, "of", whole=True)
        shown = view.of(self.store, self.kind.order)
        kinds = ["index", "index", "transpose", "reverse", "plain", "fields"]
        kind = data.draw(st.sampled_from(kinds), "kind of view")
        if kind == "index" and shown.ndim < 8:
            index = data.draw(hnp.basic_indices(shown.shape, allow_newaxis=True, allow_ellipsis=True), "index")
            step = lambda array: array[index]  # noqa: E731  # one of several, none of which has a name
        elif kind == "reverse" and shown.ndim:
            step = lambda array: array[::-1]  # noqa: E731
        elif kind == "fields" and shown.dtype.names:
            name = data.draw(st.sampled_from(shown.dtype.names), "field")
            step = lambda array: array[name]  # noqa: E731
        elif kind == "plain":
            made = View(np.asarray(view.array), view.rows, view.steps)
            self.views.append(made)
            return
        else:
            step = lambda array: array.T  # noqa: E731
        if isinstance(step(shown), np.ndarray):
            self.views.append(View(step(view.array), view.rows, (*view.steps, step)))

    @precondition(lambda self: self.array is not None)
    @rule(data=st.data(), seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3))
    def write(self, data, seeds):
        for seed in seeds:
            self.write_into_one(data, seed)

    def write_into_one(self, data, seed):
        view = self.draw_view(data, "into", whole=True)
        target = view.of(self.store, self.kind.order)
        if target.ndim > 8:
            return
        index = data.draw(hnp.basic_indices(target.shape, allow_ellipsis=True), "index")
        values = values_of(target.dtype, target[index].shape, seed)
        if self.mode == "r":
            with raising(ValueError, "read-only"):
                view.array[index] = values
            return
        target[index] = values
        self.do_write(view.array, index, values)

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def drop_a_view(self, data):
        self.views.remove(self.draw_view(data, "view"))

    # Blocks.

    @precondition(lambda self: self.is_writer and self.block is None)
    @rule()
    def begin(self):
        self.block = self.array.atomic()
        assert self.block.__enter__() is self.array
        self.before = self.model.copy()
        self.is_locked = True

    @precondition(lambda self: self.block is not None)
    @rule(is_good=st.booleans())
    def end(self, is_good):
        assert not self.do_end(None if is_good else UndoneError())
        if not is_good:
            self.model = self.before
        self.block = self.before = None
        self.shrunk()

    @precondition(lambda self: self.is_writer and self.block is None)
    @rule(data=st.data(), seeds=st.lists(st.integers(0, 99), min_size=1, max_size=2), is_good=st.booleans())
    def change_in_a_block(self, data, seeds, is_good):
        """All of a block in one step: by the single ones it takes many until there is one that has changed anything."""
        self.begin()
        self.append_one_row(seeds[0])
        self.take_view(data)
        self.write(data, seeds)
        self.everything_is_as_the_model()
        self.end(is_good)

    # What is refused, and changes nothing.

    @precondition(lambda self: self.array is not None)
    @rule()
    def do_what_is_refused(self):
        if self.mode in ("r", "c"):
            self.change_what_does_not_grow()
            return
        self.append_what_does_not_fit()
        if self.block is not None:
            with raising(nf.LockedError), self.array.atomic():
                pass
        if self.is_locked:
            self.write_from_elsewhere()
        for view in self.views:
            if isinstance(view.array, nf.memmap):
                with raising(ValueError):
                    view.array.resize(view.array.size + 1)
                with raising(nf.LayoutError):
                    view.array.append(view.array)

    def append_what_does_not_fit(self):
        wrong = np.zeros((*self.shape_with(1), 1), self.model.dtype)
        with raising(nf.LayoutError):
            self.array.append(wrong)
        with raising(TypeError):
            self.array.append(np.zeros(self.shape_with(1), object))
        if self.model.dtype == "u1" and self.model.ndim == 1:
            with raising(OverflowError):
                self.array.append([1, 256])

    def change_what_does_not_grow(self):
        for act in (lambda: self.array.append(self.model), lambda: self.array.resize(self.rows + 1)):
            with raising(ValueError):
                act()
        with raising(nf.LayoutError), self.array.atomic():
            pass

    def write_from_elsewhere(self):
        with self.kind.open(self.kind, self.path, "r+", self.published) as other:
            with raising(nf.LockedError):
                other.append(values_of(self.model.dtype, self.shape_with(1), 0))
            with raising(nf.LockedError):
                other.resize(self.rows + 1)

    # Lifecycle.

    @precondition(lambda self: self.array is not None)
    @rule(is_durable=st.booleans())
    def flush(self, is_durable):
        self.array.sync() if is_durable else self.array.flush()

    @precondition(lambda self: self.array is not None)
    @rule(is_let_go_of=st.booleans())
    def close(self, is_let_go_of):
        if self.block is not None:
            self.array.close()
            with raising(nf.ClosedError):
                self.block.__exit__(None, None, None)
        elif not is_let_go_of:
            self.do_close()
            self.do_close()
            for view in self.views:
                if isinstance(view.array, nf.memmap) and view.array.size:
                    with raising(nf.ClosedError):
                        view.array[(0,) * view.array.ndim]
        self.forget()

    @precondition(lambda self: self.array is None and self.model is not None)
    @rule(mode=st.sampled_from(["r+", "r+", "r+", "r", "c"]))
    def reopen(self, mode):
        self.open(mode if self.can_be_opened_to_read() else "r+")

    # Somebody who looks on.

    @precondition(lambda self: self.follower is None and self.can_be_opened_to_read())
    @rule()
    def follow(self):
        self.follower = self.kind.open(self.kind, self.path, "r", self.published)
        self.follower_rows = self.published.shape[axis_of(self.kind.order)]
        self.follower_view = View(self.follower.T, self.follower_rows, (lambda array: array.T,))

    @precondition(lambda self: self.follower is not None)
    @rule()
    def refresh(self):
        rows = self.published.shape[axis_of(self.kind.order)]
        assert self.do_refresh() == rows - self.follower_rows
        self.follower_rows = rows
        if rows < self.follower_view.rows:
            self.follower_view = View(self.follower.T, rows, (lambda array: array.T,))
        assert same_bytes(np.array(self.follower), self.published)
        if self.mode == "c":
            with raising(nf.LayoutError):
                self.array.refresh()
        elif self.mode is not None:
            assert self.array.refresh() == 0

    @precondition(lambda self: self.follower is not None)
    @rule()
    def stop_following(self):
        self.follower.close()
        self.follower = self.follower_view = None

    # What always holds.

    @invariant()
    def everything_is_as_the_model(self):
        if self.model is not None:
            self.check_array()
            self.check_views()
            self.check_file()
            self.check_file_size()
            self.check_follower()

    def check_array(self):
        if self.array is None:
            return
        assert self.array.shape == self.model.shape
        assert same_bytes(np.array(self.array), self.model)
        assert self.array.__array_interface__["data"][0] == self.address
        like = np.empty(self.model.shape, self.model.dtype, self.kind.order).flags
        flags = self.array.flags
        assert (flags.c_contiguous, flags.f_contiguous) == (like.c_contiguous, like.f_contiguous)

    def check_views(self):
        for view in self.views:
            assert same_bytes(np.array(view.array), np.array(view.of(self.store, self.kind.order)))

    def check_file(self):
        assert same_bytes(self.kind.read(self.kind, self.path, self.model), self.published)
        if self.kind.describes_itself:
            assert nf.info(self.path).shape == self.published.shape

    def check_follower(self):
        if self.follower is None:
            return
        order = self.kind.order
        if self.follower_rows <= self.published.shape[axis_of(order)]:
            assert same_bytes(np.array(self.follower), first(self.published, self.follower_rows, order))
            assert same_bytes(np.array(self.follower_view.array), self.follower_view.of(self.published, order))

    def check_file_size(self):
        size, wanted = os.path.getsize(self.path), self.kind.size(self.path, self.published)
        if self.array is None:
            assert size == wanted or (wanted == 0 and size == 1)  # what NumPy leaves of a file that it maps empty
            assert set(os.listdir(self.folder)) <= {os.path.basename(self.path + end) for end in ("", ".json")}
        elif self.kind.counts_bytes:
            assert size == wanted or wanted == 0
        else:
            assert wanted <= size <= 2 * (wanted + self.model.nbytes) + (1 << 20)

    def teardown(self):
        for array in (self.array, self.follower):
            if array is not None:
                with contextlib.suppress(nf.NdfileError):  # what is wrong was said before
                    array.close()
        self.forget()
        self.follower = self.follower_view = None
        shutil.rmtree(self.folder)


def test_an_array_is_as_its_model_whatever_is_done_to_it():
    started = time.monotonic()
    run_state_machine_as_test(Growing, settings=growing)
    record("growing_model", started, runs=growing.max_examples, steps_of_each_at_most=growing.stateful_step_count)


# ---- What has to be found ----


class LosesARow(Growing):
    def do_append(self, rows, **arguments):
        if getattr(rows, "ndim", 0) == self.model.ndim and self.kind.order == "C":
            rows = rows[1:]
        super().do_append(rows, **arguments)


class DoesNotPublish(Growing):
    def do_append(self, rows, **arguments):
        with open(self.path, "r+b") as file:
            head = file.read(128)
            super().do_append(rows, **arguments)
            file.seek(0)
            file.write(head)


class GrowsWithOnes(Growing):
    def do_resize(self, shape):
        old = self.rows
        super().do_resize(shape)
        if self.kind.order == "C" and self.array.shape[0] > old:
            self.array[old:] = values_of(self.array.dtype, self.array[old:].shape, 1)


class WritesIntoACopy(Growing):
    def do_write(self, target, index, values):
        if target is self.array:
            super().do_write(target, index, values)


class IsOneRowBehind(Growing):
    def do_refresh(self):
        return max(super().do_refresh() - 1, 0)


class CommitsWhatIsRolledBack(Growing):
    def do_end(self, _error):
        return super().do_end(None)


class RollsBackWhatIsCommitted(Growing):
    def do_end(self, _error):
        return super().do_end(UndoneError())


class ShowsABlockAtOnce(Growing):
    def do_write(self, target, index, values):
        super().do_write(target, index, values)
        if self.block is not None and self.before.shape == self.model.shape:
            with open(self.path, "r+b") as file:
                file.seek(self.kind.size(self.path, self.published) - self.published.nbytes)
                file.write(self.model.tobytes(self.kind.order))


class LeavesSpaceBehind(Growing):
    def do_close(self):
        super().do_close()
        with open(self.path, "ab") as file:
            file.write(b"\0")


FAULTS = [
    *(LosesARow, DoesNotPublish, GrowsWithOnes, WritesIntoACopy, IsOneRowBehind, CommitsWhatIsRolledBack),
    *(RollsBackWhatIsCommitted, ShowsABlockAtOnce, LeavesSpaceBehind),
]


@pytest.mark.parametrize("machine", FAULTS, ids=lambda machine: machine.__name__)
def test_each_fault_is_found(machine):
    seeking = settings(growing, max_examples=200, phases=[Phase.generate], derandomize=True, print_blob=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=seeking)
