"""What a file says of its arrays in words: names of dimensions, attributes, coordinates.

The metadata of a file that ndfile writes can say it in the form of ``xarray.DataArray.to_dict`` and
``xarray.Dataset.to_dict``; formats that have names of their own are asked for those.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ndfile import Info
    from ndfile.formats import Member

__all__ = ["Description", "Variable", "described"]

# The name of an array that has none.
ONLY = "data"

NIFTI_AXES = ("x", "y", "z", "t", "u", "v", "w")
WAV_AXES = ("time", "channel")

# An axis of TIFF that nobody has named.
TIFF_OTHER = "Q"

# Attributes that say how HDF5 and netCDF keep names; xarray's own engines hide them too.
HDF5_OWN = frozenset(
    (
        "CLASS",
        "DIMENSION_LABELS",
        "DIMENSION_LIST",
        "NAME",
        "REFERENCE_LIST",
        "_NCProperties",
        "_Netcdf4Coordinates",
        "_Netcdf4Dimid",
        "_nc3_strict",
    )
)

# What netCDF names a scale that is no variable.
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


@dataclass
class Variable:
    """An array with words: in the file (`member`), or in its metadata (`values`)."""

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    attrs: dict[str, Any]
    member: Member | None = None
    values: Any = None


@dataclass
class Description:
    """Variables by name, the attributes of them all, and which of them are coordinates whatever their dimensions."""

    variables: dict[str, Variable]
    attrs: dict[str, Any]
    coords: set[str]


@dataclass
class _Words:
    """What the metadata says, by variable."""

    dims: dict[str, Any]
    attrs_of: dict[str, Mapping[str, Any]]
    coords: dict[str, Any]
    attrs: dict[str, Any]

    def take(self, entries: Mapping[str, Any], *, are_coords: bool) -> None:
        """Take what is said of single variables."""
        for name, entry in entries.items():
            if are_coords:
                self.coords[name] = entry
            if _is_mapping(entry) and _is_names(entry.get("dims")):
                self.dims[name] = entry["dims"]
            if _is_mapping(entry) and _is_mapping(entry.get("attrs")):
                self.attrs_of[name] = entry["attrs"]


def described(about: Info, members: Mapping[str, Member], dims: Any, group: str | None) -> Description:
    """Name everything about some members of a file, which have the names of variables already.

    `dims` is the user's word, names or a mapping of variables to names, and goes before the file's.
    """
    words = _words(about, members)
    given = _given(dims, members)
    variables: dict[str, Variable] = {}
    for name, member in members.items():
        said = given[name] if name in given else _said(words, about, name, member, group)
        named = _completed(said, name, member, is_alone=not about.is_archive)
        variables[name] = Variable(name, member.shape, named, _attrs(words, about, name, member), member)
    _give_own_names(variables, given)
    _part_clashing(variables)
    for name in words.coords:
        if name not in variables:
            _add_coordinate(variables, name, words.coords[name])
    attrs = dict(words.attrs) if about.is_archive else {}
    return Description(variables, attrs, {name for name in words.coords if name in variables})


def only_name(about: Info) -> str:
    """What the array of a file of one array is called."""
    name = about.metadata.get("name")
    return name if isinstance(name, str) and name else ONLY


def is_no_variable(member: Member) -> bool:
    """Tell whether it only stands for a dimension."""
    name = member.metadata.get("NAME")
    return isinstance(name, str) and name.startswith(NO_VARIABLE)


def _words(about: Info, members: Mapping[str, Member]) -> _Words:
    said = {key: _parsed(value) for key, value in about.metadata.items()}
    words = _Words({}, {}, {}, dict(about.metadata))
    alone = next(iter(members)) if len(members) == 1 else None
    for key in ("dims", "_ARRAY_DIMENSIONS"):
        value: Any = said.get(key)
        if alone is not None and _is_names(value):
            words.dims[alone] = value
        elif _is_mapping(value) and about.is_archive:  # to_dict has sizes there, which the arrays say
            words.dims |= {name: one for name, one in value.items() if _is_names(one)}
        else:
            continue
        del words.attrs[key]
    for key in ("data_vars", "coords"):
        entries: Any = said.get(key)
        if _is_names(entries):
            entries = {name: {} for name in entries}
        if _is_mapping(entries):
            words.take(entries, are_coords=key == "coords")
            del words.attrs[key]
    if _is_mapping(said.get("attrs")):
        del words.attrs["attrs"]
        words.attrs |= said["attrs"]
    if not about.is_archive and members:
        _forget(words.attrs, next(iter(members.items())))
    words.attrs = _without_own(about, words.attrs)
    return words


def _forget(attrs: dict[str, Any], one: tuple[str, Member]) -> None:
    """Leave out what the array says itself, and to_dict too."""
    name, member = one
    if attrs.get("name") == name:
        del attrs["name"]
    if "dtype" in attrs and attrs.get("shape") == list(member.shape):
        del attrs["dtype"], attrs["shape"]


def _parsed(value: Any) -> Any:
    """Formats whose metadata are texts (safetensors, Arrow) have JSON in them."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str | None) for name in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, AbstractMapping)


