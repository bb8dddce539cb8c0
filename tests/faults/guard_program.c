/* The guard without Python: threads that map, cut, fault, close and fork at once. Made to run under sanitizers.
 *
 *     guard_program FOLDER ROUNDS        ends with 0 if every fault was reported, and as what it was
 *     guard_program FOLDER ROUNDS race   makes a mistake on purpose, that the thread sanitizer must find
 */
#define _GNU_SOURCE

#include "ceiling.h"
#include "guard.h"
#include "mapping.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 8, THREADS = 8 };

static const char *folder;
static int rounds;
static atomic_int mistakes, notices;

#define EXPECT(condition, ...)            \
    do {                                  \
        if (!(condition)) {               \
            mistakes++;                   \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr);          \
        }                                 \
    } while (0)

static void
notify(nd_cause cause)
{
    (void)cause;
    notices++;
}

static size_t
page_size(void)
{
    return nd_page_size();
}

/* A new file of PAGES pages, each full of its number + 1. */
static int
make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char *page = malloc(page_size());
    for (int i = 0; i < PAGES; i++) {
        memset(page, i + 1, page_size());
        EXPECT(write(fd, page, page_size()) == (ssize_t)page_size(), "%s cannot be written: %m", path);
    }
    free(page);
    return fd;
}

/* Pages are replaced under threads that read them: that is what losing a page means, and no race to report. */
#define MAY_BE_REPLACED __attribute__((noinline, no_sanitize("thread")))

MAY_BE_REPLACED static char
read_at(const nd_mapping *mapping, size_t offset)
{
    return *(volatile char *)(mapping->data + offset);
}

MAY_BE_REPLACED static void
write_at(const nd_mapping *mapping, size_t offset, char value)
{
    *(volatile char *)(mapping->data + offset) = value;
}

static void
expect_fault(nd_cause cause, int64_t offset, const char *what)
{
    nd_fault fault = {.cause = ND_NO_FAULT};
    bool is_there = nd_fault_take(&fault);
    EXPECT(is_there && fault.cause == cause && (offset < 0 || fault.offset == offset),
           "%s: fault %d (%d expected) at %lld (%lld expected)", what, (int)fault.cause, (int)cause,
           (long long)fault.offset, (long long)offset);
}

static int64_t
page_at(int number)
{
    return (int64_t)page_size() * number;
}

/* ---- A file of one's own ---- */

/* Not on the stack: a fork takes the stacks of the threads that it has not for its own new ones. */
static nd_mapping *
new_mapping(void)
{
    nd_mapping *mapping = malloc(sizeof *mapping);
    *mapping = ND_MAPPING_EMPTY;
    return mapping;
}

static void
cut_and_close(const char *path, nd_access access, bool keep_fd)
{
    int fd = make_file(path), cutter = dup(fd);
    nd_mapping *mapping = new_mapping();
    EXPECT(nd_map(mapping, fd, 0, (size_t)page_at(PAGES), access, path, keep_fd, 0) == 0, "nd_map");
    nd_guard_add(mapping);
    EXPECT(read_at(mapping, (size_t)page_at(2)) == 3, "the file's bytes");
    EXPECT(!nd_fault_is_pending(), "a fault where there is none");

    EXPECT(ftruncate(cutter, page_at(3)) == 0, "ftruncate");
    EXPECT(read_at(mapping, (size_t)page_at(5)) == 0, "a lost page reads as zero");
    expect_fault(ND_TRUNCATED, page_at(3), "read behind the cut");
    if (access != ND_READ) {
        write_at(mapping, (size_t)page_at(6), 9);
        expect_fault(ND_TRUNCATED, page_at(3), "write behind the cut");
    }
    EXPECT(read_at(mapping, (size_t)page_at(2)) == 3, "the bytes before the cut");

    EXPECT(nd_guard_vacate(mapping, false) == 0, "nd_vacate");
    EXPECT(read_at(mapping, 0) == 0, "a closed mapping reads as zero");
    expect_fault(ND_CLOSED, -1, "read after closing");
    write_at(mapping, 7, 1);
    expect_fault(ND_CLOSED, -1, "write after closing");
    nd_guard_drop(mapping);
    nd_unmap(mapping);
    nd_guard_drop(mapping);
    nd_unmap(mapping);
    free(mapping);
    close(cutter);
}

