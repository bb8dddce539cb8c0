/* Sums of rows and of columns.
 *
 * Of floats four are added plainly (f4 as f8), and their sum is added exactly: what rounding takes from the total is kept in
 * a second number (Knuth's two-sum). So the error does not grow with their number, and two totals can be joined anywhere. */
#include "sums.h"

#include "lanes.h"

#include <fenv.h>
#include <math.h>

enum {
    TILE = 1024,    /* columns that are summed together: their totals stay in the first cache */
    GROUP = 8,      /* rows that are added before the totals are touched */
    MOST = 1 << 14, /* items of one or two bytes whose sum is known to fit in 32 bits, with room for lanes */
};

static size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- rows of integers ---- */

/* 32-bit lanes of 16-bit ones. */
ND_PART nd_u4x8
halves(const nd_u2x16 *lanes)
{
    return ((nd_u4x8)*lanes & 0xffff) + ((nd_u4x8)*lanes >> 16);
}

ND_PART uint64_t
total_u4(const nd_u4x8 *lanes)
{
    uint64_t total = 0;
    for (int k = 0; k < 8; k++) {
        total += (*lanes)[k];
    }
    return total;
}

enum { BYTES_AT_ONCE = 64, PAIRS_AT_ONCE = 32 };

/* 32 bytes, or of each whether it is true: any byte but 0 is, and files have such. */
ND_PART nd_u2x16
load_bytes(const char *items, uint16_t flip, bool are_bool)
{
    nd_u2x16 found = nd_load_u2(items, flip);
    return are_bool ? (nd_u2x16)((nd_u1x32)found != 0) & 0x0101 : found;
}

/* 64 bytes 64 times: each lane of 16 bits gets 128 times 255 at most. */
ND_PART uint64_t
row_of_bytes(const char *items, size_t count, uint16_t flip, bool are_bool)
{
    uint64_t total = 0;
    while (count >= BYTES_AT_ONCE) {
        size_t part = smaller(count / BYTES_AT_ONCE, 64) * BYTES_AT_ONCE;
        nd_u2x16 a = {0}, b = {0};
        for (size_t i = 0; i < part; i += BYTES_AT_ONCE) {
            nd_u2x16 one = load_bytes(items + i, flip, are_bool), other = load_bytes(items + i + 32, flip, are_bool);
            a += (one & 0xff) + (one >> 8);
            b += (other & 0xff) + (other >> 8);
        }
        nd_u4x8 both = halves(&a) + halves(&b);
        total += total_u4(&both);
        items += part, count -= part;
    }
    for (size_t i = 0; i < count; i++) {
        unsigned char byte = (unsigned char)items[i] ^ (unsigned char)flip;
        total += are_bool ? byte != 0 : byte;
    }
    return total;
}

ND_PART uint64_t
row_of_pairs(const char *items, size_t count, uint16_t flip)
{
    uint64_t total = 0;
    while (count >= PAIRS_AT_ONCE) {
        size_t part = smaller(count, MOST) / PAIRS_AT_ONCE * PAIRS_AT_ONCE;
        nd_u4x8 a = {0}, b = {0};
        for (size_t i = 0; i < part; i += PAIRS_AT_ONCE) {
            nd_u2x16 one = nd_load_u2(items + 2 * i, flip), other = nd_load_u2(items + 2 * i + 32, flip);
            a += halves(&one);
            b += halves(&other);
        }
        total += total_u4(&a) + total_u4(&b);
        items += 2 * part, count -= part;
    }
    for (size_t i = 0; i < count; i++) {
        total += (uint16_t)(((const uint16_t *)items)[i] ^ flip);
    }
    return total;
}

#define DEFINE_ROW(name, type)                          \
    ND_TARGETS static uint64_t                          \
    name(const char *items, size_t count)               \
    {                                                   \
        uint64_t total = 0;                             \
        for (size_t i = 0; i < count; i++) {            \
            total += (uint64_t)((const type *)items)[i]; \
        }                                               \
        return total;                                   \
    }
DEFINE_ROW(row_i4, int32_t)
DEFINE_ROW(row_u4, uint32_t)
DEFINE_ROW(row_8, uint64_t)

ND_TARGETS static uint64_t
row_bool(const char *items, size_t count)
{
    return row_of_bytes(items, count, 0, true);
}

ND_TARGETS static uint64_t
row_u1(const char *items, size_t count)
{
    return row_of_bytes(items, count, 0, false);
}

ND_TARGETS static uint64_t
row_i1(const char *items, size_t count)
{
    return row_of_bytes(items, count, 0x8080, false) - 128 * (uint64_t)count;
}

ND_TARGETS static uint64_t
row_u2(const char *items, size_t count)
{
    return row_of_pairs(items, count, 0);
}

