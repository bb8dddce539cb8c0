/* Arguments of select.c's functions: checked, and the loops run without the GIL. */
#include "selection.h"

#include "array.h"
#include "select.h"

const char selection_count_digits_doc[] =
    PyDoc_STR("count_digits(values, low, shift, tables, /)\n--\n\n"
              "Add to tables[copy, (key - low) >> shift], for the first or last digit if there is none such; gives the number "
              "of NaNs. Only the sum over the copies means something.");

const char selection_count_within_doc[] =
    PyDoc_STR("count_within(values, lows, highs, shifts, tables, /)\n--\n\n"
              "Add to tables[range, (key - low) >> shift] how many keys from low to high there are.");

const char selection_collect_within_doc[] =
    PyDoc_STR("collect_within(values, lows, highs, found, place, /)\n--\n\n"
              "Append the keys from each low to its high to `found`, from place[0] on, which is moved on.");

/* Native, aligned and without gaps. */
static bool
is_plain(PyArrayObject *array, int ndim)
{
    return PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array);
}

static bool
is_filled_with(PyArrayObject *array, int ndim, char kind, npy_intp itemsize)
{
    return is_plain(array, ndim) && PyArray_ISWRITEABLE(array) && PyArray_DESCR(array)->kind == kind &&
           PyArray_ITEMSIZE(array) == itemsize;
}

static bool
has_keys(PyArrayObject *array, nd_values *values)
{
    const char kind = PyArray_DESCR(array)->kind;
    const npy_intp itemsize = PyArray_ITEMSIZE(array);
    if (!is_plain(array, 1) || (kind != 'u' && kind != 'i' && kind != 'f') || (itemsize != 4 && itemsize != 8)) {
        PyErr_SetString(PyExc_TypeError, "values must be a plain array of numbers of 4 or 8 bytes");
        return false;
    }
    const nd_number number = kind == 'f' ? ND_FLOAT : kind == 'i' ? ND_SIGNED : ND_UNSIGNED;
    *values = (nd_values){.items = PyArray_DATA(array), .count = (size_t)PyArray_SIZE(array), .itemsize = (size_t)itemsize,
                          .order = nd_key_order_of(number, (size_t)itemsize)};
    return true;
}

/* The number of bits that tells so many things apart, or -1 if it is not a power of two up to 2**most. */
static int
bits_of(npy_intp count, int most)
{
    for (int bits = 0; bits <= most; bits++) {
        if (count == (npy_intp)1 << bits) {
            return bits;
        }
    }
    return -1;
}

enum { MOST_DIGIT_BITS = 16, MOST_COPIES_BITS = 4 };

PyObject *
selection_count_digits(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyArrayObject *array, *tables;
    nd_values values;
    long long low;
    int shift;
    if (!PyArg_ParseTuple(args, "O!LiO!:count_digits", &PyArray_Type, &array, &low, &shift, &PyArray_Type, &tables) ||
        !has_keys(array, &values)) {
        return NULL;
    }
    const bool is_table = is_filled_with(tables, 2, 'u', 4);
    const int copies_bits = is_table ? bits_of(PyArray_DIM(tables, 0), MOST_COPIES_BITS) : -1;
    const int bits = is_table ? bits_of(PyArray_DIM(tables, 1), MOST_DIGIT_BITS) : -1;
    if (copies_bits < 0 || bits < 1) {
        PyErr_SetString(PyExc_TypeError, "tables must be a plain array of uint32, (1 to 16 copies, 2**bits of the digit)");
        return NULL;
    }
    const int key_bits = 8 * (int)values.itemsize;
    if (shift < 0 || bits + shift > key_bits || (key_bits == 32 && (low < INT32_MIN || low > INT32_MAX))) {
        PyErr_SetString(PyExc_ValueError, "the window is larger than the keys");
        return NULL;
    }
    const nd_key_window window = {.low = low, .bits = bits, .shift = shift};
    uint32_t *counts = PyArray_DATA(tables);
    int64_t nans;
    Py_BEGIN_ALLOW_THREADS
    /* SAFE: a digit is below 2**bits; the arguments hold both arrays. */
    nans = nd_count_digits(values, window, counts, 1 << copies_bits);
    Py_END_ALLOW_THREADS
    return PyLong_FromLongLong(nans);
}

