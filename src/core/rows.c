#include "rows.h"

#include "fault_error.h"
#include "pages.h"
#include "view.h"
#include "way.h"

#include <string.h>

/* ---- Which rows ---- */

static npy_intp
count_of(PyArrayObject *self)
{
    return PyArray_NDIM(self) > 0 ? PyArray_DIM(self, 0) : 0;
}

bool
rows_is_plain(PyObject *object)
{
    return PyArray_CheckExact(object) || (PyArray_Check(object) && view_gives_plain_results(Py_TYPE(object)));
}

/* A list or array as an array of whole numbers, or NULL. */
static PyArrayObject *
numbers_in(PyArrayObject *self, PyObject *index)
{
    PyArrayObject *array = NULL;
    if (rows_is_plain(index)) {
        array = (PyArrayObject *)Py_NewRef(index);
    }
    else if (PyList_CheckExact(index) && PyList_GET_SIZE(index) > 0) {
        array = (PyArrayObject *)PyArray_FROM_O(index);
        if (array == NULL) {
            view_leave_error_to_numpy();
        }
    }
    if (array == NULL) {
        return NULL;
    }
    PyArrayObject *numbers = NULL;
    int ndim = PyArray_NDIM(array);
    if (PyArray_ISINTEGER(array) && ndim > 0) {
        numbers = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_INTP,
                                                    NPY_ARRAY_IN_ARRAY | NPY_ARRAY_FORCECAST);
        /* NumPy gives such a result the layout of the index. */
        if (numbers != NULL && ndim > 1 && PyArray_NDIM(self) == 1 && !PyArray_IS_C_CONTIGUOUS(array)) {
            Py_CLEAR(numbers);
        }
    }
    else if (PyArray_ISBOOL(array) && ndim == 1 && PyArray_DIM(array, 0) == count_of(self)) {
        PyObject *places = PyArray_Nonzero(array);
        numbers = places == NULL ? NULL : (PyArrayObject *)Py_NewRef(PyTuple_GET_ITEM(places, 0));
        Py_XDECREF(places);
    }
    Py_DECREF(array);
    return numbers;
}

bool
rows_are_all(PyArrayObject *numbers, npy_intp rows)
{
    const npy_intp *index = PyArray_DATA(numbers);
    npy_intp count = PyArray_SIZE(numbers), low = 0, high = -1;
    for (npy_intp i = 0; i < count; i++) {
        low = index[i] < low ? index[i] : low;
        high = index[i] > high ? index[i] : high;
    }
    return low >= -rows && high < rows;
}

PyArrayObject *
rows_numbers(PyArrayObject *self, PyObject *index)
{
    PyArrayObject *numbers = PyArray_NDIM(self) > 0 ? numbers_in(self, index) : NULL;
    if (numbers != NULL && !rows_are_all(numbers, count_of(self))) {
        Py_CLEAR(numbers);
    }
    return numbers;
}

/* ---- What a row is ---- */

static npy_intp
magnitude(npy_intp step)
{
    return step < 0 ? -step : step;
}

int
rows_axes(PyArrayObject *array, int first, const npy_intp *memory_strides, rows_axis *axes)
{
    int count = 0;
    for (int i = first; i < PyArray_NDIM(array); i++) {
        rows_axis one = {PyArray_DIM(array, i), PyArray_STRIDE(array, i), memory_strides == NULL ? 0 : memory_strides[i]};
        if (one.size == 1) {
            continue;
        }
        int place = count++;
        for (; place > 0 && magnitude(axes[place - 1].mapped) < magnitude(one.mapped); place--) {
            axes[place] = axes[place - 1];
        }
        axes[place] = one;
    }
    return count;
}

