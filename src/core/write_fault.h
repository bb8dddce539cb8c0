/* What the processor says of a fault. The one file that differs between processors. */
#ifndef NDFILE_WRITE_FAULT_H
#define NDFILE_WRITE_FAULT_H

#include <stdbool.h>

/* True if the instruction wanted to write, from the handler's third argument. */
bool nd_is_write_fault(const void *context);

#endif
