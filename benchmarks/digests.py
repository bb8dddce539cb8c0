"""The digests family: hashing a file of 1 GiB (256 MiB with ``--quick``), from the page cache and from the disk.

People hash what `numpy.memmap` shows them; an expert reads the file in pieces instead, as `hashlib.file_digest` does,
with one thread. Time is wall time.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Case, Tally, faster, near_limit
from cold import Cold
from random_file import random_file
from timing import WALL

from ndfile.integrity import hashing
from ndfile.integrity.digests import checksum, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from timing import Runner

TITLE = "Digests: hashing a whole file"
CONTENDERS = (OURS, NUMPY, EXPERT, LIMIT)
TALLIES = ("read per byte",)
LIMIT_IS = "The limit is reading the file into the same buffers by as many threads as ours, without hashing."

ROUNDS = 9


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    with random_file(os.path.join(folder, "digests.dat"), 2**28 if quick else 2**30) as path:
        yield from _checksums(path)


def _checksums(path: str) -> Iterator[Case]:
    for name in ("xxh3", "blake3", "sha256"):
        if _function_of(name) is None:
            continue
        contenders = _contenders(path, name)
        if name != "xxh3":  # slower than memory: what counts is the cores
            yield Case(f"checksum, {name}, warm", _timed(contenders), (faster(1.5),), rounds=ROUNDS)
            continue
        # As fast as memory: what counts is that nothing is copied out of the page cache, which a read does.
        yield Case(f"checksum, {name}, warm", _timed(contenders), aims=(near_limit(1.0),), rounds=ROUNDS)
        verifying = contenders | {OURS: lambda: _assert(verify(path))}
        yield Case(f"verify, {name}, warm", _timed(verifying), aims=(near_limit(1.0),), rounds=ROUNDS)
        read = Tally(TALLIES[0])
        cold = {
            contender: Cold((path,), lambda act: act(), repeat(act), os.path.getsize(path), read.noter(contender))
            for contender, act in contenders.items()
        }
        bars, aims = (near_limit(1.25),), (faster(1.0),)
        yield Case(f"checksum, {name}, cold", cold, bars, aims, ROUNDS, (read,), is_once=True)


def _function_of(name: str) -> Callable[..., Any] | None:
    """Hash object by the library that people use for it; None where it is not installed."""
    library, function = {"xxh3": ("xxhash", "xxh3_128"), "blake3": ("blake3", "blake3")}.get(name, ("hashlib", name))
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(library), function)
    except ImportError:
        return None
    return found


def _contenders(path: str, name: str) -> dict[str, Callable[[], object]]:
    function = _function_of(name)
    assert function is not None

    def by_pieces() -> None:
        with open(path, "rb") as file:
            hashlib.file_digest(file, function).digest()

    return {
        OURS: lambda: checksum(path, algorithm=name),
        NUMPY: lambda: function(np.memmap(path, "u1", "r")).digest(),
        EXPERT: by_pieces,
        LIMIT: lambda: _read(path),
    }


def _read(path: str) -> None:
    """Read a file by all threads, in pieces, the next free one each."""
    fd = os.open(path, os.O_RDONLY)
    starts = iter(range(0, os.fstat(fd).st_size, hashing.PIECE_NBYTES))

    def work() -> None:
        buffer = bytearray(hashing.PIECE_NBYTES)
        for start in starts:
            os.preadv(fd, [buffer], start)

    threads = [threading.Thread(target=work) for _ in range(hashing._most_threads())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)


def _assert(whole: object) -> None:
    if not whole:
        raise AssertionError(str(whole))


def _timed(contenders: dict[str, Callable[[], object]]) -> dict[str, Runner]:
    def runner(act: Callable[[], object]) -> Runner:
        def run(count: int) -> float:
            start_s = WALL()
            for _ in range(count):
                act()
            return WALL() - start_s

        return run

    return {contender: runner(act) for contender, act in contenders.items()}
