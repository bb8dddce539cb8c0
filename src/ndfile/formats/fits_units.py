"""The header-data units (HDUs) of FITS, one behind the other: their cards, and where their data lies.

They are read here because astropy follows them wherever they lead (a NAXIS of millions takes it minutes, a negative
size makes it go round for ever), takes a quarter of a second to import, and speaks in warnings.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.layout import LIMIT, MOST_DIMENSIONS

if TYPE_CHECKING:
    from ndfile.formats.format import Source

__all__ = ["CARD", "Unit", "axes_of", "dtype_of", "number_of", "units_of"]

BLOCK = 2880
CARD = 80
END = b"END".ljust(8)

# Headers of real files have some hundred cards, and files some hundred HDUs; hostile ones would have us read for ever.
MOST_HEADER_NBYTES = 364 * BLOCK  # 1 MiB
MOST_HDUS = 10000
MOST_HEADERS_NBYTES = 64 << 20  # of all HDUs

# Of one header, and of all of a file's, as metadata.
MOST_METADATA_NBYTES = 64 << 10
MOST_METADATAS_NBYTES = 1 << 20

# The cards that matter here; those of a compressed image begin with Z.
KEYS = frozenset(
    b"SIMPLE XTENSION BITPIX NAXIS PCOUNT GCOUNT GROUPS EXTNAME EXTVER BSCALE BZERO BLANK CHECKSUM DATASUM "
    b"ZIMAGE ZCMPTYPE ZBITPIX ZNAXIS".split()
)
LOOSE = frozenset(b"EXTNAME EXTVER CHECKSUM DATASUM".split())  # may come twice in real files; the first counts
AXIS = re.compile(rb"Z?NAXIS[1-9]\d{0,2}")
STRING = re.compile(r"\s*'((?:[^']|'')*)'")
INTEGER = re.compile(r"[+-]?\d{1,70}")
FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?")

DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


class Unit(NamedTuple):
    """One HDU."""

    number: int
    cards: dict[str, Any]
    offset: int  # of its header
    data: int  # offset of its data
    text: bytes  # the header, unless it is too much to keep

    @property
    def is_compressed(self) -> bool:
        return self.cards.get("ZIMAGE") is True and self.cards.get("XTENSION") == "BINTABLE"

    @property
    def is_groups(self) -> bool:
        return self.cards.get("GROUPS") is True and self.cards.get("NAXIS1") == 0


def units_of(source: Source) -> tuple[list[Unit], list[str]]:
    """Go from HDU to HDU. Also what to note."""
    units: list[Unit] = []
    place = total = kept = 0
    while place < source.size:
        number = len(units)
        if number and source.read(place, min(8, source.size - place)) != b"XTENSION":
            return units, [f"{source.size - place} bytes follow the last HDU"]
        if number == MOST_HDUS or total > MOST_HEADERS_NBYTES:
            raise source.broken(f"more than {number} HDUs, or {total} bytes of headers, are too many", offset=place)
        cards, text = _header(source, place, number)
        total += len(text)
        is_kept = len(text) <= MOST_METADATA_NBYTES and kept + len(text) <= MOST_METADATAS_NBYTES
        kept += len(text) if is_kept else 0
        data = place + (len(text) // BLOCK + 1) * BLOCK
        unit = Unit(number, cards, place, data, text if is_kept else b"")
        nbytes = _data_nbytes(source, unit)
        if data + nbytes > source.size:
            there = max(source.size - data, 0)
            raise source.broken(
                f"the data of HDU {number} should have {nbytes} bytes, the file has {there} of them", offset=data
            )
        units.append(unit)
        place = data + -(-nbytes // BLOCK) * BLOCK
    return units, []


def _header(source: Source, place: int, number: int) -> tuple[dict[str, Any], bytes]:
    """The cards that matter, and the text of all of them. END is a card of its own behind it."""
    cards: dict[str, Any] = {}
    blocks = []
    for start in range(place, min(place + MOST_HEADER_NBYTES, source.size), BLOCK):
        block = source.read(start, min(BLOCK, source.size - start))
        blocks.append(block)
        for begin in range(0, len(block), CARD):
            key = block[begin : begin + 8]
            if key == END:
                return cards, b"".join(blocks)[: start + begin - place]
            name = key.rstrip()
            if name not in KEYS and not AXIS.fullmatch(name):
                continue
            value = _value(block[begin + 8 : begin + CARD].decode("latin-1"))
            said = cards.setdefault(name.decode("ascii"), value)
            if (said != value or type(said) is not type(value)) and name not in LOOSE:
                raise source.broken(
                    f"HDU {number} has {name.decode('ascii')} twice, {said!r} and {value!r}", offset=start + begin
                )
    raise source.broken(f"the header of HDU {number} has no END in {BLOCK * len(blocks)} bytes", offset=place)


def _value(text: str) -> Any:
    """A card's value: str, bool, int, float, or None for one without, or with something else."""
    if not text.startswith("="):
        return None
    if string := STRING.match(text, 1):
        return string[1].replace("''", "'").rstrip()
    text = text[1:].partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text.upper().replace("D", "E")) if FLOAT.fullmatch(text) else None


def _integer(source: Source, unit: Unit, name: str, least: int, most: int, default: int | None = None) -> int:
    value = unit.cards.get(name, default)
    if type(value) is not int or not least <= value <= most:
        what = "is missing" if name not in unit.cards else f"is {value!r}"[:99]
        raise source.broken(
            f"{name} of HDU {unit.number} {what}, it should be from {least} to {most}", offset=unit.offset
        )
    return value


def axes_of(source: Source, unit: Unit, letter: str = "") -> list[int]:
    count = _integer(source, unit, f"{letter}NAXIS", 0, MOST_DIMENSIONS)
    axes = [_integer(source, unit, f"{letter}NAXIS{axis}", 0, LIMIT) for axis in range(1, count + 1)]
    if math.prod(size for size in axes if size) > LIMIT:
        raise source.broken(f"the axes of HDU {unit.number} have more items than any file", offset=unit.offset)
    return axes


def dtype_of(source: Source, unit: Unit, letter: str = "") -> np.dtype[Any]:
    bitpix = unit.cards.get(f"{letter}BITPIX")
    if type(bitpix) is not int or bitpix not in DTYPES:
        raise source.broken(
            f"{letter}BITPIX of HDU {unit.number} is {bitpix!r}, not one of {list(DTYPES)}"[:200], offset=unit.offset
        )
    return np.dtype(DTYPES[bitpix])


def _data_nbytes(source: Source, unit: Unit) -> int:
    if unit.number == 0 and unit.cards.get("SIMPLE") is not True:
        raise source.broken("SIMPLE is not T, so that it does not keep to the standard", offset=0)
    axes = axes_of(source, unit)
    itemsize = dtype_of(source, unit).itemsize
    if not axes:
        return 0
    extra = _integer(source, unit, "PCOUNT", 0, LIMIT, 0)
    groups = _integer(source, unit, "GCOUNT", 0, LIMIT, 1)
    count = math.prod(axes[1:] if unit.is_groups else axes)
    return itemsize * groups * (extra + count)


def number_of(source: Source, unit: Unit, name: str, default: int) -> float:
    value = unit.cards.get(name, default)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise source.broken(f"{name} of HDU {unit.number} is {value!r}, not a number", offset=unit.offset)
    return value  # type: ignore[no-any-return]
