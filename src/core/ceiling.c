#define _GNU_SOURCE /* MADV_*, SYS_sched_setattr */

#include "ceiling.h"

#include "changed_pages.h"
#include "clock.h"
#include "guard.h"
#include "small_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18; older kernels answer EINVAL */
#endif

/* How fast pages become resident that are in the page cache, at most. Where all bytes are read, memory is the limit, and
 * where faults are small, they are. Otherwise a processor needs some twenty microseconds for a fault that maps a large
 * folio, 2 MiB, of which one byte is wanted. */
static const double NBYTES_PER_S = 32e9, NBYTES_PER_S_AND_PROCESSOR = 64e9;
enum { MOST_PROCESSORS = 4 };

/* Small faults bound the speed, and large ones are several times faster where all is read. So they are small in the
 * beginning, large where what is resident lies in long runs, and small again where more comes than can be read, or after
 * a time in which nothing happened. */
enum { DENSE_AT = 16 << 20, DENSE_RUN = 256 << 10, STILL_NS = 100 * 1000 * 1000 };

/* Between two looks. The longest is for ceilings of many GiB, which are never near. */
enum { SHORTEST_NS = 200 * 1000, LONGEST_NS = 20 * 1000 * 1000 };

/* About as much is let go in one call. Others who want to map or unmap wait for that long. */
static const size_t PIECE = (size_t)32 << 20;

/* Part of the time that may go into counting what is not expected to be too much. */
enum { COUNTING_PART = 20 };

/* `changing` is held while a ceiling is set or taken away and the thread started or ended, `held` for the list and what
 * stands in it: by the thread, but when it waits. Taken in this order, before the guard's lock. */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;

static nd_mapping *limited; /* the mappings with a ceiling */
static pthread_t thread;
static bool is_running, is_over;
static bool knows_forks;
static int statm = -1, page_map = -1, faults = -1; /* of this process: a fork opens its own */
static size_t shared_nbytes;                       /* all resident pages of files, at the last look */
static int64_t looked_ns, changed_ns;              /* when that was, and when it was another number than before */

/* ---- What the kernel says ---- */

/* The third number of statm: pages of files and of shared memory. */
static size_t
ask_shared(void)
{
    char text[128];
    ssize_t length = pread(statm, text, sizeof text - 1, 0);
    if (length <= 0) {
        return shared_nbytes;
    }
    text[length] = '\0';
    char *field = text;
    strtoull(field, &field, 10);
    strtoull(field, &field, 10);
    return (size_t)strtoull(field, &field, 10) * nd_page_size();
}

static void
close_files(void)
{
    if (statm >= 0) {
        close(statm);
    }
    if (page_map >= 0) {
        close(page_map);
    }
    if (faults >= 0) {
        close(faults);
    }
    statm = page_map = faults = -1;
}

/* Without a page map it goes by the estimate, and without small faults it looks more often. */
static int
open_files(void)
{
    statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (statm < 0) {
        return errno;
    }
    page_map = nd_open_page_map();
    faults = nd_open_faults();
    return 0;
}

/* Pages that are mapped anew, after an atomic block for example, have forgotten both. */
static void
set_faults(nd_mapping *mapping, bool are_small)
{
    nd_ceiling *ceiling = &mapping->ceiling;
    if (are_small) {
        /* A page that is a huge one is resident at a single touch, however small faults are. */
        madvise(mapping->range, mapping->range_size, MADV_NOHUGEPAGE);
    }
    bool is_set = nd_set_small_faults(faults, mapping->range, mapping->range_size, are_small);
    ceiling->has_small_faults = is_set && are_small;
    ceiling->dense_at = ceiling->resident + DENSE_AT;
}

/* Let huge pages be mapped as such again. There is no advice for that which is not also one to read more, so the file is
 * mapped anew, and all pages are let go. */
