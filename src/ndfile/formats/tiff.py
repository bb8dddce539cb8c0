"""TIFF and BigTIFF: directories of tags, chained through the file, each of which describes one page."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ndfile.formats.format import Contents, Format, require
from ndfile.formats.tiff_pages import MAGICS, Directories
from ndfile.formats.tiff_series import imagej_fields, series_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ndfile.formats.format import Member, Source

__all__ = ["Tiff"]


class Tiff(Format):
    """TIFF and BigTIFF (``.tif``), in both byte orders. tifffile is needed for what cannot be mapped only.

    Pages that belong together are one series: those that ImageJ, OME or tifffile say are one array of more dimensions
    (where the file has them in that order), otherwise those of one shape and type. A file with one series whose bytes
    lie together is that array. Any other file is an archive:

    - ``"0"``, ``"1"``: the series in the file's order, each an array of all of its pages;
    - ``"0/17"``: page 17 of series 0, where the pages of a series lie apart. Then there is no member ``"0"``.

    Compressed pages, tiles, strips that lie apart, a predictor, a reversed fill order and samples of no whole bytes
    cannot be mapped: their series is a member that only `ndfile.convert` reads. Reduced images in sub-directories are
    not listed.
    """

    name = "tiff"
    suffixes = (".tif", ".tiff", ".btf", ".tf8")

    def recognises(self, source: Source) -> bool:
        return source.head[:4] in MAGICS

    def describe(self, source: Source, **_: Any) -> Contents:
        directories = Directories(source)
        series = series_of(directories)
        members = {member.name: member for number, one in enumerate(series) for member in one.members(str(number))}
        for member in members.values():
            directories.check_outside(member)
        notes = [
            f"the {len(one.pages)} pages of series {number} lie apart, and are members of their own"
            for number, one in enumerate(series)
            if str(number) not in members
        ]
        if directories.has_more:
            notes.append("it has sub-directories, whose images are not listed")
        metadata = directories.metadata()
        if fields := imagej_fields(metadata.get("description", "")):
            metadata["imagej"] = fields
        return Contents(members, list(members) != ["0"], metadata, tuple(notes))

    def decode(self, source: Source, member: Member) -> Iterator[np.ndarray]:
        if not member.dtype.itemsize:
            yield from super().decode(source, member)  # says that nobody can
        number, _, page_number = member.name.partition("/")
        pages = series_of(Directories(source))[int(number)].pages
        tifffile = require("tifffile", "tiff", "TIFF pages that cannot be mapped")
        # It goes its own ways for the files of some makers, which do not lead to the pages of the chain.
        flags = {"is_lsm": False, "is_scanimage": False, "is_ndpi": False}
        with source.reopen() as file:
            with source.parsed_by("tifffile"), _silence():
                tiff = tifffile.TiffFile(file, **flags)
            for page in [pages[int(page_number)]] if page_number else pages:
                with source.parsed_by("tifffile"), _silence():
                    values = tiff.pages[page.number].asarray(maxworkers=1)
                if (values.dtype.newbyteorder("="), values.shape) != (page.dtype.newbyteorder("="), page.shape):
                    raise source.broken(
                        f"page {page.number} should be {page.dtype} {page.shape}, "
                        f"tifffile makes {values.dtype} {values.shape} of it",
                        member=member.name,
                        advice="Convert it with a program of the format's own.",
                    )
                yield values.astype(page.dtype, "C", copy=False)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what tifffile logs and warns of in this thread from the user: what matters is raised."""
    thread = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("tifffile")
    logger.addFilter(passes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(passes)
