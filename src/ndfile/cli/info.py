"""`ndfile info`: what a file holds and where it is, without reading data."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import ndfile as nf
from ndfile.cli import on_disk, target
from ndfile.cli.charts import percent, residency_bar
from ndfile.cli.messages import respelled
from ndfile.cli.output import Output, add_json, shortened
from ndfile.description import PENDING
from ndfile.sizes import in_words

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from ndfile.cli.on_disk import OnDisk
    from ndfile.formats import Member
    from ndfile.hints import Residency

NAME = "info"
HELP = "say what a file holds and where it is, without reading data"

EPILOG = """\
examples:
  ndfile info recording.npy
  ndfile info weights.safetensors
  ndfile info weights.safetensors --key layer0/kernel --json
  ndfile info samples.dat --dtype int16 --shape 1200000,384
"""

PAGE_NBYTES = os.sysconf("SC_PAGESIZE")

# Of the width of a terminal, what a name and a figure leave of a line.
BAR_WIDTH = 32

MOST_METADATA = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    add_json(parser)
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    about = nf.info(arguments.file, format=arguments.format, **target.hints_of(arguments))
    members = dict(about.members)
    if arguments.key is not None:
        if arguments.key not in members:
            raise nf.MemberError(about.path, arguments.key, tuple(members))
        members = {arguments.key: members[arguments.key]}
    disk = on_disk.look(about.path)
    resident = _residency(arguments, about, members)
    output = Output()
    if arguments.json:
        output.json(_document(about, members, disk, resident))
        return 0
    output.line(target.named(arguments.file), "bold")
    output.facts(_facts(output, about, members, disk, resident))
    if about.is_archive and arguments.key is None and members:
        output.line()
        _write_table(output, list(members.values()))
    return 0


def _residency(arguments: argparse.Namespace, about: nf.Info, members: dict[str, Member]) -> Residency | None:
    """How much is in memory: of the array, where it is one, else of the file."""
    only = next(iter(members.values())) if len(members) == 1 else None
    try:
        if only is not None and only.offset is not None and only.nbytes:
            found: Residency = target.array_of(arguments).residency(BAR_WIDTH)
            return found
        return nf.memmap(about.path, mode="r").residency(BAR_WIDTH) if about.size else None
    except nf.NeedsRecoveryError:  # which the facts say anyhow
        return None


def _facts(
    output: Output, about: nf.Info, members: dict[str, Member], disk: OnDisk, resident: Residency | None
) -> list[tuple[str, str]]:
    facts = [("format", about.format)]
    if len(members) == 1:
        (member,) = members.values()
        facts += _member_facts(member)
    facts += [("size", _exactly(about.size)), ("on disk", _on_disk(about.size, disk))]
    if resident is not None:
        figure = f"{percent(resident.share):<6}"
        bar = residency_bar(output, resident.parts, BAR_WIDTH + 2)
        waiting = f" {in_words(resident.dirty_nbytes)} to be written" if resident.dirty_nbytes else ""
        facts.append(("in memory", f"{figure} {bar}{waiting}"))
    if disk.lock is not None:
        facts.append(("lock", f"{disk.lock}, held by {disk.holder}"))
    if disk.journal is not None:
        facts.append(("journal", _journal_in_words(disk.journal)))
    metadata = dict(about.metadata) | dict(next(iter(members.values())).metadata if len(members) == 1 else {})
    facts += _labelled(
        "metadata", [f"{name}: {shortened(_shown(one), MOST_METADATA)}" for name, one in metadata.items()]
    )
    if len(about.members) != 1:
        facts.append(("members", f"{len(about.members):,}"))
    return facts + _labelled("note", [respelled(note) for note in about.notes if note not in PENDING.values()])


def _labelled(label: str, texts: list[str]) -> list[tuple[str, str]]:
    """Lines of which the first says what they are."""
    return [("" if i else label, text) for i, text in enumerate(texts)]


def _member_facts(member: Member) -> list[tuple[str, str]]:
    facts = [("member", target.named(member.name))] if member.name != "data" else []
    facts += [
        ("dtype", _dtype(member)),
        *_labelled("fields", _fields(member.dtype)),
        ("shape", f"{member.shape}{_items(member)}"),
    ]
    if len(member.shape) > 1:
        facts.append(
            (
                "order",
                "C, the last index is the fastest" if member.order == "C" else "F, the first index is the fastest",
            )
        )
    if member.offset is None:
        facts.append(("mapping", f"not possible: {member.obstacle}"))
        return facts
    facts += [("data", f"{in_words(member.nbytes)} from byte {member.offset:,}, {_alignment_in_words(member.offset)}")]
    if member.read_only is not None:
        facts.append(("writing", f"not in place: {member.read_only}"))
    return facts


def _fields(dtype: np.dtype[Any]) -> list[str]:
    return [f"{target.named(name)}: {target.typed(dtype[name])}" for name in dtype.names or ()]


def _dtype(member: Member) -> str:
    if not member.dtype.itemsize:
        return "unknown"
    if member.dtype.names is not None:
        return f"structured, {member.dtype.itemsize:,} bytes an item"
    return target.typed(member.dtype)


def _items(member: Member) -> str:
    count = 1
    for size in member.shape:
        count *= size
    return f", {count:,} items" if len(member.shape) > 1 or count > 999 else ""


def _alignment(offset: int) -> int:
    """The largest power of two that divides the place, up to a page."""
    return min(offset & -offset, PAGE_NBYTES) if offset else PAGE_NBYTES


def _alignment_in_words(offset: int) -> str:
    alignment = _alignment(offset)
    if alignment == PAGE_NBYTES:
        return f"aligned to pages of {PAGE_NBYTES:,} bytes"
    return f"aligned to {alignment:,} bytes" if alignment > 1 else "not aligned"


def _exactly(nbytes: int) -> str:
    return in_words(nbytes) if nbytes < 1024 else f"{in_words(nbytes)} ({nbytes:,} bytes)"


def _on_disk(size: int, disk: OnDisk) -> str:
    text = in_words(disk.nbytes)
    if not disk.holes or disk.hole_nbytes is None:
        return text
    # Blocks that were reserved and not written yet are holes to the kernel, too.
    if disk.nbytes >= size:
        return f"{text}, {in_words(disk.hole_nbytes)} of it reserved and not written yet"
    return f"{text}, {disk.holes:,} hole{'s'[: disk.holes != 1]} of {in_words(disk.hole_nbytes)}"


def _journal_in_words(state: str) -> str:
    advice = {
        "interrupted": "a commit was interrupted; ndfile recover FILE completes it",
        "being completed": "a commit is being completed",
        "of another file": "that of another file; see ndfile recover --help",
        "unreadable": "it may not be read, so nobody can tell whether a commit is pending",
    }
    return advice[state]


def _shown(value: Any) -> str:
    return target.named(value) if isinstance(value, str) else ascii(value)


def _write_table(output: Output, members: list[Member]) -> None:
    rows = [
        (
            target.named(one.name),
            target.typed(one.dtype) if one.dtype.itemsize else "?",
            str(one.shape) + (" F" if one.order == "F" and len(one.shape) > 1 else ""),
            in_words(one.nbytes),
            f"{one.offset:,}" if one.offset is not None else "-",
        )
        for one in members
    ]
    output.table(("member", "dtype", "shape", "size", "offset"), rows, left=(0, 1, 2), optional=3)
    for obstacle in dict.fromkeys(one.obstacle for one in members if one.obstacle):
        count = sum(one.obstacle == obstacle for one in members)
        output.line(f"{count:,} of {len(members):,} cannot be mapped: {obstacle}")


def _document(about: nf.Info, members: dict[str, Member], disk: OnDisk, resident: Residency | None) -> dict[str, Any]:
    values = about.to_dict()
    values["members"] = {name: values["members"][name] for name in members}
    for name, one in members.items():
        values["members"][name]["alignment"] = None if one.offset is None else _alignment(one.offset)
    return values | {
        "disk_nbytes": disk.nbytes,
        "holes": disk.holes,
        "hole_nbytes": disk.hole_nbytes,
        "resident_nbytes": None if resident is None else resident.resident_nbytes,
        "resident_share": None if resident is None else resident.share,
        "dirty_nbytes": None if resident is None else resident.dirty_nbytes,
        "journal": disk.journal,
        "lock": disk.lock,
        "lock_holder": disk.holder,
    }
