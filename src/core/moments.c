#include "moments.h"

#include "lanes.h"

#include <fenv.h>
#include <math.h>

enum {
    PART = 2048,             /* items of a row: 16 KiB of f8 stay in the first cache */
    BYTES_PART = 1 << 14,    /* of one byte; see `from_sums` */
    TILE = 512,              /* columns */
    TILE_NBYTES = 128 << 10, /* of the rows that are read twice: a part of the second cache */
};

/* The count is f8 too: so all are lanes of one width, and below 2^53 it is exact. */
typedef struct {
    double count, mean, error, m2;
} part_moments;

static size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* An i8 as the nearest f8, by what every processor has as vector code: both halves are exact, one sum rounds. */
ND_PART double
from_i8(int64_t x)
{
    uint64_t low = ((uint64_t)x & 0xffffffff) | 0x4330000000000000; /* 2^52 + low */
    double rest;
    memcpy(&rest, &low, sizeof rest);
    return (double)(int32_t)(x >> 32) * 0x1p32 + (rest - 0x1p52);
}

ND_PART double
from_u8(uint64_t x)
{
    uint64_t low = (x & 0xffffffff) | 0x4330000000000000, high = x >> 32 | 0x4530000000000000; /* 2^84 + high * 2^32 */
    double rest, most;
    memcpy(&rest, &low, sizeof rest);
    memcpy(&most, &high, sizeof most);
    return (most - 0x1p84) + (rest - 0x1p52);
}

/* A whole number from 0 on, or 1 for 0. */
ND_PART double
at_least_1(double count)
{
    return count == 0 ? 1 : count;
}

/* Chan's formula with means of two numbers: mean += delta * n_b / n, m2 += delta^2 * n_a * n_b / n. Either may have no items:
 * its numbers are zeros. */
ND_PART void
join(double *count, double *mean, double *error, double *m2, part_moments part)
{
    double before = *count, with = before + part.count, share = part.count / at_least_1(with);
    double delta = part.mean - *mean, rest = part.error - *error, step = delta * share, lost = *error, sum = *mean;
    ND_ADD_EXACTLY(double, sum, lost, step);
    delta += rest;
    *m2 += part.m2 + delta * delta * (before * share);
    *mean = sum;
    *error = lost + rest * share;
    *count = with;
}

/* From the sum and the sum of squares of integers with sign. All is exact before it is divided: `count` times the squares,
 * which is no less than the sum's square, is at most 2^42 for 2^14 items of one byte, 2^52 for 2^11 of two. */
ND_PART part_moments
from_sums(double count, int32_t sum, double squares, int shift)
{
    double whole = (double)(int32_t)((double)sum / count);
    return (part_moments){count, whole + shift, ((double)sum - whole * count) / count,
                          (count * squares - (double)sum * (double)sum) / count};
}

/* The deviations' sum, which is 0 but for rounding, makes the mean better, and the squares those from the better one. Equal
 * items have equal deviations, so their m2 becomes exactly 0. */
ND_PART part_moments
from_deviations(double count, double mean, double sum, double squares)
{
    double n = at_least_1(count), m2 = squares - sum * sum / n;
    /* Not below 0; a comparison with NaN would set the flag of invalid operations. */
    return (part_moments){count, mean, sum / n, 0.5 * m2 + 0.5 * fabs(m2)};
}

/* ---- rows of integers of one or two bytes ---- */

typedef struct {
    int32_t sum;
    uint64_t squares;
} integer_sums;

ND_PART void
add_u4(integer_sums *sums, const nd_u4x8 *squares)
{
    for (int k = 0; k < 8; k++) {
        sums->squares += (*squares)[k];
    }
}

