"""Bytes without a header: a JSON sidecar, or whoever opens them, says what they are."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from numpy.lib import format as numpy_format

from ndfile.dtypes import EXTENSIONS, extension, extension_name
from ndfile.errors import FormatError, LayoutError
from ndfile.formats.format import Contents, Format, Member, Plan
from ndfile.layout import MOST_DIMENSIONS, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ndfile.formats.format import Source
    from ndfile.stream import Stream

__all__ = ["Raw", "sidecar_path"]

SUFFIX = ".json"
MOST_NBYTES = 1 << 20

KEYS = {"dtype", "shape", "order", "offset", "metadata", "inode", "previous"}


class Raw(Format):
    """Raw bytes with a JSON file beside them: ``x.bin`` and ``x.bin.json``.

    The sidecar is an object with ``dtype`` (as `numpy.lib.format` has it: ``"<f4"``, or a list of fields), ``shape``
    (missing: as many items as there are), ``order`` ("C"), ``offset`` (0) and ``metadata``. Only while a pair is being
    replaced it also has ``inode``, the number of the file that it describes, and ``previous``, the description of the
    one before: whoever opens the pair meanwhile, or after a crash, gets what belongs together.
    """

    name = "raw"
    suffixes = (".bin", ".raw", ".dat")
    hints = ("dtype", "shape", "order", "offset")
    metadata_nbytes = 512 << 10
    describes_itself = False

    def recognises(self, source: Source) -> bool:
        return os.path.isfile(sidecar_path(source.path))

    def describe(self, source: Source, **hints: Any) -> Contents:
        if "dtype" in hints:
            fields, metadata = hints, {}
        else:
            fields = _matching(_read_sidecar(source), source)
            metadata = fields.get("metadata", {})
            fields = {**_known_fields(fields, source), **hints}
        member = _member(source, fields, metadata)
        left = source.size - (member.offset or 0) - member.nbytes
        notes = (f"{left} bytes follow the array",) if left > 0 else ()
        return Contents({"data": member}, False, metadata, notes)

    def plan(self, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> Plan:
        (stream,) = streams.values()
        _descr(stream.dtype)
        member = Member("data", stream.dtype, stream.shape, 0, stream.order, metadata=metadata)
        return Plan(stream.nbytes, {"data": member}, ())

    def sidecar(self, plan: Plan, inode: int | None = None, previous: Any = None) -> bytes:
        member = plan.members["data"]
        fields = {"dtype": _descr(member.dtype), "shape": member.shape, "order": member.order, "offset": member.offset}
        if member.metadata:
            fields["metadata"] = member.metadata
        if inode is not None:
            fields |= {"inode": inode, "previous": previous}
        return json.dumps(fields).encode("ascii") + b"\n"


def sidecar_path(path: Any) -> str:
    """Where the description of a raw file stands."""
    return f"{os.fspath(path)}{SUFFIX}"


def _descr(dtype: np.dtype[Any]) -> Any:
    kind = extension_name(dtype)
    if kind is not None:
        return kind
    descr = numpy_format.dtype_to_descr(dtype)
    if numpy_format.descr_to_dtype(descr) != dtype:
        raise LayoutError(f"a sidecar cannot tell {dtype}", "Use a dtype of NumPy's own, or a single ml_dtypes one.")
    return descr


def _read_sidecar(source: Source) -> dict[str, Any]:
    path = sidecar_path(source.path)
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_NBYTES + 1)
    except FileNotFoundError:
        raise source.broken(
            "nothing says what its bytes are",
            advice=f"Pass dtype= (and shape=, order=, offset=), or write {os.path.basename(path)!r} beside it.",
        ) from None
    if len(text) > MOST_NBYTES:
        raise _odd(path, f"it has more than {MOST_NBYTES} bytes")
    try:
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _odd(path, f"it is no JSON ({error})") from None
    return _checked_fields(path, fields)


def _checked_fields(path: str, fields: Any) -> dict[str, Any]:
    if not isinstance(fields, dict) or not fields.keys() <= KEYS or "dtype" not in fields:
        keys = sorted(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise _odd(path, f"it should be an object with 'dtype' and others of {sorted(KEYS)}, and has {str(keys)[:200]}")
    if fields.get("previous") is not None:
        _checked_fields(path, fields["previous"])
    return fields


def _matching(fields: dict[str, Any], source: Source) -> dict[str, Any]:
    """The description of the file that is open, of the two that there are while it is being replaced."""
    if "inode" not in fields or fields["inode"] == source.status().st_ino:
        return fields
    previous = fields.get("previous")
    if previous is None:
        raise _odd(sidecar_path(source.path), "it describes another file, which was to take this one's place")
    return _matching(previous, source)


def _known_fields(fields: dict[str, Any], source: Source) -> dict[str, Any]:
    path = sidecar_path(source.path)
    descr, shape, order = fields["dtype"], fields.get("shape"), fields.get("order", "C")
    offset, metadata = fields.get("offset", 0), fields.get("metadata", {})
    try:
        dtype = extension(descr) if isinstance(descr, str) and descr in EXTENSIONS else _dtype(descr)
    except (TypeError, ValueError, KeyError, OverflowError, SyntaxError, RecursionError, MemoryError) as error:
        raise _odd(path, f"dtype {str(descr)[:200]!r} is none of NumPy's ({error})") from None
    is_shape = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS and all(type(size) is int for size in shape)
    if shape is not None and not is_shape:
        raise _odd(path, f"shape {str(shape)[:200]} is no list of at most {MOST_DIMENSIONS} integers")
    if type(offset) is not int or order not in ("C", "F") or not isinstance(metadata, dict):
        raise _odd(path, "offset must be an integer, order 'C' or 'F', metadata an object")
    return {"dtype": dtype, "shape": shape if shape is None else tuple(shape), "order": order, "offset": offset}


def _dtype(descr: Any) -> np.dtype[Any]:
    if isinstance(descr, list):  # JSON has no tuples
        descr = [tuple(tuple(part) if isinstance(part, list) else part for part in field) for field in descr]
    return numpy_format.descr_to_dtype(descr)


def _member(source: Source, fields: dict[str, Any], metadata: dict[str, Any]) -> Member:
    layout = Layout(fields["dtype"], fields.get("shape"), fields.get("offset", 0), fields.get("order", "C"))
    if layout.is_open:
        layout.fill(source.path, source.size)
    return Member("data", layout.dtype, layout.shape, layout.offset, layout.order, metadata=metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _odd(path: str, problem: str) -> FormatError:
    return FormatError(path, None, None, problem, "Write the sidecar anew, or pass dtype= to go without it.")
