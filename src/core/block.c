#define _GNU_SOURCE /* SEEK_HOLE, fallocate */

#include "block.h"

#include "ceiling.h"
#include "changed_pages.h"
#include "guard.h"
#include "lost.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- The limit ---- */

/* How often the changed pages are counted. In this time a thread copies some dozen MiB. */
enum { WATCH_PAUSE_NS = 10 * 1000 * 1000 };

static void
set_state(nd_mapping *mapping, nd_block_state state)
{
    nd_block *block = mapping->block;
    nd_guard_lock();
    block->state = state;
    /* Without the handler a store would end the process: then it is let go on. */
    if (nd_guard_is_on() && mapping->lost.count == 0) {
        int prot = state == ND_BLOCK_OPEN ? PROT_READ | PROT_WRITE : PROT_READ;
        /* SAFE: the block's own private pages; the handler knows what a store into them means. */
        mprotect(mapping->range, (size_t)(block->private_end - mapping->range), prot);
    }
    nd_guard_unlock();
}

static void *
watch(void *argument)
{
    nd_mapping *mapping = argument;
    nd_block *block = mapping->block;
    pthread_mutex_lock(&block->mutex);
    while (!block->is_over && block->state == ND_BLOCK_OPEN) {
        size_t nbytes;
        nd_guard_lock();
        char *end = block->private_end;
        nd_guard_unlock();
        int status = nd_count_changed(block->page_map, mapping->range, end, &nbytes);
        if (status == 0 && nbytes > block->limit) {
            block->is_too_large = true;
            set_state(mapping, ND_BLOCK_FULL);
            break;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WATCH_PAUSE_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&block->ended, &block->mutex, &until);
    }
    pthread_mutex_unlock(&block->mutex);
    return NULL;
}

static int
start_watching(nd_mapping *mapping)
{
    nd_block *block = mapping->block;
    /* Signals are for threads that can run Python. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&block->watcher, NULL, watch, mapping);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    block->is_watched = status == 0;
    return status;
}

static void
stop_watching(nd_block *block)
{
    if (!block->is_watched || block->owner != getpid()) {
        return; /* a fork has no watcher */
    }
    pthread_mutex_lock(&block->mutex);
    block->is_over = true;
    pthread_cond_signal(&block->ended);
    pthread_mutex_unlock(&block->mutex);
    pthread_join(block->watcher, NULL);
    block->is_watched = false;
}

/* ---- Beginning ---- */

static size_t
in_pages(int64_t nbytes)
{
    size_t page = nd_page_size();
    return ((size_t)nbytes + page - 1) / page * page;
}

static int
map_private(const nd_mapping *mapping, char *from, char *to)
{
    /* SAFE: MAP_FIXED inside a range of ours, replaced in one step: a store of another thread goes to the file's page or
     * to its copy. */
    void *pages = mmap(from, (size_t)(to - from), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED,
                       mapping->fd, nd_file_offset(mapping, from));
    return pages == MAP_FAILED ? errno : 0;
}

static void
free_block(nd_mapping *mapping)
{
    nd_block *block = mapping->block;
    nd_guard_lock();
    mapping->block = NULL;
    mapping->file_nbytes = mapping->nbytes;
    nd_guard_unlock();
    if (block->owner == getpid()) { /* in a fork it would wait for a watcher that is not there */
        pthread_cond_destroy(&block->ended);
        pthread_mutex_destroy(&block->mutex);
    }
    close(block->page_map);
    free(block);
}

static nd_block *
new_block(const nd_mapping *mapping, size_t limit, int64_t file_size)
{
    nd_block *block = calloc(1, sizeof *block);
    if (block == NULL) {
        return NULL;
    }
    block->page_map = nd_open_page_map();
    if (block->page_map < 0) {
        int failure = errno;
        free(block);
        errno = failure;
        return NULL;
    }
    size_t lead = (size_t)(mapping->data - mapping->range);
    int64_t behind = file_size - mapping->offset;
    char *file_end = mapping->range + in_pages((int64_t)lead + (behind > 0 ? behind : 0));
    char *range_end = mapping->range + mapping->range_size;
    block->file_end = file_end < range_end ? file_end : range_end;
    block->private_end = block->file_end;
    block->nbytes = mapping->nbytes;
    block->file_size = file_size;
    block->limit = limit;
    block->owner = getpid();
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&block->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&block->mutex, NULL);
    return block;
}

