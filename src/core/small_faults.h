/* How much of a file one fault makes resident: the page that was touched, or all of the large folio that it is part of and
 * the pages around it. The kernel has no advice for that, but it maps no more than the page where write-protection by
 * userfaultfd may be in force (Linux 6.7, and where a process may have one). Nothing is ever protected here. */
#ifndef NDFILE_SMALL_FAULTS_H
#define NDFILE_SMALL_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

/* A descriptor of this process, to be closed; -1 where there is none. Closing it makes all faults large again. */
int nd_open_faults(void);

/* Make the faults in [from, from + nbytes) small or large. False where they stay as they are. */
bool nd_set_small_faults(int faults, char *from, size_t nbytes, bool are_small);

#endif
