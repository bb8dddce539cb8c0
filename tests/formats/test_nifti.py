"""NIfTI files, against what nibabel reads and writes."""

import glob
import json
import os
import sys

import nibabel
import numpy as np
import pytest

import ndfile as nf
from ndfile.formats import Source, named

REAL = os.path.join(os.path.dirname(nibabel.__file__), "tests", "data")
REAL_MAPPABLE = ["anatomical.nii", "reoriented_anat_moved.nii", "resampled_anat_moved.nii", "row_major.dconn.nii"]
VERSIONS = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}
HEADERS = {1: nibabel.Nifti1Header, 2: nibabel.Nifti2Header}
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16"]
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([*RGB.descr, ("A", "u1")])


@pytest.fixture
def nii(tmp_path):
    return str(tmp_path / "x.nii")


def written(path, values, version=1, byte_order="<", slope=None, intercept=None, **fields):
    """Write an image with nibabel."""
    header = HEADERS[version](endianness=byte_order)
    header.set_data_dtype(values.dtype)
    image = VERSIONS[version](values, np.diag([2.0, 3.0, 4.0, 1.0]), header)
    for name, value in fields.items():
        image.header[name] = value
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
    image.to_filename(path)
    return path


def numbers(dtype, shape=(3, 4, 5)):
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    if dtype.names:
        return np.arange(count * dtype.itemsize, dtype="u1").view(dtype).reshape(shape)
    return np.arange(count).astype(dtype).reshape(shape)


def by_nibabel(path):
    image = nibabel.Nifti2Image if nibabel.Nifti2Image.path_maybe_image(path)[0] else nibabel.Nifti1Image
    return np.asanyarray(image.from_filename(path, mmap=False).dataobj)


def decoded(path):
    """The values of a file that cannot be mapped, and the largest piece that they come in."""
    with open(path, "rb") as file:
        source = Source(file.fileno(), path, os.path.getsize(path))
        member = named("nifti").describe(source).members["data"]
        pieces = list(named("nifti").decode(source, member))
    assert {piece.dtype for piece in pieces} <= {member.dtype}
    values = np.frombuffer(b"".join(piece.tobytes() for piece in pieces), member.dtype)
    return values.reshape(member.shape, order="F"), max(piece.nbytes for piece in pieces)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", [*DTYPES, RGB, RGBA], ids=str)
def test_what_nibabel_wrote_is_mapped_as_nibabel_reads_it(nii, version, byte_order, dtype):
    written(nii, numbers(dtype), version, byte_order)
    expected = by_nibabel(nii)
    with nf.open(nii) as array:
        assert isinstance(array, nf.memmap)
        assert array.flags.f_contiguous
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert array.tobytes("F") == expected.tobytes("F")
        assert np.array_equal(array, numbers(dtype))


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 4), (2, 3, 4, 5), (2, 1, 3, 1, 2), (2, 2, 2, 2, 2, 2, 3), (3000, 7)])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_number_of_dimensions_is_kept(nii, version, shape):
    written(nii, numbers("i2", shape), version)
    with nf.open(nii) as array:
        assert array.shape == shape
        assert np.array_equal(array, by_nibabel(nii))


def test_sizes_too_large_for_the_header_are_read_as_freesurfer_writes_them(nii):
    with pytest.warns(UserWarning, match="Freesurfer"):
        written(nii, numbers("u1", (40000, 1, 1)))
    with open(nii, "rb") as file:
        assert int.from_bytes(file.read(44)[42:44], "little", signed=True) == -1
    with nf.open(nii) as array:
        assert array.shape == (40000, 1, 1)


@pytest.mark.parametrize("slope", [0.0, 1.0, float("nan"), float("inf")])
def test_a_slope_that_changes_nothing_leaves_the_values_mappable(nii, slope):
    written(nii, numbers("i2"))
    with open(nii, "r+b") as file:
        file.seek(112)
        file.write(np.array([slope, 0.0], "<f4").tobytes())
    with nf.open(nii) as array:
        assert np.array_equal(array, by_nibabel(nii))


