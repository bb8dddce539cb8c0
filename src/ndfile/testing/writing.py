"""What a format owes that writes as well."""

from __future__ import annotations

import itertools
import math
import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import ndfile
from ndfile.stream import Stream
from ndfile.testing.checks import check_bytes, check_values, kept, offset_of, refusing
from ndfile.testing.contract import FormatContract

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["WritingContract"]


class WritingContract(FormatContract):
    """What a format owes that writes as well. `read` is needed here.

    Attributes
    ----------
    alignment : int
        What the offsets of the data in written files are multiples of.
    metadata : mapping
        What is written and comes back as it is, for a format with room for metadata.
    more_shapes : tuple of tuple of int
        To be written too: those without items, and without dimensions.
    refused : tuple of dtype_like
        Types that the format cannot hold.

    Notes
    -----
    The rest is as in `FormatContract`.
    """

    alignment: ClassVar[int] = 1
    metadata: ClassVar[Mapping[str, Any]] = {"unit": "µV", "rate": 2.5, "ids": [1, None, True], "by": {"name": "x"}}
    more_shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((0, 3), ())
    refused: ClassVar[tuple[Any, ...]] = ()

    writes: ClassVar[bool] = True

    def test_a_saved_array_is_read_by_others(self, tmp_path: Path, written: np.ndarray) -> None:
        for order in self.format.orders:
            path = self._path(tmp_path)
            ndfile.save(path, np.array(written, order=order), format=self.format.name)  # type: ignore[call-overload]
            self._check_written(path, written)
            if written.ndim > 1:
                assert self._member(path).order == order, f"saved in order {order!r}, it is described in another"

    def test_arrays_without_items_or_dimensions_are_written(self, tmp_path: Path) -> None:
        for shape in self.more_shapes:
            path, array = self._path(tmp_path), self.array(self.dtypes[0], shape)
            ndfile.save(path, array, format=self.format.name)
            self._check_written(path, array)

    def test_the_plan_is_what_is_written(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._path(tmp_path)
        streams = {"data": Stream.of(written, self.format.orders[0])}
        plan = self.format.plan(streams, {})
        spans = [(offset, offset + len(part)) for offset, part in plan.parts]
        spans += [(one.offset, one.offset + one.nbytes) for one in plan.members.values() if one.offset is not None]
        spans.sort()
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end <= start, f"something ends at byte {end}, and the next begins at {start}"
        assert all(start >= 0 and end <= plan.size for start, end in spans), f"{spans} go beyond {plan.size} bytes"
        with open(path, "wb") as file:
            self.format.write(file.fileno(), streams, {})
        sidecar = self.format.sidecar(plan)
        assert (sidecar is None) == self.format.describes_itself
        if sidecar is not None:
            kept(path + ".json", sidecar)
        with open(path, "rb") as file:
            content = file.read()
        for offset, part in plan.parts:
            assert content[offset : offset + len(part)] == part, f"byte {offset} is not what the plan says"
        is_whole = all(one.offset is not None for one in plan.members.values())
        assert plan.size == len(content) if is_whole else plan.size <= len(content), (
            f"{len(content)} of {plan.size} bytes"
        )
        self._check_written(path, written)
        (planned,) = plan.members.values()
        found = self._member(path)
        assert planned[1:3] == found[1:3], f"the plan says {planned[1:3]}, the file {found[1:3]}"
        assert planned.offset in (None, found.offset), f"the plan says byte {planned.offset}, the file {found.offset}"

    def test_metadata_comes_back(self, tmp_path: Path) -> None:
        if self.format.metadata_nbytes:
            self._check_metadata(self._path(tmp_path), dict(self.metadata))

    def test_there_is_room_for_as_much_metadata_as_it_says(self, tmp_path: Path) -> None:
        if self.format.metadata_nbytes:
            self._check_metadata(self._path(tmp_path), {"x": "y" * (self.format.metadata_nbytes - len('{"x": ""}'))})

    def test_more_metadata_is_refused(self, tmp_path: Path) -> None:
        path = self._path(tmp_path)
        with refusing("metadata of one byte too many"):
            text = "y" * (self.format.metadata_nbytes - len('{"x": ""}') + 1)
            ndfile.save(path, self._small(), metadata={"x": text}, format=self.format.name)
        assert os.listdir(tmp_path) == []

    def test_several_arrays_are_written_by_name_or_refused(self, tmp_path: Path) -> None:
        path = self._path(tmp_path)
        arrays = {name: self.array(self.dtypes[0], shape) for name, shape in zip("ab", self.shapes, strict=False)}
        arrays |= {"layer0/ä ö": self._small()}
        if not self.format.is_archive:
            with refusing("several arrays"):
                ndfile.save(path, arrays, format=self.format.name)
            return
        ndfile.save(path, arrays, format=self.format.name)
        assert sorted(self._described(path).members) == sorted(arrays)
        with ndfile.open(path, format=self.format.name) as archive:
            for name, array in arrays.items():
                check_values(archive[name], array)
                # Behind the first, some formats have no room for gaps.
                assert archive[name].offset % math.gcd(self.alignment, array.itemsize) == 0

    def test_what_it_cannot_hold_is_refused(self, tmp_path: Path) -> None:
        for dtype in (object, *self.refused):
            with refusing(f"dtype {dtype}"):
                ndfile.save(self._path(tmp_path), np.zeros(self.shapes[0], dtype), format=self.format.name)
        if "F" not in self.format.orders:
            with refusing("order 'F'"):
                self.format.plan({"data": Stream.of(self.array(self.dtypes[0], (3, 4)), "F")}, {})
        assert os.listdir(tmp_path) == []

    def test_a_created_file_is_zeros_and_takes_values(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._path(tmp_path)
        streams = {"data": Stream.of(written, "C")}
        is_whole = all(one.offset is not None for one in self.format.plan(streams, {}).members.values())
        if not is_whole:
            with refusing("a file that is to be filled later"):
                ndfile.create(path, written.shape, written.dtype, format=self.format.name)
            return
        with ndfile.create(path, written.shape, written.dtype, format=self.format.name) as created:
            assert created.tobytes() == bytes(written.nbytes), "a new file is not zeros"
            created[...] = written
        self._check_written(path, written)

    def _check_written(self, path: str, array: np.ndarray) -> None:
        member = self._member(path)
        assert (member.dtype, member.shape) == (array.dtype, array.shape)
        assert offset_of(member) % self.alignment == 0, f"its data begins at byte {member.offset}"
        check_bytes(path, member, array)
        found = self.read(path)
        assert found is not None, "read gives nothing"
        check_values(found, array)

    def _check_metadata(self, path: str, metadata: dict[str, Any]) -> None:
        array = self._small()
        ndfile.save(path, array, metadata=metadata, format=self.format.name)
        assert self._described(path).metadata == metadata
        found = self.read(path)
        assert found is not None, "read gives nothing"
        check_values(found, array)
