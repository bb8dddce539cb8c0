/* bins.c for values of one type: ITEM, compared as REAL, by functions that are NAMED. Included for each of them. */

/* Values below the first threshold have the first cell, and so has NaN. */
ND_PART int32_t
NAMED(cell_of)(REAL value, REAL origin, REAL scale, REAL last)
{
    REAL cell = (value - origin) * scale;
    cell = cell > 0 ? cell : 0;
    cell = cell < last ? cell : last;
    return (int32_t)cell;
}

/* How many thresholds are not above a value, given its cell. */
ND_PART size_t
NAMED(place_of)(const grid *self, REAL value, int32_t cell, int steps)
{
    const REAL *thresholds = self->memory;
    size_t place = self->start[cell];
    for (size_t half = (size_t)1 << (steps - 1); half > 0; half >>= 1) {
        place += value >= thresholds[place + half - 1] ? half : 0;
    }
    return place;
}

/* Make of the cells of one chunk the places. */
ND_PART void
NAMED(look_up)(const grid *self, const ITEM *values, size_t count, int32_t *cells, int steps)
{
    for (size_t i = 0; i < count; i++) {
        cells[i] = (int32_t)NAMED(place_of)(self, (REAL)values[i], cells[i], steps);
    }
}

ND_TARGETS static void
NAMED(run)(const grid *self, const ITEM *values, size_t count, REAL origin, REAL scale)
{
    REAL last = (REAL)(self->cells - 1);
    int32_t cells[CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t length = count - at < CHUNK ? count - at : CHUNK;
        for (size_t i = 0; i < length; i++) {
            cells[i] = NAMED(cell_of)((REAL)values[at + i], origin, scale, last);
        }
        if (self->steps == 1) { /* known to the compiler */
            NAMED(look_up)(self, values + at, length, cells, 1);
        } else {
            NAMED(look_up)(self, values + at, length, cells, self->steps);
        }
        count_places(self, cells, length);
    }
}

/* Divide the way between the first and the last threshold that are finite, and sort all thresholds into cells. */
static void
NAMED(divide)(grid *self, size_t edges, REAL *origin, REAL *scale)
{
    const REAL *thresholds = self->memory;
    size_t first = 0, end = edges;
    while (first < end && !isfinite(thresholds[first])) {
        first++;
    }
    while (end > first && !isfinite(thresholds[end - 1])) {
        end--;
    }
    REAL width = first < end ? thresholds[end - 1] - thresholds[first] : 0;
    *origin = first < end ? thresholds[first] : 0;
    *scale = width > 0 && isfinite(width) ? (REAL)self->cells / width : 0; /* 0: one cell has them all */
    memset(self->start, 0, (size_t)self->cells * sizeof *self->start);
    for (size_t i = 0; i < edges; i++) {
        if (!isnan(thresholds[i])) {
            self->start[NAMED(cell_of)(thresholds[i], *origin, *scale, (REAL)(self->cells - 1))]++;
        }
    }
    accumulate(self);
}

bool
NAMED(nd_bin)(const void *values, size_t count, const void *thresholds, size_t edges, int64_t *counts)
{
    grid self;
    if (!make_grid(&self, edges, sizeof(REAL))) {
        return false;
    }
    REAL *copy = self.memory;
    memcpy(copy, thresholds, edges * sizeof *copy);
    for (size_t i = edges; i < THRESHOLDS(edges); i++) {
        copy[i] = (REAL)NAN; /* no value is as large */
    }
    REAL origin, scale;
    NAMED(divide)(&self, edges, &origin, &scale);
    for (size_t at = 0; at < count; at += PIECE) {
        NAMED(run)(&self, (const ITEM *)values + at, count - at < PIECE ? count - at : PIECE, origin, scale);
        take_tables(&self, counts);
    }
    free(self.memory);
    return true;
}

#undef ITEM
#undef REAL
#undef NAMED
