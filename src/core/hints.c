#define _GNU_SOURCE /* madvise */

#include "hints.h"

#include "fault_error.h"
#include "pages.h"
#include "rows.h"
#include "view.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_COLD
#define MADV_COLD 20 /* Linux 5.4 */
#define MADV_PAGEOUT 21
#endif

/* ---- An act on the pages of an array, or of rows of it ---- */

typedef struct {
    const nd_mapping *mapping;
    int fd, advice;
    bool passes_by; /* needs the descriptor, and no atomic block */
    bool is_done;   /* so far, by a kernel that knows how */
} act;

static void
visit_pages(MappingObject *mapping, const nd_rows *rows, nd_span_visitor visit, act *what)
{
    what->mapping = &mapping->map;
    mapping_begin_use(mapping, what->passes_by);
    what->fd = what->passes_by ? nd_borrow_fd(&mapping->map) : -1;
    Py_BEGIN_ALLOW_THREADS
    nd_visit_rows(rows, visit, what);
    Py_END_ALLOW_THREADS
    mapping_end_use(mapping, what->passes_by);
    nd_return_fd(&mapping->map, what->fd);
}

/* Visit the pages of all of an array, or of the rows in `chosen` unless that is None. Returns True if it was done,
 * NotImplemented for what names no rows. */
static PyObject *
act_on_pages(PyObject *array, PyObject *chosen, nd_span_visitor visit, act *what, bool only_if_missing)
{
    PyArrayObject *self = (PyArrayObject *)array;
    PyArrayObject *numbers = chosen == Py_None ? NULL : rows_numbers(self, chosen);
    /* Now, because Python code may have been asked for the rows. */
    if (PyErr_Occurred() || view_refuse_closed(array, "advise") < 0) {
        Py_XDECREF(numbers);
        return fault_checked(NULL);
    }
    if (numbers == NULL && chosen != Py_None) {
        return fault_checked(Py_NewRef(Py_NotImplemented));
    }
    MappingObject *mapping = view_mapping(array);
    nd_rows rows;
    what->is_done = mapping != NULL;
    if (rows_of_pages(&rows, self, numbers) && (!only_if_missing || nd_rows_are_missing(&rows))) {
        visit_pages(mapping, &rows, visit, what);
    }
    Py_XDECREF(numbers);
    return fault_checked(PyBool_FromLong(what->is_done));
}

static bool
request(void *context, const nd_span *spans, size_t count)
{
    act *what = context;
    what->is_done = nd_request(spans, count);
    return what->is_done;
}

static bool
populate(void *context, const nd_span *spans, size_t count)
{
    act *what = context;
    for (size_t i = 0; i < count && what->is_done; i++) {
        what->is_done = nd_populate(spans[i]);
    }
    return what->is_done;
}

static bool
give_up(void *context, const nd_span *spans, size_t count)
{
    act *what = context;
    for (size_t i = 0; i < count && what->is_done; i++) {
        what->is_done = nd_give_up(what->mapping, what->fd, spans[i]);
    }
    return what->is_done;
}

static bool
advise(void *context, const nd_span *spans, size_t count)
{
    act *what = context;
    for (size_t i = 0; i < count && what->is_done; i++) {
        /* SAFE: none of this advice loses bytes. */
        what->is_done = madvise(spans[i].from, (size_t)(spans[i].to - spans[i].from), what->advice) == 0;
    }
    return what->is_done;
}

/* ---- The methods ---- */

const char hints_prefetch_doc[] =
    "_prefetch($self, rows=None, wait=False, only_if_missing=False, /)\n--\n\n"
    "Ask for the pages of all, or of rows; if wanted only where some of them, of which a few are looked at, are missing.\n\n"
    "True if the kernel takes such a wish. NotImplemented if `rows` names no rows.";

PyObject *
hints_prefetch(PyObject *self, PyObject *args)
{
    PyObject *rows = Py_None, *result;
    int wait = 0, only_if_missing = 0;
    if (!PyArg_ParseTuple(args, "|Opp:_prefetch", &rows, &wait, &only_if_missing)) {
        return NULL;
    }
    act what = {.advice = 0};
    result = act_on_pages(self, rows, request, &what, only_if_missing);
    if (wait && result == Py_True) {
        Py_SETREF(result, act_on_pages(self, rows, populate, &what, false));
    }
    return result;
}

