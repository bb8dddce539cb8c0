"""The block device under a folder, and how far it reads ahead.

What is read ahead of a miss decides what random reads cost, so the results name it. It belongs to the device and to
everybody who uses it: changing it takes root, and `readahead` puts it back.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def setting(folder: str) -> str | None:
    """Return the file under /sys that holds the readahead in KiB; None where the folder is on no block device."""
    number = os.stat(folder).st_dev
    device = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if os.path.exists(os.path.join(device, "partition")):
        device = os.path.dirname(device)
    path = os.path.join(device, "queue", "read_ahead_kb")
    return path if os.path.exists(path) else None


def readahead_kib(folder: str) -> int | None:
    """Return how far the folder's device reads ahead; None where nobody says so."""
    path = setting(folder)
    return int(_text(path)) if path else None


def may_set_readahead(folder: str) -> bool:
    """Say whether `readahead` can do its work, which a container's read-only /sys forbids even to root."""
    path = setting(folder)
    try:
        if path:
            _write(path, _text(path))
    except OSError:
        return False
    return path is not None


@contextlib.contextmanager
def readahead(folder: str, kib: int) -> Iterator[None]:
    """Let the device read ahead so far; files that were opened before are not affected."""
    path = setting(folder)
    if path is None:
        raise RuntimeError("the folder is on no block device")
    before = _text(path)
    try:
        _write(path, str(kib))
        yield
    finally:
        _write(path, before)


def _text(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
