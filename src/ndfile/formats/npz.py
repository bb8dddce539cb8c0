"""Several `.npy` in a zip file, as `numpy.savez` writes them."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from io import FileIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as numpy_format

from ndfile.errors import LayoutError
from ndfile.formats import npy
from ndfile.formats.format import Contents, Format, Member, Plan, Source
from ndfile.stream import PIECE_NBYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ndfile.stream import Stream

__all__ = ["Npz"]

# About 80,000 members; zipfile reads the directory as a whole.
MOST_DIRECTORY_NBYTES = 8 << 20

# Signature, version, flags, method, time, date, CRC, sizes packed and not, lengths of name and extra field.
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
ENCRYPTED = 0x1
SIZES_FOLLOW = 0x8
IN_EXTRA = 0xFFFFFFFF

# The record at the file's end, and for large files the one before it, behind which its locator stands.
END = struct.Struct("<4sHHHHIIH")
END64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR_NBYTES = 20

# In an entry of the directory: lengths of name, extra field and comment.
ENTRY_NBYTES = 46
ENTRY_LENGTHS = struct.Struct("<HHH")
ENTRY_LENGTHS_OFFSET = 28

# An entry of the directory, with the extra field for files of more than 4 GiB, and ".npy". The format's limit.
DIRECTORY_ENTRY_NBYTES = 46 + 28 + 4
MOST_NAME_NBYTES = 65_000

# An extra field that only takes space, known from Android's zipalign: the alignment, then zeros.
PADDING = struct.Struct("<HHH")
PADDING_ID = 0xD935
ZIP64_NBYTES = 20  # of the extra field that zipfile puts before ours

METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate", 12: "bzip2", 14: "lzma", 93: "zstd"}
CHECKSUM = "zip keeps a checksum of every member"


class Npz(Format):
    """``.npz``: members without compression are mapped where they lie; writing them makes such ones."""

    name = "npz"
    suffixes = (".npz",)
    is_archive = True
    has_checksums = True
    metadata_nbytes = zipfile.ZIP_MAX_COMMENT

    def recognises(self, source: Source) -> bool:
        return source.head.startswith((b"PK\x03\x04", b"PK\x05\x06"))

    def describe(self, source: Source, **_: Any) -> Contents:
        with source.parsed_by("zipfile"), _Capped(source) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _check_directory(source, archive.start_dir, len(archive.comment), len(infos))
            _check_names(source, infos)
            ends = _ends(source, infos, archive.start_dir)
            arrays = [info for info in infos if info.filename.endswith(".npy")]
            if infos and not arrays:
                raise source.broken("it is a zip file with no .npy file in it")
            members = {one.name: one for one in (_member(source, archive, info, ends) for info in arrays)}
            comment = archive.comment
        others = [info.filename for info in infos if not info.filename.endswith(".npy")]
        notes = (f"{len(others)} members are no .npy files: {', '.join(map(repr, others[:3]))}",) if others else ()
        return Contents(members, True, _metadata(comment), notes)

    def decode(self, source: Source, member: Member) -> Iterator[np.ndarray]:
        if member.dtype.hasobject or member.dtype.itemsize == 0:
            yield from super().decode(source, member)
        with _Capped(source) as file, zipfile.ZipFile(file) as archive, archive.open(f"{member.name}.npy") as unpacked:
            left = member.nbytes
            with source.parsed_by("zipfile"):
                _skip_header(unpacked)
            while left:
                with source.parsed_by("zipfile"):
                    piece = unpacked.read(min(left, PIECE_NBYTES))
                if not piece:
                    raise source.broken(f"{left} bytes are missing from its data", member=member.name)
                left -= len(piece)
                yield np.frombuffer(piece, np.uint8)
            with source.parsed_by("zipfile"):
                unpacked.read(1)  # at the end zipfile compares the checksum

    def plan(self, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> Plan:
        _check_writable(streams)
        members = {
            name: Member(name, stream.dtype, stream.shape, None, stream.order) for name, stream in streams.items()
        }
        return Plan(sum(len(npy.header(stream, {})) + stream.nbytes for stream in streams.values()), members, ())

    def write(self, fd: int, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> None:
        with open(os.dup(fd), "wb") as file, zipfile.ZipFile(file, "w") as archive:
            if metadata:
                archive.comment = json.dumps(metadata).encode("ascii")
            for name, stream in streams.items():
                info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o644 << 16
                info.extra = _padding(file.tell() + LOCAL_HEADER.size + len(info.filename.encode()) + ZIP64_NBYTES)
                with archive.open(info, "w", force_zip64=True) as packed:
                    packed.write(npy.header(stream, {}))
                    for piece in stream.pieces():
                        packed.write(piece)
                info.extra = b""  # the directory need not repeat it


class _Unpacked(Source):
    """The beginning of a compressed member, as a file of its own."""

    def __init__(self, source: Source, head: bytes, size: int) -> None:
        self.path, self.head, self.size = source.path, head, size

    def read(self, offset: int, nbytes: int, member: str | None = None) -> bytes:
        if offset + nbytes > len(self.head):
            raise self.broken(f"it unpacks to {len(self.head)} bytes of {offset + nbytes}", member=member)
        return self.head[offset : offset + nbytes]


class _Capped(FileIO):
    """The file, for zipfile, which takes from it how much it reads."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.reopened_path)
        self._source = source

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._source.size - self.tell() if size is None or size < 0 else size
        if wanted > MOST_DIRECTORY_NBYTES:
            raise self._source.broken(f"its directory has {wanted} bytes, {MOST_DIRECTORY_NBYTES} are read")
        return super().read(wanted)


