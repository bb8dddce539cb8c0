#include "take.h"

#include "rows.h"
#include "view.h"
#include "way.h"

typedef struct {
    PyObject *indices, *axis, *out, *mode;
} take_arguments;

static bool
parse_take(take_arguments *found, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    static const char *const NAMES[] = {"indices", "axis", "out", "mode"};
    PyObject **places[] = {&found->indices, &found->axis, &found->out, &found->mode};
    *found = (take_arguments){.axis = Py_None, .out = Py_None};
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (nargs + named > 4) {
        return false;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        *places[i] = args[i];
    }
    for (Py_ssize_t i = 0; i < named; i++) {
        int place = 0;
        while (place < 4 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), NAMES[place]) != 0) {
            place++;
        }
        if (place == 4 || place < nargs) {
            return false;
        }
        *places[place] = args[nargs + i];
    }
    return found->indices != NULL;
}

static bool
names_first_axis(PyArrayObject *self, PyObject *number)
{
    int ndim = PyArray_NDIM(self);
    long place = PyLong_CheckExact(number) ? PyLong_AsLong(number) : number == Py_None && ndim == 1 ? 0 : 1;
    if (place == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return ndim > 0 && (place == 0 || place == -ndim);
}

/* The numbers that take() means by these indices, or NULL. */
static PyArrayObject *
numbers_to_take(PyArrayObject *self, const take_arguments *given)
{
    bool is_array = rows_is_plain(given->indices);
    if (!is_array && !PyList_CheckExact(given->indices)) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(given->indices);
    static const char *const MODES[] = {"raise", "clip", "wrap"};
    int mode = 0;
    while (given->mode != NULL && mode < 3 && PyUnicode_CompareWithASCIIString(given->mode, MODES[mode]) != 0) {
        mode++;
    }
    bool is_safe = array != NULL && mode < 3 && PyArray_ISINTEGER(array) && PyArray_NDIM(array) > 0 &&
                   PyArray_CanCastSafely(PyArray_TYPE(array), NPY_INTP);
    PyArrayObject *numbers = NULL;
    if (is_safe) {
        int flags = mode == 0 ? NPY_ARRAY_IN_ARRAY : NPY_ARRAY_IN_ARRAY | NPY_ARRAY_ENSURECOPY | NPY_ARRAY_WRITEABLE;
        numbers = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_INTP, flags);
    }
    Py_XDECREF(array);
    if (numbers == NULL) {
        view_leave_error_to_numpy();
        return NULL;
    }
    npy_intp *index = PyArray_DATA(numbers), count = PyArray_SIZE(numbers), rows = PyArray_DIM(self, 0);
    for (npy_intp i = 0; i < count && mode == 1 && rows > 0; i++) {
        index[i] = index[i] < 0 ? 0 : index[i] >= rows ? rows - 1 : index[i];
    }
    for (npy_intp i = 0; i < count && mode == 2 && rows > 0; i++) {
        npy_intp rest = index[i] % rows;
        index[i] = rest < 0 ? rest + rows : rest;
    }
    if (!rows_are_all(numbers, rows)) {
        Py_CLEAR(numbers);
    }
    return numbers;
}

static bool
overlap(PyArrayObject *a, PyArrayObject *b)
{
    char *low, *high, *other_low, *other_high;
    view_extent(a, &low, &high);
    view_extent(b, &other_low, &other_high);
    return low < other_high && other_low < high;
}

/* True if rows can go right into an array: of the same shape and dtype, in order 'C', and neither of the mapping itself nor of
 * the index. */
static bool
can_take_into(PyArrayObject *self, PyArrayObject *numbers, PyObject *out)
{
    npy_intp shape[NPY_MAXDIMS];
    int ndim = rows_shape(self, numbers, shape);
    if (!rows_is_plain(out) || ndim == 0) {
        return false;
    }
    PyArrayObject *into = (PyArrayObject *)out;
    return PyArray_NDIM(into) == ndim && PyArray_CompareLists(PyArray_DIMS(into), shape, ndim) &&
           PyArray_EquivTypes(PyArray_DESCR(into), PyArray_DESCR(self)) && PyArray_IS_C_CONTIGUOUS(into) &&
           PyArray_ISWRITEABLE(into) && !rows_lie_in(&view_mapping((PyObject *)self)->map, into) &&
           !overlap(numbers, into);
}

