/* Which private pages differ from the file, and how many are resident: the kernel's page map knows the ones that were copied
 * for a write, and all that are there. */
#ifndef NDFILE_CHANGED_PAGES_H
#define NDFILE_CHANGED_PAGES_H

#include "mapping.h"

typedef struct {
    nd_span *spans; /* in order, apart from each other; to be freed */
    size_t count, capacity;
    size_t nbytes; /* in all of them */
} nd_changed;

/* The page map of this process, -1 with errno where there is none. */
int nd_open_page_map(void);

/* Find the changed pages of a private map of [from, to); with `changed->spans` NULL and `capacity` 0 before. */
int nd_find_changed(int page_map, char *from, char *to, nd_changed *changed);

/* Bytes of the changed pages alone. */
int nd_count_changed(int page_map, char *from, char *to, size_t *nbytes);

/* Bytes of the resident pages of any map, and the runs that they lie in. ENOTTY before Linux 6.7: to read the page map
 * would take longer than to fill it. */
int nd_count_resident(int page_map, const char *from, const char *to, size_t *nbytes, size_t *runs);

#endif
