/* Bytes into a mapping, many of them, by the way that is fastest: through the map, or by writing to the file.
 *
 * Storing into a page that is not mapped yet is a fault, and into one that is not in memory a read as well, although all
 * of it is about to be replaced. Writing to the file is neither, and every view sees it: both are the page cache.
 */
#ifndef NDFILE_PUT_H
#define NDFILE_PUT_H

#include "mapping.h"

/* What has been found out about the mapping's pages so far; all zeros at first. */
typedef struct {
    enum { ND_PUT_UNDECIDED, ND_PUT_BY_MAP, ND_PUT_BY_FILE } way;
} nd_putting;

/* Store bytes at an address of the mapping, or write them by `fd` unless that is negative. Where the file cannot be written
 * to, and why, is found out by storing through the map. */
void nd_put(const nd_mapping *mapping, nd_putting *putting, int fd, char *address, const char *bytes, size_t nbytes);

/* The page faults of this thread so far; and after storing through the map, whether that is still the way. */
long nd_count_faults(void);
void nd_judge_put(nd_putting *putting, long faults_before, size_t nbytes);

#endif
