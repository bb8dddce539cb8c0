/* The methods that ArrayBase has from ndarray, each with the name of ndarray's. */
#ifndef NDFILE_METHODS_H
#define NDFILE_METHODS_H

#include "core.h"

/* COPYING: the result is a new array. NumPy would give it our class, though no file is behind it.
 * TAKING: so too, of some of the items only.
 * VIEWING: a view where the strides allow it, a new array otherwise.
 * USING: no array. They are here to find lost items. */
#define ARRAY_METHODS(COPYING, TAKING, VIEWING, USING) \
    COPYING(__copy__)                                  \
    COPYING(__deepcopy__)                              \
    COPYING(__reduce__)                                \
    COPYING(__reduce_ex__)                             \
    COPYING(argmax)                                    \
    COPYING(argmin)                                    \
    COPYING(argpartition)                              \
    COPYING(argsort)                                   \
    COPYING(astype)                                    \
    COPYING(byteswap)                                  \
    COPYING(choose)                                    \
    COPYING(copy)                                      \
    COPYING(dot)                                       \
    COPYING(flatten)                                   \
    COPYING(repeat)                                    \
    COPYING(round)                                     \
    TAKING(compress)                                   \
    TAKING(take)                                       \
    VIEWING(ravel)                                     \
    VIEWING(reshape)                                   \
    USING(dump)                                        \
    USING(dumps)                                       \
    USING(fill)                                        \
    USING(nonzero)                                     \
    USING(partition)                                   \
    USING(sort)                                        \
    USING(tobytes)                                     \
    USING(tofile)                                      \
    USING(tolist)

#define DECLARE_METHOD(name) \
    PyObject *method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names);
ARRAY_METHODS(DECLARE_METHOD, DECLARE_METHOD, DECLARE_METHOD, DECLARE_METHOD)

#endif