/* 32 bytes as signed integers: sums in lanes of 16 bits, squares in lanes of 32. */
ND_PART void
add_bytes(const char *items, uint16_t flip, bool are_bool, nd_i2x16 *sums, nd_u4x8 *squares)
{
    nd_u2x16 both = nd_load_u2(items, flip);
    if (are_bool) {
        both = (nd_u2x16)((nd_u1x32)both != 0) & 0x0101;
    }
    nd_i2x16 low = (nd_i2x16)(both << 8) >> 8, high = (nd_i2x16)both >> 8;
    *sums += low + high;
    nd_u4x8 two = (nd_u4x8)((nd_u2x16)(low * low) + (nd_u2x16)(high * high)); /* at most 2^15 in each half */
    *squares += (two & 0xffff) + (two >> 16);
}

enum { BYTES_AT_ONCE = 64, PAIRS_AT_ONCE = 32, FEW = 64 };

ND_PART void
row_of_bytes(const char *items, size_t count, uint16_t flip, bool are_bool, integer_sums *sums)
{
    while (count >= BYTES_AT_ONCE) {
        /* In each lane of 16 bits -256 to 254 each time. */
        size_t part = smaller(count / BYTES_AT_ONCE, FEW) * BYTES_AT_ONCE;
        nd_i2x16 a = {0}, b = {0};
        nd_u4x8 c = {0}, d = {0};
        for (size_t i = 0; i < part; i += BYTES_AT_ONCE) {
            add_bytes(items + i, flip, are_bool, &a, &c);
            add_bytes(items + i + 32, flip, are_bool, &b, &d);
        }
        for (int k = 0; k < 16; k++) {
            sums->sum += a[k] + b[k];
        }
        c += d;
        add_u4(sums, &c);
        items += part, count -= part;
    }
    for (size_t i = 0; i < count; i++) {
        int x = are_bool ? items[i] != 0 : (int8_t)(items[i] ^ (char)flip);
        sums->sum += x, sums->squares += (uint64_t)(x * x);
    }
}

/* 16 pairs of bytes as signed integers: sums in lanes of 32 bits, squares in lanes of 64. */
ND_PART void
add_pairs(const char *items, uint16_t flip, nd_i4x8 *sums, nd_u8x4 *squares)
{
    nd_u4x8 both = (nd_u4x8)nd_load_u2(items, flip);
    nd_i4x8 low = (nd_i4x8)(both << 16) >> 16, high = (nd_i4x8)both >> 16;
    *sums += low + high;
    nd_u8x4 two = (nd_u8x4)((nd_u4x8)(low * low) + (nd_u4x8)(high * high)); /* at most 2^31 in each half */
    *squares += (two & 0xffffffff) + (two >> 32);
}

ND_PART void
row_of_pairs(const char *items, size_t count, uint16_t flip, integer_sums *sums)
{
    size_t part = count / PAIRS_AT_ONCE * PAIRS_AT_ONCE, i = 0;
    nd_i4x8 a = {0}, b = {0};
    nd_u8x4 c = {0}, d = {0};
    for (; i < part; i += PAIRS_AT_ONCE) {
        add_pairs(items + 2 * i, flip, &a, &c);
        add_pairs(items + 2 * i + 32, flip, &b, &d);
    }
    a += b, c += d;
    for (int k = 0; k < 8; k++) {
        sums->sum += a[k];
    }
    for (int k = 0; k < 4; k++) {
        sums->squares += c[k];
    }
    for (; i < count; i++) {
        int x = (int16_t)(((const uint16_t *)items)[i] ^ flip);
        sums->sum += x, sums->squares += (uint64_t)(x * (int64_t)x);
    }
}

ND_TARGETS static void
row_bool(const char *items, size_t count, integer_sums *sums)
{
    row_of_bytes(items, count, 0, true, sums);
}

ND_TARGETS static void
row_i1(const char *items, size_t count, integer_sums *sums)
{
    row_of_bytes(items, count, 0, false, sums);
}

ND_TARGETS static void
row_u1(const char *items, size_t count, integer_sums *sums)
{
    row_of_bytes(items, count, 0x8080, false, sums);
}

ND_TARGETS static void
row_i2(const char *items, size_t count, integer_sums *sums)
{
    row_of_pairs(items, count, 0, sums);
}

