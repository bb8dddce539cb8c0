"""Publishing a file: whole and on the disk before it has its name, so that readers see the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from ndfile.files import journal
from ndfile.files.replacement import Draft, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["check_free", "publish", "written_back"]

ResultT = TypeVar("ResultT")

# Below this a sync at the end costs less than a thread. Between two syncs the writer gets on.
WORTH_A_THREAD_NBYTES = 64 << 20
PAUSE_S = 0.01


def publish(
    path: str | bytes | os.PathLike[Any],
    write: Callable[[int, str], ResultT],
    *,
    overwrite: bool,
    sync: bool = True,
    before: Callable[[int], None] | None = None,
    series: str = "",
) -> ResultT:
    """Make a file: `write` fills an empty one, given its descriptor and its path for messages.

    The new file takes the owner, permissions and extended attributes of one that it replaces. `before` is called with
    its descriptor when it is complete, just before it gets its name. What a call of the same
    `series` has left, because it was killed, is taken away. Whatever is raised leaves what there was. FileExistsError
    for a path that exists, unless `overwrite`.
    """
    with contextlib.ExitStack() as stack:
        place = Place(path, follow_symlinks=True)
        stack.callback(place.close)
        # Before anything is done: a folder may be one that is written but not read.
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.folder) if sync else -1
        if folder >= 0:
            stack.callback(os.close, folder)
        old = _existing(place, overwrite)
        if old >= 0:
            stack.callback(os.close, old)
        draft = Draft(place, series)
        try:
            draft.open(0o666 if old < 0 else 0o600)
            if old >= 0:
                draft.resemble(old)
            result = write(draft.fd, place.path)
            if sync:
                os.fsync(draft.fd)
            if before is not None:
                before(draft.fd)
            if overwrite:
                journal.settle_before_replacing(place.path)
                draft.replace()
                journal.drop(place.path)
            else:
                draft.add()
        except BaseException:
            draft.discard()
            raise
        os.close(draft.fd)
        if folder >= 0:
            os.fsync(folder)
    return result


def check_free(path: str | bytes | os.PathLike[Any], *, overwrite: bool) -> None:
    """Raise what `publish` would for a name that is taken, or a folder that is not there."""
    place = Place(path, follow_symlinks=True)
    try:
        old = _existing(place, overwrite)
        if old >= 0:
            os.close(old)
    finally:
        place.close()


@contextlib.contextmanager
def written_back(fd: int, nbytes: int) -> Iterator[None]:
    """Let the disk take `nbytes` while they are still being written: the sync at the end then has little left to do.

    Raises what the disk answered meanwhile: the kernel says it once.
    """
    if nbytes < WORTH_A_THREAD_NBYTES:
        yield
        return
    done = threading.Event()
    failures: list[OSError] = []

    def sync() -> None:
        try:
            while not done.wait(PAUSE_S):
                os.fdatasync(fd)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=sync, name="ndfile-writeback")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failures:
        raise failures[0]


def _existing(place: Place, overwrite: bool) -> int:
    """Open the file that is there now, to resemble it; -1 for none."""
    try:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return -1
    if not overwrite:
        text = "It exists. Nothing was changed. Pass overwrite=True to put a new file in its place"
        raise FileExistsError(errno.EEXIST, text, place.path)
    if not stat.S_ISREG(status.st_mode):
        text = "This is no regular file, which alone can be replaced"
        raise OSError(errno.EINVAL, text, place.path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(place.name, flags, dir_fd=place.folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, place.path) from None
