"""A pytest plugin: arrays that NumPy's own tests pass to its statistics lie on a file, and are done block by block.

Loaded with ``-p`` before NumPy's installed tests are collected, together with ``--assert=plain``. NumPy's functions are
called as ever, but with an array of ours in the place of each plain one. Its methods are called by the tests
themselves: there the tests' source is changed, from ``a.sum()`` to ``__on_file__(a).sum()``. Arrays of any size are
large, and blocks are small.

How often each function of ours did the work, and did not leave it to NumPy, is written to the file that the environment
variable ``NDFILE_STREAMED`` names.
"""

import ast
import collections
import ctypes
import functools
import importlib.machinery
import json
import os
import re
import sys
import tempfile

import numpy as np
from numpy._core import _methods
from numpy.lib.array_utils import byte_bounds

import ndfile as nf
from ndfile._core import stream_from
from ndfile.compute import running, spellings

FUNCTIONS = [
    *["sum", "prod", "mean", "std", "var", "min", "max", "amin", "amax", "ptp", "argmin", "argmax", "any", "all"],
    *[
        "count_nonzero",
        "nansum",
        "nanprod",
        "nanmean",
        "nanstd",
        "nanvar",
        "nanmin",
        "nanmax",
        "nanargmin",
        "nanargmax",
    ],
    *["median", "percentile", "quantile", "nanmedian", "nanpercentile", "nanquantile"],
    *["histogram", "histogram_bin_edges", "bincount", "average", "dot"],
]
METHODS = {"sum", "prod", "mean", "std", "var", "min", "max", "argmin", "argmax", "any", "all", "dot"}
OTHER_ARGUMENTS = ("a", "x", "b", "weights", "where")  # that may lie on the file when given by name

LARGEST_NBYTES = 1 << 20  # of memory under an array that is put on the file
MOST_BLOCKS = 8  # of an array, about: each costs some time


class Shelf:
    """Room on a file for arrays. When it is full, those that came first make room for others."""

    def __init__(self, nbytes):
        with tempfile.TemporaryDirectory() as folder:
            self._bytes = nf.memmap(os.path.join(folder, "shelf"), "u1", "w+", shape=(nbytes,), sparse=True)
        self._end = 0

    def put(self, array):
        """An array of ours with the same items, the same strides, and aligned as well or badly."""
        low, high = byte_bounds(array)
        start = -(-self._end // 64) * 64 + low % 64
        if start + high - low > self._bytes.size:
            start = low % 64
        self._end = start + high - low
        room = self._bytes[start : self._end]
        room[...] = np.frombuffer((ctypes.c_char * (high - low)).from_address(low), "u1")
        first = array.__array_interface__["data"][0] - low
        found = np.ndarray.__new__(nf.memmap, array.shape, array.dtype, room, first, array.strides)
        found.flags.writeable = array.flags.writeable
        return found


shelf = Shelf(256 << 20)


def on_file(value):
    """A plain array as one of ours; all else as it is."""
    if type(value) is not np.ndarray or value.size == 0 or value.dtype.hasobject:
        return value
    low, high = byte_bounds(value)
    return shelf.put(value) if 0 < high - low <= LARGEST_NBYTES else value


class Within:
    """Whether a call of a test's goes on: what NumPy and our functions call then is not the test's."""

    depth = 0

    def __enter__(self):
        Within.depth += 1

    def __exit__(self, *_exception):
        Within.depth -= 1


# ---- NumPy's functions ----


def with_ours(function):
    """NumPy's function, called with an array of ours."""

    @functools.wraps(function)
    def called(*args, **kwargs):
        if Within.depth:
            return function(*args, **kwargs)
        if args:
            first = np.asarray(args[0]) if _is_list_of_numbers(args[0]) else args[0]
            args = (
                on_file(first),
                *(on_file(one) for one in args[1:2] if function is np.dot),
                *args[1:][function is np.dot :],
            )
        kwargs = {name: on_file(value) if name in OTHER_ARGUMENTS else value for name, value in kwargs.items()}
        with Within():
            return function(*args, **kwargs)

    return called


def _is_list_of_numbers(value):
    """Whether it is one that NumPy makes an array of, of the same numbers at any depth."""
    while type(value) is list and value and type(value[0]) is list:
        value = [one for part in value for one in part] if all(type(part) is list for part in value) else None
    return type(value) is list and bool(value) and {type(one) for one in value} <= {int, float, complex, bool}


def with_ours_as_method(name):
    """A function of `numpy._core._methods`: what ndarray's method calls."""
    function = getattr(_methods, name)

    @functools.wraps(function)
    def called(a, *args, **kwargs):
        taken = a if Within.depth else on_file(a)
        if taken is a:
            return function(a, *args, **kwargs)
        with Within():
            return getattr(taken, name[1:])(*args, **kwargs)

    return called


# ---- What was done by ours ----

streamed = collections.Counter()


def counted(name, own):
    """Our function, in small blocks, and counted."""

    def function(*args, **kwargs):
        array = args[0] if args else None
        if isinstance(array, np.ndarray):
            set_block_nbytes(max(64, array.nbytes // MOST_BLOCKS))
        with Within():
            found = spellings.called(own, args, kwargs)
        streamed[name] += found is not NotImplemented
        return found

    return function


def set_block_nbytes(nbytes):
    for name, module in list(sys.modules.items()):
        if name.startswith("ndfile.compute.") and hasattr(module, "BLOCK_NBYTES"):
            module.BLOCK_NBYTES = nbytes


def pytest_sessionfinish():
    if "NDFILE_STREAMED" in os.environ:
        with open(os.environ["NDFILE_STREAMED"], "w") as file:
            json.dump(streamed, file)


# ---- The tests' own calls of methods ----


class Calls(ast.NodeTransformer):
    """`a.sum()` becomes `__on_file__(a).sum()`."""

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            node.func.value = ast.Call(ast.Name("__on_file__", ast.Load()), [node.func.value], [])
        return node


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        path = self.get_filename(fullname)
        tree = Calls().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module):
        module.__on_file__ = on_file
        super().exec_module(module)


class Finder:
    """Finds NumPy's test modules."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if not re.fullmatch(r"numpy\..*\.test_\w+", name):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def substitute():
    stream_from(1)
    running.MOST_THREADS = 1  # starting threads would be most of the time
    for name, own in spellings.METHODS.items():
        spellings.METHODS[name] = counted(name, own)
    for numpys, own in spellings.FUNCTIONS.items():
        spellings.FUNCTIONS[numpys] = counted(numpys.__name__, own)
    for name in FUNCTIONS:
        setattr(np, name, with_ours(getattr(np, name)))
    for name in ("_mean", "_var", "_std"):
        setattr(_methods, name, with_ours_as_method(name))
    sys.meta_path.insert(0, Finder)


substitute()
