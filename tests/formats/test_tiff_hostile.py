"""TIFF files that lie: each is refused, or what is mapped of it lies inside it and beside its directories."""

import json
import logging
import os
import struct
import time
import tracemalloc

import pytest
import tifffile  # noqa: F401 - what the library itself takes is not measured
from hostile import ANY, Case, check_count

import ndfile as nf
from ndfile.formats import Source, named

FORMAT = "tiff"

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4, 12: 8, 13: 4, 16: 8, 18: 8}
CODES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q", 7: "B", 11: "f", 12: "d", 13: "I", 16: "Q", 18: "Q"}

# Four rows of three, of two bytes, in two strips.
TAGS = {
    "width": (256, 3, (3,)),
    "length": (257, 3, (4,)),
    "bits": (258, 3, (16,)),
    "compression": (259, 3, (1,)),
    "photometric": (262, 3, (1,)),
    "description": (270, 2, b"a page\0\0\0"),
    "offsets": (273, 4, None),
    "samples": (277, 3, (1,)),
    "rows": (278, 3, (2,)),
    "sizes": (279, 4, (12, 12)),
    "x_resolution": (282, 5, (1 << 32 | 300,)),
    "planar": (284, 3, (1,)),
    "format": (339, 3, (1,)),
}
MORE_TAGS = {
    "subfile": 254,
    "fill_order": 266,
    "resolution_unit": 296,
    "predictor": 317,
    "tile_width": 322,
    "tile_length": 323,
    "tile_offsets": 324,
    "tile_sizes": 325,
    "sub_directories": 330,
    "extra_samples": 338,
    "subsampling": 530,
    "depth": 32997,
    "metamorph": 33628,
    "lsm": 34412,
    "ndpi": 65420,
}
NUMBERS = (0, 1, 2, 5, 6, 8, 255, 65535)
LONG_NUMBERS = (0, 1, 7, 8, 0x7FFFFFFF, 0xFFFFFFFF)
BIG_NUMBERS = (0, 1, 16, 2**63, 2**64 - 1)
DATA = bytes(range(1, 25))


def tiff(pages=1, order="<", big=False, first=None, last_next=0, tail=b"", **changes):
    """Pages, each with its data before its directory. A change is (type, values), (type, values, count, offset) or
    None for no such tag; values of None are where the strips are.
    """
    offset_code = "Q" if big else "I"
    inline = struct.calcsize(offset_code)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head = magic + (struct.pack(order + "HH", 8, 0) if big else b"")
    tags = {name: (code, (kind, values)) for name, (code, kind, values) in TAGS.items()}
    tags |= {name: (MORE_TAGS.get(name) or TAGS[name][0], change) for name, change in changes.items()}
    entries = sorted((code, change) for code, change in tags.values() if change is not None)
    content = bytearray(head + bytes(inline))
    link = len(head)
    for _ in range(pages):
        data = len(content)
        content += DATA
        place = len(content)
        struct.pack_into(order + offset_code, content, link, place)
        table = bytearray(struct.pack(order + ("Q" if big else "H"), len(entries)))
        values_place = place + len(table) + len(entries) * (20 if big else 12) + inline
        values_block = b""
        for code, (kind, values, *lies) in entries:
            found = (data, data + 12) if values is None else values
            raw = found if isinstance(found, bytes) else struct.pack(f"{order}{len(found)}{CODES[kind]}", *found)
            count, where = (*lies, None, None)[:2]
            if len(raw) > inline or where is not None:
                value = struct.pack(order + offset_code, values_place + len(values_block) if where is None else where)
                values_block += raw
            else:
                value = raw.ljust(inline, b"\0")
            items = len(raw) // SIZES.get(kind, 1) if count is None else count
            table += struct.pack(order + "HH" + offset_code, code, kind, items) + value
        link = place + len(table)
        content += table + bytes(inline) + values_block
    struct.pack_into(order + offset_code, content, link, last_next)
    if first is not None:
        struct.pack_into(order + offset_code, content, len(head), first)
    return bytes(content) + tail


def text(value):
    return (2, value.encode() + b"\0" * 9)


def shaped(shape, **more):
    return text(json.dumps({"shape": shape, **more}))


