"""Two copies of one file, one under numpy.memmap and one under ours, and what has to be the same of both.

For what an operation gives, NumPy is asked on a plain view of its copy: the same bytes, strides and alignment, in an
array that is of no class. So a result of ours has to be what a plain array gives, and not only what numpy.memmap does.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BOTH",
    "FLAT_DTYPES",
    "KIB",
    "MIB",
    "PAGE",
    "STRUCTURED_DTYPES",
    "Outcome",
    "Twins",
    "assert_same_outcome",
    "assert_same_result",
    "bytes_for",
    "comparison_of",
    "drop_from_memory",
    "meaningful",
    "outcome_of",
    "read",
    "resident_pages",
    "write_at",
]

PAGE = mmap.PAGESIZE
KIB, MIB = 1 << 10, 1 << 20

BOTH = (np.memmap, nf.memmap)

FLAT_DTYPES = [
    *("?", "i1", "u1", "<i2", ">i2", "<u4", ">u4", "<i8", ">i8", "u8"),
    *("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g", ">g", "<c8", ">c8", "<c16", ">c16", "G"),
    *("<M8[s]", ">M8[D]", "<m8[ns]", "S1", "S5", "<U1", ">U3", "V1", "V7"),
]

# With and without padding between and behind the fields, fields over each other, fields in fields, arrays in fields.
STRUCTURED_DTYPES = [
    np.dtype("u1,<f4,>i2"),
    np.dtype([("a", "?"), ("b", ">f8"), ("c", "S3")]),
    np.dtype([("a", [("x", "<i2"), ("y", ">u4")]), ("b", "f4", (2,))]),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype({"names": ["a", "b"], "formats": ["u1", "<f4"], "offsets": [3, 8], "itemsize": 16}),
    np.dtype({"names": ["whole", "low"], "formats": ["<u4", "u1"], "offsets": [0, 0]}),
    np.dtype({"names": ["b", "a"], "formats": ["<i4", "<i4"], "offsets": [4, 0]}),
]


def comparison_of(examples: int) -> settings:
    """Settings as those of the comparison with numpy.memmap, with another number of examples by default."""
    return settings(
        max_examples=int(os.environ.get("NDFILE_EXAMPLES", examples)),
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        derandomize="NDFILE_EXAMPLES" not in os.environ,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


# ---- Bytes ----

_random = b""


def _random_bytes(size: int, seed: int) -> bytes:
    global _random
    if len(_random) < size + 251:
        _random = np.random.default_rng(1).bytes(size + (size >> 3) + 251)
    return _random[seed % 251 : seed % 251 + size]


def holds_bool(dtype: np.dtype[Any]) -> bool:
    dtype = dtype.base
    return any(holds_bool(dtype[name]) for name in dtype.names) if dtype.names else dtype.kind == "b"


def bytes_for(dtype: Any, size: int, seed: int) -> bytes:
    """Bytes of which items of a dtype may be made: no byte but 0 and 1 is a bool."""
    content = _random_bytes(size, seed)
    if not holds_bool(np.dtype(dtype)):
        return content
    return (np.frombuffer(content, "u1") & 1).tobytes()


def meaningful(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of an array's items in C order, without those that nobody sets: padding of structs, of long doubles."""
    array = np.asarray(array)
    if array.dtype.names:
        return b"|".join(meaningful(array[name]) for name in array.dtype.names)
    if array.dtype.char in "gG" and np.finfo(np.longdouble).nmant == 63:  # 10 bytes of 16
        items = np.frombuffer(array.tobytes(), "u1").reshape(-1, 16)
        return (items if array.dtype.isnative else items[:, ::-1])[:, :10].tobytes()
    return array.tobytes()


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write_at(path: str, offset: int, content: bytes) -> None:
    """Write to a file, not through a mapping, and not longer."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        file.write(content)


# ---- Cold files ----


def resident_pages(path: str) -> int:
    """How many pages of a file are in the page cache."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        pages = -(-size // PAGE)
        with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
            found = (ctypes.c_ubyte * pages)()
            address = ctypes.c_char.from_buffer(mapping)
            failed = ctypes.CDLL(None, use_errno=True).mincore(ctypes.byref(address), ctypes.c_size_t(size), found)
            del address
            if failed:
                raise OSError(ctypes.get_errno(), "mincore")
    return sum(byte & 1 for byte in bytes(found))


