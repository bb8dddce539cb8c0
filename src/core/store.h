/* Large assignments: whole pieces of the destination at a time, by the way that put.c finds fastest. */
#ifndef NDFILE_STORE_H
#define NDFILE_STORE_H

#include "core.h"

/* a[index] = value for a basic index, where it is large. Returns 1, 0 where NumPy should do it, -1 with an exception. */
int store_assign(PyArrayObject *self, PyObject *index, PyObject *value);

/* a.fill(); NULL without an exception where NumPy should do it. */
PyObject *store_fill(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names);

#endif
