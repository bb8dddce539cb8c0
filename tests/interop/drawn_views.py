"""Views of arrays on files, of every kind that NumPy makes without a copy, drawn by hypothesis."""

import os

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from twins import STRUCTURED_DTYPES, bytes_for

import ndfile as nf

__all__ = ["filled", "view_drawn"]

DTYPES = [
    *("u1", "?", "<i2", ">i4", "<f4", ">f8", "<c8", "<M8[s]", "S5", "<U2", "V7", "g"),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    *STRUCTURED_DTYPES,
]
SHAPES = [(), (0,), (7,), (4, 6), (3, 0, 2), (2, 3, 4), (1, 5, 1)]
OTHER_DTYPES = ["u1", "<u2", ">f4", "i8", "V3"]


# ---- Files ----


def filled(dtype, shape, seed=0):
    dtype = np.dtype(dtype)
    items = int(np.prod(shape))
    return np.frombuffer(bytes_for(dtype, items * dtype.itemsize, seed), dtype, items).reshape(shape)


def raw(folder, mode, dtype, shape):
    path = os.path.join(folder, "x.raw")
    with open(path, "wb") as file:
        file.write(b"a head" + filled(dtype, shape).tobytes() + b"a tail")
    return nf.memmap(path, dtype, mode, 6, shape)


def npy(folder, mode, dtype, shape):
    nf.save(os.path.join(folder, "x.npy"), filled(described(dtype), shape))
    return nf.open(os.path.join(folder, "x.npy"), mode)


def fortran(folder, mode, dtype, shape):
    nf.save(os.path.join(folder, "f.npy"), np.asfortranarray(filled(described(dtype), shape)))
    return nf.open(os.path.join(folder, "f.npy"), mode)


def npz(folder, mode, dtype, shape):
    nf.save(os.path.join(folder, "x.npz"), {"first": np.arange(3), "second": filled(described(dtype), shape)})
    return nf.open(os.path.join(folder, "x.npz"), "r" if mode == "r+" else mode)["second"]


def safetensors(folder, mode, dtype, shape):
    members = {"first": np.arange(3), "second": filled(ml_dtypes.bfloat16, shape)}
    nf.save(os.path.join(folder, "x.safetensors"), members)
    return nf.open(os.path.join(folder, "x.safetensors"), mode)["second"]


def described(dtype):
    """One that a file can tell what it is: not every struct is."""
    return "<f4,>i2" if np.dtype(dtype).names else dtype


FILES = {"raw": raw, "npy": npy, "npy in order F": fortran, "npz": npz, "safetensors": safetensors}


# ---- Steps from one view to the next ----


def sliced(draw, array):
    index = draw(basic_indices(array.shape, allow_newaxis=array.ndim < 6, allow_ellipsis=False))
    return array[(*(index if isinstance(index, tuple) else (index,)), ...)]


def transposed(draw, array):
    return array.transpose(draw(st.permutations(range(array.ndim))))


def reversed_(draw, array):
    return array[(..., *(slice(None, None, -1),) * min(array.ndim, 2))]


def reshaped(draw, array):
    first = draw(st.sampled_from([n for n in (1, 2, 3, 4, 7) if array.size % n == 0]))
    return array.reshape(first, array.size // first)


def field(draw, array):
    if array.dtype.names is None:
        return array
    names = draw(st.lists(st.sampled_from(array.dtype.names), min_size=1, max_size=2, unique=True))
    return array[names if draw(st.booleans()) else names[0]]


def byteswapped(draw, array):
    if array.dtype.isbuiltin == 2:  # another library's: unpickled, NumPy swaps the dtype that all others have too
        return array
    return array.view(array.dtype.newbyteorder())


def retyped(draw, array):
    try:
        return array.view(draw(st.sampled_from(OTHER_DTYPES)))
    except (ValueError, TypeError):  # not contiguous, or no whole number of items
        return array


def part_of_complex(draw, array):
    return array.imag if array.dtype.kind == "c" else array


def broadcast(draw, array):
    return np.broadcast_to(array, (2, *array.shape), subok=True)


def windows(draw, array):
    if array.ndim == 0 or array.shape[0] < 2 or not array.flags.writeable:
        return array
    return sliding_window_view(array, 2, 0, subok=True, writeable=True)


def strided(draw, array):
    """Every other item of the bytes, over each other."""
    if array.ndim == 0 or array.shape[-1] < 3:
        return array
    last = array.strides[-1]
    return as_strided(array, (*array.shape[:-1], 2, 2), (*array.strides[:-1], last, last), subok=True)


def read_only(draw, array):
    view = array[...]
    view.flags.writeable = False
    return view


STEPS = [
    *(
        sliced,
        sliced,
        transposed,
        reversed_,
        reshaped,
        field,
        byteswapped,
        retyped,
        part_of_complex,
        broadcast,
        windows,
    ),
    *(strided, read_only),
]


def view_drawn(draw, folder, modes=("r", "r+", "c")):
    """A view of an array on a new file in a folder."""
    make = draw(st.sampled_from(list(FILES.values())))
    array = make(
        str(folder), draw(st.sampled_from(modes)), draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
    )
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=4)):
        following = step(draw, array)
        if following.ndim <= 8 and isinstance(following, nf.memmap):  # else NumPy had to copy
            array = following
    return array