def ome(pixels="", planes="<TiffData/>", before="", after=""):
    sizes = {"DimensionOrder": "XYZCT", "SizeX": 3, "SizeY": 4, "SizeZ": 1, "SizeC": 1, "SizeT": 1} | dict(
        pair.split("=") for pair in pixels.split()
    )
    attributes = " ".join(f'{name}="{value}"' for name, value in sizes.items())
    return text(f"{before}<OME><Image><Pixels {attributes}>{planes}</Pixels></Image>{after}</OME>")


def overlapping_directories(count, step):
    """Directories that begin every few bytes, each of which has most of the others in it."""
    content = bytearray(b"II*\0" + struct.pack("<I", 8) + bytes(count * step + 13 * 4096))
    page = tiff()[8 + len(DATA) :]
    for number in range(count):
        place = 8 + number * step
        content[place : place + 2] = struct.pack("<H", 13)
    content[8 : 8 + len(page)] = page
    return bytes(content)


def hostile():
    """A name, the bytes, and whether they must be refused (None: either way)."""
    whole = tiff()
    for length in range(0, len(whole) - 30, 2):
        yield f"cut-to-{length}", whole[:length], True
    for length in range(0, len(tiff(2, ">", True)) - 40, 9):
        yield f"big-cut-to-{length}", tiff(2, ">", True)[:length], True
    for offset in range(len(whole)):
        for value in (0, 0xFF) if offset < 8 or offset >= 32 else ():
            if whole[offset] != value:
                yield f"byte-{offset}-is-{value}", whole[:offset] + bytes([value]) + whole[offset + 1 :], None
    for name, code in {name: code for name, (code, _, _) in TAGS.items()}.items() | MORE_TAGS.items():
        for number in NUMBERS:
            yield f"{name}-is-{number}", tiff(**{name: (3, (number,))}), None
        for number in LONG_NUMBERS:
            yield f"{name}-is-long-{number}", tiff(**{name: (4, (number,))}), None
            yield f"{name}-has-{number}-values", tiff(**{name: (3, (2,), number, 8)}), None
            yield f"{name}-stands-at-{number}", tiff(order=">", **{name: (4, (2,) * 5, None, number)}), None
        for number in BIG_NUMBERS:
            yield f"big-{name}-is-{number}", tiff(big=True, **{name: (16, (number,))}), None
            yield f"big-{name}-has-{number}-values", tiff(big=True, **{name: (16, (2,), number, 16)}), None
            yield f"big-{name}-stands-at-{number}", tiff(big=True, **{name: (16, (2,) * 3, None, number)}), None
        for kind in (0, 2, 5, 7, 11, 12, 14, 255, 65535):
            yield f"{name}-of-type-{kind}", tiff(**{name: (kind, b"\1\2\3\4")}), None
        if code in (256, 257, 273):
            yield f"{name}-missing", tiff(**{name: None}), True
    yield from _chains()
    yield from _strips()
    yield from _descriptions()
    yield "zeros", bytes(4096), True
    yield "ones", b"\xff" * 4096, True
    yield "one-byte", b"I", True
    for magic in (b"II\0*", b"MM*\0", b"IM*\0", b"II,\0", b"ii*\0", b"EP*\0"):
        yield f"magic-{magic.hex()}", magic + whole[4:], True
    for word in (0, 4, 7, 9, 16, 0x80000):
        yield f"big-offsets-of-{word}", (b"II+\0" + struct.pack("<I", word) + tiff(big=True)[8:]), True


