#include "lane.h"

#include <string.h>

INLINE void
copy(char *mapped, char *memory, size_t nbytes, bool is_store)
{
    if (is_store) {
        memcpy(mapped, memory, nbytes);
    }
    else {
        memcpy(memory, mapped, nbytes);
    }
}

/* A row that comes from anywhere in memory is waited for at its first bytes: so those are fetched some rows ahead. */
enum { ROWS_AHEAD = 16 };

INLINE void
copy_pieces(const lane *part, size_t from, size_t to, size_t nbytes, bool is_store)
{
    /* By value: what is stored might change the struct, for all that the compiler knows. */
    const nd_rows rows = {.index = part->rows->index, .rows = part->rows->rows};
    const ptrdiff_t mapped_stride = part->rows->mapped_stride, memory_stride = part->rows->memory_stride;
    char *const mapped = part->rows->mapped + part->mapped;
    char *memory = part->rows->memory + part->memory + (ptrdiff_t)from * memory_stride;
    for (size_t i = from; i < to; i++, memory += memory_stride) {
        ptrdiff_t row = row_at(&rows, i);
        if (i + ROWS_AHEAD < to) {
            ptrdiff_t later = row_at(&rows, i + ROWS_AHEAD);
            __builtin_prefetch(mapped + (later < 0 ? 0 : later) * mapped_stride);
        }
        /* SAFE: row_at has compared the number with the rows that there are. */
        if (row >= 0) {
            copy(mapped + row * mapped_stride, memory, nbytes, is_store);
        }
    }
}

/* Items along the last axis of a row. */
INLINE void
copy_items(const nd_rows *rows, char *mapped, char *memory, size_t nbytes, bool is_store)
{
    int last = rows->ndim - 1;
    ptrdiff_t mapped_step = rows->mapped_strides[last], memory_step = rows->memory_strides[last];
    for (size_t i = 0; i < rows->shape[last]; i++) {
        copy(mapped + (ptrdiff_t)i * mapped_step, memory + (ptrdiff_t)i * memory_step, nbytes, is_store);
    }
}

/* Call it with a number of bytes that the compiler knows, so that copying them is one instruction. */
#define WITH_SIZE(nbytes, is_store, call, ...)                                           \
    do {                                                                                 \
        switch (2 * (nbytes) + (is_store)) {                                             \
            case 2 * 1: call(__VA_ARGS__, 1, false); break;                              \
            case 2 * 1 + 1: call(__VA_ARGS__, 1, true); break;                           \
            case 2 * 2: call(__VA_ARGS__, 2, false); break;                              \
            case 2 * 2 + 1: call(__VA_ARGS__, 2, true); break;                           \
            case 2 * 4: call(__VA_ARGS__, 4, false); break;                              \
            case 2 * 4 + 1: call(__VA_ARGS__, 4, true); break;                           \
            case 2 * 8: call(__VA_ARGS__, 8, false); break;                              \
            case 2 * 8 + 1: call(__VA_ARGS__, 8, true); break;                           \
            case 2 * 16: call(__VA_ARGS__, 16, false); break;                            \
            case 2 * 16 + 1: call(__VA_ARGS__, 16, true); break;                         \
            case 2 * 32: call(__VA_ARGS__, 32, false); break;                            \
            case 2 * 64: call(__VA_ARGS__, 64, false); break;                            \
            default: call(__VA_ARGS__, (nbytes), (is_store)); break;                     \
        }                                                                                \
    } while (0)

bool
nd_advance(const nd_rows *rows, int axes, position *place)
{
    for (int axis = axes - 1; axis >= 0; axis--) {
        place->mapped += rows->mapped_strides[axis];
        place->memory += rows->memory_strides[axis];
        if (++place->at[axis] < rows->shape[axis]) {
            return true;
        }
        place->mapped -= (ptrdiff_t)rows->shape[axis] * rows->mapped_strides[axis];
        place->memory -= (ptrdiff_t)rows->shape[axis] * rows->memory_strides[axis];
        place->at[axis] = 0;
    }
    return false;
}

void
nd_copy_row(const nd_rows *rows, char *mapped, char *memory)
{
    position place = {.mapped = 0};
    do {
        WITH_SIZE(rows->piece_nbytes, rows->is_store, copy_items, rows, mapped + place.mapped, memory + place.memory);
    } while (nd_advance(rows, rows->ndim - 1, &place));
}

void
nd_copy_lane(const lane *part, size_t from, size_t to)
{
    const nd_rows *rows = part->rows;
    if (part->is_piece) {
        WITH_SIZE(part->nbytes, rows->is_store, copy_pieces, part, from, to);
        return;
    }
    for (size_t i = from; i < to; i++) {
        ptrdiff_t row = row_at(rows, i);
        if (row >= 0) {
            nd_copy_row(rows, rows->mapped + row * rows->mapped_stride, rows->memory + (ptrdiff_t)i * rows->memory_stride);
        }
    }
}
