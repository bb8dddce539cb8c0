"""Arrays as Arrow's tensors and arrays."""

import gc
import os
import re
import sys

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from apart import errors_of

import ndfile as nf

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
NOT_ARROWS = [
    np.dtype([("x", "f8"), ("y", "f8")]),
    *map(np.dtype, ("M8[s]", "m8[us]", "S3", "U2", "V4", "c8", "c16", "g", "G")),
    np.dtype(ml_dtypes.bfloat16),
]


def is_mapped(path):
    gc.collect()
    with open("/proc/self/maps") as maps:
        return path in maps.read()


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_tensor_is_the_arrays_memory_and_as_writable(numbers_file, numbers, mode):
    a = nf.memmap(numbers_file, "f4", mode, shape=(3, 4))
    t = a.to_arrow()
    back = t.to_numpy()
    assert back.ctypes.data == a.ctypes.data
    assert np.array_equal(back, numbers)
    assert t.is_mutable == back.flags.writeable == (mode != "r")
    if mode != "r":
        back[1, 2] = 99
        assert a[1, 2] == 99
    assert np.fromfile(numbers_file, "f4")[6] == (99 if mode == "r+" else numbers[1, 2])


def test_axes_can_have_names(array):
    assert array.to_arrow(["row", "column"]).dim_names == ["row", "column"]
    assert array.to_arrow(iter("xy")).dim_names == ["x", "y"]
    assert array.to_arrow().dim_names in ([], None)
    with pytest.raises(nf.LayoutError, match="1 dim_names for 2 axes"):
        array.to_arrow(["row"])


def test_every_view_with_strides_that_arrow_has_is_shared(path):
    a = nf.memmap(path, [("x", "f8"), ("y", "i8")], "w+", shape=(6, 4, 5))
    a["x"] = np.arange(120).reshape(6, 4, 5)
    for view in (
        a["x"],
        a["y"],
        a["x"].T,
        a["x"][::2, 1:, ::3],
        a["x"][1],
        a["x"].transpose(1, 2, 0)[:, 2:3],
        a["x"][:0],
    ):
        t = view.to_arrow()
        assert t.shape == view.shape
        assert t.strides == view.strides or not view.size
        assert np.array_equal(t.to_numpy(), view)
        assert np.shares_memory(t.to_numpy(), view) or not view.size
    repeated = np.broadcast_to(a["x"][1, 1], (3, 5), subok=True).to_arrow()
    assert repeated.to_numpy().tolist() == [list(range(25, 30))] * 3


@pytest.mark.parametrize("name", TYPES)
def test_types_arrive(path, name):
    np.arange(7).astype(name).tofile(path)
    t = nf.memmap(path, name, "r").to_arrow()
    assert t.type.to_pandas_dtype() == np.dtype(name).type
    assert t.to_numpy().tolist() == list(range(7))


def test_truth_values_are_bytes_of_0_and_1(path):
    a = nf.memmap(path, "?", "w+", shape=3)
    a[1] = True
    assert a.to_arrow().type == pa.uint8()
    assert a.to_arrow().to_numpy().tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", NOT_ARROWS, ids=str)
def test_what_arrow_has_no_type_for_is_refused_with_what_works_instead(path, dtype):
    a = nf.memmap(path, dtype, "w+", shape=6)
    with pytest.raises(nf.LayoutError) as caught:
        a.to_arrow()
    assert f"has no type for {dtype}" in caught.value.problem
    instead = eval(re.search(r"\ba[.\[].*?(?=\.$|, the )", caught.value.advice)[0], {"a": a})
    assert pa.Tensor.from_numpy(instead).size >= 6