ND_TARGETS static uint64_t
row_i2(const char *items, size_t count)
{
    return row_of_pairs(items, count, 0x8000) - 32768 * (uint64_t)count;
}

/* ---- rows of floats ---- */

typedef struct {
    double total, error;
    int64_t nans;
} float_sum;

ND_PART float_sum
joined(nd_f8x4 *totals, nd_f8x4 *errors)
{
    ND_ADD_EXACTLY(nd_f8x4, totals[0], errors[0], totals[1]);
    ND_ADD_EXACTLY(nd_f8x4, totals[2], errors[2], totals[3]);
    ND_ADD_EXACTLY(nd_f8x4, totals[0], errors[0], totals[2]);
    nd_f8x4 error = (errors[0] + errors[1]) + (errors[2] + errors[3]);
    double a = totals[0][0], b = totals[0][2], lost = (error[0] + error[1]) + (error[2] + error[3]);
    ND_ADD_EXACTLY(double, a, lost, totals[0][1]);
    ND_ADD_EXACTLY(double, b, lost, totals[0][3]);
    ND_ADD_EXACTLY(double, a, lost, b);
    return (float_sum){a, lost, 0};
}

#define DEFINE_FLOAT_ROW(name, type, load)                                                          \
    ND_PART float_sum                                                                               \
    name(const type *items, size_t count, bool skip_nan)                                            \
    {                                                                                               \
        nd_f8x4 totals[4] = {{0}}, errors[4] = {{0}};                                               \
        nd_i8x4 nans = {0};                                                                         \
        size_t i = 0;                                                                               \
        for (; i + 64 <= count; i += 64) {                                                          \
            for (int k = 0; k < 4; k++) {                                                           \
                const type *at = items + i + 4 * k;                                                 \
                nd_f8x4 a = load(at), b = load(at + 16), c = load(at + 32), d = load(at + 48);      \
                if (skip_nan) {                                                                     \
                    nd_skip_nan(&a, &nans), nd_skip_nan(&b, &nans);                                 \
                    nd_skip_nan(&c, &nans), nd_skip_nan(&d, &nans);                                 \
                }                                                                                   \
                ND_ADD_EXACTLY(nd_f8x4, totals[k], errors[k], (a + b) + (c + d));                   \
            }                                                                                       \
        }                                                                                           \
        float_sum sum = joined(totals, errors);                                                     \
        sum.nans = nans[0] + nans[1] + nans[2] + nans[3];                                           \
        for (; i < count; i++) {                                                                    \
            double x = (double)items[i];                                                            \
            if (skip_nan && x != x) {                                                               \
                sum.nans++;                                                                         \
                continue;                                                                           \
            }                                                                                       \
            ND_ADD_EXACTLY(double, sum.total, sum.error, x);                                        \
        }                                                                                           \
        return sum;                                                                                 \
    }                                                                                               \
    ND_TARGETS static void                                                                          \
    name##_all(const char *items, size_t count, float_sum *sum)                                     \
    {                                                                                               \
        *sum = name((const type *)items, count, false);                                             \
    }                                                                                               \
    ND_TARGETS static void                                                                          \
    name##_numbers(const char *items, size_t count, float_sum *sum)                                 \
    {                                                                                               \
        *sum = name((const type *)items, count, true);                                              \
    }
DEFINE_FLOAT_ROW(row_f4, float, nd_load_f4)
DEFINE_FLOAT_ROW(row_f8, double, nd_load_f8)

/* ---- columns ---- */

/* SAFE: `at` is a row's items of this type, aligned; the slab says how many there are. */
#define ROW(type, items, stride, row) ((const type *)((items) + (ptrdiff_t)(row) * (stride)))

/* `partial` holds what one group of rows gives, `sum` what MOST rows give. */
#define DEFINE_COLUMNS(name, type, partial, sum, value)                                                     \
    ND_TARGETS static void                                                                                  \
    name(const char *items, ptrdiff_t stride, size_t rows, size_t columns, uint64_t *totals)                \
    {                                                                                                       \
        sum sums[TILE] = {0};                                                                               \
        size_t row = 0;                                                                                     \
        for (; row + GROUP <= rows; row += GROUP) {                                                         \
            const type *a = ROW(type, items, stride, row), *b = ROW(type, items, stride, row + 1);          \
            const type *c = ROW(type, items, stride, row + 2), *d = ROW(type, items, stride, row + 3);      \
            const type *e = ROW(type, items, stride, row + 4), *f = ROW(type, items, stride, row + 5);      \
            const type *g = ROW(type, items, stride, row + 6), *h = ROW(type, items, stride, row + 7);      \
            for (size_t i = 0; i < columns; i++) {                                                          \
                partial four = (partial)(value(a[i]) + value(b[i]) + value(c[i]) + value(d[i]));            \
                partial more = (partial)(value(e[i]) + value(f[i]) + value(g[i]) + value(h[i]));            \
                sums[i] += (sum)(partial)(four + more);                                                     \
            }                                                                                               \
        }                                                                                                   \
        for (; row < rows; row++) {                                                                         \
            const type *a = ROW(type, items, stride, row);                                                  \
            for (size_t i = 0; i < columns; i++) {                                                          \
                sums[i] += (sum)value(a[i]);                                                                \
            }                                                                                               \
        }                                                                                                   \
        for (size_t i = 0; i < columns; i++) {                                                              \
            totals[i] += (uint64_t)sums[i];                                                                 \
        }                                                                                                   \
    }
