/* Arrays as rows of bytes: what gather.c moves, from NumPy's shapes, strides and indices. */
#ifndef NDFILE_ROWS_H
#define NDFILE_ROWS_H

#include "core.h"
#include "gather.h"

/* a[index] and a[index] = value for an index that names rows: whole numbers, a mask, a list of either, or one of these
 * and then basic indices for what is left. NULL (0) without an exception where NumPy should do it. */
PyObject *rows_get(PyArrayObject *self, PyObject *index);
int rows_set(PyArrayObject *self, PyObject *index, PyObject *value);

/* True for ndarray and ndfile.memmap themselves: other classes may mean more than their bytes. */
bool rows_is_plain(PyObject *object);

/* True if all numbers are those of rows, of which there are so many. */
bool rows_are_all(PyArrayObject *numbers, npy_intp rows);

/* The shape of self[numbers]. Returns its dimensions, or 0 where there are too many or no items. */
int rows_shape(PyArrayObject *self, PyArrayObject *numbers, npy_intp *shape);

/* self[numbers] as a new array, each row in order 'C' or as NumPy gives it. NULL without an exception where NumPy should. */
PyObject *rows_gathered(PyArrayObject *self, PyArrayObject *numbers, bool is_c_order);

/* Gather into an array of that shape whose axes of the index are in order 'C'. Returns 0 or -1. */
int rows_gather(PyArrayObject *self, MappingObject *mapping, PyArrayObject *numbers, PyArrayObject *into);

/* Move rows of an array, and let other threads run meanwhile if that may take long; `act` is what is done. Returns 0 or
 * -1. */
int rows_move(PyArrayObject *self, MappingObject *mapping, const nd_rows *rows, const char *act);

/* Fill `rows` with the pages under an array, or under the rows of it in `numbers` unless that is NULL. False if there are
 * none. */
bool rows_of_pages(nd_rows *rows, PyArrayObject *self, PyArrayObject *numbers);

/* The index as whole numbers in the machine's own type, all of them rows of the array; a new reference. NULL, maybe with
 * an exception, for an index that names no rows. */
PyArrayObject *rows_numbers(PyArrayObject *self, PyObject *index);

/* An axis of an array in a mapping, and of one in memory of the same shape. */
typedef struct {
    npy_intp size, mapped, memory; /* items along it; steps on both sides */
} rows_axis;

/* The axes of `array` from `first` on that have more than one item, longest steps first, in the order that NumPy gives a
 * new array for one with these steps. Returns how many. */
int rows_axes(PyArrayObject *array, int first, const npy_intp *memory_strides, rows_axis *axes);

/* The values of an assignment: an array as it is, a number as one of the destination's dtype; a new reference. NULL, maybe
 * with an exception, where NumPy should make them out. */
PyArrayObject *rows_values(PyArrayObject *self, PyObject *value);

/* Steps through values as they are broadcast to a shape. False where they cannot be. */
bool rows_broadcast(PyArrayObject *values, int ndim, const npy_intp *shape, npy_intp *strides);

/* True if an array may have bytes of the mapping. */
bool rows_lie_in(const nd_mapping *mapping, PyArrayObject *array);

#endif
