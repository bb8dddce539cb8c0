/* A library to preload: the process is killed at a chosen instant around a call that changes files.
 *
 * Instants are counted: before each call, where a write passes from one page of the file to the next (the kernel lets
 * a killed write end there), and after each call. kill_arm(at, fd) lets SIGKILL come at instant `at` of those that
 * follow, and tells fd where that is.
 *
 * Writing to pipes is not counted, and of mappings only those that the extension asks for.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define PAGE 4096

static int armed_at, tell_fd = -1;
static atomic_int passed;

PUBLIC void
kill_arm(int at, int fd)
{
    armed_at = at;
    tell_fd = fd;
    passed = 0;
}

/* True if this is the instant: whoever asks does what is still to be done, and dies. */
static int
is_now(void)
{
    return armed_at > 0 && ++passed == armed_at;
}

static void
die(const char *when, const char *call)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%s %s", when, call);
    armed_at = 0;
    if (write(tell_fd, text, (size_t)length) < 0) {
        /* the one who waits for it sees the death anyway */
    }
    kill(getpid(), SIGKILL);
    for (;;) {
        pause(); /* the signal of a process to itself may come to another thread first */
    }
}

static void
instant(const char *when, const char *call)
{
    if (is_now()) {
        die(when, call);
    }
}

/* A function of libc: an instant before it, and one after it. */
#define INTERPOSE(type, symbol, parameters, ...)         \
    PUBLIC type symbol parameters                        \
    {                                                    \
        static type(*real) parameters;                   \
        if (real == NULL) {                              \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol); \
        }                                                \
        instant("before", #symbol);                      \
        type result = real(__VA_ARGS__);                 \
        instant("after", #symbol);                       \
        return result;                                   \
    }

INTERPOSE(int, msync, (void *address, size_t size, int flags), address, size, flags)
INTERPOSE(int, fsync, (int fd), fd)
INTERPOSE(int, fdatasync, (int fd), fd)
INTERPOSE(int, ftruncate, (int fd, off_t size), fd, size)
INTERPOSE(int, ftruncate64, (int fd, off64_t size), fd, size)
INTERPOSE(int, fallocate, (int fd, int mode, off_t from, off_t size), fd, mode, from, size)
INTERPOSE(int, fallocate64, (int fd, int mode, off64_t from, off64_t size), fd, mode, from, size)
INTERPOSE(int, posix_fallocate, (int fd, off_t from, off_t size), fd, from, size)
INTERPOSE(int, posix_fallocate64, (int fd, off64_t from, off64_t size), fd, from, size)
INTERPOSE(int, rename, (const char *from, const char *to), from, to)
INTERPOSE(int, renameat, (int a, const char *from, int b, const char *to), a, from, b, to)
INTERPOSE(int, renameat2, (int a, const char *from, int b, const char *to, unsigned how), a, from, b, to, how)
INTERPOSE(int, link, (const char *from, const char *to), from, to)
INTERPOSE(int, linkat, (int a, const char *from, int b, const char *to, int how), a, from, b, to, how)
INTERPOSE(int, unlink, (const char *path), path)
INTERPOSE(int, unlinkat, (int folder, const char *path, int flags), folder, path, flags)

static mode_t
mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

/* Opening changes something where it creates or cuts. */
#define CHANGES(flags) ((flags) & (O_CREAT | O_TRUNC))

#define INTERPOSE_OPEN(symbol, parameters, ...)          \
    PUBLIC int symbol parameters                         \
    {                                                    \
        static int(*real) parameters;                    \
        if (real == NULL) {                              \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol); \
        }                                                \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = mode_of(flags, rest);              \
        va_end(rest);                                    \
        if (CHANGES(flags)) {                            \
            instant("before", #symbol);                  \
        }                                                \
        int result = real(__VA_ARGS__, mode);            \
        if (CHANGES(flags)) {                            \
            instant("after", #symbol);                   \
        }                                                \
        return result;                                   \
    }
INTERPOSE_OPEN(open, (const char *path, int flags, ...), path, flags)
INTERPOSE_OPEN(open64, (const char *path, int flags, ...), path, flags)
INTERPOSE_OPEN(openat, (int folder, const char *path, int flags, ...), folder, path, flags)
INTERPOSE_OPEN(openat64, (int folder, const char *path, int flags, ...), folder, path, flags)

static int
is_a_file(int fd)
{
    struct stat status;
    return armed_at > 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

typedef ssize_t pwrite_like(int, const void *, size_t, off64_t);

static ssize_t
positioned(pwrite_like *real, const char *name, int fd, const void *data, size_t size, off64_t from)
{
    if (!is_a_file(fd)) {
        return real(fd, data, size, from);
    }
    instant("before", name);
    for (off64_t page = (from / PAGE + 1) * PAGE; page < from + (off64_t)size; page += PAGE) {
        if (is_now()) {
            real(fd, data, (size_t)(page - from), from);
            die("in the middle of", name);
        }
    }
    ssize_t result = real(fd, data, size, from);
    instant("after", name);
    return result;
}

#define INTERPOSE_PWRITE(symbol, offset_type)                                       \
    PUBLIC ssize_t symbol(int fd, const void *data, size_t size, offset_type from)  \
    {                                                                               \
        static pwrite_like *real;                                                   \
        if (real == NULL) {                                                         \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                            \
        }                                                                           \
        return positioned(real, #symbol, fd, data, size, from);                     \
    }
INTERPOSE_PWRITE(pwrite, off_t)
INTERPOSE_PWRITE(pwrite64, off64_t)

static ssize_t (*real_write)(int, const void *, size_t);

/* As `positioned` calls it: the kernel knows where it goes on. */
static ssize_t
write_on(int fd, const void *data, size_t size, off64_t from)
{
    (void)from;
    return real_write(fd, data, size);
}

PUBLIC ssize_t
write(int fd, const void *data, size_t size)
{
    if (real_write == NULL) {
        *(void **)&real_write = dlsym(RTLD_NEXT, "write");
    }
    if (!is_a_file(fd)) {
        return real_write(fd, data, size);
    }
    off64_t from = lseek64(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    return positioned(write_on, "write", fd, data, size, from);
}

INTERPOSE(ssize_t, writev, (int fd, const struct iovec *parts, int count), fd, parts, count)
INTERPOSE(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t from), fd, parts, count, from)
INTERPOSE(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off64_t from), fd, parts, count, from)
INTERPOSE(ssize_t, copy_file_range, (int from, off64_t *at, int to, off64_t *there, size_t size, unsigned how), from,
          at, to, there, size, how)

static int
is_the_extension(const void *caller)
{
    Dl_info where;
    return dladdr(caller, &where) != 0 && where.dli_fname != NULL && strstr(where.dli_fname, "/_core.") != NULL;
}

#define INTERPOSE_MMAP(symbol, offset_type)                                                           \
    PUBLIC void *symbol(void *address, size_t size, int prot, int flags, int fd, offset_type from)    \
    {                                                                                                 \
        static void *(*real)(void *, size_t, int, int, int, offset_type);                             \
        if (real == NULL) {                                                                           \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                                              \
        }                                                                                             \
        int counts = armed_at > 0 && is_the_extension(__builtin_return_address(0));                   \
        if (counts) {                                                                                 \
            instant("before", #symbol);                                                               \
        }                                                                                             \
        void *result = real(address, size, prot, flags, fd, from);                                    \
        if (counts) {                                                                                 \
            instant("after", #symbol);                                                                \
        }                                                                                             \
        return result;                                                                                \
    }
INTERPOSE_MMAP(mmap, off_t)
INTERPOSE_MMAP(mmap64, off64_t)
