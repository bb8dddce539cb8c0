"""The same calls on the same bytes to numpy.memmap and to ours, and the same operations on both results."""

import copy
import functools
import itertools
import math
import mmap
import operator
import os
import pathlib
import pickle
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, event, example, given, note, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndfile as nf

EXAMPLES = int(os.environ.get("NDFILE_EXAMPLES", "700"))
PAGE = mmap.PAGESIZE

# A run by default repeats the last one; a longer one looks for something new.
comparison = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="NDFILE_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


# What is drawn

FLAT_DTYPES = [
    *("?", "i1", "u1", "<i2", ">i2", "<u4", ">u4", "<i8", ">i8", "u8"),
    *("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g", "<c8", ">c8", "<c16", ">c16", "G"),
    *("<M8[s]", ">M8[D]", "<m8[ns]", "M8", "S1", "S5", "<U1", ">U3", "V1", "V7"),
]
STRUCTURED_DTYPES = [
    np.dtype("u1,<f4,>i2"),
    np.dtype([("a", "?"), ("b", ">f8"), ("c", "S3")]),
    np.dtype([("a", [("x", "<i2"), ("y", ">u4")]), ("b", "f4", (2,))]),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype({"names": ["a", "b"], "formats": ["u1", "<f4"], "offsets": [3, 8], "itemsize": 16}),
    np.dtype({"names": ["whole", "low"], "formats": ["<u4", "u1"], "offsets": [0, 0]}),
]
SUBARRAY_DTYPES = [np.dtype("(2,3)<f4"), np.dtype((">i2", (1,))), np.dtype((np.dtype("u1,f4"), (2,)))]
ABSENT_DTYPES = ["S", "U", "V", "O", [("a", "u1"), ("b", "O")], "nonsense", np.dtypes.StringDType()]

sizes = st.integers(0, 7)
dtypes = st.one_of(
    st.sampled_from(FLAT_DTYPES), st.sampled_from(STRUCTURED_DTYPES), hnp.array_dtypes(max_size=3), st.just(None)
)
shapes = st.one_of(
    st.none(),
    st.integers(0, 60),
    st.lists(sizes, max_size=4).map(tuple),
    st.lists(sizes, max_size=3),
    st.lists(sizes, min_size=1, max_size=3).map(np.array),
    st.builds(np.int32, st.integers(0, 60)),
)
offsets = st.one_of(
    st.just(0),
    st.integers(0, 100),
    st.builds(operator.add, st.sampled_from([PAGE, 2 * PAGE]), st.integers(-8, 8)),
)
file_sizes = st.one_of(
    st.just(0),
    st.integers(0, 200),
    st.builds(operator.add, st.sampled_from([PAGE, 2 * PAGE]), st.integers(-8, 8)),
)
GOOD_MODES = ["r", "r+", "w+", "c", "readonly", "readwrite", "write", "copyonwrite"]
modes = st.sampled_from(GOOD_MODES)
orders = st.sampled_from("CFcf")
contents = st.tuples(file_sizes, st.integers(0, 2**32 - 1))


class Fspath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


FORMS = {
    "str": lambda path: path,
    "bytes": os.fsencode,
    "Path": pathlib.Path,
    "PathLike": Fspath,
    "int": lambda _path: 99999,
    "read": functools.partial(open, mode="rb"),
    "update": functools.partial(open, mode="r+b"),
    "raw": functools.partial(open, mode="r+b", buffering=0),
    "append": functools.partial(open, mode="a+b"),
}


def bytes_of(size, seed):
    """Bytes among which zeros and ones, small numbers and NaNs are not rare."""
    rng = np.random.default_rng(seed)
    most = (2, 6, 256, 256)[seed % 4]
    return rng.integers(0, most, size, np.uint8).tobytes()


def holds_bool(dtype):
    dtype = dtype.base
    return any(holds_bool(dtype[name]) for name in dtype.names) if dtype.names else dtype.kind == "b"


def is_solid(dtype):
    """Tell whether the items are without padding, whose bytes nobody sets."""
    dtype = dtype.base
    if dtype.names:
        parts = [dtype[name] for name in dtype.names]
        return sum(part.itemsize for part in parts) == dtype.itemsize and all(map(is_solid, parts))
    return dtype.char not in "gG"


