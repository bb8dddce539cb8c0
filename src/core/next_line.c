#include "next_line.h"

#if PY_VERSION_HEX < 0x030C0000

#include <stddef.h>

static int (*stopper)(void);

static int
trace(PyObject *Py_UNUSED(object), PyFrameObject *Py_UNUSED(frame), int Py_UNUSED(event), PyObject *Py_UNUSED(argument))
{
    next_line_go_on();
    return stopper();
}

void
next_line_stop(PyThreadState *thread, int (*stop)(void))
{
    /* SAFE: these fields are the thread's own, and it is inside a call that left the interpreter's loop; the loop
     * looks at them when it takes its next instruction. */
    if (thread->c_tracefunc == NULL && thread->cframe != NULL) {
        stopper = stop;
        thread->c_tracefunc = trace;
        thread->cframe->use_tracing = 255;
    }
}

void
next_line_go_on(void)
{
    PyThreadState *thread = PyThreadState_Get();
    if (thread->c_tracefunc == trace) {
        thread->c_tracefunc = NULL;
        thread->cframe->use_tracing = thread->c_profilefunc != NULL ? 255 : 0;
    }
}

#else

void
next_line_stop(PyThreadState *thread, int (*stop)(void))
{
    (void)thread;
    (void)stop;
}

void
next_line_go_on(void)
{
}

#endif