PyObject *
take_rows(PyObject *object, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PyArrayObject *self = (PyArrayObject *)object;
    take_arguments given;
    MappingObject *mapping = view_mapping(object);
    if (mapping == NULL || !view_gives_plain_results(Py_TYPE(object)) || !parse_take(&given, args, nargs, names) ||
        (given.mode != NULL && !PyUnicode_Check(given.mode))) {
        return NULL;
    }
    if (given.axis == Py_None && PyArray_NDIM(self) > 1 && PyArray_IS_C_CONTIGUOUS(self)) {
        PyObject *flat = PyArray_Ravel(self, NPY_CORDER), *result;
        result = flat == NULL ? NULL : take_rows(flat, args, nargs, names);
        Py_XDECREF(flat);
        return result;
    }
    PyArrayObject *numbers = names_first_axis(self, given.axis) ? numbers_to_take(self, &given) : NULL;
    PyObject *result = NULL;
    if (numbers != NULL && given.out == Py_None) {
        result = rows_gathered(self, numbers, true);
    }
    else if (numbers != NULL && can_take_into(self, numbers, given.out) &&
             rows_gather(self, mapping, numbers, (PyArrayObject *)given.out) == 0) {
        result = Py_NewRef(given.out);
    }
    Py_XDECREF(numbers);
    return result;
}

/* Whether a function of Python's calls, by its name and its module's. */
static bool
is_called_by(const char *function, const char *module)
{
    PyFrameObject *frame = PyEval_GetFrame(); /* SAFE: borrowed, and running as long as we are */
    if (frame == NULL) {
        return false;
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is_so = PyUnicode_CompareWithASCIIString(code->co_name, function) == 0;
    Py_DECREF(code);
    if (is_so) {
        PyObject *globals = PyFrame_GetGlobals(frame), *name = PyDict_GetItemString(globals, "__name__");
        is_so = name != NULL && PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, module) == 0;
        Py_DECREF(globals);
    }
    return is_so;
}

/* dask copies an array, since it could change before it is used, and goes on with the copy: what it gets instead reads the
 * file when it is used, and tells if that has changed. NULL without an exception where it is to be a copy. */
static PyObject *
copy_for_dask(PyObject *object)
{
    PyObject *module = PyImport_ImportModule("ndfile.interop.dask_source");
    PyObject *result = module == NULL ? NULL : PyObject_CallMethod(module, "lazily", "O", object);
    Py_XDECREF(module);
    if (result == Py_None) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
take_copy(PyObject *object, PyObject *const *Py_UNUSED(args), Py_ssize_t nargs, PyObject *names)
{
    PyArrayObject *self = (PyArrayObject *)object;
    MappingObject *mapping = view_mapping(object);
    bool is_simple = nargs == 0 && (names == NULL || PyTuple_GET_SIZE(names) == 0);
    if (mapping == NULL || !is_simple || PyArray_NBYTES(self) < VIEW_BULK_NBYTES) {
        return NULL;
    }
    if (is_called_by("from_array", "dask.array.core")) {
        PyObject *lazy = copy_for_dask(object);
        if (lazy != NULL || PyErr_Occurred()) {
            return lazy;
        }
    }
    if (!PyArray_IS_C_CONTIGUOUS(self) || !view_gives_plain_results(Py_TYPE(object))) {
        return NULL;
    }
    int fd = way_to_read(mapping);
    PyArray_Descr *dtype = PyArray_DESCR(self);
    Py_INCREF(dtype);
    PyObject *copy = fd < 0 ? (Py_DECREF(dtype), NULL)
                            : PyArray_SimpleNewFromDescr(PyArray_NDIM(self), PyArray_DIMS(self), dtype);
    if (copy == NULL) {
        return NULL;
    }
    enum { PIECE_NBYTES = 1 << 20 };
    size_t nbytes = (size_t)PyArray_NBYTES(self), whole = nbytes / PIECE_NBYTES;
    nd_rows rows = {
        .mapping = &mapping->map,
        .fd = fd,
        .count = whole,
        .rows = whole,
        .mapped = PyArray_BYTES(self),
        .mapped_stride = PIECE_NBYTES,
        .memory = PyArray_BYTES((PyArrayObject *)copy),
        .memory_stride = PIECE_NBYTES,
        .piece_nbytes = PIECE_NBYTES,
    };
    nd_rows rest = rows;
    rest.count = rest.rows = 1;
    rest.mapped += whole * PIECE_NBYTES;
    rest.memory += whole * PIECE_NBYTES;
    rest.piece_nbytes = nbytes - whole * PIECE_NBYTES;
    if (rows_move(self, mapping, &rows, "read") < 0 || rows_move(self, mapping, &rest, "read") < 0) {
        Py_CLEAR(copy);
    }
    return copy;
}
