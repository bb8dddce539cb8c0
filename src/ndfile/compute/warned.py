"""Warnings as NumPy gives them, and what is better left to it because of them."""

from __future__ import annotations

import warnings

__all__ = ["LeftToNumPy", "warn_of"]


class LeftToNumPy(Exception):  # noqa: N818  # not an error
    """Something rare, such as infinity less infinity, that NumPy warns of in its own way: let it do it all again."""


def warn_of(text: str) -> None:
    """A RuntimeWarning for whoever called NumPy's function."""
    warnings.warn(text, RuntimeWarning, stacklevel=4)
