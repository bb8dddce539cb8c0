#include "fault_error.h"

#include "next_line.h"

#include <stdlib.h>
#include <string.h>

/* The classes to raise, by cause. The handler reads them, so they are the process's, not the module's. */
static PyObject *fault_types[ND_SHRUNK + 1];

static const char *const CAUSES[] = {
    [ND_CLOSED] = "closed",       [ND_READ_ONLY] = "read-only",     [ND_TOO_LARGE] = "too large",
    [ND_TRUNCATED] = "truncated", [ND_READ_FAILED] = "read failed", [ND_DISK_FULL] = "disk full",
    [ND_SHRUNK] = "shrunk",
};

/* A Python function that does nothing. */
static PyObject *find_asked;

/* References that the handler gives away: it cannot count them up without the interpreter's lock. */
enum { REFERENCES_IN_STOCK = 1 << 24 };

static int
load_type(PyObject *errors, const char *name, nd_cause first, nd_cause last)
{
    PyObject *type = PyObject_GetAttrString(errors, name);
    if (type == NULL) {
        return -1;
    }
    for (nd_cause cause = first; cause <= last; cause++) {
        fault_types[cause] = type;
    }
    Py_SET_REFCNT(type, Py_REFCNT(type) + REFERENCES_IN_STOCK);
    return 0;
}

static int
load_types(void)
{
    if (fault_types[ND_CLOSED] != NULL) {
        return 0;
    }
    PyObject *errors = PyImport_ImportModule("ndfile.errors");
    if (errors == NULL) {
        return -1;
    }
    int status = load_type(errors, "ReadOnlyError", ND_READ_ONLY, ND_READ_ONLY) < 0 ||
                         load_type(errors, "AtomicLimitError", ND_TOO_LARGE, ND_TOO_LARGE) < 0 ||
                         load_type(errors, "FaultError", ND_TRUNCATED, ND_SHRUNK) < 0 ||
                         load_type(errors, "ClosedError", ND_CLOSED, ND_CLOSED) < 0 ||
                         (find_asked = PyObject_GetAttrString(errors, "find_asked")) == NULL
                     ? -1
                     : 0;
    Py_DECREF(errors);
    return status;
}

static PyObject *
path_object(const char *path)
{
    return path == NULL || path[0] == '\0' ? Py_NewRef(Py_None) : PyUnicode_DecodeFSDefault(path);
}

static int
raise_cause(nd_cause cause, const char *act, PyObject *path, int64_t offset)
{
    PyErr_Clear();
    if (path != NULL && load_types() == 0) {
        PyObject *error =
            PyObject_CallFunction(fault_types[cause], "sOLs", act, path, (long long)offset, CAUSES[cause]);
        if (error != NULL) {
            PyErr_SetObject(fault_types[cause], error);
            Py_DECREF(error);
        }
    }
    Py_XDECREF(path);
    return -1;
}

int
fault_raise(const MappingObject *mapping, const char *act)
{
    nd_guard_lock();
    nd_damage damage = mapping->map.fault;
    nd_guard_unlock();
    /* A thread that is closing just now has not said so there yet. */
    nd_cause cause = mapping->closed ? ND_CLOSED : damage.cause;
    if (cause == ND_NO_FAULT && mapping->map.block != NULL && mapping->map.block->is_too_large) {
        cause = ND_TOO_LARGE;
    }
    if (cause == ND_NO_FAULT) {
        cause = ND_SHRUNK;
        damage.offset = mapping->map.offset + (int64_t)mapping->map.nbytes;
    }
    return raise_cause(cause, act, Py_NewRef(mapping->filename), damage.offset);
}

static PyObject *
current_error(void)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
}

/* Raise what the handler has asked of the interpreter. It cannot be taken back: PyThreadState_SetAsyncExc(id, NULL)
 * leaves the interpreter looking for an exception for ever. But any Python function finds it. Returns 0 or -1. */
