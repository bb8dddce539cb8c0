/* CRC-32C as RFC 3720 has it: reflected, polynomial 0x1EDC6F41, all ones before and after. */
#include "crc32c.h"

#include <string.h>

enum { REVERSED_POLYNOMIAL = 0x82F63B78 };

static uint32_t
by_bits(uint32_t crc, const unsigned char *bytes, size_t nbytes)
{
    for (size_t i = 0; i < nbytes; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? (uint32_t)REVERSED_POLYNOMIAL : 0);
        }
    }
    return crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const unsigned char *bytes, size_t nbytes)
{
    uint64_t wide = crc;
    for (; nbytes >= 8; nbytes -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; nbytes > 0; nbytes--, bytes++) {
        crc = __builtin_ia32_crc32qi(crc, *bytes);
    }
    return crc;
}

static uint32_t
update(uint32_t crc, const unsigned char *bytes, size_t nbytes)
{
    return __builtin_cpu_supports("sse4.2") ? by_instruction(crc, bytes, nbytes) : by_bits(crc, bytes, nbytes);
}

#else

static uint32_t
update(uint32_t crc, const unsigned char *bytes, size_t nbytes)
{
    return by_bits(crc, bytes, nbytes);
}

#endif

uint32_t
nd_crc32c(const void *bytes, size_t nbytes)
{
    return ~update(~(uint32_t)0, bytes, nbytes);
}
