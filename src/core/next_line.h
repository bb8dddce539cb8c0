/* Raising before a thread's next line.
 *
 * The interpreter looks for asynchronous exceptions when it calls and when it jumps back, so that a few statements may
 * run before it does. CPython 3.11 can be told in a signal handler to stop at the next line; later versions cannot.
 */
#ifndef NDFILE_NEXT_LINE_H
#define NDFILE_NEXT_LINE_H

#include <Python.h>

/* Call `stop` before this thread's next line, call or return, once; it returns -1 with an exception set, or 0. Does
 * nothing in a thread that is being traced, or where it cannot be done. Safe in a signal handler. */
void next_line_stop(PyThreadState *thread, int (*stop)(void));

/* Take that back. */
void next_line_go_on(void);

#endif