static int
raise_asked(void)
{
    PyThreadState *thread = PyThreadState_Get();
    PyObject *asked = thread->async_exc;
    if (asked == NULL || (asked != fault_types[ND_CLOSED] && asked != fault_types[ND_READ_ONLY] &&
                          asked != fault_types[ND_TOO_LARGE] && asked != fault_types[ND_TRUNCATED])) {
        return 0;
    }
    PyErr_Clear();
    Py_XDECREF(PyObject_CallNoArgs(find_asked));
    PyObject *error = current_error();
    if (error == NULL) {
        return 0;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return -1;
}

int
fault_raise_pending(void)
{
    nd_fault fault;
    next_line_go_on();
    if (!nd_fault_is_pending() || raise_asked() < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!nd_fault_take(&fault)) {
        return 0;
    }
    return raise_cause(fault.cause, "access", path_object(fault.path), fault.offset);
}

/* A thread that is not Python's has faulted: the main thread is the one that can say so. */
static int
raise_in_main_thread(void *number)
{
    nd_fault_take_over((int)(intptr_t)number);
    return fault_raise_pending();
}

/* Called in the signal handler. The class comes to life in the thread that is to raise it, without arguments: it then
 * asks take_fault for the facts. */
static void
notify(nd_cause cause)
{
    PyThreadState *thread = PyGILState_GetThisThreadState();
    if (thread == NULL) {
        Py_AddPendingCall(raise_in_main_thread, (void *)(intptr_t)nd_fault_hand_over());
        return;
    }
    if (next_line_stop(thread, fault_raise_pending)) {
        return;
    }
    if (PyGILState_Check()) {
        /* SAFE: a fault on mapped bytes happens in code that copies or computes, which holds none of the
         * interpreter's internal locks. */
        PyThreadState_SetAsyncExc(thread->thread_id, fault_types[cause]);
    }
    else {
        /* SAFE: only this thread and holders of the interpreter's lock write the field. It is looked at when this
         * thread takes that lock again. */
        PyObject *none = NULL;
        __atomic_compare_exchange_n(&thread->async_exc, &none, fault_types[cause], false, __ATOMIC_RELEASE,
                                    __ATOMIC_RELAXED);
#if PY_VERSION_HEX >= 0x030D0000
        enum { ASYNC_EXCEPTION_BIT = 1 << 3 }; /* _PY_ASYNC_EXCEPTION_BIT */
        __atomic_fetch_or(&thread->eval_breaker, ASYNC_EXCEPTION_BIT, __ATOMIC_RELEASE);
#endif
    }
}

static int guard_is_wanted = -1; /* not known yet */

static bool
is_wanted(void)
{
    if (guard_is_wanted < 0) {
        const char *setting = getenv("NDFILE_GUARD");
        guard_is_wanted = setting == NULL || strcmp(setting, "0") != 0;
    }
    return guard_is_wanted > 0;
}

int
fault_guard_ready(void)
{
    if (!is_wanted()) {
        return 0;
    }
    if (load_types() < 0) {
        return -1;
    }
    if (nd_guard_install(notify) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

PyObject *
fault_guard(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *enabled = Py_None;
    if (!PyArg_ParseTuple(args, "|O:guard", &enabled)) {
        return NULL;
    }
    bool before = is_wanted();
    if (enabled != Py_None) {
        int wanted = PyObject_IsTrue(enabled);
        if (wanted < 0) {
            return NULL;
        }
        guard_is_wanted = wanted;
        if (!wanted) {
            nd_guard_remove();
        }
        else if (fault_guard_ready() < 0) {
            return NULL;
        }
    }
    return PyBool_FromLong(before);
}

PyObject *
fault_take(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    nd_fault fault;
    if (!nd_fault_take(&fault)) {
        Py_RETURN_NONE;
    }
    next_line_go_on();
    return Py_BuildValue("sNLs", "access", path_object(fault.path), (long long)fault.offset, CAUSES[fault.cause]);
}
