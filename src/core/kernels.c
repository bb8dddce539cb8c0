#include "kernels.h"

#include "moments.h"
#include "sums.h"

/* The kind of an array's items, or -1 with an exception. */
static int
kind_of(PyArrayObject *block)
{
    switch (PyArray_TYPE(block)) {
    case NPY_BOOL: return ND_BOOL;
    case NPY_FLOAT: return ND_F4;
    case NPY_DOUBLE: return ND_F8;
    default: break;
    }
    npy_intp itemsize = PyArray_ITEMSIZE(block);
    bool is_unsigned = PyTypeNum_ISUNSIGNED(PyArray_TYPE(block)), is_integer = PyTypeNum_ISINTEGER(PyArray_TYPE(block));
    for (int kind = ND_I1; kind <= ND_U8 && is_integer; kind += 2) {
        if ((npy_intp)nd_itemsize((nd_kind)kind) == itemsize) {
            return kind + is_unsigned;
        }
    }
    PyErr_Format(PyExc_TypeError, "a block of bool, integers, float32 or float64 is wanted, not %S", PyArray_DESCR(block));
    return -1;
}

/* Returns 0, or -1 with an exception. */
static int
slab_of(PyObject *object, nd_slab *slab)
{
    if (!PyArray_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a block is an array, not %s", Py_TYPE(object)->tp_name);
        return -1;
    }
    PyArrayObject *block = (PyArrayObject *)object;
    int kind = kind_of(block);
    if (kind < 0) {
        return -1;
    }
    if (PyArray_NDIM(block) != 4 || !PyArray_ISALIGNED(block) || !PyArray_ISNOTSWAPPED(block)) {
        PyErr_SetString(PyExc_ValueError, "a block has 4 axes, and its items are aligned and in the machine's byte order");
        return -1;
    }
    const npy_intp *shape = PyArray_DIMS(block), *strides = PyArray_STRIDES(block), itemsize = PyArray_ITEMSIZE(block);
    if (shape[3] > 1 ? strides[3] != itemsize : shape[2] > 1 && strides[2] != itemsize) {
        PyErr_SetString(PyExc_ValueError, "a block's items lie side by side along its last axis with more than one of them");
        return -1;
    }
    *slab = (nd_slab){
        .kind = (nd_kind)kind,
        .items = PyArray_BYTES(block),
        .turns = (size_t)shape[0],
        .outer = (size_t)shape[1],
        .reduced = (size_t)shape[2],
        .inner = (size_t)shape[3],
        .turn_stride = strides[0],
        .outer_stride = strides[1],
        .reduced_stride = strides[2],
    };
    return 0;
}

static PyArrayObject *
zeros(const nd_slab *slab, int type)
{
    npy_intp shape[2] = {(npy_intp)slab->outer, (npy_intp)slab->inner};
    return (PyArrayObject *)PyArray_ZEROS(2, shape, type, 0);
}

static PyObject *
or_none(PyArrayObject *array)
{
    return array == NULL ? Py_NewRef(Py_None) : (PyObject *)array;
}

/* Whether an argument is true, or -1 with an exception. */
static int
flag(PyObject *const *args, Py_ssize_t nargs, Py_ssize_t index, const char *usage)
{
    if (nargs <= index) {
        PyErr_SetString(PyExc_TypeError, usage);
        return -1;
    }
    return PyObject_IsTrue(args[index]);
}

PyObject *
kernels_sums(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    nd_slab slab;
    int skip_nan = flag(args, nargs == 2 ? nargs : 0, 1, "block_sums() takes a block and skip_nan");
    if (skip_nan < 0 || slab_of(args[0], &slab) < 0) {
        return NULL;
    }
    bool are_floats = slab.kind >= ND_F4, is_exceptional;
    skip_nan = skip_nan && are_floats;
    PyArrayObject *totals = zeros(&slab, are_floats ? NPY_FLOAT64 : NPY_INT64);
    PyArrayObject *errors = are_floats ? zeros(&slab, NPY_FLOAT64) : NULL, *nans = skip_nan ? zeros(&slab, NPY_INT64) : NULL;
    if (PyErr_Occurred()) {
        Py_XDECREF(totals);
        Py_XDECREF(errors);
        Py_XDECREF(nans);
        return NULL;
    }
    nd_sums sums = {
        .integers = are_floats ? NULL : PyArray_DATA(totals), /* SAFE: int64 may be written as uint64 */
        .totals = are_floats ? PyArray_DATA(totals) : NULL,
        .errors = are_floats ? PyArray_DATA(errors) : NULL,
        .nans = skip_nan ? PyArray_DATA(nans) : NULL,
        .skip_nan = skip_nan,
    };
    Py_BEGIN_ALLOW_THREADS
    is_exceptional = nd_sum(&slab, &sums);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("NNNN", totals, or_none(errors), or_none(nans), PyBool_FromLong(is_exceptional));
}

PyObject *
kernels_moments(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    static const char usage[] = "block_moments() takes a block, skip_nan and extremes";
    nd_slab slab;
    int skip_nan = flag(args, nargs == 3 ? nargs : 0, 1, usage);
    int with_extremes = skip_nan < 0 ? -1 : flag(args, nargs, 2, usage);
    if (with_extremes < 0 || slab_of(args[0], &slab) < 0) {
        return NULL;
    }
    if (with_extremes && slab.turns * slab.reduced == 0) {
        PyErr_SetString(PyExc_ValueError, "no items have no extremes");
        return NULL;
    }
    int type = PyArray_TYPE((PyArrayObject *)args[0]);
    enum { COUNTS, MEANS, ERRORS, M2, LOW, HIGH, NANS, ARRAYS };
    const int types[ARRAYS] = {NPY_FLOAT64, NPY_FLOAT64, NPY_FLOAT64, NPY_FLOAT64, type, type, NPY_INT64};
    PyArrayObject *made[ARRAYS] = {NULL};
    void *data[ARRAYS] = {NULL};
    for (int i = 0; i < (with_extremes ? ARRAYS : LOW); i++) {
        made[i] = zeros(&slab, types[i]);
        if (made[i] == NULL) {
            for (int k = 0; k < i; k++) {
                Py_DECREF(made[k]);
            }
            return NULL;
        }
        data[i] = PyArray_DATA(made[i]);
    }
    nd_extremes extremes = {.low = data[LOW], .high = data[HIGH], .nans = data[NANS], .skip_nan = skip_nan};
    nd_moments moments = {
        .counts = data[COUNTS],
        .means = data[MEANS],
        .errors = data[ERRORS],
        .m2 = data[M2],
        .extremes = with_extremes ? &extremes : NULL,
        .skip_nan = skip_nan,
    };
    size_t places = slab.outer * slab.inner;
    bool is_exceptional;
    Py_BEGIN_ALLOW_THREADS
    if (with_extremes) {
        nd_begin_extremes(slab.kind, places, &extremes);
    }
    is_exceptional = nd_find_moments(&slab, &moments);
    if (with_extremes) {
        nd_end_extremes(slab.kind, places, slab.turns * slab.reduced, &extremes);
    }
    Py_END_ALLOW_THREADS
    return Py_BuildValue("NNNNNNNN", made[COUNTS], made[MEANS], made[ERRORS], made[M2], or_none(made[LOW]),
                         or_none(made[HIGH]), or_none(made[NANS]), PyBool_FromLong(is_exceptional));
}
