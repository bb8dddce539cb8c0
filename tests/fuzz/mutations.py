"""Changes that keep a file readable up to the place that is meant: without them most inputs fail at a length."""

from __future__ import annotations

import random
import re
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["mutated"]

NUMBER = re.compile(rb"(?<![\w.<>|=])-?\d+")
STRING = re.compile(rb"""(['"])[^'"]*\1""")

# Edges of what fields hold, and of what can be multiplied, divided and printed.
NUMBERS = (0, 1, -1, 2, 64, 255, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**300, 10**2200, 10**4300)

# Values of fields, right and wrong, and names.
STRINGS = [
    b"",
    b"x" * 300,
    *rb"""a data __metadata__ \ud800 \u0000 dtype shape descr <f4 >i8 |u1 |b1 |S3 |V0 |V7 |O <M8[ns] <m8[7D] f4,i4
    (2,3)f4 a5 F32 BF16 BOOL F4 F8_E4M3 C64 bfloat16 float8_e4m3fn C F sha256 blake3 xxh3 ndfile.checksums""".split(),
    b"00" * 16,
    b"00" * 32,
]


class Parts(NamedTuple):
    """A file around a text whose length, or place, stands elsewhere in it."""

    before: bytes
    text: bytes
    after: bytes


def mutated(name: str, data: bytes, most: int, seed: int, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Change a file of a target; `mutate` is the fuzzer's own way to change bytes, with the most that may come out."""
    chance = random.Random(seed)
    split, join = SPLITTING.get(name, (_whole, b"".join))
    parts = split(data) if chance.random() < 0.8 else None
    if parts is None:
        return mutate(data, most)
    room = most - len(parts.before) - len(parts.after)
    text, choice = parts.text, chance.random()
    if name == "npz" and choice < 0.4:
        # The members' own bytes; each stays where the directory has it.
        before = mutate(parts.before, len(parts.before))[: len(parts.before)]
        return join(parts._replace(before=before.ljust(len(parts.before), b" ")))[:most]
    if name == "npz" or choice < 0.6:
        text = mutate(text, max(room, 1))
    elif choice < 0.8:
        text = _replaced(NUMBER, text, lambda _: _number(chance), chance)
    else:
        text = _replaced(STRING, text, lambda found: found[1] + chance.choice(STRINGS) + found[1], chance)
    return join(parts._replace(text=text))[:most]


def _replaced(
    kind: re.Pattern[bytes], text: bytes, other: Callable[[re.Match[bytes]], bytes], chance: random.Random
) -> bytes:
    places = list(kind.finditer(text))
    if not places:
        return text
    place = chance.choice(places)
    return text[: place.start()] + other(place) + text[place.end() :]


def _number(chance: random.Random) -> bytes:
    value = chance.choice(NUMBERS)
    # What str() refuses to write, a literal can still say.
    number = b"%#x" % value if value >= 10**4300 or chance.random() < 0.1 else str(value).encode()
    # Some errors take several: one size may be checked, the product of them not.
    return b",".join([number] * chance.choice((1, 1, 1, 1, 2, 20)))


def _whole(data: bytes) -> Parts:
    return Parts(b"", data, b"")


def _split_npy(data: bytes) -> Parts | None:
    if len(data) < 10:
        return None
    width = 2 if data[6] == 1 else 4
    start = 8 + width
    end = start + int.from_bytes(data[8:start], "little")
    return Parts(data[:8] + bytes(width), data[start:end], data[end:])


def _join_npy(parts: Parts) -> bytes:
    width = len(parts.before) - 8
    length = min(len(parts.text), 256**width - 1)
    return parts.before[:8] + length.to_bytes(width, "little") + parts.text + parts.after


def _split_safetensors(data: bytes) -> Parts | None:
    if len(data) < 8:
        return None
    end = 8 + int.from_bytes(data[:8], "little")
    return Parts(b"", data[8:end], data[end:])


def _join_safetensors(parts: Parts) -> bytes:
    return struct.pack("<Q", len(parts.text)) + parts.text + parts.after


END = struct.Struct("<4s4H2IH")


def _split_npz(data: bytes) -> Parts | None:
    """The directory, between the members and the record that says where it is."""
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or at + END.size > len(data):
        return None
    _, _, _, _, _, nbytes, start, _ = END.unpack_from(data, at)
    if not 0 <= start <= start + nbytes <= at:
        return None
    return Parts(data[:start], data[start:at], data[at:])


def _join_npz(parts: Parts) -> bytes:
    fields = list(END.unpack_from(parts.after))
    fields[3] = fields[4] = parts.text.count(b"PK\x01\x02")
    fields[5], fields[6] = len(parts.text), len(parts.before)
    return parts.before + parts.text + END.pack(*fields) + parts.after[END.size :]


SPLITTING = {
    "npy": (_split_npy, _join_npy),
    "safetensors": (_split_safetensors, _join_safetensors),
    "npz": (_split_npz, _join_npz),
}
