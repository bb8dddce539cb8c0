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
    ND_TOO_LARGE,   /* a write in an atomic block that has changed as much as it may */
    ND_TRUNCATED,   /* the file ends before the mapping does */
    ND_READ_FAILED, /* the device could not deliver the page */
    ND_DISK_FULL,   /* the file system had no block for a page that was written to */
    ND_SHRUNK,      /* the mapping has been made shorter, by its owner's will */
    ND_HELD_UP,     /* nothing: a store had to wait */
} nd_cause;

/* How much of a file is read at once. */
typedef enum {
    ND_BY_MAP,     /* through the map: the disk is here */
    ND_BY_READING, /* by many calls at a time: it is not, and each page fault would be a way there and back */
} nd_way;

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
typedef struct nd_block nd_block;

/* A ceiling on resident memory, all of it ceiling.c's. */
typedef struct {
    _Atomic size_t nbytes;   /* 0: none */
    size_t resident;         /* bytes, estimated */
    bool is_trusted;         /* the estimate was right the last time */
    bool has_small_faults;   /* a touch makes one page resident, not what is around it too */
    size_t dense_at;         /* how much must be resident before it is asked how densely */
    int64_t count_again_ns;  /* when a count may tell again what the estimate cannot */
    nd_mapping *next;        /* with a ceiling */
} nd_ceiling;

/* Bytes from `data` are those of the file from `offset`. The range is whole pages, and begins at the file's first one
 * where `offset` is small: what stands before the data is then mapped too. Where the mapping may grow, the range goes
 * on far behind its bytes. All of it is the file's, past its end too: there a touch is a fault, until the file grows. */
struct nd_mapping {
    char *range;       /* NULL before nd_map and after nd_unmap */
    size_t range_size; /* whole pages, at least one, so that a mapping of nothing has an address too */
    size_t reserved;   /* how much of it is there to grow into */
    char *data;
    size_t nbytes;      /* changes only under the guard's lock */
    size_t file_nbytes; /* what the file must have of them: all but what an atomic block has added */
    int64_t offset;
    int64_t followed_by; /* bytes that the file had behind, when it was mapped */
    nd_access access;
    int fd;                 /* kept to write, for a lock, or to read by; -1 where none is needed */
    char *path;             /* to ask for the file's size without a descriptor; NULL for a file without a name */
    uint64_t device, inode; /* what the path must still lead to */

    _Atomic int warm_calls; /* in a row, in which all rows that were wanted were in memory; gather.c */
    _Atomic int way;        /* nd_way */

    uint64_t id;                /* never used twice, as an address may be */
    nd_mapping *previous, *next; /* the guard's list */
    nd_lost lost;
    nd_damage fault;
    nd_block *block; /* the open atomic block; block.h */
    nd_ceiling ceiling;
};

#define ND_MAPPING_EMPTY ((nd_mapping){.fd = -1})

/* Bytes of one page. */
size_t nd_page_size(void);

/* True if [from, from + nbytes) lies inside [0, size). The only range check there is. */
bool nd_range_fits(size_t from, size_t nbytes, size_t size);

/* Size in bytes of the regular file behind `fd`, -1 for a folder, pipe, socket or device. */
int nd_regular_size(int fd, int64_t *size);

/* What opening a file finds. */
typedef struct {
    int fd;
    int64_t size;     /* as nd_regular_size has it */
    bool has_journal; /* a file of the journal's name is beside it; or may be, behind a link it is not looked for */
} nd_opened;

/* What the journal of a file is called besides its name. files/journal.py has the same. */
#define ND_JOURNAL_SUFFIX ".ndfile-journal"

/* open(2), close-on-exec. */
int nd_open(const char *path, int flags, nd_opened *opened);

/* Reserve blocks for [from, from + nbytes) of the file, which grows to hold them unless it is to keep its size.
 * EOPNOTSUPP where the file system cannot. A failure may leave the file grown: the caller undoes that. */
int nd_allocate(int fd, int64_t from, int64_t nbytes, bool keep_size);

/* Map `nbytes` of `fd` from `offset`; may reach past the file's end. On success the mapping takes the descriptor over:
 * it keeps it to write, or if told to, and closes it otherwise. On failure it stays the caller's. Copies `path`.
 *
 * It can grow by `room` bytes, or by several times its size if that is more, as far as there is address space; with 0 not
 * at all. */
int nd_map(nd_mapping *mapping, int fd, int64_t offset, size_t nbytes, nd_access access, const char *path,
           bool keep_fd, size_t room);

/* How many bytes it can have where it is. */
static inline size_t
nd_most_nbytes(const nd_mapping *mapping)
{
    return (size_t)(mapping->range + mapping->range_size - mapping->data);
}

/* One past the last page that holds bytes of the mapping. */
char *nd_used_end(const nd_mapping *mapping);

/* A descriptor of the file to be used in this call: the mapping's own or a new one, which nd_return_fd closes. Negative
 * where the file is not to be had any more. Safe in a signal handler. */
int nd_borrow_fd(const nd_mapping *mapping);
void nd_return_fd(const nd_mapping *mapping, int fd);

/* Put the file's pages, shared or private as the mapping has them, over [from, to) of the range, whatever is there. */
int nd_map_again(nd_mapping *mapping, int fd, char *from, char *to);

/* The file's byte at an address. */
int64_t nd_file_offset(const nd_mapping *mapping, const char *address);

/* Write bytes to the file from byte `from`, all of them. */
int nd_write(int fd, const char *bytes, size_t nbytes, int64_t from);

/* The file's size now. ENOENT if nothing leads to the file: no descriptor is kept, and the path leads elsewhere. Safe in
 * a signal handler. */
int nd_ask_size(const nd_mapping *mapping, int64_t *size);

/* The same, false if it cannot be told. */
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
