"""The formats family: files that describe themselves, against the libraries that people open and write them with.

Opening an archive here means having every array in hand: ndfile's are maps, the others' are in memory when that is
done. The files are warm. Saving is timed by the wall clock, over the file of the round before. Before each run all that
waits for the disk is written, as the kernel holds up a writer who finds too much of that, and twice the file's size of
memory is touched and given back, as a virtual machine first has to fetch memory that was not in use. With the disk both
wait until the bytes are on it; with ``sync=False`` both stop at the page cache.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from case import EXPERT, LIMIT, NEVER_SLOWER, NUMPY, OURS, Case, faster
from cold import settle
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from timing import WALL, statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from timing import Runner

TITLE = "Formats: files that describe themselves"
CONTENDERS = (OURS, NUMPY, EXPERT, LIMIT)
HEADINGS = {NUMPY: "numpy or safetensors"}
LIMIT_IS = (
    "The other side is `numpy.load` (with `mmap_mode` for `.npy`), `safetensors.numpy.load_file` and `numpy.save`; the "
    "expert's is `safetensors.safe_open`. The limit of saving is `pwrite` of the same bytes into a file whose space is "
    "reserved."
)

MEMBERS = 1000
LONG = 20 << 30

OPEN = {"npz": ("nf.open(path)", "np.load(path)"), "safetensors": ("nf.open(path)", "load_file(path)")}
ALL = "[archive[name] for name in archive]"

LAZY = """\
with safe_open(path, 'numpy') as archive:
    [archive.get_tensor(name) for name in archive.keys()]"""

WRITE = """\
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.posix_fallocate(fd, 0, len(raw))
for start in range(0, len(raw), 8 << 20):
    os.pwrite(fd, raw[start : start + (8 << 20)], start)
{}os.close(fd)"""

NUMPY_SYNC = """\
with open(path, 'wb') as file:
    np.save(file, array)
    file.flush()
    os.fsync(file.fileno())"""


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    yield from _single(folder)
    for nbytes, bars in ((1 << 10, (NEVER_SLOWER,)), (256 << 10, (faster(5),))):
        yield from _archives(folder, nbytes // (4 if quick else 1), bars)
    yield from _long(folder)
    yield from _saving(folder, (1 << 28) if quick else (2 << 30))


def _single(folder: str) -> Iterator[Case]:
    path = os.path.join(folder, "one.npy")
    np.save(path, np.zeros((1000, 64), "float32"))
    names = {"nf": nf, "np": np, "path": path}
    for mode in ("r", "r+"):
        runners = {
            OURS: statement(f"nf.open(path, '{mode}')", names),
            NUMPY: statement(f"np.load(path, mmap_mode='{mode}')", names),
        }
        yield Case(f".npy: open, mode {mode}", runners)


def _archives(folder: str, nbytes: int, bars: tuple) -> Iterator[Case]:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    arrays = {f"layer{number}/kernel": rng.random(nbytes // 4, "float32") for number in range(MEMBERS)}
    path = os.path.join(folder, "weights")
    np.savez(f"{path}.npz", **arrays)
    save_file(arrays, f"{path}.safetensors")
    for suffix, (ours, theirs) in OPEN.items():
        names = {"nf": nf, "np": np, "load_file": load_file, "path": f"{path}.{suffix}", "safe_open": safe_open}
        runners = {
            OURS: statement(f"archive = {ours}\n{ALL}", names),
            NUMPY: statement(f"archive = {theirs}\n{ALL}", names),
        }
        if suffix == "safetensors":
            runners[EXPERT] = statement(LAZY, names)
        size = f"{nbytes >> 10} KiB"
        yield Case(f".{suffix}: all of {MEMBERS:,} members of {size}", runners, bars=bars, rounds=9)
        os.unlink(f"{path}.{suffix}")


def _long(folder: str) -> Iterator[Case]:
    """A file of 20 GiB, all hole: what opening costs does not depend on the size."""
    path = os.path.join(folder, "long.npy")
    nf.create(path, (LONG // 4,), "float32", sparse=True).close()
    names = {"nf": nf, "np": np, "path": path}
    runners = {OURS: statement("nf.open(path)", names), NUMPY: statement("np.load(path, mmap_mode='r')", names)}
    yield Case(".npy of 20 GiB: open, mode r", runners)
    os.unlink(path)


def _saving(folder: str, nbytes: int) -> Iterator[Case]:
    array = np.random.default_rng(0).random(nbytes // 8)
    names = {"nf": nf, "np": np, "os": os, "array": array, "raw": array.view(np.uint8)}
    codes = {
        "sync=False": ("nf.save(path, array, sync=False)", "np.save(path, array)", WRITE.format("")),
        "to the disk": ("nf.save(path, array)", NUMPY_SYNC, WRITE.format("os.fsync(fd)\n")),
    }
    for how, contenders in codes.items():
        runners = {
            name: _settled(statement(code, names | {"path": os.path.join(folder, f"{number}.npy")}, WALL), nbytes)
            for number, (name, code) in enumerate(zip((OURS, NUMPY, LIMIT), contenders, strict=True))
        }
        yield Case(f"save {nbytes >> 20:,} MiB, {how}", runners, rounds=7)
        for number in range(len(contenders)):
            os.unlink(os.path.join(folder, f"{number}.npy"))


def _settled(run: Runner, nbytes: int) -> Runner:
    """Return a runner that begins each time with nothing left to be written, and with memory at hand."""

    def run_each(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            settle(2 * nbytes)
            taken += run(1)
        return taken

    return run_each
