/* The array base type, and what its operators need of it. */
#ifndef NDFILE_ARRAY_H
#define NDFILE_ARRAY_H

#include "core.h"

extern PyType_Spec array_spec;

/* True for a class made directly on ArrayBase, ndfile.memmap that is. Its subclasses keep their class in every result,
 * as subclasses of numpy.memmap do. Told by the slot, because a heap type has no static address. */
bool array_gives_plain_results(PyTypeObject *type);

/* Raise ClosedError if the array's mapping is closed; `act` is what was wanted, such as "read". Returns 0 or -1. */
int array_refuse_closed(PyObject *array, const char *act);

/* A view of the array as a plain ndarray. */
PyObject *array_as_plain(PyObject *array);

#endif
