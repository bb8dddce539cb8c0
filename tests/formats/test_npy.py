""".npy: what NumPy writes is mapped as it is, and what ndfile writes NumPy reads."""

import glob
import io
import os
import threading

import numpy as np
import numpy.random  # hypothesis asks for it: what it maps stays
import pytest
from hostile import assert_cheap
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import ndfile as nf

try:  # before the tests: what it maps stays
    import ml_dtypes
except ImportError:
    ml_dtypes = None

MODES = ["r", "r+", "c"]

DTYPES = [
    "?",
    *(order + kind for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")),
    "i1",
    "u1",
    "longdouble",
    "clongdouble",
    "S1",
    "S7",
    "<U3",
    ">U3",
    "V5",
    "<M8[ns]",
    ">M8[D]",
    "<m8[25us]",
    "<m8[D]",
    [("a", "<f4"), ("b", ">i2", (3,)), ("c", "S3")],
    [("outer", [("inner", "<u2"), ("more", [("x", "?")])]), ("rest", "<f8")],
    np.dtype({"names": ["a", "b"], "formats": ["<i2", "<f8"], "offsets": [1, 8], "itemsize": 24}),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype([(("a title", "a"), "<f4")]),
    [("größe", "<f4"), ("値", "<i8")],
]


def filled(dtype, shape, order="C"):
    """An array of random bytes."""
    dtype = np.dtype(dtype)
    array = np.zeros(shape, dtype, order)
    raw = np.random.default_rng(5).integers(0, 2 if dtype.kind == "?" else 128, array.nbytes, np.uint8).tobytes()
    if dtype.kind == "U":
        array[...] = np.array("añ値")
        return array
    return np.frombuffer(raw, dtype).reshape(shape, order=order) if array.size else array


def whole(path):
    with open(path, "rb") as file:
        return file.read()


def items(array):
    """The bytes of all items, without what stands between fields."""
    if array.dtype.names is None:
        return array.tobytes()
    return [items(array[name]) for name in array.dtype.names]


def assert_same(mapped, expected):
    """Prove that dtype, shape and all bytes are the same."""
    assert isinstance(mapped, nf.memmap)
    assert mapped.dtype == expected.dtype
    assert mapped.dtype.str == expected.dtype.str
    assert mapped.shape == expected.shape
    assert mapped.tobytes("A") == expected.tobytes("A")
    assert mapped.tobytes() == expected.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0,), (3, 0, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_what_numpy_saves_is_mapped_as_it_is(dtype, shape, order, tmp_path):
    path = str(tmp_path / "x.npy")
    expected = filled(dtype, shape, order)
    np.save(path, expected)
    content = whole(path)
    loaded = np.load(path)
    for mode in MODES:
        with nf.open(path, mode) as mapped:
            assert_same(mapped, loaded)
            assert mapped.flags.f_contiguous == loaded.flags.f_contiguous
            assert mapped.flags.writeable == (mode != "r")
            if mapped.size:
                assert mapped.offset == len(content) - mapped.nbytes
    assert whole(path) == content
    about = nf.info(path)
    assert (about.format, about.dtype, about.shape, about.notes) == ("npy", loaded.dtype, loaded.shape, ())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (0,), (3, 0, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_saved_numpy_loads(dtype, shape, order, tmp_path):
    path = str(tmp_path / "x.npy")
    expected = filled(dtype, shape, order)
    nf.save(path, expected, sync=False)
    loaded = np.load(path)
    assert loaded.dtype == expected.dtype
    assert loaded.shape == expected.shape
    assert items(loaded) == items(expected)
    assert loaded.flags.f_contiguous == expected.flags.f_contiguous
    assert nf.info(path).offset % 64 == 0
    with nf.open(path) as mapped:
        assert_same(mapped, loaded)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_version_is_mapped(version, order, tmp_path):
    path = str(tmp_path / "x.npy")
    expected = filled("<f4", (3, 4), order)
    with open(path, "wb") as file:
        np.lib.format.write_array(file, expected, version)
    assert whole(path)[6:8] == bytes(version)
    for mode in MODES:
        with nf.open(path, mode) as mapped:
            assert_same(mapped, expected)


def test_fields_with_names_in_unicode_are_mapped_from_version_3(tmp_path):
    path = str(tmp_path / "x.npy")
    expected = filled([("値", "<f4"), ("naïve", "<i2")], (4,))
    with open(path, "wb") as file:
        np.lib.format.write_array(file, expected, (3, 0))
    with nf.open(path) as mapped:
        assert mapped.dtype.names == ("値", "naïve")
        assert_same(mapped, expected)


def test_a_header_of_more_than_64_kib_is_written_as_version_2_and_opened_again(tmp_path):
    path = str(tmp_path / "x.npy")
    dtype = np.dtype([(f"field number {number} of many", "<f4") for number in range(2000)])
    nf.save(path, np.ones(2, dtype), sync=False)
    assert whole(path)[6:8] == b"\2\0"
    assert np.load(path, max_header_size=1 << 20)["field number 7 of many"].tolist() == [1, 1]
    with nf.open(path, max_header_size=1 << 20) as mapped:
        assert mapped.dtype == dtype


def by_hand(header, data, alignment=64, version=(1, 0)):
    width = 2 if version == (1, 0) else 4
    text = header.encode() + b" " * (-(len(header) + 9 + width) % alignment) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(width, "little") + text + data


FIELDS = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"

WRITTEN_BY_OTHERS = {
    "aligned to 16, as NumPy before 1.14": by_hand(FIELDS, b"%s", 16),
    "not aligned": by_hand(FIELDS, b"%s", 1),
    "aligned to 4096": by_hand(FIELDS, b"%s", 4096),
    "keys in another order": by_hand("{'shape': (3, 4), 'fortran_order': False, 'descr': '<f4'}", b"%s"),
    "double quotes": by_hand('{"descr": "<f4", "fortran_order": False, "shape": (3, 4)}', b"%s"),
    "no spaces": by_hand("{'descr':'<f4','fortran_order':False,'shape':(3,4)}", b"%s"),
    "lines": by_hand("{'descr':\n '<f4',\n 'fortran_order': False,\n 'shape': (3,\n 4)}\n", b"%s"),
    "a comment": by_hand(FIELDS + " # made by hand", b"%s"),
    "the type's long name": by_hand(FIELDS.replace("<f4", "float32"), b"%s"),
    "no newline": by_hand(FIELDS, b"%s").replace(b"\n", b" "),
}


@pytest.mark.parametrize("writer", WRITTEN_BY_OTHERS)
def test_what_others_write_is_mapped(writer, file_of):
    expected = filled("<f4", (3, 4))
    content = WRITTEN_BY_OTHERS[writer].replace(b"%s", expected.tobytes())
    path = file_of(content)
    assert np.load(path).tobytes() == expected.tobytes()
    for mode in MODES:
        with nf.open(path, mode) as mapped:
            assert_same(mapped, expected)
    assert whole(path) == content


def test_a_header_of_python_2_is_mapped_without_a_warning(file_of):
    expected = filled("<f4", (3, 4))
    path = file_of(by_hand("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L), }", expected.tobytes()))
    with nf.open(path) as mapped:
        assert_same(mapped, expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_change_through_one_map_is_seen_by_the_other(order, tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros((300, 40), "<f8", order))
    with nf.open(path, "r+") as ours:
        theirs = np.load(path, mmap_mode="r+")
        assert theirs.flags.f_contiguous == ours.flags.f_contiguous
        ours[17, 3] = 1.5
        assert theirs[17, 3] == 1.5
        theirs[299, 39] = 2.5
        assert ours[299, 39] == 2.5
        theirs._mmap.close()
    assert np.load(path)[[17, 299], [3, 39]].tolist() == [1.5, 2.5]


def test_changes_in_mode_c_stay_in_memory(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.zeros(5))
    content = whole(path)
    with nf.open(path, "c") as mapped:
        mapped[:] = 7
        assert mapped.tolist() == [7] * 5
    assert whole(path) == content


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">i8", "S5", [("a", "<f4"), ("b", "?")]], ids=str)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0, 4)], ids=str)
def test_what_is_created_numpy_loads(shape, dtype, order, tmp_path):
    path = str(tmp_path / "x.npy")
    expected = filled(dtype, shape, order)
    with nf.create(path, shape, dtype, order) as made:
        assert made.offset % 64 == 0
        assert not any(made.tobytes())
        made[...] = expected
    loaded = np.load(path)
    assert (loaded.dtype, loaded.shape) == (expected.dtype, expected.shape)
    assert loaded.tobytes() == expected.tobytes()