#define ITSELF(x) (x)
#define UNSIGNED(x) ((uint64_t)(x))
#define TRUTH(x) ((x) != 0)
DEFINE_COLUMNS(columns_bool, uint8_t, uint8_t, uint32_t, TRUTH)
DEFINE_COLUMNS(columns_i1, int8_t, int16_t, int32_t, ITSELF)
DEFINE_COLUMNS(columns_u1, uint8_t, uint16_t, uint32_t, ITSELF)
DEFINE_COLUMNS(columns_i2, int16_t, int32_t, int32_t, ITSELF)
DEFINE_COLUMNS(columns_u2, uint16_t, uint32_t, uint32_t, ITSELF)
DEFINE_COLUMNS(columns_i4, int32_t, uint64_t, uint64_t, UNSIGNED)
DEFINE_COLUMNS(columns_u4, uint32_t, uint64_t, uint64_t, UNSIGNED)
DEFINE_COLUMNS(columns_8, uint64_t, uint64_t, uint64_t, UNSIGNED)

ND_PART double
number_or_zero(double x)
{
    return x == x ? x : 0;
}

#define DEFINE_FLOAT_COLUMNS(name, type, skips)                                                             \
    ND_TARGETS static void                                                                                  \
    name(const char *items, ptrdiff_t stride, size_t rows, size_t columns, double *restrict totals,         \
         double *restrict errors, int64_t *restrict nans)                                                   \
    {                                                                                                       \
        size_t row = 0;                                                                                     \
        for (; row + 4 <= rows; row += 4) {                                                                 \
            const type *a = ROW(type, items, stride, row), *b = ROW(type, items, stride, row + 1);          \
            const type *c = ROW(type, items, stride, row + 2), *d = ROW(type, items, stride, row + 3);      \
            for (size_t i = 0; i < columns; i++) {                                                          \
                double p = (double)a[i], q = (double)b[i], r = (double)c[i], s = (double)d[i];              \
                if (skips) {                                                                                \
                    nans[i] += (int64_t)(p != p) + (q != q) + (r != r) + (s != s);                          \
                    p = number_or_zero(p), q = number_or_zero(q);                                           \
                    r = number_or_zero(r), s = number_or_zero(s);                                           \
                }                                                                                           \
                ND_ADD_EXACTLY(double, totals[i], errors[i], (p + q) + (r + s));                            \
            }                                                                                               \
        }                                                                                                   \
        for (; row < rows; row++) {                                                                         \
            const type *a = ROW(type, items, stride, row);                                                  \
            for (size_t i = 0; i < columns; i++) {                                                          \
                double p = (double)a[i];                                                                    \
                if (skips) {                                                                                \
                    nans[i] += p != p;                                                                      \
                    p = number_or_zero(p);                                                                  \
                }                                                                                           \
                ND_ADD_EXACTLY(double, totals[i], errors[i], p);                                            \
            }                                                                                               \
        }                                                                                                   \
    }
DEFINE_FLOAT_COLUMNS(columns_f4_all, float, false)
DEFINE_FLOAT_COLUMNS(columns_f8_all, double, false)
DEFINE_FLOAT_COLUMNS(columns_f4_numbers, float, true)
DEFINE_FLOAT_COLUMNS(columns_f8_numbers, double, true)

/* ---- which of them ---- */

typedef uint64_t (*row_function)(const char *, size_t);
typedef void (*columns_function)(const char *, ptrdiff_t, size_t, size_t, uint64_t *);
typedef void (*float_row_function)(const char *, size_t, float_sum *);
typedef void (*float_columns_function)(const char *, ptrdiff_t, size_t, size_t, double *, double *, int64_t *);

static const row_function rows_of[] = {row_bool, row_i1, row_u1, row_i2, row_u2, row_i4, row_u4, row_8, row_8};
static const columns_function columns_of[] = {columns_bool, columns_i1, columns_u1, columns_i2, columns_u2,
                                              columns_i4,   columns_u4, columns_8,  columns_8};
