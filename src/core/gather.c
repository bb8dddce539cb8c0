#define _GNU_SOURCE /* RUSAGE_THREAD */

#include "clock.h"
#include "lane.h"
#include "pages.h"
#include "workers.h"

#include <stdlib.h>
#include <sys/resource.h>

/* ---- Asking for what is missing ---- */

/* So many rows, or bytes, are asked for at once: enough to keep a device busy while those before them are copied, and few
 * enough that the last ones, which nothing is read behind, are soon copied. Rows longer than that are read ahead by the kernel, who sees that they are read in order. */
enum { REQUEST_ROWS = 512, REQUEST_NBYTES = 8 << 20, LONGEST_NBYTES = 4 << 20 };

static size_t
request_rows(const lane *part)
{
    size_t most = REQUEST_NBYTES / (part->extent + nd_page_size());
    return most < 1 ? 1 : most < REQUEST_ROWS ? most : REQUEST_ROWS;
}

/* The spans of pages that rows [from, to) of a lane lie on, joined. Returns how many. */
static size_t
find_spans(const lane *part, size_t from, size_t to, nd_span *spans)
{
    const nd_rows *rows = part->rows;
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        ptrdiff_t row = row_at(rows, i);
        if (row >= 0) {
            spans[count++] = nd_pages_around(rows->mapped + row * rows->mapped_stride + part->low, part->extent);
        }
    }
    return nd_join_spans(spans, count);
}

static void
request(const lane *part, size_t from, size_t to)
{
    nd_span *spans = part->extent <= LONGEST_NBYTES ? malloc((to - from) * sizeof *spans) : NULL;
    if (spans != NULL) {
        nd_request(spans, find_spans(part, from, to, spans));
        free(spans);
    }
}

/* Look at some of the rows [from, to). */
static bool
some_are_missing(const lane *part, size_t from, size_t to)
{
    enum { FEW = 3, MANY = 8, MANY_ROWS = 64 };
    const nd_rows *rows = part->rows;
    size_t count = to - from, looks = count < MANY_ROWS ? FEW : MANY;
    looks = looks < count ? looks : count;
    for (size_t k = 0; k < looks; k++) {
        ptrdiff_t row = row_at(rows, from + (2 * k + 1) * count / (2 * looks));
        if (row >= 0 && nd_is_missing(rows->mapped + row * rows->mapped_stride + part->low)) {
            return true;
        }
    }
    return false;
}

/* ---- Warm and cold ---- */

/* To ask what is in memory takes longer than to copy a few rows that are. So after so many calls in a row in which
 * everything was there, nothing is asked; then it shows in the time that copying takes. */
enum { TRUSTED = 16 };

static bool
is_doubted(const nd_mapping *mapping)
{
    return mapping->warm_calls < TRUSTED;
}

/* True if this thread has waited for a device since it was asked last. */
static bool
has_waited(void)
{
    static _Thread_local long seen;
    struct rusage usage;
    long before = seen;
    seen = getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_majflt : before + 1;
    return seen != before;
}

/* Copy rows [from, to) that should be in memory, and stop where it took so long that one of them was not. Returns how far
 * it came. */
static size_t
copy_warily(const lane *part, size_t from, size_t to)
{
    /* Waiting for a device takes more than the first of these; an ordinary page fault less than the second, and copying
     * a byte less than the third. Another thread's turn takes more too, so the kernel is asked then. */
    enum { WAIT_NS = 60 * 1000, ROW_NS = 1500, BYTE_NS = 1, MOST_ROWS = 256, STEP_NBYTES = 64 << 10, FIRST_ROWS = 4 };
    size_t most = STEP_NBYTES / (part->nbytes + 1);
    most = most < 1 ? 1 : most < MOST_ROWS ? most : MOST_ROWS;
    int64_t before = nd_now_ns();
    for (size_t step = FIRST_ROWS; from < to; step *= 2) {
        step = step < most ? step : most;
        step = step < to - from ? step : to - from;
        nd_copy_lane(part, from, from + step);
        from += step;
        int64_t now = nd_now_ns();
        if (now - before > WAIT_NS + (int64_t)step * (ROW_NS + (int64_t)part->nbytes * BYTE_NS) && has_waited()) {
            part->rows->mapping->warm_calls = 0;
            break;
        }
        before = now;
    }
    return from;
}

/* Move rows [from, to) of a lane. */
static void
move_lane(const lane *part, size_t from, size_t to)
{
    /* Time may go by for other reasons, and not every process may know what is in memory. */
    enum { SUSPECTED_ROWS = 256 };
    nd_mapping *mapping = part->rows->mapping;
    size_t most = request_rows(part), requested = from;
    bool was_slow = false;
    while (from < to) {
        size_t end = to - from < most ? to : from + most;
        bool is_missing = requested < end && is_doubted(mapping) && some_are_missing(part, from, end);
        if (was_slow && !is_missing && end - from > SUSPECTED_ROWS) {
            end = from + SUSPECTED_ROWS;
        }
        if (requested < end && (was_slow || is_missing)) {
            mapping->warm_calls = 0;
            request(part, requested > from ? requested : from, end);
            requested = end;
        }
        if (requested < end) {
            size_t reached = copy_warily(part, from, end);
            was_slow = reached < end;
            from = reached;
            continue;
        }
        /* The next ones are on their way while these are copied. */
        size_t next = to - end < most ? to : end + most;
        if (next > end && some_are_missing(part, end, next)) {
            request(part, end, next);
            requested = next;
        }
        nd_copy_lane(part, from, end);
        from = end;
        was_slow = false;
    }
}

/* ---- Lanes ---- */

