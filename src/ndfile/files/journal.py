"""The journal beside a file: its name, its making, and what opening a file does about one that is complete.

What is in it, `ndfile._core` writes and reads; docs/journal.md specifies it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from ndfile._core import look_at_journal, replay_journal
from ndfile.errors import LockedError, NeedsRecoveryError
from ndfile.files import locks
from ndfile.files.durable import leads_to, sync_folder
from ndfile.stream import write_all

if TYPE_CHECKING:
    from ndfile._core import Mapping

__all__ = [
    "drop",
    "finish",
    "is_pending",
    "journal_path",
    "make",
    "recover",
    "require_name",
    "settle",
    "settle_before_replacing",
    "state_of",
]

SUFFIX = ".ndfile-journal"

# Written once: as long as a commit fits in here, syncing it changes no metadata.
FIRST_NBYTES = 64 << 10

# A living writer has a complete journal only while it applies it.
MOST_WAIT_S = 30.0
PAUSE_S = 0.002


def journal_path(path: Any) -> str:
    """Beside the file itself, not beside a link to it."""
    return f"{os.path.realpath(os.fsdecode(path))}{SUFFIX}"


def make(mapping: Mapping) -> None:
    """Make the journal of a file whose lock is held, and let the mapping keep it."""
    require_name(mapping, "atomic")
    path = journal_path(mapping.filename)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fstat(mapping.fileno())
    fd = os.open(path, flags, 0o600)
    try:
        # Whoever may open the file must be able to see whether a commit is pending.
        with contextlib.suppress(PermissionError):
            os.fchown(fd, -1, file.st_gid)
        os.fchmod(fd, stat.S_IMODE(file.st_mode) & 0o666)
        # What an earlier writer has left was no complete commit, or opening had replayed it.
        os.ftruncate(fd, 0)
        write_all(fd, bytes(FIRST_NBYTES), 0)
        os.fsync(fd)
        sync_folder(path)
        mapping.keep_journal(fd, path)
    except BaseException:
        os.close(fd)
        os.unlink(path)
        raise


def require_name(mapping: Mapping, act: str) -> None:
    """Raise OSError unless the file still has its name: what stands beside it is another file's by now."""
    if mapping.filename is not None and leads_to(mapping.filename, mapping.fileno()):
        return
    text = f"{act}: another file has taken this one's name. Nothing was changed. Open it again"
    raise OSError(errno.ESTALE, text, str(mapping.filename))


def finish(mapping: Mapping) -> None:
    """Complete a commit that was interrupted while this process had the file open, the lock being held now."""
    path = mapping.filename
    if path is not None and is_pending(mapping.fileno(), path):
        _complete(mapping.fileno(), path, None)


def settle_before_replacing(path: Any) -> None:
    """Let the disk know which commits are over: a journal that is complete there would bar the file that comes next."""
    try:
        fd = _open(path)
    except OSError:
        return
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def drop(path: Any) -> None:
    """Remove the journal of a file that another one has replaced."""
    try:
        os.unlink(journal_path(path))
    except FileNotFoundError:
        return


def settle(fd: int, path: Any, *, may_write: bool) -> bool:
    """Look after a journal that is there when its file is opened; True if it was replayed.

    NeedsRecoveryError for a complete one where the file is only to be read, or that belongs to another file.
    """
    until_s = time.monotonic() + MOST_WAIT_S
    while is_pending(fd, path):
        if not locks.is_held(fd):
            if not may_write:
                if not is_pending(fd, path):  # its writer was about to go when it was looked at
                    return False
                raise NeedsRecoveryError(os.fsdecode(path), journal_path(path))
            return _replay(fd, path) == "replayed"
        if time.monotonic() > until_s:
            raise LockedError(os.fsdecode(path), "shared", "a process that is applying a commit")
        time.sleep(PAUSE_S)
    if may_write and not locks.is_held(fd):
        # What is there never came true. It may stay where it cannot be removed.
        with contextlib.suppress(OSError):
            return _replay(fd, path) == "replayed"
    return False


def is_pending(fd: int, path: Any) -> bool:
    """Tell whether there is a complete journal; NeedsRecoveryError if it is another file's."""
    try:
        journal = _open(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        # A link is no journal of ours, and a name that has no room for the suffix has none.
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR):
            return False
        raise
    try:
        is_own = look_at_journal(journal, fd)
    finally:
        os.close(journal)
    if is_own is False:
        raise NeedsRecoveryError(os.fsdecode(path), journal_path(path), True)
    return is_own is True


def state_of(fd: int, path: Any) -> str | None:
    """What there is to say of a commit that is pending, None without one.

    'interrupted', 'being completed', 'of another file', or 'unreadable', where nobody can tell.
    """
    try:
        if not is_pending(fd, path):
            return None
    except NeedsRecoveryError:
        return "of another file"
    except PermissionError:
        return "unreadable"
    return "being completed" if locks.is_held(fd) else "interrupted"


def recover(path: Any, copied: bool | None) -> str | None:
    """Complete or discard what the journal of a file has; see `ndfile.recover`."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            os.lstat(journal_path(path))
        except FileNotFoundError:
            return None
        return _replay(fd, path, copied)
    finally:
        os.close(fd)


def _replay(fd: int, path: Any, copied: bool | None = None) -> str | None:
    locks.take(fd, "exclusive", time.monotonic(), os.fsdecode(path), "recover")
    try:
        return _complete(fd, path, copied)
    finally:
        locks.release(fd)


def _complete(fd: int, path: Any, copied: bool | None) -> str | None:
    try:
        journal = _open(path)
    except FileNotFoundError:  # its writer was faster
        return None
    try:
        answer = _apply(journal, fd, path, copied)
    finally:
        os.close(journal)
    os.unlink(journal_path(path))
    sync_folder(journal_path(path))
    return answer


def _apply(journal: int, fd: int, path: Any, copied: bool | None) -> str:
    is_own = look_at_journal(journal, fd)
    if is_own is None:
        return "discarded"
    if not is_own:
        if copied is None:
            raise NeedsRecoveryError(os.fsdecode(path), journal_path(path), True)
        if not copied:
            return "discarded"
    replay_journal(journal, fd)
    return "replayed"


def _open(path: Any) -> int:
    return os.open(journal_path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
