/* The array base type, and what its parts need of it: subscripts, operators, methods. */
#ifndef NDFILE_ARRAY_H
#define NDFILE_ARRAY_H

#include "core.h"

extern PyType_Spec array_spec;

/* True for a class made directly on ArrayBase, ndfile.memmap that is. Its subclasses keep their class in every result,
 * as subclasses of numpy.memmap do. Told by the slot, because a heap type has no static address. */
bool array_gives_plain_results(PyTypeObject *type);

/* The array behind a base that is none itself, borrowed, or NULL: numpy.lib.stride_tricks puts an object with an
 * attribute `base` between a view and its array. */
PyObject *array_held_by(PyObject *base);

/* The mapping that the array views, borrowed, or NULL for one in ordinary memory. The last array before it goes to
 * `root`. On the path of every subscript: the chain is one or two long, and mostly of one class. */
static inline MappingObject *
array_mapping_and_root(PyObject *array, PyArrayObject **root)
{
    PyTypeObject *type = Py_TYPE(array);
    *root = (PyArrayObject *)array;
    for (PyObject *base = PyArray_BASE(*root); base != NULL; base = PyArray_BASE(*root)) {
        if (is_mapping(base)) {
            return (MappingObject *)base;
        }
        if (Py_TYPE(base) != type && !PyArray_Check(base)) {
            base = array_held_by(base);
            if (base == NULL) {
                return NULL;
            }
        }
        *root = (PyArrayObject *)base;
    }
    return NULL;
}

static inline MappingObject *
array_mapping(PyObject *array)
{
    PyArrayObject *root;
    return array_mapping_and_root(array, &root);
}

/* A view of the array as a plain ndarray. */
PyObject *array_as_plain(PyObject *array);

/* Take a result of NumPy's: as it is if it views the file, as a plain array otherwise. */
PyObject *array_plain_unless_view(PyObject *result);

/* Raise if the array's mapping is closed; `act` is what is wanted, such as "read". Returns 0 or -1. */
int array_refuse_closed(PyObject *array, const char *act);

/* To stand behind an operation that has used all of the array's items: raise if any of them is lost. Returns 0 or -1. */
int array_refuse_lost(PyObject *array, const char *act);

/* True if the file now ends before the array does. */
bool array_is_cut(PyObject *array);

/* True if any of the array's items is lost. */
bool array_has_lost_items(PyObject *array, MappingObject *mapping);

#endif
