"""Kinds of files that grow, and rows to put into them, as the tests of growing share them."""

import contextlib
import os

import numpy as np

import ndfile as nf

__all__ = ["KINDS", "Kind", "load", "numbered", "unchanged"]


class Kind:
    """A kind of file that grows, with what a test needs to make one, open it, and read it without us.

    Tests have rows first; the files of order F have them last.
    """

    def __init__(self, suffix, order, offset=0):
        self.suffix, self.order, self.offset = suffix, order, offset

    def turned(self, rows):
        """Rows as the file's array has them."""
        rows = np.asarray(rows)
        return rows if self.order == "C" else np.moveaxis(rows, 0, -1)

    def rows_of(self, array):
        """An array with its rows first."""
        return array if self.order == "C" else np.moveaxis(array, -1, 0)

    def make(self, folder, rows):
        """A file with these rows, opened for appending."""
        rows = self.turned(rows)
        path = os.path.join(folder, f"x{self.suffix}")
        if self.suffix == ".dat":
            array = nf.memmap(path, rows.dtype, "w+", self.offset, rows.shape, self.order)
        else:
            array = nf.create(path, rows.shape, rows.dtype, self.order)
        array[...] = rows
        return array

    def reopen(self, array, mode="r+"):
        """Another array on the file; of a bare one, of the rows that this one has."""
        if self.suffix == ".dat":
            return nf.memmap(array.filename, array.dtype, mode, self.offset, array.shape, self.order)
        return nf.open(array.filename, mode)

    def read(self, array):
        """The rows that the file has for a program without us."""
        if self.suffix == ".npy":
            return self.rows_of(np.load(array.filename))
        with open(array.filename, "rb") as file:
            flat = np.frombuffer(file.read()[self.offset :], array.dtype)
        shape = list(array.shape)
        shape[0 if self.order == "C" else -1] = -1
        return self.rows_of(flat.reshape(shape, order=self.order))


KINDS = {
    "npy": Kind(".npy", "C"),
    "npy F": Kind(".npy", "F"),
    "sidecar": Kind(".bin", "C"),
    "sidecar F": Kind(".bin", "F"),
    "bare": Kind(".dat", "C"),
    "bare F": Kind(".dat", "F"),
    "bare from 100": Kind(".dat", "C", 100),
}


def numbered(count, start=0, width=3, dtype="f4"):
    """Rows that tell their place."""
    return np.arange(start * width, (start + count) * width).reshape(count, width).astype(dtype)


def load(array):
    """What NumPy reads from an array's `.npy` file."""
    return np.load(array.filename)


@contextlib.contextmanager
def unchanged(array):
    """Nothing may happen to the array, and to its file."""
    with open(array.filename, "rb") as file:
        before = file.read()
    shape, values = array.shape, np.array(array)
    yield
    assert array.shape == shape
    np.testing.assert_array_equal(np.array(array), values)
    with open(array.filename, "rb") as file:
        assert file.read() == before
