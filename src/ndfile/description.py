"""What a file holds, in words and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ndfile.dtypes import descr_of
from ndfile.errors import FormatError, LayoutError
from ndfile.files import journal
from ndfile.layout import LIMIT
from ndfile.reading import look

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np

    from ndfile.files.file import File
    from ndfile.formats import Member

__all__ = ["PENDING", "Info", "info"]

MOST_LINES = 20

# Notes on a commit that is pending, by its state.
PENDING = {
    "of another file": "beside it is the journal of another file; see ndfile.recover",
    "being completed": "a commit to it is being completed",
    "interrupted": "a commit to it was interrupted; complete it with ndfile.recover",
}


@dataclass(frozen=True)
class Info:
    """What a file holds; see `ndfile.info`.

    Attributes
    ----------
    path : str or pathlib.Path
        Absolute.
    format : str
        Name of the format.
    size : int
        Bytes of the whole file.
    is_archive : bool
        Whether `ndfile.open` gives an `Archive`.
    members : mapping of str to Member
        Every array with its name, dtype, shape, order, offset and nbytes; `obstacle` says why one cannot be mapped, and
        `read_only` why one cannot be changed in place.
    metadata : mapping
        What the file says about itself.
    notes : tuple of str
        What is odd about it.
    """

    path: Any
    format: str
    size: int
    is_archive: bool
    members: Mapping[str, Member]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a file of one array."""
        return self._only().dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a file of one array."""
        return self._only().shape

    @property
    def order(self) -> str:
        """The order of a file of one array."""
        return self._only().order

    @property
    def offset(self) -> int | None:
        """Where the data of a file of one array begins, in bytes."""
        return self._only().offset

    def to_dict(self) -> dict[str, Any]:
        """Everything in values that JSON knows."""
        values = vars(self) | {"path": str(self.path), "notes": list(self.notes), "metadata": dict(self.metadata)}
        values["members"] = {name: _member_to_dict(member) for name, member in self.members.items()}
        return values

    def __repr__(self) -> str:
        lines = [f"{self.path}: {self.format}, {self.size:,} bytes"]
        shown = list(self.members.values())[: MOST_LINES if len(self.members) > MOST_LINES + 1 else None]
        width = max((len(_name(one)) for one in shown), default=0) if self.is_archive else 0
        lines += [f"  {_name(one):<{width}}  {_line(one)}" if width else f"  {_line(one)}" for one in shown]
        if len(shown) < len(self.members):
            lines.append(f"  ... and {len(self.members) - len(shown):,} more")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _only(self) -> Member:
        if len(self.members) != 1:
            raise ValueError(f"info {str(self.path)!r}: it holds {len(self.members)} arrays. Ask .members[name].")
        (member,) = self.members.values()
        return member


def info(path: str | bytes | os.PathLike[Any], *, format: str | None = None, **hints: Any) -> Info:
    """Describe a file of arrays from its headers, without touching its data.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    format : str, optional
        Take the file for one of this format, whatever it looks like.
    **hints
        As for `ndfile.open`.

    Returns
    -------
    Info

    Raises
    ------
    FormatError, LibraryError, LayoutError, OSError
        As `ndfile.open` does; but an interrupted commit is a note, unless the header is part of it, and a member that
        cannot be mapped is described all the same.

    See Also
    --------
    ndfile.open

    Notes
    -----
    Cost: that of opening.

    Platforms: Linux.

    Threads: safe.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> np.save("x.npy", np.zeros((1000, 3), "float32"))
    >>> about = nf.info("x.npy")
    >>> about.shape, about.dtype, about.order, about.offset
    ((1000, 3), dtype('float32'), 'C', 128)
    """
    try:
        file, _, found, contents = look(path, "r", format, hints, settles=False)
    except FormatError:
        look(path, "r", format, hints)[0].abandon()  # NeedsRecoveryError if half a commit is what is wrong with it
        raise
    try:
        notes = contents.notes + _pending(file)
    finally:
        file.abandon()
    return Info(file.name, found.name, file.size, contents.is_archive, contents.members, contents.metadata, notes)


def _pending(file: File) -> tuple[str, ...]:
    note = PENDING.get(journal.state_of(file.fd, file.name) or "")
    return () if note is None else (note,)


def _name(member: Member) -> str:
    text = repr(member.name)
    return text if len(text) <= 60 else f"{text[:56]}...{text[0]}"


def _line(member: Member) -> str:
    place = f"at byte {member.offset:,}" if member.offset is not None else f"not mappable: {member.obstacle}"
    order = ", order F" if member.order == "F" and len(member.shape) > 1 else ""
    what = f"{member.dtype} {member.shape}" if member.dtype.itemsize else "?"
    return f"{what}{order}, {_bytes(member.nbytes)}, {place}{', read only' if member.read_only else ''}"


def _bytes(count: int) -> str:
    if count < 1024:
        return f"{count} bytes"
    if count > LIMIT:  # objects, which have no size that the file could break
        return "more bytes than a file can have"
    step = min(int(math.log2(count) / 10), 5)
    return f"{count / 1024**step:.4g} {'KMGTP'[step - 1]}iB"


def _member_to_dict(member: Member) -> dict[str, Any]:
    values = member._asdict() | {"shape": list(member.shape), "nbytes": member.nbytes}
    try:
        values["dtype"] = descr_of(member.dtype)
    except LayoutError:  # its bytes cannot be mapped either
        values["dtype"] = str(member.dtype)
    values["metadata"] = dict(member.metadata)
    return values
