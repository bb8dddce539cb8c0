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

#include "guard.h"
#include "lost.h"

/* The owner of one mapping: arrays hold it through their chain of bases. */
typedef struct {
    PyObject_HEAD
    nd_mapping map;
    PyObject *filename; /* str, pathlib.Path or None */
    PyObject *mode;     /* 'r', 'r+', 'w+' or 'c' */
    Py_ssize_t exports; /* buffers taken and not yet released */
    int sync_failure;   /* errno of the first flush or sync that failed, 0 before */
    bool closed;
} MappingObject;

extern PyType_Spec mapping_spec;

void mapping_dealloc(PyObject *object);

/* True for instances of Mapping. A heap type has no static address, its slots do; Mapping cannot be subclassed. */
static inline bool
is_mapping(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == mapping_dealloc;
}

/* Flush, give back file and descriptor. Returns -1 with an exception set. Closing again does nothing. */
int mapping_close(MappingObject *self);

/* Write the changed pages of [from, from + nbytes) to the disk. Returns -1 with an exception set. */
int mapping_flush(MappingObject *self, size_t from, size_t nbytes);

/* flush, and the file's metadata. Returns -1 with an exception set. */
int mapping_sync(MappingObject *self);

/* Raise FaultError if the mapping has failed, or its file is shorter than it. Returns 0 or -1. */
int mapping_check(MappingObject *self, const char *act);

/* Raise OSError for an errno value, naming the file. Returns -1. */
int mapping_raise_errno(MappingObject *self, int status);

#endif
