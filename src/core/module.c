/* ndfile._core: the module. */
#define NDFILE_IMPORTS_NUMPY
#include "array.h"
#include "commit.h"
#include "core.h"
#include "counting.h"
#include "fault_error.h"
#include "kernels.h"
#include "remote.h"
#include "selection.h"
#include "streaming.h"
#include "ufuncs.h"
#include "view.h"

#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

PyDoc_STRVAR(core_doc, "What only C can do for ndfile: own mappings, and be the array type over them.");

PyDoc_STRVAR(regular_size_doc,
             "regular_size(fd, /)\n--\n\n"
             "Size in bytes of the regular file behind fd; -1 for anything that is not a regular file.");

static PyObject *
core_regular_size(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd = PyObject_AsFileDescriptor(argument);
    if (fd < 0) {
        return NULL;
    }
    int64_t size;
    int status = nd_regular_size(fd, &size);
    if (status != 0) {
        errno = status;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLongLong(size);
}

PyDoc_STRVAR(open_file_doc,
             "open_file(path, flags, /)\n--\n\n"
             "Open an existing file: its descriptor, its size as regular_size has it, and whether there may be a journal.");

/* os.open() and regular_size() in one: opening is counted in microseconds, and each call from Python is part of one. */
static PyObject *
core_open_file(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        return PyErr_Format(PyExc_TypeError, "open_file() takes a path and flags, not %zd arguments", nargs);
    }
    PyObject *given = args[0], *path;
    long flags = PyLong_AsLong(args[1]);
    int status;
    nd_opened opened;
    if ((flags == -1 && PyErr_Occurred()) || PySys_Audit("open", "OOi", given, Py_None, (int)flags) < 0 ||
        !PyUnicode_FSConverter(given, &path)) {
        return NULL;
    }
    do {
        Py_BEGIN_ALLOW_THREADS
        status = nd_open(PyBytes_AS_STRING(path), (int)flags, &opened);
        Py_END_ALLOW_THREADS
    } while (status == EINTR && PyErr_CheckSignals() == 0);
    Py_DECREF(path);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (status != 0) {
        errno = status;
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, given);
    }
    return Py_BuildValue("iLO", opened.fd, (long long)opened.size, opened.has_journal ? Py_True : Py_False);
}

PyDoc_STRVAR(allocate_doc,
             "allocate(fd, offset, nbytes, keep_size=False, /)\n--\n\n"
             "Reserve blocks for a range of the file, which grows to hold it unless it keeps its size.\n\n"
             "OSError with EOPNOTSUPP where the file system cannot. A failure may leave the file grown.");

