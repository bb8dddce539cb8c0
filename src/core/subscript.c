/* Indexing: ndarray's own, with a shorter way for the commonest indices, and with results of the right class. */
#include "subscript.h"

#include "fault_error.h"
#include "rows.h"
#include "store.h"
#include "view.h"

/* Between `entered` and `left`, an operation uses some of the array's items. If pages were lost or open meanwhile for
 * another thread's sake, it may have read zeros, or written to nowhere, without a fault of its own. */
typedef struct {
    MappingObject *mapping;
    unsigned openings;
} entrance;

static inline int
enter(PyObject *array, const char *act, entrance *entered)
{
    MappingObject *mapping = view_mapping(array);
    *entered = (entrance){.mapping = mapping, .openings = mapping == NULL ? 0 : mapping->map.lost.openings};
    return mapping != NULL && mapping->closed ? fault_raise(mapping, act) : 0;
}

static int
leave_slowly(PyObject *array, const char *act, MappingObject *mapping)
{
    if (nd_fault_is_pending()) {
        return fault_raise_pending();
    }
    return view_has_lost_items(array, mapping) ? fault_raise(mapping, act) : 0;
}

static inline int
leave(PyObject *array, const char *act, const entrance *entered)
{
    MappingObject *mapping = entered->mapping;
    bool is_clean = mapping == NULL || (entered->openings == mapping->map.lost.openings && entered->openings % 2 == 0);
    return __builtin_expect(is_clean && !nd_fault_is_pending(), 1) ? 0 : leave_slowly(array, act, mapping);
}

/* A result that has used some items of the array, or NULL with an exception. */
static inline PyObject *
left(PyObject *array, const entrance *entered, PyObject *result)
{
    if (leave(array, "read", entered) < 0) {
        Py_XDECREF(result);
        return NULL;
    }
    return result;
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
    for (int axis = 0; axis < ndim; axis++) {
        shape[axis] = PyArray_DIM(self, axis);
        strides[axis] = PyArray_STRIDE(self, axis);
    }
    shape[0] = adjust_slice(shape[0], &start, &stop, step);
    /* An empty slice may name a start past the end: its address is then the array's own. */
    char *data = PyArray_BYTES(self) + (shape[0] > 0 ? start * strides[0] : 0);
    /* A step may be as large as an index; with fewer than two items it is never taken. */
    strides[0] = shape[0] > 1 ? strides[0] * step : strides[0];
    return view_with(self, ndim, shape, strides, data);
}

/* The address of a[index] for an index of exact integers, one to an axis; NULL where NumPy should look at it. */
static char *
item_address(PyArrayObject *self, PyObject *index)
{
    bool is_tuple = PyTuple_CheckExact(index);
    int ndim = PyArray_NDIM(self);
    if (ndim == 0 || (is_tuple ? PyTuple_GET_SIZE(index) != ndim : ndim != 1)) {
        return NULL;
    }
    char *address = PyArray_BYTES(self);
    for (int axis = 0; axis < ndim; axis++) {
        PyObject *number = is_tuple ? PyTuple_GET_ITEM(index, axis) : index;
        if (!PyLong_CheckExact(number)) {
            return NULL;
        }
        int overflow;
        long place = PyLong_AsLongAndOverflow(number, &overflow);
        npy_intp length = PyArray_DIM(self, axis);
        place = place < 0 ? place + length : place;
        if (overflow || place < 0 || place >= length) {
            return NULL;
        }
        address += place * PyArray_STRIDE(self, axis);
    }
    return address;
}

/* ---- Arrays that reach behind the end of a mapping which was made shorter ---- */

/* The index with an ellipsis, by which NumPy gives a view of a single item too. */
static PyObject *
viewing_index(PyObject *index)
{
    if (index == Py_Ellipsis) {
        return Py_NewRef(index);
    }
    if (!PyTuple_Check(index)) {
        return PyTuple_Pack(2, index, Py_Ellipsis);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(index); i++) {
        if (PyTuple_GET_ITEM(index, i) == Py_Ellipsis) {
            return Py_NewRef(index);
        }
    }
    PyObject *ellipsis = PyTuple_Pack(1, Py_Ellipsis);
    PyObject *longer = ellipsis == NULL ? NULL : PySequence_Concat(index, ellipsis);
    Py_XDECREF(ellipsis);
    return longer;
}

/* Raise if items of array[index] are behind the end: the rest of the last page reads as zeros, without a fault. Where the
 * index copies, it is not told which items those are. Returns 0 or -1. */
