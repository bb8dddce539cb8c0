""".npz: stored members are mapped where they lie; of the others it says why not, and what to do."""

import glob
import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hostile import assert_cheap

import ndfile as nf

try:  # before the tests: what it maps stays
    import ml_dtypes
except ImportError:
    ml_dtypes = None

MODES = ["r", "c"]


def whole(path):
    with open(path, "rb") as file:
        return file.read()


def arrays():
    return {
        "a": np.arange(12, dtype="<f4").reshape(3, 4),
        "b": np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3), "c16"),
        "fields": np.ones(3, [("x", "<f4"), ("y", "S3")]),
        "text": np.array(["ä", "値"]),
        "when": np.array(["2020-01-01"], "M8[D]"),
    }


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.npz")


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        mapped = found[name]
        assert isinstance(mapped, nf.memmap)
        assert (mapped.dtype, mapped.shape) == (array.dtype, array.shape)
        assert mapped.tobytes("A") == array.tobytes("A")
        assert mapped.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("mode", MODES)
def test_what_numpy_saves_is_mapped_as_it_is(mode, path):
    np.savez(path, **arrays())
    content = whole(path)
    with nf.open(path, mode) as found:
        assert_same(found, arrays())
        for name in found:
            mapped = found[name]
            assert content[mapped.offset : mapped.offset + mapped.nbytes] == mapped.tobytes("A")
            if mode == "c" and mapped.size:
                mapped[...] = mapped[(0,) * mapped.ndim]
    assert whole(path) == content


def test_mode_r_plus_is_refused_with_the_reason(path):
    np.savez(path, a=np.zeros(3))
    with pytest.raises(nf.FormatError, match=r"checksum of every member.*mode='c' .*ndfile\.convert"):
        nf.open(path, "r+")
    with pytest.raises(nf.FormatError, match="checksum"):
        nf.open(path, "r+", "a")


def test_members_share_one_mapping_of_the_file_itself(path):
    np.savez(path, a=np.zeros(5000), b=np.ones(5000))
    with nf.open(path) as found:
        assert found["a"]._mmap is found["b"]._mmap
        offset = found["a"].offset
        # Somebody else changes the file: the map shows it, for nothing was copied.
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(np.float64(7).tobytes())
        assert found["a"][0] == 7


def test_a_member_is_opened_alone(path):
    np.savez(path, **arrays())
    with nf.open(path, key="b") as mapped:
        assert mapped.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(nf.MemberError, match="'c' is not one of its 7 members"):
        nf.open(path, key="c")


def stored(path, members, prefix=b"", comment=b"", **kinds):
    with open(path, "wb") as file:
        file.write(prefix)
        with zipfile.ZipFile(file, "w" if not prefix else "a") as archive:
            archive.comment = comment
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content, **kinds)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("shift", range(9))
def test_unaligned_members_are_mapped(shift, path):
    array = np.arange(100, dtype="<f8")
    stored(path, {"x" * (shift + 1) + ".npy": npy(array), "b.npy": npy(array)})
    with nf.open(path) as found:
        for name in found:
            assert found[name].tolist() == array.tolist()
            assert found[name].sum() == array.sum()
        assert found["x" * (shift + 1)].flags.aligned == (found["x" * (shift + 1)].offset % 8 == 0)


@pytest.mark.parametrize(
    "prefix", [b"#!/bin/sh\nexit 0\n", bytes(5000), b"MZ" + bytes(100)], ids=["script", "zeros", "exe"]
)
def test_data_may_stand_before_the_archive(prefix, path):
    array = np.arange(5)
    stored(path, {"a.npy": npy(array)}, prefix=prefix)
    with nf.open(path) as found:
        assert found["a"].tolist() == array.tolist()


def test_an_archive_whose_offsets_do_not_count_what_stands_before_it(path):
    np.savez(path, a=np.arange(5))
    content = whole(path)
    with open(path, "wb") as file:
        file.write(b"#!/bin/sh\n" + content)
    with nf.open(path) as found:
        assert found["a"].tolist() == [0, 1, 2, 3, 4]


def test_members_in_folders_keep_their_names(path):
    names = ["layer0/kernel", "layer0/bias", "a b", "größe", "値", "x.npy", "dotted.name"]
    np.savez(path, **{name: np.arange(3) for name in names})
    with nf.open(path) as found:
        assert list(found) == names
    with np.load(path) as theirs:
        assert len(theirs.files) == len(names)


