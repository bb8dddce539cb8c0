"""Unopened: what stands for an array that was sent, where it could not be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from numpy.lib.mixins import NDArrayOperatorsMixin

from ndfile.ref import open_as

if TYPE_CHECKING:
    from ndfile.array import memmap
    from ndfile.ref import ArrayRef

__all__ = ["Unopened", "receive"]


class Unopened(NDArrayOperatorsMixin):
    """Raises, wherever it is used, the error that opening the array has raised.

    A worker of a pool that cannot unpickle what it is sent ends, and multiprocessing waits for its result for ever. So
    unpickling must not fail: the error is kept for whoever uses the array, and comes back like any other of a task's.
    """

    def __init__(self, ref: ArrayRef, cls: type[memmap[Any, Any]], error: Exception) -> None:
        self._ref = ref
        self._cls = cls
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return receive, (self._ref, self._cls)

    def __repr__(self) -> str:
        return f"<Unopened {self._ref!r}: {self._error}>"

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        raise self._error.with_traceback(None)

    __getattr__ = __array__ = __array_ufunc__ = __array_function__ = _fail
    __getitem__ = __setitem__ = __len__ = _fail  # iteration, membership and truth go through these
    __int__ = __float__ = __complex__ = __index__ = _fail
    __enter__ = __exit__ = _fail


def receive(ref: ArrayRef, cls: type[memmap[Any, Any]]) -> memmap[Any, Any] | Unopened:
    """Open a reference where it arrives: what the pickles of transports call."""
    try:
        return open_as(ref, cls)
    except Exception as error:
        return Unopened(ref, cls, error)
