/* A library to preload: writes down every call that changes or syncs the files of one folder, in order.
 *
 * recorder_start(folder, log) begins, recorder_mark(text) puts a remark between two calls, recorder_stop() ends;
 * recorder_fail(name) lets the next call of that name fail with EIO instead of being made.
 *
 * Before and after each call all files of the folder are read: what has changed between two calls was stored through a
 * mapping. So it does not matter what a call was asked for, but for syncs, and nothing that reaches the page cache is
 * missed. A sync by other means (O_DSYNC, sync(), a bare syscall()) is not seen: the model then takes for pending what
 * is not.
 *
 * The log is the folder's inode, and records: 'S' a snapshot (unless it is the last one again), 'C' a call that worked,
 * before the snapshot of what it did, 'M' a remark.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char folder[4096];
static struct stat folder_status;
static FILE *out; /* NULL: nothing is recorded */
static char failing[32];

typedef struct {
    char *bytes;
    size_t size;
    FILE *stream;
} text;

static text last;

static void
drop(text *one)
{
    free(one->bytes);
    *one = (text){0};
}

/* What the recorder itself opens is not recorded, and is none of the program's business if it fails. */
#define REAL(symbol) ((__typeof__(symbol) *)dlsym(RTLD_NEXT, #symbol))

static void
put_number(FILE *stream, uint64_t number)
{
    fwrite(&number, sizeof number, 1, stream);
}

static void
put_text(FILE *stream, const char *string)
{
    put_number(stream, strlen(string));
    fputs(string, stream);
}

static void
put_file(FILE *stream, const char *name)
{
    char path[8192];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = REAL(open)(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        abort(); /* a folder of plain files is what is recorded, by a program that may read them */
    }
    char *bytes = malloc((size_t)status.st_size + 1);
    if (bytes == NULL || pread(fd, bytes, (size_t)status.st_size, 0) != status.st_size) {
        abort();
    }
    close(fd);
    put_text(stream, name);
    put_number(stream, status.st_ino);
    put_number(stream, (uint64_t)status.st_size);
    fwrite(bytes, 1, (size_t)status.st_size, stream);
    free(bytes);
}

