"""The engine of xarray: ``xarray.open_dataset(path, engine="ndfile")``."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Variable
from xarray.backends import AbstractDataStore, BackendArray, BackendEntrypoint, StoreBackendEntrypoint
from xarray.core import indexing

import ndfile as nf
from ndfile.errors import ClosedError, FormatError, LayoutError, MemberError
from ndfile.formats import named
from ndfile.interop.naming import chosen, described

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xarray import Dataset

    from ndfile.formats import Member
    from ndfile.interop.naming import Description

__all__ = ["FileArray", "NdfileBackendEntrypoint"]

# Of files that other engines do not know. Those of the formats that others know too are opened when they are asked for.
SUFFIXES = (".npy", ".npz", ".safetensors")

MODES = ("r", "c")

# How often a file is looked at anew that was replaced meanwhile.
TRIES = 10

# What is indexed at once, where numbers take a part of every row.
BLOCK_NBYTES = 1 << 20

# How many variables a message names.
MOST_NAMES = 20


class NdfileBackendEntrypoint(BackendEntrypoint):  # type: ignore[misc]  # xarray is not looked into
    """The entry point of the engine."""

    description = "Map arrays on files with ndfile: .npy, .npz, .safetensors, raw with a sidecar, HDF5, TIFF, and more"
    open_dataset_parameters = (
        "filename_or_obj",
        "drop_variables",
        "mask_and_scale",
        "decode_times",
        "concat_characters",
        "decode_coords",
        "use_cftime",
        "decode_timedelta",
        "key",
        "group",
        "dims",
        "mode",
        "format",
        "dtype",
        "shape",
        "order",
        "offset",
        "max_header_size",
        "backend",
        "max_rss",
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: Any = True,
        decode_times: Any = True,
        concat_characters: Any = False,
        decode_coords: Any = True,
        use_cftime: Any = None,
        decode_timedelta: Any = None,
        key: str | None = None,
        group: str | None = None,
        dims: Sequence[str | None] | Mapping[str, Sequence[str | None]] | None = None,
        mode: str = "r",
        format: str | None = None,
        dtype: Any = None,
        shape: Any = None,
        order: str | None = None,
        offset: int | None = None,
        max_header_size: int | None = None,
        backend: str = "auto",
        max_rss: int | str | None = None,
    ) -> Dataset:
        """Open a file of arrays as a Dataset whose variables are read when they are used.

        Parameters
        ----------
        filename_or_obj : str or os.PathLike
        drop_variables : str or iterable of str, optional
            Variables to leave out; they need not be there.
        mask_and_scale, decode_times, concat_characters, decode_coords, use_cftime, decode_timedelta
            As for xarray's own engines, except that characters are not joined by default. They concern variables whose
            attributes ask for it.
        key : str, optional
            Take this member alone.
        group : str, optional
            Take the members whose names begin with this and a slash, without that.
        dims : sequence of str, or mapping of str to sequence of str, optional
            Names of dimensions, of the only variable or by variable. None in one's place leaves it without a name.
        mode : {'r', 'c'}, default 'r'
            Read only, or values that can be changed in memory only.
        format, dtype, shape, order, offset, max_header_size, backend, max_rss
            As for `ndfile.open`.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        FormatError
            The file breaks its format's rules, or a variable's bytes cannot be mapped. A ValueError.
        MemberError
            There is no member `key` or `group`. A KeyError.
        LayoutError
            `dims`, a mode, format or hint that does not fit. A ValueError.
        """
        path = _checked_path(filename_or_obj)
        if mode not in MODES:
            raise LayoutError(
                f"mode must be one of {list(MODES)}, not {mode!r}",
                "Change the file with ndfile.open(path, mode='r+'); xarray changes what it has in memory.",
            )
        hints = {"dtype": dtype, "shape": shape, "order": order, "offset": offset, "max_header_size": max_header_size}
        looked = {name: hint for name, hint in hints.items() if hint is not None} | {"format": format}
        how = {"mode": mode, "backend": backend, "max_rss": max_rss}
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        store = _Store(*_opened(path, looked, how, key, group, dims, dropped))
        try:
            found: Dataset = StoreBackendEntrypoint().open_dataset(
                store,
                mask_and_scale=mask_and_scale,
                decode_times=decode_times,
                concat_characters=concat_characters,
                decode_coords=decode_coords,
                use_cftime=use_cftime,
                decode_timedelta=decode_timedelta,
            )
            found = found.set_coords([name for name in store.description.coords if name in found.variables])
        except BaseException:
            store.abandon()
            raise
        found.set_close(store.close)
        return found

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether a file without an ``engine=`` is for this one: by its suffix, or a raw one by its sidecar."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = os.fspath(filename_or_obj)
        if not isinstance(path, str):
            return False
        lower = path.lower()
        if lower.endswith(SUFFIXES):
            return True
        if not lower.endswith(named("raw").suffixes):
            return False
        try:
            return nf.info(os.path.expanduser(path)).format == "raw"
        except (OSError, nf.NdfileError):
            return False


class FileArray(BackendArray):  # type: ignore[misc]
    """An array on a file as xarray indexes it, later.

    Whole arrays and slices of them are views, which are read when they are used; rows by number are copied, with all
    their missing pages asked for at once. Nothing has to be locked. A pickle holds a reference, as with xarray's own
    engines.
    """

    __slots__ = ("array", "dtype", "filename", "is_copied", "shape")

    def __init__(self, array: np.ndarray[Any, Any], *, is_copied: bool = False) -> None:
        self.array: np.ndarray[Any, Any] | None = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.filename = getattr(array, "filename", None)
        self.is_copied = is_copied

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        array = self.opened()
        numbered = [axis for axis, one in enumerate(key.tuple) if isinstance(one, np.ndarray)]
        if not numbered:
            found = array[(*key.tuple, ...)]  # an ellipsis makes a view of a single item too
        elif isinstance(key, indexing.VectorizedIndexer):
            found = _pointwise(array, key.tuple, numbered)
        else:
            found = _orthogonal(array, key.tuple)
        return np.array(found) if self.is_copied else found

    async def async_getitem(self, key: Any) -> np.ndarray[Any, Any]:
        """The same: a view is there at once."""
        return self[key]

    def opened(self) -> np.ndarray[Any, Any]:
        """The array, unless the dataset was closed."""
        if self.array is None:
            raise ClosedError("read", self.filename, 0, "closed")
        return self.array

    def close(self) -> None:
        """Let go of the array: the file is closed with the last values that are views of it."""
        self.array = None

    def __reduce__(self) -> tuple[Any, ...]:
        array = self.opened()
        try:
            ref = array.ref  # type: ignore[attr-defined]  # a memmap, or values that came without a file
        except (AttributeError, LayoutError):  # changed in memory, or a file that has lost its name
            return _of_values, (np.array(array), self.is_copied)
        return _of_reference, (ref, self.is_copied)

    def __repr__(self) -> str:
        state = "closed" if self.array is None else f"{self.dtype} {self.shape}"
        return f"<FileArray {self.filename}: {state}>"


class _Store(AbstractDataStore):  # type: ignore[misc]
    """What xarray decodes: variables that are not read yet."""

    def __init__(self, description: Description, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.description = description
        # Coordinates of dimensions are loaded by xarray at once, and kept in an index: they need not keep the file.
        self.arrays = {
            name: FileArray(array, is_copied=description.variables[name].dims == (name,))
            for name, array in arrays.items()
        }

    def get_variables(self) -> dict[str, Any]:
        return {
            name: Variable(
                one.dims,
                indexing.LazilyIndexedArray(self.arrays[name]) if one.member is not None else one.values,
                one.attrs,
            )
            for name, one in self.description.variables.items()
        }

    def get_attrs(self) -> dict[str, Any]:
        return self.description.attrs

    def close(self) -> None:
        for array in self.arrays.values():
            array.close()

    def abandon(self) -> None:
        """Close the file now, whatever views the traceback of an error has."""
        for array in self.arrays.values():
            with contextlib.suppress(BufferError):  # without the guard, one that is in use stays open
                array.opened().close()  # type: ignore[attr-defined]
            array.close()


def _of_reference(ref: nf.ArrayRef, is_copied: bool) -> FileArray:
    return FileArray(ref.open(), is_copied=is_copied)


def _of_values(values: np.ndarray[Any, Any], is_copied: bool) -> FileArray:
    return FileArray(values, is_copied=is_copied)


def _checked_path(path: Any) -> str:
    if not isinstance(path, str | os.PathLike):  # bytes are a file's content to xarray, not its name
        raise TypeError(f"engine 'ndfile' maps files by their names, not {type(path).__name__} objects")
    return os.path.expanduser(os.fsdecode(path))


def _opened(
    path: str,
    looked: dict[str, Any],
    how: dict[str, Any],
    key: str | None,
    group: str | None,
    dims: Any,
    dropped: set[str],
) -> tuple[Description, dict[str, np.ndarray[Any, Any]]]:
    """Describe and map a file: the same one, though its name may be given to another meanwhile."""
    for _ in range(TRIES):
        before = _identity(path)
        about = nf.info(path, **looked)
        members = chosen(about, key, group, dropped)
        if not members and (key is not None or group is not None) and not dropped:
            raise MemberError(about.path, key if group is None else group, tuple(about.members))
        _refuse_unmappable(about.path, members, is_archive=about.is_archive)
        opened: Any = nf.open(path, **looked, **how) if members else None
        arrays = {name: opened[member.name] if about.is_archive else opened for name, member in members.items()}
        if _identity(path) == before:
            break
    else:
        raise OSError(errno.EBUSY, f"The file was replaced {TRIES} times while it was opened", path)
    # A file that grows may have more rows than it had an instant before.
    members = {name: member._replace(shape=arrays[name].shape) for name, member in members.items()}
    return described(about, members, dims, group), arrays


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _refuse_unmappable(path: Any, members: Mapping[str, Member], *, is_archive: bool) -> None:
    wrong = {name: member for name, member in members.items() if member.obstacle is not None}
    if not wrong:
        return
    name, member = next(iter(wrong.items()))
    more = f" (as {len(wrong) - 1} other variables can not)" if len(wrong) > 1 else ""
    advice = member.way_out or "Copy it into a file that can be: ndfile.convert(source, destination)."
    if is_archive:
        names = f"{list(wrong)[:MOST_NAMES]!r}{' and others' if len(wrong) > MOST_NAMES else ''}"
        advice += f" Or leave out what cannot be: drop_variables={names}."
    raise FormatError(path, name, None, f"{member.obstacle}, so that it cannot be mapped{more}", advice)


def _pointwise(array: np.ndarray[Any, Any], key: tuple[Any, ...], numbered: list[int]) -> np.ndarray[Any, Any]:
    """Items by numbers that go together. xarray wants their dimensions first, and those of slices behind."""
    view = array[tuple(slice(None) if axis in numbered else one for axis, one in enumerate(key))]
    sliced = [axis for axis in range(view.ndim) if axis not in numbered]
    indices = tuple(key[axis] for axis in numbered)
    found: np.ndarray[Any, Any] = view.transpose(*numbered, *sliced)[indices]
    return found


def _orthogonal(array: np.ndarray[Any, Any], key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """Items by numbers of each dimension on its own, and slices."""
    view = array[tuple(slice(None) if isinstance(one, np.ndarray) else one for one in key)]
    kept = [one for one in key if isinstance(one, slice | np.ndarray)]
    numbers = {axis: one for axis, one in enumerate(kept) if isinstance(one, np.ndarray)}
    outer = int(np.argmax(np.abs(view.strides)))
    if outer in numbers or view.nbytes <= BLOCK_NBYTES:
        return _by_numbers(view, numbers)
    # Each number takes something of every row: the file is gone through once, not once for each of them.
    sizes = tuple(len(numbers[axis]) if axis in numbers else size for axis, size in enumerate(view.shape))
    found = np.empty(sizes, view.dtype)
    step = max(BLOCK_NBYTES * view.shape[outer] // view.nbytes, 1)
    for start in range(0, view.shape[outer], step):
        block = (slice(None),) * outer + (slice(start, start + step),)
        found[block] = _by_numbers(view[block], numbers)
    return found


def _by_numbers(view: np.ndarray[Any, Any], numbers: Mapping[int, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    # Numbers before slices: then NumPy copies whole rows, and one list of them is fetched at once.
    ways = [*numbers, *(axis for axis in range(view.ndim) if axis not in numbers)]
    lists = tuple(numbers.values())
    found = view.transpose(ways)[lists[0] if len(lists) == 1 else np.ix_(*lists)]
    result: np.ndarray[Any, Any] = found.transpose(np.argsort(ways))
    return result
