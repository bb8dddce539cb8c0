"""What fuzzing begins with: small valid files, mostly by the formats' own libraries, and the words they are made of."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import struct
import tempfile
import wave
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as numpy_format
from targets import BESIDE_NBYTES

from ndfile.integrity import digests

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WORDS", "seeds"]


def seeds(name: str) -> list[bytes]:
    """The files for a target. Each of them is valid."""
    makers = (npy, npz, raw, safetensors, wav, checksums, tiff, fits, arrow)
    return list(next(maker for maker in makers if maker.__name__ == name)())


def arrays() -> Iterator[np.ndarray]:
    yield np.arange(6.0).reshape(2, 3)
    yield np.asfortranarray(np.arange(6, dtype=">i2").reshape(3, 2))
    yield np.array(7, np.uint8)
    yield np.zeros((0, 4), "S3")
    yield np.zeros(2, [("a", "<f4"), ("b", "<u2", (2,))])
    yield np.array(["2001-02-03"], "M8[D]")


def npy() -> Iterator[bytes]:
    for array in arrays():
        yield saved(array)
    yield saved(np.array([{}, None], object))
    yield saved(np.zeros(2, [("\u03b1", "<f4")]), (3, 0))
    yield saved(np.arange(3, dtype="<i4"), (2, 0))
    values = {"descr": "<V2", "fortran_order": False, "shape": (2,)}
    extra = {"dtype": "bfloat16", "metadata": {"a": [1, None]}}
    yield npy_of(f"{values!r} # ndfile {json.dumps(extra)}\n".encode()) + bytes(4)


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    numpy_format.write_array(file, array, version, allow_pickle=True)
    return file.getvalue()


def npy_of(text: bytes, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


def npz() -> Iterator[bytes]:
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, a=np.arange(3.0), **{"layer/b": np.zeros((2, 2), "<f4", "F")})
        yield file.getvalue()
    yield zipped(zipfile.ZIP_STORED, comment=b'{"by": [1]}')
    yield zipped(zipfile.ZIP_BZIP2)
    yield zipped(zipfile.ZIP_STORED, name="\u03b1.npy", force_zip64=True)
    yield zipped(zipfile.ZIP_DEFLATED, content=saved(np.array([{}], object)))
    yield zipped(zipfile.ZIP_STORED, more=("README", b"text"))
    yield b"PK\x05\x06" + bytes(18)


def zipped(
    method: int,
    *,
    name: str = "a.npy",
    content: bytes | None = None,
    comment: bytes = b"",
    force_zip64: bool = False,
    more: tuple[str, bytes] | None = None,
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        with archive.open(name, "w", force_zip64=force_zip64) as member:
            member.write(saved(np.arange(4, dtype="<u2")) if content is None else content)
        if more is not None:
            archive.writestr(*more)
    return file.getvalue()


def raw() -> Iterator[bytes]:
    for array in arrays():
        descr = numpy_format.dtype_to_descr(array.dtype)
        yield encoded({"dtype": descr, "shape": array.shape, "order": "F", "offset": 8, "metadata": {"a": 1}})
    for kind in ("<f4", "bfloat16", "|V3", [["a", "<f4"], ["b", "<u2", [2]], ["", "|V2"]], [[["t", "n"], "<i8"]]):
        yield encoded({"dtype": kind})


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def safetensors() -> Iterator[bytes]:
    with contextlib.suppress(ImportError):
        library = importlib.import_module("safetensors.numpy")
        yield library.save({"a": np.arange(3.0), "b": np.zeros((2, 2), "f2")}, {"by": "it"})
        yield library.save({"a": np.zeros(0, "i8"), "b": np.array(True)})
    for kind, bits in (("BF16", 16), ("F8_E4M3", 8), ("F4", 4), ("C64", 64), ("U32", 32)):
        fields = {"a": {"dtype": kind, "shape": [2, 2], "data_offsets": [0, bits // 2]}}
        yield safetensors_of(encoded(fields), bits // 2)
    empty = {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}
    yield safetensors_of(encoded({"__metadata__": {}, "a": empty, "b": empty}), 0)
    yield safetensors_of(b"{}      ", 0)


def safetensors_of(text: bytes, nbytes: int) -> bytes:
    return struct.pack("<Q", len(text)) + text + bytes(nbytes)


def wav() -> Iterator[bytes]:
    for channels, width in ((1, 1), (2, 2), (1, 3), (2, 4)):
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(channels)
            writer.setsampwidth(width)
            writer.setframerate(8000)
            writer.writeframes(bytes(channels * width * 3))
        yield file.getvalue()
    yield from _wav_by_libraries()
    fmt = b"fmt \x10\0\0\0" + struct.pack("<HHIIHH", 3, 1, 8000, 32000, 4, 32)
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, 8, 2, 0)
    yield b"RF64\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff" + bytes(8)
    big = b"fmt " + struct.pack(">IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    yield b"RIFX\0\0\0\x2cWAVE" + b"LIST\0\0\0\x03abc\0" + big + b"data\0\0\0\x04" + bytes(4)


def _wav_by_libraries() -> Iterator[bytes]:
    with contextlib.suppress(ImportError):
        library = importlib.import_module("soundfile")
        for kind, subtype in (("WAV", "FLOAT"), ("WAVEX", "PCM_16"), ("RF64", "PCM_24"), ("WAV", "ULAW")):
            file = io.BytesIO()
            library.write(file, np.zeros((4, 2)), 8000, format=kind, subtype=subtype)
            yield file.getvalue()


def checksums() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.bin")
        for size in (0, BESIDE_NBYTES, 3 << 16):
            with open(path, "wb") as file:
                file.write(bytes(size))
            for algorithm in ("sha256", "md5", "blake2b"):
                with open(digests.checksum(path, algorithm=algorithm, block_nbytes=1 << 16).path, "rb") as file:
                    yield file.read()


def tiff() -> Iterator[bytes]:
    with contextlib.suppress(ImportError):
        library = importlib.import_module("tifffile")
        plane = np.arange(24, dtype="u2").reshape(4, 6)
        for options in ({}, {"byteorder": ">"}, {"bigtiff": True}, {"imagej": True}, {"ome": True}, {"tile": (16, 16)}):
            for array in (plane, np.stack([plane, plane])):
                file = io.BytesIO()
                library.imwrite(file, array, metadata={"axes": "ZYX"[-array.ndim :]}, **options)
                yield file.getvalue()
    tags = [(256, 4, 3), (257, 4, 2), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 110), (278, 4, 2), (279, 4, 6)]
    table = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    yield b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + table + bytes(4) + bytes(6)


def fits() -> Iterator[bytes]:
    for cards in (
        ("BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 2"),
        ("BITPIX  = -32", "NAXIS   = 1", "NAXIS1  = 4", "BSCALE  = 2.5", "EXTNAME = 'A b'", "DATASUM = '0'"),
        ("BITPIX  = 8", "NAXIS   = 0"),
    ):
        text = "".join(card.ljust(80) for card in ("SIMPLE  = T", *cards, "END"))
        yield text.ljust(2880).encode() + bytes(2880)


def arrow() -> Iterator[bytes]:
    with contextlib.suppress(ImportError):
        library = importlib.import_module("pyarrow")
        table = library.table({"a": library.array([1, 2, 3], "int32"), "b": library.array([1.5, None, 2.5])})
        lists = library.table({"c": library.array([[1, 2], [3, 4]], library.list_(library.int16(), 2))})
        for one in (table, lists):
            for make in (library.ipc.new_file, library.ipc.new_stream):
                sink = library.BufferOutputStream()
                with make(sink, one.schema) as writer:
                    writer.write_table(one)
                yield sink.getvalue().to_pybytes()


# At most 64 bytes each, which is what fuzzers take.
JSON_WORDS = rb"""{" ": {} [] [[ ]] ", null true false \ud800 \u0000 -1 0 -0 1e999 1.0 NaN Infinity 9223372036854775807
18446744073709551616""".split()
DTYPE_WORDS = b"""<f4 >i8 |u1 |S3 <U2 |V0 |V2 |O <M8[ns] <m8[7D] |b1 <c16 <f2 <g (2,3)f4 f4,i4 |V2147483648 |S0 O object
bfloat16 float8_e5m2""".split()

NPY_WORDS = rb"""'descr': 'fortran_order': 'shape': True False () (1,) , 0x 0b1 1_0 10L #ndfile{ } "metadata":{
"dtype":" [('a',' ('t','n') \x00 \N{TAB} b' -( +1j ... {** set()""".split()
NPZ_WORDS = b"PK\1\2 PK\3\4 PK\5\6 PK\6\6 PK\6\7 PK\7\x08 .npy ../ \\ \0 \1\0\x10\0 \xff\xff\xff\xff up \x35\xd9 \x08\0"
RAW_WORDS = b"""dtype shape order offset metadata inode previous "shape":[ "metadata":{ "previous":{""".split()
SAFETENSORS_WORDS = b"""__metadata__ dtype shape data_offsets BF16 F8_E4M3 F4 F6_E2M3 BOOL C64 U64 F8_E8M0""".split()
WAV_WORDS = b"RIFF RIFX RF64 BW64 WAVE data ds64 LIST fact \xff\xff\xff\xff \xfe\xff \3\0 \x18\0"
FITS_WORDS = (
    b"SIMPLE XTENSION= 'IMAGE' BITPIX NAXIS NAXIS1 NAXIS2 PCOUNT GCOUNT GROUPS BSCALE BZERO ZIMAGE BINTABLE -64"
)
CHECKSUMS_WORDS = b"""format ndfile.checksums version algorithm block_nbytes size mtime_ns digest blocks sha256 xxh3
blake3 md5 sha1 shake_128 65536 1073741824""".split()

WORDS: dict[str, list[bytes]] = {
    "npy": [*NPY_WORDS, b" # ndfile {", b"\x93NUMPY\2\0", b"\x93NUMPY\3\0", *DTYPE_WORDS, *JSON_WORDS],
    "npz": [*NPZ_WORDS.split(b" "), b"\x93NUMPY", b"\x0c\0"],
    "raw": [*RAW_WORDS, *DTYPE_WORDS, *JSON_WORDS],
    "safetensors": [*SAFETENSORS_WORDS, *JSON_WORDS],
    "wav": [*WAV_WORDS.split(b" "), b"fmt ", bytes.fromhex("00001000800000aa00389b71"), b"\xff" * 8],
    "checksums": [*CHECKSUMS_WORDS, *JSON_WORDS],
    "tiff": [b"II*\0", b"MM\0*", b"II+\0", b"\1\1", b"\x11\1", b"\xff\xff\xff\xff", b"ImageJ=", b'{"shape":', b"<OME>"],
    "fits": [*FITS_WORDS.split(b" "), b"END     ", b"= T", b"99999999999999999999"],
    "arrow": [b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f"],
}
