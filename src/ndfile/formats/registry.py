"""Which formats there are, and which one a file has."""

from __future__ import annotations

import os
import warnings
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

REPAIR = "Repair or uninstall that package."

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
    found = _loaded(name)
    if isinstance(found, LayoutError):
        raise LayoutError(*found.args)
    return found


def find(source: Source, hints: dict[str, Any]) -> Format:
    """The format of a file: by its hints, its content, then its name. FormatError for one that nobody knows."""
    raw = named("raw")
    if "dtype" in hints:
        return _raw_by_hints(raw, source, hints)
    # Raw bytes can begin like anything, so a sidecar beside a file with a raw suffix is asked first.
    if _suffix_is(raw, source.path) and raw.recognises(source):
        return raw
    recognising = next((one for one in _all() if one is not raw and _recognises(one, source)), None)
    if recognising is not None:
        return recognising
    if raw.recognises(source):  # what stands beside a file says less than what is in it
        return raw
    suffixed = _with_suffix(source.path)
    if suffixed is None or suffixed is raw or source.head.startswith(tuple(COMPRESSED)):
        raise _unknown(source)
    return suffixed


def _raw_by_hints(raw: Format, source: Source, hints: dict[str, Any]) -> Format:
    other = next((one for one in _all() if one is not raw and _recognises(one, source)), None)
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
        if name in BUILT_IN:
            continue
        found = _loaded(name)
        if isinstance(found, Format):
            yield found
        else:  # no reason not to open a file of another format
            warnings.warn(f"{found.problem}, and is left out. {found.advice}", RuntimeWarning, stacklevel=2)


def _recognises(one: Format, source: Source) -> bool:
    if one.name in BUILT_IN:
        return one.recognises(source)
    try:
        return bool(one.recognises(source))
    except Exception as error:
        problem = f"format {one.name!r} fails to tell whether {str(source.path)!r} is of its kind ({_shown(error)})"
        warnings.warn(f"{problem}, and is left out. {REPAIR}", RuntimeWarning, stacklevel=2)
        return False


@cache
def _built_in(name: str) -> Format:
    return _checked(name, getattr(import_module(f"ndfile.formats.{name}"), BUILT_IN[name]))


@cache
def _loaded(name: str) -> Format | LayoutError:
    """A format of an installed package, or what to raise if it is asked for by name."""
    point = _entry_points()[name]
    try:
        return _checked(name, point.load())
    except Exception as error:  # whatever that package does
        package = getattr(point.dist, "name", None) or "a package"
        return LayoutError(f"format {name!r} of {package} ({point.value}) cannot be used ({_shown(error)})", REPAIR)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _checked(name: str, kind: Any) -> Format:
    if not (isinstance(kind, type) and issubclass(kind, Format) and getattr(kind, "name", None) == name):
        raise TypeError(f"the entry point {name!r} of ndfile.formats must be a subclass of Format with that name")
    suffixes: Any = kind.suffixes
    if not (isinstance(suffixes, tuple) and all(isinstance(one, str) and one.startswith(".") for one in suffixes)):
        raise TypeError(f"its suffixes must be a tuple of str that begin with a dot, not {kind.suffixes!r}")
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
