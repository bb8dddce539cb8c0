/* From which size on an operation on an array is done block by block, by several threads. */
#ifndef NDFILE_STREAMING_H
#define NDFILE_STREAMING_H

#include <stdbool.h>
#include <stddef.h>

/* What tests have set instead of the usual sizes; 0 for nothing. */
extern size_t nd_stream_nbytes;

/* From this size of an output on a ufunc's work is streamed. */
enum { ND_STREAM_OUT_NBYTES = 16 << 20 };

/* True once there has been an array of ours that is such an output. */
extern bool nd_stream_has_outs;

/* To be called for each array that is opened, or grows. */
static inline void
nd_stream_note(bool can_write, size_t nbytes)
{
    nd_stream_has_outs = nd_stream_has_outs || (can_write && nbytes >= ND_STREAM_OUT_NBYTES);
}

/* From so many bytes on: the usual number, unless tests have set another. */
static inline size_t
nd_stream_from(size_t usual)
{
    return nd_stream_nbytes == 0 ? usual : nd_stream_nbytes;
}

#endif
