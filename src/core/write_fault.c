#define _GNU_SOURCE /* REG_ERR */

#include "write_fault.h"

#include <stdint.h>
#include <ucontext.h>

#if defined(__x86_64__)

bool
nd_is_write_fault(const void *context)
{
    enum { PAGE_FAULT_WRITE = 2 }; /* bit 1 of the page fault's error code: Intel SDM, volume 3A, 4.7 */
    return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & PAGE_FAULT_WRITE) != 0;
}

#elif defined(__aarch64__)

bool
nd_is_write_fault(const void *context)
{
    /* The exception syndrome stands in a list of records behind the registers; bit 6 of it is "write, not read" (Arm
     * ARM, ESR_ELx, ISS of a data abort). Record headers are two 32-bit words: magic and size. */
    enum { ESR_MAGIC = 0x45535201, WRITE_NOT_READ = 1 << 6 };
    const unsigned char *record = ((const ucontext_t *)context)->uc_mcontext.__reserved;
    for (const uint32_t *head = (const uint32_t *)record; head[0] != 0; head = (const uint32_t *)record) {
        if (head[0] == ESR_MAGIC) {
            return (*(const uint64_t *)(record + 8) & WRITE_NOT_READ) != 0;
        }
        record += head[1];
    }
    return true;
}

#else

/* Unknown: to take a read for a write costs a private page, the other way round an endless loop. */
bool
nd_is_write_fault(const void *context)
{
    (void)context;
    return true;
}

#endif
