#define _GNU_SOURCE /* pread, fdatasync, statx */

#include "journal.h"

#include "crc32c.h"
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One sector holds the header, so that it is on the disk as a whole or not at all. */
enum {
    HEADER_NBYTES = 512,
    TABLE_OFFSET = 4096,
    ENTRY_NBYTES = 24,
    MOST_RECORD_NBYTES = 1 << 20,
};
static const char MAGIC[8] = "NDFJRNL1";

/* Places in the header. Its checksum covers what stands behind it. */
enum {
    AT_CHECKSUM = 8,
    AT_TABLE_CHECKSUM = 12,
    AT_SEQUENCE = 16,
    AT_INODE = 24,
    AT_BEFORE = 32,
    AT_AFTER = 40,
    AT_COUNT = 48,
    AT_BORN = 56,
};

static void
put(char *place, uint64_t number, int nbytes)
{
    for (int i = 0; i < nbytes; i++) {
        place[i] = (char)(number >> 8 * i);
    }
}

static uint64_t
get(const char *place, int nbytes)
{
    uint64_t number = 0;
    for (int i = 0; i < nbytes; i++) {
        number |= (uint64_t)(unsigned char)place[i] << 8 * i;
    }
    return number;
}

static int64_t
data_offset(uint64_t count)
{
    int64_t end = TABLE_OFFSET + (int64_t)count * ENTRY_NBYTES;
    return (end + TABLE_OFFSET - 1) / TABLE_OFFSET * TABLE_OFFSET;
}

static size_t
records_in(size_t nbytes)
{
    return (nbytes + MOST_RECORD_NBYTES - 1) / MOST_RECORD_NBYTES;
}

/* Write the data and fill the table. */
static int
write_records(int fd, int64_t place, char *entry, const nd_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t from = 0; from < changes[i].nbytes; from += MOST_RECORD_NBYTES) {
            size_t rest = changes[i].nbytes - from;
            size_t nbytes = rest < MOST_RECORD_NBYTES ? rest : MOST_RECORD_NBYTES;
            put(entry, (uint64_t)changes[i].offset + from, 8);
            put(entry + 8, nbytes, 8);
            put(entry + 16, nd_crc32c(changes[i].bytes + from, nbytes), 4);
            put(entry + 20, 0, 4);
            int status = nd_write(fd, changes[i].bytes + from, nbytes, place);
            if (status != 0) {
                return status;
            }
            entry += ENTRY_NBYTES;
            place += (int64_t)nbytes;
        }
    }
    return 0;
}

int
nd_journal_write(int fd, uint64_t sequence, const nd_target *target, const nd_change *changes, size_t count)
{
    size_t records = 0;
    for (size_t i = 0; i < count; i++) {
        records += records_in(changes[i].nbytes);
    }
    size_t table_nbytes = records * ENTRY_NBYTES;
    char *head = calloc(1, TABLE_OFFSET + table_nbytes);
    if (head == NULL) {
        return ENOMEM;
    }
    int status = write_records(fd, data_offset(records), head + TABLE_OFFSET, changes, count);
    memcpy(head, MAGIC, sizeof MAGIC);
    put(head + AT_TABLE_CHECKSUM, nd_crc32c(head + TABLE_OFFSET, table_nbytes), 4);
    put(head + AT_SEQUENCE, sequence, 8);
    put(head + AT_INODE, target->inode, 8);
    put(head + AT_BEFORE, (uint64_t)target->size_before, 8);
    put(head + AT_AFTER, (uint64_t)target->size_after, 8);
    put(head + AT_COUNT, records, 8);
    put(head + AT_BORN, (uint64_t)target->born_ns, 8);
    put(head + AT_CHECKSUM, nd_crc32c(head + AT_TABLE_CHECKSUM, HEADER_NBYTES - AT_TABLE_CHECKSUM), 4);
    if (status == 0) {
        status = nd_write(fd, head, TABLE_OFFSET + table_nbytes, 0);
    }
    free(head);
    return status != 0 ? status : fdatasync(fd) < 0 ? errno : 0;
}

int
nd_journal_sync_beside(const char *path)
{
    char name[PATH_MAX + sizeof ND_JOURNAL_SUFFIX];
    if (path == NULL || realpath(path, name) == NULL) {
        return 0; /* a file without a name has no journal */
    }
    memcpy(name + strlen(name), ND_JOURNAL_SUFFIX, sizeof ND_JOURNAL_SUFFIX);
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return 0;
    }
    int status = fdatasync(fd) < 0 ? errno : 0;
    close(fd);
    return status;
}

int
nd_journal_revoke(int fd)
{
    char nothing[sizeof MAGIC] = {0};
    return nd_write(fd, nothing, sizeof nothing, 0);
}

/* Read exactly so many bytes; ENODATA where the file ends before. */
static int
read_all(int fd, char *bytes, size_t nbytes, int64_t from)
{
    while (nbytes > 0) {
        ssize_t got = pread(fd, bytes, nbytes, from);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? errno : ENODATA;
        }
        bytes += got;
        nbytes -= (size_t)got;
        from += got;
    }
    return 0;
}

typedef struct {
    nd_target target;
    uint64_t count;
    char *table; /* to be freed */
} contents;

