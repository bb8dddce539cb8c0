/* How many values lie between which thresholds.
 *
 * The way from the first threshold to the last is divided into equal cells. A value's cell is computed, and a larger value
 * never has an earlier cell, however the computation rounds. So a value is not below the thresholds of earlier cells, and
 * below those of later ones; only those of its own cell have to be compared with it. Where thresholds are about equally far
 * from each other a cell has one at most; where they are not, it is a search by halves in the cell. Nothing branches on
 * values. */
#include "bins.h"

#include "targets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CELLS_PER_THRESHOLD = 4, /* so that two thresholds seldom share one */
    TABLES = 4,              /* in turn: a count that is raised twice in a row waits for its own store */
    CHUNK = 512              /* values whose cells are computed at a time */
};

/* As many values as a count of 32 bits surely bears. */
static const size_t PIECE = (size_t)1 << 30;

/* What values are looked up in. */
typedef struct {
    void *memory;     /* thresholds of the type that values are compared as, and then the others */
    uint32_t *tables; /* of counts */
    uint16_t *start;  /* of each cell: how many thresholds earlier ones have */
    size_t places;    /* in a table */
    int32_t cells;
    int steps; /* of the search in a cell */
} grid;

/* Behind the thresholds are some that no value reaches: a search in the fullest cell may look at twice as many as there are. */
#define THRESHOLDS(edges) (3 * (edges) + 1)

static bool
make_grid(grid *self, size_t edges, size_t nbytes)
{
    self->places = edges + 1;
    self->cells = (int32_t)edges * CELLS_PER_THRESHOLD;
    size_t thresholds = THRESHOLDS(edges) * nbytes, tables = TABLES * self->places * sizeof *self->tables;
    self->memory = malloc(thresholds + tables + (size_t)self->cells * sizeof *self->start);
    if (self->memory == NULL) {
        return false;
    }
    /* SAFE: numbers of 4 or 8 bytes come first, then those of 4, then those of 2, so each is aligned. A place is never behind
     * the last threshold, in whatever order they are: a search passes one only if the value reaches it. */
    self->tables = (uint32_t *)((char *)self->memory + thresholds);
    self->start = (uint16_t *)((char *)self->tables + tables);
    memset(self->tables, 0, tables);
    return true;
}

/* Make of the number of thresholds in each cell that in earlier ones, and see how many steps the fullest one takes. */
static void
accumulate(grid *self)
{
    unsigned before = 0, most = 0;
    for (int32_t cell = 0; cell < self->cells; cell++) {
        unsigned here = self->start[cell];
        self->start[cell] = (uint16_t)before;
        before += here;
        most = here > most ? here : most;
    }
    for (self->steps = 1; most >> self->steps != 0; self->steps++) {
    }
}

/* In a loop of its own: loads that follow a store to an address just computed wait for it. */
ND_PART void
count_places(const grid *self, const int32_t *places, size_t count)
{
    size_t i = 0;
    for (; i + TABLES <= count; i += TABLES) {
        for (size_t lane = 0; lane < TABLES; lane++) {
            self->tables[lane * self->places + (size_t)places[i + lane]]++;
        }
    }
    for (; i < count; i++) {
        self->tables[places[i]]++;
    }
}

static void
take_tables(grid *self, int64_t *counts)
{
    for (size_t i = 0; i < TABLES * self->places; i++) {
        counts[i % self->places] += self->tables[i];
        self->tables[i] = 0;
    }
}

#define ITEM float
#define REAL float
#define NAMED(name) name##_float
#include "bins_of_type.h"

#define ITEM double
#define REAL double
#define NAMED(name) name##_double
#include "bins_of_type.h"

#define ITEM int32_t
#define REAL double
#define NAMED(name) name##_int32
#include "bins_of_type.h"

#define ITEM uint32_t
#define REAL double
#define NAMED(name) name##_uint32
#include "bins_of_type.h"

#define ITEM int64_t
#define REAL double
#define NAMED(name) name##_int64
#include "bins_of_type.h"

#define ITEM uint64_t
#define REAL double
#define NAMED(name) name##_uint64
#include "bins_of_type.h"
