"""Which array a command is about: a file, a member of it, and what raw bytes do not say themselves."""

from __future__ import annotations

import argparse
import ast
import os
from typing import TYPE_CHECKING, Any

import numpy as np

import ndfile as nf
from ndfile.cli.selection import count, integers_of
from ndfile.dtypes import EXTENSIONS, check_descr, extension

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.array import memmap

__all__ = [
    "add_arguments",
    "add_raw_arguments",
    "array_of",
    "called",
    "field_of",
    "hints_of",
    "members_of",
    "named",
    "opened",
    "title",
    "typed",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take FILE, --key and the options for raw bytes."""
    parser.add_argument("file", metavar="FILE", help="a file of arrays, or of raw bytes")
    parser.add_argument("--key", metavar="KEY", help="the member of an archive, as 'ndfile info' lists them")
    add_raw_arguments(parser).add_argument(
        "--format", metavar="NAME", help="take the file for one of this format, whatever it looks like"
    )


def add_raw_arguments(parser: argparse.ArgumentParser) -> Any:
    """Let a command take what raw bytes do not say themselves."""
    group = parser.add_argument_group("files that do not describe themselves")
    group.add_argument(
        "--dtype", type=_dtype, metavar="DTYPE", help="type of the items, such as float32, '>i2', 'f4,i2'"
    )
    group.add_argument("--shape", type=integers_of, metavar="N,N...", help="by default 1-D, to the end of the file")
    group.add_argument("--offset", type=count, metavar="BYTES", help="bytes before the first item")
    group.add_argument("--order", choices=["C", "F"], help="which index is the fastest: the last (C) or the first (F)")
    return group


def _dtype(text: str) -> np.dtype[Any]:
    try:
        if text in EXTENSIONS:
            return extension(text)
        descr = ast.literal_eval(text) if text.lstrip().startswith("[") else text
        check_descr(descr)
        found: np.dtype[Any] = np.dtype(descr)
        return found
    except nf.LibraryError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except Exception:  # a text that is none has many ways not to be one
        raise argparse.ArgumentTypeError(
            f"{text!r} is no dtype: give one as NumPy writes it, such as float32, '>i2' or 'f4,i2'"
        ) from None


def hints_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of dtype, shape, offset and order."""
    given = {name: getattr(arguments, name) for name in ("dtype", "shape", "offset", "order")}
    return {name: value for name, value in given.items() if value is not None}


def opened(arguments: argparse.Namespace) -> Any:
    """The array that is meant, or the Archive, for reading."""
    return nf.open(arguments.file, key=arguments.key, format=arguments.format, **hints_of(arguments))


def array_of(arguments: argparse.Namespace) -> memmap[Any, Any]:
    """The array that is meant; MemberError where that is not clear."""
    found = opened(arguments)
    if not isinstance(found, nf.Archive):
        array: memmap[Any, Any] = found
        return array
    if len(found) != 1:
        raise nf.MemberError(found.filename, None, tuple(found))
    return found[next(iter(found))]


def members_of(archive: nf.Archive) -> Iterator[tuple[str, memmap[Any, Any] | None]]:
    """The arrays of an archive by name; None for one that cannot be mapped, and so has no pages."""
    for name in archive:
        try:
            yield name, archive[name]
        except nf.FormatError:
            yield name, None


def field_of(array: memmap[Any, Any], name: str | None) -> Any:
    """A field of a structured array, or the array itself where none is asked for."""
    if name is None:
        return array
    names = array.dtype.names
    if names is None:
        raise nf.LayoutError(f"field {name!r}: items of {array.dtype} have no fields", "Leave --field out.")
    if name not in names:
        raise nf.LayoutError(f"field {name!r} is none of {', '.join(map(repr, names))}", "Pass one of them.")
    return array[name]


def typed(dtype: np.dtype[Any]) -> str:
    """A dtype in a word or two."""
    if dtype.names is not None:
        return "structured"
    if dtype.subdtype is not None:
        return f"{typed(dtype.base)} {dtype.shape}"
    name = str(dtype).lstrip("<>|=") if dtype.kind in "SUV" else dtype.name
    return f"{name}, big-endian" if dtype.byteorder == ">" else name


def title(arguments: argparse.Namespace, array: Any) -> str:
    """A line that says what is looked at."""
    return f"{called(arguments)}  {typed(array.dtype)} {array.shape}"


def called(arguments: argparse.Namespace) -> str:
    """How the array that is meant is called: by its file, and its key in it."""
    key = "" if arguments.key is None else f" [{named(arguments.key)}]"
    return f"{named(os.path.basename(arguments.file))}{key}"


def named(text: Any) -> str:
    """A name from a file or of one, as a terminal can show it."""
    name = str(text)
    return name if name and name.isprintable() and name == name.strip() else repr(name)
