/* Raising in a thread before its next instruction.
 *
 * The interpreter looks for asynchronous exceptions when it calls and when it jumps back. Until then other statements
 * run, and blocks are left that were to catch the exception. CPython 3.11 can be told in a signal handler to stop at
 * the next instruction; later versions cannot.
 */
#ifndef NDFILE_NEXT_LINE_H
#define NDFILE_NEXT_LINE_H

#include <Python.h>

#include <stdbool.h>

/* Call `stop` before this thread's next instruction, once; it returns -1 with an exception set, or 0. False in a
 * thread that is being traced, and where it cannot be done. Safe in a signal handler. */
bool next_line_stop(PyThreadState *thread, int (*stop)(void));

/* Take that back. */
void next_line_go_on(void);

#endif
