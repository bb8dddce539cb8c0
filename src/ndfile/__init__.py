"""N-dimensional arrays on plain files, as ordinary NumPy arrays."""

from ndfile.array import memmap
from ndfile.errors import ClosedError, LayoutError, NdfileError, SizeError

__all__ = ["ClosedError", "LayoutError", "NdfileError", "SizeError", "memmap"]

__version__ = "0.1.0"
