#define _GNU_SOURCE /* RUSAGE_THREAD */

#include "put.h"

#include "pages.h"

#include <string.h>
#include <sys/resource.h>

/* A write is so long, so that the kernel takes large folios for it. */
enum { PIECE_NBYTES = 8 << 20 };

/* So much is stored through the map at first, to see whether it faults. */
enum { TRIED_NBYTES = 128 << 10 };

long
nd_count_faults(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_minflt + usage.ru_majflt : 0;
}

void
nd_judge_put(nd_putting *putting, long faults_before, size_t nbytes)
{
    /* One fault costs as much as some pages of a write. */
    enum { PART = 8 };
    long faults = nd_count_faults() - faults_before, pages = (long)(nbytes / nd_page_size());
    putting->way = faults <= pages / PART ? ND_PUT_BY_MAP : ND_PUT_BY_FILE;
}

static bool
some_are_missing(const char *address, size_t nbytes)
{
    enum { LOOKS = 3 };
    for (size_t look = 0; look < LOOKS; look++) {
        if (nd_is_missing(address + look * (nbytes - 1) / (LOOKS - 1))) {
            return true;
        }
    }
    return false;
}

/* Write a piece. A file that was cut is not to grow again by that. False if it did not go as a whole. */
static bool
write_piece(const nd_mapping *mapping, int fd, const char *address, const char *bytes, size_t nbytes)
{
    int64_t offset = nd_file_offset(mapping, address), size;
    return nd_size_now(mapping, &size) && offset + (int64_t)nbytes <= size &&
           nd_write(fd, bytes, nbytes, offset) == 0;
}

static size_t
at_most(size_t nbytes, size_t most)
{
    return nbytes < most ? nbytes : most;
}

void
nd_put(const nd_mapping *mapping, nd_putting *putting, int fd, char *address, const char *bytes, size_t nbytes)
{
    bool can_write = fd >= 0;
    while (nbytes > 0) {
        size_t piece = at_most(nbytes, PIECE_NBYTES);
        if (putting->way == ND_PUT_UNDECIDED && can_write && some_are_missing(address, piece)) {
            putting->way = ND_PUT_BY_FILE;
        }
        if (putting->way == ND_PUT_BY_FILE && can_write) {
            if (!write_piece(mapping, fd, address, bytes, piece)) {
                can_write = false; /* and once more through the map, where the guard finds out why */
                continue;
            }
        }
        else {
            piece = putting->way == ND_PUT_UNDECIDED ? at_most(piece, TRIED_NBYTES) : piece;
            long before = nd_count_faults();
            /* SAFE: inside the mapping, as the caller has checked; it may fault like any other store. */
            memcpy(address, bytes, piece);
            nd_judge_put(putting, before, piece);
        }
        address += piece;
        bytes += piece;
        nbytes -= piece;
    }
}
