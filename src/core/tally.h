/* How often each value of one or two bytes occurs. */
#ifndef NDFILE_TALLY_H
#define NDFILE_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TALLY_BYTES = 1 << 8, TALLY_PAIRS = 1 << 16 };

/* Add to `counts`, of TALLY_BYTES, how often each byte occurs. */
void nd_tally_bytes(const uint8_t *values, size_t count, int64_t *counts);

/* Add to `counts`, of TALLY_PAIRS, how often each number of two bytes occurs, in the processor's order; at any address.
 * False, and nothing is added, where there is no memory for the tables. */
bool nd_tally_pairs(const void *values, size_t count, int64_t *counts);

#endif
