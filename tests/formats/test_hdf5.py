"""HDF5 files, against what h5py reads and writes."""

import glob
import json
import os

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

import ndfile as nf
from ndfile.formats import Source, named

REAL = sorted(glob.glob(os.path.join(os.path.dirname(h5py.__file__), "tests", "data_files", "*.h5")))
VERSIONS = ["earliest", "v108", "v110", "latest"]
NUMBERS = [order + kind for order in "<>" for kind in ("i2", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")]
DTYPES = [
    *NUMBERS,
    "i1",
    "u1",
    "?",
    "S7",
    "V5",
    np.longdouble,
    [("a", "<i4"), ("b", ">f8", (2, 3)), ("c", "S3")],
    {"names": ["a", "b"], "formats": ["u1", "<f8"], "offsets": [3, 8], "itemsize": 24},
]
SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 5), (1, 1, 1, 2)]


@pytest.fixture
def h5(tmp_path):
    return str(tmp_path / "x.h5")


def numbers(dtype, shape):
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    if dtype.kind in "SV" and dtype.names is None:
        return np.array([b"%d" % number for number in range(count)], dtype).reshape(shape)
    if dtype.names:
        values = np.zeros(shape, dtype)
        for name in dtype.names:
            values[name] = numbers(dtype[name].base, values[name].shape)
        return values
    return np.arange(count).astype(dtype).reshape(shape)


def write(path, values, name="x", **options):
    with h5py.File(path, "w", **options) as file:
        file[name] = values
    return path


def described(path):
    with open(path, "rb") as file:
        return named("hdf5").describe(Source(file.fileno(), path, os.path.getsize(path)))


def pieces(path, name):
    with open(path, "rb") as file:
        source = Source(file.fileno(), path, os.path.getsize(path))
        yield from named("hdf5").decode(source, described(path).members[name])


def low_level(path, kind, values=None, count=6, plist=None):
    """A dataset of a type that h5py's own names have not."""
    with h5py.File(path, "w") as file:
        dataset = h5d.create(file.id, b"x", kind, h5s.create_simple((count,)), plist)
        if values is not None:
            dataset.write(h5s.ALL, h5s.ALL, values)
    return path


@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_h5py_wrote_is_mapped_with_its_bytes(h5, dtype, libver):
    values = {f"of shape {shape}": numbers(dtype, shape) for shape in SHAPES}
    with h5py.File(h5, "w", libver=libver) as file:
        for name, array in values.items():
            file[name] = array
    with nf.open(h5) as archive, h5py.File(h5) as file:
        assert list(archive) == sorted(values)
        for name, array in values.items():
            mapped = archive[name]
            assert mapped.dtype == file[name].dtype == np.dtype(dtype)
            assert mapped.dtype.metadata is None
            assert (mapped.shape, mapped.tobytes()) == (array.shape, file[name][...].tobytes())
            assert mapped.offset == file[name].id.get_offset()


@pytest.mark.parametrize("userblock_size", [512, 1024, 2048, 4096, 65536])
def test_a_user_block_is_counted(h5, userblock_size):
    values = numbers("<f8", (3, 4))
    write(h5, values, userblock_size=userblock_size)
    with open(h5, "r+b") as file:
        file.write(b"anything at all")
    with nf.open(h5, key="x") as mapped:
        assert mapped.tobytes() == values.tobytes()


def test_a_user_block_does_not_give_unwritten_datasets_an_offset(h5):
    with h5py.File(h5, "w", userblock_size=512) as file:
        file.create_dataset("x", (3,), "f4")
    assert described(h5).members["x"].obstacle == "it has no bytes yet"


def test_a_file_is_known_by_its_content(tmp_path):
    path = write(str(tmp_path / "x.dat"), np.arange(3), userblock_size=1024)
    assert nf.info(path).format == "hdf5"


def test_members_have_the_paths_of_their_groups_in_order(h5):
    names = ["a", "b/c/d", "b/e", "b0", "Grüße/✓"]
    with h5py.File(h5, "w", track_order=True) as file:
        for name in reversed(names):
            file[name] = [len(name)]
    with nf.open(h5) as archive:
        assert sorted(archive) == sorted(names)
        assert {name: archive[name][0] for name in archive} == {name: len(name) for name in names}


