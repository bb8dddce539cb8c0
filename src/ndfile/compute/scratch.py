"""Items set aside in a file without a name: it goes with the last descriptor, whatever happens to the process."""

from __future__ import annotations

import os
import tempfile
import threading
from errno import EIO
from typing import TYPE_CHECKING, Any

import numpy as np

from ndfile._core import ArrayBase
from ndfile.files.space import reserve
from ndfile.stream import write_all

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Scratch", "folder_for"]


def folder_for(tmp_dir: Any, *arrays: np.ndarray | None) -> str:
    """Where a temporary file goes: where the user says, beside the first array that has a file, or with the system's.

    A folder that takes no file is passed over, unless the user said it.
    """
    if tmp_dir is not None:
        folder: str = os.fsdecode(tmp_dir)
        if not os.path.isdir(folder):
            raise NotADirectoryError(f"tmp_dir must be a folder that is there, not {tmp_dir!r}")
        return folder
    for array in arrays:
        if isinstance(array, ArrayBase) and array.filename is not None:
            beside = os.path.dirname(array.filename)
            if os.access(beside, os.W_OK | os.X_OK):
                return beside
    return tempfile.gettempdir()


class Scratch:
    """Items of one type in a temporary file, which are read and written past any map: they take no memory.

    Parameters
    ----------
    folder : str
    dtype : numpy.dtype
    items : int
        For which space is reserved at once.

    Raises
    ------
    OSError
        There is no space, or no file can be made there.
    """

    def __init__(self, folder: str, dtype: np.dtype[Any], items: int = 0) -> None:
        self.dtype = dtype
        self._folder = folder
        self._lock = threading.Lock()
        self._items = 0  # those for which there is space
        self._file = tempfile.TemporaryFile(buffering=0, prefix=".ndfile-", dir=folder)  # noqa: SIM115  # see close
        try:
            self.extend(items)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def extend(self, items: int) -> int:
        """Reserve space for more items. Gives the number of the first of them."""
        with self._lock:
            first, fd = self._items, self._file.fileno()
            try:
                end = (first + items) * self.dtype.itemsize
                reserve(fd, os.fstat(fd), end, self._folder, sparse=None, left="Nothing was changed")
            except OSError as error:
                text = f"{error.strerror}, or pass tmp_dir= with a folder on a larger disk"
                raise OSError(error.errno, text, self._folder) from None
            self._items += items
        return first

    def read(self, start: int, items: np.ndarray) -> None:
        """Fill a contiguous array with what is there from an item on."""
        left = memoryview(items.reshape(-1).view(np.uint8))  # type: ignore[arg-type]  # before Python 3.12
        offset = start * self.dtype.itemsize
        while left:
            nbytes = os.preadv(self._file.fileno(), [left], offset)
            if nbytes == 0:
                raise OSError(EIO, "the temporary file has ended", self._folder)
            left, offset = left[nbytes:], offset + nbytes

    def write(self, start: int, items: np.ndarray) -> None:
        """Put the items of a contiguous array there."""
        write_all(self._file.fileno(), items.reshape(-1).view(np.uint8), start * self.dtype.itemsize)
