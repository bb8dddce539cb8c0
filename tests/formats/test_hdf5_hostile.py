"""HDF5 files that lie: each is refused, or what is mapped of it lies inside it. h5py is there to read, not to judge."""

import io
import re
import struct

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from hostile import ANY, OBSTACLE, Case, check_all, check_count, check_together, cuts

import ndfile as nf

WORD = 0xFFFFFFFF

# What eight bytes of a header are made: sizes and addresses of 0, of too much, of minus one, and of the file's start.
LIES = {
    "zero": 0,
    "one": 1,
    "superblock": 96,
    "4-GiB": 1 << 32,
    "most": (1 << 63) - 1,
    "minus-one": (1 << 64) - 1,
    "wrapping": (1 << 64) - 4096,
}


def made(fill, **options):
    """The bytes of a file that h5py writes."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        fill(file)
    return memory.getvalue()


def usual(file):
    file["group/x"] = np.arange(6, dtype="<f8")
    file["alias"] = file["group/x"]
    file["group/up"] = file["/"]
    file["soft"] = h5py.SoftLink("/group/x")
    file["fields"] = np.zeros(2, [("a", "<i4"), ("b", ">f8", (2,)), ("c", "S3")])
    file.create_dataset("chunks", data=np.arange(12).reshape(3, 4), chunks=(2, 2), compression="gzip")
    file.create_dataset("names", data=[0, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1}, "i2"))
    file["text"] = ["of", "variable", "length"]
    file.attrs["numbers"] = np.arange(3)
    file.attrs["text"] = "of variable length"
    file["group/x"].attrs["unit"] = np.bytes_(b"m/s")
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_layout(h5d.COMPACT)
    h5d.create(file.id, b"compact", h5t.NATIVE_INT32, h5s.create_simple((2,)), plist)


def virtual(file):
    layout = h5py.VirtualLayout((6,), "<f8")
    layout[:] = h5py.VirtualSource("source.h5", "x", (6,))
    file.create_virtual_dataset("virtual", layout)
    file["external"] = h5py.ExternalLink("other.h5", "/x")
    file["x"] = np.arange(3)


def many(file):
    for number in range(20):
        file[f"number {number}"] = [number]
        file.attrs[f"number {number}"] = number


OLD = made(usual)
BLOCK = made(usual, userblock_size=512)
NEW = made(usual, libver="latest")
VIRTUAL = made(virtual, libver="latest")
DENSE = made(many, libver="latest")


def patched(content, offset, code, *values):
    size = struct.calcsize(code)
    return content[:offset] + struct.pack(code, *values) + content[offset + size :]


def places(content, signature):
    return [match.start() for match in re.finditer(re.escape(signature), content)]


def checksum(data):
    """Bob Jenkins' lookup3, with which newer headers end."""

    def turned(word, bits):
        return (word << bits | word >> (32 - bits)) & WORD

    # Which of three words is changed by which other, by how many bits, and what is added after that.
    mix = ((0, 2, 4, 1), (1, 0, 6, 2), (2, 1, 8, 0), (0, 2, 16, 1), (1, 0, 19, 2), (2, 1, 4, 0))
    end = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))
    state = [(0xDEADBEEF + len(data)) & WORD] * 3
    blocks = [data[start : start + 12].ljust(12, b"\0") for start in range(0, len(data), 12)]
    for number, block in enumerate(blocks):
        state = [(one + word) & WORD for one, word in zip(state, struct.unpack("<3I", block), strict=True)]
        if number < len(blocks) - 1:
            for to, by, bits, plus in mix:
                state[to] = (state[to] - state[by] & WORD) ^ turned(state[by], bits)
                state[by] = state[by] + state[plus] & WORD
    for to, by, bits in end:
        state[to] = (state[to] ^ state[by]) - turned(state[by], bits) & WORD
    return state[2]


def signed(content, start, size, offset, code, *values):
    """A block of `size` bytes before its checksum, with something changed in it and the right checksum."""
    content = patched(content, start + offset, code, *values)
    return patched(content, start + size, "<I", checksum(content[start : start + size]))


def header_size(content, start):
    """Bytes before the checksum of a version 2 object header."""
    flags = content[start + 5]
    before = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    return before + width + int.from_bytes(content[start + before : start + before + width], "little")