def test_members_that_are_no_arrays_are_left_out_and_noted(path):
    stored(path, {"a.npy": npy(np.arange(3)), "readme.txt": b"text", "folder/": b""})
    about = nf.info(path)
    assert list(about.members) == ["a"]
    assert about.notes == ("2 members are no .npy files: 'readme.txt', 'folder/'",)


def test_an_empty_archive_is_empty(path):
    np.savez(path)
    with nf.open(path) as found:
        assert len(found) == 0
        assert list(found) == []


def test_zip64_members_are_mapped(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.npy", "b.npy"):
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(npy(np.arange(9)))
    with nf.open(path) as found:
        assert found["b"].tolist() == list(range(9))


def test_an_archive_written_to_a_pipe_is_mapped(path):
    # Sizes and checksums then stand behind each member.
    class Pipe(io.RawIOBase):
        content = b""

        def writable(self):
            return True

        def write(self, data):
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a.npy", npy(np.arange(5)))
        archive.writestr("b.npy", npy(np.arange(6)))
    with open(path, "wb") as file:
        file.write(pipe.content)
    with nf.open(path) as found:
        assert found["a"].tolist() == [0, 1, 2, 3, 4]
        assert found["b"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("method", "name", "way_out"),
    [
        (zipfile.ZIP_DEFLATED, "deflate", r"ndfile\.convert"),
        (zipfile.ZIP_BZIP2, "bzip2", r"Unpack it with another program\."),
        (zipfile.ZIP_LZMA, "lzma", r"Unpack it with another program\."),
    ],
    ids=["deflate", "bzip2", "lzma"],
)
def test_a_compressed_member_is_refused_with_the_way_out(method, name, way_out, path):
    stored(path, {"a.npy": npy(np.arange(50)), "b.npy": npy(np.arange(3))}, compress_type=method)
    with nf.open(path) as found:
        assert list(found) == ["a", "b"]
        with pytest.raises(nf.FormatError, match=rf"member 'a': it is compressed \({name}\).*{way_out}") as caught:
            found["a"]
    assert caught.value.member == "a"
    with pytest.raises(nf.FormatError, match=way_out):
        nf.open(path, key="a")


def test_stored_members_beside_compressed_ones_are_mapped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("packed.npy", npy(np.arange(50)), zipfile.ZIP_DEFLATED)
        archive.writestr("plain.npy", npy(np.arange(50)))
    with nf.open(path) as found:
        assert found["plain"].tolist() == list(range(50))
        with pytest.raises(nf.FormatError, match="compressed"):
            found["packed"]
    assert nf.info(path).members["packed"].shape == (50,)


@pytest.mark.parametrize(("offset", "value"), [(8, 93), (8, 98), (6, 1)], ids=["zstd", "ppmd", "encrypted"])
def test_other_methods_and_ciphers_are_refused_with_the_way_out(offset, value, path, tmp_path):
    np.savez(path, a=np.arange(5))
    content = bytearray(whole(path))
    content[offset] = value
    content[content.index(b"PK\x01\x02") + offset + 2] = value
    with open(path, "wb") as file:
        file.write(content)
    advice = r"it is encrypted.*Unpack it" if value == 1 else r"it is compressed \((zstd|method 98)\).*Unpack it"
    with pytest.raises(nf.FormatError, match=advice):
        nf.open(path, key="a")
    with pytest.raises(nf.FormatError):
        nf.convert(path, str(tmp_path / "y.npz"))
    assert os.listdir(tmp_path) == ["x.npz"]


def test_compressed_archives_are_converted(path, tmp_path):
    expected = {name: array for name, array in arrays().items() if array.size}
    np.savez_compressed(path, **expected)
    out = str(tmp_path / "y.npz")
    nf.convert(path, out, sync=False)
    with nf.open(out) as found:
        assert_same(found, expected)
    with np.load(out) as theirs:
        for name, array in expected.items():
            assert theirs[name].tobytes() == array.tobytes()
    out = str(tmp_path / "y.npy")
    nf.convert(path, out, key="b", sync=False)
    assert np.load(out).tolist() == expected["b"].tolist()
    nf.convert(path, path, sync=False)
    with nf.open(path) as found:
        assert_same(found, expected)


def test_a_large_compressed_member_is_converted(path, tmp_path):
    array = np.random.default_rng(1).integers(0, 9, (3000, 1000), np.int64)
    np.savez_compressed(path, array)
    nf.convert(path, str(tmp_path / "y.npy"), sync=False)
    assert np.array_equal(np.load(tmp_path / "y.npy"), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_converting_finds_a_wrong_checksum_and_leaves_what_was_there(save, path, tmp_path):
    array = np.random.default_rng(1).normal(size=2000)
    save(path, a=array)
    crc = zlib.crc32(npy(array))
    content = whole(path)
    assert content.count(struct.pack("<I", crc)) == 2  # in the member's own header, and in the directory
    out = str(tmp_path / "y.npy")
    np.save(out, np.arange(3))
    with open(path, "wb") as file:
        file.write(content.replace(struct.pack("<I", crc), struct.pack("<I", crc ^ 0xFF)))
    with pytest.raises(nf.FormatError, match="CRC"):
        nf.convert(path, out, key="a", sync=False)
    assert np.load(out).tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "y.npy"]


def test_objects_are_refused_and_the_other_members_are_mapped(path):
    np.savez(path, a=np.array([{}, []], object), b=np.arange(3), allow_pickle=True)
    with nf.open(path) as found:
        assert found["b"].tolist() == [0, 1, 2]
        with pytest.raises(nf.FormatError, match="never unpickles"):
            found["a"]


def test_what_is_saved_numpy_loads(path):
    expected = arrays()
    nf.save(path, expected, metadata={"by": "us"}, sync=False)
    with np.load(path) as theirs:
        assert theirs.files == list(expected)
        for name, array in expected.items():
            assert theirs[name].dtype == array.dtype
            assert theirs[name].tobytes() == array.tobytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    with nf.open(path) as found:
        assert_same(found, expected)
        assert found.metadata == {"by": "us"}
        assert all(found[name].offset % 64 == 0 for name in found)


@pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes is not installed")
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz"])
def test_types_of_ml_dtypes_come_back_as_themselves(name, path):
    dtype = np.dtype(getattr(ml_dtypes, name))
    nf.save(path, {"a": np.arange(5).astype(dtype)}, sync=False)
    with nf.open(path) as found:
        assert found["a"].dtype == dtype
        assert found["a"].astype(int).tolist() == [0, 1, 2, 3, 4]
    with np.load(path) as theirs:
        assert theirs["a"].view(dtype).astype(int).tolist() == [0, 1, 2, 3, 4]


def test_1000_members_are_mapped(path):
    expected = {f"layer{n}/kernel": np.full((2, 3), n) for n in range(1000)}
    np.savez(path, **expected)
    with nf.open(path) as found:
        assert_same(found, expected)


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing:UserWarning")
def test_real_files_are_described_as_numpy_loads_them(tmp_path):
    paths = []
    for package in ("numpy", "scipy", "sklearn", "skimage", "matplotlib"):
        folder = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), package)
        paths += sorted(glob.glob(os.path.join(folder, "**", "*.npz"), recursive=True))
    if not paths:
        pytest.skip("no installed package has a .npz file")
    for path in paths:
        out = str(tmp_path / "y.npz")
        members = nf.info(path).members
        has_objects = any(member.obstacle and "unpickle" in member.obstacle for member in members.values())
        if not has_objects:
            nf.convert(path, out, sync=False)
        with np.load(path, encoding="latin1") as theirs, nf.open(path) as ours:
            assert list(members) == theirs.files
            if not has_objects:
                with nf.open(out) as converted:
                    assert_same(converted, {name: theirs[name] for name in theirs.files})
            for name, member in members.items():
                if member.obstacle is None:
                    assert ours[name].tobytes("A") == theirs[name].tobytes("A")


def test_20_gib_open_in_5_ms_and_5_mib(path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (5, 1 << 30)})
    head, data = header.getvalue(), 20 << 30
    size = len(head) + data
    sizes = struct.pack("<HHQQ", 1, 16, size, size)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1, 5, 20) + b"a.npy" + sizes
    place = len(local) + size
    fields = (45, 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1, 5, 20, 0, 0, 0, 0, 0)
    directory = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", *fields) + b"a.npy" + sizes
    end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), place)
    end += struct.pack("<4sIQI", b"PK\6\7", 0, place + len(directory), 1)
    end += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    with open(path, "wb") as file:
        file.write(local + head)
        file.seek(place)
        file.write(directory + end)
    with zipfile.ZipFile(path) as readable:
        assert readable.infolist()[0].file_size == size
    assert_cheap(path, lambda found: found["a"].shape == (5, 1 << 30) and found["a"][4, -1] == 0)
