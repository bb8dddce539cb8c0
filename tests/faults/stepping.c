/* Another process, one instruction at a time, until it changes how a file begins or how long it is. */
#define _GNU_SOURCE

#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define MOST 256

/* To be called by the process itself: 0 if it may not be traced. It is stepped through from a SIGSTOP of its own to a
 * SIGWINCH of its own.
 */
PUBLIC int
step_me(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

typedef struct {
    long steps;
    int goes;   /* it is not stepped through just now */
    int status; /* of the process, once it is no more */
} result;

static void
look(int fd, char *bytes, off_t *size)
{
    struct stat status;
    *size = fstat(fd, &status) == 0 ? status.st_size : -1;
    memset(bytes, 0, MOST);
    if (pread(fd, bytes, MOST, 0) < 0) {
        *size = -2;
    }
}

/* 1: there is a change. 0: the process has ended. */
PUBLIC int
step_to_change(pid_t pid, int fd, result *out)
{
    char before[MOST], after[MOST];
    off_t size_before, size_after;
    look(fd, before, &size_before);
    for (int signal = 0, status;;) {
        enum __ptrace_request how = out->goes ? PTRACE_CONT : PTRACE_SINGLESTEP;
        if (ptrace(how, pid, NULL, (void *)(long)signal) < 0 || waitpid(pid, &status, 0) != pid) {
            out->status = -1;
            return 0;
        }
        if (!WIFSTOPPED(status)) {
            out->status = status;
            return 0;
        }
        signal = WSTOPSIG(status);
        if (signal == SIGTRAP) {
            out->steps++;
            signal = 0;
        }
        else if (signal == SIGSTOP || signal == SIGWINCH) {
            out->goes = signal == SIGWINCH;
            signal = 0;
        }
        look(fd, after, &size_after);
        if (size_after != size_before || memcmp(before, after, MOST) != 0) {
            return 1;
        }
    }
}
