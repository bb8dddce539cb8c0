#define _GNU_SOURCE /* pread on a large offset */

#include "changed_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ioctl PAGEMAP_SCAN, Linux 6.7: Documentation/admin-guide/mm/pagemap.rst. System headers are often older. */
struct region {
    uint64_t start, end, categories;
};
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan)
enum { IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4 };

/* The bits of a 64-bit entry of the page map, for older kernels. */
static const uint64_t ENTRY_PRESENT = 1ull << 63, ENTRY_SWAPPED = 1ull << 62, ENTRY_FILE = 1ull << 61;

/* What is done with each run of changed pages. */
typedef int (*visitor)(void *context, char *from, char *to);

int
nd_open_page_map(void)
{
    return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

enum { REGIONS = 256 };

/* Ask once, and go on from where the kernel has stopped. Returns the number of regions, or -1 with errno. */
static long
ask(int page_map, struct scan *request)
{
    long count;
    do {
        count = ioctl(page_map, PAGEMAP_SCAN, request);
    } while (count < 0 && errno == EINTR);
    request->start = count < 0 ? request->start : request->walk_end;
    return count;
}

/* Visit the runs of pages of the wanted categories. */
static int
scan(int page_map, struct scan request, const char *from, const char *to, visitor visit, void *context)
{
    struct region regions[REGIONS];
    request.size = sizeof request;
    request.start = (uint64_t)(uintptr_t)from;
    request.end = (uint64_t)(uintptr_t)to;
    request.vec = (uint64_t)(uintptr_t)regions;
    request.vec_len = REGIONS;
    request.return_mask = IS_PRESENT;
    while (request.start < request.end) {
        long count = ask(page_map, &request);
        if (count < 0) {
            return errno;
        }
        for (long i = 0; i < count; i++) {
            int status = visit(context, (char *)(uintptr_t)regions[i].start, (char *)(uintptr_t)regions[i].end);
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

typedef struct {
    size_t nbytes, runs;
} counts;

static int
add_run(void *context, char *from, char *to)
{
    counts *found = context;
    found->nbytes += (size_t)(to - from);
    found->runs++;
    return 0;
}

int
nd_count_resident(int page_map, const char *from, const char *to, size_t *nbytes, size_t *runs)
{
    counts found = {.nbytes = 0};
    int status = scan(page_map, (struct scan){.category_mask = IS_PRESENT}, from, to, add_run, &found);
    *nbytes = found.nbytes;
    *runs = found.runs;
    return status;
}

static int
read_entries(int page_map, char *from, char *to, visitor visit, void *context)
{
    enum { ENTRIES = 512 };
    uint64_t entries[ENTRIES];
    size_t page = nd_page_size();
    while (from < to) {
        size_t wanted = (size_t)(to - from) / page;
        wanted = wanted < ENTRIES ? wanted : ENTRIES;
        ssize_t got = pread(page_map, entries, wanted * 8, (off_t)((uintptr_t)from / page * 8));
        if (got <= 0 || got % 8 != 0) {
            return got < 0 ? errno : EIO;
        }
        for (ssize_t i = 0; i < got / 8; i++, from += page) {
            bool is_changed = (entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED)) && !(entries[i] & ENTRY_FILE);
            int status = is_changed ? visit(context, from, from + page) : 0;
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

static int
visit_changed(int page_map, char *from, char *to, visitor visit, void *context)
{
    /* Not the file's: a copy, in memory or swapped out. */
    struct scan changed = {
        .category_inverted = IS_FILE, .category_mask = IS_FILE, .category_anyof_mask = IS_PRESENT | IS_SWAPPED};
    int status = scan(page_map, changed, from, to, visit, context);
    return status == ENOTTY || status == EINVAL ? read_entries(page_map, from, to, visit, context) : status;
}

static int
note_span(void *context, char *from, char *to)
{
    nd_changed *changed = context;
    changed->nbytes += (size_t)(to - from);
    if (changed->count > 0 && changed->spans[changed->count - 1].to == from) {
        changed->spans[changed->count - 1].to = to;
        return 0;
    }
    if (changed->count == changed->capacity) {
        size_t capacity = changed->capacity ? 2 * changed->capacity : 64;
        nd_span *spans = realloc(changed->spans, capacity * sizeof *spans);
        if (spans == NULL) {
            return ENOMEM;
        }
        changed->spans = spans;
        changed->capacity = capacity;
    }
    changed->spans[changed->count++] = (nd_span){.from = from, .to = to};
    return 0;
}

int
nd_find_changed(int page_map, char *from, char *to, nd_changed *changed)
{
    return visit_changed(page_map, from, to, note_span, changed);
}

static int
add_nbytes(void *context, char *from, char *to)
{
    *(size_t *)context += (size_t)(to - from);
    return 0;
}

int
nd_count_changed(int page_map, char *from, char *to, size_t *nbytes)
{
    *nbytes = 0;
    return visit_changed(page_map, from, to, add_nbytes, nbytes);
}
