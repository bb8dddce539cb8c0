/* The operators of ArrayBase. Each has the name of its slot; array.c puts them into the type. */
#ifndef NDFILE_OPERATORS_H
#define NDFILE_OPERATORS_H

#include "core.h"

#define ARRAY_OPERATORS(UNARY, BINARY, TERNARY, COMPARISON) \
    UNARY(nb_negative)                                      \
    UNARY(nb_positive)                                      \
    UNARY(nb_absolute)                                      \
    UNARY(nb_invert)                                        \
    BINARY(nb_add)                                          \
    BINARY(nb_subtract)                                     \
    BINARY(nb_multiply)                                     \
    BINARY(nb_remainder)                                    \
    BINARY(nb_divmod)                                       \
    BINARY(nb_lshift)                                       \
    BINARY(nb_rshift)                                       \
    BINARY(nb_and)                                          \
    BINARY(nb_xor)                                          \
    BINARY(nb_or)                                           \
    BINARY(nb_floor_divide)                                 \
    BINARY(nb_true_divide)                                  \
    BINARY(nb_matrix_multiply)                              \
    BINARY(nb_inplace_add)                                  \
    BINARY(nb_inplace_subtract)                             \
    BINARY(nb_inplace_multiply)                             \
    BINARY(nb_inplace_remainder)                            \
    BINARY(nb_inplace_lshift)                               \
    BINARY(nb_inplace_rshift)                               \
    BINARY(nb_inplace_and)                                  \
    BINARY(nb_inplace_xor)                                  \
    BINARY(nb_inplace_or)                                   \
    BINARY(nb_inplace_floor_divide)                         \
    BINARY(nb_inplace_true_divide)                          \
    BINARY(nb_inplace_matrix_multiply)                      \
    TERNARY(nb_power)                                       \
    TERNARY(nb_inplace_power)                               \
    COMPARISON(tp_richcompare)

#define DECLARE_UNARY(slot) PyObject *operator_##slot(PyObject *array);
#define DECLARE_BINARY(slot) PyObject *operator_##slot(PyObject *left, PyObject *right);
#define DECLARE_TERNARY(slot) PyObject *operator_##slot(PyObject *left, PyObject *right, PyObject *third);
#define DECLARE_COMPARISON(slot) PyObject *operator_##slot(PyObject *left, PyObject *right, int comparison);
ARRAY_OPERATORS(DECLARE_UNARY, DECLARE_BINARY, DECLARE_TERNARY, DECLARE_COMPARISON)

#endif