bool
nd_rows_may_take_long(const nd_rows *rows)
{
    enum { SHORT_ROWS = 64, SHORT_NBYTES = 64 << 10 };
    return is_doubted(rows->mapping) || rows->count > SHORT_ROWS || rows->count * nd_row_nbytes(rows) > SHORT_NBYTES;
}

size_t
nd_row_nbytes(const nd_rows *rows)
{
    size_t nbytes = rows->piece_nbytes;
    for (int axis = 0; axis < rows->ndim; axis++) {
        nbytes *= rows->shape[axis];
    }
    return nbytes;
}

static lane
whole_rows(const nd_rows *rows)
{
    lane part = {
        .rows = rows, .extent = rows->piece_nbytes, .nbytes = nd_row_nbytes(rows), .is_piece = rows->ndim == 0};
    for (int axis = 0; axis < rows->ndim; axis++) {
        ptrdiff_t way = (ptrdiff_t)(rows->shape[axis] - 1) * rows->mapped_strides[axis];
        part.low += way < 0 ? way : 0;
        part.extent += (size_t)(way < 0 ? -way : way);
    }
    return part;
}

/* True for rows whose pieces are far apart in the file, such as those of an array in order 'F': then the pieces of one
 * place in all rows are nearer to each other. */
static bool
is_scattered(const lane *whole)
{
    enum { TIMES_LONGER = 4 };
    return whole->extent > TIMES_LONGER * whole->nbytes + nd_page_size();
}

static lane
piece_at(const nd_rows *rows, const position *place)
{
    return (lane){.rows = rows, .mapped = place->mapped, .memory = place->memory, .low = place->mapped,
                  .extent = rows->piece_nbytes, .nbytes = rows->piece_nbytes, .is_piece = true};
}

static void
move_part(const lane *part)
{
    /* What is in memory is there faster through the map. */
    if (part->rows->fd >= 0 && some_are_missing(part, 0, part->rows->count)) {
        nd_read_lane(part);
    }
    else {
        move_lane(part, 0, part->rows->count);
    }
}

typedef struct {
    const lane *part;
    int parts;
} sharing;

static void
move_share(void *context, int number)
{
    const sharing *all = context;
    size_t count = all->part->rows->count;
    move_lane(all->part, count * (size_t)number / (size_t)all->parts, count * (size_t)(number + 1) / (size_t)all->parts);
}

/* How many threads pay for copying. A store takes one: of equal numbers the last one wins. */
static int
threads_for(const lane *part)
{
    /* A thread takes about as long to start as these take to be copied. */
    enum { WORTH_NBYTES = 1 << 20, WORTH_ROWS = 16 << 10 };
    const nd_rows *rows = part->rows;
    size_t worth = rows->count * part->nbytes / WORTH_NBYTES, by_rows = rows->count / WORTH_ROWS;
    worth = worth > by_rows ? worth : by_rows;
    if (rows->is_store || worth < 2 || (is_doubted(rows->mapping) && some_are_missing(part, 0, rows->count))) {
        return 1;
    }
    size_t processors = (size_t)nd_processors();
    return (int)(worth < processors ? worth : processors);
}

void
nd_move_rows(const nd_rows *rows)
{
    lane whole = whole_rows(rows);
    if (rows->count == 0 || whole.nbytes == 0) {
        return;
    }
    int before = rows->mapping->warm_calls;
    if (is_scattered(&whole)) {
        position place = {.mapped = 0};
        do {
            lane part = piece_at(rows, &place);
            move_part(&part);
        } while (nd_advance(rows, rows->ndim, &place));
    }
    else if (rows->fd >= 0) {
        move_part(&whole);
    }
    else {
        sharing all = {.part = &whole, .parts = threads_for(&whole)};
        nd_share(move_share, &all, all.parts);
    }
    if (rows->mapping->warm_calls == before && before < TRUSTED) {
        rows->mapping->warm_calls = before + 1;
    }
}

/* ---- Spans ---- */

static bool
visit_lane(const lane *part, nd_span_visitor visit, void *context)
{
    size_t count = part->rows->count, most = request_rows(part);
    nd_span *spans = malloc(most * sizeof *spans);
    bool goes_on = spans != NULL;
    for (size_t from = 0; from < count && goes_on; from += most) {
        size_t end = count - from < most ? count : from + most;
        goes_on = visit(context, spans, find_spans(part, from, end, spans));
    }
    free(spans);
    return goes_on;
}

bool
nd_rows_are_missing(const nd_rows *rows)
{
    lane whole = whole_rows(rows);
    return rows->count > 0 && whole.nbytes > 0 && some_are_missing(&whole, 0, rows->count);
}

const char *
nd_end_of_rows(const nd_rows *rows)
{
    lane whole = whole_rows(rows);
    const char *end = rows->mapped;
    for (size_t i = 0; i < rows->count; i++) {
        ptrdiff_t row = row_at(rows, i);
        const char *own = rows->mapped + row * rows->mapped_stride + whole.low + (ptrdiff_t)whole.extent;
        end = row >= 0 && own > end ? own : end;
    }
    return end;
}

bool
nd_visit_rows(const nd_rows *rows, nd_span_visitor visit, void *context)
{
    lane whole = whole_rows(rows);
    if (rows->count == 0 || whole.nbytes == 0) {
        return true;
    }
    if (!is_scattered(&whole)) {
        return visit_lane(&whole, visit, context);
    }
    position place = {.mapped = 0};
    bool goes_on;
    do {
        lane part = piece_at(rows, &place);
        goes_on = visit_lane(&part, visit, context);
    } while (goes_on && nd_advance(rows, rows->ndim, &place));
    return goes_on;
}
