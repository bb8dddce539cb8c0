#define _GNU_SOURCE /* O_DIRECT */

#include "way.h"

#include "fault_error.h"
#include "remote.h"

#include <fcntl.h>

int
way_to_read(MappingObject *self)
{
    /* Private pages may differ from the file, and what is lost stays lost though the file may have it again. */
    bool is_like_file = self->map.access != ND_COPY && self->map.block == NULL && self->map.lost.count == 0;
    if (self->closed || !is_like_file || self->map.way != ND_BY_READING) {
        return -1;
    }
    if (self->map.fd < 0) {
        self->map.fd = nd_borrow_fd(&self->map); /* kept: each opening is a way to the server */
    }
    return self->map.fd;
}

int
way_to_write(const MappingObject *self, const char *to, size_t nbytes)
{
    const nd_mapping *map = &self->map;
    bool is_like_file = map->access == ND_WRITE && map->block == NULL && map->lost.count == 0;
    if (!is_like_file || map->fd < 0 || !nd_range_fits((size_t)(to - map->data), nbytes, map->nbytes)) {
        return -1;
    }
    /* Opened to append, it would write to the file's end; and past the page cache, where the map has another opinion. */
    int flags = fcntl(map->fd, F_GETFL);
    return flags < 0 || (flags & (O_APPEND | O_DIRECT)) ? -1 : map->fd;
}

PyObject *
way_get_backend(PyObject *object, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        fault_raise(self, "backend");
        return NULL;
    }
    return PyUnicode_FromString(self->map.way == ND_BY_READING ? "read" : "map");
}

/* By the file system's type. */
static nd_way
way_by_itself(const MappingObject *self)
{
    int fd = self->map.access == ND_COPY ? -1 : nd_borrow_fd(&self->map);
    nd_way way = fd >= 0 && nd_is_remote(fd) ? ND_BY_READING : ND_BY_MAP;
    nd_return_fd(&self->map, fd);
    return way;
}

int
way_set_backend(PyObject *object, PyObject *backend, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        return fault_raise(self, "backend");
    }
    const char *name = backend != NULL && PyUnicode_Check(backend) ? PyUnicode_AsUTF8(backend) : "";
    if (name == NULL) {
        return -1;
    }
    bool reads = strcmp(name, "read") == 0 && self->map.access != ND_COPY;
    if (!reads && strcmp(name, "map") != 0 && strcmp(name, "auto") != 0) {
        PyErr_SetString(PyExc_ValueError, "backend is one of 'auto', 'map', and 'read' except in mode 'c'");
        return -1;
    }
    self->map.way = reads ? ND_BY_READING : strcmp(name, "map") == 0 ? ND_BY_MAP : way_by_itself(self);
    return 0;
}
