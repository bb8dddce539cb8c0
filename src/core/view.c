/* An array as a view of a file: what it can tell of the file, and what NumPy is to see of it. */
#include "view.h"

#include "fault_error.h"

bool
view_gives_plain_results(PyTypeObject *type)
{
    return type->tp_base != NULL && type->tp_base->tp_getset == view_getset;
}

PyObject *
view_held_by(PyObject *base)
{
    PyObject *type, *error, *trace, *held;
    PyErr_Fetch(&type, &error, &trace); /* asked after an operation that failed, too */
    held = PyObject_GetAttrString(base, "base");
    PyErr_Restore(type, error, trace); /* clears what the look-up left */
    if (held == NULL) {
        return NULL;
    }
    Py_DECREF(held); /* SAFE: `base` keeps it, and the array that is asked keeps `base` */
    return PyArray_Check(held) ? held : NULL;
}

int
view_refuse_closed(PyObject *array, const char *act)
{
    MappingObject *mapping = view_mapping(array);
    return mapping != NULL && mapping->closed ? fault_raise(mapping, act) : 0;
}

void
view_extent(PyArrayObject *array, char **low, char **high)
{
    *low = PyArray_BYTES(array);
    *high = *low;
    if (PyArray_SIZE(array) == 0) {
        return;
    }
    *high += PyArray_ITEMSIZE(array);
    for (int axis = 0; axis < PyArray_NDIM(array); axis++) {
        npy_intp span = (PyArray_DIM(array, axis) - 1) * PyArray_STRIDE(array, axis);
        *(span < 0 ? low : high) += span;
    }
}

bool
view_has_lost_items(PyObject *array, MappingObject *mapping)
{
    char *low, *high;
    view_extent((PyArrayObject *)array, &low, &high);
    nd_guard_lock();
    bool overlaps = nd_lost_overlaps(&mapping->map, low, high) ||
                    (low != high && high > mapping->map.data + mapping->map.nbytes);
    nd_guard_unlock();
    return overlaps;
}

bool
view_is_cut(PyObject *array)
{
    MappingObject *mapping = view_mapping(array);
    if (mapping == NULL) {
        return false;
    }
    int64_t size;
    char *low, *high;
    view_extent((PyArrayObject *)array, &low, &high);
    if (low == high || !nd_size_now(&mapping->map, &size) ||
        size >= mapping->map.offset + (high - mapping->map.data) || size >= mapping_end_in_file(mapping)) {
        return false;
    }
    nd_guard_mark(&mapping->map, ND_TRUNCATED, size);
    return true;
}

int
view_refuse_lost(PyObject *array, const char *act)
{
    if (nd_fault_is_pending()) {
        return fault_raise_pending();
    }
    MappingObject *mapping = view_mapping(array);
    if (mapping == NULL) {
        return 0;
    }
    bool is_lost = ((mapping->map.lost.count != 0 || mapping->shrunk) && view_has_lost_items(array, mapping)) ||
                   (PyArray_NBYTES((PyArrayObject *)array) >= VIEW_BULK_NBYTES && view_is_cut(array));
    if (!is_lost) {
        return 0;
    }
    return PyErr_Occurred() ? -1 : fault_raise(mapping, act);
}

void
view_leave_error_to_numpy(void)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
    }
}

PyObject *
view_as_plain(PyObject *array)
{
    return PyArray_View((PyArrayObject *)array, NULL, &PyArray_Type);
}

PyObject *
view_plain_unless_view(PyObject *result)
{
    if (result == NULL || !view_gives_plain_results(Py_TYPE(result)) || view_mapping(result) != NULL) {
        return result;
    }
    PyArrayObject *array = (PyArrayObject *)result;
    PyObject *base = PyArray_BASE(array);
    PyObject *plain;
    if (base != NULL && PyArray_CheckExact(base) && PyArray_SAMESHAPE(array, (PyArrayObject *)base) &&
        PyArray_DATA(array) == PyArray_DATA((PyArrayObject *)base)) {
        /* Fancy indexing: NumPy made a plain array and wrapped it into our class. */
        plain = Py_NewRef(base);
    }
    else {
        plain = view_as_plain(result);
    }
    Py_DECREF(result);
    return plain;
}

static PyObject *
view_get_mmap(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = view_mapping(self);
    return Py_NewRef(mapping == NULL ? Py_None : (PyObject *)mapping);
}

static PyObject *
view_get_filename(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = view_mapping(self);
    return Py_NewRef(mapping == NULL ? Py_None : mapping->filename);
}

static PyObject *
view_get_mode(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = view_mapping(self);
    return Py_NewRef(mapping == NULL ? Py_None : mapping->mode);
}

static PyObject *
view_get_offset(PyObject *self, void *Py_UNUSED(closure))
{
    PyArrayObject *root;
    MappingObject *mapping = view_mapping_and_root(self, &root);
    if (mapping == NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLongLong(mapping->map.offset + (PyArray_BYTES(root) - mapping->map.data));
}

static PyObject *
view_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = view_mapping(self);
    return PyBool_FromLong(mapping != NULL && mapping->closed);
}

/* An iterator over a plain view: what is taken from it is plain. */
static PyObject *
view_get_flat(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *plain = view_gives_plain_results(Py_TYPE(self)) ? view_as_plain(self) : Py_NewRef(self);
    PyObject *flat = plain == NULL ? NULL : PyArray_IterNew(plain);
    Py_XDECREF(plain);
    return flat;
}

/* A view for complex items, and a new array of zeros for others. */
static PyObject *
view_get_imag(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *inherited = PyObject_GetAttrString((PyObject *)&PyArray_Type, "imag");
    if (inherited == NULL) {
        return NULL;
    }
    PyObject *imag = Py_TYPE(inherited)->tp_descr_get(inherited, self, (PyObject *)Py_TYPE(self));
    Py_DECREF(inherited);
    return view_plain_unless_view(imag);
}

/* Set ndarray's attribute of the name in `closure`. */
static int
view_set_inherited(PyObject *self, PyObject *value, void *closure)
{
    PyObject *inherited = PyObject_GetAttrString((PyObject *)&PyArray_Type, closure);
    int status = inherited == NULL ? -1 : Py_TYPE(inherited)->tp_descr_set(inherited, self, value);
    Py_XDECREF(inherited);
    return status;
}

PyGetSetDef view_getset[] = {
    {"_mmap", view_get_mmap, NULL, PyDoc_STR("The mapping that owns the memory, or None."), NULL},
    {"filename", view_get_filename, NULL, PyDoc_STR("Absolute path of the file (str or pathlib.Path), or None."),
     NULL},
    {"mode", view_get_mode, NULL, PyDoc_STR("'r', 'r+', 'w+' or 'c', or None without a file."), NULL},
    {"offset", view_get_offset, NULL, PyDoc_STR("Where in the file the opened array starts, in bytes, or None."),
     NULL},
    {"closed", view_get_closed, NULL, PyDoc_STR("True after close()."), NULL},
    {"flat", view_get_flat, view_set_inherited, PyDoc_STR("A 1-D iterator over the array."), "flat"},
    {"imag", view_get_imag, view_set_inherited, PyDoc_STR("The imaginary part of the array."), "imag"},
    {NULL, NULL, NULL, NULL, NULL},
};
