/* What the files with a Python face share. */
#ifndef NDFILE_CORE_H
#define NDFILE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL ndfile_ARRAY_API
#ifndef NDFILE_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "block.h"
#include "guard.h"
#include "lost.h"

#include <sys/types.h>

/* What the short way of appending needs to know. All zeros: there is none. */
typedef struct {
    size_t row_nbytes;
    size_t room;     /* bytes that the array may have without anybody making space */
    size_t count_at; /* where in the file the number of rows ends, as text; 0: the file's size tells it */
    int digits;      /* how many it may have */
} appending;

/* The owner of one mapping: arrays hold it through their chain of bases. */
typedef struct {
    PyObject_HEAD
    nd_mapping map;
    PyObject *filename; /* str, pathlib.Path or None */
    PyObject *mode;     /* 'r', 'r+', 'w+' or 'c' */
    Py_ssize_t exports; /* buffers taken and not yet released */
    PyObject *format;   /* what the file is, for growing; None for bytes without a description */
    PyObject *growth;   /* what is known of growing it, or None */
    PyObject *seen_head; /* bytes of the file before the data, when they were last looked at, or NULL */
    int64_t seen_size;
    appending append;
    pid_t opener;       /* the process that made the mapping: a fork shares its locks, and may not be the writer */
    pid_t writer;       /* the process that may grow the file and has a journal; 0: none yet */
    int journal;        /* descriptor, -1 for none */
    char *journal_path;
    uint64_t sequence;  /* of the journal's last commit */
    int in_use;         /* calls that use the file without the interpreter's lock */
    int passing_by;     /* those of them that pass the map by */
    int waiting;        /* calls that wait until there are none of these */
    pid_t user;         /* the process whose threads make them */
    int sync_failure;   /* errno of the first flush or sync that failed, 0 before */
    bool closed;
    bool shrunk;             /* some array may reach past the end */
    bool is_fortran;         /* the array's last axis is the one that grows */
    bool trims;              /* the file has space behind the array that is to be given back */
    bool journal_is_revoked; /* in memory; the disk may still have it complete */
    bool journal_is_needed;  /* it has what the file has not */
    bool has_large_out;      /* an array of it may be the output of streamed work; see streaming.h */
} MappingObject;

extern PyType_Spec mapping_spec;

void mapping_dealloc(PyObject *object);

/* True for instances of Mapping. A heap type has no static address, its slots do; Mapping cannot be subclassed. */
static inline bool
is_mapping(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == mapping_dealloc;
}

/* Around what a call does with the file without the interpreter's lock: meanwhile the mapping is not given back. If it passes
 * the map by, that is, writes to the file or gives up pages, then no atomic block begins either, and the array does not become
 * shorter; to begin that may let other threads run. */
void mapping_begin_use(MappingObject *self, bool passes_by);
void mapping_end_use(MappingObject *self, bool passes_by);

/* Wait until no call is between these, and let other threads run meanwhile. */
void mapping_wait_until_unused(MappingObject *self);
void mapping_wait_until_not_passed_by(MappingObject *self);

/* Flush, give back file and descriptor. Returns -1 with an exception set. Closing again does nothing. */
int mapping_close(MappingObject *self);

/* Write the changed pages of [from, from + nbytes) to the disk. Returns -1 with an exception set. */
int mapping_flush(MappingObject *self, size_t from, size_t nbytes);

/* Raise what the first flush or sync that failed has said. Returns 0 or -1. */
int mapping_check_synced(MappingObject *self);

/* fdatasync, with a failure as final as a flush's. Returns -1 with an exception set. */
int mapping_sync_data(MappingObject *self);

/* flush, and the file's metadata. Returns -1 with an exception set. */
int mapping_sync(MappingObject *self);

/* Raise FaultError if the mapping has failed, or its file is shorter than it. Returns 0 or -1. */
int mapping_check(MappingObject *self, const char *act);

/* Let the disk know that the journal's last commit is over: from here on it could undo what is written to the file by
 * other ways. Returns an errno value. */
int mapping_settle(MappingObject *self);

/* The size that the file must have at least. */
static inline int64_t
mapping_end_in_file(const MappingObject *self)
{
    return self->map.offset + (int64_t)self->map.file_nbytes;
}

/* Raise OSError for an errno value, naming the file. Returns -1. */
int mapping_raise_errno(MappingObject *self, int status);

#endif
