"""HDF5: contiguous datasets, by their paths. h5py reads the headers; what cannot be mapped, it decodes."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.formats.format import Contents, Format, Member
from ndfile.formats.hdf5_file import SIGNATURE, opened
from ndfile.formats.hdf5_scales import Scales, is_scale
from ndfile.stream import PIECE_NBYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ndfile.formats.format import Source
    from ndfile.formats.hdf5_file import Reader

__all__ = ["Hdf5"]

# Where it may stand: at the beginning, or after a user block. It may stand further on too, at the powers of two up to
# the end of the file, and is found there when the file's name says what it is.
BEGINNINGS = (0, 512, 1024, 2048)

# Names in a path. More is a mistake or an attack, and each takes the library time.
MOST_LEVELS = 128

# No link takes less of a file: a group that has more of them goes round in circles.
LEAST_LINK_NBYTES = 8

# Attributes: how many of one object, bytes of one value, and characters of all values of a file.
MOST_ATTRIBUTES = 1000
MOST_VALUE_NBYTES = 1 << 16
MOST_METADATA = 1 << 20

# The registered numbers of the usual filters.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset"}
FILTERS |= {32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd"}

VIRTUAL = "it is virtual, its values lie in other datasets"
EXTERNAL = "its bytes lie in other files (external storage)"
ELSEWHERE = "its items are references, or of variable length, and lie elsewhere in the file"

# Of what only h5py can read.
BY_H5PY = "Read it with h5py."
UNKNOWN = np.dtype("V0")


class Hdf5(Format):
    """HDF5 files. Members are the datasets, named by the paths of hard links that lead to them.

    Soft and external links are not followed: what a soft link leads to has a name of its own, and what an external
    one leads to is another file's.
    """

    name = "hdf5"
    suffixes = (".h5", ".hdf5", ".he5", ".h5ad", ".nxs")
    is_archive = True

    def recognises(self, source: Source) -> bool:
        return any(source.head.startswith(SIGNATURE, offset) for offset in BEGINNINGS)

    def describe(self, source: Source, **_: Any) -> Contents:
        with opened(source) as (h5py, file, raw):
            walk = _Walk(h5py, source, file, raw)
            found = list(walk.members())
            members = {member.name: walk.scales.named(member) for member in found}
            return Contents(members, True, walk.metadata_of(h5py.Group(h5py.h5g.open(file, b"/"))), walk.notes())

    def decode(self, source: Source, member: Member) -> Iterable[np.ndarray]:
        if member.obstacle in (VIRTUAL, EXTERNAL):  # the values are in other files, and those are not opened
            super().decode(source, member)
        with opened(source) as (h5py, file, _):
            dataset = h5py.h5o.open(file, _encoded(member.name))
            kind = _Kind.of(h5py, dataset.get_type())
            if not kind.is_readable:
                super().decode(source, member)
            space = dataset.get_space()
            if space.get_simple_extent_type() == h5py.h5s.NULL:
                return
            if dataset.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
                _check_chunks(source, member, dataset)
            within = member.shape[len(space.shape) :]
            memory = h5py.h5t.py_create(kind.dtype, logical=True)
            for start, count in _boxes(space.shape, max(PIECE_NBYTES // kind.dtype.itemsize, 1)):
                piece = np.empty(count + within, member.dtype)
                if piece.size and count:
                    space.select_hyperslab(start, count)
                    dataset.read(h5py.h5s.create_simple(count), space, piece, memory)
                elif piece.size:
                    dataset.read(space, space, piece, memory)
                yield piece


class _Walk:
    """One pass over a file's groups."""

    def __init__(self, h5py: Any, source: Source, file: Any, raw: Reader) -> None:
        self.h5py = h5py
        self.source = source
        self.file = file
        self.raw = raw
        self.most_links = source.size // LEAST_LINK_NBYTES
        self.unfollowed = 0
        self.unshown = 0
        self.metadata_left = MOST_METADATA
        self.scales = Scales()

    def members(self) -> Iterator[Member]:
        """The datasets, in the order of their paths. Each group is entered once, so that cycles end."""
        pending = [(b"", -1)]
        groups: set[int] = set()
        known: dict[int, Member] = {}
        while pending:
            path, address = pending.pop()
            self.scales.addresses[_decoded(path)] = address
            if address in known:
                yield known[address]._replace(name=_decoded(path))
                continue
            if address in groups:
                continue
            thing = self.opened(path)
            if thing is None:
                known[address] = Member(_decoded(path), UNKNOWN, (), None, obstacle=VIRTUAL, way_out=BY_H5PY)
                yield known[address]
            elif isinstance(thing, self.h5py.h5d.DatasetID):
                known[address] = self.member(_decoded(path), thing)
                yield known[address]
            elif isinstance(thing, self.h5py.h5g.GroupID):
                groups.add(address if path else self.h5py.h5o.get_info(thing).addr)
                pending += reversed(self.links(path, thing))

    def opened(self, path: bytes) -> Any:
        """What a path leads to; None for a virtual dataset."""
        try:
            return self.h5py.h5o.open(self.file, path or b"/")
        except Exception:
            if not self.raw.met_heap:
                raise
            self.raw.met_heap = False
            return None

    def links(self, path: bytes, group: Any) -> list[tuple[bytes, int]]:
        """The hard links of a group: paths and addresses."""
        if path.count(b"/") >= MOST_LEVELS:
            raise self.source.broken(f"a group lies {MOST_LEVELS + 1} levels deep, at most {MOST_LEVELS} are read")
        found: dict[bytes, tuple[int, int]] = {}

        problems: list[str] = []

        def take(name: bytes, link: Any) -> bool | None:
            # Nothing is raised through the library, which does not expect it; anything but None ends it.
            self.most_links -= 1
            if self.most_links < 0:
                problems.append(f"it has more links than its {self.source.size} bytes can hold")
            elif name in found or b"/" in name or name in (b"", b"."):
                problems.append(f"a group has a link twice, or one of no proper name: {_decoded(name)[:99]!r}")
            found[name] = link.type, link.u  # the same object comes again, with the next link's values
            return True if problems else None

        # In the file's own order: for another the library makes a table, of the size that a header claims.
        group.links.iterate(take, info=True, order=self.h5py.h5.ITER_NATIVE)
        if problems:
            raise self.source.broken(problems[0])
        kind = self.h5py.h5l.TYPE_HARD
        hard = [(name, found[name][1]) for name in sorted(found) if found[name][0] == kind]
        self.unfollowed += len(found) - len(hard)
        prefix = path + b"/" if path else b""
        return [(prefix + name, address) for name, address in hard]

    def member(self, name: str, dataset: Any) -> Member:
        h5py = self.h5py
        plist = dataset.get_create_plist()
        kind = _Kind.of(h5py, dataset.get_type())
        metadata = self.metadata_of(h5py.Dataset(dataset))
        if is_scale(metadata):
            self.scales.take(h5py, name, dataset)
        space = dataset.get_space()
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            return _member(name, kind, (0,), None, "it has no shape (a null dataspace)", metadata)
        obstacle = _packing(h5py, plist) or kind.obstacle
        if obstacle is not None:
            return _member(name, kind, space.shape, None, obstacle, metadata)
        if 0 in space.shape:  # nothing to point at, and every place is as good
            return _member(name, kind, space.shape, 0, None, metadata)
        # The offset counts from the file's beginning, a user block included. Without bytes it means nothing.
        needed, stored = math.prod(space.shape) * kind.dtype.itemsize, dataset.get_storage_size()
        offset = dataset.get_offset()
        if stored == 0 or offset is None:
            return _member(name, kind, space.shape, None, "it has no bytes yet", metadata)
        if stored != needed:
            raise self.source.broken(
                f"{kind.dtype} {space.shape} has {needed} bytes, the file keeps {stored} for it",
                offset=offset,
                member=name,
            )
        return _member(name, kind, space.shape, offset, None, metadata)

    def metadata_of(self, thing: Any) -> dict[str, Any]:
        """The attributes that JSON has values for, of moderate size. The others are left out."""
        found: dict[str, Any] = {}
        try:
            names = self.attribute_names(thing.id)
        except Exception:  # broken, or large: the array is whole all the same
            self.unshown += 1
            return found
        for name in names:
            if self.metadata_left < 0:
                break
            try:
                value = _value(thing.attrs, name)
                nchars = len(json.dumps(value, allow_nan=False))
            except Exception:
                self.unshown += 1
                continue
            if nchars > MOST_VALUE_NBYTES:
                self.unshown += 1
                continue
            self.metadata_left -= nchars
            found[_decoded(name).encode("utf-8", "replace").decode()] = value
        return found

    def attribute_names(self, identifier: Any) -> list[bytes]:
        names: list[bytes] = []

        def take(name: bytes) -> bool | None:
            names.append(name)
            return True if len(names) == MOST_ATTRIBUTES else None  # anything but None ends it

        self.h5py.h5a.iterate(identifier, take, order=self.h5py.h5.ITER_NATIVE)
        return sorted(names)

    def notes(self) -> tuple[str, ...]:
        found = []
        if self.unfollowed:
            found.append(f"soft or external links not followed: {self.unfollowed}")
        if self.unshown:
            found.append(f"attributes not shown (of variable length, large, or of odd types): {self.unshown}")
        return tuple(found)


