/* ArrayBase: the array type under ndfile.memmap.
 *
 * An array here is an ordinary ndarray whose chain of bases ends at a Mapping. It has no fields of its own: what it
 * knows about its file it asks that mapping. A result that views the file keeps the class, any other one is plain.
 */
#include "array.h"

#include "fault_error.h"
#include "growth.h"
#include "hints.h"
#include "methods.h"
#include "operators.h"
#include "overrides.h"
#include "streaming.h"
#include "subscript.h"
#include "view.h"

static int
array_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    if (view_refuse_closed(self, "read") < 0) {
        view->obj = NULL;
        return -1;
    }
    return PyArray_Type.tp_as_buffer->bf_getbuffer(self, view, flags);
}

/* The argument `return_scalar`, the third or by name; -1 with an exception for arguments that make no sense. */
static int
wants_scalar(PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PyObject *wanted = nargs == 3 ? args[2] : Py_False;
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "return_scalar") == 0 && nargs < 3) {
            wanted = args[nargs + i];
        }
        else if (PyUnicode_CompareWithASCIIString(name, "context") != 0 || nargs > 1) {
            PyErr_Format(PyExc_TypeError, "__array_wrap__() does not take %R here", name);
            return -1;
        }
    }
    if (nargs < 1 || nargs > 3 || !PyArray_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "__array_wrap__(array, context=None, return_scalar=False) takes an array");
        return -1;
    }
    return PyObject_IsTrue(wanted);
}

/* NumPy asks the class of a ufunc's inputs what its result should be. */
static PyObject *
array_wrap(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    int return_scalar = wants_scalar(args, nargs, names);
    if (return_scalar < 0 || view_refuse_closed(self, "read") < 0 || view_refuse_lost(self, "read") < 0) {
        return NULL;
    }
    PyObject *result = args[0];
    if (result == self) {
        return Py_NewRef(result);
    }
    if (!view_gives_plain_results(Py_TYPE(self))) {
        return PyObject_CallMethod((PyObject *)&PyArray_Type, "__array_wrap__", "OO", self, result);
    }
    PyObject *plain = PyArray_CheckExact(result) ? Py_NewRef(result) : view_as_plain(result);
    /* PyArray_Return makes a scalar of an array without dimensions and takes our reference. */
    return plain != NULL && return_scalar ? PyArray_Return((PyArrayObject *)plain) : plain;
}

PyDoc_STRVAR(array_flush_doc,
             "flush($self, /)\n--\n\n"
             "Write the changed pages under this array to the disk, and wait for it.\n\n"
             "A slice writes its own pages only. Arrays opened with mode 'r' or 'c', and\n"
             "arrays without a file, have nothing to write.\n\n"
             "Raises\n------\n"
             "OSError\n    The disk did not take the bytes.\n"
             "ClosedError\n    The mapping is closed.");

