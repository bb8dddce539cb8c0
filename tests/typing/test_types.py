"""What a type checker makes of memmap. mypy reads this file in strict mode; pytest runs it."""

import io
import os
import pathlib
from typing import IO, Any, assert_type

import numpy as np
import pytest

import ndfile as nf
from ndfile._core import Mapping


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    """A file of 48 bytes."""
    name = tmp_path / "x.dat"
    name.write_bytes(bytes(48))
    return str(name)


def test_the_dtype_is_known_from_a_scalar_type(path: str) -> None:
    array = nf.memmap(path, dtype=np.float32, mode="r", shape=(3, 4))
    assert_type(array, "nf.memmap[Any, np.dtype[np.float32]]")
    assert_type(array.dtype, np.dtype[np.float32])
    assert array.dtype == np.float32


def test_the_dtype_is_known_from_a_dtype(path: str) -> None:
    array = nf.memmap(path, np.dtype(np.int16), "c")
    assert_type(array, "nf.memmap[Any, np.dtype[np.int16]]")
    assert array.dtype == np.int16


def test_the_default_dtype_is_uint8(path: str) -> None:
    array = nf.memmap(path)
    assert_type(array, "nf.memmap[Any, np.dtype[np.uint8]]")
    assert array.dtype == np.uint8


def test_a_dtype_in_words_is_any_dtype(path: str) -> None:
    array = nf.memmap(path, "float32", "r+", 0, (3, 4), "F")
    assert_type(array, "nf.memmap[Any, np.dtype[Any]]")
    assert array.flags.f_contiguous


def test_a_with_statement_gives_the_same_type(path: str) -> None:
    with nf.memmap(path, dtype=np.float64) as array:
        assert_type(array, "nf.memmap[Any, np.dtype[np.float64]]")
    assert array.closed


def test_attributes_and_methods_have_their_types(path: str) -> None:
    array = nf.memmap(path, dtype=np.float32)
    assert_type(array.filename, str | pathlib.Path | None)
    assert_type(array.offset, int | None)
    assert_type(array.mode, str | None)
    assert_type(array.closed, bool)
    assert_type(array._mmap, Mapping | None)
    array.flush()
    array.close()
    assert array.filename == path


def test_every_kind_of_file_is_taken(path: str) -> None:
    sources: list[str | bytes | os.PathLike[str] | os.PathLike[bytes]] = [path, os.fsencode(path), pathlib.Path(path)]
    for source in sources:
        assert nf.memmap(source, mode="r").size == 48
    with open(path, "r+b") as buffered, open(path, "rb", buffering=0) as raw:
        file: IO[bytes] = buffered
        assert nf.memmap(file).size == 48
        assert isinstance(raw, io.FileIO)


def test_every_kind_of_shape_is_taken(path: str) -> None:
    shapes: list[int | tuple[int, ...] | list[int] | np.int64 | None] = [6, (2, 3), [2, 3], np.int64(6), None]
    for shape in shapes:
        assert nf.memmap(path, np.float64, "r", shape=shape).size == 6
    assert nf.memmap(path, np.float64, "r", shape=np.array([2, 3])).size == 6


def test_a_memmap_is_an_array_to_whoever_takes_arrays(path: str) -> None:
    array: np.ndarray[Any, np.dtype[np.float32]] = nf.memmap(path, dtype=np.float32)
    memmap: np.memmap[Any, np.dtype[np.float32]] = nf.memmap(path, dtype=np.float32)
    annotated: nf.memmap[tuple[int, int], np.dtype[np.float32]] = nf.memmap(path, dtype=np.float32, shape=(3, 4))
    assert array.shape == memmap.shape
    assert annotated.ndim == 2


def test_files_that_describe_themselves_have_their_types(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.npz"
    nf.save(path, {"a": np.arange(3), "b": [1.5]})
    with nf.open(path) as opened:
        archive: nf.Archive = opened
        assert_type(archive["a"], "nf.memmap[Any, Any]")
        assert_type(list(archive), list[str])
    about = nf.info(path)
    assert_type(about, nf.Info)
    assert_type(about.members["a"].shape, tuple[int, ...])
    assert_type(nf.create(tmp_path / "y.npy", (2, 3), "f4"), "nf.memmap[Any, Any]")
    assert_type(nf.open_memmap(tmp_path / "y.npy"), "nf.memmap[Any, Any]")
    assert_type(nf.checksum(path), nf.Checksums)
    assert_type(nf.verify(path), nf.Verification)
    assert about.members["b"].dtype == np.float64


def test_what_is_wrong_is_seen_by_the_checker(path: str) -> None:
    with pytest.raises(nf.LayoutError):
        nf.memmap(path, mode="w")  # type: ignore[call-overload]  # no such mode
    with pytest.raises(TypeError):
        nf.memmap(path, shape=1.5)  # type: ignore[call-overload]  # no such shape
    with pytest.raises(TypeError):
        nf.memmap(5)  # type: ignore[call-overload]  # no such file


def test_errors_have_typed_facts() -> None:
    size_error = nf.SizeError("x", "u1", 0, 5, 4, 1)
    assert_type(size_error.needed, int | None)
    assert_type(size_error.size, int)
    layout_error = nf.LayoutError("problem", "advice")
    assert_type(layout_error.problem, str)
    assert isinstance(layout_error, ValueError)


def test_a_subclass_has_its_own_type(path: str) -> None:
    class Sub(nf.memmap[Any, np.dtype[np.uint8]]):
        pass

    array = Sub(path)
    assert type(array) is Sub


def test_batches_have_the_structure_of_the_arrays(path: str) -> None:
    array = nf.memmap(path, np.float32, "r")
    for batch in nf.batches(array, [0, 3], 2):
        assert_type(batch, np.ndarray[Any, np.dtype[np.float32]])
        assert batch.shape == (2,)
    together = nf.batches((array, array), range(3), seed=1, out=(np.empty(64, "f4"), np.empty(64, "f4")))
    assert_type(together, "nf.Batches[tuple[np.ndarray[Any, Any], ...]]")
    assert_type(together.position, int)
    named = next(nf.batches({"x": array}, [[1], [2]], None, lookahead=0))
    assert_type(named, dict[str, np.ndarray[Any, Any]])
    assert list(named) == ["x"]
