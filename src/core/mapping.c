#define _GNU_SOURCE /* fallocate, MAP_NORESERVE */

#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

int
nd_regular_size(int fd, int64_t *size)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return errno;
    }
    *size = S_ISREG(status.st_mode) ? status.st_size : -1;
    return 0;
}

int
nd_open(const char *path, int flags, int *fd, int64_t *size)
{
    *fd = open(path, flags | O_CLOEXEC);
    if (*fd < 0) {
        return errno;
    }
    int status = nd_regular_size(*fd, size);
    if (status != 0) {
        close(*fd);
    }
    return status;
}

int
nd_allocate(int fd, int64_t from, int64_t nbytes)
{
    /* Not posix_fallocate(): where the file system cannot, glibc writes a byte into every block instead. */
    return fallocate(fd, 0, from, nbytes) < 0 ? errno : 0;
}

static int
protection(nd_access access)
{
    return access == ND_READ ? PROT_READ : PROT_READ | PROT_WRITE;
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

int
nd_map(nd_mapping *mapping, int fd, int64_t offset, size_t nbytes, nd_access access, const char *path, bool keep_fd)
{
    size_t lead = (size_t)offset % nd_page_size();
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
    int prot = protection(access);
    /* Read-only maps are private too: unwritten private pages are the page cache's own, and a stray write through one
     * can be let go on without reaching the file. */
    int flags = access == ND_WRITE ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
    if (nbytes == 0) {
        /* mmap() refuses a length of zero; an array of no items still wants an address that nobody else has. */
        prot = PROT_NONE;
        flags = MAP_PRIVATE | MAP_ANONYMOUS;
    }
    char *range = mmap(NULL, range_size, prot, flags, nbytes ? fd : -1, nbytes ? offset - (int64_t)lead : 0);
    if (range == MAP_FAILED) {
        int failure = errno;
        free(own_path);
        return failure;
    }
    static _Atomic uint64_t last_id;
    *mapping = (nd_mapping){
        .range = range,
        .range_size = range_size,
        .data = range + lead,
        .nbytes = nbytes,
        .offset = offset,
        .access = access,
        .fd = fd,
        .path = own_path,
        .device = status.st_dev,
        .inode = status.st_ino,
        .id = ++last_id,
    };
    if (access != ND_WRITE && !keep_fd) {
        nd_close_file(mapping, false);
    }
    return 0;
}

bool
nd_size_now(const nd_mapping *mapping, int64_t *size)
{
    struct stat status;
    if (mapping->fd >= 0) {
        if (fstat(mapping->fd, &status) < 0) {
            return false;
        }
    }
    else if (mapping->path == NULL || stat(mapping->path, &status) < 0 || status.st_dev != mapping->device ||
             status.st_ino != mapping->inode) {
        return false;
    }
    /* A block device has a size too, but not there. */
    *size = S_ISREG(status.st_mode) ? status.st_size : mapping->fd >= 0 ? lseek(mapping->fd, 0, SEEK_END) : -1;
    return *size >= 0;
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
    if (mapping->access != ND_WRITE || nbytes == 0) {
        return 0;
    }
    char *start = page_of(mapping, from);
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
    }
    nd_close_file(mapping, false);
    free(mapping->path);
    *mapping = ND_MAPPING_EMPTY;
}