@pytest.mark.parametrize("libver", VERSIONS)
def test_groups_and_headers_of_many_entries_are_read_whole(h5, libver):
    names = [f"group/number {number:03}" for number in range(300)]
    with h5py.File(h5, "w", libver=libver) as file:
        for number, name in enumerate(names):
            file[name] = np.full(2, number)
            file["group"].attrs[name] = number
            file.attrs[str(number)] = number
    found = described(h5)
    assert list(found.members) == names
    assert found.metadata == {str(number): number for number in range(300)}
    with nf.open(h5) as archive:
        assert all(archive[name][1] == number for number, name in enumerate(names))


def test_every_hard_link_to_a_dataset_is_a_name_and_cycles_of_groups_end(h5):
    with h5py.File(h5, "w") as file:
        file["a/x"] = np.arange(3)
        file["b"] = file["a/x"]
        file["a/up"] = file["/"]
        file["a/self"] = file["a"]
        file["c"] = file["a"]
    with nf.open(h5) as archive:
        assert list(archive) == ["a/x", "b"]
        assert archive["a/x"].offset == archive["b"].offset


def test_soft_and_external_links_are_counted_and_not_followed(h5, tmp_path):
    write(str(tmp_path / "other.h5"), np.arange(3))
    with h5py.File(h5, "w") as file:
        file["x"] = np.arange(3)
        file["soft"] = h5py.SoftLink("/x")
        file["external"] = h5py.ExternalLink("other.h5", "/x")
        file["dangling"] = h5py.SoftLink("/nowhere")
    found = described(h5)
    assert list(found.members) == ["x"]
    assert found.notes == ("soft or external links not followed: 3",)


def test_named_types_are_no_members(h5):
    with h5py.File(h5, "w") as file:
        file["type"] = np.dtype("f8")
        file.create_dataset("x", data=[1.0], dtype=file["type"])
    with nf.open(h5) as archive:
        assert list(archive) == ["x"]
        assert archive["x"].dtype == np.float64


def test_an_enumeration_is_mapped_as_its_numbers(h5):
    with h5py.File(h5, "w") as file:
        file.create_dataset("x", data=[0, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1}, ">i2"))
    with nf.open(h5, key="x") as mapped:
        assert mapped.dtype == np.dtype(">i2")
        assert mapped.dtype.metadata is None
        assert mapped.tolist() == [0, 1]


def test_arrays_in_items_are_more_dimensions(h5):
    with h5py.File(h5, "w") as file:
        file.create_dataset("x", (5,), np.dtype(("f4", (2, 3))))[...] = numbers("f4", (5, 2, 3))
    with nf.open(h5, key="x") as mapped:
        assert mapped.shape == (5, 2, 3)
        assert mapped.tobytes() == numbers("f4", (5, 2, 3)).tobytes()


@pytest.mark.parametrize("kind", ["COMPLEX_IEEE_F32LE", "COMPLEX_IEEE_F64BE"])
def test_the_complex_type_of_newer_files_is_mapped(h5, kind):
    kind = getattr(h5t, kind)
    values = numbers("c16", (6,)).astype(kind.dtype)
    low_level(h5, kind, values)
    with nf.open(h5, key="x") as mapped:
        assert mapped.dtype == kind.dtype
        assert mapped.tobytes() == values.tobytes()


def test_an_empty_dataset_is_an_empty_array(h5):
    write(h5, np.zeros((0, 3), ">i4"))
    with nf.open(h5, key="x") as mapped:
        assert (mapped.shape, mapped.dtype) == ((0, 3), np.dtype(">i4"))


def test_a_change_in_place_is_what_h5py_reads(h5):
    write(h5, numbers(">i4", (3, 4)), libver="latest")
    size = os.path.getsize(h5)
    with nf.open(h5, "r+", "x") as mapped:
        mapped[1] = 77
    assert os.path.getsize(h5) == size
    with h5py.File(h5) as file:
        assert file["x"][:].tolist() == [[0, 1, 2, 3], [77] * 4, [8, 9, 10, 11]]


def test_a_change_by_h5py_is_seen_through_the_mapping_and_the_other_way_round(h5):
    write(h5, numbers("<f8", (3, 4)))
    with nf.open(h5, "r+", "x") as mapped:
        with h5py.File(h5, "r+") as file:
            file["x"][2, 1] = 5.5
        assert mapped[2, 1] == 5.5
        mapped[0, 0] = -1
        with h5py.File(h5) as file:  # nothing was flushed: the page cache is the same
            assert file["x"][0, 0] == -1


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("locking", [True, False, None])
def test_a_file_that_is_open_in_h5py_is_opened_beside_it(h5, mode, locking):
    write(h5, numbers("<f8", (3, 4)))
    with h5py.File(h5, mode, locking=locking) as file:
        dataset = file["x"]
        with nf.open(h5, key="x") as mapped:
            assert mapped.tobytes() == dataset[()].tobytes()
        assert dataset[2, 3] == 11  # its identifiers are still good


