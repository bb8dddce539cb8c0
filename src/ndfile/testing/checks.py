"""What the contracts look at: descriptions, bytes in files, and the traces of reading them."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.errors import LayoutError
from ndfile.layout import MOST_DIMENSIONS
from ndfile.stream import write_all

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from ndfile.formats import Contents, Member, Source

__all__ = [
    "bytes_at",
    "check_bytes",
    "check_contents",
    "check_values",
    "descriptors",
    "drop_pages",
    "item_at",
    "kept",
    "mutant",
    "offset_of",
    "read_nbytes",
    "refusing",
    "resident_nbytes",
    "swap_ends",
]


@contextmanager
def refusing(what: str) -> Iterator[None]:
    try:
        yield
    except LayoutError:
        return
    raise AssertionError(f"{what}: no LayoutError")


def check_contents(contents: Contents, source: Source) -> None:
    json.dumps(dict(contents.metadata), allow_nan=False)
    assert all(isinstance(note, str) for note in contents.notes), f"notes {contents.notes} are not all str"
    assert contents.is_archive or len(contents.members) == 1, f"{len(contents.members)} members, and no archive"
    for name, member in contents.members.items():
        assert isinstance(name, str), f"the name {name!r} is no str"
        assert name == member.name, f"member {member.name!r} has the key {name!r}"
        json.dumps(dict(member.metadata), allow_nan=False)
        assert isinstance(member.dtype, np.dtype), f"member {name!r} has dtype {member.dtype!r}"
        if member.obstacle is None:
            layout = member.layout(source)
            assert layout.end <= source.size
            assert len(member.shape) <= MOST_DIMENSIONS
        for sentence in (member.obstacle, member.read_only):
            assert sentence is None or not sentence.endswith("."), f"{sentence!r} goes into a sentence, and has a stop"


def check_bytes(path: str, member: Member, array: np.ndarray) -> None:
    found = bytes_at(path, member)
    expected = array.tobytes(member.order)  # type: ignore[arg-type]
    assert found == expected, f"byte {member.offset} and the next are {found[:32]!r}, they should be {expected[:32]!r}"


def check_values(found: Any, array: np.ndarray) -> None:
    found = np.asarray(found)
    assert found.shape == array.shape, f"shape {found.shape} should be {array.shape}"
    # Libraries give the machine's byte order, or void for a type that they do not know.
    if found.dtype != array.dtype and found.dtype.kind == array.dtype.kind != "V":
        found = found.astype(array.dtype)
    assert found.tobytes() == array.tobytes(), f"{found!r} should be {array!r}"


def offset_of(member: Member) -> int:
    assert member.offset is not None, f"{member.name!r} cannot be mapped: {member.obstacle}"
    return member.offset


def bytes_at(path: str, member: Member) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset_of(member))
        return file.read(member.nbytes)


def item_at(array: np.ndarray, place: int) -> bytes:
    return bytes(array[(place,) * array.ndim].tobytes())


def swap_ends(path: str, member: Member) -> None:
    """Let the first and the last item of an array change places, behind the back of whoever maps it."""
    width = member.dtype.itemsize
    first, last = offset_of(member), offset_of(member) + member.nbytes - width
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        items = os.pread(fd, width, first), os.pread(fd, width, last)
        write_all(fd, items[1], first)
        write_all(fd, items[0], last)
    finally:
        os.close(fd)


def kept(path: Any, content: bytes) -> str:
    # Not truncated first: some file systems write a file to the disk that was emptied and filled again.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, content, 0)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)
    return str(path)


def mutant(chosen: random.Random, content: bytes, places: list[int]) -> bytes:
    """Change a few bytes, or put some in, out or elsewhere."""
    changed = bytearray(content)
    for _ in range(chosen.randint(1, 3)):
        place = chosen.choice(places) if places else chosen.randrange(len(content) or 1)
        length = chosen.choice((1, 1, 1, 2, 4, 8))
        piece = changed[place : place + length]
        match chosen.randrange(6):
            case 0:
                changed[place : place + length] = bytes(byte ^ 1 << chosen.randrange(8) for byte in piece)
            case 1:
                changed[place : place + length] = bytes([chosen.choice((0, 1, 0x7F, 0x80, 0xFF))]) * len(piece)
            case 2:
                changed[place : place + length] = chosen.randbytes(len(piece))
            case 3:
                changed[place:place] = chosen.randbytes(length)
            case 4:
                del changed[place : place + length]
            case 5:
                changed[place:place] = piece * chosen.choice((1, 1, 100))
    return bytes(changed)


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def read_nbytes() -> int:
    """Bytes that this process has read so far; 0 where the system does not tell."""
    try:
        with open("/proc/self/io") as file:
            return int(file.read().split()[1])
    except OSError:
        return 0


def drop_pages(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_nbytes(path: str) -> int:
    """Bytes of a file that are in memory."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        raw = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(raw) // mmap.PAGESIZE), np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        pointers = [ctypes.c_void_p(raw.ctypes.data), ctypes.c_size_t(len(raw)), ctypes.c_void_p(pages.ctypes.data)]
        if libc.mincore(*pointers):
            raise OSError(ctypes.get_errno(), "mincore")
        del raw
        return int((pages & 1).sum()) * mmap.PAGESIZE
