"""How much memory there is to be had."""

from __future__ import annotations

import contextlib
import math
import os
import time

__all__ = ["available_nbytes", "most_nbytes"]

CGROUPS = "/sys/fs/cgroup"


# Asking takes longer than a small commit.
LASTS_S = 1.0
_known = (0, -math.inf)


def available_nbytes() -> int:
    """Bytes that can be used without anybody's being swapped out or ended, as far as the system told lately."""
    global _known  # a number and its time, replaced together
    nbytes, asked_s = _known
    now_s = time.monotonic()
    if now_s - asked_s > LASTS_S:
        nbytes = _ask()
        _known = (nbytes, now_s)
    return nbytes


def _ask() -> int:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo") as file:
        available = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/self/cgroup") as file:
        group = next(line.rstrip("\n").split(":", 2)[2] for line in file if line.startswith("0:"))
        available = min(available, _left_in(f"{CGROUPS}{group}"))
    return available


def most_nbytes() -> int:
    """Bytes that the process may use at all: the machine's, or the least that a control group around it allows."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    with contextlib.suppress(OSError), open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, group = line.rstrip("\n").split(":", 2)
            if not controllers:  # version 2, alone or beside version 1
                most = min(most, _limit_in("", group, "memory.max"), _limit_in("/unified", group, "memory.max"))
            elif "memory" in controllers.split(","):
                most = min(most, _limit_in("/memory", group, "memory.limit_in_bytes"))
    return most


def _limit_in(root: str, group: str, name: str) -> int:
    """The least limit of a control group and those around it.

    A container may not see the groups by the names that it is told; what it sees is then at the root.
    """
    least = 1 << 62
    folder = group.rstrip("/")
    while True:
        with contextlib.suppress(OSError, ValueError), open(f"{CGROUPS}{root}{folder}/{name}") as limit:
            least = min(least, int(limit.read()))  # ValueError for "max"
        if not folder:
            return least
        folder = folder.rpartition("/")[0]


def _left_in(folder: str) -> int:
    """What a control group and those around it leave to it."""
    left = 1 << 62
    while folder.startswith(CGROUPS):
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/memory.max") as most:
            limit = int(most.read())  # ValueError for "max"
            with open(f"{folder}/memory.current") as used:
                left = min(left, max(limit - int(used.read()), 0))
        folder = os.path.dirname(folder)
    return left
