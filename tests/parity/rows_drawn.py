"""Arrays on files, views of them, and indices of their rows, drawn at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from twins import FLAT_DTYPES, PAGE, STRUCTURED_DTYPES, bytes_for

__all__ = ["INTEGERS", "ONE_PLACE_EACH", "VIEWS", "Marked", "arrays_on_files", "indices_of", "masks_of"]

# Sizes of items around those for which a copying loop has a case of its own, and around a page.
ITEM_NBYTES = [
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 16, 17, 20, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129),
    *(255, 256, 257, 1000, PAGE - 1, PAGE, PAGE + 1, 5000),
]
SUBARRAY_DTYPES = [np.dtype("(2,3)<f4"), np.dtype((">i2", (1,))), np.dtype((np.dtype("u1,f4"), (2,)))]
MOST_NBYTES = 1 << 19

dtypes = st.one_of(
    st.sampled_from(FLAT_DTYPES),
    st.sampled_from(STRUCTURED_DTYPES),
    st.sampled_from(SUBARRAY_DTYPES),
    st.builds("{}{}".format, st.sampled_from("SV"), st.sampled_from(ITEM_NBYTES)),
    st.sampled_from(["<U3", ">U5", "U33", "U1023"]),
).map(np.dtype)


@st.composite
def arrays_on_files(draw: Any, modes: tuple[str, ...]) -> tuple[dict[str, Any], bytes]:
    """What an array is opened with, and the file's bytes."""
    dtype = draw(dtypes)
    shape = draw(
        st.one_of(
            st.lists(st.integers(0, 6), max_size=4),
            st.tuples(st.sampled_from([1, 7, 40, 300, 3000]), st.sampled_from([1, 2, 3, 8, 17])).map(list),
            st.sampled_from([[1], [13], [300], [3000]]),
        )
    )
    while math.prod(shape) * dtype.itemsize > MOST_NBYTES:
        shape[0] //= 2
    offset = draw(st.one_of(st.sampled_from([0, 0, 8, 64, 128, PAGE]), st.integers(0, 70), st.just(PAGE - 3)))
    size = offset + math.prod(shape) * dtype.itemsize + draw(st.integers(0, 9))
    opening = {
        "dtype": dtype,
        "mode": draw(st.sampled_from(modes)),
        "offset": offset,
        "shape": tuple(shape),
        "order": draw(st.sampled_from("CCF")),
    }
    return opening, bytes_for(dtype, max(size, 1), draw(st.integers(0, 250)))


def _read_only(array: Any) -> Any:
    view = array[...]
    view.setflags(write=False)
    return view


def _rows_alike(array: Any) -> Any:
    return as_strided(array, strides=(0, *array.strides[1:]), subok=True, writeable=False)


def _windows(array: Any) -> Any:
    return sliding_window_view(array, min(3, array.shape[0]), 0, subok=True)


def _item_bytes(array: Any) -> Any:
    return array.view("u1") if array.flags.c_contiguous and not array.dtype.hasobject else array


# Each gives the array itself where it has no such view.
VIEWS = {
    "transposed": lambda a: a.T,
    "reversed": lambda a: a[::-1] if a.ndim else a,
    "reversed columns": lambda a: a[..., ::-1] if a.ndim else a,
    "stepped": lambda a: a[::2] if a.ndim else a,
    "stepped columns": lambda a: a[..., 1::3] if a.ndim else a,
    "backwards in steps": lambda a: a[::-3] if a.ndim else a,
    "inner rows": lambda a: a[1:-1] if a.ndim else a,
    "inner columns": lambda a: a[..., 1:] if a.ndim else a,
    "last axis first": lambda a: np.moveaxis(a, -1, 0) if a.ndim else a,
    "new second axis": lambda a: a[:, None] if a.ndim else a,
    "new first axis": lambda a: a[None],
    "row": lambda a: a[0] if a.ndim > 1 and len(a) else a,
    "field": lambda a: a[a.dtype.names[-1]] if a.dtype.names else a,
    "fields": lambda a: a[list(a.dtype.names[:2])] if a.dtype.names else a,
    "bytes": lambda a: _item_bytes(a) if a.ndim and a.dtype.base.kind != "b" else a,
    "imaginary parts": lambda a: a.imag if a.dtype.kind == "c" else a,
    "swapped": lambda a: a.view(a.dtype.newbyteorder()),
    "read-only": _read_only,
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape), subok=True),
    "rows alike": lambda a: _rows_alike(a) if a.ndim and len(a) else a,
    "windows": lambda a: _windows(a) if a.ndim and len(a) else a,
}

