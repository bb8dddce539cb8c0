"""Running a store by whichever scheduler, and telling how far it is."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["run"]


def run(array: Any, target: Any, client: Any, scheduler: Any, advance: Callable[[int], None]) -> None:
    """Store each chunk of a dask array into `target`, by a client of distributed's or what dask would use.

    Returns when all are stored. `advance` is told the bytes of each as it is.
    """
    import dask
    import dask.array as da
    from dask.base import get_scheduler
    from dask.callbacks import Callback

    stored = da.store(array, target, lock=False, compute=False)
    nbytes = _nbytes(array, stored)
    if client is None:
        get = get_scheduler(scheduler=scheduler, collections=[stored])
        client = getattr(get, "__self__", None)
    if hasattr(client, "persist"):
        _wait(client.persist(stored), nbytes, advance)
        return

    def after(key: Any, *_: Any) -> None:
        advance(nbytes.pop(key, 0))

    with Callback(posttask=after):
        dask.persist(stored, scheduler=scheduler)


def _nbytes(array: Any, stored: Any) -> dict[Any, int]:
    """Bytes that are in the file when a task is done, by its key: of each chunk, or of all where dask has one task."""
    keys = list(_flat(stored.__dask_keys__()))
    if len(keys) == 1:
        return {keys[0]: array.nbytes}
    sizes = itertools.product(*array.chunks)
    return {key: _product(size) * array.dtype.itemsize for key, size in zip(keys, sizes, strict=True)}


def _flat(keys: Any) -> Any:
    for key in keys:
        if isinstance(key, list):
            yield from _flat(key)
        else:
            yield key


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= int(size)
    return product


def _wait(stored: Any, nbytes: Mapping[Any, int], advance: Callable[[int], None]) -> None:
    """Wait for the futures of a cluster. What one of them raised is raised here, and the others are dropped."""
    distributed = sys.modules["distributed"]
    futures = distributed.futures_of(stored)
    told: set[Any] = set()
    # A worker that is lost takes results along: its tasks are done once more, and must not be doing so afterwards.
    while waiting := [future for future in futures if future.status != "finished"] or (futures if not told else []):
        for future in distributed.as_completed(waiting):
            if future.status != "finished":
                future.result()
            if future.key not in told:
                told.add(future.key)
                advance(nbytes.get(future.key, 0))
