"""Which pages of a TIFF file are one array: what ImageJ, OME and tifffile say in the file, or their likeness."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree.ElementTree import XMLParser

from ndfile.formats.format import Member
from ndfile.formats.tiff_pages import MOST_TEXT_NBYTES, Page
from ndfile.layout import MOST_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.formats.tiff_pages import Directories

__all__ = ["Series", "imagej_fields", "series_of"]


class Series(NamedTuple):
    """Pages of one kind that are one array."""

    pages: list[Page]
    shape: tuple[int, ...]
    axes: str

    def members(self, name: str) -> Iterator[Member]:
        first = self.pages[0]
        if first.offset is None or self._is_together(first.offset, first.nbytes):
            metadata = {"axes": self.axes, "pages": len(self.pages)}
            yield Member(name, first.dtype, self.shape, first.offset, "C", first.obstacle, metadata=metadata)
            return
        for number, page in enumerate(self.pages):
            metadata = {"axes": page.axes}
            yield Member(f"{name}/{number}", page.dtype, page.shape, page.offset, metadata=metadata)

    def _is_together(self, offset: int, nbytes: int) -> bool:
        return all(page.offset == offset + number * nbytes for number, page in enumerate(self.pages))


def series_of(directories: Directories) -> list[Series]:
    """All pages, as the series that they are. In the order of their first pages."""
    pages = directories.pages
    series = _ome(directories) or _imagej(directories) or _shaped(directories)
    spoken_for = {page.number for one in series for page in one.pages}
    alike: dict[Any, list[Page]] = {}
    for page in pages:
        if page.number not in spoken_for:
            alike.setdefault((page.dtype, page.shape, page.axes, page.obstacle), []).append(page)
    for group in alike.values():
        first = group[0]
        stack = (((len(group), *first.shape), "I" + first.axes), (first.shape, first.axes))[len(group) == 1]
        series.append(Series(group, *stack))
    return sorted(series, key=lambda one: one.pages[0].number)


def _stack(pages: list[Page], sizes: dict[str, int]) -> Series | None:
    """Pages of one kind under named sizes; sizes of 1 are left out, as tifffile does."""
    first = pages[0]
    if not all(page.is_like(first) for page in pages):
        return None
    kept = {axis: size for axis, size in sizes.items() if size != 1}
    return Series(pages, (*kept.values(), *first.shape), "".join(kept) + first.axes)


def _shaped(directories: Directories) -> list[Series]:
    """The series that tifffile wrote: the first page of each has its shape, in JSON."""
    pages = directories.pages
    series: list[Series] = []
    start = 0
    while start < len(pages):
        first = pages[start]
        text = directories.text(first.description) if start else directories.description
        said = _shape_said(text[:MOST_TEXT_NBYTES], first)
        if said is None:
            return series
        shape, axes, is_truncated = said
        count = 1 if is_truncated else math.prod(shape) // math.prod(first.shape)
        run = pages[start : start + count]
        if len(run) < count or not all(page.is_like(first) for page in run):
            if first.offset is None:
                return series
            run = [first]  # the others follow its bytes, without directories of their own
        series.append(Series(run, shape, axes))
        start += len(run)
    return series


def _shape_said(text: str, page: Page) -> tuple[tuple[int, ...], str, bool] | None:
    if not text.startswith('{"shape":'):
        return None
    try:
        said = json.loads(text)
        shape, axes = tuple(said["shape"]), said.get("axes", "")
    except (ValueError, TypeError, RecursionError):
        return None
    if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and size > 0 for size in shape):
        return None
    if math.prod(shape) % math.prod(page.shape):
        return None
    if not isinstance(axes, str) or len(axes) != len(shape):
        outer = len(shape) - len(page.shape)
        axes = "Q" * outer + page.axes if shape[outer:] == page.shape else ""
    return shape, axes, said.get("truncated") is True


def imagej_fields(description: str) -> dict[str, str]:
    if not description.startswith("ImageJ="):
        return {}
    return dict(line.split("=", 1) for line in description.splitlines()[:1000] if "=" in line)


def _imagej(directories: Directories) -> list[Series]:
    """ImageJ's hyperstack. It may have all of its images behind a single directory."""
    pages = directories.pages
    fields = imagej_fields(directories.description)
    if not fields:
        return []
    first = pages[0]
    frames, slices, channels, images = (
        int(text) if (text := fields.get(name, "1")).isdecimal() and len(text) < 10 else 0
        for name in ("frames", "slices", "channels", "images")
    )
    if first.axes in ("SYX", "YXS") and first.shape[first.axes.index("S")] == channels:
        channels = 1  # they are the samples of each page
    sizes = {"T": frames, "Z": slices, "C": channels}
    count = math.prod(sizes.values())
    if count == 1:
        sizes, count = {"I": max(images, len(pages))}, max(images, len(pages))
    if not count:
        return []
    if len(pages) < count:
        is_behind = len(pages) == 1 and first.offset is not None
        if not is_behind or (first.offset or 0) + count * first.nbytes > directories.source.size:
            return []
    one = _stack(pages[:count], sizes)
    return [one] if one else []