def on_bytes(function):
    """The function, for arrays whose every byte means something."""
    return lambda array: function(array) if is_solid(array.dtype) else None


# What may differ in the calls. Each entry: why, and whether it explains a pair of outcomes (arrays or exceptions).


def shape_of(call):
    try:
        sizes = call["shape"] if isinstance(call["shape"], (tuple, list)) else np.atleast_1d(call["shape"])
        return tuple(operator.index(size) for size in sizes)
    except TypeError:
        return ()


def dtype_of(call):
    try:
        return np.dtype(call["dtype"])
    except TypeError:
        return None


def refused(outcome, *kinds):
    return isinstance(outcome, kinds or Exception)


def faults_of(call):
    """How many of the arguments are wrong by themselves."""
    dtype, sizes = dtype_of(call), shape_of(call)
    return sum(
        (
            dtype is None or dtype.hasobject or dtype.itemsize == 0,
            call["mode"] not in GOOD_MODES,
            call["mode"] in ("w+", "write") and call["shape"] is None,
            call["shape"] is not None and (min(sizes, default=0) < 0 or math.prod(sizes) >= 2**60),
            call["shape"] in (1.5, ("3",)) if isinstance(call["shape"], (float, tuple)) else False,
            not 0 <= call["offset"] <= call["file size"],
            call["order"] not in ("C", "F", "c", "f"),
            call["form"] in ("int", "PathLike", "read", "append"),
        )
    )


DIFFERENCES = {
    "the first of several faults": (
        "ours checks every argument before it opens anything, numpy.memmap opens before it looks at dtype and shape",
        lambda call, theirs, ours: refused(theirs) and refused(ours) and faults_of(call) > 1,
    ),
    "a dtype without bytes": (
        "numpy.memmap makes an array of items of 1 byte, or divides by zero",
        lambda call, _, ours: (
            refused(ours, nf.LayoutError) and dtype_of(call) is not None and dtype_of(call).itemsize == 0
        ),
    ),
    "a dtype that holds pointers": (
        "numpy.memmap takes the file's bytes for addresses of objects, and crashes when one is used",
        lambda call, _, ours: refused(ours, nf.LayoutError) and dtype_of(call) is not None and dtype_of(call).hasobject,
    ),
    "a negative size or offset": (
        "numpy.memmap raises the OverflowError of mmap, or takes -1 for nothing; LayoutError is a ValueError",
        lambda call, _, ours: (
            refused(ours, nf.LayoutError)
            and (call["offset"] < 0 or (call["shape"] is not None and min(shape_of(call), default=0) < 0))
        ),
    ),
    "an offset past the end without a shape": (
        "numpy.memmap computes a negative number of items, and fails in mmap or in ndarray if at all",
        lambda call, _, ours: (
            refused(ours, nf.SizeError) and call["shape"] is None and call["offset"] > call["file size"]
        ),
    ),
    "a file object that does not write": (
        "numpy.memmap looks at it last, and raises io.UnsupportedOperation where the file must grow",
        lambda call, theirs, ours: refused(theirs) and refused(ours, PermissionError) and call["form"] == "read",
    ),
    "a file object that appends": (
        "numpy.memmap extends the file by a byte at its end, wherever that is, and then finds the file too short",
        lambda call, theirs, _: refused(theirs) and call["form"] == "append",
    ),
    "a size that no array has": (
        "numpy.memmap raises OverflowError, or OSError if a product wrapped around; LayoutError is a ValueError",
        lambda call, theirs, ours: (
            refused(theirs, (OverflowError, OSError))
            and refused(ours, nf.LayoutError)
            and math.prod(shape_of(call)) >= 2**58
        ),
    ),
    "an order that is no text": (
        "numpy.memmap raises TypeError where ours is a LayoutError, as for any other order",
        lambda call, theirs, ours: (
            refused(theirs) and refused(ours, nf.LayoutError) and not isinstance(call["order"], str)
        ),
    ),
    "a path of another class": (
        "numpy.memmap calls the path's method resolve(), which os.PathLike does not ask for",
        lambda call, theirs, _: refused(theirs, AttributeError) and call["form"] == "PathLike",
    ),
}


