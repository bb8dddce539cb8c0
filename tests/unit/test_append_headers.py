"""What says how many rows there are: headers and sidecars of every kind, and bytes that follow the array."""

import contextlib
import json
import os
import threading

import numpy as np
import pytest
from faulty import PAGE
from growing_kinds import KINDS, Kind, load, numbered, unchanged

import ndfile as nf
from ndfile.errors import LayoutError

# ---- Headers ----


def header_of(path):
    """The bytes of a `.npy` header, up to its end of line."""
    with open(path, "rb") as file:
        magic = file.read(8)
        width = 2 if magic[6] == 1 else 4
        return magic + (length := file.read(width)) + file.read(int.from_bytes(length, "little"))


def write_header(path, text, content, version=(1, 0)):
    """A `.npy` file with the text of a header as it stands."""
    width = 2 if version == (1, 0) else 4
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY" + bytes(version) + len(text).to_bytes(width, "little") + text + content)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), None])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("by", [np.lib.format.open_memmap, nf.open_memmap])
def test_every_version_of_the_header_counts(path, version, order, by):
    path += ".npy"
    made = by(path, "w+", "f4", (3, 3), order == "F", version)
    made[...] = 5
    made._mmap.close()
    length = len(header_of(path))
    with nf.open(path, "r+") as array:
        for count in range(4, 14):
            array.append([5, 5, 5])
            assert load(array).shape == ((count, 3) if order == "C" else (3, count))
            assert (load(array) == 5).all()
    assert len(header_of(path)) == length
    assert header_of(path)[6:8] == bytes(version or (1, 0))


def test_a_header_of_names_that_are_not_ascii_counts(npy_of):
    with pytest.warns(UserWarning, match="3.0"):
        array = npy_of(np.zeros(3, [("\u00e9\u4e2d", "u1"), ("b", "u1")]))
    assert header_of(array.filename)[6] == 3
    for count in range(4, 14):
        array.append(np.ones(1, array.dtype))
        assert load(array).shape == (count,)
        assert load(array).dtype == array.dtype
    array.close()


@pytest.mark.parametrize("fields", [60, 300])
def test_a_header_larger_than_a_sector_or_a_page_counts(npy_of, fields):
    dtype = np.dtype([(f"field{number:04}", "u1") for number in range(fields)])
    array = npy_of(np.zeros(3, dtype))
    assert len(header_of(array.filename)) > (PAGE if fields == 300 else 512)
    for count in range(4, 14):
        array.append(np.ones(1, dtype))
        assert load(array).shape == (count,)
    array.close()
    assert os.listdir(os.path.dirname(array.filename)) == ["x.npy"]
    assert nf.open(array.filename).shape == (13,)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("spare", range(40))
def test_a_header_with_little_room_counts_or_is_left_as_it_is(tmp_path, spare, order):
    """NumPy before 1.23 left no more room than the next multiple of 64 asked for."""
    path = str(tmp_path / "x.npy")
    shape = "(3, 2)" if order == "C" else "(2, 3)"
    text = f"{{'descr': '<f4', 'fortran_order': {order == 'F'}, 'shape': {shape}, }}{' ' * spare}\n".encode()
    write_header(path, text, numbered(3, width=2).tobytes())
    array = nf.open(path, "r+")
    try:
        array.append([6, 7])
    except LayoutError as error:
        said = str(error)
        assert spare < 24
        wanted = numbered(3, width=2)
    else:
        said = "spare room: save"
        for count in range(4, 120):
            array.append([2 * count, 2 * count + 1])
        wanted = numbered(120, width=2)
    array.close()
    assert "spare" in said
    assert "save" in said
    assert len(header_of(path)) == 10 + len(text)
    np.testing.assert_array_equal(np.load(path) if order == "C" else np.load(path).T, wanted)


def test_a_header_without_room_is_written_anew_by_saving(tmp_path):
    path = str(tmp_path / "x.npy")
    write_header(path, b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }\n", numbered(3).tobytes())
    with nf.open(path) as array:
        nf.save(path, array)
    with nf.open(path, "r+") as array:
        array.append(numbered(1, 3))
    np.testing.assert_array_equal(np.load(path), numbered(4))


