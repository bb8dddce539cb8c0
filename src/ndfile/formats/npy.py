"""NumPy's own format: a header that is a Python literal, then the array."""

from __future__ import annotations

import ast
import io
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from numpy.lib import format as numpy_format

from ndfile.dtypes import EXTENSIONS, check_descr, descr_of, extension
from ndfile.errors import LayoutError
from ndfile.formats.format import Contents, Counter, Format, Member, Plan
from ndfile.layout import LIMIT, MOST_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ndfile.formats.format import Source
    from ndfile.stream import Stream

__all__ = ["MOST_HEADER_NBYTES", "VERSIONS", "Npy", "header", "read_header"]

# Major and minor version: bytes of the number that says how long the header is.
VERSIONS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}

# What numpy.load reads without being told that the file can be trusted: evaluating a literal takes time.
MOST_HEADER_NBYTES = 10_000

# What a header of ours says beyond dtype, order and shape stands in a comment behind them, which a literal may have, so
# that every reader still finds what it knows.
COMMENT = " # ndfile "
LONG = re.compile(rb"(?<=[0-9])L(?=[,)\s])")
COMMENTED = re.compile(rb"\} *# ndfile (\{.*\}) *\n?\Z")


class Npy(Format):
    """``.npy`` of versions 1.0, 2.0 and 3.0."""

    name = "npy"
    suffixes = (".npy",)
    hints = ("max_header_size",)
    metadata_nbytes = 9000  # the rest of what numpy.load reads is for dtype and shape
    grows = "header"

    def __init__(self, version: tuple[int, int] | None = None) -> None:
        """Write files of this version, by default the oldest that can hold their header."""
        if version is not None and version not in VERSIONS:
            raise LayoutError(f".npy has no version {version!r}", f"Pass one of {list(VERSIONS)}, or None.")
        self._version = version

    def recognises(self, source: Source) -> bool:
        return source.head.startswith(numpy_format.MAGIC_PREFIX)

    def describe(self, source: Source, max_header_size: int = MOST_HEADER_NBYTES, **_: Any) -> Contents:
        member, extra = read_header(source, 0, source.size, "data", max_header_size)
        left = 0 if member.offset is None else source.size - member.offset - member.nbytes
        notes = (f"{left} bytes follow the array",) if left > 0 else ()
        return Contents({"data": member._replace(metadata=extra)}, False, extra, notes)

    def counter(self, head: bytes, order: str) -> Counter:
        prefix = 8 + VERSIONS[head[6], head[7]]
        return _counter(head[:prefix], head[prefix:], order)

    def plan(self, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> Plan:
        (stream,) = streams.values()
        head = header(stream, metadata, self._version)
        member = Member("data", stream.dtype, stream.shape, len(head), stream.order, metadata=metadata)
        return Plan(len(head) + stream.nbytes, {"data": member}, ((0, head),))

    def aligned(self, plan: Plan, nbytes: int) -> Plan:
        (member,), ((_, head),) = plan.members.values(), plan.parts
        more = -len(head) % nbytes
        prefix = 8 + VERSIONS[head[6], head[7]]
        length = len(head) - prefix + more
        if not more or length > MOST_HEADER_NBYTES or length >= 1 << 8 * (prefix - 8):
            return plan
        head = head[:8] + length.to_bytes(prefix - 8, "little") + head[prefix:-1] + b" " * more + b"\n"
        return Plan(plan.size + more, {"data": member._replace(offset=len(head))}, ((0, head),))


def read_header(
    source: Source, start: int, end: int, name: str, most: int = MOST_HEADER_NBYTES
) -> tuple[Member, dict[str, Any]]:
    """Read the header at `start` of an array that ends before `end`: the member, and its metadata."""
    magic = source.read(start, 10, name)
    if not magic.startswith(numpy_format.MAGIC_PREFIX):
        raise source.broken(f"it begins with {magic[:6]!r}, .npy with b'\\x93NUMPY'", offset=start, member=name)
    version = (magic[6], magic[7])
    if version not in VERSIONS:
        raise source.broken(f".npy has no version {version[0]}.{version[1]}", offset=start + 6, member=name)
    width = VERSIONS[version]
    prefix = 8 + width
    nbytes = int.from_bytes(magic[8:] if width == 2 else source.read(start + 8, width, name), "little")
    if nbytes > most:
        raise source.broken(
            f"its header has {nbytes} bytes, {most} are read",
            offset=start + 8,
            member=name,
            advice="If you trust the file, pass a larger max_header_size.",
        )
    text = source.read(start + prefix, nbytes, name)
    try:
        shape, order, dtype, comment = _evaluate(text, version, most)
    except Exception as error:  # what a literal can raise is not only ValueError
        problem = " ".join(str(error).split())[:200].rstrip(".")
        raise source.broken(f"its header makes no array: {problem}", offset=start + prefix, member=name) from None
    dtype, metadata = _with_extras(source, dtype, comment, name) if comment else (dtype, {})
    offset = start + prefix + nbytes
    obstacle = "it holds Python objects, which ndfile never unpickles" if dtype.hasobject else None
    way_out = "Make the array anew with a dtype of fixed width." if obstacle else None
    member = Member(name, dtype, shape, None if obstacle else offset, order, obstacle, way_out)
    if not obstacle and offset + member.nbytes > end:
        raise source.broken(
            f"{dtype} {shape} needs {member.nbytes} bytes, {end - offset} follow the header", offset=offset, member=name
        )
    return member, metadata


def _evaluate(text: bytes, version: tuple[int, int], most: int) -> Any:
    return (_evaluate_once if len(text) <= 512 else _evaluate_anew)(text, version, most)


def _evaluate_anew(text: bytes, version: tuple[int, int], most: int) -> Any:
    """Shape, order, dtype and our comment of a header; any Exception for one that has none."""
    # NumPy's function for 3.0 is its own; escapes make a header of ASCII characters with the same meaning.
    plain = text.decode("utf-8" if version == (3, 0) else "latin1").encode("ascii", "backslashreplace")
    try:
        tree = _parsed(plain)
    except SyntaxError:  # Python 2 wrote 3L
        plain = LONG.sub(b"", plain)
        tree = _parsed(plain)
    if len(tree.keys) != len(numpy_format.EXPECTED_KEYS):
        raise ValueError(f"it has {len(tree.keys)} keys instead of 3")
    check_descr(ast.literal_eval(tree).get("descr"))
    file = io.BytesIO(len(plain).to_bytes(4, "little") + plain)
    shape, is_fortran, dtype = numpy_format.read_array_header_2_0(file, max(most, len(plain)))
    if len(shape) > MOST_DIMENSIONS or any(type(size) is not int or not 0 <= size <= LIMIT for size in shape):
        raise ValueError(f"shape {str(shape)[:200]} is not of at most 64 integers that are 0 or more")
    comment = COMMENTED.search(text)
    return shape, "F" if is_fortran else "C", dtype, comment[1] if comment else None


def _parsed(literal: bytes) -> ast.Dict:
    tree = ast.parse(literal.decode().strip(), mode="eval").body
    if not isinstance(tree, ast.Dict):
        raise TypeError("it is no dict")
    return tree


# The arrays of one archive, and the files of one data set, mostly share a few headers; NumPy takes 20 us for each.
_evaluate_once = lru_cache(maxsize=1024)(_evaluate_anew)


def _with_extras(
    source: Source, dtype: np.dtype[Any], comment: bytes, name: str
) -> tuple[np.dtype[Any], dict[str, Any]]:
    """The dtype and the metadata that our comment tells."""
    try:
        extra = json.loads(comment)
    except (ValueError, RecursionError):  # somebody else's
        return dtype, {}
    kind, metadata = extra.get("dtype"), extra.get("metadata")
    if kind is not None:
        if not isinstance(kind, str) or EXTENSIONS.get(kind) != dtype.itemsize or dtype.kind != "V":
            raise source.broken(f"its comment says dtype {kind!r}, its header {dtype}", member=name)
        dtype = extension(kind)
    return dtype, metadata if isinstance(metadata, dict) else {}


# A number of rows that ends at a multiple of so many bytes changes by one store.
WORD_NBYTES = 8
MOST_DIGITS = 20


def _counter(prefix: bytes, text: bytes, order: str) -> Counter:
    """Find the growing size in the text of a header, and let it end where it can be changed at once."""
    plain = LONG.sub(b" ", text)
    start, end, close = _places(plain, order)
    while plain[start - 1 : start] == b" ":  # NumPy wants one there in all but the first place; a number has it anyhow
        start -= 1
    rows, at = int(plain[start:end]), len(prefix)
    if (at + end) % WORD_NBYTES == 0 and end - start >= WORD_NBYTES:
        return Counter(prefix + plain, at + end, end - start, rows)
    padding = len(plain[close:]) - len(plain[close:].lstrip(b" "))  # behind the dict; a comment may follow
    new_end = (at + min(end + padding, start + MOST_DIGITS)) // WORD_NBYTES * WORD_NBYTES - at
    if new_end < end or new_end - start < max(WORD_NBYTES, len(str(rows))):
        raise ValueError(f"its header has {padding} spare bytes, which are too few for a growing number of rows")
    number = str(rows).rjust(new_end - start).encode()
    grown = plain[:start] + number + plain[end:close] + plain[close + new_end - end :]
    return Counter(prefix + grown, at + new_end, new_end - start, rows)


def _places(text: bytes, order: str) -> tuple[int, int, int]:
    """Where the growing size of a header begins and ends, and where its dict does."""
    # Places are told in bytes of UTF-8: with one byte to a character they are ours.
    tree = ast.parse(text.decode("latin1").encode("ascii", "replace").rstrip().decode(), mode="eval").body
    if isinstance(tree, ast.Dict) and tree.end_lineno == 1 and tree.end_col_offset is not None:
        for key, value in zip(tree.keys, tree.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "shape" and isinstance(value, ast.Tuple) and value.elts:
                size = value.elts[0 if order == "C" else -1]
                if isinstance(size, ast.Constant) and size.end_col_offset is not None:
                    return size.col_offset, size.end_col_offset, tree.end_col_offset
    raise ValueError("its header is not written as NumPy writes it")


class _Ascii:
    """A value whose `repr` has ASCII characters only, so that every header is one of version 1.0 or 2.0."""

    def __init__(self, value: Any) -> None:
        self._text = ascii(value)

    def __repr__(self) -> str:
        return self._text


def header(stream: Stream, metadata: Mapping[str, Any], version: tuple[int, int] | None = None) -> bytes:
    """The bytes before the data: a multiple of 64 of them, with room for the growing size to take 21 digits."""
    descr, extra = descr_of(stream.dtype), dict[str, Any]()
    if isinstance(descr, str) and descr in EXTENSIONS:
        descr, extra["dtype"] = f"|V{stream.dtype.itemsize}", descr
    if metadata:
        extra["metadata"] = dict(metadata)
    values = {"descr": _Ascii(descr), "fortran_order": stream.order == "F", "shape": stream.shape}
    head = _written(values, version)
    return _commented(head, extra) if extra else head


def _written(values: dict[str, Any], version: tuple[int, int] | None) -> bytes:
    file = io.BytesIO()
    if version in (None, (1, 0)):
        try:
            numpy_format.write_array_header_1_0(file, values)
        except ValueError:  # more than 65,535 bytes
            if version is not None:
                raise LayoutError("the header is too large for version 1.0", "Pass version=(2, 0), or None.") from None
    if not file.tell():
        numpy_format.write_array_header_2_0(file, values)
    head = file.getvalue()
    # 3.0 differs from 2.0 in the encoding, which does not matter to ASCII.
    return head if version != (3, 0) else head[:6] + bytes(version) + head[8:]


def _commented(head: bytes, extra: dict[str, Any]) -> bytes:
    prefix = 8 + VERSIONS[head[6], head[7]]
    text = head[prefix:-1] + (COMMENT + json.dumps(extra)).encode("ascii")
    if len(text) > MOST_HEADER_NBYTES - numpy_format.ARRAY_ALIGN:
        raise LayoutError(
            f"a .npy header with this metadata has {len(text)} bytes, numpy.load reads {MOST_HEADER_NBYTES}",
            "Keep large metadata in a file of its own.",
        )
    text += b" " * (-(prefix + len(text) + 1) % numpy_format.ARRAY_ALIGN) + b"\n"
    return head[:8] + len(text).to_bytes(prefix - 8, "little") + text
