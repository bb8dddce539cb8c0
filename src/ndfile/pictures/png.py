"""PNG files: pixels of eight bits, grey or in colours, with a title among their texts."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Kinds of pixels, by channels.
GREY, COLOURS, BY_NUMBER, COLOURS_AND_OPACITY = 0, 2, 3, 6

# More cannot be numbered by a byte.
MOST_COLOURS = 256

# Each row begins with how it is to be read: as it is, or each pixel as the difference from the one before.
PLAIN, DIFFERENCES = 0, 1


def png(pixels: np.ndarray, texts: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a PNG file.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8
        (rows, columns, 4), at least one of each: red, green, blue, opacity. Written with less where nothing is lost.
    texts : mapping of str to str, optional
        Such as "Title". Names are of up to 79 letters of Latin-1.
    """
    height, width = pixels.shape[:2]
    kind, kept, colours = _kind_of(np.ascontiguousarray(pixels))
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [SIGNATURE, _chunk(b"IHDR", header)]
    parts += [_text(name, text) for name, text in (texts or {}).items()]
    if colours is not None:
        parts.append(_chunk(b"PLTE", colours[:, :3].tobytes()))
        parts.append(_chunk(b"tRNS", colours[:, 3].tobytes()))
    parts += [_chunk(b"IDAT", _smaller(kept)), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _kind_of(pixels: np.ndarray) -> tuple[int, np.ndarray, np.ndarray | None]:
    """How pixels are written: their kind, what is kept of them, and the colours that numbers stand for."""
    are_opaque = bool((pixels[:, :, 3] == 255).all())
    if are_opaque and (pixels[:, :, :1] == pixels[:, :, 1:3]).all():
        return GREY, pixels[:, :, :1], None
    colours, numbers = np.unique(pixels.view(np.uint32), return_inverse=True)
    if len(colours) <= MOST_COLOURS:
        kept = numbers.reshape(*pixels.shape[:2], 1).astype(np.uint8)
        return BY_NUMBER, kept, colours.view(np.uint8).reshape(-1, 4)
    return (COLOURS, pixels[:, :, :3], None) if are_opaque else (COLOURS_AND_OPACITY, pixels, None)


def _smaller(pixels: np.ndarray) -> bytes:
    """Rows as they are or as differences, whichever takes less."""
    differences = np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1]))  # modulo 256, as the format has it
    found = []
    for how, rows in ((PLAIN, pixels), (DIFFERENCES, differences)):
        flat = rows.reshape(len(rows), -1)
        found.append(zlib.compress(np.insert(flat, 0, how, axis=1).tobytes(), 6))
    return min(found, key=len)


def _text(name: str, text: str) -> bytes:
    try:
        return _chunk(b"tEXt", name.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", name.encode("latin-1") + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
