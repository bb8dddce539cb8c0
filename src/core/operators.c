/* Arithmetic and comparison: ndarray's own, on plain views of our operands.
 *
 * Left to itself NumPy asks every operand that is not a plain array for its class's say in the result, by name, each
 * time. A view made here costs less than those questions, and the answer, a plain array, is the same.
 */
#include "operators.h"

#include "array.h"

/* The operand as NumPy is to see it, a new reference; NULL with ClosedError set. */
static PyObject *
operand(PyObject *object)
{
    if (!array_gives_plain_results(Py_TYPE(object))) {
        return Py_NewRef(object);
    }
    if (array_refuse_closed(object, "read") < 0) {
        return NULL;
    }
    return array_as_plain(object);
}

/* Evaluate `call` on the plain operands `x` and `y`. */
#define RETURN_ON_PLAIN(left, right, call)                \
    do {                                                  \
        PyObject *x = operand(left);                      \
        PyObject *y = x == NULL ? NULL : operand(right);  \
        PyObject *result = y == NULL ? NULL : (call);     \
        Py_XDECREF(x);                                    \
        Py_XDECREF(y);                                    \
        return result;                                    \
    } while (0)

#define NUMBER_SLOT(slot) PyArray_Type.tp_as_number->slot

#define DEFINE_UNARY(slot)                                  \
    PyObject *operator_##slot(PyObject *array)              \
    {                                                       \
        PyObject *x = operand(array);                       \
        PyObject *result = x == NULL ? NULL : NUMBER_SLOT(slot)(x); \
        Py_XDECREF(x);                                      \
        return result;                                      \
    }

#define DEFINE_BINARY(slot)                                       \
    PyObject *operator_##slot(PyObject *left, PyObject *right)    \
    {                                                             \
        RETURN_ON_PLAIN(left, right, NUMBER_SLOT(slot)(x, y));    \
    }

#define DEFINE_TERNARY(slot)                                                       \
    PyObject *operator_##slot(PyObject *left, PyObject *right, PyObject *third)    \
    {                                                                              \
        RETURN_ON_PLAIN(left, right, NUMBER_SLOT(slot)(x, y, third));              \
    }

#define DEFINE_COMPARISON(slot)                                                 \
    PyObject *operator_##slot(PyObject *left, PyObject *right, int comparison)  \
    {                                                                           \
        RETURN_ON_PLAIN(left, right, PyArray_Type.slot(x, y, comparison));      \
    }

ARRAY_OPERATORS(DEFINE_UNARY, DEFINE_BINARY, DEFINE_TERNARY, DEFINE_COMPARISON)
