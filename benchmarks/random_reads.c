/* Reads of many places of a file, past the page cache: what fetching them from the device costs at least.

   Both functions return an errno. Places, lengths and the buffer are multiples of the device's blocks; place i is read
   into the buffer at i times `stride`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_THREADS 256

struct reads {
    int fd;
    const int64_t *offsets;
    const int64_t *lengths;
    long count;
    char *buffer;
    size_t stride;
};

/* Without O_DIRECT, as on tmpfs, the page cache is in the way, but at least nothing is read ahead. */
static int
open_direct(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
        }
    }
    return fd;
}

/* --- io_uring, by its system calls --- */

struct ring {
    int fd;
    char *submissions, *completions;
    size_t submissions_nbytes, completions_nbytes, entries_nbytes;
    struct io_uring_sqe *entries;
    struct io_uring_params params;
};

static void *
shared(int fd, size_t nbytes, off_t what)
{
    return mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
}

static void
ring_close(struct ring *ring)
{
    if (ring->submissions != MAP_FAILED) {
        munmap(ring->submissions, ring->submissions_nbytes);
    }
    if (ring->completions != MAP_FAILED) {
        munmap(ring->completions, ring->completions_nbytes);
    }
    if ((void *)ring->entries != MAP_FAILED) {
        munmap(ring->entries, ring->entries_nbytes);
    }
    close(ring->fd);
}

static int
ring_open(struct ring *ring, unsigned depth)
{
    memset(ring, 0, sizeof *ring);
    struct io_uring_params *params = &ring->params;
    ring->fd = (int)syscall(SYS_io_uring_setup, depth, params);
    if (ring->fd < 0) {
        return errno;
    }
    ring->submissions_nbytes = params->sq_off.array + params->sq_entries * sizeof(unsigned);
    ring->completions_nbytes = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    ring->entries_nbytes = params->sq_entries * sizeof(struct io_uring_sqe);
    ring->submissions = shared(ring->fd, ring->submissions_nbytes, IORING_OFF_SQ_RING);
    ring->completions = shared(ring->fd, ring->completions_nbytes, IORING_OFF_CQ_RING);
    ring->entries = shared(ring->fd, ring->entries_nbytes, IORING_OFF_SQES);
    if (ring->submissions == MAP_FAILED || ring->completions == MAP_FAILED || (void *)ring->entries == MAP_FAILED) {
        int error = errno;
        ring_close(ring);
        return error;
    }
    return 0;
}

/* Put one read into the queue; the kernel sees it at the next io_uring_enter. */
static void
ring_push(struct ring *ring, const struct reads *reads, long i)
{
    const struct io_sqring_offsets *at = &ring->params.sq_off;
    /* SAFE: the offsets are the kernel's own, into the pages that it shares with us. */
    _Atomic unsigned *tail = (_Atomic unsigned *)(ring->submissions + at->tail);
    unsigned mask = *(unsigned *)(ring->submissions + at->ring_mask);
    unsigned *array = (unsigned *)(ring->submissions + at->array);
    unsigned place = atomic_load_explicit(tail, memory_order_relaxed);
    struct io_uring_sqe *entry = &ring->entries[place & mask];
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_READ;
    entry->fd = reads->fd;
    entry->off = (uint64_t)reads->offsets[i];
    entry->addr = (uintptr_t)(reads->buffer + (size_t)i * reads->stride);
    entry->len = (unsigned)reads->lengths[i];
    entry->user_data = (uint64_t)i;
    array[place & mask] = place & mask;
    atomic_store_explicit(tail, place + 1, memory_order_release);
}

/* Take what has come, into `done`. Returns an errno. */
static int
ring_reap(struct ring *ring, const struct reads *reads, long *done)
{
    const struct io_cqring_offsets *at = &ring->params.cq_off;
    /* SAFE: as above. */
    _Atomic unsigned *head = (_Atomic unsigned *)(ring->completions + at->head);
    _Atomic unsigned *tail = (_Atomic unsigned *)(ring->completions + at->tail);
    unsigned mask = *(unsigned *)(ring->completions + at->ring_mask);
    const struct io_uring_cqe *entries = (struct io_uring_cqe *)(ring->completions + at->cqes);
    unsigned from = atomic_load_explicit(head, memory_order_relaxed);
    unsigned to = atomic_load_explicit(tail, memory_order_acquire);
    int error = 0;
    for (; from != to; from++) {
        const struct io_uring_cqe *entry = &entries[from & mask];
        if (entry->res < 0) {
            error = -entry->res;
        }
        else if (entry->res != reads->lengths[entry->user_data]) {
            error = EIO;
        }
        ++*done;
    }
    atomic_store_explicit(head, from, memory_order_release);
    return error;
}

/* Keep `depth` reads under way until all are done, also after an error: the kernel still writes into the buffer. */
static int
ring_read(struct ring *ring, const struct reads *reads, long depth)
{
    long pushed = 0, done = 0;
    int error = 0;
    while (done < pushed || (pushed < reads->count && !error)) {
        unsigned added = 0;
        for (; !error && pushed < reads->count && pushed - done < depth; pushed++, added++) {
            ring_push(ring, reads, pushed);
        }
        long entered;
        do {
            entered = syscall(SYS_io_uring_enter, ring->fd, added, 1, IORING_ENTER_GETEVENTS, NULL, 0);
        } while (entered < 0 && errno == EINTR);
        if (entered < 0) {
            return errno;
        }
        int bad = ring_reap(ring, reads, &done);
        error = error ? error : bad;
    }
    return error;
}

int
read_by_ring(const char *path, const int64_t *offsets, const int64_t *lengths, long count, char *buffer, size_t stride,
             int depth)
{
    struct ring ring;
    int error = ring_open(&ring, (unsigned)depth);
    if (error) {
        return error;
    }
    struct reads reads = {open_direct(path), offsets, lengths, count, buffer, stride};
    error = reads.fd < 0 ? errno : ring_read(&ring, &reads, depth);
    if (reads.fd >= 0) {
        close(reads.fd);
    }
    ring_close(&ring);
    return error;
}

/* --- Threads, where io_uring is not allowed --- */

struct share {
    const struct reads *reads;
    atomic_long *next;
    int error;
};

static void *
work(void *given)
{
    struct share *share = given;
    const struct reads *reads = share->reads;
    long i;
    while (!share->error && (i = atomic_fetch_add(share->next, 1)) < reads->count) {
        char *to = reads->buffer + (size_t)i * reads->stride;
        ssize_t got = pread(reads->fd, to, (size_t)reads->lengths[i], reads->offsets[i]);
        if (got != reads->lengths[i]) {
            share->error = got < 0 ? errno : EIO;
        }
    }
    return NULL;
}

int
read_by_threads(const char *path, const int64_t *offsets, const int64_t *lengths, long count, char *buffer,
                size_t stride, int depth)
{
    struct reads reads = {open_direct(path), offsets, lengths, count, buffer, stride};
    if (reads.fd < 0) {
        return errno;
    }
    pthread_t threads[MOST_THREADS];
    struct share shares[MOST_THREADS];
    atomic_long next = 0;
    int started = 0, error = 0;
    for (; started < depth && started < MOST_THREADS; started++) {
        shares[started] = (struct share){&reads, &next, 0};
        error = pthread_create(&threads[started], NULL, work, &shares[started]);
        if (error) {
            break;
        }
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        error = error ? error : shares[i].error;
    }
    close(reads.fd);
    return error;
}