ND_TARGETS static void
row_u2(const char *items, size_t count, integer_sums *sums)
{
    row_of_pairs(items, count, 0x8000, sums);
}

/* By how much an unsigned integer's mean is above that of the signed one. */
static const int shifts[] = {[ND_BOOL] = 0, [ND_I1] = 0, [ND_U1] = 128, [ND_I2] = 0, [ND_U2] = 32768};

/* ---- rows as f8 ---- */

#define AS_F8(x) ((double)(x))

#define DEFINE_CAST(name, type, value)                              \
    ND_TARGETS static void                                          \
    name(const char *items, size_t count, double *restrict buffer)  \
    {                                                               \
        for (size_t i = 0; i < count; i++) {                        \
            buffer[i] = value(((const type *)items)[i]);            \
        }                                                           \
    }
DEFINE_CAST(cast_i4, int32_t, AS_F8)
DEFINE_CAST(cast_u4, uint32_t, AS_F8)
DEFINE_CAST(cast_i8, int64_t, from_i8)
DEFINE_CAST(cast_u8, uint64_t, from_u8)

ND_PART double
total(const nd_f8x4 *lanes)
{
    nd_f8x4 sum = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* The mean of the numbers, whatever rounding makes of it: `deviations` says by how much it is wrong. */
#define DEFINE_ROW(name, type, load)                                                                    \
    ND_PART double                                                                                      \
    mean_##name(const type *items, size_t count, bool skip_nan, double *numbers)                        \
    {                                                                                                   \
        nd_f8x4 sums[8] = {{0}};                                                                        \
        nd_i8x4 nans = {0};                                                                             \
        size_t i = 0;                                                                                   \
        for (; i + 32 <= count; i += 32) {                                                              \
            for (int k = 0; k < 8; k++) {                                                               \
                nd_f8x4 x = load(items + i + 4 * k);                                                    \
                if (skip_nan) {                                                                         \
                    nd_skip_nan(&x, &nans);                                                             \
                }                                                                                       \
                sums[k] += x;                                                                           \
            }                                                                                           \
        }                                                                                               \
        double sum = total(sums) + total(sums + 4);                                                      \
        *numbers = (double)((int64_t)count - (nans[0] + nans[1] + nans[2] + nans[3]));                            \
        for (; i < count; i++) {                                                                        \
            double x = (double)items[i];                                                                \
            if (skip_nan && x != x) {                                                                   \
                *numbers -= 1;                                                                           \
            }                                                                                           \
            else {                                                                                      \
                sum += x;                                                                               \
            }                                                                                           \
        }                                                                                               \
        return *numbers > 0 ? sum / *numbers : 0;                                               \
    }                                                                                                   \
    ND_PART void                                                                                        \
    deviations_##name(const type *items, size_t count, bool skip_nan, double mean, double *sum, double *squares) \
    {                                                                                                   \
        nd_f8x4 sums[4] = {{0}}, all[4] = {{0}};                                                        \
        size_t i = 0;                                                                                   \
        for (; i + 16 <= count; i += 16) {                                                              \
            for (int k = 0; k < 4; k++) {                                                               \
                nd_f8x4 x = load(items + i + 4 * k), from_mean = x - mean;                              \
                if (skip_nan) {                                                                         \
                    from_mean = (nd_f8x4)((nd_i8x4)from_mean & (x == x));                               \
                }                                                                                       \
                sums[k] += from_mean;                                                                   \
                all[k] += from_mean * from_mean;                                                        \
            }                                                                                           \
        }                                                                                               \
        *sum = total(sums);                                  \
        *squares = total(all);                                  \
        for (; i < count; i++) {                                                                        \
            double x = (double)items[i], from_mean = x - mean;                                          \
            if (!skip_nan || x == x) {                                                                  \
                *sum += from_mean, *squares += from_mean * from_mean;                                   \
            }                                                                                           \
        }                                                                                               \
    }                                                                                                   \
    ND_PART void                                                                                        \
    both_##name(const type *items, size_t count, bool skip_nan, part_moments *part)                     \
    {                                                                                                   \
        double sum, squares, numbers, mean = mean_##name(items, count, skip_nan, &numbers);             \
        deviations_##name(items, count, skip_nan, mean, &sum, &squares);                                \
        *part = from_deviations(numbers, mean, sum, squares);                                           \
    }                                                                                                   \
    ND_TARGETS static void                                                                              \
    name##_all(const char *items, size_t count, part_moments *part)                                     \
    {                                                                                                   \
        both_##name((const type *)items, count, false, part);                                           \
    }                                                                                                   \
    ND_TARGETS static void                                                                              \
    name##_numbers(const char *items, size_t count, part_moments *part)                                 \
    {                                                                                                   \
        both_##name((const type *)items, count, true, part);                                            \
    }
DEFINE_ROW(row_f4, float, nd_load_f4)
DEFINE_ROW(row_f8, double, nd_load_f8)

typedef void (*integer_row_function)(const char *, size_t, integer_sums *);
typedef void (*cast_function)(const char *, size_t, double *);
typedef void (*row_function)(const char *, size_t, part_moments *);

static const integer_row_function integer_rows_of[] = {row_bool, row_i1, row_u1, row_i2, row_u2};
static const cast_function casts_of[ND_KINDS] = {[ND_I4] = cast_i4, [ND_U4] = cast_u4, [ND_I8] = cast_i8, [ND_U8] = cast_u8};
static const row_function rows_of[2][2] = {{row_f4_all, row_f8_all}, {row_f4_numbers, row_f8_numbers}};

static part_moments
part_of_row(nd_kind kind, const char *items, size_t count, bool skip_nan)
{
    part_moments part;
    double buffer[PART];
    if (kind <= ND_U2) {
        integer_sums sums = {0};
        integer_rows_of[kind](items, count, &sums);
        return from_sums((double)count, sums.sum, (double)sums.squares, shifts[kind]);
    }
    if (kind < ND_F4) {
        casts_of[kind](items, count, buffer);
        row_f8_all((const char *)buffer, count, &part);
    }
    else {
        rows_of[skip_nan][kind - ND_F4](items, count, &part);
    }
    return part;
}

static void
add_row(nd_kind kind, const char *items, size_t count, void *state, size_t at)
{
    nd_moments *found = state;
    size_t most = nd_itemsize(kind) == 1 ? BYTES_PART : PART;
    for (size_t i = 0; i < count; i += most) {
        const char *from = items + i * nd_itemsize(kind);
        size_t some = smaller(most, count - i);
        part_moments part = part_of_row(kind, from, some, found->skip_nan);
        join(&found->counts[at], &found->means[at], &found->errors[at], &found->m2[at], part);
        if (found->extremes != NULL) {
            nd_add_extremes_of_row(kind, from, some, found->extremes, at);
        }
    }
}

/* ---- columns ---- */

/* Moments of some columns. */
typedef struct {
    double counts[TILE], means[TILE], errors[TILE], m2[TILE];
} tile;

ND_TARGETS static void
join_tile(const tile *restrict from, size_t columns, double *restrict counts, double *restrict means,
          double *restrict errors, double *restrict m2)
{
    for (size_t i = 0; i < columns; i++) {
        join(&counts[i], &means[i], &errors[i], &m2[i],
             (part_moments){from->counts[i], from->means[i], from->errors[i], from->m2[i]});
    }
}

/* SAFE: a row's items of this type, aligned; the slab says how many there are. */
#define ROW(type, items, stride, row) ((const type *)((items) + (ptrdiff_t)(row) * (stride)))

#define TRUTH(x) ((x) != 0)
#define LESS_128(x) ((x) - 128)
#define LESS_32768(x) ((x) - 32768)
#define ITSELF(x) (x)

/* Squares of one byte are at most 2^14, of two bytes 2^30: 2^14 or 2^11 of them fit in `all`. */
#define DEFINE_INTEGER_COLUMNS(name, type, value, square, all, shift)                                       \
    ND_TARGETS static void                                                                                  \
    name(const char *items, ptrdiff_t stride, size_t rows, size_t columns, tile *found)                     \
    {                                                                                                       \
        int32_t sums[TILE] = {0};                                                                           \
        all squares[TILE] = {0};                                                                            \
        size_t row = 0;                                                                                     \
        for (; row + 4 <= rows; row += 4) {                                                                 \
            const type *a = ROW(type, items, stride, row), *b = ROW(type, items, stride, row + 1);          \
            const type *c = ROW(type, items, stride, row + 2), *d = ROW(type, items, stride, row + 3);      \
            for (size_t i = 0; i < columns; i++) {                                                          \
                int32_t p = value(a[i]), q = value(b[i]), r = value(c[i]), s = value(d[i]);                 \
                sums[i] += (p + q) + (r + s);                                                               \
                square one = (square)((square)(p * p) + (square)(q * q));                                   \
                square other = (square)((square)(r * r) + (square)(s * s));                                 \
                squares[i] += (all)one + other;                                                             \
            }                                                                                               \
        }                                                                                                   \
        for (; row < rows; row++) {                                                                         \
            const type *a = ROW(type, items, stride, row);                                                  \
            for (size_t i = 0; i < columns; i++) {                                                          \
                int32_t p = value(a[i]);                                                                    \
                sums[i] += p, squares[i] += (square)(p * p);                                                \
            }                                                                                               \
        }                                                                                                   \
        for (size_t i = 0; i < columns; i++) {                                                              \
            part_moments one = from_sums((double)rows, sums[i], from_i8((int64_t)squares[i]), shift);       \
            found->counts[i] = one.count, found->means[i] = one.mean;                                       \
            found->errors[i] = one.error, found->m2[i] = one.m2;                                            \
        }                                                                                                   \
    }
DEFINE_INTEGER_COLUMNS(columns_bool, uint8_t, TRUTH, uint16_t, uint32_t, 0)
DEFINE_INTEGER_COLUMNS(columns_i1, int8_t, ITSELF, uint16_t, uint32_t, 0)
DEFINE_INTEGER_COLUMNS(columns_u1, uint8_t, LESS_128, uint16_t, uint32_t, 128)
DEFINE_INTEGER_COLUMNS(columns_i2, int16_t, ITSELF, uint32_t, uint64_t, 0)
DEFINE_INTEGER_COLUMNS(columns_u2, uint16_t, LESS_32768, uint32_t, uint64_t, 32768)

ND_PART double
number_or_zero(double x)
{
    return x == x ? x : 0;
}

ND_PART double
is_number(double x)
{
    return x == x ? 1 : 0;
}

/* By how much x is above the mean, or 0 for NaN that is skipped. */
ND_PART double
deviation(double x, double mean, bool skip_nan)
{
    double found = x - mean;
    return skip_nan && x != x ? 0 : found;
}

#define DEFINE_COLUMNS(name, type, value, skip_nan)                                                         \
    ND_PART void                                                                                            \
    means_##name(const char *items, ptrdiff_t stride, size_t rows, size_t columns, double *restrict means,  \
                double *restrict counts)                                                                        \
    {                                                                                                       \
        size_t row = 0;                                                                                     \
        for (size_t i = 0; i < columns; i++) {                                                              \
            means[i] = 0, counts[i] = skip_nan ? 0 : (double)rows;                                          \
        }                                                                                                   \
        for (; row + 4 <= rows; row += 4) {                                                                 \
            const type *a = ROW(type, items, stride, row), *b = ROW(type, items, stride, row + 1);          \
            const type *c = ROW(type, items, stride, row + 2), *d = ROW(type, items, stride, row + 3);      \
            for (size_t i = 0; i < columns; i++) {                                                          \
                double p = value(a[i]), q = value(b[i]), r = value(c[i]), s = value(d[i]);                  \
                if (skip_nan) {                                                                             \
                    counts[i] += (is_number(p) + is_number(q)) + (is_number(r) + is_number(s));             \
                    p = number_or_zero(p), q = number_or_zero(q);                                           \
                    r = number_or_zero(r), s = number_or_zero(s);                                           \
                }                                                                                           \
                means[i] += (p + q) + (r + s);                                                              \
            }                                                                                               \
        }                                                                                                   \
        for (; row < rows; row++) {                                                                         \
            const type *a = ROW(type, items, stride, row);                                                  \
            for (size_t i = 0; i < columns; i++) {                                                          \
                double p = value(a[i]);                                                                     \
                counts[i] += skip_nan ? is_number(p) : 0;                                                   \
                means[i] += skip_nan ? number_or_zero(p) : p;                                               \
            }                                                                                               \
        }                                                                                                   \
        for (size_t i = 0; i < columns; i++) {                                                              \
            means[i] /= at_least_1(counts[i]);                                                                 \
        }                                                                                                   \
    }                                                                                                       \
    ND_PART void                                                                                            \
    deviations_##name(const char *items, ptrdiff_t stride, size_t rows, size_t columns,                     \
                      const double *restrict means, double *restrict sums, double *restrict squares)        \
    {                                                                                                       \
        size_t row = 0;                                                                                     \
        for (size_t i = 0; i < columns; i++) {                                                              \
            sums[i] = 0, squares[i] = 0;                                                                    \
        }                                                                                                   \
        for (; row + 4 <= rows; row += 4) {                                                                 \
            const type *a = ROW(type, items, stride, row), *b = ROW(type, items, stride, row + 1);          \
            const type *c = ROW(type, items, stride, row + 2), *d = ROW(type, items, stride, row + 3);      \
            for (size_t i = 0; i < columns; i++) {                                                          \
                double p = deviation(value(a[i]), means[i], skip_nan);                                      \
                double q = deviation(value(b[i]), means[i], skip_nan);                                      \
                double r = deviation(value(c[i]), means[i], skip_nan);                                      \
                double s = deviation(value(d[i]), means[i], skip_nan);                                      \
                sums[i] += (p + q) + (r + s);                                                               \
                squares[i] += (p * p + q * q) + (r * r + s * s);                                            \
            }                                                                                               \
        }                                                                                                   \
        for (; row < rows; row++) {                                                                         \
            const type *a = ROW(type, items, stride, row);                                                  \
            for (size_t i = 0; i < columns; i++) {                                                          \
                double p = deviation(value(a[i]), means[i], skip_nan);                                      \
                sums[i] += p, squares[i] += p * p;                                                          \
            }                                                                                               \
        }                                                                                                   \
    }                                                                                                       \
    ND_TARGETS static void                                                                                  \
    name(const char *items, ptrdiff_t stride, size_t rows, size_t columns, tile *found)                     \
    {                                                                                                       \
        double sums[TILE], squares[TILE];                                                                   \
        means_##name(items, stride, rows, columns, found->means, found->counts);                            \
        deviations_##name(items, stride, rows, columns, found->means, sums, squares);                       \
        for (size_t i = 0; i < columns; i++) {                                                              \
            part_moments one = from_deviations(found->counts[i], found->means[i], sums[i], squares[i]);     \
            found->errors[i] = one.error, found->m2[i] = one.m2;                                            \
        }                                                                                                   \
    }
