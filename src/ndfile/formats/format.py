"""What a file format is here: a class that says where in a file its arrays lie. It opens and maps nothing itself."""

from __future__ import annotations

import errno
import importlib
import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ndfile.errors import FormatError, LayoutError, LibraryError
from ndfile.files.durable import leads_to
from ndfile.layout import MOST_DIMENSIONS, Layout
from ndfile.stream import pour, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np

    from ndfile.stream import Stream

__all__ = ["Contents", "Counter", "Format", "Member", "Plan", "Source"]

# What `Source.head` reads: the magic numbers of every format are in here, and most single-array headers are as a whole.
HEAD_NBYTES = 4096
BLOCK_NBYTES = 512


class Source:
    """The bytes of an open file, for a format to read its headers from.

    Attributes
    ----------
    path : str or pathlib.Path
        Absolute, for messages and for what stands beside the file.
    size : int
        Bytes of the file when it was opened.
    head : bytes
        Its first 4096 bytes, or all of them.
    """

    __slots__ = ("_block", "_block_offset", "_fd", "head", "path", "size")

    def __init__(self, fd: int, path: Any, size: int) -> None:
        self._fd = fd
        self.path = path
        self.size = size
        self.head = self._block = os.pread(fd, HEAD_NBYTES, 0)
        self._block_offset = 0

    def read(self, offset: int, nbytes: int, member: str | None = None) -> bytes:
        """Read exactly `nbytes` from `offset`; FormatError where the file ends before.

        Whoever takes `nbytes` from the file checks that it is small first.
        """
        if offset < 0 or nbytes < 0 or offset + nbytes > self.size:
            raise self.broken(
                f"{nbytes} bytes should follow byte {offset}, the file has {self.size}", offset=offset, member=member
            )
        start = offset - self._block_offset
        if start < 0 or start + nbytes > len(self._block):
            # A little more than asked for: what a format wants next mostly stands behind it.
            self._block = os.pread(self._fd, max(nbytes, BLOCK_NBYTES), offset)
            self._block_offset, start = offset, 0
            if len(self._block) < nbytes:
                end = offset + len(self._block)
                raise self.broken("the file was cut while it was opened", offset=end, member=member)
        return self._block[start : start + nbytes]

    def status(self) -> os.stat_result:
        """The open file's `os.stat_result`."""
        return os.fstat(self._fd)

    def is_current(self) -> bool:
        """Tell whether the path still names the open file."""
        return leads_to(self.path, self._fd)

    def reopen(self) -> BinaryIO:
        """Open the same file again for a library to read, with a position of its own; the caller closes it."""
        return open(self.reopened_path, "rb")

    @property
    def reopened_path(self) -> str:
        """A path that leads to the same file as long as it is open, whatever its name leads to meanwhile."""
        path = f"/proc/self/fd/{self._fd}"
        return path if os.path.exists(path) else os.fspath(self.path)

    def broken(
        self, problem: str, *, offset: int | None = None, member: str | None = None, advice: str | None = None
    ) -> FormatError:
        """Make the error to raise for a file that breaks its format's rules. `problem` has no final stop."""
        if len(problem) > 600:  # dtypes and shapes may be long
            problem = f"{problem[:400]} ... {problem[-100:]}"
        return FormatError(
            self.path, member, offset, problem, advice or "Restore the file from where it came, or make it anew."
        )

    @contextmanager
    def parsed_by(self, library: str) -> Iterator[None]:
        """Turn whatever a library raises over the file's bytes into `FormatError`."""
        try:
            yield
        except (FormatError, LibraryError):
            raise
        except OSError as error:
            if error.errno == errno.EIO:  # the device, not the file
                raise
            raise self._unreadable(library, error) from error
        except Exception as error:
            raise self._unreadable(library, error) from error

    def _unreadable(self, library: str, error: Exception) -> FormatError:
        text = " ".join(str(error).split())[:200].rstrip(".")
        return self.broken(f"{library} cannot read it ({type(error).__name__}: {text})")


