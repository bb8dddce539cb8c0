"""TIFF files, against what tifffile reads and writes."""

import json
import os
import struct
import sys

import numpy as np
import pytest
import tifffile

import ndfile as nf
from ndfile.formats import Source, named

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"]

# A name, the shape, and how tifffile is told to write it as one array.
KINDS = [
    ("one-page", (7, 11), {}),
    ("pages", (5, 7, 11), {}),
    ("six-dimensions", (1, 2, 3, 1, 7, 11), {}),
    ("no-metadata", (5, 7, 11), {"metadata": None}),
    ("strips", (5, 7, 11), {"rowsperstrip": 2}),
    ("strips-big-endian", (5, 7, 11), {"rowsperstrip": 3, "byteorder": ">", "bigtiff": True}),
    ("rgb", (7, 11, 3), {"photometric": "rgb"}),
    ("rgb-pages", (2, 7, 11, 3), {"photometric": "rgb"}),
    ("rgb-planes", (3, 7, 11), {"photometric": "rgb", "planarconfig": "separate"}),
    ("rgb-planes-in-strips", (3, 7, 11), {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 3}),
    ("rgba", (7, 11, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ("volume", (5, 7, 11), {"volumetric": True}),
    ("column-of-tiles", (64, 32), {"tile": (16, 32)}),
    ("truncated", (5, 7, 11), {"truncate": True}),
    ("axes", (5, 7, 11), {"metadata": {"axes": "TYX"}}),
    ("imagej", (5, 7, 11), {"imagej": True}),
    ("imagej-truncated", (5, 7, 11), {"imagej": True, "truncate": True}),
    ("imagej-time", (5, 7, 11), {"imagej": True, "metadata": {"axes": "TYX"}}),
    ("imagej-hyperstack", (2, 3, 4, 7, 11), {"imagej": True, "metadata": {"axes": "TZCYX"}}),
    ("imagej-one-page", (7, 11), {"imagej": True}),
    ("imagej-rgb", (2, 7, 11, 3), {"imagej": True, "photometric": "rgb"}),
    ("ome", (5, 7, 11), {"ome": True}),
    ("ome-one-page", (7, 11), {"ome": True}),
    ("ome-five", (2, 3, 4, 7, 11), {"ome": True, "metadata": {"axes": "TZCYX"}}),
    ("ome-other-order", (2, 3, 4, 7, 11), {"ome": True, "metadata": {"axes": "CTZYX"}}),
    ("ome-rgb", (2, 3, 7, 11, 3), {"ome": True, "photometric": "rgb", "metadata": {"axes": "TZYXS"}}),
    (
        "ome-rgb-planes",
        (2, 3, 3, 7, 11),
        {"ome": True, "photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": "TZSYX"}},
    ),
]
OBSTACLES = [
    ("deflate", "u2", {"compression": "zlib"}, r"it is compressed \(deflate\)"),
    ("ome-deflate", "u2", {"compression": "zlib", "ome": True}, r"it is compressed \(deflate\)"),
    ("lzma", ">u2", {"compression": "lzma"}, r"it is compressed \(LZMA\)"),
    ("big-endian-deflate", "u2", {"compression": "zlib", "byteorder": ">"}, r"it is compressed \(deflate\)"),
    ("deflate-predictor", "u2", {"compression": "zlib", "predictor": True}, r"it is compressed \(deflate\)"),
    ("tiles", "u2", {"tile": (16, 16)}, "it is in tiles of 16 x 16"),
    ("one-bit", "?", {}, r"it has 1-bit samples \(sample format 1\)"),
]


@pytest.fixture
def tif(tmp_path):
    return str(tmp_path / "x.tif")


def numbers(shape, dtype="u1"):
    return np.arange(np.prod(shape)).astype(dtype).reshape(shape)


def described(path):
    with open(path, "rb") as file:
        return named("tiff").describe(Source(file.fileno(), path, os.path.getsize(path)))


def decoded(path, name="0"):
    with open(path, "rb") as file:
        source = Source(file.fileno(), path, os.path.getsize(path))
        member = named("tiff").describe(source).members[name]
        pieces = list(named("tiff").decode(source, member))
    assert {piece.dtype for piece in pieces} == {member.dtype}
    return np.frombuffer(b"".join(piece.tobytes() for piece in pieces), member.dtype).reshape(member.shape)


def changed(path, tag, value, page=0):
    """Write another value for a tag that stands in its directory."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[page].tags[tag].overwrite(value)
    return path


def renamed(path, code):
    """Give the private tag 65000 another code, and the tag that had it the private one."""
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        places = {tags[65000].offset: code} | ({tags[code].offset: 65000} if code in tags else {})
    with open(path, "r+b") as file:
        for place, other in places.items():
            file.seek(place)
            file.write(struct.pack("<H", other))


def written_as_ome(path, values, planes):
    """Write OME-XML that says which planes are on which pages."""
    tifffile.imwrite(path, values, ome=True, metadata={"axes": "CYX"})
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.ome_metadata
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    tifffile.imwrite(path, values, description=(xml[:start] + planes + xml[end:]).encode(), metadata=None)


def pages_apart(path, count=4, **options):
    with tifffile.TiffWriter(path, **options) as writer:
        for number in range(count):
            writer.write(numbers((7, 11), "u2") + number, contiguous=False, metadata=None)
    return path


@pytest.mark.parametrize("bigtiff", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_mapped_as_tifffile_reads_it(tif, dtype, byte_order, bigtiff):
    values = numbers((5, 4, 6), dtype)
    tifffile.imwrite(tif, values, byteorder=byte_order, bigtiff=bigtiff)
    with nf.open(tif) as array:
        assert isinstance(array, nf.memmap)
        assert array.dtype == np.dtype(dtype).newbyteorder(byte_order)
        assert array.flags.c_contiguous
        assert array.tobytes() == values.astype(array.dtype).tobytes()
        assert np.array_equal(array, tifffile.imread(tif))


@pytest.mark.parametrize(("shape", "options"), [pytest.param(*kind, id=name) for name, *kind in KINDS])
def test_what_tifffile_wrote_as_one_array_is_mapped_as_one(tif, shape, options):
    tifffile.imwrite(tif, numbers(shape), **options)
    with tifffile.TiffFile(tif) as tiff:
        (series,) = tiff.series
        expected, axes = series.asarray(), series.axes
    with nf.open(tif) as array:
        assert array.shape == expected.shape
        assert array.tobytes() == expected.tobytes() == numbers(shape).tobytes()
    assert described(tif).members["0"].metadata["axes"] == axes


@pytest.mark.parametrize("kind", [{}, {"imagej": True}, {"ome": True}], ids=["tifffile", "imagej", "ome"])
def test_a_change_is_seen_by_tifffile_and_one_of_tifffile_is_seen_here(tif, kind):
    tifffile.imwrite(tif, numbers((5, 4, 6), "u2"), **kind)
    with nf.open(tif, "r+") as array:
        theirs = tifffile.memmap(tif, mode="r+")
        array[1, 2, 3] = 777
        assert theirs[1, 2, 3] == 777
        theirs[0, 0, 0] = 888
        assert array[0, 0, 0] == 888
        del theirs
    assert tifffile.imread(tif)[1, 2, 3] == 777


def test_the_stack_behind_a_single_directory_of_imagej_is_mapped_whole(tif):
    tifffile.imwrite(tif, numbers((5, 7, 11), "u2"), imagej=True)
    with tifffile.TiffFile(tif) as tiff:
        place = tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags)
    with open(tif, "r+b") as file:  # ImageJ itself writes no other directories for large files
        file.seek(place)
        file.write(bytes(4))
    with nf.open(tif) as array:
        assert np.array_equal(array, numbers((5, 7, 11), "u2"))


def test_pages_that_lie_apart_are_members_of_their_own(tif):
    pages_apart(tif)
    with nf.open(tif, "r+") as archive:
        assert list(archive) == ["0/0", "0/1", "0/2", "0/3"]
        for number, page in enumerate(archive.values()):
            assert np.array_equal(page, tifffile.imread(tif, key=number))
        archive["0/2"][3, 4] = 999
    assert tifffile.imread(tif, key=2)[3, 4] == 999
    assert described(tif).notes == ("the 4 pages of series 0 lie apart, and are members of their own",)
    with nf.open(tif, key="0/3") as page:
        assert np.array_equal(page, numbers((7, 11), "u2") + 3)


def test_several_series_are_members_in_the_order_of_the_file(tif):
    arrays = [numbers((5, 7, 11), "u2"), numbers((3, 4), "f4"), numbers((2, 7, 11), "u2")]
    with tifffile.TiffWriter(tif) as writer:
        for one in arrays:
            writer.write(one)
    with nf.open(tif) as archive:
        assert list(archive) == ["0", "1", "2"]
        for found, one in zip(archive.values(), arrays, strict=True):
            assert found.shape == one.shape
            assert np.array_equal(found, one)


def test_several_images_of_ome_are_members_in_the_order_of_the_file(tif):
    arrays = [numbers((2, 3, 7, 11), "u2"), numbers((4, 5, 6), "f4")]
    with tifffile.TiffWriter(tif, ome=True) as writer:
        writer.write(arrays[0], metadata={"axes": "TCYX"})
        writer.write(arrays[1], metadata={"axes": "ZYX"})
    with nf.open(tif) as archive:
        assert [found.shape for found in archive.values()] == [one.shape for one in arrays]
        assert all(np.array_equal(found, one) for found, one in zip(archive.values(), arrays, strict=True))
    assert [member.metadata["axes"] for member in described(tif).members.values()] == ["TCYX", "ZYX"]


def test_pages_of_two_kinds_in_turn_are_two_series(tif):
    with tifffile.TiffWriter(tif) as writer:
        for number in range(6):
            writer.write(numbers((7, 11) if number % 2 else (3, 5)) + number, contiguous=False, metadata=None)
    with nf.open(tif) as archive:
        assert list(archive) == ["0/0", "0/1", "0/2", "1/0", "1/1", "1/2"]
        assert np.array_equal(archive["1/2"], numbers((7, 11)) + 5)


def test_a_series_that_cannot_be_mapped_stands_beside_one_that_can(tif):
    with tifffile.TiffWriter(tif) as writer:
        writer.write(numbers((5, 7, 11), "u2"))
        writer.write(numbers((2, 7, 11), "u2"), compression="zlib")
    with nf.open(tif) as archive:
        assert np.array_equal(archive["0"], numbers((5, 7, 11), "u2"))
        with pytest.raises(nf.FormatError, match=r"member '1': it is compressed \(deflate\)"):
            archive["1"]
    assert np.array_equal(decoded(tif, "1"), numbers((2, 7, 11), "u2"))


@pytest.mark.parametrize(("dtype", "options", "problem"), [pytest.param(*case, id=name) for name, *case in OBSTACLES])
def test_what_cannot_be_mapped_is_refused_with_the_way_out_and_decoded(tif, tmp_path, dtype, options, problem):
    values = numbers((2, 40, 50), dtype)
    tifffile.imwrite(tif, values, **options)
    with pytest.raises(nf.FormatError, match=rf"member '0': {problem}, so that it cannot be mapped.*ndfile\.convert"):
        nf.open(tif)
    assert np.array_equal(decoded(tif), tifffile.imread(tif))
    assert np.array_equal(decoded(tif), values)
    target = str(tmp_path / "x.npy")
    nf.convert(tif, target)
    with nf.open(target) as array:
        assert np.array_equal(array, values)


@pytest.mark.parametrize(
    ("tag", "value", "problem"),
    [
        (266, 2, r"the bits of its bytes are reversed \(fill order 2\)"),
        (317, 2, r"it holds differences of neighbours \(predictor 2\)"),
        (259, 5, r"it is compressed \(LZW\)"),
        (259, 12345, r"it is compressed \(scheme 12345\)"),
        (339, 5, r"it has 16-bit samples \(sample format 5\)"),
        (262, 6, "its colours are subsampled"),
        (258, 12, r"it has 12-bit samples \(sample format 1\)"),
    ],
)
def test_a_tag_that_changes_the_meaning_of_the_bytes_is_an_obstacle(tif, tag, value, problem):
    tifffile.imwrite(tif, numbers((7, 11), "u2"), extratags=[(65000, "H", 1, value, True)], metadata=None)
    renamed(tif, tag)
    with pytest.raises(nf.FormatError, match=problem):
        nf.open(tif)


def test_strips_that_lie_apart_are_an_obstacle_and_decoded(tif):
    tifffile.imwrite(tif, numbers((6, 10)), rowsperstrip=3, metadata=None)
    with tifffile.TiffFile(tif) as tiff:
        first, second = tiff.pages[0].dataoffsets
    changed(tif, "StripOffsets", (second, first))
    with pytest.raises(nf.FormatError, match="its strips lie apart"):
        nf.open(tif)
    expected = np.roll(numbers((6, 10)), 3, axis=0)
    assert np.array_equal(decoded(tif), expected)
    assert np.array_equal(tifffile.imread(tif), expected)


def test_strips_that_are_not_there_are_an_obstacle(tif):
    tifffile.imwrite(tif, numbers((6, 10)), rowsperstrip=3, metadata=None)
    changed(tif, "StripByteCounts", (30, 0))
    with pytest.raises(nf.FormatError, match="some of its strips are not in the file"):
        nf.open(tif)


def test_a_single_strip_may_leave_its_size_out(tif):
    tifffile.imwrite(tif, numbers((6, 10)), metadata=None)
    changed(tif, "StripByteCounts", 0)
    with nf.open(tif) as array:
        assert np.array_equal(array, numbers((6, 10)))


def test_planes_of_ome_in_an_order_of_their_own_are_mapped_in_the_order_of_the_pages(tif):
    written_as_ome(tif, numbers((2, 7, 11)), '<TiffData IFD="1" FirstC="0"/><TiffData IFD="0" FirstC="1"/>')
    assert np.array_equal(tifffile.imread(tif), numbers((2, 7, 11))[::-1])
    with nf.open(tif) as array:
        assert np.array_equal(array, numbers((2, 7, 11)))
    assert described(tif).members["0"].metadata["axes"] == "IYX"


def test_ome_that_names_other_files_is_mapped_page_by_page(tif):
    planes = '<TiffData IFD="0"><UUID FileName="a">a</UUID></TiffData><TiffData IFD="0"><UUID FileName="b"/></TiffData>'
    written_as_ome(tif, numbers((2, 7, 11)), planes)
    with nf.open(tif) as array:
        assert np.array_equal(array, numbers((2, 7, 11)))


def test_the_description_is_told_as_metadata(tif):
    tifffile.imwrite(
        tif,
        numbers((5, 7, 11), "u2"),
        imagej=True,
        resolution=(3.5, 2),
        metadata={"spacing": 0.5, "unit": "um", "axes": "ZYX"},
    )
    metadata = described(tif).metadata
    assert metadata["imagej"]["slices"] == "5"
    assert metadata["imagej"]["spacing"] == "0.5"
    assert metadata["resolution"] == [3.5, 2.0]
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata


@pytest.mark.parametrize(("unit", "name"), [(1, None), (2, "inch"), (3, "centimeter")])
def test_the_unit_of_the_resolution_is_told(tif, unit, name):
    tifffile.imwrite(tif, numbers((7, 11)), resolution=(300, 150), resolutionunit=unit, software="s", datetime=True)
    metadata = described(tif).metadata
    assert metadata["resolution"] == [300.0, 150.0]
    assert metadata.get("resolution_unit") == name
    assert metadata["software"] == "s"
    assert len(metadata["date_time"]) == 19


def test_a_description_that_is_too_long_is_left_out(tif):
    tifffile.imwrite(tif, numbers((7, 11)), description="x" * 70_000, metadata=None)
    assert "description" not in described(tif).metadata
    tifffile.imwrite(tif, numbers((7, 11)), description="x" * 60_000, metadata=None)
    assert described(tif).metadata["description"] == "x" * 60_000


def test_a_description_in_another_encoding_is_read(tif):
    tifffile.imwrite(tif, numbers((7, 11)), description="1 \xb5m".encode("latin-1"), metadata=None)
    assert described(tif).metadata["description"] == "1 \xb5m"


def test_images_in_sub_directories_are_noted(tif):
    with tifffile.TiffWriter(tif) as writer:
        writer.write(numbers((64, 64)), subifds=1, metadata=None)
        writer.write(numbers((32, 32)), subfiletype=1, metadata=None)
    with nf.open(tif) as array:
        assert np.array_equal(array, numbers((64, 64)))
    assert described(tif).notes == ("it has sub-directories, whose images are not listed",)


def test_a_metamorph_stack_is_refused_for_its_planes_are_not_told(tif):
    tifffile.imwrite(tif, numbers((7, 11)), metadata=None, extratags=[(33628, "I", 1, 1, True)])
    with pytest.raises(nf.FormatError, match="MetaMorph"):
        nf.open(tif)
    with pytest.raises(nf.FormatError, match="cannot decode that"):
        decoded(tif)


def test_ten_thousand_pages_are_one_array_or_ten_thousand(tif):
    tifffile.imwrite(tif, numbers((10_000, 4, 4)))
    with nf.open(tif) as array:
        assert np.array_equal(array, numbers((10_000, 4, 4)))
    pages_apart(tif, 10_000)
    with nf.open(tif) as archive:
        assert len(archive) == 10_000
        assert np.array_equal(archive["0/9999"], numbers((7, 11), "u2") + 9999)


def test_opening_reads_the_directories_alone(tif):
    tifffile.imwrite(tif, shape=(1 << 10, 1 << 10, 1 << 10), dtype="u1", bigtiff=True, metadata={"axes": "ZYX"})
    assert os.path.getsize(tif) > 1 << 30
    nf.open(tif).close()
    before = _bytes_read()
    nf.open(tif).close()
    assert _bytes_read() - before < 8 << 20  # 1024 directories lie a block of reading apart at most
    tifffile.imwrite(tif, shape=(1 << 15, 1 << 15), dtype="u1")
    before = _bytes_read()
    nf.open(tif).close()
    assert _bytes_read() - before < 64 << 10


def _bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_mapping_needs_no_tifffile_and_decoding_names_the_extra(tif, monkeypatch):
    tifffile.imwrite(tif, numbers((5, 7, 11)))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    nf.open(tif).close()
    monkeypatch.undo()
    tifffile.imwrite(tif, numbers((5, 7, 11)), compression="zlib")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(nf.LibraryError, match=r"ndfile\[tiff\]"):
        decoded(tif)


def test_content_tells_the_format_whatever_the_name_is(tmp_path, tif):
    other = str(tmp_path / "scan.dat")
    tifffile.imwrite(tif, numbers((5, 7, 11)))
    os.rename(tif, other)
    nf.open(other).close()


def test_a_file_of_another_kind_with_the_suffix_is_refused(tif):
    with open(tif, "wb") as file:
        file.write(b"not a TIFF file")
    with pytest.raises(nf.FormatError, match="it begins with b'not '"):
        nf.open(tif)


def test_data_over_the_directories_is_refused_for_writing_would_change_them(tif):
    tifffile.imwrite(tif, numbers((7, 11)), metadata=None)
    changed(tif, "StripOffsets", (4,))
    with pytest.raises(nf.FormatError, match="its 77 bytes lie over the file's directories"):
        nf.open(tif)


def test_directories_in_a_circle_are_refused(tif):
    pages_apart(tif, 3)
    with tifffile.TiffFile(tif) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[2]
        place = last.offset + 2 + 12 * len(last.tags)
    with open(tif, "r+b") as file:
        file.seek(place)
        file.write(struct.pack("<I", first))
    with pytest.raises(nf.FormatError, match="in a circle of 3"):
        nf.open(tif)
