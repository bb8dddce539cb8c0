/* An array as a view of a file: its chain of bases ends at a Mapping, and it has no fields of its own. */
#ifndef NDFILE_VIEW_H
#define NDFILE_VIEW_H

#include "core.h"

/* The attributes of ArrayBase: what an array knows of its file. */
extern PyGetSetDef view_getset[];

/* True for a class made directly on ArrayBase, ndfile.memmap that is. Its subclasses keep their class in every result,
 * as subclasses of numpy.memmap do. Told by the slot, because a heap type has no static address. */
bool view_gives_plain_results(PyTypeObject *type);

/* The array behind a base that is none itself, borrowed, or NULL: numpy.lib.stride_tricks puts an object with an
 * attribute `base` between a view and its array. */
PyObject *view_held_by(PyObject *base);

/* The mapping that the array views, borrowed, or NULL for one in ordinary memory. The last array before it goes to
 * `root`. On the path of every subscript: the chain is one or two long, and mostly of one class. */
static inline MappingObject *
view_mapping_and_root(PyObject *array, PyArrayObject **root)
{
    PyTypeObject *type = Py_TYPE(array);
    *root = (PyArrayObject *)array;
    for (PyObject *base = PyArray_BASE(*root); base != NULL; base = PyArray_BASE(*root)) {
        if (is_mapping(base)) {
            return (MappingObject *)base;
        }
        if (Py_TYPE(base) != type && !PyArray_Check(base)) {
            base = view_held_by(base);
            if (base == NULL) {
                return NULL;
            }
        }
        *root = (PyArrayObject *)base;
    }
    return NULL;
}

static inline MappingObject *
view_mapping(PyObject *array)
{
    PyArrayObject *root;
    return view_mapping_and_root(array, &root);
}

/* The bytes from the array's first item in memory to the end of its last. */
void view_extent(PyArrayObject *array, char **low, char **high);

/* A view of the array as a plain ndarray. */
PyObject *view_as_plain(PyObject *array);

/* Take a result of NumPy's: as it is if it views the file, as a plain array otherwise. */
PyObject *view_plain_unless_view(PyObject *result);

/* Raise if the array's mapping is closed; `act` is what is wanted, such as "read". Returns 0 or -1. */
int view_refuse_closed(PyObject *array, const char *act);

/* To stand behind an operation that has used all of the array's items: raise if any of them is lost. Returns 0 or -1. */
int view_refuse_lost(PyObject *array, const char *act);

/* True if the file now ends before the array does. */
bool view_is_cut(PyObject *array);

/* Clear an error of what was only a try: NumPy comes to the same, and says it better. One that may not come again stays,
 * such as an interrupt. */
void view_leave_error_to_numpy(void);

/* From this size on an operation on a whole array compares the file's size as well: a cut inside a page gives no fault.
 * Below it the question would take longer than the operation. */
enum { VIEW_BULK_NBYTES = 1 << 20 };

/* True if view_refuse_lost might raise. `mapping` is the array's, or NULL. */
static inline bool
view_may_have_lost(PyObject *array, const MappingObject *mapping)
{
    return nd_fault_is_pending() ||
           (mapping != NULL &&
            (mapping->map.lost.count != 0 || mapping->shrunk || PyArray_NBYTES((PyArrayObject *)array) >= VIEW_BULK_NBYTES));
}

/* True if any of the array's items is lost, or lies behind the end of a mapping that was made shorter. */
bool view_has_lost_items(PyObject *array, MappingObject *mapping);

#endif
