"""Statistics of arrays that are larger than memory: NumPy's functions, block by block.

Large arrays of ndfile's come here by themselves when a NumPy function or method is called with them. The functions here
do the same for any array, of any size, with two more keywords: `progress` (None, True for a bar, or a callable that is
called with ``(done_nbytes, total_nbytes)``) and `threads` (by default as many as there are processors for the process,
up to 8; the result does not depend on it). Beside the result they take at most 64 MiB of memory.

>>> import numpy as np
>>> import ndfile as nf
>>> nf.compute.std(np.arange(4.0), threads=1)
np.float64(1.118033988749895)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile.compute import spellings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ndfile.progress import Progress

TEXT = """As `numpy.{name}`, with its arguments; block by block, and in several threads.

Parameters
----------
a : numpy.ndarray
    On a file or in memory.
*args, **kwargs
    See `numpy.{name}`.
progress : None, bool or callable
    True draws a bar; a callable is called with ``(done_nbytes, total_nbytes)``.
threads : int, optional
    By default as many as there are processors for the process. The result does not depend on it.

Returns
-------
numpy.ndarray or scalar
    As `numpy.{name}`: of the same shape and type, and at least as accurate.

Raises
------
FaultError
    The file was cut meanwhile, or cannot be read.
Exception
    Whatever `numpy.{name}` raises.

Notes
-----
Cost: one pass at the speed of memory or of the device, more for quantiles of floats; at most 64 MiB beside the result.
What is not done block by block (rare types and combinations of arguments) NumPy does, as ever.

Platforms: all.

Threads: its own, which are gone when it returns.
"""


def _public(name: str) -> Callable[..., Any]:
    numpys = getattr(np, name)
    own = spellings.own(numpys)

    def function(a: Any, /, *args: Any, progress: Progress = None, threads: int | None = None, **kwargs: Any) -> Any:
        array = np.asanyarray(a)
        found = spellings.called(own, (array, *args), {**kwargs, "progress": progress, "threads": threads})
        return numpys(np.asarray(array), *args, **kwargs) if found is NotImplemented else found

    function.__name__ = function.__qualname__ = name
    function.__doc__ = TEXT.format(name=name)
    return function


__all__ = [numpys.__name__ for numpys in spellings.FUNCTIONS]
__all__ += [name for name in spellings.METHODS if name not in __all__]
__all__.sort()

globals().update({name: _public(name) for name in __all__})
