"""Regions of an array read from its file and written to it, by a reference to the whole. No map outlives a call.

What a process reads by a descriptor counts for it once, as the array that is made; through a map the pages of the file
would count as well, though the kernel can take them back at any time. Who watches a process's memory cannot tell them.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ndfile.errors import LayoutError
from ndfile.ref import this_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.ref import ArrayRef

__all__ = ["part_of", "read", "write"]

# Runs of bytes that are shorter cost more to call for than to look up in a map.
LEAST_RUN_NBYTES = 16 << 10

# So much is asked for at a time.
ASKED_NBYTES = 16 << 20

# From so much on the kernel reads ahead by itself.
READAHEAD_NBYTES = 1 << 20

# So much of a file is mapped pages at most, where it is read or written through a map.
MAPPED_NBYTES = 64 << 20


class Runs(NamedTuple):
    """A view in the order of the file: axes by falling stride, none of them backwards.

    Attributes
    ----------
    axes : tuple of int
        The view's axes in that order.
    is_flipped : tuple of bool
        Of each of them, whether the view has it backwards.
    start : int
        Where in the file it begins.
    shape, strides : tuple of int
    outer : int
        How many of the axes have to be gone through; the rest is one run of bytes.
    nbytes : int
        Of a run.
    """

    axes: tuple[int, ...]
    is_flipped: tuple[bool, ...]
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    outer: int
    nbytes: int

    @classmethod
    def of(cls, ref: ArrayRef) -> Runs:
        """The runs of a reference's view."""
        axes = tuple(sorted(range(len(ref.shape)), key=lambda axis: -abs(ref.strides[axis])))
        shape = tuple(ref.shape[axis] for axis in axes)
        signed = [ref.strides[axis] for axis in axes]
        back = [stride * (length - 1) for stride, length in zip(signed, shape, strict=True) if stride < 0 and length]
        strides = tuple(map(abs, signed))
        outer, nbytes = len(shape), ref.dtype.itemsize
        while outer and (strides[outer - 1] == nbytes or shape[outer - 1] == 1):
            outer -= 1
            nbytes *= shape[outer]
        flips = tuple(stride < 0 for stride in signed)
        return cls(axes, flips, ref.offset + sum(back), shape, strides, outer, nbytes)

    @property
    def are_long(self) -> bool:
        """Whether to call for each of them."""
        return self.outer == 0 or self.nbytes >= LEAST_RUN_NBYTES

    @property
    def at_once(self) -> int:
        """How many of them to ask for before the first is read."""
        return max(ASKED_NBYTES // self.nbytes, 1) if self.nbytes else 1

    def offsets(self) -> Iterator[int]:
        """Where in the file each run begins."""
        for index in np.ndindex(self.shape[: self.outer]):
            yield self.start + sum(i * stride for i, stride in zip(index, self.strides, strict=False))

    def in_order(self, array: np.ndarray) -> np.ndarray:
        """A view of an array as the file has it."""
        return array.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)]

    def as_seen(self, array: np.ndarray) -> np.ndarray:
        """The opposite."""
        seen = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)]
        return seen.transpose(np.argsort(self.axes)) if self.axes != tuple(range(len(self.axes))) else seen


def part_of(ref: ArrayRef, index: Any) -> ArrayRef:
    """The reference to a basic slice of a reference's view. Opens nothing."""
    # NumPy works it out, on an array that is nowhere: of basic slices nothing is read.
    whole = as_strided(np.empty((), ref.dtype), ref.shape, ref.strides)
    part = whole[(*index, ...) if isinstance(index, tuple) and ... not in index else index]
    offset = part.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return replace(ref, offset=ref.offset + offset, shape=part.shape, strides=part.strides)


def read(ref: ArrayRef, index: Any = ()) -> np.ndarray:
    """Read items into a new plain array.

    The file is compared with the reference when it is opened, and once more when all is read: StaleFileError where it
    was changed meanwhile, instead of a mixture.
    """
    if not _is_basic(index):
        with ref.open("r") as view:
            chosen = np.array(view[index], copy=None, subok=False)
        ref._check_unchanged()
        return chosen
    part = part_of(ref, index if isinstance(index, tuple) else (index,))
    runs = Runs.of(part)
    array = np.empty(runs.shape, ref.dtype)
    if runs.are_long:
        _read_runs(part, runs, array)
    elif array.size:
        _read_through_map(part, runs, array)
    return runs.as_seen(array)


