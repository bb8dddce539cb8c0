"""A pytest plugin: `numpy.memmap` is ours, and every pickle holds references."""

import numpy_memmap_is_ours  # noqa: F401  # which is what it is imported for

import ndfile as nf

ON = nf.references()
ON.__enter__()
