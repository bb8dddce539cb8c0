#include "store.h"

#include "fault_error.h"
#include "put.h"
#include "rows.h"
#include "view.h"
#include "way.h"

#include <string.h>

/* From this size on it pays to look for another way. */
enum { LARGE_NBYTES = 1 << 20 };

/* Parts of the destination that lie together are at least so long, or NumPy is as fast. */
enum { PART_NBYTES = 256 << 10 };

/* What has to be converted or repeated goes through a buffer of this size. */
enum { BUFFER_NBYTES = 8 << 20 };

/* ---- Both sides, axis by axis ---- */

typedef struct {
    MappingObject *mapping;
    nd_putting putting;
    PyArray_Descr *to_type, *from_type;
    PyArrayObject *values;
    int ndim;
    rows_axis axes[NPY_MAXDIMS]; /* none of the steps in the destination is backwards */
    char *to, *from;
    int first_joined;       /* from this axis on the destination lies together */
    PyArrayObject *buffer;  /* or NULL: the values are as the file has them */
    int buffer_ndim;
    const char *in_buffer;  /* what was converted last, and how many items along the first axis of it */
    npy_intp in_buffer_count;
    PyObject *error_type, *error, *trace; /* of a conversion, to be raised in the end */
} storing;

static void
set_axes(storing *job, PyArrayObject *view, const npy_intp *from_strides)
{
    job->ndim = rows_axes(view, 0, from_strides, job->axes);
    for (rows_axis *one = job->axes; one < job->axes + job->ndim; one++) {
        if (one->mapped < 0) {
            job->to += (one->size - 1) * one->mapped;
            job->from += (one->size - 1) * one->memory;
            one->mapped = -one->mapped;
            one->memory = -one->memory;
        }
    }
}

/* Bytes of the destination that lie together; notes from which axis on. */
static npy_intp
join_axes(storing *job)
{
    npy_intp nbytes = job->to_type->elsize;
    job->first_joined = job->ndim;
    while (job->first_joined > 0 && job->axes[job->first_joined - 1].mapped == nbytes) {
        nbytes *= job->axes[--job->first_joined].size;
    }
    return nbytes;
}

/* True if the values lie as the destination does, from an axis on. */
static bool
is_alike(const storing *job, int first)
{
    if (!PyArray_EquivTypes(job->to_type, job->from_type)) {
        return false;
    }
    for (int i = first; i < job->ndim; i++) {
        if (job->axes[i].memory != job->axes[i].mapped) {
            return false;
        }
    }
    return true;
}

/* True if every byte of an item means something: of the others NumPy leaves those that the file has. */
static bool
is_solid(PyArray_Descr *dtype)
{
    if (PyDataType_HASSUBARRAY(dtype)) {
        return is_solid(PyDataType_SUBARRAY(dtype)->base);
    }
    if (!PyDataType_HASFIELDS(dtype)) {
        return dtype->type_num != NPY_LONGDOUBLE && dtype->type_num != NPY_CLONGDOUBLE;
    }
    PyObject *names = PyDataType_NAMES(dtype), *fields = PyDataType_FIELDS(dtype);
    npy_intp end = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *field = PyDict_GetItem(fields, PyTuple_GET_ITEM(names, i));
        PyArray_Descr *own = (PyArray_Descr *)PyTuple_GET_ITEM(field, 0);
        if (PyLong_AsSsize_t(PyTuple_GET_ITEM(field, 1)) != end || !is_solid(own)) {
            return false;
        }
        end += PyDataType_ELSIZE(own);
    }
    return end == PyDataType_ELSIZE(dtype);
}

/* ---- Converting ---- */

/* NumPy tells of floating-point errors when all items are stored. So the first one is kept to be raised in the end. Returns
 * what is left of a status. */
static int
postponed(storing *job, int status)
{
    PyObject *type = PyErr_Occurred(); /* not a subclass: a ComplexWarning comes before the first item */
    if (status == 0 || (type != PyExc_FloatingPointError && type != PyExc_RuntimeWarning)) {
        return status;
    }
    if (job->error_type == NULL) {
        PyErr_Fetch(&job->error_type, &job->error, &job->trace);
    }
    PyErr_Clear();
    return 0;
}

