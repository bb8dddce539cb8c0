#define _GNU_SOURCE /* MAP_ANONYMOUS, MADV_POPULATE_READ */

#include "lost.h"

#include "block.h"
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older kernels answer EINVAL */
#endif

/* The page on which this thread's last bus error was let run again. */
static ND_THREAD_LOCAL char *retried_page;

/* ---- Windows: where writes go that have nowhere to go ---- */

typedef struct {
    nd_mapping *mapping; /* NULL: not in use */
    char *from;
    size_t size;
    bool is_live; /* over pages of the file, not over lost ones */
} window;

/* 64 MiB at most for the whole process. */
enum { WINDOW_COUNT = 16, WINDOW_SIZE = 4 << 20 };
static window windows[WINDOW_COUNT];
static unsigned next_window;

static void
close_window(window *w)
{
    if (w->mapping == NULL) {
        return;
    }
    int prot = w->is_live || nd_lost_is_open(&w->mapping->lost) ? PROT_READ : PROT_NONE;
    /* SAFE: private pages of ours, written only by stores that are reported as failed. */
    mprotect(w->from, w->size, prot);
    madvise(w->from, w->size, MADV_DONTNEED);
    w->mapping = NULL;
}

/* Make pages around `page`, within [low, high), writable; the oldest window closes for it. */
static bool
open_window(nd_mapping *mapping, char *page, char *low, char *high, bool is_live)
{
    window *w = &windows[next_window++ % WINDOW_COUNT];
    close_window(w);
    char *from = page - (uintptr_t)page % WINDOW_SIZE;
    char *to = from + WINDOW_SIZE;
    from = from < low ? low : from;
    to = to > high ? high : to;
    if (mprotect(from, (size_t)(to - from), PROT_READ | PROT_WRITE) < 0) {
        return false;
    }
    *w = (window){.mapping = mapping, .from = from, .size = (size_t)(to - from), .is_live = is_live};
    return true;
}

static void
close_windows_of(nd_mapping *mapping)
{
    for (int i = 0; i < WINDOW_COUNT; i++) {
        if (windows[i].mapping == mapping) {
            close_window(&windows[i]);
        }
    }
}

/* ---- Spans ---- */

static nd_span *
span_at(nd_mapping *mapping, const char *page)
{
    nd_lost *lost = &mapping->lost;
    for (int i = 0; i < lost->count; i++) {
        if (page >= lost->spans[i].from && page < lost->spans[i].to) {
            return &lost->spans[i];
        }
    }
    return NULL;
}

bool
nd_lost_overlaps(const nd_mapping *mapping, const char *from, const char *to)
{
    const nd_lost *lost = &mapping->lost;
    for (int i = 0; i < lost->count; i++) {
        if (from < lost->spans[i].to && to > lost->spans[i].from) {
            return true;
        }
    }
    return false;
}

static void
protect_spans(nd_lost *lost, int prot)
{
    for (int i = 0; i < lost->count; i++) {
        mprotect(lost->spans[i].from, (size_t)(lost->spans[i].to - lost->spans[i].from), prot);
    }
}

/* The number changes before a page opens and after all are armed: who finds it even, and the same, before and after
 * reading has read no open page. */
static void
open_spans(nd_lost *lost)
{
    lost->openings += !nd_lost_is_open(lost);
    lost->opener = &retried_page; /* any variable of the thread's own would do */
    protect_spans(lost, PROT_READ);
}

static void
arm_spans(nd_lost *lost)
{
    protect_spans(lost, PROT_NONE);
    lost->openings += nd_lost_is_open(lost);
    lost->opener = NULL;
}

static size_t
gap(const nd_span *a, const nd_span *b)
{
    return a->from > b->to ? (size_t)(a->from - b->to) : b->from > a->to ? (size_t)(b->from - a->to) : 0;
}

/* Take a span into the list. Spans that touch become one; where the list is full, the nearest one swallows it and the
 * pages between, which are given up: the number of the process's mappings stays bounded. */
static nd_span
joined(nd_lost *lost, nd_span added)
{
    for (;;) {
        int nearest = -1;
        for (int i = 0; i < lost->count; i++) {
            if (nearest < 0 || gap(&lost->spans[i], &added) < gap(&lost->spans[nearest], &added)) {
                nearest = i;
            }
        }
        bool must_join = nearest >= 0 && (lost->count == ND_MOST_SPANS || gap(&lost->spans[nearest], &added) == 0);
        if (!must_join) {
            lost->spans[lost->count++] = added;
            return added;
        }
        nd_span other = lost->spans[nearest];
        added.from = other.from < added.from ? other.from : added.from;
        added.to = other.to > added.to ? other.to : added.to;
        lost->spans[nearest] = lost->spans[--lost->count];
    }
}

