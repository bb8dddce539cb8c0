/* Pages of a mapping in the page cache: asking for them ahead of their use, and telling which are there.
 *
 * Everything here is a hint. What cannot be told or asked is as if it had not been; nothing fails.
 */
#ifndef NDFILE_PAGES_H
#define NDFILE_PAGES_H

#include "mapping.h"

/* The whole pages around [from, from + nbytes). */
nd_span nd_pages_around(const char *from, size_t nbytes);

/* Sort spans and join those that touch. Returns how many are left. */
size_t nd_join_spans(nd_span *spans, size_t count);

/* Ask for the pages of spans to be read, and do not wait for them. False where the kernel takes no such wish. */
bool nd_request(const nd_span *spans, size_t count);

/* Wait until the pages of a span are in memory, and map them. False where the kernel cannot, or could not read them. */
bool nd_populate(nd_span span);

/* Give up the pages of a span: those of the page cache that are not changed, and the memory that this process has of
 * them. `fd` is of the mapping's file. The file's bytes stay what they are. False where the kernel does not. */
bool nd_give_up(const nd_mapping *mapping, int fd, nd_span span);

/* True if the page of an address is known not to be in memory. */
bool nd_is_missing(const char *address);

/* What the page cache has of a part of a file. */
typedef struct {
    uint64_t cached, dirty; /* pages; dirty: the disk has not got them yet */
} nd_residency;

/* Count the pages of [from, from + nbytes) of the file. ENOSYS where the kernel cannot tell without a mapping. */
int nd_count_cached(int fd, int64_t from, int64_t nbytes, nd_residency *found);

/* The same from the mapping, one page after the other, without the dirty ones. */
int nd_count_mapped(nd_span span, nd_residency *found);

#endif
