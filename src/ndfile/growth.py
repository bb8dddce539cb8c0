"""Growing an array in place: more rows behind the last one, and then the number of them, in one step.

The way of an append: `memmap.append` tries the short way, in C, which takes rows that are already as the file has them
where there is space. Otherwise `append` here makes the rows so, makes space, writes the rows behind the last one, and
lets the file say that they are there.
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import guard
from ndfile.errors import FormatError, LayoutError, LockedError
from ndfile.files import journal, locks
from ndfile.files.durable import sync_size
from ndfile.files.publication import publish
from ndfile.files.space import reserve, reserve_behind
from ndfile.formats.raw import is_open_ended, open_ended, sidecar_path
from ndfile.layout import LIMIT
from ndfile.rows import axis_of, pieces, row_nbytes_of, rows_for
from ndfile.stream import PIECE_NBYTES, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ndfile._core import ArrayBase, Mapping
    from ndfile.formats import Format

__all__ = [
    "Growth",
    "append",
    "catch_up",
    "extend",
    "owned_mapping",
    "resize",
    "way_of",
    "writer_of",
]

# How every .npy file begins.
MAGIC_PREFIX = np.lib.format.MAGIC_PREFIX

# What a disk writes as a whole or not at all.
SECTOR_NBYTES = 512

# A header that is rewritten while it is read is read again: a writer that appends row by row rewrites it every few
# microseconds, so what is limited is the time, not the tries.
PATIENCE_S, PAUSE_S = 2.0, 0.0005

# Space that is made ahead: as much as is there, within these bounds.
LEAST_AHEAD_NBYTES, MOST_AHEAD_NBYTES = 1 << 20, 256 << 20


class Growth:
    """What the one writer of a file knows of growing it.

    Attributes
    ----------
    way : {'header', 'size', None}
        How the file says how many rows there are; None where the array cannot grow.
    turn : threading.Lock
        Held by whoever changes the number of rows, or opens or ends an atomic block.
    is_writer : bool
        Whether the file is locked for it.
    is_ready : bool
        Whether the file can say a new number of rows.
    room_end : int
        The file's byte up to which there is space.
    count_at, digits : int
        Where the header has the number, for `Mapping.let_append`; 0 without one.
    stale_nbytes : int
        In an atomic block: behind the array, up to here, there may be bytes that are not zeros.
    """

    __slots__ = ("count_at", "digits", "is_ready", "is_writer", "room_end", "stale_nbytes", "turn", "way")

    def __init__(self, way: str | None) -> None:
        self.way = way
        self.turn = threading.Lock()
        self.is_ready = self.is_writer = False
        self.room_end = 0
        self.count_at = self.digits = 0
        self.stale_nbytes = 0


# ---- Who may ----


def owned_mapping(array: ArrayBase[Any, Any], act: str) -> Mapping:
    """The mapping of an array that was opened as a whole; LayoutError for any other."""
    mapping = array._mmap
    base: Any = array.base
    if mapping is None or base is not mapping:
        raise LayoutError(f"{act}: this array is a view, or has no file", f"Call {act} of the array that was opened.")
    if array.ndim == 0:
        raise LayoutError(f"{act}: the array has no dimensions", "Only arrays with rows can grow.")
    return mapping


def way_of(mapping: Mapping) -> str | None:
    """How a file says how many rows its array has."""
    kind: Format | None = mapping.format
    return "size" if kind is None else kind.grows


def writer_of(mapping: Mapping, act: str) -> Growth:
    """Make this process the file's writer, unless it is; LockedError where there is another."""
    _refuse_reader(mapping, act)
    path = str(mapping.filename)
    growth: Growth = mapping.growth or mapping.keep_growth(Growth(way_of(mapping)))
    if not mapping.is_owned:  # before its turn, which nobody would end here
        raise LockedError(path, "exclusive", "the process that this one was forked from", act)
    with growth.turn:
        if not growth.is_writer:
            locks.take(mapping.fileno(), "exclusive", time.monotonic(), path, act)
            try:
                journal.finish(mapping)
            except BaseException:
                locks.release(mapping.fileno())
                raise
            growth.is_writer = True
    return growth


def _growable_mapping(array: ArrayBase[Any, Any], act: str) -> Mapping:
    """The mapping of an array that can grow, as far as that shows without touching the file."""
    mapping = owned_mapping(array, act)
    _refuse_reader(mapping, act)
    if way_of(mapping) is None:
        raise LayoutError(
            f"{act}: a file of format {mapping.format.name!r} cannot grow in place",
            "Create a .npy or .bin file with ndfile.create, and append to that.",
        )
    return mapping


