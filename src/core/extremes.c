#include "extremes.h"

#include "lanes.h"

#include <math.h>

enum {
    TILE = 512, /* columns whose extremes stay in the first cache */
    LANES = 16,
};

static size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Comparing NaN would set the flag of invalid operations: it is left out before. */
#define ITSELF(x, none) (x)
#define TRUTH(x, none) ((x) != 0)
#define NUMBER(x, none) ((x) == (x) ? (x) : (none))
#define NEVER(x) 0
#define IS_NAN(x) ((x) != (x))

/* `low` and `high` begin with what every item changes. */
#define DEFINE(name, type, value, is_nan, least, most)                                                          \
    ND_TARGETS static void                                                                                      \
    rows_##name(const char *bytes, ptrdiff_t stride, size_t rows, size_t columns, void *low_items,              \
                void *high_items, int64_t *restrict nans)                                                       \
    {                                                                                                           \
        type *restrict low = low_items, *restrict high = high_items;                                            \
        for (size_t row = 0; row < rows; row++, bytes += stride) {                                              \
            const type *items = (const type *)bytes; /* SAFE: a row's items of this type, aligned */            \
            for (size_t i = 0; i < columns; i++) {                                                              \
                type x = items[i], a = value(x, most), b = value(x, least);                                     \
                low[i] = a < low[i] ? a : low[i];                                                               \
                high[i] = b > high[i] ? b : high[i];                                                            \
                nans[i] += is_nan(x);                                                                           \
            }                                                                                                   \
        }                                                                                                       \
    }                                                                                                           \
    static void                                                                                                 \
    begin_##name(void *low, void *high, size_t count)                                                           \
    {                                                                                                           \
        for (size_t i = 0; i < count; i++) {                                                                    \
            ((type *)low)[i] = most, ((type *)high)[i] = least;                                                 \
        }                                                                                                       \
    }                                                                                                           \
    ND_TARGETS static void                                                                                      \
    join_##name(const void *low_items, const void *high_items, size_t columns, void *all_low, void *all_high,   \
                size_t at, size_t fold)                                                                         \
    {                                                                                                           \
        const type *low = low_items, *high = high_items;                                                        \
        for (size_t first = 0; first < columns; first += fold) {                                                \
            type *x = (type *)all_low + at, *y = (type *)all_high + at;                                         \
            for (size_t i = first; i < columns && i - first < fold; i++, x++, y++) {                            \
                *x = low[i] < *x ? low[i] : *x;                                                                 \
                *y = high[i] > *y ? high[i] : *y;                                                               \
            }                                                                                                   \
        }                                                                                                       \
    }
DEFINE(bool, uint8_t, TRUTH, NEVER, 0, 1)
DEFINE(i1, int8_t, ITSELF, NEVER, INT8_MIN, INT8_MAX)
DEFINE(u1, uint8_t, ITSELF, NEVER, 0, UINT8_MAX)
DEFINE(i2, int16_t, ITSELF, NEVER, INT16_MIN, INT16_MAX)
DEFINE(u2, uint16_t, ITSELF, NEVER, 0, UINT16_MAX)
DEFINE(i4, int32_t, ITSELF, NEVER, INT32_MIN, INT32_MAX)
DEFINE(u4, uint32_t, ITSELF, NEVER, 0, UINT32_MAX)
DEFINE(i8, int64_t, ITSELF, NEVER, INT64_MIN, INT64_MAX)
DEFINE(u8, uint64_t, ITSELF, NEVER, 0, UINT64_MAX)
DEFINE(f4, float, NUMBER, IS_NAN, -INFINITY, INFINITY)
DEFINE(f8, double, NUMBER, IS_NAN, -INFINITY, INFINITY)

typedef struct {
    void (*rows)(const char *, ptrdiff_t, size_t, size_t, void *, void *, int64_t *);
    void (*begin)(void *, void *, size_t);
    void (*join)(const void *, const void *, size_t, void *, void *, size_t, size_t);
} functions;

#define FUNCTIONS(name) {rows_##name, begin_##name, join_##name}
static const functions functions_of[ND_KINDS] = {FUNCTIONS(bool), FUNCTIONS(i1), FUNCTIONS(u1), FUNCTIONS(i2),
                                                 FUNCTIONS(u2),   FUNCTIONS(i4), FUNCTIONS(u4), FUNCTIONS(i8),
                                                 FUNCTIONS(u8),   FUNCTIONS(f4), FUNCTIONS(f8)};

void
nd_begin_extremes(nd_kind kind, size_t places, nd_extremes *extremes)
{
    functions_of[kind].begin(extremes->low, extremes->high, places);
    memset(extremes->nans, 0, places * sizeof *extremes->nans);
}

void
nd_add_extremes_of_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns,
                           nd_extremes *extremes, size_t at, size_t fold)
{
    const functions *of = &functions_of[kind];
    uint64_t low[TILE], high[TILE];
    for (size_t first = 0; first < columns; first += TILE) {
        int64_t nans[TILE];
        size_t some = smaller(TILE, columns - first);
        memset(nans, 0, some * sizeof *nans);
        of->begin(low, high, some);
        of->rows(items + first * nd_itemsize(kind), stride, rows, some, low, high, nans);
        size_t few = fold - first; /* no tile is wider than what is folded */
        of->join(low, high, some, extremes->low, extremes->high, at + first, few);
        for (size_t i = 0; i < some && kind >= ND_F4; i++) {
            extremes->nans[at + first + i % few] += nans[i];
        }
    }
}

/* A long row is short rows of its own, of which the extremes are joined. */
void
nd_add_extremes_of_row(nd_kind kind, const char *items, size_t count, nd_extremes *extremes, size_t at)
{
    size_t columns = count >= 64 * LANES ? 4 * LANES : LANES, rows = count / columns, left = count % columns;
    ptrdiff_t stride = (ptrdiff_t)(columns * nd_itemsize(kind));
    if (rows > 0) {
        nd_add_extremes_of_columns(kind, items, stride, rows, columns, extremes, at, 1);
    }
    if (left > 0) {
        nd_add_extremes_of_columns(kind, items + (ptrdiff_t)rows * stride, stride, 1, left, extremes, at, 1);
    }
}

void
nd_end_extremes(nd_kind kind, size_t places, size_t count, nd_extremes *extremes)
{
    for (size_t i = 0; i < places && kind >= ND_F4; i++) {
        bool is_nan = extremes->skip_nan ? extremes->nans[i] == (int64_t)count : extremes->nans[i] > 0;
        if (is_nan && kind == ND_F4) {
            ((float *)extremes->low)[i] = ((float *)extremes->high)[i] = NAN;
        }
        else if (is_nan) {
            ((double *)extremes->low)[i] = ((double *)extremes->high)[i] = NAN;
        }
    }
}
