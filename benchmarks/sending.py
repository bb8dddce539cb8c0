"""The sending family: an array of 1 GiB given to two worker processes, which add it up, and a store by many tasks.

The workers are there before; each gets the array as an argument, under the transport's own way to hand arguments over.
The time is from handing over until the later of the two functions begins, for what it does then is the same for all:
``until summed`` is when both are done. ``added MiB`` is the largest growth of the anonymous memory (`RssAnon`, looked
at every ms) of the sender and of both workers together; pages of the file are not in it. The file is in memory before.

A store is of an array in memory, by dask's threads. The times end when the bytes are on the disk.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import shutil
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from case import EXPERT, NUMPY, OURS, Bar, Case, Note, Tally, at_most, faster
from cold import settle
from random_file import random_file, size_with_room
from stats.memory import Watcher

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from timing import Runner

    Sender = Callable[[Any], list[tuple[float, float, int]]]

TITLE = "Sending: arrays to other processes, and stores by many tasks"
ZARR, UNSYNCED = "zarr", "zarr, not synced"
CONTENDERS = (OURS, NUMPY, EXPERT, ZARR, UNSYNCED)
SUMMED, ADDED = "until summed, ms", "added MiB"
TALLIES = (SUMMED, ADDED)
LIMIT_IS = (
    "The expert sends the file's name, and maps it in the worker. joblib sends a whole numpy.memmap by its file's "
    "name, too. zarr has the same chunks, uncompressed, in files of their own, and is followed by `sync`; without it, "
    "it returns before the bytes are on the disk."
)

NBYTES, QUICK_NBYTES = 1 << 30, 1 << 26
ROUNDS = 5
WORKERS = 2
ROW = 1024


# ---- What the workers do ----


def add_up(array: Any) -> tuple[float, float, int]:
    """Return when it began, when it ended, and the sum."""
    start = time.monotonic()
    total = int(np.sum(array))
    return start, time.monotonic(), total


def map_and_add_up(place: tuple[str, tuple[int, int]]) -> tuple[float, float, int]:
    """The same of a file that is mapped here."""
    start = time.monotonic()
    total = int(np.memmap(place[0], "u4", "r", shape=place[1]).sum())
    return start, time.monotonic(), total


# ---- Ways to them ----


@contextlib.contextmanager
def _pool() -> Iterator[tuple[Callable[[Any, Any], Any], list[int]]]:
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pids = [process.pid for process in multiprocessing.active_children() if process.pid]
        yield lambda act, what: pool.map(act, [what] * WORKERS, chunksize=1), pids


@contextlib.contextmanager
def _joblib() -> Iterator[tuple[Callable[[Any, Any], Any], list[int]]]:
    joblib = importlib.import_module("joblib")
    executor = importlib.import_module("joblib.externals.loky").get_reusable_executor
    with joblib.Parallel(WORKERS, batch_size=1) as parallel:
        pids = list(set(parallel(joblib.delayed(_pid)() for _ in range(8 * WORKERS))))
        yield lambda act, what: parallel(joblib.delayed(act)(what) for _ in range(WORKERS)), pids
    executor().shutdown(wait=True)


def _pid() -> int:
    time.sleep(0.05)
    return os.getpid()


@contextlib.contextmanager
def _distributed() -> Iterator[tuple[Callable[[Any, Any], Any], list[int]]]:
    distributed = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0", memory_limit=None, silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client:
        workers = list(client.run(os.getpid).items())

        def send(act: Any, what: Any) -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                tasks = [client.submit(act, what, workers=[name], pure=False) for name, _ in workers]
                return client.gather(tasks)

        yield send, [pid for _, pid in workers]


WAYS = {
    "multiprocessing": (_pool, None),
    "joblib": (_joblib, "joblib"),
    "distributed": (_distributed, "distributed"),
}


# ---- The cases ----


def cases(folder: str, quick: bool) -> Iterator[Case | Note]:
    """Yield the family's cases."""
    nbytes = QUICK_NBYTES if quick else NBYTES
    with random_file(os.path.join(folder, "sent.dat"), nbytes) as path:
        for name, (way, library) in WAYS.items():
            if library is not None and importlib.util.find_spec(library) is None:
                yield Note(f"sending: {library} is not installed")
                continue
            with way() as (send, pids), contextlib.ExitStack() as stack:
                watchers = [(stack.enter_context(Watcher()), pid) for pid in (os.getpid(), *pids)]
                yield _sent(f"{name}, {nbytes >> 20:,} MiB", path, nbytes, send, watchers, name)
    yield from _stores(folder, 1 << 27 if quick else 2 << 30)