class Member(NamedTuple):
    """One array in a file.

    Attributes
    ----------
    name : str
        Its key; the format's own path or number of it.
    dtype : numpy.dtype
        With the file's byte order. For a member with an `obstacle`, that of the decoded values; of width 0 where the
        file does not tell.
    shape : tuple of int
    offset : int or None
        The first byte of its data, counted from the file's beginning. None where the bytes cannot be mapped.
    order : {'C', 'F'}
    obstacle : str or None
        Why the bytes cannot be mapped, for a sentence: "it is compressed (deflate)".
    way_out : str or None
        What to do about the obstacle, a sentence; by default that `ndfile.convert` copies it into a file that can be.
    read_only : str or None
        Why the bytes must not be changed in place, for a sentence: "zip keeps a checksum of every member".
    metadata : mapping
        What the file says about this array, in values that JSON knows.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int | None
    order: str = "C"
    obstacle: str | None = None
    way_out: str | None = None
    read_only: str | None = None
    metadata: Mapping[str, Any] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize

    def lies_inside(self, size: int) -> bool:
        """True if it surely is an array inside a file of `size` bytes; what is not sure, `layout` finds out."""
        dtype, shape, offset = self.dtype, self.shape, self.offset
        return (
            offset is not None
            and offset >= 0
            and len(shape) <= MOST_DIMENSIONS
            and (not shape or min(shape) >= 0)
            and 0 < math.prod(shape) * dtype.itemsize <= size - offset
            and not dtype.hasobject
            and dtype.subdtype is None
        )

    def refusal(self, source: Source) -> FormatError:
        """The error of a member that cannot be mapped."""
        return source.broken(
            f"{self.obstacle}, so that it cannot be mapped",
            member=self.name,
            advice=self.way_out or "Copy it into a file that can be: ndfile.convert(source, destination).",
        )

    def layout(self, source: Source) -> Layout:
        """The member as a range of bytes; FormatError where the file cannot hold it, or its bytes cannot be mapped."""
        if self.obstacle is not None or self.offset is None:
            raise self.refusal(source)
        if len(self.shape) > MOST_DIMENSIONS:  # before anybody multiplies them
            raise source.broken(f"it has {len(self.shape)} dimensions, an array at most 64", member=self.name)
        try:
            layout = Layout(self.dtype, self.shape, self.offset, self.order)
        except (LayoutError, TypeError) as error:
            problem = error.problem if isinstance(error, LayoutError) else str(error)
            raise source.broken(problem, member=self.name) from None
        if layout.end > source.size:
            raise source.broken(
                f"{layout} needs {layout.nbytes} bytes from byte {self.offset}, the file has "
                f"{max(source.size - self.offset, 0)} there",
                offset=self.offset,
                member=self.name,
            )
        return layout


class Contents(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    members : mapping of str to Member
        In the file's order.
    is_archive : bool
        Whether opening the file gives an `Archive`, or its one array at once.
    metadata : mapping
        What the file says about itself, in values that JSON knows.
    notes : tuple of str
        What a user should know: "48 bytes follow the array". Shown by `info`.
    """

    members: Mapping[str, Member]
    is_archive: bool
    metadata: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()


class Plan(NamedTuple):
    """A file that is to be made: where its data goes, and what stands around it.

    Attributes
    ----------
    size : int
        Bytes of the whole file; less where only writing tells.
    members : mapping of str to Member
        With an offset of None where only writing tells.
    parts : tuple of (int, bytes)
        Headers, each with its offset.
    """

    size: int
    members: Mapping[str, Member]
    parts: tuple[tuple[int, bytes], ...]


class Counter(NamedTuple):
    """Where a header says how many rows its array has.

    Attributes
    ----------
    head : bytes
        The whole header, of the length that it has in the file; it may have been put into another form.
    end : int
        One past the number's last digit, a multiple of 8.
    digits : int
        The longest number that fits; spaces stand before a shorter one.
    rows : int
        The number now.
    """

    head: bytes
    end: int
    digits: int
    rows: int