/* Let a row be what these axes make of it: pieces that lie together on both sides. */
static void
set_pieces(nd_rows *rows, rows_axis *axes, int count, npy_intp itemsize)
{
    npy_intp piece = itemsize;
    while (count > 0 && axes[count - 1].mapped == piece && axes[count - 1].memory == piece) {
        piece *= axes[--count].size;
    }
    rows->piece_nbytes = (size_t)piece;
    rows->ndim = 0;
    for (int i = 0; i < count; i++) {
        int last = rows->ndim - 1;
        rows_axis one = axes[i];
        if (last >= 0 && rows->mapped_strides[last] == one.size * one.mapped &&
            rows->memory_strides[last] == one.size * one.memory) {
            rows->shape[last] *= (size_t)one.size; /* the two are one */
            rows->mapped_strides[last] = one.mapped;
            rows->memory_strides[last] = one.memory;
            continue;
        }
        rows->shape[rows->ndim] = (size_t)one.size;
        rows->mapped_strides[rows->ndim] = one.mapped;
        rows->memory_strides[rows->ndim++] = one.memory;
    }
}

static nd_rows
rows_of(PyArrayObject *self, MappingObject *mapping, PyArrayObject *numbers, bool is_store)
{
    return (nd_rows){
        .mapping = &mapping->map,
        .is_store = is_store,
        .fd = -1,
        .index = PyArray_DATA(numbers),
        .count = (size_t)PyArray_SIZE(numbers),
        .mapped = PyArray_BYTES(self),
        .rows = (size_t)count_of(self),
        .mapped_stride = PyArray_STRIDE(self, 0),
    };
}

bool
rows_lie_in(const nd_mapping *mapping, PyArrayObject *array)
{
    char *low, *high;
    view_extent(array, &low, &high);
    return low < mapping->range + mapping->range_size && high > mapping->range;
}

/* True if the array or the file ended before one of the rows did when they were moved: the rest of the last page reads as
 * zeros, without a fault. */
static bool
has_lost_ends(PyArrayObject *self, MappingObject *mapping, const nd_rows *rows)
{
    const nd_mapping *map = &mapping->map;
    if (mapping->shrunk && nd_end_of_rows(rows) > map->data + map->nbytes) {
        return true; /* by another thread, or it would have been refused */
    }
    int64_t size;
    /* Through a file system of another machine's a read may be short, or zeros, while somebody cuts the file there. */
    bool is_bulk = rows->count * nd_row_nbytes(rows) >= VIEW_BULK_NBYTES || rows->fd >= 0;
    return is_bulk && view_is_cut((PyObject *)self) && nd_size_now(map, &size) &&
           nd_file_offset(map, nd_end_of_rows(rows)) > size;
}

int
rows_move(PyArrayObject *self, MappingObject *mapping, const nd_rows *rows, const char *act)
{
    if (!nd_rows_may_take_long(rows)) {
        nd_move_rows(rows);
        return 0;
    }
    mapping_begin_use(mapping, false);
    Py_BEGIN_ALLOW_THREADS
    nd_move_rows(rows);
    Py_END_ALLOW_THREADS
    mapping_end_use(mapping, false);
    return has_lost_ends(self, mapping, rows) ? fault_raise(mapping, act) : 0;
}

/* ---- Gathering ---- */

int
rows_shape(PyArrayObject *self, PyArrayObject *numbers, npy_intp *shape)
{
    int of_index = PyArray_NDIM(numbers), ndim = of_index + PyArray_NDIM(self) - 1;
    bool is_empty = PyArray_SIZE(self) == 0 || PyArray_SIZE(numbers) == 0;
    if (ndim > NPY_MAXDIMS || is_empty) {
        return 0;
    }
    for (int i = 0; i < ndim; i++) {
        shape[i] = i < of_index ? PyArray_DIM(numbers, i) : PyArray_DIM(self, i - of_index + 1);
    }
    return ndim;
}

/* Strides of a new array of this shape: of the index's axes in order 'C', and in a row as NumPy gives them, in the order
 * of the array's own unless that is to be 'C' too. */