static PyObject *
array_flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MappingObject *mapping = view_mapping(self);
    if (mapping != NULL) {
        char *low, *high;
        view_extent((PyArrayObject *)self, &low, &high);
        if (!mapping->closed && mapping->shrunk && view_has_lost_items(self, mapping)) {
            fault_raise(mapping, "flush");
            return NULL;
        }
        size_t from = (size_t)(low - mapping->map.data), nbytes = (size_t)(high - low);
        if (!nd_range_fits(from, nbytes, mapping->map.nbytes)) {
            PyErr_SetString(PyExc_ValueError, "flush: the view's strides lead out of the mapping");
            return NULL;
        }
        if (mapping_flush(mapping, from, nbytes) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(array_check_doc,
             "check($self, /)\n--\n\n"
             "Compare the file's size with the mapping's, and raise if anything has happened to it.\n\n"
             "A file that is cut inside a page gives no fault: the rest of the page reads as zeros.\n\n"
             "Raises\n------\n"
             "FaultError\n    The file is shorter than the mapping, or a page of it has failed.\n"
             "ClosedError\n    The mapping is closed.");

static PyObject *
array_check(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    MappingObject *mapping = view_mapping(self);
    return mapping != NULL && mapping_check(mapping, "check") < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(array_close_doc,
             "close($self, /)\n--\n\n"
             "Flush, and give back the file, its descriptor and its memory, now.\n\n"
             "Using the array or any view of it afterwards raises `ClosedError`. Closing\n"
             "again does nothing.\n\n"
             "Raises\n------\n"
             "OSError\n"
             "    The disk did not take the bytes; the mapping is closed all the same.\n"
             "BufferError\n"
             "    The guard is off, and other arrays or variables refer to the mapping;\n"
             "    nothing was closed.");

/* Without the guard, a left-over view would read zeros. Views cannot be counted, but each of them holds the array that it
 * is of, or that one's root: with nobody else holding those or the mapping, there is no view. Two references to the
 * array itself are allowed: the variable and the call (or the with statement). */
static bool
has_other_users(PyObject *self, PyArrayObject *root, MappingObject *mapping)
{
    bool is_root = (PyObject *)root == self;
    return Py_REFCNT(self) > 2 || (!is_root && Py_REFCNT(root) > 1) || Py_REFCNT(mapping) > 1;
}

static PyObject *
array_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyArrayObject *root;
    MappingObject *mapping = view_mapping_and_root(self, &root);
    if (mapping == NULL || mapping->closed) {
        Py_RETURN_NONE;
    }
    if (!nd_guard_is_on() && has_other_users(self, root, mapping)) {
        return PyErr_Format(
            PyExc_BufferError,
            "close %R: other arrays or variables refer to it. Nothing was closed. Delete them and close again.",
            mapping->filename);
    }
    return mapping_close(mapping) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
array_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (view_refuse_closed(self, "enter") < 0) {
        return NULL;
    }
    return Py_NewRef(self);
}

static PyObject *
array_exit(PyObject *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return array_close(self, NULL);
}

PyDoc_STRVAR(array_from_mapping_doc,
             "_from_mapping($type, mapping, dtype, shape, order, start=0, /)\n--\n\n"
             "An array over the bytes of a mapping from byte `start` of it; shape is a tuple, order 'C' or 'F'.");

static int
shape_from_tuple(PyObject *tuple, npy_intp *shape)
{
    Py_ssize_t ndim = PyTuple_GET_SIZE(tuple);
    if (ndim > NPY_MAXDIMS) {
        PyErr_Format(PyExc_ValueError, "an array has at most %d dimensions, not %zd", NPY_MAXDIMS, ndim);
        return -1;
    }
    for (Py_ssize_t axis = 0; axis < ndim; axis++) {
        shape[axis] = PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, axis));
        if (shape[axis] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return (int)ndim;
}

static PyObject *
array_from_mapping(PyObject *type, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 4 || nargs > 5 || !is_mapping(args[0]) || !PyArray_DescrCheck(args[1]) || !PyTuple_Check(args[2]) ||
        !PyUnicode_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "_from_mapping() takes a Mapping, a dtype, a tuple, a str and an int");
        return NULL;
    }
    Py_ssize_t start = nargs == 5 ? PyLong_AsSsize_t(args[4]) : 0;
    if (start == -1 && PyErr_Occurred()) {
        return NULL;
    }
    npy_intp shape[NPY_MAXDIMS];
    int ndim = shape_from_tuple(args[2], shape);
    if (ndim < 0) {
        return NULL;
    }
    MappingObject *mapping = (MappingObject *)args[0];
    if (start < 0 || !nd_range_fits((size_t)start, 0, mapping->map.nbytes)) {
        return PyErr_Format(PyExc_ValueError, "byte %zd is not one of the mapping's %zu", start, mapping->map.nbytes);
    }
    int flags = mapping->map.access == ND_READ ? NPY_ARRAY_ALIGNED : NPY_ARRAY_BEHAVED;
    mapping->is_fortran = PyUnicode_CompareWithASCIIString(args[3], "F") == 0;
    if (mapping->is_fortran) {
        flags |= NPY_ARRAY_F_CONTIGUOUS;
    }
    Py_INCREF(args[1]);
    PyObject *array = PyArray_NewFromDescr((PyTypeObject *)type, (PyArray_Descr *)args[1], ndim, shape, NULL,
                                           mapping->map.data + start, flags, NULL);
    if (array == NULL) {
        return NULL;
    }
    /* SAFE: the one place where an array meets a mapping's bytes. */
    if (!nd_range_fits((size_t)start, (size_t)PyArray_NBYTES((PyArrayObject *)array), mapping->map.nbytes)) {
        PyErr_Format(PyExc_ValueError, "the array needs %zd bytes from byte %zd, the mapping has %zu",
                     (Py_ssize_t)PyArray_NBYTES((PyArrayObject *)array), start, mapping->map.nbytes);
        Py_DECREF(array);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(args[0])) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    PyArray_UpdateFlags((PyArrayObject *)array, NPY_ARRAY_UPDATE_ALL);
    if (overrides_note_size((PyTypeObject *)type, (size_t)PyArray_NBYTES((PyArrayObject *)array)) < 0) {
        Py_CLEAR(array);
        return NULL;
    }
    nd_stream_note(&mapping->has_large_out, mapping->map.access != ND_READ,
                   (size_t)PyArray_NBYTES((PyArrayObject *)array));
    return array;
}

