#define _GNU_SOURCE /* fallocate, MAP_NORESERVE, statx */

#include "mapping.h"

#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

size_t
nd_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

bool
nd_range_fits(size_t from, size_t nbytes, size_t size)
{
    return from <= size && nbytes <= size - from;
}

/* Not fstat(): since Linux 6.13 a file whose times were asked for takes new ones at its next write, which the next
 * fdatasync() then waits for. */
static int
ask(int fd, const char *path, struct statx *status)
{
    int flags = fd >= 0 ? AT_EMPTY_PATH : 0;
    return statx(fd >= 0 ? fd : AT_FDCWD, fd >= 0 ? "" : path, flags, STATX_TYPE | STATX_SIZE | STATX_INO, status) < 0
               ? errno
               : 0;
}

int
nd_regular_size(int fd, int64_t *size)
{
    struct statx status;
    int failure = ask(fd, NULL, &status);
    if (failure != 0) {
        return failure;
    }
    *size = S_ISREG(status.stx_mode) ? (int64_t)status.stx_size : -1;
    return 0;
}

static bool
has_journal(const char *path)
{
    char journal[PATH_MAX + sizeof ND_JOURNAL_SUFFIX];
    size_t length = strlen(path);
    if (length > PATH_MAX) {
        return false;
    }
    memcpy(journal, path, length);
    memcpy(journal + length, ND_JOURNAL_SUFFIX, sizeof ND_JOURNAL_SUFFIX);
    /* What cannot be told is looked at again. A name that has no room for the suffix has no journal. */
    return faccessat(AT_FDCWD, journal, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG);
}

int
nd_open(const char *path, int flags, nd_opened *opened)
{
    bool is_link = false;
    opened->fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
    if (opened->fd < 0 && errno == ELOOP) {
        is_link = true;
        opened->fd = open(path, flags | O_CLOEXEC);
    }
    if (opened->fd < 0) {
        return errno;
    }
    opened->has_journal = is_link || has_journal(path);
    int status = nd_regular_size(opened->fd, &opened->size);
    if (status != 0) {
        close(opened->fd);
    }
    return status;
}

int
nd_allocate(int fd, int64_t from, int64_t nbytes, bool keep_size)
{
    /* Not posix_fallocate(): where the file system cannot, glibc writes a byte into every block instead. */
    return fallocate(fd, keep_size ? FALLOC_FL_KEEP_SIZE : 0, from, nbytes) < 0 ? errno : 0;
}

int
nd_write(int fd, const char *bytes, size_t nbytes, int64_t from)
{
    while (nbytes > 0) {
        ssize_t written = pwrite(fd, bytes, nbytes, from);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? errno : ENOSPC;
        }
        bytes += written;
        nbytes -= (size_t)written;
        from += written;
    }
    return 0;
}

