"""The kinds of files that grow, each made and opened in its way. Rows are of `checked_rows`."""

import os
import pathlib

import numpy as np
from checked_rows import DTYPE, WIDTH

import ndfile as nf

__all__ = ["GROWING", "ROW_NBYTES", "Bare", "FortranNpy", "Npy", "Raw"]

ROW_NBYTES = WIDTH * np.dtype(DTYPE).itemsize


class Npy:
    """A `.npy` file."""

    name = "x.npy"
    order = "C"
    # Whether an append is published as a whole: by the header. A file's size publishes row by row.
    is_exact = True

    def shape(self, count):
        return (count, WIDTH) if self.order == "C" else (WIDTH, count)

    def turned(self, rows):
        """Rows as (count, WIDTH) for an array of this order, and the other way round: a view."""
        return rows if self.order == "C" else rows.T

    def length(self, array):
        return array.shape[0 if self.order == "C" else -1]

    def create(self, path, count=0):
        nf.create(path, self.shape(count), DTYPE, self.order).close()

    def hints(self, path):  # noqa: ARG002  # raw bytes ask their size
        return {}

    def open(self, path, mode):
        return nf.open(path, mode, **self.hints(path))

    def settle(self, path):
        """Do what has to be done first after a kill."""

    def load(self, path):
        """What a program without ndfile reads."""
        return np.load(path)


class FortranNpy(Npy):
    order = "F"


class Raw(Npy):
    """Raw bytes with a sidecar."""

    name = "x.bin"
    is_exact = False

    def load(self, path):
        content = pathlib.Path(path).read_bytes()
        count = len(content) // ROW_NBYTES
        return np.frombuffer(content, DTYPE, count * WIDTH).reshape(count, WIDTH)


class Bare(Raw):
    """Raw bytes alone."""

    name = "x.dat"

    def create(self, path, count=0):
        pathlib.Path(path).write_bytes(bytes(count * ROW_NBYTES))

    def hints(self, path):
        return {"dtype": DTYPE, "shape": self.shape(os.path.getsize(path) // ROW_NBYTES)}

    def open(self, path, mode):
        while True:
            hints = self.hints(path)
            # As numpy.memmap does, memmap refuses to read an empty file.
            array = nf.open(path, mode, **hints) if mode == "r" else nf.memmap(path, mode=mode, **hints)
            if self.hints(path) == hints:
                return array
            array.close()  # somebody has appended meanwhile: an array of less than the file does not grow with it


GROWING = {kind.__name__: kind() for kind in (Npy, FortranNpy, Raw, Bare)}
