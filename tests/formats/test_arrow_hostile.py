"""Arrow files that lie: each is refused, or what is mapped of it lies inside it."""

import struct
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hostile import ANY, REFUSED, Case, check, check_count

import ndfile as nf
from ndfile.formats.arrow_messages import Table

WORDS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)
SIZES = (0, 1, 7, 23, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def batch(rows=5):
    """Distinct sizes, so that they can be found in the bytes."""
    columns = {
        "i": pa.array(np.arange(rows)),
        "l": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
        "s": pa.array(["abc"] * rows),
        "v": pa.array(["abcdefghijklmnop"] * rows, pa.string_view()),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def written(new, batches, **options):
    sink = pa.BufferOutputStream()
    with new(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for one in batches:
            writer.write_batch(one)
    return sink.getvalue().to_pybytes()


@cache
def kinds():
    return {
        "file": written(pa.ipc.new_file, [batch()]),
        "two": written(pa.ipc.new_file, [batch(), batch(3)]),
        "stream": written(pa.ipc.new_stream, [batch(), batch(3)]),
        "zstd": written(pa.ipc.new_file, [batch()], compression="zstd"),
        "old": written(pa.ipc.new_file, [batch()], use_legacy_format=True),
    }


def whole():
    """The files that are broken below."""
    content = kinds()
    yield from (content["file"], content["two"], content["stream"], content["old"])


def patched(content, offset, form, value):
    new = struct.pack(form, value)
    return content[:offset] + new + content[offset + len(new) :]


def footer_of(content):
    """Where a file's footer begins."""
    return len(content) - 10 - struct.unpack_from("<i", content, len(content) - 10)[0]


def messages_of(content, place):
    """Offsets of the messages from `place` on, with those of their bodies."""
    while content[place : place + 4] == b"\xff" * 4:
        nbytes = struct.unpack_from("<i", content, place + 4)[0]
        if nbytes == 0:
            return
        message = pa.ipc.read_message(content[place:])
        yield place, place + 8 + nbytes
        place += 8 + nbytes + message.body.size


def bombs():
    """Files whose schema points at the same mebibyte, or at the same fields, again and again."""
    large = "x" * (1 << 20)
    pairs = {"large": large, **{f"{number:4}": "" for number in range(1000)}}
    schema = pa.schema([("x", pa.int8())], metadata=pairs)
    yield "metadata", aliased(schema, lambda header: [(header, 2)], lambda pair: pair.count(1))
    schema = pa.schema([pa.field("x", pa.int8(), metadata=pairs)])
    yield "metadata-of-a-field", aliased(schema, lambda header: [(header.tables(1)[0], 6)], lambda pair: pair.count(1))
    schema = pa.schema([(name, pa.int8()) for name in (large, *map(str, range(1000)))])
    yield "names", aliased(schema, lambda header: [(header, 1)], lambda field: field.count(0))
    nested = pa.int8()
    for _ in range(40):
        nested = pa.struct([("a", nested), ("b", pa.int8())])
    yield "children", aliased(pa.schema([("x", nested)]), generations, lambda field: field.count(5))


def generations(header):
    (field,) = header.tables(1)
    while children := field.tables(5):
        yield field, 5
        field = children[0]


def aliased(schema, vectors, size):
    """A file whose schema has in some vectors of tables, instead of them all, the largest one."""
    sink = pa.BufferOutputStream()
    pa.ipc.new_file(sink, schema).close()
    content = bytearray(sink.getvalue().to_pybytes())
    message = bytes(content[16:])
    for owner, number in vectors(Table.root(message).table(2)):
        tables = owner.tables(number)
        target = max(tables, key=size)
        first = owner._field(number)
        first += struct.unpack_from("<I", message, first)[0] + 4
        for place in range(first, first + 4 * len(tables), 4):
            struct.pack_into("<I", content, 16 + place, target.place - place)
    return bytes(content)


def hostile():
    content = kinds()
    for kind, good in content.items():
        for length in range(0, len(good), 151 if kind in ("file", "stream") else 397):
            # A stream may end without a mark, behind any message.
            ends = {place for place, _ in messages_of(good, 0)} if kind == "stream" else ()
            yield f"{kind}-cut-to-{length}", good[:length], length not in ends
        if kind != "stream":
            yield f"{kind}-without-its-end", good[:-1], True
            yield f"{kind}-with-more-behind", good + b"\0", True
    good = content["file"]
    (schema, after), (first, body) = messages_of(good, 8)
    footer = footer_of(good)
    for name, start, stop, step in (
        ("prefix", 0, 8, 4),
        ("schema", schema, after, 28),
        ("batch", first, body, 4),
        ("footer", footer, footer + 48, 4),
        ("blocks", len(good) - 10 - 4 * 24, len(good) - 10, 4),
        ("end", len(good) - 10, len(good) - 4, 2),
    ):
        for offset in range(start, stop, step):
            for word in WORDS:
                lying = patched(good, offset, "<I", word)
                if lying != good:
                    yield f"{name}-{offset}-is-{word}", lying, False
    for kind in ("file", "zstd", "stream"):
        good = content[kind]
        spans = list(messages_of(good, 0 if kind == "stream" else 8))
        start, stop = spans[1]
        for offset in range(start + 8, stop, 8):
            for size in SIZES[:: 3 if kind == "file" else 6]:
                lying = patched(good, offset, "<Q", size)
                if lying != good:
                    yield f"{kind}-long-{offset}-is-{size}", lying, False
        for size in (-(2**31), -1, 1, 2**30, 2**31 - 1):
            for number, (start, _) in enumerate(spans[:2]):
                yield f"{kind}-message-{number}-of-{size}", patched(good, start + 4, "<i", size), True
    good = content["two"]
    block = struct.Struct("<qiiq")
    spans = list(messages_of(good, 8))[1:]
    blocks = [(start, body - start, 0, pa.ipc.read_message(good[start:]).body.size) for start, body in spans]
    places = [good.index(block.pack(*one), footer_of(good)) for one in blocks]
    for number, place in enumerate(places):
        for field, offset, form in (("offset", 0, "<Q"), ("header", 8, "<I"), ("body", 16, "<Q")):
            for size in SIZES:
                if form == "<Q" or size < 2**32:
                    yield f"block-{number}-{field}-{size}", patched(good, place + offset, form, size), True
    start, body = spans[0]
    header = Table.root(good[start + 8 : body]).table(2)
    for name, number, index, field, value in (
        ("node-of-4-rows", 1, 0, 0, 4),
        ("node-of-6-missing", 1, 0, 1, 6),
        ("buffer-in-the-next-batch", 2, 1, 0, blocks[0][3] + 8),
        ("buffer-too-long", 2, 1, 1, blocks[0][3] + 8),
        ("buffer-too-short", 2, 1, 1, 8),
    ):
        first = header._field(number)
        first += struct.unpack_from("<I", header.data, first)[0] + 4
        yield name, patched(good, start + 8 + first + 16 * index + 8 * field, "<q", value), True
    yield "same-block-twice", good.replace(block.pack(*blocks[1]), block.pack(*blocks[0])), True
    yield (
        "blocks-swapped",
        (good[: places[0]] + block.pack(*blocks[1]) + block.pack(*blocks[0]) + good[places[0] + 2 * block.size :]),
        False,
    )
    yield "block-of-the-schema", patched(good, places[0], "<Q", 8), True
    for count in (3, 1000, 2**20, 2**31, 2**32 - 1):
        yield f"{count}-blocks", patched(good, places[0] - 4, "<I", count), True
    for kind, lying in bombs():
        yield f"bomb-of-{kind}", lying, True
    yield "feather-1", b"FEA1" + bytes(100) + b"FEA1", True
    yield "magic-alone", b"ARROW1", True
    yield "two-magics", b"ARROW1\0\0ARROW1", True
    yield "lower-case-magic", b"arrow1" + good[6:], True
    yield "stream-of-marks", b"\xff\xff\xff\xff\0\0\0\0" * 100, True
    yield "stream-of-a-batch", content["stream"][spans_of_stream()[1][0] :], True
    yield "stream-of-schemas", content["stream"][: spans_of_stream()[1][0]] * 3, True
    yield "zeros", bytes(4096), True
    yield "ones", b"\xff" * 4096, True


def spans_of_stream():
    return list(messages_of(kinds()["stream"], 0))


def cases():
    for name, content, is_refused in hostile():
        yield Case(name, content, REFUSED if is_refused else ANY)


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_hostile_file_is_refused_or_mapped_inside_itself(case, tmp_path):
    check(case, str(tmp_path / "x.arrow"))


def test_what_is_broken_here_is_good_while_whole(tmp_path):
    path = str(tmp_path / "x.arrow")
    for content in whole():
        with open(path, "wb") as file:
            file.write(content)
        nf.open(path, "r+").close()


def test_there_are_enough_hostile_files(tmp_path):
    check_count(cases(), str(tmp_path), "x.arrow")