class _Kind(NamedTuple):
    """A type of HDF5's: NumPy's for its values, why its bytes are not NumPy's, and whether h5py can convert them."""

    dtype: np.dtype[Any]
    obstacle: str | None
    is_readable: bool

    @classmethod
    def of(cls, h5py: Any, stored: Any) -> _Kind:
        try:
            dtype = stored.dtype
            is_same = _is_same(h5py.h5t, stored, dtype)
        except (TypeError, ValueError, NotImplementedError):  # a type that NumPy does not have
            wider = _wider_integer(h5py.h5t, stored)
            return cls(wider or UNKNOWN, _difference(h5py.h5t, stored), wider is not None)
        if dtype.hasobject:
            return cls(UNKNOWN, ELSEWHERE, False)
        return cls(dtype, None if is_same else _difference(h5py.h5t, stored), True)


def _is_same(h5t: Any, stored: Any, dtype: np.dtype[Any]) -> bool:
    if stored.equal(h5t.py_create(dtype, logical=True)):
        return True
    kind = stored.get_class()
    if kind == h5t.BITFIELD:
        order = "BE" if stored.get_order() == h5t.ORDER_BE else "LE"
        return bool(stored.equal(getattr(h5t, f"STD_B{8 * dtype.itemsize}{order}")))
    # h5py writes complex numbers as pairs; HDF5 2 has a type for them too, of the same bytes.
    return bool(kind == h5t.COMPLEX and stored.get_super().equal(h5t.py_create(np.empty(0, dtype).real.dtype)))


