/* The subscript slots of ArrayBase. */
#ifndef NDFILE_SUBSCRIPT_H
#define NDFILE_SUBSCRIPT_H

#include "core.h"

PyObject *subscript_get(PyObject *self, PyObject *index);
int subscript_set(PyObject *self, PyObject *index, PyObject *value);
PyObject *subscript_get_item(PyObject *self, Py_ssize_t index);
int subscript_set_item(PyObject *self, Py_ssize_t index, PyObject *value);
int subscript_contains(PyObject *self, PyObject *item);

#endif
