/* The array base type. */
#ifndef NDFILE_ARRAY_H
#define NDFILE_ARRAY_H

#include "core.h"

extern PyType_Spec array_spec;

#endif