def _chains():
    page = 8 + len(DATA)
    for place in (1, 4, 7, 8, page, page + 1, len(tiff()), len(tiff()) - 1, 2**31, 2**32 - 1):
        yield f"first-directory-at-{place}", tiff(first=place), None if place == page else True
        yield f"next-directory-at-{place}", tiff(last_next=place), True
    yield "no-directory", tiff(first=0), True
    yield "circle-of-2", tiff(2, last_next=page), True
    yield "circle-of-1000", tiff(1000, last_next=page), True
    yield "big-circle-of-3", tiff(3, big=True, last_next=16 + len(DATA)), True
    for count in (0, 4097, 65535):
        content = bytearray(tiff())
        struct.pack_into("<H", content, page, count)
        yield f"{count}-tags", bytes(content), True
        yield f"{count}-tags-in-a-large-file", bytes(content) + bytes(1 << 20), True
    for count in (2**32, 2**63, 2**64 - 1):
        content = bytearray(tiff(big=True))
        struct.pack_into("<Q", content, 16 + len(DATA), count)
        yield f"big-{count}-tags", bytes(content), True
    yield "every-tag-twice", _with_tags(list(range(13)) * 2), None
    yield "tags-in-reverse", _with_tags(range(12, -1, -1)), None
    yield "the-width-4096-times", _with_tags([0] * 4096), True
    for step in (2, 12, 100):
        yield f"overlapping-directories-{step}", overlapping_directories(5000, step), None
    for name in ("offsets", "sizes", "bits", "description"):
        kind = 2 if name == "description" else 4
        yield (
            f"1000-pages-share-a-long-{name}",
            tiff(300, **{name: (kind, (1,), 100_000 // SIZES[kind], 8)}, tail=bytes(60_000)),
            None,
        )


def _with_tags(numbers):
    page, whole = 8 + len(DATA), tiff()
    entries = [whole[page + 2 + 12 * number :][:12] for number in range(13)]
    table = struct.pack("<H", len(list(numbers))) + b"".join(entries[number] for number in numbers) + bytes(4)
    return (
        whole + bytes(len(whole) % 2) + table
        if False
        else whole[:4] + struct.pack("<I", len(whole)) + whole[8:] + table
    )


def _strips():
    page = 8 + len(DATA)
    end = len(tiff())
    for first, second in ((8, 8), (8, 9), (20, 8), (0, 12), (4, 16), (9, 21), (page, page + 12), (end - 24, end - 12)):
        yield f"strips-at-{first}-and-{second}", tiff(offsets=(4, (first, second))), None
    for first, second in ((end, end + 12), (end - 12, end), (2**32 - 12, 0), (2**32 - 1, 11), (0, 0)):
        yield f"strips-outside-at-{first}-and-{second}", tiff(offsets=(4, (first, second))), None
    for first, second in ((2**64 - 12, 0), (2**63, 2**63 + 12), (2**64 - 1, 2**64 - 1)):
        yield f"big-strips-at-{first}-and-{second}", tiff(big=True, offsets=(16, (first, second))), True
    for first, second in ((0, 24), (24, 0), (0, 0), (11, 13), (1, 23), (2**32 - 1, 2**32 - 1), (2**31, 2**31 + 24)):
        yield f"strips-of-{first}-and-{second}", tiff(sizes=(4, (first, second))), None
    for count in (0, 1, 3, 4):
        yield f"{count}-offsets-for-2-strips", tiff(offsets=(4, (8,) * count)), None
        yield f"{count}-sizes-for-2-strips", tiff(sizes=(4, (12,) * count)), None
    yield "one-strip-over-the-directory", tiff(offsets=(4, (20,)), sizes=(4, (24,))), True
    yield "one-strip-over-the-header", tiff(offsets=(4, (7,)), sizes=(4, (24,))), True
    yield "one-strip-at-the-end", tiff(offsets=(4, (end,)), sizes=(4, (24,))), True
    sides = (0, 1, 3, 65535, 2**31, 2**32 - 1)
    for width in sides:
        for length in sides:
            is_refused = True if not width * length or width * length > 1000 else None
            changes = {"width": (4, (width,)), "length": (4, (length,))}
            yield f"{width}-x-{length}", tiff(**changes), is_refused
            yield f"deflated-{width}-x-{length}", tiff(**changes, compression=(3, (8,))), None
            yield f"tiled-{width}-x-{length}", tiff(tile_width=(4, (width,)), tile_length=(4, (length,))), None
    for samples in (0, 2, 3, 65535):
        for planar in (1, 2):
            yield f"{samples}-samples-{planar}", tiff(samples=(3, (samples,)), planar=(3, (planar,))), None
    yield (
        "all-sizes-most",
        tiff(
            width=(4, (2**32 - 1,)),
            length=(4, (2**32 - 1,)),
            samples=(3, (65535,)),
            depth=(4, (2**32 - 1,)),
            bits=(3, (64,)),
        ),
        True,
    )
    tile = {"tile_width": (4, (65520,)), "tile_length": (4, (65520,))}
    yield "deflated-tiles-of-8-gigabytes", tiff(compression=(3, (8,)), **tile), True
    yield "tiles-of-8-gigabytes", tiff(**tile), True
    yield "bits-differ", tiff(bits=(3, (8, 16, 8)), samples=(3, (3,))), None
    for coding in (2, 5, 6, 7, 8, 32773, 34925, 50000, 65535):
        yield f"compression-{coding}-of-nothing", tiff(compression=(3, (coding,))), None


def _descriptions():
    for shape in (
        [], [0], [-1], [12], [1] * 65, [2**40], [2**62, 3, 4], [2**63, 12], [1.5, 8], ["3", 4], [None], [True, 12],
        [[12]], [24], [36], [3, 4, 2], [10**300],
    ):  # fmt: skip
        name = str(shape).replace(" ", "")[:30]
        yield f"shape-{name}", tiff(description=shaped(shape)), None
        yield f"two-pages-of-shape-{name}", tiff(2, description=shaped(shape)), None
        yield f"truncated-shape-{name}", tiff(description=shaped(shape, truncated=True), tail=bytes(100)), None
    for number, said in enumerate(
        ['{"shape":',
         '{"shape": 5}', '{"shape": null}', '{"shape": {}}', '{"shape": "34"}', '{"shape": [12], "axes": 5}',
         '{"shape": [12], "axes": ["X"]}', '{"shape": [12]}}', '{"shape": [' + "9" * 5000 + "]}",
         '{"shape":' + "[" * 60_000, '{"shape": [12], "a":' + '{"a":' * 9_000, '{"shape": [1e400]}', '{"shape": [NaN]}']
    ):  # fmt: skip
        yield f"shape-text-{number}", tiff(description=text(said)), False
    for fields in (
        "images=2", "images=1000000", "images=-1", "images=x", "images=0", "slices=0", "frames=99999999999999999999",
        "slices=2\nframes=3", "channels=65535\nslices=65535\nframes=65535\nimages=281462092005375", "images=\xb2",
        "hyperstack=true", "\n" * 5000, "a=b\n" * 5000,
    ):  # fmt: skip
        name = fields.replace("\n", "-")[:40]
        for pages in (1, 3):
            yield f"imagej-{pages}-{name}", tiff(pages, description=text(f"ImageJ=1.53\n{fields}\n")), None
        yield f"imagej-behind-{name}", tiff(description=text(f"ImageJ=1.53\n{fields}\n"), tail=bytes(100)), None
    for pixels in (
        "SizeT=2", "SizeT=1000000000000", "SizeT=-1", "SizeT=0", "SizeT=x", "SizeC=99999999999999999999999999",
        "SizeX=4", "SizeY=0", "DimensionOrder=X", "DimensionOrder=TCZYX", "DimensionOrder=AAAAA",
        f"DimensionOrder={'XYZCT' * 999}",
        "DimensionOrder=XYZTT", "SizeT=" + "9" * 5000,
    ):  # fmt: skip
        yield f"ome-{pixels[:40]}", tiff(description=ome(pixels)), None
        yield f"ome-3-{pixels[:40]}", tiff(3, description=ome(pixels)), None
    for number, planes in enumerate((
        "", '<TiffData IFD="-1"/>', '<TiffData IFD="1"/>', '<TiffData IFD="99999999999999999999"/>',
        "<TiffData/>" * 5000, '<TiffData PlaneCount="-1"/>', '<TiffData PlaneCount="0"/>',
        '<TiffData PlaneCount="1000000000000"/>',
        '<TiffData FirstT="-5"/>', '<TiffData FirstT="1"/>', '<Channel SamplesPerPixel="0"/><TiffData/>',
        '<Channel SamplesPerPixel="-1"/><TiffData/>', '<Channel SamplesPerPixel="3"/><TiffData/>',
        '<TiffData><UUID FileName="/etc/passwd"/></TiffData>', "</Pixels>", "<a>" * 50_000, "<a " + "b" * 100_000,
        '<TiffData IFD="0"/><TiffData IFD="0" FirstT="1"/>', "<Pixels/>" * 5000,
    )):  # fmt: skip
        yield f"ome-planes-{number}", tiff(2, description=ome(planes=planes)), None
    entities = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + number)} "{f"&{chr(97 + number)};" * 10}">' for number in range(9)
    )
    yield "ome-billion-laughs", tiff(description=ome(before=entities + "]>", after="&j;")), False
    yield "ome-of-another-file", tiff(description=ome(before='<!DOCTYPE a SYSTEM "file:///etc/passwd">')), False
    yield "ome-in-another-encoding", tiff(description=ome(before='<?xml version="1.0" encoding="UTF-16"?>')), False
    yield "ome-in-no-encoding", tiff(description=ome(before='<?xml version="1.0" encoding="nonsense"?>')), False
    yield "ome-of-16-megabytes", tiff(description=(2, b"<OME>" + b" " * (1 << 24) + b"</OME>\0")), False
    yield "description-not-utf-8", tiff(description=(2, b"\xff" * 100)), False


