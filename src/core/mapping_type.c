/* Mapping: the Python face of mapping.c, under the names that mmap.mmap has for the same acts. */
#include "commit.h"
#include "core.h"
#include "ceiling.h"
#include "changed_pages.h"
#include "fault_error.h"
#include "growth.h"
#include "streaming.h"
#include "way.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void
mapping_dealloc(PyObject *object)
{
    MappingObject *self = (MappingObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    nd_stream_forget(&self->has_large_out);
    nd_ceiling_set(&self->map, 0);
    growth_release(self); /* nobody is left to be told of a failure */
    nd_guard_drop(&self->map);
    nd_block_drop(&self->map);
    nd_unmap(&self->map);
    Py_XDECREF(self->filename);
    Py_XDECREF(self->mode);
    Py_XDECREF(self->format);
    Py_XDECREF(self->growth);
    Py_XDECREF(self->seen_head);
    type->tp_free(object);
    Py_DECREF(type);
}

static int
access_of(const char *mode, nd_access *access)
{
    if (mode == NULL) {
        return -1;
    }
    if (strcmp(mode, "r") == 0) {
        *access = ND_READ;
    }
    else if (strcmp(mode, "c") == 0) {
        *access = ND_COPY;
    }
    else if (strcmp(mode, "r+") == 0 || strcmp(mode, "w+") == 0) {
        *access = ND_WRITE;
    }
    else {
        PyErr_Format(PyExc_ValueError, "mode must be 'r', 'r+', 'w+' or 'c', not '%s'", mode);
        return -1;
    }
    return 0;
}

static PyObject *
mapping_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Mapping() takes no keyword arguments");
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    if (count < 5 || count > 7) {
        return PyErr_Format(PyExc_TypeError, "Mapping() takes 5 to 7 arguments, not %zd", count);
    }
    /* One by one: PyArg_ParseTuple takes as long as two of the system calls that follow. */
    long fd = PyLong_AsLong(PyTuple_GET_ITEM(args, 0));
    long long offset = PyLong_AsLongLong(PyTuple_GET_ITEM(args, 1));
    Py_ssize_t nbytes = PyLong_AsSsize_t(PyTuple_GET_ITEM(args, 2));
    PyObject *mode = PyTuple_GET_ITEM(args, 3), *filename = PyTuple_GET_ITEM(args, 4);
    int keep_fd = count >= 6 ? PyObject_IsTrue(PyTuple_GET_ITEM(args, 5)) : 0;
    Py_ssize_t room = count == 7 ? PyLong_AsSsize_t(PyTuple_GET_ITEM(args, 6)) : 0;
    nd_access access;
    if (PyErr_Occurred() || access_of(PyUnicode_AsUTF8(mode), &access) < 0 || fault_guard_ready() < 0) {
        return NULL;
    }
    if (offset < 0 || nbytes < 0 || room < 0 || offset > INT64_MAX - nbytes) {
        PyErr_Format(PyExc_ValueError, "offset %lld and nbytes %zd must not be negative, nor their sum pass 2**63 - 1",
                     offset, nbytes);
        return NULL;
    }
    PyObject *path = NULL;
    if (filename != Py_None && !PyUnicode_FSConverter(filename, &path)) {
        return NULL;
    }
    MappingObject *self = (MappingObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(path);
        return NULL;
    }
    self->map = ND_MAPPING_EMPTY;
    self->filename = Py_NewRef(filename);
    self->mode = Py_NewRef(mode);
    self->journal = -1;
    self->opener = getpid();
    int status = nd_map(&self->map, (int)fd, offset, (size_t)nbytes, access,
                        path == NULL ? NULL : PyBytes_AS_STRING(path), keep_fd,
                        access == ND_COPY ? 0 : (size_t)room);
    Py_XDECREF(path);
    if (status != 0) {
        mapping_raise_errno(self, status);
        Py_DECREF(self);
        return NULL;
    }
    nd_guard_add(&self->map);
    return (PyObject *)self;
}

/* Give the file back, when no thread uses it any more. Returns an errno value. */
static int
give_back(MappingObject *self)
{
    int status = 0;
    bool forget = self->sync_failure != 0;
    nd_stream_forget(&self->has_large_out);
    self->closed = true; /* first, so that nobody begins anew: with many threads it would always be in use */
    mapping_wait_until_unused(self);
    if (self->map.block != NULL) {
        commit_undo(self);
    }
    int released = growth_release(self);
    Py_BEGIN_ALLOW_THREADS
    nd_ceiling_set(&self->map, 0);
    status = nd_guard_vacate(&self->map, forget);
    Py_END_ALLOW_THREADS
    self->closed = status == 0;
    return status != 0 ? status : released;
}

