"""Zip files that lie: each is refused, or what is mapped of it lies inside it."""

import bz2
import io
import lzma
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hostile import ANY, MAPPED, OBSTACLE, REFUSED, Case, changes, check, check_all, check_count, check_together, cuts

import ndfile as nf

LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
END = struct.Struct("<4sHHHHIIH")
END_64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR_64 = struct.Struct("<4sIQI")

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
ENCRYPTED, STREAMED, UTF_8 = 1, 8, 0x800
FULL = 0xFFFFFFFF


def array_of(values=None):
    file = io.BytesIO()
    np.save(file, np.arange(12, dtype="<f4").reshape(3, 4) if values is None else values)
    return file.getvalue()


ARRAY = array_of()


def deflated(content):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def entry(name=b"a.npy", content=ARRAY, data=None, local=None, central=None, at=None, **both):
    """A member's two headers, and what each of them says otherwise than it is."""
    data = content if data is None else data
    said = {
        "magic": b"PK\x03\x04",
        "version": 20,
        "flags": 0,
        "method": STORED,
        "time": 0,
        "date": 0x21,
        "crc": zlib.crc32(content),
        "packed": len(data),
        "size": len(content),
        "name": name,
        "extra": b"",
        "comment": b"",
        "disk": 0,
        "name_nbytes": None,
        "extra_nbytes": None,
    } | both
    return said | (local or {}), said | {"magic": b"PK\x01\x02"} | (central or {}), data, at


def local_header(said):
    nbytes = [len(said[key]) if said[f"{key}_nbytes"] is None else said[f"{key}_nbytes"] for key in ("name", "extra")]
    fields = [said[key] for key in ("magic", "version", "flags", "method", "time", "date", "crc", "packed", "size")]
    return LOCAL.pack(*fields, *nbytes) + said["name"] + said["extra"]


def central_header(said, offset):
    nbytes = [len(said[key]) if said[f"{key}_nbytes"] is None else said[f"{key}_nbytes"] for key in ("name", "extra")]
    fields = [said[key] for key in ("version", "flags", "method", "time", "date", "crc", "packed", "size")]
    rest = (len(said["comment"]), said["disk"], 0, 0, offset)
    return CENTRAL.pack(said["magic"], 20, *fields, *nbytes, *rest) + said["name"] + said["extra"] + said["comment"]


def archive(*entries, prefix=b"", gap=b"", comment=b"", trailer=b"", directory_64=None, **lies):
    """A zip file. `lies` are what its end says otherwise than it is: count, total, nbytes, offset, disk ..."""
    content, directory = prefix, b""
    for local, central, packed, at in entries:
        offset = len(content) - len(prefix) if at is None else at
        if local["magic"]:
            content += local_header(local) + packed
        directory += central_header(central, offset)
    content += gap
    said = {
        "disk": 0,
        "start_disk": 0,
        "count": len(entries),
        "total": len(entries),
        "nbytes": len(directory),
        "offset": len(content) - len(prefix),
        "comment_nbytes": len(comment),
    } | lies
    end = b""
    if directory_64 is not None:
        place = len(content) + len(directory)
        whole = {
            "nbytes": 44,
            "count": len(entries),
            "total": len(entries),
            "size": len(directory),
            "offset": len(content),
            "place": place,
            "disks": 1,
        } | directory_64
        end += END_64.pack(
            b"PK\x06\x06", whole["nbytes"], 45, 45, 0, 0, whole["count"], whole["total"], whole["size"], whole["offset"]
        )
        end += LOCATOR_64.pack(b"PK\x06\x07", 0, whole["place"], whole["disks"])
    end += END.pack(b"PK\x05\x06", *said.values()) + comment
    return content + directory + end + trailer


GOOD = archive(entry(), entry(b"b.npy"))
PACKED = archive(entry(data=deflated(ARRAY), method=DEFLATED), entry(b"b.npy"))


def lengths():
    yield from cuts(GOOD, step=3)
    yield from cuts(PACKED, step=5, name="packed-cut")