static void
write_to_read_only(const char *path)
{
    int fd = make_file(path);
    nd_mapping *mapping = new_mapping();
    EXPECT(nd_map(mapping, fd, 0, (size_t)page_at(PAGES), ND_READ, path, false, 0) == 0, "nd_map");
    nd_guard_add(mapping);
    write_at(mapping, (size_t)page_at(1) + 4, 77);
    expect_fault(ND_READ_ONLY, page_at(1) + 4, "write through a map that reads");
    EXPECT(read_at(mapping, (size_t)page_at(1) + 4) == 2, "the bytes after a refused write");
    nd_guard_drop(mapping);
    nd_unmap(mapping);
    free(mapping);
}

/* Stores and reads while pages are let go, by a ceiling that is set, moved and taken away. */
static void
stay_below(const char *path, nd_access access)
{
    int fd = make_file(path);
    nd_mapping *mapping = new_mapping();
    EXPECT(nd_map(mapping, fd, 0, (size_t)page_at(PAGES), access, path, false, 0) == 0, "nd_map");
    nd_guard_add(mapping);
    for (size_t round = 0; round < 3; round++) {
        EXPECT(nd_ceiling_set(mapping, 1 + round) == 0, "nd_ceiling_set");
        for (int page = 0; page < PAGES; page++) {
            EXPECT(read_at(mapping, (size_t)page_at(page)) == page + 1, "the file's bytes below a ceiling");
            if (access == ND_WRITE) {
                write_at(mapping, (size_t)page_at(page) + 1 + round, (char)(page + 50));
            }
        }
        for (int page = 0; page < PAGES && access == ND_WRITE; page++) {
            EXPECT(read_at(mapping, (size_t)page_at(page) + 1 + round) == page + 50, "what was stored below a ceiling");
        }
    }
    if (access == ND_READ) {
        EXPECT(nd_guard_vacate(mapping, false) == 0, "nd_vacate"); /* lost pages are let go too */
        read_at(mapping, 0);
        expect_fault(ND_CLOSED, -1, "read after closing, with a ceiling");
    }
    EXPECT(nd_ceiling_set(mapping, 0) == 0, "nd_ceiling_set");
    nd_guard_drop(mapping);
    nd_unmap(mapping);
    free(mapping);
}

static void *
work_alone(void *number)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/own%ld", folder, (long)(intptr_t)number);
    for (int i = 0; i < rounds; i++) {
        cut_and_close(path, ND_WRITE, false);
        cut_and_close(path, ND_READ, false);
        cut_and_close(path, ND_READ, true);
        cut_and_close(path, ND_COPY, false);
        write_to_read_only(path);
    }
    return NULL;
}

static void *
work_below(void *number)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/below%ld", folder, (long)(intptr_t)number);
    for (int i = 0; i < rounds; i++) {
        stay_below(path, ND_WRITE);
        stay_below(path, ND_READ);
    }
    return NULL;
}

/* ---- One mapping for all ---- */

static nd_mapping shared = ND_MAPPING_EMPTY;
static pthread_barrier_t barrier;

/* All threads read while one cuts: each reads the page's number, or zero with a fault. */
static void *
read_shared(void *number)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/shared", folder);
    bool is_first = (intptr_t)number == 0;
    for (int i = 0; i < rounds; i++) {
        int cutter = -1;
        if (is_first) {
            int fd = make_file(path);
            cutter = dup(fd);
            EXPECT(nd_map(&shared, fd, 0, (size_t)page_at(PAGES), ND_WRITE, path, true, 0) == 0, "nd_map");
            nd_guard_add(&shared);
        }
        pthread_barrier_wait(&barrier);
        for (int page = 0; page < PAGES; page++) {
            if (is_first && page == 3) {
                EXPECT(ftruncate(cutter, page_at(4)) == 0, "ftruncate");
            }
            char value = read_at(&shared, (size_t)page_at(page));
            nd_fault fault;
            bool has_faulted = nd_fault_take(&fault);
            nd_guard_lock();
            bool is_lost = nd_lost_overlaps(&shared, shared.data + page_at(page), shared.data + page_at(page) + 1);
            nd_guard_unlock();
            EXPECT(value == page + 1 || (value == 0 && (has_faulted || is_lost)), "page %d reads as %d", page, value);
        }
        pthread_barrier_wait(&barrier);
        if (is_first) {
            EXPECT(nd_guard_vacate(&shared, false) == 0, "nd_vacate");
        }
        pthread_barrier_wait(&barrier);
        read_at(&shared, 0);
        nd_fault fault;
        if (nd_fault_take(&fault)) {
            EXPECT(fault.cause == ND_CLOSED || fault.cause == ND_TRUNCATED, "cause %d after closing", (int)fault.cause);
        }
        pthread_barrier_wait(&barrier);
        if (is_first) {
            nd_guard_drop(&shared);
            nd_unmap(&shared);
            close(cutter);
        }
    }
    return NULL;
}