def _given(dims: Any, members: Mapping[str, Member]) -> dict[str, Sequence[str | None]]:
    if dims is None:
        return {}
    if isinstance(dims, AbstractMapping):
        found = dict(dims)
    elif len(members) == 1:
        found = dict.fromkeys(members, dims)
    else:
        raise LayoutError(
            f"dims names the dimensions of one variable, the file has {len(members)}",
            "Pass a mapping of variables to names, or key= for one variable.",
        )
    for name, one in found.items():
        if name not in members:
            raise LayoutError(f"dims has {name!r}, which is no variable of the file", f"There are {list(members)[:5]}.")
        if not _is_names(one):
            raise LayoutError(f"dims of {name!r} must be a list of names, not {one!r}", "Pass a list of str.")
    return found


def _said(words: _Words, about: Info, name: str, member: Member, group: str | None) -> Sequence[str | None] | None:
    """What the file says, the words of metadata first. None if it says nothing."""
    if name in words.dims:
        return words.dims[name]  # type: ignore[no-any-return]  # a list of names, as was looked at
    own = about.is_archive and next(
        (member.metadata[key] for key in ("_ARRAY_DIMENSIONS", "dims") if _is_names(member.metadata.get(key))), None
    )
    if own:
        return own  # type: ignore[no-any-return]
    found = _named_by_format(about, member)
    if found is None:
        return None
    prefix = f"{group}/" if group else ""
    # A size that a format does not name, or names twice, is one that nobody has named.
    return [None if one is None or one in found[:axis] else one.removeprefix(prefix) for axis, one in enumerate(found)]


def _named_by_format(about: Info, member: Member) -> list[str | None] | None:
    ndim = len(member.shape)
    match about.format:
        case "nifti":
            return list(NIFTI_AXES[:ndim])
        case "wav":
            return list(WAV_AXES[:ndim])
        case "tiff":
            axes = member.metadata.get("axes", "")
            return [None if axis == TIFF_OTHER else axis for axis in axes] if len(axes) == ndim else None
        case "arrow":
            row = "row" if about.metadata.get("batches") == 1 else f"row_{member.metadata.get('batch')}"
            return [row, *[None] * (ndim - 1)]
        case "hdf5":
            return _named_by_scales(member)
    return None


def _named_by_scales(member: Member) -> list[str | None] | None:
    ndim = len(member.shape)
    if member.metadata.get("CLASS") == "DIMENSION_SCALE" and ndim == 1:
        return [member.name]
    scales = member.metadata.get("DIMENSION_LIST")
    if not isinstance(scales, list):
        return None
    found = [names[0] if isinstance(names, list) and names else None for names in scales]
    return [*found, *[None] * ndim][:ndim]


