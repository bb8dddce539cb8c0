#include "select.h"

#include "targets.h"

#include <string.h>

enum {
    GROUP = 32,      /* items that are looked at together */
    CHUNK = 2048,    /* items whose keys are picked before they are used: they stay in the nearest cache */
    FEW_RANGES = 10, /* with more, comparing each item with each of them costs more than a look into a table */
    WANTED_CELLS = 1 << 15,
};

/* All keys from the first range's begin to the last one's end in cells of 2**shift keys: which have something of a range. */
typedef struct {
    int64_t low;
    int shift;
    uint8_t cells[WANTED_CELLS + 1]; /* the last one is for all other keys */
} wanted;

/* The last key of a window. */
static int32_t
end_of_32(nd_key_window window)
{
    const int64_t end = window.low + ((int64_t)1 << (window.bits + window.shift)) - 1;
    return end > INT32_MAX ? INT32_MAX : (int32_t)end;
}

static int64_t
end_of_64(nd_key_window window)
{
    const uint64_t length = window.bits + window.shift < 64 ? ((uint64_t)1 << (window.bits + window.shift)) - 1 : UINT64_MAX;
    const uint64_t room = (uint64_t)INT64_MAX - (uint64_t)window.low;
    return (int64_t)((uint64_t)window.low + (length < room ? length : room));
}

#define KEY int32_t
#define UKEY uint32_t
#define KEY_BITS 32
#define LARGEST ((uint32_t)INT32_MAX)
#define SIGN ((uint32_t)1 << 31)
#define NAMED(name) name##_32
#include "select_width.h"

#define KEY int64_t
#define UKEY uint64_t
#define KEY_BITS 64
#define LARGEST ((uint64_t)INT64_MAX)
#define SIGN ((uint64_t)1 << 63)
#define NAMED(name) name##_64
#include "select_width.h"

nd_key_order
nd_key_order_of(nd_number number, size_t itemsize)
{
    const uint64_t sign = (uint64_t)1 << (8 * itemsize - 1), below = sign - 1;
    /* Infinity: all bits of the exponent. */
    const int fraction_bits = itemsize == 4 ? 23 : 52;
    switch (number) {
    case ND_FLOAT: return (nd_key_order){.flip = below, .most = below >> fraction_bits << fraction_bits};
    case ND_SIGNED: return (nd_key_order){.most = below};
    default: return (nd_key_order){.turn = sign, .most = below};
    }
}

int64_t
nd_count_digits(nd_values values, nd_key_window window, uint32_t *tables, int copies)
{
    return values.itemsize == 4 ? count_digits_32(values.items, values.count, values.order, window, tables, copies)
                                : count_digits_64(values.items, values.count, values.order, window, tables, copies);
}

/* The cells of many ranges; for a few they are not used. */
static void
note_cells(nd_key_ranges ranges, wanted *wanted)
{
    if (ranges.count <= FEW_RANGES) {
        return;
    }
    memset(wanted->cells, 0, sizeof wanted->cells);
    const uint64_t low = (uint64_t)ranges.lows[0], length = (uint64_t)ranges.highs[ranges.count - 1] - low;
    wanted->low = ranges.lows[0];
    wanted->shift = 0;
    while (length >> wanted->shift >= WANTED_CELLS) {
        wanted->shift++;
    }
    for (size_t i = 0; i < ranges.count; i++) {
        const uint64_t first = ((uint64_t)ranges.lows[i] - low) >> wanted->shift;
        const uint64_t last = ((uint64_t)ranges.highs[i] - low) >> wanted->shift;
        for (uint64_t cell = first; cell <= last && cell < WANTED_CELLS; cell++) { /* SAFE: ends there in any order */
            wanted->cells[cell] = 1;
        }
    }
}

void
nd_count_within(nd_values values, nd_key_ranges ranges, const int64_t *shifts, uint32_t *tables, int bits)
{
    wanted wanted;
    note_cells(ranges, &wanted);
    if (values.itemsize == 4) {
        count_within_32(values.items, values.count, values.order, ranges, &wanted, shifts, tables, bits);
    }
    else {
        count_within_64(values.items, values.count, values.order, ranges, &wanted, shifts, tables, bits);
    }
}

void
nd_collect_within(nd_values values, nd_key_ranges ranges, void *found, int64_t room, int64_t *place)
{
    wanted wanted;
    note_cells(ranges, &wanted);
    if (values.itemsize == 4) {
        collect_32(values.items, values.count, values.order, ranges, &wanted, found, room, place);
    }
    else {
        collect_64(values.items, values.count, values.order, ranges, &wanted, found, room, place);
    }
}
