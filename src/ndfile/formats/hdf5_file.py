"""An HDF5 file as h5py reads it, with those headers checked that the library trusts."""

from __future__ import annotations

from contextlib import contextmanager
from io import FileIO
from struct import unpack_from
from typing import TYPE_CHECKING, Any

from ndfile.formats.format import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.formats.format import Source

__all__ = ["SIGNATURE", "Reader", "opened"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

# Bytes of a record in the trees of links and attributes. Those of values beyond some KiB are not read.
RECORDS = {5: 11, 6: 15, 8: 17, 9: 13}
HUGE = (0, 1, 2, 3, 4)

# Pieces of free space in a heap of names.
MOST_FREE = 10_000


@contextmanager
def opened(source: Source) -> Iterator[tuple[Any, Any, Reader]]:
    """h5py, the low-level identifier of the file, and what it is read through.

    Read through a Python file: this takes no locks, minds none, and is not mixed up with the same file that this
    process has open in h5py with other settings, which the library refuses.
    """
    h5py = require("h5py", "hdf5", "reading HDF5")
    base = _check_superblock(source)
    with source.parsed_by("h5py"), Reader(source, base) as raw, h5py.File(raw, "r") as file:
        yield h5py, file.id, raw


def _check_superblock(source: Source) -> int:
    """Refuse a file without a superblock, and one that is being written. Returns where addresses count from."""
    start = 0
    while source.size < start + 16 or source.read(start, 8) != SIGNATURE:
        start = 2 * start or 512
        if start + 16 > source.size:
            raise source.broken("nowhere does it have the signature that HDF5 files begin with")
    superblock = source.read(start, 16)
    widths = superblock[13:15] if superblock[8] < 2 else superblock[9:11]
    if widths != b"\x08\x08":
        raise source.broken(f"its addresses and sizes have {widths[0]} and {widths[1]} bytes, 8 are read", offset=start)
    # The version; the third has flags, of which 1 stands for a writer.
    if superblock[8] == 3 and superblock[11] & 1:
        raise source.broken(
            "a program has it open for writing, or died with it open, so that its headers may not be whole",
            offset=start + 11,
            advice="Close it there, or if nobody has it open, repair it with: h5clear -s.",
        )
    return start


class Reader(FileIO):
    """The file as the library reads it, with the headers checked that it trusts: it would run for ever otherwise, or
    into foreign memory (HDF5 2.0).

    Global heaps are not read at all. Datasets whose items have a variable length keep them there, and so do virtual
    datasets their sources, which are read when one is opened; nothing that can be mapped needs them.
    """

    met_heap = False

    def __init__(self, source: Source, base: int) -> None:
        super().__init__(source.reopened_path)
        self.source = source
        self.base = base
        self.beside: dict[int, int] = {}
        self.checks = {
            b"TREE": self.is_old_tree,
            b"BTHD": self.is_tree,
            b"FRHP": self.is_fractal_heap,
            b"HEAP": self.is_local_heap,
        }

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        # One read may end, and the next begin, inside of a signature.
        before = min(start, 3)
        data = self.source.read(start - before, before) + bytes(buffer[:count])
        if data.startswith(b"GCOL", before):
            self.met_heap = True
            raise OSError("a global heap is not read")
        for signature, check in self.checks.items():
            place = data.find(signature)
            while place >= 0:
                offset = start - before + place
                header = self.source.read(offset, min(142, self.source.size - offset)).ljust(142, b"\0")
                if not check(header, offset):
                    raise OSError(f"the header {signature.decode()} at byte {offset} is broken")
                place = data.find(signature, place + 1)
        return count

    def is_old_tree(self, header: bytes, offset: int) -> bool:
        """A node of a version 1 B-tree. The library goes from one to the next beside it, which must come to an end."""
        self.beside[offset] = place = self.base + int(unpack_from("<Q", header, 16)[0])
        while place in self.beside and place != offset:
            place = self.beside[place]
        if place == offset:
            del self.beside[offset]  # so that the next walk here ends too
            return False
        return True

    def is_tree(self, header: bytes, _: int) -> bool:
        """A version 2 B-tree of links or attributes: the library makes tables of the sizes that it says."""
        version, kind, node, record, depth = unpack_from("<BBIHH", header, 4)
        in_root, records = unpack_from("<HQ", header, 24)
        return (
            version == 0
            and record == RECORDS.get(kind, record) > 0
            and 512 <= node <= 1 << 20
            and kind not in HUGE
            and depth <= 32
            and in_root <= records
            and in_root * record <= node
            and records * record <= self.source.size
        )

    def is_fractal_heap(self, header: bytes, _: int) -> bool:
        """The library divides by its width, which is a power of two."""
        (width,) = unpack_from("<H", header, 110)
        return header[4] == 0 and width > 0 and width & (width - 1) == 0

    def is_local_heap(self, header: bytes, _: int) -> bool:
        """The library follows the list of what is free, which must end. The rest it checks itself."""
        size, free, data = unpack_from("<QQQ", header, 8)
        if free == 1 or self.base + data + size > self.source.size:
            return True
        for _ in range(min(size // 16 + 1, MOST_FREE)):
            if free + 16 > size:  # the end, for which an impossible place stands
                return True
            free = int.from_bytes(self.source.read(self.base + data + free, 8), "little")
            if free == 1:
                return True
        return False
