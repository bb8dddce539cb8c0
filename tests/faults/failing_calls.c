/* A library to preload: the n-th call of a chosen function fails with a chosen error, and is not made.
 *
 * fail_arm(name, nth, error) arms it, for the calls of the whole process; fail_disarm() gives how many calls came.
 * fail_arm_from() lets all calls from the n-th on fail, as a full disk does, until fail_disarm().
 * The error 0 lets a read or write be done by half: fewer bytes than were wanted, and no error.
 * fail_good_after() tells how many calls of the function were let through and worked after the failed one; of a sync,
 * those that were of the same file or the same memory. fail_inode() tells which file an fsync or fdatasync was of.
 *
 * Calls that the interpreter makes all the time for itself are left alone unless the extension makes them: without
 * anonymous memory it would end.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <unistd.h>

static char armed_name[32];
static int armed_at, armed_error, goes_on, calls, good_after;
static intptr_t failed_subject;
static ino_t failed_inode;

__attribute__((visibility("default"))) void
fail_arm(const char *name, int at, int error)
{
    armed_at = at;
    armed_error = error;
    goes_on = calls = good_after = 0;
    failed_inode = 0;
    strncpy(armed_name, name, sizeof armed_name - 1);
}

__attribute__((visibility("default"))) void
fail_arm_from(const char *name, int at, int error)
{
    fail_arm(name, at, error);
    goes_on = 1;
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

__attribute__((visibility("default"))) unsigned long long
fail_inode(void)
{
    return failed_inode;
}

/* True if this call is one that fails. */
static int
is_hit(const char *name)
{
    if (strcmp(armed_name, name) != 0) {
        return 0;
    }
    calls++;
    return calls == armed_at || (goes_on && armed_at > 0 && calls > armed_at);
}

static int
fails(const char *name)
{
    if (!is_hit(name)) {
        return 0;
    }
    errno = armed_error;
    return 1;
}

static int
fails_about(const char *name, intptr_t subject)
{
    if (!fails(name)) {
        return 0;
    }
    failed_subject = subject;
    return 1;
}

static void
remember_file(int fd)
{
    struct stat status;
    failed_inode = fstat(fd, &status) == 0 ? status.st_ino : 0;
    errno = armed_error;
}

static void
note(const char *name, intptr_t subject, int worked)
{
    if (strcmp(armed_name, name) == 0 && armed_at > 0 && calls > armed_at && worked && subject == failed_subject) {
        good_after++;
    }
}

/* A function of libc under each of its names; `kind` is what it is armed by, `subject` what it is about. */
#define INTERPOSE_ABOUT(symbol, kind, subject, parameters, ...)  \
    __attribute__((visibility("default"))) int symbol parameters \
    {                                                            \
        static int(*real) parameters;                            \
        if (real == NULL) {                                      \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);         \
        }                                                        \
        if (fails_about(kind, subject)) {                        \
            return -1;                                           \
        }                                                        \
        int result = real(__VA_ARGS__);                          \
        note(kind, subject, result == 0);                        \
        return result;                                           \
    }
#define INTERPOSE(symbol, kind, parameters, ...) INTERPOSE_ABOUT(symbol, kind, 0, parameters, __VA_ARGS__)

