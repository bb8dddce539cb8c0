/* What moving rows and reading them share: a part of each row, and how it is copied. */
#ifndef NDFILE_LANE_H
#define NDFILE_LANE_H

#include "gather.h"

/* A part of each row that is moved by itself: the whole row, or one piece where pieces are far apart in the file. */
typedef struct {
    const nd_rows *rows;
    ptrdiff_t mapped, memory; /* from the row's address */
    ptrdiff_t low;            /* where it begins in the file, from the row's address */
    size_t extent;            /* and how far it reaches there */
    size_t nbytes;            /* that are moved */
    bool is_piece;
} lane;

#define INLINE static inline __attribute__((always_inline))

/* The number of a row, negative for one that is none. */
INLINE ptrdiff_t
row_at(const nd_rows *rows, size_t i)
{
    /* Loaded once: another thread may change it between being looked at and being used. */
    int64_t row = rows->index == NULL ? (int64_t)i : __atomic_load_n(&rows->index[i], __ATOMIC_RELAXED);
    row += row < 0 ? (int64_t)rows->rows : 0;
    return (size_t)row < rows->rows ? (ptrdiff_t)row : -1;
}

/* A place in a row, counted through the first `axes` of its axes. */
typedef struct {
    size_t at[ND_MOST_AXES];
    ptrdiff_t mapped, memory;
} position;

/* Go to the next place. False behind the last one. */
bool nd_advance(const nd_rows *rows, int axes, position *place);

/* Copy the pieces of one row. */
void nd_copy_row(const nd_rows *rows, char *mapped, char *memory);

/* Copy a lane of rows [from, to) through the map. */
void nd_copy_lane(const lane *part, size_t from, size_t to);

/* Read a lane of all rows from the file, by many calls at a time. */
void nd_read_lane(const lane *part);

#endif
