"""The errors that ndfile raises by itself.

Everything else is what Python and the system raise: TypeError for an argument of the wrong kind, OSError with the
system's own number for a file that cannot be opened, extended or written::

    Exception
    └── NdfileError
        ├── LayoutError        (ValueError)   no file could hold what was asked for
        ├── SizeError          (ValueError)   this file cannot
        ├── FormatError        (ValueError)   the file is not what its format wants, or its bytes cannot be mapped
        ├── MemberError        (KeyError)     the file has no array of that name
        ├── LibraryError       (ImportError)  a library that reads the format is not installed
        ├── ClosedError        (ValueError)   the array's mapping is closed
        ├── ReadOnlyError      (ValueError)   a write went through a map that only reads
        ├── AtomicLimitError   (MemoryError)  an atomic block has changed more than it may
        ├── FaultError         (OSError)      the file was cut, the device failed or the disk is full
        ├── LockedError        (OSError)      somebody else holds a lock on the file
        ├── StaleFileError     (OSError)      the file is not the one that a reference was made of
        └── NeedsRecoveryError (OSError)      a commit to the file was interrupted

    UserWarning
    ├── CopyWarning          many bytes were copied where a reference would do
    └── TruncationWarning    a file was truncated under its other readers

Each keeps the facts that its sentence names as attributes.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EIO, ENODATA, ENOSPC, ESTALE, EUCLEAN

__all__ = [
    "AtomicLimitError",
    "ClosedError",
    "CopyWarning",
    "FaultError",
    "FormatError",
    "LayoutError",
    "LibraryError",
    "LockedError",
    "MemberError",
    "NdfileError",
    "NeedsRecoveryError",
    "ReadOnlyError",
    "SizeError",
    "StaleFileError",
    "TruncationWarning",
]


def _quoted(path: object) -> str:
    return "a file without a name" if path is None else repr(str(path))


class NdfileError(Exception):
    """Base of the errors below. The constructor's arguments are the facts, in the order of `facts`."""

    facts: tuple[str, ...] = ()

    def __init__(self, *facts: object) -> None:
        for name, fact in zip(self.facts, facts, strict=True):
            setattr(self, name, fact)
        super().__init__(*facts)

    def sentence(self) -> str:
        """Say what happened, from the facts."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.sentence()

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), tuple(getattr(self, name) for name in self.facts)


class LayoutError(NdfileError, ValueError):
    """A dtype, shape, offset, order or mode that no file could satisfy.

    Attributes
    ----------
    problem : str
        What is wrong, with the value that was given.
    advice : str
        What would work.
    """

    facts = ("problem", "advice")
    problem: str
    advice: str

    def sentence(self) -> str:
        return f"{self.problem}. Nothing was changed. {self.advice}"


class SizeError(NdfileError, ValueError):
    """A file whose size does not fit the array.

    Attributes
    ----------
    path : str, pathlib.Path or None
        The file.
    array : str
        dtype and shape of the array, as far as they were given.
    offset : int
        Where the array was to start, in bytes.
    needed : int or None
        Bytes from `offset` that the array needs; None where the shape was to be inferred from the size.
    size : int
        Bytes in the whole file.
    itemsize : int
        Bytes of one item.
    """

    facts = ("path", "array", "offset", "needed", "size", "itemsize")
    path: object
    array: str
    offset: int
    needed: int | None
    size: int
    itemsize: int

    def sentence(self) -> str:
        problem, advice = self._explain()
        return f"open {_quoted(self.path)}: {problem}. Nothing was changed. {advice}"

    def _explain(self) -> tuple[str, str]:
        there = self.size - self.offset
        if self.size == 0:
            return (
                f"{self.array} from offset {self.offset} cannot be mapped, it is an empty file of 0 bytes",
                "Give mode='r+' or 'w+' and a shape to let the file grow.",
            )
        if there < 0:
            return (
                f"{self.array} starts at offset {self.offset}, the file ends at {self.size} ({-there} bytes before it)",
                "Pass a smaller offset, or mode='r+' and a shape to let the file grow.",
            )
        if self.needed is None:
            return (
                f"{there} bytes from offset {self.offset} are no whole number of {self.array} items of "
                f"{self.itemsize} bytes ({there % self.itemsize} left over)",
                "Pass shape to map a part, or the dtype and offset that the file was written with.",
            )
        return (
            f"{self.array} needs {self.needed} bytes from offset {self.offset}, the file has {there} "
            f"({self.needed - there} short)",
            "Pass shape=None to map what is there.",
        )


class FormatError(NdfileError, ValueError):
    """A file that breaks its format's rules, or whose bytes cannot be mapped as they are.

    Attributes
    ----------
    path : str, pathlib.Path or None
        The file.
    member : str or None
        The array in the file that is concerned; None for the file as a whole.
    offset : int or None
        The byte of the file where it shows, where that can be told.
    problem : str
        What is wrong, with the numbers.
    advice : str
        What would work.
    """

    facts = ("path", "member", "offset", "problem", "advice")
    path: object
    member: str | None
    offset: int | None
    problem: str
    advice: str

    def sentence(self) -> str:
        member = "" if self.member is None else f"member {_shortened(self.member)}: "
        place = "" if self.offset is None else f" (at byte {self.offset})"
        return f"open {_quoted(self.path)}: {member}{self.problem}{place}. Nothing was changed. {self.advice}"


class MemberError(NdfileError, KeyError):
    """A file that has no array of the name that was asked for.

    Attributes
    ----------
    path : str, pathlib.Path or None
        The file.
    key : object
        What was asked for.
    names : tuple of str
        What there is.
    """

    facts = ("path", "key", "names")
    path: object
    key: object
    names: tuple[str, ...]

    def sentence(self) -> str:
        from difflib import get_close_matches

        some = get_close_matches(str(self.key)[:99], self.names, 3, 0.5) or self.names[:3]
        there = f"{len(self.names) or 'no'} member{'s'[: len(self.names) != 1]}"
        listed = f"{', '.join(map(_shortened, some))}{' ...' if len(some) < len(self.names) else ''}"
        if self.key is None:
            return f"open {_quoted(self.path)}: it has {there}, and no key was given. Pass key=, such as {listed}"
        advice = f" There is {listed}" if listed else ""
        return f"open {_quoted(self.path)}: {_shortened(self.key)} is not one of its {there}.{advice}"


def _shortened(name: object, most: int = 99) -> str:
    # A name comes from the file, which may be hostile.
    text = repr(name)
    return text if len(text) <= most else f"{text[: most - 4]}...{text[0]}"


class LibraryError(NdfileError, ImportError):
    """A library that reads a format, and is not installed.

    Attributes
    ----------
    library : str
        Its name as a module.
    extra : str
        The extra of ndfile's that brings it.
    need : str
        What it is needed for.
    """

    facts = ("library", "extra", "need")
    library: str
    extra: str
    need: str

    def __init__(self, *facts: object) -> None:
        super().__init__(*facts)
        self.name = self.library

    def sentence(self) -> str:
        return f"{self.need} needs {self.library}, which is not installed. Run: pip install 'ndfile[{self.extra}]'"


def find_asked() -> None:
    """Do nothing: the interpreter raises what a thread was asked to raise when it enters a Python function."""


class _AccessError(NdfileError):
    """An access to a mapping's bytes that failed.

    Made without arguments, as the interpreter does in the thread whose plain view was at fault, it takes the facts
    that the fault handler keeps for that thread.

    Attributes
    ----------
    act : str
        What was wanted: "read", "write", "flush", "access".
    path : str, pathlib.Path or None
        The file.
    offset : int
        The first byte of the file that is concerned.
    cause : str
        "closed", "read-only", "too large", "truncated", "read failed", "disk full" or "shrunk".
    """

    facts = ("act", "path", "offset", "cause")
    act: str
    path: object
    offset: int
    cause: str

    def __init__(self, *facts: object) -> None:
        if not facts:
            from ndfile._core import take_fault

            facts = take_fault() or ("access", None, 0, "unknown")
        super().__init__(*facts)

    def _subject(self) -> str:
        return f"{self.act} {_quoted(self.path)}"


class ClosedError(_AccessError, ValueError):
    """An access to an array whose mapping is closed. The attributes are those of every access error."""

    def sentence(self) -> str:
        return f"{self._subject()}: the mapping is closed. Nothing was changed. Open the file again."


class ReadOnlyError(_AccessError, ValueError):
    """A write through a map that only reads. The attributes are those of every access error."""

    def sentence(self) -> str:
        return (
            f"{self._subject()}: byte {self.offset} was written through a map of mode 'r'. The file was not changed. "
            "Open it with mode='r+' to change it, or mode='c' to change memory only."
        )


class AtomicLimitError(_AccessError, MemoryError):
    """A change in an atomic block beyond its limit. The attributes are those of every access error."""

    def sentence(self) -> str:
        return (
            f"{self._subject()}: the atomic block has changed as many bytes as its limit allows, and cannot be "
            "committed. The file was not changed. Commit smaller parts, or pass a larger limit."
        )


class FaultError(_AccessError, OSError):
    """Bytes that the file, or the device under it, no longer gives or takes.

    Attributes
    ----------
    errno : int
        ENODATA for a file that was cut or an array that was made shorter, EIO for a failed read, ENOSPC for a full
        disk.

    Notes
    -----
    The other attributes are those of every access error.
    """

    def __init__(self, *facts: object) -> None:
        super().__init__(*facts)
        # OSError took the facts for these, and keeps two of them.
        self.args = (self.act, self.path, self.offset, self.cause)
        self.errno = {"truncated": ENODATA, "shrunk": ENODATA, "disk full": ENOSPC}.get(self.cause, EIO)
        self.strerror = os.strerror(self.errno)
        self.filename = self.path

    def sentence(self) -> str:
        problem, advice = {
            "truncated": (
                f"the file was cut while it was mapped, it ends at byte {self.offset}",
                "What was there before is whole; open the file again to map what is left.",
            ),
            "shrunk": (
                f"the array was made shorter, it ends at byte {self.offset} of the file",
                "What comes before is whole; take a new view of the array.",
            ),
            "disk full": (
                f"there was no space on the disk for byte {self.offset}",
                "What was written from there on is lost. Make space, then write it again.",
            ),
        }.get(
            self.cause,
            (
                f"the device could not read byte {self.offset}",
                "What comes before is whole. Check the device, then open the file again.",
            ),
        )
        return f"{self._subject()}: {problem}. {advice}"


class LockedError(NdfileError, BlockingIOError):
    """A file that somebody else has locked. An OSError with the number EAGAIN.

    Attributes
    ----------
    path : str
        The file.
    lock : {'exclusive', 'shared'}
        What was wanted.
    holder : str
        Who has it, as far as the system tells.
    act : str
        What it was wanted for: "open", "append", "resize", "atomic", "recover".
    """

    facts = ("path", "lock", "holder", "act")
    path: str
    lock: str
    holder: str
    act: str

    def __init__(self, path: str, lock: str, holder: str, act: str = "open") -> None:
        super().__init__(path, lock, holder, act)
        # OSError took the facts for these, and keeps two of them.
        self.args = (path, lock, holder, act)
        self.errno, self.strerror, self.filename = EAGAIN, os.strerror(EAGAIN), path

    def sentence(self) -> str:
        advice = (
            "Close it there, or pass a longer lock_timeout_s to wait for that."
            if self.act == "open"
            else "A file has one writer at a time: close it there first."
        )
        return (
            f"{self.act} {self.path!r}: lock={self.lock!r} cannot be had, {self.holder} holds a lock on the file. "
            f"Nothing was changed. {advice}"
        )


class NeedsRecoveryError(NdfileError, OSError):
    """A file with a commit that was interrupted: part of it may be in the file, all of it is in the journal.

    Attributes
    ----------
    path : str
        The file.
    journal : str
        The path of its journal.
    is_foreign : bool
        True if the journal was written for another file: this one is a copy, or has taken its place.
    """

    facts = ("path", "journal", "is_foreign")
    path: str
    journal: str
    is_foreign: bool

    def __init__(self, path: str, journal: str, is_foreign: bool = False) -> None:
        super().__init__(path, journal, is_foreign)
        self.args = (path, journal, is_foreign)
        self.errno, self.strerror, self.filename = EUCLEAN, os.strerror(EUCLEAN), path

    def sentence(self) -> str:
        if self.is_foreign:
            return (
                f"open {self.path!r}: the commit in {self.journal!r} was written for another file. Nothing was "
                "changed. If this file and its journal were copied, call ndfile.recover(path, copied=True); if the "
                "file is a new one, call ndfile.recover(path, copied=False)."
            )
        return (
            f"open {self.path!r}: a commit was interrupted, {self.journal!r} has the rest of it. Nothing was changed. "
            "Call ndfile.recover(path), or open it with mode='r+', to complete it."
        )


class StaleFileError(NdfileError, OSError):
    """A file that is not as it was when a reference was made of it. An OSError with the number ESTALE.

    Attributes
    ----------
    path : str
        The file, where it is here.
    host : str
        Where the reference was made.
    sent : str
        What the file was then.
    found : str
        What it is now, and what follows from that.
    """

    facts = ("path", "host", "sent", "found")
    path: str
    host: str
    sent: str
    found: str

    def __init__(self, path: str, host: str, sent: str, found: str) -> None:
        super().__init__(path, host, sent, found)
        self.args = (path, host, sent, found)
        self.errno, self.strerror, self.filename = ESTALE, os.strerror(ESTALE), path

    def sentence(self) -> str:
        return (
            f"open {self.path!r}: when the reference was made on host {self.host!r}, it had {self.sent}; now it has "
            f"{self.found}. Nothing was opened. Make the reference anew, or open the file by its path."
        )


class CopyWarning(UserWarning):
    """An array on a file was pickled by value, and many bytes were copied."""


class TruncationWarning(UserWarning):
    """Mode 'w+' could not put a new file in the old one's place, and truncates the old one under its other readers."""
