/* A piece of a file in the address space: the one place that talks to the operating system about memory.
 *
 * No Python in here. Every function returns 0 or an errno value and leaves its struct valid either way.
 */
#ifndef NDFILE_MAPPING_H
#define NDFILE_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    ND_READ,  /* shared pages, read only */
    ND_WRITE, /* shared pages, written back to the file */
    ND_COPY,  /* private pages: changes stay in memory */
} nd_access;

typedef enum {
    ND_NO_FAULT,
    ND_CLOSED,      /* the mapping was closed */
    ND_READ_ONLY,   /* a write through a map that only reads */
    ND_TRUNCATED,   /* the file ends before the mapping does */
    ND_READ_FAILED, /* the device could not deliver the page */
    ND_DISK_FULL,   /* the file system had no block for a page that was written to */
} nd_cause;

/* The first thing that went wrong with a mapping's bytes. */
typedef struct {
    nd_cause cause; /* ND_NO_FAULT: nothing yet */
    int64_t offset; /* in the file */
} nd_damage;

/* Pages whose bytes can no longer be had; lost.h has what happens to them. */
typedef struct {
    char *from, *to; /* whole pages */
} nd_span;

enum { ND_MOST_SPANS = 16 };

typedef struct {
    nd_span spans[ND_MOST_SPANS]; /* apart from each other, in no order */
    _Atomic int count;
    const void *opener; /* the thread that opened them last, by an address of its own */
    _Atomic unsigned openings; /* odd: open now */
} nd_lost;

static inline bool
nd_lost_is_open(const nd_lost *lost)
{
    return lost->openings % 2 != 0;
}

typedef struct nd_mapping nd_mapping;

/* Bytes from `data` are those of the file from `offset`. The range is whole pages, so it usually begins a little
 * before `data` and ends a little after `data + nbytes`. */
struct nd_mapping {
    char *range;       /* NULL before nd_map and after nd_unmap */
    size_t range_size; /* whole pages, at least one, so that a mapping of nothing has an address too */
    char *data;
    size_t nbytes;
    int64_t offset;
    nd_access access;
    int fd;                 /* kept to write, or for a lock; -1 where none is needed */
    char *path;             /* to ask for the file's size without a descriptor; NULL for a file without a name */
    uint64_t device, inode; /* what the path must still lead to */

    uint64_t id;                /* never used twice, as an address may be */
    nd_mapping *previous, *next; /* the guard's list */
    nd_lost lost;
    nd_damage fault;
};

#define ND_MAPPING_EMPTY ((nd_mapping){.fd = -1})

/* Bytes of one page. */
size_t nd_page_size(void);

/* True if [from, from + nbytes) lies inside [0, size). The only range check there is. */
bool nd_range_fits(size_t from, size_t nbytes, size_t size);

/* Size in bytes of the regular file behind `fd`, -1 for a folder, pipe, socket or device. */
int nd_regular_size(int fd, int64_t *size);

/* open(2), close-on-exec, and the size as nd_regular_size has it. */
int nd_open(const char *path, int flags, int *fd, int64_t *size);

/* Reserve blocks for [from, from + nbytes) of the file, which grows to hold them. EOPNOTSUPP where the file system
 * cannot. A failure may leave the file grown: the caller undoes that. */
int nd_allocate(int fd, int64_t from, int64_t nbytes);

/* Map `nbytes` of `fd` from `offset`; may reach past the file's end. On success the mapping takes the descriptor over:
 * it keeps it to write, or if told to, and closes it otherwise. On failure it stays the caller's. Copies `path`. */
int nd_map(nd_mapping *mapping, int fd, int64_t offset, size_t nbytes, nd_access access, const char *path,
           bool keep_fd);

/* The file's size now. False if it cannot be told: no descriptor is kept, and the path leads elsewhere. Safe in a
 * signal handler. */
bool nd_size_now(const nd_mapping *mapping, int64_t *size);

/* Write the changed pages of [from, from + nbytes) to the disk and wait. Does nothing unless ND_WRITE. */
int nd_sync(const nd_mapping *mapping, size_t from, size_t nbytes);

/* Write the file's data and metadata to the disk and wait. */
int nd_sync_file(const nd_mapping *mapping);

/* madvise() on the pages of [from, from + nbytes). */
int nd_advise(const nd_mapping *mapping, size_t from, size_t nbytes, int advice);

/* Put zeros in the place of the whole range: what is left over reads them, and writes to memory that is dropped. */
int nd_blank(nd_mapping *mapping);

/* Close the descriptor. `forget` drops the file's pages from the cache first: after a failed sync they hold what the
 * disk does not, and ext4 would call them clean for whoever opens the file next. */
void nd_close_file(nd_mapping *mapping, bool forget);

/* Give back everything. Calling it again does nothing. */
void nd_unmap(nd_mapping *mapping);

#endif
