/* By which way much of a mapping's file is read: through the map, or by many reads at a time. */
#ifndef NDFILE_WAY_H
#define NDFILE_WAY_H

#include "core.h"

/* A descriptor to read the file by, which stays the mapping's; -1 where it is read through the map. */
int way_to_read(MappingObject *mapping);

/* Mapping.backend. */
PyObject *way_get_backend(PyObject *mapping, void *closure);
int way_set_backend(PyObject *mapping, PyObject *backend, void *closure);

#endif
