"""Every format of ndfile's own keeps the contract, on files that its own library wrote and reads."""

import contextlib
import json
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from ndfile import formats, testing
from ndfile.formats.registry import BUILT_IN

# Imported here, so that what an import leaves open or mapped is no test's.
for _name in ("h5py", "nibabel", "scipy.io", "soundfile", "astropy.io.fits", "pyarrow.compute", "safetensors.numpy"):
    with contextlib.suppress(ImportError):
        import_module(_name)


def needs(library):
    return pytest.mark.skipif(find_spec(library) is None, reason=f"{library} is not installed")


NUMPY_DTYPES = (
    "<f4",
    "<f8",
    ">f8",
    "<i2",
    ">u4",
    "u1",
    "?",
    "<c8",
    "S3",
    "<U2",
    "<M8[s]",
    "V5",
    [("a", "<i4"), ("b", ">f2")],
)


class TestNpy(testing.WritingContract):
    format = formats.named("npy")
    dtypes = NUMPY_DTYPES
    alignment = 64

    def write(self, path, array):
        np.save(path, array)

    def read(self, path):
        return np.load(path)


class TestNpz(testing.WritingContract, testing.DecodingContract):
    format = formats.named("npz")
    dtypes = NUMPY_DTYPES
    alignment = 64

    def write(self, path, array):
        np.savez(path, data=array)

    def read(self, path):
        with np.load(path) as archive:
            return archive["data"]

    def write_packed(self, path, array):
        np.savez_compressed(path, data=array)


class TestRaw(testing.WritingContract):
    format = formats.named("raw")
    dtypes = NUMPY_DTYPES
    alignment = 64
    beside = (".json",)

    def write(self, path, array):
        order = "F" if array.flags.fnc else "C"
        with open(path, "wb") as file:
            file.write(array.tobytes(order))
        fields = {"dtype": np.lib.format.dtype_to_descr(array.dtype), "shape": array.shape, "order": order}
        with open(f"{path}.json", "w") as file:
            json.dump(fields, file)

    def read(self, path):
        with open(f"{path}.json") as file:
            fields = json.load(file)
        descr = fields["dtype"]
        dtype = np.dtype(list(map(tuple, descr)) if isinstance(descr, list) else descr)
        with open(path, "rb") as file:
            return np.frombuffer(file.read(), dtype).reshape(fields["shape"], order=fields["order"])


@needs("safetensors")
class TestSafetensors(testing.WritingContract):
    format = formats.named("safetensors")
    dtypes = ("<f4", "<f8", "<f2", "<i8", "<i2", "u1", "?", "<u4", "<c8")
    alignment = 64
    metadata = {"unit": "µV", "note": ""}  # strings only
    refused = (">f4", "<M8[s]", "S3", [("a", "i4")])

    def write(self, path, array):
        from safetensors.numpy import save_file

        save_file({"x": np.ascontiguousarray(array)}, path)

    def read(self, path):
        from safetensors.numpy import load_file

        (array,) = load_file(path).values()
        return array


@needs("ml_dtypes")
class TestNpyOfOtherFloats(testing.WritingContract):
    format = formats.named("npy")
    alignment = 64

    @property
    def dtypes(self):
        import ml_dtypes

        return ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2

    def write(self, path, array):
        # As numpy.save writes it, and what tells the type behind it.
        header = f"{{'descr': '|V{array.itemsize}', 'fortran_order': {array.flags.fnc}, 'shape': {array.shape}, }}"
        header += f' # ndfile {{"dtype": "{array.dtype}"}}'
        text = header.encode().ljust(117) + b"\n"
        with open(path, "wb") as file:
            file.write(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)
            file.write(array.tobytes("F" if array.flags.fnc else "C"))

    def read(self, path):
        return np.load(path)


@needs("h5py")
class TestHdf5(testing.DecodingContract):
    format = formats.named("hdf5")
    dtypes = ("<f4", ">f8", "<i2", ">u4", "u1", "<c8", [("a", "<i4"), ("b", ">f2")])

    def write(self, path, array):
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("group/x", data=array).attrs["unit"] = "m"
            file.attrs["title"] = "test"

    def read(self, path):
        import h5py

        with h5py.File(path, "r") as file:
            return file["group/x"][...]

    def write_packed(self, path, array):
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("group/x", data=array, chunks=True, compression="gzip")