/* Casts through void (*)(void), which the compiler takes as a deliberate change of signature. */
#define METHOD_POINTER(function) ((PyCFunction)(void (*)(void))(function))
#define OPERATOR_SLOT(slot) {Py_##slot, operator_##slot},
#define METHOD_ENTRY(name, ...) {#name, METHOD_POINTER(method_##name), METH_FASTCALL | METH_KEYWORDS, NULL},

static PyMethodDef array_methods[] = {
    {"__array_wrap__", METHOD_POINTER(array_wrap), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"__enter__", array_enter, METH_NOARGS, NULL},
    {"__exit__", METHOD_POINTER(array_exit), METH_FASTCALL, NULL},
    {"_advise", hints_advise, METH_O, hints_advise_doc},
    {"_append", growth_append, METH_O, growth_append_doc},
    {"_from_mapping", METHOD_POINTER(array_from_mapping), METH_FASTCALL | METH_CLASS, array_from_mapping_doc},
    {"_prefetch", hints_prefetch, METH_VARARGS, hints_prefetch_doc},
    {"_release", hints_release, METH_VARARGS, hints_release_doc},
    {"_residency", hints_residency, METH_O, hints_residency_doc},
    {"_set_rows", growth_set_rows, METH_VARARGS, growth_set_rows_doc},
    {"check", array_check, METH_NOARGS, array_check_doc},
    {"close", array_close, METH_NOARGS, array_close_doc},
    {"flush", array_flush, METH_NOARGS, array_flush_doc},
    ARRAY_METHODS(METHOD_ENTRY, METHOD_ENTRY, METHOD_ENTRY, METHOD_ENTRY, METHOD_ENTRY, METHOD_ENTRY)
    {NULL, NULL, 0, NULL},
};

static PyType_Slot array_slots[] = {
    {Py_tp_doc, PyDoc_STR("The C base of ndfile.memmap.")},
    {Py_tp_methods, array_methods},
    {Py_tp_getset, view_getset},
    {Py_mp_subscript, subscript_get},
    {Py_mp_ass_subscript, subscript_set},
    {Py_sq_item, subscript_get_item},
    {Py_sq_ass_item, subscript_set_item},
    {Py_sq_contains, subscript_contains},
    {Py_bf_getbuffer, array_getbuffer},
    ARRAY_OPERATORS(OPERATOR_SLOT, OPERATOR_SLOT, OPERATOR_SLOT, OPERATOR_SLOT)
    {0, NULL},
};

PyType_Spec array_spec = {
    .name = "ndfile._core.ArrayBase",
    .basicsize = 0, /* ndarray's own */
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = array_slots,
};
