"""safetensors: a JSON header with the places of its tensors, then their bytes without a gap."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.dtypes import EXTENSIONS, extension, extension_name
from ndfile.errors import LayoutError, LibraryError
from ndfile.formats.format import Contents, Format, Member, Plan
from ndfile.layout import LIMIT, MOST_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ndfile.formats.format import Source
    from ndfile.stream import Stream

__all__ = ["Safetensors"]

# About 80,000 tensors. The format's own library reads ten times as much.
MOST_HEADER_NBYTES = 8 << 20

# How much of the header a tensor may take, and everything else.
TENSOR_NBYTES = 1024
OTHER_NBYTES = 256 << 10

# As the library has it: the data begins at a multiple of 8. We write multiples of 64.
ALIGNMENT = 64

KEYS = {"dtype", "shape", "data_offsets"}

NUMPY_TYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}
EXTENSION_TYPES = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
}
# Types with items smaller than a byte, by their bits: they have a length, and no dtype.
PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}

# Bits of an item of each type.
BITS = (
    {name: np.dtype(kind).itemsize * 8 for name, kind in NUMPY_TYPES.items()}
    | {name: EXTENSIONS[kind] * 8 for name, kind in EXTENSION_TYPES.items()}
    | PACKED_BITS
)

DTYPES = {name: np.dtype(kind) for name, kind in NUMPY_TYPES.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
EXTENSION_NAMES = {kind: name for name, kind in EXTENSION_TYPES.items()}


class Safetensors(Format):
    """``.safetensors``, by the rules of its specification: unique names, no overlap, no gap, nothing left over."""

    name = "safetensors"
    suffixes = (".safetensors",)
    is_archive = True
    orders = ("C",)
    metadata_nbytes = 200 << 10

    def recognises(self, source: Source) -> bool:
        length = int.from_bytes(source.head[:8], "little")
        return source.head[8:10] in (b'{"', b"{}") and 2 <= length <= source.size - 8

    def describe(self, source: Source, **_: Any) -> Contents:
        fields, start = _read_header(source)
        metadata = _metadata(source, fields.pop("__metadata__", ()))
        places: list[tuple[int, int, str]] = []
        members = {name: _member(source, name, tensor, start, places) for name, tensor in fields.items()}
        _check_coverage(source, places, source.size - start)
        return Contents(members, True, metadata)

    def plan(self, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> Plan:
        texts = {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
        fields: dict[str, Any] = {"__metadata__": texts} if texts else {}
        places, end = {}, 0
        # As the library does: the widest items first, so that all are aligned without gaps.
        for name, stream in sorted(streams.items(), key=lambda item: -item[1].dtype.itemsize):
            if name == "__metadata__":
                raise LayoutError("a tensor cannot be named '__metadata__'", "Rename it.")
            places[name] = end
            kind = _type_name(stream)
            fields[name] = {"dtype": kind, "shape": stream.shape, "data_offsets": [end, end := end + stream.nbytes]}
        text = json.dumps(fields, separators=(",", ":")).encode("ascii")
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        if len(text) > MOST_HEADER_NBYTES:
            raise LayoutError(
                f"the header has {len(text)} bytes, at most {MOST_HEADER_NBYTES} are read", "Use two files."
            )
        start = 8 + len(text)
        members = {
            name: Member(name, stream.dtype, stream.shape, start + places[name]) for name, stream in streams.items()
        }
        return Plan(start + end, members, ((0, len(text).to_bytes(8, "little") + text),))

    def aligned(self, plan: Plan, nbytes: int) -> Plan:
        ((_, head),) = plan.parts
        more = -len(head) % nbytes
        if len(head) - 8 + more > MOST_HEADER_NBYTES:
            return plan
        head = (len(head) - 8 + more).to_bytes(8, "little") + head[8:] + b" " * more
        moved = {
            name: member._replace(offset=None if member.offset is None else member.offset + more)
            for name, member in plan.members.items()
        }
        return Plan(plan.size + more, moved, ((0, head),))


def _type_name(stream: Stream) -> str:
    kind = extension_name(stream.dtype)
    name = NAMES.get(stream.dtype) if kind is None else EXTENSION_NAMES.get(kind)
    if name is None:
        raise LayoutError(
            f"safetensors has no dtype {stream.dtype}",
            "Use little-endian numbers of it, or write a .npz, which has every dtype.",
        )
    if stream.order == "F" and len(stream.shape) > 1:
        raise LayoutError("safetensors has no order 'F'", "Use order='C'.")
    return name


def _read_header(source: Source) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(source.read(0, 8), "little")
    if length > MOST_HEADER_NBYTES:
        raise source.broken(f"its header has {length} bytes, {MOST_HEADER_NBYTES} are read", offset=0)
    if source.read(8, 1) != b"{":
        raise source.broken(f"its header begins with {source.read(8, 1)!r}, not with '{{'", offset=8)
    text = source.read(8, length)
    count = text.count(b'"data_offsets"')
    if length > OTHER_NBYTES + count * TENSOR_NBYTES:  # a few characters of JSON can make as many objects
        raise source.broken(f"its header has {length} bytes for {count} tensors", offset=0)
    try:
        # Objects become tuples of pairs, so that a key which is there twice is seen; arrays are lists.
        pairs = json.loads(text.decode("utf-8"), object_pairs_hook=tuple)
        fields = dict(pairs)
        "".join(fields).encode()
        if len(fields) < len(pairs):
            raise ValueError("a name is there twice")
    except (ValueError, RecursionError) as error:
        raise source.broken(f"its header is no JSON ({str(error)[:200]})", offset=8) from None
    return fields, 8 + length


def _metadata(source: Source, pairs: Any) -> dict[str, str]:
    if not isinstance(pairs, tuple) or not all(isinstance(text, str) for _, text in pairs):
        raise source.broken("__metadata__ is no object of strings", offset=8)
    metadata = dict(pairs)
    if len(metadata) < len(pairs):
        raise source.broken("__metadata__ has a key twice", offset=8)
    return metadata


def _member(source: Source, name: str, tensor: Any, start: int, places: list[tuple[int, int, str]]) -> Member:
    """A tensor in the data that begins at `start`; adds its first byte there, and the one behind it, to `places`."""
    found = dict(tensor) if isinstance(tensor, tuple) and len(tensor) == len(KEYS) else {}
    if found.keys() != KEYS:
        raise source.broken("it should have dtype, shape and data_offsets, and nothing else", member=name, offset=8)
    offsets, shape, kind = found["data_offsets"], found["shape"], found["dtype"]
    begin, end = offsets if isinstance(offsets, list) and len(offsets) == 2 else (None, None)
    if not (type(begin) is int and type(end) is int and 0 <= begin <= end <= LIMIT):
        raise source.broken(f"data_offsets {str(offsets)[:99]} are no two increasing integers", member=name, offset=8)
    if not (_are_sizes(shape) and len(shape) <= MOST_DIMENSIONS):
        raise source.broken(f"shape {str(shape)[:99]} is no list of at most 64 sizes", member=name, offset=8)
    bits = BITS.get(kind) if isinstance(kind, str) else None
    if bits is None:
        raise source.broken(f"there is no dtype {str(kind)[:99]!r}", member=name, offset=8)
    nbits = math.prod(shape) * bits
    if nbits != (end - begin) * 8:
        needed = f"{-(-nbits // 8)} bytes" if nbits <= LIMIT else "more bytes than a file can have"
        raise source.broken(f"{kind} {shape} needs {needed}, it has {end - begin}", member=name, offset=8)
    places.append((begin, end, name))
    dtype = DTYPES.get(kind)
    if dtype is not None:
        return Member(name, dtype, tuple(shape), start + begin)
    return _unusual(name, kind, tuple(shape), start + begin)


def _unusual(name: str, kind: str, shape: tuple[int, ...], offset: int) -> Member:
    """A tensor of a type that NumPy does not have."""
    obstacle, way_out = f"its items have {BITS[kind]} bits ({kind})", "Unpack it with what wrote it."
    if kind not in PACKED_BITS:
        try:
            return Member(name, extension(EXTENSION_TYPES[kind]), shape, offset)
        except LibraryError as error:  # the other tensors can be had without
            obstacle, way_out = f"{kind} is no dtype of NumPy's", str(error)
    return Member(name, np.dtype("V"), shape, None, obstacle=obstacle, way_out=way_out)


def _are_sizes(values: Any) -> bool:
    if not isinstance(values, list):
        return False
    # A loop takes half the time of a generator, and there may be 100,000 of them.
    for value in values:  # noqa: SIM110
        if type(value) is not int or not 0 <= value <= LIMIT:
            return False
    return True


def _check_coverage(source: Source, places: list[tuple[int, int, str]], size: int) -> None:
    """The tensors, one after the other, are the whole of the data."""
    last = 0
    for begin, end, name in sorted(places):
        if begin != last:
            kind = "overlap" if begin < last else "gap"
            raise source.broken(
                f"{kind}: it begins at byte {begin} of the data, the one before ends at {last}", member=name
            )
        last = end
    if last != size:
        raise source.broken(f"its tensors have {last} bytes, {size} follow the header")
