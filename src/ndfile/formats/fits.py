"""FITS: the image arrays of a file, big-endian. What must be computed (scaled, compressed) is left to astropy."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.formats.fits_units import CARD, Unit, axes_of, dtype_of, number_of, units_of
from ndfile.formats.format import Contents, Format, Member, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.formats.format import Source

__all__ = ["Fits"]

PIECE_NBYTES = 4 << 20


class Fits(Format):
    """Image HDUs; one of them is an array, several an archive.

    A member's name is its EXTNAME, "EXTNAME,EXTVER" where the name comes several times, and the number of the HDU
    where neither tells it apart. Tables are no members, compressed images are.
    """

    name = "fits"
    suffixes = (".fits", ".fit", ".fts")

    def recognises(self, source: Source) -> bool:
        return source.head.startswith(b"SIMPLE  =")

    def describe(self, source: Source, **_: Any) -> Contents:
        if not self.recognises(source):
            raise source.broken(f"it begins with {source.head[:9]!r}, not with 'SIMPLE  ='", offset=0)
        units, notes = units_of(source)
        images = [unit for unit in units if _is_image(source, unit)]
        members = {name: _member(source, unit, name) for unit, name in zip(images, _names(images), strict=True)}
        for name, member in members.items():
            if "blank" in member.metadata:
                notes.append(f"{name}: the value {member.metadata['blank']} stands for missing ones (BLANK)")
        tables = sum("TABLE" in str(unit.cards.get("XTENSION")) and not unit.is_compressed for unit in units)
        if tables:
            notes.append(f"{tables} of its {len(units)} HDUs are tables, which cannot be mapped")
        return Contents(members, len(members) != 1, {"hdus": len(units)}, tuple(notes))

    def decode(self, source: Source, member: Member) -> Iterator[np.ndarray]:
        """Give scaled and compressed images as astropy computes them."""
        if member.way_out is not None:
            yield from super().decode(source, member)
            return
        fits = require("astropy.io.fits", "fits", "converting a scaled or compressed FITS image")
        with source.reopen() as file, source.parsed_by("astropy"):
            with _silence():
                section = fits.open(file, memmap=False, lazy_load_hdus=True)[member.metadata["hdu"]].section
            for index in _pieces(member):
                with _silence():
                    piece = np.ascontiguousarray(section[index], member.dtype)
                yield piece


def _silence() -> Any:
    return warnings.catch_warnings(action="ignore")


def _pieces(member: Member) -> Iterator[tuple[Any, ...]]:
    """Indices that part an array in C order into pieces of bounded size."""
    shape = member.shape
    axis = 0  # the one to part, those before it are gone through one by one
    while axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) * member.dtype.itemsize > PIECE_NBYTES:
        axis += 1
    step = max(PIECE_NBYTES // max(math.prod(shape[axis + 1 :]) * member.dtype.itemsize, 1), 1)
    for outer in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*outer, slice(start, min(start + step, shape[axis])))


def _is_image(source: Source, unit: Unit) -> bool:
    is_plain = unit.number == 0 or unit.cards.get("XTENSION") in ("IMAGE", "IUEIMAGE")
    return unit.is_compressed or (is_plain and bool(axes_of(source, unit)))


def _names(images: list[Unit]) -> list[str]:
    candidates: list[list[str]] = []
    for unit in images:
        name = unit.cards.get("EXTNAME")
        # A name of digits would be taken for a number.
        if not isinstance(name, str) or name.isdigit() or not name:
            candidates.append([])
        else:
            candidates.append([name, f"{name},{unit.cards.get('EXTVER', 1)}"])
    counts = Counter(one for both in candidates for one in both)
    return [
        next((one for one in both if counts[one] == 1), str(unit.number))
        for unit, both in zip(images, candidates, strict=True)
    ]


def _member(source: Source, unit: Unit, name: str) -> Member:
    cards = unit.cards
    letter = "Z" if unit.is_compressed else ""
    axes = axes_of(source, unit, letter)
    dtype = dtype_of(source, unit, letter)
    metadata: dict[str, Any] = {"hdu": unit.number}
    obstacle = way_out = None
    scale, zero = (number_of(source, unit, "BSCALE", 1), number_of(source, unit, "BZERO", 0))
    if (scale, zero) != (1, 0):
        obstacle = f"its values are scaled (BSCALE {scale}, BZERO {zero})"
        dtype = _scaled_dtype(dtype, scale, zero)
    elif type(cards.get("BLANK")) is int and dtype.kind != "f":
        metadata["blank"] = cards["BLANK"]
    if unit.is_compressed:
        obstacle = f"it is compressed ({cards.get('ZCMPTYPE')})"
    elif unit.is_groups:
        obstacle = "its data is random groups (GROUPS = T)"
        axes = [*axes[1:], cards.get("GCOUNT", 1)]
        way_out = "Read it with astropy."
    if unit.text:
        # Lines, comments and all: astropy.io.fits.Header.fromstring("\n".join(header), sep="\n") reads them.
        cut = range(0, len(unit.text), CARD)
        metadata["header"] = [unit.text[start : start + CARD].decode("latin-1").rstrip() for start in cut]
    summed = "CHECKSUM" in cards or "DATASUM" in cards
    return Member(
        name,
        dtype,
        tuple(reversed(axes)),
        None if obstacle else unit.data,
        obstacle=obstacle,
        way_out=way_out,
        read_only="its header keeps a checksum of the data" if summed else None,
        metadata=metadata,
    )


def _scaled_dtype(stored: np.dtype[Any], scale: float, zero: float) -> np.dtype[Any]:
    """What astropy makes of it: the convention for unsigned integers (signed, for bytes), else floats."""
    if scale == 1 and stored.kind == "i" and zero == 2 ** (8 * stored.itemsize - 1):
        return np.dtype(f"u{stored.itemsize}")
    if scale == 1 and stored == np.uint8 and zero == -128:
        return np.dtype("i1")
    if stored.kind == "f":
        return stored.newbyteorder("=")
    return np.dtype("f8" if stored.itemsize > 2 else "f4")
