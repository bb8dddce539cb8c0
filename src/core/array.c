/* ArrayBase: the array type under ndfile.memmap.
 *
 * An array here is an ordinary ndarray whose chain of bases ends at a Mapping. It has no fields of its own: what it
 * knows about its file it asks that mapping. A result that views the file keeps the class, any other one is plain.
 */
#include "array.h"
#include "operators.h"

#include <string.h>

static PyGetSetDef array_getset[];

bool
array_gives_plain_results(PyTypeObject *type)
{
    return type->tp_base != NULL && type->tp_base->tp_getset == array_getset;
}

/* The mapping that the array views, borrowed, or NULL for one in ordinary memory. The last array before it goes to
 * `root`. On the path of every subscript: the chain is one or two long, and mostly of one class. */
static inline MappingObject *
mapping_and_root(PyObject *array, PyArrayObject **root)
{
    PyTypeObject *type = Py_TYPE(array);
    *root = (PyArrayObject *)array;
    for (PyObject *base = PyArray_BASE(*root); base != NULL; base = PyArray_BASE(*root)) {
        if (mapping_check(base)) {
            return (MappingObject *)base;
        }
        if (Py_TYPE(base) != type && !PyArray_Check(base)) {
            return NULL;
        }
        *root = (PyArrayObject *)base;
    }
    return NULL;
}

static inline MappingObject *
mapping_of(PyObject *array)
{
    PyArrayObject *root;
    return mapping_and_root(array, &root);
}

int
array_refuse_closed(PyObject *array, const char *act)
{
    MappingObject *mapping = mapping_of(array);
    return mapping != NULL && mapping->closed ? mapping_raise_closed(mapping, act) : 0;
}

PyObject *
array_as_plain(PyObject *array)
{
    return PyArray_View((PyArrayObject *)array, NULL, &PyArray_Type);
}

/* Take a result of NumPy's: as it is if it views the file, as a plain array otherwise. */
static PyObject *
plain_unless_view(PyObject *result)
{
    if (result == NULL || !array_gives_plain_results(Py_TYPE(result)) || mapping_of(result) != NULL) {
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
        plain = array_as_plain(result);
    }
    Py_DECREF(result);
    return plain;
}

/* A view of the same items that starts at `data`, with other dimensions. Takes nothing, returns a new array. */
static PyObject *
view_with(PyArrayObject *self, int ndim, npy_intp const *shape, npy_intp const *strides, char *data)
{
    PyArray_Descr *dtype = PyArray_DESCR(self);
    Py_INCREF(dtype);
    PyObject *view = PyArray_NewFromDescr(Py_TYPE(self), dtype, ndim, shape, strides, data, PyArray_FLAGS(self),
                                          (PyObject *)self);
    if (view == NULL) {
        return NULL;
    }
    Py_INCREF(self);
    if (PyArray_SetBaseObject((PyArrayObject *)view, (PyObject *)self) < 0) {
        Py_DECREF(view);
        return NULL;
    }
    return view;
}

/* a[row], or NULL without an error where NumPy should answer: for an item, or an index out of range. */
static PyObject *
row_of_first_axis(PyArrayObject *self, PyObject *index)
{
    int ndim = PyArray_NDIM(self);
    if (ndim < 2) {
        return NULL;
    }
    Py_ssize_t row = PyLong_AsSsize_t(index);
    if (row == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return NULL;
    }
    npy_intp rows = PyArray_DIM(self, 0);
    row = row < 0 ? row + rows : row;
    if (row < 0 || row >= rows) {
        return NULL;
    }
    char *data = PyArray_BYTES(self) + row * PyArray_STRIDE(self, 0);
    return view_with(self, ndim - 1, PyArray_SHAPE(self) + 1, PyArray_STRIDES(self) + 1, data);
}

static inline Py_ssize_t
clamped(Py_ssize_t bound, Py_ssize_t length)
{
    bound = bound < 0 ? bound + length : bound;
    return bound < 0 ? 0 : bound > length ? length : bound;
}

/* PySlice_AdjustIndices without its division, which is half of a short slice's arithmetic. */
static inline Py_ssize_t
adjust_slice(Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t step)
{
    if (step != 1) {
        return PySlice_AdjustIndices(length, start, stop, step);
    }
    *start = clamped(*start, length);
    *stop = clamped(*stop, length);
    return *stop > *start ? *stop - *start : 0;
}

