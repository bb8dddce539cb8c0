"""A pytest plugin: from here on `numpy.memmap` is `ndfile.memmap`.

Loaded with ``-p`` before NumPy's own installed tests are collected, so that they test our class.
"""

import numpy as np

import ndfile as nf

np.memmap = nf.memmap