int
nd_block_begin(nd_mapping *mapping, size_t limit)
{
    int64_t file_size;
    int status = nd_regular_size(mapping->fd, &file_size);
    if (status != 0) {
        return status;
    }
    nd_block *block = new_block(mapping, limit, file_size);
    if (block == NULL) {
        return errno;
    }
    /* Known before the pages are private, so that nothing of the file's is thought to be in them. */
    nd_ceiling_hold(); /* pages that are being let go of are still the file's */
    nd_guard_lock();
    mapping->block = block;
    nd_guard_unlock();
    nd_ceiling_let_go();
    if (block->private_end > mapping->range) {
        status = map_private(mapping, mapping->range, block->private_end);
    }
    if (status == 0 && (size_t)(block->private_end - mapping->range) > limit) {
        status = start_watching(mapping);
    }
    if (status != 0) {
        nd_block_roll_back(mapping);
    }
    return status;
}

int
nd_block_extend(nd_mapping *mapping, size_t nbytes)
{
    nd_block *block = mapping->block;
    if (nbytes > nd_most_nbytes(mapping)) {
        return ENOMEM;
    }
    char *end = mapping->range + in_pages(mapping->data + nbytes - mapping->range);
    if (end <= block->private_end) {
        return 0;
    }
    if ((size_t)(end - block->private_end) > block->limit) {
        block->is_too_large = true;
        return ENOMEM;
    }
    nd_guard_lock();
    int status = nd_lost_regain(mapping); /* what is behind the end may have been looked at */
    nd_guard_unlock();
    if (status != 0) {
        return status;
    }
    /* SAFE: pages behind the file's last, inside a range of ours. */
    void *pages = mmap(block->private_end, (size_t)(end - block->private_end), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (pages == MAP_FAILED) {
        return errno;
    }
    nd_guard_lock();
    block->private_end = end;
    nd_guard_unlock();
    if (!block->is_watched && (size_t)(end - mapping->range) > block->limit) {
        return start_watching(mapping);
    }
    return 0;
}

/* ---- Ending ---- */

/* Share the pages with the file again, all of the range. If that cannot be, they are lost: private ones would take what
 * the file never sees. */
static int
map_shared(nd_mapping *mapping)
{
    char *end = mapping->range + mapping->range_size;
    int status = nd_map_again(mapping, mapping->fd, mapping->range, end);
    if (status != 0) {
        status = nd_map_again(mapping, mapping->fd, mapping->range, end);
    }
    if (status != 0) {
        nd_guard_mark(mapping, ND_READ_FAILED, mapping->offset);
        nd_guard_lock();
        if (nd_lost_all(mapping) != 0) {
            /* No more than to show what the file has. */
            madvise(mapping->range, (size_t)(mapping->block->private_end - mapping->range), MADV_DONTNEED);
            mprotect(mapping->range, (size_t)(mapping->block->private_end - mapping->range), PROT_READ | PROT_WRITE);
        }
        nd_guard_unlock();
    }
    return status;
}

/* Note a change, as far as the file is to reach. */
static void
note(nd_change *list, size_t *count, const nd_mapping *mapping, const char *from, const char *to, int64_t size)
{
    int64_t offset = nd_file_offset(mapping, from);
    size_t nbytes = (size_t)(to - from);
    if (to <= from || offset >= size) {
        return;
    }
    if (nbytes > (uint64_t)(size - offset)) {
        nbytes = (size_t)(size - offset);
    }
    list[(*count)++] = (nd_change){.offset = offset, .nbytes = nbytes, .bytes = from};
}

/* The copies as changes to the file. What stands before the data comes last: a header says how many rows there are, and
 * whoever looks meanwhile is to find them. */
static int
find_changes(nd_mapping *mapping, int64_t size, nd_change **changes, size_t *count)
{
    nd_block *block = mapping->block;
    nd_changed changed = {.spans = NULL};
    int status = nd_find_changed(block->page_map, mapping->range, block->private_end, &changed);
    if (status == 0 && changed.nbytes > block->limit) {
        block->is_too_large = true;
        status = ENOMEM;
    }
    nd_change *list = status == 0 ? malloc((2 * changed.count + 1) * sizeof *list) : NULL;
    if (status == 0 && list == NULL) {
        status = ENOMEM;
    }
    *count = 0;
    for (int is_head = 0; is_head < 2 && status == 0; is_head++) {
        for (size_t i = 0; i < changed.count; i++) {
            const char *from = changed.spans[i].from, *to = changed.spans[i].to, *data = mapping->data;
            if (is_head) {
                note(list, count, mapping, from, to < data ? to : data, size);
            }
            else {
                note(list, count, mapping, from > data ? from : data, to, size);
            }
        }
    }
    free(changed.spans);
    *changes = list;
    return status;
}

/* Blocks for everything that is to be written: once the journal is durable nothing may be in the way. The file's size
 * stays. */
static int
reserve_blocks(const nd_mapping *mapping, int64_t size, const nd_change *changes, size_t count)
{
    int64_t before = mapping->block->file_size;
    off_t position = lseek(mapping->fd, 0, SEEK_CUR); /* may be that of a file object of the user's too */
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        int64_t end = changes[i].offset + (int64_t)changes[i].nbytes;
        off_t hole = end > before ? changes[i].offset : lseek(mapping->fd, changes[i].offset, SEEK_HOLE);
        if (hole >= 0 && hole < end) {
            status = nd_allocate(mapping->fd, changes[i].offset, (int64_t)changes[i].nbytes, true);
        }
    }
    if (status == 0 && size > before) {
        status = nd_allocate(mapping->fd, before, size - before, true);
    }
    lseek(mapping->fd, position, SEEK_SET);
    return status == EOPNOTSUPP || status == ENOSYS ? 0 : status;
}