static int
refuse_behind_end(PyObject *array, PyObject *index, MappingObject *mapping, const char *act)
{
    if (mapping == NULL || !mapping->shrunk || !view_has_lost_items(array, mapping)) {
        return 0;
    }
    PyObject *viewing = viewing_index(index);
    PyObject *items = viewing == NULL ? NULL : PyArray_Type.tp_as_mapping->mp_subscript(array, viewing);
    Py_XDECREF(viewing);
    if (items == NULL) {
        view_leave_error_to_numpy();
        return PyErr_Occurred() ? -1 : 0;
    }
    bool is_view = PyArray_Check(items) && view_mapping(items) == mapping;
    bool is_behind = !is_view || view_has_lost_items(items, mapping);
    Py_DECREF(items);
    return is_behind ? fault_raise(mapping, act) : 0;
}

/* ---- The slots ---- */

/* A quick look whether an index may be one for rows.h. */
static inline bool
may_name_rows(PyObject *index)
{
    if (PyTuple_CheckExact(index) && PyTuple_GET_SIZE(index) > 0) {
        index = PyTuple_GET_ITEM(index, 0);
    }
    return PyArray_Check(index) || PyList_CheckExact(index);
}

PyObject *
subscript_get(PyObject *self, PyObject *index)
{
    entrance entered;
    if (enter(self, "read", &entered) < 0) {
        return NULL;
    }
    /* The two commonest indices, the same as NumPy gives, without its general parser. Views read nothing. */
    if (PySlice_Check(index) && PyArray_NDIM((PyArrayObject *)self) > 0) {
        return slice_of_first_axis((PyArrayObject *)self, index);
    }
    if (PyLong_CheckExact(index)) {
        PyObject *row = row_of_first_axis((PyArrayObject *)self, index);
        if (row != NULL || PyErr_Occurred()) {
            return row;
        }
    }
    PyObject *result = may_name_rows(index) ? rows_get((PyArrayObject *)self, index) : NULL;
    if (result == NULL && !PyErr_Occurred()) {
        result = view_plain_unless_view(PyArray_Type.tp_as_mapping->mp_subscript(self, index));
    }
    bool is_shrunk = entered.mapping != NULL && entered.mapping->shrunk;
    if (__builtin_expect(is_shrunk, 0) && result != NULL && !(PyArray_Check(result) && view_mapping(result) != NULL) &&
        refuse_behind_end(self, index, entered.mapping, "read") < 0) {
        Py_CLEAR(result);
    }
    return left(self, &entered, result);
}

static int
assign(PyArrayObject *self, PyObject *index, PyObject *value)
{
    /* A number into an item is the commonest assignment; NumPy does the same with it after a longer look. */
    char *item = PyFloat_CheckExact(value) || PyLong_CheckExact(value) ? item_address(self, index) : NULL;
    if (item != NULL) {
        bool is_writeable = PyArray_FailUnlessWriteable(self, "assignment destination") == 0;
        return is_writeable ? PyArray_Pack(PyArray_DESCR(self), item, value) : -1;
    }
    int status = may_name_rows(index) ? rows_set(self, index, value) : store_assign(self, index, value);
    if (status != 0) {
        return status < 0 ? -1 : 0;
    }
    return PyArray_Type.tp_as_mapping->mp_ass_subscript((PyObject *)self, index, value);
}

int
subscript_set(PyObject *self, PyObject *index, PyObject *value)
{
    entrance entered;
    if (enter(self, "write", &entered) < 0) {
        return -1;
    }
    if (refuse_behind_end(self, index, entered.mapping, "write") < 0) {
        return -1;
    }
    int status = assign((PyArrayObject *)self, index, value);
    return leave(self, "write", &entered) < 0 ? -1 : status;
}

PyObject *
subscript_get_item(PyObject *self, Py_ssize_t index)
{
    entrance entered;
    if (enter(self, "read", &entered) < 0) {
        return NULL;
    }
    return left(self, &entered, view_plain_unless_view(PyArray_Type.tp_as_sequence->sq_item(self, index)));
}

int
subscript_set_item(PyObject *self, Py_ssize_t index, PyObject *value)
{
    entrance entered;
    if (enter(self, "write", &entered) < 0) {
        return -1;
    }
    int status = PyArray_Type.tp_as_sequence->sq_ass_item(self, index, value);
    return leave(self, "write", &entered) < 0 ? -1 : status;
}

int
subscript_contains(PyObject *self, PyObject *item)
{
    if (view_refuse_closed(self, "read") < 0) {
        return -1;
    }
    int status = PyArray_Type.tp_as_sequence->sq_contains(self, item);
    return view_refuse_lost(self, "read") < 0 ? -1 : status;
}