def _sent(name: str, path: str, nbytes: int, send: Any, watchers: list[tuple[Watcher, int]], way: str) -> Case:
    shape = (nbytes // (4 * ROW), ROW)
    summed, added = Tally(SUMMED), Tally(ADDED)
    total = int(np.sum(np.memmap(path, "u4", "r", shape=shape)))
    ours, theirs = nf.memmap(path, "u4", "r", shape=shape), np.memmap(path, "u4", "r", shape=shape)

    def runner(contender: str, act: Any, what: Any, some: Any) -> Runner:
        send(act, some)  # what the workers import at the first time is imported by now

        def run(count: int) -> float:
            taken = 0.0
            for _ in range(count):
                grown: list[float] = []
                with contextlib.ExitStack() as stack:
                    for watcher, pid in watchers:
                        stack.enter_context(watcher.watching(pid, grown.append))
                    start = time.monotonic()
                    found = send(act, what)
                begun, ended, totals = zip(*found, strict=True)
                assert set(totals) == {total}, (contender, totals, total)
                summed.noter(contender)(1e3 * (max(ended) - start))
                added.noter(contender)(sum(grown))
                taken += max(begun) - start
            return taken

        return run

    runners = {
        OURS: runner(OURS, add_up, ours, ours[:1]),
        NUMPY: runner(NUMPY, add_up, theirs, theirs[:1]),
        EXPERT: runner(EXPERT, map_and_add_up, (path, shape), (path, (1, ROW))),
    }
    bars: tuple[Bar, ...] = (faster(20) if way != "joblib" else faster(0.9), at_most(added, 16))
    return Case(name, runners, bars, (), ROUNDS, (summed, added), again=1, is_once=True)


def _stores(folder: str, wanted: int) -> Iterator[Case | Note]:
    nbytes = size_with_room(folder, wanted)
    if nbytes < wanted:
        yield Note(f"sending: stores of {nbytes >> 20} MiB instead of {wanted >> 20}, for the disk has no more room")
    try:
        da, zarr = importlib.import_module("dask.array"), importlib.import_module("zarr")
    except ImportError as error:
        yield Note(f"sending: no stores, {error.name} is not installed")
        return
    values = np.random.default_rng(0).integers(0, 256, nbytes, "u1").view("f4").reshape(-1, ROW)
    chunks = (min(len(values), (64 << 20) // (4 * ROW)), ROW)
    array = da.from_array(values, chunks=chunks)

    def ours(path: str) -> None:
        nf.dask.store(array, path)

    def numpy(path: str) -> None:
        target = np.lib.format.open_memmap(path, "w+", "f4", values.shape)
        da.store(array, target, lock=False)
        target.flush()
        _sync(path)

    def to_zarr(path: str) -> None:
        target = zarr.create_array(path, shape=values.shape, chunks=chunks, dtype="f4", compressors=None)
        da.store(array, target, lock=False)

    def synced(path: str) -> None:
        to_zarr(path)
        os.sync()

    acts = {OURS: ours, NUMPY: numpy, ZARR: synced, UNSYNCED: to_zarr}
    runners = {name: _anew(act, os.path.join(folder, "stored.npy"), nbytes) for name, act in acts.items()}
    bars = (faster(1.5, ZARR),)
    yield Case(f"dask store, {nbytes >> 20:,} MiB", runners, bars, (), ROUNDS, is_once=True, again=1)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _anew(act: Callable[[str], None], path: str, nbytes: int) -> Runner:
    """Return a runner that stores under a name at which there is nothing."""

    def run(count: int) -> float:
        taken = 0.0
        for _ in range(count):
            settle(nbytes)
            start = time.perf_counter()
            try:
                act(path)
            finally:
                taken += time.perf_counter() - start
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(path)
        return taken

    return run
