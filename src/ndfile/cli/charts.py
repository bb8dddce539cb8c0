"""Bars of characters: how much of a file is in memory, and how often values occur."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ndfile.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ndfile.cli.output import Output
    from ndfile.hints import Residency

__all__ = ["bar_of", "occupancy", "percent", "residency_bar", "residency_in_words"]

# From empty to full, with characters that every encoding has as the second choice.
SHADES = (" ░▒▓█", " .:+#")
EIGHTHS = " ▏▎▍▌▋▊▉█"


def residency_bar(output: Output, shares: Sequence[float], width: int) -> str:
    """The shares of equal parts as a bar that is `width` wide, its ends included."""
    edge = "▕▏" if output.can_show("▕▏") else "||"
    return f"{edge[0]}{occupancy(output, shares, width - 2)}{edge[1]}"


def occupancy(output: Output, shares: Sequence[float], width: int) -> str:
    """The shares of equal parts, each character a mean of some, or some characters of each."""
    shades = SHADES[0] if output.can_show(SHADES[0]) else SHADES[1]
    count = len(shares)
    if not count:
        return shades[4] * width
    if count < width:
        means = [shares[i * count // width] for i in range(width)]
    else:
        edges = [i * count // width for i in range(width + 1)]
        means = [sum(shares[a:b]) / (b - a) for a, b in pairwise(edges)]
    # What has anything at all is not shown as empty, nor what lacks anything as full.
    return "".join(shades[min(int(mean * 3) + (mean > 0), 3) if mean < 1 else 4] for mean in means)


def residency_in_words(found: Residency) -> str:
    """Which share of an array is in memory, and how much that is."""
    waiting = f", {in_words(found.dirty_nbytes)} of it to be written" if found.dirty_nbytes else ""
    return f"{percent(found.share)} in memory, {in_words(found.resident_nbytes)} of {in_words(found.nbytes)}{waiting}"


def percent(share: float) -> str:
    """A share with as many digits as it needs not to look like nothing, or like all."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(share, 0.0001), 0.9999):.2%}" if share < 0.01 or share > 0.99 else f"{share:.1%}"


def bar_of(output: Output, share: float, width: int) -> str:
    """A bar whose length is a share of the width, to the eighth of a character."""
    if not output.can_show(EIGHTHS):
        return "#" * (int(share * width + 0.5) or (share > 0))
    eighths = int(share * width * 8 + 0.5) or (share > 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
