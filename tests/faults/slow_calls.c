/* A library to preload: calls that pass a map by begin late, so that what other threads do comes between.
 *
 * slow_arm(name) lets each call of "madvise", with advice to drop pages, or of "pwrite" wait for a while at first. slow_calls()
 * gives how many have begun to wait.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>

#define PUBLIC __attribute__((visibility("default")))

static char armed[16];
static _Atomic int calls;

PUBLIC void
slow_arm(const char *name)
{
    strncpy(armed, name, sizeof armed - 1);
    calls = 0;
}

PUBLIC int
slow_calls(void)
{
    return calls;
}

static void
wait_if_armed(const char *name)
{
    if (strcmp(armed, name) == 0) {
        calls++;
        nanosleep(&(struct timespec){.tv_nsec = 900 * 1000 * 1000}, NULL);
    }
}

PUBLIC int
madvise(void *address, size_t nbytes, int advice)
{
    int (*real)(void *, size_t, int);
    *(void **)&real = dlsym(RTLD_NEXT, "madvise");
    if (advice == MADV_DONTNEED) {
        wait_if_armed("madvise");
    }
    return real(address, nbytes, advice);
}

#define INTERPOSE_PWRITE(symbol)                                              \
    PUBLIC ssize_t symbol(int fd, const void *bytes, size_t nbytes, off_t at) \
    {                                                                         \
        ssize_t (*real)(int, const void *, size_t, off_t);                    \
        *(void **)&real = dlsym(RTLD_NEXT, #symbol);                          \
        wait_if_armed("pwrite");                                              \
        return real(fd, bytes, nbytes, at);                                   \
    }
INTERPOSE_PWRITE(pwrite)
INTERPOSE_PWRITE(pwrite64)
