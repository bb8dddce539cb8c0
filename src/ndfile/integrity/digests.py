"""Checksums of files: made once, and compared with what the disk gives later."""

from __future__ import annotations

import os
from operator import index
from typing import TYPE_CHECKING, Any

from ndfile import formats
from ndfile.errors import FormatError, LayoutError, LibraryError
from ndfile.files.file import File
from ndfile.integrity.checksums import LEAST_BLOCK_NBYTES, MOST_BLOCK_NBYTES, SUFFIX, Checksums
from ndfile.integrity.hashing import algorithm_of, changed, hash_blocks
from ndfile.integrity.verification import Damage, Rows, Verification
from ndfile.progress import reported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ndfile.layout import Layout
    from ndfile.progress import Progress

__all__ = ["Checksums", "Verification", "checksum", "verify"]

# Fine enough to say where, large enough that what there is to do for each block costs nothing beside hashing it: one
# digest of xxh3 to a block is a 120,000th of the file.
BLOCK_NBYTES = 4 << 20


def checksum(
    path: str | bytes | os.PathLike[Any],
    *,
    algorithm: str | None = None,
    block_nbytes: int = BLOCK_NBYTES,
    progress: Progress = None,
) -> Checksums:
    """Hash a file block by block, and write the checksums beside it.

    They go into ``path + ".checksums.json"``, in place of older ones; `verify` compares the file with them. Any file
    can be hashed, whatever its format. Only the file itself is: what stands beside it, as the description of a raw
    file does (``x.bin.json``), has to be hashed by itself. An array that is mapped and was changed needs its `flush`
    first, or it may be hashed as it is just now; the map's readers and the file stay as they are.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A regular file.
    algorithm : str, optional
        ``"xxh3"`` (128 bits), ``"blake3"``, or one of hashlib's with a fixed length, such as ``"sha256"`` and
        ``"blake2b"``. By default xxh3 where the extra "hash" is installed, else sha256. xxh3 finds every damage by
        accident; against somebody who changes files on purpose use another, and keep `Checksums.digest` elsewhere.
    block_nbytes : int, default 4 MiB
        Bytes of a block, from 64 KiB to 1 GiB. Damage is told by whole blocks.
    progress : bool or callable, optional
        True shows a bar on standard error. A callable gets ``(done_nbytes, total_nbytes)`` after every few blocks,
        in this thread; what it raises ends the work.

    Returns
    -------
    Checksums
        As written, with a `digest` over all.

    Raises
    ------
    LayoutError
        An algorithm that there is not, or a block size out of bounds. A ValueError.
    LibraryError
        The algorithm's library is not installed. An ImportError.
    FaultError
        The device could not read the file. An OSError.
    OSError
        The file cannot be opened, is no regular file, or changed meanwhile; or the checksums cannot be written. There
        is no new file then.

    See Also
    --------
    verify

    Notes
    -----
    Cost: one read of the file by all cores, at the speed of the device, or for xxh3 nearly that of copying from the
    page cache; 512 KiB of memory for each thread. The file of checksums is on the disk when this returns.

    Platforms: Linux.

    Threads: any number may hash at once. The file may be read by others; when somebody writes to it meanwhile, this
    raises.

    The digest of a block is that of its bytes alone; ``digest`` is that of the line
    ``f"{algorithm} {block_nbytes} {size}\\n"`` in ASCII, followed by the digests of all blocks as bytes.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from ndfile.integrity.digests import checksum, verify
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, np.arange(1000.0))
    >>> sums = checksum(path, algorithm="sha256")
    >>> os.path.basename(sums.path), sums.size, len(sums.digests)
    ('x.npy.checksums.json', 8128, 1)
    >>> bool(verify(path))
    True
    """
    chosen = algorithm_of(algorithm)
    block_nbytes = index(block_nbytes)
    if not LEAST_BLOCK_NBYTES <= block_nbytes <= MOST_BLOCK_NBYTES:
        raise LayoutError(
            f"block_nbytes must be from {LEAST_BLOCK_NBYTES} to {MOST_BLOCK_NBYTES}, not {block_nbytes}",
            "Leave it out for one that suits.",
        )
    name = _name_of(path)
    file = File(name, "r")
    try:
        before = os.fstat(file.fd)
        with reported(progress, before.st_size, _label("checksum", name)) as advance:
            digests = hash_blocks(file.fd, name, before.st_size, block_nbytes, chosen, advance)
        _check_unchanged(file.fd, name, before)
    finally:
        file.abandon()
    made = Checksums(name + SUFFIX, chosen, block_nbytes, before.st_size, before.st_mtime_ns, digests)
    made.publish()
    return made


