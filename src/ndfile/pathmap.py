"""Where files are that other hosts have elsewhere: prefixes of paths, and what stands for them here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ndfile.errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["map_paths", "mapped_path"]

VARIABLE = "NDFILE_PATH_MAP"

_known: dict[str, str] | None = None


def map_paths(prefixes: Mapping[str, str]) -> None:
    """Tell where this machine has what others have elsewhere.

    When a reference is opened, a path that begins with one of the prefixes, as whole names of folders, is looked for
    under what stands for it here; the longest prefix counts. For mounts that differ between the hosts of a cluster.

    Parameters
    ----------
    prefixes : mapping of str to str
        Absolute folders there, and here. Takes the place of what was told before; an empty one maps nothing.

    Raises
    ------
    LayoutError
        A path is not absolute. A ValueError.

    See Also
    --------
    ArrayRef

    Notes
    -----
    Cost: none.

    Platforms: all. Until it is called, the environment variable ``NDFILE_PATH_MAP`` counts:
    ``/data=/mnt/nas/data:/scratch=/local/scratch``.

    Threads: safe. It holds for the process, and for those that are forked from it; those that are spawned have the
    environment.

    Examples
    --------
    >>> import ndfile as nf
    >>> nf.map_paths({"/data": "/mnt/nas/data"})
    >>> nf.map_paths({})
    """
    global _known
    _known = _checked(prefixes, "map_paths")


def mapped_path(path: str) -> str:
    """Where a file is here that is called `path` elsewhere."""
    known, there = _prefixes(), _normal(path)
    for prefix in sorted(known, key=len, reverse=True):
        if there == prefix:
            return known[prefix]
        folder = os.path.join(prefix, "")
        if there.startswith(folder):
            return os.path.join(known[prefix], there.removeprefix(folder))
    return path


def _prefixes() -> dict[str, str]:
    global _known
    if _known is None:
        pairs = [pair.partition("=") for pair in os.environ.get(VARIABLE, "").split(os.pathsep) if pair]
        _known = _checked({there: here for there, _, here in pairs}, VARIABLE)
    return _known


def _checked(prefixes: Mapping[str, str], source: str) -> dict[str, str]:
    for path in (*prefixes.keys(), *prefixes.values()):
        if not os.path.isabs(path):
            raise LayoutError(f"{source}: {path!r} is no absolute path", "Pass folders such as '/mnt/data'.")
    return {_normal(there): _normal(here) for there, here in prefixes.items()}


def _normal(path: str) -> str:
    # POSIX leaves the meaning of two slashes at the beginning to the system; Linux takes them for one.
    return "/" + os.path.normpath(os.fsdecode(path)).lstrip("/")
