"""Arrow IPC, files and streams: the columns of each record batch whose values lie in it as NumPy has them.

pyarrow reads the schema, and decodes. The messages that say where buffers lie are read without it: asked for a
batch, pyarrow decompresses it, or has the system read all of its pages.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.formats.arrow_messages import (
    CONTINUATION,
    MAGIC,
    SCHEMA,
    Message,
    PointerError,
    Table,
    batches_of_file,
    batches_of_stream,
    check_schema,
    read_message,
)
from ndfile.formats.format import Contents, Format, Member, require
from ndfile.layout import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ndfile.formats.format import Source

__all__ = ["Arrow"]

# How files of early 2020 said, in a message's metadata, that they are compressed.
EARLY_COMPRESSION = b"ARROW:experimental_compression"

# Of one key, with its value.
MOST_METADATA_NBYTES = 64 << 10

NODE = np.dtype([("length", "<i8"), ("nulls", "<i8")])
BUFFER = np.dtype([("offset", "<i8"), ("length", "<i8")])

PIECE_NBYTES = 4 << 20

BY_PYARROW = "Read it with pyarrow."


class Arrow(Format):
    """Columns by name: ``column`` where the file has one record batch, ``column/0``, ``column/1`` ... otherwise.

    A column is 1-D, and one of lists of a fixed size has an axis more for them. Of columns with the same name, each
    has its number in it: ``column#2``.
    """

    name = "arrow"
    suffixes = (".arrow", ".arrows", ".feather")
    is_archive = True

    def recognises(self, source: Source) -> bool:
        if source.head.startswith(MAGIC):
            return True
        try:
            return source.head.startswith(CONTINUATION) and Table.root(source.head[8:]).scalar(1, "B") == SCHEMA
        except PointerError:
            return False

    def describe(self, source: Source, **_: Any) -> Contents:
        if source.head.startswith(b"FEA1"):
            raise source.broken("it is Feather of version 1", advice="Write it again with pyarrow.feather.")
        if not self.recognises(source):
            raise source.broken(f"it begins with {source.head[:6]!r}, not with {MAGIC!r} or a schema", offset=0)
        is_file = source.head.startswith(MAGIC)
        first = read_message(source, 8 if is_file else 0)
        if first is None or first.kind != SCHEMA:
            raise source.broken("its first message is no schema", offset=8 if is_file else 0)
        columns, metadata = _columns(source, first)
        batches = (
            batches_of_file(source, len(columns)) if is_file else batches_of_stream(source, first.end, len(columns))
        )
        count = 0
        members = {}
        for count, message in enumerate(batches, start=1):
            for member in _members(source, message, count - 1, columns):
                name = f"{member.name}/{count - 1}"
                members[name] = member._replace(name=name)
        if count == 1:
            members = {name[:-2]: member._replace(name=name[:-2]) for name, member in members.items()}
        notes = () if count else ("it has no record batches, and so no arrays",)
        return Contents(members, True, {**metadata, "batches": count}, notes)

    def decode(self, source: Source, member: Member) -> Iterator[np.ndarray]:
        """Give compressed values, and those that NumPy has in another width: booleans, days, short times."""
        if member.way_out is not None:
            yield from super().decode(source, member)
            return
        pyarrow = require("pyarrow", "arrow", "converting an Arrow column")
        with source.reopen() as file, source.parsed_by("pyarrow"):
            values = _decoded(pyarrow, file, member)
        if values.size != math.prod(member.shape):
            raise source.broken(f"it has {values.size} values for shape {member.shape}", member=member.name)
        step = PIECE_NBYTES // member.dtype.itemsize
        for start in range(0, values.size, step):
            yield np.ascontiguousarray(values[start : start + step], member.dtype)


class _Column(NamedTuple):
    """What the schema says about a column."""

    name: str
    dtype: np.dtype[Any]
    lists: tuple[int, ...]  # sizes of lists of a fixed size, the outermost first
    shape: tuple[int, ...]  # of one row
    obstacle: str | None
    nodes: int
    buffers: int
    views: int  # how many of its parts have a number of buffers that each batch says anew
    metadata: Mapping[str, Any]


def _columns(source: Source, message: Message) -> tuple[list[_Column], dict[str, Any]]:
    pyarrow = require("pyarrow", "arrow", "opening an Arrow file")
    try:
        check_schema(message)
    except PointerError as error:
        raise source.broken(f"its schema is broken, {error}", offset=message.offset) from None
    with source.parsed_by("pyarrow"):
        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(message.text))
        names = list(schema.names)
        counts = Counter(names)
        columns = []
        for number, field in enumerate(schema):
            name = names[number]
            while counts[name] > 1:
                name += f"#{number}"
            counts[name] += 1
            column = _column(pyarrow.types, field, name, number, _order(message))
            if min(column.lists + column.shape, default=0) < 0 or math.prod(column.lists) > LIMIT:
                raise source.broken("the sizes of its lists are negative, or no file could hold them", member=name)
            columns.append(column)
        return columns, _texts(schema.metadata)


def _order(message: Message) -> Any:
    return ">" if message.header.scalar(0, "h") == 1 else "<"


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    texts = {}
    for key, value in (metadata or {}).items():
        if len(key) + len(value) <= MOST_METADATA_NBYTES:
            texts[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return texts


def _column(types: Any, field: Any, name: str, number: int, order: Any) -> _Column:
    kind = _stored(field.type)
    lists = []
    while types.is_fixed_size_list(kind):
        lists.append(kind.list_size)
        kind = _stored(kind.value_type)
    shape = tuple(lists)
    if hasattr(field.type, "permutation") and math.prod(field.type.shape) == math.prod(shape):  # a tensor
        shape = tuple(field.type.shape)
    dtype, obstacle = _dtype(types, kind)
    metadata = {**_texts(field.metadata), "type": str(field.type)[:200], "column": number}
    return _Column(
        name, dtype.newbyteorder(order), tuple(lists), shape, obstacle, *_counts(types, field.type), metadata
    )


def _stored(kind: Any) -> Any:
    # An extension type is a meaning given to another type.
    return getattr(kind, "storage_type", kind)


def _dtype(types: Any, kind: Any) -> tuple[np.dtype[Any], str | None]:
    if types.is_integer(kind) or types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype()), None
    if types.is_timestamp(kind):
        return np.dtype(f"M8[{kind.unit}]"), None
    if types.is_date64(kind):
        return np.dtype("M8[ms]"), None
    if types.is_duration(kind) or types.is_time64(kind):
        return np.dtype(f"m8[{kind.unit}]"), None
    if types.is_fixed_size_binary(kind) and kind.byte_width > 0:
        return np.dtype(f"V{kind.byte_width}"), None
    if types.is_boolean(kind):
        return np.dtype(bool), "its booleans are single bits"
    if types.is_date32(kind):
        return np.dtype("M8[D]"), "its dates have 4 bytes each, and NumPy's 8"
    if types.is_time32(kind):
        return np.dtype(f"m8[{kind.unit}]"), "its times have 4 bytes each, and NumPy's 8"
    if types.is_dictionary(kind):
        return np.dtype("V"), "its values are in a dictionary"
    return np.dtype("V"), f"its type {str(kind)[:60]} is none of NumPy's"


def _counts(types: Any, kind: Any) -> tuple[int, int, int]:
    """How many nodes, buffers and parts with a changing number of buffers a type has, all inner ones included."""
    kind = _stored(kind)
    # These have no validity bitmap in a message, though they count one.
    buffers = kind.num_buffers - (types.is_null(kind) or types.is_union(kind) or types.is_run_end_encoded(kind))
    nodes, views = 1, int(types.is_string_view(kind) or types.is_binary_view(kind))
    for number in range(kind.num_fields):
        inner = _counts(types, kind.field(number).type)
        nodes, buffers, views = nodes + inner[0], buffers + inner[1], views + inner[2]
    return nodes, buffers, views


def _members(source: Source, message: Message, number: int, columns: list[_Column]) -> Iterator[Member]:
    """The columns of a record batch."""
    try:
        rows = message.header.scalar(0, "q")
        nodes = message.header.vector(1, NODE)
        buffers = message.header.vector(2, BUFFER)
        compression = message.header.table(3)
        codec = None if compression is None else ("zstd" if compression.scalar(0, "b") else "lz4")
        if EARLY_COMPRESSION in message.text:
            codec = "as of 2020"
        more = message.header.vector(4, np.dtype("<i8"))
    except PointerError as error:
        raise source.broken(f"a record batch is broken, {error}", offset=message.offset) from None
    _check_batch(source, message, columns, nodes, buffers, more)
    extra = iter(more.tolist())
    node = buffer = 0
    for column in columns:
        lengths = nodes[node : node + len(column.lists) + 1].tolist()
        expected = rows
        for (length, nulls), size in zip(lengths, (*column.lists, 1), strict=True):
            if length != expected or not 0 <= nulls <= length:
                raise source.broken(
                    f"{length} values with {nulls} missing should be {expected}",
                    offset=message.offset,
                    member=column.name,
                )
            expected *= size
        missing = sum(nulls for _, nulls in lengths)
        obstacle = f"{missing} of its values are missing" if missing else column.obstacle
        way_out = BY_PYARROW if missing or not column.dtype.itemsize else None
        if obstacle is None and codec is not None:
            obstacle = f"it is compressed ({codec})"
        offset = None
        if obstacle is None:
            offset, there = buffers[buffer + len(column.lists) + 1].tolist()
            needed = expected * column.dtype.itemsize
            if needed > there:
                raise source.broken(
                    f"{expected} values need {needed} bytes, their buffer has {there}",
                    offset=message.body + offset,
                    member=column.name,
                )
            offset += message.body
        metadata = {**column.metadata, "batch": number, "nulls": missing}
        yield Member(
            column.name,
            column.dtype,
            (rows, *column.shape),
            offset,
            obstacle=obstacle,
            way_out=way_out,
            metadata=metadata,
        )
        node += column.nodes
        buffer += column.buffers + sum(next(extra) for _ in range(column.views))


def _check_batch(
    source: Source, message: Message, columns: list[_Column], nodes: np.ndarray, buffers: np.ndarray, more: np.ndarray
) -> None:
    views = sum(column.views for column in columns)
    if len(more) != views or (views and not 0 <= more.min() <= more.max() <= len(buffers)):
        raise source.broken("a record batch has not the variadic buffers of the schema", offset=message.offset)
    wanted = sum(column.nodes for column in columns), sum(column.buffers for column in columns) + int(more.sum())
    if (len(nodes), len(buffers)) != wanted:
        raise source.broken(
            f"a record batch has {len(nodes)} nodes and {len(buffers)} buffers, the schema {wanted[0]} and {wanted[1]}",
            offset=message.offset,
        )
    offsets, lengths = buffers["offset"], buffers["length"]
    inside = (offsets >= 0) & (lengths >= 0) & (offsets <= message.body_nbytes)
    if not (inside & (lengths <= message.body_nbytes - offsets)).all():
        raise source.broken(f"a buffer goes beyond its batch of {message.body_nbytes} bytes", offset=message.body)


def _decoded(pyarrow: Any, file: Any, member: Member) -> np.ndarray:
    options = pyarrow.ipc.IpcReadOptions(included_fields=[member.metadata["column"]])
    batch = member.metadata["batch"]
    if file.read(6) == MAGIC:
        read = pyarrow.ipc.open_file(file, options=options).get_batch(batch)
    else:
        file.seek(0)
        stream = pyarrow.ipc.open_stream(file, options=options)
        read = [stream.read_next_batch() for _ in range(batch + 1)][-1]
    column = read.column(0)
    column.validate()
    while pyarrow.types.is_fixed_size_list(column.type) or hasattr(column, "storage"):
        column = column.storage if hasattr(column, "storage") else column.flatten()
    if pyarrow.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    width = column.type.bit_width // 8
    stored = np.dtype(f"i{width}") if member.dtype.kind in "mM" else member.dtype.newbyteorder("=")
    data = column.buffers()[1]
    values = np.frombuffer(data if len(column) else b"", stored, len(column), column.offset * width)
    return values.astype("i8").view(member.dtype.newbyteorder("=")) if member.dtype.kind in "mM" else values