/* The header and the table. ENODATA for what is no whole journal. */
static int
read_head(int fd, contents *found)
{
    char head[HEADER_NBYTES];
    *found = (contents){.table = NULL};
    int status = read_all(fd, head, sizeof head, 0);
    if (status != 0) {
        return status;
    }
    if (memcmp(head, MAGIC, sizeof MAGIC) != 0 ||
        get(head + AT_CHECKSUM, 4) != nd_crc32c(head + AT_TABLE_CHECKSUM, HEADER_NBYTES - AT_TABLE_CHECKSUM)) {
        return ENODATA;
    }
    found->target = (nd_target){
        .inode = get(head + AT_INODE, 8),
        .born_ns = (int64_t)get(head + AT_BORN, 8),
        .size_before = (int64_t)get(head + AT_BEFORE, 8),
        .size_after = (int64_t)get(head + AT_AFTER, 8),
    };
    found->count = get(head + AT_COUNT, 8);
    int64_t size;
    status = nd_regular_size(fd, &size);
    if (status != 0) {
        return status;
    }
    bool has_sizes = found->target.size_before >= 0 && found->target.size_after >= 0;
    if (!has_sizes || size < TABLE_OFFSET || found->count > (uint64_t)(size - TABLE_OFFSET) / ENTRY_NBYTES) {
        return ENODATA;
    }
    size_t nbytes = (size_t)found->count * ENTRY_NBYTES;
    found->table = malloc(nbytes + 1);
    if (found->table == NULL) {
        return ENOMEM;
    }
    status = read_all(fd, found->table, nbytes, TABLE_OFFSET);
    if (status == 0 && get(head + AT_TABLE_CHECKSUM, 4) != nd_crc32c(found->table, nbytes)) {
        status = ENODATA;
    }
    return status;
}

/* Read each record, and change `file` by it unless that is negative. ENODATA for a record that is not whole. */
static int
walk(int fd, int file, const contents *found)
{
    char *bytes = malloc(MOST_RECORD_NBYTES);
    int status = bytes == NULL ? ENOMEM : 0;
    int64_t place = data_offset(found->count);
    for (uint64_t i = 0; i < found->count && status == 0; i++) {
        const char *entry = found->table + i * ENTRY_NBYTES;
        uint64_t offset = get(entry, 8), nbytes = get(entry + 8, 8);
        if (nbytes > MOST_RECORD_NBYTES || offset > (uint64_t)found->target.size_after ||
            nbytes > (uint64_t)found->target.size_after - offset) {
            status = ENODATA;
            break;
        }
        status = read_all(fd, bytes, (size_t)nbytes, place);
        if (status == 0 && get(entry + 16, 4) != nd_crc32c(bytes, (size_t)nbytes)) {
            status = ENODATA;
        }
        if (status == 0 && file >= 0) {
            status = nd_write(file, bytes, (size_t)nbytes, (int64_t)offset);
        }
        place += (int64_t)nbytes;
    }
    free(bytes);
    return status;
}

int
nd_identify(int file, nd_target *target)
{
    struct statx status;
    if (statx(file, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) < 0) {
        return errno;
    }
    bool is_known = (status.stx_mask & STATX_BTIME) != 0;
    target->inode = status.stx_ino;
    target->born_ns = is_known ? status.stx_btime.tv_sec * INT64_C(1000000000) + status.stx_btime.tv_nsec : 0;
    return 0;
}

/* A commit that was interrupted has left its file with the size before, or the one after, or one between. */
static int
is_for(const nd_target *target, int file, bool *is_own)
{
    nd_target own;
    int64_t size;
    int status = nd_identify(file, &own);
    status = status != 0 ? status : nd_regular_size(file, &size);
    if (status == 0) {
        int64_t least = target->size_before < target->size_after ? target->size_before : target->size_after;
        int64_t most = target->size_before > target->size_after ? target->size_before : target->size_after;
        *is_own = own.inode == target->inode && own.born_ns == target->born_ns && size >= least && size <= most;
    }
    return status;
}

int
nd_journal_look(int fd, int file, nd_journal_state *state)
{
    contents found;
    *state = ND_INCOMPLETE;
    int status = read_head(fd, &found);
    if (status == 0) {
        status = walk(fd, -1, &found);
    }
    free(found.table);
    bool is_own;
    if (status == 0 && (status = is_for(&found.target, file, &is_own)) == 0) {
        *state = is_own ? ND_PENDING : ND_FOREIGN;
    }
    return status == ENODATA ? 0 : status;
}

/* Give the file its size, and wait for the disk. */
static int
finish(int file, const nd_target *target)
{
    int64_t size;
    int status = nd_regular_size(file, &size);
    if (status == 0 && size != target->size_after && ftruncate(file, target->size_after) < 0) {
        status = errno;
    }
    return status != 0 ? status : fdatasync(file) < 0 ? errno : 0;
}

int
nd_journal_replay(int journal, int file)
{
    contents found;
    int64_t size;
    int status = read_head(journal, &found);
    status = status != 0 ? status : nd_regular_size(file, &size);
    /* First, for a size that the file system does not take is to be told before anything has changed. */
    if (status == 0 && size < found.target.size_after && ftruncate(file, found.target.size_after) < 0) {
        status = errno;
    }
    if (status == 0) {
        status = walk(journal, file, &found);
    }
    free(found.table);
    return status != 0 ? status : finish(file, &found.target);
}

int
nd_change_file(int file, const nd_target *target, const nd_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int status = nd_write(file, changes[i].bytes, changes[i].nbytes, changes[i].offset);
        if (status != 0) {
            return status;
        }
    }
    return finish(file, target);
}