const char hints_release_doc[] =
    "_release($self, rows=None, /)\n--\n\n"
    "Give up the memory for the pages of all, or of rows. NotImplemented if `rows` names no rows.";

PyObject *
hints_release(PyObject *self, PyObject *args)
{
    PyObject *rows = Py_None;
    if (!PyArg_ParseTuple(args, "|O:_release", &rows)) {
        return NULL;
    }
    act what = {.passes_by = true};
    return act_on_pages(self, rows, give_up, &what, false);
}

const char hints_advise_doc[] =
    "_advise($self, advice, /)\n--\n\n"
    "Tell the kernel how the array will be used. NotImplemented for a word that it has not.";

PyObject *
hints_advise(PyObject *self, PyObject *advice)
{
    static const struct {
        const char *name;
        int advice;
    } NAMES[] = {
        {"normal", MADV_NORMAL},     {"random", MADV_RANDOM},         {"sequential", MADV_SEQUENTIAL},
        {"hugepage", MADV_HUGEPAGE}, {"nohugepage", MADV_NOHUGEPAGE}, {"cold", MADV_COLD},
        {"pageout", MADV_PAGEOUT},
    };
    for (size_t i = 0; PyUnicode_Check(advice) && i < sizeof NAMES / sizeof *NAMES; i++) {
        if (PyUnicode_CompareWithASCIIString(advice, NAMES[i].name) == 0) {
            act what = {.advice = NAMES[i].advice};
            return act_on_pages(self, Py_None, advise, &what, false);
        }
    }
    Py_RETURN_NOTIMPLEMENTED;
}

/* ---- Residency ---- */

const char hints_residency_doc[] =
    "_residency($self, parts, /)\n--\n\n"
    "The pages under the array from its first byte to its last, in about so many parts of equal length: for each a tuple\n"
    "of its bytes, of those in memory and of those that the disk has not got yet.";

/* Count one part. Returns an errno value. */
static int
count_part(MappingObject *self, nd_span part, nd_residency *found)
{
    const nd_mapping *map = &self->map;
    int status, fd = nd_borrow_fd(map);
    mapping_begin_use(self, false);
    Py_BEGIN_ALLOW_THREADS
    status = fd < 0 ? EBADF : nd_count_cached(fd, nd_file_offset(map, part.from), part.to - part.from, found);
    status = status == 0 ? 0 : nd_count_mapped(part, found);
    Py_END_ALLOW_THREADS
    mapping_end_use(self, false);
    nd_return_fd(map, fd); /* each time: between two parts the mapping may be closed */
    return status;
}

PyObject *
hints_residency(PyObject *self, PyObject *argument)
{
    Py_ssize_t parts = PyLong_AsSsize_t(argument);
    MappingObject *mapping = view_mapping(self);
    PyObject *list = PyList_New(0);
    if (list == NULL || (parts == -1 && PyErr_Occurred()) || view_refuse_closed(self, "residency") < 0) {
        Py_XDECREF(list);
        return NULL;
    }
    char *low, *high;
    view_extent((PyArrayObject *)self, &low, &high);
    if (mapping == NULL || low == high) {
        return list;
    }
    nd_span all = nd_pages_around(low, (size_t)(high - low));
    size_t page = nd_page_size(), pages = (size_t)(all.to - all.from) / page, wanted = parts < 1 ? 1 : (size_t)parts;
    size_t step = (pages + wanted - 1) / wanted * page;
    int status = 0;
    for (nd_span part = all; part.from < all.to && status == 0; part.from += step) {
        part.to = (size_t)(all.to - part.from) < step ? all.to : part.from + step;
        nd_residency found;
        status = count_part(mapping, part, &found);
        PyObject *counts = Py_BuildValue("nKK", (Py_ssize_t)(part.to - part.from),
                                         (unsigned long long)(found.cached * page),
                                         (unsigned long long)(found.dirty * page));
        if (counts == NULL || PyList_Append(list, counts) < 0) {
            status = ENOMEM;
        }
        Py_XDECREF(counts);
    }
    if (status != 0) {
        Py_CLEAR(list);
        if (!PyErr_Occurred()) {
            mapping_raise_errno(mapping, status);
        }
    }
    return list;
}