def test_no_lock_is_taken(h5):
    write(h5, numbers("<f8", (3, 4)))
    with nf.open(h5), h5py.File(h5, "r+", locking=True) as file:
        file["x"][0, 0] = 3


def test_a_file_that_a_program_writes_is_refused_with_the_way_out(h5):
    with h5py.File(h5, "w", libver="latest") as file:
        file["x"] = np.arange(3)
        file.flush()
        with pytest.raises(nf.FormatError, match=r"open for writing.*h5clear"):
            nf.open(h5)
    nf.open(h5).close()


def test_headers_that_are_not_yet_in_the_file_are_an_error(h5, tmp_path):
    # The superblock says that the file is longer than it is so far.
    with h5py.File(h5, "w") as file:
        file["x"] = np.arange(1000)
        file.flush()
        with open(h5, "rb") as raw:
            beginning = raw.read(4000)
    copy = str(tmp_path / "copy.h5")
    with open(copy, "wb") as raw:
        raw.write(beginning)
    with pytest.raises(nf.FormatError, match="truncated"):
        nf.open(copy)


PACKED = {
    "it is stored in chunks": {"chunks": (2, 3)},
    "it is stored in chunks (gzip)": {"chunks": (2, 3), "compression": "gzip"},
    "it is stored in chunks (lzf)": {"chunks": (2, 3), "compression": "lzf"},
    "it is stored in chunks (shuffle, gzip, fletcher32)": {
        "chunks": (2, 3),
        "compression": "gzip",
        "shuffle": True,
        "fletcher32": True,
    },
}


@pytest.mark.parametrize("obstacle", PACKED)
@pytest.mark.parametrize("libver", VERSIONS)
@pytest.mark.parametrize("dtype", ["<f8", ">i2", "S3", "?", [("a", "<i4"), ("b", ">f8", (2,))]], ids=str)
def test_chunks_are_refused_with_the_way_out_and_decoded(h5, dtype, obstacle, libver):
    values = numbers(dtype, (5, 7))
    with h5py.File(h5, "w", libver=libver) as file:
        file.create_dataset("x", data=values, **PACKED[obstacle])
    member = described(h5).members["x"]
    assert (member.dtype, member.shape, member.obstacle) == (values.dtype, values.shape, obstacle)
    with pytest.raises(nf.FormatError, match=r"stored in chunks.*ndfile\.convert"):
        nf.open(h5, key="x")
    assert b"".join(piece.tobytes() for piece in pieces(h5, "x")) == values.tobytes()


def test_converting_chunks_gives_an_array_that_can_be_mapped(h5, tmp_path):
    values = numbers("<f4", (50, 70))
    with h5py.File(h5, "w") as file:
        file.create_dataset("x", data=values, chunks=(7, 9), compression="gzip")
    target = str(tmp_path / "x.npy")
    nf.convert(h5, target)
    assert np.load(target).tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [(3, 1200, 1000), (2, 2, 3_000_000), (5_000_000,)])
def test_decoded_pieces_are_small_and_in_order(h5, shape):
    with h5py.File(h5, "w") as file:
        dataset = file.create_dataset("x", shape, "<f4", chunks=True)
        dataset[-1] = np.arange(np.prod(shape[1:])).reshape(shape[1:])
    found = list(pieces(h5, "x"))
    assert max(piece.nbytes for piece in found) <= 8 << 20
    assert len(found) > 1
    with h5py.File(h5) as file:
        assert b"".join(piece.tobytes() for piece in found) == file["x"][()].tobytes()


def test_a_compact_dataset_is_decoded(h5):
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_layout(h5d.COMPACT)
    low_level(h5, h5t.STD_I32BE, numbers("<i4", (6,)), plist=plist)
    assert described(h5).members["x"].obstacle == "it is stored inside its header (compact)"
    assert b"".join(piece.tobytes() for piece in pieces(h5, "x")) == numbers(">i4", (6,)).tobytes()


def test_a_dataset_without_bytes_is_decoded_to_its_fill_value(h5):
    with h5py.File(h5, "w") as file:
        file.create_dataset("x", (2, 3), "<i4", fillvalue=9)
    assert described(h5).members["x"].obstacle == "it has no bytes yet"
    assert np.concatenate(list(pieces(h5, "x"))).tolist() == [[9] * 3] * 2


