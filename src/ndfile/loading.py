"""Batches of rows for a training loop, asked for ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import index as as_int
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from ndfile._core import ArrayBase
from ndfile.errors import LayoutError
from ndfile.sampling import Given, Items, Order

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn, Self, SupportsIndex

    from numpy.typing import ArrayLike

__all__ = ["Batches", "batches"]

BatchT_co = TypeVar("BatchT_co", covariant=True)
DTypeT = TypeVar("DTypeT", bound=np.dtype[Any])
KeyT = TypeVar("KeyT")


class Batches(Generic[BatchT_co]):
    """An iterator over batches; see `ndfile.batches`, which makes it."""

    def __init__(self, together: _Together, source: Order | Given, lookahead: int, start: int, words: str) -> None:
        self._pairs = tuple(zip(together.views, together.outs, strict=True))
        self._packed: Callable[[list[np.ndarray]], Any] = together.packed
        self._requests = together.requests() if lookahead else ()
        self._source: Iterator[np.ndarray] = source
        self._total = source.total
        self._ahead = lookahead
        self._position = start
        self._words = words
        self._pending: deque[np.ndarray] = deque()
        self._end: Exception | None = None  # why nothing comes after what is pending

    @property
    def position(self) -> int:
        """How many batches were handed out, with those before `start`: where another iteration is to start."""
        return self._position

    def __len__(self) -> int:
        """How many batches there are in all epochs, with those before `start`."""
        if self._total is None:
            raise TypeError("batches: there is no end to them, or none that is known. Count with position.")
        return self._total

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BatchT_co:
        """Ask for the batch that is `lookahead` further on, then copy the next one."""
        pending = self._pending
        if self._end is None:
            self._look_ahead()
        if not pending:
            self._stop()
        rows = pending[0]
        batch: BatchT_co = self._packed([gathered(view, rows, out) for view, out in self._pairs])
        # Only now: a batch that failed is the next one again.
        pending.popleft()
        self._position += 1
        return batch

    def _look_ahead(self) -> None:
        pending = self._pending
        try:
            while len(pending) <= self._ahead:
                rows = next(self._source)
                pending.append(rows)
                for request in self._requests:
                    request(rows)
        except Exception as error:  # it is raised when it is the turn of its batch
            self._end = error

    def _stop(self) -> NoReturn:
        if self._end is not None and not isinstance(self._end, StopIteration):
            raise self._end
        self.close()
        raise StopIteration

    def close(self) -> None:
        """End the iteration and let go of the arrays, of the index and of `out`. The arrays stay open."""
        self._end = StopIteration()
        self._pending.clear()
        self._pairs, self._requests, self._source, self._packed = (), (), iter(()), tuple

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        total = "" if self._total is None else f" of {self._total}"
        return f"<Batches of {self._words}, position={self._position}{total}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("batches cannot be pickled. Pass the arrays and start=position, and make them anew there.")


def gathered(view: np.ndarray, rows: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Copy rows of a view, all of them within bounds: the one place where a batch's bytes are touched."""
    if out is None:
        batch: np.ndarray = view[rows]
        return batch
    part = out[: len(rows)]
    if isinstance(view, ArrayBase) or view.flags.c_contiguous:
        view.take(rows, 0, part, "clip")  # "raise" makes NumPy copy once more
    else:
        part[...] = view[rows]  # NumPy's take would copy the whole view first
    return part