static void
set_strides(PyArrayObject *self, int ndim, const npy_intp *shape, bool is_c_order, npy_intp *strides)
{
    int of_index = ndim - (PyArray_NDIM(self) - 1), order[NPY_MAXDIMS];
    for (int i = 0; i < ndim; i++) {
        int place = i;
        for (; !is_c_order && i >= of_index && place > of_index; place--) {
            int before = order[place - 1] - of_index + 1, own = i - of_index + 1;
            if (magnitude(PyArray_STRIDE(self, before)) >= magnitude(PyArray_STRIDE(self, own))) {
                break;
            }
            order[place] = order[place - 1];
        }
        order[place] = i;
    }
    npy_intp step = PyArray_ITEMSIZE(self);
    for (int i = ndim - 1; i >= 0; i--) {
        strides[order[i]] = step;
        step = (npy_intp)((size_t)step * (size_t)shape[order[i]]); /* NumPy refuses what is too large */
    }
}

int
rows_gather(PyArrayObject *self, MappingObject *mapping, PyArrayObject *numbers, PyArrayObject *into)
{
    rows_axis axes[NPY_MAXDIMS];
    int of_index = PyArray_NDIM(numbers);
    const npy_intp *strides = PyArray_STRIDES(into) + of_index - 1;
    nd_rows rows = rows_of(self, mapping, numbers, false);
    set_pieces(&rows, axes, rows_axes(self, 1, strides, axes), PyArray_ITEMSIZE(self));
    rows.fd = way_to_read(mapping);
    rows.memory = PyArray_BYTES(into);
    rows.memory_stride = (ptrdiff_t)nd_row_nbytes(&rows);
    return rows_move(self, mapping, &rows, "read");
}

PyObject *
rows_gathered(PyArrayObject *self, PyArrayObject *numbers, bool is_c_order)
{
    npy_intp shape[NPY_MAXDIMS], strides[NPY_MAXDIMS];
    int ndim = rows_shape(self, numbers, shape);
    if (ndim == 0) {
        return NULL;
    }
    set_strides(self, ndim, shape, is_c_order, strides);
    PyArray_Descr *dtype = PyArray_DESCR(self);
    Py_INCREF(dtype);
    PyObject *into = PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, strides, NULL, 0, NULL);
    if (into != NULL && rows_gather(self, view_mapping((PyObject *)self), numbers, (PyArrayObject *)into) < 0) {
        Py_CLEAR(into);
    }
    return into;
}

static bool
is_basic(PyObject *index)
{
    return PySlice_Check(index) || PyLong_CheckExact(index) || index == Py_Ellipsis;
}

/* For an index of rows and then of basic indices: a view of all rows with these, and the rows; 0, maybe with an exception, for
 * any other. */
static int
split(PyArrayObject *self, PyObject *index, PyArrayObject **view, PyObject **first)
{
    Py_ssize_t count = PyTuple_GET_SIZE(index);
    for (Py_ssize_t i = 1; i < count; i++) {
        if (!is_basic(PyTuple_GET_ITEM(index, i))) {
            return 0;
        }
    }
    if (count == 0 || !(PyList_CheckExact(PyTuple_GET_ITEM(index, 0)) || rows_is_plain(PyTuple_GET_ITEM(index, 0)))) {
        return 0;
    }
    PyObject *all = PySlice_New(NULL, NULL, NULL), *rest = PyTuple_New(count);
    if (all == NULL || rest == NULL) {
        Py_XDECREF(all);
        Py_XDECREF(rest);
        return 0;
    }
    PyTuple_SET_ITEM(rest, 0, all);
    for (Py_ssize_t i = 1; i < count; i++) {
        PyTuple_SET_ITEM(rest, i, Py_NewRef(PyTuple_GET_ITEM(index, i)));
    }
    *view = (PyArrayObject *)PyArray_Type.tp_as_mapping->mp_subscript((PyObject *)self, rest);
    *first = PyTuple_GET_ITEM(index, 0);
    Py_DECREF(rest);
    if (*view == NULL) {
        view_leave_error_to_numpy();
    }
    return *view != NULL;
}

