"""What a format owes that decodes arrays which cannot be mapped."""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import ndfile
from ndfile.errors import FormatError, LibraryError
from ndfile.testing.checks import check_values, descriptors
from ndfile.testing.contract import FormatContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DecodingContract"]


class DecodingContract(FormatContract):
    """What a format owes that decodes arrays which cannot be mapped.

    Attributes
    ----------
    packed_dtypes : tuple of dtype_like
        Those to write; by default `dtypes`.

    Notes
    -----
    The rest is as in `FormatContract`.
    """

    packed_dtypes: ClassVar[tuple[Any, ...]] = ()

    def write_packed(self, path: str, array: np.ndarray) -> np.ndarray | None:
        """Write a file with this array alone, so that its bytes cannot be mapped: compressed, scaled, in chunks.

        Returns what `ndfile.convert` should make of it, where that is not the same array.
        """
        raise NotImplementedError

    def test_what_cannot_be_mapped_says_why(self, tmp_path: Path) -> None:
        for path, expected in self._packed(tmp_path):
            member = self._member(path)
            assert (member.dtype, member.shape) == (expected.dtype, expected.shape)
            assert member.obstacle is not None, "it has no obstacle"
            try:
                ndfile.open(path, key=member.name, format=self.format.name, **self.hints).close()
            except FormatError as error:
                assert member.obstacle in str(error)  # noqa: PT017  (pytest is no dependency)
            else:
                raise AssertionError(f"{member.obstacle}, and yet it is mapped")

    def test_it_decodes_to_the_bytes_of_the_array(self, tmp_path: Path) -> None:
        for path, expected in self._packed(tmp_path):
            member = self._member(path)
            with self._source(path) as source:
                pieces = [piece.tobytes() for piece in self.format.decode(source, member)]
            assert b"".join(pieces) == expected.tobytes(member.order)  # type: ignore[arg-type]

    def test_it_is_converted(self, tmp_path: Path) -> None:
        for path, expected in self._packed(tmp_path):
            ndfile.convert(path, str(tmp_path / "converted.npy"), **self.hints)
            check_values(np.load(tmp_path / "converted.npy"), expected)

    def test_decoding_leaves_no_descriptor(self, tmp_path: Path) -> None:
        for path, _ in self._packed(tmp_path):
            self._decode(path, "it")
            gc.collect()
            before = descriptors()
            self._decode(path, "it")
            gc.collect()
            assert descriptors() == before

    def test_decoding_changed_bytes_raises_nothing_but_format_errors(self, tmp_path: Path) -> None:
        path = self._path(tmp_path)
        self.write_packed(path, self.array((self.packed_dtypes or self.dtypes)[0], self.shapes[0]))
        for about, broken, _ in self._mutants(path, self._member(path)):
            with broken:
                self._decode(path, about)

    def test_decoding_a_cut_file_raises_nothing_but_format_errors(self, tmp_path: Path) -> None:
        path = self._path(tmp_path)
        self.write_packed(path, self.array((self.packed_dtypes or self.dtypes)[0], self.shapes[0]))
        with open(path, "rb") as file:
            content = file.read()
        for length in range(0, len(content), max(len(content) // 200, 1)):
            with self._changed(path, content[:length]):
                self._decode(path, f"the first {length} bytes")

    def _packed(self, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
        for number, (dtype, shape) in enumerate(itertools.product(self.packed_dtypes or self.dtypes, self.shapes)):
            (own := folder / str(number)).mkdir()
            path, array = self._path(own), self.array(dtype, shape)
            expected = self.write_packed(path, array)
            yield path, array if expected is None else expected

    def _decode(self, path: str, about: str) -> None:
        try:
            for member in self._described(path).members.values():
                if member.obstacle is not None and member.nbytes < 1 << 24:
                    with self._source(path) as source:
                        for piece in self.format.decode(source, member):
                            piece.tobytes()
        except (FormatError, LibraryError):
            pass
        except Exception as error:
            raise AssertionError(f"{about}: {type(error).__name__} ({error}), not FormatError") from error