def bytes_of_the_headers():
    yield from changes(GOOD, range(35), (0, 0x50, 0x80, 0xFF))
    yield from changes(GOOD, range(2 * (35 + len(ARRAY)), len(GOOD)), (0, 0x80, 0xFF))


def bytes_of_a_packed_member():
    yield from changes(PACKED, range(35 + len(deflated(ARRAY))), (0x00, 0xFF), name="packed-byte")


LOCAL_LIES = [
    {"magic": b"PK\x03\x05"},
    {"magic": b"PK\x01\x02"},
    {"magic": bytes(4)},
    {"method": DEFLATED},
    {"method": BZIP2},
    {"method": 99},
    {"flags": ENCRYPTED},
    {"name": b"b.npy"},
    {"name": b"A.npy"},
    {"name": b"a.np"},
    {"name": b"a.npy\x00"},
    {"name": b"../a.npy"},
    {"name": b""},
    {"name": b"\xff.npy"},
    {"name_nbytes": 0},
    {"name_nbytes": 4},
    {"name_nbytes": 6},
    {"name_nbytes": 65535},
    {"extra_nbytes": 1},
    {"extra_nbytes": 64},
    {"extra_nbytes": 65535},
]

# What a reader that goes by the directory does not need, and another one goes by.
LOCAL_SIZES = [
    {"crc": 0},
    {"crc": 1},
    {"size": 0},
    {"size": 1},
    {"size": len(ARRAY) - 1},
    {"size": len(ARRAY) + 1},
    {"size": FULL - 1},
    {"packed": 0},
    {"packed": 1},
    {"packed": len(ARRAY) - 1},
    {"packed": len(ARRAY) + 1},
    {"packed": FULL - 1},
    {"size": 0, "packed": 0},
]

CENTRAL_LIES = [
    {"magic": b"PK\x01\x03"},
    {"magic": b"PK\x03\x04"},
    {"magic": bytes(4)},
    {"method": DEFLATED},
    {"method": BZIP2},
    {"method": 99},
    {"method": 65535},
    {"flags": ENCRYPTED},
    {"version": 64},
    {"version": 255},
    {"size": 0},
    {"size": 1},
    {"size": 9},
    {"size": 10},
    {"size": 128},
    {"size": len(ARRAY) - 1},
    {"size": len(ARRAY) + 1},
    {"size": 2**31},
    {"size": FULL - 1},
    {"size": FULL},
    {"packed": 0},
    {"packed": 1},
    {"packed": len(ARRAY) - 1},
    {"packed": len(ARRAY) + 1},
    {"packed": 2**31},
    {"packed": FULL - 1},
    {"packed": FULL},
    {"size": 0, "packed": 0},
    {"size": 10, "packed": 10},
    {"size": 128, "packed": 128},
    {"size": len(ARRAY) - 1, "packed": len(ARRAY) - 1},
    {"size": len(ARRAY) + 1, "packed": len(ARRAY) + 1},
    {"size": 5000, "packed": 5000},
    {"size": 2**31, "packed": 2**31},
    {"size": FULL - 1, "packed": FULL - 1},
    {"size": FULL, "packed": FULL},
    {"name": b"b.npy"},
    {"name": b"A.npy"},
    {"name": b"aa.npy"},
    {"name": b"a.npy\x00"},
    {"name": b"a\x00.npy"},
    {"name": b"\xff.npy"},
    {"name": b"\xff.npy", "flags": UTF_8},
    {"name_nbytes": 0},
    {"name_nbytes": 4},
    {"name_nbytes": 6},
    {"name_nbytes": 65535},
    {"extra_nbytes": 1},
    {"extra_nbytes": 65535},
]