/* a[start:stop:step]. */
static PyObject *
slice_of_first_axis(PyArrayObject *self, PyObject *slice)
{
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(slice, &start, &stop, &step) < 0) {
        return NULL;
    }
    int ndim = PyArray_NDIM(self);
    npy_intp shape[NPY_MAXDIMS], strides[NPY_MAXDIMS];
    memcpy(shape, PyArray_SHAPE(self), (size_t)ndim * sizeof(npy_intp));
    memcpy(strides, PyArray_STRIDES(self), (size_t)ndim * sizeof(npy_intp));
    shape[0] = adjust_slice(shape[0], &start, &stop, step);
    /* An empty slice may name a start past the end: its address is then the array's own. */
    char *data = PyArray_BYTES(self) + (shape[0] > 0 ? start * strides[0] : 0);
    /* A step may be as large as an index; with fewer than two items it is never taken. */
    strides[0] = shape[0] > 1 ? strides[0] * step : strides[0];
    return view_with(self, ndim, shape, strides, data);
}

static PyObject *
array_subscript(PyObject *self, PyObject *index)
{
    if (array_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    /* The two commonest indices, the same as NumPy gives, without its general parser. */
    if (PySlice_Check(index) && PyArray_NDIM((PyArrayObject *)self) > 0) {
        return slice_of_first_axis((PyArrayObject *)self, index);
    }
    if (PyLong_CheckExact(index)) {
        PyObject *row = row_of_first_axis((PyArrayObject *)self, index);
        if (row != NULL || PyErr_Occurred()) {
            return row;
        }
    }
    return plain_unless_view(PyArray_Type.tp_as_mapping->mp_subscript(self, index));
}

static int
array_ass_subscript(PyObject *self, PyObject *index, PyObject *value)
{
    if (array_refuse_closed(self, "write") < 0) {
        return -1;
    }
    return PyArray_Type.tp_as_mapping->mp_ass_subscript(self, index, value);
}

static PyObject *
array_item(PyObject *self, Py_ssize_t index)
{
    if (array_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    return plain_unless_view(PyArray_Type.tp_as_sequence->sq_item(self, index));
}

static int
array_ass_item(PyObject *self, Py_ssize_t index, PyObject *value)
{
    if (array_refuse_closed(self, "write") < 0) {
        return -1;
    }
    return PyArray_Type.tp_as_sequence->sq_ass_item(self, index, value);
}

static int
array_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    if (array_refuse_closed(self, "read") < 0) {
        view->obj = NULL;
        return -1;
    }
    return PyArray_Type.tp_as_buffer->bf_getbuffer(self, view, flags);
}

/* NumPy asks the class of a ufunc's inputs what its result should be. */
static PyObject *
array_wrap(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3 || !PyArray_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "__array_wrap__(array, context=None, return_scalar=False, /) takes an array");
        return NULL;
    }
    if (array_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    PyObject *result = args[0];
    if (result == self) {
        return Py_NewRef(result);
    }
    if (!array_gives_plain_results(Py_TYPE(self))) {
        return PyObject_CallMethod((PyObject *)&PyArray_Type, "__array_wrap__", "OO", self, result);
    }
    int return_scalar = nargs == 3 ? PyObject_IsTrue(args[2]) : 0;
    if (return_scalar < 0) {
        return NULL;
    }
    PyObject *plain = PyArray_CheckExact(result) ? Py_NewRef(result) : array_as_plain(result);
    /* PyArray_Return makes a scalar of an array without dimensions and takes our reference. */
    return plain != NULL && return_scalar ? PyArray_Return((PyArrayObject *)plain) : plain;
}

