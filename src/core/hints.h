/* Methods of ArrayBase that tell the kernel, or ask it, about the pages under an array. */
#ifndef NDFILE_HINTS_H
#define NDFILE_HINTS_H

#include "core.h"

PyObject *hints_prefetch(PyObject *array, PyObject *args);
PyObject *hints_release(PyObject *array, PyObject *args);
PyObject *hints_advise(PyObject *array, PyObject *advice);
PyObject *hints_residency(PyObject *array, PyObject *parts);

extern const char hints_prefetch_doc[], hints_release_doc[], hints_advise_doc[], hints_residency_doc[];

#endif
