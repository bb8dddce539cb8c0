"""What becomes of an array when it is pickled: a reference on the way to another process, a copy of its bytes else.

A pickle that is sent is read at once, by a process that sees the same files; one that is kept may outlive the file.
Both are made by the same calls, and what differs is who makes them: so it is the module that runs the pickler that
counts. Nothing is registered anywhere, and nothing is imported, until an array is pickled.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ndfile.errors import CopyWarning, LayoutError
from ndfile.ref import ArrayRef, open_as
from ndfile.sizes import in_words
from ndfile.unopened import receive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ndfile.array import memmap

__all__ = ["reference_or_none", "references"]

# Modules that pickle in order to send.
TRANSPORTS = frozenset(
    (
        "billiard.reduction",
        "dask.local",  # its process scheduler
        "dask.multiprocessing",
        "distributed.protocol.pickle",
        "joblib._memmapping_reducer",  # what lies in its arrays of objects
        "joblib.externals.loky.backend.reduction",
        "joblib.pool",
        "loky.backend.reduction",
        "multiprocess.reduction",
        "multiprocessing.reduction",  # concurrent.futures and torch's workers, too
        "torch.multiprocessing.queue",
    )
)

# Modules that pickle for whoever calls them.
PICKLERS = frozenset(
    (
        "cloudpickle.cloudpickle",
        "dill._dill",
        "joblib.externals.cloudpickle.cloudpickle",
        "joblib.numpy_pickle",
        "pickle",
    )
)

# A copy that is larger than this is hardly meant.
LARGE_NBYTES = 64 << 20

_wants_references: ContextVar[bool] = ContextVar("ndfile.references", default=False)


@contextmanager
def references() -> Iterator[None]:
    """Let every pickle made in the block hold references: ``with nf.references(): ...``.

    For a transport that is not told from `pickle.dumps` by itself. multiprocessing, concurrent.futures, joblib, torch's
    workers, dask and distributed are.

    See Also
    --------
    ArrayRef, memmap.ref

    Notes
    -----
    Cost: none.

    Platforms: all.

    Threads: it holds for the thread, or the task of asyncio, that is in the block.

    Examples
    --------
    >>> import os, pickle, tempfile
    >>> import ndfile as nf
    >>> os.chdir(tempfile.mkdtemp())
    >>> a = nf.create("x.npy", shape=1000, dtype="float32")
    >>> with nf.references():
    ...     sent = pickle.dumps(a)
    >>> len(sent) < 1000, len(pickle.dumps(a)) > 4000
    (True, True)
    >>> a[3] = 7
    >>> float(pickle.loads(sent)[3])
    7.0
    """
    token = _wants_references.set(True)
    try:
        yield
    finally:
        _wants_references.reset(token)


def reference_or_none(array: memmap[Any, Any], asker: FrameType) -> tuple[Any, ...] | None:
    """What a pickle holds for an array that is sent by reference; None where its bytes are to be in it.

    `asker` is the frame that asks.
    """
    who, is_wanted = _who_pickles(asker), _wants_references.get()
    problem = "plain pickles hold values"
    advice = "Send a.ref, which opens as the same array, or pickle it in 'with ndfile.references():'."
    if is_wanted or _module_of(who) in TRANSPORTS:
        try:
            return open_as if is_wanted else receive, (ArrayRef.of(array), type(array))
        except LayoutError as error:
            problem, advice = error.problem.removeprefix("ref: "), error.advice
    if array.nbytes > LARGE_NBYTES and array._mmap is not None:  # noqa: SLF001  # what an array knows of its file
        text = f"pickle {str(array.filename)!r}: {in_words(array.nbytes)} are copied, for {problem}. {advice}"
        seen = who.f_globals.setdefault("__warningregistry__", {})
        warnings.warn_explicit(text, CopyWarning, who.f_code.co_filename, who.f_lineno, _module_of(who), seen)
    return None


def _who_pickles(asker: FrameType) -> FrameType:
    """The frame that runs the pickler: pickle, the one that called pickle."""
    frame: FrameType | None = asker
    while frame is not None:
        # A subclass may have a __reduce_ex__ of its own that calls ours.
        if _module_of(frame) not in PICKLERS and not frame.f_code.co_name.startswith("__reduce"):
            return frame
        frame = frame.f_back
    return asker


def _module_of(frame: FrameType) -> str | None:
    return frame.f_globals.get("__name__")