int
mapping_close(MappingObject *self)
{
    if (self->closed) {
        return 0;
    }
    if (!nd_guard_is_on() && self->exports > 0) {
        PyErr_Format(PyExc_BufferError,
                     "close %R: %zd buffers of it are in use. Nothing was closed. Release them and close again.",
                     self->filename, self->exports);
        return -1;
    }
    /* What the flush has to say is kept for after the closing: the file is given back in any case. */
    int flushed = mapping_flush(self, 0, self->map.nbytes);
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    /* Other threads were let run. */
    int status = self->closed ? 0 : give_back(self);
    PyErr_Restore(type, error, trace);
    if (flushed < 0) {
        return -1;
    }
    return status == 0 ? 0 : mapping_raise_errno(self, status);
}

static PyObject *
mapping_close_method(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return mapping_close((MappingObject *)object) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Fill [from, from + nbytes) from optional arguments, by default the whole mapping. */
static int
checked_range(MappingObject *self, const char *act, Py_ssize_t from, PyObject *size, size_t *nbytes)
{
    if (self->closed) {
        return fault_raise(self, act);
    }
    Py_ssize_t wanted = (Py_ssize_t)self->map.nbytes - from;
    if (size != Py_None) {
        wanted = PyNumber_AsSsize_t(size, PyExc_OverflowError);
        if (wanted == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    if (from < 0 || wanted < 0 || !nd_range_fits((size_t)from, (size_t)wanted, self->map.nbytes)) {
        PyErr_Format(PyExc_ValueError, "%s %R: %zd bytes from %zd do not lie inside the mapping's %zu bytes", act,
                     self->filename, wanted, from, self->map.nbytes);
        return -1;
    }
    *nbytes = (size_t)wanted;
    return 0;
}

static PyObject *
mapping_flush_method(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    Py_ssize_t from = 0;
    PyObject *size = Py_None;
    size_t nbytes = 0;
    if (!PyArg_ParseTuple(args, "|nO:flush", &from, &size) || checked_range(self, "flush", from, size, &nbytes) < 0 ||
        mapping_flush(self, (size_t)from, nbytes) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
mapping_sync_method(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return mapping_sync((MappingObject *)object) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
mapping_check_method(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    return mapping_check((MappingObject *)object, "check") < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
mapping_size(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        fault_raise(self, "size");
        return NULL;
    }
    int64_t size;
    if (!nd_size_now(&self->map, &size)) {
        mapping_raise_errno(self, self->map.fd >= 0 ? errno : ENOENT);
        return NULL;
    }
    return PyLong_FromLongLong(size);
}

static PyObject *
mapping_changed_nbytes(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    Py_ssize_t from = 0;
    PyObject *size = Py_None;
    size_t nbytes = 0, changed = 0;
    if (!PyArg_ParseTuple(args, "|nO:changed_nbytes", &from, &size) ||
        checked_range(self, "changed_nbytes", from, size, &nbytes) < 0) {
        return NULL;
    }
    if (self->map.access != ND_COPY || nbytes == 0) {
        return PyLong_FromSize_t(0);
    }
    int page_map = nd_open_page_map();
    if (page_map < 0) {
        mapping_raise_errno(self, errno);
        return NULL;
    }
    size_t page = nd_page_size(), behind = ((size_t)(self->map.data - self->map.range) + (size_t)from) % page;
    char *start = self->map.data + from - behind, *end = self->map.data + from + nbytes;
    int status;
    mapping_begin_use(self, true);
    Py_BEGIN_ALLOW_THREADS
    status = nd_count_changed(page_map, start, end + (page - (size_t)(end - self->map.range) % page) % page, &changed);
    close(page_map);
    Py_END_ALLOW_THREADS
    mapping_end_use(self, true);
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    return PyLong_FromSize_t(changed);
}

static PyObject *
mapping_madvise(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    int advice;
    Py_ssize_t from = 0;
    PyObject *size = Py_None;
    size_t nbytes = 0;
    if (!PyArg_ParseTuple(args, "i|nO:madvise", &advice, &from, &size) ||
        checked_range(self, "madvise", from, size, &nbytes) < 0) {
        return NULL;
    }
    int status = 0;
    mapping_begin_use(self, true);
    bool drops = advice == MADV_DONTNEED || advice == MADV_REMOVE || advice == MADV_FREE;
    if (self->map.block == NULL || !drops) { /* in a block the pages hold what nobody else has */
        Py_BEGIN_ALLOW_THREADS
        status = nd_advise(&self->map, (size_t)from, nbytes, advice);
        Py_END_ALLOW_THREADS
    }
    mapping_end_use(self, true);
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
mapping_set_max_rss(PyObject *object, PyObject *wanted)
{
    MappingObject *self = (MappingObject *)object;
    size_t nbytes = 0;
    if (wanted != Py_None) {
        nbytes = PyLong_AsSize_t(wanted);
        if (nbytes == 0 || nbytes == (size_t)-1) {
            return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "max_rss of %R is no ceiling", wanted);
        }
    }
    if (self->closed && nbytes > 0) {
        fault_raise(self, "limit");
        return NULL;
    }
    int status;
    self->in_use++; /* closing waits: it takes the ceiling away */
    Py_BEGIN_ALLOW_THREADS
    status = nd_ceiling_set(&self->map, nbytes);
    Py_END_ALLOW_THREADS
    self->in_use--;
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
mapping_get_max_rss(PyObject *self, void *Py_UNUSED(closure))
{
    size_t nbytes = ((MappingObject *)self)->map.ceiling.nbytes;
    return nbytes > 0 ? PyLong_FromSize_t(nbytes) : Py_NewRef(Py_None);
}

static Py_ssize_t
mapping_length(PyObject *object)
{
    return (Py_ssize_t)((MappingObject *)object)->map.nbytes;
}

static int
mapping_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        view->obj = NULL;
        return fault_raise(self, "read");
    }
    bool readonly = self->map.access == ND_READ;
    if (PyBuffer_FillInfo(view, object, self->map.data, (Py_ssize_t)self->map.nbytes, readonly, flags) < 0) {
        return -1;
    }
    self->exports++;
    return 0;
}

static void
mapping_releasebuffer(PyObject *object, Py_buffer *Py_UNUSED(view))
{
    ((MappingObject *)object)->exports--;
}

static PyObject *
mapping_repr(PyObject *object)
{
    MappingObject *self = (MappingObject *)object;
    return PyUnicode_FromFormat("<%sMapping %R mode=%R offset=%lld nbytes=%zu>", self->closed ? "closed " : "",
                                self->filename, self->mode, (long long)self->map.offset, self->map.nbytes);
}

static PyObject *
mapping_get_filename(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((MappingObject *)self)->filename);
}

static PyObject *
mapping_get_mode(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((MappingObject *)self)->mode);
}

static PyObject *
mapping_get_offset(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((MappingObject *)self)->map.offset);
}

static PyObject *
mapping_get_address(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(((MappingObject *)self)->map.data);
}

static PyObject *
mapping_get_identity(PyObject *self, void *Py_UNUSED(closure))
{
    const nd_mapping *map = &((MappingObject *)self)->map;
    return Py_BuildValue("KK", (unsigned long long)map->device, (unsigned long long)map->inode);
}

static PyObject *
mapping_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((MappingObject *)self)->closed);
}

