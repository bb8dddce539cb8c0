/* From which size on an operation on an array is done block by block, by several threads. */
#ifndef NDFILE_STREAMING_H
#define NDFILE_STREAMING_H

#include <stdbool.h>
#include <stddef.h>

/* What tests have set instead of the usual sizes; 0 for nothing. */
extern size_t nd_stream_nbytes;

/* From this size of an output on a ufunc's work is streamed. */
enum { ND_STREAM_OUT_NBYTES = 16 << 20 };

/* How many open mappings have an array that is such an output. Under Python's lock, as all of this. */
extern size_t nd_stream_outs;

/* To be called when a mapping's array is made, or has grown; `is_counted` is the mapping's, false at first. */
static inline void
nd_stream_note(bool *is_counted, bool can_write, size_t nbytes)
{
    if (!*is_counted && can_write && nbytes >= ND_STREAM_OUT_NBYTES) {
        *is_counted = true;
        nd_stream_outs++;
    }
}

/* To be called when the mapping is closed. */
static inline void
nd_stream_forget(bool *is_counted)
{
    nd_stream_outs -= *is_counted ? 1 : 0;
    *is_counted = false;
}

/* From so many bytes on: the usual number, unless tests have set another. */
static inline size_t
nd_stream_from(size_t usual)
{
    return nd_stream_nbytes == 0 ? usual : nd_stream_nbytes;
}

#endif
