"""Inputs that once broke a promise, as small as they get, and others that nearly did. Run with every test."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
from seeds import encoded, npy_of, safetensors_of, saved, zipped

__all__ = ["REGRESSIONS"]

# More than the 4300 digits that Python writes or reads.
LONG = 10**4299


def of_shape(shape: str, tail: str = "\n") -> bytes:
    return npy_of(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}{tail}".encode())


REGRESSIONS: dict[str, dict[str, bytes]] = {
    "npy": {
        "size_longer_than_python_writes": of_shape(f"({LONG * 100:#x},)"),
        "sizes_whose_product_is_longer_than_python_writes": of_shape(f"({10**2200}, {10**2200})"),
        "comment_with_many_beginnings": of_shape("(0,)", " # " + "} # ndfile {" * 800 + "x\n"),
        "nested_deeper_than_the_parser": npy_of(b"(" * 9000),
        "operators_deeper_than_the_parser": npy_of(b"-" * 9000 + b"1"),
        "attributes_deeper_than_the_parser": npy_of(b"a" + b".a" * 4000),
        "objects_of_a_size_longer_than_python_writes": npy_of(
            f"{{'descr': '|O', 'fortran_order': False, 'shape': ({LONG * 100:#x},)}}".encode()
        ),
        "objects_of_a_size_larger_than_floats": npy_of(
            f"{{'descr': '|O', 'fortran_order': False, 'shape': {(2**62,) * 20}}}".encode()
        ),
        "size_longer_than_python_writes_beside_zero": of_shape(f"(0, {LONG * 100:#x})"),
        "dtype_that_numpy_cannot_copy": npy_of(b"{'descr': '<m8[0D]', 'fortran_order': False, 'shape': (0,)}\n"),
        "literals_of_another_python": npy_of(
            b"{'shape': (0x10, 1_0L), 'descr': [('', '|V2'), ('x', '<f8')], 'fortran_order': True}\n"
        ),
        "null_byte": npy_of(b"{'descr': '<f4\0', 'fortran_order': False, 'shape': (1,)}\n"),
        "objects": saved(np.array([np.dtype], object)),
    },
    "npz": {
        "size_longer_than_python_writes": zipped(zipfile.ZIP_STORED, content=of_shape(f"({LONG * 100:#x},)")),
        "packed_size_longer_than_python_writes": zipped(zipfile.ZIP_DEFLATED, content=of_shape(f"({LONG * 100:#x},)")),
    },
    "raw": {
        "negative_size": encoded({"dtype": "<f4", "shape": [-1]}),
        "negative_offset": encoded({"dtype": "<f4", "shape": [1], "offset": -1}),
        "offset_that_leaves_no_whole_items": encoded({"dtype": "<f4", "offset": 1}),
        "objects": encoded({"dtype": "|O", "shape": [1]}),
        "items_of_no_bytes": encoded({"dtype": "|V0", "shape": [1]}),
        "sizes_whose_product_is_longer_than_python_writes": encoded({"dtype": "<f4", "shape": [10**2200] * 2}),
        "sizes_whose_product_takes_long": encoded({"dtype": "<f4", "shape": [LONG] * 64}),
        "offset_longer_than_python_writes": encoded({"dtype": "<f4", "shape": [LONG], "offset": LONG}),
        "size_too_large_beside_a_size_of_zero": encoded({"dtype": "|u1", "shape": [0, 2**64]}),
        "dtype_that_numpy_wants_no_more": encoded({"dtype": "a5"}),
        "dtype_that_numpy_cannot_copy": encoded({"dtype": "<m8[0D]"}),
        "another_file": encoded(
            {"dtype": "|u1", "inode": 1, "previous": {"dtype": "<i2", "shape": None, "inode": 2, "previous": None}}
        ),
        "previous_without_end": b'{"dtype": "<f4", "previous": ' * 400 + b"null" + b"}" * 400,
    },
    "safetensors": {
        "size_larger_than_floats": safetensors_of(
            encoded({"a": {"dtype": "F32", "shape": [2**63 - 1] * 20, "data_offsets": [0, 4]}}), 4
        ),
        "surrogate_in_a_name": safetensors_of(b'{"\\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 2]}}', 2),
        "nested_deeper_than_the_parser": safetensors_of(b'{"":' + b"[" * 5000, 0),
    },
    "wav": {
        "chunks_of_no_bytes_without_end": b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\0\0\0\0" * 1400,
    },
    "tiff": {
        "directory_that_is_its_own_next": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 256, 3, 1, 7) + b"\x08\0\0\0",
    },
    "fits": {
        "axes_of_more_items_than_any_file": b"".join(
            card.ljust(80).encode()
            for card in ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", f"NAXIS1  = {2**62}", f"NAXIS2  = {2**62}", "END")
        ).ljust(2880),
    },
    "arrow": {
        "schema_that_points_behind_itself": b"ARROW1\0\0\xff\xff\xff\xff\x10\0\0\0"
        + b"\xff\xff\xff\x7f" * 4
        + b"ARROW1",
    },
    "checksums": {
        "number_longer_than_python_reads": b'{"format": "ndfile.checksums", "version": 1, "size": '
        + b"1" * 5000
        + b"}",
    },
}
