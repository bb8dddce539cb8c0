"""The pages of a TIFF file: where the image of each lies, and what its values are."""

from __future__ import annotations

import math
import struct
from array import array
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ndfile.errors import FormatError
    from ndfile.formats.format import Member, Source

__all__ = ["MAGICS", "MOST_TEXT_NBYTES", "Directories", "Page"]

# The first four bytes: byte order, and whether offsets have eight bytes instead of four.
MAGICS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}

# Bytes of each field type, and those that are whole numbers without a sign (13 and 18 are offsets of directories).
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}

COMPRESSIONS = {2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "JPEG", 7: "JPEG", 8: "deflate", 32773: "PackBits"}
COMPRESSIONS |= {32946: "deflate", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "zstd", 50001: "WebP"}

# NumPy's letters for the sample formats (4 is data of no known kind), and the bits that have a type of their own.
KINDS = {1: "u", 2: "i", 3: "f", 4: "u", 6: "c"}
WIDTHS = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64), "c": (64, 128)}
UNTOLD = np.dtype("V0")

# No real directory comes near, and tifffile refuses more as well.
MOST_TAGS = 4096

# Longer texts are not kept as metadata. OME's are read as a stream, up to a limit.
MOST_TEXT_NBYTES = 1 << 16
MOST_XML_NBYTES = 1 << 24

# No coder shrinks more, and no table of tiles is smaller beside the tiles it names.
MOST_COMPRESSION = 1 << 16


class Tag(IntEnum):
    """The tags that are looked at."""

    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_SIZES = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    PLANAR = 284
    RESOLUTION_UNIT = 296
    SOFTWARE = 305
    DATE_TIME = 306
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_SIZES = 325
    SUB_DIRECTORIES = 330
    SAMPLE_FORMAT = 339
    SUBSAMPLING = 530
    DEPTH = 32997
    METAMORPH = 33628


LOOKED_AT = frozenset(map(int, Tag))


class Field(NamedTuple):
    """The value of a tag."""

    type: int
    length: int  # in values
    offset: int
    inline: bytes | None  # the value itself, where it stands in the directory


class Page(NamedTuple):
    """One directory of the chain."""

    number: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: str
    offset: int | None
    obstacle: str | None
    description: Field | None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def is_like(self, other: Page) -> bool:
        return self[1:4] == other[1:4] and self.obstacle == other.obstacle