#define INTERPOSE_SYNC(symbol)                                \
    __attribute__((visibility("default"))) int symbol(int fd) \
    {                                                         \
        static int (*real)(int);                              \
        if (real == NULL) {                                   \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);      \
        }                                                     \
        if (fails_about(#symbol, fd)) {                       \
            remember_file(fd);                                \
            return -1;                                        \
        }                                                     \
        int result = real(fd);                                \
        note(#symbol, fd, result == 0);                       \
        return result;                                        \
    }

INTERPOSE_ABOUT(msync, "msync", (intptr_t)address, (void *address, size_t size, int flags), address, size, flags)
INTERPOSE_SYNC(fsync)
INTERPOSE_SYNC(fdatasync)
INTERPOSE(ftruncate, "ftruncate", (int fd, off_t size), fd, size)
INTERPOSE(ftruncate64, "ftruncate", (int fd, off64_t size), fd, size)
INTERPOSE(fallocate, "fallocate", (int fd, int mode, off_t from, off_t size), fd, mode, from, size)
INTERPOSE(fallocate64, "fallocate", (int fd, int mode, off64_t from, off64_t size), fd, mode, from, size)
INTERPOSE(rename, "rename", (const char *from, const char *to), from, to)
INTERPOSE(renameat, "rename", (int a, const char *from, int b, const char *to), a, from, b, to)
INTERPOSE(renameat2, "rename", (int a, const char *from, int b, const char *to, unsigned flags), a, from, b, to, flags)
INTERPOSE(link, "link", (const char *from, const char *to), from, to)
INTERPOSE(linkat, "link", (int a, const char *from, int b, const char *to, int flags), a, from, b, to, flags)
INTERPOSE(unlink, "unlink", (const char *path), path)
INTERPOSE(unlinkat, "unlink", (int folder, const char *path, int flags), folder, path, flags)
INTERPOSE(fchmod, "fchmod", (int fd, mode_t mode), fd, mode)
INTERPOSE(fchown, "fchown", (int fd, uid_t uid, gid_t gid), fd, uid, gid)
INTERPOSE(fstat, "fstat", (int fd, struct stat *status), fd, status)
INTERPOSE(fstat64, "fstat", (int fd, struct stat64 *status), fd, status)
INTERPOSE(stat, "stat", (const char *path, struct stat *status), path, status)
INTERPOSE(stat64, "stat", (const char *path, struct stat64 *status), path, status)
INTERPOSE(lstat, "stat", (const char *path, struct stat *status), path, status)
INTERPOSE(lstat64, "stat", (const char *path, struct stat64 *status), path, status)
INTERPOSE(fstatat, "stat", (int a, const char *path, struct stat *status, int flags), a, path, status, flags)
INTERPOSE(fstatat64, "stat", (int a, const char *path, struct stat64 *status, int flags), a, path, status, flags)
INTERPOSE(statx, "statx", (int a, const char *path, int flags, unsigned what, struct statx *status), a, path, flags, what,
          status)
INTERPOSE(fstatfs, "fstatfs", (int fd, struct statfs *system), fd, system)
INTERPOSE(fstatfs64, "fstatfs", (int fd, struct statfs64 *system), fd, system)
INTERPOSE(faccessat, "faccessat", (int folder, const char *path, int mode, int flags), folder, path, mode, flags)
INTERPOSE(inotify_init1, "inotify", (int flags), flags)
INTERPOSE(inotify_add_watch, "inotify", (int fd, const char *path, uint32_t mask), fd, path, mask)

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

/* What takes one more argument, of any kind, which is handed on as it came. */
#define INTERPOSE_CONTROL(symbol, kind, request_type)                            \
    __attribute__((visibility("default"))) int symbol(int fd, request_type request, ...) \
    {                                                                            \
        static int (*real)(int, request_type, ...);                              \
        if (real == NULL) {                                                      \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                         \
        }                                                                        \
        va_list rest;                                                            \
        va_start(rest, request);                                                 \
        void *argument = va_arg(rest, void *);                                   \
        va_end(rest);                                                            \
        return fails(kind) ? -1 : real(fd, request, argument);                   \
    }
INTERPOSE_CONTROL(fcntl, "fcntl", int)
INTERPOSE_CONTROL(fcntl64, "fcntl", int)
INTERPOSE_CONTROL(ioctl, "ioctl", unsigned long)

/* A transfer of bytes. Half of one byte is the whole. */
#define INTERPOSE_TRANSFER(symbol, kind, parameters, ...)              \
    __attribute__((visibility("default"))) ssize_t symbol parameters   \
    {                                                                  \
        static ssize_t(*real) parameters;                              \
        if (real == NULL) {                                            \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);               \
        }                                                              \
        if (fails(kind)) {                                             \
            if (armed_error != 0) {                                    \
                return -1;                                             \
            }                                                          \
            size = (size + 1) / 2;                                     \
        }                                                              \
        return real(__VA_ARGS__);                                      \
    }
INTERPOSE_TRANSFER(read, "read", (int fd, void *data, size_t size), fd, data, size)
INTERPOSE_TRANSFER(pread, "pread", (int fd, void *data, size_t size, off_t from), fd, data, size, from)
INTERPOSE_TRANSFER(pread64, "pread", (int fd, void *data, size_t size, off64_t from), fd, data, size, from)
INTERPOSE_TRANSFER(write, "write", (int fd, const void *data, size_t size), fd, data, size)
INTERPOSE_TRANSFER(pwrite, "pwrite", (int fd, const void *data, size_t size, off_t from), fd, data, size, from)
INTERPOSE_TRANSFER(pwrite64, "pwrite", (int fd, const void *data, size_t size, off64_t from), fd, data, size, from)

static int
is_the_extension(const void *caller)
{
    Dl_info where;
    return dladdr(caller, &where) != 0 && where.dli_fname != NULL && strstr(where.dli_fname, "/_core.") != NULL;
}

/* True if this call about memory is the extension's, and one that fails. */
static int
fails_from(const void *caller, const char *name)
{
    return armed_name[0] != '\0' && is_the_extension(caller) && fails(name);
}

#define INTERPOSE_MMAP(symbol, offset_type)                                                                   \
    __attribute__((visibility("default"))) void *symbol(void *address, size_t size, int prot, int flags, int fd, \
                                                        offset_type from)                                      \
    {                                                                                                          \
        static void *(*real)(void *, size_t, int, int, int, offset_type);                                      \
        if (real == NULL) {                                                                                    \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                                                       \
        }                                                                                                      \
        if (fails_from(__builtin_return_address(0), "mmap")) {                                                 \
            return MAP_FAILED;                                                                                 \
        }                                                                                                      \
        return real(address, size, prot, flags, fd, from);                                                     \
    }
INTERPOSE_MMAP(mmap, off_t)
INTERPOSE_MMAP(mmap64, off64_t)

#define INTERPOSE_MEMORY(symbol)                                                        \
    __attribute__((visibility("default"))) int symbol(void *address, size_t size, int how) \
    {                                                                                   \
        static int (*real)(void *, size_t, int);                                        \
        if (real == NULL) {                                                             \
            *(void **)&real = dlsym(RTLD_NEXT, #symbol);                                \
        }                                                                               \
        return fails_from(__builtin_return_address(0), #symbol) ? -1 : real(address, size, how); \
    }
INTERPOSE_MEMORY(mprotect)
INTERPOSE_MEMORY(madvise)