class _OmeReader:
    """Takes from OME-XML, as it is parsed, which pages are which image. Keeps nothing else of it."""

    def __init__(self, most_images: int) -> None:
        self.images: list[_OmeImage] = []
        self._most_images = most_images
        self._files: set[str] = set()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if name == "Pixels":
            if len(self.images) == self._most_images:
                raise ValueError("more images than pages")
            self.images.append(_OmeImage(attributes))
        elif name == "Channel" and self.images:
            self.images[-1].samples = int(attributes.get("SamplesPerPixel", 1))
        elif name == "TiffData":
            self.images[-1].add_planes(attributes)
        elif name == "UUID":
            self._files.add(attributes.get("FileName", ""))
            if len(self._files) > 1:
                raise ValueError("its pages are in several files")

    def close(self) -> None: ...


class _OmeImage:
    """The sizes of one image, and the pages that it has."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.axes = attributes["DimensionOrder"][::-1]
        self.sizes = {axis: int(attributes[f"Size{axis}"]) for axis in self.axes}
        self.samples = 1
        self.first = self.count = 0

    @property
    def stack(self) -> dict[str, int]:
        """The sizes over the pages."""
        channels = self.sizes["C"] // self.samples
        return {axis: channels if axis == "C" else self.sizes[axis] for axis in self.axes[:3]}

    def add_planes(self, attributes: dict[str, str]) -> None:
        sizes = self.stack
        page = int(attributes.get("IFD", 0))
        one_or_all = 1 if "IFD" in attributes else math.prod(sizes.values())
        plane = 0
        for axis, size in sizes.items():
            plane = plane * size + int(attributes.get(f"First{axis}", 0))
        if not self.count:
            self.first = page
        if plane != self.count or page != self.first + self.count:
            raise ValueError("the pages are in an order of their own")
        self.count += int(attributes.get("PlaneCount", one_or_all))


def _ome(directories: Directories) -> list[Series]:
    """The images of OME-XML, if all of them have their pages in this file and in the order of their planes."""
    pages, text = directories.pages, directories.description
    # OME has no document type, and entities that are made of each other expand without end.
    if not text.endswith("OME>") or "<!DOCTYPE" in text:
        return []
    reader = _OmeReader(len(pages))
    try:
        parser = XMLParser(target=reader)
        parser.feed(text)
        parser.close()
    except (SyntaxError, ValueError, LookupError, ZeroDivisionError):
        return []
    series, end = [], 0
    for image in sorted(reader.images, key=lambda one: one.first):
        run = pages[max(image.first, end) : image.first + image.count]
        if not run or len(run) != image.count or image.count != math.prod(image.stack.values()):
            return []
        found = dict(zip(run[0].axes, run[0].shape, strict=True))
        one = _stack(run, image.stack)
        if one is None or [found["Y"], found["X"], found.get("S", 1)] != [
            image.sizes["Y"], image.sizes["X"], image.samples,
        ]:  # fmt: skip
            return []
        series.append(one)
        end = image.first + image.count
    return series
