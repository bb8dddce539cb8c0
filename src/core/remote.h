/* File systems whose bytes come from another machine or another program. */
#ifndef NDFILE_REMOTE_H
#define NDFILE_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

/* True for the magic number of such a file system, as statfs(2) has it. */
bool nd_is_remote_system(uint32_t magic);

/* True if the open file is on one. */
bool nd_is_remote(int fd);

#endif
