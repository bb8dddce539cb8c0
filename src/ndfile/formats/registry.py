"""Which formats there are, and which one a file has."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ndfile.errors import FormatError, LayoutError
from ndfile.formats.format import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.formats.format import Source

__all__ = ["find", "for_suffix", "named", "names"]

# The module of each, and its class. In the order of asking: the first that knows a file's content has it.
BUILT_IN = {
    "npy": "Npy",
    "npz": "Npz",
    "safetensors": "Safetensors",
    "hdf5": "Hdf5",
    "tiff": "Tiff",
    "nifti": "Nifti",
    "wav": "Wav",
    "fits": "Fits",
    "arrow": "Arrow",
    "raw": "Raw",
}

# What tells a compressed file: nothing in it can be mapped.
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}


def names() -> list[str]:
    """The names of all formats, those of installed packages included."""
    return [*BUILT_IN, *(name for name in _entry_points() if name not in BUILT_IN)]


@cache
def named(name: str) -> Format:
    """The format of a name; LayoutError if there is none."""
    if name in BUILT_IN:
        return _built_in(name)
    entry_points = _entry_points()
    if name not in entry_points:
        raise LayoutError(f"format must be one of {names()}, not {name!r}", "Pass one of them, or none.")
    return _checked(name, entry_points[name].load())


def find(source: Source, hints: dict[str, Any]) -> Format:
    """The format of a file: by its hints, its content, then its name. FormatError for one that nobody knows."""
    raw = named("raw")
    if "dtype" in hints:
        return _raw_by_hints(raw, source, hints)
    # Raw bytes can begin like anything, so a sidecar beside a file with a raw suffix is asked first.
    if _suffix_is(raw, source.path) and raw.recognises(source):
        return raw
    recognising = next((one for one in _all() if one.recognises(source)), None)
    if recognising is not None:
        return recognising
    suffixed = _with_suffix(source.path)
    if suffixed is None or suffixed is raw:
        raise _unknown(source)
    return suffixed


def _raw_by_hints(raw: Format, source: Source, hints: dict[str, Any]) -> Format:
    other = next((one for one in _all() if one is not raw and one.recognises(source)), None)
    if other is None:
        return raw
    given = ", ".join(f"{name}={value!r}" for name, value in hints.items())
    raise source.broken(
        f"its content is {other.name}, which says dtype and shape itself, and {given} was given",
        advice="Leave that out, or pass format='raw' to map the file's bytes as they are.",
    )


def for_suffix(path: str | os.PathLike[str]) -> Format:
    """The format that a file is to be written in; LayoutError where its suffix is nobody's."""
    found = _with_suffix(path)
    if found is None:
        known = sorted({suffix for one in _all() for suffix in one.suffixes})
        raise LayoutError(
            f"the suffix of {os.fspath(path)!r} names no format", f"Use one of {' '.join(known)}, or pass format=."
        )
    return found


def _all() -> Iterator[Format]:
    for name in BUILT_IN:
        yield _built_in(name)
    for name in _entry_points():
        if name not in BUILT_IN:
            yield named(name)


@cache
def _built_in(name: str) -> Format:
    return _checked(name, getattr(import_module(f"ndfile.formats.{name}"), BUILT_IN[name]))


def _checked(name: str, kind: Any) -> Format:
    if not (isinstance(kind, type) and issubclass(kind, Format) and kind.name == name):
        raise TypeError(f"the entry point {name!r} of ndfile.formats must be a subclass of Format with that name")
    return kind()


@cache
def _entry_points() -> dict[str, Any]:
    # Looked for only where our own formats do not know a file: it takes milliseconds.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="ndfile.formats")}


def _with_suffix(path: Any) -> Format | None:
    return next((one for one in _all() if _suffix_is(one, path)), None)


def _suffix_is(one: Format, path: Any) -> bool:
    return str(path).lower().endswith(one.suffixes)


def _unknown(source: Source) -> FormatError:
    for magic, name in COMPRESSED.items():
        if source.head.startswith(magic):
            return source.broken(
                f"it is compressed ({name}), so that it cannot be mapped", advice="Decompress it and open the result."
            )
    return source.broken(
        f"neither its content nor its name tells a format ({', '.join(names())})",
        advice="Pass dtype= (and shape=, order=, offset=) to map its bytes as they are.",
    )
