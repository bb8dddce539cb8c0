"""A program that does things on a cluster of worker processes, and prints what came of them, as JSON."""

import contextlib
import json
import os
import signal
import sys
import threading
import time

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import ndfile as nf

FACTS = {}


class Sub(nf.memmap):
    pass


def kind(thing):
    return type(thing).__name__, isinstance(thing, nf.memmap) and thing.filename is not None


def opened(path):
    return nf.open(path)[10:20, ::2]


def total(array):
    return kind(array), float(array.sum())


def kill_once(block, flag, after):
    """End the worker process that comes here first; those that come later take their time."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGKILL)
    return block + 1


def fail(block, block_info=None):
    if block_info[0]["chunk-location"] == (3, 0):
        raise RuntimeError("no such luck")
    return block


def hold(path):
    array = np.memmap(path, np.float32, "r", offset=128)
    array.sum()
    time.sleep(20)


def pids(client):
    return sorted(client.run(os.getpid).values())


def spill(client, path):
    """Put a mapped result where distributed puts what it spills, and take it back."""

    def there_and_back(dask_worker):
        from distributed.protocol import deserialize_bytes, serialize_bytelist

        frames = b"".join(bytes(frame) for frame in serialize_bytelist(nf.open(path), on_error="raise"))
        return len(frames), kind(deserialize_bytes(frames))

    return next(iter(client.run(there_and_back).values()))


def by_reference(client, path):
    a = nf.open(path)
    FACTS["submit"] = client.submit(total, a).result()
    FACTS["map"] = client.gather(client.map(total, [a[:10], a[10:]]))
    FACTS["delayed"] = dask.delayed(total)(a).compute()
    [scattered] = client.scatter([a[5:]])
    FACTS["scatter"] = client.submit(total, scattered).result()
    FACTS["scattered is gathered"] = kind(scattered.result())
    result = client.submit(opened, path)
    gathered = result.result()
    FACTS["result"] = kind(gathered), bool((gathered == a[10:20, ::2]).all())
    FACTS["result elsewhere"] = client.submit(total, result).result()
    FACTS["in a list"] = [kind(one) for one in client.submit(lambda: [opened(path)] * 2).result()]
    sub = client.submit(lambda one: one[:7], a.view(Sub)).result()
    FACTS["subclass"] = kind(sub)
    changed = nf.open(path, mode="c")
    changed[...] = 5
    FACTS["changed in memory"] = client.submit(total, changed).result(), kind(client.scatter(changed).result())
    FACTS["held"] = client.cluster.scheduler.tasks[result.key].nbytes
    FACTS["spilled"] = spill(client, path)
    darr = da.ones(4, chunks=2)
    FACTS["map_blocks"] = darr.map_blocks(lambda block, one: block * one[0, 0], a).compute().tolist()


def stores(client, folder):
    values = np.random.default_rng(0).random((40, 30, 500))
    darr = da.from_array(values, chunks=(9, 8, 200)) * 2
    for name, keywords in {
        "threads": {"scheduler": "threads"},
        "processes": {"scheduler": "processes"},
        "cluster": {},
    }.items():
        path = os.path.join(folder, f"{name}.npy")
        told = []
        nf.dask.store(darr, path, progress=lambda done, of, told=told: told.append((done, of)), **keywords)
        FACTS[f"store {name}"] = np.array_equal(np.load(path), values * 2), told[0], told[-1]
    path = os.path.join(folder, "delayed.npy")
    nf.dask.store(darr, path, compute=False).compute()
    FACTS["store delayed"] = np.array_equal(np.load(path), values * 2)
    for scheduler in ("processes", client):
        path = os.path.join(folder, "existing.npy")
        a = nf.create(path, values.shape, "f8", overwrite=True)
        da.store(darr, a, lock=False, scheduler=scheduler)
        FACTS[f"store into an array, {type(scheduler).__name__}"] = np.array_equal(np.load(path), values * 2)


def losses(client, folder):
    before = pids(client)
    values = np.arange(4000.0).reshape(40, 100)
    for name, compute in {
        "store": lambda darr, path: nf.dask.store(darr, path),
        "delayed store": lambda darr, path: nf.dask.store(darr, path, compute=False).compute(),
    }.items():
        path = os.path.join(folder, f"{name}.npy")
        darr = da.from_array(values, chunks=(2, 100)).map_blocks(
            kill_once, os.path.join(folder, f"{name}.flag"), 0.2, meta=np.empty((0, 0))
        )
        compute(darr, path)
        FACTS[f"{name} with a loss"] = np.array_equal(np.load(path), values + 1)
    np.save(os.path.join(folder, "scan.npy"), values)
    scanned = nf.dask.open(os.path.join(folder, "scan.npy"), chunks=(2, 100))
    scanned = scanned.map_blocks(kill_once, os.path.join(folder, "scan.flag"), 0.2, meta=np.empty((0, 0)))
    FACTS["scan with a loss"] = bool((scanned.compute() == values + 1).all())
    client.wait_for_workers(2)
    FACTS["workers were lost"] = len(set(before) - set(pids(client)))

    path = os.path.join(folder, "old.npy")
    np.save(path, np.arange(3))
    darr = da.ones((40, 100), chunks=(2, 100)).map_blocks(fail, meta=np.empty((0, 0)))
    for name, compute in {
        "store": lambda: nf.dask.store(darr, path, overwrite=True),
        "delayed store": lambda: nf.dask.store(darr, path, overwrite=True, compute=False).compute(),
        "threads": lambda: nf.dask.store(darr, path, overwrite=True, scheduler="threads"),
        "processes": lambda: nf.dask.store(darr, path, overwrite=True, scheduler="processes"),
    }.items():
        try:
            compute()
            raised = None
        except RuntimeError as error:
            raised = str(error)
        time.sleep(0.1)
        FACTS[f"failed {name}"] = np.load(path).tolist(), raised
    FACTS["left over"] = [name for name in os.listdir(folder) if name.startswith(".ndfile-")]


def large_scan(client, path):
    before = pids(client)
    top = {}

    def watch(dask_worker):
        import psutil

        def look():
            while True:
                top["rss"] = max(top.get("rss", 0), psutil.Process().memory_info().rss)
                time.sleep(0.01)

        threading.Thread(target=look, daemon=True).start()
        dask_worker.top = top

    client.run(watch)
    darr = nf.open(path).to_dask(chunks="64 MiB")
    FACTS["large scan"] = float(darr.sum(dtype="f8").compute())
    FACTS["the same by from_array"] = float(da.from_array(nf.open(path), chunks=darr.chunks).sum(dtype="f8").compute())
    FACTS["most resident"] = max(client.run(lambda dask_worker: dask_worker.top["rss"]).values())
    FACTS["same workers"] = before == pids(client)


def large_scan_of_maps(client, path):
    client.cluster.scheduler.allowed_failures = 0
    try:
        client.submit(hold, path).result(timeout=60)
        FACTS["numpy.memmap"] = "done"
    except Exception as error:
        FACTS["numpy.memmap"] = type(error).__name__


def main(folder, large):
    small = os.path.join(folder, "small.npy")
    np.save(small, np.arange(1000.0).reshape(50, 20))
    with (
        dask.config.set({"distributed.admin.low-level-log-length": 100}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="700MB", dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        by_reference(client, small)
        stores(client, folder)
        large_scan(client, large)
        losses(client, folder)
        large_scan_of_maps(client, large)
    print(json.dumps(FACTS))


if __name__ == "__main__":
    main(*sys.argv[1:])
