"""How the files of others begin, which no format may take for its own."""

__all__ = ["FOREIGN"]

# Those that a format of ndfile's knows have its name.
FOREIGN = {
    "npy": b"\x93NUMPY\x01\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }".ljust(127)
    + b"\n"
    + bytes(24),
    "npz": b"PK\x03\x04\x14\0\0\0\0\0" + bytes(200),
    "safetensors": (64).to_bytes(8, "little")
    + b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.ljust(64)
    + b"ab",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "tiff": b"II*\0\x08\0\0\0" + bytes(200),
    "nifti": (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(100),
    "wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(200),
    "fits": b"SIMPLE  =                    T".ljust(2880),
    "arrow": b"ARROW1\0\0\xff\xff\xff\xff" + bytes(200),
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200),
    "gzip": b"\x1f\x8b\x08" + bytes(200),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(200),
    "json": b'{"a": [1, 2, 3]}' * 20,
    "text": b"1,2,3\n4,5,6\n" * 20,
    "zeros": bytes(8192),
    "ones": b"\xff" * 8192,
}