static PyObject *
core_allocate(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, status, keep_size = 0;
    long long from, nbytes;
    if (!PyArg_ParseTuple(args, "iLL|p:allocate", &fd, &from, &nbytes, &keep_size)) {
        return NULL;
    }
    do {
        Py_BEGIN_ALLOW_THREADS
        status = nd_allocate(fd, from, nbytes, keep_size != 0);
        Py_END_ALLOW_THREADS
    } while (status == EINTR && PyErr_CheckSignals() == 0);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (status != 0) {
        errno = status;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(file_system_type_doc,
             "file_system_type(fd, /)\n--\n\n"
             "The magic number of the file system that the open file is on, as statfs(2) has it.");

static PyObject *
core_file_system_type(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd = PyObject_AsFileDescriptor(argument);
    struct statfs system;
    if (fd < 0) {
        return NULL;
    }
    if (fstatfs(fd, &system) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromUnsignedLong((unsigned long)system.f_type);
}

PyDoc_STRVAR(is_remote_doc,
             "is_remote(magic, /)\n--\n\n"
             "Whether that is the number of a file system whose bytes come from another machine or another program.");

static PyObject *
core_is_remote(PyObject *Py_UNUSED(module), PyObject *magic)
{
    unsigned long number = PyLong_AsUnsignedLongMask(magic);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(nd_is_remote_system((uint32_t)number));
}

PyDoc_STRVAR(watch_doc,
             "watch(path, /)\n--\n\n"
             "An inotify descriptor that becomes readable when the file at `path` is written to, cut, moved or removed.");

static PyObject *
core_watch(PyObject *Py_UNUSED(module), PyObject *path)
{
    PyObject *bytes;
    if (!PyUnicode_FSConverter(path, &bytes)) {
        return NULL;
    }
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    bool is_watched = fd >= 0 && inotify_add_watch(fd, PyBytes_AS_STRING(bytes),
                                                   IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF) >= 0;
    Py_DECREF(bytes);
    if (!is_watched) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    return PyLong_FromLong(fd);
}

PyDoc_STRVAR(guard_doc,
             "guard(enabled=None, /)\n--\n\n"
             "Turn the fault guard on or off, or leave it; gives what it was before.");

PyDoc_STRVAR(take_fault_doc,
             "take_fault()\n--\n\n"
             "The facts of this thread's fault, (act, path, offset, cause), which is settled with that; or None.");

PyDoc_STRVAR(refuse_lost_doc,
             "refuse_lost(array, act, /)\n--\n\n"
             "Stand behind an act that has used all items of an array: raise if any of them is lost, or the array closed.");

static PyObject *
core_refuse_lost(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyArray_Check(args[0]) || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "refuse_lost() takes an array and a str");
        return NULL;
    }
    const char *act = PyUnicode_AsUTF8(args[1]);
    if (act == NULL || view_refuse_closed(args[0], act) < 0 || view_refuse_lost(args[0], act) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stream_from_doc,
             "stream_from(nbytes, /)\n--\n\n"
             "From so many bytes on, at least 1, arrays are worked on block by block; None for the usual numbers.\n\n"
             "For tests. Gives what was set before.");

static PyObject *
core_stream_from(PyObject *Py_UNUSED(module), PyObject *nbytes)
{
    size_t before = nd_stream_nbytes, wanted = nbytes == Py_None ? 0 : PyLong_AsSize_t(nbytes);
    if (wanted == (size_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (wanted == 0 && nbytes != Py_None) {
        PyErr_SetString(PyExc_ValueError, "stream_from() takes a number of bytes, at least 1, or None");
        return NULL;
    }
    nd_stream_nbytes = wanted;
    return before == 0 ? Py_NewRef(Py_None) : PyLong_FromSize_t(before);
}

static PyMethodDef core_methods[] = {
    {"block_moments", (PyCFunction)(void (*)(void))kernels_moments, METH_FASTCALL, kernels_moments_doc},
    {"block_sums", (PyCFunction)(void (*)(void))kernels_sums, METH_FASTCALL, kernels_sums_doc},
    {"allocate", core_allocate, METH_VARARGS, allocate_doc},
    {"collect_within", selection_collect_within, METH_VARARGS, selection_collect_within_doc},
    {"count_digits", selection_count_digits, METH_VARARGS, selection_count_digits_doc},
    {"count_within", selection_count_within, METH_VARARGS, selection_count_within_doc},
    {"guard", fault_guard, METH_VARARGS, guard_doc},
    {"file_system_type", core_file_system_type, METH_O, file_system_type_doc},
    {"is_remote", core_is_remote, METH_O, is_remote_doc},
    {"look_at_journal", commit_look, METH_VARARGS, commit_look_doc},
    {"replay_journal", commit_replay, METH_VARARGS, commit_replay_doc},
    {"watch", core_watch, METH_O, watch_doc},
    {"count_bins", (PyCFunction)(void (*)(void))counting_count_bins, METH_FASTCALL, counting_count_bins_doc},
    {"tally", (PyCFunction)(void (*)(void))counting_tally, METH_FASTCALL, counting_tally_doc},
    {"take_fault", fault_take, METH_NOARGS, take_fault_doc},
    {"open_file", (PyCFunction)(void (*)(void))core_open_file, METH_FASTCALL, open_file_doc},
    {"refuse_lost", (PyCFunction)(void (*)(void))core_refuse_lost, METH_FASTCALL, refuse_lost_doc},
    {"regular_size", core_regular_size, METH_O, regular_size_doc},
    {"stream_from", core_stream_from, METH_O, stream_from_doc},
    {NULL, NULL, 0, NULL},
};

static int
add_type(PyObject *module, const char *name, PyType_Spec *spec, PyObject *base)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, base);
    if (type == NULL) {
        return -1;
    }
    int status = PyModule_AddObjectRef(module, name, type);
    Py_DECREF(type);
    return status;
}

static int
core_exec(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0 || add_type(module, "Mapping", &mapping_spec, NULL) < 0 ||
        add_type(module, "ArrayBase", &array_spec, (PyObject *)&PyArray_Type) < 0 ||
        add_type(module, "UfuncAttribute", &ufunc_attribute_spec, NULL) < 0) {
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ndfile._core",
    .m_doc = core_doc,
    .m_methods = core_methods,
    .m_slots = core_slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
