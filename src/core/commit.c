#include "commit.h"

#include "fault_error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char commit_keep_journal_doc[] =
    "keep_journal($self, fd, path, /)\n--\n\nTake over the journal of the file; its name goes when the mapping does.";

PyObject *
commit_keep_journal(PyObject *object, PyObject *args)
{
    MappingObject *self = (MappingObject *)object;
    int fd;
    PyObject *path;
    if (!PyArg_ParseTuple(args, "iO&:keep_journal", &fd, PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    char *copy = strdup(PyBytes_AS_STRING(path));
    Py_DECREF(path);
    if (copy == NULL || self->journal >= 0 || self->closed) {
        free(copy);
        PyErr_SetString(PyExc_ValueError, "keep_journal() is for an open mapping without a journal");
        return NULL;
    }
    self->journal = fd;
    self->journal_path = copy;
    Py_RETURN_NONE;
}

const char commit_begin_doc[] =
    "begin_block($self, limit, /)\n--\n\n"
    "Keep changes in memory from here on, at most `limit` bytes of changed pages.";

PyObject *
commit_begin(PyObject *object, PyObject *limit)
{
    MappingObject *self = (MappingObject *)object;
    Py_ssize_t most = PyNumber_AsSsize_t(limit, NULL); /* clipped */
    if (most == -1 && PyErr_Occurred()) {
        return NULL;
    }
    mapping_wait_until_not_passed_by(self);
    if (mapping_check(self, "atomic") < 0) {
        return NULL;
    }
    if (self->map.access != ND_WRITE || self->map.block != NULL || self->journal < 0 || most < 0) {
        PyErr_SetString(PyExc_ValueError, "begin_block() is for a mapping that writes, has a journal and no block");
        return NULL;
    }
    if (mapping_check_synced(self) < 0) {
        return NULL;
    }
    int status = nd_block_begin(&self->map, (size_t)most);
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

static bool
refuse_without_block(MappingObject *self)
{
    if (self->closed) {
        fault_raise(self, "atomic");
        return true;
    }
    if (self->map.block == NULL) {
        PyErr_SetString(PyExc_ValueError, "there is no open block");
        return true;
    }
    return false;
}

/* The size that the file is to have. */
static int64_t
size_after(const MappingObject *self)
{
    int64_t end = self->map.offset + (int64_t)self->map.nbytes, before = self->map.block->file_size;
    bool has_shrunk = self->map.nbytes < self->map.block->nbytes;
    bool has_grown = self->map.nbytes > self->map.block->nbytes;
    return has_shrunk || (has_grown && end > before) ? end : before;
}

const char commit_end_doc[] =
    "commit_block($self, /)\n--\n\n"
    "Put the block's changes into the file, durably. After an OSError without an open block they are in the journal alone.";

PyObject *
commit_end(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)object;
    if (refuse_without_block(self) || mapping_check(self, "commit") < 0) {
        return NULL;
    }
    nd_commit_stage stage;
    int64_t size = size_after(self);
    int status;
    mapping_begin_use(self, false);
    Py_BEGIN_ALLOW_THREADS
    status = nd_block_commit(&self->map, self->journal, ++self->sequence, size, &stage);
    Py_END_ALLOW_THREADS
    mapping_end_use(self, false);
    self->journal_is_revoked = true;
    if (stage == ND_DURABLE) {
        self->journal_is_needed = true;
        self->journal_is_revoked = false;
        self->sync_failure = self->sync_failure != 0 ? self->sync_failure : status;
    }
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

const char commit_roll_back_doc[] = "roll_back_block($self, /)\n--\n\nForget the block's changes.";

PyObject *
commit_roll_back(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)object;
    if (refuse_without_block(self)) {
        return NULL;
    }
    int status = commit_undo(self);
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

int
commit_undo(MappingObject *self)
{
    self->shrunk = self->shrunk || self->map.nbytes > self->map.block->nbytes;
    return nd_block_roll_back(&self->map);
}

PyObject *
commit_get_in_block(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((MappingObject *)object)->map.block != NULL);
}

PyObject *
commit_get_is_block_full(PyObject *object, void *Py_UNUSED(closure))
{
    const nd_block *block = ((MappingObject *)object)->map.block;
    return PyBool_FromLong(block != NULL && block->is_too_large);
}

PyObject *
commit_get_has_journal(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((MappingObject *)object)->journal >= 0);
}

const char commit_settle_doc[] =
    "settle_journal($self, /)\n--\n\n"
    "Wait until the disk knows that the last commit is over. Before the file gets another size: a journal is the file's\n"
    "own only as long as the size is one that its commit can have left.";

PyObject *
commit_settle_method(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)object;
    int status = 0;
    if (self->journal >= 0) {
        mapping_begin_use(self, false);
        Py_BEGIN_ALLOW_THREADS
        status = mapping_settle(self);
        Py_END_ALLOW_THREADS
        mapping_end_use(self, false);
    }
    if (status != 0) {
        mapping_raise_errno(self, status);
        return NULL;
    }
    Py_RETURN_NONE;
}

const char commit_look_doc[] =
    "look_at_journal(journal, file, /)\n--\n\n"
    "None for a journal that is not complete; otherwise whether it is the file's own.";

PyObject *
commit_look(PyObject *Py_UNUSED(module), PyObject *args)
{
    int journal, file, status;
    nd_journal_state state;
    if (!PyArg_ParseTuple(args, "ii:look_at_journal", &journal, &file)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = nd_journal_look(journal, file, &state);
    Py_END_ALLOW_THREADS
    if (status != 0) {
        errno = status;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return state == ND_INCOMPLETE ? Py_NewRef(Py_None) : PyBool_FromLong(state == ND_PENDING);
}

const char commit_replay_doc[] =
    "replay_journal(journal, file, /)\n--\n\nBring a complete journal's changes into the file, durably.";

PyObject *
commit_replay(PyObject *Py_UNUSED(module), PyObject *args)
{
    int journal, file, status;
    if (!PyArg_ParseTuple(args, "ii:replay_journal", &journal, &file)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = nd_journal_replay(journal, file);
    Py_END_ALLOW_THREADS
    if (status != 0) {
        errno = status;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}