def superblocks():
    for offset in range(8):
        yield Case(f"signature-byte-{offset}", patched(OLD, offset, "B", OLD[offset] ^ 0x20))
    yield Case("signature-alone", OLD[:8])
    yield Case("garbage-after-the-signature", OLD[:8] + b"\xaa" * 4096)
    yield Case("ones-after-the-signature", OLD[:8] + b"\xff" * 4096)
    yield Case("zeros-after-the-signature", OLD[:8] + bytes(4096))
    yield Case("signature-in-a-user-block-position", bytes(512) + OLD[:8] + b"\xaa" * 4096)
    yield Case("signature-at-every-power", b"".join((OLD[:8] + bytes(504), OLD[:8] + bytes(504), OLD[:8], bytes(99))))
    for name, content in (("old", OLD), ("new", NEW)):
        for offset in range(8, 48, 2):
            for value in (0x00, 0x01, 0x7F, 0xFF):
                if content[offset] != value:
                    yield Case(f"{name}-superblock-byte-{offset}-is-{value}", patched(content, offset, "B", value), ANY)
    for offset, field in ((24, "base"), (32, "free-space"), (40, "end"), (48, "driver"), (64, "root"), (80, "tree")):
        for lie, value in LIES.items():
            yield Case(f"old-{field}-is-{lie}", patched(OLD, offset, "<Q", value), ANY)
    for offset, field in ((12, "base"), (20, "extension"), (28, "end"), (36, "root")):
        for lie, value in LIES.items():
            yield Case(f"new-{field}-is-{lie}", signed(NEW, 0, 44, offset, "<Q", value), ANY)
    yield Case("new-open-for-writing", signed(NEW, 0, 44, 11, "B", 1))
    yield Case("new-open-for-writing-and-reading", signed(NEW, 0, 44, 11, "B", 5))
    yield Case("new-sizes-of-4", signed(NEW, 0, 44, 9, "BB", 4, 4))
    yield Case("new-unsigned", patched(NEW, 44, "<I", 0))


