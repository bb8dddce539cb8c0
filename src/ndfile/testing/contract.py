"""What every format owes."""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import random
import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import ndfile
from ndfile import formats
from ndfile.errors import FormatError, LibraryError
from ndfile.formats import Format, Source
from ndfile.testing.checks import (
    bytes_at,
    check_bytes,
    check_contents,
    check_values,
    descriptors,
    drop_pages,
    item_at,
    kept,
    mutant,
    offset_of,
    read_nbytes,
    resident_nbytes,
    swap_ends,
)
from ndfile.testing.foreign import FOREIGN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ndfile.formats import Contents, Member

__all__ = ["FormatContract"]

# Of the random choices, so that a failure comes again.
SEED = 20150609

MODES = ("r", "r+", "c")


class FormatContract:
    """What every format owes. Subclass it, with a name that begins with ``Test``.

    The format has to be installed: ndfile finds it by its entry point.

    Attributes
    ----------
    format : Format
        An instance of the format.
    dtypes : tuple of dtype_like
        Those to write, with the byte order that the files will have. Each is written in the first shape.
    shapes : tuple of tuple of int
        Those to write, in the first dtype; no size of 0.
    large_shape : tuple of int
        One of some MiB, to prove that only headers are read.
    hints : mapping
        What `ndfile.open` has to be told. Mostly nothing.
    beside : tuple of str
        What is added to a file's name for the files beside it, as ``(".json",)``.
    may_end_early : bool
        Whether a file that ends before the array is still one, without that array, as a stream is.
    mutants : int
        How many broken files to make of a valid one, beside its truncations.

    See Also
    --------
    ndfile.formats.Format : what the methods of a format are for

    Notes
    -----
    Cost: seconds.

    Platforms: Linux.

    Threads: tests of several processes do not meet, each has its own folder.

    Examples
    --------
    A module of tests for the format of the class ``Toy``::

        class TestToy(FormatContract):
            format = Toy()
            dtypes = ("<f4", ">i2")

            def write(self, path, array):
                toylib.save(path, array)
    """

    format: Format
    dtypes: ClassVar[tuple[Any, ...]] = ("<f4",)
    shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((3, 4), (5,), (2, 3, 4))
    large_shape: ClassVar[tuple[int, ...]] = (2048, 2048)
    hints: ClassVar[Mapping[str, Any]] = {}
    beside: ClassVar[tuple[str, ...]] = ()
    may_end_early: ClassVar[bool] = False
    mutants: ClassVar[int] = 400

    writes: ClassVar[bool] = False  # which contract this is

    def write(self, path: str, array: np.ndarray) -> None:
        """Write a file that holds this array alone, without the format under test."""
        raise NotImplementedError

    def read(self, path: str) -> np.ndarray | None:
        """Read such a file, without the format under test. None, by default, for what only ndfile reads."""

    def array(self, dtype: Any, shape: tuple[int, ...], order: Any = "C") -> np.ndarray:
        """Make an array to write, whose first and last items differ."""
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        if dtype.kind == "V" and (dtype.names is not None or dtype.type is np.void):
            raw = np.arange(count * dtype.itemsize) % 97 + 1
            values = np.frombuffer(raw.astype(np.uint8).tobytes(), dtype)
        elif dtype.kind == "b":
            values = (np.arange(count) % 3 == 0) ^ (np.arange(count) == count - 1) * (count % 3 == 1)
        else:
            values = (np.arange(count) % 89 + 1).astype(dtype)
            values[-1:] = np.array(99).astype(dtype)
        return np.array(values.reshape(shape), order=order)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Give a test that takes `written` one array after the other."""
        if "written" in metafunc.fixturenames:
            arrays = list(self._arrays())
            names = [f"{one.dtype}-{one.shape}{'-F' * one.flags.fnc}".replace(" ", "") for one in arrays]
            metafunc.parametrize("written", arrays, ids=names)

    def test_its_attributes_are_what_ndfile_expects(self) -> None:
        one = self.format
        assert isinstance(one, Format), f"{one!r} is no instance of ndfile.formats.Format"
        assert re.fullmatch(r"[a-z][a-z0-9_+-]*", one.name), f"name {one.name!r} is not short and lower case"
        assert isinstance(one.suffixes, tuple), f"suffixes is a {type(one.suffixes).__name__}, not a tuple"
        for suffix in one.suffixes:
            assert re.fullmatch(r"(\.[^./]+)+", suffix), f"suffix {suffix!r} does not begin with a dot"
            assert suffix == suffix.lower(), f"suffix {suffix!r} is not lower case"
        assert isinstance(one.hints, tuple), f"hints is a {type(one.hints).__name__}, not a tuple"
        assert set(one.orders) <= {"C", "F"}, f"orders {one.orders} has others than 'C' and 'F'"
        assert one.metadata_nbytes >= 0, f"metadata_nbytes is {one.metadata_nbytes}"

    def test_ndfile_finds_it_by_its_name(self) -> None:
        name = self.format.name
        assert name in formats.names(), f"{name!r} is not installed: it has no entry point in the group ndfile.formats"
        found = formats.named(name)
        assert type(found) is type(self.format), f"ndfile knows {type(found)} by the name {name!r}"

    def test_one_that_writes_is_tested_for_it(self) -> None:
        writes = type(self.format).plan is not Format.plan
        assert writes == self.writes, f"it has {'a' if writes else 'no'} method plan, and this is not its contract"

    def test_its_files_are_recognised(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        with self._source(path) as source:
            assert self.format.recognises(source) is True

    def test_a_file_opens_by_its_content_or_suffix_alone(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        assert ndfile.info(path, **self.hints).format == self.format.name

    def test_a_cut_file_is_recognised_or_not_without_an_error(self, tmp_path: Path) -> None:
        path = self._file(tmp_path, self._small())
        with open(path, "rb") as file:
            content = file.read()
        for length in range(min(len(content), 600)):
            with self._changed(path, content[:length]), self._source(path) as source:
                assert self.format.recognises(source) in (True, False)

    def test_other_files_are_not_recognised(self, tmp_path: Path) -> None:
        for name, content in self._others():
            path = kept(tmp_path / "other", content)
            with self._source(path) as source:
                assert self.format.recognises(source) is False, f"it takes {name} for its own"

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        for name, content in self._others():
            path = kept(tmp_path / "other", content)
            assert self._outcome(path, "r", name) == "refused", f"it opens {name}"

    def test_a_file_is_described_as_it_was_written(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        member = self._member(path)
        assert member.dtype == written.dtype, f"{written.dtype} is described as {member.dtype}"
        assert member.shape == written.shape, f"{written.shape} is described as {member.shape}"
        assert member.order in ("C", "F"), f"its order is {member.order!r}"
        check_bytes(path, member, written)

    def test_the_description_does_not_depend_on_the_data(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        before = self._described(path)
        (member,) = before.members.values()
        with open(path, "r+b") as file:
            inverse = bytes(255 - byte for byte in bytes_at(path, member))
            file.seek(offset_of(member))
            file.write(inverse)
        assert self._described(path) == before, "its data changed, and so did what describe says"

    def test_describing_reads_headers_only(self, tmp_path: Path) -> None:
        large = self.array(self.dtypes[0], self.large_shape)
        path = self._file(tmp_path, large)
        self._described(path)  # imports what it needs
        drop_pages(path)
        resident, read = resident_nbytes(path), read_nbytes()
        self._described(path)
        came = resident_nbytes(path) - resident
        count = read_nbytes() - read
        # The system reads ahead of what is asked for.
        assert came < large.nbytes // 2, f"{came} bytes came into memory, of an array of {large.nbytes}"
        assert count < large.nbytes // 8, f"{count} bytes were read, of an array of {large.nbytes}"

    def test_describing_reads_the_file_that_was_opened(self, tmp_path: Path) -> None:
        path = self._file(tmp_path, self._small())
        before = self._described(path)
        with self._source(path) as source:
            os.rename(path, path + ".old")
            kept(path, bytes(5000))
            assert self._describe(source) == before, "the name led to another file, and describe went there"

    def test_a_map_shows_the_pages_of_the_file(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        member = self._member(path)
        for mode in ("r", "c"):
            with closing(self._open(path, mode)) as mapped:
                check_values(mapped, written)
                swap_ends(path, member)
                ends = item_at(mapped, 0), item_at(mapped, -1)
                swap_ends(path, member)
                assert ends == (item_at(written, -1), item_at(written, 0)), f"mode {mode!r} shows a copy"

    def test_a_change_in_place_is_in_the_file_at_once(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        if self._member(path).read_only is not None:
            assert self._outcome(path, "r+", "it") == "refused"
            return
        expected = written.copy()
        expected[(0,) * written.ndim] = expected[(-1,) * written.ndim]
        with closing(self._open(path, "r")) as reader, closing(self._open(path, "r+")) as writer:
            writer[(0,) * writer.ndim] = writer[(-1,) * writer.ndim]
            check_values(reader, expected)
            check_bytes(path, self._member(path), expected)
        found = self.read(path)
        if found is not None:
            check_values(found, expected)

    def test_a_change_in_memory_stays_there(self, tmp_path: Path, written: np.ndarray) -> None:
        path = self._file(tmp_path, written)
        with closing(self._open(path, "c")) as private:
            private[(0,) * private.ndim] = private[(-1,) * private.ndim]
            assert item_at(private, 0) == item_at(written, -1)
        check_bytes(path, self._member(path), written)

    def test_every_truncation_is_refused_or_opened_whole(self, tmp_path: Path) -> None:
        path = self._file(tmp_path, self._small())
        end = offset_of(member := self._member(path)) + member.nbytes
        with open(path, "rb") as file:
            content = file.read()
        chosen = random.Random(SEED)
        lengths = {*range(min(len(content), 1024)), *range(max(len(content) - 64, 0), len(content))}
        lengths |= {chosen.randrange(len(content)) for _ in range(200)}
        for length, mode in zip(sorted(lengths), itertools.cycle(MODES), strict=False):
            with self._changed(path, content[:length]):
                outcome = self._outcome(path, mode, f"the first {length} bytes")
                if outcome == "opened" and self.may_end_early and member.name not in self._described(path).members:
                    continue
            assert outcome == "refused" or length >= end, f"it opens {length} bytes, its array ends at {end}"

    def test_changed_bytes_are_refused_or_opened_within_the_file(self, tmp_path: Path) -> None:
        path = self._file(tmp_path, self._small())
        for about, broken, mode in self._mutants(path, self._member(path)):
            with broken:
                self._outcome(path, mode, about)

    def test_no_descriptor_is_left(self, tmp_path: Path) -> None:
        path = self._file(tmp_path, self._small())
        member = self._member(path)
        gc.collect()
        before = descriptors()
        for mode in MODES:
            self._outcome(path, mode, "it")
        for about, broken, mode in itertools.islice(self._mutants(path, member), 50):
            with broken:
                self._outcome(path, mode, about)
        gc.collect()
        assert descriptors() == before

    def _small(self) -> np.ndarray:
        return self.array(self.dtypes[0], self.shapes[0])

    def _arrays(self) -> Iterator[np.ndarray]:
        for dtype in self.dtypes:
            yield self.array(dtype, self.shapes[0])
        for shape in self.shapes[1:]:
            yield self.array(self.dtypes[0], shape)
        for shape in self.shapes:
            if len(shape) > 1:
                yield self.array(self.dtypes[0], shape, "F")

    def _others(self) -> Iterator[tuple[str, bytes]]:
        yield "an empty file", b""
        chosen = random.Random(SEED)
        for length in (1, 2, 3, 4, 7, 8, 10, 12, 16, 100, 511, 4096, 8192, *[600] * 50):
            yield f"{length} random bytes", chosen.randbytes(length)
        for name, content in FOREIGN.items():
            if name != self.format.name:
                yield name, content

    def _path(self, folder: Path) -> str:
        return str(folder / f"x{self.format.suffixes[0] if self.format.suffixes else ''}")

    def _file(self, folder: Path, array: np.ndarray) -> str:
        path = self._path(folder)
        self.write(path, array)
        assert os.path.isfile(path), f"write made no file {path!r}"
        return path

    @contextmanager
    def _source(self, path: str) -> Iterator[Source]:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield Source(fd, path, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def _describe(self, source: Source) -> Contents:
        contents = self.format.describe(source, **self.hints)
        check_contents(contents, source)
        return contents

    def _described(self, path: str) -> Contents:
        with self._source(path) as source:
            return self._describe(source)

    def _member(self, path: str) -> Member:
        members = self._described(path).members
        assert len(members) == 1, f"a file of one array has the members {list(members)}"
        return next(iter(members.values()))

    def _open(self, path: str, mode: str) -> ndfile.memmap[Any, Any]:
        array = ndfile.open(path, mode, self._member(path).name, format=self.format.name, **self.hints)
        assert isinstance(array, ndfile.memmap)
        return array

    def _outcome(self, path: str, mode: str, about: str) -> str:
        """Open a file, whole: "opened" or "refused". It must stay as it is, and nothing else be raised."""
        with open(path, "rb") as file:
            before = file.read()
        try:
            self._use(path, mode)
            outcome = "opened"
        except (FormatError, LibraryError):
            outcome = "refused"
        except Exception as error:
            raise AssertionError(
                f"{about}: mode {mode!r} raises {type(error).__name__} ({error}), not FormatError"
            ) from error
        with open(path, "rb") as file:
            assert file.read() == before, f"{about}: opening changes the file"
        return outcome

    def _use(self, path: str, mode: str) -> None:
        json.dumps(ndfile.info(path, format=self.format.name, **self.hints).to_dict(), allow_nan=False)
        with ndfile.open(path, mode, format=self.format.name, **self.hints) as opened:
            if isinstance(opened, ndfile.memmap):
                opened.tobytes()
                return
            for name in opened:
                try:
                    opened[name].tobytes()
                except FormatError as error:
                    assert error.member == name  # noqa: PT017  (a member with an obstacle)

    @contextmanager
    def _changed(self, path: str, content: bytes) -> Iterator[None]:
        with open(path, "rb") as file:
            before = file.read()
        kept(path, content)
        yield
        kept(path, before)

    def _mutants(self, path: str, member: Member) -> Iterator[tuple[str, Any, str]]:
        chosen = random.Random(SEED)
        paths = [path, *(path + ending for ending in self.beside)]
        for number, mode in zip(range(self.mutants), itertools.cycle(MODES), strict=False):
            which = paths[number % len(paths)]
            with open(which, "rb") as file:
                content = file.read()
            # The data may be anything, so most changes go into what is around it.
            is_mapped = which == path and member.offset is not None
            data = range(offset_of(member), offset_of(member) + member.nbytes) if is_mapped else range(0)
            places = [place for place in range(len(content)) if place not in data] if number % 8 else []
            yield f"mutant {number}", self._changed(which, mutant(chosen, content, places)), mode
