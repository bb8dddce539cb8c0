"""Arrow IPC files and streams, against what pyarrow reads and writes."""

import os
import struct

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

import ndfile as nf
from ndfile.formats import Source, named

REAL = os.path.join(os.path.dirname(pa.__file__), "tests", "data", "feather")
NUMBERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
TIMES = [f"{kind}[{unit}]" for kind in ("M8", "m8") for unit in ("s", "ms", "us", "ns")]
BYTES = np.random.default_rng(0).integers(0, 100, 8 * 1000, "u1")

# Those that come before a column take buffers and nodes of their own, all in another number.
AWKWARD = {
    "null": pa.nulls(4),
    "bool": pa.array([True, False, True, True]),
    "missing": pa.array([1, None, 3, None]),
    "string": pa.array(["a", "bc", "", "d"]),
    "large string": pa.array(["a", "bc", "", "d"], pa.large_string()),
    "string view": pa.array(["a", "b" * 20, "c" * 30, "d"], pa.string_view()),
    "list": pa.array([[1], [], [2, 3], [4]]),
    "large list": pa.array([[1], [], [2, 3], [4]], pa.large_list(pa.int8())),
    "list view": pa.array([[1], [], [2, 3], [4]], pa.list_view(pa.int8())),
    "struct": pa.array([{"x": 1, "y": "a"}] * 4),
    "map": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int8())),
    "sparse union": pa.UnionArray.from_sparse(pa.array([0] * 4, pa.int8()), [pa.array([1, 2, 3, 4])]),
    "dense union": pa.UnionArray.from_dense(
        pa.array([0] * 4, pa.int8()), pa.array([0, 1, 2, 3], pa.int32()), [pa.array([1, 2, 3, 4])]
    ),
    "runs": pa.RunEndEncodedArray.from_arrays([4], ["x"]),
    "dictionary": pa.array(["a", "b", "a", "b"]).dictionary_encode(),
    "decimal": pa.array([1, 2, 3, 4], pa.decimal128(5, 2)),
    "days": pa.array([0, 1, 2, 3], pa.date32()),
    "seconds": pa.array([0, 1, 2, 3], pa.time32("s")),
    "months": pa.array([(1, 2, 3)] * 4, pa.month_day_nano_interval()),
}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.arrow")


