#include "streaming.h"

size_t nd_stream_nbytes;
bool nd_stream_has_outs;