@needs("tifffile")
class TestTiff(testing.DecodingContract):
    format = formats.named("tiff")
    dtypes = ("<f4", ">f8", "<i2", ">u4", "u1")
    shapes = ((13, 14), (5, 13, 14))

    def write(self, path, array, **options):
        import tifffile

        order = ">" if array.dtype.byteorder == ">" else "<"
        tifffile.imwrite(path, array, byteorder=order, photometric="minisblack", **options)

    def read(self, path):
        import tifffile

        return tifffile.imread(path)

    def write_packed(self, path, array):
        self.write(path, array, compression="zlib")


@needs("nibabel")
class TestNifti(testing.DecodingContract):
    format = formats.named("nifti")
    dtypes = ("<f4", ">f8", "<i2", ">u4", "u1", "<c8")
    shapes = ((3, 4, 5), (3, 4), (5,), (2, 3, 4, 5))

    def write(self, path, array):
        self._save(path, array, 1, 0)

    def read(self, path):
        import nibabel

        return np.asarray(nibabel.load(path, mmap=False).dataobj)

    def write_packed(self, path, array):
        self._save(path, array, 0.5, 3)
        return self.read(path)

    packed_dtypes = ("<f4", ">f8", "<i2", "u1")

    def _save(self, path, array, slope, intercept):
        import nibabel

        header = nibabel.Nifti1Header(endianness=">" if array.dtype.byteorder == ">" else "<")
        image = nibabel.Nifti1Image(array, np.eye(4), header, dtype=array.dtype)
        image.header.set_slope_inter(slope, intercept)
        image.to_filename(path)


@needs("scipy")
class TestWav(testing.FormatContract):
    format = formats.named("wav")
    dtypes = ("<i2", "<f4", "u1", "<i4", "<f8")
    shapes = ((40, 2), (50,))

    def write(self, path, array):
        from scipy.io import wavfile

        wavfile.write(path, 8000, array)

    def read(self, path):
        from scipy.io import wavfile

        return wavfile.read(path)[1]


@needs("soundfile")
class TestWavOf24Bits(testing.DecodingContract):
    format = formats.named("wav")
    dtypes = ("<i4",)
    shapes = ((40, 2), (50,))
    large_shape = (1 << 21, 2)

    def write(self, path, array):
        import soundfile

        soundfile.write(path, array, 8000, "PCM_32")

    def read(self, path):
        import soundfile

        return soundfile.read(path, dtype="int32")[0]

    def write_packed(self, path, array):
        import soundfile

        soundfile.write(path, array << 8, 8000, "PCM_24")
        return array << 8


@needs("astropy")
class TestFits(testing.DecodingContract):
    format = formats.named("fits")
    dtypes = (">f4", ">f8", ">i2", ">i4", ">i8", "u1")

    def write(self, path, array):
        from astropy.io import fits

        fits.PrimaryHDU(array).writeto(path, overwrite=True)

    def read(self, path):
        from astropy.io import fits

        return fits.getdata(path, memmap=False)

    packed_dtypes = ("u2", "u4")  # signed ones and an offset, in the file

    def write_packed(self, path, array):
        self.write(path, array)


@needs("pyarrow")
class TestArrow(testing.DecodingContract):
    format = formats.named("arrow")
    dtypes = ("<f4", "<f8", "<i2", "<u4", "u1", "<i8")

    def write(self, path, array, **options):
        import pyarrow as pa

        column = pa.array(np.ascontiguousarray(array).reshape(-1))
        for size in reversed(array.shape[1:]):
            column = pa.FixedSizeListArray.from_arrays(column, size)
        table = pa.table({"x": column})
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
            file.write_table(table)

    def read(self, path):
        import pyarrow as pa

        with open(path, "rb") as file:
            column = pa.ipc.open_file(file).read_all().column("x").combine_chunks()
        shape = [len(column)]
        while pa.types.is_fixed_size_list(column.type):
            shape.append(column.type.list_size)
            column = column.flatten()
        return column.to_numpy(zero_copy_only=False).reshape(shape)

    def write_packed(self, path, array):
        self.write(path, array, compression="zstd")


@needs("pyarrow")
class TestArrowStream(testing.FormatContract):
    format = formats.named("arrow")
    dtypes = ("<f4", "<i2")
    shapes = ((50,),)
    large_shape = (1 << 22,)
    may_end_early = True

    def write(self, path, array):
        import pyarrow as pa

        table = pa.table({"x": array})
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table)


def test_every_built_in_format_is_tested_here():
    tested = {
        one.format.name
        for one in vars(sys.modules[__name__]).values()
        if hasattr(one, "format") and isinstance(one, type)
    }
    assert tested == set(BUILT_IN)
