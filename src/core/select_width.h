/* The kernels of select.c for keys of one width: included once for each, with KEY, UKEY (the same without sign), KEY_BITS
 * and NAMED(). */

ND_PART KEY
NAMED(key_of)(UKEY bits, UKEY flip, UKEY turn)
{
    const UKEY is_negative = (UKEY)-(UKEY)(bits >> (KEY_BITS - 1)); /* all bits or none */
    return (KEY)(bits ^ (is_negative & flip) ^ turn);
}

/* All bits or none. */
ND_PART KEY
NAMED(is_nan)(UKEY bits, KEY most)
{
    return -(KEY)((KEY)(bits & LARGEST) > most);
}

ND_TARGETS static int64_t
NAMED(count_digits)(const UKEY *values, size_t count, nd_key_order order, nd_key_window window, uint32_t *restrict tables,
                    int copies)
{
    const UKEY flip = (UKEY)order.flip, turn = (UKEY)order.turn;
    const KEY most = (KEY)order.most, low = (KEY)window.low, high = NAMED(end_of)(window);
    const int shift = window.shift;
    uint32_t table_at[GROUP];
    for (int lane = 0; lane < GROUP; lane++) {
        table_at[lane] = (uint32_t)(lane & (copies - 1)) << window.bits;
    }
    int64_t nans = 0;
    for (size_t i = 0; i < count; i += GROUP) {
        const int lanes = count - i < GROUP ? (int)(count - i) : GROUP;
        UKEY bits[GROUP];
        uint32_t digit[GROUP], differing = 0;
        KEY any_nan = 0;
        if (lanes < GROUP) { /* the last ones, and one of them again in the lanes behind */
            for (int lane = 0; lane < GROUP; lane++) {
                bits[lane] = values[i + (lane < lanes ? lane : 0)];
            }
        }
        const UKEY *const from = lanes < GROUP ? bits : values + i;
        for (int lane = 0; lane < GROUP; lane++) {
            KEY key = NAMED(key_of)(from[lane], flip, turn);
            any_nan |= NAMED(is_nan)(from[lane], most);
            key = key < low ? low : key;
            key = key > high ? high : key;
            digit[lane] = (uint32_t)((UKEY)((UKEY)key - (UKEY)low) >> shift);
        }
        for (int lane = 0; lane < GROUP; lane++) {
            differing |= digit[lane] ^ digit[0];
        }
        if (any_nan != 0) {
            for (int lane = 0; lane < lanes; lane++) {
                const uint32_t is_number = NAMED(is_nan)(from[lane], most) == 0;
                nans += 1 - is_number;
                tables[table_at[lane] + digit[lane]] += is_number;
            }
        }
        else if (differing == 0) { /* or each would wait for the store of the one before */
            tables[digit[0]] += (uint32_t)lanes;
        }
        else {
            for (int lane = 0; lane < GROUP; lane++) {
                digit[lane] += table_at[lane];
            }
            for (int lane = 0; lane < lanes; lane++) {
                tables[digit[lane]]++;
            }
        }
    }
    return nans;
}

/* A few ranges, as the processor compares best: with the distance from a range's begin, which must not pass that of its end.
 * Both are turned by half of all numbers, for comparisons of signed ones. */
typedef struct {
    UKEY from[FEW_RANGES];
    KEY span[FEW_RANGES];
    size_t count;
} NAMED(few);

static NAMED(few) NAMED(few_of)(nd_key_ranges ranges)
{
    NAMED(few) few = {.count = ranges.count};
    for (size_t range = 0; range < ranges.count; range++) {
        few.from[range] = (UKEY)ranges.lows[range] + SIGN;
        few.span[range] = (KEY)((UKEY)ranges.highs[range] - few.from[range]);
    }
    return few;
}

/* Copy those of a group's keys that are in one of the ranges behind the `found` others; how many there are then. */
ND_PART size_t
NAMED(pick_from_group)(const UKEY *values, int lanes, nd_key_order order, const NAMED(few) * few, KEY *restrict picked,
                       size_t found)
{
    const UKEY flip = (UKEY)order.flip, turn = (UKEY)order.turn;
    const KEY most = (KEY)order.most;
    KEY key[GROUP], missed[GROUP], all_missed = -1;
    for (int lane = 0; lane < lanes; lane++) {
        const KEY is_nan = NAMED(is_nan)(values[lane], most);
        key[lane] = (NAMED(key_of)(values[lane], flip, turn) & ~is_nan) | ((KEY)LARGEST & is_nan);
        missed[lane] = -(KEY)((KEY)((UKEY)key[lane] - few->from[0]) > few->span[0]);
    }
    for (size_t range = 1; range < few->count; range++) {
        for (int lane = 0; lane < lanes; lane++) {
            missed[lane] &= -(KEY)((KEY)((UKEY)key[lane] - few->from[range]) > few->span[range]);
        }
    }
    for (int lane = 0; lane < lanes; lane++) {
        all_missed &= missed[lane];
    }
    if (all_missed != 0) { /* most often */
        return found;
    }
    for (int lane = 0; lane < lanes; lane++) {
        picked[found] = key[lane];
        found += missed[lane] == 0;
    }
    return found;
}