/* An array over memory with the sizes and steps of the axes from `first` on, of which the first one has `count` items. */
static PyArrayObject *
window(const storing *job, int first, npy_intp count, char *data, bool is_source)
{
    npy_intp shape[NPY_MAXDIMS], strides[NPY_MAXDIMS];
    int ndim = job->ndim - first;
    for (int i = 0; i < ndim; i++) {
        shape[i] = i == 0 ? count : job->axes[first + i].size;
        strides[i] = is_source ? job->axes[first + i].memory : job->axes[first + i].mapped;
    }
    PyArray_Descr *dtype = is_source ? job->from_type : job->to_type;
    Py_INCREF(dtype);
    /* The destination lies together from here on, so its steps are a buffer's too. */
    PyArrayObject *array = (PyArrayObject *)PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, strides, data,
                                                                 NPY_ARRAY_WRITEABLE, NULL);
    if (array != NULL) {
        PyArray_UpdateFlags(array, NPY_ARRAY_UPDATE_ALL);
    }
    return array;
}

static void
put(storing *job, char *to, const char *bytes, size_t nbytes)
{
    mapping_begin_use(job->mapping, true);
    int fd = way_to_write(job->mapping, to, nbytes);
    Py_BEGIN_ALLOW_THREADS
    nd_put(&job->mapping->map, &job->putting, fd, to, bytes, nbytes);
    Py_END_ALLOW_THREADS
    mapping_end_use(job->mapping, true);
}

/* Convert `count` items along an axis, with all that the axes behind it have, to a place. Returns 0 or -1. */
static int
convert(storing *job, int first, npy_intp count, char *to, char *from)
{
    PyArrayObject *source = window(job, first, count, from, true);
    PyArrayObject *target = source == NULL ? NULL : window(job, first, count, to, false);
    int status = target == NULL ? -1 : postponed(job, PyArray_CopyInto(target, source));
    Py_XDECREF(source);
    Py_XDECREF(target);
    return status < 0 || nd_fault_is_pending() ? -1 : 0;
}

/* Convert and store. Returns 0 or -1. */
static int
put_converted(storing *job, int first, npy_intp count, char *to, char *from, size_t nbytes)
{
    if (job->putting.way == ND_PUT_BY_MAP) {
        long before = nd_count_faults();
        int status = convert(job, first, count, to, from);
        nd_judge_put(&job->putting, before, nbytes);
        return status;
    }
    bool is_there = job->in_buffer == from && job->in_buffer_count == count;
    if (!is_there && convert(job, first, count, PyArray_BYTES(job->buffer), from) < 0) {
        return -1;
    }
    job->in_buffer = from;
    job->in_buffer_count = count;
    put(job, to, PyArray_BYTES(job->buffer), nbytes);
    return nd_fault_is_pending() ? -1 : 0;
}

/* ---- The way through the axes ---- */