def explained(call, theirs, ours):
    reasons = [name for name, (_, explains) in DIFFERENCES.items() if explains(call, theirs, ours)]
    for name in reasons:
        event(f"different: {name}")
    return bool(reasons)


# What may differ in the results. Each entry: why, and a value of an array of (3, 4) float32 that shows it.
RESULTS = {
    "the class of a copy": (
        "numpy.memmap gives the class to copies and pickles, though no file is behind them; ours are plain",
        lambda a: isinstance(a.copy(), np.memmap),
    ),
    "the class of a view without items": (
        "numpy.memmap takes it for one without a file, as it shares no byte; ours views the file still",
        lambda a: isinstance(a[3:], np.memmap),
    ),
    "the stride of an axis with one item": (
        "numpy multiplies it by the slice's step, which is never taken (and may overflow); ours leaves it",
        lambda a: a[0:1:2].strides,
    ),
    "the filename of a file named in bytes": (
        "numpy.memmap has none; ours is the text of the name",
        lambda a: type(type(a)(os.fsencode(a.filename), mode="r").filename),
    ),
    "the base": (
        "numpy.memmap's is an mmap.mmap, ours a Mapping with the same methods",
        lambda a: type(a.base),
    ),
}


# Comparing


def attempt(function, *arguments):
    """The function's result or its exception, without its warnings."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except Exception as error:
            return error.with_traceback(None)


def same_values(x, y):
    if x.dtype.names:
        return all(same_values(x[name], y[name]) for name in x.dtype.names)
    if x.dtype.kind in "fc":
        with np.errstate(all="ignore"):
            return bool(((x == y) | ((x != x) & (y != y))).all())  # NaN
    return x.tobytes() == y.tobytes()


def assert_same(theirs, ours, without_file=False):
    """Check values, dtype, shape, strides, flags and class of one result against the other."""
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        assert type(ours) is type(theirs), (theirs, ours)
        return
    if isinstance(theirs, (tuple, list)):
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        for x, y in zip(theirs, ours, strict=True):
            assert_same(x, y)
        return
    if not isinstance(theirs, np.ndarray):
        assert type(ours) is type(theirs)
        if isinstance(theirs, np.generic):
            assert same_values(np.asarray(theirs), np.asarray(ours))
        else:
            assert repr(ours) == repr(theirs)
        return
    assert isinstance(ours, np.ndarray)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.dtype.byteorder == theirs.dtype.byteorder
    if theirs.size:
        for size, *strides in zip(theirs.shape, theirs.strides, ours.strides, strict=True):
            assert size == 1 or strides[0] == strides[1]
    for flag in ("c_contiguous", "f_contiguous", "writeable", "aligned"):
        assert getattr(ours.flags, flag) == getattr(theirs.flags, flag), flag
    assert same_values(np.asarray(theirs), np.asarray(ours))
    views_file = isinstance(theirs, np.memmap) and theirs._mmap is not None
    if theirs.size:
        # numpy.memmap takes a view without items for one without a file.
        assert type(ours) is (nf.memmap if views_file else np.ndarray)
    if type(ours) is nf.memmap:
        assert ours._mmap is not None
    if views_file and theirs.size:
        assert (ours.offset, ours.mode) == (theirs.offset, theirs.mode)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def ends_numpy(call):
    """Tell where NumPy divides by an item's width of no bytes in C: SIGFPE, and the process is gone."""
    is_without_width = isinstance(call["dtype"], str) and call["dtype"] in ("S", "U", "V")
    return is_without_width and "-" in repr(call["shape"])  # a negative size, among whatever else is in a wrong shape


class Pair:
    """Two copies of one file."""

    def __init__(self, folder, content):
        self.content = content
        self.paths = [os.path.join(folder, name) for name in ("theirs", "ours")]
        for path in self.paths:
            with open(path, "wb") as file:
                file.write(content)

    def open(self, call):
        outcomes = []
        for path, cls in zip(self.paths, (np.memmap, nf.memmap), strict=True):
            source = FORMS[call["form"]](path)
            arguments = [call[name] for name in ("dtype", "mode", "offset", "shape", "order")]
            if cls is np.memmap and ends_numpy(call):
                outcomes.append(ZeroDivisionError())
            else:
                outcomes.append(attempt(cls, source, *arguments))
            if hasattr(source, "close"):
                source.close()
        return outcomes

    def contents(self):
        return [read(path) for path in self.paths]


