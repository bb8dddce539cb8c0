"""FITS files, against what astropy reads and writes."""

import math
import os
import warnings

import astropy.io.fits
import numpy as np
import pytest
from astropy.io import fits

import ndfile as nf
from ndfile.formats import Source, named

REAL = os.path.join(os.path.dirname(astropy.io.fits.__file__), "tests", "data")
TABLE = fits.BinTableHDU(np.zeros(3, [("a", ">i4"), ("b", ">f8")]))
BYTES = np.random.default_rng(0).integers(0, 255, 8 * 1000, "u1")
DTYPES = ["u1", ">i2", ">i4", ">i8", ">f4", ">f8"]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.fits")


def random(dtype, shape):
    return BYTES.view(dtype)[: math.prod(shape)].reshape(shape)


def described(path):
    with open(path, "rb") as file:
        return named("fits").describe(Source(file.fileno(), path, os.path.getsize(path)))


def decoded(path, member):
    with open(path, "rb") as file:
        pieces = list(named("fits").decode(Source(file.fileno(), path, os.path.getsize(path)), member))
    assert all(piece.dtype == member.dtype and piece.nbytes <= 4 << 20 for piece in pieces)
    return np.concatenate([piece.reshape(-1) for piece in pieces]).reshape(member.shape)


def theirs(path, number):
    with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as units:
        return units[number].data


@pytest.mark.parametrize("shape", [(1,), (1000,), (30, 20), (2, 3, 4, 5), (1,) * 12, (0, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_astropy_wrote_is_mapped_byte_for_byte(path, dtype, shape):
    values = random(dtype, shape)
    fits.PrimaryHDU(values).writeto(path)
    with nf.open(path) as array:
        assert (array.dtype, array.shape) == (np.dtype(dtype), shape)
        assert array.tobytes() == values.tobytes()


@pytest.mark.parametrize("name", sorted(name for name in os.listdir(REAL) if name.endswith(".fits")))
def test_the_images_of_a_real_file_are_those_of_astropy(name):
    path = os.path.join(REAL, name)
    for key, member in described(path).members.items():
        values = theirs(path, member.metadata["hdu"])
        if member.way_out is not None:
            with pytest.raises(nf.FormatError, match="random groups"):
                nf.open(path)
            continue
        if member.obstacle is not None:
            with pytest.raises(nf.FormatError, match=r"cannot be mapped.*ndfile\.convert"):
                nf.open(path, key=key)
            np.testing.assert_array_equal(decoded(path, member), values)
            continue
        with nf.open(path, key=key) as array:
            if "blank" in member.metadata:  # which astropy turns into NaN
                values = np.where(np.isnan(values), member.metadata["blank"], values)
            np.testing.assert_array_equal(array, values)


def test_most_images_of_the_real_files_were_looked_at():
    files = [described(os.path.join(REAL, name)) for name in os.listdir(REAL) if name.endswith(".fits")]
    members = [member for contents in files for member in contents.members.values()]
    assert len(members) > 20
    assert sum(member.obstacle is None for member in members) > 10


def test_a_change_in_place_is_seen_by_astropy_and_its_change_here(path):
    fits.PrimaryHDU(np.zeros((4, 5), ">i2")).writeto(path)
    with nf.open(path, "r+") as array:
        array[1] = 258
        with fits.open(path, mode="update", memmap=True) as units:
            assert units[0].data[1].tolist() == [258] * 5
            units[0].data[2] = -3
            units.flush()
        assert array[2].tolist() == [-3] * 5


def test_several_images_are_an_archive_by_name_then_version_then_number(path):
    units = [fits.PrimaryHDU(np.full(3, 0, "i2"))]
    for number, (name, version) in enumerate(
        [("SCI", 1), ("SCI", 2), ("ERR", 1), ("DQ", 1), ("DQ", 1), ("", 1), ("7", 1)], start=1
    ):
        units.append(fits.ImageHDU(np.full(3, number, "i2"), name=name, ver=version))
    fits.HDUList(units).writeto(path)
    with nf.open(path) as archive:
        assert list(archive) == ["0", "SCI,1", "SCI,2", "ERR", "4", "5", "6", "7"]
        assert [archive[name][0] for name in archive] == list(range(8))


def test_an_image_behind_an_empty_primary_unit_is_a_single_array(path):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.arange(4.0), name="SCI")]).writeto(path)
    with nf.open(path) as array:
        assert array.tolist() == [0, 1, 2, 3]
    assert list(nf.info(path).members) == ["SCI"]


