"""Numbers as colours: scales and colour maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ndfile.errors import LayoutError

__all__ = ["COLOUR_MAPS", "colour_map", "coloured", "scale_of", "shaded"]

# The colours between these are on the lines between them. viridis and magma are those that Stefan van der Walt and
# Nathaniel Smith gave to everybody (CC0), bluered is ColorBrewer's RdBu from its other end.
COLOUR_MAPS = {
    "grey": "000000 ffffff",
    "viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "magma": "000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf",
    "bluered": "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f",
}
STEPS = 256

# Parts of the values that may be outside of the scale, in percent.
PERCENTILES = (1.0, 99.0)

# Fewer values have no outliers.
FEW = 1000


def colour_map(name: str) -> np.ndarray:
    """256 colours of uint8, (256, 3), from the lowest to the highest."""
    if name not in COLOUR_MAPS:
        raise LayoutError(f"there is no colour map {name!r}", f"Pass one of {list(COLOUR_MAPS)}.")
    points = np.array([list(bytes.fromhex(point)) for point in COLOUR_MAPS[name].split()], np.float64)
    places, at = np.linspace(0, len(points) - 1, STEPS), np.arange(len(points))
    return np.stack([np.interp(places, at, channel) for channel in points.T], 1).round().astype(np.uint8)


def scale_of(values: np.ndarray, dtype: np.dtype[Any]) -> tuple[float, float, str]:
    """What the darkest and the brightest colour stand for, and in words how that was found."""
    if dtype.kind == "b":
        return 0.0, 1.0, ""
    finite = values[~np.isnan(values)]
    if not finite.size:
        return 0.0, 1.0, "nothing finite"
    low, high = np.percentile(finite, PERCENTILES) if finite.size >= FEW else (0.0, 0.0)
    if low < high:
        return float(low), float(high), "1st to 99th percentile"
    low, high = float(finite.min()), float(finite.max())
    return low, high, "least to most" if low < high else "constant"


def shaded(values: np.ndarray, low: float, high: float, colours: np.ndarray) -> np.ndarray:
    """Colours with opacity, (rows, columns, 4) of uint8, of values (rows, columns); nothing for NaN."""
    span = high / 2 - low / 2  # halves, for their difference may be more than a float can have
    with np.errstate(all="ignore"):
        share = (
            (values / 2 - low / 2) / span
            if span > 0
            else np.where(values < low, 0.0, np.where(values > high, 1.0, 0.5))
        )
    are_none = np.isnan(values)
    steps = (np.clip(np.where(are_none, 0.0, share), 0, 1) * (STEPS - 1) + 0.5).astype(np.uint8)
    return np.dstack([colours[steps], np.where(are_none, 0, 255).astype(np.uint8)])


def coloured(values: np.ndarray, most: float) -> np.ndarray:
    """Colours with opacity of values (rows, columns, 3 or 4) from 0 to `most`; nothing where one is NaN."""
    are_none = np.isnan(values).any(2)
    steps = (np.clip(np.where(are_none[:, :, None], 0.0, values) / most, 0, 1) * 255 + 0.5).astype(np.uint8)
    opacity = steps[:, :, 3] if values.shape[2] == 4 else np.full(are_none.shape, 255, np.uint8)
    return np.dstack([steps[:, :, :3], np.where(are_none, 0, opacity).astype(np.uint8)])