def lying_headers():
    for number, lie in enumerate(LOCAL_LIES):
        for second in (False, True):
            entries = [entry(local=lie), entry(b"c.npy")]
            yield Case(f"local-lie-{number}{'-at-the-end' * second}", archive(*entries[:: -1 if second else 1]))
    for number, lie in enumerate(LOCAL_SIZES):
        yield Case(f"local-size-{number}", archive(entry(local=lie), entry(b"c.npy")))
    in_extra = entry(local={"size": FULL, "packed": FULL})
    yield Case("local-sizes-left-to-an-extra-field", archive(in_extra, entry(b"c.npy")), MAPPED)
    for number, lie in enumerate(LOCAL_SIZES):
        behind = entry(local=lie, flags=STREAMED)
        yield Case(f"local-size-{number}-streamed", archive(behind, entry(b"c.npy")), MAPPED)
    for number, lie in enumerate(CENTRAL_LIES):
        for second in (False, True):
            entries = [entry(central=lie), entry(b"c.npy")]
            yield Case(f"central-lie-{number}{'-at-the-end' * second}", archive(*entries[:: -1 if second else 1]))
    for number, lie in enumerate(LOCAL_LIES):
        packed = entry(data=deflated(ARRAY), method=DEFLATED, local={"method": STORED} if "method" in lie else lie)
        yield Case(f"local-lie-{number}-packed", archive(packed, entry(b"c.npy")), ANY if number > 3 else REFUSED)


NAMES = [
    b"../a.npy",
    b"..\\a.npy",
    b"/a.npy",
    b"//a.npy",
    b"\\a.npy",
    b"C:\\a.npy",
    b"x/../a.npy",
    b"x/../../a.npy",
    b"x\\..\\a.npy",
    b"x/..",
    b"..",
    b"../",
    b"/etc/passwd",
    b"/",
    b"a\x00.npy",
    b"\x00.npy",
    b"\x00",
    b"a.npy\x00.txt",
    b"a/../../../../etc/passwd.npy",
]

SHORT_NAMES = [b"\xff\xfe.npy", b"\x80.npy", b"\xc0\xaf.npy", b"\xed\xa0\x80.npy", b"\xe9.npy"]


def names():
    for number, name in enumerate(NAMES):
        for flags in (0, UTF_8):
            yield Case(f"name-{number}-flags-{flags}", archive(entry(), entry(name, flags=flags)))
            yield Case(f"first-name-{number}-flags-{flags}", archive(entry(name, flags=flags), entry()))
    for number, name in enumerate(SHORT_NAMES):
        yield Case(f"no-utf-8-{number}", archive(entry(name, flags=UTF_8)))
        yield Case(f"code-page-437-{number}", archive(entry(name)), MAPPED)
        yield Case(f"utf-8-in-the-directory-alone-{number}", archive(entry(name, central={"flags": UTF_8})))
    yield Case("duplicate", archive(entry(), entry()))
    yield Case("duplicate-of-another-size", archive(entry(), entry(content=array_of(np.zeros(5)))))
    yield Case("duplicate-that-is-no-array", archive(entry(), entry(b"x.txt"), entry(b"x.txt")))
    yield Case("duplicate-among-many", archive(*[entry(b"%d.npy" % (n % 99)) for n in range(100)]))
    yield Case("1000-duplicates", archive(*[entry()] * 1000))
    yield Case("a-name-of-65535-bytes", archive(entry(b"a" * 65531 + b".npy")), MAPPED)
    yield Case("a-bad-name-of-65535-bytes", archive(entry(b"a" * 65527 + b"/../.npy")))
    yield Case("no-name", archive(entry(b"")))
    yield Case("no-array", archive(entry(b"a.txt", b"text")))
    yield Case("only-a-folder", archive(entry(b"folder/", b"")))
    yield Case("only-a-suffix", archive(entry(b".npy")), ANY)


