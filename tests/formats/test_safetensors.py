"""safetensors: what the format's own library writes is mapped as it is, and it reads what ndfile writes."""

import json
import os

import numpy as np
import numpy.random  # hypothesis asks for it: what it maps stays
import pytest
from hostile import assert_cheap
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import ndfile as nf

# Before the tests: what it maps stays.
try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None
try:
    import safetensors
    import safetensors.numpy as library
except ImportError:
    library = None

needs_library = pytest.mark.skipif(library is None, reason="safetensors is not installed")
needs_ml_dtypes = pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes is not installed")

MODES = ["r", "r+", "c"]
PLAIN = ["?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8", "<c8"]
EXTENSIONS = {
    "bfloat16": "BF16",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.safetensors")


def whole(path):
    with open(path, "rb") as file:
        return file.read()


def arrays():
    found = {f"of {kind}": np.arange(6).astype(kind).reshape(2, 3) for kind in PLAIN}
    return found | {"scalar": np.float32(2.5), "empty": np.zeros((0, 3), "<f4"), "größe/値": np.ones(3, "<f8")}


def header_of(path):
    content = whole(path)
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), 8 + length


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        mapped = found[name]
        assert isinstance(mapped, nf.memmap)
        assert (mapped.dtype, mapped.shape) == (array.dtype, array.shape)
        assert mapped.tobytes() == array.tobytes()


@needs_library
@pytest.mark.parametrize("mode", MODES)
def test_what_the_library_saves_is_mapped_as_it_is(mode, path):
    expected = {name: np.asarray(array) for name, array in arrays().items() if array.dtype != "<c8"}
    library.save_file(expected, path, metadata={"by": "them"})
    content = whole(path)
    with nf.open(path, mode) as found:
        assert found.format == "safetensors"
        assert found.metadata == {"by": "them"}
        assert_same(found, expected)
    assert whole(path) == content


@needs_library
def test_what_is_saved_the_library_loads(path):
    expected = {name: np.asarray(array) for name, array in arrays().items() if array.dtype != "<c8"}
    nf.save(path, expected, metadata={"by": "us", "numbers": [1, 2]}, sync=False)
    loaded = library.load_file(path)
    assert set(loaded) == set(expected)
    for name, array in expected.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"by": "us", "numbers": "[1, 2]"}
    with nf.open(path) as found:
        assert_same(found, expected)


@needs_library
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 0)], ids=str)
def test_every_type_comes_back(kind, shape, path):
    expected = {"a": np.arange(np.prod(shape, dtype=int)).astype(kind).reshape(shape), "b": np.ones(3, "u1")}
    nf.save(path, expected, sync=False)
    with nf.open(path) as found:
        assert_same(found, expected)
        assert found["a"].flags.aligned
    if kind != "<c8":
        assert library.load_file(path)["a"].tobytes() == expected["a"].tobytes()
        library.save_file(expected, path)
        with nf.open(path) as found:
            assert_same(found, expected)


@needs_ml_dtypes
@pytest.mark.parametrize("name", EXTENSIONS)
def test_types_of_ml_dtypes_come_back_as_themselves(name, path):
    dtype = np.dtype(getattr(ml_dtypes, name))
    expected = {"a": np.arange(24, dtype="u1").view(dtype)}
    nf.save(path, expected, sync=False)
    assert header_of(path)[0]["a"]["dtype"] == EXTENSIONS[name]
    with nf.open(path, "r+") as found:
        assert_same(found, expected)
        found["a"][0] = 1
    with nf.create(path, 3, dtype, fill=1, overwrite=True) as made:
        assert made.astype(float).tolist() == [1, 1, 1]


@needs_ml_dtypes
@needs_library
@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_the_library_writes_and_reads_types_of_ml_dtypes(name, path):
    dtype = np.dtype(getattr(ml_dtypes, name))
    values = np.arange(24, dtype="u1")
    library.save_file({"a": values.view(dtype)}, path)
    with nf.open(path) as found:
        assert_same(found, {"a": values.view(dtype)})
    nf.save(path, {"a": values.view(dtype)}, sync=False)
    ((key, back),) = safetensors.deserialize(whole(path))
    assert (key, back["dtype"], bytes(back["data"])) == ("a", EXTENSIONS[name], values.tobytes())


