#define _GNU_SOURCE /* REG_ERR, SA_ONSTACK */

#include "guard.h"

#include "lost.h"
#include "write_fault.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* The known mappings, newest first. Faults are rare: a walk is fast enough, and needs no memory of its own. */
static nd_mapping *known;

static atomic_flag locked = ATOMIC_FLAG_INIT;

static const int SIGNALS[] = {SIGBUS, SIGSEGV};
enum { SIGNAL_COUNT = 2 };
static struct sigaction displaced[SIGNAL_COUNT]; /* what our handler stands on */
static struct sigaction original[SIGNAL_COUNT];  /* what was there before the first time */
static bool was_installed;
static atomic_bool is_on;
static _Atomic(nd_notifier) notify;

/* Where on its stack this thread is handing on each of SIGNALS: a handler that we call may raise the signal once more.
 * It may also jump out, so only what comes from deeper down is that. */
static ND_THREAD_LOCAL char *handing_on[SIGNAL_COUNT];

void
nd_guard_lock(void)
{
    while (atomic_flag_test_and_set_explicit(&locked, memory_order_acquire)) {
        sched_yield();
    }
}

void
nd_guard_unlock(void)
{
    atomic_flag_clear_explicit(&locked, memory_order_release);
}

void
nd_guard_add(nd_mapping *mapping)
{
    nd_guard_lock();
    mapping->previous = NULL;
    mapping->next = known;
    if (known != NULL) {
        known->previous = mapping;
    }
    known = mapping;
    nd_guard_unlock();
}

void
nd_guard_drop(nd_mapping *mapping)
{
    if (mapping->range == NULL) {
        return;
    }
    nd_guard_lock();
    nd_lost_forget(mapping);
    if (mapping->previous != NULL) {
        mapping->previous->next = mapping->next;
    }
    else {
        known = mapping->next;
    }
    if (mapping->next != NULL) {
        mapping->next->previous = mapping->previous;
    }
    nd_guard_unlock();
}

void
nd_guard_mark(nd_mapping *mapping, nd_cause cause, int64_t offset)
{
    nd_guard_lock();
    if (mapping->fault.cause == ND_NO_FAULT) {
        mapping->fault = (nd_damage){.cause = cause, .offset = offset};
    }
    nd_guard_unlock();
}

int
nd_guard_resize(nd_mapping *mapping, size_t nbytes)
{
    if (nbytes > nd_most_nbytes(mapping)) {
        return ENOMEM;
    }
    nd_guard_lock();
    /* A file that was cut where its writer has made the array shorter has lost nothing. */
    if (nbytes < mapping->nbytes && mapping->fault.cause == ND_TRUNCATED &&
        mapping->fault.offset >= mapping->offset + (int64_t)nbytes) {
        mapping->fault = (nd_damage){.cause = ND_NO_FAULT};
    }
    int status = nbytes > mapping->nbytes && mapping->fault.cause == ND_NO_FAULT ? nd_lost_regain(mapping) : 0;
    if (status == 0) {
        mapping->nbytes = nbytes;
        mapping->file_nbytes = mapping->block == NULL || nbytes < mapping->file_nbytes ? nbytes : mapping->file_nbytes;
    }
    nd_guard_unlock();
    return status;
}

int
nd_guard_vacate(nd_mapping *mapping, bool forget)
{
    nd_guard_lock();
    int status = nd_guard_is_on() ? nd_lost_all(mapping) : nd_blank(mapping);
    if (status == 0) {
        mapping->fault = (nd_damage){.cause = ND_CLOSED, .offset = mapping->offset};
    }
    nd_guard_unlock();
    if (status == 0) {
        nd_close_file(mapping, forget);
    }
    return status;
}

/* ---- What a thread has been told ---- */

enum { FAULT_COUNT = 256 };

/* Faults on their way from the handler to an exception. Not thread-local: a path is long, a thread's own memory in an
 * extension module short. A record is in use from nd_pending's being set to its being taken. */
static nd_fault faults[FAULT_COUNT];
static bool fault_in_use[FAULT_COUNT];

ND_THREAD_LOCAL int nd_pending; /* 1 + the index of this thread's record */

/* Called with the lock. A thread that has not yet taken its first fault keeps that one. */
static void
tell_thread(nd_mapping *mapping, nd_cause cause, int64_t offset)
{
    if (nd_pending != 0) {
        return;
    }
    int index = 0;
    while (index < FAULT_COUNT - 1 && fault_in_use[index]) {
        index++;
    }
    /* With more threads than records the last one is shared: each gets an error, perhaps with another's facts. */
    fault_in_use[index] = true;
    nd_pending = index + 1;
    nd_fault *fault = &faults[index];
    fault->cause = cause;
    fault->offset = offset;
    fault->mapping_id = mapping->id;
    fault->path[0] = '\0';
    if (mapping->path != NULL) {
        strncat(fault->path, mapping->path, PATH_MAX - 1);
    }
}

/* Give a record back, after a copy to `fault` unless that is NULL. */
static void
settle(int number, nd_fault *fault)
{
    nd_guard_lock();
    uint64_t id = faults[number - 1].mapping_id;
    if (fault != NULL) {
        *fault = faults[number - 1];
    }
    fault_in_use[number - 1] = false;
    for (nd_mapping *mapping = known; mapping != NULL; mapping = mapping->next) {
        if (mapping->id == id || nd_lost_is_opened_here(mapping)) {
            nd_lost_arm(mapping);
        }
    }
    nd_guard_unlock();
}