# In these no byte belongs to two items. So it is defined what a store of different values leaves.
ONE_PLACE_EACH = [name for name in VIEWS if name not in ("broadcast", "rows alike", "windows")]


# ---- Indices ----

INTEGERS = ["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8", "q", "Q"]


class Marked(np.ndarray):
    """A class of somebody else's."""


def _unaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    copy = np.empty(array.nbytes + 1, "u1")[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _spread(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim == 0:
        return array
    wide = np.repeat(array, 3, axis=-1)
    return wide[..., 1::3]


def _broadcast(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.broadcast_to(array.ravel()[0], array.shape) if array.size else array  # of any number of axes


# The forms in which the same numbers can come.
FORMS = {
    "contiguous": lambda index: index,
    "F order": np.asfortranarray,
    "spread": _spread,
    "reversed": lambda index: index[::-1] if index.ndim else index,
    "all the first": _broadcast,
    "unaligned": _unaligned,
    "read-only": _read_only,
    "subclass": lambda index: index.view(Marked),
    "masked": lambda index: np.ma.masked_array(index, mask=index % 2 == 0),
    "list": lambda index: index.tolist(),
    "list of NumPy's numbers": lambda index: list(index) if index.ndim == 1 else index.tolist(),
    "tuple": lambda index: tuple(index.tolist()) if index.ndim == 1 else index,
    "objects": lambda index: index.astype(object),
    "floats": lambda index: index.astype("f8"),
    "booleans": lambda index: (index % 2).astype(bool).tolist(),
}
USUAL_FORMS = [*FORMS, *["contiguous"] * 6]

shapes_of_indices = st.sampled_from(
    [
        (),
        (0,),
        (1,),
        (2,),
        (3,),
        (5,),
        (9,),
        (64,),
        (500,),
        (0, 3),
        (3, 0),
        (1, 1),
        (2, 3),
        (7, 5),
        (2, 1, 4),
        (2, 2, 3),
    ]
)


@st.composite
def indices_of(draw: Any, length: int, shape: tuple[int, ...] | None = None, mode: str = "raise") -> Any:
    """An index of integers into an axis, in one of its forms, one time in five out of range at one place.

    With mode "wrap" it is not far out of range: NumPy wraps by going round.
    """
    shape = draw(shapes_of_indices) if shape is None else shape
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    numbers = rng.integers(-length, length, shape) if length else np.zeros(shape, "i8")
    order = draw(st.sampled_from(["drawn", "drawn", "sorted", "falling", "from the first", "from the last"]))
    if numbers.ndim == 1:
        numbers = {
            "drawn": lambda: numbers,
            "sorted": lambda: np.sort(numbers % max(length, 1)),
            "falling": lambda: np.sort(numbers)[::-1],
            "from the first": lambda: np.arange(numbers.size) % max(length, 1),
            "from the last": lambda: -1 - np.arange(numbers.size) % max(length, 1),
        }[order]()
    limits = np.iinfo(dtype)
    if dtype.kind == "u":
        numbers = numbers % max(length, 1)
    index = np.clip(numbers, limits.min, limits.max).astype(dtype)
    if index.size and draw(st.integers(0, 4)) == 0:
        place = draw(st.sampled_from([0, index.size // 2, index.size - 1]))
        near, far = [length, -length - 1, length + 1], [limits.min, limits.max, 2**31, -(2**31) - 1]
        bad = draw(st.sampled_from([*near, 7 * length] if mode == "wrap" else [*near, *far]))
        index.reshape(-1)[place] = min(max(bad, limits.min), limits.max)
    return FORMS[draw(st.sampled_from(USUAL_FORMS))](index)


MASK_FORMS = {
    "contiguous": lambda mask: mask,
    "F order": np.asfortranarray,
    "spread": _spread,
    "read-only": _read_only,
    "subclass": lambda mask: mask.view(Marked),
    "masked": lambda mask: np.ma.masked_array(mask, mask=mask),
    "list": lambda mask: mask.tolist(),
}


@st.composite
def masks_of(draw: Any, shape: tuple[int, ...]) -> Any:
    """A mask of the first axes of an array, one time in five of a wrong size."""
    ndim = draw(st.sampled_from([1, 1, 1, len(shape), 0, 2]))
    sizes = list(shape[:ndim])
    if sizes and draw(st.integers(0, 4)) == 0:
        axis = draw(st.sampled_from([0, len(sizes) - 1]))
        sizes[axis] = max(0, sizes[axis] + draw(st.sampled_from([-1, 1, 2])))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    mask = rng.random(sizes) < draw(st.sampled_from([0, 0.02, 0.5, 1.1]))
    return MASK_FORMS[draw(st.sampled_from(sorted(MASK_FORMS)))](np.asarray(mask))
