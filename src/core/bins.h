/* How many values lie between which thresholds. */
#ifndef NDFILE_BINS_H
#define NDFILE_BINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BINS_MOST_THRESHOLDS = UINT16_MAX };

/* Each adds to counts[j], for j from 0 to `edges`, how many of the values have j thresholds that are not above them. The
 * thresholds do not decrease. NaN as a value is below all of them, and as the last threshold above everything. There is at
 * least one threshold, and at most BINS_MOST_THRESHOLDS. Thresholds are floats for float values, and doubles for the others,
 * which are compared as doubles. False, and nothing is added, where there is no memory for the tables. */
bool nd_bin_float(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts);
bool nd_bin_double(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts);
bool nd_bin_int32(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts);
bool nd_bin_uint32(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts);
bool nd_bin_int64(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts);
bool nd_bin_uint64(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts);

#endif
