#define _GNU_SOURCE /* sched_getaffinity */

#include "workers.h"

#include "guard.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { MOST_PARTS = 64 };

typedef struct {
    void (*work)(void *context, int part);
    void *context;
    int part;
    int fault; /* to be taken over */
    pthread_t thread;
} worker;

static void *
run(void *argument)
{
    worker *self = argument;
    nd_fault_keep_quiet();
    self->work(self->context, self->part);
    self->fault = nd_fault_hand_over();
    return NULL;
}

void
nd_share(void (*work)(void *context, int part), void *context, int parts)
{
    if (parts <= 1) {
        work(context, 0);
        return;
    }
    worker workers[MOST_PARTS];
    parts = parts < MOST_PARTS ? parts : MOST_PARTS;
    /* Signals are for the threads that there were before. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int started = 1;
    for (; started < parts; started++) {
        workers[started] = (worker){.work = work, .context = context, .part = started};
        if (pthread_create(&workers[started].thread, NULL, run, &workers[started]) != 0) {
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    work(context, 0);
    for (int part = started; part < parts; part++) {
        work(context, part);
    }
    for (int part = 1; part < started; part++) {
        pthread_join(workers[part].thread, NULL);
        if (workers[part].fault != 0) {
            nd_fault_take_over(workers[part].fault);
        }
    }
}

int
nd_processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count < MOST_PARTS ? count : MOST_PARTS;
}
