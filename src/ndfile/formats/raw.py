"""Bytes without a header: a JSON sidecar, or whoever opens them, says what they are."""

from __future__ import annotations

import json
import math
import os
import stat
from typing import TYPE_CHECKING, Any

from ndfile.dtypes import descr_of, dtype_of
from ndfile.errors import FormatError, LayoutError, LibraryError, SizeError
from ndfile.formats.format import Contents, Format, Member, Plan
from ndfile.layout import LIMIT, MOST_DIMENSIONS, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ndfile.formats.format import Source
    from ndfile.stream import Stream

__all__ = ["Raw", "is_open_ended", "open_ended", "sidecar_path"]

SUFFIX = ".json"
MOST_NBYTES = 256 << 10

# In a shape: as many as the file has room for, as in numpy.reshape.
ANY = -1

KEYS = frozenset({"dtype", "shape", "order", "offset", "metadata", "inode", "previous"})


class Raw(Format):
    """Raw bytes with a JSON file beside them: ``x.bin`` and ``x.bin.json``.

    The sidecar is an object with ``dtype`` (as `numpy.lib.format` has it: ``"<f4"``, or a list of fields), ``shape``
    (missing: as many items as there are; -1 in the place of the growing size: as many whole rows), ``order`` ("C"),
    ``offset`` (0) and ``metadata``. Only while a pair is being replaced it also has ``inode``, the number of the file
    that it describes, and ``previous``, the description of the one before: whoever opens the pair meanwhile, or after a
    crash, gets what belongs together.
    """

    name = "raw"
    suffixes = (".bin", ".raw", ".dat")
    hints = ("dtype", "shape", "order", "offset")
    metadata_nbytes = 100 << 10  # twice in a sidecar while a file is replaced
    describes_itself = False
    grows = "size"

    def recognises(self, source: Source) -> bool:
        return os.path.isfile(sidecar_path(source.path))

    def describe(self, source: Source, **hints: Any) -> Contents:
        if "dtype" in hints:
            layout, metadata = _layout(source, hints), {}
        else:
            path = sidecar_path(source.path)
            fields = _matching(_read(path, source), source.status().st_ino)
            if fields is None:
                raise _odd(path, "it describes another file, which was to take this one's place")
            metadata = fields.get("metadata", {})
            known = _known_fields(path, fields)
            if known["shape"] is not None and ANY in known["shape"]:
                known["shape"] = _filled(source, known)
            known |= hints
            try:
                layout = _layout(source, known)
            except (LayoutError, SizeError) as error:
                raise _odd(path, f"it does not fit the file ({str(error)[:400]})") from None
        member = Member("data", layout.dtype, layout.shape, layout.offset, layout.order, metadata=metadata)
        left = source.size - layout.end
        notes = (f"{left} bytes follow the array",) if left > 0 else ()
        return Contents({"data": member}, False, metadata, notes)

    def plan(self, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> Plan:
        (stream,) = streams.values()
        member = Member("data", stream.dtype, stream.shape, 0, stream.order, metadata=metadata)
        plan = Plan(stream.nbytes, {"data": member}, ())
        length = len(self.sidecar(plan))
        if length > MOST_NBYTES // 2 - 128:  # it is there twice while a file is replaced
            raise LayoutError(f"its sidecar would have {length} bytes, {MOST_NBYTES // 2 - 128} are read", "Use .npy.")
        return plan

    def sidecar(self, plan: Plan, path: str = "", inode: int | None = None, old_inode: int | None = None) -> bytes:
        member = plan.members["data"]
        fields = {
            "dtype": descr_of(member.dtype),
            "shape": member.shape,
            "order": member.order,
            "offset": member.offset,
        }
        if member.metadata:
            fields["metadata"] = member.metadata
        if inode is not None:
            fields |= {"inode": inode, "previous": _previous(path, old_inode)}
        return json.dumps(fields).encode("ascii") + b"\n"


def open_ended(path: Any, order: str) -> bytes | None:
    """The sidecar's content for a file that is to grow, whose size tells how many rows it has. None if it says so.

    FormatError for a sidecar that makes no sense; FileNotFoundError for none.
    """
    fields = _parsed(sidecar_path(path))
    shape = fields.get("shape")
    if shape is None:
        return None
    axis = 0 if order == "C" else len(shape) - 1
    if shape[axis] == ANY:
        return None
    wanted = {key: value for key, value in fields.items() if key not in ("inode", "previous")}
    wanted["shape"] = [ANY if i == axis else size for i, size in enumerate(shape)]
    return json.dumps(wanted).encode("ascii") + b"\n"


def is_open_ended(path: Any) -> bool:
    """Tell whether the sidecar leaves it to the file's size how many rows there are."""
    shape = _parsed(sidecar_path(path)).get("shape")
    return shape is None or (isinstance(shape, list) and ANY in shape)


def sidecar_path(path: Any) -> str:
    """Where the description of a raw file stands: beside the file itself, not beside a link to it."""
    return f"{os.path.realpath(path)}{SUFFIX}"


def _read(path: str, source: Source) -> dict[str, Any]:
    try:
        return _parsed(path)
    except IsADirectoryError:
        raise _odd(path, "it is a folder") from None
    except FileNotFoundError:
        raise source.broken(
            "nothing says what its bytes are",
            advice=f"Pass dtype= (and shape=, order=, offset=), or write {os.path.basename(path)!r} beside it.",
        ) from None


def _parsed(path: str) -> dict[str, Any]:
    """The content of a sidecar; FormatError for one that makes no sense."""
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _odd(path, "it is no regular file")
        text = file.read(MOST_NBYTES + 1)
    if len(text) > MOST_NBYTES:
        raise _odd(path, f"it has more than {MOST_NBYTES} bytes")
    try:
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _odd(path, f"it is no JSON ({error})") from None
    return _checked_fields(path, fields)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for its writer


def _checked_fields(path: str, fields: Any, keys: frozenset[str] = KEYS) -> dict[str, Any]:
    if not isinstance(fields, dict) or not fields.keys() <= keys or "dtype" not in fields:
        found = sorted(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise _odd(
            path, f"it should be an object with 'dtype' and others of {sorted(keys)}, and has {str(found)[:200]}"
        )
    if fields.get("previous") is not None:
        _checked_fields(path, fields["previous"], KEYS - {"previous"})
    return fields


def _matching(fields: dict[str, Any], inode: int) -> dict[str, Any] | None:
    """The description of the file with this inode, of the two that there are while it is being replaced."""
    if fields.get("inode", inode) == inode:
        return fields
    previous: dict[str, Any] | None = fields.get("previous")
    return previous if previous is not None and previous.get("inode") == inode else None


def _previous(path: str, old_inode: int | None) -> dict[str, Any] | None:
    """What is known of the file that is about to be replaced."""
    if old_inode is None:
        return None
    try:
        fields = _matching(_parsed(path), old_inode)
    except (OSError, FormatError):
        return None
    if fields is None:
        return None
    return {key: value for key, value in fields.items() if key != "previous"} | {"inode": old_inode}


def _known_fields(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    descr, shape, order = fields["dtype"], fields.get("shape"), fields.get("order", "C")
    offset, metadata = fields.get("offset", 0), fields.get("metadata", {})
    try:
        dtype = dtype_of(_with_tuples(descr))
    except LibraryError:
        raise
    except Exception as error:  # what NumPy raises over a description is not only ValueError
        raise _odd(path, f"dtype {str(descr)[:200]!r} is none of NumPy's ({error})") from None
    is_shape = (
        isinstance(shape, list)
        and len(shape) <= MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size <= LIMIT for i, size in enumerate(shape) if not _grows(i, shape, order))
    )
    if shape is not None and not is_shape:
        raise _odd(path, f"shape {str(shape)[:200]} is no list of at most {MOST_DIMENSIONS} sizes")
    if type(offset) is not int or not 0 <= offset <= LIMIT or order not in ("C", "F") or not isinstance(metadata, dict):
        raise _odd(path, "offset must be an integer, order 'C' or 'F', metadata an object")
    return {"dtype": dtype, "shape": shape if shape is None else tuple(shape), "order": order, "offset": offset}


def _grows(axis: int, shape: list[Any], order: Any) -> bool:
    return shape[axis] == ANY and type(shape[axis]) is int and axis == (0 if order == "C" else len(shape) - 1)


def _with_tuples(descr: Any) -> Any:
    """A description as NumPy has it: JSON has lists for its tuples too."""
    if isinstance(descr, str):
        return descr
    if not isinstance(descr, list) or not all(isinstance(field, list) for field in descr):
        raise ValueError("fields are lists of a name, a type and perhaps a shape")
    fields = []
    for name, kind, *shape in descr:
        title = tuple(name) if isinstance(name, list) else name
        fields.append((title, _with_tuples(kind), *(tuple(one) if isinstance(one, list) else one for one in shape)))
    if not fields or not all(isinstance(field[0], str | tuple) for field in fields):
        raise ValueError("fields are lists of a name, a type and perhaps a shape")
    return fields


def _layout(source: Source, fields: dict[str, Any]) -> Layout:
    layout = Layout(fields["dtype"], fields.get("shape"), fields.get("offset", 0), fields.get("order", "C"))
    if layout.is_open:
        layout.fill(source.path, source.size)
    return layout


def _filled(source: Source, fields: dict[str, Any]) -> tuple[int, ...]:
    """The shape with as many rows as the file has whole ones."""
    shape: tuple[int, ...] = fields["shape"]
    row_nbytes = math.prod(size for size in shape if size != ANY) * fields["dtype"].itemsize
    rows = max(source.size - fields["offset"], 0) // row_nbytes if row_nbytes else 0
    return tuple(rows if size == ANY else size for size in shape)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _odd(path: str, problem: str) -> FormatError:
    return FormatError(path, None, None, problem, "Write the sidecar anew, or pass dtype= to go without it.")