PyObject *
rows_get(PyArrayObject *self, PyObject *index)
{
    PyArrayObject *view;
    PyObject *first;
    if (PyTuple_CheckExact(index)) {
        if (!split(self, index, &view, &first)) {
            return NULL;
        }
        PyObject *result = rows_get(view, first);
        Py_DECREF(view);
        return result;
    }
    if (!view_gives_plain_results(Py_TYPE(self)) || view_mapping((PyObject *)self) == NULL) {
        return NULL;
    }
    PyArrayObject *numbers = rows_numbers(self, index);
    PyObject *result = numbers == NULL ? NULL : rows_gathered(self, numbers, false);
    Py_XDECREF(numbers);
    return result;
}

/* ---- Scattering ---- */

PyArrayObject *
rows_values(PyArrayObject *self, PyObject *value)
{
    PyArray_Descr *dtype = PyArray_DESCR(self);
    if (rows_is_plain(value)) {
        return PyArray_ISOBJECT((PyArrayObject *)value) ? NULL : (PyArrayObject *)Py_NewRef(value);
    }
    if (!PyArray_IsPythonNumber(value) && !PyArray_IsScalar(value, Number)) {
        return NULL;
    }
    Py_INCREF(dtype);
    PyArrayObject *one = (PyArrayObject *)PyArray_SimpleNewFromDescr(0, NULL, dtype);
    if (one != NULL && PyArray_Pack(PyArray_DESCR(one), PyArray_DATA(one), value) < 0) {
        Py_CLEAR(one);
    }
    return one;
}

bool
rows_broadcast(PyArrayObject *values, int ndim, const npy_intp *shape, npy_intp *strides)
{
    int more = PyArray_NDIM(values) - ndim;
    for (int i = 0; i < more; i++) {
        if (PyArray_DIM(values, i) != 1) {
            return false;
        }
    }
    for (int i = 0; i < ndim; i++) {
        int own = i + more;
        npy_intp size = own < 0 ? 1 : PyArray_DIM(values, own);
        if (size != 1 && size != shape[i]) {
            return false;
        }
        strides[i] = size == 1 ? 0 : PyArray_STRIDE(values, own);
    }
    return true;
}

/* One step for all the axes of the index, where that is possible. */
static bool
join_steps(int ndim, const npy_intp *shape, const npy_intp *strides, ptrdiff_t *step)
{
    *step = 0;
    npy_intp next = -1;
    bool is_first = true;
    for (int i = ndim - 1; i >= 0; i--) {
        if (shape[i] == 1) {
            continue;
        }
        if (is_first) {
            *step = strides[i];
        }
        else if (strides[i] != next) {
            return false;
        }
        is_first = false;
        next = strides[i] * shape[i];
    }
    return true;
}

/* What stands in the mapping itself is taken out of the way of the stores. */
static PyArrayObject *
apart(const nd_mapping *mapping, PyArrayObject *array)
{
    if (array == NULL || !rows_lie_in(mapping, array)) {
        return array;
    }
    PyArrayObject *copy = (PyArrayObject *)PyArray_NewCopy(array, NPY_KEEPORDER);
    Py_DECREF(array);
    return copy;
}

/* Store values into rows. Returns 1, 0 where NumPy should do it, -1 with an exception. */
static int
scatter(PyArrayObject *self, MappingObject *mapping, PyArrayObject *numbers, PyArrayObject *values)
{
    npy_intp shape[NPY_MAXDIMS], strides[NPY_MAXDIMS];
    rows_axis axes[NPY_MAXDIMS];
    int ndim = rows_shape(self, numbers, shape), of_index = PyArray_NDIM(numbers);
    nd_rows rows = rows_of(self, mapping, numbers, true);
    bool is_alike = PyArray_EquivTypes(PyArray_DESCR(self), PyArray_DESCR(values));
    if (ndim == 0 || !is_alike || !rows_broadcast(values, ndim, shape, strides) ||
        !join_steps(of_index, shape, strides, &rows.memory_stride)) {
        return 0;
    }
    set_pieces(&rows, axes, rows_axes(self, 1, strides + of_index - 1, axes), PyArray_ITEMSIZE(self));
    rows.memory = PyArray_BYTES(values);
    return rows_move(self, mapping, &rows, "write") < 0 ? -1 : 1;
}