def places():
    """Members that lie in each other, or nowhere."""
    whole = len(local_header(entry()[0])) + len(ARRAY)
    gone = {"magic": b""}
    yield Case("two-names-for-one-place", archive(entry(), entry(b"b.npy", local=gone, at=0)))
    yield Case("two-names-for-one-place-of-a-name", archive(entry(), entry(b"a.npy", local=gone, at=0)))
    inner = local_header(entry(b"b.npy")[0]) + ARRAY
    outer = array_of(np.frombuffer(inner, "u1"))
    offset = len(local_header(entry(content=outer)[0])) + len(outer) - len(inner)
    yield Case("one-inside-another", archive(entry(content=outer), entry(b"b.npy", local=gone, at=offset)))
    for number, at in enumerate([1, 4, 30, whole - 1, whole + 1, 2**31, FULL - 1, FULL]):
        yield Case(f"offset-{at}", archive(entry(at=at)))
        yield Case(f"second-offset-{number}", archive(entry(), entry(b"b.npy", at=at)))
    yield Case("in-the-directory", archive(entry(), entry(b"b.npy", local=gone, at=whole)))
    yield Case("reaches-into-the-next", archive(entry(size=len(ARRAY) + 1, local={"packed": 1}), entry(b"b.npy")))
    for more in (1, 10, 30, 100):
        said = {"size": len(ARRAY) + more, "packed": len(ARRAY) + more}
        yield Case(f"overlaps-{more}-bytes", archive(entry(**said), entry(b"b.npy")))
        yield Case(f"overlaps-{more}-bytes-of-the-directory", archive(entry(**said)))
    # A bomb of one kernel that all members share, each with the others' headers inside it.
    content, members, kernel = b"", [], deflated(bytes(100_000))
    for number in range(50):
        packed = len(kernel) + (49 - number) * 36
        said = {"method": DEFLATED, "packed": packed, "size": 100_000}
        local, central, _, _ = entry(b"%02d.npy" % number, b"", **said)
        members.append((local | {"magic": b""}, central, b"", len(content)))
        content += local_header(local)
    yield Case("members-in-members", archive(*members, gap=content + kernel))


END_LIES = [
    {"count": 0},
    {"count": 0, "total": 0},
    {"count": 1},
    {"count": 1, "total": 1},
    {"count": 3},
    {"count": 3, "total": 3},
    {"total": 0},
    {"total": 1},
    {"total": 3},
    {"count": 65535, "total": 65535},
    {"count": 65534, "total": 65534},
    {"nbytes": 0},
    {"nbytes": 1},
    {"nbytes": 45},
    {"nbytes": 46},
    {"nbytes": 10_000},
    {"nbytes": 2**31},
    {"nbytes": FULL - 1},
    {"nbytes": FULL},
    {"offset": 1},
    {"offset": 10_000},
    {"offset": 2**31},
    {"offset": FULL - 1},
    {"offset": FULL},
    {"offset": FULL, "nbytes": FULL},
    {"offset": FULL, "nbytes": FULL, "count": 65535, "total": 65535},
    {"offset": FULL - 1, "nbytes": FULL - 1, "count": 65534, "total": 65534},
    {"disk": 1},
    {"disk": 65535},
    {"start_disk": 1},
    {"start_disk": 65535},
    {"disk": 1, "start_disk": 1},
    {"disk": 5, "start_disk": 2, "count": 1},
]

DIRECTORY_64_LIES = [
    {"count": 0},
    {"count": 3},
    {"count": 2**63},
    {"count": 2**64 - 1, "total": 2**64 - 1},
    {"total": 2**40},
    {"size": 0},
    {"size": 10_000},
    {"size": 2**63},
    {"size": 2**64 - 1},
    {"offset": 1},
    {"offset": 2**63 - 1},
    {"offset": 2**63},
    {"offset": 2**64 - 1},
    {"place": 0},
    {"place": 10_000},
    {"place": 2**63},
    {"place": 2**64 - 1},
    {"disks": 2},
    {"disks": FULL},
    {"nbytes": 0},
    {"nbytes": 2**64 - 1},
]
FULL_END = {"count": 65535, "total": 65535, "nbytes": FULL, "offset": FULL}