def test_a_change_is_seen_by_nibabel_and_a_change_of_the_file_is_seen_here(nii):
    written(nii, numbers("f4"))
    image = nibabel.load(nii, mmap="r")
    theirs = np.asanyarray(image.dataobj)
    with nf.open(nii, "r+") as array:
        array[1, 2, 3] = -7
        assert theirs[1, 2, 3] == -7
        with open(nii, "r+b", buffering=0) as file:
            file.seek(image.dataobj.offset)
            file.write(np.float32(-8).tobytes())
        assert array[0, 0, 0] == -8
    assert by_nibabel(nii)[1, 2, 3] == -7


def test_mode_c_leaves_the_file_alone(nii, content):
    written(nii, numbers("f4"))
    before = content(nii)
    with nf.open(nii, "c") as array:
        array[...] = 1
    assert content(nii) == before


def test_data_starts_behind_the_extensions(nii):
    image = nibabel.Nifti1Image(numbers("i2"), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 1000))
    image.to_filename(nii)
    with nf.open(nii) as array:
        assert array.offset > 1000
        assert np.array_equal(array, numbers("i2"))


@pytest.mark.parametrize("name", REAL_MAPPABLE)
def test_real_files_are_mapped_as_nibabel_reads_them(name):
    path = os.path.join(REAL, name)
    with nf.open(path) as array:
        assert array.tobytes("F") == by_nibabel(path).tobytes("F")


def test_all_real_files_are_known_here():
    assert {os.path.basename(path) for path in glob.glob(os.path.join(REAL, "*.nii"))} == {
        *REAL_MAPPABLE,
        "functional.nii",
    }


def test_a_real_scaled_file_is_refused_and_decoded_as_nibabel_scales_it():
    path = os.path.join(REAL, "functional.nii")
    with pytest.raises(nf.FormatError, match=r"scaled \(slope 0\.075.*, intercept 3100\.7.*ndfile\.convert"):
        nf.open(path)
    assert decoded(path)[0].tobytes("F") == by_nibabel(path).tobytes("F")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("slope", "intercept"), [(2.0, 1.0), (1.0, 3.0), (0.5, 0.0), (1e30, -1e30)])
def test_scaled_values_are_refused_and_decoded_as_nibabel_scales_them(
    nii, version, byte_order, dtype, slope, intercept
):
    written(nii, numbers(dtype), version, byte_order)
    with open(nii, "r+b") as file:
        file.seek(112 if version == 1 else 176)
        file.write(np.array([slope, intercept], byte_order + ("f4" if version == 1 else "f8")).tobytes())
    with pytest.raises(nf.FormatError, match="its values are scaled"):
        nf.open(nii)
    expected = by_nibabel(nii)
    values, _ = decoded(nii)
    assert values.dtype == expected.dtype
    assert values.tobytes("F") == expected.tobytes("F")


def test_the_refusal_names_slope_and_intercept(nii):
    written(nii, numbers("i2"), slope=2.0, intercept=1.0)
    with pytest.raises(nf.FormatError, match=r"its values are scaled \(slope 2\.0, intercept 1\.0\)"):
        nf.open(nii)


def test_colours_are_never_scaled(nii):
    written(nii, numbers(RGB), slope=2.0, intercept=1.0)
    with nf.open(nii) as array:
        assert np.array_equal(array, numbers(RGB))


def test_scaled_values_are_decoded_in_bounded_pieces(nii):
    values = np.zeros((400, 400, 30), "i2")
    values[::7] = 5
    written(nii, values, slope=2.0, intercept=1.0)
    found, largest = decoded(nii)
    assert largest <= 8 << 20 < found.nbytes
    assert np.array_equal(found, by_nibabel(nii))


