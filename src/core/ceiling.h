/* A ceiling on the resident memory of mappings: one thread for all of them lets go of pages when they are too many.
 *
 * What is let go is the process's hold on a page: the page cache keeps it, and the next touch has it back. So nothing is
 * lost, and whoever reads or writes meanwhile does not notice.
 *
 * No Python in here. Functions return 0 or an errno value.
 */
#ifndef NDFILE_CEILING_H
#define NDFILE_CEILING_H

#include "mapping.h"

/* How far above its ceiling a mapping may come, whatever touches it. */
#define ND_CEILING_SLACK ((size_t)64 << 20)

/* Keep the mapping's resident memory below `nbytes` and the slack; 0: no longer. EINVAL for ND_COPY, whose pages are
 * nowhere else. Comes before the mapping's end. Waits while pages are let go: some milliseconds. */
int nd_ceiling_set(nd_mapping *mapping, size_t nbytes);

/* Exclude letting go, while pages become what the file does not have. Before the guard's lock, never within it, and
 * never in the fault handler. */
void nd_ceiling_hold(void);
void nd_ceiling_let_go(void);

#endif
