/* Arithmetic and comparison: ndarray's own, on plain views of our operands.
 *
 * Left to itself NumPy asks every operand that is not a plain array for its class's say in the result, by name, each
 * time. A view made here costs less than those questions, and the answer, a plain array, is the same.
 */
#include "operators.h"

#include "view.h"

/* The operand as NumPy is to see it, a new reference; NULL with ClosedError set. */
static PyObject *
operand(PyObject *object)
{
    if (!view_gives_plain_results(Py_TYPE(object))) {
        return Py_NewRef(object);
    }
    if (view_refuse_closed(object, "read") < 0) {
        return NULL;
    }
    return view_as_plain(object);
}

/* What is left of an operand and its plain view when the operation has used all its items. Returns 0 or -1. */
static int
settle(PyObject *object, PyObject *plain, PyObject **result)
{
    if (plain == NULL || plain == object) {
        return 0;
    }
    if (*result == plain) {
        /* An operator in place gave back its operand, which is ours. */
        Py_SETREF(*result, Py_NewRef(object));
    }
    return view_refuse_lost(object, "read");
}

/* Take the plain views and the result; give the result, or NULL if an operand had lost items. */
static PyObject *
settled(PyObject *left, PyObject *x, PyObject *right, PyObject *y, PyObject *result)
{
    if (settle(left, x, &result) < 0 || settle(right, y, &result) < 0) {
        Py_CLEAR(result);
    }
    Py_XDECREF(x);
    Py_XDECREF(y);
    return result;
}

#define NUMBER_SLOT(slot) PyArray_Type.tp_as_number->slot

#define RETURN_ON_PLAIN(left, right, call)               \
    do {                                                 \
        PyObject *x = operand(left);                     \
        PyObject *y = x == NULL ? NULL : operand(right); \
        PyObject *result = y == NULL ? NULL : (call);    \
        return settled(left, x, right, y, result);       \
    } while (0)

#define DEFINE_UNARY(slot)                                            \
    PyObject *operator_##slot(PyObject *array)                        \
    {                                                                 \
        PyObject *x = operand(array);                                 \
        PyObject *result = x == NULL ? NULL : NUMBER_SLOT(slot)(x);   \
        return settled(array, x, NULL, NULL, result);                 \
    }

#define DEFINE_BINARY(slot)                                    \
    PyObject *operator_##slot(PyObject *left, PyObject *right) \
    {                                                          \
        RETURN_ON_PLAIN(left, right, NUMBER_SLOT(slot)(x, y)); \
    }

#define DEFINE_TERNARY(slot)                                                    \
    PyObject *operator_##slot(PyObject *left, PyObject *right, PyObject *third) \
    {                                                                           \
        RETURN_ON_PLAIN(left, right, NUMBER_SLOT(slot)(x, y, third));           \
    }

#define DEFINE_COMPARISON(slot)                                                \
    PyObject *operator_##slot(PyObject *left, PyObject *right, int comparison) \
    {                                                                          \
        RETURN_ON_PLAIN(left, right, PyArray_Type.slot(x, y, comparison));     \
    }

ARRAY_OPERATORS(DEFINE_UNARY, DEFINE_BINARY, DEFINE_TERNARY, DEFINE_COMPARISON)