def assert_same_call(call, content):
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(folder, content)
        theirs, ours = pair.open(call)
        if isinstance(ours, Exception):
            event("refused")
            assert pair.contents()[1] == content
            if not explained(call, theirs, ours):
                assert isinstance(ours, type(theirs)), (theirs, ours)
            return
        if explained(call, theirs, ours):
            return
        assert not isinstance(theirs, Exception), theirs
        event(f"opened {ours.mode}")
        assert_same(theirs, ours)
        assert (ours.offset, ours.mode) == (theirs.offset, theirs.mode)
        name = str(ours.filename)
        assert name == pair.paths[1]
        assert theirs.filename is None if call["form"] == "bytes" else str(theirs.filename) == pair.paths[0]
        assert isinstance(ours.filename, pathlib.Path) == isinstance(theirs.filename, pathlib.Path)
        assert_same(attempt(repr, theirs), attempt(repr, ours))
        left, right = pair.contents()
        assert left == right


def call_of(dtype="u1", mode="r+", offset=0, shape=None, order="C", form="str", size=100):
    """One call, for the examples that are always tried."""
    names = {"dtype": dtype, "mode": mode, "offset": offset, "shape": shape, "order": order, "form": form}
    return {**names, "file size": size}


calls = st.fixed_dictionaries(
    {
        "dtype": st.one_of(dtypes, st.sampled_from([*SUBARRAY_DTYPES, *ABSENT_DTYPES])),
        "mode": st.one_of(modes, st.sampled_from(["", "w", "rb", None, []])),
        "offset": st.one_of(offsets, st.sampled_from([-1, -PAGE, 2**62, np.int64(7)])),
        "shape": st.one_of(
            shapes,
            st.sampled_from(
                [-1, (3, -2), (-1, -1), (0, -1), 1.5, ("3",), (2**31, 2**31), (2**40, 2**40), (2**63, 2), (0, 2**40)]
            ),
        ),
        "order": st.one_of(orders, st.sampled_from(["A", "K", None, "Z", 5])),
        "form": st.sampled_from([*FORMS, "str", "str", "str", "Path"]),
    }
)
# Most calls should succeed: nothing above that is refused always.
good_calls = st.fixed_dictionaries(
    {
        "dtype": st.one_of(dtypes, st.sampled_from(SUBARRAY_DTYPES)),
        "mode": modes,
        "offset": offsets,
        "shape": shapes,
        "order": orders,
        "form": st.sampled_from([form for form in FORMS if form not in ("int", "PathLike")]),
    }
)


@comparison
@given(call=st.one_of(good_calls, good_calls, calls), content=contents)
@example(call=call_of(dtype="f4", mode="r", offset=PAGE, shape=0), content=(PAGE, 3))
@example(call=call_of(dtype="f4", mode="c", offset=2 * PAGE, shape=(0, 3)), content=(2 * PAGE, 3))
@example(call=call_of(dtype="f4", mode="r+", shape=()), content=(0, 3))
@example(call=call_of(dtype="f4", mode="r", offset=101, shape=0), content=(100, 3))
@example(call=call_of(shape=(1,) * 64), content=(100, 3))
@example(call=call_of(shape=(1,) * 65), content=(100, 3))
@example(call=call_of(dtype="O", shape=2, mode="w+"), content=(100, 3))
def test_a_call_gives_what_numpys_gives(call, content):
    note(repr(call))
    assert_same_call({**call, "file size": content[0]}, bytes_of(*content))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_is_one(name):
    """An entry of the table that explains nothing any more has to go."""
    call, size = {
        "the first of several faults": (call_of("nonsense", mode="w+"), 100),
        "a dtype without bytes": (call_of(dtype="S", shape=3), 100),
        "a dtype that holds pointers": (call_of(dtype="O", shape=3), 100),
        "a negative size or offset": (call_of(offset=-1, shape=3), 100),
        "an offset past the end without a shape": (call_of(offset=PAGE + 1), 100),
        "a file object that does not write": (call_of(shape=101, form="read"), 100),
        "a file object that appends": (call_of(shape=200, form="append"), 100),
        "a size that no array has": (call_of(shape=(2**63, 2)), 100),
        "an order that is no text": (call_of(order=5), 100),
        "a path of another class": (call_of(form="PathLike"), 100),
    }[name]
    _, explains = DIFFERENCES[name]
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Pair(folder, bytes(size)).open(call)
    assert explains(call, theirs, ours)
    assert not isinstance(theirs, Exception) or not isinstance(ours, type(theirs))