static int
protection(nd_access access)
{
    return access == ND_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

/* Read-only maps are private too: unwritten private pages are the page cache's own, and a stray write through one can be
 * let go on without reaching the file. */
static int
sharing(nd_access access)
{
    return access == ND_WRITE ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
}

/* Whole pages around the bytes, or 0 where no address space is that large. */
static size_t
range_size_for(size_t lead, size_t nbytes)
{
    size_t page = nd_page_size();
    if (nbytes > (size_t)PTRDIFF_MAX - lead - page) {
        return 0;
    }
    size_t size = (lead + nbytes + page - 1) / page * page;
    return size ? size : page;
}

void
nd_close_file(nd_mapping *mapping, bool forget)
{
    if (mapping->fd < 0) {
        return;
    }
    if (forget) {
        posix_fadvise(mapping->fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    close(mapping->fd);
    mapping->fd = -1;
}

/* Address space to grow into. It costs no memory, but there is an end to it, and it is not ours alone: what is reserved
 * stays below a quarter of what 47 bits give, or of the process's limit, and each mapping takes a small part of the rest.
 * One that gets none works, and can grow when it is opened again. */
static const size_t MOST_RESERVED = (size_t)32 << 40;
enum { TIMES_LARGER = 8, PART_OF_REST = 16 };
static _Atomic size_t reserved;

static size_t
most_to_reserve(void)
{
    static _Atomic size_t most; /* a limit that is lowered later makes mmap() fail, which is seen to */
    if (most == 0) {
        struct rlimit limit;
        bool is_limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur / 4 < MOST_RESERVED;
        most = is_limited ? limit.rlim_cur / 4 + 1 : MOST_RESERVED;
    }
    return most;
}

static size_t
room_to_grow(size_t nbytes, size_t room)
{
    size_t most = most_to_reserve(), taken = reserved;
    size_t rest = most > taken ? (most - taken) / PART_OF_REST : 0;
    size_t wanted = nbytes > room / TIMES_LARGER ? nbytes * TIMES_LARGER : room;
    wanted = wanted < rest ? wanted : rest;
    return wanted / nd_page_size() * nd_page_size();
}

/* The file from the page of `start`, with room to grow where that can be had. Sets `range_size`. */
static char *
map_range(int fd, int64_t start, size_t needed, nd_access access, size_t room, size_t *range_size)
{
    int prot = protection(access), flags = sharing(access);
    *range_size = needed + room;
    /* SAFE: a mapping may reach past the file's end. */
    char *range = mmap(NULL, *range_size, prot, flags, fd, start);
    if (range == MAP_FAILED && room > 0) {
        *range_size = needed;
        range = mmap(NULL, *range_size, prot, flags, fd, start);
    }
    return range;
}

/* Bytes before the data that are mapped with it: from the file's beginning, where a header is short. */
static size_t
lead_of(int64_t offset)
{
    enum { LONGEST_HEAD = 64 << 10 };
    return offset <= LONGEST_HEAD ? (size_t)offset : (size_t)offset % nd_page_size();
}

int
nd_map(nd_mapping *mapping, int fd, int64_t offset, size_t nbytes, nd_access access, const char *path, bool keep_fd,
       size_t room)
{
    size_t lead = lead_of(offset);
    size_t range_size = range_size_for(lead, nbytes);
    if (range_size == 0) {
        return ENOMEM;
    }
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return errno;
    }
    char *own_path = path == NULL ? NULL : strdup(path);
    if (path != NULL && own_path == NULL) {
        return ENOMEM;
    }
    bool can_grow = room > 0 && S_ISREG(status.st_mode);
    size_t needed = range_size;
    char *range;
    if (nbytes == 0 && !can_grow) {
        /* An array of no items still wants an address that nobody else has. */
        range = mmap(NULL, range_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    else {
        size_t more = can_grow ? room_to_grow(nbytes, room) : 0;
        range = map_range(fd, offset - (int64_t)lead, needed, access, more, &range_size);
    }
    if (range == MAP_FAILED) {
        int failure = errno;
        free(own_path);
        return failure;
    }
    reserved += range_size - needed;
    static _Atomic uint64_t last_id;
    *mapping = (nd_mapping){
        .range = range,
        .range_size = range_size,
        .data = range + lead,
        .nbytes = nbytes,
        .file_nbytes = nbytes,
        .reserved = range_size - needed,
        .offset = offset,
        .followed_by = status.st_size - offset - (int64_t)nbytes,
        .access = access,
        /* A file that is on no device of its own may be on a remote one. */
        .way = major(status.st_dev) == 0 && access != ND_COPY && nd_is_remote(fd) ? ND_BY_READING : ND_BY_MAP,
        .fd = fd,
        .path = own_path,
        .device = status.st_dev,
        .inode = status.st_ino,
        .id = ++last_id,
    };
    if (access != ND_WRITE && !keep_fd && mapping->way != ND_BY_READING) {
        nd_close_file(mapping, false);
    }
    return 0;
}

char *
nd_used_end(const nd_mapping *mapping)
{
    size_t page = nd_page_size();
    size_t used = (size_t)(mapping->data + mapping->nbytes - mapping->range);
    used = (used + page - 1) / page * page;
    return mapping->range + used;
}

int64_t
nd_file_offset(const nd_mapping *mapping, const char *address)
{
    return mapping->offset + (address - mapping->data);
}

int
nd_borrow_fd(const nd_mapping *mapping)
{
    if (mapping->fd >= 0 || mapping->path == NULL) {
        return mapping->fd;
    }
    struct stat status;
    int fd = open(mapping->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 &&
        (fstat(fd, &status) < 0 || status.st_dev != mapping->device || status.st_ino != mapping->inode)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void
nd_return_fd(const nd_mapping *mapping, int fd)
{
    if (fd >= 0 && fd != mapping->fd) {
        close(fd);
    }
}

int
nd_map_again(nd_mapping *mapping, int fd, char *from, char *to)
{
    /* SAFE: MAP_FIXED inside a range of ours. */
    void *again = mmap(from, (size_t)(to - from), protection(mapping->access), sharing(mapping->access) | MAP_FIXED, fd,
                       nd_file_offset(mapping, from));
    return again == MAP_FAILED ? errno : 0;
}

int
nd_ask_size(const nd_mapping *mapping, int64_t *size)
{
    struct statx status;
    if (mapping->fd < 0 && mapping->path == NULL) {
        return ENOENT;
    }
    int failure = ask(mapping->fd, mapping->path, &status);
    if (failure != 0) {
        return failure;
    }
    if (mapping->fd < 0 &&
        (makedev(status.stx_dev_major, status.stx_dev_minor) != mapping->device || status.stx_ino != mapping->inode)) {
        return ENOENT;
    }
    /* A block device has a size too, but not there. */
    bool is_regular = S_ISREG(status.stx_mode);
    *size = is_regular ? (int64_t)status.stx_size : mapping->fd >= 0 ? lseek(mapping->fd, 0, SEEK_END) : -1;
    return *size >= 0 ? 0 : ENOENT;
}

bool
nd_size_now(const nd_mapping *mapping, int64_t *size)
{
    return nd_ask_size(mapping, size) == 0;
}

/* msync() and madvise() take a page boundary to start from. */
static char *
page_of(const nd_mapping *mapping, size_t from)
{
    size_t distance = (size_t)(mapping->data - mapping->range) + from;
    return mapping->range + distance - distance % nd_page_size();
}

int
nd_sync(const nd_mapping *mapping, size_t from, size_t nbytes)
{
    if (mapping->access != ND_WRITE || (nbytes == 0 && (from > 0 || mapping->data == mapping->range))) {
        return 0;
    }
    /* The whole of it is with what stands before: a header says how much there is. */
    char *start = from == 0 ? mapping->range : page_of(mapping, from);
    size_t size = (size_t)(mapping->data + from + nbytes - start);
    /* SAFE: callers pass a range that nd_range_fits in nbytes, and the range below data is mapped too. */
    int status;
    do {
        status = msync(start, size, MS_SYNC) < 0 ? errno : 0;
    } while (status == EINTR);
    return status;
}

int
nd_sync_file(const nd_mapping *mapping)
{
    return fsync(mapping->fd) < 0 ? errno : 0;
}

int
nd_advise(const nd_mapping *mapping, size_t from, size_t nbytes, int advice)
{
    if (nbytes == 0) {
        return 0;
    }
    char *start = page_of(mapping, from);
    size_t size = (size_t)(mapping->data + from + nbytes - start);
    /* SAFE: as in nd_sync. Advice that would lose bytes is the caller's to refuse. */
    return madvise(start, size, advice) < 0 ? errno : 0;
}

int
nd_blank(nd_mapping *mapping)
{
    /* SAFE: MAP_FIXED over a range that is ours alone; it is replaced in one step, so no other thread's mmap() can
     * take the addresses between. */
    void *zeros = mmap(mapping->range, mapping->range_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return zeros == MAP_FAILED ? errno : 0;
}

void
nd_unmap(nd_mapping *mapping)
{
    if (mapping->range != NULL) {
        /* SAFE: the owner is being freed, so no array has this range in its chain of bases. */
        munmap(mapping->range, mapping->range_size);
        reserved -= mapping->reserved;
    }
    nd_close_file(mapping, false);
    free(mapping->path);
    *mapping = ND_MAPPING_EMPTY;
}
