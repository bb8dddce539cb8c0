/* An atomic block: changes to a mapping that reach its file together or not at all.
 *
 * While it is open the pages are private, at the same addresses: a store copies its page, and nobody else sees it. At its
 * end the page map names the copies, and they go to the journal and from there into the file. Meanwhile stores of other
 * threads wait in the fault handler, so that none falls between the two sides.
 *
 * No Python in here. Functions return 0 or an errno value.
 */
#ifndef NDFILE_BLOCK_H
#define NDFILE_BLOCK_H

#include "journal.h"
#include "mapping.h"

#include <pthread.h>

typedef enum {
    ND_BLOCK_OPEN,
    ND_BLOCK_FROZEN, /* stores wait */
    ND_BLOCK_FULL,   /* stores fail: as many bytes are changed as may be */
} nd_block_state;

struct nd_block {
    _Atomic int state;
    char *file_end;    /* pages from here on have no bytes in the file */
    char *private_end; /* pages from here on are not the block's */
    size_t nbytes;     /* of the mapping, before */
    int64_t file_size; /* before */
    size_t limit;      /* most bytes of changed pages */
    int page_map;
    _Atomic bool is_too_large; /* the limit was passed: the block cannot be committed */
    bool is_watched;
    bool is_over;
    pid_t owner; /* the process that the watcher is in */
    pthread_t watcher;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
};

/* Open a block on a mapping of access ND_WRITE that has none. A thread looks after the limit only if the mapping is
 * larger than that. */
int nd_block_begin(nd_mapping *mapping, size_t limit);

/* Make room for the mapping to have `nbytes` in the block. */
int nd_block_extend(nd_mapping *mapping, size_t nbytes);

/* How far a commit came. */
typedef enum {
    ND_NOT_DURABLE, /* nothing has changed, the block is still open */
    ND_DURABLE,     /* the changes are in the journal, which replays them; the block is over */
    ND_DONE,        /* and in the file */
} nd_commit_stage;

/* End the block with its changes in the file, which then has `size` bytes, by way of the journal in `journal`. */
int nd_block_commit(nd_mapping *mapping, int journal, uint64_t sequence, int64_t size, nd_commit_stage *stage);

/* End the block without its changes. The mapping has its old size. */
int nd_block_roll_back(nd_mapping *mapping);

/* Forget the block of a mapping whose pages are gone. */
void nd_block_drop(nd_mapping *mapping);

#endif