static const float_row_function float_rows_of[2][2] = {{row_f4_all, row_f8_all}, {row_f4_numbers, row_f8_numbers}};
static const float_columns_function float_columns_of[2][2] = {{columns_f4_all, columns_f8_all},
                                                              {columns_f4_numbers, columns_f8_numbers}};

static void
add_float_sum(nd_sums *sums, size_t at, float_sum one)
{
    ND_ADD_EXACTLY(double, sums->totals[at], sums->errors[at], one.total);
    sums->errors[at] += one.error;
    if (sums->skip_nan) {
        sums->nans[at] += one.nans;
    }
}

static void
add_row(nd_kind kind, const char *items, size_t count, void *state, size_t at)
{
    nd_sums *sums = state;
    if (kind < ND_F4) {
        sums->integers[at] += rows_of[kind](items, count);
        return;
    }
    float_sum one;
    float_rows_of[sums->skip_nan][kind - ND_F4](items, count, &one);
    add_float_sum(sums, at, one);
}

static void
add_integer_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns, nd_sums *sums,
                    size_t at, size_t fold, size_t first)
{
    uint64_t totals[TILE] = {0};
    for (size_t row = 0; row < rows; row += MOST) {
        columns_of[kind](items + (ptrdiff_t)row * stride, stride, smaller(MOST, rows - row), columns, totals);
    }
    for (size_t i = 0, place = first % fold; i < columns; i++) {
        sums->integers[at + place] += totals[i];
        place = place + 1 == fold ? 0 : place + 1;
    }
}

static void
add_float_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns, nd_sums *sums, size_t at,
                  size_t fold, size_t first)
{
    double totals[TILE], errors[TILE];
    int64_t nans[TILE];
    memset(totals, 0, columns * sizeof *totals);
    memset(errors, 0, columns * sizeof *errors);
    memset(nans, 0, columns * sizeof *nans);
    float_columns_of[sums->skip_nan][kind - ND_F4](items, stride, rows, columns, totals, errors, nans);
    for (size_t i = 0, place = first % fold; i < columns; i++) {
        add_float_sum(sums, at + place, (float_sum){totals[i], errors[i], nans[i]});
        place = place + 1 == fold ? 0 : place + 1;
    }
}

static void
add_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns, void *state, size_t at,
            size_t fold)
{
    for (size_t first = 0; first < columns; first += TILE) {
        const char *from = items + first * nd_itemsize(kind);
        size_t some = smaller(TILE, columns - first);
        (kind < ND_F4 ? add_integer_columns : add_float_columns)(kind, from, stride, rows, some, state, at, fold, first);
    }
}

static const nd_family family = {add_row, add_columns};

/* ---- infinities ---- */

/* Two-sum makes NaN of an infinity. So the sums that are not finite are made anew without it; their errors are NaN
 * meanwhile. */
static void
add_plain_row(nd_kind kind, const char *items, size_t count, void *state, size_t at)
{
    nd_sums *sums = state;
    for (size_t i = 0; i < count && isnan(sums->errors[at]); i++) {
        double x = kind == ND_F4 ? (double)((const float *)items)[i] : ((const double *)items)[i];
        sums->totals[at] += sums->skip_nan ? number_or_zero(x) : x;
    }
}

static void
add_plain_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns, void *state, size_t at,
                  size_t fold)
{
    for (size_t row = 0; row < rows; row++, items += stride) {
        for (size_t i = 0; i < columns; i++) {
            add_plain_row(kind, items + i * nd_itemsize(kind), 1, state, at + i % fold);
        }
    }
}

static const nd_family plain_family = {add_plain_row, add_plain_columns};

static void
clear_errors(nd_sums *sums, size_t places)
{
    for (size_t i = 0; i < places; i++) {
        sums->errors[i] = isfinite(sums->totals[i]) ? sums->errors[i] : 0;
    }
}

bool
nd_sum(const nd_slab *slab, nd_sums *sums)
{
    size_t places = slab->outer * slab->inner;
    feclearexcept(FE_INVALID | FE_OVERFLOW);
    nd_reduce(slab, &family, sums);
    if (slab->kind < ND_F4) {
        return false;
    }
    if (fetestexcept(FE_INVALID | FE_OVERFLOW) == 0) {
        clear_errors(sums, places);
        return false;
    }
    for (size_t i = 0; i < places; i++) {
        if (!isfinite(sums->totals[i])) {
            sums->totals[i] = 0, sums->errors[i] = NAN;
        }
    }
    feclearexcept(FE_INVALID | FE_OVERFLOW);
    nd_reduce(slab, &plain_family, sums);
    for (size_t i = 0; i < places; i++) {
        sums->errors[i] = isnan(sums->errors[i]) ? 0 : sums->errors[i];
    }
    return fetestexcept(FE_INVALID | FE_OVERFLOW) != 0;
}
