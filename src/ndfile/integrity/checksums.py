"""The file of checksums that stands beside a file."""

from __future__ import annotations

import binascii
import json
import os
from errno import ENOENT
from typing import TYPE_CHECKING, Any, NoReturn

from ndfile.errors import FormatError, LayoutError
from ndfile.files.file import File
from ndfile.files.publication import publish
from ndfile.integrity.hashing import algorithm_of
from ndfile.layout import LIMIT
from ndfile.stream import write_all

if TYPE_CHECKING:
    from ndfile.integrity.hashing import Algorithm

__all__ = ["LEAST_BLOCK_NBYTES", "MOST_BLOCK_NBYTES", "SUFFIX", "Checksums"]

SUFFIX = ".checksums.json"

# What tells such a file from any other JSON, and its first version from later ones.
MARKER, VERSION = "ndfile.checksums", 1

# Smaller blocks make the checksums a noticeable part of the file, larger ones cannot be shared out among cores.
LEAST_BLOCK_NBYTES = 64 << 10
MOST_BLOCK_NBYTES = 1 << 30

# A digest in the file: at most 64 bytes in hexadecimal, quotes, comma, line end; at least 16 bytes.
MOST_DIGEST_NCHARS = 2 * 64 + 4
LEAST_DIGEST_NCHARS = 2 * 16 + 4

# Everything but the digests of blocks, with room for what others may do to spaces.
HEADER_NBYTES = 4096

# What a file that was cut to nothing may still have beside it: the digests of 200 GiB at the default block size.
SPARE_NBYTES = 2 << 20


class Checksums:
    """The checksums of a file's blocks, as they are on the disk beside it.

    Attributes
    ----------
    path : str
        The file that they are in.
    algorithm : str
    block_nbytes : int
        Bytes of a block; the last one may be shorter.
    size : int
        Bytes of the file that was hashed.
    mtime_ns : int
        When it had been changed last.
    digests : list of bytes
        One for each block.
    digest : str
        One over all of the above but the path and the time, in hexadecimal. Two files of equal content have the same
        one, if they were hashed in the same way.
    """

    __slots__ = ("algorithm", "block_nbytes", "digest", "digests", "mtime_ns", "path", "size")

    def __init__(
        self, path: str, algorithm: Algorithm, block_nbytes: int, size: int, mtime_ns: int, digests: list[bytes]
    ) -> None:
        self.path = path
        self.algorithm = algorithm.name
        self.block_nbytes = block_nbytes
        self.size = size
        self.mtime_ns = mtime_ns
        self.digests = digests
        hasher = algorithm.make()
        hasher.update(f"{algorithm.name} {block_nbytes} {size}\n".encode())
        hasher.update(b"".join(digests))
        self.digest: str = hasher.hexdigest()

    def __repr__(self) -> str:
        return (
            f"Checksums({self.path!r}: {self.algorithm} of {len(self.digests)} "
            f"block{'s'[: len(self.digests) != 1]} of {self.block_nbytes} bytes, "
            f"{self.size} in all: {self.digest})"
        )

    def publish(self) -> None:
        """Put them on the disk under their name: it has the old ones, or the new ones whole."""
        publish(self.path, self._write, overwrite=True)

    def _write(self, fd: int, path: str) -> None:
        try:
            write_all(fd, self._text().encode("ascii"), 0)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None

    def _text(self) -> str:
        facts = {
            "format": MARKER,
            "version": VERSION,
            "algorithm": self.algorithm,
            "block_nbytes": self.block_nbytes,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "digest": self.digest,
            "blocks": [digest.hex() for digest in self.digests],
        }
        return json.dumps(facts, indent=0) + "\n"

    @classmethod
    def load(cls, path: str, hashed_path: str, hashed_size: int) -> Checksums:
        """Read the checksums of a file that has a given size now. FormatError for anything but checksums."""
        return _Parser(path).parse(_read(path, hashed_path, hashed_size))