class Directories:
    """The chain of a file's directories, each read once.

    Attributes
    ----------
    pages : list of Page
    has_more : bool
        Whether there are sub-directories.
    """

    def __init__(self, source: Source) -> None:
        if source.head[:4] not in MAGICS:
            raise source.broken(f"it begins with {source.head[:4]!r}, TIFF with one of {list(MAGICS)}", offset=0)
        self.source = source
        self.byte_order, self._is_big = MAGICS[source.head[:4]]
        self._count = struct.Struct(self.byte_order + ("Q" if self._is_big else "H"))
        self._offset = struct.Struct(self.byte_order + ("Q" if self._is_big else "I"))
        self._entry = struct.Struct(self.byte_order + ("HHQ8s" if self._is_big else "HHI4s"))
        # Where directories, or their values, lie over each other, a small file could make for endless reading.
        self._left = 2 * source.size
        # Where directories and their values lie: first bytes, and one past the last.
        self._starts, self._ends = array("Q", [0]), array("Q", [16 if self._is_big else 8])
        self.pages: list[Page] = []
        self.has_more = False
        self._first: dict[int, Field] = {}
        for number, (offset, count) in enumerate(self._chain(self._first_offset())):
            tags = self._read_directory(offset, count)
            self._first = self._first or tags
            self.has_more = self.has_more or Tag.SUB_DIRECTORIES in tags
            self.pages.append(_PageReader(self, tags, number).page())
        self.description = self.text(self._first.get(Tag.DESCRIPTION), MOST_XML_NBYTES)
        self._starts_sorted, self._ends_so_far = self._taken()

    def _first_offset(self) -> int:
        source = self.source
        if self._is_big and source.read(4, 4) != struct.pack(self.byte_order + "HH", 8, 0):
            raise source.broken(f"bytes 4 to 8 of a BigTIFF say 8 and 0, here they are {source.read(4, 4)!r}", offset=4)
        place = 8 if self._is_big else 4
        offset: int = self._offset.unpack(source.read(place, self._offset.size))[0]
        if not offset:
            raise source.broken("it has no pages", offset=place)
        return offset

    def _chain(self, offset: int) -> list[tuple[int, int]]:
        """Where the directories are, and how many tags each has. A circle is found before any of them is read."""
        chain: dict[int, int] = {}
        while offset:
            if offset in chain:
                raise self.source.broken(f"its directories run in a circle of {len(chain)}", offset=offset)
            count = self._count.unpack(self._read(offset, self._count.size))[0]
            if not 0 < count <= MOST_TAGS:
                raise self.source.broken(f"a directory has 1 to {MOST_TAGS} tags, here {count}", offset=offset)
            chain[offset] = count
            place = offset + self._count.size + count * self._entry.size
            offset = self._offset.unpack(self._read(place, self._offset.size))[0]
        return list(chain.items())

    def _read_directory(self, offset: int, count: int) -> dict[int, Field]:
        """The tags that are looked at."""
        place = offset + self._count.size
        table = self._read(place, count * self._entry.size)
        self._take(offset, place + len(table) + self._offset.size)
        inline_nbytes = self._offset.size
        tags: dict[int, Field] = {}
        for code, kind, items, value in self._entry.iter_unpack(table):
            nbytes = items * SIZES.get(kind, 0)
            where, inline = 0, value[:nbytes]
            if nbytes > inline_nbytes:
                where, inline = self._offset.unpack(value)[0], None
                self._take(where, where + nbytes)
            if code in LOOKED_AT and code not in tags:
                tags[code] = Field(kind, items, where, inline)
        return tags

    def _read(self, offset: int, nbytes: int) -> bytes:
        if nbytes > self._left and offset + nbytes <= self.source.size:
            raise self.source.broken("its directories, or the values in them, lie over each other", offset=offset)
        self._left -= nbytes
        return self.source.read(offset, nbytes)

    def _take(self, start: int, end: int) -> None:
        # Values that the file does not have are an error where they are looked at; there is nothing else to protect.
        if end <= self.source.size:
            self._starts.append(start)
            self._ends.append(end)

    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        starts, ends = np.frombuffer(self._starts, "u8"), np.frombuffer(self._ends, "u8")
        by_start = np.argsort(starts, kind="stable")
        return starts[by_start], np.maximum.accumulate(ends[by_start])

    def check_outside(self, member: Member) -> None:
        """Refuse data that lies over the directories: writing it would change them."""
        if member.offset is None or not member.nbytes:
            return
        end = min(member.offset + member.nbytes, self.source.size)
        before = int(np.searchsorted(self._starts_sorted, np.uint64(end)))
        if before and int(self._ends_so_far[before - 1]) > member.offset:
            raise self.source.broken(
                f"its {member.nbytes} bytes lie over the file's directories", offset=member.offset, member=member.name
            )

    def value(self, tag: Field, nbytes: int) -> bytes:
        return self._read(tag.offset, nbytes) if tag.inline is None else tag.inline

    def _has(self, tag: Field) -> bool:
        """Whether a value that is only told, not needed, can be read."""
        nbytes = tag.length * SIZES[tag.type]
        return tag.inline is not None or (nbytes <= self._left and tag.offset + nbytes <= self.source.size)

    def text(self, tag: Field | None, most: int = MOST_TEXT_NBYTES) -> str:
        """The text of a tag; none where it is too long or no text."""
        if tag is None or tag.type not in (1, 2, 7) or tag.length > most or not self._has(tag):
            return ""
        value = self.value(tag, tag.length).partition(b"\0")[0]
        try:
            return value.decode().strip()
        except UnicodeDecodeError:
            return value.decode("latin-1").strip()

    def number(self, value: bytes) -> int:
        return int.from_bytes(value, "little" if self.byte_order == "<" else "big")

    def metadata(self) -> dict[str, Any]:
        texts = {"software": Tag.SOFTWARE, "date_time": Tag.DATE_TIME}
        found: dict[str, Any] = {name: self.text(self._first.get(code)) for name, code in texts.items()}
        if len(self.description) <= MOST_TEXT_NBYTES:
            found["description"] = self.description
        resolution = [self._ratio(code) for code in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION)]
        if None not in resolution:
            found["resolution"] = resolution
            unit = self._first.get(Tag.RESOLUTION_UNIT)
            code = 2 if unit is None or unit.inline is None else self.number(unit.inline)
            found["resolution_unit"] = {2: "inch", 3: "centimeter"}.get(code)
        return {name: value for name, value in found.items() if value}

    def _ratio(self, code: int) -> float | None:
        tag = self._first.get(code)
        if tag is None or (tag.type, tag.length) != (5, 1) or not self._has(tag):
            return None
        above, below = struct.unpack(self.byte_order + "II", self.value(tag, 8))
        return above / below if below else None


