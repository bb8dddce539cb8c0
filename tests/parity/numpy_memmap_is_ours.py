"""A pytest plugin: from here on `numpy.memmap` is `ndfile.memmap`, and NumPy's `open_memmap` is ndfile's.

Loaded with ``-p`` before NumPy's own installed tests are collected, so that they test our class.
"""

import numpy as np
import numpy.lib.format

import ndfile as nf

np.memmap = nf.memmap
numpy.lib.format.open_memmap = nf.open_memmap