def test_created_arrays_are_filled_and_have_metadata(tmp_path):
    path = str(tmp_path / "x.npy")
    metadata = {"unit": "µm", "scale": [1, 2.5, None], "nested": {"deep": True}}
    nf.create(path, (3, 4), "<i2", fill=-7, metadata=metadata).close()
    assert np.load(path).tolist() == [[-7] * 4] * 3
    assert nf.info(path).metadata == metadata
    with pytest.raises(FileExistsError):
        nf.create(path, (3, 4), "<i2")


def test_the_header_leaves_room_for_21_digits(tmp_path):
    path = str(tmp_path / "x.npy")
    nf.create(path, (0, 512), "float32").close()
    small = len(whole(path))
    nf.save(path, np.zeros((3, 512), "f4"), sync=False)
    assert nf.info(path).offset == small
    text = whole(path)[10:small]
    assert len(text) - len(text.rstrip(b" \n")) >= 20


EXTENSIONS = [
    "bfloat16",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]


@pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes is not installed")
@pytest.mark.parametrize("name", EXTENSIONS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_of_ml_dtypes_come_back_as_themselves(name, order, tmp_path):
    path = str(tmp_path / "x.npy")
    dtype = np.dtype(getattr(ml_dtypes, name))
    expected = np.asarray(filled("u1", (3, 4 * dtype.itemsize)).view(dtype), order=order)
    nf.save(path, expected, metadata={"a": 1}, sync=False)
    with nf.open(path, "r+") as mapped:
        assert_same(mapped, expected)
        mapped[0, 0] = 2
    plain = np.load(path)
    assert plain.dtype == f"V{dtype.itemsize}"
    assert plain.view(dtype)[0, 0] == 2
    assert nf.info(path).metadata == {"a": 1}
    with nf.create(str(tmp_path / "y.npy"), (2, 2), dtype, fill=1) as made:
        assert made.dtype == dtype
        assert made.astype("f4").tolist() == [[1, 1], [1, 1]]


def test_metadata_that_a_user_changes_is_not_what_the_next_one_sees(tmp_path):
    path = str(tmp_path / "x.npy")
    nf.save(path, np.zeros(3), metadata={"a": 1}, sync=False)
    nf.info(path).metadata["a"] = 2
    assert nf.info(path).metadata == {"a": 1}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays_of.arrays(
        arrays_of.scalar_dtypes() | arrays_of.array_dtypes(max_size=3).filter(lambda d: d.itemsize),
        arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    order=st.sampled_from("CF"),
    mode=st.sampled_from(MODES),
)
@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_any_array_of_numpys_is_mapped_as_it_is(array, order, mode, tmp_path):
    path = str(tmp_path / "x.npy")
    if not array.dtype.itemsize or array.dtype.hasobject:
        return
    expected = np.asarray(array, order=order)
    np.save(path, expected)
    content = whole(path)
    with nf.open(path, mode) as mapped:
        assert mapped.dtype == expected.dtype
        assert mapped.shape == expected.shape
        assert mapped.tobytes("A") == expected.tobytes("A")
    assert whole(path) == content
    nf.save(path, expected, sync=False)
    assert np.load(path).tobytes("A") == expected.tobytes("A")


def test_a_strided_array_is_saved_in_its_order(tmp_path):
    path = str(tmp_path / "x.npy")
    base = np.arange(600).reshape(20, 30)
    for array in (base[::2, ::3], base[::-1], base.T, base.T[::2], np.broadcast_to(base[0], (4, 30))):
        nf.save(path, array, sync=False)
        assert np.array_equal(np.load(path), array)


def test_an_array_is_saved_over_the_file_that_it_maps(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.arange(1000))
    with nf.open(path) as mapped:
        nf.save(path, mapped[::-1], sync=False)
        assert mapped[0] == 0
    assert np.load(path)[0] == 999


def test_what_can_be_converted_keeps_every_byte(tmp_path):
    source, raw, back = (str(tmp_path / name) for name in ("x.npy", "y.bin", "z.npy"))
    expected = filled(">f4", (5, 6), "F")
    np.save(source, expected)
    nf.convert(source, raw, sync=False)
    nf.convert(raw, back, sync=False)
    assert whole(back) == whole(source)
    assert nf.info(raw).order == "F"


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing:UserWarning")
def test_real_files_are_mapped_as_numpy_loads_them():
    found = 0
    for package in ("numpy", "scipy", "sklearn", "skimage", "matplotlib"):
        for path in installed(package, "npy"):
            try:
                expected = np.load(path, encoding="latin1")
            except ValueError:  # pickled objects
                with pytest.raises(nf.FormatError, match="never unpickles"):
                    nf.open(path)
                continue
            for mode in ("r", "c"):
                with nf.open(path, mode) as mapped:
                    assert_same(mapped, expected)
            found += 1
    if not found:
        pytest.skip("no installed package has a .npy file")


def installed(package, suffix):
    """Paths of the files that an installed package carries."""
    module = pytest.importorskip(package) if package == "numpy" else None
    folder = os.path.dirname(os.path.dirname(module.__file__ if module else np.__file__))
    return sorted(glob.glob(os.path.join(folder, package, "**", f"*.{suffix}"), recursive=True))


def test_20_gib_open_in_5_ms_and_5_mib(tmp_path):
    path = str(tmp_path / "x.npy")
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (5, 1 << 30)})
    with open(path, "wb") as sparse:
        sparse.write(file.getvalue())
        sparse.truncate(len(file.getvalue()) + (20 << 30))
    assert_cheap(path, lambda array: array.shape == (5, 1 << 30) and array[4, -1] == 0)


def test_several_threads_open_one_file(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, np.arange(100))
    wrong = []

    def work():
        for _ in range(200):
            with nf.open(path) as mapped:
                if mapped[99] != 99:
                    wrong.append(mapped[99])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