class _PageReader:
    """What the tags of one directory say about its image."""

    def __init__(self, directories: Directories, tags: dict[int, Field], index: int) -> None:
        self._directories, self._tags, self._index = directories, tags, index
        self._source = directories.source
        self._width, self._length = self._size(Tag.WIDTH), self._size(Tag.LENGTH)
        self._depth, self._samples = self._size(Tag.DEPTH, 1), self._size(Tag.SAMPLES, 1)
        self._is_planar = self._number(Tag.PLANAR, 1) == 2 and self._samples > 1

    def page(self) -> Page:
        shape, axes = self._shape()
        dtype, obstacle = self._dtype()
        obstacle = self._coding() or obstacle
        nbytes = math.prod(shape) * dtype.itemsize
        if obstacle is None and nbytes > self._source.size:
            raise self._broken(f"has {nbytes} bytes, the file {self._source.size}")
        tile = self._number(Tag.TILE_WIDTH, 0) * self._number(Tag.TILE_LENGTH, 0) * self._samples * dtype.itemsize
        if max(nbytes, tile) > self._source.size * MOST_COMPRESSION:
            raise self._broken(
                f"has {max(nbytes, tile)} bytes, which no coding puts into the {self._source.size} of the file"
            )
        offset = None
        if obstacle is None:
            offset, obstacle = self._place(nbytes)
        return Page(self._index, dtype, shape, axes, offset, obstacle, self._tags.get(Tag.DESCRIPTION))

    def _shape(self) -> tuple[tuple[int, ...], str]:
        planes, axes = ((self._depth,), "ZYX") if self._depth > 1 else ((), "YX")
        shape: tuple[int, ...] = (*planes, self._length, self._width)
        if self._is_planar:
            return (self._samples, *shape), "S" + axes
        if self._samples > 1 or self._number(Tag.PHOTOMETRIC, 0) == 2:
            return (*shape, self._samples), axes + "S"
        return shape, axes

    def _dtype(self) -> tuple[np.dtype[Any], str | None]:
        """The type of the values, and why they do not stand in the file like that."""
        bits, kind = self._same(Tag.BITS), self._same(Tag.SAMPLE_FORMAT)
        if Tag.METAMORPH in self._tags:
            return UNTOLD, "it is a MetaMorph stack, whose planes have no directories"
        if bits is None or kind is None:
            return UNTOLD, "it has samples of several types"
        name = KINDS.get(kind, "")
        if bits in WIDTHS.get(name, ()):
            return np.dtype(f"{self._directories.byte_order}{name}{bits // 8}"), None
        obstacle = f"it has {bits}-bit samples (sample format {kind})"
        # What tifffile makes of them.
        if name == "u" and 0 < bits < 32:
            return np.dtype("?" if bits == 1 else f"u{next(size for size in (1, 2, 4) if bits <= 8 * size)}"), obstacle
        return np.dtype("f4") if (name, bits) == ("f", 24) else UNTOLD, obstacle

    def _coding(self) -> str | None:
        compression = self._number(Tag.COMPRESSION, 1)
        if compression != 1:
            return f"it is compressed ({COMPRESSIONS.get(compression, f'scheme {compression}')})"
        if self._number(Tag.FILL_ORDER, 1) != 1:
            return f"the bits of its bytes are reversed (fill order {self._number(Tag.FILL_ORDER, 1)})"
        if self._number(Tag.PREDICTOR, 1) != 1:
            return f"it holds differences of neighbours (predictor {self._number(Tag.PREDICTOR, 1)})"
        # The standard's default is 2, 2.
        if self._number(Tag.PHOTOMETRIC, 0) == 6 and [*self._numbers(Tag.SUBSAMPLING, (2, 2))] != [1, 1]:
            return "its colours are subsampled"
        return None

    def _place(self, nbytes: int) -> tuple[int | None, str | None]:
        """Where the image begins if its strips lie one after the other, otherwise why they do not."""
        rows = min(self._number(Tag.ROWS_PER_STRIP, 0) or self._length, self._length)
        offsets_tag, sizes_tag = Tag.STRIP_OFFSETS, Tag.STRIP_SIZES
        if Tag.TILE_WIDTH in self._tags or Tag.TILE_OFFSETS in self._tags:
            width, rows = self._size(Tag.TILE_WIDTH), self._size(Tag.TILE_LENGTH)
            # A column of whole tiles is strips.
            if width != self._width or self._length % rows or self._depth > 1:
                return None, f"it is in tiles of {rows} x {width}"
            if Tag.TILE_OFFSETS in self._tags:
                offsets_tag, sizes_tag = Tag.TILE_OFFSETS, Tag.TILE_SIZES
        offsets, sizes = self._numbers(offsets_tag, ()), self._numbers(sizes_tag, ())
        strips = math.ceil(self._length / rows) * self._depth * (self._samples if self._is_planar else 1)
        # Writers of large images put all of it in one strip, whatever the rows are.
        if len(offsets) not in (1, strips) or len(sizes) not in (0, len(offsets)):
            raise self._broken(f"has {strips} strips, with {len(offsets)} offsets and {len(sizes)} sizes")
        if int(offsets.max()) > self._source.size:
            raise self._broken(f"has a strip at byte {offsets.max()}, the file ends at {self._source.size}")
        return self._together(offsets, sizes, self._strip_sizes(len(offsets), rows, nbytes))

    def _strip_sizes(self, count: int, rows: int, nbytes: int) -> np.ndarray:
        if count == 1:
            return np.array([nbytes], "u8")
        per_plane = math.ceil(self._length / rows)
        row_nbytes = nbytes // (count // per_plane) // self._length
        expected = np.full(count, rows * row_nbytes, "u8")
        expected[per_plane - 1 :: per_plane] = (self._length - (per_plane - 1) * rows) * row_nbytes
        return expected

    def _together(self, offsets: np.ndarray, sizes: np.ndarray, expected: np.ndarray) -> tuple[int | None, str | None]:
        # A single strip of 0 bytes is one that its writer did not count; of several it is one that is not there.
        if len(sizes) and not (len(sizes) == 1 and not sizes[0]):
            if not sizes.all():
                return None, "some of its strips are not in the file"
            short = np.flatnonzero(sizes < expected)
            if len(short):
                number = short[0]
                raise self._broken(f"needs {expected[number]} bytes for strip {number}, which has {sizes[number]}")
        starts = offsets[0] + np.cumsum(expected, dtype="u8") - expected
        if (offsets != starts).any():
            return None, "its strips lie apart"
        return int(offsets[0]), None

    def _size(self, tag: Tag, default: int = 0) -> int:
        size = self._number(tag, default)
        if not size:
            raise self._broken(f"has a size of 0, or none ({tag.name.lower().replace('_', ' ')}, tag {tag})")
        return size

    def _number(self, code: int, default: int) -> int:
        tag = self._tags.get(code)
        if tag is None:
            return default
        if tag.length == 1 and tag.inline is not None and tag.type in UNSIGNED:  # nearly always
            return self._directories.number(tag.inline)
        return int(self._numbers(code, ())[0])

    def _same(self, code: int) -> int | None:
        """The number that all samples have in common."""
        values = self._numbers(code, (1,))[: self._samples]
        return int(values[0]) if (values == values[0]).all() else None

    def _numbers(self, code: int, default: tuple[int, ...]) -> np.ndarray:
        tag = self._tags.get(code)
        if tag is None:
            return np.array(default, "u8")
        if tag.type not in UNSIGNED or not tag.length:
            raise self._broken(f"has {tag.length} values of type {tag.type} for tag {code}, which is of whole numbers")
        value = self._directories.value(tag, tag.length * SIZES[tag.type])
        return np.frombuffer(value, self._directories.byte_order + UNSIGNED[tag.type]).astype("u8")

    def _broken(self, problem: str) -> FormatError:
        return self._source.broken(f"page {self._index} {problem}")