/* Copy the keys that are in one of a few ranges; how many they are. There has to be room for all. */
ND_TARGETS static size_t
NAMED(pick_from_few)(const UKEY *values, size_t count, nd_key_order order, const NAMED(few) * few, KEY *restrict picked)
{
    size_t found = 0, i = 0;
    for (; i + GROUP <= count; i += GROUP) {
        found = NAMED(pick_from_group)(values + i, GROUP, order, few, picked, found);
    }
    return NAMED(pick_from_group)(values + i, (int)(count - i), order, few, picked, found);
}

/* Which range a key is in, or -1. */
static inline ptrdiff_t
NAMED(range_of)(KEY key, nd_key_ranges ranges)
{
    size_t first = 0, count = ranges.count;
    while (count > 1) { /* the last range that begins at the key or before is among `count` ones */
        const size_t half = count / 2;
        first += ranges.lows[first + half] <= key ? half : 0;
        count -= half;
    }
    return ranges.lows[first] <= key && key <= ranges.highs[first] ? (ptrdiff_t)first : -1;
}

/* The same as pick_from_few for any number of ranges: a look into a table tells most of the others apart. */
static size_t
NAMED(pick_from_many)(const UKEY *values, size_t count, nd_key_order order, nd_key_ranges ranges, const wanted *wanted,
                      KEY *restrict picked)
{
    const UKEY flip = (UKEY)order.flip, turn = (UKEY)order.turn;
    const KEY most = (KEY)order.most;
    const UKEY low = (UKEY)wanted->low;
    size_t candidates = 0, found = 0;
    for (size_t i = 0; i < count; i++) {
        const KEY is_nan = NAMED(is_nan)(values[i], most);
        const KEY key = (NAMED(key_of)(values[i], flip, turn) & ~is_nan) | ((KEY)LARGEST & is_nan);
        const UKEY cell = (UKEY)((UKEY)key - low) >> wanted->shift;
        picked[candidates] = key;
        candidates += wanted->cells[cell < WANTED_CELLS ? cell : WANTED_CELLS];
    }
    for (size_t i = 0; i < candidates; i++) {
        const KEY key = picked[i];
        picked[found] = key;
        found += NAMED(range_of)(key, ranges) >= 0;
    }
    return found;
}

static size_t
NAMED(pick)(const UKEY *values, size_t count, nd_key_order order, nd_key_ranges ranges, const wanted *wanted, KEY *picked)
{
    if (ranges.count > FEW_RANGES) {
        return NAMED(pick_from_many)(values, count, order, ranges, wanted, picked);
    }
    const NAMED(few) few = NAMED(few_of)(ranges);
    return NAMED(pick_from_few)(values, count, order, &few, picked);
}

static void
NAMED(count_within)(const UKEY *values, size_t count, nd_key_order order, nd_key_ranges ranges, const wanted *wanted,
                    const int64_t *shifts, uint32_t *restrict tables, int bits)
{
    KEY picked[CHUNK];
    const size_t last = ((size_t)1 << bits) - 1;
    for (size_t i = 0; i < count; i += CHUNK) {
        const size_t items = count - i < CHUNK ? count - i : CHUNK;
        const size_t found = NAMED(pick)(values + i, items, order, ranges, wanted, picked);
        for (size_t hit = 0; hit < found;) {
            const KEY key = picked[hit];
            uint32_t same = 1; /* a run is counted at once: each would wait for the store of the one before */
            while (++hit < found && picked[hit] == key) {
                same++;
            }
            const ptrdiff_t range = NAMED(range_of)(key, ranges);
            const size_t digit = (UKEY)((UKEY)key - (UKEY)ranges.lows[range]) >> shifts[range];
            tables[((size_t)range << bits) + (digit < last ? digit : last)] += same;
        }
    }
}

static void
NAMED(collect)(const UKEY *values, size_t count, nd_key_order order, nd_key_ranges ranges, const wanted *wanted,
               KEY *restrict found, int64_t room, int64_t *place)
{
    KEY picked[CHUNK];
    for (size_t i = 0; i < count; i += CHUNK) {
        const size_t items = count - i < CHUNK ? count - i : CHUNK;
        const int64_t kept = (int64_t)NAMED(pick)(values + i, items, order, ranges, wanted, picked);
        if (kept == 0) {
            continue;
        }
        const int64_t begin = __atomic_fetch_add(place, kept, __ATOMIC_RELAXED);
        const int64_t fitting = room - begin < kept ? room - begin : kept;
        if (begin >= 0 && fitting > 0) {
            /* SAFE: [begin, begin + fitting) is inside of `found`, and this thread's alone. */
            memcpy(found + begin, picked, (size_t)fitting * sizeof(KEY));
        }
    }
}

#undef KEY
#undef UKEY
#undef KEY_BITS
#undef LARGEST
#undef SIGN
#undef NAMED