def write(ref: ArrayRef, index: Any, block: np.ndarray) -> None:
    """Write a block into its place. On another host than the reference's it is on the disk when this returns.

    Writing it once more, or at the same time, changes nothing.
    """
    part = part_of(ref, index if isinstance(index, tuple) else (index,))
    if block.shape != part.shape:
        problem = f"write {ref.path!r}: a block of shape {block.shape} was made for a region of {part.shape}"
        raise LayoutError(problem, "Correct the shape that the array says.")
    if not np.can_cast(block.dtype, ref.dtype, "same_kind"):
        problem = f"write {ref.path!r}: a block of {block.dtype} was made for an array of {ref.dtype}"
        raise LayoutError(problem, "Correct the dtype that the array says, or pass dtype=.")
    if not block.size:
        return
    runs = Runs.of(part)
    in_order = runs.in_order(block)
    is_here = ref.host == this_host()
    # Pages of a map are written back as a whole: two hosts that share one would undo each other's work.
    if not runs.are_long and is_here:
        _write_through_map(part, runs, in_order)
        return
    _write_runs(part, runs, np.ascontiguousarray(in_order, ref.dtype), sync=not is_here)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or isinstance(part, slice) or _is_number(part) for part in parts)


def _is_number(part: Any) -> bool:
    return isinstance(part, Integral) and not isinstance(part, bool)


def _read_runs(ref: ArrayRef, runs: Runs, array: np.ndarray) -> None:
    file = ref._opened("r", ref._end())
    try:
        memory = array.reshape(-1).view(np.uint8).data
        if runs.nbytes >= READAHEAD_NBYTES:
            os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        for batch in _batches(runs):
            if runs.nbytes < READAHEAD_NBYTES:
                for _, offset in batch:  # the device gets all of them to do at once
                    os.posix_fadvise(file.fd, offset, runs.nbytes, os.POSIX_FADV_WILLNEED)
            for start, offset in batch:
                _fill(file.fd, memory[start : start + runs.nbytes], offset, ref)
        ref._check_unchanged(file.fd)
    finally:
        file.abandon()


def _batches(runs: Runs) -> Iterator[list[tuple[int, int]]]:
    """The runs, some MiB at a time: where each begins in memory, and in the file."""
    offsets = enumerate(runs.offsets())
    while batch := [(number * runs.nbytes, offset) for number, offset in itertools.islice(offsets, runs.at_once)]:
        yield batch


def _fill(fd: int, memory: memoryview, offset: int, ref: ArrayRef) -> None:
    done = 0
    while done < len(memory):
        count = os.preadv(fd, [memory[done:]], offset + done)
        if not count:
            ref._check_unchanged(fd)  # says so, if the file was cut
            raise OSError(
                errno.EIO, f"The file ends at byte {offset + done}, {len(memory) - done} bytes short", ref.path
            )
        done += count


def _write_runs(ref: ArrayRef, runs: Runs, array: np.ndarray, sync: bool) -> None:
    file = ref._opened("r+", ref._end())
    try:
        memory = array.reshape(-1).view(np.uint8).data
        for number, offset in enumerate(runs.offsets()):
            run, done = memory[number * runs.nbytes : (number + 1) * runs.nbytes], 0
            while done < len(run):
                done += os.pwrite(file.fd, run[done:], offset + done)
        if sync:
            os.fdatasync(file.fd)
    finally:
        file.abandon()


def _read_through_map(ref: ArrayRef, runs: Runs, array: np.ndarray) -> None:
    with ref.open("r") as view:
        mapped: Any = runs.in_order(view)
        for piece in _pieces(runs):
            mapped[piece].prefetch()
            array[piece] = mapped[piece]
            mapped._mmap.madvise(mmap.MADV_DONTNEED)
    ref._check_unchanged()


def _write_through_map(ref: ArrayRef, runs: Runs, array: np.ndarray) -> None:
    with ref.open("r+") as view:
        mapped: Any = runs.in_order(view)
        for piece in _pieces(runs):
            mapped[piece] = array[piece]
            mapped._mmap.madvise(mmap.MADV_DONTNEED)  # they stay in the page cache


def _pieces(runs: Runs) -> Iterator[tuple[Any, ...]]:
    """Slices of the view in the file's order, each of which has so many bytes from its first to its last."""
    axis = next((axis for axis, length in enumerate(runs.shape) if length > 1), None)
    step = 0 if axis is None else runs.strides[axis]
    if axis is None or not step:
        yield (...,)
        return
    count = max(MAPPED_NBYTES // step, 1)
    before = (slice(None),) * axis
    for start in range(0, runs.shape[axis], count):
        yield (*before, slice(start, start + count))