static text
snapshot(void)
{
    text now = {0};
    now.stream = open_memstream(&now.bytes, &now.size);
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    if (now.stream == NULL || count < 0) {
        abort();
    }
    put_number(now.stream, (uint64_t)count - 2); /* . and .. */
    for (int i = 0; i < count; i++) {
        if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0) {
            put_file(now.stream, entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    fclose(now.stream);
    return now;
}

static void
look(void)
{
    text now = snapshot();
    if (now.size == last.size && memcmp(now.bytes, last.bytes, now.size) == 0) {
        drop(&now);
        return;
    }
    drop(&last);
    last = now;
    fputc('S', out);
    fwrite(now.bytes, 1, now.size, out);
}

static void
put_call(const char *name, ino_t inode, uint64_t from, uint64_t nbytes)
{
    fputc('C', out);
    put_text(out, name);
    put_number(out, inode);
    put_number(out, from);
    put_number(out, nbytes);
    look();
}

EXPORTED void
recorder_start(const char *which, const char *log)
{
    pthread_mutex_lock(&turn);
    snprintf(folder, sizeof folder, "%s", which);
    out = fopen(log, "wb");
    if (out == NULL || stat(folder, &folder_status) < 0) {
        abort();
    }
    put_number(out, folder_status.st_ino);
    look();
    pthread_mutex_unlock(&turn);
}

EXPORTED void
recorder_mark(const char *remark)
{
    pthread_mutex_lock(&turn);
    look();
    fputc('M', out);
    put_text(out, remark);
    pthread_mutex_unlock(&turn);
}

EXPORTED void
recorder_fail(const char *name)
{
    pthread_mutex_lock(&turn);
    snprintf(failing, sizeof failing, "%s", name);
    pthread_mutex_unlock(&turn);
}

EXPORTED void
recorder_stop(void)
{
    pthread_mutex_lock(&turn);
    look();
    fclose(out);
    out = NULL;
    drop(&last);
    pthread_mutex_unlock(&turn);
}

/* Between enter() and leave() no other thread makes a recorded call, so that a change is put down to the right one. */
static int
enter(void)
{
    if (out == NULL) {
        return 0;
    }
    pthread_mutex_lock(&turn);
    if (out == NULL) {
        pthread_mutex_unlock(&turn);
        return 0;
    }
    look();
    return 1;
}

/* True once, for the call that is to fail. */
static int
fails(int is_recorded, const char *name)
{
    if (!is_recorded || strcmp(failing, name) != 0) {
        return 0;
    }
    failing[0] = '\0';
    errno = EIO;
    return 1;
}

static void
leave(int is_recorded, const char *name, int fd, int worked)
{
    if (!is_recorded) {
        return;
    }
    int failure = errno;
    struct stat status = {0};
    if (fd >= 0 && (fstat(fd, &status) < 0 || status.st_dev != folder_status.st_dev)) {
        status.st_ino = 0;
    }
    if (worked) {
        put_call(name, status.st_ino, 0, UINT64_MAX);
    }
    else {
        look();
    }
    pthread_mutex_unlock(&turn);
    errno = failure;
}

/* A function of libc under each of its names; `kind` is what it is recorded as, `fd` the file of a sync, or -1. */
#define INTERPOSE(type, symbol, kind, fd, parameters, ...)         \
    EXPORTED type symbol parameters                                \
    {                                                              \
        int is_recorded = enter();                                 \
        int is_refused = fails(is_recorded, kind);                 \
        type result = is_refused ? -1 : REAL(symbol)(__VA_ARGS__); \
        leave(is_recorded, kind, fd, result >= 0);                 \
        return result;                                             \
    }

INTERPOSE(int, fsync, "fsync", fd, (int fd), fd)
INTERPOSE(int, fdatasync, "fdatasync", fd, (int fd), fd)
INTERPOSE(int, ftruncate, "ftruncate", fd, (int fd, off_t size), fd, size)
INTERPOSE(int, ftruncate64, "ftruncate", fd, (int fd, off64_t size), fd, size)
INTERPOSE(int, fallocate, "fallocate", fd, (int fd, int mode, off_t from, off_t size), fd, mode, from, size)
INTERPOSE(int, fallocate64, "fallocate", fd, (int fd, int mode, off64_t from, off64_t size), fd, mode, from, size)
INTERPOSE(int, rename, "rename", -1, (const char *from, const char *to), from, to)
INTERPOSE(int, renameat, "rename", -1, (int a, const char *from, int b, const char *to), a, from, b, to)
INTERPOSE(int, renameat2, "rename", -1, (int a, const char *from, int b, const char *to, unsigned flags), a, from, b,
          to, flags)
INTERPOSE(int, link, "link", -1, (const char *from, const char *to), from, to)
INTERPOSE(int, linkat, "link", -1, (int a, const char *from, int b, const char *to, int flags), a, from, b, to, flags)
INTERPOSE(int, unlink, "unlink", -1, (const char *path), path)
INTERPOSE(int, unlinkat, "unlink", -1, (int at, const char *path, int flags), at, path, flags)
INTERPOSE(ssize_t, write, "write", fd, (int fd, const void *data, size_t size), fd, data, size)
INTERPOSE(ssize_t, writev, "write", fd, (int fd, const struct iovec *parts, int count), fd, parts, count)
INTERPOSE(ssize_t, pwrite, "pwrite", fd, (int fd, const void *data, size_t size, off_t from), fd, data, size, from)
INTERPOSE(ssize_t, pwrite64, "pwrite", fd, (int fd, const void *data, size_t size, off64_t from), fd, data, size, from)
INTERPOSE(ssize_t, pwritev, "pwrite", fd, (int fd, const struct iovec *parts, int count, off_t from), fd, parts, count,
          from)
INTERPOSE(ssize_t, pwritev64, "pwrite", fd, (int fd, const struct iovec *parts, int count, off64_t from), fd, parts,
          count, from)

#define INTERPOSE_OPEN(symbol, parameters, ...)                                        \
    EXPORTED int symbol parameters                                                     \
    {                                                                                  \
        va_list rest;                                                                  \
        va_start(rest, flags);                                                         \
        int makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;        \
        mode_t mode = makes ? va_arg(rest, mode_t) : 0;                                \
        va_end(rest);                                                                  \
        int is_recorded = makes || (flags & O_TRUNC) != 0 ? enter() : 0;               \
        int fd = REAL(symbol)(__VA_ARGS__, flags, mode);                               \
        leave(is_recorded, "open", fd, fd >= 0);                                       \
        return fd;                                                                     \
    }
INTERPOSE_OPEN(open, (const char *path, int flags, ...), path)
INTERPOSE_OPEN(open64, (const char *path, int flags, ...), path)
INTERPOSE_OPEN(openat, (int at, const char *path, int flags, ...), at, path)
INTERPOSE_OPEN(openat64, (int at, const char *path, int flags, ...), at, path)

/* The parts of files that lie in a range of addresses are synced; the kernel says which they are. */
static void
put_synced(uint64_t start, uint64_t end)
{
    char line[8192];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL) {
        abort();
    }
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long long from, to, offset, inode;
        char rights[5];
        if (sscanf(line, "%llx-%llx %4s %llx %*s %llu", &from, &to, rights, &offset, &inode) != 5 || inode == 0 ||
            rights[3] != 's' || strstr(line, folder) == NULL) {
            continue; /* a private map keeps what it has */
        }
        uint64_t low = from > start ? from : start, high = to < end ? to : end;
        if (low < high) {
            put_call("msync", inode, low - from + offset, high - low);
        }
    }
    fclose(maps);
}

EXPORTED int
msync(void *address, size_t size, int flags)
{
    int is_recorded = enter();
    int result = REAL(msync)(address, size, flags);
    if (is_recorded) {
        int failure = errno;
        if (result == 0 && (flags & MS_SYNC)) {
            put_synced((uintptr_t)address, (uintptr_t)address + size);
        }
        pthread_mutex_unlock(&turn);
        errno = failure;
    }
    return result;
}