def _difference(h5t: Any, stored: Any) -> str:
    kind = stored.get_class()
    if kind == h5t.STRING:
        return "its strings end at a zero byte or are padded with spaces, which NumPy's are not"
    if kind in (h5t.INTEGER, h5t.FLOAT):
        precision, width = stored.get_precision(), 8 * stored.get_size()
        return f"its numbers are of a kind that NumPy has not ({precision} of {width} bits)"
    return "its items are laid out in a way that NumPy has not"


def _wider_integer(h5t: Any, stored: Any) -> np.dtype[Any] | None:
    if stored.get_class() != h5t.INTEGER or stored.get_size() > 8:
        return None
    width = 1 << (stored.get_size() - 1).bit_length()
    return np.dtype(f"{'>' if stored.get_order() == h5t.ORDER_BE else '<'}{'iu'[stored.get_sign() == 0]}{width}")


def _packing(h5py: Any, plist: Any) -> str | None:
    if plist.get_external_count():
        return EXTERNAL
    if plist.get_layout() == h5py.h5d.COMPACT:
        return "it is stored inside its header (compact)"
    if plist.get_layout() != h5py.h5d.CHUNKED:
        return None
    numbers = [plist.get_filter(index)[0] for index in range(plist.get_nfilters())]
    named = ", ".join(FILTERS.get(number, f"filter {number}") for number in numbers)
    return f"it is stored in chunks ({named})" if named else "it is stored in chunks"


def _check_chunks(source: Source, member: Member, dataset: Any) -> None:
    """Refuse chunks of no bytes, with which filters reach into foreign memory, and those outside of the file."""

    def take(chunk: Any) -> None:
        if not 0 < chunk.size <= source.size - chunk.byte_offset:
            raise source.broken(
                f"a chunk of {chunk.size} bytes, the file has {source.size}",
                offset=chunk.byte_offset,
                member=member.name,
            )

    dataset.chunk_iter(take)


def _member(
    name: str,
    kind: _Kind,
    shape: tuple[int, ...],
    offset: int | None,
    obstacle: str | None,
    metadata: dict[str, Any],
) -> Member:
    # h5py hangs the names of enumerations on dtypes, which nothing else understands.
    dtype = np.lib.format.drop_metadata(kind.dtype)
    while dtype.subdtype is not None:  # an array in each item is a few more dimensions
        dtype, shape = dtype.base, shape + dtype.shape
    way_out = None if kind.is_readable and obstacle != EXTERNAL else BY_H5PY
    return Member(name, dtype, tuple(map(int, shape)), offset, "C", obstacle, way_out, None, metadata)


def _value(attributes: Any, name: bytes) -> Any:
    stored = attributes.get_id(name)
    if stored.get_storage_size() > MOST_VALUE_NBYTES:
        raise ValueError("too large")
    # Values of variable length lie in a heap, and their lengths make the library reserve up to 4 GiB before it looks.
    if stored.dtype.hasobject:
        raise ValueError("elsewhere")
    value = attributes[name]
    return _plain(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)


def _plain(value: Any) -> Any:
    """As JSON knows it; what it does not know stays as it is."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _boxes(shape: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut a shape into boxes of at most `most` items that follow each other in C order: starts and counts."""
    if not shape:
        yield (), ()
        return
    inner = math.prod(shape[1:])
    if inner <= most:
        step = most // max(inner, 1)
        for first in range(0, shape[0], step):
            yield (first,) + (0,) * (len(shape) - 1), (min(step, shape[0] - first), *shape[1:])
        return
    for first in range(shape[0]):
        for start, count in _boxes(shape[1:], most):
            yield (first, *start), (1, *count)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
