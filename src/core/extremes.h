/* The smallest and largest items, and how many are NaN; a part at a time, while it is in a cache anyway. */
#ifndef NDFILE_EXTREMES_H
#define NDFILE_EXTREMES_H

#include "slab.h"

#include <stdbool.h>

/* One place for each result. */
typedef struct {
    void *low, *high; /* items of the slab's kind */
    int64_t *nans;
    bool skip_nan; /* otherwise the extremes of what has NaN are NaN */
} nd_extremes;

void nd_begin_extremes(nd_kind kind, size_t places, nd_extremes *extremes);

/* As the functions of a family. */
void nd_add_extremes_of_row(nd_kind kind, const char *items, size_t count, nd_extremes *extremes, size_t at);
void nd_add_extremes_of_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns,
                                nd_extremes *extremes, size_t at, size_t fold);

/* NaN where it belongs, of `count` items for each result. */
void nd_end_extremes(nd_kind kind, size_t places, size_t count, nd_extremes *extremes);

#endif
