"""Making files: create an empty array, save arrays, convert one file into another."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import stat
import warnings
from collections.abc import Mapping as AbstractMapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile import formats
from ndfile._core import Mapping as FileMapping
from ndfile.array import array_over
from ndfile.ceiling import checked as checked_ceiling
from ndfile.errors import LayoutError
from ndfile.files.file import LARGE_ROOM_NBYTES, absolute_name, map_beside
from ndfile.files.publication import check_free, publish, written_back
from ndfile.files.space import reserve
from ndfile.formats import Format
from ndfile.layout import Layout
from ndfile.progress import reported
from ndfile.reading import chosen, look
from ndfile.stream import PIECE_NBYTES, Stream, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import ArrayLike, DTypeLike

    from ndfile.array import Shape, memmap
    from ndfile.formats import Member, Plan, Source
    from ndfile.progress import Progress

__all__ = ["check_new", "convert", "create", "format_for", "make", "make_from_parts", "save"]

# The name of an array that has none, in a file where every array has one.
ONLY = "data"

# How much of a mapped array is let into memory before its pages are given back.
RESIDENT_NBYTES = 64 << 20


def create(
    path: str | bytes | os.PathLike[Any],
    shape: Shape,
    dtype: DTypeLike,
    order: str = "C",
    fill: Any = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    *,
    format: str | None = None,
    sparse: bool = False,
    max_rss: int | str | None = None,
) -> memmap[Any, Any]:
    """Make a file that holds one array, and map it for reading and writing.

    The file has its name, on the disk, once it is complete: a header, and zeros (or `fill`) with blocks reserved for
    them. The data begins at a multiple of 64 bytes.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Its suffix tells the format: ``.npy``; ``.bin``, ``.raw`` and ``.dat`` for raw bytes with a JSON sidecar
        (``x.bin.json``); ``.safetensors``, where the array is called "data".
    shape : int or sequence of ints
    dtype : dtype_like
        bfloat16 and the eight-bit floats of ml_dtypes too; in ``.npy`` other readers see them as void of that width.
    order : {'C', 'F'}, default 'C'
        Order of the items in the file.
    fill : scalar, optional
        Value of all items.
    metadata : mapping, optional
        What the file is to say about itself, in values that JSON knows: 9,000 bytes of it in ``.npy``.
    overwrite : bool, default False
        Put the new file in the place of an existing one, whose readers keep it whole.
    format : str, optional
        The format, whatever the suffix.
    sparse : bool, default False
        Reserve no space. Storing into the array can then find the disk full.
    max_rss : int or str, optional
        A ceiling on the array's resident memory, in bytes, as ``"512 MiB"`` or ``"auto"``; see `memmap.max_rss`.

    Returns
    -------
    memmap
        Of mode 'r+'.

    Raises
    ------
    FileExistsError
        There is a file, and `overwrite` is False.
    LayoutError
        The format cannot hold this dtype, shape, order or metadata. A ValueError.
    OSError
        The file cannot be made; a full disk among the reasons. Nothing was changed then.

    See Also
    --------
    save, ndfile.open

    Notes
    -----
    Cost: the time to reserve the space, and one sync of what was written.

    Platforms: Linux.

    Threads: of several that create one path, one succeeds.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> path = os.path.join(tempfile.mkdtemp(), "y.npy")
    >>> with nf.create(path, shape=(2, 3), dtype="float32", fill=1.5) as a:
    ...     a[0, 0] = 9
    >>> np.load(path)
    array([[9. , 1.5, 1.5],
           [1.5, 1.5, 1.5]], dtype=float32)
    """
    layout = Layout(dtype, shape, 0, order)
    if layout.is_open:
        raise LayoutError("shape is None", "Pass the new array's shape.")
    kind = format_for(path, format)
    found = _metadata(kind, metadata)
    ceiling = checked_ceiling(max_rss, "r+")
    array = make(path, kind, _filled(layout, fill), found, overwrite=overwrite, sparse=sparse)
    array.max_rss = ceiling
    return array


def make(
    path: Any, kind: Format, stream: Stream, metadata: dict[str, Any], *, overwrite: bool, sparse: bool = False
) -> memmap[Any, Any]:
    """Make a file of one array and map it, with the bytes of a stream or zeros in it."""
    plan = kind.plan({ONLY: stream}, metadata)
    member = plan.members[ONLY]
    if member.offset is None:
        raise LayoutError(f"format {kind.name!r} is written as a whole", "Use ndfile.save, or another suffix.")
    offset = member.offset

    def write(fd: int, name: str) -> FileMapping:
        _reserve(fd, plan, name, sparse)
        kind.write(fd, {ONLY: stream}, metadata)
        room = LARGE_ROOM_NBYTES if kind.grows else 0
        return map_beside(fd, offset, member.nbytes, "r+", absolute_name(path), room)

    mapping = _publish(path, kind, plan, write, overwrite=overwrite)
    mapping.format = kind
    return array_over(mapping, member)


def check_new(path: Any, kind: Format, layout: Layout, metadata: Mapping[str, Any] | None, *, overwrite: bool) -> None:
    """Raise what `make_from_parts` would, as far as it can be known before."""
    if kind.plan({ONLY: _filled(layout, None)}, _metadata(kind, metadata)).members[ONLY].offset is None:
        raise LayoutError(f"format {kind.name!r} is written as a whole", "Use another suffix, such as .npy.")
    check_free(path, overwrite=overwrite)


def make_from_parts(
    path: Any,
    kind: Format,
    layout: Layout,
    metadata: Mapping[str, Any] | None,
    fill: Callable[[int, Member], None],
    *,
    overwrite: bool,
    series: str,
) -> None:
    """Make a file of one array whose bytes somebody else writes: `fill`, given its descriptor and where they go.

    They begin at a page, where the format has room for that. The file has its name when `fill` has returned and all is
    on the disk; a call of the same `series` that was killed before leaves nothing then. The descriptor is older than
    what is written, whoever does it: so the kernel tells it of every failure.
    """
    check_new(path, kind, layout, metadata, overwrite=overwrite)
    plan = kind.aligned(kind.plan({ONLY: _filled(layout, None)}, _metadata(kind, metadata)), mmap.PAGESIZE)

    def write(fd: int, name: str) -> None:
        _reserve(fd, plan, name, sparse=None)
        for offset, part in plan.parts:
            write_all(fd, part, offset)
        with written_back(fd, layout.nbytes):
            fill(fd, plan.members[ONLY])

    _publish(path, kind, plan, write, overwrite=overwrite, series=series)


def save(
    path: str | bytes | os.PathLike[Any],
    array: ArrayLike | Mapping[str, ArrayLike],
    *,
    metadata: Mapping[str, Any] | None = None,
    format: str | None = None,
    sync: bool = True,
    progress: Progress = None,
) -> None:
    """Save an array, or several by name, in a file that is complete before it has its name.

    A reader, another process or a crash finds the old file or the new one, never a mixture. So the array may be a map
    of the very file that is replaced, and others may have that one mapped: they keep it whole.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Its suffix tells the format: ``.npy``, ``.npz``, ``.safetensors``; ``.bin``, ``.raw``, ``.dat`` with a sidecar.
    array : array_like, or mapping of str to array_like
        Of any size; a mapped one is never in memory as a whole. A mapping needs a format for several arrays, where a
        single one is called "data".
    metadata : mapping, optional
        What the file is to say about itself, in values that JSON knows.
    format : str, optional
        The format, whatever the suffix.
    sync : bool, default True
        Return when the file and its name survive a power loss. Without it `save` only waits for memory, as `numpy.save`
        does; readers still never see a mixture, unless the power fails.
    progress : bool or callable, optional
        True shows a bar; a callable gets the bytes done and the bytes in all.

    Raises
    ------
    LayoutError
        The format cannot hold the arrays or the metadata; objects among them, which are never pickled. A ValueError.
    OSError
        The file cannot be written. What was there is unchanged.

    See Also
    --------
    create, convert, numpy.save

    Notes
    -----
    Cost: one pass over the array, in pieces of 8 MiB; then the disk's time, unless ``sync=False``.

    Platforms: Linux.

    Threads: the last of several to finish has the name. For a raw file and its sidecar, one at a time.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> nf.save("z.npy", np.arange(4))
    >>> a = nf.open("z.npy")
    >>> nf.save("z.npy", a[::-1])
    >>> nf.open("z.npy"), a
    (memmap([3, 2, 1, 0]), memmap([0, 1, 2, 3]))
    """
    kind = format_for(path, format)
    arrays = array if isinstance(array, AbstractMapping) else {ONLY: array}
    if isinstance(array, AbstractMapping) and not kind.is_archive:
        raise LayoutError(f"format {kind.name!r} holds one array, not a mapping", "Use .npz or .safetensors.")
    streams = {_checked_name(name): _stream(np.asanyarray(one), kind) for name, one in arrays.items()}
    _save(path, kind, streams, _metadata(kind, metadata), sync, progress)


def convert(
    source: str | bytes | os.PathLike[Any],
    destination: str | bytes | os.PathLike[Any],
    *,
    key: str | None = None,
    format: str | None = None,
    sync: bool = True,
    progress: Progress = None,
    **hints: Any,
) -> None:
    """Copy the arrays of one file into another format: compressed, chunked and scaled ones too.

    Parameters
    ----------
    source : str, bytes or os.PathLike
        Whatever `ndfile.open` knows, and what it cannot map but decode: compressed ``.npz``, chunked HDF5, and more.
    destination : str, bytes or os.PathLike
        Written as `save` writes; may be the source itself.
    key : str, optional
        Convert this member alone.
    format : str, optional
        The format of the destination, whatever its suffix.
    sync, progress
        As for `save`.
    **hints
        As for `ndfile.open`.

    Raises
    ------
    FormatError, MemberError, LibraryError
        The source cannot be read.
    LayoutError
        The destination's format cannot hold the arrays. A ValueError.
    OSError
        The destination cannot be written. What was there is unchanged.

    Warns
    -----
    UserWarning
        Metadata has no room in the destination's format.

    See Also
    --------
    save, ndfile.open

    Notes
    -----
    Cost: one pass, in pieces of 8 MiB, whatever the size.

    Platforms: Linux.

    Threads: as `save`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> np.savez_compressed("small.npz", x=np.arange(5))
    >>> nf.convert("small.npz", "large.npz")
    >>> nf.open("large.npz")["x"]
    memmap([0, 1, 2, 3, 4])
    """
    kind = format_for(destination, format)
    file, opened, found, contents = look(source, "r", None, hints)
    try:
        if key is not None or not kind.is_archive:
            member = chosen(contents, file.name, key)
            members = {member.name: member}
        else:
            members = dict(contents.members)
        mapping = map_beside(file.fd, 0, file.size, "r", file.name)
        streams = {
            name: _decoded(opened, found, one, kind)
            if one.offset is None or found.has_checksums
            else _stream(array_over(mapping, one, one.offset), kind, one.order)
            for name, one in members.items()
        }
        metadata = _fitting(kind, streams, contents.metadata, list(members.values()), destination)
        _save(destination, kind, streams, metadata, sync, progress)
    finally:
        file.abandon()


def format_for(path: Any, name: str | None) -> Format:
    """The format to write: the named one, or that of the suffix."""
    return formats.for_suffix(os.fsdecode(path)) if name is None else formats.named(name)


def _metadata(kind: Format, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata as it will be read again; LayoutError for what the format has no room for."""
    try:
        text = json.dumps({} if metadata is None else dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise LayoutError(
            f"metadata is not what JSON knows ({error})", "Use str, int, float, bool, list, dict."
        ) from None
    if metadata and len(text) > kind.metadata_nbytes:
        raise LayoutError(
            f"metadata has {len(text)} bytes as JSON, {kind.name!r} takes {kind.metadata_nbytes}", "Keep it elsewhere."
        )
    found: dict[str, Any] = json.loads(text)
    return found


def _fitting(
    kind: Format, streams: dict[str, Stream], metadata: Mapping[str, Any], members: list[Member], path: Any
) -> dict[str, Any]:
    """The metadata of a file, and of its array if it is one, as far as the format has room for it."""
    wanted = dict(metadata) | dict(members[0].metadata if len(members) == 1 else {})
    left_out = [f"that of array {one.name!r}" for one in members if one.metadata and len(members) > 1]
    fitting, nbytes = {}, 2
    for key, value in wanted.items():
        more = len(json.dumps({key: value})) + 2
        if nbytes + more <= kind.metadata_nbytes:
            nbytes += more
            fitting[key] = value
        else:
            left_out.append(repr(key))
    streams = _named(kind, streams)
    if fitting:
        try:
            kind.plan(streams, fitting)
        except LayoutError:
            kind.plan(streams, {})  # raises what has nothing to do with metadata
            left_out, fitting = [*map(repr, fitting), *left_out], {}
    if left_out:
        some = ", ".join(left_out[:3]) + f" and {len(left_out) - 3} more" * (len(left_out) > 3)
        text = f"convert to {os.fspath(path)!r}: format {kind.name!r} has no room for metadata, {some} is left out"
        warnings.warn(text, UserWarning, stacklevel=3)
    return fitting


def _named(kind: Format, streams: dict[str, Stream]) -> dict[str, Stream]:
    return streams if kind.is_archive else {ONLY: next(iter(streams.values()))}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise LayoutError(f"the name of an array must be a str, not {name!r}", "Rename it.")
    return name


def _filled(layout: Layout, fill: Any) -> Stream:
    """A stream of one value, or of nothing where the value is what a new file has anyhow."""
    one = np.zeros((), layout.dtype)
    if fill is not None:
        one[...] = fill
    if not one.tobytes().strip(b"\0"):
        return Stream(layout.dtype, layout.shape, layout.order, tuple)

    def pieces() -> Iterator[Any]:
        count = layout.nbytes // layout.dtype.itemsize
        piece = np.full(min(max(PIECE_NBYTES // layout.dtype.itemsize, 1), count), one).view(np.uint8)
        for start in range(0, layout.nbytes, len(piece) or 1):
            yield piece[: layout.nbytes - start]

    return Stream(layout.dtype, layout.shape, layout.order, pieces)


def _stream(array: np.ndarray, kind: Format, order: str | None = None) -> Stream:
    Layout(array.dtype, array.shape, 0, "C")  # LayoutError for what no file can hold
    if np.ma.is_masked(array):
        raise LayoutError("the array has masked items, which no format keeps", "Save array.filled() and its mask.")
    order = order if "F" in kind.orders else "C"
    mapping = getattr(array, "_mmap", None)
    if not isinstance(mapping, FileMapping):
        return Stream.of(array, order)
    return Stream.of(array, order, _Release(mapping))._replace(check=mapping.check)


class _Release:
    """Gives the pages of a mapping back, once so many of them have been used."""

    def __init__(self, mapping: FileMapping) -> None:
        self._mapping = mapping
        self._used = 0

    def __call__(self, nbytes: int) -> None:
        self._used += nbytes
        if self._used >= RESIDENT_NBYTES and self._mapping.mode != "c":  # private pages would lose their changes
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._used = 0


def _decoded(source: Source, found: Format, member: Member, kind: Format) -> Stream:
    """The stream of a member that cannot be mapped."""
    if not member.dtype.itemsize:
        Format.decode(found, source, member)  # raises, with the obstacle
    if member.order not in kind.orders and len(member.shape) > 1:
        raise LayoutError(
            f"member {member.name!r} is decoded in order {member.order!r}, which {kind.name!r} cannot hold",
            "Convert it to .npy first.",
        )

    def pieces() -> Iterator[Any]:
        for values in found.decode(source, member):
            yield values.reshape(-1, order="A").view(np.uint8)

    return Stream(member.dtype, member.shape, member.order, pieces)


def _save(
    path: Any, kind: Format, streams: dict[str, Stream], metadata: dict[str, Any], sync: bool, progress: Any
) -> None:
    streams = _named(kind, streams)
    plan = kind.plan(streams, metadata)
    total = sum(stream.nbytes for stream in streams.values())
    with reported(progress, total, f"save {os.path.basename(os.fsdecode(path))}") as advance:
        watched = {name: stream._replace(pieces=_counted(stream, advance)) for name, stream in streams.items()}

        def write(fd: int, name: str) -> None:
            _reserve(fd, plan, name, sparse=None)
            try:
                with written_back(fd, total if sync else 0):
                    kind.write(fd, watched, metadata)
            except OSError as error:
                if error.errno == errno.EFAULT:  # the kernel could not read the source's memory
                    _check_all(streams)
                raise
            _check_all(streams)

        _publish(path, kind, plan, write, overwrite=True, sync=sync)


def _check_all(streams: dict[str, Stream]) -> None:
    for stream in streams.values():
        stream.check()


def _counted(stream: Stream, advance: Callable[[int], None]) -> Callable[[], Iterator[Any]]:
    def pieces() -> Iterator[Any]:
        done = 0
        for piece in stream.pieces():
            yield piece
            done += len(piece)
            advance(len(piece))
        if done != stream.nbytes:
            raise OSError(errno.EIO, f"{done} bytes came of {stream.nbytes}; the source changed meanwhile")

    return pieces


def _reserve(fd: int, plan: Plan, name: str, sparse: bool | None) -> None:
    left = "No file was made, or the old one is as it was"
    reserve(fd, os.fstat(fd), plan.size, name, sparse=sparse, left=left)


def _publish(
    path: Any, kind: Format, plan: Plan, write: Any, *, overwrite: bool, sync: bool = True, series: str = ""
) -> Any:
    if kind.describes_itself:
        return publish(path, write, overwrite=overwrite, sync=sync, series=series)
    beside = f"{os.path.realpath(os.fsdecode(path))}.json"
    made: os.stat_result | None = None
    text: bytes | None = None
    old_text: bytes | None = None

    def describe(text: bytes | None, overwrite: bool) -> None:
        publish(beside, lambda fd, _: write_all(fd, text, 0), overwrite=overwrite, sync=sync)

    def before(fd: int) -> None:
        # From here until the new file has the name readers find the descriptions of both.
        nonlocal made, text, old_text
        made = os.fstat(fd)
        old_inode = os.stat(path).st_ino if overwrite and os.path.exists(path) else None
        old_text = _content(beside) if overwrite else None
        text = kind.sidecar(plan, beside, made.st_ino, old_inode)
        describe(text, overwrite)

    def is_named() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return made is not None and os.path.samestat(os.stat(path), made)
        return False

    try:
        result = publish(path, write, overwrite=overwrite, sync=sync, before=before, series=series)
    except BaseException:
        # Once the new file has its name the description is right as it is.
        if text is not None and not is_named() and _content(beside) == text:
            if old_text is None:
                os.unlink(beside)
            else:
                describe(old_text, overwrite=True)
        raise
    # The pair is whole; this only makes the description shorter.
    with contextlib.suppress(OSError):
        describe(kind.sidecar(plan), overwrite=True)
    return result


def _content(path: str) -> bytes | None:
    """What is in a regular file, None where there is none."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except (FileNotFoundError, IsADirectoryError):
        return None