static bool
request(void *context, const nd_span *spans, size_t count)
{
    (void)context;
    return nd_request(spans, count);
}

/* Ask for rows that NumPy is going to store into, if they are few enough to be there when it does. */
static void
ask_for(PyArrayObject *self, MappingObject *mapping, PyArrayObject *numbers)
{
    enum { MOST_NBYTES = 256 << 20 };
    nd_rows rows;
    if (rows_of_pages(&rows, self, numbers) && rows.count <= MOST_NBYTES / (nd_row_nbytes(&rows) + nd_page_size()) &&
        nd_rows_are_missing(&rows)) {
        mapping_begin_use(mapping, false);
        Py_BEGIN_ALLOW_THREADS
        nd_visit_rows(&rows, request, NULL);
        Py_END_ALLOW_THREADS
        mapping_end_use(mapping, false);
    }
}

int
rows_set(PyArrayObject *self, PyObject *index, PyObject *value)
{
    PyArrayObject *view;
    PyObject *first;
    if (PyTuple_CheckExact(index)) {
        if (!split(self, index, &view, &first)) {
            return PyErr_Occurred() ? -1 : 0;
        }
        int status = rows_set(view, first, value);
        Py_DECREF(view);
        return status;
    }
    MappingObject *mapping = view_mapping((PyObject *)self);
    if (mapping == NULL || !PyArray_ISWRITEABLE(self)) {
        return 0;
    }
    PyArrayObject *numbers = apart(&mapping->map, rows_numbers(self, index));
    PyArrayObject *values = numbers == NULL ? NULL : apart(&mapping->map, rows_values(self, value));
    int status = values == NULL ? (PyErr_Occurred() ? -1 : 0) : scatter(self, mapping, numbers, values);
    if (status == 0 && numbers != NULL) {
        ask_for(self, mapping, numbers);
    }
    Py_XDECREF(numbers);
    Py_XDECREF(values);
    return status;
}

/* ---- Pages ---- */

bool
rows_of_pages(nd_rows *rows, PyArrayObject *self, PyArrayObject *numbers)
{
    MappingObject *mapping = view_mapping((PyObject *)self);
    rows_axis axes[NPY_MAXDIMS + 1];
    if (mapping == NULL || PyArray_SIZE(self) == 0 || (numbers != NULL && PyArray_SIZE(numbers) == 0)) {
        return false;
    }
    int count = rows_axes(self, numbers == NULL ? 0 : 1, NULL, axes);
    char *mapped = PyArray_BYTES(self);
    npy_intp extent = PyArray_ITEMSIZE(self), page = (npy_intp)nd_page_size();
    for (int i = 0; i < count; i++) {
        mapped += axes[i].mapped < 0 ? (axes[i].size - 1) * axes[i].mapped : 0;
        axes[i].mapped = magnitude(axes[i].mapped);
    }
    /* What lies between two items of an axis is no page of its own. */
    while (count > 0 && axes[count - 1].mapped <= extent + page) {
        count--;
        extent += (axes[count].size - 1) * axes[count].mapped;
    }
    if (numbers != NULL) {
        *rows = rows_of(self, mapping, numbers, false);
    }
    else {
        /* Along the axis with the longest steps, of which there is one at least. */
        rows_axis longest = count > 0 ? axes[0] : (rows_axis){.size = 1};
        *rows = (nd_rows){.mapping = &mapping->map, .fd = -1, .count = (size_t)longest.size,
                          .rows = (size_t)longest.size, .mapped_stride = longest.mapped};
    }
    rows->mapped = mapped;
    int first = numbers == NULL && count > 0 ? 1 : 0;
    set_pieces(rows, axes + first, count - first, extent);
    return true;
}
