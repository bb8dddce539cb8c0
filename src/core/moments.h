/* Means and squared deviations, in one read of memory: a part that fits in a cache is read twice, once for its mean and once
 * for the deviations from it, and what parts give is joined (Chan, Golub, LeVeque 1979, "Updating formulae"). */
#ifndef NDFILE_MOMENTS_H
#define NDFILE_MOMENTS_H

#include "extremes.h"
#include "slab.h"

#include <stdbool.h>

/* One place for each result. All zeros to begin with. */
typedef struct {
    double *counts;
    double *means;  /* the mean is mean + error, and the first alone is that sum rounded */
    double *errors; /* without them the difference of two means that are large has no exact digits */
    double *m2;     /* the sum of the squares of deviations from the mean */
    nd_extremes *extremes; /* NULL: not asked for */
    bool skip_nan;
} nd_moments;

/* The moments of the slab. True if an infinite result arose from finite numbers, or NaN from others. */
bool nd_find_moments(const nd_slab *slab, nd_moments *moments);

#endif
