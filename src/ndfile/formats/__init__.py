"""File formats: one small class each, which says where in a file its arrays lie.

`Format` is the contract, for third parties too; `find` tells which one a file has.
"""

from ndfile.formats.format import Contents, Format, Member, Plan, Source
from ndfile.formats.registry import find, for_suffix, named, names

__all__ = ["Contents", "Format", "Member", "Plan", "Source", "find", "for_suffix", "named", "names"]
