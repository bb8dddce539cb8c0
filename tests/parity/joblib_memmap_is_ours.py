"""A pytest plugin: in the modules of tests that are collected, `np.memmap` is `ndfile.memmap`.

In those alone, so that joblib finds its own temporary files by `numpy.memmap` as it does elsewhere, and what the tests
give it is ours. joblib takes memory for shared if there is an `mmap.mmap` behind it; the tests ask for ours too.
"""

import types

import numpy as np
from joblib._memmapping_reducer import has_shareable_memory

import ndfile as nf
from ndfile._core import Mapping


def is_on_a_file(array):
    owner = array
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    return isinstance(owner, Mapping) or has_shareable_memory(array)


def pytest_collection_modifyitems(items):
    ours = types.ModuleType("numpy")
    vars(ours).update(vars(np), memmap=nf.memmap)
    for module in {item.module for item in items}:
        module.np = ours
        module.make_memmap = nf.memmap
        module.has_shareable_memory = is_on_a_file
