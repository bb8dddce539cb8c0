"""`ndfile view` as a person uses it: in a terminal, in a pipe, on a closed pipe, and with what cannot be shown."""

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from PIL import Image

import ndfile as nf
from ndfile.pictures import pictured, subject_of
from ndfile.pictures.picture import Box

COMMAND = (sys.executable, "-W", "error", "-m", "ndfile", "view")
LONG_S = 60


def environment(**variables):
    usual = {
        name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "COLORTERM")
    }
    return usual | {"PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color"} | variables


def piped(*words, **variables):
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, check=False, env=environment(**variables), timeout=LONG_S
    )


def in_terminal(size, *words, **variables):
    """Run it in a terminal of so many lines and columns; gives the exit code and the lines that it shows."""
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdin=inner, stdout=inner, stderr=inner, env=environment(**variables)
    )
    os.close(inner)
    parts = []
    with process, open(outer, "rb", buffering=0) as shown:
        try:
            while part := shown.read(1 << 16):
                parts.append(part)
        except OSError:  # Linux's end of a terminal
            pass
        code = process.wait(LONG_S)
    return code, b"".join(parts).decode().replace("\r\n", "\n").removesuffix("\n").split("\n")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.sin(np.arange(200)[:, None] / 20) * np.cos(np.arange(300) / 30))
    return path


def plain(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


@pytest.mark.parametrize("size", [(24, 80), (50, 120), (10, 30)])
@pytest.mark.parametrize(("variables", "start"), [({"COLORTERM": "truecolor"}, "38;2;"), ({}, "38;5;")])
def test_in_a_terminal_it_fits_and_has_the_terminals_colours(image, size, variables, start):
    code, lines = in_terminal(size, image, **variables)
    title, *picture = lines
    assert code == 0
    assert title.startswith("x.npy: float64 (200, 300), a pixel is the mean of ")
    assert len(picture) <= size[0] - 3
    assert max(len(plain(line)) for line in picture) <= size[1]
    assert max(len(plain(line)) for line in picture) == size[1] or len(picture) >= size[0] - 4
    assert all(f"\x1b[{start}" in line and line.endswith("\x1b[0m") for line in picture)


def test_without_colours_it_is_of_characters(image):
    for found in (
        piped(image).stdout.decode(),
        "\n".join(in_terminal((24, 80), image, NO_COLOR="1")[1]),
        "\n".join(in_terminal((24, 80), image, TERM="dumb")[1]),
    ):
        assert "\x1b" not in found
        assert set("░▒▓█") <= set(found)
    found = piped(image, PYTHONIOENCODING="ascii").stdout.decode("ascii")
    assert set(".:-=+*#%@") <= set(found)


def test_a_png_is_the_picture(image, tmp_path):
    out = tmp_path / "out.png"
    found = piped(image, "-o", out, "--width", 150, "--height", 100, "--cmap", "viridis", "--range", -1, 2)
    title = found.stdout.decode().rstrip()
    wanted = pictured(subject_of(nf.open(image)), Box(100, 150), extent=(-1, 2), colours="viridis")
    with Image.open(out) as read:
        assert np.array_equal(np.asarray(read.convert("RGBA")), wanted.pixels)
        assert read.text["Title"] == title
    assert title == wanted.title
    assert "scale -1 to 2" in title
    assert found.returncode == 0


def test_a_png_goes_into_a_pipe_with_nothing_else(image):
    found = piped(image, "-o", "-", "--slice", "5:10")
    with Image.open(io.BytesIO(found.stdout)) as read:
        assert "[5:10]" in read.text["Title"]
    assert found.stderr == b""


def test_members_slices_fields_and_raw_bytes_are_shown(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros((9, 9), [("x", "f4"), ("y", "f4")]), b=np.arange(1000))
    shown = piped(tmp_path / "w.npz", "--key", "a", "--field", "y", "--slice", "3").stdout.decode()
    assert "field 'y', [3], 0 to 0 (constant)" in shown.split("\n")[0]
    assert "w.npz [b]: int64 (1000,)" in piped(tmp_path / "w.npz", "--key", "b").stdout.decode()
    raw = tmp_path / "x.raw"
    raw.write_bytes(np.arange(600, dtype=">u2").tobytes())
    shown = piped(raw, "--dtype", ">u2", "--shape", "20,30").stdout.decode()
    assert "x.raw: >u2 (20, 30), " in shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing.npy"], 1, "missing.npy"),
        (["x.npy", "--slice", "900"], 1, "out of bounds"),
        (["x.npy", "--slice", "a:b"], 2, "index"),
        (["x.npy", "--field", "q"], 1, "no field 'q'"),
        (["x.npy", "--as", "colours"], 1, "no colours"),
        (["x.npy", "--range", "2", "1"], 1, "range"),
        (["x.npy", "--width", "0"], 2, "0"),
        (["x.npy", "--width", "1000000", "-o", "y.png"], 2, "10000"),
        (["x.npy", "--cmap", "jet"], 2, "jet"),
        (["x.npy", "-o", "x.npy"], 1, "is the file that is looked at"),
        (["x.npy", "-o", "link.npy"], 1, "is the file that is looked at"),
        (["x.npy", "-o", "nowhere/x.png"], 1, "nowhere"),
        ([], 2, "FILE"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(image, monkeypatch, words, code, said):
    monkeypatch.chdir(image.parent)
    os.link("x.npy", "link.npy")
    before = image.read_bytes()
    found = piped(*words)
    assert found.returncode == code
    assert said in found.stderr.decode()
    assert b"Traceback" not in found.stderr
    assert found.stderr.count(b"\n") == 1 or code == 2
    assert image.read_bytes() == before
    assert sorted(os.listdir()) == ["link.npy", "x.npy"]


@pytest.mark.parametrize("output", [[], ["-o", "-"]])
def test_on_a_closed_pipe_it_is_quiet(tmp_path, output):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).random((1000, 1000)))
    ways = ["--width", "1000", "--height", "1000", "--depth", "full"]
    process = subprocess.Popen(
        [*COMMAND, str(path), *ways, *output], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    process.stdout.read(10)
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
        assert process.wait(LONG_S) == 141


def test_a_hostile_name_moves_no_cursor(tmp_path):
    path = tmp_path / "a\x1b[2J\nb.npy"
    np.save(path, np.zeros((3, 3)))
    first = piped(path).stdout.decode().split("\n")[0]
    assert first.isprintable()
    assert "float64 (3, 3)" in first


def test_of_a_sparse_file_of_100_gib_it_says_that_it_samples(tmp_path):
    path = tmp_path / "x.dat"
    with open(path, "wb") as file:
        file.truncate(100 << 30)
    found = piped(path, "--dtype", "f4", "--shape", "163840,163840", "-o", tmp_path / "x.png")
    assert b"float32 (163840, 163840), sampled: every " in found.stdout
    assert found.returncode == 0


def test_residency_is_a_png_too(image, tmp_path):
    out = tmp_path / "r.png"
    command = [sys.executable, "-W", "error", "-m", "ndfile", "residency", str(image), "--png"]
    found = subprocess.run([*command, str(out)], capture_output=True, check=True, timeout=LONG_S).stdout.decode()
    assert found.startswith("x.npy: 472 KiB of 472 KiB in memory (100%)")
    assert found.endswith("a square is 4 KiB\n")
    with Image.open(out) as read:
        assert read.text["Title"] == found.rstrip()
    assert subprocess.run([*command, str(image)], capture_output=True, check=False, timeout=LONG_S).returncode == 1
