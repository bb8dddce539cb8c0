"""The messages of Arrow IPC: flatbuffers that say where in a file the buffers of its columns lie."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.formats.format import Source

__all__ = [
    "CONTINUATION",
    "MAGIC",
    "SCHEMA",
    "Message",
    "PointerError",
    "Table",
    "batches_of_file",
    "batches_of_stream",
    "check_schema",
    "read_message",
]

MAGIC = b"ARROW1"
CONTINUATION = b"\xff\xff\xff\xff"

# What a message can hold.
SCHEMA, DICTIONARY, BATCH = 1, 2, 3

# Types with something of any length: the time zone, and the numbers of the members.
TIMESTAMP, UNION = 10, 14

# What a field of a schema has at least, as has a pair of its metadata.
FIELD_NBYTES = 16

# The schema of 10,000 columns has 2 MiB, and so has the footer of 80,000 batches.
MOST_MESSAGE_NBYTES = 4 << 20
MOST_MEMBERS = 1_000_000

# What a footer has a vector of.
BLOCK = np.dtype([("offset", "<i8"), ("header", "<i4"), ("_", "<i4"), ("body", "<i8")])


class PointerError(Exception):
    """A flatbuffer that points outside itself."""


class Table(NamedTuple):
    """A table in a flatbuffer, whose fields go by number. Nothing is read outside the buffer."""

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes) -> Table:
        return cls(data, _get(data, "I", 0))

    def _field(self, number: int) -> int | None:
        fields = self.place - _get(self.data, "i", self.place)
        slot = 4 + 2 * number
        offset = _get(self.data, "H", fields + slot) if slot + 2 <= _get(self.data, "H", fields) else 0
        return self.place + offset if offset else None

    def scalar(self, number: int, kind: str) -> int:
        place = self._field(number)
        return 0 if place is None else _get(self.data, kind, place)

    def table(self, number: int) -> Table | None:
        place = self._field(number)
        return None if place is None else Table(self.data, place + _get(self.data, "I", place))

    def tables(self, number: int) -> list[Table]:
        """A vector of tables."""
        place = self._field(number)
        places = self.vector(number, np.dtype("<u4")).tolist()
        if place is None or not places:
            return []
        first = place + _get(self.data, "I", place) + 4
        return [Table(self.data, first + 4 * index + offset) for index, offset in enumerate(places)]

    def count(self, number: int) -> int:
        """How many items a vector has, or bytes a string."""
        place = self._field(number)
        return 0 if place is None else _get(self.data, "I", place + _get(self.data, "I", place))

    def vector(self, number: int, dtype: np.dtype[Any]) -> np.ndarray:
        place = self._field(number)
        if place is None:
            return np.empty(0, dtype)
        place += _get(self.data, "I", place)
        count = _get(self.data, "I", place)
        if place + 4 + count * dtype.itemsize > len(self.data):
            raise PointerError(f"{count} items of {dtype.itemsize} bytes go beyond its {len(self.data)} bytes")
        return np.frombuffer(self.data, dtype, count, place + 4)


def _get(data: bytes, kind: str, place: int) -> int:
    if not 0 <= place <= len(data) - struct.calcsize(kind):
        raise PointerError(f"byte {place} of its {len(data)} is pointed at")
    return int(struct.unpack_from("<" + kind, data, place)[0])


class Message(NamedTuple):
    """A message: a header here, and a body in the file."""

    offset: int
    text: bytes  # as it is in the file, its length in front
    kind: int
    header: Table
    body: int
    body_nbytes: int

    @property
    def end(self) -> int:
        return self.body + self.body_nbytes


def read_message(source: Source, place: int) -> Message | None:
    """The message at an offset; None where a stream ends."""
    start = place
    if source.read(place, min(4, source.size - place)) == CONTINUATION:  # files of before 2019 have none
        place += 4
    nbytes = struct.unpack("<i", source.read(place, 4))[0]
    place += 4
    if nbytes == 0:
        return None
    if not 0 < nbytes <= MOST_MESSAGE_NBYTES:
        raise source.broken(
            f"a message's header has {nbytes} bytes, at most {MOST_MESSAGE_NBYTES} are read", offset=start
        )
    text = source.read(start, place - start + nbytes)
    try:
        root = Table.root(text[place - start :])
        header = root.table(2)
        message = Message(start, text, root.scalar(1, "B"), header or root, place + nbytes, root.scalar(3, "q"))
    except PointerError as error:
        raise source.broken(f"a message is broken, {error}", offset=start) from None
    if header is None or message.body_nbytes < 0 or message.end > source.size:
        raise source.broken(
            f"a message should have {message.body_nbytes} bytes from byte {message.body}, the file has {source.size}",
            offset=start,
        )
    return message


def check_schema(message: Message) -> None:
    """Raise `PointerError` where a schema is much larger than its bytes.

    Fields and strings can be pointed at from many places, and pyarrow copies them each time: 1 MiB would become
    hundreds of GiB.
    """
    nbytes = _texts_nbytes(message.header, 2)
    fields = message.header.tables(1)
    while fields:
        field = fields.pop()
        nbytes += FIELD_NBYTES + field.count(0) + _texts_nbytes(field, 6)
        kind = field.table(3)
        if kind is not None and field.scalar(2, "B") in (TIMESTAMP, UNION):
            nbytes += 4 * kind.count(1)
        if nbytes > 2 * len(message.text):
            raise PointerError(f"its {len(message.text)} bytes stand for {nbytes} and more")
        fields += field.tables(5)


def _texts_nbytes(table: Table, number: int) -> int:
    return sum(FIELD_NBYTES + text.count(0) + text.count(1) for text in table.tables(number))


def batches_of_file(source: Source, columns: int) -> Iterator[Message]:
    """The record batches that the footer names."""
    nbytes, magic = struct.unpack("<i6s", source.read(max(source.size - 10, 0), 10))
    if magic != MAGIC:
        raise source.broken(f"it ends with {magic!r}, not with {MAGIC!r}, so that it is cut or unfinished")
    if not 0 < nbytes <= MOST_MESSAGE_NBYTES:
        raise source.broken(f"its footer has {nbytes} bytes, at most {MOST_MESSAGE_NBYTES} are read")
    place = source.size - 10 - nbytes
    try:
        blocks = Table.root(source.read(place, nbytes)).vector(3, BLOCK)
    except PointerError as error:
        raise source.broken(f"its footer is broken, {error}", offset=place) from None
    _check_count(source, len(blocks), columns)
    if len(blocks) and (min(blocks["offset"].min(), blocks["header"].min(), blocks["body"].min()) < 0):
        raise source.broken("its footer has negative offsets or sizes", offset=place)
    end = 0
    for offset, header, _, body in sorted(blocks.tolist()):
        if offset < end or offset + header + body > place:
            raise source.broken(f"a record batch lies from byte {offset} to {offset + header + body}, over others")
        end = offset + header + body
    for offset, header, _, body in blocks.tolist():
        message = read_message(source, offset)
        if message is None or (message.kind, message.body - offset, message.body_nbytes) != (BATCH, header, body):
            raise source.broken("there is no record batch of the size that the footer says", offset=offset)
        yield message


def batches_of_stream(source: Source, place: int, columns: int) -> Iterator[Message]:
    """The record batches of a stream, one behind the other."""
    count = 0
    while place < source.size and (message := read_message(source, place)) is not None:
        if message.kind not in (DICTIONARY, BATCH):
            raise source.broken(f"a message is of kind {message.kind}, no record batch", offset=place)
        place = message.end
        if message.kind == BATCH:
            count += 1
            _check_count(source, count, columns)
            yield message


def _check_count(source: Source, batches: int, columns: int) -> None:
    if batches * max(columns, 1) > MOST_MEMBERS:
        raise source.broken(f"{batches} record batches of {columns} columns are more than {MOST_MEMBERS} arrays")