/* ---- Forks ---- */

/* The thread sanitizer knows no threads that begin in the fork of a process with several, and the address sanitizer's
 * memory may be locked for ever there, by a thread that the fork has not. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { FORKS_HAVE_THREADS = 0 };
#else
enum { FORKS_HAVE_THREADS = 1 };
#endif

static void *
fork_often(void *ignored)
{
    (void)ignored;
    char path[4096];
    snprintf(path, sizeof path, "%s/fork", folder);
    for (int i = 0; i < rounds / 10 + 1; i++) {
        int fd = make_file(path), cutter = dup(fd);
        nd_mapping mapping = ND_MAPPING_EMPTY;
        EXPECT(nd_map(&mapping, fd, 0, (size_t)page_at(PAGES), ND_WRITE, path, true, 0) == 0, "nd_map");
        nd_guard_add(&mapping);
        EXPECT(!FORKS_HAVE_THREADS || nd_ceiling_set(&mapping, 1) == 0, "nd_ceiling_set");
        pid_t child = fork();
        if (child == 0) {
            EXPECT(read_at(&mapping, 0) == 1, "the file's bytes below a ceiling, in a fork");
            EXPECT(nd_ceiling_set(&mapping, 0) == 0, "nd_ceiling_set, in a fork");
            EXPECT(ftruncate(cutter, page_at(1)) == 0, "ftruncate");
            read_at(&mapping, (size_t)page_at(5));
            expect_fault(ND_TRUNCATED, page_at(1), "in a fork");
            _exit(mistakes != 0);
        }
        int status;
        EXPECT(waitpid(child, &status, 0) == child && status == 0, "a fork ended with %d", status);
        read_at(&mapping, (size_t)page_at(5));
        expect_fault(ND_TRUNCATED, page_at(1), "beside a fork");
        EXPECT(nd_ceiling_set(&mapping, 0) == 0, "nd_ceiling_set");
        nd_guard_drop(&mapping);
        nd_unmap(&mapping);
        close(cutter);
    }
    return NULL;
}

/* ---- The control ---- */

static int unguarded;

static void *
race(void *ignored)
{
    (void)ignored;
    for (int i = 0; i < 1000; i++) {
        unguarded++;
    }
    return NULL;
}

static void
run(void *(*function)(void *), int threads)
{
    pthread_t started[THREADS];
    for (int i = 0; i < threads; i++) {
        pthread_create(&started[i], NULL, function, (void *)(intptr_t)i);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(started[i], NULL);
    }
}

int
main(int argc, char **argv)
{
    if (argc < 3) {
        return 2;
    }
    folder = argv[1];
    rounds = atoi(argv[2]);
    if (argc > 3) {
        run(race, THREADS);
        return 0;
    }
    EXPECT(nd_guard_install(notify) == 0, "nd_guard_install");
    pthread_t forker;
    pthread_create(&forker, NULL, fork_often, NULL);
    run(work_alone, THREADS);
    pthread_join(forker, NULL);
    run(work_below, THREADS);
    pthread_barrier_init(&barrier, NULL, THREADS);
    run(read_shared, THREADS);
    nd_guard_remove();
    printf("%d faults, %d mistakes\n", notices, mistakes);
    return mistakes != 0;
}