def write(path, *batches, new=pa.ipc.new_file, **options):
    with (
        pa.OSFile(path, "wb") as file,
        new(file, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def batch_of(columns):
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def described(path):
    with open(path, "rb") as file:
        return named("arrow").describe(Source(file.fileno(), path, os.path.getsize(path)))


def decoded(path, name):
    with open(path, "rb") as file:
        source = Source(file.fileno(), path, os.path.getsize(path))
        member = named("arrow").describe(source).members[name]
        pieces = list(named("arrow").decode(source, member))
    assert all(piece.dtype == member.dtype and piece.nbytes <= 4 << 20 for piece in pieces)
    return np.concatenate([piece.reshape(-1) for piece in pieces]).reshape(member.shape)


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_what_pyarrow_wrote_is_mapped_byte_for_byte(path, new, rows):
    columns = {dtype: BYTES.view(dtype)[:rows] for dtype in NUMBERS + TIMES}
    write(path, batch_of({name: pa.array(values) for name, values in columns.items()}), new=new)
    with nf.open(path) as archive:
        assert list(archive) == list(columns)
        for name, values in columns.items():
            assert (archive[name].dtype, archive[name].shape) == (values.dtype, (rows,))
            assert archive[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("options", [{"use_legacy_format": True}, {"metadata_version": pa.ipc.MetadataVersion.V4}])
def test_older_versions_of_the_format_are_mapped(path, options):
    write(path, batch_of({"s": pa.array(["a", "b"]), "x": pa.array([1, 2])}), **options)
    with nf.open(path) as archive:
        assert archive["x"].tolist() == [1, 2]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_column_behind_an_awkward_one_is_found(path, name):
    write(path, batch_of({name: AWKWARD[name], "x": pa.array([5, 6, 7, 8]), "y": pa.array([1.0, 2.0, 3.0, 4.0])}))
    with nf.open(path) as archive:
        assert archive["x"].tolist() == [5, 6, 7, 8]
        assert archive["y"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_column_is_refused_in_words(path, name):
    write(path, batch_of({name: AWKWARD[name], "x": pa.array([5, 6, 7, 8])}))
    with nf.open(path) as archive:
        assert list(archive) == [name, "x"]
        with pytest.raises(nf.FormatError, match="so that it cannot be mapped"):
            archive[name]


def test_times_and_bytes_of_a_fixed_width_are_mapped(path):
    columns = {
        "zoned": pa.array([1, 2], pa.timestamp("us", tz="Europe/Berlin")),
        "date": pa.array(np.array(["2020-01-01", "2021-01-01"], "M8[ms]"), pa.date64()),
        "time": pa.array([1, 2], pa.time64("ns")),
        "bytes": pa.array([b"ab\0", b"cd\0"], pa.binary(3)),
    }
    write(path, batch_of(columns))
    with nf.open(path) as archive:
        assert [archive[name].dtype for name in columns] == ["M8[us]", "M8[ms]", "m8[ns]", "V3"]
        assert archive["date"].astype(str).tolist() == ["2020-01-01T00:00:00.000", "2021-01-01T00:00:00.000"]
        assert archive["bytes"].tobytes() == b"ab\0cd\0"
    assert "Europe/Berlin" in nf.info(path).members["zoned"].metadata["type"]


def test_lists_of_a_fixed_size_are_further_axes(path):
    values = np.arange(24, dtype="i2").reshape(4, 3, 2)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)
    columns = {
        "pairs": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 6),
        "nested": pa.FixedSizeListArray.from_arrays(inner, 3),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(values),
    }
    write(path, batch_of(columns))
    with nf.open(path) as archive:
        np.testing.assert_array_equal(archive["pairs"], values.reshape(4, 6))
        np.testing.assert_array_equal(archive["nested"], values)
        np.testing.assert_array_equal(archive["tensor"], values)


def test_a_missing_value_inside_a_list_is_an_obstacle(path):
    write(path, batch_of({"x": pa.array([[1, 2], [3, None]], pa.list_(pa.int8(), 2))}))
    with pytest.raises(nf.FormatError, match="1 of its values are missing"):
        nf.open(path, key="x")
    with pytest.raises(nf.FormatError, match="ndfile cannot decode that"):
        decoded(path, "x")


def test_several_batches_are_numbered(path):
    write(path, batch_of({"x": pa.array([1, 2])}), batch_of({"x": pa.array([3])}))
    with nf.open(path) as archive:
        assert {name: archive[name].tolist() for name in archive} == {"x/0": [1, 2], "x/1": [3]}


def test_columns_of_the_same_name_have_their_number_in_it(path):
    write(path, pa.RecordBatch.from_arrays([pa.array([number]) for number in range(3)], ["x", "x", "x#1"]))
    with nf.open(path) as archive:
        assert {name: archive[name].tolist() for name in archive} == {"x#0": [0], "x#1": [1], "x#1#2": [2]}


def test_a_file_without_batches_is_an_empty_archive(path):
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, pa.schema([("x", pa.int8())])):
        pass
    with nf.open(path) as archive:
        assert list(archive) == []
    assert "it has no record batches, and so no arrays" in nf.info(path).notes


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_columns_are_refused_and_decoded(path, compression, new):
    columns = {dtype: pa.array(BYTES.view(dtype)[:500]) for dtype in NUMBERS + TIMES}
    columns["lists"] = pa.FixedSizeListArray.from_arrays(pa.array(BYTES[:1000]), 2)
    columns["bytes"] = pa.array([b"ab\0"] * 500, pa.binary(3))
    write(
        path,
        batch_of(columns),
        batch_of({name: column[7:100] for name, column in columns.items()}),
        new=new,
        compression=compression,
    )
    with pytest.raises(nf.FormatError, match=rf"it is compressed \({compression}\), so that it cannot be mapped"):
        nf.open(path, key="i4/0")
    for dtype in NUMBERS + TIMES:
        np.testing.assert_array_equal(decoded(path, f"{dtype}/0"), BYTES.view(dtype)[:500])
        np.testing.assert_array_equal(decoded(path, f"{dtype}/1"), BYTES.view(dtype)[7:100])
    np.testing.assert_array_equal(decoded(path, "lists/1"), BYTES[14:200].reshape(-1, 2))
    assert decoded(path, "bytes/0").tobytes() == b"ab\0" * 500


def test_booleans_days_and_short_times_are_decoded(path):
    write(path, batch_of(AWKWARD))
    assert decoded(path, "bool").tolist() == [True, False, True, True]
    assert decoded(path, "days").astype(str).tolist() == ["1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04"]
    assert decoded(path, "seconds").tolist() == np.arange(4).astype("m8[s]").tolist()


def test_many_compressed_values_are_decoded_in_bounded_pieces(path):
    values = np.arange(2_000_000)
    write(path, batch_of({"x": pa.array(values)}), compression="zstd")
    np.testing.assert_array_equal(decoded(path, "x"), values)


def test_a_file_of_early_2020_which_says_its_compression_elsewhere_is_not_mapped():
    path = os.path.join(REAL, "v0.17.0.version.2-compression.lz4.feather")
    (name,) = described(path).members
    with pytest.raises(nf.FormatError, match="it is compressed"):
        nf.open(path, key=name)
    np.testing.assert_array_equal(decoded(path, name), feather.read_table(path)[name].to_numpy())


def test_feather_without_compression_is_mapped(tmp_path):
    path = str(tmp_path / "x.feather")
    feather.write_feather(pa.table({"x": [1, 2, 3]}), path, compression="uncompressed")
    with nf.open(path) as archive:
        assert archive["x"].tolist() == [1, 2, 3]


def test_feather_of_version_1_is_refused_by_name(tmp_path):
    path = str(tmp_path / "x.feather")
    with open(path, "wb") as file:
        file.write(b"FEA1" + bytes(40) + b"FEA1")
    with pytest.raises(nf.FormatError, match="Feather of version 1"):
        nf.open(path)


def test_a_change_in_place_is_seen_by_pyarrow_and_its_change_here(path):
    write(path, batch_of({"s": pa.array(["a", "b", "c"]), "x": pa.array([1, 2, 3])}))
    with nf.open(path, "r+") as archive, pa.memory_map(path) as file:
        archive["x"][1] = 77
        theirs = pa.ipc.open_file(file).get_batch(0).column("x")
        assert theirs.to_pylist() == [1, 77, 3]
        archive["x"][2] = 88
        assert theirs.to_pylist() == [1, 77, 88]  # the same pages
        del theirs
    with open(path, "r+b") as other, nf.open(path) as archive:
        other.seek(archive["x"].offset)
        other.write(struct.pack("<q", -5))
        other.flush()
        assert archive["x"].tolist() == [-5, 77, 88]


def test_the_offsets_are_those_of_pyarrow(path):
    columns = {**AWKWARD, **{dtype: pa.array(BYTES.view(dtype)[:4]) for dtype in NUMBERS + TIMES}}
    write(path, batch_of(columns))
    members = described(path).members
    with pa.memory_map(path) as file:
        base = file.read_buffer(1).address
        batch = pa.ipc.open_file(file).get_batch(0)
        for name in NUMBERS + TIMES:
            assert members[name].offset == batch.column(name).buffers()[1].address - base
        del batch


@pytest.mark.parametrize("dtype", [">i4", ">f8"])
def test_a_big_endian_file_is_mapped_as_such(path, dtype):
    values = np.array([1, -2, 300], dtype)
    write(path, batch_of({"x": pa.array(values.view(dtype.replace(">", "<")))}), new=pa.ipc.new_stream)
    with open(path, "rb") as file:
        content = file.read()
    # The schema's flag, which is left out where it is 0: an empty slot of its table is pointed at a 1 elsewhere.
    start = 8 + struct.unpack_from("<I", content, 8)[0]
    header = next(
        place + struct.unpack_from("<I", content, place)[0]
        for place in [
            start + struct.unpack_from("<H", content, start - struct.unpack_from("<i", content, start)[0] + 8)[0]
        ]
    )
    slots = header - struct.unpack_from("<i", content, header)[0]
    one = next(place for place in range(header, header + 2000, 2) if content[place : place + 2] == b"\1\0")
    content = bytearray(content)
    struct.pack_into("<H", content, slots + 4, one - header)
    with open(path, "wb") as file:
        file.write(content)
    with pa.OSFile(path) as file:
        assert pa.ipc.open_stream(file).read_all()["x"].to_pylist() == values.tolist()
    with nf.open(path) as archive:
        assert archive["x"].dtype == dtype
        assert archive["x"].tolist() == values.tolist()


def test_metadata_of_the_schema_and_the_columns_is_kept_unless_it_is_large(path):
    field = pa.field("x", pa.int8(), metadata={"unit": "m", "column": "mine"})
    schema = pa.schema([field], metadata={"k": "v", "batches": "mine", b"\xff": b"\xfe", "large": "x" * 100_000})
    write(path, pa.RecordBatch.from_arrays([pa.array([1], pa.int8())], schema=schema))
    info = nf.info(path)
    assert info.metadata == {"batches": 1, "k": "v", "\ufffd": "\ufffd"}
    metadata = info.members["x"].metadata
    assert (metadata["unit"], metadata["column"]) == ("m", 0)
