"""Ufuncs with large outputs, block by block."""

from __future__ import annotations

import warnings
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase, refuse_lost
from ndfile.array import memmap
from ndfile.compute.blocks import memory_order
from ndfile.compute.operands import Cut, Operand, Output, aligned, share_memory
from ndfile.compute.piecework import fill
from ndfile.compute.running import thread_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from ndfile.compute.blocks import Block

__all__ = ["stream_ufunc"]

# There are no temporaries, so a call is as large as is still passed from processor to file in its cache.
UFUNC_NBYTES = 1 << 20

KEYWORDS = {"casting", "dtype", "order", "sig", "signature", "subok", "where"}

# Floating-point errors, in the order in which NumPy tells of them: the name of the mode, and that of the error.
ERRORS = {"divide": "divide by zero", "over": "overflow", "under": "underflow", "invalid": "invalid value"}


def stream_ufunc(ufunc: np.ufunc, inputs: tuple[Any, ...], outs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Do what ``ufunc(*inputs, out=outs, **keywords)`` does, in blocks.

    Parameters
    ----------
    ufunc : numpy.ufunc
    inputs : tuple
        What it was called with.
    outs : tuple of numpy.ndarray or None
    keywords : dict
        All the others.

    Returns
    -------
    numpy.ndarray or tuple of numpy.ndarray
        Those of `outs`; or NotImplemented, with nothing done, for what is left to NumPy.
    """
    where = keywords.get("where", True)
    arrays = [one for one in (*inputs, where) if isinstance(one, np.ndarray)]
    if not (_is_elementwise(ufunc) and KEYWORDS.issuperset(keywords) and _fit(ufunc, inputs, where, outs)):
        return NotImplemented
    errors = _FloatErrors(ufunc)
    if not errors.can_be_told or any(share_memory(*pair) for pair in product(outs, arrays)):
        return NotImplemented
    for one in arrays:
        _refuse_lost(one, "read")
    for out in outs:
        _refuse_lost(out, "write")
    _stream(_Call(ufunc, inputs, keywords), arrays, outs, errors, is_direct=where is not True)
    errors.tell()
    return outs if len(outs) > 1 else outs[0]


def _stream(
    call: _Call, arrays: list[np.ndarray], outs: tuple[np.ndarray, ...], errors: _FloatErrors, is_direct: bool
) -> None:
    shape = outs[0].shape
    operands = [Operand(one, aligned(one, shape)) for one in arrays]
    # Items that `where` leaves out keep their values: they are not to be copied away and back.
    outputs = [Output(out, aligned(out, shape), is_direct) for out in outs]
    itemsize = max(one.itemsize for one in (*arrays, *outs))
    cut = Cut.of(shape, memory_order(outs[0]), itemsize, [*operands, *outputs], thread_count(None), UFUNC_NBYTES)
    with errors:
        fill(call, operands, outputs, cut)


def _is_elementwise(ufunc: Any) -> bool:
    # Not numba's and other libraries' own classes, nor Python functions from numpy.frompyfunc.
    return type(ufunc) is np.ufunc and ufunc.signature is None and not all("O" in types for types in ufunc.types)


def _fit(ufunc: np.ufunc, inputs: tuple[Any, ...], where: Any, outs: tuple[Any, ...]) -> bool:
    """Whether all operands are of simple classes and of shapes that go together."""
    if len(inputs) != ufunc.nin or not all(map(_is_writable_array, outs)):
        return False
    shape = outs[0].shape
    return (
        all(out.shape == shape for out in outs)
        and not any(np.may_share_memory(*pair) for pair in combinations(outs, 2))
        and all(_is_scalar(one) or (_is_plain_array(one) and _is_repeated_to(one, shape)) for one in inputs)
        and (where is True or (_is_plain_array(where) and where.dtype == bool and _is_repeated_to(where, shape)))
    )


def _is_plain_array(one: Any) -> bool:
    # Not masked arrays, matrices and subclasses of ours: what they make of a result is theirs.
    return type(one) in (np.ndarray, memmap, np.memmap) and not one.dtype.hasobject


def _is_writable_array(one: Any) -> bool:
    return _is_plain_array(one) and bool(one.flags.writeable)


def _is_scalar(one: object) -> bool:
    return isinstance(one, (int, float, complex, np.generic)) and not isinstance(one, np.void)


def _is_repeated_to(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    missing = len(shape) - array.ndim
    return missing >= 0 and all(n in (1, shape[missing + axis]) for axis, n in enumerate(array.shape))


def _refuse_lost(array: np.ndarray, act: str) -> None:
    if isinstance(array, ArrayBase):
        refuse_lost(array, act)


class _Call:
    """A ufunc with some of its operands: the others are arrays, in the order of inputs and `where`."""

    def __init__(self, ufunc: np.ufunc, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._ufunc, self._inputs = ufunc, inputs
        self._keywords = {name: value for name, value in keywords.items() if name != "where"}
        self._arrays = [number for number, one in enumerate(inputs) if isinstance(one, np.ndarray)]

    def __call__(
        self, parts: list[np.ndarray], rooms: Callable[[], list[np.ndarray]], _block: Block, _piece: Block
    ) -> Sequence[np.ndarray]:
        inputs = list(self._inputs)
        for number, part in zip(self._arrays, parts, strict=False):
            inputs[number] = part
        outs = rooms()
        where = {"where": parts[-1]} if len(parts) > len(self._arrays) else {}
        self._ufunc(*inputs, out=tuple(outs), **where, **self._keywords)
        return outs


class _FloatErrors:
    """Floating-point errors of all pieces together: told once, in the end, as NumPy tells of those of one call."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._name = ufunc.__name__
        self._modes: dict[str, str] = {**np.geterr()}  # type: ignore[dict-item]
        self.can_be_told = set(self._modes.values()) <= {"ignore", "warn", "raise"}
        self._found: set[str] = set()
        modes: dict[str, Any] = {name: "call" for name, mode in self._modes.items() if mode != "ignore"}
        self._state = np.errstate(call=lambda error, _flags: self._found.add(error), **modes)

    def __enter__(self) -> Self:
        self._state.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state.__exit__(kind, error, trace)

    def tell(self) -> None:
        """Raise or warn, at the line that called the ufunc."""
        for name, error in ERRORS.items():
            if error in self._found:
                message = f"{error} encountered in {self._name}"
                if self._modes[name] == "raise":
                    raise FloatingPointError(message)
                warnings.warn(message, RuntimeWarning, stacklevel=3)
