"""PNG files, read by another decoder."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ndfile.pictures.png import png


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.mode, np.asarray(image.convert("RGBA")), dict(image.text)


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(4))),
    st.sampled_from(["grey", "colours", "opacity"]),
)
def test_every_picture_is_read_back_as_it_was(pixels, kind):
    if kind != "opacity":
        pixels[:, :, 3] = 255
    if kind == "grey":
        pixels[:, :, 1] = pixels[:, :, 2] = pixels[:, :, 0]
    mode, found, _ = decoded(png(pixels))
    assert np.array_equal(found, pixels)
    assert mode == "L" or kind != "grey"


@pytest.mark.parametrize(("colours", "mode"), [(2, "P"), (256, "P"), (257, "RGBA")])
def test_few_colours_are_written_by_number(colours, mode):
    pixels = np.arange(1, 4 * colours + 1).astype(np.uint16).view(np.uint8)[: 4 * colours].reshape(1, -1, 4).copy()
    pixels[0, :, 0], pixels[0, :, 1] = np.arange(colours) % 256, np.arange(colours) // 256
    found_mode, found, _ = decoded(png(pixels))
    assert found_mode == mode
    assert np.array_equal(found, pixels)


def test_few_opaque_colours_have_no_opacity_when_they_are_read():
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[:, :, 3], pixels[0, 0, 0] = 255, 77
    assert np.array_equal(decoded(png(pixels))[1], pixels)


def test_a_gradient_is_written_as_differences_and_so_takes_less():
    pixels = np.full((200, 1000, 4), 255, np.uint8)
    pixels[:, :, :3] = (np.arange(1000) * 77 % 256)[:, None]
    content = png(pixels)
    assert np.array_equal(decoded(content)[1], pixels)
    assert len(content) < len(zlib.compress(pixels[:, :, 0].tobytes(), 6))


@pytest.mark.parametrize("title", ["plain", "Zürich", "数 x \U0001f600"])
def test_the_title_is_among_the_texts(title):
    assert decoded(png(np.zeros((1, 1, 4), np.uint8), {"Title": title, "Software": "ndfile"}))[2] == {
        "Title": title,
        "Software": "ndfile",
    }
