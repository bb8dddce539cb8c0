#include "way.h"

#include "fault_error.h"

#include <sys/vfs.h>

/* File systems whose files are on the other side of a network, or of a process: their magic numbers as statfs(2) has
 * them, from linux/magic.h unless another source is named. */
static const unsigned REMOTE[] = {
    0x65735546, /* FUSE, virtiofs too */
    0x6969,     /* NFS */
    0xFE534D42, /* SMB 2 and 3 */
    0xFF534D42, /* CIFS */
    0x517B,     /* SMB 1 */
    0x01021997, /* 9P */
    0x00C36400, /* Ceph */
    0x5346414F, /* AFS */
    0x6B414653, /* AFS of the kernel */
    0x73757245, /* Coda */
    0x0BD00BD0, /* Lustre: lustre_user.h */
};

static bool
is_remote(int fd)
{
    struct statfs system;
    if (fstatfs(fd, &system) < 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof REMOTE / sizeof *REMOTE; i++) {
        if ((unsigned)system.f_type == REMOTE[i]) {
            return true;
        }
    }
    return false;
}

/* Keep a descriptor, where none is kept yet: a server is asked once for each opening. Returns it, or -1. */
static int
kept_fd(MappingObject *self)
{
    if (self->map.fd < 0) {
        self->map.fd = nd_borrow_fd(&self->map);
    }
    return self->map.fd;
}

static nd_way
way_of(MappingObject *self)
{
    if (self->map.way == ND_WAY_UNKNOWN) {
        int fd = nd_borrow_fd(&self->map);
        self->map.way = fd >= 0 && is_remote(fd) ? ND_BY_READING : ND_BY_MAP;
        nd_return_fd(&self->map, fd);
    }
    return (nd_way)self->map.way;
}

int
way_to_read(MappingObject *self)
{
    /* Private pages may differ from the file. */
    bool is_shared = self->map.access != ND_COPY && self->map.block == NULL;
    return is_shared && way_of(self) == ND_BY_READING ? kept_fd(self) : -1;
}

PyObject *
way_get_backend(PyObject *object, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)object;
    if (self->closed) {
        fault_raise(self, "backend");
        return NULL;
    }
    bool is_reading = self->map.access != ND_COPY && way_of(self) == ND_BY_READING;
    return PyUnicode_FromString(is_reading ? "read" : "map");
}

int
way_set_backend(PyObject *object, PyObject *backend, void *Py_UNUSED(closure))
{
    static const struct {
        const char *name;
        nd_way way;
    } NAMES[] = {{"auto", ND_WAY_UNKNOWN}, {"map", ND_BY_MAP}, {"read", ND_BY_READING}};
    MappingObject *self = (MappingObject *)object;
    for (size_t i = 0; backend != NULL && PyUnicode_Check(backend) && i < sizeof NAMES / sizeof *NAMES; i++) {
        if (PyUnicode_CompareWithASCIIString(backend, NAMES[i].name) == 0) {
            self->map.way = NAMES[i].way;
            return 0;
        }
    }
    PyErr_SetString(PyExc_ValueError, "backend is one of 'auto', 'map', 'read'");
    return -1;
}
