"""N-dimensional arrays on plain files, as ordinary NumPy arrays."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ndfile._core import guard
from ndfile.array import memmap
from ndfile.errors import (
    AtomicLimitError,
    ClosedError,
    CopyWarning,
    FaultError,
    FormatError,
    LayoutError,
    LibraryError,
    LockedError,
    MemberError,
    NdfileError,
    NeedsRecoveryError,
    ReadOnlyError,
    SizeError,
    StaleFileError,
    TruncationWarning,
)

if _TYPE_CHECKING:
    from ndfile import compute
    from ndfile.archive import Archive
    from ndfile.atomic import recover
    from ndfile.compute.descriptions import Description, describe
    from ndfile.compute.sorting import sort
    from ndfile.compute.transformation import map_blocks
    from ndfile.compute.uniques import unique
    from ndfile.description import Info, info
    from ndfile.integrity.digests import Checksums, Verification, checksum, verify
    from ndfile.interop import dask, plot
    from ndfile.loading import Batches, batches
    from ndfile.npy_memmap import open_memmap
    from ndfile.pathmap import map_paths
    from ndfile.reading import open
    from ndfile.ref import ArrayRef
    from ndfile.transports import references
    from ndfile.writing import convert, create, save

__all__ = [
    "Archive",
    "ArrayRef",
    "AtomicLimitError",
    "Batches",
    "Checksums",
    "ClosedError",
    "CopyWarning",
    "Description",
    "FaultError",
    "FormatError",
    "Info",
    "LayoutError",
    "LibraryError",
    "LockedError",
    "MemberError",
    "NdfileError",
    "NeedsRecoveryError",
    "ReadOnlyError",
    "SizeError",
    "StaleFileError",
    "TruncationWarning",
    "Verification",
    "batches",
    "checksum",
    "compute",
    "convert",
    "create",
    "dask",
    "describe",
    "guard",
    "info",
    "map_blocks",
    "map_paths",
    "memmap",
    "open",
    "open_memmap",
    "plot",
    "recover",
    "references",
    "save",
    "sort",
    "unique",
    "verify",
]

__version__ = "0.1.0"

# Imported when they are first used: whoever only maps raw files does not pay for formats, JSON and hashes.
_LATER = {
    "Archive": "archive",
    "ArrayRef": "ref",
    "Batches": "loading",
    "Checksums": "integrity.digests",
    "Description": "compute.descriptions",
    "Info": "description",
    "Verification": "integrity.digests",
    "batches": "loading",
    "checksum": "integrity.digests",
    "compute": "compute",
    "convert": "writing",
    "create": "writing",
    "dask": "interop.dask",
    "describe": "compute.descriptions",
    "info": "description",
    "map_blocks": "compute.transformation",
    "map_paths": "pathmap",
    "open": "reading",
    "open_memmap": "npy_memmap",
    "plot": "interop.plot",
    "recover": "atomic",
    "references": "transports",
    "save": "writing",
    "sort": "compute.sorting",
    "unique": "compute.uniques",
    "verify": "integrity.digests",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _import_module(f"{__name__}.{_LATER[name]}")
    found = globals()[name] = module if _LATER[name].rpartition(".")[2] == name else getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
