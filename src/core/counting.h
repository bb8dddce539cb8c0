/* The Python face of tally.c and bins.c. */
#ifndef NDFILE_COUNTING_H
#define NDFILE_COUNTING_H

#include "core.h"

PyObject *counting_tally(PyObject *module, PyObject *const *args, Py_ssize_t nargs);

extern const char counting_tally_doc[];

#endif