@pytest.mark.parametrize(("reason", "shown"), RESULTS.values(), ids=RESULTS)
def test_each_difference_in_a_result_is_one(tmp_path, reason, shown):
    theirs, ours = Pair(tmp_path, bytes(48)).open(call_of("f4", shape=(3, 4)))
    assert shown(theirs) != shown(ours), reason


# Operations

UNARY = [operator.neg, operator.pos, operator.abs, operator.invert]
BINARY = [
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, divmod),
    *(operator.pow, operator.lshift, operator.rshift, operator.and_, operator.or_, operator.xor, operator.matmul),
    *(operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge),
]
IN_PLACE = [
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod),
    *(operator.ipow, operator.ilshift, operator.irshift, operator.iand, operator.ior, operator.ixor),
]
UFUNCS = [np.sqrt, np.negative, np.isnan, np.sign, np.square, np.logical_not, np.conjugate, np.floor, np.signbit]
UFUNCS_OF_TWO = [np.add, np.maximum, np.multiply, np.equal, np.hypot, np.logical_and, np.left_shift]
REDUCTIONS = ["sum", "prod", "min", "max", "mean", "std", "var", "any", "all", "argmax", "argmin"]
UNPARAMETRISED = {
    "T": lambda a: a.T,
    "ravel": lambda a: a.ravel(),
    "ravel F": lambda a: a.ravel("F"),
    "ravel K": lambda a: a.ravel("K"),
    "flatten": lambda a: a.flatten("F"),
    "copy": lambda a: a.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "argsort": lambda a: a.argsort(kind="stable"),
    "argsort flat": lambda a: a.argsort(None, kind="stable"),
    "np.sort": lambda a: np.sort(a, None),
    "sort": lambda a: a.sort(),
    "squeeze": lambda a: a.squeeze(),
    "diagonal": lambda a: a.diagonal(),
    "trace": lambda a: a.trace(),
    "nonzero": lambda a: a.nonzero(),
    "cumsum": lambda a: a.cumsum(),
    "cumprod": lambda a: a.cumprod(0),
    "real": lambda a: a.real,
    "conj": lambda a: a.conj(),
    "clip": lambda a: a.clip(1, 3),
    "byteswap": on_bytes(lambda a: a.byteswap()),
    "byteswap in place": on_bytes(lambda a: a.byteswap(inplace=True) is a),
    "tolist": lambda a: repr(a.tolist()),
    "tobytes": on_bytes(lambda a: a.tobytes("F")),
    "item": lambda a: a.item(),
    "len": len,
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "iter": lambda a: list(itertools.islice(a, 3)),
    "contains": lambda a: 1 in a,
    "hash": hash,
    "repr": lambda a: "".join(repr(a).replace("memmap", "array").split()),
    "str": str,
    "memoryview": on_bytes(lambda a: memoryview(a).tobytes()),
    "asarray": np.asarray,
    "asanyarray": np.asanyarray,
    "array": np.array,
    "fill": lambda a: a.fill(1),
    "view": lambda a: a.view(),
    "view u1": on_bytes(lambda a: a.view("u1")),
    "view i4": on_bytes(lambda a: a.view("<i4")),
    "view ndarray": lambda a: a.view(np.ndarray),
    "field": lambda a: a[a.dtype.names[-1]],
    "fields": lambda a: a[list(a.dtype.names)],
    "swapaxes": lambda a: a.swapaxes(0, -1),
    "astype f8": lambda a: a.astype("f8", casting="safe"),
    "astype same": lambda a: a.astype(a.dtype, copy=False) is a,
    "astype copy": lambda a: a.astype(a.dtype),
    "astype order": lambda a: a.astype(a.dtype, "F"),
    "astype swapped": on_bytes(lambda a: a.astype(a.dtype.newbyteorder())),
    "repeat": lambda a: a.repeat(2),
    "compress": lambda a: a.compress([True, False, True], 0),
    "dot": lambda a: a.dot(a),
    "matmul": lambda a: a @ a.T,
    "concatenate": lambda a: np.concatenate([a, a]),
    "where": lambda a: np.where(a == a, a, a),  # same dtype
    "flip": np.flip,
    "roll": lambda a: np.roll(a, 1),
    "unique": np.unique,
    "searchsorted": lambda a: np.sort(a, None).searchsorted(a),
    "modf": np.modf,
    "frexp": np.frexp,
    "outer": lambda a: np.add.outer(a.ravel()[:3], a.ravel()[:3]),
    "accumulate": np.add.accumulate,
    "reduceat": lambda a: np.add.reduceat(a, [0]),
    "at": lambda a: np.add.at(a, 0, 1) if a.flags.writeable else None,  # NumPy writes without asking, and dies
    "diff": np.diff,
    "expand_dims": lambda a: np.expand_dims(a, 0),
    "broadcast_to": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "split": lambda a: np.array_split(a, 2),
    "copyto": lambda a: np.copyto(a, a[::-1].copy()),
    "setfield": lambda a: a.setfield(1, "u1"),
    "getfield": on_bytes(lambda a: a.getfield("u1")),
    "partition": lambda a: np.partition(a, 0),
    "swap rows": lambda a: operator.setitem(a, slice(None), a[::-1].copy()),
    "shift": lambda a: operator.setitem(a, slice(1, None), a[:-1]),
}

