/* The guard: faults in ranges of ours become errors, all others go where they went before.
 *
 * A fault is handled where it happens, inside the signal handler: the lost pages are replaced, the thread is told, and
 * the interrupted instruction runs again. Nothing here calls malloc, takes a lock that ordinary code may hold, or knows
 * Python; the notifier given to nd_guard_install makes an exception of it.
 */
#ifndef NDFILE_GUARD_H
#define NDFILE_GUARD_H

#include "mapping.h"

#include <limits.h>

/* What a thread is told. */
typedef struct {
    nd_cause cause;
    int64_t offset; /* first byte of the file that is concerned */
    uint64_t mapping_id;
    char path[PATH_MAX]; /* empty for a file without a name */
} nd_fault;

/* Called in the handler, in the thread that faulted. */
typedef void (*nd_notifier)(nd_cause cause);

/* Put the handler on top of those for SIGBUS and SIGSEGV, if it is not there. Cheap enough for every opening. */
int nd_guard_install(nd_notifier notifier);

/* Take the handler away where it is on top, and ignore faults until it is installed again. */
void nd_guard_remove(void);

bool nd_guard_is_on(void);

/* Let forks wait for the guard's lock. Comes before other locks' handlers, so that those are taken first. */
int nd_guard_know_forks(void);

/* Know a mapping, and forget it. Between nd_map and nd_unmap; dropping one that is not mapped does nothing. */
void nd_guard_add(nd_mapping *mapping);
void nd_guard_drop(nd_mapping *mapping);

/* Note that something went wrong with the mapping's bytes, if it is the first time. */
void nd_guard_mark(nd_mapping *mapping, nd_cause cause, int64_t offset);

/* Let the mapping have `nbytes`, of a file that has them or will. ENOMEM where the range is too small. Nothing moves. */
int nd_guard_resize(nd_mapping *mapping, size_t nbytes);

/* Give back the file, but keep the addresses. With the guard on, touching them is a fault; without, they read as zeros,
 * since a left-over view must not crash. `forget` as in nd_close_file. */
int nd_guard_vacate(nd_mapping *mapping, bool forget);

/* Exclude the handler, and the handlers of other threads. Never touch mapped bytes in between. */
void nd_guard_lock(void);
void nd_guard_unlock(void);

/* True if this thread has a fault that nobody has taken. One load: it stands after every operation. */
#define ND_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
extern ND_THREAD_LOCAL int nd_pending;

static inline bool
nd_fault_is_pending(void)
{
    return __builtin_expect(nd_pending != 0, 0);
}

/* Give this thread's fault away, and take it in another thread; a number for the way between. A thread that has one
 * already keeps that, and the other is settled. */
int nd_fault_hand_over(void);
void nd_fault_take_over(int number);

/* Do not call the notifier in this thread: it gives its faults away when it ends. */
void nd_fault_keep_quiet(void);

/* Take this thread's fault, and make all pages that it has opened fault again. False if there is none. */
bool nd_fault_take(nd_fault *fault);

#endif
