/* Rows of a mapping, by number, into memory and back: what is missing is asked for at once, then copied.
 *
 * No Python in here, and no dtype: a row is pieces of bytes. The copying may fault like any other access.
 */
#ifndef NDFILE_GATHER_H
#define NDFILE_GATHER_H

#include "mapping.h"

enum { ND_MOST_AXES = 64 };

typedef struct {
    nd_mapping *mapping;
    bool is_store; /* from memory into the mapping */
    int fd;        /* read the file by this, not through the map; -1: through the map */

    const int64_t *index; /* numbers of rows, from the end where negative; NULL: all in order */
    size_t count;         /* of the rows that are moved */

    char *mapped; /* row 0 */
    size_t rows;  /* that there are */
    ptrdiff_t mapped_stride;

    char *memory; /* where the first one goes, or comes from */
    ptrdiff_t memory_stride;

    /* A row: at each position of these axes, longest steps first, so many bytes that lie together on both sides. */
    int ndim;
    size_t shape[ND_MOST_AXES];
    ptrdiff_t mapped_strides[ND_MOST_AXES], memory_strides[ND_MOST_AXES];
    size_t piece_nbytes;
} nd_rows;

/* Bytes of one row. */
size_t nd_row_nbytes(const nd_rows *rows);

/* Move the rows. Of equal numbers the last one wins in a store. Numbers that are none are passed over: the caller has
 * looked at them before, and somebody may have changed them since. */
void nd_move_rows(const nd_rows *rows);

/* True if moving them may take long: so many bytes, or perhaps a device to wait for. */
bool nd_rows_may_take_long(const nd_rows *rows);

/* True if some of the rows, of which a few are looked at, are known not to be in memory. */
bool nd_rows_are_missing(const nd_rows *rows);

/* One past the last byte of the mapping that the rows have. */
const char *nd_end_of_rows(const nd_rows *rows);

/* What is done with the spans of pages that rows lie on, some thousand rows at a time; each time they are joined and in
 * the file's order. False ends it. */
typedef bool (*nd_span_visitor)(void *context, const nd_span *spans, size_t count);
bool nd_visit_rows(const nd_rows *rows, nd_span_visitor visit, void *context);

#endif
