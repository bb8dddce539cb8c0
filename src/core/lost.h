/* Lost pages: parts of a mapping whose bytes can no longer be had, because the mapping is closed, the file was cut, or
 * the device failed.
 *
 * A lost page is either armed (no access: touching it faults) or open (reads as zeros, until the thread that faulted
 * has its error). Writes to open pages, and writes through read-only maps, go to a few small private windows whose
 * content is dropped, so that a store of any length takes bounded memory.
 *
 * All functions are called with the guard's lock held.
 */
#ifndef NDFILE_LOST_H
#define NDFILE_LOST_H

#include "mapping.h"

/* Answer a fault at an address of the mapping, so that the instruction can run again. Returns its cause and, in
 * `offset`, the first byte of the file that is concerned; ND_NO_FAULT for a fault that is none of ours, ND_HELD_UP for
 * one that will not come again. */
nd_cause nd_lost_answer(nd_mapping *mapping, char *address, bool is_bus, bool is_write, int64_t *offset);

/* Have the file's pages again where they were lost because the mapping was made shorter. Returns an errno value. */
int nd_lost_regain(nd_mapping *mapping);

/* Lose the whole range, armed. Returns an errno value. */
int nd_lost_all(nd_mapping *mapping);

/* True if this thread was the last to open lost pages. */
bool nd_lost_is_opened_here(const nd_mapping *mapping);

/* Let lost pages fault again, and drop what was written to windows. */
void nd_lost_arm(nd_mapping *mapping);

/* Give up the windows of a mapping that is about to go. */
void nd_lost_forget(nd_mapping *mapping);

/* True if [from, to) has a lost page. */
bool nd_lost_overlaps(const nd_mapping *mapping, const char *from, const char *to);

#endif