/* Store what axes [at, ndim) have, with both sides at the places given. Returns 0 or -1. */
static int
store_axes(storing *job, int at, char *to, char *from)
{
    size_t nbytes = (size_t)job->to_type->elsize;
    for (int i = at; i < job->ndim; i++) {
        nbytes *= (size_t)job->axes[i].size;
    }
    bool is_joined = at >= job->first_joined;
    if (is_joined && is_alike(job, at)) {
        put(job, to, from, nbytes);
        return nd_fault_is_pending() ? -1 : 0;
    }
    rows_axis one = job->axes[at];
    size_t step = nbytes / (size_t)one.size;
    if (is_joined && step <= BUFFER_NBYTES) {
        npy_intp most = (npy_intp)(BUFFER_NBYTES / step);
        for (npy_intp i = 0; i < one.size; i += most) {
            npy_intp count = one.size - i < most ? one.size - i : most;
            if (put_converted(job, at, count, to + i * one.mapped, from + i * one.memory, step * (size_t)count) < 0) {
                return -1;
            }
        }
        return 0;
    }
    for (npy_intp i = 0; i < one.size; i++) {
        if (store_axes(job, at + 1, to + i * one.mapped, from + i * one.memory) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
store_all(storing *job)
{
    int status = 0;
    if (!is_alike(job, job->first_joined)) {
        npy_intp size = BUFFER_NBYTES;
        job->buffer = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_UINT8);
        status = job->buffer == NULL ? -1 : 0;
    }
    status = status < 0 ? -1 : store_axes(job, 0, job->to, job->from);
    Py_CLEAR(job->buffer);
    if (job->error_type != NULL && status == 0) {
        PyErr_Restore(job->error_type, job->error, job->trace);
        return -1;
    }
    Py_XDECREF(job->error_type);
    Py_XDECREF(job->error);
    Py_XDECREF(job->trace);
    return status;
}

/* ---- What is for us ---- */

/* Assign to all of a view. Returns 1, 0 where NumPy should do it, -1 with an exception. */
static int
store_into(PyArrayObject *view, PyObject *value)
{
    storing job = {.mapping = view_mapping((PyObject *)view), .to_type = PyArray_DESCR(view), .to = PyArray_BYTES(view)};
    npy_intp strides[NPY_MAXDIMS];
    if (job.mapping == NULL || PyArray_NBYTES(view) < LARGE_NBYTES || !PyArray_ISWRITEABLE(view) ||
        job.mapping->map.access != ND_WRITE || job.mapping->map.block != NULL || job.mapping->map.lost.count > 0 ||
        !is_solid(job.to_type)) {
        return 0;
    }
    PyArrayObject *values = rows_values(view, value);
    if (values == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    job.values = values;
    job.from = PyArray_BYTES(values);
    job.from_type = PyArray_DESCR(values);
    int status = 0;
    bool is_ours = rows_broadcast(values, PyArray_NDIM(view), PyArray_DIMS(view), strides) &&
                   !rows_lie_in(&job.mapping->map, values) && job.to_type->elsize > 0;
    if (is_ours) {
        set_axes(&job, view, strides);
        is_ours = join_axes(&job) >= PART_NBYTES && !view_is_cut((PyObject *)view);
    }
    if (is_ours) {
        status = store_all(&job) < 0 ? -1 : 1;
        bool is_behind_end = job.mapping->shrunk && view_has_lost_items((PyObject *)view, job.mapping);
        if (status > 0 && (is_behind_end || view_is_cut((PyObject *)view))) {
            status = fault_raise(job.mapping, "write");
        }
    }
    Py_DECREF(values);
    return status < 0 && nd_fault_is_pending() ? 1 : status; /* the fault is raised by whoever called */
}

/* No less than the bytes that an index names, as far as that is quickly told; 0, maybe with an exception, for one that is not
 * basic. */
static npy_intp
most_nbytes(PyArrayObject *self, PyObject *index)
{
    npy_intp nbytes = PyArray_NBYTES(self);
    if (nbytes < LARGE_NBYTES || PyArray_NDIM(self) == 0 || index == Py_Ellipsis) {
        return nbytes;
    }
    PyObject *first = index;
    if (PyTuple_CheckExact(index)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(index); i++) {
            PyObject *one = PyTuple_GET_ITEM(index, i);
            if (!PyLong_CheckExact(one) && !PySlice_Check(one) && one != Py_Ellipsis) {
                return 0;
            }
        }
        first = PyTuple_GET_SIZE(index) > 0 ? PyTuple_GET_ITEM(index, 0) : Py_Ellipsis;
    }
    npy_intp rows = PyArray_DIM(self, 0);
    if (PyLong_CheckExact(first)) {
        return nbytes / rows;
    }
    if (!PySlice_Check(first)) {
        return first == Py_Ellipsis ? nbytes : 0;
    }
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(first, &start, &stop, &step) < 0) {
        view_leave_error_to_numpy();
        return 0;
    }
    return nbytes / rows * PySlice_AdjustIndices(rows, &start, &stop, step);
}

int
store_assign(PyArrayObject *self, PyObject *index, PyObject *value)
{
    if (most_nbytes(self, index) < LARGE_NBYTES) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyArrayObject *view = (PyArrayObject *)PyArray_Type.tp_as_mapping->mp_subscript((PyObject *)self, index);
    if (view == NULL) {
        view_leave_error_to_numpy();
        return PyErr_Occurred() ? -1 : 0;
    }
    int status = PyArray_Check(view) ? store_into(view, value) : 0;
    Py_DECREF(view);
    return status;
}

PyObject *
store_fill(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (nargs != 1 || (names != NULL && PyTuple_GET_SIZE(names) > 0) || PyArray_Check(args[0])) {
        return NULL;
    }
    int status = store_into((PyArrayObject *)self, args[0]);
    return status > 0 ? Py_NewRef(Py_None) : NULL;
}