indices_of_shape = {
    "basic": lambda shape: hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True),
    "integer": lambda _: st.integers(-9, 9),
    "slice": lambda _: st.slices(9),
    "huge slice": lambda _: st.builds(
        slice, *[st.one_of(st.none(), st.integers(-5, 5), st.sampled_from([2**62, -(2**62), 2**70]))] * 3
    ),
    "integers": lambda shape: hnp.integer_array_indices(shape),
    "boolean": lambda shape: hnp.arrays(bool, shape),
    "list": lambda _: st.lists(st.integers(-3, 3), max_size=3),
    "mixed": lambda _: st.tuples(st.slices(4), st.lists(st.integers(-2, 2), min_size=1, max_size=2)),
    "bad": lambda _: st.sampled_from(["x", 1.5, (1,) * 70, {}, b"a", np.float64(1), np.array([1.0]), True, None]),
}


def index_for(draw, array):
    kind = draw(st.sampled_from(sorted(indices_of_shape)))
    if (kind == "integers" and (array.size == 0 or array.ndim == 0)) or (kind == "boolean" and array.ndim > 32):
        kind = "basic"
    return draw(indices_of_shape[kind](array.shape[:32]))


def operand_for(draw):
    """Something to combine an array with, as a function of the array."""
    made = [lambda a: a, lambda a: a[::-1], lambda a: a[0], lambda a: np.array(a, subok=False)]
    constants = [2, 2.5, 1j, np.float32(3), [1], None]
    return draw(st.sampled_from([*made, *(lambda _, constant=constant: constant for constant in constants)]))


def values_for(draw, array):
    seed = draw(st.integers(0, 5))
    return lambda a: (0, 1, -1, b"1", [1, 2], np.array(a, subok=False).ravel()[:1])[seed]


OPERATIONS = [
    *("index", "index", "assign", "binary", "reflected", "unary", "in place", "reduce", "ufunc", "ufunc2"),
    *("reshape", "take", "transpose", "call", "call"),
]