def _refuse_reader(mapping: Mapping, act: str) -> None:
    if mapping.mode not in ("r+", "w+"):
        raise LayoutError(f"{act}: the array is of mode {mapping.mode!r}", "Open it with mode='r+'.")
    mapping.check()
    mapping.check_synced()


def _grower_of(array: ArrayBase[Any, Any], mapping: Mapping, act: str) -> Growth:
    """What is known of growing a file that is ready for it, the arguments being checked."""
    growth = writer_of(mapping, act)
    with growth.turn:
        if not growth.is_ready:
            catch_up(array, mapping)
            _prepare(array, mapping, growth, act)
    return growth


def catch_up(array: ArrayBase[Any, Any], mapping: Mapping) -> int:
    """Take the number of rows that the file says it has; returns how many are new.

    Also before this process becomes the writer: the one before may have appended since the file was opened here.
    """
    before: int = array.shape[axis_of(array)]
    after = _published_rows(array, mapping)
    if after != before:
        check_room(mapping, after * row_nbytes_of(array), "refresh")
        array._set_rows(after)
        mapping.check()
    return after - before


def _published_rows(array: ArrayBase[Any, Any], mapping: Mapping) -> int:
    """How many rows the file says it has."""
    if way_of(mapping) == "header":
        return _counted_rows(array, mapping)
    rows: int = array.shape[axis_of(array)]
    row_nbytes = row_nbytes_of(array)
    if row_nbytes == 0 or not _is_told_by_size(mapping, row_nbytes):
        return rows
    nbytes = mapping.size() - mapping.offset
    return 0 if _has_only_its_byte(mapping, nbytes) else max(nbytes, 0) // row_nbytes


def _has_only_its_byte(mapping: Mapping, nbytes: int) -> bool:
    """Whether the file is one of no items: NumPy leaves a byte in it, because an empty file cannot be mapped."""
    return mapping.format is None and mapping.offset == 0 and len(mapping) == 0 and nbytes == 1


def _counted_rows(array: ArrayBase[Any, Any], mapping: Mapping) -> int:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        head = mapping.head()
        if mapping.head() == head:  # at once: what takes time is making sense of it
            try:
                return int(mapping.format.counter(head, "F" if mapping.is_fortran else "C").rows)
            except SyntaxError:
                pass
            except ValueError:  # nobody counts in a header like that
                return int(array.shape[axis_of(array)])
        if time.monotonic() >= until_s:
            break
        time.sleep(PAUSE_S)
    raise FormatError(mapping.filename, None, 0, "its header makes no sense any more", "Open the file again.")


def _is_told_by_size(mapping: Mapping, row_nbytes: int) -> bool:
    """Whether what follows in the file are more rows, not something else."""
    if mapping.format is None:
        return mapping.followed_by < row_nbytes or _has_only_its_byte(mapping, mapping.followed_by)
    return is_open_ended(mapping.filename)


def _prepare(array: ArrayBase[Any, Any], mapping: Mapping, growth: Growth, act: str) -> None:
    """Before the first change of an array's size: let the file be one that can say it, and end with the array."""
    end = mapping.offset + len(mapping)
    size = os.fstat(mapping.fileno()).st_size
    if growth.way == "header":
        _refuse_other_array(mapping, end, size, act)
        _let_header_count(mapping, growth, act)
    else:
        row_nbytes = row_nbytes_of(array)
        if row_nbytes == 0:
            raise LayoutError(f"{act}: rows of 0 bytes cannot be counted by the file's size", "Use a .npy file.")
        if size - end >= row_nbytes and not _has_only_its_byte(mapping, size):
            raise LayoutError(
                f"{act}: {size - end} bytes follow the array, and the file's size is to tell how long it is",
                "Open all of the file, or copy the array into one of its own with ndfile.save.",
            )
        if mapping.format is not None and not mapping.format.describes_itself:
            _let_size_count(mapping, act)
    growth.stale_nbytes = size - mapping.offset
    if not mapping.in_block:
        _cut(mapping, growth)
    mapping.trim_in_the_end()
    growth.is_ready = True


def _refuse_other_array(mapping: Mapping, end: int, size: int, act: str) -> None:
    """What a writer that died has left behind the array is nobody's; another array is somebody's."""
    if size > end and os.pread(mapping.fileno(), len(MAGIC_PREFIX), end) == MAGIC_PREFIX:
        raise LayoutError(
            f"{act}: another array follows in the file, at byte {end}",
            "Copy the array into a file of its own with ndfile.save.",
        )


