"""Other libraries, each called as its documentation shows for large arrays, where it gives the same result.

bottleneck and numbagg work on any ndarray, here the map; theirs are the variants that leave out NaN. dask has chunks
over the map, and threads. duckdb scans the map as a table of one column, polars has a Series over it, which is no copy.
blosc2 has an array of its own in memory, compressed, made before the clock starts.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]

PEERS = ("bottleneck", "numbagg", "dask", "blosc2", "polars", "duckdb", "numexpr")

SIMPLE = ("std", "mean", "sum", "min", "max")
DASK_CHUNKS = "16 MiB"  # faster than its default, 128 MiB, for the temporaries are smaller
FRACTIONS = [0.01, 0.5, 0.99]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked for: the name, and the axis, or the number of bins."""

    name: str
    axis: int | None = None
    bins: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """One library's way: its object for a mapped array, and what is done with it."""

    of: Callable[[Any], Any]
    act: Callable[[Any], Any]


def found() -> dict[str, Any]:
    """Import the peers that are installed."""
    modules = {}
    for name in PEERS:
        try:
            modules[name] = importlib.import_module("dask.array" if name == "dask" else name)
        except ImportError:
            continue
    return modules


def peers_for(operation: Operation, dtype: Any, modules: dict[str, Any]) -> dict[str, Peer]:
    """Return the peers that can do this to such an array."""
    made = {name: MAKERS[name](operation, np.dtype(dtype), module) for name, module in modules.items()}
    return {name: peer for name, peer in made.items() if peer is not None}


def _as_it_is(a: Any) -> Any:
    return a


def _bottleneck(operation: Operation, dtype: Any, bn: Any) -> Peer | None:
    if operation.name not in SIMPLE or dtype.kind != "f":  # small integers it hands to NumPy
        return None
    function = getattr(bn, f"nan{operation.name}")
    return Peer(_as_it_is, lambda a: function(a, axis=operation.axis))


def _numbagg(operation: Operation, dtype: Any, numbagg: Any) -> Peer | None:
    if dtype.kind != "f":  # small integers it casts to float64 first
        return None
    if operation.name == "percentile":
        return Peer(_as_it_is, lambda a: numbagg.nanquantile(a, quantiles=FRACTIONS, axis=0))
    if operation.name not in SIMPLE:
        return None
    function, options = getattr(numbagg, f"nan{operation.name}"), {"ddof": 0} if operation.name == "std" else {}
    return Peer(_as_it_is, lambda a: function(a, axis=operation.axis, **options))


def _dask(operation: Operation, _: Any, da: Any) -> Peer | None:
    dask = importlib.import_module("dask")

    def of(a: Any) -> Any:
        operands = tuple(
            da.from_array(one, chunks=DASK_CHUNKS, name=False) for one in (a if isinstance(a, tuple) else (a,))
        )
        return (*operands[:2], a[2]) if isinstance(a, tuple) else operands[0]  # the third one is written to

    def compute(*wanted: Any) -> Any:
        return dask.compute(*wanted, scheduler="threads", num_workers=len(os.sched_getaffinity(0)))

    def histogram(x: Any) -> Any:
        counts, edges = da.histogram(x, operation.bins, range=compute(x.min(), x.max()))
        return compute(counts)[0], edges

    def describe(x: Any) -> Any:
        return compute(da.isnan(x).sum(), x.mean(), x.std(), x.min(), x.max())

    def hypotenuse(operands: Any) -> None:
        x, y, c = operands
        da.store(da.sqrt(x * x + y * y), c, lock=False, scheduler="threads")

    if operation.name in SIMPLE:
        return Peer(of, lambda x: compute(getattr(x, operation.name)(axis=operation.axis))[0])
    acts = {"histogram": histogram, "describe": describe, "hypotenuse": hypotenuse}
    return Peer(of, acts[operation.name]) if operation.name in acts else None


def _blosc2(operation: Operation, _: Any, blosc2: Any) -> Peer | None:
    if operation.name not in SIMPLE or operation.axis is not None:
        return None
    return Peer(blosc2.asarray, lambda x: getattr(x, operation.name)())


def _polars(operation: Operation, dtype: Any, polars: Any) -> Peer | None:
    def describe(x: Any) -> Any:
        nans = int(x.is_nan().sum()) if dtype.kind == "f" else 0
        return nans, x.mean(), x.std(ddof=0), x.min(), x.max()

    def histogram(x: Any) -> Any:
        table = x.hist(bin_count=operation.bins, include_category=False)
        return table["count"].to_numpy(), np.concatenate([[x.min()], table["breakpoint"].to_numpy()])

    if operation.axis is not None:
        return None
    acts = {
        "std": lambda x: x.std(ddof=0),
        "mean": lambda x: x.mean(),
        "sum": lambda x: x.sum(),
        "min": lambda x: x.min(),
        "max": lambda x: x.max(),
        "percentile": lambda x: [x.quantile(fraction, "linear") for fraction in FRACTIONS],
        "describe": describe,
        "sort": lambda x: x.sort().to_numpy(),
        "unique": lambda x: x.unique().sort().to_numpy(),
    }
    if dtype.kind == "f":  # its bins have the other end, which matters where values lie on the edges
        acts["histogram"] = histogram
    return Peer(lambda a: polars.Series(np.asarray(a)), acts[operation.name]) if operation.name in acts else None


SQL = {
    "std": "stddev_pop(column0)",
    "mean": "avg(column0)",
    "sum": "sum(column0)",
    "min": "min(column0)",
    "max": "max(column0)",
    "percentile": f"quantile_cont(column0, {FRACTIONS})",
    "describe": "{nans}, avg(column0), stddev_pop(column0), min(column0), max(column0)",
}


def _duckdb(operation: Operation, dtype: Any, duckdb: Any) -> Peer | None:
    if operation.name not in SQL or operation.axis is not None:
        return None
    if operation.name == "percentile" and dtype.kind != "f":  # of bytes it takes a minute and more
        return None
    nans = "count(*) filter (isnan(column0))" if dtype.kind == "f" else "0"
    query = f"select {SQL[operation.name].replace('{nans}', nans)} from a"

    def act(a: Any) -> Any:
        with duckdb.connect() as connection:
            connection.register("a", a)
            (found,) = connection.execute(query).fetchall()
        return found[0] if len(found) == 1 else found

    return Peer(np.asarray, act)


def _numexpr(operation: Operation, _: Any, numexpr: Any) -> Peer | None:
    if operation.name != "hypotenuse":
        return None

    def act(operands: Any) -> None:
        a, b, c = operands
        numexpr.evaluate("sqrt(a*a + b*b)", {"a": a, "b": b}, out=c)

    return Peer(_as_it_is, act)


MAKERS: dict[str, Callable[[Operation, Any, Any], Peer | None]] = {
    "bottleneck": _bottleneck,
    "numbagg": _numbagg,
    "dask": _dask,
    "blosc2": _blosc2,
    "polars": _polars,
    "duckdb": _duckdb,
    "numexpr": _numexpr,
}