def operation_for(draw, array):
    """A function to apply to both arrays, drawn for one of their shape."""
    kind = draw(st.sampled_from(OPERATIONS))
    if kind == "index":
        index = index_for(draw, array)
        return f"a[{index!r}]", lambda a: a[index]
    if kind == "assign":
        index, value = index_for(draw, array), values_for(draw, array)
        return f"a[{index!r}] = ...", lambda a: operator.setitem(a, index, value(a))
    if kind == "unary":
        function = draw(st.sampled_from(UNARY))
        return function.__name__, function
    if kind in ("binary", "reflected", "in place"):
        function = draw(st.sampled_from(IN_PLACE if kind == "in place" else BINARY))
        other = operand_for(draw)
        if kind == "reflected":
            return f"reflected {function.__name__}", lambda a: function(other(a), a)
        return function.__name__, lambda a: function(a, other(a))
    if kind == "reduce":
        name, keepdims = draw(st.sampled_from(REDUCTIONS)), draw(st.booleans())
        axis = draw(st.one_of(st.none(), st.integers(-2, 2)))
        return f"{name} {axis}", lambda a: getattr(a, name)(axis, keepdims=keepdims)
    if kind == "ufunc":
        function = draw(st.sampled_from(UFUNCS))
        return function.__name__, function
    if kind == "ufunc2":
        function, other, into = draw(st.sampled_from(UFUNCS_OF_TWO)), operand_for(draw), draw(st.booleans())
        if into:
            return f"{function.__name__} out", lambda a: function(a, other(a), out=a)
        return function.__name__, lambda a: function(a, other(a))
    if kind == "reshape":
        shape = draw(st.sampled_from([(-1,), (array.size,), (1, -1), array.shape[::-1], (2, -1), (3, 5)]))
        order = draw(st.sampled_from("CFA"))
        return f"reshape {shape}", lambda a: a.reshape(shape, order=order)
    if kind == "take":
        indices = draw(st.lists(st.integers(-4, 4), max_size=4))
        mode = draw(st.sampled_from(["raise", "wrap", "clip"]))
        return f"take {indices}", lambda a: a.take(indices, mode=mode)
    if kind == "transpose":
        axes = draw(st.permutations(range(array.ndim)))
        return f"transpose {axes}", lambda a: a.transpose(axes)
    name = draw(st.sampled_from(sorted(UNPARAMETRISED)))
    return name, UNPARAMETRISED[name]


@st.composite
def arrays_on_files(draw):
    """A call that succeeds, and the file's bytes."""
    dtype = np.dtype(draw(dtypes))
    shape = draw(st.lists(st.integers(0, 5), max_size=4).map(tuple))
    offset = draw(offsets)
    mode = draw(st.sampled_from(["r", "r+", "r+", "r+", "w+", "c"]))
    tail, seed = draw(st.integers(0, 9)), draw(st.integers(0, 2**32 - 1))
    size = offset + math.prod(shape) * dtype.itemsize + tail
    content = bytes_of(max(size, 1), seed)
    if holds_bool(dtype):
        content = bytes(byte & 1 for byte in content)  # no other byte is a bool
    return call_of(dtype, mode, offset, shape, draw(orders), size=size), content


@comparison
@given(opened=arrays_on_files(), data=st.data())
def test_operations_give_what_they_give_on_numpys(opened, data):
    call, content = opened
    note(repr(call))
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(folder, content)
        arrays = [pair.open(call)]
        for _ in range(data.draw(st.integers(1, 6))):
            theirs, ours = arrays[data.draw(st.integers(0, len(arrays) - 1))]
            name, operation = operation_for(data.draw, theirs)
            note(name)
            outcomes = [attempt(operation, array) for array in (theirs, ours)]
            assert_same(*outcomes)
            assert_same(theirs, ours)
            if isinstance(outcomes[0], np.ndarray) and outcomes[0].ndim <= 8:
                arrays.append(outcomes)
        for array in arrays[0]:
            array.flush()
        left, right = pair.contents()
        assert left == right or not is_solid(call["dtype"])
        if call["mode"] in ("r", "c"):
            assert right == content
        del arrays, theirs, ours, outcomes, array


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (np.zeros(3), np.zeros(3, "f4")),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros((3, 2)), np.zeros((3, 2), order="F")),
        (np.zeros(3), np.ones(3)),
        (np.zeros(3), np.zeros(3).view(nf.memmap)),
        (np.zeros(3)[:2], np.float64(0)),
        (np.float64(1), np.float64(2)),
        (np.float64(1), np.float32(1)),
        (ValueError(), np.zeros(3)),
        (np.zeros(3), ValueError()),
        (ValueError(), TypeError()),
        ((1, 2), (1, 3)),
        ((1, 2), (1,)),
        (np.broadcast_to(np.zeros(3), 3), np.zeros(3)),
    ],
)
def test_a_result_that_differs_in_one_thing_is_found(theirs, ours):
    with pytest.raises(AssertionError):
        assert_same(theirs, ours)
