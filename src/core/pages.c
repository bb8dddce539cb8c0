#define _GNU_SOURCE /* MADV_POPULATE_READ, process_madvise */

#include "pages.h"

#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older kernels answer EINVAL */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3 */
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440 /* Linux 5.10 */
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

nd_span
nd_pages_around(const char *from, size_t nbytes)
{
    uintptr_t page = nd_page_size(), low = (uintptr_t)from, high = low + nbytes;
    return (nd_span){.from = (char *)(low / page * page), .to = (char *)((high + page - 1) / page * page)};
}

/* ---- Asking for pages ---- */

static int
by_address(const void *left, const void *right)
{
    const nd_span *a = left, *b = right;
    return a->from < b->from ? -1 : a->from > b->from;
}

size_t
nd_join_spans(nd_span *spans, size_t count)
{
    if (count == 0) {
        return 0;
    }
    qsort(spans, count, sizeof *spans, by_address);
    size_t last = 0;
    for (size_t i = 1; i < count; i++) {
        if (spans[i].from > spans[last].to) {
            spans[++last] = spans[i];
        }
        else if (spans[i].to > spans[last].to) {
            spans[last].to = spans[i].to;
        }
    }
    return last + 1;
}

/* One wish is silently cut to what the device reads ahead, or takes at once: 128 KiB is what most are set to, and less is
 * not granted anywhere. */
enum { GRANTED_NBYTES = 128 << 10, WISHES = 512 };

/* Wishes on their way to the kernel. */
typedef struct {
    int process; /* a descriptor of this process, -1 where many wishes cannot go with one call */
    int count;
    bool is_taken; /* the last ones */
    struct iovec wishes[WISHES];
} batch;

static void
send_batch(batch *b)
{
    int done = 0;
    if (b->process >= 0 && b->count > 0) {
        size_t nbytes = 0;
        for (int i = 0; i < b->count; i++) {
            nbytes += b->wishes[i].iov_len;
        }
        long taken = syscall(SYS_process_madvise, b->process, b->wishes, b->count, MADV_WILLNEED, 0);
        b->is_taken = taken > 0;
        done = taken == (long)nbytes ? b->count : 0;
    }
    /* Wishes that are repeated here cost little: the pages are asked for already. */
    for (; done < b->count; done++) {
        b->is_taken = madvise(b->wishes[done].iov_base, b->wishes[done].iov_len, MADV_WILLNEED) == 0;
    }
    b->count = 0;
}

bool
nd_request(const nd_span *spans, size_t count)
{
    batch b = {.process = count > 1 ? (int)syscall(SYS_pidfd_open, getpid(), 0) : -1, .is_taken = true};
    for (size_t i = 0; i < count; i++) {
        for (char *from = spans[i].from; from < spans[i].to; from += GRANTED_NBYTES) {
            size_t left = (size_t)(spans[i].to - from);
            /* SAFE: advice to read ahead changes nothing in the pages. */
            b.wishes[b.count++] = (struct iovec){from, left < GRANTED_NBYTES ? left : GRANTED_NBYTES};
            if (b.count == WISHES) {
                send_batch(&b);
            }
        }
    }
    send_batch(&b);
    if (b.process >= 0) {
        close(b.process);
    }
    return b.is_taken;
}

bool
nd_populate(nd_span span)
{
    /* SAFE: reads pages, as a load from each of them would. */
    return madvise(span.from, (size_t)(span.to - span.from), MADV_POPULATE_READ) == 0;
}

bool
nd_give_up(const nd_mapping *mapping, int fd, nd_span span)
{
    size_t nbytes = (size_t)(span.to - span.from);
    /* A block is known before its pages are private, and no block begins while this is locked. */
    nd_guard_lock();
    bool is_anybodys = mapping->access != ND_COPY && mapping->block == NULL; /* private pages hold what nobody else has */
    /* SAFE: shared pages, or private ones that only read: the page cache has their bytes, changed ones too. */
    bool is_given_up = is_anybodys && madvise(span.from, nbytes, MADV_DONTNEED) == 0;
    nd_guard_unlock();
    return is_anybodys && fd >= 0 && posix_fadvise(fd, nd_file_offset(mapping, span.from), (off_t)nbytes, POSIX_FADV_DONTNEED) == 0 &&
           is_given_up;
}

/* ---- What is there ---- */

bool
nd_is_missing(const char *address)
{
    unsigned char found;
    size_t page = nd_page_size();
    char *start = (char *)((uintptr_t)address / page * page);
    return mincore(start, page, &found) == 0 && !(found & 1);
}

int
nd_count_cached(int fd, int64_t from, int64_t nbytes, nd_residency *found)
{
    struct {
        uint64_t offset, nbytes;
    } range = {(uint64_t)from, (uint64_t)nbytes};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } counts;
    if (syscall(SYS_cachestat, fd, &range, &counts, 0) < 0) {
        return errno;
    }
    *found = (nd_residency){.cached = counts.cached, .dirty = counts.dirty + counts.writeback};
    return 0;
}

int
nd_count_mapped(nd_span span, nd_residency *found)
{
    enum { PAGES = 4096 };
    unsigned char present[PAGES];
    size_t page = nd_page_size();
    *found = (nd_residency){.cached = 0};
    while (span.from < span.to) {
        size_t pages = (size_t)(span.to - span.from) / page;
        pages = pages < PAGES ? pages : PAGES;
        if (mincore(span.from, pages * page, present) < 0) {
            return errno;
        }
        for (size_t i = 0; i < pages; i++) {
            found->cached += present[i] & 1;
        }
        span.from += pages * page;
    }
    return 0;
}
