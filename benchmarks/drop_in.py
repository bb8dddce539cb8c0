"""The drop-in family: what code that was written for numpy.memmap does with an open array, on warm data.

The arrays are small, for what differs is the cost of a call: rows of 64 float32 are where embeddings and samples
begin. Both libraries map the same file with mode ``r+``; ``a`` is (1000, 64), ``r`` the first 64 items, ``row`` is
``a[5]``, a view.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from case import LIMIT, NEVER_SLOWER, NUMPY, OURS, Bar, Case, faster
from timing import statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Makes an array of a file: path, dtype, mode, offset, shape.
    Opener = Callable[[str, str, str, int, tuple[int, ...]], np.ndarray[Any, Any]]

TITLE = "Drop-in: ndfile.memmap where numpy.memmap was"
CONTENDERS = (OURS, NUMPY, LIMIT)
LIMIT_IS = "The limit is the same code on a plain ndarray in memory."

SHAPE = (1000, 64)
SCALAR = (faster(3.5),)
VIEW = (faster(8),)
USUAL = (NEVER_SLOWER,)

# Code, what it must reach, and what it should.
OPERATIONS: tuple[tuple[str, tuple[Bar, ...], tuple[Bar, ...]], ...] = (
    ("r[5]", SCALAR, ()),
    ("a[3, 4]", SCALAR, ()),
    ("row[5]", SCALAR, ()),
    ("r[3] = 1.0", USUAL, ()),
    ("a[3, 4] = 1.0", USUAL, ()),
    ("a[5]", VIEW, ()),
    ("a[5:9]", VIEW, ()),
    ("r[5:9]", VIEW, ()),
    ("a[2:9, ::2]", USUAL, ()),
    ("a[..., 3]", USUAL, ()),
    ("a[5] = row", USUAL, ()),
    ("a[i] + a[j]", (faster(3),), (faster(5),)),
    ("r + 1", USUAL, ()),
    ("row + row", USUAL, ()),
    ("r *= 1", USUAL, ()),
    ("r == 1", USUAL, ()),
    ("-r", USUAL, ()),
    ("r @ row", USUAL, ()),
    ("a[[1, 5, 7]]", USUAL, ()),
    ("a[mask]", USUAL, ()),
    ("r[mask64]", USUAL, ()),
    ("for x in a[:100]: pass", USUAL, ()),
    ("for x in r: pass", USUAL, ()),
    ("r.tolist()", USUAL, ()),
    ("r.sum()", USUAL, ()),
    ("a[3].sum()", USUAL, ()),
    ("r.mean()", USUAL, ()),
    ("r.max()", USUAL, ()),
    ("r.std()", USUAL, ()),
    ("a.sum(axis=0)", USUAL, ()),
    ("np.mean(r)", USUAL, ()),
    ("np.sum(r)", USUAL, ()),
    ("np.asarray(a)", USUAL, ()),
    ("np.array(r)", USUAL, ()),
    ("a.T", USUAL, ()),
    ("a.reshape(-1)", USUAL, ()),
    ("a.ravel()", USUAL, ()),
    ("r.view('i4')", USUAL, ()),
    ("row.copy()", USUAL, ()),
    ("np.concatenate([r, r])", USUAL, ()),
    ("np.zeros_like(r)", USUAL, ()),
    ("np.where(r > 0, r, 0)", USUAL, ()),
    ("r.astype('f8')", USUAL, ()),
    ("r.argsort()", USUAL, ()),
    ("np.sort(r)", USUAL, ()),
    ("r.take([1, 5, 7])", USUAL, ()),
    ("r.argmax()", USUAL, ()),
    ("memoryview(r)", USUAL, ()),
    ("len(a)", USUAL, ()),
    ("a.shape", USUAL, ()),
    ("a.dtype", USUAL, ()),
    ("a.filename", USUAL, ()),
    ("a.offset", USUAL, ()),
    ("a.mode", USUAL, ()),
    ("row.filename", USUAL, ()),
    ("isinstance(a, memmap)", USUAL, ()),
)


def cases(folder: str, quick: bool) -> Iterator[Case]:  # noqa: ARG001 - quick has nothing to shorten here
    """Yield the family's cases."""
    path = os.path.join(folder, "rows.dat")
    np.random.default_rng(0).random(SHAPE, dtype="float32").tofile(path)
    openers: dict[str, Opener] = {OURS: nf.memmap, NUMPY: np.memmap, LIMIT: _in_memory}
    names = {contender: _names(opener, path) for contender, opener in openers.items()}
    for code, bars, aims in OPERATIONS:
        # A plain array has no file's attributes.
        usable = [c for c in names if c != LIMIT or not code.endswith((".filename", ".offset", ".mode"))]
        yield Case(code, {c: statement(code, names[c]) for c in usable}, bars, aims)


def _in_memory(path: str, dtype: str, _mode: str, _offset: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.fromfile(path, dtype, int(np.prod(shape))).reshape(shape)


def _names(opener: Opener, path: str) -> dict[str, Any]:
    a = opener(path, "float32", "r+", 0, SHAPE)
    r = opener(path, "float32", "r+", 0, SHAPE[1:])
    every_tenth = np.arange(SHAPE[0]) % 10 == 0
    masks = {"mask": every_tenth, "mask64": every_tenth[: SHAPE[1]]}
    return {"a": a, "r": r, "row": a[5], "i": 3, "j": 700, "np": np, "memmap": np.memmap, **masks}