static void
allow_huge_pages(nd_mapping *mapping)
{
    nd_guard_lock();
    int fd = mapping->lost.count == 0 ? nd_borrow_fd(mapping) : -1;
    if (fd >= 0 && nd_map_again(mapping, fd, mapping->range, mapping->range + mapping->range_size) == 0) {
        mapping->ceiling.resident = 0;
    }
    nd_return_fd(mapping, fd);
    nd_guard_unlock();
}

/* ---- Letting go ---- */

/* The pages of an atomic block are nowhere else. One that begins waits for `held` before its pages become private. */
static bool
has_block(const nd_mapping *mapping)
{
    nd_guard_lock();
    bool has = mapping->block != NULL;
    nd_guard_unlock();
    return has;
}

static void
let_go(char *from, char *to)
{
    /* SAFE: shared pages, whose changes the page cache keeps, or unchanged private ones, which are the page cache's own;
     * of lost pages it takes what was written to them in vain. */
    if (madvise(from, (size_t)(to - from), MADV_DONTNEED) < 0 && errno == EINVAL) {
        madvise(from, (size_t)(to - from), MADV_DONTNEED_LOCKED);
    }
}

/* Where letting go begins: below the ceiling by the slack, as far as a small ceiling has room for that. The kernel may give
 * the thread its turn some milliseconds late. */
static size_t
full_at(const nd_ceiling *ceiling)
{
    size_t half = ceiling->nbytes / 2;
    return ceiling->nbytes - (half < ND_CEILING_SLACK ? half : ND_CEILING_SLACK);
}

/* Let go of all pages, in pieces of the range that have PIECE resident each if they lie evenly. What the mapping has more
 * than was let go is what has grown meanwhile, and may be any mapping's. */
static void
let_go_of_all(nd_mapping *mapping)
{
    nd_ceiling *ceiling = &mapping->ceiling;
    char *from = mapping->range, *end = from + mapping->range_size;
    size_t pieces = ceiling->resident / PIECE + 1;
    size_t piece = (mapping->range_size / pieces / nd_page_size() + 1) * nd_page_size();
    for (; from < end; from += piece < (size_t)(end - from) ? piece : (size_t)(end - from)) {
        let_go(from, piece < (size_t)(end - from) ? from + piece : end);
    }
    size_t before = shared_nbytes;
    shared_nbytes = ask_shared();
    size_t grown = ceiling->resident + shared_nbytes > before ? ceiling->resident + shared_nbytes - before : 0;
    for (nd_mapping *each = limited; each != NULL; each = each->ceiling.next) {
        each->ceiling.resident += grown;
    }
    ceiling->resident = grown;
    ceiling->is_trusted = grown <= full_at(ceiling);
    set_faults(mapping, ceiling->has_small_faults);
}

/* Replace the estimate by a count, where the kernel can count. Gives the bytes of a run of pages. */
static size_t
count(nd_mapping *mapping)
{
    int64_t started_ns = nd_now_ns();
    size_t nbytes, runs;
    if (nd_count_resident(page_map, mapping->range, mapping->range + mapping->range_size, &nbytes, &runs) != 0) {
        return 0;
    }
    mapping->ceiling.resident = nbytes;
    int64_t ended_ns = nd_now_ns();
    mapping->ceiling.count_again_ns = ended_ns + (ended_ns - started_ns) * COUNTING_PART;
    return nbytes / (runs > 0 ? runs : 1);
}

/* ---- The thread ---- */

static void
choose_faults(nd_mapping *mapping, bool is_sparse)
{
    nd_ceiling *ceiling = &mapping->ceiling;
    if (!ceiling->has_small_faults && is_sparse) {
        set_faults(mapping, true);
    }
    else if (ceiling->has_small_faults && !is_sparse && ceiling->resident > ceiling->dense_at) {
        size_t run = count(mapping);
        ceiling->dense_at = 2 * ceiling->resident; /* a count takes as long as there are pages */
        if (run >= DENSE_RUN) {
            set_faults(mapping, false);
            allow_huge_pages(mapping);
        }
    }
}

/* What has grown may be any mapping's, and is taken for every one's. What has gone, another array that was closed for
 * example, may have hidden growth: then a count tells, now and then. */
