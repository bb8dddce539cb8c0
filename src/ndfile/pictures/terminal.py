"""Pictures made of characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ndfile.pictures.picture import Box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ndfile.pictures.picture import Picture

__all__ = ["DEPTHS", "box_of", "depth_of", "drawn_in_characters"]

# What a terminal can show: colours of 24 bits, 256 colours, characters, or those of ASCII alone.
DEPTHS = ("full", "256", "characters", "ascii")

SHADES = {"characters": " ░▒▓█", "ascii": " .:-=+*#%@"}
NOTHING = "?"

RESET = "\x1b[0m"

# The 256 colours have a cube of these levels from number 16 on, and 24 greys from 8 to 238 from number 232 on.
LEVELS = np.array([0, 95, 135, 175, 215, 255])
GREYS = np.arange(8, 239, 10)

BRAILLE = 0x2800
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def depth_of(environment: Mapping[str, str], encoding: str, is_terminal: bool) -> str:
    """What to draw with: one of `DEPTHS`."""
    plain = "characters" if encoding.lower().replace("-", "").startswith("utf") else "ascii"
    term = environment.get("TERM", "")
    if not is_terminal or environment.get("NO_COLOR") or term in ("", "dumb") or plain == "ascii":
        return plain
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "full"
    return "256" if term != "linux" and not term.startswith("vt") else plain


def box_of(columns: int, lines: int, depth: str, is_line: bool) -> Box:
    """The pixels that there are in a number of characters."""
    columns, lines = max(columns, 1), max(lines, 1)
    if is_line:
        return Box(2 * lines, columns, 1.0) if depth == "ascii" else Box(4 * lines, 2 * columns)
    if depth in ("full", "256"):
        return Box(2 * lines, columns)
    return Box(lines, columns, 2.0)


def drawn_in_characters(picture: Picture, depth: str) -> str:
    """The lines of a picture that was drawn for a `box_of` the same depth."""
    if picture.is_line:
        return _dots(picture.drawn) if depth == "ascii" else _braille(picture.drawn)
    if depth in ("full", "256"):
        return _blocks(picture.pixels, depth)
    return _characters(picture.pixels, SHADES[depth])


def _characters(pixels: np.ndarray, shades: str) -> str:
    brightness = pixels[:, :, :3] @ np.array([0.299, 0.587, 0.114])
    which = np.minimum((brightness * len(shades) / 255).astype(int), len(shades) - 1)
    rows = np.where(pixels[:, :, 3] > 0, np.array(list(shades))[which], NOTHING)
    return "\n".join("".join(row).rstrip() for row in rows)


# ---- Colours: the upper half of a character is its foreground, the lower half its background ----


def _blocks(pixels: np.ndarray, depth: str) -> str:
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    codes, are_there = (_full if depth == "full" else _of_256)(pixels), pixels[:, :, 3] >= 128
    return "\n".join(
        _block_line(codes[i], codes[i + 1], are_there[i], are_there[i + 1]) for i in range(0, len(pixels), 2)
    )


def _block_line(tops: list[str], bottoms: list[str], has_top: np.ndarray, has_bottom: np.ndarray) -> str:
    found, before = [], ""
    for top, bottom, top_is_there, bottom_is_there in zip(tops, bottoms, has_top, has_bottom, strict=True):
        if top_is_there:
            colours, character = f"38;{top};{f'48;{bottom}' if bottom_is_there else '49'}", "▀"
        else:
            colours, character = (f"38;{bottom};49", "▄") if bottom_is_there else ("39;49", " ")
        found.append(character if colours == before else f"\x1b[{colours}m{character}")
        before = colours
    return "".join(found) + RESET


def _full(pixels: np.ndarray) -> list[list[str]]:
    return [[f"2;{red};{green};{blue}" for red, green, blue in row] for row in pixels[:, :, :3].tolist()]


def _of_256(pixels: np.ndarray) -> list[list[str]]:
    colours = pixels[:, :, :3].astype(int)
    steps = np.abs(colours[..., None] - LEVELS).argmin(-1)
    cube = 16 + steps @ np.array([36, 6, 1])
    greys = np.abs(colours.mean(-1)[..., None] - GREYS).argmin(-1)
    as_cube, as_grey = LEVELS[steps], GREYS[greys][..., None]
    is_nearer = np.square(colours - as_grey).sum(-1) < np.square(colours - as_cube).sum(-1)
    return [[f"5;{number}" for number in row] for row in np.where(is_nearer, 232 + greys, cube).tolist()]


# ---- Lines ----


def _braille(drawn: np.ndarray) -> str:
    dots = _in_cells(drawn, 4, 2)
    return "\n".join("".join(map(chr, row)).rstrip(chr(BRAILLE)) for row in BRAILLE + (dots * DOTS).sum((2, 3)))


def _dots(drawn: np.ndarray) -> str:
    halves = _in_cells(drawn, 2, 1)[:, :, :, 0]
    which = halves @ np.array([1, 2])
    return "\n".join("".join(row).rstrip() for row in np.array(list(" '.|"))[which])


def _in_cells(drawn: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels by characters: (lines, columns, height, width)."""
    rows, columns = drawn.shape
    padded = np.pad(drawn, ((0, -rows % height), (0, -columns % width)))
    return padded.reshape(-(-rows // height), height, -(-columns // width), width).swapaxes(1, 2)
