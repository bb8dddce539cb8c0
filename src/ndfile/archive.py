"""Archive: the arrays of a file that holds several."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from typing import TYPE_CHECKING, Any

from ndfile.array import above, array_over, memmap
from ndfile.errors import ClosedError, MemberError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from ndfile._core import Mapping as FileMapping
    from ndfile.formats import Contents, Source

__all__ = ["Archive"]


class Archive(AbstractMapping[str, memmap[Any, Any]]):
    """The arrays of one file, by name: what `ndfile.open` gives for `.npz`, `.safetensors`, HDF5 and their like.

    A read-only mapping (`keys`, ``[]``, `items`, ``len``, ``in``) of names to `memmap` arrays. The file is mapped once;
    asking for a member reads nothing and copies nothing. All members share that mapping: closing the archive, or any
    member, closes them all.

    Attributes
    ----------
    filename : str or pathlib.Path
        Absolute path of the file.
    mode : {'r', 'c', 'r+'}
    format : str
        Name of the file's format.
    metadata : mapping
        What the file says about itself.
    closed : bool

    See Also
    --------
    ndfile.open, numpy.load

    Notes
    -----
    Cost: opening reads the headers; a member costs a few microseconds, whatever its size.

    Platforms: Linux.

    Threads: an archive can be used by several at once.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, bias=np.arange(3), kernel=np.eye(2))
    >>> weights = nf.open(path)
    >>> weights
    <Archive weights.npz: npz, 2 members, mode 'r'>
    >>> list(weights)
    ['bias', 'kernel']
    >>> weights["kernel"]
    memmap([[1., 0.],
            [0., 1.]])
    >>> weights.close()
    """

    __slots__ = ("_mapping", "_members", "_source", "format", "metadata")

    def __init__(
        self,
        mapping: FileMapping,
        source: Source,
        contents: Contents,
        format_name: str,
    ) -> None:
        self._mapping = mapping
        self._source = source
        self._members = contents.members
        self.metadata: Mapping[str, Any] = contents.metadata
        self.format = format_name

    def __getitem__(self, key: str) -> memmap[Any, Any]:
        mapping = self._mapping
        if mapping.closed:
            raise ClosedError("read", self.filename, 0, "closed")
        member = self._members.get(key)
        if member is None or member.offset is None:
            raise self._refusal(key)
        return array_over(mapping, member, member.offset)

    def _refusal(self, key: object) -> Exception:
        member = self._members.get(key) if isinstance(key, str) else None
        return MemberError(self.filename, key, tuple(self._members)) if member is None else member.refusal(self._source)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        name = str(self.filename).rpartition("/")[2]
        state = "closed" if self.closed else f"mode {self.mode!r}"
        return f"<Archive {name}: {self.format}, {len(self)} member{'s'[: len(self) != 1]}, {state}>"

    def _repr_html_(self) -> str:
        """What notebooks show: the members, and how much of each is in memory. No page of them is read."""
        found: str = above("pictures.notebook").html_of_archive(self)
        return found

    def __enter__(self) -> Self:
        if self.closed:
            raise ClosedError("enter", self.filename, 0, "closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def filename(self) -> Any:
        """Absolute path of the file."""
        return self._mapping.filename

    @property
    def mode(self) -> str:
        """The short name of the mode."""
        return self._mapping.mode

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._mapping.closed

    def flush(self) -> None:
        """Write the changed pages of all members to the disk, and wait for it."""
        self._mapping.flush()

    def close(self) -> None:
        """Flush, and give back the file and its memory, now.

        Using a member afterwards raises `ClosedError`. Closing again does nothing.
        """
        self._mapping.close()