def test_tables_are_no_members(path):
    fits.HDUList([fits.PrimaryHDU(np.arange(3)), TABLE, fits.ImageHDU(np.arange(4))]).writeto(path)
    info = nf.info(path)
    assert list(info.members) == ["0", "2"]
    assert "1 of its 3 HDUs are tables, which cannot be mapped" in info.notes


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "i1"])
def test_the_convention_for_other_integers_is_refused_and_decoded_to_them(path, dtype):
    values = random(dtype, (70, 9))
    fits.PrimaryHDU(values).writeto(path)
    with pytest.raises(nf.FormatError, match="its values are scaled"):
        nf.open(path)
    (member,) = described(path).members.values()
    assert member.dtype == values.dtype
    np.testing.assert_array_equal(decoded(path, member), values)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u1", "f4"), (">i2", "f4"), (">i4", "f8"), (">f4", "f4"), (">f8", "f8")]
)
def test_scaled_values_are_decoded_as_astropy_does(path, dtype, expected):
    unit = fits.PrimaryHDU(np.arange(60, dtype=dtype).reshape(3, 4, 5))
    unit.writeto(path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as units:
        units[0].header["BSCALE"] = 0.5
        units[0].header["BZERO"] = 3
    (member,) = described(path).members.values()
    assert member.dtype == expected
    np.testing.assert_array_equal(decoded(path, member), np.arange(60).reshape(3, 4, 5) * 0.5 + 3)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1"])
def test_compressed_images_are_refused_and_decoded(path, compression):
    values = np.arange(64 * 64, dtype="i2").reshape(64, 64)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values, compression_type=compression)]).writeto(path)
    with pytest.raises(nf.FormatError, match=rf"it is compressed \({compression}\)"):
        nf.open(path)
    (member,) = described(path).members.values()
    np.testing.assert_array_equal(decoded(path, member), values)


def test_a_large_scaled_image_is_decoded_in_bounded_pieces(path):
    values = np.arange(1 << 22, dtype="u2").reshape(2, 1 << 10, 1 << 11)
    fits.PrimaryHDU(values).writeto(path)
    (member,) = described(path).members.values()
    np.testing.assert_array_equal(decoded(path, member), values)  # checks the pieces


def test_blank_is_noted_and_the_bytes_are_mapped_as_they_are(path):
    unit = fits.PrimaryHDU(np.array([1, -99, 3], "i2"))
    unit.header["BLANK"] = -99
    unit.writeto(path)
    with nf.open(path) as array:
        assert array.tolist() == [1, -99, 3]
    info = nf.info(path)
    assert info.members["0"].metadata["blank"] == -99
    assert "-99 stands for missing ones" in " ".join(info.notes)


def test_an_image_with_a_checksum_is_not_changed_in_place(path):
    fits.PrimaryHDU(np.arange(6)).writeto(path, checksum=True)
    with pytest.raises(nf.FormatError, match="its header keeps a checksum of the data"):
        nf.open(path, "r+")
    with nf.open(path) as array:
        assert array.tolist() == list(range(6))


def test_the_header_is_in_the_metadata_as_astropy_reads_it(path):
    unit = fits.PrimaryHDU(np.arange(6))
    unit.header["OBJECT"] = ("it's M31", "a comment")
    unit.header["EXPTIME"] = 30.5
    unit.header["LONG"] = "x" * 200
    unit.writeto(path)
    lines = nf.info(path).members["0"].metadata["header"]
    header = fits.Header.fromstring("\n".join(lines), sep="\n")
    assert (header["OBJECT"], header["EXPTIME"], header["LONG"]) == ("it's M31", 30.5, "x" * 200)


def test_a_header_of_many_blocks_is_read_and_left_out_of_the_metadata(path):
    unit = fits.PrimaryHDU(np.arange(6))
    for number in range(2000):
        unit.header[f"K{number}"] = number
    unit.writeto(path)
    with nf.open(path) as array:
        assert array.tolist() == list(range(6))
    assert "header" not in nf.info(path).members["0"].metadata


def test_bytes_behind_the_last_unit_are_noted(path):
    fits.PrimaryHDU(np.arange(6)).writeto(path)
    with open(path, "ab") as file:
        file.write(bytes(100))
    with nf.open(path) as array:
        assert array.tolist() == list(range(6))
    assert "100 bytes follow the last HDU" in nf.info(path).notes


def test_a_file_without_its_last_padding_is_mapped(path):
    fits.PrimaryHDU(np.arange(6)).writeto(path)
    os.truncate(path, 2880 + 48)
    with nf.open(path) as array:
        assert array.tolist() == list(range(6))


def test_a_missing_astropy_is_named_only_where_it_is_needed(path, run_python):
    fits.PrimaryHDU(np.arange(6, dtype="u2")).writeto(path)
    program = """
        import sys
        sys.modules["astropy"] = None
        from ndfile.formats import Source, named
        import ndfile, os
        path = sys.argv[1]
        with open(path, "rb") as file:
            source = Source(file.fileno(), path, os.path.getsize(path))
            (member,) = named("fits").describe(source).members.values()
            try:
                list(named("fits").decode(source, member))
            except ndfile.LibraryError as error:
                assert "pip install 'ndfile[fits]'" in str(error)
            else:
                raise AssertionError
    """
    run_python(program, path)
