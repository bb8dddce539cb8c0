"""The scan family: one pass over a file of 1 GiB (256 MiB with ``--quick``) that is in the page cache.

``a.sum()`` goes over an array that was read before; the other case opens, sums and drops, so that every page is
mapped anew. Both libraries read the same file. That it is warm is checked before each case.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from case import LIMIT, NUMPY, OURS, Case
from timing import statement

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Scan: one pass over warm data"
CONTENDERS = (OURS, NUMPY, LIMIT)
LIMIT_IS = "The limit is the same pass over a plain ndarray in memory."

ROUNDS = 15


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    path = os.path.join(folder, "scan.dat")
    items = (2**28 if quick else 2**30) // 4
    plain = np.ones(items, "float32")
    plain.tofile(path)
    arrays: dict[str, np.ndarray[Any, Any]] = {OURS: nf.memmap(path, "f4", "r"), NUMPY: np.memmap(path, "f4", "r")}
    _assert_warm(arrays[NUMPY])
    runners = {contender: statement("a.sum()", {"a": array}) for contender, array in (arrays | {LIMIT: plain}).items()}
    yield Case("a.sum()", runners, rounds=ROUNDS)

    _assert_warm(arrays[NUMPY])
    code = "memmap(path, 'f4', 'r').sum()"
    lives = {OURS: {"memmap": nf.memmap, "path": path}, NUMPY: {"memmap": np.memmap, "path": path}}
    runners = {contender: statement(code, names) for contender, names in lives.items()}
    yield Case("open, sum(), del", runners | {LIMIT: statement("a.sum()", {"a": plain})}, rounds=ROUNDS)


def _assert_warm(array: np.ndarray[Any, Any]) -> None:
    """Raise unless every page under the array is in the page cache."""
    pages = -(-array.nbytes // mmap.PAGESIZE)
    resident = np.zeros(pages, "u1")
    address, found = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(resident.ctypes.data)
    if ctypes.CDLL(None, use_errno=True).mincore(address, ctypes.c_size_t(array.nbytes), found):
        raise OSError(ctypes.get_errno(), "mincore")
    if missing := pages - int((resident & 1).sum()):
        raise RuntimeError(f"{missing} of {pages} pages are not in the page cache: too little memory for this case")
