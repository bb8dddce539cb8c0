/* Threads that share one piece of work and are gone when it is done. */
#ifndef NDFILE_WORKERS_H
#define NDFILE_WORKERS_H

/* Run `work(context, part)` for each of `parts` parts, the first one in this thread, and wait for all. Where the system
 * has no thread to give, this one does the part too. A fault in any of them becomes this thread's. */
void nd_share(void (*work)(void *context, int part), void *context, int parts);

/* How many threads can run at the same time here. */
int nd_processors(void);

#endif