def test_a_scalar_without_bytes_is_decoded(h5):
    with h5py.File(h5, "w") as file:
        file.create_dataset("x", (), "<i4", fillvalue=9)
    assert [piece.tolist() for piece in pieces(h5, "x")] == [9]


def test_a_null_dataspace_is_said_to_be_one(h5):
    write(h5, h5py.Empty("f4"))
    assert "null dataspace" in described(h5).members["x"].obstacle
    assert list(pieces(h5, "x")) == []


def odd(kind, **settings):
    kind = kind.copy()
    for name, value in settings.items():
        getattr(kind, f"set_{name}")(value)
    return kind


@pytest.mark.parametrize(
    ("kind", "dtype", "words"),
    [
        (odd(h5t.STD_I32LE, precision=24, size=3), "<i4", "24 of 24 bits"),
        (odd(h5t.STD_U32BE, precision=24, size=3), ">u4", "24 of 24 bits"),
        (odd(h5t.STD_I32LE, precision=12, offset=4), "<i4", "12 of 32 bits"),
        (odd(h5t.STD_U64LE, precision=40, size=5), "<u8", "40 of 40 bits"),
        (odd(h5t.IEEE_F32LE, ebias=100), "<f8", "32 of 32 bits"),
        (odd(h5t.C_S1, size=4, strpad=h5t.STR_SPACEPAD), "S4", "padded with spaces"),
        (odd(h5t.C_S1, size=4, strpad=h5t.STR_NULLTERM), "S4", "zero byte"),
    ],
    ids=["i24", "u24-big", "i12", "u40", "other-bias", "spaces", "terminated"],
)
def test_a_type_that_numpy_has_not_is_refused_and_decoded(h5, kind, dtype, words):
    values = np.array([b"a", b"bc", b"def"] * 2) if dtype == "S4" else np.arange(6)
    low_level(h5, kind, values.astype(dtype))
    member = described(h5).members["x"]
    assert words in member.obstacle
    assert np.concatenate(list(pieces(h5, "x"))).tolist() == values.tolist()
    with pytest.raises(nf.FormatError, match=words):
        nf.open(h5, key="x")


@pytest.mark.parametrize("kind", ["strings", "references", "lists", "compound"])
def test_items_that_lie_elsewhere_are_refused_and_left_to_h5py(h5, kind):
    with h5py.File(h5, "w") as file:
        if kind == "strings":
            file["x"] = ["a", "bc"]
        elif kind == "references":
            file["x"] = np.array([file.ref], h5py.ref_dtype)
        elif kind == "lists":
            file.create_dataset("x", (2,), h5py.vlen_dtype("i4"))[0] = [1, 2]
        else:
            file.create_dataset("x", (2,), np.dtype([("a", "i4"), ("b", h5py.string_dtype())]))
    with pytest.raises(nf.FormatError, match=r"elsewhere in the file.*Read it with h5py"):
        nf.open(h5, key="x")
    with pytest.raises(nf.FormatError, match="Read it with h5py"):
        list(pieces(h5, "x"))