class _Together:
    """Arrays in step, as views of their items, and how the parts of a batch are handed out.

    Attributes
    ----------
    count : int
        Items of each: rows, or windows.
    rows : int
    views, outs : list
        None in the place of an array to write to is for a new one each time.
    room : int or None
        Rows that fit into the outs.
    """

    def __init__(self, arrays: Any, windows: int | None, out: Any, most: int | None) -> None:
        keys, parts = _parts(arrays, "arrays")
        if not parts:
            raise LayoutError("batches: there is no array", "Pass one, or several in step.")
        names = [""] if keys is None else [f" {key!r}" for key in keys]
        for name, part in zip(names, parts, strict=True):
            _check(part, name)
        for name, part in zip(names, parts, strict=True):
            if len(part) != len(parts[0]):
                raise LayoutError(
                    f"batches: array{names[0]} has {len(parts[0])} rows and array{name} has {len(part)}",
                    "Pass arrays of the same length, or slices of them.",
                )
        self.rows = len(parts[0])
        self.views = [_items(part, windows) for part in parts]
        self.count = len(self.views[0])
        self.outs = [None] * len(parts) if out is None else _outs(out, keys, names, self.views, most)
        self.room = min((len(one) for one in self.outs if one is not None), default=None)
        self._keys = tuple(keys) if isinstance(arrays, Mapping) and keys is not None else None
        self._is_one = keys is None

    def packed(self, parts: list[np.ndarray]) -> Any:
        """One batch, from its part of each array."""
        if self._is_one:
            return parts[0]
        return tuple(parts) if self._keys is None else dict(zip(self._keys, parts, strict=True))

    def requests(self) -> tuple[Any, ...]:
        """What asks for rows ahead of their use, for each array that lies in a file."""
        return tuple(partial(_ask, view._prefetch) for view in self.views if isinstance(view, ArrayBase))


def _ask(prefetch: Callable[..., bool], rows: np.ndarray) -> None:
    prefetch(rows, False, True)  # without waiting, and only if some are missing


def _parts(arrays: Any, what: str) -> tuple[list[Any] | None, list[Any]]:
    """Names, or None for one array alone, and arrays."""
    if isinstance(arrays, np.ndarray):
        return None, [arrays]
    if isinstance(arrays, Mapping):
        return list(arrays), list(arrays.values())
    if isinstance(arrays, Sequence) and not isinstance(arrays, (str, bytes)):
        return list(range(len(arrays))), list(arrays)
    raise TypeError(f"batches: {what} must be an array, or a tuple, list or mapping of arrays, not {arrays!r}")


def _check(array: Any, name: str) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"batches: array{name} must be an ndarray, not {type(array).__name__}. Use numpy.asarray.")
    if not array.ndim:
        raise LayoutError(f"batches: array{name} has no axis to take rows of", "Pass an array of one axis or more.")
    if isinstance(array, np.ma.MaskedArray):
        raise LayoutError(f"batches: array{name} has a mask, which batches do not keep", "Pass its filled() or data.")


def _items(array: np.ndarray, windows: int | None) -> np.ndarray:
    """A view with one item for each row, or for each window of rows."""
    # Never the array itself: it may grow, or become shorter, and then take would be wrong about what is within bounds.
    view = array[:] if isinstance(array, ArrayBase) else np.asarray(array)[:]
    if windows is None:
        return view
    if not 1 <= windows <= len(view):
        raise LayoutError(
            f"batches: windows of {windows} rows cannot be had from {len(view)} rows",
            "Pass windows from 1 to the number of rows.",
        )
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(view, windows, axis=0, subok=True), -1, 1)


def _outs(
    out: Any, keys: list[Any] | None, names: list[str], views: list[np.ndarray], most: int | None
) -> list[np.ndarray]:
    """The arrays that batches are written to, in the order of the views."""
    out_keys, outs = _parts(out, "out")
    if (keys is None) != (out_keys is None) or set(keys or ()) != set(out_keys or ()):
        raise LayoutError(
            f"batches: out has {'one array' if out_keys is None else f'arrays {out_keys}'}, "
            f"for {'one array' if keys is None else f'arrays {keys}'}",
            "Pass an array for each, in the same tuple or mapping.",
        )
    if keys is not None and out_keys is not None:
        found = dict(zip(out_keys, outs, strict=True))
        outs = [found[key] for key in keys]
    for name, one, view in zip(names, outs, views, strict=True):
        _check(one, f"{name} of out")
        if one.dtype != view.dtype or one.shape[1:] != view.shape[1:] or len(one) < (most or 0):
            wanted = ", ".join(["n" if most is None else str(most), *map(str, view.shape[1:])])
            raise LayoutError(
                f"batches: out{name} is {one.dtype} {one.shape} for batches of {view.dtype} ({wanted})",
                f"Pass numpy.empty(({wanted}), {str(view.dtype)!r}).",
            )
        if not one.flags.writeable:
            raise LayoutError(f"batches: out{name} is read-only", "Pass an array that can be written.")
    return outs


