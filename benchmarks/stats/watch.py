"""The program of `memory.Watcher`: a process's number in, its level before out; a line in, its growth out (KiB)."""

from __future__ import annotations

import select
import sys

PAUSE_S = 0.001


def anonymous_kib(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
    except OSError:  # it has ended
        return 0


while pid := sys.stdin.readline().strip():
    before = most = anonymous_kib(pid)
    print(before, flush=True)
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        most = max(most, anonymous_kib(pid))
    sys.stdin.readline()
    print(max(most, anonymous_kib(pid)) - before, flush=True)