def _leads_out(name: str) -> bool:
    """Tell a name that a program which unpacks the archive could write somewhere else by."""
    return name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/")


def _check_writable(streams: Mapping[str, Stream]) -> None:
    """LayoutError for names that nobody could read again, and for more of them than are read."""
    nbytes = 0
    for name in streams:
        length = len(name.encode("utf-8", "surrogatepass"))
        is_text = not any("\ud800" <= character <= "\udfff" for character in name)
        if _leads_out(name) or length > MOST_NAME_NBYTES or not is_text:
            raise LayoutError(f"a .npz has no member of the name {name[:99]!r}", "Rename it.")
        nbytes += DIRECTORY_ENTRY_NBYTES + length
    if nbytes > MOST_DIRECTORY_NBYTES:
        raise LayoutError(
            f"the archive's directory would have {nbytes} bytes, {MOST_DIRECTORY_NBYTES} are read", "Use two files."
        )


def _check_directory(source: Source, start: int, comment_nbytes: int, count: int) -> None:
    """Refuse a directory that does not fill its place, or is not as long as the record at the end of the file says."""
    end = source.size - comment_nbytes - END.size
    _, disk, directory_disk, here, in_all, *_ = END.unpack(source.read(end, END.size))
    disks, counts = {disk, directory_disk}, {here, in_all}
    if end >= LOCATOR_NBYTES and source.read(end - LOCATOR_NBYTES, 4) == b"PK\x06\x07":
        end -= LOCATOR_NBYTES + END64.size
        signature, *_, disk, directory_disk, here, in_all, _, _ = END64.unpack(source.read(end, END64.size))
        if signature != b"PK\x06\x06":
            raise source.broken(f"{signature!r} stands where the end of the directory should be told", offset=end)
        disks, counts = disks - {0xFFFF} | {disk, directory_disk}, counts - {0xFFFF} | {here, in_all}
    if disks != {0} or counts != {count}:
        raise source.broken(
            f"the directory is told to have {counts} entries on disk {disks}, it has {count}", offset=end
        )
    place = start
    for _ in range(count):
        lengths = ENTRY_LENGTHS.unpack_from(source.read(place, ENTRY_NBYTES), ENTRY_LENGTHS_OFFSET)
        place += ENTRY_NBYTES + sum(lengths)
    if place != end:
        raise source.broken(f"the entries of the directory end at byte {place}, the directory at {end}", offset=start)


def _check_names(source: Source, infos: list[zipfile.ZipInfo]) -> None:
    seen = set()
    for info in infos:
        name = info.filename
        if name in seen:
            raise source.broken("the name is there twice", member=name, offset=info.header_offset)
        # Nothing is unpacked here, but the next program may.
        if _leads_out(name) or name != info.orig_filename:
            raise source.broken("the name leads out of the archive", member=name, offset=info.header_offset)
        seen.add(name)


