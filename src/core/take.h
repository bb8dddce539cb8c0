/* Methods of ArrayBase that copy rows, or everything, by the ways of gather.c. */
#ifndef NDFILE_TAKE_H
#define NDFILE_TAKE_H

#include "core.h"

/* a.take() and a.copy(), as far as they are for us; NULL without an exception where NumPy should do it. */
PyObject *take_rows(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names);
PyObject *take_copy(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names);

#endif
