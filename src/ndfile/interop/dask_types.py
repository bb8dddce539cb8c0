"""What dask and distributed are told of our arrays, when they first meet one: how large, which name, how to send."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.array import memmap
from ndfile.errors import LayoutError
from ndfile.ref import ArrayRef
from ndfile.transports import references

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["register", "register_when_met", "token"]

# Where dask has what makes names, whatever its version.
NAMING = ("dask.tokenize", "dask.base")

# Of the array object, its mapping and what they hold.
OBJECT_NBYTES = 500


def register_when_met(sizeof: Any) -> None:
    """Let dask call `register` when it first meets an array of ours. Called by dask, by an entry point."""
    sizeof.register_lazy("ndfile", register)
    known = [module for name in NAMING if hasattr(module := sys.modules.get(name), "normalize_token")]
    if known:
        _register_names_when_met(known[0])
    else:  # dask is being imported, and has not come to that module
        sys.meta_path.insert(0, _WaitForNaming())


def _register_names_when_met(naming: Any) -> None:
    naming.normalize_token.register_lazy("ndfile", register)


class _WaitForNaming(MetaPathFinder):
    """Finds nothing, but sees the first of the modules being imported that know how dask names things.

    dask names a numpy.memmap by its bytes, and asks no subclass of it for a name of its own.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in NAMING:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, _register_names_when_met)
        return spec


class _Then(Loader):
    """Loads a module by another loader, then calls a function with it."""

    def __init__(self, loader: Any, function: Callable[[Any], None]) -> None:
        self._loader = loader
        self._function = function

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._function(module)


def register() -> None:
    """Register what dask has to know, and distributed where it is in use."""
    from dask.base import normalize_token
    from dask.sizeof import sizeof

    _let(sizeof, held_nbytes)
    _let(normalize_token, token)
    distributed = sys.modules.get("distributed.protocol.serialize")
    # It may just be being imported, and then comes again when it meets an array.
    if distributed is not None and hasattr(distributed, "dask_deserialize"):
        _let(distributed.dask_serialize, serialize)
        _let(distributed.dask_deserialize, deserialize)


def _let(dispatch: Any, function: Callable[..., Any]) -> None:
    if dispatch._lookup.get(memmap) is function:
        return
    dispatch.register(memmap, function)
    # What dask found for our subclasses so far was for numpy.memmap.
    for kind in [kind for kind in list(dispatch._lookup) if kind is not memmap and issubclass(kind, memmap)]:
        del dispatch._lookup[kind]


def held_nbytes(array: memmap[Any, Any]) -> int:
    """Bytes of memory that an array holds and no file has. The pages of the file the kernel can take back."""
    register()
    mapping = array._mmap
    if mapping is None:
        return array.nbytes
    if mapping.closed or mapping.mode != "c":
        return OBJECT_NBYTES
    return OBJECT_NBYTES + mapping.changed_nbytes()


def token(array: memmap[Any, Any]) -> Any:
    """What dask makes a name of: the reference, so that nothing is read; the values of an array that has none."""
    from dask.base import normalize_token

    from ndfile.interop.dask_source import reference

    register()
    try:
        return reference(array).__dask_tokenize__()
    except LayoutError:
        return normalize_token(np.asarray(array))


def serialize(array: memmap[Any, Any], context: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[Any]]:
    """What distributed sends: a reference if there is one, and otherwise what it sends of any array."""
    from distributed.protocol import pickle
    from distributed.protocol.numpy import serialize_numpy_ndarray

    try:
        ArrayRef.of(array)
    except LayoutError:
        header, frames = serialize_numpy_ndarray(np.asarray(array))
        return header, frames
    with references():
        frame = pickle.dumps(array, protocol=(context or {}).get("pickle-protocol"))
    # As distributed's own for ndarray has it, which reads it where nobody has told it of us yet.
    return {"pickle": True}, [frame]


def deserialize(header: dict[str, Any], frames: list[Any]) -> Any:
    """The opposite."""
    from distributed.protocol.numpy import deserialize_numpy_ndarray

    return deserialize_numpy_ndarray(header, frames)