static bool
has_ranges(PyArrayObject *lows, PyArrayObject *highs, size_t itemsize, nd_key_ranges *ranges)
{
    if (!is_filled_with(lows, 1, 'i', 8) || !is_filled_with(highs, 1, 'i', 8) || PyArray_SIZE(lows) < 1 ||
        PyArray_SIZE(lows) != PyArray_SIZE(highs)) {
        PyErr_SetString(PyExc_TypeError, "lows and highs must be plain arrays of int64, as many of the one as of the other");
        return false;
    }
    *ranges = (nd_key_ranges){.lows = PyArray_DATA(lows), .highs = PyArray_DATA(highs), .count = (size_t)PyArray_SIZE(lows)};
    for (size_t i = 0; i < ranges->count; i++) {
        if (ranges->highs[i] < ranges->lows[i] || (i > 0 && ranges->lows[i] <= ranges->highs[i - 1])) {
            PyErr_SetString(PyExc_ValueError, "ranges must be ascending and apart");
            return false;
        }
    }
    if (itemsize == 4 && (ranges->lows[0] < INT32_MIN || ranges->highs[ranges->count - 1] > INT32_MAX)) {
        PyErr_SetString(PyExc_ValueError, "the ranges are larger than the keys");
        return false;
    }
    return true;
}

static bool
are_shifts(PyArrayObject *shifts, size_t count, size_t itemsize)
{
    if (!is_filled_with(shifts, 1, 'i', 8) || (size_t)PyArray_SIZE(shifts) != count) {
        return false;
    }
    const int64_t *shift = PyArray_DATA(shifts);
    for (size_t i = 0; i < count; i++) {
        if (shift[i] < 0 || (size_t)shift[i] >= 8 * itemsize) {
            return false;
        }
    }
    return true;
}

PyObject *
selection_count_within(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyArrayObject *array, *lows, *highs, *shifts, *tables;
    nd_values values;
    nd_key_ranges ranges;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!:count_within", &PyArray_Type, &array, &PyArray_Type, &lows, &PyArray_Type, &highs,
                          &PyArray_Type, &shifts, &PyArray_Type, &tables) ||
        !has_keys(array, &values) || !has_ranges(lows, highs, values.itemsize, &ranges)) {
        return NULL;
    }
    const bool is_table = is_filled_with(tables, 2, 'u', 4) && (size_t)PyArray_DIM(tables, 0) == ranges.count;
    const int bits = is_table ? bits_of(PyArray_DIM(tables, 1), MOST_DIGIT_BITS) : -1;
    if (bits < 0 || !are_shifts(shifts, ranges.count, values.itemsize)) {
        PyErr_SetString(PyExc_TypeError, "shifts must be int64, and tables uint32, (ranges, 2**bits of the digit)");
        return NULL;
    }
    const int64_t *shift = PyArray_DATA(shifts);
    uint32_t *counts = PyArray_DATA(tables);
    Py_BEGIN_ALLOW_THREADS
    /* SAFE: there is a table for each range, and a digit behind its end counts as the last one. */
    nd_count_within(values, ranges, shift, counts, bits);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject *
selection_collect_within(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyArrayObject *array, *lows, *highs, *found, *place;
    nd_values values;
    nd_key_ranges ranges;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!:collect_within", &PyArray_Type, &array, &PyArray_Type, &lows, &PyArray_Type,
                          &highs, &PyArray_Type, &found, &PyArray_Type, &place) ||
        !has_keys(array, &values) || !has_ranges(lows, highs, values.itemsize, &ranges)) {
        return NULL;
    }
    if (!is_filled_with(found, 1, 'i', PyArray_ITEMSIZE(array)) || !is_filled_with(place, 1, 'i', 8) ||
        PyArray_SIZE(place) != 1) {
        PyErr_SetString(PyExc_TypeError, "found must be a plain array of integers as long as the values, place one int64");
        return NULL;
    }
    void *keys = PyArray_DATA(found);
    int64_t *next = PyArray_DATA(place);
    const int64_t room = PyArray_SIZE(found);
    Py_BEGIN_ALLOW_THREADS
    nd_collect_within(values, ranges, keys, room, next);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}