def directories():
    for number, lie in enumerate(END_LIES):
        yield Case(f"end-lie-{number}", archive(entry(), entry(b"b.npy"), **lie))
    for number, lie in enumerate(DIRECTORY_64_LIES):
        yield Case(f"zip64-end-lie-{number}", archive(entry(), entry(b"b.npy"), directory_64=lie, **FULL_END), ANY)
    for nbytes in (1, 65535):
        yield Case(f"comment-of-{nbytes}", archive(entry(), comment_nbytes=nbytes), ANY)
    yield Case("zip64-end", archive(entry(), entry(b"b.npy"), directory_64={}, **FULL_END), MAPPED)
    yield Case("65535-claimed-one-there", archive(entry(), count=65535, total=65535))
    empty = END.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    yield Case("only-an-end", empty, MAPPED)
    yield Case("only-an-end-of-10-members", END.pack(b"PK\x05\x06", 0, 0, 10, 10, 0, 0, 0))
    yield Case("only-an-end-with-a-directory", END.pack(b"PK\x05\x06", 0, 0, 1, 1, 46, 0, 0))
    yield Case("no-end", GOOD[:-22])
    yield Case("two-ends", GOOD + END.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0), ANY)
    yield Case("only-a-local-header", local_header(entry()[0]) + ARRAY)
    yield Case("only-magic", b"PK\x03\x04")
    yield Case("a-split-archive", b"PK\x07\x08" + GOOD, MAPPED)
    yield Case("a-largest-comment", archive(entry(), comment=b"x" * 65535), MAPPED)
    yield Case("a-comment-of-brackets", archive(entry(), comment=b"[" * 65535), MAPPED)
    yield Case("a-comment-of-digits", archive(entry(), comment=b"9" * 65535), MAPPED)
    yield Case("a-comment-with-an-end", archive(entry(), comment=END.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)), ANY)
    yield Case("1-MiB-follows", GOOD + bytes(1 << 20))
    yield Case("zeros-follow-to-10-GiB", GOOD, size=10 << 30)
    zeros = END.pack(b"PK\x05\x06", 0, 0, 65535, 65535, FULL - 1, 0, 0)
    yield Case("a-directory-of-zeros", bytes(1 << 20) + zeros)
    yield Case("a-file-of-zeros", b"PK\x03\x04" + bytes(5000))
    yield Case("a-gap-before-the-directory", archive(entry(), gap=bytes(100)), ANY)


def extra_field(number, content, nbytes=None):
    return struct.pack("<HH", number, len(content) if nbytes is None else nbytes) + content


def zip64_members():
    long = len(ARRAY)
    lies = [
        b"",
        bytes(4),
        bytes(8),
        bytes(16),
        struct.pack("<Q", long),
        struct.pack("<QQ", long, 0),
        struct.pack("<QQ", 0, long),
        struct.pack("<QQ", long, long + 1),
        struct.pack("<QQ", long + 1, long + 1),
        struct.pack("<QQ", 2**40, 2**40),
        struct.pack("<QQ", 2**63 - 1, 2**63 - 1),
        struct.pack("<QQ", 2**63, 2**63),
        struct.pack("<QQ", 2**64 - 1, 2**64 - 1),
        struct.pack("<QQ", 2**64 - long, 2**64 - long),
        struct.pack("<QQ", long, long)[:15],
        struct.pack("<QI", long, long),
    ]
    full = {"size": FULL, "packed": FULL}
    for number, lie in enumerate(lies):
        for name, field in (
            ("", extra_field(1, lie)),
            ("-cut", extra_field(1, lie, 16)),
            ("-long", extra_field(1, lie, 99)),
        ):
            if lie == struct.pack("<QQ", long, long):
                continue
            yield Case(f"zip64-{number}{name}", archive(entry(central=full | {"extra": field}), entry(b"c.npy")))
    for number, at in enumerate([1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]):
        field = extra_field(1, struct.pack("<Q", at))
        yield Case(f"zip64-offset-{number}", archive(entry(at=FULL, central={"extra": field}), entry(b"c.npy")))
    good = {"extra": extra_field(1, struct.pack("<QQ", long, long))} | full
    yield Case("zip64-that-is-true", archive(entry(central=good), entry(b"c.npy")), MAPPED)
    twice = full | {"extra": good["extra"] + extra_field(1, struct.pack("<QQ", 2**40, 2**40))}
    yield Case("zip64-twice", archive(entry(central=twice), entry(b"c.npy")), ANY)
    for number, extra in enumerate([b"\x01", b"\x01\x00", b"\x01\x00\x10", b"\xff" * 7, extra_field(7, b"", 1)]):
        yield Case(f"extra-cut-{number}", archive(entry(central={"extra": extra}), entry(b"c.npy")), ANY)


