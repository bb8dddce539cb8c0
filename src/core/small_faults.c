#define _GNU_SOURCE /* syscall */

#include "small_faults.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* System headers are often older than the kernel. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

int
nd_open_faults(void)
{
    int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    /* With this one no fault ever waits for us, whatever happens. */
    struct uffdio_api wanted = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
    if (faults >= 0 && ioctl(faults, UFFDIO_API, &wanted) < 0) {
        close(faults);
        faults = -1;
    }
    return faults;
}

bool
nd_set_small_faults(int faults, char *from, size_t nbytes, bool are_small)
{
    struct uffdio_range range = {.start = (uint64_t)(uintptr_t)from, .len = nbytes};
    struct uffdio_register wanted = {.range = range, .mode = UFFDIO_REGISTER_MODE_WP};
    if (faults < 0) {
        return false;
    }
    return (are_small ? ioctl(faults, UFFDIO_REGISTER, &wanted) : ioctl(faults, UFFDIO_UNREGISTER, &range)) == 0;
}
