/* The methods that ArrayBase has from ndarray, each with the name of ndarray's. */
#ifndef NDFILE_METHODS_H
#define NDFILE_METHODS_H

#include "core.h"

/* COPYING: the result is a new array. NumPy would give it our class, though no file is behind it.
 * TAKING: so too, of some of the items only.
 * VIEWING: a view where the strides allow it, a new array otherwise.
 * USING: no array. They are here to find lost items.
 * OURS: by a function of ours, and where that leaves it to NumPy as one of the kinds above.
 * STREAMED: from so many items and bytes on block by block, in Python (ndfile.compute), and otherwise as COPYING. Below, NumPy
 * is done before that would have begun. */
#define ARRAY_METHODS(COPYING, TAKING, VIEWING, USING, OURS, STREAMED) \
    COPYING(__copy__)                                  \
    COPYING(__deepcopy__)                              \
    COPYING(__reduce__)                                \
    COPYING(__reduce_ex__)                             \
    STREAMED(all, 0, 32 << 20)                         \
    STREAMED(any, 0, 32 << 20)                         \
    STREAMED(argmax, 0, 32 << 20)                      \
    STREAMED(argmin, 0, 32 << 20)                      \
    COPYING(argpartition)                              \
    COPYING(argsort)                                   \
    COPYING(astype)                                    \
    COPYING(byteswap)                                  \
    COPYING(choose)                                    \
    OURS(copy, take_copy, call_copying)                \
    STREAMED(dot, 0, 32 << 20)                         \
    COPYING(flatten)                                   \
    STREAMED(max, 0, 32 << 20)                         \
    STREAMED(mean, 4 << 20, 0)                         \
    STREAMED(min, 0, 32 << 20)                         \
    STREAMED(prod, 0, 32 << 20)                        \
    COPYING(repeat)                                    \
    COPYING(round)                                     \
    STREAMED(std, 128 << 10, 0)                        \
    STREAMED(sum, 4 << 20, 0)                          \
    STREAMED(var, 128 << 10, 0)                        \
    TAKING(compress)                                   \
    OURS(take, take_rows, call_taking)                 \
    VIEWING(ravel)                                     \
    VIEWING(reshape)                                   \
    USING(dump)                                        \
    USING(dumps)                                       \
    OURS(fill, store_fill, call_using)                 \
    USING(nonzero)                                     \
    USING(partition)                                   \
    USING(sort)                                        \
    USING(tobytes)                                     \
    USING(tofile)                                      \
    USING(tolist)

#define DECLARE_METHOD(name, ...) \
    PyObject *method_##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names);
ARRAY_METHODS(DECLARE_METHOD, DECLARE_METHOD, DECLARE_METHOD, DECLARE_METHOD, DECLARE_METHOD, DECLARE_METHOD)



#endif
