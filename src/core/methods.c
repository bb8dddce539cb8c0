/* Methods: ndarray's own, with results of the right class, and errors for items that are lost. */
#include "methods.h"

#include "fault_error.h"
#include "overrides.h"
#include "store.h"
#include "take.h"
#include "view.h"

/* Call ndarray's method on `self`, and keep the method for the next time: ndarray lives as long as the process. */
static PyObject *
call(PyObject **method, const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    if (*method == NULL && (*method = PyObject_GetAttrString((PyObject *)&PyArray_Type, name)) == NULL) {
        return NULL;
    }
    enum { USUAL_ARGUMENTS = 16 };
    PyObject *usual[USUAL_ARGUMENTS + 1], **stack = usual;
    Py_ssize_t total = nargs + (names == NULL ? 0 : PyTuple_GET_SIZE(names));
    if (total > USUAL_ARGUMENTS && (stack = PyMem_New(PyObject *, total + 1)) == NULL) {
        return PyErr_NoMemory();
    }
    stack[0] = self;
    for (Py_ssize_t i = 0; i < total; i++) {
        stack[i + 1] = args[i];
    }
    PyObject *result = PyObject_Vectorcall(*method, stack, (size_t)(nargs + 1), names);
    if (stack != usual) {
        PyMem_Free(stack);
    }
    return result;
}

static PyObject *
unless_lost(PyObject *self, PyObject *result)
{
    if (view_may_have_lost(self, view_mapping(self)) && view_refuse_lost(self, "read") < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* Of an operation that may have used some of the items only. */
static PyObject *
unless_behind_end(PyObject *self, PyObject *result)
{
    MappingObject *mapping = view_mapping(self);
    bool is_shrunk = mapping != NULL && mapping->shrunk; /* then items may be behind the end without a fault */
    return is_shrunk ? unless_lost(self, result) : fault_checked(result);
}

/* What is made from a plain array is plain. */
static PyObject *
call_taking(PyObject **method, const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
            PyObject *names)
{
    if (view_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    PyObject *plain = view_gives_plain_results(Py_TYPE(self)) ? view_as_plain(self) : Py_NewRef(self);
    PyObject *result = plain == NULL ? NULL : call(method, name, plain, args, nargs, names);
    if (result != NULL && result == plain) {
        /* astype(copy=False), byteswap(inplace=True): the array itself. */
        Py_SETREF(result, Py_NewRef(self));
    }
    Py_XDECREF(plain);
    return unless_behind_end(self, result);
}

static PyObject *
call_copying(PyObject **method, const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *names)
{
    return unless_lost(self, call_taking(method, name, self, args, nargs, names));
}

static PyObject *
call_viewing(PyObject **method, const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
             PyObject *names)
{
    if (view_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    return fault_checked(view_plain_unless_view(call(method, name, self, args, nargs, names)));
}

static PyObject *
call_using(PyObject **method, const char *name, PyObject *self, PyObject *const *args, Py_ssize_t nargs,
           PyObject *names)
{
    if (view_refuse_closed(self, "read") < 0) {
        return NULL;
    }
    PyObject *result = call(method, name, self, args, nargs, names);
    if (result == NULL && PyErr_ExceptionMatches(PyExc_OSError) && view_is_cut(self)) {
        /* The kernel has read the lost bytes itself, for write(), and says "bad address". */
        fault_raise(view_mapping(self), "read");
        return NULL;
    }
    return unless_lost(self, result);
}

#define DEFINE_METHOD(name, how)                                                                      \
    PyObject *method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) \
    {                                                                                                 \
        static PyObject *method;                                                                      \
        return how(&method, #name, self, args, nargs, names);                                         \
    }
#define DEFINE_OURS(name, way, how)                                                                   \
    PyObject *method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) \
    {                                                                                                 \
        static PyObject *method;                                                                      \
        if (view_refuse_closed(self, "read") < 0) {                                                    \
            return NULL;                                                                              \
        }                                                                                             \
        PyObject *result = way(self, args, nargs, names);                                             \
        if (result == NULL && !PyErr_Occurred()) {                                                    \
            return how(&method, #name, self, args, nargs, names);                                     \
        }                                                                                             \
        return unless_behind_end(self, result);                                                       \
    }
#define DEFINE_STREAMED(name, items, nbytes)                                                          \
    PyObject *method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) \
    {                                                                                                 \
        static PyObject *method;                                                                      \
        if (overrides_is_large(self, items, nbytes)) {                                                \
            PyObject *result = overrides_method(#name, self, args, nargs, names);                     \
            if (result != Py_NotImplemented) {                                                        \
                return fault_checked(result);                                                         \
            }                                                                                         \
            Py_DECREF(result);                                                                        \
        }                                                                                             \
        return call_copying(&method, #name, self, args, nargs, names);                                \
    }
#define DEFINE_COPYING(name) DEFINE_METHOD(name, call_copying)
#define DEFINE_TAKING(name) DEFINE_METHOD(name, call_taking)
#define DEFINE_VIEWING(name) DEFINE_METHOD(name, call_viewing)
#define DEFINE_USING(name) DEFINE_METHOD(name, call_using)

ARRAY_METHODS(DEFINE_COPYING, DEFINE_TAKING, DEFINE_VIEWING, DEFINE_USING, DEFINE_OURS, DEFINE_STREAMED)
