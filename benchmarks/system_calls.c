/* The system calls under opening, mapping and dropping a file, and nothing else: what opening an array costs at least. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Do it `count` times; with `nwritten`, write so many bytes at the start and wait for the disk. Returns an errno. */
int
cycle(const char *path, size_t nbytes, int open_flags, int prot, int map_flags, size_t nwritten, long count)
{
    for (long i = 0; i < count; i++) {
        struct stat status;
        int fd = open(path, open_flags);
        if (fd < 0 || fstat(fd, &status) < 0) {
            return errno;
        }
        char *data = mmap(NULL, nbytes, prot, map_flags, fd, 0);
        if (data == MAP_FAILED || close(fd) < 0) {
            return errno;
        }
        if (nwritten > 0) {
            memset(data, (int)i, nwritten);
            if (msync(data, nbytes, MS_SYNC) < 0) {
                return errno;
            }
        }
        if (munmap(data, nbytes) < 0) {
            return errno;
        }
    }
    return 0;
}
