#include <patchlevel.h>

#if PY_VERSION_HEX < 0x030C0000
#define Py_BUILD_CORE_MODULE /* for the frame's fields */
#endif

#include "next_line.h"

#if PY_VERSION_HEX < 0x030C0000

#include <internal/pycore_frame.h>
#include <stdatomic.h>

/* The interpreter's own way to stop is its trace function, which it calls at the start of a line or after a jump back.
 * Whether it has jumped back it tells by the instruction before: with the code's last one there, it always has. */

static int (*_Atomic stopper)(void);

/* What the handler has changed in this thread. */
static _Thread_local _PyInterpreterFrame *changed_frame;
static _Thread_local _Py_CODEUNIT *true_instruction, *false_instruction;

static int
trace(PyObject *Py_UNUSED(object), PyFrameObject *Py_UNUSED(frame), int Py_UNUSED(event), PyObject *Py_UNUSED(argument))
{
    next_line_go_on();
    int (*stop)(void) = atomic_load(&stopper);
    return stop();
}

bool
next_line_stop(PyThreadState *thread, int (*stop)(void))
{
    if (thread->c_tracefunc == trace) {
        return true;
    }
    /* SAFE: these fields are the thread's own, and it is inside a call that left the interpreter's loop; the loop
     * looks at them when it takes its next instruction. */
    if (thread->c_tracefunc != NULL || thread->cframe == NULL || thread->cframe->current_frame == NULL) {
        return false;
    }
    _PyInterpreterFrame *frame = thread->cframe->current_frame;
    changed_frame = frame;
    true_instruction = frame->prev_instr;
    false_instruction = _PyCode_CODE(frame->f_code) + Py_SIZE(frame->f_code) - 1;
    frame->prev_instr = false_instruction;
    stopper = stop;
    thread->c_tracefunc = trace;
    thread->cframe->use_tracing = 255;
    return true;
}

void
next_line_go_on(void)
{
    PyThreadState *thread = PyThreadState_Get();
    if (thread->c_tracefunc != trace) {
        return;
    }
    thread->c_tracefunc = NULL;
    thread->cframe->use_tracing = thread->c_profilefunc != NULL ? 255 : 0;
    /* Where the loop has not yet taken another instruction. */
    if (thread->cframe->current_frame == changed_frame && changed_frame->prev_instr == false_instruction) {
        changed_frame->prev_instr = true_instruction;
    }
}

#else

bool
next_line_stop(PyThreadState *thread, int (*stop)(void))
{
    (void)thread;
    (void)stop;
    return false;
}

void
next_line_go_on(void)
{
}

#endif
