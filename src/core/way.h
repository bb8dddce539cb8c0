/* By which way much of a mapping's file is read and written: through the map, or by its descriptor. */
#ifndef NDFILE_WAY_H
#define NDFILE_WAY_H

#include "core.h"

/* A descriptor to read the file by, which stays the mapping's; -1 where it is read through the map. */
int way_to_read(MappingObject *mapping);

/* A descriptor by which bytes of the mapping can be written to the file instead of being stored, -1 where they cannot. To be
 * used while the mapping is passed by. */
int way_to_write(const MappingObject *mapping, const char *to, size_t nbytes);

/* Mapping.backend. */
PyObject *way_get_backend(PyObject *mapping, void *closure);
int way_set_backend(PyObject *mapping, PyObject *backend, void *closure);

#endif