def _let_header_count(mapping: Mapping, growth: Growth, act: str) -> None:
    """Let the header have its number of rows where it can be changed by one store."""
    head = mapping.head()
    try:
        if not head:
            raise ValueError("its header is too long")
        counter = mapping.format.counter(head, "F" if mapping.is_fortran else "C")
    except (ValueError, SyntaxError) as error:
        raise LayoutError(
            f"{act} {str(mapping.filename)!r}: {error}", "Write it anew with ndfile.save(path, array), then append."
        ) from None
    if counter.head != head:
        if mapping.in_block or len(head) <= SECTOR_NBYTES:
            mapping.write_head(counter.head)
        else:
            _commit_head(mapping, counter.head)
    growth.count_at, growth.digits = counter.end, counter.digits


def _commit_head(mapping: Mapping, head: bytes) -> None:
    """Rewrite a header that a power loss could leave half done."""
    if not mapping.has_journal:
        journal.make(mapping)
    mapping.begin_block(LIMIT)
    try:
        mapping.write_head(head)
        mapping.commit_block()
    finally:
        if mapping.in_block:
            mapping.roll_back_block()


def _let_size_count(mapping: Mapping, act: str) -> None:
    """Let a sidecar leave the number of rows to the file's size."""
    try:
        os.lstat(str(mapping.filename))
    except FileNotFoundError:  # the file was moved, and left its sidecar behind
        return
    journal.require_name(mapping, act)
    text = open_ended(mapping.filename, "F" if mapping.is_fortran else "C")
    if text is not None:
        publish(sidecar_path(mapping.filename), lambda fd, _: write_all(fd, text, 0), overwrite=True)


# ---- Space ----


def check_room(mapping: Mapping, nbytes: int, act: str) -> None:
    """Raise OSError unless the mapping can have so many bytes where it is."""
    if nbytes > mapping.most_nbytes:
        raise OSError(
            errno.ENOMEM,
            f"{act}: the array is to have {nbytes} bytes, and there is address space for {mapping.most_nbytes} where "
            "it is. Nothing was changed. Close it and open it again, which sets more aside",
            str(mapping.filename),
        )


def _cut(mapping: Mapping, growth: Growth) -> None:
    """Let the file end with the array, so that zeros follow when it grows again."""
    end = mapping.offset + len(mapping)
    mapping.settle_journal()
    if end == 0 and mapping.format is None:
        os.ftruncate(mapping.fileno(), 0)  # so that the byte is a zero
        end = 1  # as NumPy leaves a file of no items, because nobody could map an empty one
    os.ftruncate(mapping.fileno(), end)
    growth.room_end = end
    growth.stale_nbytes = len(mapping)


def _make_room(mapping: Mapping, growth: Growth, end: int) -> None:
    """See that the file has space up to byte `end`, and some ahead. OSError, with nothing changed, where it has not."""
    if mapping.in_block or end <= growth.room_end:
        return
    ahead = min(max(len(mapping), LEAST_AHEAD_NBYTES), MOST_AHEAD_NBYTES)
    try:
        _reserve(mapping, growth, end + ahead)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        _reserve(mapping, growth, end)


def _reserve(mapping: Mapping, growth: Growth, end: int) -> None:
    fd = mapping.fileno()
    before = os.fstat(fd)
    mapping.settle_journal()
    if growth.way == "header":
        reserve(fd, before, end, str(mapping.filename), sparse=None)
        # A number of rows may reach the disk by itself at any time: the size that goes with it must be there.
        if not sync_size(fd, str(mapping.filename)):
            mapping.sync_data()
    else:
        reserve_behind(fd, before, end, str(mapping.filename))
    growth.room_end = end


@contextlib.contextmanager
def _changing(array: ArrayBase[Any, Any], mapping: Mapping, growth: Growth) -> Iterator[None]:
    """Change an array's size, nobody else doing so; what fails leaves the file as it was."""
    with growth.turn:
        mapping.check()
        mapping.let_append(0, 0, growth.count_at, growth.digits)
        before = array.shape[axis_of(array)]
        try:
            yield
        except BaseException:
            if not mapping.closed:
                with contextlib.suppress(OSError):
                    _undo(array, mapping, growth, before)
            raise
        finally:
            if not mapping.closed:
                room = 0 if mapping.in_block else growth.room_end - mapping.offset
                mapping.let_append(row_nbytes_of(array), room, growth.count_at, growth.digits)


def _undo(array: ArrayBase[Any, Any], mapping: Mapping, growth: Growth, rows: int) -> None:
    """Let the array have so many rows again, and the file as many."""
    if array.shape[axis_of(array)] != rows:
        array._set_rows(rows, True)
    if not mapping.in_block:
        _cut(mapping, growth)


