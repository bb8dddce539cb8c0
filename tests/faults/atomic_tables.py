"""A table that atomic blocks change, and what is to be seen of it, as the tests of blocks share them."""

import contextlib
import os

import numpy as np
import pytest
from faulty import PAGE

__all__ = ["OLD", "UndoneError", "assert_is", "enter", "names", "refused"]

# A row is a page long and lies on two: the file's header stands before the first.
OLD = np.arange(64 * PAGE // 8).reshape(64, PAGE // 8)


class UndoneError(Exception):
    """What a block is left by that is to be rolled back."""


@contextlib.contextmanager
def refused(array, error, **arguments):
    """A block that ends with an error."""
    with pytest.raises(error) as caught, array.atomic(**arguments):
        yield caught


def names(path):
    """All that is in a file's folder."""
    return sorted(os.listdir(os.path.dirname(path)))


def assert_is(array, file, wanted):
    """The array, its file, and what others see through maps of it."""
    np.testing.assert_array_equal(array, wanted)
    np.testing.assert_array_equal(np.load(file), wanted)
    np.testing.assert_array_equal(np.load(file, mmap_mode="r"), wanted)


def enter(array):
    with array.atomic():
        pass
