"""NIfTI files that lie: each is refused, or what is mapped of it lies inside it and behind its header."""

import logging
import os
import struct
import time
import tracemalloc

import nibabel  # noqa: F401 - what the library itself takes is not measured
import pytest
from hostile import ANY, Case, check_count

import ndfile as nf

FORMAT = "nifti"
HEADER_NBYTES = {1: 348, 2: 540}

# Where the fields are, and what they are: version 1, version 2.
FIELDS = {
    "sizeof_hdr": ((0, "i"), (0, "i")),
    "dim0": ((40, "h"), (16, "q")),
    "dim1": ((42, "h"), (24, "q")),
    "dim2": ((44, "h"), (32, "q")),
    "dim3": ((46, "h"), (40, "q")),
    "dim7": ((54, "h"), (72, "q")),
    "datatype": ((70, "h"), (12, "h")),
    "bitpix": ((72, "h"), (14, "h")),
    "pixdim0": ((76, "f"), (104, "d")),
    "vox_offset": ((108, "f"), (168, "q")),
    "scl_slope": ((112, "f"), (176, "d")),
    "scl_inter": ((116, "f"), (184, "d")),
    "units": ((123, "B"), (500, "i")),
    "glmin": ((144, "i"), None),
    "intent_code": ((68, "h"), (504, "i")),
    "qform_code": ((252, "h"), (344, "i")),
    "quatern_b": ((256, "f"), (352, "d")),
    "extension": ((348, "B"), (540, "B")),
}
FLOATS = (
    0.0,
    -0.0,
    -1.0,
    0.5,
    1e-45,
    347.0,
    348.0,
    351.0,
    352.5,
    353.0,
    1e9,
    3e38,
    float("inf"),
    -float("inf"),
    float("nan"),
)
EDGES = {
    "B": (0, 1, 7, 255),
    "h": (-32768, -1, 0, 1, 2, 8, 255, 348, 1281, 1536, 32767),
    "i": (-(2**31), -1, 0, 1, 5, 347, 348, 349, 540, 2**31 - 1),
    "q": (-(2**63), -1, 0, 1, 8, 347, 351, 543, 545, 2**31, 2**32, 2**62, 2**63 - 1),
}


def image(
    version=1, order="<", shape=(3, 4, 2), datatype=4, bitpix=16, vox_offset=None, magic=None, more=b"", **fields
):
    """A header with 48 bytes of data behind it."""
    size = HEADER_NBYTES[version]
    block = bytearray(size + 4)
    dims = [len(shape), *shape, *[1] * (7 - len(shape))]
    if version == 1:
        struct.pack_into(order + "i36x8h14xhh2x8ff", block, 0, size, *dims, datatype, bitpix, *[1.0] * 8, 0)
        block[344:348] = b"n+1\0" if magic is None else magic
    else:
        struct.pack_into(order + "i8shh8q24x8dq", block, 0, size, b"", datatype, bitpix, *dims, *[1.0] * 8, 0)
        block[4:12] = b"n+2\0\r\n\x1a\n" if magic is None else magic
    offset = size + 4 + len(more) if vox_offset is None else vox_offset
    for name, value in {"vox_offset": offset, **fields}.items():
        place, code = FIELDS[name][version - 1]
        struct.pack_into(order + code, block, place, value)
    return bytes(block) + more + bytes(range(48))


def edges(code):
    return FLOATS if code in "fd" else EDGES[code]


