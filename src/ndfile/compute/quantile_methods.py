"""Between which order statistics a quantile lies: the thirteen methods of `numpy.quantile`.

Nine of them are those of Hyndman and Fan, "Sample quantiles in statistical packages", 1996.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Places", "interpolated", "is_discrete", "places"]


class Places(NamedTuple):
    """Ranks from 0 on, in the shape of the quantiles."""

    previous: np.ndarray
    next: np.ndarray
    gamma: np.ndarray | None  # how far from the one to the other; None: `previous` it is


# Of the continuous methods: alpha and beta of Hyndman and Fan.
_PLOTTING_POSITIONS = {
    "interpolated_inverted_cdf": (0, 1),
    "hazen": (0.5, 0.5),
    "weibull": (0, 0),
    "median_unbiased": (1 / 3.0, 1 / 3.0),
    "normal_unbiased": (3 / 8.0, 3 / 8.0),
}


def _closest_observation(n: int, q: np.ndarray) -> Any:
    # Half way between two, the one with the even number, counted from 1.
    place = n * q - 1 - 0.5
    floor = np.floor(place)
    return floor + ((place != floor) | (floor % 2 == 0))


# Methods that take one of the items.
_DISCRETE: dict[str, Callable[[int, np.ndarray], Any]] = {
    "lower": lambda n, q: np.floor((n - 1) * q),
    "higher": lambda n, q: np.ceil((n - 1) * q),
    "nearest": lambda n, q: np.around((n - 1) * q),
    "inverted_cdf": lambda n, q: np.ceil(n * q - 1),
    "closest_observation": _closest_observation,
}


def is_discrete(q: np.ndarray, method: str) -> bool:
    """Whether a method gives one of the items, not something between two of them."""
    return method in _DISCRETE or (method == "linear" and q.dtype.kind in "iu")


def places(n: int, q: np.ndarray, method: str) -> Places:
    """Give the ranks that the quantiles of `n` items need.

    Parameters
    ----------
    n : int
        At least 1.
    q : numpy.ndarray
        From 0 to 1. Places are computed in its dtype, as NumPy does; in float64 where that cannot count to `n`.
    method : str
        One of those of `numpy.quantile`.
    """
    dtype = q.dtype
    if dtype.kind == "f" and n > 2 ** (np.finfo(dtype).nmant + 1):
        q = q.astype(np.float64)
    if method in _DISCRETE:
        return _exactly(n, _DISCRETE[method](n, q))
    if is_discrete(q, method):
        return _exactly(n, (n - 1) * q)
    virtual = np.asanyarray(_virtual(n, q, method))
    inside = np.clip(virtual, 0, n - 1)
    previous = np.floor(inside)
    gamma = _gamma(np.asanyarray(virtual - np.floor(virtual)), method)
    # A rank is a number of 64 bits, whatever the virtual one was.
    ranks = np.asanyarray(previous).astype(np.intp)
    result_type = dtype if dtype.kind == "f" else virtual.dtype
    return Places(ranks, np.minimum(ranks + (inside == virtual), n - 1), np.asanyarray(gamma).astype(result_type))


def _exactly(n: int, place: Any) -> Places:
    ranks = np.clip(np.asanyarray(place).astype(np.intp), 0, n - 1)
    return Places(ranks, ranks, None)


def _virtual(n: int, q: np.ndarray, method: str) -> Any:
    if method == "linear":
        return (n - 1) * q
    if method == "midpoint":
        return 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q))
    if method == "averaged_inverted_cdf":
        return n * q - 1
    alpha, beta = _PLOTTING_POSITIONS[method]
    return n * q + (alpha + q * (1 - alpha - beta)) - 1


def _gamma(fraction: np.ndarray, method: str) -> np.ndarray:
    if method == "midpoint":
        return np.where(fraction == 0, 0.0, 0.5)
    if method == "averaged_inverted_cdf":
        return np.where(fraction == 0, 0.5, 1.0)
    return fraction


def interpolated(previous: Any, following: Any, gamma: Any, out: np.ndarray | None = None) -> Any:
    """Go `gamma` of the way from the one value to the other; from the nearer end, so that both ends are exact."""
    way = following - previous
    result = np.asanyarray(np.add(previous, way * gamma, out=out))
    np.subtract(
        following,
        way * (1 - gamma),
        out=result,
        where=np.asanyarray(gamma) >= 0.5,
        casting="unsafe",
        dtype=type(result.dtype),
    )
    return result[()] if out is None else out