DEFINE_COLUMNS(columns_i4, int32_t, AS_F8, false)
DEFINE_COLUMNS(columns_u4, uint32_t, AS_F8, false)
DEFINE_COLUMNS(columns_i8, int64_t, from_i8, false)
DEFINE_COLUMNS(columns_u8, uint64_t, from_u8, false)
DEFINE_COLUMNS(columns_f4, float, AS_F8, false)
DEFINE_COLUMNS(columns_f8, double, AS_F8, false)
DEFINE_COLUMNS(columns_f4_numbers, float, AS_F8, true)
DEFINE_COLUMNS(columns_f8_numbers, double, AS_F8, true)

typedef void (*columns_function)(const char *, ptrdiff_t, size_t, size_t, tile *);

static const columns_function columns_of[ND_KINDS] = {columns_bool, columns_i1, columns_u1, columns_i2, columns_u2, columns_i4,
                                                      columns_u4,   columns_i8, columns_u8, columns_f4, columns_f8};

/* How many rows stay in a cache until they are read again, or how many at most are exact. */
static size_t
rows_at_once(nd_kind kind, size_t columns, bool are_read_again)
{
    if (kind <= ND_U2 && !are_read_again) {
        return nd_itemsize(kind) == 1 ? BYTES_PART : PART;
    }
    size_t rows = TILE_NBYTES / (columns * nd_itemsize(kind)) / 4 * 4;
    return rows < 16 ? 16 : smaller(rows, PART);
}