def _read(path: str, hashed_path: str, hashed_size: int) -> bytes:
    try:
        file = File(path, "r")
    except FileNotFoundError:
        text = f"There are no checksums of {hashed_path!r} yet. Make them with ndfile.checksum(path)"
        raise FileNotFoundError(ENOENT, text, path) from None
    try:
        most = HEADER_NBYTES + max(-(-hashed_size // LEAST_BLOCK_NBYTES) * MOST_DIGEST_NCHARS, SPARE_NBYTES)
        if file.size > most:
            _refuse(path, f"it has {file.size} bytes, and checksums of a file of {hashed_size} have at most {most}")
        return os.pread(file.fd, most, 0)
    finally:
        file.abandon()


def _refuse(path: str, problem: str) -> NoReturn:
    raise FormatError(path, None, None, problem, "Make the checksums again with ndfile.checksum(path).") from None


class _Parser:
    """Facts out of bytes that may be anything."""

    def __init__(self, path: str) -> None:
        self._path = path

    def parse(self, data: bytes) -> Checksums:
        facts = self._json(data)
        if facts.get("format") != MARKER:
            self._refuse(f"it has no entry 'format' of {MARKER!r}")
        if facts.get("version") != VERSION or facts["version"] is True:
            self._refuse(f"version must be {VERSION}, not {_shown(facts.get('version'))}")
        algorithm = self._algorithm(facts)
        block_nbytes = self._integer(facts, "block_nbytes", LEAST_BLOCK_NBYTES, MOST_BLOCK_NBYTES)
        size = self._integer(facts, "size", 0, LIMIT)
        digests = self._digests(facts, algorithm, -(-size // block_nbytes))
        mtime_ns = self._integer(facts, "mtime_ns", -LIMIT, LIMIT)
        found = Checksums(self._path, algorithm, block_nbytes, size, mtime_ns, digests)
        if facts.get("digest") != found.digest:
            self._refuse(f"digest must be {found.digest} for these blocks, not {_shown(facts.get('digest'))}")
        return found

    def _json(self, data: bytes) -> dict[str, Any]:
        # A list of nothing but brackets takes twenty times its bytes in memory; digests are long.
        most = len(data) // LEAST_DIGEST_NCHARS + 64
        if data.count(b",") > most or data.count(b"[") + data.count(b"{") > 64:
            self._refuse("it holds other things than digests")
        try:
            facts = json.loads(data.decode("ascii"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            self._refuse(f"it is no JSON ({' '.join(str(error).split())[:99]})")
        if not isinstance(facts, dict):
            self._refuse(f"it must be a JSON object, not {type(facts).__name__}")
        return facts

    def _algorithm(self, facts: dict[str, Any]) -> Algorithm:
        name = facts.get("algorithm")
        try:
            return algorithm_of(name if isinstance(name, str) else "")
        except LayoutError:
            self._refuse(f"algorithm {_shown(name)} is none that ndfile knows")

    def _integer(self, facts: dict[str, Any], name: str, least: int, most: int) -> int:
        value = facts.get(name)
        if type(value) is not int or not least <= value <= most:
            self._refuse(f"{name} must be an integer from {least} to {most}, not {_shown(value)}")
        return value

    def _digests(self, facts: dict[str, Any], algorithm: Algorithm, count: int) -> list[bytes]:
        texts = facts.get("blocks")
        if not isinstance(texts, list) or len(texts) != count:
            there = len(texts) if isinstance(texts, list) else "none"
            self._refuse(
                f"{facts['size']} bytes in blocks of {facts['block_nbytes']} have {count} digests, not {there}"
            )
        try:
            digests = [binascii.unhexlify(text) for text in texts]
        except (TypeError, ValueError):
            self._refuse("a digest must be a text of hexadecimal digits")
        wrong = next((number for number, digest in enumerate(digests) if len(digest) != algorithm.nbytes), None)
        if wrong is not None:
            self._refuse(
                f"the digest of block {wrong} must have {algorithm.nbytes} bytes ({algorithm.name}), "
                f"not {len(digests[wrong])}"
            )
        return digests

    def _refuse(self, problem: str) -> NoReturn:
        _refuse(self._path, problem)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _shown(value: object) -> str:
    # Numbers in the file may have thousands of digits, and texts thousands of characters.
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= 99 else f"{text[:96]}..."
