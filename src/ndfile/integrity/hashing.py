"""The digests of a file's blocks, by all cores at once."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from ndfile._core import guard
from ndfile.errors import FaultError, LayoutError, LibraryError
from ndfile.files.file import map_beside
from ndfile.formats.format import require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Algorithm", "algorithm_of", "changed", "hash_blocks"]

# What is read at once. It stays in a core's second-level cache until it is hashed, so that memory is read only once;
# smaller pieces cost more calls, and some libraries keep the interpreter's lock for them.
PIECE_NBYTES = 512 << 10

# A thread that waits for the device does not hash.
LEAST_THREADS = 4

# How long Ctrl-C may take to be noticed.
SIGNAL_S = 0.1

# What a thread maps at once: resident memory is no more than this for each. With smaller windows making them counts:
# 4 MiB take half as long again.
WINDOW_NBYTES = 16 << 20

# Linux 5.14 and later put all pages of a window into the page tables in one call, instead of one fault for 16 of them.
MADV_POPULATE_READ = 22

# Those of hashlib with a digest of fixed length.
STANDARD = tuple(sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")))

# Those that need a library of the extra "hash": its name, and the function.
EXTRA = {"xxh3": ("xxhash", "xxh3_128"), "blake3": ("blake3", "blake3")}

PREFERRED = "xxh3"

# The fastest of hashlib's that nobody has broken, on processors with instructions for it, which are most by now.
FALLBACK = "sha256"


class Algorithm(NamedTuple):
    """A way to hash.

    Attributes
    ----------
    name : str
    make : callable
        Gives a new hash object as hashlib's are.
    nbytes : int
        Bytes of a digest.
    """

    name: str
    make: Callable[[], Any]
    nbytes: int


def algorithm_of(name: object) -> Algorithm:
    """The algorithm of a name; by default the fastest that is installed.

    LayoutError for a name that is none, LibraryError for one whose library is not installed.
    """
    if name is None:
        try:
            return algorithm_of(PREFERRED)
        except LibraryError:
            return algorithm_of(FALLBACK)
    if isinstance(name, str) and name in STANDARD:
        make: Callable[[], Any] = partial(hashlib.new, name, usedforsecurity=False)
    elif isinstance(name, str) and name in EXTRA:
        library, function = EXTRA[name]
        make = getattr(require(library, "hash", f"algorithm {name!r}"), function)
    else:
        raise LayoutError(f"algorithm must be one of {[*EXTRA, *STANDARD]}, not {name!r}", "Pass one of them.")
    return Algorithm(name, make, make().digest_size)


def changed(path: object, what: str) -> OSError:
    """Make the error to raise for a file that does not hold still."""
    text = f"The file changed while it was hashed: {what}. Run it again when nobody does that"
    return OSError(errno.ESTALE, text, path)


def hash_blocks(
    fd: int, path: object, nbytes: int, block_nbytes: int, algorithm: Algorithm, advance: Callable[[int], None]
) -> list[bytes]:
    """The digests of the blocks of a file's first `nbytes`; the last block may be a shorter one.

    A file that is cut or fails meanwhile is an OSError. `advance` is called by this thread alone, after each window.
    Whatever is raised here or there ends the other threads first.
    """
    count = -(-nbytes // block_nbytes)
    digests = [b""] * count
    job = _Job(fd, path, nbytes, block_nbytes, algorithm)
    os.posix_fadvise(fd, 0, nbytes, os.POSIX_FADV_SEQUENTIAL)
    threads = [threading.Thread(target=job.run, name="ndfile-hash") for _ in range(min(_most_threads(), count))]
    try:
        for thread in threads:
            thread.start()
        done = 0
        while done < count:
            first, found = job.outcome()
            digests[first : first + len(found)] = found
            done += len(found)
            advance(min(len(found) * block_nbytes, nbytes - first * block_nbytes))
    finally:
        job.is_over = True
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()
    return digests


def _most_threads() -> int:
    return max(len(os.sched_getaffinity(0)), LEAST_THREADS)


class _Job:
    """Blocks to be hashed, and what came of them so far."""

    def __init__(self, fd: int, path: object, nbytes: int, block_nbytes: int, algorithm: Algorithm) -> None:
        self._fd = fd
        self._path = path
        self._nbytes = nbytes
        self._block_nbytes = block_nbytes
        self._make = algorithm.make
        # As many whole blocks as go into a window, at least one.
        self._run_nbytes = block_nbytes * max(WINDOW_NBYTES // block_nbytes, 1)
        self._starts = iter(range(0, nbytes, self._run_nbytes))
        self._lock = threading.Lock()
        self._outcomes: SimpleQueue[tuple[int, list[bytes]] | BaseException] = SimpleQueue()
        self.is_over = False

    def run(self) -> None:
        """Hash blocks until there are no more."""
        try:
            # A map saves a copy, which takes twice as long as the fastest hash. Without the guard a file that is cut
            # would end the process.
            by_map = guard()
            buffer = memoryview(b"" if by_map else bytearray(min(PIECE_NBYTES, self._block_nbytes)))
            while (start := self._next()) is not None:
                stop = min(start + self._run_nbytes, self._nbytes)
                if by_map:
                    digests = self._hash_mapped(start, stop)
                else:
                    digests = [self._hash(one, buffer) for one in range(start, stop, self._block_nbytes)]
                self._outcomes.put((start // self._block_nbytes, digests))
        except BaseException as error:
            self._outcomes.put(error)

    def outcome(self) -> tuple[int, list[bytes]]:
        """Wait for the digests of some blocks, and the number of the first, or raise what stopped a thread."""
        while True:
            # A signal that the system gives to another thread does not end the wait, and is handled after it.
            with suppress(Empty):
                outcome = self._outcomes.get(timeout=SIGNAL_S)
                if isinstance(outcome, BaseException):
                    raise outcome
                return outcome

    def _next(self) -> int | None:
        with self._lock:
            return next(self._starts, None) if not self.is_over else None

    def _hash(self, start: int, buffer: memoryview) -> bytes:
        stop = min(start + self._block_nbytes, self._nbytes)
        hasher = self._make()
        while start < stop and not self.is_over:
            piece = buffer[: self._read(buffer[: stop - start], start)]
            hasher.update(piece)
            start += len(piece)
        digest: bytes = hasher.digest()
        return digest

    def _hash_mapped(self, start: int, stop: int) -> list[bytes]:
        hashers = [self._make() for _ in range(start, stop, self._block_nbytes)]
        for window in range(start, stop, WINDOW_NBYTES):
            if self.is_over:
                break
            self._update_mapped(hashers, start, window, min(window + WINDOW_NBYTES, stop))
        return [hasher.digest() for hasher in hashers]

    def _update_mapped(self, hashers: list[Any], first: int, start: int, stop: int) -> None:
        """Hash the bytes of a window; `first` is where the first hasher's block begins."""
        try:
            mapping = map_beside(self._fd, start, stop - start, "r", self._path)
            try:
                with suppress(OSError):  # an older kernel, or pages that cannot be read, which is told below
                    mapping.madvise(MADV_POPULATE_READ)
                with memoryview(mapping) as memory:
                    place = start
                    while place < stop and not self.is_over:
                        number = (place - first) // self._block_nbytes
                        end = min(first + (number + 1) * self._block_nbytes, stop)
                        with memory[place - start : end - start] as piece:
                            hashers[number].update(piece)
                        place = end
                # The guard answers lost pages with zeros and marks the mapping.
                mapping.check()
            finally:
                mapping.close()
        except FaultError as error:
            if error.cause == "truncated":
                raise changed(self._path, f"it had {self._nbytes} bytes and ends at {error.offset}") from None
            raise

    def _read(self, buffer: memoryview, offset: int) -> int:
        try:
            got = os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            if error.errno == errno.EIO:
                raise FaultError("read", self._path, offset, "read failed") from None
            raise OSError(error.errno, error.strerror, self._path) from None
        if got == 0:
            raise changed(self._path, f"it had {self._nbytes} bytes and ends at {offset}")
        return got