bool
nd_fault_take(nd_fault *fault)
{
    if (nd_pending == 0) {
        return false;
    }
    int number = nd_pending;
    nd_pending = 0;
    settle(number, fault);
    return true;
}

int
nd_fault_hand_over(void)
{
    int number = nd_pending;
    nd_pending = 0;
    return number;
}

static ND_THREAD_LOCAL bool is_quiet;

void
nd_fault_keep_quiet(void)
{
    is_quiet = true;
}

void
nd_fault_take_over(int number)
{
    if (nd_pending == 0) {
        nd_pending = number;
        return;
    }
    settle(number, NULL);
}

/* ---- The handler ---- */

static nd_mapping *
find(const char *address)
{
    for (nd_mapping *mapping = known; mapping != NULL; mapping = mapping->next) {
        if (address >= mapping->range && address < mapping->range + mapping->range_size) {
            return mapping;
        }
    }
    return NULL;
}

/* A store that had to wait is tried again after so long. */
enum { HOLD_UP_NS = 50 * 1000 };

/* True if the fault was ours and the instruction may run again. */
static bool
answer(int signal, siginfo_t *info, void *context)
{
    if (info->si_code <= 0 || !atomic_load(&is_on)) {
        return false; /* sent by a process, not by an instruction */
    }
    char *address = info->si_addr;
    nd_cause cause = ND_NO_FAULT;
    nd_guard_lock();
    nd_mapping *mapping = find(address);
    if (mapping != NULL) {
        int64_t offset = 0;
        cause = nd_lost_answer(mapping, address, signal == SIGBUS, nd_is_write_fault(context), &offset);
        if (cause != ND_NO_FAULT && cause != ND_HELD_UP) {
            tell_thread(mapping, cause, offset);
        }
    }
    nd_guard_unlock();
    if (cause == ND_NO_FAULT) {
        return false;
    }
    if (cause == ND_HELD_UP) {
        nanosleep(&(struct timespec){.tv_nsec = HOLD_UP_NS}, NULL);
        return true;
    }
    if (!is_quiet) {
        nd_notifier told = atomic_load(&notify);
        told(cause);
    }
    return true;
}

/* Let the signal do what it would have done without us. */
static void
hand_on(int signal, siginfo_t *info, void *context)
{
    int which = signal == SIGBUS ? 0 : 1;
    char here;
    bool is_again = handing_on[which] != NULL && &here < handing_on[which];
    struct sigaction *action = is_again ? &original[which] : &displaced[which];
    bool was_sent = info->si_code <= 0;
    if (!(action->sa_flags & SA_SIGINFO) && (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN)) {
        if (was_sent && action->sa_handler == SIG_IGN) {
            return;
        }
        /* The instruction runs again and faults again, now without us: the process ends at the true place. */
        sigaction(signal, action, NULL);
        if (was_sent) {
            raise(signal);
        }
        return;
    }
    struct sigaction called = *action;
    if (called.sa_flags & SA_RESETHAND) {
        action->sa_handler = SIG_DFL;
        action->sa_flags = 0;
    }
    sigset_t mask = called.sa_mask, before;
    if (!(called.sa_flags & SA_NODEFER)) {
        sigaddset(&mask, signal);
    }
    else {
        sigset_t self;
        sigemptyset(&self);
        sigaddset(&self, signal);
        pthread_sigmask(SIG_UNBLOCK, &self, NULL);
    }
    pthread_sigmask(SIG_BLOCK, &mask, &before);
    char *outer = handing_on[which];
    handing_on[which] = &here;
    if (called.sa_flags & SA_SIGINFO) {
        called.sa_sigaction(signal, info, context);
    }
    else {
        called.sa_handler(signal);
    }
    handing_on[which] = outer;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void
handle(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    if (!answer(signal, info, context)) {
        hand_on(signal, info, context);
    }
    errno = saved;
}

static bool
is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handle;
}

static int forks_status;

static void
know_forks(void)
{
    forks_status = pthread_atfork(nd_guard_lock, nd_guard_unlock, nd_guard_unlock);
}

int
nd_guard_know_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, know_forks);
    return forks_status;
}

int
nd_guard_install(nd_notifier notifier)
{
    if (!was_installed && nd_guard_know_forks() != 0) {
        return ENOMEM;
    }
    atomic_store(&notify, notifier);
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        struct sigaction current;
        sigaction(SIGNALS[i], NULL, &current);
        if (is_ours(&current)) {
            continue;
        }
        struct sigaction ours = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        /* A fault inside the handler is a bug of ours; blocked, it ends the process instead of calling us again. */
        sigemptyset(&ours.sa_mask);
        sigaddset(&ours.sa_mask, SIGBUS);
        sigaddset(&ours.sa_mask, SIGSEGV);
        displaced[i] = current;
        if (!was_installed) {
            original[i] = current;
        }
        sigaction(SIGNALS[i], &ours, NULL);
    }
    was_installed = true;
    atomic_store(&is_on, true);
    return 0;
}

void
nd_guard_remove(void)
{
    atomic_store(&is_on, false);
    for (int i = 0; i < SIGNAL_COUNT && was_installed; i++) {
        struct sigaction current;
        sigaction(SIGNALS[i], NULL, &current);
        if (is_ours(&current)) {
            sigaction(SIGNALS[i], &displaced[i], NULL);
        }
    }
}

bool
nd_guard_is_on(void)
{
    return atomic_load(&is_on);
}
