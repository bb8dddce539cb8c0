"""PNG files that commands write, and their titles."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import ndfile as nf
from ndfile.cli.output import Output
from ndfile.pictures.residency import save_picture

if TYPE_CHECKING:
    from ndfile.pictures import Picture

__all__ = ["check_target", "write_picture"]

STANDARD_OUTPUT = "-"


def check_target(path: str, source: str) -> None:
    """Refuse to write a picture over the file that it is of."""
    if path != STANDARD_OUTPUT and os.path.exists(path) and os.path.samefile(path, source):
        raise nf.LayoutError(f"{path!r} is the file that is looked at", "Give the picture another name.")


def write_picture(picture: Picture, path: str) -> None:
    """Write a picture to a PNG file, and say what is in it where that is not in the way."""
    if path == STANDARD_OUTPUT:
        _write(picture.png())
        return
    save_picture(picture, path)
    Output().line(picture.title)


def _write(content: bytes) -> None:
    """Write bytes to the standard output, which may take a part of them where it is not buffered."""
    left = memoryview(content)
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()
