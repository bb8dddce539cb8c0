"""N-dimensional arrays on plain files, as ordinary NumPy arrays."""

from ndfile._core import guard
from ndfile.array import memmap
from ndfile.errors import (
    ClosedError,
    FaultError,
    LayoutError,
    LockedError,
    NdfileError,
    ReadOnlyError,
    SizeError,
    TruncationWarning,
)

__all__ = [
    "ClosedError",
    "FaultError",
    "LayoutError",
    "LockedError",
    "NdfileError",
    "ReadOnlyError",
    "SizeError",
    "TruncationWarning",
    "guard",
    "memmap",
]

__version__ = "0.1.0"