def verify(path: str | bytes | os.PathLike[Any], *, progress: Progress = None) -> Verification:
    """Compare a file with the checksums that `checksum` wrote beside it.

    Changes nothing. A difference is no error: look at the result, which is true only for a whole file, and shows what
    is damaged when printed. Only the file itself is compared, not what stands beside it.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        A file that was hashed.
    progress : bool or callable, optional
        As for `checksum`.

    Returns
    -------
    Verification
        True as a condition if the file has its size and every block its digest.

    Raises
    ------
    FileNotFoundError
        There is no such file, or there are no checksums beside it.
    FormatError
        The file of checksums is damaged itself. A ValueError.
    LibraryError
        The library of their algorithm is not installed. An ImportError.
    FaultError
        The device could not read the file. An OSError.
    OSError
        The file cannot be opened, is no regular file, or changed meanwhile.

    See Also
    --------
    checksum

    Notes
    -----
    Cost: that of `checksum`. Rows are found from the headers of the file as it is now: a file whose headers are damaged
    so that they cannot be read, one of no known format, and members whose bytes do not lie in the file as they are
    (compressed ones) have byte ranges only.

    Platforms: Linux.

    Threads: any number may compare at once. When somebody writes to the file meanwhile, this raises.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from ndfile.integrity.digests import checksum, verify
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, np.zeros((1000, 1000)))
    >>> _ = checksum(path, algorithm="sha256", block_nbytes=2**20)
    >>> found = verify(path)
    >>> bool(found), found.damages
    (True, ())

    A single byte goes wrong:

    >>> with open(path, "r+b") as file:
    ...     _ = file.seek(5_000_000), file.write(b"!")
    >>> found = verify(path)
    >>> bool(found)
    False
    >>> found.damages[0].blocks, found.damages[0].rows
    (range(4, 5), {'data': range(524, 656)})
    """
    name = _name_of(path)
    file = File(name, "r")
    try:
        before = os.fstat(file.fd)
        size = before.st_size
        sums = Checksums.load(name + SUFFIX, name, size)
        # The last block of a longer file ends where it did; one that is cut is missing, as are those behind it.
        whole = sums.size if size >= sums.size else size // sums.block_nbytes * sums.block_nbytes
        with reported(progress, whole, _label("verify", name)) as advance:
            digests = hash_blocks(file.fd, name, whole, sums.block_nbytes, algorithm_of(sums.algorithm), advance)
        layouts = {} if digests == sums.digests else _layouts_in(file, sums.size)
        _check_unchanged(file.fd, name, before)
    finally:
        file.abandon()
    differing = [number for number, digest in enumerate(digests) if digest != sums.digests[number]]
    runs = [(blocks, False) for blocks in _runs(differing)]
    if len(digests) < len(sums.digests):
        runs.append((range(len(digests), len(sums.digests)), True))
    rows_in = Rows(layouts).within
    damages = tuple(Damage.of(blocks, is_missing, sums, rows_in) for blocks, is_missing in runs)
    was_written = before.st_mtime_ns != sums.mtime_ns
    return Verification(
        name, sums.path, sums.algorithm, sums.block_nbytes, sums.size, size, was_written=was_written, damages=damages
    )


def _name_of(path: Any) -> str:
    # A file object's name may lead elsewhere by now, and there has to be one for the checksums.
    return os.path.abspath(os.fsdecode(path))


def _label(act: str, name: str) -> str:
    return f"{act} {os.path.basename(name)}"


def _check_unchanged(fd: int, name: str, before: os.stat_result) -> None:
    after = os.fstat(fd)
    if after.st_size != before.st_size:
        raise changed(name, f"it had {before.st_size} bytes before and {after.st_size} after")
    if after.st_mtime_ns != before.st_mtime_ns:
        raise changed(name, "somebody wrote to it")
    try:
        is_same = os.path.samestat(os.stat(name), after)
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise changed(name, "its name was given to another one, or taken away")


def _runs(numbers: Iterable[int]) -> list[range]:
    """Ranges that hold ascending numbers, and no others."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs


def _layouts_in(file: File, expected_size: int) -> dict[str, Layout]:
    """Where the arrays in a file lie, or lay before it was cut; none if it does not tell, or no more."""
    source = formats.Source(file.fd, file.name, max(file.size, expected_size))
    try:
        members = formats.find(source, {}).describe(source).members
        return {name: member.layout(source) for name, member in members.items() if member.obstacle is None}
    except (FormatError, LibraryError):
        return {}
