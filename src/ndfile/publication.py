"""Publishing a file: whole and on the disk before it has its name, so that readers see the old one or the new one."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, TypeVar

from ndfile.durable import sync_folder
from ndfile.replacement import Draft, Place

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["publish"]

ResultT = TypeVar("ResultT")


def publish(
    path: str | bytes | os.PathLike[Any],
    write: Callable[[int, str], ResultT],
    *,
    overwrite: bool,
    sync: bool = True,
    before: Callable[[int], None] | None = None,
) -> ResultT:
    """Make a file: `write` fills an empty one, given its descriptor and its path for messages.

    The new file takes the owner, permissions and extended attributes of one that it replaces. `before` is called with
    its descriptor when it is complete, just before it gets its name. Whatever is raised leaves what there was.
    FileExistsError for a path that exists, unless `overwrite`.
    """
    place = Place(path, follow_symlinks=True)
    try:
        old = _existing(place, overwrite)
        try:
            draft = Draft(place, 0o666 if old < 0 else 0o600)
            try:
                if old >= 0:
                    draft.resemble(old)
                result = write(draft.fd, place.path)
                if sync:
                    os.fsync(draft.fd)
                if before is not None:
                    before(draft.fd)
                if overwrite:
                    draft.replace()
                else:
                    draft.add()
            except BaseException:
                draft.discard()
                raise
            os.close(draft.fd)
        finally:
            if old >= 0:
                os.close(old)
        if sync:
            sync_folder(os.path.realpath(place.path))
    finally:
        place.close()
    return result


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
    return os.open(place.name, flags, dir_fd=place.folder)
