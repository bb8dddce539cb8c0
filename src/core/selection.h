/* The Python face of select.c. */
#ifndef NDFILE_SELECTION_H
#define NDFILE_SELECTION_H

#include "core.h"

PyObject *selection_count_digits(PyObject *module, PyObject *args);
PyObject *selection_count_within(PyObject *module, PyObject *args);
PyObject *selection_collect_within(PyObject *module, PyObject *args);

extern const char selection_count_digits_doc[], selection_count_within_doc[], selection_collect_within_doc[];

#endif
