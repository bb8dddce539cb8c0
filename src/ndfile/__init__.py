"""N-dimensional arrays on plain files, as ordinary NumPy arrays."""

from ndfile._core import guard
from ndfile.archive import Archive
from ndfile.array import memmap
from ndfile.description import Info, info
from ndfile.errors import (
    ClosedError,
    FaultError,
    FormatError,
    LayoutError,
    LibraryError,
    LockedError,
    MemberError,
    NdfileError,
    ReadOnlyError,
    SizeError,
    TruncationWarning,
)
from ndfile.npy_memmap import open_memmap
from ndfile.reading import open
from ndfile.writing import convert, create, save

__all__ = [
    "Archive",
    "ClosedError",
    "FaultError",
    "FormatError",
    "Info",
    "LayoutError",
    "LibraryError",
    "LockedError",
    "MemberError",
    "NdfileError",
    "ReadOnlyError",
    "SizeError",
    "TruncationWarning",
    "convert",
    "create",
    "guard",
    "info",
    "memmap",
    "open",
    "open_memmap",
    "save",
]

__version__ = "0.1.0"
