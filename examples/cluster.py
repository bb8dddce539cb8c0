"""Compute on a cluster over an array that is larger than a worker's memory, and store the result in parallel.

The cluster is two worker processes of this machine, each with a limit of memory, as `distributed` starts them. What
goes to them is a reference of some hundred bytes, and each reads what its tasks need from the file itself. The result
is written by the workers too, each chunk where it belongs. Needs ``pip install 'ndfile[dask]'``.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import sys
import tempfile

import numpy as np

import ndfile as nf

try:
    import dask
    import distributed
except ImportError:
    distributed = None

CHANNELS = 256
CHUNK = "16 MiB"
SEED = 3


def fill(path: str, rows: int) -> None:
    """Make noise with a level and a loudness for each channel, block by block."""
    rng = np.random.default_rng(SEED)
    level, loudness = rng.uniform(-5, 5, CHANNELS), rng.uniform(1, 3, CHANNELS)
    some = rng.normal(size=(4099, CHANNELS))
    with nf.create(path, shape=(rows, CHANNELS), dtype="float32") as a:
        for first in range(0, rows, len(some)):
            block = a[first : first + len(some)]
            block[...] = some[: len(block)] * loudness + level


def in_a_worker() -> tuple[int, int]:
    """Process, and the most memory that it has had."""
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compute(path: str, result: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, and then everything in units of them into a new file."""
    a = nf.open(path)
    lazy = a.to_dask(chunks=CHUNK)
    sent = len(pickle.dumps(lazy))
    print(f"The array: {a.shape[0]:,} x {a.shape[1]} {a.dtype}, {a.nbytes / 1e6:.0f} MB, in {lazy.npartitions} chunks.")
    print(f"What describes it to the cluster: {sent:,} bytes.")
    mean, std = dask.compute(lazy.mean(axis=0), lazy.std(axis=0))
    nf.dask.store((lazy - mean) / std, result)
    return mean, std


def check(path: str, result: str, mean: np.ndarray, std: np.ndarray) -> bool:
    """Compare with what one process finds, block by block."""
    with nf.open(path) as a, nf.open(result) as stored:
        here = nf.describe(a, axis=0)
        off = max(abs(mean - here.mean).max(), abs(std - here.std).max())
        print(f"Mean and deviation of {CHANNELS} channels differ by {off:.1e} at most from those of nf.describe here.")
        rows = np.random.default_rng(SEED).integers(0, len(a), 1000)
        same = np.array_equal(stored[rows], (a[rows] - mean) / std)
        verdict = "right" if same else "WRONG"
        print(
            f"The stored result: {stored.nbytes / 1e6:.0f} MB of {stored.dtype}; 1000 rows of it compared: {verdict}."
        )
        after = nf.describe(stored, axis=0)
        spread = f"{after.std.min():.4f} to {after.std.max():.4f}"
        print(f"Its means are within {abs(after.mean).max():.1e} of 0, its deviations {spread}.")
        return bool(off < 1e-3 and same)


def run(folder: str, nbytes: int, memory_limit: int) -> bool:
    path, result = os.path.join(folder, "signal.npy"), os.path.join(folder, "standardised.npy")
    fill(path, nbytes // (4 * CHANNELS))
    # Nothing is to be seen in a browser here, and nothing is to be left in the current folder.
    dask.config.set({"temporary-directory": folder})
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=memory_limit, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        print(f"{len(cluster.workers)} workers with a limit of {memory_limit / 1e6:.0f} MB each.")
        before = dict(client.run(in_a_worker).values())
        mean, std = compute(path, result)
        after = dict(client.run(in_a_worker).values())
    lived = before.keys() == after.keys()
    idle, most = (max(found.values()) / 1e6 for found in (before, after))
    print(f"The most memory that a worker had: {most:.0f} MB, {idle:.0f} MB of them before the work.", end=" ")
    print("None was ended." if lived else "Some were ENDED, and replaced.")
    return check(path, result, mean, std) and lived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="of the array (default %(default)s)")
    parser.add_argument("--memory-limit", type=int, default=400, help="of a worker, in MB (default %(default)s)")
    parser.add_argument("--folder", help="work here, on another disk say; the files are removed in the end")
    parser.add_argument("--small", action="store_true", help="an array of 420 MB, for tests")
    options = parser.parse_args()
    if distributed is None:
        print("Skipped: dask and distributed are not installed. Install them with: pip install 'ndfile[dask]'")
        return
    megabytes = 420 if options.small else options.megabytes
    with tempfile.TemporaryDirectory(prefix="ndfile-example-", dir=options.folder) as folder:
        sys.exit(not run(folder, megabytes * 1_000_000, options.memory_limit * 1_000_000))


if __name__ == "__main__":
    main()
