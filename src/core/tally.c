/* How often each value of one or two bytes occurs.
 *
 * A count that is raised twice in a row waits for its own store. So neighbours are counted in tables of their own, which
 * are added up in the end; then a run of equal values is about as fast as values that differ. */
#include "tally.h"

#include <stdlib.h>
#include <string.h>

/* As many values as a count of 32 bits surely bears. */
static const size_t PIECE = (size_t)1 << 30;

static inline uint64_t
word_at(const unsigned char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

enum { BYTE_TABLES = 8 };

static void
tally_bytes(const uint8_t *values, size_t count, uint32_t table[BYTE_TABLES][TALLY_BYTES])
{
    size_t i = 0;
    for (; i + sizeof(uint64_t) <= count; i += sizeof(uint64_t)) {
        uint64_t word = word_at(values + i);
        table[0][word & 0xff]++;
        table[1][word >> 8 & 0xff]++;
        table[2][word >> 16 & 0xff]++;
        table[3][word >> 24 & 0xff]++;
        table[4][word >> 32 & 0xff]++;
        table[5][word >> 40 & 0xff]++;
        table[6][word >> 48 & 0xff]++;
        table[7][word >> 56]++;
    }
    for (; i < count; i++) {
        table[0][values[i]]++;
    }
}

void
nd_tally_bytes(const uint8_t *values, size_t count, int64_t *counts)
{
    while (count > 0) {
        size_t piece = count < PIECE ? count : PIECE;
        uint32_t table[BYTE_TABLES][TALLY_BYTES] = {{0}};
        tally_bytes(values, piece, table);
        for (int value = 0; value < TALLY_BYTES; value++) {
            for (int i = 0; i < BYTE_TABLES; i++) {
                counts[value] += table[i][value];
            }
        }
        values += piece;
        count -= piece;
    }
}

/* No more than two: together they have to stay in the processor's second cache. They lie side by side, so that values that
 * are near to each other share cache lines. */
enum { PAIR_TABLES = 2, PAIRS_IN_WORD = 4 };

static void
tally_pairs(const unsigned char *bytes, size_t count, uint32_t (*table)[PAIR_TABLES])
{
    size_t i = 0;
    for (; i + PAIRS_IN_WORD <= count; i += PAIRS_IN_WORD) {
        uint64_t word = word_at(bytes + i * sizeof(uint16_t));
        if (word == (word & 0xffff) * 0x0001000100010001) { /* two tables alone would not bear a run */
            table[word & 0xffff][0] += PAIRS_IN_WORD;
            continue;
        }
        table[word & 0xffff][0]++;
        table[word >> 16 & 0xffff][1]++;
        table[word >> 32 & 0xffff][0]++;
        table[word >> 48][1]++;
    }
    for (; i < count; i++) {
        uint16_t value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        table[value][0]++;
    }
}

/* Where the tables would cost more than the values. */
static void
tally_few_pairs(const unsigned char *bytes, size_t count, int64_t *counts)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        counts[value]++;
    }
}

bool
nd_tally_pairs(const void *values, size_t count, int64_t *counts)
{
    if (count < TALLY_PAIRS) {
        tally_few_pairs(values, count, counts);
        return true;
    }
    uint32_t(*table)[PAIR_TABLES] = malloc(TALLY_PAIRS * sizeof *table);
    if (table == NULL) {
        return false;
    }
    for (size_t at = 0; at < count; at += PIECE) {
        size_t piece = count - at < PIECE ? count - at : PIECE;
        memset(table, 0, TALLY_PAIRS * sizeof *table);
        tally_pairs((const unsigned char *)values + at * sizeof(uint16_t), piece, table);
        for (size_t value = 0; value < TALLY_PAIRS; value++) {
            counts[value] += (int64_t)table[value][0] + table[value][1];
        }
    }
    free(table);
    return true;
}
