#include "fault_error.h"

#include "next_line.h"

#include <stdlib.h>
#include <string.h>

/* The classes to raise, by cause. The handler reads them, so they are the process's, not the module's. */
static PyObject *fault_types[ND_DISK_FULL + 1];

static const char *const CAUSES[] = {
    [ND_CLOSED] = "closed",           [ND_READ_ONLY] = "read-only", [ND_TRUNCATED] = "truncated",
    [ND_READ_FAILED] = "read failed", [ND_DISK_FULL] = "disk full",
};

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
                         load_type(errors, "FaultError", ND_TRUNCATED, ND_DISK_FULL) < 0 ||
                         load_type(errors, "ClosedError", ND_CLOSED, ND_CLOSED) < 0
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
    return raise_cause(mapping->map.fault.cause, act, Py_NewRef(mapping->filename), mapping->map.fault.offset);
}

/* Take this thread's fault, and with it what the handler has asked of the interpreter. */
static bool
take(nd_fault *fault)
{
    if (!nd_fault_take(fault)) {
        return false;
    }
    next_line_go_on();
    PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), NULL);
    return true;
}

int
fault_raise_pending(void)
{
    nd_fault fault;
    if (!take(&fault)) {
        return 0;
    }
    PyErr_Clear();
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
    next_line_stop(thread, fault_raise_pending);
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
    if (!take(&fault)) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("sNLs", "access", path_object(fault.path), (long long)fault.offset, CAUSES[fault.cause]);
}
