/* What is done to a mapping's file, with failures raised: the acts that the types above share. */
#include "core.h"
#include "fault_error.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

int
mapping_raise_errno(MappingObject *self, int status)
{
    errno = status;
    if (self->filename == Py_None) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, self->filename);
    }
    return -1;
}

/* ---- Use without the interpreter's lock ---- */

/* A fork has the numbers of the calls of other threads, but not those threads. */
static void
forget_other_processes(MappingObject *self)
{
    pid_t process = getpid();
    if (self->user != process) {
        self->user = process;
        self->in_use = self->passing_by = self->waiting = 0;
    }
}

static void
let_others_run(void)
{
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&(struct timespec){.tv_nsec = 1000 * 1000}, NULL);
    Py_END_ALLOW_THREADS
}

void
mapping_begin_use(MappingObject *self, bool passes_by)
{
    forget_other_processes(self);
    /* Whoever waits would never come where others begin anew all the time. */
    while (passes_by && self->waiting > 0) {
        let_others_run();
    }
    self->in_use++;
    self->passing_by += passes_by;
}

void
mapping_end_use(MappingObject *self, bool passes_by)
{
    self->in_use--;
    self->passing_by -= passes_by;
}

void
mapping_wait_until_unused(MappingObject *self)
{
    forget_other_processes(self);
    while (self->in_use > 0) {
        let_others_run();
    }
}

void
mapping_wait_until_not_passed_by(MappingObject *self)
{
    forget_other_processes(self);
    self->waiting++;
    while (self->passing_by > 0) {
        let_others_run();
    }
    self->waiting--;
}

/* ---- Acts ---- */

int
mapping_settle(MappingObject *self)
{
    if (self->journal < 0) {
        return nd_journal_sync_beside(self->map.path);
    }
    if (!self->journal_is_revoked) {
        return 0;
    }
    int status = fdatasync(self->journal) < 0 ? errno : 0;
    self->journal_is_revoked = status != 0;
    return status;
}

/* A file that was cut inside a page gives no fault, so its size is compared. */
static int
check_size(MappingObject *self, const char *act)
{
    int64_t size;
    if (self->map.file_nbytes > 0 && nd_size_now(&self->map, &size) && size < mapping_end_in_file(self)) {
        nd_guard_mark(&self->map, ND_TRUNCATED, size);
    }
    nd_guard_lock();
    bool is_whole = self->map.fault.cause == ND_NO_FAULT;
    nd_guard_unlock();
    return is_whole ? 0 : fault_raise(self, act);
}

int
mapping_check(MappingObject *self, const char *act)
{
    return self->closed ? fault_raise(self, act) : check_size(self, act);
}

int
mapping_check_synced(MappingObject *self)
{
    return self->sync_failure == 0 ? 0 : mapping_raise_errno(self, self->sync_failure);
}

/* False where no change of ours is the disk's business: in modes that only read, and before the end of a block. */
static bool
is_to_be_synced(const MappingObject *self)
{
    return self->map.access == ND_WRITE && self->map.block == NULL;
}

/* Take the outcome of a sync. After a failed write the kernel forgets which pages were concerned, and later calls succeed:
 * the first failure is kept and answered again. Another thread may have had it meanwhile. */
static int
synced(MappingObject *self, int status)
{
    if (self->sync_failure == 0) {
        self->sync_failure = status;
    }
    return mapping_check_synced(self);
}

int
mapping_flush(MappingObject *self, size_t from, size_t nbytes)
{
    if (self->closed) {
        return fault_raise(self, "flush");
    }
    if (!is_to_be_synced(self)) {
        return 0;
    }
    if (mapping_check_synced(self) < 0 || check_size(self, "flush") < 0) {
        return -1;
    }
    int status;
    mapping_begin_use(self, false);
    Py_BEGIN_ALLOW_THREADS
    status = mapping_settle(self);
    status = status != 0 ? status : nd_sync(&self->map, from, nbytes);
    Py_END_ALLOW_THREADS
    mapping_end_use(self, false);
    return synced(self, status);
}

int
mapping_sync_data(MappingObject *self)
{
    if (self->closed) {
        return fault_raise(self, "sync");
    }
    if (!is_to_be_synced(self)) {
        return 0;
    }
    if (mapping_check_synced(self) < 0) {
        return -1;
    }
    int status;
    mapping_begin_use(self, false);
    Py_BEGIN_ALLOW_THREADS
    status = mapping_settle(self);
    status = status != 0 ? status : fdatasync(self->map.fd) < 0 ? errno : 0;
    Py_END_ALLOW_THREADS
    mapping_end_use(self, false);
    return synced(self, status);
}

int
mapping_sync(MappingObject *self)
{
    if (mapping_flush(self, 0, self->map.nbytes) < 0) {
        return -1;
    }
    if (!is_to_be_synced(self)) {
        return 0;
    }
    int status;
    mapping_begin_use(self, false);
    Py_BEGIN_ALLOW_THREADS
    status = nd_sync_file(&self->map);
    Py_END_ALLOW_THREADS
    mapping_end_use(self, false);
    return synced(self, status);
}
