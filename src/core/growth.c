#define _GNU_SOURCE /* F_OFD_SETLK */

#include "growth.h"

#include "fault_error.h"
#include "overrides.h"
#include "streaming.h"
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Above this an append lets other threads run meanwhile, which its caller has to prepare for. */
enum { SHORT_NBYTES = 256 << 10 };

/* ---- Publishing ---- */

enum { WORD = sizeof(uint64_t), MOST_DIGITS = 32 };

/* Write the number of rows where the file says it. Readers find the old number or the new one: it is changed by a single
 * store into an aligned word. Where more digits than that change, once in 10^8 rows, it is a single pwrite, which only a
 * reader in the same instant could find half done. */
static int
publish(MappingObject *self, npy_intp rows, bool wakes)
{
    const appending *append = &self->append;
    if (append->count_at == 0) {
        return 0;
    }
    char text[MOST_DIGITS + 1];
    int length = snprintf(text, sizeof text, "%*lld", append->digits, (long long)rows);
    if (length != append->digits) {
        return EOVERFLOW;
    }
    size_t at = append->count_at - (size_t)length;
    char *place = self->map.data - self->map.offset + at;
    if (self->map.block != NULL) {
        memcpy(place, text, (size_t)length);
        return 0;
    }
    if (memcmp(place, text, (size_t)length - WORD) != 0) {
        return nd_write(self->map.fd, text, (size_t)length, (int64_t)at);
    }
    uint64_t word;
    memcpy(&word, text + length - WORD, WORD);
    /* SAFE: aligned, as let_append has checked; the head of the file is mapped for writing. */
    atomic_store((_Atomic uint64_t *)(void *)(place + length - WORD), word);
    if (wakes) {
        /* The same once more: a store wakes nobody who watches the file. */
        (void)!pwrite(self->map.fd, &word, WORD, (off_t)(append->count_at - WORD));
    }
    return 0;
}

/* ---- Rows ---- */

/* The mapping of an array that was opened as a whole, or NULL. */
static MappingObject *
own_mapping(PyObject *array)
{
    PyObject *base = PyArray_BASE((PyArrayObject *)array);
    return base != NULL && is_mapping(base) && PyArray_NDIM((PyArrayObject *)array) > 0 ? (MappingObject *)base : NULL;
}

static int
growing_axis(const MappingObject *self, PyArrayObject *array)
{
    return self->is_fortran ? PyArray_NDIM(array) - 1 : 0;
}

/* How many rows of `array` the other one is, -1 if it is none. */
static npy_intp
count_rows(PyArrayObject *array, int axis, PyArrayObject *rows)
{
    int ndim = PyArray_NDIM(array), is_one = PyArray_NDIM(rows) == ndim - 1;
    if (!is_one && PyArray_NDIM(rows) != ndim) {
        return -1;
    }
    for (int i = 0; i < ndim; i++) {
        if (i != axis && PyArray_DIM(array, i) != PyArray_DIM(rows, is_one && i > axis ? i - 1 : i)) {
            return -1;
        }
    }
    return is_one ? 1 : PyArray_DIM(rows, axis);
}

/* Let the array have so many rows, which its file has already. */
static int
set_rows(PyObject *object, MappingObject *self, npy_intp rows)
{
    PyArrayObject *array = (PyArrayObject *)object;
    int axis = growing_axis(self, array);
    size_t row_nbytes = (size_t)PyArray_ITEMSIZE(array);
    for (int i = 0; i < PyArray_NDIM(array); i++) {
        row_nbytes *= i == axis ? 1 : (size_t)PyArray_DIM(array, i);
    }
    if (row_nbytes > 0 && (size_t)rows > (size_t)PTRDIFF_MAX / row_nbytes) {
        return ENOMEM;
    }
    size_t nbytes = (size_t)rows * row_nbytes;
    self->shrunk = self->shrunk || nbytes < self->map.nbytes;
    int status = nd_guard_resize(&self->map, nbytes);
    if (status == 0) {
        /* As ndarray.resize does. The strides do not depend on the axis that grows. */
        PyArray_DIMS(array)[axis] = rows;
        nd_stream_note(&self->has_large_out, self->map.access != ND_READ, nbytes);
        PyArray_UpdateFlags(array, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS);
        if (overrides_note_size(Py_TYPE(object), nbytes) < 0) {
            PyErr_Clear(); /* there was no memory for it: NumPy then does all by itself */
        }
    }
    return status;
}

