"""Where the smallest or the largest item is: the first of them in C order, as NumPy counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute.arguments import NO_VALUE, Request
from ndfile.compute.blocks import Blocks, Input
from ndfile.compute.reducing import reduce
from ndfile.compute.running import run

if TYPE_CHECKING:
    from ndfile.compute.blocks import Block
    from ndfile.progress import Progress

__all__ = ["argmax", "argmin"]

MOST_AXES = 32  # of what NumPy makes of positions, or takes by them


def _arg(name: str) -> Any:
    """`argmin` or `argmax`: with NumPy's signature."""
    function = getattr(np, name)
    best_of = np.min if name == "argmin" else np.max

    def found(
        a: Any,
        axis: Any = None,
        out: Any = None,
        *,
        keepdims: Any = NO_VALUE,
        progress: Progress = None,
        threads: int | None = None,
    ) -> Any:
        if axis is not None and not isinstance(axis, (int, np.integer)):
            return NotImplemented
        request = Request.of(a, axis, keepdims, out)
        if request is None or a.dtype.kind not in "biufmM" or not request.gives(np.intp):
            return NotImplemented
        if a.ndim > MOST_AXES:
            return NotImplemented
        if axis is not None and a.ndim > 1:
            return _along(function, request, threads, progress, name)
        place = _first(function, best_of, request.array, threads, progress, name)
        return request.result(np.asarray(place))

    return found


def _first(function: Any, best_of: Any, array: np.ndarray, threads: int | None, progress: Progress, label: str) -> int:
    """The place of the best item in all of an array."""
    source = Input(array)
    best: Any = None
    best_at: Any = None

    def of(block: Block) -> tuple[Any, int]:
        items = source.read(block)
        inside = np.unravel_index(int(function(items)), items.shape)  # the first in C order of the block
        value = items[inside]
        source.check(block)
        place = tuple(int(at) + one.start for at, one in zip(inside, block, strict=True))
        return value, int(np.ravel_multi_index(place, array.shape))

    def take(_block: Block, new: tuple[Any, int]) -> None:
        nonlocal best, best_at
        value, at = new
        if best_at is None or _is_before(value, at, best, best_at, best_of):
            best, best_at = value, at

    blocks = Blocks.of(array)
    run(of, blocks, take, threads=threads, progress=progress, nbytes=array.nbytes, label=label)
    return int(best_at)


def _is_before(value: Any, at: int, best: Any, best_at: int, best_of: Any) -> bool:
    """Whether an item comes before the best one so far: NaN and NaT before all others, then the first in C order."""
    if value != value or best != best:
        return bool(value != value) and (bool(best == best) or at < best_at)
    return at < best_at if value == best else bool(best_of([value, best]) == value)


class _Places:
    """Best items along one axis, and where they are."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._is_smallest = function.__name__ == "argmin"

    def of(self, block: np.ndarray, _where: np.ndarray | None, axes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        places = self._function(block, axis=axes[0], keepdims=True)
        # How long the block was, for what comes after it.
        return places, np.take_along_axis(block, places, axes[0]), np.full_like(places, block.shape[axes[0]])

    def join(self, state: tuple[np.ndarray, ...], new: tuple[np.ndarray, ...]) -> None:
        places, best, before = state
        new_places, value, length = new
        is_better = np.less(value, best) if self._is_smallest else np.greater(value, best)
        if value.dtype.kind in "fmM":
            is_better |= np.isnan(value) & ~np.isnan(best)
        np.copyto(places, new_places + before, where=is_better)
        np.copyto(best, value, where=is_better)
        before += length

    def finish(self, state: tuple[np.ndarray, ...], _place: Block) -> tuple[np.ndarray, ...]:
        return state[:1]

    def is_enough(self, _state: tuple[np.ndarray, ...]) -> bool:
        return False


def _along(function: Any, request: Request, threads: int | None, progress: Progress, label: str) -> Any:
    (places,) = reduce(_Places(function), request, threads=threads, progress=progress, label=label)
    return request.result(places)


argmin, argmax = _arg("argmin"), _arg("argmax")
