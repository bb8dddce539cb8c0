"""Items of arrays in other clothes: as JSON knows them, as cells of CSV, as text.

Large arrays are written a block at a time. In JSON, NaN and NaT are null, infinities the strings "Infinity" and
"-Infinity", as float() of Python and Number() of JavaScript read them; times are ISO 8601, spans of time numbers in
their unit; complex numbers are pairs; bytes are text, where they are UTF-8; structured items are objects.
"""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import ndfile as nf
from ndfile.dtypes import descr_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ndfile.cli.output import Output

__all__ = ["add_arguments", "as_json", "described", "header", "write", "write_csv", "write_text"]

# Of an array, as much as is made text at once: that takes some ten times the memory.
BLOCK_NBYTES = 1 << 20

# Beyond it NumPy shows the corners alone.
THRESHOLD = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take the ways to print values."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--csv", action="store_true", help="comma-separated values, of 1-D and 2-D arrays")
    how.add_argument("--json", action="store_true", help="print one JSON document; NaN is null")
    parser.add_argument("--full", action="store_true", help="leave nothing out, however many items there are")
    parser.add_argument("--precision", type=int, metavar="DIGITS", help="digits behind the point, by default 8")


def write(output: Output, values: Any, arguments: argparse.Namespace) -> None:
    """Write an array as the arguments ask for it."""
    values = np.asarray(values)
    if arguments.csv:
        write_csv(output, values)
    elif arguments.json:
        _write_json(output, values)
    else:
        write_text(output, values, arguments)


def write_text(output: Output, values: np.ndarray, arguments: argparse.Namespace) -> None:
    """Write an array as NumPy prints it, as wide as the terminal."""
    threshold = sys.maxsize if arguments.full else THRESHOLD
    text = np.array2string(
        values, max_line_width=output.width, threshold=threshold, precision=arguments.precision, separator=" "
    )
    output.line(text)


def _write_json(output: Output, values: np.ndarray) -> None:
    facts = json.dumps({"dtype": described(values.dtype), "shape": list(values.shape)})
    output.write(f'{facts[:-1]}, "values": ')
    _write_values(output, values)
    output.line("}")


