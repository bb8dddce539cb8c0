#include "streaming.h"

size_t nd_stream_nbytes;
