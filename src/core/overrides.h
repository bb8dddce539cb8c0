/* What NumPy's own functions are to be with large arrays of ours. */
#ifndef NDFILE_OVERRIDES_H
#define NDFILE_OVERRIDES_H

#include "core.h"

/* To be told of each array's size when it is made or has grown, with its class. From the first large one on NumPy asks our class
 * at each call of its functions, which takes it 0.2 us: a process that has small arrays only does not pay that. Returns 0 or
 * -1. */
int overrides_note_size(PyTypeObject *type, size_t nbytes);

/* Whether an object is an array of ours, of a class that gives plain results, with at least so many items and bytes; or as
 * many bytes as tests have set. */
bool overrides_is_large(PyObject *object, size_t items, size_t nbytes);

/* Let Python do a method of NumPy's block by block. A new reference to Py_NotImplemented: it leaves it to NumPy. */
PyObject *overrides_method(const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names);

#endif