ODD_HEADERS = {
    "python 2": b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 3L), }",
    "other order of keys": b"{'shape': (3, 3), 'fortran_order': False, 'descr': '<f4'}",
    "double quotes": b'{"descr": "<f4", "fortran_order": False, "shape": (3, 3)}',
    "two lines": b"{'descr': '<f4', 'fortran_order': False,\n 'shape': (3, 3), }",
    "brackets in a name": b"{'descr': [('shape): (9', '<f4')], 'fortran_order': False, 'shape': (3, 3), }",
    "a hexadecimal number": b"{'descr': '<f4', 'fortran_order': False, 'shape': (0x3, 3), }",
    "spaces": b"{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 3 , 3 ) , }",
}


@pytest.mark.parametrize("text", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_a_header_that_others_wrote_counts_or_is_left_as_it_is(tmp_path, text):
    path = str(tmp_path / "x.npy")
    text += b" " * (-(len(text) + 11) % 64 + 64) + b"\n"
    write_header(path, text, numbered(3).tobytes())
    array = nf.open(path, "r+")
    try:
        for count in range(3, 120):
            array.append(numbered(1, count).astype(array.dtype))
        wanted = numbered(120)
    except LayoutError:
        wanted = numbered(3)
    array.close()
    loaded = np.load(path)
    np.testing.assert_array_equal(loaded.view("<f4").reshape(wanted.shape), wanted)


@pytest.mark.parametrize("rows", [9, 99, 99_999, 9_999_999, 99_999_999])
@pytest.mark.parametrize("order", "CF")
def test_the_number_of_rows_gets_another_digit(tmp_path, rows, order):
    path = tmp_path / "x.npy"
    with nf.create(path, rows, "u1", order, sparse=True) as array:
        assert len(str(rows + 1)) > len(str(rows))
        array.append(7)
        with open(path, "rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            assert np.lib.format.read_array_header_1_0(file)[0] == (rows + 1,)
    assert nf.open(path).shape == (rows + 1,)
    assert nf.open(path)[-1] == 7
    os.unlink(path)


def test_a_number_that_gets_its_ninth_digit_is_whole_to_whoever_reads_meanwhile(tmp_path):
    path = tmp_path / "x.npy"
    seen, done = set(), threading.Event()

    def look():
        while not done.is_set():
            with open(path, "rb") as file:
                np.lib.format.read_magic(file)
                seen.add(np.lib.format.read_array_header_1_0(file)[0][0])

    with nf.create(path, 99_999_990, "u1", sparse=True) as array:
        array.append(1)
        reader = threading.Thread(target=look)
        reader.start()
        for _ in range(200):
            array.append(1)
        done.set()
        reader.join()
    assert seen <= set(range(99_999_990, 100_000_192))
    os.unlink(path)


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
def test_metadata_is_kept(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    metadata = {"unit": "K", "text": "} # ndfile {'shape': (9, 9)} \u00e9", "nested": {"a": [1, 2.5, None]}}
    with nf.create(path, (2, 3), "f4", metadata=metadata) as array:
        for count in range(2, 120):
            array.append(numbered(1, count))
        assert nf.info(path).metadata == metadata
    assert nf.info(path).metadata == metadata
    assert nf.info(path).shape == (120, 3)


@pytest.mark.parametrize("suffix", [".npy", ".bin"])
def test_a_dtype_of_ml_dtypes_is_kept(tmp_path, suffix):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    path = tmp_path / f"x{suffix}"
    with nf.create(path, (2, 3), ml_dtypes.bfloat16) as array:
        array.append(numbered(1).astype(ml_dtypes.bfloat16))
        array.append(numbered(1).astype(ml_dtypes.bfloat16)[0])
    with nf.open(path) as array:
        assert array.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(array[2:].astype("f4"), np.vstack([numbered(1)] * 2))


@pytest.mark.parametrize("order", "CF")
def test_a_sidecar_leaves_the_growing_size_to_the_file(tmp_path, order):
    path = tmp_path / "x.bin"
    with nf.create(path, (2, 3), "f4", order, metadata={"unit": "K"}) as array:
        before = json.loads((tmp_path / "x.bin.json").read_text())
        array.append(np.zeros((1, 3) if order == "C" else (2, 1), "f4"))
        after = json.loads((tmp_path / "x.bin.json").read_text())
    assert after == before | {"shape": [-1, 3] if order == "C" else [2, -1]}
    assert sorted(os.listdir(tmp_path)) == ["x.bin", "x.bin.json"]


def test_a_sidecar_without_a_shape_stays_as_it_is(tmp_path):
    path, text = tmp_path / "x.bin", '{"dtype": "<f4"}'
    path.write_bytes(numbered(2).tobytes())
    (tmp_path / "x.bin.json").write_text(text)
    with nf.open(path, "r+") as array:
        array.append(6.0)
        assert array.shape == (7,)
    assert (tmp_path / "x.bin.json").read_text() == text
    assert nf.open(path).shape == (7,)


# ---- Bytes that follow ----


@pytest.mark.parametrize("left", [1, 7, 12, 100, 70_000])
def test_what_a_writer_left_behind_the_array_is_written_over(tmp_path, left):
    path = tmp_path / "x.npy"
    np.save(path, numbered(4))
    with open(path, "ab") as file:
        file.write(b"\xa5" * left)
    assert nf.info(path).notes == (f"{left} bytes follow the array",)
    with nf.open(path, "r+") as array:
        assert array.shape == (4, 3)
        array.append(numbered(1, 4))
        np.testing.assert_array_equal(load(array), numbered(5))
    assert os.path.getsize(path) == 128 + numbered(5).nbytes
    assert nf.info(path).notes == ()


def test_another_array_behind_the_array_is_not_written_over(tmp_path):
    path = tmp_path / "x.npy"
    with open(path, "wb") as file:
        np.save(file, numbered(4))
        np.save(file, numbered(2))
    with nf.open(path, "r+") as array:
        for act in (lambda: array.append(numbered(1)), lambda: array.resize(9), lambda: array.resize(1)):
            with unchanged(array), pytest.raises(LayoutError, match="follow"):
                act()
    with open(path, "rb") as file:
        np.testing.assert_array_equal(np.load(file), numbered(4))
        np.testing.assert_array_equal(np.load(file), numbered(2))


@pytest.mark.parametrize("suffix", [".bin", ".dat"])
@pytest.mark.parametrize("left", [1, 11])
def test_a_part_of_a_row_is_written_over(tmp_path, suffix, left):
    kind = Kind(suffix, "C")
    array = kind.make(tmp_path, numbered(4))
    array.append(numbered(1, 4))
    array.close()
    with open(array.filename, "ab") as file:
        file.write(b"\xa5" * left)
    with kind.reopen(array) as array:
        assert array.shape == (5, 3)
        array.append(numbered(1, 5))
    np.testing.assert_array_equal(kind.read(array), numbered(6))


def test_rows_that_follow_a_part_of_a_file_are_not_written_over(tmp_path):
    path = tmp_path / "x.dat"
    numbered(6).tofile(path)
    with nf.memmap(path, "f4", "r+", shape=(4, 3)) as array, unchanged(array), pytest.raises(LayoutError):
        array.append(numbered(1))


def test_the_bytes_before_the_array_are_kept(tmp_path):
    with KINDS["bare from 100"].make(tmp_path, numbered(1)) as array:
        with open(array.filename, "r+b") as file:
            file.write(b"\xa5" * 100)
        array.append(numbered(50_000))
    with open(array.filename, "rb") as file:
        assert file.read(100) == b"\xa5" * 100


def test_a_header_is_prepared_anew_after_a_block_that_was_rolled_back(npy_of):
    with npy_of(np.zeros(0, "u1")) as array:
        with contextlib.suppress(KeyError), array.atomic():
            array.append(np.zeros(0, "u1"))
            raise KeyError
        with unchanged(array):
            pass
        array.append(np.zeros(0, "u1"))
        assert load(array).shape == (0,)
        array.append([5])
        assert load(array).tolist() == [5]
