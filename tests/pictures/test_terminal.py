"""Pictures made of characters, read back as a terminal would draw them."""

import re

import numpy as np
import pytest

import ndfile as nf
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.terminal import box_of, depth_of, drawn_in_characters

LEVELS = [0, 95, 135, 175, 215, 255]


def colour_of(parameters):
    if parameters[0] == "2":
        return tuple(map(int, parameters[1:4]))
    number = int(parameters[1])
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    return tuple(LEVELS[(number - 16) // place % 6] for place in (36, 6, 1))


def read_back(text):
    """The pixels of half blocks: None where there is nothing."""
    rows = []
    for line in text.split("\n"):
        front = back = None
        halves = []
        for codes, character in re.findall(r"\x1b\[([0-9;]*)m|([^\x1b])", line):
            if character:
                halves.append({"▀": (front, back), "▄": (back, front), " ": (back, back)}[character])
                continue
            parts = codes.split(";")
            while parts:
                if parts[0] in ("38", "48"):
                    length = 5 if parts[1] == "2" else 3
                    colour = colour_of(parts[1:length])
                    front, back = (colour, back) if parts[0] == "38" else (front, colour)
                    parts = parts[length:]
                else:
                    code = parts.pop(0)
                    front = None if code in ("39", "0") else front
                    back = None if code in ("49", "0") else back
        rows += [[top for top, _ in halves], [bottom for _, bottom in halves]]
        assert line.endswith("\x1b[0m")
    return rows


def drawn(path, values, depth, columns=40, lines=12, **ways):
    np.save(path + ".npy", values)
    subject = subject_of(nf.open(path + ".npy"))
    picture = pictured(subject, box_of(columns, lines, depth, subject.kind == "line"), **ways)
    return picture, drawn_in_characters(picture, depth)


@pytest.fixture
def values():
    values = np.random.default_rng(0).random((60, 100))
    values[:10, :10] = np.nan
    values[30:33, 50:52] = np.nan
    return values


@pytest.mark.parametrize("colours", ["grey", "viridis"])
def test_full_colours_are_those_of_the_picture(path, values, colours):
    picture, text = drawn(path, values, "full", colours=colours)
    rows = read_back(text)
    wanted = [[tuple(one[:3]) if one[3] else None for one in row] for row in picture.pixels.tolist()]
    assert rows[: len(wanted)] == wanted
    assert len(wanted) in (len(rows), len(rows) - 1)
    assert any(None in row for row in wanted)


def test_256_colours_are_near_to_them(path, values):
    picture, text = drawn(path, values, "256", colours="magma")
    for row, pixels in zip(read_back(text), picture.pixels.tolist(), strict=False):
        for found, pixel in zip(row, pixels, strict=True):
            assert (found is None) == (pixel[3] == 0)
            assert found is None or max(abs(a - b) for a, b in zip(found, pixel, strict=False)) <= 48


def test_characters_are_denser_where_it_is_brighter(path, values):
    for depth, shades in (("characters", " ░▒▓█"), ("ascii", " .:-=+*#%@")):
        picture, text = drawn(path, values, depth)
        lines = [line.ljust(picture.pixels.shape[1]) for line in text.split("\n")]
        for line, pixels in zip(lines, picture.pixels.tolist(), strict=True):
            for character, (grey, _, _, opacity) in zip(line, pixels, strict=True):
                wanted = shades[min(int(grey * len(shades) / 255), len(shades) - 1)] if opacity else "?"
                assert character == wanted


@pytest.mark.parametrize("depth", ["full", "256", "characters", "ascii"])
@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (3, 4), (1000, 3), (3, 1000), (5000,), (7,)])
@pytest.mark.parametrize("size", [(80, 21), (20, 5), (1, 1)])
def test_pictures_fit_the_terminal(path, depth, shape, size):
    _, text = drawn(path, np.random.default_rng(0).random(shape), depth, *size)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]
    if size[0] > 10:
        assert max(map(len, lines)) > size[0] // 11


def test_braille_has_the_dots_of_the_line(path):
    picture, text = drawn(path, np.sin(np.arange(1000) / 50), "full", 40, 6)
    found = np.zeros((24, 80), bool)
    for i, line in enumerate(text.split("\n")):
        for j, character in enumerate(line):
            bits = ord(character) - 0x2800
            for bit, (row, column) in enumerate([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]):
                found[4 * i + row, 2 * j + column] = bits >> bit & 1
    assert np.array_equal(found, picture.drawn)


def test_without_braille_a_character_has_two_halves(path):
    picture, text = drawn(path, np.sin(np.arange(1000) / 50), "ascii", 40, 6)
    lines = [line.ljust(40) for line in text.split("\n")]
    found = np.array([[character in halves for character in line] for line in lines for halves in ("'|", ".|")])
    assert np.array_equal(found, picture.drawn)


@pytest.mark.parametrize(
    ("environment", "encoding", "is_terminal", "depth"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "utf-8", True, "full"),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, "UTF8", True, "full"),
        ({"TERM": "xterm-256color"}, "utf-8", True, "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "utf-8", True, "characters"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "utf-8", False, "characters"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "utf-8", True, "characters"),
        ({"TERM": "linux"}, "utf-8", True, "characters"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "ascii", True, "ascii"),
        ({}, "latin-1", False, "ascii"),
    ],
)
def test_what_a_terminal_can_show_is_as_it_says(environment, encoding, is_terminal, depth):
    assert depth_of(environment, encoding, is_terminal) == depth
