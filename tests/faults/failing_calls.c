/* A library to preload: the n-th call of a chosen function fails with a chosen error, and is not made.
 *
 * fail_arm(name, nth, error) arms it, for the calls of the whole process; fail_disarm() gives how many calls came.
 * fail_good_after() tells how many calls of the function were let through and worked after the failed one.
 *
 * Anonymous memory is left alone unless the extension asks for it itself: the interpreter's own would end it.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char armed_name[32];
static int armed_at, armed_error, calls, good_after;

__attribute__((visibility("default"))) void
fail_arm(const char *name, int at, int error)
{
    armed_at = at;
    armed_error = error;
    calls = good_after = 0;
    strncpy(armed_name, name, sizeof armed_name - 1);
}

__attribute__((visibility("default"))) int
fail_disarm(void)
{
    armed_name[0] = '\0';
    return calls;
}

__attribute__((visibility("default"))) int
fail_good_after(void)
{
    return good_after;
}

/* True if this call is the one that fails. */
static int
fails(const char *name)
{
    if (strcmp(armed_name, name) != 0 || ++calls != armed_at) {
        return 0;
    }
    errno = armed_error;
    return 1;
}

static void
note(const char *name, int worked)
{
    if (strcmp(armed_name, name) == 0 && calls > armed_at && worked) {
        good_after++;
    }
}

/* A function of libc under each of its names; `kind` is what it is armed by. */
#define INTERPOSE(symbol, kind, parameters, ...)                \
    __attribute__((visibility("default"))) int symbol parameters \
    {                                                           \
        static int(*real) parameters;                           \
        if (real == NULL) {                                     \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);        \
        }                                                       \
        if (fails(kind)) {                                      \
            return -1;                                          \
        }                                                       \
        int result = real(__VA_ARGS__);                         \
        note(kind, result == 0);                                \
        return result;                                          \
    }

INTERPOSE(msync, "msync", (void *address, size_t size, int flags), address, size, flags)
INTERPOSE(fsync, "fsync", (int fd), fd)
INTERPOSE(fdatasync, "fdatasync", (int fd), fd)
INTERPOSE(ftruncate, "ftruncate", (int fd, off_t size), fd, size)
INTERPOSE(ftruncate64, "ftruncate", (int fd, off64_t size), fd, size)
INTERPOSE(fallocate, "fallocate", (int fd, int mode, off_t from, off_t size), fd, mode, from, size)
INTERPOSE(fallocate64, "fallocate", (int fd, int mode, off64_t from, off64_t size), fd, mode, from, size)
INTERPOSE(rename, "rename", (const char *from, const char *to), from, to)
INTERPOSE(renameat, "rename", (int a, const char *from, int b, const char *to), a, from, b, to)
INTERPOSE(renameat2, "rename", (int a, const char *from, int b, const char *to, unsigned flags), a, from, b, to, flags)
INTERPOSE(link, "link", (const char *from, const char *to), from, to)
INTERPOSE(linkat, "link", (int a, const char *from, int b, const char *to, int flags), a, from, b, to, flags)
INTERPOSE(fchmod, "fchmod", (int fd, mode_t mode), fd, mode)
INTERPOSE(fchown, "fchown", (int fd, uid_t uid, gid_t gid), fd, uid, gid)

#define INTERPOSE_OPEN(symbol)                                                  \
    __attribute__((visibility("default"))) int symbol(const char *path, int flags, ...) \
    {                                                                           \
        static int (*real)(const char *, int, ...);                             \
        if (real == NULL) {                                                     \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                        \
        }                                                                       \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                           \
        return fails("open") ? -1 : real(path, flags, mode);                    \
    }
INTERPOSE_OPEN(open)
INTERPOSE_OPEN(open64)

#define INTERPOSE_OPENAT(symbol)                                                \
    __attribute__((visibility("default"))) int symbol(int folder, const char *path, int flags, ...) \
    {                                                                           \
        static int (*real)(int, const char *, int, ...);                        \
        if (real == NULL) {                                                     \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                        \
        }                                                                       \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                           \
        return fails("open") ? -1 : real(folder, path, flags, mode);            \
    }
INTERPOSE_OPENAT(openat)
INTERPOSE_OPENAT(openat64)

#define INTERPOSE_PWRITE(symbol, offset_type)                                                \
    __attribute__((visibility("default"))) ssize_t symbol(int fd, const void *data, size_t size, offset_type from) \
    {                                                                                        \
        static ssize_t (*real)(int, const void *, size_t, offset_type);                      \
        if (real == NULL) {                                                                  \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                                     \
        }                                                                                    \
        return fails("pwrite") ? -1 : real(fd, data, size, from);                            \
    }
INTERPOSE_PWRITE(pwrite, off_t)
INTERPOSE_PWRITE(pwrite64, off64_t)

static int
is_the_extension(const void *caller)
{
    Dl_info where;
    return dladdr(caller, &where) != 0 && where.dli_fname != NULL && strstr(where.dli_fname, "/_core.") != NULL;
}

#define INTERPOSE_MMAP(symbol, offset_type)                                                                   \
    __attribute__((visibility("default"))) void *symbol(void *address, size_t size, int prot, int flags, int fd, \
                                                        offset_type from)                                      \
    {                                                                                                          \
        static void *(*real)(void *, size_t, int, int, int, offset_type);                                      \
        if (real == NULL) {                                                                                    \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                                                       \
        }                                                                                                      \
        int may_fail = armed_name[0] != '\0' && is_the_extension(__builtin_return_address(0));                    \
        return may_fail && fails("mmap") ? MAP_FAILED : real(address, size, prot, flags, fd, from);            \
    }
INTERPOSE_MMAP(mmap, off_t)
INTERPOSE_MMAP(mmap64, off64_t)
