/* Ufuncs called by name, np.add(a, b), with our arrays among their operands. */
#ifndef NDFILE_UFUNCS_H
#define NDFILE_UFUNCS_H

#include "core.h"

/* What __array_ufunc__ is of a class of ours: an object with __get__. */
extern PyType_Spec ufunc_attribute_spec;

#endif
