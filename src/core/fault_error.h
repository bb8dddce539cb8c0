/* From a fault to an exception. */
#ifndef NDFILE_FAULT_ERROR_H
#define NDFILE_FAULT_ERROR_H

#include "core.h"

/* Turn the guard on if it is wanted, before the first mapping. Returns -1 with an exception set. */
int fault_guard_ready(void);

/* Raise this thread's pending fault. Returns -1, or 0 if there is none. */
int fault_raise_pending(void);

/* Raise the error for what has happened to a mapping; `act` is what was wanted, such as "read". Returns -1. */
int fault_raise(const MappingObject *mapping, const char *act);

/* A result as it is, or NULL with an exception if this thread has faulted on the way to it. */
static inline PyObject *
fault_checked(PyObject *result)
{
    if (nd_fault_is_pending()) {
        Py_CLEAR(result);
        fault_raise_pending();
    }
    return result;
}

/* ndfile._core.guard and ndfile._core.take_fault. */
PyObject *fault_guard(PyObject *module, PyObject *args);
PyObject *fault_take(PyObject *module, PyObject *ignored);

#endif