def test_a_scaled_file_is_converted_to_an_array_in_fortran_order(nii, tmp_path):
    written(nii, numbers("i2"), slope=2.0, intercept=1.0)
    target = str(tmp_path / "x.npy")
    nf.convert(nii, target)
    with nf.open(target) as array:
        assert array.flags.f_contiguous
        assert np.array_equal(array, by_nibabel(nii))


def test_the_header_is_told_as_metadata(nii):
    fields = {"descrip": b"a scan", "intent_code": 3, "intent_name": b"t", "xyzt_units": 2 | 8}
    written(nii, numbers("i2"), 2, **fields)
    with open(nii, "rb") as file:
        metadata = named("nifti").describe(Source(file.fileno(), nii, os.path.getsize(nii))).metadata
    assert metadata == {
        "version": 2,
        "affine": np.diag([2.0, 3.0, 4.0, 1.0]).tolist(),
        "zooms": [2.0, 3.0, 4.0],
        "units": ["mm", "sec"],
        "descrip": "a scan",
        "intent": "t test",
        "intent_name": "t",
    }
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata


def test_odd_metadata_is_left_out(nii):
    written(nii, numbers("i2"))
    with open(nii, "r+b") as file:
        file.seek(76)  # pixdim, then what follows but the fields that place the data
        file.write(b"\xff" * 32)
        file.seek(116)
        file.write(bytes(4) + b"\xff" * 224)
    with open(nii, "rb") as file:
        metadata = named("nifti").describe(Source(file.fileno(), nii, os.path.getsize(nii))).metadata
    assert not {"affine", "zooms", "intent"} & set(metadata)
    json.dumps(metadata, allow_nan=False)


def test_a_wrong_bitpix_is_noted_and_the_datatype_holds(nii):
    written(nii, numbers("i2"))
    with open(nii, "r+b") as file:
        file.seek(72)
        file.write(b"\x40\0")
    with nf.open(nii) as array:
        assert np.array_equal(array, numbers("i2"))
    with open(nii, "rb") as file:
        notes = named("nifti").describe(Source(file.fileno(), nii, os.path.getsize(nii))).notes
    assert notes == ("bitpix is 64, which is not that of its datatype; it is ignored",)


def test_a_compressed_file_is_refused_with_the_way_out(tmp_path):
    path = written(str(tmp_path / "x.nii.gz"), numbers("i2"))
    with pytest.raises(nf.FormatError, match=r"compressed \(gzip\).*Decompress it"):
        nf.open(path)


@pytest.mark.parametrize("pair", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
def test_an_image_of_two_files_is_refused_with_the_way_out(tmp_path, pair):
    path = str(tmp_path / "x.hdr")
    pair(numbers("i2"), np.eye(4)).to_filename(path)
    with pytest.raises(nf.FormatError, match=r"in a second file \(\.img\).*nibabel\.save"):
        nf.open(path)


def test_a_file_of_another_kind_with_the_suffix_is_refused(nii):
    with open(nii, "wb") as file:
        file.write(bytes(1000))
    with pytest.raises(nf.FormatError, match="magic"):
        nf.open(nii)


def test_content_tells_the_format_whatever_the_name_is(tmp_path, nii):
    other = str(tmp_path / "scan.dat")
    os.rename(written(nii, numbers("i2")), other)
    with nf.open(other) as array:
        assert np.array_equal(array, numbers("i2"))


def test_without_nibabel_the_error_names_the_extra(nii, monkeypatch):
    written(nii, numbers("i2"))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(nf.LibraryError, match=r"ndfile\[nifti\]"):
        nf.open(nii)


def test_opening_reads_the_header_alone(nii):
    written(nii, numbers("u1", (2, 3, 4)))
    with open(nii, "r+b") as file:
        file.seek(40)
        file.write(np.array([3, 1024, 1024, 1024], "<i2").tobytes())
        file.truncate(352 + (1 << 30))
    nf.open(nii).close()
    before = _bytes_read()
    nf.open(nii).close()
    assert _bytes_read() - before < 64 << 10


def _bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])
