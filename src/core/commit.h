/* Atomic blocks and journals: the Python face of block.c and journal.c. */
#ifndef NDFILE_COMMIT_H
#define NDFILE_COMMIT_H

#include "core.h"

/* Methods of Mapping. */
PyObject *commit_keep_journal(PyObject *mapping, PyObject *args);
PyObject *commit_begin(PyObject *mapping, PyObject *limit);
PyObject *commit_end(PyObject *mapping, PyObject *ignored);
PyObject *commit_roll_back(PyObject *mapping, PyObject *ignored);
PyObject *commit_settle_method(PyObject *mapping, PyObject *ignored);
PyObject *commit_get_in_block(PyObject *mapping, void *closure);
PyObject *commit_get_is_block_full(PyObject *mapping, void *closure);
PyObject *commit_get_has_journal(PyObject *mapping, void *closure);

/* Functions of the module. */
PyObject *commit_look(PyObject *module, PyObject *args);
PyObject *commit_replay(PyObject *module, PyObject *args);

extern const char commit_keep_journal_doc[], commit_begin_doc[], commit_end_doc[], commit_roll_back_doc[], commit_settle_doc[],
    commit_look_doc[], commit_replay_doc[];

/* Roll an open block back. Returns an errno value. */
int commit_undo(MappingObject *self);

#endif