def lengths():
    for name, content in (("old", OLD), ("new", NEW), ("block", BLOCK)):
        yield from cuts(content, step=max(len(content) // 40, 1), name=f"{name}-cut")
        for length in (8, 16, 95, 96, len(content) - 1):
            yield Case(f"{name}-cut-to-just-{length}", content[:length])
        yield Case(f"{name}-longer-than-it-says", content + bytes(100), ANY)


def headers():
    """The old ones, which have no checksums."""
    for signature in (b"TREE", b"SNOD", b"HEAP"):
        for number, start in enumerate(places(OLD, signature)[:3]):
            for offset in range(4, 40, 7):
                for lie in ("zero", "superblock", "most", "minus-one"):
                    name = f"{signature.decode()}-{number}-at-{offset}-is-{lie}"
                    yield Case(name, patched(OLD, start + offset, "<Q", LIES[lie]), ANY)
    for offset in range(96, len(OLD) - 8, 104):
        if any(OLD[offset : offset + 8]):
            yield Case(f"word-at-{offset}-is-most", patched(OLD, offset, "<Q", LIES["most"]), ANY)
            yield Case(f"word-at-{offset}-is-zero", patched(OLD, offset, "<Q", 0), ANY)


def signed_headers():
    """The newer ones, with checksums that are right."""
    for number, start in enumerate(places(NEW, b"OHDR")):
        size = header_size(NEW, start)
        for offset in range(4 + number, size, 31):
            for value in {0x00, 0xFF, NEW[start + offset] ^ 0x01}:
                content = signed(NEW, start, size, offset, "B", value)
                yield Case(f"header-{number}-byte-{offset}-is-{value}", content, ANY)


def layouts():
    """The message that says where a contiguous dataset lies: version 3, class 1, address, size."""
    where = OLD.index(np.arange(6, dtype="<f8").tobytes())
    message = OLD.index(struct.pack("<BBQQ", 3, 1, where, 48))
    for lie, value in {**LIES, "the-end": len(OLD), "just-too-far": len(OLD) - 47}.items():
        yield Case(f"data-at-{lie}", patched(OLD, message + 2, "<Q", value), ANY)
        yield Case(f"data-of-size-{lie}", patched(OLD, message + 10, "<Q", value), ANY)
    yield Case("data-one-byte-past-the-end", patched(OLD, message + 2, "<Q", len(OLD) - 47))
    for value in range(256):
        if value not in (1, 3) and value % 16 in (0, 2, 4, 15):
            yield Case(f"layout-version-{value}", patched(OLD, message, "B", value), ANY)
            yield Case(f"layout-class-{value}", patched(OLD, message + 1, "B", value), ANY)
    space = OLD.index(struct.pack("<BBBxxxxxQ", 1, 1, 1, 6))
    for lie, value in LIES.items():
        yield Case(f"shape-of-{lie}", patched(OLD, space + 8, "<Q", value), ANY)
    for rank in (0, 2, 3, 32, 33, 64, 255):
        yield Case(f"rank-of-{rank}", patched(OLD, space + 1, "B", rank), ANY)


def loops():
    """What the library would follow without an end."""
    for number, start in enumerate(places(OLD, b"HEAP")):
        data = struct.unpack_from("<Q", OLD, start + 24)[0]
        content = patched(patched(OLD, start + 16, "<Q", 8), data + 8, "<QQ", 8, 16)
        yield Case(f"free-list-{number}-into-itself", content, ANY)
    for signature in (b"TREE", b"SNOD"):
        kind = signature.decode()
        for number, start in enumerate(places(OLD, signature)):
            yield Case(f"{kind}-{number}-under-itself", patched(OLD, start + 32, "<Q", start), ANY)
            yield Case(f"{kind}-{number}-beside-itself", patched(OLD, start + 8, "<QQ", start, start), ANY)


def heaps():
    """The sources of virtual datasets and strings are not looked at, so that they cannot do harm."""
    for number, start in enumerate(places(VIRTUAL, b"GCOL")):
        for offset in range(8, 400, 40):
            for lie in ("zero", "most", "minus-one"):
                content = patched(VIRTUAL, start + offset, "<Q", LIES[lie])
                yield Case(f"virtual-{number}-at-{offset}-is-{lie}", content, OBSTACLE)
    for number, start in enumerate(places(OLD, b"GCOL")):
        for offset in range(16, 128, 8):
            yield Case(f"strings-{number}-at-{offset}", patched(OLD, start + offset, "<Q", 0), OBSTACLE)


def trees():
    """The storage of many links and many attributes, with checksums that are right."""
    for signature, size, step in ((b"BTHD", 34, 2), (b"FRHP", 142, 7)):
        for number, start in enumerate(places(DENSE, signature)):
            for offset in range(5, size, step):
                for value in (0x00, 0xFF):
                    content = signed(DENSE, start, size, offset, "B", value)
                    yield Case(f"{signature.decode()}-{number}-byte-{offset}-is-{value}", content, ANY)


def nested(levels):
    def fill(file):
        file["/".join(["g"] * levels) + "/x"] = [1]

    return made(fill)


def names():
    yield Case("130-groups-in-each-other", nested(130))
    for new in (b"gr/up", b"../..", b"\0lias", b".\0ias", b"gr\0up"):
        yield Case(f"a-link-with-the-bytes-{new!r}", OLD.replace(b"alias\0", new + b"\0"), ANY)
    yield Case("a-link-named-as-a-path", OLD.replace(b"alias\0", b"ex/xx\0"))
    yield Case("two-links-of-one-name", OLD.replace(b"names\0\0\0", b"chunks\0\0"))
    yield Case("a-name-that-is-not-utf-8", OLD.replace(b"alias\0", b"al\xff\xfes\0"), ANY)
    yield Case("an-attribute-that-is-not-utf-8", OLD.replace(b"numbers\0", b"num\xff\xfers\0"), ANY)
    yield Case("a-field-that-is-not-utf-8", OLD.replace(b"a\0\0\0\0\0\0\0", b"\xff\0\0\0\0\0\0\0"), ANY)


GROUPS = (superblocks, lengths, headers, signed_headers, layouts, loops, heaps, trees, names)


@pytest.mark.parametrize("cases", GROUPS, ids=lambda group: group.__name__)
def test_hostile_files_are_refused_or_mapped_inside_themselves(tmp_path, cases):
    check_all(cases(), str(tmp_path), "x.h5")


def test_all_of_them_in_one_process_stay_small(tmp_path, run_python):
    good = str(tmp_path / "good.h5")
    with open(good, "wb") as file:
        file.write(OLD)
    check_together(GROUPS, good, str(tmp_path / "hostile"), ".h5", run_python)


def test_there_are_enough_of_them(tmp_path):
    check_count((case for group in GROUPS for case in group()), str(tmp_path), "x.h5")


@pytest.mark.parametrize("content", [OLD, NEW, BLOCK, VIRTUAL, DENSE], ids=["old", "new", "block", "virtual", "dense"])
def test_what_is_broken_here_is_good_while_whole(tmp_path, content):
    path = str(tmp_path / "x.h5")
    with open(path, "wb") as file:
        file.write(content)
    with nf.open(path) as archive:
        assert len(archive) >= 2


@pytest.mark.parametrize("content", [NEW, DENSE], ids=["new", "dense"])
def test_the_checksums_here_are_those_of_the_library(content):
    for start in places(content, b"OHDR"):
        size = header_size(content, start)
        assert struct.unpack_from("<I", content, start + size) == (checksum(content[start : start + size]),)


def test_groups_down_to_the_limit_are_read(tmp_path):
    path = str(tmp_path / "x.h5")
    with open(path, "wb") as file:
        file.write(nested(127))
    with nf.open(path) as archive:
        assert len(archive) == 1
