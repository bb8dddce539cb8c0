"""What of an array a picture shows: an image, colours or a line, of any array that there is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ndfile.errors import LayoutError
from ndfile.pictures.samples import sampled
from ndfile.pictures.words import printable

__all__ = ["KINDS", "Subject", "subject_of"]

KINDS = ("auto", "image", "colours", "line")

# Red, green, blue, and how opaque.
CHANNELS = (3, 4)

# An array of floats is taken for colours if none of so many by so many items is outside 0 to 1.
LOOKS = 16


class Subject(NamedTuple):
    """What is seen of an array.

    Attributes
    ----------
    kind : {'image', 'colours', 'line'}
    items : numpy.ndarray
        A view. Of an image (rows, columns, 1), of colours (rows, columns, 3 or 4), of a line (items,).
    array : numpy.ndarray
        The whole array.
    words : tuple of str
        What was chosen, such as a slice.
    axes : tuple of int
        Which axes of the slice or field are seen: rows and columns, or the line's.
    """

    kind: str
    items: np.ndarray
    array: np.ndarray
    words: tuple[str, ...]
    axes: tuple[int, ...]


def subject_of(array: Any, index: Any = None, field: str | None = None, kind: str = "auto") -> Subject:
    """Choose what a picture shows of an array.

    Parameters
    ----------
    array : numpy.ndarray
    index : basic index, optional
        Of ints, slices and an ellipsis: what of the array is looked at. What then has more axes than can be seen is
        looked at in the middle of the others.
    field : str, optional
        Of a structured array, by default its first field of numbers. With dots for fields of fields.
    kind : {'auto', 'image', 'colours', 'line'}

    Raises
    ------
    LayoutError
        There is nothing to see: no numbers, no such field, not the axes that the kind needs. A ValueError.
    IndexError
        The index does not fit.
    """
    if kind not in KINDS:
        raise LayoutError(f"kind must be one of {list(KINDS)}, not {kind!r}", "Pass one of them.")
    words: list[str] = []
    items = _numbers(array, field, words)
    before = items.ndim
    index = () if index is None else index if isinstance(index, tuple) else (index,)
    if not all(isinstance(one, (int, np.integer, slice)) or one is Ellipsis for one in index):
        raise LayoutError("the slice has something else than ints, slices and an ellipsis", "Pass these.")
    if index:
        words.append(f"[{', '.join(map(_index_words, index))}]")
        items = items[index if Ellipsis in index else (*index, ...)]
    seen = _seen(items, kind)
    others = [axis for axis in range(items.ndim) if axis not in seen]
    if others:
        place = tuple(items.shape[axis] // 2 if axis in others else slice(None) for axis in range(items.ndim))
        if not all(items.shape[axis] for axis in others):
            place = tuple(slice(0, 0) if axis in others else slice(None) for axis in range(items.ndim))
            words.append("no items")
            return Subject("line", items[place].reshape(-1), array, tuple(words), (0,))
        if any(items.shape[axis] > 1 for axis in others):
            words.append(f"{'' if before == items.ndim else 'of it '}[{', '.join(map(_index_words, place))}]")
        items = items[(*place, ...)]
    colours = len(seen) == 3
    if len(seen) <= 1:
        return Subject("line", items.reshape(1) if items.ndim == 0 else items, array, tuple(words), seen or (0,))
    if colours:
        return Subject("colours", items, array, tuple(words), seen[:2])
    return Subject("image", items[:, :, None], array, tuple(words), seen)


def _index_words(one: Any) -> str:
    if one is Ellipsis:
        return "..."
    if not isinstance(one, slice):
        return str(int(one))
    ends = ":".join("" if end is None else str(end) for end in (one.start, one.stop))
    return ends if one.step is None else f"{ends}:{one.step}"


# ---- Numbers ----


def _numbers(array: Any, field: str | None, words: list[str]) -> Any:
    """The array, or the field of it that is looked at."""
    items = array
    names = [] if field is None else field.split(".")
    while items.dtype.names is not None:
        if not names:
            names = _first_field(items.dtype)
        name = names.pop(0)
        if name not in items.dtype.names:
            raise LayoutError(
                f"there is no field {printable(name)!r}", f"Pass one of {list(items.dtype.names)[:9]} as field."
            )
        words.append(f"field {printable(name)!r}")
        items = items[name]
    if names:
        raise LayoutError(f"dtype {items.dtype} has no field {printable(names[0])!r}", "Pass no field.")
    if not _is_numeric(items.dtype):
        raise LayoutError(f"items of dtype {printable(items.dtype)} are no numbers", "Look at an array of numbers.")
    if items.dtype.kind == "c":
        words.append("magnitude")
    return items


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    if dtype.kind in "biufcmM":
        return True
    try:  # such as ml_dtypes' bfloat16, which NumPy takes for bytes
        np.zeros(1, dtype).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return dtype.names is None and dtype.type is not np.void and dtype.kind not in "SUTO"


def _first_field(dtype: np.dtype[Any]) -> list[str]:
    """The path to the first field of numbers; that of the first field of all if there is none."""
    paths = _paths(dtype)
    return next((path for path, kind in paths if _is_numeric(kind)), paths[0][0] if paths else [""])


def _paths(dtype: np.dtype[Any]) -> list[tuple[list[str], np.dtype[Any]]]:
    if dtype.names is None:
        return [([], dtype.base)]
    return [([name, *path], kind) for name in dtype.names for path, kind in _paths(dtype[name].base)]


# ---- Axes ----


def _seen(items: np.ndarray, kind: str) -> tuple[int, ...]:
    """The axes that are seen: one of a line, two of an image, three of colours."""
    axes = tuple(range(items.ndim))
    if kind == "line":
        return axes and (max(axes, key=lambda axis: items.shape[axis]),)
    if kind == "colours":
        if items.ndim < 3 or items.shape[-1] not in CHANNELS or items.dtype.kind not in "uf":
            raise LayoutError(
                f"{items.dtype} {items.shape} are no colours", "They need a last axis of 3 or 4, and uint8 or floats."
            )
        return axes[-3:]
    long = tuple(axis for axis in axes if items.shape[axis] != 1)
    if kind == "auto" and len(long) <= 1:
        return long or axes[:1]
    if items.ndim < 2:
        raise LayoutError(f"an array of shape {items.shape} is no image", "Look at it as a line.")
    if kind == "auto" and items.ndim == 3 and _are_colours(items):
        return axes
    wanted = long if len(long) >= 2 else axes
    # Those whose items are near to each other: the last two in order C, the first two in order F.
    near = sorted(wanted, key=lambda axis: (abs(items.strides[axis]), -axis))[:2] if items.size else wanted[-2:]
    return tuple(sorted(near))


def _are_colours(items: np.ndarray) -> bool:
    rows, columns, channels = items.shape
    if channels not in CHANNELS or min(rows, columns) < 2:
        return False
    if items.dtype.kind == "u":
        return items.dtype.itemsize <= 2
    if items.dtype.kind != "f":
        return False
    values = sampled(items, min(rows, LOOKS), min(columns, LOOKS), most_pages=LOOKS * LOOKS).values
    finite = values[~np.isnan(values)]
    return bool(finite.size and finite.min() >= 0 and finite.max() <= 1)
