/* Order statistics by counting: values as keys of the same order, the keys' digits counted, and keys in ranges collected.
 *
 * A key is a signed number as wide as the value, and keys are in the order of the values. All NaNs have the largest key, so
 * they come last, as NumPy sorts them. Values have 4 or 8 bytes: of shorter ones there are so few that tally.c counts them
 * all. */
#ifndef NDFILE_SELECT_H
#define NDFILE_SELECT_H

#include <stddef.h>
#include <stdint.h>

/* How the bits of a value become its key: (bits ^ (flip, if negative)) ^ turn, unless NaN. */
typedef struct {
    uint64_t flip; /* floats: all bits below the sign, whose order is the other way round in negative numbers */
    uint64_t turn; /* unsigned numbers: the first bit, so that the smaller half becomes the negative one */
    uint64_t most; /* without the sign: larger bits are a NaN */
} nd_key_order;

typedef enum { ND_UNSIGNED, ND_SIGNED, ND_FLOAT } nd_number;

nd_key_order nd_key_order_of(nd_number number, size_t itemsize);

/* Values of one kind in a row. */
typedef struct {
    const void *items;
    size_t count, itemsize;
    nd_key_order order;
} nd_values;

/* 2**bits digits of 2**shift keys each, from the key `low` on; keys below and above belong to the first and the last. */
typedef struct {
    int64_t low;
    int bits, shift;
} nd_key_window;

/* Ranges of keys, low to high with both, ascending and apart. */
typedef struct {
    const int64_t *lows, *highs;
    size_t count;
} nd_key_ranges;

/* Count the digits of all values but NaN; gives the number of NaNs. There are so many tables one after the other as
 * `copies`, a power of two, and the sum of them is the count: equal neighbours would wait for each other in a single one. */
int64_t nd_count_digits(nd_values values, nd_key_window window, uint32_t *tables, int copies);

/* Count the keys of each range by (key - low) >> the range's shift, in a table of 2**bits for each range. */
void nd_count_within(nd_values values, nd_key_ranges ranges, const int64_t *shifts, uint32_t *tables, int bits);

/* Append the keys that are in one of the ranges to `found`, from `*place` on, which several threads may do at a time. Keys
 * for which there is no room are counted in `*place` and left out. */
void nd_collect_within(nd_values values, nd_key_ranges ranges, void *found, int64_t room, int64_t *place);

#endif
