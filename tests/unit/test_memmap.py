"""memmap: the constructor, the attributes, and what its results are."""

import copy
import gc
import io
import mmap
import os
import pathlib
import pickle
import tempfile
from typing import Any

import numpy as np
import pytest

import ndfile as nf

PAGE = mmap.PAGESIZE
MODES = ("r", "r+", "w+", "c")


class Fspath:
    """A path of the user's own kind."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


def is_view(result):
    """Tell whether the result is a memmap that views a file."""
    return type(result) is nf.memmap and result._mmap is not None


# The filename


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [
        (str, str),
        (os.fsencode, str),
        (pathlib.Path, pathlib.Path),
        (Fspath, pathlib.Path),
        (lambda path: Fspath(os.fsencode(path)), pathlib.Path),
    ],
    ids=["str", "bytes", "Path", "PathLike", "PathLike of bytes"],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_file_is_named_in_every_way_that_the_system_knows(numbers_file, numbers, wrap, kind, mode):
    array = nf.memmap(wrap(numbers_file), np.float32, mode, shape=(3, 4))
    assert array.filename == kind(numbers_file)
    assert isinstance(array.filename, kind)
    np.testing.assert_array_equal(array, np.zeros_like(numbers) if mode == "w+" else numbers)


def test_a_relative_name_is_made_absolute_when_opened(numbers_file, monkeypatch):
    monkeypatch.chdir(os.path.dirname(numbers_file))
    array = nf.memmap("x.dat", np.float32)
    monkeypatch.chdir("/")
    assert array.filename == numbers_file


def test_a_name_of_any_letters_works(tmp_path):
    for name in ("space d", "ä€\N{GRINNING FACE}", "new\nline", os.fsdecode(b"\xff\xfe"), "%s{}"):
        path = os.path.join(tmp_path, name)
        array = nf.memmap(path, "u1", "w+", shape=3)
        assert array.filename == path
        with pytest.raises(nf.SizeError):
            nf.memmap(path, "u1", "r", shape=4)


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("position", [0, 7, 48, 100])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_object_is_mapped_from_its_beginning_and_left_as_it_was(
    numbers_file, numbers, mode, position, buffering
):
    with open(numbers_file, "rb" if mode in "rc" else "r+b", buffering=buffering) as file:
        file.seek(position)
        array = nf.memmap(file, np.float32, mode, shape=(3, 4))
        assert file.tell() == position
        assert array.filename == numbers_file
        np.testing.assert_array_equal(array, numbers)
        del array
        assert file.tell() == position
        file.seek(4)
        assert file.read(4) == numbers.tobytes()[4:8]


def test_the_file_object_may_be_closed_before_the_array(numbers_file, numbers):
    with open(numbers_file, "r+b") as file:
        array = nf.memmap(file, np.float32, shape=(3, 4))
    array[0, 0] = 9
    array.flush()
    del array
    assert np.fromfile(numbers_file, np.float32)[0] == 9


@pytest.mark.parametrize(
    ("make", "named"), [(tempfile.TemporaryFile, False), (tempfile.NamedTemporaryFile, True)], ids=["unnamed", "named"]
)
def test_a_temporary_file_can_be_mapped(numbers, make, named):
    with make() as file:
        array = nf.memmap(file, np.float32, "w+", shape=(3, 4))
        assert array.filename == (file.name if named else None)
        array[...] = numbers
        array.flush()
        del array
        assert file.read() == numbers.tobytes()
        np.testing.assert_array_equal(nf.memmap(file, np.float32, "r", shape=(3, 4)), numbers)


def test_a_file_object_keeps_its_bytes_with_w_plus_as_in_numpy(numbers_file, numbers):
    with open(numbers_file, "r+b") as file:
        array = nf.memmap(file, np.float32, "w+", shape=13)
        assert array[:12].tobytes() == numbers.tobytes()
        assert array[12] == 0


@pytest.mark.parametrize("source", [io.BytesIO(b"12345678"), io.StringIO("12345678")], ids=["BytesIO", "StringIO"])
def test_a_file_object_without_a_descriptor_is_an_os_error(source):
    with pytest.raises(OSError, match="fileno"):
        nf.memmap(source)


@pytest.mark.parametrize("source", [5, 5.0, None, [], ...], ids=str)
def test_what_is_no_file_at_all_is_a_type_error(source):
    with pytest.raises(TypeError):
        nf.memmap(source)


def test_a_closed_file_object_is_a_value_error(numbers_file):
    file = open(numbers_file, "rb")  # noqa: SIM115  # closed is what it is about
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        nf.memmap(file)


# Modes


@pytest.mark.parametrize(
    ("name", "mode"), [("readonly", "r"), ("readwrite", "r+"), ("write", "w+"), ("copyonwrite", "c")]
)
def test_a_long_mode_name_is_the_short_one(numbers_file, name, mode):
    assert nf.memmap(numbers_file, np.float32, name, shape=12).mode == mode


def test_mode_r_is_read_only(numbers_file):
    array = nf.memmap(numbers_file, np.float32, "r")
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_mode_r_sees_what_others_write(numbers_file):
    reader = nf.memmap(numbers_file, np.float32, "r")
    nf.memmap(numbers_file, np.float32, "r+")[3] = 77
    assert reader[3] == 77


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_modes_that_write_change_the_file(numbers_file, mode):
    array = nf.memmap(numbers_file, np.float32, mode, shape=12)
    array[5] = 77
    array.flush()
    assert np.fromfile(numbers_file, np.float32)[5] == 77


def test_mode_w_plus_replaces_what_was_there_by_zeros(numbers_file, content):
    assert not nf.memmap(numbers_file, np.float32, "w+", shape=5).any()
    assert content(numbers_file) == bytes(20)


def test_mode_w_plus_makes_a_file(path, content):
    nf.memmap(path, ">i8", "w+", shape=(2,), offset=3)[...] = 1
    assert content(path) == bytes(3) + (bytes(7) + b"\1") * 2


def test_mode_c_changes_memory_and_not_the_file(numbers_file, content, numbers):
    array = nf.memmap(numbers_file, np.float32, "c", shape=(3, 4))
    array[1] = -1
    array += 100
    array.flush()
    np.testing.assert_array_equal(array[1], [99] * 4)
    array.close()
    assert content(numbers_file) == numbers.tobytes()


def test_mode_c_takes_a_file_object_that_only_reads(numbers_file):
    with open(numbers_file, "rb") as file:
        array = nf.memmap(file, np.float32, "c")
    array[0] = 5
    assert array[0] == 5


# Offset, shape and order


@pytest.mark.parametrize("offset", [0, 1, 3, 4, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 3])
@pytest.mark.parametrize("dtype", ["u1", "f8", "<u2,>c16"])
@pytest.mark.parametrize("mode", MODES[:2])
def test_any_offset_maps_the_bytes_from_there(file_of, offset, dtype, mode):
    data = bytes(i % 251 for i in range(3 * PAGE))
    itemsize = np.dtype(dtype).itemsize
    count = (len(data) - offset) // itemsize
    array = nf.memmap(file_of(data), dtype, mode, offset, count)
    assert array.offset == offset
    assert array.tobytes() == data[offset : offset + count * itemsize]


@pytest.mark.parametrize("mode", ["r+", "w+"])
@pytest.mark.parametrize(("offset", "shape"), [(0, 13), (48, 1), (49, 3), (5000, (2, 2)), (PAGE * 3, 0)])
def test_an_array_past_the_end_extends_the_file_with_zeros(numbers_file, numbers, content, mode, offset, shape):
    array = nf.memmap(numbers_file, np.float32, mode, offset, shape)
    end = offset + array.nbytes
    old = numbers.tobytes() if mode == "r+" else bytes(48)
    assert content(numbers_file) == old + bytes(end - 48)
    assert array.size == 0 or array.flat[array.size - 1] == 0


@pytest.mark.parametrize(("offset", "shape"), [(0, 12), (0, (3, 2)), (40, 2), (48, 0), (0, ())])
def test_an_array_inside_the_file_leaves_its_size(numbers_file, offset, shape):
    nf.memmap(numbers_file, np.float32, "r+", offset, shape)
    assert os.path.getsize(numbers_file) == 48


@pytest.mark.parametrize("shape", [6, (2, 3), [2, 3], np.array([2, 3]), (np.int8(2), 3), np.int64(6), np.array(6), ()])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_shape_may_be_any_integer_or_sequence(numbers_file, shape, order):
    array = nf.memmap(numbers_file, np.float32, "r", 8, shape, order)
    sizes = tuple(np.atleast_1d(np.asarray(shape, int)))
    expected = np.arange(2, 2 + array.size, dtype=np.float32).reshape(sizes, order=order)
    np.testing.assert_array_equal(array, expected, strict=True)
    assert array.strides == np.empty(sizes, np.float32, order).strides


def test_without_a_shape_the_whole_rest_of_the_file_is_one_dimension(numbers_file):
    assert nf.memmap(numbers_file, np.float32, "r").shape == (12,)
    assert nf.memmap(numbers_file, np.float32, "r", 8).shape == (10,)
    assert nf.memmap(numbers_file, np.float32, "r", 48).shape == (0,)
    assert nf.memmap(numbers_file).shape == (48,)


@pytest.mark.parametrize("shape", [0, (0,), (3, 0), (0, 0, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_arrays_without_items_are_arrays(numbers_file, shape, mode):
    array = nf.memmap(numbers_file, np.float32, mode, 0, shape)
    assert array.size == 0
    assert array.shape == np.empty(shape).shape
    assert array.sum() == 0
    assert array.tobytes() == b""
    array.flush()
    array.close()
    assert array.closed


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_an_array_without_items_leaves_a_byte_in_an_empty_file_as_numpy_does(file_of, mode, content):
    path = file_of(b"")
    nf.memmap(path, np.float32, mode, shape=0)
    assert content(path) == b"\0"


def test_a_subarray_dtype_adds_its_dimensions(numbers_file, numbers):
    array = nf.memmap(numbers_file, np.dtype(("f4", (2, 2))), "r", shape=3)
    np.testing.assert_array_equal(array, numbers.reshape(3, 2, 2), strict=True)


def test_everything_can_be_given_by_position(path):
    array = nf.memmap(path, "<i2", "w+", 6, (2, 3), "F")
    assert (array.dtype, array.mode, array.offset, array.shape) == (np.dtype("<i2"), "w+", 6, (2, 3))
    assert array.flags.f_contiguous


def test_a_file_larger_than_memory_can_be_mapped_and_touched_anywhere(path):
    array = nf.memmap(path, "u1", "w+", shape=2**40, sparse=True)
    array[-1] = 7
    assert array[2**40 - 1] == 7
    assert array[2**39] == 0
    assert os.stat(path).st_blocks < 2**20
    array.close()


# Attributes


@pytest.mark.parametrize("mode", MODES)
def test_views_share_the_mapping_and_its_facts(numbers_file, mode):
    array = nf.memmap(pathlib.Path(numbers_file), np.float32, mode, 8, (2, 3))
    for view in (
        array[1],
        array[1:, ::2],
        array.T,
        array.reshape(6)[::-1],
        array.view("u1"),
        array[None],
        array[..., 0],
    ):
        assert is_view(view)
        assert view._mmap is array._mmap
        assert (view.filename, view.mode, view.offset) == (pathlib.Path(numbers_file), mode, 8)
        assert view.base is array
        assert np.shares_memory(view, array)


def test_the_owner_of_the_memory_is_the_base_of_the_array(array):
    assert array.base is array._mmap
    assert not array.flags.owndata


def test_alignment_follows_the_offset(numbers_file):
    assert nf.memmap(numbers_file, np.float32, "r", 4, 2).flags.aligned
    assert not nf.memmap(numbers_file, np.float32, "r", 3, 2).flags.aligned


def test_an_array_shows_as_memmap(numbers_file):
    assert repr(nf.memmap(numbers_file, np.float32, "r", shape=2)) == "memmap([0., 1.], dtype=float32)"
    assert str(nf.memmap(numbers_file, np.float32, "r", shape=2)) == "[0. 1.]"


def test_the_facts_cannot_be_overwritten(array):
    for name in ("filename", "mode", "offset", "closed", "_mmap"):
        with pytest.raises(AttributeError):
            setattr(array, name, None)


def test_an_array_takes_attributes_of_the_users(array):
    array.note = "mine"
    assert array.note == "mine"


def test_an_array_that_refers_to_itself_is_collected(numbers_file):
    array = nf.memmap(numbers_file, np.float32)
    array.me = array
    del array
    gc.collect()
    with open("/proc/self/maps") as maps:
        assert numbers_file not in maps.read()


def test_an_array_is_a_numpy_memmap(array):
    assert isinstance(array, np.memmap)
    assert issubclass(nf.memmap, np.memmap)


def test_the_class_is_generic(array):
    alias = nf.memmap[Any, np.dtype[np.float32]]
    assert alias.__origin__ is nf.memmap
    assert alias.__args__ == (Any, np.dtype[np.float32])


def test_the_class_is_named_as_numpys_is():
    assert nf.memmap.__name__ == nf.memmap.__qualname__ == "memmap"


# Results


VIEWS = {
    "slice": lambda a: a[1:3],
    "step": lambda a: a[::-2],
    "row": lambda a: a[1],
    "last row": lambda a: a[-1],
    "column": lambda a: a[:, 0],
    "ellipsis": lambda a: a[...],
    "empty tuple": lambda a: a[()],
    "newaxis": lambda a: a[None],
    "item with ellipsis": lambda a: a[1, 2, ...],
    "empty slice": lambda a: a[3:],
    "T": lambda a: a.T,
    "mT": lambda a: a.mT,
    "transpose": lambda a: a.transpose(1, 0),
    "swapaxes": lambda a: a.swapaxes(0, 1),
    "reshape": lambda a: a.reshape(4, 3),
    "ravel": lambda a: a.ravel(),
    "diagonal": lambda a: a.diagonal(),
    "view": lambda a: a.view("u1"),
    "getfield": lambda a: a.getfield("u2"),
    "real": lambda a: a.real,
    "astype to the same": lambda a: a.astype("f4", copy=False),
    "asanyarray": np.asanyarray,
    "flip": np.flip,
    "expand_dims": lambda a: np.expand_dims(a, 0),
    "split": lambda a: np.array_split(a, 2)[0],
    "iteration": lambda a: next(iter(a)),
    "as_strided": lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (16, 4), subok=True),
    "slice of as_strided": lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (16, 4), subok=True)[1:],
    "sliding windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, 1, subok=True, writeable=True),
    "broadcast_to": lambda a: np.broadcast_to(a, (2, 3, 4), subok=True),
    "field": lambda a: a.view("u1,u1,u2")["f2"],
    "fields": lambda a: a.view("u1,u1,u2")[["f0", "f2"]],
}

PLAIN = {
    "integers": lambda a: a[[0, 2]],
    "booleans": lambda a: a[a > 3],
    "mixed": lambda a: a[1:, [0, 1]],
    "add": lambda a: a + 1,
    "radd": lambda a: 1 + a,
    "add both": lambda a: a + a,
    "neg": lambda a: -a,
    "pow": lambda a: a**2,
    "divmod": lambda a: divmod(a, 2)[0],
    "matmul": lambda a: a @ a.T,
    "compare": lambda a: a == a,  # the comparison is the point
    "abs": abs,
    "ufunc": np.sqrt,
    "ufunc of two": lambda a: np.add(a, a),
    "ufunc of two results": lambda a: np.modf(a)[0],
    "outer": lambda a: np.add.outer(a, a),
    "accumulate": np.add.accumulate,
    "reduceat": lambda a: np.add.reduceat(a, [0, 1]),
    "sum": lambda a: a.sum(0),
    "mean": lambda a: a.mean(1),
    "max kept": lambda a: a.max(0, keepdims=True),
    "cumsum": lambda a: a.cumsum(),
    "argmax": lambda a: a.argmax(0),
    "argsort": lambda a: a.argsort(),
    "argpartition": lambda a: a.argpartition(1),
    "nonzero": lambda a: a.nonzero()[0],
    "clip": lambda a: a.clip(2, 5),
    "round": lambda a: a.round(1),
    "round of integers": lambda a: a.view("i4").round(),
    "round of integers to tens": lambda a: a.view("i4").round(-1),
    "imag": lambda a: a.imag,
    "copy": lambda a: a.copy(),
    "copy in F": lambda a: a.copy("F"),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda a: pickle.loads(pickle.dumps(a)),
    "pickle of a view": lambda a: pickle.loads(pickle.dumps(a[1:, ::2])),
    "astype": lambda a: a.astype("f8"),
    "astype to the same": lambda a: a.astype("f4"),
    "byteswap": lambda a: a.byteswap(),
    "flatten": lambda a: a.flatten(),
    "repeat": lambda a: a.repeat(2),
    "take": lambda a: a.take([0, 1]),
    "compress": lambda a: a.compress([True, False, True], 0),
    "choose": lambda a: np.array([0, 1, 2, 0]).choose(a),
    "dot": lambda a: a.dot(a.T),
    "trace": lambda a: a.trace(),
    "reshape that copies": lambda a: a.T.reshape(12),
    "ravel that copies": lambda a: a.T.ravel(),
    "flat": lambda a: a.flat[[0, 1]],
    "flat slice": lambda a: a.flat[1:3],
    "flat copy": lambda a: a.flat.copy(),
    "asarray": np.asarray,
    "array": np.array,
    "view as ndarray": lambda a: a.view(np.ndarray),
    "sort": np.sort,
    "partition": lambda a: np.partition(a, 1),
    "concatenate": lambda a: np.concatenate([a, a]),
    "stack": lambda a: np.stack([a, a]),
    "where": lambda a: np.where(a > 3, a, 0),
    "einsum": lambda a: np.einsum("ij->j", a),
    "median": lambda a: np.median(a, 0),
    "percentile": lambda a: np.percentile(a, 50, 0),
    "unique": np.unique,
    "cov": np.cov,
    "diff": np.diff,
    "roll": lambda a: np.roll(a, 1),
    "linalg": lambda a: np.linalg.svd(a)[0],
    "fft": np.fft.fft,
}

SCALARS = {
    "item": lambda a: a[1, 2],
    "item of a row": lambda a: a[1][2],
    "sum": lambda a: a.sum(),
    "np.sum": np.sum,
    "mean": lambda a: a.mean(),
    "std": lambda a: a.std(),
    "argmax": lambda a: a.argmax(),
    "reduce": lambda a: np.add.reduce(a, axis=None),
    "all": lambda a: a.all(),
    "median": np.median,
    "flat": lambda a: a.flat[3],
    "norm": np.linalg.norm,
    "ufunc of no dimensions": lambda a: np.sqrt(a[1, 2, ...]),
    "sum of no dimensions": lambda a: a[1, 2, ...] + 1,
    "record": lambda a: a.view("u1,u1,u2")[0, 0],
}


@pytest.mark.parametrize("act", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_result_that_views_the_file_is_a_memmap(numbers_file, numbers, act, mode):
    array = nf.memmap(numbers_file, np.float32, mode, shape=(3, 4))
    result, expected = act(array), act(numbers)
    assert is_view(result)
    assert result._mmap is array._mmap
    np.testing.assert_array_equal(result, expected, strict=True)
    assert result.flags.writeable == (mode == "r+" and expected.flags.writeable)


@pytest.mark.parametrize("act", PLAIN.values(), ids=PLAIN)
def test_any_other_result_is_a_plain_array(array, numbers, act):
    result = act(array)
    assert type(result) in (np.ndarray, np.float32)
    np.testing.assert_array_equal(result, act(numbers), strict=True)


@pytest.mark.parametrize("act", SCALARS.values(), ids=SCALARS)
def test_one_item_is_a_scalar(array, numbers, act):
    result = act(array)
    assert isinstance(result, np.generic)
    assert type(result) is type(act(numbers))
    assert result == act(numbers)


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a.__iadd__(1),
        lambda a: np.add(a, 1, out=a),
        lambda a: np.clip(a, 0, 1, out=a),
        lambda a: a.byteswap(inplace=True),
        lambda a: a.sum(0, out=a[0]).base,
        lambda a: a.take([0, 1, 2], 0, out=a),
    ],
    ids=["iadd", "out=", "clip", "byteswap", "sum", "take"],
)
def test_a_result_put_into_the_array_is_the_array(array, act):
    assert act(array) is array


@pytest.mark.parametrize(
    "make", [np.empty_like, np.zeros_like, lambda a: np.array(a, subok=True), lambda a: np.dot(a, a.T)]
)
def test_memory_that_numpy_gives_the_class_to_has_no_file(array, make):
    result = make(array)
    assert isinstance(result, np.ndarray)
    if type(result) is nf.memmap:
        assert (result._mmap, result.filename, result.mode, result.offset, result.closed) == (None,) * 4 + (False,)
        result.flush()
        result.close()
        assert result[0].shape == result.shape[1:]
        assert type(result + 1) is np.ndarray


@pytest.mark.parametrize("act", [copy.deepcopy, copy.copy, lambda a: pickle.loads(pickle.dumps(a)), np.array])
def test_a_copy_outlives_the_file(numbers_file, numbers, act):
    array = nf.memmap(numbers_file, np.float32, shape=(3, 4))
    twin = act(array)
    array.close()
    os.unlink(numbers_file)
    np.testing.assert_array_equal(twin, numbers, strict=True)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_carries_the_values(array, numbers, protocol):
    twin = pickle.loads(pickle.dumps(array, protocol))
    assert type(twin) is np.ndarray
    np.testing.assert_array_equal(twin, numbers, strict=True)


def test_saving_and_loading_carries_the_values(array, numbers):
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    np.testing.assert_array_equal(np.load(file), numbers, strict=True)


def test_a_method_takes_as_many_arguments_as_numpys(path):
    choices = [np.full(2, i) for i in range(40)]
    array = nf.memmap(path, np.intp, "w+", shape=2)
    array[:] = 0, 1
    np.testing.assert_array_equal(array.choose(*choices), np.array([0, 1]).choose(*choices))


def test_wrapping_takes_the_keywords_that_numpys_takes(array):
    result = np.array(5.0)
    assert type(array.__array_wrap__(result, context=None, return_scalar=True)) is np.float64


@pytest.mark.parametrize("arguments", [(), (1,), (np.zeros(1), None, False, None)])
def test_wrapping_anything_else_is_a_type_error(array, arguments):
    with pytest.raises(TypeError):
        array.__array_wrap__(*arguments)


@pytest.mark.parametrize(
    "arguments", [(), (None, np.dtype("u1"), (1,), "C"), (None, "u1", (1,), "C"), (None, np.dtype("u1"), [1], "C")]
)
def test_an_array_is_not_made_of_anything_but_a_mapping(arguments):
    with pytest.raises(TypeError):
        nf.memmap._from_mapping(*arguments)


@pytest.mark.parametrize(("dtype", "shape"), [("u1", (49,)), ("f4", (13,)), ("f8", (3, 4))])
def test_an_array_is_not_made_larger_than_its_mapping(array, dtype, shape):
    with pytest.raises(ValueError, match=r"needs \d+ bytes from byte 0, the mapping has 48"):
        nf.memmap._from_mapping(array._mmap, np.dtype(dtype), shape, "C")


# Subclasses


class Sub(nf.memmap):
    pass


@pytest.mark.parametrize(
    "act", [*VIEWS.values(), *(PLAIN[name] for name in ("add", "radd", "neg", "copy", "astype", "integers", "sort"))]
)
def test_a_subclass_keeps_its_class_as_numpys_does(numbers_file, act):
    class NumpySub(np.memmap):
        pass

    ours = act(Sub(numbers_file, np.float32, shape=(3, 4)))
    theirs = act(NumpySub(numbers_file, np.float32, shape=(3, 4)))
    assert (type(ours) is Sub) == (type(theirs) is NumpySub)


def test_a_subclass_may_take_more_arguments(numbers_file):
    class Noted(nf.memmap):
        def __new__(cls, *args, note, **kwargs):
            array = super().__new__(cls, *args, **kwargs)
            array.note = note
            return array

        def __array_finalize__(self, source):
            self.note = getattr(source, "note", None)

    array = Noted(numbers_file, np.float32, note="mine")
    assert type(array[2:]) is Noted
    assert array[2:].note == "mine"
    assert (array + 1).note == "mine"


def test_a_subclass_that_cannot_be_finished_gives_everything_back(numbers_file):
    class Picky(nf.memmap):
        def __array_finalize__(self, source):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Picky(numbers_file, np.float32)


# Flushing


def test_a_slice_flushes_its_own_pages(path):
    array = nf.memmap(path, "u1", "w+", shape=4 * PAGE)
    array[:] = 1
    array[PAGE + 5 : PAGE + 9].flush()
    array[::-3].flush()
    array.reshape(4, PAGE).T[3:, 1:].flush()
    array[0:0].flush()
    array[5, ...].flush()


def test_a_view_whose_strides_leave_the_mapping_is_not_flushed(array):
    far = np.lib.stride_tricks.as_strided(array, (2, 2), (1 << 40, 4), subok=True)
    with pytest.raises(ValueError, match="strides lead out of the mapping"):
        far.flush()


@pytest.mark.parametrize("mode", ["r", "c"])
def test_there_is_nothing_to_flush_where_nothing_is_written(numbers_file, mode):
    assert nf.memmap(numbers_file, np.float32, mode).flush() is None