static bool
are_new(const double *counts, size_t columns)
{
    double any = 0;
    for (size_t i = 0; i < columns; i++) {
        any += counts[i];
    }
    return any == 0;
}

static void
add_tile(const tile *from, size_t columns, nd_moments *found, size_t at, size_t fold, size_t first)
{
    if (fold >= first + columns && are_new(found->counts + at + first, columns)) {
        at += first;
        memcpy(found->counts + at, from->counts, columns * sizeof *from->counts);
        memcpy(found->means + at, from->means, columns * sizeof *from->means);
        memcpy(found->errors + at, from->errors, columns * sizeof *from->errors);
        memcpy(found->m2 + at, from->m2, columns * sizeof *from->m2);
        return;
    }
    if (fold >= first + columns) {
        at += first;
        join_tile(from, columns, found->counts + at, found->means + at, found->errors + at, found->m2 + at);
        return;
    }
    for (size_t i = 0, next = first % fold; i < columns; i++) {
        size_t place = at + next;
        next = next + 1 == fold ? 0 : next + 1;
        join(&found->counts[place], &found->means[place], &found->errors[place], &found->m2[place],
             (part_moments){from->counts[i], from->means[i], from->errors[i], from->m2[i]});
    }
}

static void
add_columns(nd_kind kind, const char *items, ptrdiff_t stride, size_t rows, size_t columns, void *state, size_t at,
            size_t fold)
{
    nd_moments *found = state;
    columns_function add = !found->skip_nan || kind < ND_F4 ? columns_of[kind]
                           : kind == ND_F4                  ? columns_f4_numbers
                                                            : columns_f8_numbers;
    for (size_t first = 0; first < columns; first += TILE) {
        tile sums, part;
        size_t some = smaller(TILE, columns - first), most = rows_at_once(kind, some, found->extremes != NULL);
        if (rows <= most) {
            const char *from = items + first * nd_itemsize(kind);
            add(from, stride, rows, some, &part);
            add_tile(&part, some, found, at, fold, first);
            if (found->extremes != NULL) {
                nd_add_extremes_of_columns(kind, from, stride, rows, some, found->extremes, at + first, fold - first);
            }
            continue;
        }
        memset(&sums, 0, sizeof sums);
        for (size_t row = 0; row < rows; row += most) {
            const char *from = items + first * nd_itemsize(kind) + (ptrdiff_t)row * stride;
            size_t few = smaller(most, rows - row);
            add(from, stride, few, some, &part);
            join_tile(&part, some, sums.counts, sums.means, sums.errors, sums.m2);
            if (found->extremes != NULL) {
                nd_add_extremes_of_columns(kind, from, stride, few, some, found->extremes, at + first, fold - first);
            }
        }
        add_tile(&sums, some, found, at, fold, first);
    }
}

static const nd_family family = {add_row, add_columns};

bool
nd_find_moments(const nd_slab *slab, nd_moments *moments)
{
    feclearexcept(FE_INVALID | FE_OVERFLOW);
    nd_reduce(slab, &family, moments);
    for (size_t i = 0; i < slab->outer * slab->inner; i++) {
        double error = 0;
        ND_ADD_EXACTLY(double, moments->means[i], error, moments->errors[i]);
        moments->errors[i] = isfinite(moments->means[i]) ? error : 0;
    }
    return fetestexcept(FE_INVALID | FE_OVERFLOW) != 0;
}