def _write_values(output: Output, values: np.ndarray) -> None:
    if values.nbytes <= BLOCK_NBYTES or values.ndim == 0 or not len(values):
        output.write(json.dumps(as_json(values), allow_nan=False))
        return
    between = "["
    if values[0].nbytes > BLOCK_NBYTES:
        for row in values:
            output.write(between)
            _write_values(output, row)
            between = ", "
    else:
        for block in _blocks(values):
            output.write(between + json.dumps(as_json(block), allow_nan=False)[1:-1])
            between = ", "
    output.write("]")


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of an array, as many at a time as are made text at once."""
    if not len(values):
        return
    rows = max(BLOCK_NBYTES // max(values[0].nbytes, 1), 1)
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def described(dtype: np.dtype[Any]) -> Any:
    """A dtype as JSON can say it: as `ndfile info` does, and `.npy` files."""
    try:
        return descr_of(dtype)
    except nf.LayoutError:
        return str(dtype)


def as_json(values: np.ndarray) -> Any:
    """Values as JSON knows them: numbers, strings, booleans and null, in lists as deep as the array has dimensions."""
    dtype = values.dtype
    if dtype.names is not None:
        return _records(values)
    if dtype.isbuiltin == 2:  # of ml_dtypes
        return as_json(values.astype(np.float32))
    return _JSON.get(dtype.kind, np.ndarray.tolist)(values)


def _records(values: np.ndarray) -> Any:
    flat = values.reshape(-1)
    columns = {name: as_json(flat[name]) for name in values.dtype.names or ()}
    items = np.empty(flat.shape, object)
    items[:] = [{name: column[i] for name, column in columns.items()} for i in range(len(flat))]
    return items.reshape(values.shape).tolist()


def _floats(values: np.ndarray) -> Any:
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):
        # As text in between: of a float32 no more digits than tell it from others.
        numbers = values.astype(str).astype(np.float64) if values.dtype.itemsize < 8 else values.astype(np.float64)
    if finite.all():
        return numbers.tolist()
    items = numbers.astype(object)
    items[np.isnan(values)] = None
    items[~finite & (values > 0)] = "Infinity"
    items[~finite & (values < 0)] = "-Infinity"
    return items.tolist()


def _times(values: np.ndarray) -> Any:
    return _without_nat(values, _iso(values))


def _iso(values: np.ndarray) -> np.ndarray:
    # In this machine's byte order: NumPy (2.4) takes no notice of another.
    return np.asarray(np.datetime_as_string(values.astype(values.dtype.newbyteorder("="))))


def _spans(values: np.ndarray) -> Any:
    return _without_nat(values, values.astype(np.int64))


def _without_nat(values: np.ndarray, shown: np.ndarray) -> Any:
    items = shown.astype(object)
    items[np.isnat(values)] = None
    return items.tolist()


def _mapped(function: Callable[[Any], str]) -> Callable[[np.ndarray], Any]:
    def of(values: np.ndarray) -> Any:
        items = np.empty(values.shape, object)
        items.reshape(-1)[:] = [function(one) for one in values.reshape(-1).tolist()]
        return items.tolist()

    return of


_JSON: dict[str, Callable[[np.ndarray], Any]] = {
    "f": _floats,
    "c": lambda values: _floats(np.stack([values.real, values.imag], -1)),
    "M": _times,
    "m": _spans,
    "S": _mapped(lambda one: one.decode("utf-8", "backslashreplace")),
    "V": _mapped(bytes.hex),
}


def write_csv(output: Output, values: np.ndarray, with_header: bool = True) -> None:
    """Write an array of one or two dimensions as comma-separated values, a block of rows at a time."""
    names = header(values)
    writer = csv.writer(_Lines(output), lineterminator="\n")
    if names and with_header:
        writer.writerow(names)
    for block in _blocks(values.reshape(-1) if values.ndim < 2 else values):
        writer.writerows(_csv_rows(block))


def header(values: np.ndarray) -> list[str]:
    """The names of the columns of structured items, or none; LayoutError for what is no table."""
    most = 1 if values.dtype.names is not None else 2
    if values.ndim > most:
        kind = "an array of structured items" if most == 1 else "an array"
        raise nf.LayoutError(
            f"{kind} of shape {values.shape} is no table, CSV is one", "Choose a part with slice, or print --json."
        )
    return [name for name, _ in _columns(values.reshape(-1)[:0])] if most == 1 else []


def _columns(values: np.ndarray, name: str = "") -> list[tuple[str, np.ndarray]]:
    """The columns of structured items: a field of several items has several."""
    if values.dtype.names is not None:
        fields = [(f"{name}.{field}" if name else field, values[field]) for field in values.dtype.names]
        return [column for field, part in fields for column in _columns(part, field)]
    if values.ndim > 1:
        parts = [(f"{name}[{i}]", values[:, i]) for i in range(values.shape[1])]
        return [column for part_name, part in parts for column in _columns(part, part_name)]
    return [(name, values)] if name else []


def _csv_rows(block: np.ndarray) -> Any:
    if block.dtype.names is not None:
        return zip(*(_csv_cells(column) for _, column in _columns(block)), strict=True)
    found = _csv_cells(block)
    return found if block.ndim == 2 else ([one] for one in found)


def _csv_cells(values: np.ndarray) -> Any:
    kind = values.dtype.kind
    if values.dtype.isbuiltin == 2:
        return _csv_cells(values.astype(np.float32))
    if (kind == "f" and values.dtype.itemsize != 8) or kind == "c":
        return values.astype(str).tolist()
    if kind == "M":
        return _iso(values).tolist()
    if kind == "m":
        return np.where(np.isnat(values), "NaT", values.astype(np.int64).astype(str)).tolist()
    return values.tolist() if kind in "biufU" else as_json(values)


class _Lines:
    """What csv.writer takes for a file."""

    def __init__(self, output: Output) -> None:
        self.write = output.write