const char growth_append_doc[] =
    "_append($self, rows, /)\n--\n\n"
    "Append rows that are as the file has them, where there is space; False, with nothing done, where that takes more.";

PyObject *
growth_append(PyObject *object, PyObject *given)
{
    MappingObject *self = own_mapping(object);
    /* Other classes, such as masked arrays, may mean more than their bytes. */
    bool is_plain = PyArray_CheckExact(given) || Py_TYPE(given) == Py_TYPE(object);
    if (self == NULL || self->closed || self->append.row_nbytes == 0 || !is_plain) {
        Py_RETURN_FALSE;
    }
    PyArrayObject *array = (PyArrayObject *)object, *rows = (PyArrayObject *)given;
    int axis = growing_axis(self, array);
    npy_intp count = count_rows(array, axis, rows);
    bool is_like_file = PyArray_EquivTypes(PyArray_DESCR(array), PyArray_DESCR(rows)) &&
                        (self->is_fortran ? PyArray_IS_F_CONTIGUOUS(rows) : PyArray_IS_C_CONTIGUOUS(rows));
    size_t nbytes = (size_t)PyArray_NBYTES(rows), used = self->map.nbytes;
    if (count < 0 || !is_like_file || nbytes > SHORT_NBYTES || !nd_range_fits(used, nbytes, self->append.room) ||
        self->sync_failure != 0 || self->map.fault.cause != ND_NO_FAULT || self->writer != getpid() ||
        view_refuse_closed(given, "read") < 0) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    int status = 0;
    if (self->map.block != NULL) {
        memcpy(self->map.data + used, PyArray_BYTES(rows), nbytes);
    }
    else {
        status = nd_write(self->map.fd, PyArray_BYTES(rows), nbytes, self->map.offset + (int64_t)used);
    }
    if (nd_fault_is_pending()) {
        fault_raise_pending();
        return NULL;
    }
    npy_intp before = PyArray_DIM(array, axis);
    status = status != 0 ? status : set_rows(object, self, before + count);
    if (status != 0) {
        Py_RETURN_FALSE; /* the long way finds the same, and cleans up */
    }
    /* Who was woken by the rows takes longer to look than this. */
    status = publish(self, before + count, false);
    if (status != 0) {
        set_rows(object, self, before);
        mapping_raise_errno(self, status);
        return NULL;
    }
    return fault_checked(Py_NewRef(Py_True));
}

const char growth_set_rows_doc[] =
    "_set_rows($self, rows, publish=False, /)\n--\n\n"
    "Give the growing axis its size, in place, and let the file say so.";

PyObject *
growth_set_rows(PyObject *object, PyObject *args)
{
    MappingObject *self = own_mapping(object);
    Py_ssize_t rows;
    int is_published = 0;
    if (!PyArg_ParseTuple(args, "n|p:_set_rows", &rows, &is_published)) {
        return NULL;
    }
    if (self == NULL || rows < 0) {
        PyErr_SetString(PyExc_ValueError, "_set_rows() takes an array that was opened, and a number of rows");
        return NULL;
    }
    if (rows < PyArray_DIM((PyArrayObject *)object, growing_axis(self, (PyArrayObject *)object))) {
        mapping_wait_until_not_passed_by(self);
    }
    if (self->closed) {
        fault_raise(self, "resize");
        return NULL;
    }
    npy_intp before = PyArray_DIM((PyArrayObject *)object, growing_axis(self, (PyArrayObject *)object));
    int status = set_rows(object, self, rows);
    if (status == 0 && is_published) {
        status = publish(self, rows, true);
        if (status != 0) {
            set_rows(object, self, before);
        }
    }
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    return fault_checked(Py_NewRef(Py_None));
}

/* ---- The mapping's part ---- */

const char growth_fileno_doc[] = "fileno($self, /)\n--\n\nThe descriptor, -1 where none is kept.";

PyObject *
growth_fileno(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(((MappingObject *)object)->map.fd);
}

static size_t
head_nbytes(const MappingObject *self)
{
    size_t lead = (size_t)(self->map.data - self->map.range);
    return lead == (size_t)self->map.offset ? lead : 0;
}

const char growth_head_doc[] =
    "head($self, /)\n--\n\nThe file's bytes before the data, as they are now; empty where they are not mapped.";

PyObject *
growth_head(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        fault_raise(self, "read");
        return NULL;
    }
    return fault_checked(PyBytes_FromStringAndSize(self->map.range, (Py_ssize_t)head_nbytes(self)));
}

