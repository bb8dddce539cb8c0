/* From which size on an operation on an array is done block by block, by several threads. */
#ifndef NDFILE_STREAMING_H
#define NDFILE_STREAMING_H

#include <stddef.h>

/* What tests have set instead of the usual sizes; 0 for nothing. */
extern size_t nd_stream_nbytes;

/* From so many bytes on: the usual number, unless tests have set another. */
static inline size_t
nd_stream_from(size_t usual)
{
    return nd_stream_nbytes == 0 ? usual : nd_stream_nbytes;
}

#endif