class Format:
    """A file format. Subclass it, and name the subclass in the entry-point group ``ndfile.formats``.

    A format that only reads has `name`, `suffixes`, `recognises` and `describe`. One that writes has `plan` as well,
    and `write` if its headers depend on the data.
    Everything that a method raises over a file's bytes is a `FormatError`; `Source` helps with that.

    Attributes
    ----------
    name : str
        Short and lower case, as in ``ndfile.open(path, format="npy")``.
    suffixes : tuple of str
        Lower case, with the dot. Tells the format for a file to be written, and of one whose content does not tell.
    hints : tuple of str
        Keyword arguments of `ndfile.open` that `describe` takes.
    is_archive : bool
        Whether the files that `plan` or `write` makes hold several arrays by name.
    orders : tuple of str
        Those that can be written.
    metadata_nbytes : int
        How much metadata can be written, as JSON.
    describes_itself : bool
        False for a format with a sidecar.
    grows : {None, "header", "size"}
        How files say how many rows their array has, if it can grow: by a number in the header, where `counter` finds
        it, or by their size.
    has_checksums : bool
        Whether `decode` compares checksums, so that `ndfile.convert` uses it for every member.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    is_archive: bool = False
    orders: tuple[str, ...] = ("C", "F")
    metadata_nbytes: int = 0
    describes_itself: bool = True
    grows: str | None = None
    has_checksums: bool = False

    def recognises(self, source: Source) -> bool:
        """Tell from the content, mostly `source.head`, whether the file is of this format."""
        raise NotImplementedError

    def describe(self, source: Source, **hints: Any) -> Contents:
        """Say what the file holds, from its headers alone.

        Whoever asks checks that every member lies inside the file, and turns sizes that no array can have into
        errors; rules of the format's own (overlaps, gaps, versions) are checked here.
        """
        raise NotImplementedError

    def decode(self, source: Source, member: Member) -> Iterable[np.ndarray]:
        """Give the values of a member that cannot be mapped, as arrays of at most a few MiB, in `member.order`.

        Their bytes, one after the other, are those of the whole array. Used by `ndfile.convert`.
        """
        raise source.broken(
            f"{member.obstacle}, and ndfile cannot decode that",
            member=member.name,
            advice=member.way_out or "Convert it with a program of the format's own.",
        )

    def plan(self, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> Plan:
        """Lay out a file for arrays of these types, shapes and orders. Reads nothing of their data.

        LayoutError for what the format cannot hold.
        """
        raise LayoutError(f"format {self.name!r} is read only here", "Write .npy, .npz, .safetensors or .bin.")

    def aligned(self, plan: Plan, nbytes: int) -> Plan:
        """The same plan with its first array at a multiple of so many bytes, where the format has room for that."""
        return plan

    def counter(self, head: bytes, order: str) -> Counter:
        """Find the number of rows in a header: the first size of order 'C', the last one of 'F'.

        Only for formats that grow by the header. ValueError, with a sentence, for a header without room for it;
        SyntaxError for one that makes no sense.
        """
        raise NotImplementedError

    def sidecar(
        self, plan: Plan, path: str = "", inode: int | None = None, old_inode: int | None = None
    ) -> bytes | None:
        """The content of the file `path`, with the same name and ``.json``, for a format that does not describe itself.

        While a file is replaced, `inode` is the new one's number and `old_inode` that of the one which it replaces.
        """

    def write(self, fd: int, streams: Mapping[str, Stream], metadata: Mapping[str, Any]) -> None:
        """Write a whole file into an empty one. Only for formats whose headers depend on the data."""
        plan = self.plan(streams, metadata)
        for offset, part in plan.parts:
            write_all(fd, part, offset)
        for name, stream in streams.items():
            start = plan.members[name].offset
            assert start is not None
            pour(stream, fd, start)


def require(library: str, extra: str, need: str) -> Any:
    """Import a library that is an extra, or raise `LibraryError` with the line that installs it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == library.partition(".")[0]:
            raise LibraryError(library, extra, need) from None
        raise
