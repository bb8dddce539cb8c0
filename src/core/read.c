/* Rows by reading their file, many calls at a time. */
#define _GNU_SOURCE /* pread */

#include "lane.h"
#include "workers.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file on the other side of a network answers many readers at a time. */
enum { READERS = 16 };

/* Rows that are so near to each other in the file are read at once, as far as they fit into the buffer. */
enum { NEAR_NBYTES = 4 << 10, BUFFER_NBYTES = 1 << 20, MOST_AT_ONCE = 64 << 10 };

typedef struct {
    const lane *part;
    size_t step; /* rows that a thread takes at a time */
    _Atomic size_t next;
} reading;

/* Where in the mapping a row's bytes begin, and which of those wanted it is. Kept, for the index may be changed by somebody
 * while it is used. */
typedef struct {
    const char *low;
    size_t i;
} place_of_row;

/* Read bytes of the file. What the system cannot read is looked at through the map, where the guard finds out why. */
static void
read_bytes(const nd_rows *rows, const char *mapped, char *memory, size_t nbytes)
{
    while (nbytes > 0) {
        ssize_t count = pread(rows->fd, memory, nbytes, (off_t)nd_file_offset(rows->mapping, mapped));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            memcpy(memory, mapped, nbytes);
            return;
        }
        mapped += count;
        memory += count;
        nbytes -= (size_t)count;
    }
}

/* Copy a row out of a buffer, where its bytes begin at `bytes`. */
static void
unpack(const lane *part, size_t i, char *bytes)
{
    char *memory = part->rows->memory + (ptrdiff_t)i * part->rows->memory_stride + part->memory;
    char *mapped = bytes - part->low + part->mapped;
    if (part->is_piece) {
        memcpy(memory, mapped, part->nbytes);
    }
    else {
        nd_copy_row(part->rows, mapped, memory);
    }
}

/* A row that is longer than the buffer, piece by piece. */
static void
read_long_row(const lane *part, size_t i, ptrdiff_t row)
{
    const nd_rows *rows = part->rows;
    const char *mapped = rows->mapped + row * rows->mapped_stride + part->mapped;
    char *memory = rows->memory + (ptrdiff_t)i * rows->memory_stride + part->memory;
    position place = {.mapped = 0};
    do {
        read_bytes(rows, mapped + place.mapped, memory + place.memory, rows->piece_nbytes);
    } while (!part->is_piece && nd_advance(rows, rows->ndim, &place));
}

static int
by_low(const void *left, const void *right)
{
    const place_of_row *a = left, *b = right;
    return a->low < b->low ? -1 : a->low > b->low;
}

/* Read rows whose places are in the file's order. */
static void
read_places(const lane *part, const place_of_row *places, size_t count, char *buffer)
{
    for (size_t first = 0, next; first < count; first = next) {
        const char *low = places[first].low, *end = low + part->extent;
        for (next = first + 1; next < count; next++) {
            const char *own_end = places[next].low + part->extent;
            if (places[next].low > end + NEAR_NBYTES || own_end > low + BUFFER_NBYTES) {
                break;
            }
            end = own_end > end ? own_end : end;
        }
        read_bytes(part->rows, low, buffer, (size_t)(end - low));
        for (size_t k = first; k < next; k++) {
            unpack(part, places[k].i, buffer + (places[k].low - low));
        }
    }
}

static void
read_rows(const lane *part, size_t from, size_t to, place_of_row *places, char *buffer)
{
    const nd_rows *rows = part->rows;
    size_t count = 0;
    bool is_sorted = true;
    for (size_t i = from; i < to; i++) {
        ptrdiff_t row = row_at(rows, i);
        if (row >= 0 && part->extent > BUFFER_NBYTES) {
            read_long_row(part, i, row);
        }
        else if (row >= 0) {
            places[count] = (place_of_row){rows->mapped + row * rows->mapped_stride + part->low, i};
            is_sorted = is_sorted && (count == 0 || places[count - 1].low <= places[count].low);
            count++;
        }
    }
    if (!is_sorted) {
        qsort(places, count, sizeof *places, by_low);
    }
    read_places(part, places, count, buffer);
}

static void
read_some(void *context, int number)
{
    (void)number;
    reading *all = context;
    size_t count = all->part->rows->count, from;
    place_of_row *places = malloc(all->step * sizeof *places);
    char *buffer = malloc(BUFFER_NBYTES);
    while ((from = atomic_fetch_add(&all->next, all->step)) < count) {
        size_t to = count - from < all->step ? count : from + all->step;
        if (places != NULL && buffer != NULL) {
            read_rows(all->part, from, to, places, buffer);
        }
        else {
            nd_copy_lane(all->part, from, to);
        }
    }
    free(places);
    free(buffer);
}

void
nd_read_lane(const lane *part)
{
    size_t count = part->rows->count, step = BUFFER_NBYTES / (part->nbytes + 1);
    size_t fair = count / (2 * READERS);
    step = step < MOST_AT_ONCE ? step : MOST_AT_ONCE;
    step = step < fair ? step : fair;
    reading all = {.part = part, .step = step < 1 ? 1 : step};
    nd_share(read_some, &all, count < READERS ? (int)count : READERS);
}
