#include "streaming.h"

size_t nd_stream_nbytes;
size_t nd_stream_outs;
