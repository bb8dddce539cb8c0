/* The Python face of tally.c and bins.c: what is counted are plain arrays, and counts are int64. */
#include "counting.h"

#include "bins.h"
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

typedef bool binning(const void *, size_t, const void *, size_t, int64_t *);

/* The way for values of a type, or NULL. */
static binning *
binning_of(PyArrayObject *values)
{
    char kind = PyArray_DESCR(values)->kind;
    npy_intp nbytes = PyArray_ITEMSIZE(values);
    if (kind == 'f') {
        return nbytes == sizeof(float) ? nd_bin_float : nbytes == sizeof(double) ? nd_bin_double : NULL;
    }
    if (kind == 'i') {
        return nbytes == sizeof(int32_t) ? nd_bin_int32 : nbytes == sizeof(int64_t) ? nd_bin_int64 : NULL;
    }
    if (kind == 'u') {
        return nbytes == sizeof(uint32_t) ? nd_bin_uint32 : nbytes == sizeof(uint64_t) ? nd_bin_uint64 : NULL;
    }
    return NULL;
}

const char counting_count_bins_doc[] =
    PyDoc_STR("count_bins(values, thresholds, counts, /)\n--\n\n"
              "Add to counts, of one int64 more than there are thresholds, how many values have so many thresholds that are "
              "not above them. Values are floats or integers of 4 or 8 bytes; thresholds are float32 for float32 and "
              "float64 for the others, which are compared as such. They must not decrease; the last may be NaN, which no "
              "value reaches.");

PyObject *
counting_count_bins(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "count_bins() takes three arrays");
        return NULL;
    }
    PyArrayObject *values = (PyArrayObject *)args[0], *thresholds = (PyArrayObject *)args[1];
    binning *bin = is_plain(args[0]) ? binning_of(values) : NULL;
    if (bin == NULL) {
        PyErr_SetString(PyExc_TypeError, "values must be a plain array of floats or integers of 4 or 8 bytes");
        return NULL;
    }
    if (!is_plain(args[1]) || PyArray_TYPE(thresholds) != (bin == nd_bin_float ? NPY_FLOAT : NPY_DOUBLE)) {
        PyErr_SetString(PyExc_TypeError, "thresholds must be a plain array of float32 for float32, of float64 for others");
        return NULL;
    }
    npy_intp edges = PyArray_DIM(thresholds, 0);
    if (edges < 1 || edges > BINS_MOST_THRESHOLDS) {
        return PyErr_Format(PyExc_ValueError, "there must be from 1 to %d thresholds, not %zd", BINS_MOST_THRESHOLDS,
                            (Py_ssize_t)edges);
    }
    int64_t *counts = counts_of(args[2], edges + 1);
    if (counts == NULL) {
        return NULL;
    }
    bool is_done;
    Py_BEGIN_ALLOW_THREADS
    is_done = bin(PyArray_DATA(values), (size_t)PyArray_SIZE(values), PyArray_DATA(thresholds), (size_t)edges, counts);
    Py_END_ALLOW_THREADS
    if (!is_done) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}