@needs_library
def test_a_change_in_place_is_seen_by_the_library(path):
    library.save_file({"a": np.zeros(9, "<f4"), "b": np.ones(3, "<i8")}, path)
    with nf.open(path, "r+") as found:
        found["a"][3] = 7
        assert library.load_file(path)["a"].tolist() == [0, 0, 0, 7, 0, 0, 0, 0, 0]
        with open(path, "r+b") as file:
            file.seek(found["b"].offset)
            file.write(np.int64(99).tobytes())
        assert found["b"].tolist() == [99, 1, 1]


def test_tensors_are_aligned_and_leave_no_gap(path):
    nf.save(path, {"a": np.ones(3, "u1"), "b": np.ones(3, "<f8"), "c": np.ones(5, "<f2")}, sync=False)
    header, start = header_of(path)
    assert start % 64 == 0
    assert sorted(tensor["data_offsets"] for tensor in header.values()) == [[0, 24], [24, 34], [34, 37]]
    with nf.open(path) as found:
        assert all(found[name].flags.aligned for name in found)


def test_one_array_is_called_data(path):
    nf.save(path, np.arange(3), sync=False)
    with nf.open(path) as found:
        assert list(found) == ["data"]
    with nf.create(path, (2, 3), "<f4", fill=2, metadata={"a": "b"}, overwrite=True) as made:
        made[0, 0] = 5
    with nf.open(path, key="data") as mapped:
        assert mapped.tolist() == [[5, 2, 2], [2, 2, 2]]
    assert nf.info(path).metadata == {"a": "b"}


@pytest.mark.parametrize("dtype", [">f4", "S3", "<U2", "M8[s]", "c16", "V4", [("a", "<f4")]], ids=str)
def test_what_the_format_cannot_hold_is_refused_with_the_way_out(dtype, path):
    with pytest.raises(nf.LayoutError, match=r"safetensors has no dtype.*\.npz"):
        nf.save(path, {"a": np.zeros(3, dtype)})
    assert not os.path.exists(path)


def test_an_array_in_order_f_is_saved_in_order_c(path):
    expected = np.asfortranarray(np.arange(12, dtype="<f4").reshape(3, 4))
    nf.save(path, {"a": expected}, sync=False)
    with nf.open(path) as found:
        assert found["a"].tolist() == expected.tolist()
    with pytest.raises(nf.LayoutError, match="no order 'F'"):
        nf.create(path, (3, 4), "f4", "F", overwrite=True)


def test_a_file_without_tensors_is_empty(path):
    nf.save(path, {}, metadata={"a": "b"}, sync=False)
    with nf.open(path) as found:
        assert dict(found) == {}
        assert found.metadata == {"a": "b"}
    with open(path, "wb") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
    with nf.open(path) as found:
        assert len(found) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "__metadata__"),
        arrays_of.arrays(st.sampled_from(PLAIN), arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)),
        max_size=5,
    )
)
@needs_library
def test_any_tensors_come_back(tensors, path):
    nf.save(path, tensors, sync=False)
    with nf.open(path) as found:
        assert_same(found, tensors)
    plain = {name: array for name, array in tensors.items() if array.dtype != "<c8"}
    library.save_file(plain, path)
    with nf.open(path) as found:
        assert_same(found, plain)


def test_npz_and_safetensors_convert_into_each_other(path, tmp_path):
    expected = {name: np.asarray(array) for name, array in arrays().items()}
    nf.save(path, expected, metadata={"a": "b"}, sync=False)
    between = str(tmp_path / "y.npz")
    nf.convert(path, between, sync=False)
    with np.load(between) as theirs:
        for name, array in expected.items():
            assert theirs[name].tobytes() == array.tobytes()
    nf.convert(between, path, sync=False)
    with nf.open(path) as found:
        assert_same(found, expected)
        assert found.metadata == {"a": "b"}


def test_1000_tensors_are_mapped(path):
    expected = {f"layer{n}.weight": np.full((2, 3), n, "<f4") for n in range(1000)}
    nf.save(path, expected, sync=False)
    with nf.open(path) as found:
        assert_same(found, expected)


def test_20_gib_open_in_5_ms_and_5_mib(path):
    text = json.dumps({"a": {"dtype": "F32", "shape": [5, 1 << 30], "data_offsets": [0, 20 << 30]}}).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + (20 << 30))
    assert_cheap(path, lambda found: found["a"].shape == (5, 1 << 30) and found["a"][4, -1] == 0)