def test_a_virtual_dataset_is_a_member_and_its_sources_are_left_alone(h5, tmp_path):
    write(str(tmp_path / "source.h5"), np.arange(6.0))
    with h5py.File(h5, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((6,), "<f8")
        layout[:] = h5py.VirtualSource("source.h5", "x", (6,))
        file.create_virtual_dataset("virtual", layout)
        file["x"] = np.arange(3)
    with nf.open(h5) as archive:
        assert list(archive) == ["virtual", "x"]
        assert archive["x"].tolist() == [0, 1, 2]
        with pytest.raises(nf.FormatError, match=r"virtual.*Read it with h5py"):
            archive["virtual"]
    with pytest.raises(nf.FormatError, match="virtual"):
        list(pieces(h5, "virtual"))


def test_external_storage_is_a_member_and_its_files_are_left_alone(h5, tmp_path):
    (tmp_path / "raw.bin").write_bytes(bytes(16))
    with h5py.File(h5, "w") as file:
        file.create_dataset("x", (4,), "i4", external=[(str(tmp_path / "raw.bin"), 0, 16)])
    member = described(h5).members["x"]
    assert (member.shape, member.obstacle) == ((4,), "its bytes lie in other files (external storage)")
    with pytest.raises(nf.FormatError, match=r"external storage.*Read it with h5py"):
        list(pieces(h5, "x"))


def test_attributes_are_metadata_where_json_has_their_values(h5):
    with h5py.File(h5, "w") as file:
        file["x"] = [1]
        for holder in (file, file["x"]):
            holder.attrs["unit"] = np.bytes_(b"m/s")
            holder.attrs["scale"] = 0.5
            holder.attrs["counts"] = np.arange(3, dtype=">i4")
            holder.attrs["flag"] = np.True_
            holder.attrs["missing"] = np.nan
            holder.attrs["complex"] = 1j
            holder.attrs["nothing"] = h5py.Empty("f4")
            holder.attrs["where"] = file.ref
            holder.attrs["text"] = "of variable length"
            holder.attrs["long"] = np.full(7000, 1 / 3)  # more than 64 KiB of text
    expected = {"unit": "m/s", "scale": 0.5, "counts": [0, 1, 2], "flag": True, "missing": "nan"}
    found = described(h5)
    assert found.metadata == found.members["x"].metadata == expected
    json.dumps(found.metadata, allow_nan=False)
    assert found.notes == ("attributes not shown (of variable length, large, or of odd types): 10",)


def test_the_metadata_of_a_file_is_bounded(h5):
    with h5py.File(h5, "w") as file:
        for number in range(100):
            file[str(number)] = [number]
            file[str(number)].attrs["long"] = np.full(3000, 1e-300 / 3)
    found = described(h5)
    assert len(found.members) == 100
    assert len(json.dumps([member.metadata for member in found.members.values()])) < 2 << 20


def test_opening_reads_headers_only(h5, run_python):
    with h5py.File(h5, "w") as file:
        file["x"] = np.ones(16 << 20, "u1")
    run_python(
        """
        import sys, ndfile as nf

        def read():
            with open("/proc/self/io") as counts:
                return int(counts.readline().split()[1])

        nf.open(sys.argv[1]).close()
        before = read()
        nf.open(sys.argv[1], key="x").close()
        assert read() - before < 65536, read() - before
        """,
        h5,
    )


@pytest.mark.parametrize("path", REAL, ids=os.path.basename)
def test_h5pys_own_files_are_read_as_h5py_reads_them(path):
    found = described(path)
    assert found.members
    with nf.open(path) as archive, h5py.File(path) as file:
        assert sorted(archive) == sorted(file)
        for name, member in found.members.items():
            if member.obstacle is None:
                assert archive[name].dtype == file[name].dtype
                assert archive[name].tobytes() == file[name][()].tobytes()
            else:
                assert file[name].dtype.hasobject


def test_there_are_real_files():
    assert len(REAL) >= 4


@pytest.mark.parametrize("userblock_size", [0, 512])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_the_scales_of_dimensions_are_named(h5, libver, userblock_size):
    with h5py.File(h5, "w", libver=libver, userblock_size=userblock_size) as file:
        file["time"], file["g/x"], file["also"] = np.arange(2.0), np.arange(3), np.arange(3)
        file["v"], file["w"] = numbers("f4", (2, 3)), numbers("f4", (3, 2))
        for name in ("time", "g/x", "also"):
            file[name].make_scale()
        for name, axis, scale in (("v", 0, "time"), ("v", 1, "g/x"), ("v", 1, "also"), ("w", 1, "time")):
            file[name].dims[axis].attach_scale(file[scale])
        file["alias"] = file["v"]
    members = nf.info(h5).members
    assert members["v"].metadata["DIMENSION_LIST"] == [["time"], ["also", "g/x"]]
    assert members["alias"].metadata["DIMENSION_LIST"] == [["time"], ["also", "g/x"]]
    assert members["w"].metadata["DIMENSION_LIST"] == [[], ["time"]]
    assert "DIMENSION_LIST" not in members["time"].metadata
    json.dumps(members["v"].metadata, allow_nan=False)


@pytest.mark.parametrize(
    "uses",
    [
        np.zeros(3, "u1"),
        np.zeros((), "i8"),
        np.array([(1 << 63, 1 << 31), (0, 0)], [("dataset", "u8"), ("dimension", "u4")]),
        np.bytes_("dataset"),
        h5py.Empty("f4"),
    ],
)
def test_a_list_of_uses_that_makes_no_sense_names_nothing(h5, uses):
    with h5py.File(h5, "w") as file:
        file["time"], file["v"] = np.arange(2.0), np.arange(2)
        file["time"].attrs["CLASS"] = np.bytes_("DIMENSION_SCALE")
        file["time"].attrs["REFERENCE_LIST"] = uses
    members = nf.info(h5).members
    assert list(members) == ["time", "v"]
    assert not members["v"].metadata
