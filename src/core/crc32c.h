/* CRC-32C, the Castagnoli polynomial: what journals are checked with. */
#ifndef NDFILE_CRC32C_H
#define NDFILE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t nd_crc32c(const void *bytes, size_t nbytes);

#endif
