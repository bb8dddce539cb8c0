"""WAV files that lie: each is refused, or what is mapped of it lies inside it."""

import struct

import pytest
from hostile import ANY, REFUSED, Case, check, check_count

import ndfile as nf

WORDS = (0, 1, 2, 3, 4, 8, 24, 255, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
SIZES = (0, 1, 3, 15, 17, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
LONG_SIZES = (0, 1, 17, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)


# The end of the GUIDs that stand for tags.
GUID = bytes.fromhex("00001000800000aa00389b71")


def chunk(name, content, nbytes=None, order="<"):
    return name + struct.pack(order + "I", len(content) if nbytes is None else nbytes) + content


def fmt(tag=1, channels=2, rate=8000, align=4, bits=16, more=b"", order="<", nbytes=None):
    fields = struct.pack(order + "HHIIHH", tag, channels, rate, rate * align % 2**32, align, bits)
    return chunk(b"fmt ", fields + more, nbytes, order)


def extensible(sub=1, guid=GUID, extra=22, **others):
    more = struct.pack("<HHII", extra, 16, 3, sub) + guid
    return fmt(0xFFFE, more=more, **others)


def riff(*chunks, magic=b"RIFF", form=b"WAVE", nbytes=None, order="<"):
    content = form + b"".join(chunks)
    return magic + struct.pack(order + "I", len(content) if nbytes is None else nbytes) + content


def ds64(whole=0, data=16, frames=4, nbytes=None, entries=0):
    return chunk(b"ds64", struct.pack("<QQQI", whole, data, frames, entries), nbytes)


DATA = chunk(b"data", bytes(range(16)))
UNKNOWN = chunk(b"data", bytes(range(16)), 0xFFFFFFFF)


def whole():
    """The files that are broken below: plain, RF64, extensible."""
    yield riff(fmt(), DATA)
    yield riff(ds64(), fmt(), UNKNOWN, magic=b"RF64", nbytes=0xFFFFFFFF)
    yield riff(extensible(), DATA)


def hostile():
    plain, *others = whole()
    wide = riff(fmt(align=6, bits=24), chunk(b"data", bytes(18)))
    for number, good in enumerate((plain, wide, *others)):
        for length in range(0, len(good), 2 if number else 1):
            yield f"{('plain', 'wide', 'rf64', 'extensible')[number]}-cut-to-{length}", good[:length], True
    for offset in range(44):
        for value in (0, 0x80, 0xFF):
            if plain[offset] != value:
                yield f"byte-{offset}-is-{value}", plain[:offset] + bytes([value]) + plain[offset + 1 :], False
    for name in ("tag", "channels", "align", "bits"):
        for value in WORDS:
            yield f"{name}-is-{value}", riff(fmt(**{name: value}), DATA), False
            yield (
                f"extensible-{name}-is-{value}",
                riff(extensible(**{name: value} if name != "tag" else {}), DATA, DATA[:value]),
                False,
            )
    for size in SIZES:
        yield f"riff-size-{size}", riff(fmt(), DATA, nbytes=size), False
        yield f"fmt-size-{size}", riff(fmt(nbytes=size), DATA), True
        yield f"data-size-{size}", riff(fmt(), chunk(b"data", bytes(16), size)), 16 < size < 0xFFFFFFFF
        yield f"chunk-size-{size}", riff(chunk(b"LIST", b"", size), fmt(), DATA), size != 0
        yield f"big-endian-size-{size}", riff(fmt(), DATA, magic=b"RIFX", nbytes=size), True
        yield f"extra-size-{size}", riff(extensible(extra=size % 65536, sub=size), DATA), False
        yield f"ds64-size-{size}", riff(ds64(nbytes=size), fmt(), UNKNOWN, magic=b"RF64"), True
    for size in LONG_SIZES:
        is_refused = 16 < size < 2**64 - 1
        yield f"rf64-data-{size}", riff(ds64(data=size), fmt(), UNKNOWN, magic=b"RF64"), is_refused
        yield f"bw64-data-{size}", riff(ds64(data=size), fmt(), UNKNOWN, magic=b"BW64"), is_refused
        yield f"rf64-whole-{size}", riff(ds64(whole=size), fmt(), UNKNOWN, magic=b"RF64"), False
        yield f"rf64-24-bit-{size}", riff(ds64(data=size), fmt(align=6, bits=24), UNKNOWN, magic=b"RF64"), is_refused
    yield "no-channels", riff(fmt(channels=0), DATA), True
    yield "no-frame", riff(fmt(align=0), DATA), True
    yield "no-bits", riff(fmt(bits=0), DATA), True
    yield "more-bits-than-bytes", riff(fmt(bits=17), DATA), True
    yield "frame-not-shared", riff(fmt(channels=3), DATA), True
    yield "bytes-not-shared", riff(fmt(channels=3, bits=8), DATA), True
    yield "float-of-2-bytes", riff(fmt(tag=3), DATA), True
    yield "float-of-24-bits", riff(fmt(tag=3, align=8, bits=24), DATA), True
    yield "samples-of-9-bytes", riff(fmt(channels=1, align=9, bits=16), DATA), True
    yield "8-bits-in-2-bytes", riff(fmt(bits=8), DATA), True
    yield "wrong-form", riff(fmt(), DATA, form=b"AVI "), True
    yield "wrong-magic", riff(fmt(), DATA, magic=b"RIFT"), True
    yield "lower-case-magic", riff(fmt(), DATA, magic=b"riff"), True
    yield "lower-case-names", plain.lower(), True
    yield "data-before-fmt", riff(DATA, fmt()), True
    yield "no-fmt", riff(DATA), True
    yield "no-data", riff(fmt()), True
    yield "no-chunk", riff(), True
    yield "two-fmt", riff(fmt(), fmt(channels=1, align=2), DATA), True
    yield "two-data", riff(fmt(), DATA, DATA), False
    yield "two-ds64", riff(ds64(), ds64(data=2**40), fmt(), UNKNOWN, magic=b"RF64"), False
    yield "ds64-in-riff", riff(ds64(data=2**40), fmt(), DATA), False
    yield "ds64-after-data", riff(fmt(), UNKNOWN, ds64(), magic=b"RF64"), False
    yield "ds64-of-8-bytes", riff(chunk(b"ds64", bytes(8)), fmt(), UNKNOWN, magic=b"RF64"), True
    yield "ds64-with-entries", riff(ds64(entries=2**32 - 1), fmt(), UNKNOWN, magic=b"RF64"), False
    yield "guid-of-others", riff(extensible(guid=bytes(12)), DATA), False
    yield "extensible-in-extensible", riff(extensible(sub=0xFFFE), DATA), False
    yield "extensible-cut-short", riff(fmt(tag=0xFFFE), DATA), True
    yield "1001-chunks", riff(*[chunk(b"JUNK", b"")] * 1001, fmt(), DATA), True
    yield "100000-chunks", riff(*[chunk(b"JUNK", b"")] * 100000, fmt(), DATA), True
    yield "odd-chunk-without-pad", riff(chunk(b"JUNK", b"x"), fmt(), DATA), True
    yield "names-of-zeros", riff(fmt(), chunk(bytes(4), b""), chunk(b"\xff" * 4, b""), DATA), False
    yield "zeros", bytes(4096), True
    yield "ones", b"\xff" * 4096, True
    yield "one-byte", b"\0", True


def cases():
    for name, content, is_refused in hostile():
        yield Case(name, content, REFUSED if is_refused else ANY)


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_hostile_file_is_refused_or_mapped_inside_itself(case, tmp_path):
    check(case, str(tmp_path / "x.wav"))


def test_what_is_broken_here_is_good_while_whole(tmp_path):
    path = str(tmp_path / "x.wav")
    for content in whole():
        with open(path, "wb") as file:
            file.write(content)
        nf.open(path, "r+").close()


def test_there_are_enough_hostile_files(tmp_path):
    check_count(cases(), str(tmp_path), "x.wav")
