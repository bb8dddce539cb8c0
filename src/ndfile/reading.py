"""Opening a file by what it is."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ndfile import formats
from ndfile.archive import Archive
from ndfile.array import array_over
from ndfile.ceiling import checked as checked_ceiling
from ndfile.errors import FormatError, LayoutError, MemberError
from ndfile.files.file import LARGE_ROOM_NBYTES, MODES, TRIES, File, refused_mode
from ndfile.hints import check_backend

if TYPE_CHECKING:
    from ndfile._core import Mapping
    from ndfile.formats import Contents, Format, Member, Source

__all__ = ["chosen", "look", "open"]


class Found(NamedTuple):
    """An open file with what it holds."""

    file: File
    source: Source
    format: Format
    contents: Contents


def open(
    path: str | bytes | os.PathLike[Any],
    mode: str = "r",
    key: str | None = None,
    *,
    format: str | None = None,
    backend: str = "auto",
    max_rss: int | str | None = None,
    **hints: Any,
) -> Any:
    """Open a file of arrays: map the one it holds, or give an `Archive` of several.

    The format is told by the content, then by the name: `.npy`, `.npz`, `.safetensors`, raw bytes with a JSON sidecar,
    HDF5, TIFF, NIfTI, WAV, FITS, Arrow IPC, and what installed packages add. Nothing is copied: the array has the
    dtype, byte order, item order and offset that the file has.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A regular file.
    mode : {'r', 'r+', 'c'}, default 'r'
        Read only, read and write in place, or changes in memory only. The file never grows or shrinks by it.
    key : str, optional
        Open this member alone.
    format : str, optional
        Take the file for one of this format, whatever it looks like.
    backend : {'auto', 'map', 'read'}, default 'auto'
        By which way much is read at once; see `memmap`.
    max_rss : int or str, optional
        A ceiling on the resident memory of what is opened, in bytes, as ``"512 MiB"`` or ``"auto"``; for an archive,
        of all its members together. See `memmap.max_rss`.
    **hints
        For raw bytes, as for `ndfile.memmap`: dtype, and shape, order, offset. For `.npy`: max_header_size, as
        `numpy.load` has it.

    Returns
    -------
    memmap or Archive

    Raises
    ------
    FormatError
        The file breaks its format's rules, or its bytes cannot be mapped: the message says why, and the way out.
        A ValueError.
    MemberError
        There is no member `key`. A KeyError.
    LibraryError
        A library is needed that is not installed. An ImportError.
    LayoutError
        A mode, format or hint that does not exist. A ValueError.
    OSError
        The file cannot be opened or mapped.

    See Also
    --------
    info : the description alone
    memmap : raw bytes, with everything that `numpy.memmap` can do
    create, save, convert

    Notes
    -----
    Cost: headers are read, data is not; tens of microseconds for a `.npy` of any size.

    Platforms: Linux.

    Threads: safe. Nothing in a file is executed or unpickled.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, np.arange(6).reshape(2, 3))
    >>> a = nf.open(path, mode="r+")
    >>> a[1] = 7
    >>> a.close()
    >>> np.load(path)
    array([[0, 1, 2],
           [7, 7, 7]])
    """
    short = MODES.get(mode)
    if short is None or short == "w+":
        if short == "w+":
            raise LayoutError("mode 'w+' makes a new file", "Use ndfile.create, or ndfile.memmap for raw bytes.")
        refused_mode(mode)
    check_backend(backend, short)
    ceiling = None if max_rss is None else checked_ceiling(max_rss, short)
    file, source, found, contents = look(path, short, format, hints)
    try:
        if contents.is_archive and key is None:
            if short == "r+":
                for member in contents.members.values():
                    _refuse_writing(source, member)
            whole = _set_up(file.map_inside(0, file.size, 0), backend, ceiling)
            whole.format = found
            return Archive(whole, source, contents, found.name)
        member = chosen(contents, file.name, key)
        layout = member.layout(source)
        if short == "r+":
            _refuse_writing(source, member)
        room = LARGE_ROOM_NBYTES if found.grows else 0
        mapping = _set_up(file.map_inside(layout.offset, layout.nbytes, room), backend, ceiling)
        mapping.format = None if "dtype" in hints else found
    finally:
        file.abandon()
    return array_over(mapping, layout)


def _set_up(mapping: Mapping, backend: str, ceiling: int | None) -> Mapping:
    if backend != "auto":
        mapping.backend = backend
    if ceiling is not None:
        mapping.set_max_rss(ceiling)
    return mapping


def look(path: Any, mode: str, format_name: str | None, hints: dict[str, Any], *, settles: bool = True) -> Found:
    """Open a file and describe it. Whoever calls maps the file or abandons it.

    NeedsRecoveryError for a commit that was interrupted, unless that is to be left alone.
    """
    os.fspath(path)  # TypeError for what is no path
    for _ in range(TRIES):
        file = File(path, mode, settles=settles)
        try:
            source = formats.Source(file.fd, file.name, file.size)
            try:
                found = formats.find(source, hints) if format_name is None else formats.named(format_name)
                _check_hints(found, hints)
                contents = _checked(found.describe(source, **hints), source)
                # A sidecar that was read belongs to the file that the path leads to now.
                if found.describes_itself or source.is_current():
                    return Found(file, source, found, contents)
            except FormatError:
                if source.is_current():
                    raise
        except BaseException:
            file.abandon()
            raise
        file.abandon()
    raise OSError(errno.EBUSY, f"The file was replaced {TRIES} times while it was opened", path)


def _checked(contents: Contents, source: Source) -> Contents:
    for member in contents.members.values():
        if member.obstacle is None and not member.lies_inside(source.size):
            member.layout(source)
    return contents


def chosen(contents: Contents, path: object, key: str | None) -> Member:
    """The member of a name, or the only one; MemberError where that is not clear."""
    if key is None and len(contents.members) == 1:
        (member,) = contents.members.values()
        return member
    if key is None and not contents.members:
        raise FormatError(path, None, None, "it holds no arrays", "Look at it with ndfile.info.")
    if key is None or key not in contents.members:
        raise MemberError(path, key, tuple(contents.members))
    return contents.members[key]


def _check_hints(found: Format, hints: dict[str, Any]) -> None:
    unknown = [name for name in hints if name not in found.hints]
    if unknown:
        raise LayoutError(
            f"format {found.name!r} takes no {', '.join(unknown)}",
            f"It takes {', '.join(found.hints)}." if found.hints else "The file says it itself.",
        )


def _refuse_writing(source: Source, member: Member) -> None:
    if member.read_only is not None:
        raise source.broken(
            f"{member.read_only}, which a change in place would break",
            member=member.name,
            advice="Open it with mode='c' to change memory only, or convert it with ndfile.convert.",
        )
