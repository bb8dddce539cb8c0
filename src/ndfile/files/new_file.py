"""Mode ``w+`` on a path: a new file in the place of what has the name."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
import warnings
from typing import Any

from ndfile._core import Mapping
from ndfile.errors import TruncationWarning
from ndfile.files import journal, locks
from ndfile.files.file import PLAIN, ROOM_NBYTES, TRIES, File, Options, end_of
from ndfile.files.replacement import CANNOT_REPLACE, Draft, Place
from ndfile.files.space import reserve, restore

__all__ = ["NewFile"]


class NewFile(File):
    """A path that is to name a new file of zeros.

    The attributes are those of `File`; `fd` and `size` are those of the file that is there now, -1 and 0 for none.
    """

    __slots__ = ("_place",)

    def __init__(self, source: Any, options: Options = PLAIN) -> None:
        self._place: Place | None = None
        super().__init__(source, "w+", options)

    def map(self, offset: int, nbytes: int) -> Mapping:
        """Map a new file in the place of what the path names."""
        for _ in range(TRIES):
            try:
                if self.fd < 0:
                    mapping = self._make(offset, nbytes)
                elif self.size == 0:
                    mapping = self._grow(offset, nbytes)
                else:
                    mapping = self._replace(offset, nbytes)
            except FileExistsError:  # somebody else was faster
                self.abandon()
                self._find()
                continue
            self.abandon()
            return mapping
        raise self._unsettled()

    def _replace(self, offset: int, nbytes: int) -> Mapping:
        assert self._place is not None
        if os.fstat(self.fd).st_nlink > 1:
            self._place.finish(self.fd)
        names = os.fstat(self.fd).st_nlink
        if names > 1:
            return self._overwrite(offset, nbytes, f"it has {names} names")
        if self._is_nameless():
            return self._overwrite(offset, nbytes, "it has no name of its own")
        try:
            return self._make(offset, nbytes)
        except OSError as error:
            if error.errno not in CANNOT_REPLACE:
                raise
            reason = f"no new file can take its place ({error.strerror})"
        return self._overwrite(offset, nbytes, reason)

    def _make(self, offset: int, nbytes: int) -> Mapping:
        """Map a new file, which gets the name once nothing can fail any more."""
        assert self._place is not None
        is_first = self.fd < 0
        left = "No file was made" if is_first else "The old file was left as it was; remove it first to use its blocks"
        # Until it has the old file's permissions nobody else may open it.
        draft = Draft(self._place)
        try:
            draft.open(0o666 if is_first else 0o600)
            if not is_first:
                draft.resemble(self.fd)
            if self.options.lock is not None:
                locks.take(draft.fd, self.options.lock, time.monotonic(), self.path)
            empty = os.fstat(draft.fd)
            reserve(draft.fd, empty, end_of(offset, nbytes), self.path, sparse=self.options.sparse, left=left)
            mapping = Mapping(draft.fd, offset, nbytes, self.mode, self.name, True, ROOM_NBYTES[self.mode])
            draft.fd = -1
            if is_first:
                draft.add()
            else:
                journal.settle_before_replacing(self._place.path)
                draft.replace()
                journal.drop(self._place.path)
        except BaseException:
            draft.discard()
            raise
        return mapping

    def _overwrite(self, offset: int, nbytes: int, reason: str) -> Mapping:
        """Map the old file, emptied: the one way to lose what other maps of it show."""
        if not self._is_named():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.name)
        text = (
            f"open {self.path!r}: mode 'w+' truncates the old file, for {reason}. "
            "Other maps of it lose their data. Pass mode='r+' to keep what is there."
        )
        warnings.warn(text, TruncationWarning, stacklevel=_users_level())
        fd = self.fd
        # What fails here leaves the content. The mapping keeps fd open.
        grows = end_of(offset, nbytes) > self.size
        before = os.fstat(fd)
        mapping = self._grow(offset, nbytes) if grows else self.map_inside(offset, nbytes)
        try:
            os.ftruncate(fd, 0)
        except BaseException:
            restore(fd, before)
            raise
        left = "The old content is gone"
        reserve(fd, os.fstat(fd), end_of(offset, nbytes), self.path, sparse=self.options.sparse, left=left)
        return mapping

    def abandon(self) -> None:
        """Give back what is open."""
        if self._place is not None:
            self._place.close()
            self._place = None
        super().abandon()

    def _open(self) -> None:
        self._place = Place(self._source, self.options.follow_symlinks)
        with contextlib.suppress(FileNotFoundError):
            super()._open()

    def _is_settled(self) -> bool:
        assert self._place is not None
        return self._place.holds(self.fd) or self._is_nameless()

    def _is_nameless(self) -> bool:
        """Tell whether the path is one like /dev/fd/3, which leads to a file that no folder has."""
        # While somebody renames another file over this one, the kernel finds it under its name a moment too long.
        for pause_s in (0, 0.001, 0.01, 0.05):
            time.sleep(pause_s)
            if os.fstat(self.fd).st_nlink > 0 or not self._is_named():
                return False
        return True


def _users_level() -> int:
    """The `stacklevel` of the first line that is not ours, seen from the caller."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001  # `inspect` has the same, and takes milliseconds to import
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ndfile":
        level, frame = level + 1, frame.f_back
    return level
