"""A picture of any file reads few bytes of it and takes little memory."""

import numpy as np
import pytest
from cold_files import PAGE, cool, counted_reads, need_counted_reads, pages_in_memory

import ndfile as nf
from ndfile.pictures import pictured, residency_picture, subject_of
from ndfile.pictures.picture import Box
from ndfile.pictures.samples import MOST_PAGES

GIB, MIB = 1 << 30, 1 << 20

# What a system reads for itself, such as where the blocks of a file are.
SPARE_NBYTES = 512 << 10

# How much the resident memory of a process grows at most while a picture is drawn.
PROGRAM = """
import sys
import ndfile as nf
from ndfile.pictures import pictured, samples, subject_of
from ndfile.pictures.picture import Box

def now(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(name))

path, shape, order, is_control = sys.argv[1], eval(sys.argv[2]), sys.argv[3], sys.argv[4] == "True"
if is_control:
    from ndfile.pictures import envelope
    samples.let_go = envelope.let_go = lambda mapping: None
pictured(subject_of(nf.memmap(path, "f4", "r", shape=(50, 50))), Box(600, 800))  # whatever is imported, is
a = nf.memmap(path, "f4", "r", shape=shape, order=order)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = now("VmRSS")
picture = pictured(subject_of(a), Box(600, 800))
print(now("VmHWM") - before, picture.title)
"""

SPARSE_SHAPES = [
    ((163_840, 163_840), "C"),
    ((163_840, 163_840), "F"),
    ((1_000_000, 26_843), "C"),
    ((26_843_545_600,), "C"),
    ((3000, 3000, 994, 3), "C"),
    ((5_000_000_000, 5), "C"),
    ((5, 5_000_000_000), "C"),
    ((80_000, 80_000, 4), "C"),
]


@pytest.fixture(scope="module")
def sparse_path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("sparse") / "x.dat")
    with open(path, "wb") as file:
        file.truncate(100 * GIB)
    return path


def grown_mib(run_python, *arguments):
    result = run_python(PROGRAM, *arguments)
    grown, _, title = result.stdout.partition(" ")
    return int(grown), title


def need_high_water_mark():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("the system does not set back how much memory a process had")


@pytest.mark.parametrize(("shape", "order"), SPARSE_SHAPES)
def test_of_100_gib_a_picture_takes_less_than_64_mib(run_python, sparse_path, shape, order):
    need_high_water_mark()
    grown, title = grown_mib(run_python, sparse_path, shape, order, False)
    assert grown < 64, title
    assert "sampled" in title or len(shape) == 4  # a slice of that is small


def test_of_a_file_that_is_in_memory_what_is_mapped_is_let_go(run_python, path):
    need_high_water_mark()
    with open(path, "wb") as file:
        file.writelines(bytes(MIB) for _ in range(192))
    shape = (1000, 192 * MIB // 4000)
    assert grown_mib(run_python, path, shape, "C", False)[0] < 64
    assert grown_mib(run_python, path, shape, "C", True)[0] > 100  # without, all of it would be


# ---- Cold files ----

FILE_NBYTES = 128 * MIB


@pytest.fixture(scope="module")
def cold_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    need_counted_reads(folder)
    path = str(folder / "x.dat")
    piece = np.random.default_rng(0).integers(0, 256, 8 * MIB, "u1")
    with open(path, "wb") as file:
        for _ in range(FILE_NBYTES // len(piece)):
            piece.tofile(file)
    return path


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((4096, 8192), "C"),
        ((4096, 8192), "F"),
        ((131_072, 256), "C"),
        ((40, 838_860), "C"),
        ((33_554_432,), "C"),
        ((100, 100, 3355), "C"),
        ((100, 100, 3355), "F"),
    ],
)
def test_of_a_cold_file_only_the_pages_of_the_picture_are_read(cold_path, shape, order):
    most_pages = 2000
    cool(cold_path)
    with nf.memmap(cold_path, "f4", "r", shape=shape, order=order) as a, counted_reads() as reads:
        picture = pictured(subject_of(a), Box(300, 400), most_pages=most_pages)
    read = pages_in_memory(cold_path).sum()
    assert "sampled" in picture.title or len(shape) == 3
    assert 10 < read <= most_pages * 1.02  # how many windows lie on two pages is an estimate
    assert reads.nbytes <= read * PAGE + SPARE_NBYTES


def test_a_picture_reads_at_most_128_mib():
    assert MOST_PAGES * PAGE <= 128 * MIB


def test_sampled_items_are_those_of_the_file(cold_path):
    rows, columns = shape = (64, FILE_NBYTES // 64)
    with nf.memmap(cold_path, "u1", "r", shape=shape) as a:
        picture = pictured(subject_of(a), Box(64, 64), most_pages=400)
    height, width = picture.values.shape[:2]
    assert 300 < height * width <= 400
    assert f"sampled: every {rows / height:.0f}th row, 64 columns of {columns / width:.0f}, means" in picture.title
    # In the middle of each cell, 64 items of a row.
    edges = np.arange(width + 1) * columns // width
    starts = edges[:-1] + (np.diff(edges) - 64) // 2
    lows = np.arange(height + 1) * rows // height
    wanted = np.fromfile(cold_path, "u1").reshape(shape)[lows[:-1] + np.diff(lows) // 2]
    means = [wanted[:, start : start + 64].mean(1) for start in starts]
    np.testing.assert_allclose(picture.values[:, :, 0].T, means)


def test_residency_is_drawn_without_a_read(cold_path):
    cool(cold_path)
    with nf.memmap(cold_path, "u1", "r") as a:
        picture = residency_picture(a)
        assert not pages_in_memory(cold_path).any()
        assert (picture.values == 0).all()
        a.prefetch(slice(0, FILE_NBYTES // 4), wait=True)
        picture = residency_picture(a, name="it")
    assert (picture.values.reshape(-1)[:256] == 1).all()
    assert (picture.values.reshape(-1)[256:] == 0).mean() > 0.9
    assert picture.title.startswith("it: 32 MiB of 128 MiB in memory (25%), a square is 128 KiB")
    assert picture.pixels[0, 0].tolist() == [13, 110, 190, 255]
    assert picture.pixels[-5, -5].tolist() == [222, 226, 230, 255]
