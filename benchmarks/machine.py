"""What the numbers were measured on. Names no paths and no host."""

from __future__ import annotations

import datetime
import os
import platform

import device
import numpy as np

import ndfile as nf
from ndfile.cli.on_disk import file_system


def facts(folder: str) -> dict[str, str]:
    """Describe the machine, the file system of `folder`, and the versions."""
    return {
        "CPU": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(folder) or "unknown",
        "readahead of its device": _readahead(folder),
        "load when started": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "ndfile": nf.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _readahead(folder: str) -> str:
    kib = device.readahead_kib(folder)
    return "unknown" if kib is None else f"{kib} KiB"


def _field(path: str, name: str) -> str | None:
    try:
        with open(path) as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
    except OSError:
        return None


def _memory() -> str:
    kib = (_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]
    return f"{int(kib) / 2**20:.1f} GiB"