/* Lose pages, armed. */
static bool
lose(nd_mapping *mapping, char *from, char *to)
{
    close_windows_of(mapping);
    nd_lost *lost = &mapping->lost, before = *lost;
    nd_span span = joined(lost, (nd_span){.from = from, .to = to});
    /* SAFE: MAP_FIXED inside a range of ours. The file's own pages stay in the page cache. */
    void *armed = mmap(span.from, (size_t)(span.to - span.from), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (armed == MAP_FAILED) {
        *lost = before;
        return false;
    }
    if (nd_lost_is_open(lost)) {
        arm_spans(lost);
    }
    return true;
}

/* Lose pages that this thread is waiting for. */
static bool
lose_open(nd_mapping *mapping, char *from, char *to)
{
    bool is_lost = lose(mapping, from, to);
    if (is_lost) {
        open_spans(&mapping->lost);
    }
    return is_lost;
}

int
nd_lost_all(nd_mapping *mapping)
{
    return lose(mapping, mapping->range, mapping->range + mapping->range_size) ? 0 : errno;
}

bool
nd_lost_is_opened_here(const nd_mapping *mapping)
{
    return mapping->lost.opener == &retried_page;
}

void
nd_lost_arm(nd_mapping *mapping)
{
    close_windows_of(mapping);
    if (nd_lost_is_open(&mapping->lost)) {
        arm_spans(&mapping->lost);
    }
}

void
nd_lost_forget(nd_mapping *mapping)
{
    close_windows_of(mapping);
}

/* ---- What happened ---- */

/* True if reading the page would be a bus error. */
static bool
is_dead(char *page)
{
    return madvise(page, nd_page_size(), MADV_POPULATE_READ) < 0 && errno == EFAULT;
}

/* Where the file's end is, when the file itself cannot be asked: the first dead page, if all to the end are dead. */
static char *
first_dead_page(nd_mapping *mapping, char *dead)
{
    size_t size = nd_page_size();
    char *last = nd_used_end(mapping) - size;
    if (last < mapping->range || !is_dead(last)) {
        return NULL;
    }
    char *low = mapping->range; /* every page below is alive */
    while (low < dead) {
        char *middle = low + (size_t)(dead - low) / 2 / size * size;
        if (is_dead(middle)) {
            dead = middle;
        }
        else {
            low = middle + size;
        }
    }
    return dead;
}

/* Whether a path failed by itself, and not what is behind it. */
static bool
leads_elsewhere(int failure)
{
    return failure == ENOENT || failure == ENOTDIR || failure == ELOOP || failure == EACCES;
}

/* The first page that the cut took, or NULL if the file reaches past `page`. `end` is the file's size. */
static char *
first_cut_page(nd_mapping *mapping, char *page, int64_t *end)
{
    size_t size = nd_page_size();
    int failure = nd_ask_size(mapping, end);
    if (failure == 0) {
        int64_t pages = (*end + (int64_t)size - 1) / (int64_t)size;
        int64_t range_start = nd_file_offset(mapping, mapping->range);
        int64_t distance = pages * (int64_t)size - range_start;
        char *cut = distance < 0 ? mapping->range : mapping->range + distance;
        return cut <= page ? cut : NULL;
    }
    if (!leads_elsewhere(failure)) {
        return NULL; /* a server that gives no size gives no bytes either, and has cut nothing */
    }
    char *cut = first_dead_page(mapping, page);
    if (cut != NULL) {
        *end = nd_file_offset(mapping, cut);
    }
    return cut;
}

/* What can be read by other means has not failed: then there was no block for a hole. Not only for one that is written
 * to, a tmpfs takes blocks for holes that are read through a map. */
static nd_cause
cause_of_bus_error(nd_mapping *mapping, char *page)
{
    char byte;
    int fd = nd_borrow_fd(mapping);
    bool is_readable = fd >= 0 && pread(fd, &byte, 1, nd_file_offset(mapping, page)) >= 0;
    nd_return_fd(mapping, fd);
    return is_readable ? ND_DISK_FULL : ND_READ_FAILED;
}

static nd_cause
answer_bus_error(nd_mapping *mapping, char *page, int64_t *offset)
{
    char *end_of_range = mapping->range + mapping->range_size;
    char *cut = first_cut_page(mapping, page, offset);
    if (cut != NULL) {
        return lose_open(mapping, cut, end_of_range) ? ND_TRUNCATED : ND_NO_FAULT;
    }
    *offset = nd_file_offset(mapping, page);
    nd_cause cause = cause_of_bus_error(mapping, page);
    if (retried_page != page) {
        /* The file may have been cut and grown again, or space found, by now: the thread is told all the same. */
        retried_page = page;
        return cause;
    }
    retried_page = NULL;
    /* One page. In a run of bad ones as many as were lost so far, so that a long run takes few faults. */
    size_t size = nd_page_size();
    nd_span *before = span_at(mapping, page - 1);
    size_t run = before == NULL ? size : (size_t)(before->to - before->from);
    char *to = run < (size_t)(end_of_range - page) ? page + run : end_of_range;
    return lose_open(mapping, page, to) ? cause : ND_NO_FAULT;
}

/* The live pages around `page`, up to the next lost ones. */
static nd_span
live_around(nd_mapping *mapping, const char *page)
{
    nd_span live = {.from = mapping->range, .to = mapping->range + mapping->range_size};
    for (int i = 0; i < mapping->lost.count; i++) {
        nd_span lost = mapping->lost.spans[i];
        if (lost.to <= page && lost.to > live.from) {
            live.from = lost.to;
        }
        if (lost.from > page && lost.from < live.to) {
            live.to = lost.from;
        }
    }
    return live;
}

/* Why a lost page is lost. Behind the mapping's end there were bytes until it was made shorter. */
static nd_cause
cause_at(const nd_mapping *mapping, const char *page, int64_t *offset)
{
    nd_cause cause = mapping->fault.cause;
    if (cause == ND_NO_FAULT && page >= nd_used_end(mapping)) {
        *offset = mapping->offset + (int64_t)mapping->nbytes;
        return ND_SHRUNK;
    }
    if (cause == ND_TRUNCATED) {
        *offset = mapping->fault.offset;
    }
    return cause;
}

/* One past the last page that is in use: of the array, and of what an open block has as its own. */
static char *
end_in_use(const nd_mapping *mapping)
{
    char *end = nd_used_end(mapping);
    return mapping->block != NULL && mapping->block->private_end > end ? mapping->block->private_end : end;
}

int
nd_lost_regain(nd_mapping *mapping)
{
    nd_lost *lost = &mapping->lost;
    int fd = lost->count > 0 ? nd_borrow_fd(mapping) : -1;
    if (lost->count > 0 && fd < 0) {
        return EBADF;
    }
    nd_lost_arm(mapping);
    int status = 0;
    while (lost->count > 0 && status == 0) {
        nd_span span = lost->spans[lost->count - 1];
        /* What an open block has as its own there already is not the file's. */
        char *own = mapping->block == NULL ? span.from : mapping->block->private_end;
        char *from = own > span.from ? own : span.from;
        status = from < span.to ? nd_map_again(mapping, fd, from, span.to) : 0;
        lost->count -= status == 0;
    }
    nd_return_fd(mapping, fd);
    return status;
}

/* The address at which this thread's last store was let run again. */
static ND_THREAD_LOCAL const char *retried_store;

/* A store into a page that may not be written to. At the end of an atomic block it waits; and the block may have ended
 * before this was asked, so that it is told by trying once more. */
static nd_cause
answer_store(nd_mapping *mapping, char *address)
{
    char *page = address - (uintptr_t)address % nd_page_size();
    bool is_full = mapping->block != NULL && mapping->block->state == ND_BLOCK_FULL;
    if (mapping->access == ND_READ || is_full) {
        nd_span live = live_around(mapping, page);
        nd_cause cause = is_full ? ND_TOO_LARGE : ND_READ_ONLY;
        return open_window(mapping, page, live.from, live.to, true) ? cause : ND_NO_FAULT;
    }
    bool is_frozen = mapping->block != NULL && mapping->block->state == ND_BLOCK_FROZEN;
    if (mapping->access == ND_WRITE && (is_frozen || retried_store != address)) {
        retried_store = is_frozen ? NULL : address;
        return ND_HELD_UP;
    }
    retried_store = NULL;
    return ND_NO_FAULT; /* somebody else changed the protection of our pages */
}

nd_cause
nd_lost_answer(nd_mapping *mapping, char *address, bool is_bus, bool is_write, int64_t *offset)
{
    char *page = address - (uintptr_t)address % nd_page_size();
    nd_span *span = span_at(mapping, page);
    *offset = nd_file_offset(mapping, address);
    if (span != NULL) {
        if (!nd_lost_is_open(&mapping->lost)) {
            open_spans(&mapping->lost);
        }
        if (is_write && !open_window(mapping, page, span->from, span->to, false)) {
            return ND_NO_FAULT;
        }
        return cause_at(mapping, page, offset);
    }
    if (!is_bus) {
        return is_write && mapping->nbytes > 0 ? answer_store(mapping, address) : ND_NO_FAULT;
    }
    if (mapping->fault.cause == ND_NO_FAULT && page >= end_in_use(mapping)) {
        char *end_of_range = mapping->range + mapping->range_size;
        return lose_open(mapping, end_in_use(mapping), end_of_range) ? cause_at(mapping, page, offset) : ND_NO_FAULT;
    }
    nd_cause cause = answer_bus_error(mapping, page, offset);
    if (cause != ND_NO_FAULT && mapping->fault.cause == ND_NO_FAULT) {
        mapping->fault = (nd_damage){.cause = cause, .offset = *offset};
    }
    return cause;
}