static void
keep_below(nd_mapping *mapping, bool has_changed)
{
    nd_ceiling *ceiling = &mapping->ceiling;
    bool is_over_it = ceiling->resident > full_at(ceiling);
    bool may_be = has_changed && shared_nbytes > full_at(ceiling) && looked_ns > ceiling->count_again_ns;
    if (may_be || (is_over_it && !ceiling->is_trusted)) {
        count(mapping);
    }
    if (ceiling->resident > full_at(ceiling)) {
        let_go_of_all(mapping);
    }
}

static void
look(void)
{
    size_t before = shared_nbytes;
    int64_t before_ns = looked_ns;
    shared_nbytes = ask_shared();
    looked_ns = nd_now_ns();
    size_t grown = shared_nbytes > before ? shared_nbytes - before : 0;
    bool has_changed = shared_nbytes != before;
    changed_ns = has_changed ? looked_ns : changed_ns;
    bool is_still = looked_ns - changed_ns > STILL_NS;
    bool is_sparse = is_still || (double)grown > NBYTES_PER_S * 1e-9 * (double)(looked_ns - before_ns);
    for (nd_mapping *mapping = limited; mapping != NULL; mapping = mapping->ceiling.next) {
        size_t resident = mapping->ceiling.resident + grown;
        mapping->ceiling.resident = resident < shared_nbytes ? resident : shared_nbytes;
    }
    for (nd_mapping *mapping = limited; mapping != NULL; mapping = mapping->ceiling.next) {
        if (has_block(mapping)) {
            mapping->ceiling.has_small_faults = false; /* its end maps the pages anew */
            continue;
        }
        if (faults >= 0) {
            choose_faults(mapping, is_sparse);
        }
        keep_below(mapping, has_changed);
    }
}

/* Bytes that may become resident in a second from now on. Without small faults the first look after a time in which
 * nothing happened may be late: it would take many looks, which cost where nothing happens. */
static double
greatest_speed(const nd_mapping *mapping)
{
    if (mapping->ceiling.has_small_faults || looked_ns - changed_ns > STILL_NS) {
        return NBYTES_PER_S;
    }
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    processors = processors < 1 ? 1 : processors > MOST_PROCESSORS ? MOST_PROCESSORS : processors;
    return NBYTES_PER_S_AND_PROCESSOR * (double)processors;
}

static int64_t
time_until_next_look(void)
{
    int64_t next = LONGEST_NS;
    for (nd_mapping *mapping = limited; mapping != NULL; mapping = mapping->ceiling.next) {
        if (has_block(mapping)) {
            continue; /* its end leaves nothing resident */
        }
        size_t most = mapping->ceiling.nbytes + ND_CEILING_SLACK, resident = mapping->ceiling.resident;
        double wait = most > resident ? (double)(most - resident) / greatest_speed(mapping) * 1e9 : 0;
        next = wait < (double)next ? (int64_t)wait : next;
    }
    return next < SHORTEST_NS ? SHORTEST_NS : next;
}

/* Where the processors are busy, the kernel lets a thread that asks for short turns have them soon (Linux 6.12), and one
 * that comes first have them at once, where the process has the right to say so. */
static void
ask_for_turns(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
        uint32_t util_min, util_max;
    } turns = {.size = 0};
    enum { TURN_NS = 100 * 1000, FIRST = -20 };
    if (syscall(SYS_sched_getattr, 0, &turns, sizeof turns, 0) < 0 || turns.policy != 0) {
        return; /* what the process runs as was somebody's choice */
    }
    turns.runtime = TURN_NS;
    int32_t nice = turns.nice;
    turns.nice = FIRST;
    if (syscall(SYS_sched_setattr, 0, &turns, 0) < 0) {
        turns.nice = nice;
        syscall(SYS_sched_setattr, 0, &turns, 0); /* else it waits its turn */
    }
}

