# cython: language_level=3, boundscheck=False, wraparound=False
"""What tests/interop/test_cython.py compiles."""


def total(const double[:, :] x):
    cdef double found = 0
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                found += x[i, j]
    return found


def fill(double[:, :] x, double value):
    x[:, :] = value


def total_of_rows(const double[:, ::1] x):
    return total(x)


cdef class Kept:
    """A view that is kept."""

    cdef const double[:, :] x

    def __init__(self, x):
        self.x = x

    def item(self, Py_ssize_t i, Py_ssize_t j):
        return self.x[i, j]