/* Give back the blocks behind the file's end. */
static void
trim(const nd_mapping *mapping, int64_t size)
{
    if (size > mapping->block->file_size && ftruncate(mapping->fd, mapping->block->file_size) < 0) {
        return; /* they are only space, and go when the file is next cut */
    }
}

static int
commit(nd_mapping *mapping, int journal, uint64_t sequence, int64_t size, nd_commit_stage *stage)
{
    nd_block *block = mapping->block;
    nd_change *changes = NULL;
    size_t count = 0;
    int64_t journal_size = 0;
    int status = nd_regular_size(journal, &journal_size);
    status = status != 0 ? status : find_changes(mapping, size, &changes, &count);
    if (status == 0 && count == 0 && size == block->file_size) {
        *stage = ND_DONE;
    }
    else if (status == 0) {
        nd_target target = {.size_before = block->file_size, .size_after = size};
        status = nd_identify(mapping->fd, &target);
        status = status != 0 ? status : reserve_blocks(mapping, size, changes, count);
        if (status == 0) {
            status = nd_journal_write(journal, sequence, &target, changes, count);
        }
        if (status != 0) {
            /* Whatever of it is on the disk, it must not come true later. */
            nd_journal_revoke(journal);
            (void)!ftruncate(journal, journal_size); /* the space that it took */
            (void)!fdatasync(journal); /* if this fails too, the next sync of the array tries again */
            trim(mapping, size);
        }
        else {
            *stage = ND_DURABLE;
            status = nd_change_file(mapping->fd, &target, changes, count);
        }
        if (status == 0) {
            /* A journal that stays complete would undo what is changed after this. */
            status = nd_journal_revoke(journal);
            *stage = status == 0 ? ND_DONE : ND_DURABLE;
        }
    }
    free(changes);
    return status;
}

int
nd_block_commit(nd_mapping *mapping, int journal, uint64_t sequence, int64_t size, nd_commit_stage *stage)
{
    nd_block *block = mapping->block;
    *stage = ND_NOT_DURABLE;
    stop_watching(block);
    if (block->is_too_large) {
        return ENOMEM;
    }
    set_state(mapping, ND_BLOCK_FROZEN);
    int status = commit(mapping, journal, sequence, size, stage);
    if (*stage == ND_NOT_DURABLE) {
        set_state(mapping, ND_BLOCK_OPEN);
        return status;
    }
    int mapped = map_shared(mapping);
    free_block(mapping);
    return status != 0 ? status : mapped;
}

int
nd_block_roll_back(nd_mapping *mapping)
{
    nd_block *block = mapping->block;
    stop_watching(block);
    nd_guard_lock();
    nd_lost_arm(mapping);
    bool is_whole = mapping->fault.cause == ND_NO_FAULT;
    if (is_whole) {
        mapping->lost.count = 0; /* what was behind the end; all of the range is the file's again below */
    }
    mapping->nbytes = block->nbytes;
    nd_guard_unlock();
    /* A mapping that has lost pages keeps them lost. */
    int status = is_whole ? map_shared(mapping) : 0;
    free_block(mapping);
    return status;
}

void
nd_block_drop(nd_mapping *mapping)
{
    if (mapping->block != NULL) {
        stop_watching(mapping->block);
        free_block(mapping);
    }
}