static void *
watch(void *ignored)
{
    (void)ignored;
    ask_for_turns();
    pthread_mutex_lock(&held);
    while (!is_over) {
        look();
        int64_t until_ns = nd_now_ns() + time_until_next_look();
        struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        pthread_cond_timedwait(&wake, &held, &until);
    }
    pthread_mutex_unlock(&held);
    return NULL;
}

/* Called with `changing`, or in a fork, which has no other thread; the files are open. */
static int
start(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&wake, &attributes);
    pthread_condattr_destroy(&attributes);
    is_over = false;
    /* Signals are for threads that can run Python. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    is_running = status == 0;
    if (!is_running) {
        close_files();
    }
    return status;
}

static void
stop(void)
{
    pthread_mutex_lock(&held);
    is_over = true;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&held);
    pthread_join(thread, NULL);
    is_running = false;
    pthread_cond_destroy(&wake);
    close_files();
}

/* ---- Forks ---- */

static void
before_fork(void)
{
    pthread_mutex_lock(&changing);
    pthread_mutex_lock(&held);
}

static void
after_fork(void)
{
    pthread_mutex_unlock(&held);
    pthread_mutex_unlock(&changing);
}

/* The thread has stayed behind, and what is open tells of the other process. */
static void
in_fork(void)
{
    after_fork();
    if (is_running) {
        is_running = false;
        close_files();
        int status = open_files();
        for (nd_mapping *mapping = limited; mapping != NULL && status == 0; mapping = mapping->ceiling.next) {
            set_faults(mapping, mapping->block == NULL);
        }
        if (status == 0) {
            start(); /* there is nobody to be told of a failure */
        }
    }
}

/* ---- Setting ---- */

void
nd_ceiling_hold(void)
{
    pthread_mutex_lock(&held);
}

void
nd_ceiling_let_go(void)
{
    pthread_mutex_unlock(&held);
}

static void
put(nd_mapping *mapping, size_t nbytes)
{
    pthread_mutex_lock(&held);
    if (mapping->ceiling.nbytes == 0) {
        mapping->ceiling.next = limited;
        limited = mapping;
    }
    mapping->ceiling.nbytes = nbytes;
    shared_nbytes = ask_shared();
    mapping->ceiling.resident = shared_nbytes; /* it is not more, and is counted first */
    mapping->ceiling.is_trusted = false;
    if (!has_block(mapping)) {
        set_faults(mapping, true);
    }
    if (is_running) {
        pthread_cond_signal(&wake);
    }
    pthread_mutex_unlock(&held);
}

static void
take(nd_mapping *mapping)
{
    pthread_mutex_lock(&held);
    for (nd_mapping **each = &limited; *each != NULL; each = &(*each)->ceiling.next) {
        if (*each == mapping) {
            *each = mapping->ceiling.next;
            break;
        }
    }
    if (mapping->ceiling.has_small_faults) {
        set_faults(mapping, false);
    }
    mapping->ceiling.nbytes = 0;
    pthread_mutex_unlock(&held);
}

int
nd_ceiling_set(nd_mapping *mapping, size_t nbytes)
{
    if (nbytes > 0 && mapping->access == ND_COPY) {
        return EINVAL;
    }
    if (nbytes == 0 && mapping->ceiling.nbytes == 0) {
        return 0; /* what every mapping comes to in the end: no lock, and no thread */
    }
    int status = 0;
    pthread_mutex_lock(&changing);
    if (!knows_forks) {
        /* Handlers before a fork run newest first: the guard's lock is then taken after ours. */
        status = nd_guard_know_forks();
        status = status != 0 ? status : pthread_atfork(before_fork, after_fork, in_fork);
        knows_forks = status == 0;
    }
    if (status == 0 && nbytes > 0) {
        status = is_running ? 0 : open_files();
    }
    if (status == 0 && nbytes > 0) {
        put(mapping, nbytes);
        status = is_running ? 0 : start();
    }
    if (status != 0 || nbytes == 0) {
        take(mapping);
    }
    if (limited == NULL && is_running) {
        stop();
    }
    pthread_mutex_unlock(&changing);
    return status;
}
