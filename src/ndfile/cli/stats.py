"""`ndfile stats`: what values an array has."""

from __future__ import annotations

import argparse
import math
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

import ndfile as nf
from ndfile.cli import items, progress, target
from ndfile.cli.charts import bar_of, percent
from ndfile.cli.output import Output, add_json

if TYPE_CHECKING:
    from ndfile.cli.progress import Bars

NAME = "stats"
HELP = "describe the values: mean, deviation, percentiles, a histogram"

EPILOG = """\
examples:
  ndfile stats recording.npy
  ndfile stats recording.npy --axis 0
  ndfile stats events.npy --field energy --bins 40 --range 0 100
  ndfile stats tokens.bin --percentiles none --json

NaN are counted and otherwise left out. Percentiles are exact. Memory stays
below some 100 MiB, whatever the size.
"""

PERCENTILES = (1.0, 25.0, 50.0, 75.0, 99.0)
BINS = 20

# A table along an axis that nobody would read: so many lines of each end.
MOST_LANES, SHOWN_LANES = 1000, 20

DIGITS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target.add_arguments(parser)
    parser.add_argument("--field", metavar="NAME", help="of structured items, this field")
    parser.add_argument("--axis", type=int, metavar="N", help="along this axis, one line for each of the others' items")
    parser.add_argument("--percentiles", type=_percentiles, default=PERCENTILES, metavar="P,P...", help="or 'none'")
    parser.add_argument("--bins", type=_bins, default=BINS, metavar="N", help=f"of the histogram, by default {BINS}")
    parser.add_argument(
        "--range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of the histogram, by default all there is"
    )
    progress.add_arguments(parser)
    add_json(parser)
    parser.epilog = EPILOG


def _percentiles(text: str) -> tuple[float, ...]:
    if text.strip().lower() == "none":
        return ()
    try:
        found = tuple(float(one) for one in text.split(","))
    except ValueError:
        found = (-1.0,)
    if not all(0 <= one <= 100 for one in found):
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers from 0 to 100, such as '1,50,99', or 'none'")
    return found