static PyMemberDef mapping_members[] = {
    {"format", T_OBJECT, offsetof(MappingObject, format), 0,
     PyDoc_STR("The file's format, or None where nothing describes its bytes.")},
    {"growth", T_OBJECT, offsetof(MappingObject, growth), READONLY, PyDoc_STR("What is known of growing the file, or None.")},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef mapping_methods[] = {
    {"close", mapping_close_method, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nFlush, and give back the file and its descriptor.")},
    {"flush", mapping_flush_method, METH_VARARGS,
     PyDoc_STR("flush($self, offset=0, size=None, /)\n--\n\nWrite changed pages to the disk and wait for it.")},
    {"madvise", mapping_madvise, METH_VARARGS,
     PyDoc_STR("madvise($self, option, start=0, length=None, /)\n--\n\nAdvise the kernel, with mmap's MADV_* constants.")},
    {"changed_nbytes", mapping_changed_nbytes, METH_VARARGS,
     PyDoc_STR("changed_nbytes($self, start=0, length=None, /)\n--\n\nBytes in pages that mode 'c' has changed in memory.")},
    {"set_max_rss", mapping_set_max_rss, METH_O,
     PyDoc_STR("set_max_rss($self, nbytes, /)\n--\n\nKeep resident memory below so many bytes and 64 MiB; None: no longer.")},
    {"sync", mapping_sync_method, METH_NOARGS,
     PyDoc_STR("sync($self, /)\n--\n\nflush(), and write the file's metadata too.")},
    {"check", mapping_check_method, METH_NOARGS,
     PyDoc_STR("check($self, /)\n--\n\nRaise FaultError if the file is shorter than the mapping, or has failed.")},
    {"size", mapping_size, METH_NOARGS,
     PyDoc_STR("size($self, /)\n--\n\nBytes that the file has now. OSError if its name leads elsewhere meanwhile.")},
    {"fileno", growth_fileno, METH_NOARGS, growth_fileno_doc},
    {"head", growth_head, METH_NOARGS, growth_head_doc},
    {"write", growth_write, METH_VARARGS, growth_write_doc},
    {"write_head", growth_write_head, METH_O, growth_write_head_doc},
    {"check_synced", growth_check_synced, METH_NOARGS, growth_check_synced_doc},
    {"sync_data", growth_sync_data, METH_NOARGS, growth_sync_data_doc},
    {"keep_growth", growth_keep, METH_O, growth_keep_doc},
    {"trim_in_the_end", growth_trim, METH_NOARGS, growth_trim_doc},
    {"let_append", growth_let_append, METH_VARARGS, growth_let_append_doc},
    {"note_seen", growth_note_seen, METH_VARARGS, growth_note_seen_doc},
    {"has_news", growth_has_news, METH_NOARGS, growth_has_news_doc},
    {"keep_journal", commit_keep_journal, METH_VARARGS, commit_keep_journal_doc},
    {"begin_block", commit_begin, METH_O, commit_begin_doc},
    {"commit_block", commit_end, METH_NOARGS, commit_end_doc},
    {"settle_journal", commit_settle_method, METH_NOARGS, commit_settle_doc},
    {"roll_back_block", commit_roll_back, METH_NOARGS, commit_roll_back_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef mapping_getset[] = {
    {"filename", mapping_get_filename, NULL, PyDoc_STR("Absolute path of the file, or None."), NULL},
    {"mode", mapping_get_mode, NULL, PyDoc_STR("'r', 'r+', 'w+' or 'c'."), NULL},
    {"offset", mapping_get_offset, NULL, PyDoc_STR("Where in the file the mapping starts, in bytes."), NULL},
    {"address", mapping_get_address, NULL, PyDoc_STR("Where its first byte is in memory."), NULL},
    {"identity", mapping_get_identity, NULL, PyDoc_STR("Device and inode of the file."), NULL},
    {"closed", mapping_get_closed, NULL, PyDoc_STR("True after close()."), NULL},
    {"max_rss", mapping_get_max_rss, NULL, PyDoc_STR("The ceiling on resident memory in bytes, or None."), NULL},
    {"is_fortran", growth_get_is_fortran, NULL, PyDoc_STR("True if the last axis of the array grows."), NULL},
    {"is_owned", growth_get_is_owned, NULL, PyDoc_STR("True if this process is the file's writer."), NULL},
    {"most_nbytes", growth_get_most_nbytes, NULL, PyDoc_STR("Bytes that it can have where it is."), NULL},
    {"followed_by", growth_get_followed_by, NULL,
     PyDoc_STR("Bytes that the file had behind the mapping, when it was mapped; negative where it was shorter."), NULL},
    {"backend", way_get_backend, way_set_backend,
     PyDoc_STR("'map' or 'read': by which way much of the file is read. Setting it to 'auto' lets the file system tell."),
     NULL},
    {"in_block", commit_get_in_block, NULL, PyDoc_STR("True while an atomic block is open."), NULL},
    {"is_block_full", commit_get_is_block_full, NULL, PyDoc_STR("True if an open block has passed its limit."), NULL},
    {"has_journal", commit_get_has_journal, NULL, PyDoc_STR("True from the first atomic block on."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(mapping_doc,
             "Mapping(fd, offset, nbytes, mode, filename, keep_fd=False, room=0, /)\n--\n\n"
             "Own `nbytes` of the file behind `fd`, from byte `offset`, as memory.\n\n"
             "Takes `fd` over: modes that write keep it, the others close it at once unless\n"
             "`keep_fd` is true. If this raises, `fd` is still the caller's.\n\n"
             "The mapping can grow by `room` bytes, or several times its size, as far as\n"
             "there is address space.");

static PyType_Slot mapping_slots[] = {
    {Py_tp_doc, (void *)mapping_doc},
    {Py_tp_new, mapping_new},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_repr, mapping_repr},
    {Py_tp_methods, mapping_methods},
    {Py_tp_members, mapping_members},
    {Py_tp_getset, mapping_getset},
    {Py_sq_length, mapping_length},
    {Py_bf_getbuffer, mapping_getbuffer},
    {Py_bf_releasebuffer, mapping_releasebuffer},
    {0, NULL},
};

PyType_Spec mapping_spec = {
    .name = "ndfile._core.Mapping",
    .basicsize = sizeof(MappingObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mapping_slots,
};