def hostile():
    """A name, the bytes, and whether they must be refused (None: either way)."""
    for version in (1, 2):
        whole = image(version)
        for length in range(0, len(whole), 5):
            yield f"v{version}-cut-to-{length}", whole[:length], True
        for order in "<>":
            end = "little" if order == "<" else "big"
            for name, places in FIELDS.items():
                if places[version - 1] is None:
                    continue
                for value in edges(places[version - 1][1]):
                    yield f"v{version}-{end}-{name}-is-{value}", image(version, order, **{name: value}), None
        for count in range(-1, 10):
            yield f"v{version}-{count}-dimensions", image(version, dim0=count), not 1 <= count <= 7
        for offset in (0, 1, 347, 348, 351, 8, -352, 1 << 30):
            yield f"v{version}-data-at-{offset}", image(version, vox_offset=offset), True
        for byte in range(12):
            place = (344 + byte) if version == 1 else 4 + byte
            if byte < (4 if version == 1 else 8):
                wrong = whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :]
                yield f"v{version}-magic-byte-{byte}", wrong, True
        for code in (0, 1, 3, 5, 255, 999, 1536, 2048, -1, 32767):
            yield f"v{version}-datatype-{code}", image(version, datatype=code), True
        for bits in (-1, 0, 1, 7, 8, 17, 32767):
            yield f"v{version}-bitpix-{bits}", image(version, bitpix=bits), False
        for extension in (b"", b"\0" * 16, b"\xff" * 16, struct.pack("<ii", 2**31 - 1, 6), struct.pack("<ii", -16, 6)):
            more = extension.ljust(16, b"\0")
            yield f"v{version}-extension-{extension[:8].hex()}", image(version, more=more, extension=1), False
        yield f"v{version}-all-dimensions-most", image(version, shape=(32767,) * 7), True
        yield f"v{version}-all-dimensions-0", image(version, shape=(0,) * 7), False
        yield f"v{version}-all-dimensions-negative", image(version, shape=(-1,) * 7), True
        yield f"v{version}-zero-beside-most", image(version, shape=(0, *(32767,) * 6)), True
        yield f"v{version}-two-negative-sizes", image(version, shape=(-3, -8)), True
        yield f"v{version}-one-item-too-many", image(version, shape=(25,)), True
        yield f"v{version}-pair", image(version, magic=(b"ni1\0", b"ni2\0\r\n\x1a\n")[version - 1]), True
        yield f"v{version}-slope-without-intercept", image(version, scl_slope=2, scl_inter=float("nan")), True
        yield f"v{version}-scaled-beyond-the-file", image(version, shape=(3000,), scl_slope=2), None
        yield f"v{version}-long-names", whole.replace(bytes(24), b"\xff" * 24, 1), None
        yield f"v{version}-other-header-size", image(version, sizeof_hdr=HEADER_NBYTES[3 - version]), True
    yield "v1-freesurfer-without-glmin", image(shape=(-1, 1, 1)), True
    yield "v1-freesurfer-glmin-24", image(shape=(-1, 1, 1), glmin=24), False
    yield "v1-freesurfer-glmin-negative", image(shape=(-1, 1, 1), glmin=-24), True
    yield "v1-freesurfer-glmin-most", image(shape=(-1, 1, 1), glmin=2**31 - 1), True
    yield "v1-icosahedron", image(shape=(27307, 1, 6)), True
    yield "v2-product-of-2-to-the-64", image(2, shape=(2**32, 2**32)), True
    yield "v2-product-that-wraps-to-24", image(2, shape=(2**61 + 3, 8)), True
    yield "v2-offset-that-wraps", image(2, vox_offset=2**63 - 8), True
    yield "zeros", bytes(4096), True
    yield "ones", b"\xff" * 4096, True
    yield "one-byte", b"\0", True
    yield "both-magics", image(1)[:4] + image(2)[4:12] + image(1)[12:], None


def opened(path, mode):
    """What opening does: "refused", or where the bytes that are mapped lie."""
    try:
        array = nf.open(path, mode, format=FORMAT)
    except nf.FormatError as error:
        return "refused" if len(str(error)) < 1000 else f"refused in {len(str(error))} letters"
    with array:
        assert isinstance(array, nf.memmap)
        assert array.offset >= 352
        assert array.offset + array.nbytes <= os.path.getsize(path)
        array.tobytes()
        return array.offset, array.nbytes


@pytest.mark.parametrize(("hostile_bytes", "is_refused"), [pytest.param(*case, id=name) for name, *case in hostile()])
def test_a_hostile_file_is_refused_or_mapped_behind_its_header(file_of, hostile_bytes, is_refused, caplog, capfd):
    path = file_of(hostile_bytes)
    caplog.set_level(logging.DEBUG)
    durations = []
    for _ in range(5):
        start = time.process_time()
        outcome = opened(path, "r")
        durations.append(time.process_time() - start)
        if durations[-1] < 0.05:
            break
    assert min(durations) < 0.05
    assert is_refused is None or (outcome == "refused") == is_refused
    tracemalloc.start()
    try:
        outcomes = {opened(path, mode) for mode in ("r+", "c")}
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert outcomes == {outcome}
    with open(path, "rb") as file:
        assert file.read() == hostile_bytes
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "hostile_bytes", [pytest.param(one, id=name) for name, one, _ in hostile() if "scl" in name or "scaled" in name]
)
def test_converting_a_hostile_file_gives_a_whole_array_or_nothing(file_of, tmp_path, hostile_bytes):
    target = str(tmp_path / "x.npy")
    try:
        nf.convert(file_of(hostile_bytes), target, format="npy")
    except nf.FormatError:
        assert not os.path.exists(target)
    else:
        nf.open(target).close()


def test_what_is_broken_here_is_good_while_whole(file_of):
    for version in (1, 2):
        for order in "<>":
            path = file_of(image(version, order))
            assert opened(path, "r+") == (HEADER_NBYTES[version] + 4, 48)


def test_there_are_enough_hostile_files(tmp_path):
    cases = (Case(name, content, ANY, arguments={"format": FORMAT}) for name, content, _ in hostile())
    check_count(cases, str(tmp_path), "x.nii")