def _bins(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bins from 1 to 10000")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    whole = target.field_of(target.array_of(arguments), arguments.field)
    array = whole if whole.ndim else whole.reshape(1)
    output = Output()
    with progress.shown(arguments, f"describe {os.path.basename(arguments.file)}") as show, warnings.catch_warnings():
        # Of nothing but NaN, and of infinities, the figures say it themselves.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = nf.describe(array, arguments.axis, progress=show)
        found = found._replace(percentiles=_percentiles_of(array, arguments, show))
        histogram = _Histogram.of(array, found, arguments, show) if arguments.axis is None else None
    if arguments.json:
        output.json(_document(arguments, whole, found, histogram))
        return 0
    output.line(_title(arguments, whole), "bold")
    if np.ndim(found.count):
        _write_lanes(output, found)
        return 0
    output.facts(_facts(array, found))
    if histogram is not None:
        output.line()
        histogram.write(output)
    return 0


def _title(arguments: argparse.Namespace, array: Any) -> str:
    title = target.title(arguments, array)
    field = f", field {target.named(arguments.field)}" if arguments.field is not None else ""
    return f"{title}{field}{'' if arguments.axis is None else f', along axis {arguments.axis}'}"


def _percentiles_of(array: Any, arguments: argparse.Namespace, show: Bars | None) -> dict[float, Any]:
    wanted = arguments.percentiles
    if not wanted:
        return {}
    if show is not None:
        show.label = "percentiles"
    compute: Any = nf.compute  # its functions have their types at run time
    values = compute.nanpercentile(_numbers(array), list(wanted), arguments.axis, progress=show)
    return dict(zip(wanted, values, strict=True))


def _numbers(array: Any) -> Any:
    # Between truth values nothing can be interpolated, nor are they in bins.
    return array.view(np.uint8) if array.dtype == bool else array


def _facts(array: Any, found: nf.Description) -> list[tuple[str, str]]:
    facts = [("count", f"{int(found.count):,}")]
    if array.dtype.kind == "f":
        facts.append(("nan", f"{int(found.nan_count):,}"))
    facts += [("mean", _number(found.mean)), ("std", _number(found.std)), ("min", _number(found.min))]
    facts += [(f"{one:g}%", _number(value)) for one, value in found.percentiles.items()]
    return [*facts, ("max", _number(found.max))]


def _number(value: Any) -> str:
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(value)
    return f"{float(value):.{DIGITS}g}"


def _write_lanes(output: Output, found: nf.Description) -> None:
    """A table with a line for each result along an axis."""
    lanes = list(np.ndindex(np.shape(found.count)))
    columns = {"mean": found.mean, "std": found.std, "min": found.min}
    columns |= {f"{one:g}%": value for one, value in found.percentiles.items()} | {"max": found.max}
    if np.any(found.nan_count):
        columns = {"nan": found.nan_count} | columns
    shown = lanes if len(lanes) <= MOST_LANES else lanes[:SHOWN_LANES] + lanes[-SHOWN_LANES:]
    rows = [(_place(lane), *(_number(values[lane]) for values in columns.values())) for lane in shown]
    if len(shown) < len(lanes):
        rows.insert(SHOWN_LANES, ("...", *("" for _ in columns)))
    # Percentiles are what a narrow terminal can do without.
    keep = _fitting(output, list(columns), rows)
    output.table(("index", *keep), [(row[0], *(row[1 + list(columns).index(one)] for one in keep)) for row in rows])


def _fitting(output: Output, names: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    widths = {name: max(len(name), *(len(row[1 + i]) for row in rows)) + 2 for i, name in enumerate(names)}
    room = output.table_width - max(len("index"), *(len(row[0]) for row in rows))
    kept = list(names)
    for name in sorted((one for one in names if one.endswith("%")), key=lambda one: one == "50%"):
        if sum(widths[one] for one in kept) <= room:
            break
        kept.remove(name)
    return kept


def _place(lane: tuple[int, ...]) -> str:
    return ",".join(map(str, lane))


class _Histogram:
    """How many values lie in which bins."""

    def __init__(self, edges: np.ndarray, counts: np.ndarray, outside: int) -> None:
        self.edges = edges
        self.counts = counts
        self.outside = outside

    @classmethod
    def of(
        cls, array: Any, found: nf.Description, arguments: argparse.Namespace, show: Bars | None
    ) -> _Histogram | None:
        """Count them in one pass; None where there is no range."""
        low, high = _range(array, found, arguments)
        if low is None:
            return None
        if show is not None:
            show.label = "histogram"
        edges = _edges(array.dtype, low, high, arguments)
        compute: Any = nf.compute
        counts, _ = compute.histogram(_numbers(array), edges, progress=show)
        return cls(edges, counts, int(found.count) - int(counts.sum()))

    def write(self, output: Output) -> None:
        """Draw it, a line for each bin."""
        labels = _labels(self.edges)
        counts = [f"{int(count):,}" for count in self.counts]
        width = max(len("from"), *map(len, labels))
        count_width = max(len("count"), *map(len, counts))
        room = max(output.width - width - count_width - 6, 8)
        most = max(int(self.counts.max()), 1)
        output.line(f"{'from':>{width}}  {'count':>{count_width}}", "dim")
        for label, count, text in zip(labels, self.counts.tolist(), counts, strict=True):
            bar = bar_of(output, count / most, room)
            output.line(f"{output.styled(label.rjust(width), 'dim')}  {text.rjust(count_width)}  {bar}".rstrip())
        if self.outside:
            whole = int(self.counts.sum()) + self.outside
            output.line(f"{self.outside:,} values are outside, {percent(self.outside / whole)}", "dim")


def _range(array: Any, found: nf.Description, arguments: argparse.Namespace) -> tuple[Any, Any]:
    if arguments.range is not None:
        low, high = arguments.range
        if not low < high:
            raise nf.LayoutError(f"--range {low:g} {high:g} holds nothing", "Give the smaller number first.")
        return low, high
    values = [found.min, found.max]
    if array.dtype.kind != "f":
        return int(values[0]), int(values[1])
    if np.isfinite(values).all():
        return float(values[0]), float(values[1])
    # Among infinities, what most values are like.
    finite = [float(one) for one in found.percentiles.values() if np.isfinite(one)]
    return (min(finite), max(finite)) if finite else (None, None)


def _edges(dtype: np.dtype[Any], low: Any, high: Any, arguments: argparse.Namespace) -> np.ndarray:
    if dtype.kind == "f" or arguments.range is not None:
        if low == high:
            # As much more as there are bins for, where a half is nothing beside it.
            half = max(0.5, float(np.spacing(abs(low))) * arguments.bins)
            most = float(np.finfo(np.float64).max)
            low, high = max(low - half, -most), min(high + half, most)
        # In halves: the difference of the largest floats is none.
        steps = np.linspace(0.0, 1.0, arguments.bins + 1)
        edges: np.ndarray = low * (1 - steps) + high * steps
        edges[0], edges[-1] = low, high
        np.clip(np.maximum.accumulate(edges), low, high, out=edges)
        return edges
    # Bins of equally many whole numbers: with others some would look too full.
    width = -(-(high - low + 1) // arguments.bins)
    whole = list(range(low, high + width + 1, width))
    whole = whole[: -(-(high - low + 1) // width) + 1]
    return np.array(whole, np.int64 if whole[-1] < 2**63 and low >= -(2**63) else np.float64)


def _labels(edges: np.ndarray) -> list[str]:
    """The lower edges, with as many digits as tell them apart, and their points below each other."""
    if edges.dtype.kind != "f":
        return [str(edge) for edge in edges[:-1].tolist()]
    step, most = float(edges[1] - edges[0]), float(np.abs(edges).max())
    lower = np.where(np.abs(edges[:-1]) < step * 1e-9, 0.0, edges[:-1]).tolist()
    if not np.isfinite(step) or step <= most * 1e-12 or not 1e-6 < most < 1e9:
        return [f"{edge:.4g}" for edge in lower]
    digits = max(1 - math.floor(math.log10(step)), 0)
    return [f"{edge:.{digits}f}" for edge in lower]


def _document(
    arguments: argparse.Namespace, array: Any, found: nf.Description, histogram: _Histogram | None
) -> dict[str, Any]:
    def plain(values: Any) -> Any:
        return items.as_json(np.asarray(values))

    facts = {name: plain(getattr(found, name)) for name in ("count", "nan_count", "mean", "std", "min", "max")}
    return {
        "path": os.path.abspath(arguments.file),
        "key": arguments.key,
        "field": arguments.field,
        "dtype": items.described(array.dtype),
        "shape": list(array.shape),
        "axis": arguments.axis,
        **facts,
        "percentiles": {f"{one:g}": plain(value) for one, value in found.percentiles.items()},
        "histogram": None
        if histogram is None
        else {
            "edges": plain(histogram.edges),
            "counts": plain(histogram.counts),
            "outside": histogram.outside,
        },
    }