def _words(together: _Together, windows: int | None) -> str:
    rows = f"{together.rows} row{'s'[: together.rows != 1]}"
    return rows if windows is None else f"{together.count} windows of {windows} in {rows}"


def _at_least(value: Any, least: int, name: str) -> int:
    number = as_int(value)
    if number < least:
        raise LayoutError(f"batches: {name} must be {least} or more, not {number}", f"Pass {name}={least} or more.")
    return number


# fmt: off
@overload
def batches(
    arrays: np.ndarray[Any, DTypeT], index: Any = None, batch_size: SupportsIndex | None = 64, *,
    lookahead: SupportsIndex = 2, windows: SupportsIndex | None = None, out: np.ndarray[Any, DTypeT] | None = None,
    seed: SupportsIndex | None = None, epochs: SupportsIndex | None = 1, drop_last: bool = False,
    start: SupportsIndex = 0,
) -> Batches[np.ndarray[Any, DTypeT]]: ...
@overload
def batches(
    arrays: Mapping[KeyT, np.ndarray[Any, Any]], index: Any = None, batch_size: SupportsIndex | None = 64, *,
    lookahead: SupportsIndex = 2, windows: SupportsIndex | None = None,
    out: Mapping[KeyT, np.ndarray[Any, Any]] | None = None, seed: SupportsIndex | None = None,
    epochs: SupportsIndex | None = 1, drop_last: bool = False, start: SupportsIndex = 0,
) -> Batches[dict[KeyT, np.ndarray[Any, Any]]]: ...
@overload
def batches(
    arrays: Sequence[np.ndarray[Any, Any]], index: Any = None, batch_size: SupportsIndex | None = 64, *,
    lookahead: SupportsIndex = 2, windows: SupportsIndex | None = None,
    out: Sequence[np.ndarray[Any, Any]] | None = None, seed: SupportsIndex | None = None,
    epochs: SupportsIndex | None = 1, drop_last: bool = False, start: SupportsIndex = 0,
) -> Batches[tuple[np.ndarray[Any, Any], ...]]: ...
# fmt: on
def batches(
    arrays: Any,
    index: ArrayLike | Iterable[ArrayLike] | range | slice | None = None,
    batch_size: SupportsIndex | None = 64,
    *,
    lookahead: SupportsIndex = 2,
    windows: SupportsIndex | None = None,
    out: Any = None,
    seed: SupportsIndex | None = None,
    epochs: SupportsIndex | None = 1,
    drop_last: bool = False,
    start: SupportsIndex = 0,
) -> Batches[Any]:
    """Iterate over batches of rows, with the next ones already on their way from the disk.

    No thread does that: the kernel is asked for the rows of batches to come, and reads them while the program works on
    the one that it has. So there is nothing to shut down, and a process can fork at any time.

    Parameters
    ----------
    arrays : ndarray, or tuple, list or mapping of them
        Arrays in step have the same number of rows; an `ndfile.Archive` is a mapping. Their length is fixed here: rows
        that are appended later take no part.
    index : array_like of int or bool, range or slice, optional
        The rows, in order, negative ones counted from the end; or a mask of them. By default all. A large index may be
        a mapped array. With ``batch_size=None``, an iterable of whole batches, such as lists of numbers from a sampler
        of torch's.
    batch_size : int or None, default 64
        Rows of a batch. The last one of an epoch has what is left.
    lookahead : int, default 2
        How many batches beyond the one that is handed out are asked for. 0 asks for none.
    windows : int, optional
        Take overlapping windows of so many rows for items: item ``i`` is ``a[i : i + windows]``, and `index` chooses
        among ``len(a) - windows + 1`` of them.
    out : ndarray, or tuple, list or mapping of them, optional
        Arrays of shape ``(batch_size, ...)``, of the same dtypes, that every batch is written to. What is handed out is
        a view of them, so it is lost with the next batch.
    seed : int, optional
        Shuffle, in another order each epoch; its low 64 bits count. The same arguments give the same order on every
        machine and in every version. By default the order of `index`.
    epochs : int or None, default 1
        How many times all of it comes; None for ever. No batch has rows of two epochs.
    drop_last : bool, default False
        Leave out the last batch of an epoch if it is not full.
    start : int, default 0
        How many batches to leave out first, counted over all epochs: the `position` of an iteration that was
        interrupted.

    Returns
    -------
    Batches
        An iterator, and a context manager. A batch is an ndarray of shape ``(k, *rest)``, or ``(k, windows, *rest)``;
        for several arrays it is a tuple of them, or a dict. `position` is the number of batches that were handed out,
        whatever was asked for ahead. ``len()`` is the number of all, those before `start` included. `close` ends the
        iteration and lets go of the arrays.

    Raises
    ------
    LayoutError
        Arrays of unequal lengths, an `out` of another shape, or arguments that do not go together. A ValueError.
    IndexError
        A number of the index is out of bounds, or the index has no integers. For an iterable of batches, when it is the
        turn of the batch.
    FaultError, ClosedError
        From the iteration, as from the array itself. The batch is then still the next one.

    See Also
    --------
    ndfile.open

    Notes
    -----
    Cost: one copy of the rows, and some microseconds. The index is read once in the beginning to check its bounds. A
    shuffle is computed as it goes, 0.05 us for each item, in constant memory whatever the number of items, and starts
    anywhere at once; with an iterable of batches, `start` takes that many from it.

    Platforms: Linux.

    Threads: one at a time for one iteration; each may have its own. Workers share the rows out by their index:
    ``index=range(rank, len(a), world)``.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> np.save("x.npy", np.arange(10, dtype="uint16"))
    >>> a = nf.open("x.npy")
    >>> for batch in nf.batches(a, batch_size=4):
    ...     print(batch)
    [0 1 2 3]
    [4 5 6 7]
    [8 9]

    Shuffled windows, for ever, and going on where another process has stopped:

    >>> training = nf.batches(a, batch_size=2, windows=4, seed=1, epochs=None)
    >>> next(training).shape, training.position
    ((2, 4), 1)
    >>> again = nf.batches(a, batch_size=2, windows=4, seed=1, epochs=None, start=training.position)
    >>> np.array_equal(next(again), next(training))
    True

    Several arrays in step:

    >>> labels = np.arange(10) % 2
    >>> next(nf.batches({"x": a, "y": labels}, [3, -1], 2))
    {'x': array([3, 9], dtype=uint16), 'y': array([1, 1])}
    """
    size = None if batch_size is None else _at_least(batch_size, 1, "batch_size")
    window = None if windows is None else as_int(windows)
    times = None if epochs is None else _at_least(epochs, 0, "epochs")
    first, ahead = _at_least(start, 0, "start"), _at_least(lookahead, 0, "lookahead")
    together = _Together(arrays, window, out, size)
    items = Items(together.count, _words(together, window))
    source: Order | Given
    if size is not None:
        key = None if seed is None else as_int(seed)
        source = Order(index, items, size, epochs=times, seed=key, drop_last=drop_last, start=first)
    else:
        if seed is not None or drop_last:
            raise LayoutError(
                f"batches: with batch_size=None, index gives the batches as they are, and {seed=}, {drop_last=}",
                "Pass a batch_size, or leave these out.",
            )
        source = Given(index, items, epochs=times, start=first, most=together.room)
    words = f"{items.words}, {f'batch_size={size}' if size is not None else 'as given'}"
    return Batches(together, source, ahead, first, words)
