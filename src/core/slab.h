/* A block of items as three axes, of which the middle one is reduced: whatever is summed or counted along axes, is along
 * this one once the axes are sorted.
 *
 *   items[turns][outer][reduced][inner]  ->  results[outer][inner]
 *
 * `turns` is a second reduced axis, for an axis that stays between two that do not.
 */
#ifndef NDFILE_SLAB_H
#define NDFILE_SLAB_H

#include <stddef.h>
#include <stdint.h>

typedef enum { ND_BOOL, ND_I1, ND_U1, ND_I2, ND_U2, ND_I4, ND_U4, ND_I8, ND_U8, ND_F4, ND_F8, ND_KINDS } nd_kind;

typedef struct {
    nd_kind kind;
    const char *items; /* aligned */
    size_t turns, outer, reduced, inner;
    ptrdiff_t turn_stride, outer_stride, reduced_stride; /* bytes, of either sign; items of the inner axis lie side by side, and so do
                                             * those of the reduced one if the inner has one item only */
} nd_slab;

/* What is computed. Both functions add to what `state` has at the places from `at` on. */
typedef struct {
    /* `count` items side by side, into one place. */
    void (*row)(nd_kind kind, const char *items, size_t count, void *state, size_t at);
    /* `rows` rows of `columns` items, into a place for each column; column i and column i + fold have the same one. */
    void (*columns)(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns, void *state, size_t at,
                    size_t fold);
} nd_family;

size_t nd_itemsize(nd_kind kind);

/* Reduce the slab by a family's functions, in the way that suits its form. */
void nd_reduce(const nd_slab *slab, const nd_family *family, void *state);

#endif