const char growth_write_doc[] =
    "write($self, buffer, start, /)\n--\n\n"
    "Put bytes behind the mapping's own, at byte `start` of it: into the file, or into an open atomic block.";

PyObject *
growth_write(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    Py_buffer buffer;
    Py_ssize_t start;
    if (!PyArg_ParseTuple(args, "y*n:write", &buffer, &start)) {
        return NULL;
    }
    size_t nbytes = (size_t)buffer.len, room = nd_most_nbytes(&self->map);
    int status = 0;
    if (self->closed) {
        fault_raise(self, "write");
    }
    else if (start < 0 || (size_t)start < self->map.nbytes || !nd_range_fits((size_t)start, nbytes, room)) {
        PyErr_Format(PyExc_ValueError, "write: %zu bytes from %zd do not lie behind the mapping's", nbytes, start);
    }
    else if (self->map.block != NULL) {
        status = nd_block_extend(&self->map, (size_t)start + nbytes);
        if (status == 0) {
            memcpy(self->map.data + start, buffer.buf, nbytes);
        }
    }
    else {
        mapping_begin_use(self, false);
        Py_BEGIN_ALLOW_THREADS
        status = nd_write(self->map.fd, buffer.buf, nbytes, self->map.offset + start);
        Py_END_ALLOW_THREADS
        mapping_end_use(self, false);
    }
    PyBuffer_Release(&buffer);
    if (nd_fault_is_pending()) {
        fault_raise_pending();
    }
    else if (status != 0 && self->map.block != NULL && self->map.block->is_too_large) {
        fault_raise(self, "append");
    }
    else if (status != 0) {
        mapping_raise_errno(self, status);
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

const char growth_write_head_doc[] =
    "write_head($self, head, /)\n--\n\nPut other bytes of the same number before the data, in one step.";

PyObject *
growth_write_head(PyObject *object, PyObject *head)
{
    MappingObject *self = (MappingObject *)object;
    char *bytes;
    Py_ssize_t nbytes;
    if (PyBytes_AsStringAndSize(head, &bytes, &nbytes) < 0) {
        return NULL;
    }
    if (self->closed) {
        fault_raise(self, "write");
        return NULL;
    }
    if ((size_t)nbytes != head_nbytes(self)) {
        return PyErr_Format(PyExc_ValueError, "the head has %zu bytes, not %zd", head_nbytes(self), nbytes);
    }
    if (self->map.block != NULL) {
        memcpy(self->map.range, bytes, (size_t)nbytes);
    }
    else {
        int status = nd_write(self->map.fd, bytes, (size_t)nbytes, 0);
        if (status != 0) {
            mapping_raise_errno(self, status);
            return NULL;
        }
    }
    return fault_checked(Py_NewRef(Py_None));
}

const char growth_sync_data_doc[] =
    "sync_data($self, /)\n--\n\nWait until the disk has what was written to the file, and its size.";

PyObject *
growth_sync_data(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return mapping_sync_data((MappingObject *)object) < 0 ? NULL : Py_NewRef(Py_None);
}

const char growth_check_synced_doc[] =
    "check_synced($self, /)\n--\n\nRaise OSError if a flush, sync or commit has failed: nothing is built upon that.";

PyObject *
growth_check_synced(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return mapping_check_synced((MappingObject *)object) < 0 ? NULL : Py_NewRef(Py_None);
}

const char growth_keep_doc[] =
    "keep_growth($self, growth, /)\n--\n\n"
    "Take it as what is known of growing the file, which this process alone then changes; the one that was there before.";

PyObject *
growth_keep(PyObject *object, PyObject *growth)
{
    MappingObject *self = (MappingObject *)object;
    if (self->growth == NULL) {
        self->growth = Py_NewRef(growth);
        self->writer = self->opener;
    }
    return Py_NewRef(self->growth);
}

const char growth_trim_doc[] =
    "trim_in_the_end($self, /)\n--\n\nGive back what the file has behind the array when it is closed.";

PyObject *
growth_trim(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    ((MappingObject *)object)->trims = true;
    Py_RETURN_NONE;
}

const char growth_let_append_doc[] =
    "let_append($self, row_nbytes, room, count_at, digits, /)\n--\n\n"
    "Let the short way of appending fill `room` bytes; with row_nbytes 0 there is none.\n\n"
    "The number of rows ends at byte `count_at` of the file, 0: its size tells it, and has `digits` digits.";

PyObject *
growth_let_append(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    appending append;
    Py_ssize_t row_nbytes, room, count_at;
    if (!PyArg_ParseTuple(args, "nnni:let_append", &row_nbytes, &room, &count_at, &append.digits)) {
        return NULL;
    }
    size_t most = nd_most_nbytes(&self->map);
    bool has_count = count_at > 0 && count_at % WORD == 0 && (size_t)count_at <= head_nbytes(self) &&
                     append.digits >= (int)WORD && append.digits <= MOST_DIGITS && append.digits <= count_at;
    if (row_nbytes < 0 || room < 0 || (count_at != 0 && !has_count)) {
        PyErr_SetString(PyExc_ValueError, "let_append: the count must end at a multiple of 8 bytes of the head");
        return NULL;
    }
    append.row_nbytes = (size_t)row_nbytes;
    append.room = (size_t)room < most ? (size_t)room : most;
    append.count_at = (size_t)count_at;
    self->append = append;
    Py_RETURN_NONE;
}

PyObject *
growth_get_is_fortran(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((MappingObject *)object)->is_fortran);
}

PyObject *
growth_get_is_owned(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((MappingObject *)object)->writer == getpid());
}

