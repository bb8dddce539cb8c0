"""WAV: RIFF, its big-endian sister RIFX, and RF64 and BW64 for more than 4 GiB."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ndfile.formats.format import Contents, Format, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ndfile.formats.format import Source

__all__ = ["Wav"]

# What the first four bytes say about the byte order.
ORDERS = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<", b"BW64": "<"}

# A size that its field cannot hold, or that was not known yet when the header was written.
UNKNOWN = 0xFFFFFFFF
UNKNOWN_64 = 0xFFFFFFFFFFFFFFFF

UNTOLD = "its header does not tell the size of the data, which is taken to go on to the file's end"

# Chunks before the data. Files have a handful of them; a hostile one would have us read on and on.
MOST_CHUNKS = 1000

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE

# What others call the usual codecs; the rest go by their number.
CODECS = {2: "MS ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MPEG", 0x55: "MP3"}

# The last eight bytes of the GUIDs that stand for format tags.
GUID_TAIL = bytes.fromhex("800000aa00389b71")

PIECE_NBYTES = 1 << 20


class _Samples(NamedTuple):
    """What the 'fmt ' chunk says."""

    tag: int
    channels: int
    rate: int
    frame_nbytes: int
    bits: int
    offset: int  # of the chunk's content, for errors

    @property
    def sample_nbytes(self) -> int:
        return self.frame_nbytes // self.channels


class Wav(Format):
    """Samples of whole bytes, without compression: one array ``data``, (frames,) or (frames, channels).

    As in SciPy, samples of up to 8 bits are uint8 and others int16, int32 or int64, and samples of fewer bits than
    their bytes have (12 in 2 bytes) stand in the upper ones.
    """

    name = "wav"
    suffixes = (".wav", ".rf64", ".bw64")

    def recognises(self, source: Source) -> bool:
        return source.head[:4] in ORDERS and source.head[8:12] == b"WAVE"

    def describe(self, source: Source, **_: Any) -> Contents:
        if not self.recognises(source):
            raise source.broken(f"it begins with {source.head[:12]!r}, not with RIFF and WAVE", offset=0)
        samples, offset, nbytes, notes = _walk(source)
        if offset + nbytes > source.size:
            there = max(source.size - offset, 0)
            raise source.broken(f"its data should have {nbytes} bytes, the file has {there} of them", offset=offset)
        frames, left_over = divmod(nbytes, samples.frame_nbytes)
        if left_over:
            notes += (f"{left_over} bytes after the last whole frame are no part of the array",)
        dtype, obstacle, more = _dtype(source, samples)
        codec = "extensible" if samples.tag == EXTENSIBLE else samples.tag
        member = Member(
            "data",
            dtype,
            (frames,) if samples.channels == 1 or dtype.kind == "V" else (frames, samples.channels),
            None if obstacle else offset,
            obstacle=obstacle,
            way_out="Decode it with a program for sound, such as ffmpeg or sox." if dtype.kind == "V" else None,
            metadata={"rate": samples.rate, "channels": samples.channels, "bits": samples.bits, "codec": codec},
        )
        rest = source.size - offset - nbytes - nbytes % 2
        if rest > 0:
            notes += (f"{rest} bytes follow the data",)
        return Contents({"data": member}, False, member.metadata, notes + more)

    def decode(self, source: Source, member: Member) -> Iterator[np.ndarray]:
        """Give samples of 3, 5, 6 or 7 bytes as int32 or int64, in the upper bytes, as SciPy does."""
        if member.way_out is not None:
            yield from super().decode(source, member)
            return
        width = member.dtype.itemsize
        samples, offset, _, _ = _walk(source)
        frames_at_once = max(PIECE_NBYTES // samples.frame_nbytes, 1)
        frames = member.shape[0]
        for start in range(0, frames, frames_at_once):
            count = min(frames_at_once, frames - start)
            raw = source.read(offset + start * samples.frame_nbytes, count * samples.frame_nbytes, member.name)
            narrow = np.frombuffer(raw, np.uint8).reshape(-1, samples.sample_nbytes)
            wide = np.zeros((len(narrow), width), np.uint8)
            if member.dtype.newbyteorder("<") == member.dtype:
                wide[:, width - samples.sample_nbytes :] = narrow
            else:
                wide[:, : samples.sample_nbytes] = narrow
            yield wide.view(member.dtype).reshape(count, *member.shape[1:])


def _walk(source: Source) -> tuple[_Samples, int, int, tuple[str, ...]]:
    """Go from chunk to chunk up to the data: what its samples are, where it begins, its bytes, and what to note."""
    order = ORDERS[source.head[:4]]
    samples = None
    whole = struct.unpack_from(order + "I", source.head, 4)[0]
    data_nbytes = None  # as RF64 says it
    place = 12
    for _ in range(MOST_CHUNKS):
        if place + 8 > source.size:
            raise source.broken("it ends before any 'data' chunk", offset=place)
        name, nbytes = struct.unpack(order + "4sI", source.read(place, 8))
        place += 8
        if name == b"data":
            if samples is None:
                raise source.broken("its 'data' chunk comes before any 'fmt ' chunk", offset=place - 8)
            if nbytes == UNKNOWN and data_nbytes is not None:
                is_known = data_nbytes != UNKNOWN_64
                nbytes = data_nbytes
            else:
                is_known = nbytes != UNKNOWN
            # A program that writes to a pipe, or was killed, leaves the sizes unknown or zero: all that follows is
            # data then, as ffmpeg and libsndfile have it too. Size 0 in a file of known size is just that.
            if is_known and (nbytes or whole not in (0, UNKNOWN, UNKNOWN_64)):
                return samples, place, nbytes, ()
            return samples, place, source.size - place, (UNTOLD,)
        if name == b"fmt ":
            if samples is not None:
                raise source.broken("it has two 'fmt ' chunks before its data", offset=place - 8)
            samples = _samples(source, order, place, nbytes)
        elif name == b"ds64" and source.head[:4] in (b"RF64", b"BW64") and data_nbytes is None:
            if nbytes < 16:
                raise source.broken(f"its 'ds64' chunk has {nbytes} bytes, it needs 16", offset=place)
            whole, data_nbytes = struct.unpack("<QQ", source.read(place, 16))
        place += nbytes + nbytes % 2
    raise source.broken(f"it has no 'data' chunk among its first {MOST_CHUNKS} chunks", offset=place)


def _samples(source: Source, order: str, place: int, nbytes: int) -> _Samples:
    if nbytes < 16:
        raise source.broken(f"its 'fmt ' chunk has {nbytes} bytes, it needs 16", offset=place)
    tag, channels, rate, _, frame_nbytes, bits = struct.unpack(order + "HHIIHH", source.read(place, 16))
    if tag == EXTENSIBLE:
        if nbytes < 40:
            raise source.broken(f"its 'fmt ' chunk has {nbytes} bytes, an extensible one needs 40", offset=place)
        sub, two, three, tail = struct.unpack(order + "IHH8s", source.read(place + 24, 16))
        if (two, three, tail) == (0, 0x10, GUID_TAIL) and sub != EXTENSIBLE:
            tag = sub
    if channels == 0 or frame_nbytes == 0 or (tag in (PCM, FLOAT) and frame_nbytes % channels):
        raise source.broken(f"{channels} channels cannot share frames of {frame_nbytes} bytes", offset=place)
    return _Samples(tag, channels, rate, frame_nbytes, bits, place)


def _dtype(source: Source, samples: _Samples) -> tuple[np.dtype[Any], str | None, tuple[str, ...]]:
    """The type of the samples once decoded, why they cannot be mapped, and what to note."""
    tag, bits = samples.tag, samples.bits
    if tag not in (PCM, FLOAT):
        codec = CODECS.get(tag, f"codec {tag:#06x}")
        return np.dtype(f"V{samples.frame_nbytes}"), f"its samples are encoded ({codec})", ()
    width = samples.sample_nbytes
    order = ORDERS[source.head[:4]]
    if tag == FLOAT:
        if width in (4, 8) and bits == 8 * width:
            return np.dtype(f"{order}f{width}"), None, ()
    elif 1 <= bits <= 8 * width and width <= 8 and (width == 1 or bits > 8):
        if width == 1:
            return np.dtype("u1"), None, ()
        if width in (2, 4, 8):
            return np.dtype(f"{order}i{width}"), None, ()
        wide = np.dtype(f"{order}i{4 if width == 3 else 8}")
        note = f"converted, its samples of {width} bytes become {wide.name}, and stand in the upper {width} bytes of it"
        return wide, f"its samples have {width} bytes", (note,)
    kind = "floats" if tag == FLOAT else "integers"
    raise source.broken(f"its samples should be {kind} of {bits} bits in {width} bytes", offset=samples.offset)
