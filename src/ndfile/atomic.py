"""Atomic blocks: changes to a file that are all of them there, or none, whatever happens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ndfile.errors import AtomicLimitError, LayoutError, LockedError
from ndfile.files import journal
from ndfile.files.memory import available_nbytes
from ndfile.growth import Growth, catch_up, way_of, writer_of
from ndfile.rows import axis_of

if TYPE_CHECKING:
    from types import TracebackType

    from ndfile._core import ArrayBase, Mapping

__all__ = ["Atomic", "recover"]


class Atomic:
    """The context of `ndfile.memmap.atomic`."""

    __slots__ = ("_array", "_growth", "_limit", "_mapping", "_process", "_root", "_rows")

    def __init__(self, array: ArrayBase[Any, Any], limit: int | None) -> None:
        mapping = array._mmap
        if mapping is None or mapping.filename is None:
            raise LayoutError("atomic: the array has no file with a name", "Open it by its path.")
        if limit is not None and limit < 0:
            raise LayoutError(f"atomic: limit {limit} is negative", "Pass the number of bytes that may change.")
        self._array = array
        self._mapping: Mapping = mapping
        self._limit = limit
        self._process = 0

    def __enter__(self) -> Any:
        mapping = self._mapping
        if self._process:
            raise LockedError(str(mapping.filename), "exclusive", "this same block", "atomic")
        self._growth: Growth = writer_of(mapping, "atomic")
        with self._growth.turn:
            if mapping.in_block:
                raise LockedError(str(mapping.filename), "exclusive", "an open atomic block of the array", "atomic")
            if not mapping.has_journal:
                journal.make(mapping)
            self._root = _root_of(self._array)
            if self._root.ndim and not self._growth.is_ready and way_of(mapping) is not None:
                catch_up(self._root, mapping)
            self._rows = self._root.shape[axis_of(self._root)] if self._root.ndim else 0
            mapping.let_append(0, 0, 0, 0)  # the short way knows nothing of blocks that are full
            mapping.begin_block(available_nbytes() // 2 if self._limit is None else self._limit)
            self._growth.stale_nbytes = len(mapping)
            self._process = os.getpid()
        return self._array

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, 0
        mapping = self._mapping
        if mapping.closed:
            if kind is None:
                mapping.check()  # raises ClosedError
            return
        if process != os.getpid():  # a turn that another thread had would never end here
            self._roll_back()
            if kind is None:
                raise OSError("atomic: the block was opened before this process was forked. Nothing was changed.")
            return
        with self._growth.turn:
            if kind is not None:
                self._roll_back()
                return
            self._commit()

    def _commit(self) -> None:
        mapping = self._mapping
        try:
            mapping.commit_block()
        except BaseException as error:
            if mapping.in_block:
                is_full = mapping.is_block_full
                self._roll_back()
                if is_full:
                    raise AtomicLimitError("commit", mapping.filename, mapping.offset, "too large") from None
            elif isinstance(error, OSError):
                raise OSError(
                    error.errno,
                    f"{error.strerror}: the commit is durable in the journal, and could not be brought into the file. "
                    "Close the array and open it with mode='r+', which completes it",
                    str(mapping.filename),
                ) from None
            raise
        self._growth.room_end = mapping.offset + len(mapping)

    def _roll_back(self) -> None:
        self._growth.is_ready = False
        self._mapping.let_append(0, 0, 0, 0)  # a header that was prepared in the block is not the file's
        try:
            self._mapping.roll_back_block()
        finally:
            if self._root.ndim and not self._mapping.closed:
                self._root._set_rows(self._rows)


def _root_of(array: Any) -> Any:
    """The array that was opened, of which this one is a view."""
    while array.base is not array._mmap:
        array = array.base
    return array


def recover(path: str | bytes | os.PathLike[Any], *, copied: bool | None = None) -> str | None:
    """Complete or discard a commit that was interrupted.

    An atomic block first puts its changes into a journal beside the file. Whoever finds a complete one completes the
    commit; one that is not complete never became true.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        The file, not its journal.
    copied : bool, optional
        What to do about a journal that was written for another file: True if file and journal were copied together,
        False if the file has taken the place of the one that the journal was for.

    Returns
    -------
    {'replayed', 'discarded', None}
        None if there is no journal.

    Raises
    ------
    LockedError
        The file's writer is alive. An OSError.
    NeedsRecoveryError
        The journal was written for another file, and `copied` is None. An OSError.
    OSError
        The file cannot be written.

    See Also
    --------
    memmap.atomic

    Notes
    -----
    Cost: the changes are read and written once. Opening with mode 'r+' does the same.

    Platforms: Linux.

    Threads: safe; once more gives the same.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> np.save("x.npy", np.zeros(3))
    >>> nf.recover("x.npy") is None
    True
    """
    return journal.recover(path, copied)
