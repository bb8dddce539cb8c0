"""The errors that ndfile raises by itself.

Everything else is what Python and the system raise: TypeError for an argument of the wrong kind, OSError with the
system's own number for a file that cannot be opened, extended or written::

    Exception
    └── NdfileError
        ├── LayoutError   (ValueError)   no file could hold what was asked for
        ├── SizeError     (ValueError)   this file cannot
        └── ClosedError   (ValueError)   the array's mapping is closed

Each keeps the facts that its sentence names as attributes.
"""

from __future__ import annotations

__all__ = ["ClosedError", "LayoutError", "NdfileError", "SizeError"]


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
    path : str
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
    path: str
    array: str
    offset: int
    needed: int | None
    size: int
    itemsize: int

    def sentence(self) -> str:
        problem, advice = self._explain()
        return f"open {self.path!r}: {problem}. Nothing was changed. {advice}"

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


class ClosedError(NdfileError, ValueError):
    """An array whose mapping is closed.

    Attributes
    ----------
    act : str
        What was wanted: "read", "write", "flush".
    path : str, pathlib.Path or None
        The file.
    """

    facts = ("act", "path")
    act: str
    path: object

    def sentence(self) -> str:
        return f"{self.act} {str(self.path)!r}: the mapping is closed. Nothing was changed. Open the file again."