PyObject *
growth_get_most_nbytes(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(nd_most_nbytes(&((MappingObject *)object)->map));
}

PyObject *
growth_get_followed_by(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((MappingObject *)object)->map.followed_by);
}

/* ---- Following ---- */

const char growth_note_seen_doc[] =
    "note_seen($self, is_seen=True, /)\n--\n\nTake the file's head and size as known to has_news; or forget them.";

PyObject *
growth_note_seen(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    int is_seen = 1;
    if (!PyArg_ParseTuple(args, "|p:note_seen", &is_seen)) {
        return NULL;
    }
    if (!is_seen) {
        Py_CLEAR(self->seen_head);
        Py_RETURN_NONE;
    }
    PyObject *head = growth_head(object, NULL);
    if (head == NULL) {
        return NULL;
    }
    Py_XSETREF(self->seen_head, head);
    if (!nd_size_now(&self->map, &self->seen_size)) {
        self->seen_size = -1;
    }
    Py_RETURN_NONE;
}

const char growth_has_news_doc[] =
    "has_news($self, /)\n--\n\nWhether the file's head or size is another one than note_seen has found.";

PyObject *
growth_has_news(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        fault_raise(self, "refresh");
        return NULL;
    }
    int64_t size;
    bool is_known = nd_size_now(&self->map, &size);
    if (self->seen_head == NULL || (is_known && size != self->seen_size)) {
        Py_RETURN_TRUE;
    }
    const char *head = PyBytes_AS_STRING(self->seen_head);
    bool is_same = memcmp(head, self->map.range, (size_t)PyBytes_GET_SIZE(self->seen_head)) == 0;
    return fault_checked(PyBool_FromLong(!is_same));
}

/* ---- The end ---- */

/* By its name, unless that is another's by now. */
static void
remove_journal(const MappingObject *self)
{
    struct stat own, named;
    if (fstat(self->journal, &own) == 0 && lstat(self->journal_path, &named) == 0 && own.st_ino == named.st_ino &&
        own.st_dev == named.st_dev) {
        unlink(self->journal_path);
    }
}

/* Where the file is to end. Of bytes without a description one is left, as NumPy does, because nobody could map an empty
 * file. */
static int64_t
end_of_file(const MappingObject *self)
{
    int64_t end = self->map.offset + (int64_t)self->map.nbytes;
    return end == 0 && (self->format == NULL || self->format == Py_None) ? 1 : end;
}

int
growth_release(MappingObject *self)
{
    int status = 0;
    bool is_ours = self->writer == getpid() && self->map.fd >= 0;
    if (is_ours && self->journal >= 0 && !self->journal_is_needed) {
        /* It must not come true again: neither with the file's new size, nor when its name comes back after a power
         * loss. */
        status = mapping_settle(self);
    }
    if (is_ours && self->trims && !self->journal_is_needed && self->map.fault.cause == ND_NO_FAULT && status == 0 &&
        ftruncate(self->map.fd, end_of_file(self)) < 0) {
        status = errno;
    }
    if (self->journal >= 0) {
        if (is_ours && !self->journal_is_needed && status == 0) {
            remove_journal(self);
        }
        close(self->journal);
        self->journal = -1;
    }
    if (is_ours) {
        /* Closing would not do: a fork may have the same opening. */
        struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
        fcntl(self->map.fd, F_OFD_SETLK, &all);
    }
    free(self->journal_path);
    self->journal_path = NULL;
    return status;
}
