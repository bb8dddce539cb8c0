"""What a reduction is asked for, in NumPy's words, and how its result is given back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

if TYPE_CHECKING:
    from typing import TypeAlias

    Shape: TypeAlias = tuple[int, ...]

__all__ = ["NO_VALUE", "Request", "given"]

# Lanes that are too short, and so many that it matters.
SHORT_LANE, MANY_LANES = 32, 1 << 16

# NumPy's own "this was not given".
NO_VALUE: Any = np._NoValue


def given(value: Any, default: Any) -> Any:
    """A keyword's value, or what stands for it if it was not given."""
    return default if value is NO_VALUE else value


def _is_axis(axis: Any) -> bool:
    """NumPy takes neither lists nor bools for the axes of a reduction."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    return not any(isinstance(one, (list, bool, np.bool_)) for one in axes)


class Request(NamedTuple):
    """A reduction of an array along some of its axes.

    Attributes
    ----------
    array : numpy.ndarray
        Not empty.
    axes : tuple of int
        That go; from 0 on, in order. At least one.
    keepdims : bool
    out : numpy.ndarray or None
    where : numpy.ndarray or None
        Which items count, of the array's shape; None for all.
    """

    array: np.ndarray
    axes: Shape
    keepdims: bool
    out: np.ndarray | None
    where: np.ndarray | None

    @classmethod
    def of(cls, array: Any, axis: Any, keepdims: Any = False, out: Any = None, where: Any = True) -> Request | None:
        """None where it is better left to NumPy: to say what is wrong, or because there is nothing to gain."""
        keepdims, where = given(keepdims, False), given(where, True)
        if not isinstance(array, np.ndarray) or array.size == 0 or array.ndim == 0 or array.dtype.kind in "OV":
            return None
        if not _is_axis(axis) or not isinstance(keepdims, (int, np.bool_)):
            return None
        try:
            axes = tuple(range(array.ndim)) if axis is None else tuple(sorted(normalize_axis_tuple(axis, array.ndim)))
            mask = None if where is True else np.broadcast_to(where, array.shape)
        except (ValueError, TypeError):  # AxisError among them
            return None
        if not axes or (mask is not None and mask.dtype != np.bool_):
            return None
        found = cls(array, axes, bool(keepdims), out, mask)
        if out is not None and (not isinstance(out, np.ndarray) or out.shape != found.shape or not out.flags.writeable):
            return None
        return found

    @property
    def lane_size(self) -> int:
        """How many items go into one of the result."""
        return math.prod(self.array.shape[axis] for axis in self.axes)

    @property
    def is_light(self) -> bool:
        """Whether there are many results of few items each: there NumPy's reductions are as fast as their results."""
        return self.lane_size < SHORT_LANE and math.prod(self.kept_shape) >= MANY_LANES

    @property
    def kept_shape(self) -> Shape:
        """The result's shape with the axes that go as axes of length 1."""
        return tuple(1 if axis in self.axes else n for axis, n in enumerate(self.array.shape))

    @property
    def shape(self) -> Shape:
        """The result's shape."""
        return self.kept_shape if self.keepdims else tuple(np.delete(self.array.shape, self.axes).tolist())

    def gives(self, dtype: Any) -> bool:
        """Whether `out`, if there is one, is of the type that the result has."""
        return self.out is None or self.out.dtype == dtype

    def divided(self, total: np.ndarray, count: np.ndarray) -> np.ndarray:
        """A quotient, with NumPy's warnings: it has other words for scalars."""
        if self.shape == ():
            return np.full(total.shape, total.reshape(-1)[0] / count.reshape(-1)[0])
        room = total if total.dtype.kind in "fc" else None  # no further memory
        return np.asarray(np.true_divide(total, count, out=room))

    def result(self, found: np.ndarray) -> Any:
        """Give the result back as NumPy does: in `out`, as a scalar, or as an array."""
        found = found.reshape(self.shape)
        if self.out is not None:
            self.out[...] = found
            return self.out
        return found if found.ndim else found[()]