def bombs():
    zeros = bytes(1 << 20)
    packed = deflated(zeros)
    yield Case("deflate-bomb", archive(entry(content=zeros, data=packed, method=DEFLATED)))
    yield Case("deflate-bomb-that-says-4-GiB", archive(entry(data=packed, method=DEFLATED, size=FULL - 1)))
    said = array_of(np.zeros(4)).replace(b"(4,)", b"(9,)")
    yield Case("deflate-of-a-short-array", archive(entry(content=said, data=deflated(said), method=DEFLATED)))
    head = ARRAY[:128].replace(b"(3, 4)", b"(999,)") + zeros
    yield Case("deflate-of-a-long-one", archive(entry(content=head, data=deflated(head), method=DEFLATED)), OBSTACLE)
    for level, content in enumerate([b"", b"\x00", ARRAY[:9], ARRAY[:64], ARRAY[:127]]):
        yield Case(f"deflate-of-{level}", archive(entry(content=content, data=deflated(content), method=DEFLATED)))
    for number, content in enumerate(
        [b"", b"\xff", b"\xff" * 100, deflated(ARRAY)[:-20], deflated(ARRAY)[:5], b"\x03\x00"]
    ):
        yield Case(
            f"deflate-broken-{number}", archive(entry(data=content, method=DEFLATED)), ANY if number == 3 else REFUSED
        )
    wrong = entry(data=deflated(ARRAY), method=DEFLATED, crc=1)
    yield Case("deflate-wrong-checksum", archive(wrong), ANY)
    for size in (0, 1, 127, len(ARRAY) - 1):
        yield Case(f"deflate-said-to-be-{size}", archive(entry(data=deflated(ARRAY), method=DEFLATED, size=size)))
    squeezed = lzma.compress(zeros, format=lzma.FORMAT_ALONE)
    yield Case(
        "lzma-bomb", archive(entry(data=b"\x09\x04\x05\x00" + squeezed[:5] + squeezed[13:], method=LZMA)), OBSTACLE
    )
    hungry = b"\x09\x04\x05\x00\x5d\xff\xff\xff\xff" + squeezed[13:]
    yield Case("lzma-that-wants-4-GiB", archive(entry(data=hungry, method=LZMA)), OBSTACLE)
    yield Case("bzip2-bomb", archive(entry(data=bz2.compress(zeros * 4), method=BZIP2)), OBSTACLE)
    for method in (1, 6, 9, 93, 95, 97, 98, 99, 65535):
        yield Case(f"method-{method}", archive(entry(method=method)), OBSTACLE)
    yield Case("encrypted", archive(entry(flags=ENCRYPTED)), OBSTACLE)
    yield Case("encrypted-and-packed", archive(entry(data=deflated(ARRAY), method=DEFLATED, flags=ENCRYPTED)), OBSTACLE)
    yield Case("encrypted-strongly", archive(entry(flags=ENCRYPTED | 0x40)), ANY)
    yield Case("patched", archive(entry(flags=0x20)), ANY)
    nested = GOOD
    for depth in range(5):
        nested = archive(entry(content=nested, data=deflated(nested), method=DEFLATED))
        yield Case(f"nested-{depth}", nested)
        yield Case(f"nested-in-another-name-{depth}", archive(entry(b"x.npz", nested), entry()), MAPPED)
    data = deflated(zeros)
    many = [entry(b"%d.npy" % n, zeros, data, method=DEFLATED) for n in range(200)]
    yield Case("200-bombs", archive(*many))


def many():
    tiny = entry(b"", b"")
    for count in (500, 2000):
        yield Case(f"{count}-without-a-name", archive(*[tiny] * count))
    directory = central_header(tiny[1], 0) * 60_000
    end = END.pack(b"PK\x05\x06", 0, 0, 60_000, 60_000, len(directory), 36, 0)
    # zipfile keeps half a KiB for each member that the directory has.
    yield Case("60000-in-a-directory", local_header(tiny[0]) + bytes(6) + directory + end, is_long=True)
    directory = central_header(tiny[1], 0) * 190_000
    end = END.pack(b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 36, 0)
    yield Case("more-than-8-MiB-of-directory", local_header(tiny[0]) + bytes(6) + directory + end)


