"""NIfTI-1 and NIfTI-2 images in one file: a fixed header, extensions, then one array in Fortran order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.formats.format import Contents, Format, Member, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ndfile.formats.format import Source

__all__ = ["Nifti"]

# What `decode` holds at once, before scaling.
PIECE_NBYTES = 1 << 20


class _Version(NamedTuple):
    """What differs between the two versions of the header."""

    header_class: str
    size: int
    magic_offset: int
    magic: bytes
    pair_magic: bytes
    first_data_offset: int  # four bytes after the header tell whether extensions follow


VERSIONS = (
    _Version("Nifti1Header", 348, 344, b"n+1\0", b"ni1\0", 352),
    _Version("Nifti2Header", 540, 4, b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n", 544),
)


class Nifti(Format):
    """NIfTI images (``.nii``), versions 1 and 2, in both byte orders. Needs nibabel.

    A file is one array, the member ``"data"``, in Fortran order as the format has it: x is the first axis. Red, green
    and blue values are structured items, as nibabel has them.

    Values that the header scales (a slope and an intercept other than 1 and 0) are not the bytes in the file: they
    cannot be mapped, and `ndfile.convert` gives the numbers that nibabel gives. Compressed files (``.nii.gz``) have to
    be decompressed first; images of two files (``.hdr`` and ``.img``) are refused.
    """

    name = "nifti"
    suffixes = (".nii",)

    def recognises(self, source: Source) -> bool:
        return _version_of(source) is not None

    def describe(self, source: Source, **_: Any) -> Contents:
        header, version, offset = _header_of(source)
        dtype = stored = _dtype_of(header, source)
        shape = _shape_of(header, source)
        slope, intercept = _scaling_of(header, source, stored)
        obstacle = None
        if (slope, intercept) != (1, 0):
            obstacle = f"its values are scaled (slope {slope}, intercept {intercept})"
            dtype = _scaled(np.zeros(1, stored), slope, intercept).dtype
        member = Member("data", dtype, shape, None if obstacle else offset, "F", obstacle)
        notes = []
        if int(header["bitpix"]) != 8 * stored.itemsize:
            notes.append(f"bitpix is {int(header['bitpix'])}, which is not that of its datatype; it is ignored")
        return Contents({"data": member}, False, _metadata_of(header, version), tuple(notes))

    def decode(self, source: Source, member: Member) -> Iterator[np.ndarray]:
        header, _version, offset = _header_of(source)
        dtype = _dtype_of(header, source)
        slope, intercept = _scaling_of(header, source, dtype)
        # Checks that the file has all of it, before the first piece is given.
        end = member._replace(dtype=dtype, offset=offset, obstacle=None).layout(source).end
        step = PIECE_NBYTES // dtype.itemsize * dtype.itemsize
        for start in range(offset, end, step):
            stored = np.frombuffer(source.read(start, min(step, end - start), member.name), dtype)
            yield _scaled(stored, slope, intercept)


def _version_of(source: Source) -> _Version | None:
    for version in VERSIONS:
        magic = source.head[version.magic_offset : version.magic_offset + len(version.magic)]
        if magic in (version.magic, version.pair_magic):
            return version
    return None


def _header_of(source: Source) -> tuple[Any, _Version, int]:
    """The header as nibabel's object, its version, and where the data begins."""
    version = _version_of(source)
    if version is None:
        raise source.broken(
            f"neither byte 344 nor byte 4 has the magic of NIfTI-1 or NIfTI-2 ({source.head[344:348]!r}, "
            f"{source.head[4:8]!r})"
        )
    block = source.read(0, version.size)
    sizes = {order: int.from_bytes(block[:4], name) for order, name in (("<", "little"), (">", "big"))}  # type: ignore[arg-type]
    byte_order = next((order for order, size in sizes.items() if size == version.size), None)
    if byte_order is None:
        raise source.broken(f"sizeof_hdr is {sizes['<']}, it must be {version.size}", offset=0)
    if version.magic not in block:
        raise source.broken(
            "its data is in a second file (.img)",
            offset=version.magic_offset,
            advice="Join the two with nibabel: nibabel.save(nibabel.load(path), 'joined.nii').",
        )
    nibabel = require("nibabel", "nifti", "NIfTI images")
    with source.parsed_by("nibabel"):
        header = getattr(nibabel, version.header_class)(block, byte_order, check=False)
    return header, version, _offset_of(header, version, source)


def _offset_of(header: Any, version: _Version, source: Source) -> int:
    # NIfTI-1 keeps it as a float.
    value = header["vox_offset"].item()
    if not math.isfinite(value) or value != int(value) or value < version.first_data_offset:
        raise source.broken(
            f"vox_offset is {value}, the data of a single file begins at a whole number of at least "
            f"{version.first_data_offset}"
        )
    return int(value)


def _dtype_of(header: Any, source: Source) -> np.dtype[Any]:
    code = int(header["datatype"])
    with source.parsed_by("nibabel"):
        dtype: np.dtype[Any] = header.get_data_dtype()
    if not dtype.itemsize:  # the codes for "unknown", single bits and "all"
        raise source.broken(f"its datatype has code {code}, which has no whole bytes")
    return dtype


def _shape_of(header: Any, source: Source) -> tuple[int, ...]:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise source.broken(f"dim[0] is {count}, an image has 1 to 7 dimensions")
    # nibabel knows how FreeSurfer writes sizes that are too large for the field.
    with source.parsed_by("nibabel"):
        shape = tuple(map(int, header.get_data_shape()))
    if min(shape) < 0:
        raise source.broken(f"its dimensions {shape} have a negative size, {min(shape)}")
    return shape


def _scaling_of(header: Any, source: Source, dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.names:  # the standard excludes colours from scaling
        return 1.0, 0.0
    with source.parsed_by("nibabel"):
        slope, intercept = header.get_slope_inter()
    return (1.0, 0.0) if slope is None else (slope, intercept)


def _scaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    volumeutils = require("nibabel.volumeutils", "nifti", "NIfTI images")
    with np.errstate(all="ignore"):
        values: np.ndarray = volumeutils.apply_read_scaling(stored, np.float64(slope), np.float64(intercept))
    return values


def _metadata_of(header: Any, version: _Version) -> dict[str, Any]:
    fields: dict[str, Callable[[], Any]] = {
        "version": lambda: 1 if version.size == 348 else 2,
        "affine": lambda: _finite(header.get_best_affine().tolist()),
        "zooms": lambda: _finite([float(zoom) for zoom in header.get_zooms()]),
        "units": lambda: list(header.get_xyzt_units()),
        "descrip": lambda: header["descrip"].item().decode("latin-1"),
        "intent": lambda: header.get_intent()[0],
        "intent_name": lambda: header["intent_name"].item().decode("latin-1"),
    }
    metadata = {}
    for name, read in fields.items():
        try:
            with np.errstate(all="ignore"):
                value = read()
        except Exception:  # an odd field is left out, whatever nibabel thinks of it
            continue
        if value not in (None, "", "none"):
            metadata[name] = value
    return metadata


def _finite(values: list[Any]) -> list[Any] | None:
    # JSON has no name for the others.
    return values if np.isfinite(values).all() else None