def drop_from_memory(path: str) -> None:
    """Let no page of a file be in memory. Nobody may have it mapped."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


# ---- What an operation comes to ----


@dataclasses.dataclass
class Outcome:
    """A value or an error, and the warnings on the way.

    Attributes
    ----------
    value : object
    error : Exception or None
    warnings : list of (type, str)
    """

    value: Any
    error: Exception | None
    warnings: list[tuple[type[Warning], str]]


def outcome_of(function: Callable[..., Any], *arguments: Any) -> Outcome:
    value = error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = function(*arguments)
        except Exception as raised:
            error = raised.with_traceback(None)
    return Outcome(value, error, [(warning.category, str(warning.message)) for warning in caught])


def root_of(array: np.ndarray[Any, Any]) -> Any:
    """What is at the end of an array's chain of bases."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return owner


def assert_same_result(theirs: Any, ours: Any, plain: Any, array: Any) -> None:
    """Check a result of ours, of an operation on `array`, against NumPy's of the same on `plain`."""
    if isinstance(theirs, (tuple, list)):
        assert type(ours) is type(theirs)
        for x, y in zip(theirs, ours, strict=True):
            assert_same_result(x, y, plain, array)
        return
    if not isinstance(theirs, (np.ndarray, np.generic)):
        assert type(ours) is type(theirs), (theirs, ours)
        assert repr(ours) == repr(theirs)
        return
    assert isinstance(ours, np.ndarray) == isinstance(theirs, np.ndarray), (theirs, ours)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert repr(ours.dtype) == repr(theirs.dtype)  # the byte order, and titles and offsets of fields
    assert meaningful(ours) == meaningful(theirs)
    if isinstance(theirs, np.generic):
        assert type(ours) is type(theirs)
        return
    views = root_of(theirs) is root_of(plain)
    keeps_class = views or type(array) is not nf.memmap
    assert type(ours) is (type(array) if keeps_class and isinstance(array, nf.memmap) else type(theirs))
    for flag in ("c_contiguous", "f_contiguous", "writeable", "aligned"):
        assert getattr(ours.flags, flag) == getattr(theirs.flags, flag), flag
    if theirs.size:
        lengths = zip(theirs.shape, theirs.strides, ours.strides, strict=True)
        assert all(length == 1 or x == y for length, x, y in lengths), (theirs.strides, ours.strides)
    if type(ours) is np.ndarray:
        # Neither may the result be a part of something larger, which it would keep in memory.
        assert ours.flags.owndata or not theirs.flags.owndata or ours.base.nbytes == ours.nbytes
    if not views:
        assert not np.may_share_memory(ours, array)


def assert_same_outcome(theirs: Outcome, ours: Outcome, plain: Any, array: Any) -> None:
    """Check value, error and warnings: NumPy's own words included."""
    assert type(ours.error) is type(theirs.error), (theirs.error, ours.error)
    assert str(ours.error) == str(theirs.error)
    assert ours.warnings == theirs.warnings
    if theirs.error is None:
        assert_same_result(theirs.value, ours.value, plain, array)


class Twins:
    """Two copies of one file, for numpy.memmap and for ours.

    Attributes
    ----------
    content : bytes
        What was in both.
    paths : list of str
        NumPy's, ours.
    """

    def __init__(self, folder: Any, content: bytes) -> None:
        self.content = content
        self.paths = [os.path.join(folder, name) for name in ("theirs.dat", "ours.dat")]
        for path in self.paths:
            with open(path, "wb") as file:
                file.write(content)

    def open(
        self,
        dtype: Any = "u1",
        mode: str = "r+",
        offset: int = 0,
        shape: Any = None,
        order: str = "C",
        classes: tuple[type, type] = BOTH,
    ) -> list[Any]:
        """NumPy's array and ours."""
        return [cls(path, dtype, mode, offset, shape, order) for cls, path in zip(classes, self.paths, strict=True)]

    def contents(self) -> list[bytes]:
        return [read(path) for path in self.paths]

    def assert_same_bytes(self) -> None:
        """Check both files as a whole, and say where they differ."""
        theirs, ours = (np.frombuffer(content, "u1") for content in self.contents())
        assert len(ours) == len(theirs)
        if not np.array_equal(theirs, ours):
            places = np.flatnonzero(theirs != ours)
            raise AssertionError(f"{len(places)} bytes differ, the first at {places[0]}, the last at {places[-1]}")
