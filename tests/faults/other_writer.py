"""A writer in another process, for the tests of what others see of its rows."""

import contextlib
import os
import subprocess
import sys
import textwrap

__all__ = ["LONG_S", "descriptors", "writing_elsewhere"]

# How long to wait for what must come: a test that waits so long has failed.
LONG_S = 60

WRITER = """
    import sys
    import numpy as np
    import ndfile as nf
    with nf.open(sys.argv[1], "r+") as array:
        print("open", flush=True)
        sys.stdin.readline()
        for count in range(4, int(sys.argv[2])):
            array.append(np.full((1, 3), count, "f4"), sync=sys.argv[3] == "sync")
"""


@contextlib.contextmanager
def writing_elsewhere(path, rows, how="fast"):
    """A process that appends rows of their own number, once it is let."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), path, str(rows), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        yield process
        process.communicate(timeout=LONG_S)
    assert process.returncode == 0


def descriptors():
    """What this process has open."""
    return sorted(os.listdir("/proc/self/fd"))
