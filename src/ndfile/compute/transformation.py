"""A function of whole arrays that is called block by block: map_blocks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase, refuse_lost
from ndfile.compute.blocks import memory_order, shape_of
from ndfile.compute.operands import PIECE_NBYTES, Cut, Operand, Output, aligned, share_memory, within
from ndfile.compute.piecework import fill
from ndfile.compute.running import thread_count
from ndfile.formats.format import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from ndfile.compute.blocks import Block
    from ndfile.progress import Progress

__all__ = ["map_blocks"]

# numexpr cuts what it gets once more, for threads of its own, and wakes these up for each call.
EXPRESSION_NBYTES = 16 << 20

# Its compiled expressions are not safe to be evaluated by two threads at a time (pydata/numexpr#569).
ONE_EXPRESSION = threading.Lock()


def map_blocks(
    func: Callable[..., Any] | str,
    *arrays: Any,
    out: np.ndarray | None = None,
    dtype: Any = None,
    rows: bool = False,
    progress: Progress = None,
    threads: int | None = None,
    **named: Any,
) -> np.ndarray:
    """Call a function on arrays block by block, and put the results together.

    The blocks are small: all that the function makes of one stays in the processor's cache, whatever the size of the
    arrays. Only elementwise functions give what they would give for the whole; with ``rows=True`` also those that work
    on each row by itself.

    Parameters
    ----------
    func : callable or str
        Takes blocks of the arrays, as plain arrays, and gives one of the same shape. It is called by several threads at
        a time, and in no particular order. A string is an expression for numexpr, with the names of `named`.
    *arrays : array_like
        Of any shapes that broadcast together: a block has length 1 along an axis that is repeated. What has no
        dimensions, such as a number, is given as it is.
    out : numpy.ndarray, optional
        Where the results go, of the shape that the arrays have together; on a file or in memory. May be one of the
        arrays itself, but not another view of its items. By default a new array in memory.
    dtype : dtype, optional
        Of the new array. By default that of the first block's result, and it is an error for another to differ.
    rows : bool, default False
        Blocks are cut along the first axis only, and results have as many rows as their blocks and any other axes. Each
        array has as many rows as the longest, or one, which is given with every block.
    progress : None, bool or callable, optional
        True draws a bar on standard error, a callable is called with ``(done_nbytes, total_nbytes)``.
    threads : int, optional
        By default as many as there are processors. An expression is evaluated by numexpr's own, of which
        `numexpr.set_num_threads` tells the number.
    **named : array_like
        As `arrays`; given to `func` by name.

    Returns
    -------
    numpy.ndarray
        `out` itself, or the new array.

    Raises
    ------
    ValueError
        Shapes that do not go together, an `out` that is read-only or overlaps an array, or a result of a wrong shape.
        Of these only the last comes after something was changed.
    TypeError
        A result of another dtype, which cannot be cast under the rule "same_kind".
    LibraryError
        An expression, and numexpr is not installed. An ImportError.
    FaultError
        Items of an array are lost: the file was cut, or the device failed. An OSError.

    See Also
    --------
    numpy.ufunc : With a large `out` on a file a ufunc works in blocks by itself.

    Notes
    -----
    Exceptions of `func` arrive as they are, with a note that tells the block. What was stored by then stays.

    Cost: each array is read once. Extra memory is at most 32 MiB, and what `func` takes for 256 KiB in each
    thread.

    Platforms: Linux.

    Threads: safe, while nobody changes the arrays. Ctrl-C ends it before the next call of `func`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import ndfile as nf
    >>> folder = tempfile.mkdtemp()
    >>> a = nf.create(os.path.join(folder, "a.npy"), shape=(1000, 3), dtype="f8")
    >>> a[:] = 3.0
    >>> c = nf.create(os.path.join(folder, "c.npy"), shape=(1000, 3), dtype="f4")
    >>> nf.map_blocks(lambda x, y: np.sqrt(x * x + y * y), a, 4.0, out=c)[0]
    memmap([5., 5., 5.], dtype=float32)
    >>> nf.map_blocks(lambda x: x.sum(axis=1), a, rows=True).shape
    (1000,)
    """
    if isinstance(func, str) and (arrays or rows):
        raise TypeError("map_blocks: an expression takes its arrays by name, and no rows")
    count = thread_count(threads)
    values = [_value(one) for one in (*arrays, *named.values())]
    whole = _Whole([one for one in values if isinstance(one, np.ndarray)], out, dtype, rows)
    given = iter(whole.operands)
    values = [next(given) if isinstance(one, np.ndarray) else one for one in values]
    if isinstance(func, str):
        call: Any = _Expression(func, dict(zip(named, values, strict=True)), whole.is_in_place)
        return whole.fill(call, 1, progress, EXPRESSION_NBYTES)
    call = _Function(func, values, tuple(named))
    return whole.fill(call, count, progress, PIECE_NBYTES)


def _value(given: Any) -> Any:
    """An array to be cut, or what is given with every block as it is."""
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError("map_blocks: blocks are plain arrays, without a mask. Pass .data and .mask as two arrays.")
    if isinstance(given, np.ndarray) or given is None or np.ndim(given) == 0:
        return given
    return np.asarray(given)


class _Function:
    """A callable with all that it is given: operands, whose parts change from piece to piece, and other values."""

    def __init__(self, func: Callable[..., Any], values: list[Any], names: tuple[str, ...]) -> None:
        self._func, self._values, self._names = func, values, names

    def __call__(self, parts: list[np.ndarray], _rooms: Any) -> Any:
        left = iter(parts)
        values = [next(left) if isinstance(one, Operand) else one for one in self._values]
        first_named = len(values) - len(self._names)
        return self._func(*values[:first_named], **dict(zip(self._names, values[first_named:], strict=True)))


class _Expression:
    """An expression for numexpr."""

    def __init__(self, text: str, values: dict[str, Any], is_in_place: bool) -> None:
        self._numexpr = require("numexpr", "numexpr", "an expression as a string")
        self._text, self._values, self._is_in_place = text, values, is_in_place

    def __call__(self, parts: list[np.ndarray], rooms: Callable[[], list[np.ndarray]] | None) -> Any:
        left = iter(parts)
        values = {name: next(left) if isinstance(one, Operand) else one for name, one in self._values.items()}
        # Where it keeps what it has by then is its own affair: not in what it still has to read.
        room = None if rooms is None or self._is_in_place else rooms()[0]
        with ONE_EXPRESSION:
            return self._numexpr.evaluate(self._text, values, {}, out=room, casting="same_kind")


class _Whole:
    """All arrays of a call together.

    Parameters
    ----------
    arrays : list of numpy.ndarray
    out : numpy.ndarray or None
    dtype : dtype or None
    is_rows : bool
    """

    def __init__(self, arrays: list[np.ndarray], out: np.ndarray | None, dtype: Any, is_rows: bool) -> None:
        self.shape = _rows(arrays) if is_rows else np.broadcast_shapes(*(one.shape for one in arrays))
        if out is not None:
            _check_out(out, arrays, self.shape, is_rows)
            if dtype is not None:
                raise TypeError("map_blocks: out has a dtype of its own, so dtype cannot be given with it")
        self._out, self._dtype = out, None if dtype is None else np.dtype(dtype)
        self._is_rows = is_rows
        self.operands = [Operand(one, self._axes(one)) for one in arrays]
        self.is_in_place = out is not None and any(np.may_share_memory(out, one) for one in arrays)
        self._first: np.ndarray | None = None
        self._tail: tuple[int, ...] = ()

    def fill(self, call: Any, threads: int, progress: Progress, piece_nbytes: int) -> np.ndarray:
        """Call it on all pieces."""
        operands: list[Operand | Output] = [*self.operands]
        operands += [] if self._out is None else [Output(self._out, ())]
        cut = Cut.of(self.shape, self._order(), self._item_nbytes(), operands, threads, piece_nbytes)
        out = self._new_out(call, cut) if self._out is None else self._out
        self._tail = out.shape[len(self.shape) :]

        def one_piece(parts: list[np.ndarray], rooms: Any, block: Block, piece: Block) -> list[np.ndarray]:
            if self._first is not None and not any(one.start for one in (*block, *piece)):
                result, self._first = self._first, None
                return [result]
            return [self._checked(_called(call, parts, rooms, block, piece), out, block, piece)]

        outputs = [Output(out, self._axes(out))]
        fill(one_piece, self.operands, outputs, cut, threads=threads, progress=progress, label="map")
        return out

    def _new_out(self, call: Any, cut: Cut) -> np.ndarray:
        """An array for the results: the first of them tells its dtype, and that of a row."""
        block = cut.blocks[0]
        piece = cut.pieces(block)[0]
        first = _called(call, [one.read(within(piece, one.axes)) for one in self.operands], None, block, piece)
        want = shape_of(piece)
        if first.shape[: len(want)] != want or not (self._is_rows or first.ndim == len(want)):
            raise _wrong_shape(first, (*want, ...) if self._is_rows else want, block, piece)
        self._first = first
        order = self._order()
        shape = self.shape + first.shape[len(want) :]
        order += tuple(range(len(order), len(shape)))
        dtype = first.dtype if self._dtype is None else self._dtype
        out = np.empty([shape[axis] for axis in order], dtype).transpose(np.argsort(order))
        self._check_dtype(first, out, block, piece)
        return out

    def _checked(self, result: np.ndarray, out: np.ndarray, block: Block, piece: Block) -> np.ndarray:
        want = shape_of(piece) + self._tail
        if result.shape != want:
            raise _wrong_shape(result, want, block, piece)
        self._check_dtype(result, out, block, piece)
        return result

    def _check_dtype(self, result: np.ndarray, out: np.ndarray, block: Block, piece: Block) -> None:
        if result.dtype == out.dtype:
            return
        if self._out is None and self._dtype is None:
            raise TypeError(
                f"map_blocks: the result for the block {_place(block, piece)} is {result.dtype}, that for the first "
                f"one was {out.dtype}. Pass dtype= to cast them."
            )
        if not np.can_cast(result.dtype, out.dtype, "same_kind"):
            raise TypeError(
                f"map_blocks: the result for the block {_place(block, piece)} is {result.dtype}, which is not cast to "
                f"{out.dtype} under the rule 'same_kind'. Let func cast it."
            )

    def _axes(self, array: np.ndarray) -> tuple[int, ...]:
        """See `aligned`."""
        if not self._is_rows:
            return aligned(array, self.shape)
        return (0 if array.shape[0] == self.shape[0] else -1, *[-1] * (array.ndim - 1)) if array.ndim else ()

    def _order(self) -> tuple[int, ...]:
        arrays = [one.array for one in self.operands]
        like = next((one for one in (self._out, *arrays) if one is not None and one.shape == self.shape), None)
        return tuple(range(len(self.shape))) if like is None or self._is_rows else memory_order(like)

    def _item_nbytes(self) -> int:
        arrays = [one.array for one in self.operands] + ([] if self._out is None else [self._out])
        if self._is_rows:
            return max((one.nbytes // self.shape[0] for one in arrays if self.shape[0]), default=1)
        return max((one.itemsize for one in arrays), default=1)


def _rows(arrays: list[np.ndarray]) -> tuple[int, ...]:
    """The number of rows, as a shape."""
    if not any(one.ndim for one in arrays):
        raise TypeError("map_blocks: rows=True needs an array that has rows")
    return np.broadcast_shapes(*(one.shape[:1] for one in arrays))


def _check_out(out: Any, arrays: list[np.ndarray], shape: tuple[int, ...], is_rows: bool) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"map_blocks: out must be an array, not {type(out).__name__}")
    if isinstance(out, ArrayBase):
        refuse_lost(out, "write")
    if not out.flags.writeable:
        raise ValueError("map_blocks: out is read-only. Nothing was changed. Open its file with mode='r+'.")
    if (out.shape[:1] if is_rows else out.shape) != shape:
        want = f"{shape[0]} rows" if is_rows else f"shape {shape}"
        raise ValueError(f"map_blocks: the arrays make {want}, out has shape {out.shape}. Nothing was changed.")
    if any(share_memory(out, one) for one in arrays):
        raise ValueError(
            "map_blocks: out is another view of the items of an array that is read. Nothing was changed. Pass the very "
            "same view to work in place, or a copy."
        )


def _called(call: Any, parts: list[np.ndarray], rooms: Any, block: Block, piece: Block) -> np.ndarray:
    try:
        return np.asarray(call(parts, rooms))
    except Exception as error:
        error.add_note(f"map_blocks: this came from the block {_place(block, piece)}.")
        raise


def _place(block: Block, piece: Block) -> str:
    """Where in the whole a piece of a block is, as an index."""
    slices = (f"{one.start + part.start}:{one.start + part.stop}" for one, part in zip(block, piece, strict=True))
    return f"[{', '.join(slices)}]"


def _wrong_shape(result: np.ndarray, want: tuple[Any, ...], block: Block, piece: Block) -> ValueError:
    text = str(want).replace("Ellipsis", "...")
    return ValueError(
        f"map_blocks: the result for the block {_place(block, piece)} has shape {result.shape}, not {text}."
    )