def test_what_arrow_would_misread_is_refused(file_of):
    path = file_of(bytes(100))
    for dtype in (">f4", ">i2"):  # Arrow takes it, and has other numbers
        with pytest.raises(nf.LayoutError, match=r"to_arrow: >.*astype\('<"):
            nf.memmap(path, dtype, "r").to_arrow()
    a = nf.memmap(path, "f4", "r", shape=(5, 5))
    for view in (a[::-1], a[:, ::-1], nf.memmap(path, "f8", "r", offset=3, shape=4)):
        with pytest.raises(nf.LayoutError, match=r"strides \(.*a\.copy\(\)"):
            view.to_arrow()
    with pytest.raises(nf.LayoutError, match=r"reshape\(1\)"):
        a[1, 1, ...].to_arrow()
    assert a[1, 1, ...].reshape(1).to_arrow().shape == (1,)


def test_a_tensor_keeps_the_file_mapped(numbers_file, numbers):
    t = nf.memmap(numbers_file, "f4", "r", shape=(3, 4)).to_arrow()
    assert is_mapped(numbers_file)
    assert np.array_equal(t.to_numpy(), numbers)
    del t
    assert not is_mapped(numbers_file)


def test_a_tensor_that_is_left_over_raises(path):
    a = nf.memmap(path, "f4", "w+", shape=(1000, 1000))
    t = a.to_arrow()
    a.close()
    assert errors_of(t.to_numpy().sum) == {nf.ClosedError}
    assert errors_of(lambda: t.equals(pa.Tensor.from_numpy(np.zeros((1000, 1000), "f4")))) == {nf.ClosedError}
    with pytest.raises(nf.ClosedError, match="to_arrow"):
        a.to_arrow()


def test_a_file_that_is_cut_is_refused(path):
    np.ones(1 << 20, "f4").tofile(path)
    a = nf.memmap(path, "f4", "r")
    os.truncate(path, 1 << 16)
    with pytest.raises(nf.FaultError, match="to_arrow"):
        a.to_arrow()


@pytest.mark.parametrize("name", [*TYPES, "M8[s]", "M8[ns]", "m8[us]"])
def test_an_arrow_array_of_one_axis_is_the_arrays_memory(path, name):
    np.arange(100).astype(name).tofile(path)
    a = nf.memmap(path, name, "r")
    arrow = pa.array(a)
    assert arrow.buffers()[1].address == a.ctypes.data
    assert arrow.buffers()[0] is None
    assert not arrow.buffers()[1].is_mutable
    assert np.array_equal(arrow.to_numpy(), np.arange(100).astype(name))
    del a
    assert is_mapped(path)
    assert arrow[7].as_py() == np.arange(100).astype(name)[7].item() or name == "M8[ns]"


def test_an_arrow_array_of_items_that_are_apart_or_truth_values_is_a_copy(path):
    a = nf.memmap(path, "?", "w+", shape=(10, 3))
    a[::2] = True
    assert pa.array(a[:, 1]).to_pylist() == [True, False] * 5
    numbers = a.view("i1")
    assert pa.array(numbers[:, 1]).buffers()[1].address != numbers[:, 1].ctypes.data
    assert pa.array(numbers[:, 1]).to_pylist() == [1, 0] * 5
    with pytest.raises(pa.ArrowNotImplementedError, match="Byte-swapped"):
        pa.array(numbers.ravel().view(">i2"))


def test_a_fixed_shape_tensor_array_and_a_table_are_the_arrays_memory(numbers_file, numbers):
    a = nf.memmap(numbers_file, "f4", "r", shape=(3, 4))
    rows = pa.FixedShapeTensorArray.from_numpy_ndarray(a)
    assert rows.to_numpy_ndarray().ctypes.data == a.ctypes.data
    table = pa.table({"rows": rows, "first": pa.array(a[:, 0].copy())})
    assert np.array_equal(table["first"].to_numpy(), numbers[:, 0])
    assert np.array_equal(table["rows"].combine_chunks().to_numpy_ndarray(), numbers)


def test_without_pyarrow_the_error_says_what_to_install(array, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(nf.LibraryError, match=r"to_arrow needs pyarrow.*ndfile\[arrow\]"):
        array.to_arrow()
