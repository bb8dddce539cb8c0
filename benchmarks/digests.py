"""The digests family: hashing a file of 1 GiB (256 MiB with ``--quick``), from the page cache and from the disk.

People hash what `numpy.memmap` shows them; an expert reads the file in pieces instead, as `hashlib.file_digest` does,
with one thread. Cold cases drop the file from the page cache before each run, and check by `mincore` that nothing is
left there and by the process's own count that the whole file came from the disk. Time is wall time.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import mmap
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, LIMIT, NUMPY, OURS, Case, faster, near_limit
from timing import WALL

from ndfile.integrity import hashing
from ndfile.integrity.digests import checksum, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from timing import Runner

TITLE = "Digests: hashing a whole file"
CONTENDERS = (OURS, NUMPY, EXPERT, LIMIT)
LIMIT_IS = "The limit is reading the file into the same buffers by as many threads as ours, without hashing."

ROUNDS = 9


def cases(folder: str, quick: bool) -> Iterator[Case]:
    """Yield the family's cases."""
    path = os.path.join(folder, "digests.dat")
    _make(path, 2**28 if quick else 2**30)
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
        cold = {contender: _cold(path, act) for contender, act in contenders.items()}
        yield Case(f"checksum, {name}, cold", cold, (near_limit(1.25),), (faster(1.0),), ROUNDS)
    os.unlink(path)


def _make(path: str, nbytes: int) -> None:
    random = np.random.default_rng(0)
    with open(path, "wb") as file:
        file.writelines(random.bytes(1 << 24) for _ in range(nbytes >> 24))
        file.flush()
        os.fsync(file.fileno())  # dirty pages cannot be dropped


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


def _cold(path: str, act: Callable[[], object]) -> Runner:
    """Time an act on a file that is not in the page cache, and prove that it was not."""

    def run(count: int) -> float:
        taken_s = 0.0
        for _ in range(count):
            _drop(path)
            before = _read_nbytes()
            start_s = WALL()
            act()
            taken_s += WALL() - start_s
            if (got := _read_nbytes() - before) < os.path.getsize(path):
                raise RuntimeError(f"only {got} bytes came from the disk")
        return taken_s

    return run


def _drop(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    array = np.memmap(path, "u1", "r")
    resident = np.zeros(-(-array.nbytes // mmap.PAGESIZE), "u1")
    address, found = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(resident.ctypes.data)
    if ctypes.CDLL(None, use_errno=True).mincore(address, ctypes.c_size_t(array.nbytes), found):
        raise OSError(ctypes.get_errno(), "mincore")
    if left := int((resident & 1).sum()):
        raise RuntimeError(f"{left} pages are still in the page cache")


def _read_nbytes() -> int:
    with open("/proc/self/io") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))
