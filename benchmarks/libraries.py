"""The libraries family: what others take to fetch random rows of a file, cold and warm.

4,096 rows of 1 KiB of a matrix of bytes, as each library's users write it, those that are installed. Every library has
the same bytes in a file of its own, made as its documentation makes one: h5py a contiguous dataset, zarr and blosc2
with the chunks and the compression that they choose. h5py wants its rows sorted and each of them once, so it gets them
sorted, and is spared putting them back. torch maps the same file as ndfile. A comparison, not a contest: chunks and
compression pay elsewhere. There are no bars.
"""

from __future__ import annotations

import importlib
import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from case import NUMPY, OURS, Case, Note, Tally
from cold import Cold, warm
from random_file import random_file
from timing import WALL, Runner

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Array = np.ndarray[Any, Any]
    Index = np.ndarray[Any, np.dtype[np.int64]]
    # Opens what is at a path.
    Opener = Callable[[str], Any]
    # Fetches rows of what was opened.
    Fetch = Callable[[Any, Index], Any]

LIBRARIES = ("h5py", "zarr", "blosc2", "torch")
TITLE = "Libraries: random rows by other libraries"
CONTENDERS = (OURS, NUMPY, *LIBRARIES)
TALLIES = ("read per byte",)
LIMIT_IS = (
    "4,096 rows of 1 KiB. h5py: a contiguous dataset, rows sorted; zarr and blosc2: chunks and compression that they "
    "choose by themselves; torch: `index_select` of a tensor over the map. Random bytes, which do not compress. "
    "Opening counts where the data is cold."
)

ROWS, ROW_NBYTES = 4096, 1024
ROUNDS = 5


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    found = {name: module for name in LIBRARIES if (module := _imported(name))}
    if missing := [name for name in LIBRARIES if name not in found]:
        yield Note(f"libraries that are not installed: {', '.join(missing)}")
    nbytes = 1 << 28 if quick else 2 << 30
    with ExitStack() as stack:
        path = stack.enter_context(random_file(os.path.join(folder, "rows.dat"), nbytes))
        stack.callback(shutil.rmtree, os.path.join(folder, "zarr"), ignore_errors=True)
        sides = _sides(path, np.fromfile(path, "u1").reshape(-1, ROW_NBYTES), found)
        name = f"{ROWS:,} rows of 1 KiB of {nbytes >> 20:,} MiB"
        yield _cold(f"cold: {name}", sides, nbytes, 3 if quick else ROUNDS)
        yield _warm(f"warm: {name}", sides, nbytes, 3 if quick else ROUNDS)


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _sides(path: str, rows: Array, found: dict[str, ModuleType]) -> dict[str, tuple[str, Opener, Fetch]]:
    """Make each library's file. Returns where it is, how it is opened, and how rows are fetched."""
    folder, shape = os.path.dirname(path), rows.shape

    def mapped(memmap: Any) -> Opener:
        return lambda path: memmap(path, "u1", "r", shape=shape)

    def plain(a: Any, index: Index) -> Any:
        return a[index]

    sides: dict[str, tuple[str, Opener, Fetch]] = {
        OURS: (path, mapped(nf.memmap), plain),
        NUMPY: (path, mapped(np.memmap), plain),
    }
    if h5py := found.get("h5py"):
        place = os.path.join(folder, "rows.h5")
        with h5py.File(place, "w") as file:
            file.create_dataset("rows", data=rows)
        sides["h5py"] = (place, lambda path: h5py.File(path)["rows"], lambda a, index: a[np.sort(index)])
    if zarr := found.get("zarr"):
        place = os.path.join(folder, "zarr")
        zarr.create_array(place, data=rows)
        sides["zarr"] = (place, lambda path: zarr.open_array(path, mode="r"), lambda a, index: a.oindex[index])
    if blosc2 := found.get("blosc2"):
        place = os.path.join(folder, "rows.b2nd")
        blosc2.asarray(rows, urlpath=place)
        sides["blosc2"] = (place, lambda path: blosc2.open(path, mode="r"), plain)
    if torch := found.get("torch"):
        # A private map, for torch warns of memory that may not be written.
        opened: Opener = lambda path: torch.from_numpy(np.memmap(path, "u1", "c", shape=shape))  # noqa: E731
        sides["torch"] = (path, opened, lambda a, index: a.index_select(0, torch.from_numpy(index)))
    return sides


def _files(place: str) -> tuple[str, ...]:
    if not os.path.isdir(place):
        return (place,)
    return tuple(os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)


def _indices(rows: int) -> Iterator[Index]:
    rng = np.random.default_rng(1)
    while True:
        yield rng.choice(rows, ROWS, replace=False)


def _cold(name: str, sides: dict[str, tuple[str, Opener, Fetch]], nbytes: int, rounds: int) -> Case:
    read, indices = Tally(TALLIES[0]), _indices(nbytes // ROW_NBYTES)

    def runner(contender: str, place: str, opened: Opener, fetch: Fetch) -> Runner:
        def act(index: Index) -> object:
            a = opened(place)
            return a, fetch(a, index)

        return Cold(_files(place), act, indices, ROWS * ROW_NBYTES, read.noter(contender))

    runners = {contender: runner(contender, *side) for contender, side in sides.items()}
    return Case(name, runners, (), (), rounds, (read,), is_once=True)


def _warm(name: str, sides: dict[str, tuple[str, Opener, Fetch]], nbytes: int, rounds: int) -> Case:
    indices = _indices(nbytes // ROW_NBYTES)

    def runner(place: str, opened: Opener, fetch: Fetch) -> Runner:
        for file in _files(place):
            warm(file)
        a = opened(place)

        def run(count: int) -> float:
            drawn = [next(indices) for _ in range(count)]
            start_s = WALL()
            for index in drawn:
                fetch(a, index)
            return WALL() - start_s

        return run

    return Case(name, {contender: runner(*side) for contender, side in sides.items()}, (), (), rounds)
