/* Growing: more rows behind the last one, in place, under the views that there are. The Python face of it. */
#ifndef NDFILE_GROWTH_H
#define NDFILE_GROWTH_H

#include "core.h"

/* Methods of Mapping. */
PyObject *growth_fileno(PyObject *mapping, PyObject *ignored);
PyObject *growth_head(PyObject *mapping, PyObject *ignored);
PyObject *growth_write(PyObject *mapping, PyObject *args);
PyObject *growth_write_head(PyObject *mapping, PyObject *head);
PyObject *growth_sync_data(PyObject *mapping, PyObject *ignored);
PyObject *growth_check_synced(PyObject *mapping, PyObject *ignored);
PyObject *growth_keep(PyObject *mapping, PyObject *growth);
PyObject *growth_trim(PyObject *mapping, PyObject *ignored);
PyObject *growth_let_append(PyObject *mapping, PyObject *args);
PyObject *growth_note_seen(PyObject *mapping, PyObject *args);
PyObject *growth_has_news(PyObject *mapping, PyObject *ignored);

/* Attributes of Mapping. */
PyObject *growth_get_is_fortran(PyObject *mapping, void *closure);
PyObject *growth_get_is_owned(PyObject *mapping, void *closure);
PyObject *growth_get_most_nbytes(PyObject *mapping, void *closure);
PyObject *growth_get_followed_by(PyObject *mapping, void *closure);

/* Methods of ArrayBase. */
PyObject *growth_append(PyObject *array, PyObject *rows);
PyObject *growth_set_rows(PyObject *array, PyObject *args);

extern const char growth_fileno_doc[], growth_head_doc[], growth_write_doc[], growth_write_head_doc[], growth_sync_data_doc[], growth_check_synced_doc[], growth_keep_doc[], growth_trim_doc[], growth_let_append_doc[],
    growth_note_seen_doc[], growth_has_news_doc[], growth_append_doc[], growth_set_rows_doc[];

/* Before the file is given back: the space behind the array, and the journal. Only the process that made them does so.
 * Returns an errno value. */
int growth_release(MappingObject *self);

#endif
