/* The Python face of tally.c and bins.c: what is counted are plain arrays, and counts are int64. */
#include "counting.h"

#include "tally.h"

/* One axis, native, aligned and without gaps. */
static bool
is_plain(PyObject *object)
{
    return PyArray_Check(object) && PyArray_NDIM((PyArrayObject *)object) == 1 &&
           PyArray_ISCARRAY_RO((PyArrayObject *)object);
}

/* The numbers of such an array of int64, if it has so many and may be written to. */
static int64_t *
counts_of(PyObject *object, npy_intp length)
{
    if (!is_plain(object) || !PyArray_ISWRITEABLE((PyArrayObject *)object) ||
        !PyArray_ISSIGNED((PyArrayObject *)object) || PyArray_ITEMSIZE((PyArrayObject *)object) != sizeof(int64_t) ||
        PyArray_DIM((PyArrayObject *)object, 0) != length) {
        PyErr_Format(PyExc_TypeError, "counts must be a plain array of %zd int64 that may be written to",
                     (Py_ssize_t)length);
        return NULL;
    }
    return PyArray_DATA((PyArrayObject *)object);
}

const char counting_tally_doc[] =
    PyDoc_STR("tally(values, counts, /)\n--\n\n"
              "Add to counts, of 256 or 65536 int64, how often each value of one or two bytes occurs: integers or bools, at "
              "the place that their bits are as an unsigned number.");

PyObject *
counting_tally(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "tally() takes two arrays");
        return NULL;
    }
    PyArrayObject *values = (PyArrayObject *)args[0];
    if (!is_plain(args[0]) || !(PyArray_ISINTEGER(values) || PyArray_ISBOOL(values)) ||
        PyArray_ITEMSIZE(values) > (npy_intp)sizeof(uint16_t)) {
        PyErr_SetString(PyExc_TypeError, "values must be a plain array of integers of one or two bytes, or of bools");
        return NULL;
    }
    bool is_bytes = PyArray_ITEMSIZE(values) == 1;
    int64_t *counts = counts_of(args[1], is_bytes ? TALLY_BYTES : TALLY_PAIRS);
    if (counts == NULL) {
        return NULL;
    }
    bool is_done = true;
    Py_BEGIN_ALLOW_THREADS
    if (is_bytes) {
        nd_tally_bytes(PyArray_DATA(values), (size_t)PyArray_SIZE(values), counts);
    } else {
        is_done = nd_tally_pairs(PyArray_DATA(values), (size_t)PyArray_SIZE(values), counts);
    }
    Py_END_ALLOW_THREADS
    if (!is_done) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}
