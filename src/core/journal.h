/* A redo journal: what is to be changed in a file, on the disk before any of it is changed there. docs/journal.md
 * specifies the bytes.
 *
 * No Python in here. Functions return 0 or an errno value.
 */
#ifndef NDFILE_JOURNAL_H
#define NDFILE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* New bytes for a place in the file. */
typedef struct {
    int64_t offset;
    size_t nbytes;
    const char *bytes;
} nd_change;

/* What a journal is for: the file, its size before the changes and after them. */
typedef struct {
    uint64_t inode;
    int64_t born_ns; /* when the file was made, since numbers of inodes are used again; 0 where nobody knows */
    int64_t size_before, size_after;
} nd_target;

/* Name the file in a target. */
int nd_identify(int file, nd_target *target);

/* Write a complete journal over whatever is in `fd`, and wait until the disk has it. */
int nd_journal_write(int fd, uint64_t sequence, const nd_target *target, const nd_change *changes, size_t count);

/* Let the disk have what was done last to the journal of the file at `path`, if there is one. Another opening may have
 * committed, and its journal would undo what is flushed after that. */
int nd_journal_sync_beside(const char *path);

/* Make the journal incomplete, in memory. */
int nd_journal_revoke(int fd);

typedef enum {
    ND_INCOMPLETE, /* never came true */
    ND_PENDING,    /* to be replayed */
    ND_FOREIGN,    /* complete, but of another file, or of a size that its commit cannot have left */
} nd_journal_state;

/* What the journal is to the file. EIO and the like only: an incomplete journal is no failure. */
int nd_journal_look(int fd, int file, nd_journal_state *state);

/* Bring the changes of a complete journal into the file, which gets its new size, and wait until the disk has them. */
int nd_journal_replay(int journal, int file);

/* Change a file, give it the size that it is to have, and wait until the disk has both. */
int nd_change_file(int file, const nd_target *target, const nd_change *changes, size_t count);

#endif