def _ends(source: Source, infos: list[zipfile.ZipInfo], directory: int) -> dict[int, int]:
    """Where the next member, or the directory, begins, by the place of each."""
    starts = sorted(info.header_offset for info in infos)
    if not starts:
        return {}
    if len(set(starts)) < len(starts):
        raise source.broken("two members lie in the same place")
    for info in infos:
        if not 0 <= info.header_offset < directory:
            raise source.broken(
                f"it begins at byte {info.header_offset}, the directory at {directory}", member=info.filename
            )
    return dict(zip(starts, [*starts[1:], directory], strict=True))


def _member(source: Source, archive: zipfile.ZipFile, info: zipfile.ZipInfo, ends: dict[int, int]) -> Member:
    name = info.filename.removesuffix(".npy")
    start = _data_offset(source, info, name)
    end = ends[info.header_offset]
    if start + info.compress_size > end:
        raise source.broken(
            f"{info.compress_size} bytes from byte {start} reach past {end}, where the next begins", member=name
        )
    if info.flag_bits & ENCRYPTED:
        return Member(name, np.dtype("V"), (), None, obstacle="it is encrypted", way_out="Unpack it with its password.")
    if info.compress_type == zipfile.ZIP_STORED:
        if info.file_size != info.compress_size:
            raise source.broken(f"it is stored with {info.compress_size} of {info.file_size} bytes", member=name)
        member, _ = npy.read_header(source, start, start + info.file_size, name)
        return member._replace(read_only=CHECKSUM)
    method = METHODS.get(info.compress_type, f"method {info.compress_type}")
    member = Member(name, np.dtype("V"), (), None, way_out="Unpack it with another program.")
    if info.compress_type == zipfile.ZIP_DEFLATED:  # others can make any number of bytes of a few, at once
        with archive.open(info) as unpacked:
            head = _Unpacked(source, unpacked.read(npy.MOST_HEADER_NBYTES + 12), info.file_size)
        member, _ = npy.read_header(head, 0, info.file_size, name)
    return member._replace(offset=None, obstacle=member.obstacle or f"it is compressed ({method})")


def _data_offset(source: Source, info: zipfile.ZipInfo, name: str) -> int:
    at = info.header_offset
    local = LOCAL_HEADER.unpack(source.read(at, LOCAL_HEADER.size, name))
    if local[0] != b"PK\x03\x04":
        raise source.broken(f"{local[0]!r} stands where the member should begin", offset=at, member=name)
    length, extra = int(local[-2]), int(local[-1])
    if local[3] != info.compress_type or (local[2] ^ info.flag_bits) & ENCRYPTED:
        raise source.broken("its header and the directory contradict each other", offset=at, member=name)
    told = (info.CRC, info.compress_size, info.file_size)
    if not local[2] & SIZES_FOLLOW and any(
        mine not in (theirs, IN_EXTRA) for mine, theirs in zip(local[6:9], told, strict=True)
    ):
        raise source.broken(f"its header tells {local[6:9]}, the directory {told}", offset=at, member=name)
    written = source.read(at + LOCAL_HEADER.size, length, name)
    if written not in (info.orig_filename.encode("utf-8", "replace"), info.orig_filename.encode("cp437", "replace")):
        raise source.broken(f"its header has the name {written[:99]!r}", offset=at, member=name)
    return at + LOCAL_HEADER.size + length + extra


def _skip_header(unpacked: Any) -> None:
    version = numpy_format.read_magic(unpacked)
    length = int.from_bytes(unpacked.read(npy.VERSIONS[version]), "little")
    unpacked.read(length)


def _metadata(comment: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _padding(position: int) -> bytes:
    """An extra field that makes what follows the name and it begin at a multiple of 64."""
    zeros = -(position + PADDING.size) % numpy_format.ARRAY_ALIGN
    return PADDING.pack(PADDING_ID, 2 + zeros, numpy_format.ARRAY_ALIGN) + bytes(zeros)