# ---- Appending ----


def append(array: ArrayBase[Any, Any], rows: Any, sync: bool) -> None:
    """See `ndfile.memmap.append`."""
    mapping = _growable_mapping(array, "append")
    values = rows_for(array, rows)
    check_room(mapping, len(mapping) + values.size * array.dtype.itemsize, "append")
    growth = _grower_of(array, mapping, "append")
    with _changing(array, mapping, growth):
        axis = axis_of(array)
        start = len(mapping)
        end = start + values.size * array.dtype.itemsize
        _make_room(mapping, growth, mapping.offset + end)
        growth.stale_nbytes = max(growth.stale_nbytes, end)
        for piece in pieces(values, array.dtype, axis):
            mapping.write(piece, start)
            start += len(piece)
        if sync and growth.way == "header":  # by the size, rows and number are one
            mapping.sync_data()
        array._set_rows(array.shape[axis] + values.shape[axis], True)
        if sync:
            mapping.sync_data()


def extend(array: ArrayBase[Any, Any], iterable: Iterable[Any], sync: bool) -> None:
    """See `ndfile.memmap.extend`."""
    _growable_mapping(array, "extend")
    axis = axis_of(array)
    batch: list[np.ndarray] = []
    nbytes = 0
    for rows in iterable:
        batch.append(rows_for(array, rows).astype(array.dtype))  # a copy: rows may be somebody's buffer
        nbytes += batch[-1].nbytes
        if nbytes >= PIECE_NBYTES:
            append(array, np.concatenate(batch, axis), sync)
            batch, nbytes = [], 0
    if batch:
        append(array, np.concatenate(batch, axis), sync)


def resize(array: ArrayBase[Any, Any], shape: Any) -> None:
    """See `ndfile.memmap.resize`."""
    mapping = _growable_mapping(array, "resize")
    rows = _wanted_rows(array, shape)
    row_nbytes = row_nbytes_of(array)
    if mapping.offset + rows * row_nbytes > LIMIT:
        raise LayoutError(f"resize: {rows} rows of {row_nbytes} bytes are more than a file can have", "Use fewer rows.")
    after = rows * row_nbytes
    check_room(mapping, after, "resize")
    growth = _grower_of(array, mapping, "resize")
    with _changing(array, mapping, growth):
        before = len(mapping)
        if after > before:
            _grow(mapping, growth, after)
            array._set_rows(rows, True)
        elif after < before:
            _shrink(array, mapping, growth, rows)
        else:
            array._set_rows(rows, True)


def _grow(mapping: Mapping, growth: Growth, after: int) -> None:
    """Zeros behind the array, up to byte `after` of it."""
    before = len(mapping)
    if mapping.in_block:
        for start in range(before, min(after, growth.stale_nbytes), PIECE_NBYTES):
            mapping.write(bytes(min(PIECE_NBYTES, growth.stale_nbytes - start)), start)
        mapping.write(b"", after)
        growth.stale_nbytes = max(growth.stale_nbytes, after)
        return
    _cut(mapping, growth)
    if growth.way == "header":
        _make_room(mapping, growth, mapping.offset + after)
        return
    fd = mapping.fileno()
    reserve(fd, os.fstat(fd), mapping.offset + after, str(mapping.filename), sparse=None)
    growth.room_end = mapping.offset + after


def _shrink(array: ArrayBase[Any, Any], mapping: Mapping, growth: Growth, rows: int) -> None:
    if growth.way == "size" and not guard():
        raise BufferError(
            f"resize {str(mapping.filename)!r}: with the guard off, views of what is cut would end the process. "
            "Nothing was changed. Turn the guard on, or use .npy."
        )
    array._set_rows(rows, True)
    if mapping.in_block:
        return
    if growth.way == "header":  # the disk must not have the larger number with the smaller file
        mapping.sync_data()
    if guard():
        _cut(mapping, growth)


def _wanted_rows(array: ArrayBase[Any, Any], shape: Any) -> int:
    axis = axis_of(array)
    if isinstance(shape, (tuple, list)):
        others = [size for i, size in enumerate(shape) if i != axis]
        if len(shape) != array.ndim or others != [size for i, size in enumerate(array.shape) if i != axis]:
            raise LayoutError(
                f"resize: shape {tuple(shape)} and the array's {array.shape} differ in more than axis {axis}",
                f"Only axis {axis} can change.",
            )
        shape = shape[axis]
    rows = operator.index(shape)
    if rows < 0:
        raise LayoutError(f"resize: {rows} rows are negative", "Sizes are 0 or more.")
    return rows
