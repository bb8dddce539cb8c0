/* The time, as it only goes forward. */
#ifndef NDFILE_CLOCK_H
#define NDFILE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t
nd_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
