"""What came of comparing a file with its checksums."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ndfile.integrity.checksums import Checksums
    from ndfile.layout import Layout

__all__ = ["Damage", "Rows", "Verification"]

# Lines of a table that a terminal shows at once, and arrays in one of them.
MOST_LINES = 20
MOST_ARRAYS = 3


class Damage(NamedTuple):
    """A run of adjacent blocks that are not what they were.

    Attributes
    ----------
    blocks : range
        Their numbers.
    bytes : range
        Of the file; what is missing of a file that is too short counts where it was.
    is_missing : bool
        Whether the file ends before or inside the first of them.
    rows : dict of str to range
        The rows that lie in them, by the name of the array: indices along the first axis for C order, along the last
        for Fortran order.
    """

    blocks: range
    bytes: range
    is_missing: bool
    rows: dict[str, range]

    @classmethod
    def of(
        cls, blocks: range, is_missing: bool, sums: Checksums, rows_in: Callable[[int, int], dict[str, range]]
    ) -> Damage:
        """The damage of these blocks."""
        start, stop = blocks.start * sums.block_nbytes, min(blocks.stop * sums.block_nbytes, sums.size)
        return cls(blocks, range(start, stop), is_missing, rows_in(start, stop))

    def __str__(self) -> str:
        rows = ", ".join(f"rows {_slice(rows)} of {name!r}" for name, rows in list(self.rows.items())[:MOST_ARRAYS])
        more = f" and of {len(self.rows) - MOST_ARRAYS} more" if len(self.rows) > MOST_ARRAYS else ""
        what = "missing" if self.is_missing else "differ"
        return f"blocks {_slice(self.blocks)} {what}: bytes {_slice(self.bytes)}{rows and f', {rows}'}{more}"


@dataclass(frozen=True, slots=True, repr=False)
class Verification:
    """What came of comparing a file with its checksums. True as a condition if the file is whole.

    Attributes
    ----------
    path : str
        The file.
    checksums_path : str
        The file of its checksums.
    algorithm : str
    block_nbytes : int
        Bytes of a block.
    expected_size : int
        Bytes that the file had when it was hashed.
    size : int
        Bytes that it has now.
    was_written : bool
        Whether the file's time of change is another one than when it was hashed: then somebody wrote to it, or copied
        it. Damages of a file that nobody wrote to are the disk's.
    damages : tuple of Damage
        In the file's order. Bytes behind the expected size are none of them: compare the sizes.
    """

    path: str
    checksums_path: str
    algorithm: str
    block_nbytes: int
    expected_size: int
    size: int
    was_written: bool
    damages: tuple[Damage, ...]

    def __bool__(self) -> bool:
        return not self.damages and self.size == self.expected_size

    def __str__(self) -> str:
        count = -(-self.expected_size // self.block_nbytes)
        blocks = f"{count} block{'s'[: count != 1]} of {self.block_nbytes} bytes ({self.algorithm})"
        if self:
            return f"{self.path!r} is whole: {blocks}"
        wrong = sum(len(damage.blocks) for damage in self.damages)
        lines = [f"{self.path!r} is not what it was: {wrong} of {blocks} differ or are missing"]
        if self.size != self.expected_size:
            kind = "longer" if self.size > self.expected_size else "shorter"
            difference = abs(self.size - self.expected_size)
            lines.append(f"  {self.size} bytes, there were {self.expected_size} ({difference} {kind})")
        lines += [f"  {damage}" for damage in self.damages[:MOST_LINES]]
        if len(self.damages) > MOST_LINES:
            lines.append(f"  and {len(self.damages) - MOST_LINES} more")
        written = "somebody wrote to the file" if self.was_written else "nobody is known to have written to the file"
        return "\n".join([*lines, f"  {written} since it was hashed"])

    __repr__ = __str__


def _slice(numbers: range) -> str:
    return f"{numbers.start}:{numbers.stop}"


class Rows:
    """Which rows of which arrays lie in a range of bytes."""

    def __init__(self, layouts: dict[str, Layout]) -> None:
        some = ((name, layout) for name, layout in layouts.items() if layout.nbytes)
        self._layouts = sorted(some, key=lambda item: item[1].offset)
        self._starts = [layout.offset for _, layout in self._layouts]
        # Arrays may share bytes. The largest end so far grows, so that it can be searched too.
        self._ends = list(accumulate((layout.end for _, layout in self._layouts), max))

    def within(self, start: int, stop: int) -> dict[str, range]:
        """The rows of each array that have a byte from `start` to `stop`."""
        found = {}
        for name, layout in self._layouts[bisect_right(self._ends, start) : bisect_left(self._starts, stop)]:
            first, last = max(start, layout.offset) - layout.offset, min(stop, layout.end) - layout.offset
            if first < last:
                row_nbytes = layout.nbytes // _row_count(layout)
                found[name] = range(first // row_nbytes, -(-last // row_nbytes))
        return found


def _row_count(layout: Layout) -> int:
    if not layout.shape:
        return 1
    return layout.shape[0 if layout.order == "C" else -1]
