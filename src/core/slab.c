/* Which way a block is reduced. Vector code wants many items side by side that are treated alike: along a long row, or
 * across columns. Short rows are made columns of; narrow columns are put side by side. */
#include "slab.h"

#include <stdbool.h>
#include <string.h>

enum {
    BUFFER_NBYTES = 16384, /* half of a small processor's first cache */
    SHORT_ROW = 64,
    NARROW = 48,
    WIDE = 256, /* columns enough for vector code */
};

static const unsigned char itemsizes[ND_KINDS] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8};

size_t
nd_itemsize(nd_kind kind)
{
    return itemsizes[kind];
}

static size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* buffer[k][i][j] = items[i][k][j]: `count` outer items, of which each is `reduced` rows of `inner`. */
#define DEFINE_TURN(name, type)                                                                               \
    static void name(const nd_slab *slab, const char *items, size_t count, type *buffer)                      \
    {                                                                                                         \
        for (size_t k = 0; k < slab->reduced; k++) {                                                          \
            const char *from = items + (ptrdiff_t)k * slab->reduced_stride;                                   \
            for (size_t i = 0; i < count; i++, from += slab->outer_stride) {                                  \
                for (size_t j = 0; j < slab->inner; j++) {                                                    \
                    *buffer++ = ((const type *)from)[j];                                                      \
                }                                                                                             \
            }                                                                                                 \
        }                                                                                                     \
    }
/* SAFE: as unsigned integers of their size items are only copied; the slab's are aligned, and so is the buffer. */
DEFINE_TURN(turn_1, uint8_t)
DEFINE_TURN(turn_2, uint16_t)
DEFINE_TURN(turn_4, uint32_t)
DEFINE_TURN(turn_8, uint64_t)

static void
turn(const nd_slab *slab, const char *items, size_t count, void *buffer)
{
    switch (nd_itemsize(slab->kind)) {
    case 1: turn_1(slab, items, count, buffer); return;
    case 2: turn_2(slab, items, count, buffer); return;
    case 4: turn_4(slab, items, count, buffer); return;
    default: turn_8(slab, items, count, buffer); return;
    }
}

static void
reduce_short_rows(const nd_slab *slab, const nd_family *family, void *state)
{
    _Alignas(64) char buffer[BUFFER_NBYTES];
    size_t itemsize = nd_itemsize(slab->kind), most = sizeof buffer / (slab->reduced * slab->inner * itemsize);
    for (size_t i = 0; i < slab->outer; i += most) {
        size_t count = smaller(most, slab->outer - i), columns = count * slab->inner;
        turn(slab, slab->items + (ptrdiff_t)i * slab->outer_stride, count, buffer);
        family->columns(slab->kind, buffer, (ptrdiff_t)(columns * itemsize), slab->reduced, columns, state,
                        i * slab->inner, columns);
    }
}

static void
reduce_rows(const nd_slab *slab, const nd_family *family, void *state)
{
    for (size_t i = 0; i < slab->outer; i++) {
        family->row(slab->kind, slab->items + (ptrdiff_t)i * slab->outer_stride, slab->reduced, state, i);
    }
}

/* Rows that lie one behind the other: some together are a wider row. What is left over is added as it is. */
static void
reduce_narrow(const nd_slab *slab, const nd_family *family, void *state)
{
    size_t together = smaller(WIDE / slab->inner, slab->reduced / 8), rows = slab->reduced / together;
    size_t left = slab->reduced - rows * together;
    ptrdiff_t stride = (ptrdiff_t)together * slab->reduced_stride;
    for (size_t i = 0; i < slab->outer; i++) {
        const char *items = slab->items + (ptrdiff_t)i * slab->outer_stride;
        family->columns(slab->kind, items, stride, rows, together * slab->inner, state, i * slab->inner, slab->inner);
        if (left > 0) {
            family->columns(slab->kind, items + (ptrdiff_t)rows * stride, slab->reduced_stride, left, slab->inner, state,
                            i * slab->inner, slab->inner);
        }
    }
}

static void
reduce_columns(const nd_slab *slab, const nd_family *family, void *state)
{
    for (size_t i = 0; i < slab->outer; i++) {
        family->columns(slab->kind, slab->items + (ptrdiff_t)i * slab->outer_stride, slab->reduced_stride, slab->reduced,
                        slab->inner, state, i * slab->inner, slab->inner);
    }
}

static void
reduce_turn(const nd_slab *slab, const nd_family *family, void *state)
{
    bool is_dense = slab->reduced_stride == (ptrdiff_t)(slab->inner * nd_itemsize(slab->kind));
    if (slab->outer >= 8 && slab->reduced <= SHORT_ROW && slab->inner <= SHORT_ROW / 4) {
        reduce_short_rows(slab, family, state);
    }
    else if (slab->inner == 1) {
        reduce_rows(slab, family, state);
    }
    else if (slab->inner < NARROW && is_dense && slab->reduced >= 16) {
        reduce_narrow(slab, family, state);
    }
    else {
        reduce_columns(slab, family, state);
    }
}

void
nd_reduce(const nd_slab *slab, const nd_family *family, void *state)
{
    nd_slab turn = *slab;
    bool is_empty = slab->outer == 0 || slab->reduced == 0 || slab->inner == 0;
    for (size_t i = 0; i < slab->turns && !is_empty; i++, turn.items += slab->turn_stride) {
        reduce_turn(&turn, family, state);
    }
}