def _completed(said: Sequence[str | None] | None, name: str, member: Member, *, is_alone: bool) -> tuple[str, ...]:
    """A name for each dimension: xarray's own for those that have none, in an archive with the variable's before it."""
    ndim = len(member.shape)
    if said is None:
        said = [None] * ndim
    if len(said) != ndim:
        raise LayoutError(
            f"{list(said)} are names of {len(said)} dimensions, {name!r} has {ndim} {member.shape}",
            "Pass dims= with as many.",
        )
    named = [one for one in said if one is not None]
    if len(set(named)) < len(named):
        raise LayoutError(f"dims of {name!r} has a name twice: {list(said)}", "Pass dims= with different ones.")
    stem = "dim" if is_alone else f"{name}_dim"
    return tuple(f"{stem}_{axis}" if one is None else one for axis, one in enumerate(said))


def _give_own_names(variables: Mapping[str, Variable], given: Mapping[str, Any]) -> None:
    """Let what is 1-D, without a name for that, and named and as long as a dimension of others, be its coordinate."""
    sizes: dict[str, set[int]] = {}
    for one in variables.values():
        for dim, size in zip(one.dims, one.shape, strict=True):
            sizes.setdefault(dim, set()).add(size)
    for name, one in variables.items():
        if name not in given and one.dims == (f"{name}_dim_0",) and one.shape[0] in sizes.get(name, ()):
            one.dims = (name,)


def _part_clashing(variables: Mapping[str, Variable]) -> None:
    """Rename dimensions of one name and different lengths: the coordinate keeps it, or else the first variable."""
    sizes = {name: one.shape[0] for name, one in variables.items() if one.dims == (name,)}
    for name, one in variables.items():
        for dim, size in zip(one.dims, one.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                one.dims = tuple(f"{name}_{dim}" if own == dim else own for own in one.dims)


def _attrs(words: _Words, about: Info, name: str, member: Member) -> dict[str, Any]:
    if not about.is_archive:  # the file's words are the array's
        return dict(words.attrs)
    own = {key: value for key, value in member.metadata.items() if key != "_ARRAY_DIMENSIONS"}
    return _without_own(about, own) | dict(words.attrs_of.get(name, {}))


def _without_own(about: Info, attrs: dict[str, Any]) -> dict[str, Any]:
    if about.format != "hdf5":
        return attrs
    # Arrays of one value are how netCDF keeps numbers.
    return {
        key: value[0] if isinstance(value, list) and len(value) == 1 else value
        for key, value in attrs.items()
        if key not in HDF5_OWN
    }


def _add_coordinate(variables: dict[str, Variable], name: str, entry: Any) -> None:
    """A coordinate whose values are in the metadata: a list of them, or as `to_dict` has it."""
    if isinstance(entry, AbstractMapping):
        if "data" not in entry:
            return  # said about a variable that is not here
        values, dims, attrs = np.asarray(entry["data"]), entry.get("dims"), entry.get("attrs", {})
    else:
        values, dims, attrs = np.asarray(entry), None, {}
    if dims is None:
        dims = (name,)[: values.ndim]
    if not _is_names(dims) or len(dims) != values.ndim or not _is_mapping(attrs):
        raise LayoutError(
            f"coordinate {name!r} of the metadata has {values.ndim} dimensions, named {dims!r}",
            "Write the metadata anew: a list of names, and values of that many dimensions.",
        )
    sizes = {dim: size for one in variables.values() for dim, size in zip(one.dims, one.shape, strict=True)}
    wrong = [dim for dim, size in zip(dims, values.shape, strict=True) if sizes.get(dim, size) != size]
    if wrong:  # the array has grown since
        axis = list(dims).index(wrong[0])
        text = (
            f"coordinate {name!r} of the metadata has {values.shape[axis]} values along {wrong[0]!r}, "
            f"the array {sizes[wrong[0]]}. It is left out."
        )
        warnings.warn(text, stacklevel=2)
        return
    variables[name] = Variable(name, values.shape, tuple(dims), dict(attrs), None, values)


def chosen(about: Info, key: str | None, group: str | None, dropped: Iterable[str]) -> dict[str, Member]:
    """The members that are variables, by the names of these."""
    prefix = f"{group}/" if group else ""
    found = {}
    for member in about.members.values():
        if not about.is_archive:
            name = only_name(about)
        elif key is not None or member.name.startswith(prefix):
            name = member.name.removeprefix(prefix)
        else:
            continue
        if key in (None, member.name) and name not in dropped and not is_no_variable(member):
            found[name] = member
    return found
