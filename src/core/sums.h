/* Sums: of integers modulo 2^64, of floats with what rounding took from them. */
#ifndef NDFILE_SUMS_H
#define NDFILE_SUMS_H

#include "slab.h"

#include <stdbool.h>

/* One place for each result. All zeros to begin with. */
typedef struct {
    uint64_t *integers; /* of bool and integers; a negative sum as two's complement */
    double *totals;     /* of floats: the sum is total + error, and the total alone is that sum rounded, nearly always */
    double *errors;
    int64_t *nans; /* with skip_nan: how many were left out */
    bool skip_nan;
} nd_sums;

/* Sum the slab. True if an infinite result arose from finite numbers, or NaN from others. */
bool nd_sum(const nd_slab *slab, nd_sums *sums);

#endif