ARRAYS = [
    b"",
    b"\x93",
    b"\x93NUMPY",
    b"\x93NUMPY\x01\x00",
    b"\x93NUMPY\x09\x00" + ARRAY[8:],
    b"\x94NUMPY" + ARRAY[6:],
    ARRAY[:100],
    ARRAY[:128],
    ARRAY[:-1],
    ARRAY.replace(b"(3, 4)", b"(3, 5)"),
    ARRAY.replace(b"(3, 4)", b"(-3,4)"),
    ARRAY.replace(b"(3, 4)", b"(99**9)"[:6]),
    ARRAY.replace(b"<f4", b"<f8"),
    ARRAY.replace(b"<f4", b"<f3"),
    ARRAY.replace(b"<f4", b"|V0"),
    ARRAY.replace(b"False", b"None "),
    ARRAY[:8] + b"\xff\xff" + ARRAY[10:],
    ARRAY[:8] + b"\x00\x00" + ARRAY[10:],
    b"PK\x03\x04",
    b"x" * 500,
]


def arrays():
    """Members that are no arrays."""
    for number, content in enumerate(ARRAYS):
        yield Case(f"array-{number}", archive(entry(content=content)))
        yield Case(f"array-{number}-beside-a-good-one", archive(entry(b"b.npy"), entry(content=content)))
        packed = entry(content=content, data=deflated(content), method=DEFLATED)
        yield Case(f"array-{number}-packed", archive(packed, entry(b"b.npy")), ANY if number == 14 else REFUSED)
    objects = ARRAY.replace(b"'<f4'", b"'|O' ")
    yield Case("objects", archive(entry(content=objects)), OBSTACLE)
    yield Case("packed-objects", archive(entry(content=objects, data=deflated(objects), method=DEFLATED)), OBSTACLE)
    yield Case("bytes-follow-an-array", archive(entry(content=ARRAY + bytes(9))), ANY)


GROUPS = [
    lengths,
    bytes_of_the_headers,
    bytes_of_a_packed_member,
    lying_headers,
    names,
    places,
    directories,
    zip64_members,
    bombs,
    many,
    arrays,
]


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_file_is_refused_or_mapped_inside_itself(group, tmp_path):
    check_all(group(), str(tmp_path), "x.npz")


class Sparse(Case):
    """A file with its content at the end of a hole of 10 GiB."""

    def write(self, path):
        with open(path, "wb") as file:
            file.write(local_header(entry()[0]) + ARRAY)
            file.seek(10 << 30)
            file.write(self.content)


def test_a_directory_of_10_gib_is_refused_unread(tmp_path):
    path = str(tmp_path / "x.npz")
    end = END_64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, (10 << 30) - 200, 200)
    end += LOCATOR_64.pack(b"PK\x06\x07", 0, 10 << 30, 1) + END.pack(b"PK\x05\x06", 0, 0, 65535, 65535, FULL, FULL, 0)
    check(Sparse("10-GiB", end), path)
    with pytest.raises(nf.FormatError, match=r"its directory has \d+ bytes, 8388608 are read"):
        nf.open(path)


def test_the_builder_makes_what_zipfile_reads(tmp_path):
    path = str(tmp_path / "x.npz")
    for content in (GOOD, PACKED, archive(entry(), prefix=b"#!/bin/sh\n")):
        with open(path, "wb") as file:
            file.write(content)
        with zipfile.ZipFile(path) as readable:
            assert readable.testzip() is None
            assert np.load(io.BytesIO(readable.read("a.npy"))).tobytes() == ARRAY[128:]


def test_all_hostile_files_together_need_little_memory(tmp_path, run_python):
    good = tmp_path / "good.npz"
    good.write_bytes(PACKED)
    check_together(GROUPS, str(good), str(tmp_path / "all"), ".npz", run_python)


def test_there_are_enough_hostile_files(tmp_path):
    check_count((case for group in GROUPS for case in group()), str(tmp_path), "x.npz")
