"""What notebooks show of arrays and archives: HTML with what is known of the file, which reads no page of its data.

Colours are the notebook's own, more or less opaque, so it looks right on a light and on a dark page. Names come from
anywhere, and whatever is not written here goes through `_safe`.
"""

from __future__ import annotations

import html
import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ndfile.pictures.residency import in_words_of
from ndfile.pictures.words import printable
from ndfile.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ndfile.archive import Archive
    from ndfile.hints import Residency

__all__ = ["html_of_archive", "html_of_array"]

PARTS = 128
MOST_MEMBERS = 100

# Of a name, a dtype or a shape, which a hostile file may make as long as it likes.
MOST_LETTERS = 300

# Old pages do not let tables have the colour of what is around them by themselves.
TABLE = "border:none;color:inherit;font:inherit"
CELL = "text-align:left;padding:1px 14px 1px 0;vertical-align:top;background:none"
MUTED = "opacity:.65;font-weight:normal"


def html_of_array(array: Any) -> str:
    """What a notebook shows of an array."""
    mapping = array._mmap
    if mapping is None:  # what it has is in memory, and nowhere else
        return f"<pre>{html.escape(repr(array))}</pre>"
    path, is_view = mapping.filename, array.base is not mapping
    facts = [("file", "a file without a name" if path is None else path)]
    facts += [("format", _format(mapping))]
    facts += [("dtype", array.dtype), ("shape", f"{array.shape}{', a view' if is_view else ''}")]
    facts += [("size", _size(array)), ("order", _order(array)), ("mode", f"{mapping.mode}, {MODES[mapping.mode]}")]
    rows = [_row(name, _safe(text)) for name, text in facts]
    if mapping.closed:
        rows.append(_row("state", "<strong>closed</strong>"))
    else:
        found = array.residency(PARTS)
        rows.append(_row("resident", f"{_safe(in_words_of(found))}{_bar(found)}"))
    return f'<div class="ndfile-array"><table style="{TABLE}">{"".join(rows)}</table></div>'


def html_of_archive(archive: Archive) -> str:
    """What a notebook shows of an archive: its members."""
    names = list(archive)
    state = "closed" if archive.closed else f"mode {archive.mode}"
    count = f"{len(names)} member{'s'[: len(names) != 1]}"
    head = f"{_safe(archive.filename)} <span style='{MUTED}'>{_safe(archive.format)}, {count}, {state}</span>"
    lines = [_line("th", ("name", "dtype", "shape", "order", "size", "in memory"), MUTED)]
    lines += [_line("td", _member_facts(archive, name)) for name in names[:MOST_MEMBERS]]
    more = f"<div style='{MUTED}'>and {len(names) - MOST_MEMBERS:,} more</div>" if len(names) > MOST_MEMBERS else ""
    return f'<div class="ndfile-archive"><div>{head}</div><table style="{TABLE}">{"".join(lines)}</table>{more}</div>'


MODES = {"r": "read only", "r+": "read and write", "w+": "read and write", "c": "changes stay in memory"}


def _member_facts(archive: Archive, name: str) -> tuple[object, ...]:
    member = archive._members[name]
    known = (name, member.dtype, member.shape, member.order if len(member.shape) > 1 else "")
    if archive.closed:
        return (*known, in_words(member.nbytes), "")
    if member.offset is None:
        return (*known, "", f"cannot be mapped: {member.obstacle}")
    return (*known, in_words(member.nbytes), f"{archive[name].residency(1).share:.0%}")


def _format(mapping: Any) -> str:
    return "raw bytes" if mapping.format is None else str(mapping.format.name)


def _size(array: Any) -> str:
    return f"{in_words(array.nbytes)}, {array.size:,} item{'s'[: array.size != 1]}"


def _order(array: Any) -> str:
    if not array.size:
        return "C"
    return "C" if array.flags.c_contiguous else "F" if array.flags.f_contiguous else f"strides {array.strides}"


# ---- HTML ----


def _safe(text: object) -> str:
    shown = printable(text)
    return html.escape(shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]}...")


def _row(name: str, content: str) -> str:
    """A line of a table; the content is HTML."""
    return f'<tr style="background:none"><th style="{CELL};{MUTED}">{name}</th><td style="{CELL}">{content}</td></tr>'


def _line(tag: str, texts: Iterable[object], style: str = "") -> str:
    cells = "".join(f'<{tag} style="{CELL};{style}">{_safe(text)}</{tag}>' for text in texts)
    return f'<tr style="background:none">{cells}</tr>'


def _bar(found: Residency) -> str:
    """Which parts are in memory, as a bar: darker where more of a part is."""
    if not found.parts:
        return ""
    marks, place = [], 0
    # Parts that look the same are one mark.
    for tenth, run in groupby(math.ceil(share * 10) if share < 1 else 10 for share in found.parts):
        width = len(list(run))
        if tenth:
            marks.append(f'<rect x="{place}" width="{width}" height="1" fill-opacity="{0.15 + 0.075 * tenth:.3g}"/>')
        place += width
    return (
        f'<svg viewBox="0 0 {place} 1" width="320" height="12" preserveAspectRatio="none" fill="currentColor" '
        'role="img" aria-label="which parts are in memory" style="display:block;max-width:100%;margin-top:3px;'
        f'outline:1px solid rgba(128,128,128,.5)">{"".join(marks)}</svg>'
    )
