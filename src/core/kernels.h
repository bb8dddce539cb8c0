/* The kernels' Python faces: functions of the module. */
#ifndef NDFILE_KERNELS_H
#define NDFILE_KERNELS_H

#include "core.h"

PyDoc_STRVAR(kernels_sums_doc,
             "block_sums(block, skip_nan, /)\n--\n\n"
             "(totals, errors, nans, exceptional) of block[turns, outer, reduced, inner], reduced along the first axis and the "
             "third: arrays [outer, inner].\n\n"
             "Totals are int64 modulo 2**64 of bool and integers, then without errors; float64 of floats. nans counts what "
             "skip_nan leaves out, else None. The inner axis is contiguous; if it has one item, the reduced one is.");
PyObject *kernels_sums(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

PyDoc_STRVAR(kernels_moments_doc,
             "block_moments(block, skip_nan, extremes, /)\n--\n\n"
             "(counts, means, errors, m2, low, high, nans, exceptional) of a block as block_sums has it.\n\n"
             "All are float64 but low and high, which have the block's dtype, and nans. These three are None unless extremes are asked for.");
PyObject *kernels_moments(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

#endif