/* Call ndarray's method `name` on a plain view of the array, so that its result is a plain array. */
static PyObject *
call_on_plain(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    enum { MOST_ARGUMENTS = 32 };
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    if (total >= MOST_ARGUMENTS) {
        return PyErr_Format(PyExc_TypeError, "%s() does not take %zd arguments", name, total);
    }
    if (array_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    PyObject *plain = array_gives_plain_results(Py_TYPE(self)) ? array_as_plain(self) : Py_NewRef(self);
    PyObject *method = plain == NULL ? NULL : PyObject_GetAttrString((PyObject *)&PyArray_Type, name);
    PyObject *result = NULL;
    if (method != NULL) {
        PyObject *stack[MOST_ARGUMENTS] = {plain};
        for (Py_ssize_t i = 0; i < total; i++) {
            stack[i + 1] = args[i];
        }
        result = PyObject_Vectorcall(method, stack, (size_t)(nargs + 1), kwnames);
        Py_DECREF(method);
    }
    if (result != NULL && result == plain) {
        /* astype(copy=False), byteswap(inplace=True): the array itself. */
        Py_SETREF(result, Py_NewRef(self));
    }
    Py_XDECREF(plain);
    return result;
}

/* Methods whose results are new arrays. NumPy would give them our class, though no file is behind them. */
#define COPYING_METHODS(METHOD) \
    METHOD(__copy__)            \
    METHOD(__deepcopy__)        \
    METHOD(__reduce__)          \
    METHOD(__reduce_ex__)       \
    METHOD(argmax)              \
    METHOD(argmin)              \
    METHOD(argpartition)        \
    METHOD(argsort)             \
    METHOD(astype)              \
    METHOD(byteswap)            \
    METHOD(choose)              \
    METHOD(compress)            \
    METHOD(copy)                \
    METHOD(dot)                 \
    METHOD(flatten)             \
    METHOD(repeat)              \
    METHOD(take)

/* Methods whose results are views where the strides allow it, and new arrays otherwise. */
#define VIEWING_METHODS(METHOD) \
    METHOD(ravel)               \
    METHOD(reshape)

#define DEFINE_COPYING_METHOD(name)                                                                         \
    static PyObject *array_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) \
    {                                                                                                       \
        return call_on_plain(self, #name, args, nargs, names);                                              \
    }

#define DEFINE_VIEWING_METHOD(name)                                                        \
    static PyObject *array_##name(PyObject *self, PyObject *args, PyObject *kwargs)        \
    {                                                                                      \
        PyObject *method = PyObject_GetAttrString((PyObject *)&PyArray_Type, #name);       \
        PyObject *bound = method == NULL ? NULL : PyMethod_New(method, self);              \
        PyObject *result = bound == NULL ? NULL : PyObject_Call(bound, args, kwargs);      \
        Py_XDECREF(method);                                                                \
        Py_XDECREF(bound);                                                                 \
        return plain_unless_view(result);                                                  \
    }

COPYING_METHODS(DEFINE_COPYING_METHOD)
VIEWING_METHODS(DEFINE_VIEWING_METHOD)

/* The bytes from the array's first item in memory to the end of its last, as a range of the mapping. */
static void
extent_of(PyArrayObject *array, MappingObject *mapping, size_t *from, size_t *nbytes)
{
    char *low = PyArray_BYTES(array);
    char *high = low + PyArray_ITEMSIZE(array);
    for (int axis = 0; axis < PyArray_NDIM(array); axis++) {
        npy_intp span = (PyArray_DIM(array, axis) - 1) * PyArray_STRIDE(array, axis);
        if (span < 0) {
            low += span;
        }
        else {
            high += span;
        }
    }
    if (PyArray_SIZE(array) == 0 || low < mapping->map.data) {
        *from = 0;
        *nbytes = 0;
        return;
    }
    *from = (size_t)(low - mapping->map.data);
    *nbytes = (size_t)(high - low);
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
    MappingObject *mapping = mapping_of(self);
    if (mapping != NULL) {
        size_t from, nbytes;
        extent_of((PyArrayObject *)self, mapping, &from, &nbytes);
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

PyDoc_STRVAR(array_close_doc,
             "close($self, /)\n--\n\n"
             "Flush, and give back the file, its descriptor and its memory, now.\n\n"
             "Using the array afterwards raises `ClosedError`. Closing again does nothing.\n\n"
             "Raises\n------\n"
             "BufferError\n"
             "    Other arrays or variables refer to the mapping; nothing was closed.\n"
             "OSError\n"
             "    The disk did not take the bytes; the mapping is closed all the same.");

/* Views cannot be counted, but each of them holds its root array: with nobody else holding that or the mapping, there
 * is no view. Two references to the array itself are allowed: the variable and the call (or the with statement). */
static PyObject *
array_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyArrayObject *root;
    MappingObject *mapping = mapping_and_root(self, &root);
    if (mapping == NULL || mapping->closed) {
        Py_RETURN_NONE;
    }
    Py_ssize_t own = (PyObject *)root == self ? 2 : 1;
    if (Py_REFCNT(root) > own || Py_REFCNT(mapping) > 1) {
        PyErr_Format(PyExc_BufferError,
                     "close %R: other arrays or variables refer to it. Nothing was closed. Delete them and close again.",
                     mapping->filename);
        return NULL;
    }
    return mapping_close(mapping) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
array_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (array_refuse_closed(self, "enter") < 0) {
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
             "_from_mapping($type, mapping, dtype, shape, order, /)\n--\n\n"
             "An array over the first bytes of a mapping; shape is a tuple, order 'C' or 'F'.");

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
    if (nargs != 4 || !mapping_check(args[0]) || !PyArray_DescrCheck(args[1]) || !PyTuple_Check(args[2]) ||
        !PyUnicode_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "_from_mapping() takes a Mapping, a dtype, a tuple and a str");
        return NULL;
    }
    npy_intp shape[NPY_MAXDIMS];
    int ndim = shape_from_tuple(args[2], shape);
    if (ndim < 0) {
        return NULL;
    }
    MappingObject *mapping = (MappingObject *)args[0];
    int flags = mapping->map.access == ND_READ ? NPY_ARRAY_ALIGNED : NPY_ARRAY_BEHAVED;
    if (PyUnicode_CompareWithASCIIString(args[3], "F") == 0) {
        flags |= NPY_ARRAY_F_CONTIGUOUS;
    }
    Py_INCREF(args[1]);
    PyObject *array = PyArray_NewFromDescr((PyTypeObject *)type, (PyArray_Descr *)args[1], ndim, shape, NULL,
                                           mapping->map.data, flags, NULL);
    if (array == NULL) {
        return NULL;
    }
    /* SAFE: the one place where an array meets a mapping's bytes. */
    if (!nd_range_fits(0, (size_t)PyArray_NBYTES((PyArrayObject *)array), mapping->map.nbytes)) {
        PyErr_Format(PyExc_ValueError, "the array needs %zd bytes, the mapping has %zu",
                     (Py_ssize_t)PyArray_NBYTES((PyArrayObject *)array), mapping->map.nbytes);
        Py_DECREF(array);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(args[0])) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    PyArray_UpdateFlags((PyArrayObject *)array, NPY_ARRAY_UPDATE_ALL);
    return array;
}

static PyObject *
array_get_mmap(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = mapping_of(self);
    return Py_NewRef(mapping == NULL ? Py_None : (PyObject *)mapping);
}

static PyObject *
array_get_filename(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = mapping_of(self);
    return Py_NewRef(mapping == NULL ? Py_None : mapping->filename);
}

static PyObject *
array_get_mode(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = mapping_of(self);
    return Py_NewRef(mapping == NULL ? Py_None : mapping->mode);
}

static PyObject *
array_get_offset(PyObject *self, void *Py_UNUSED(closure))
{
    PyArrayObject *root;
    MappingObject *mapping = mapping_and_root(self, &root);
    if (mapping == NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLongLong(mapping->map.offset + (PyArray_BYTES(root) - mapping->map.data));
}

static PyObject *
array_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    MappingObject *mapping = mapping_of(self);
    return PyBool_FromLong(mapping != NULL && mapping->closed);
}

/* Casts through void (*)(void), which the compiler takes as a deliberate change of signature. */
#define METHOD_POINTER(function) ((PyCFunction)(void (*)(void))(function))
#define OPERATOR_SLOT(slot) {Py_##slot, operator_##slot},
#define COPYING_ENTRY(name) {#name, METHOD_POINTER(array_##name), METH_FASTCALL | METH_KEYWORDS, NULL},
#define VIEWING_ENTRY(name) {#name, METHOD_POINTER(array_##name), METH_VARARGS | METH_KEYWORDS, NULL},

static PyMethodDef array_methods[] = {
    {"__array_wrap__", METHOD_POINTER(array_wrap), METH_FASTCALL, NULL},
    {"__enter__", array_enter, METH_NOARGS, NULL},
    {"__exit__", METHOD_POINTER(array_exit), METH_FASTCALL, NULL},
    {"_from_mapping", METHOD_POINTER(array_from_mapping), METH_FASTCALL | METH_CLASS, array_from_mapping_doc},
    {"close", array_close, METH_NOARGS, array_close_doc},
    {"flush", array_flush, METH_NOARGS, array_flush_doc},
    COPYING_METHODS(COPYING_ENTRY)
    VIEWING_METHODS(VIEWING_ENTRY)
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef array_getset[] = {
    {"_mmap", array_get_mmap, NULL, PyDoc_STR("The mapping that owns the memory, or None."), NULL},
    {"filename", array_get_filename, NULL, PyDoc_STR("Absolute path of the file (str or pathlib.Path), or None."),
     NULL},
    {"mode", array_get_mode, NULL, PyDoc_STR("'r', 'r+', 'w+' or 'c', or None without a file."), NULL},
    {"offset", array_get_offset, NULL, PyDoc_STR("Where in the file the opened array starts, in bytes, or None."),
     NULL},
    {"closed", array_get_closed, NULL, PyDoc_STR("True after close()."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot array_slots[] = {
    {Py_tp_doc, PyDoc_STR("The C base of ndfile.memmap.")},
    {Py_tp_methods, array_methods},
    {Py_tp_getset, array_getset},
    {Py_mp_subscript, array_subscript},
    {Py_mp_ass_subscript, array_ass_subscript},
    {Py_sq_item, array_item},
    {Py_sq_ass_item, array_ass_item},
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