def described(path):
    with open(path, "rb") as file:
        return named(FORMAT).describe(Source(file.fileno(), path, os.path.getsize(path)))


def opened(path, mode, act=lambda array: array.tobytes()):
    """What opening does: "refused", or where the bytes that are mapped lie."""
    try:
        found = nf.open(path, mode, format=FORMAT)
    except nf.FormatError as error:
        return "refused" if len(str(error)) < 1000 else f"refused in {len(str(error))} letters"
    with found:
        if isinstance(found, nf.memmap):
            arrays = [found]
        else:
            arrays = []
            for name in found:
                try:
                    arrays.append(found[name])
                except nf.FormatError:
                    continue  # it has an obstacle
        for array in arrays:
            assert array.offset >= 8
            assert array.offset + array.nbytes <= os.path.getsize(path)
            act(array)
        return tuple((array.offset, array.nbytes) for array in arrays)


CASES = {name: case for name, *case in hostile()}

# A test for each of the thousands would take longer than what it does. They are taken by the first word of their names.
GROUPS = {name.partition("-")[0] for name in CASES}


def group(first):
    return {name: case for name, case in CASES.items() if name.partition("-")[0] == first}


@pytest.mark.parametrize("first", sorted(GROUPS))
def test_a_hostile_file_is_refused_or_mapped_beside_its_directories(file_of, first, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name, (content, is_refused) in group(first).items():
        path = file_of(content)
        durations = []
        for _ in range(5):
            start = time.process_time()
            outcome = opened(path, "r")
            durations.append(time.process_time() - start)
            if durations[-1] < 0.05:
                break
        assert min(durations) < 0.05 or outcome != "refused", name
        assert is_refused is None or (outcome == "refused") == is_refused, name
        tracemalloc.start()
        try:
            assert opened(path, "c") == outcome, name
            assert tracemalloc.get_traced_memory()[1] < (16 << 20) + 3 * len(content), name
        finally:
            tracemalloc.stop()
        assert outcome != "refused" or opened(path, "r+") == "refused", name
        with open(path, "rb") as file:
            assert file.read() == content, name
        if outcome != "refused":
            _writing_all_of_it_changes_no_directory(path, outcome)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def _writing_all_of_it_changes_no_directory(path, outcome):
    before = described(path)
    assert opened(path, "r+", lambda array: array.fill(123)) == outcome
    assert described(path) == before


@pytest.mark.parametrize("first", sorted(GROUPS))
def test_decoding_a_hostile_file_gives_whole_arrays_or_is_refused(file_of, first, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name, (content, _) in group(first).items():
        path = file_of(content)
        with open(path, "rb") as file:
            source = Source(file.fileno(), path, os.path.getsize(path))
            _decode_all(source, name)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def _decode_all(source, name):
    tiff_format = named(FORMAT)
    try:
        members = tiff_format.describe(source).members.values()
    except nf.FormatError:
        return
    for member in members:
        if member.obstacle is not None:
            try:
                nbytes = sum(piece.nbytes for piece in tiff_format.decode(source, member))
            except nf.FormatError:
                continue
            assert nbytes == member.nbytes, name


def test_what_is_broken_here_is_good_while_whole(file_of):
    for order in "<>":
        assert opened(file_of(tiff(order=order)), "r+") == ((8, 24),)
        assert opened(file_of(tiff(order=order, big=True)), "r+") == ((16, 24),)
    assert len(opened(file_of(tiff(3)), "r+")) == 3
    assert opened(file_of(tiff(description=shaped([3, 4]))), "r+") == ((8, 24),)
    assert opened(file_of(tiff(description=ome())), "r+") == ((8, 24),)


def test_there_are_enough_hostile_files(tmp_path):
    cases = (Case(name, content, ANY, arguments={"format": FORMAT}) for name, content, _ in hostile())
    check_count(cases, str(tmp_path), "x.tif")
