/* Several items that are treated alike, as the compiler's vector types: 32 bytes wide on every processor, so that the same
 * items are added to the same lane everywhere. */
#ifndef NDFILE_LANES_H
#define NDFILE_LANES_H

#include "targets.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
/* What takes or gives vectors here becomes part of its caller. */
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

typedef double nd_f8x4 __attribute__((vector_size(32)));
typedef float nd_f4x4 __attribute__((vector_size(16)));
typedef uint8_t nd_u1x32 __attribute__((vector_size(32)));
typedef int16_t nd_i2x16 __attribute__((vector_size(32)));
typedef uint16_t nd_u2x16 __attribute__((vector_size(32)));
typedef int32_t nd_i4x8 __attribute__((vector_size(32)));
typedef uint32_t nd_u4x8 __attribute__((vector_size(32)));
typedef int64_t nd_i8x4 __attribute__((vector_size(32)));
typedef uint64_t nd_u8x4 __attribute__((vector_size(32)));

/* x is added to sum, and what rounding takes from it to error (Knuth's two-sum). For numbers and for lanes. */
#define ND_ADD_EXACTLY(type, sum, error, x)                             \
    do {                                                                \
        type x_ = (x), was_ = (sum), now_ = was_ + x_, of_x_ = now_ - was_; \
        (error) += (was_ - (now_ - of_x_)) + (x_ - of_x_);              \
        (sum) = now_;                                                   \
    } while (0)

ND_PART nd_f8x4
nd_load_f8(const double *items)
{
    nd_f8x4 found;
    memcpy(&found, items, sizeof found);
    return found;
}

ND_PART nd_f8x4
nd_load_f4(const float *items)
{
    nd_f4x4 found;
    memcpy(&found, items, sizeof found);
    return __builtin_convertvector(found, nd_f8x4);
}

/* Zeros in place of NaN; `nans` goes up where there was one. */
ND_PART void
nd_skip_nan(nd_f8x4 *items, nd_i8x4 *nans)
{
    nd_i8x4 is_number = *items == *items;
    *nans += is_number + 1;
    *items = (nd_f8x4)((nd_i8x4)*items & is_number);
}

/* 16 items of two bytes, or 32 of one, with the highest bit of each flipped: that makes signed ones of unsigned ones less
 * 128 or 32768, and the other way round. */
ND_PART nd_u2x16
nd_load_u2(const char *bytes, uint16_t flip)
{
    nd_u2x16 found;
    memcpy(&found, bytes, sizeof found);
    return found ^ flip;
}

#endif
