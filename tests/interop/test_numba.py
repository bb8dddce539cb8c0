"""Arrays in functions that numba compiles."""

import gc
import os

import numpy as np
import pytest
from apart import IS_APART, apart, errors_of

import ndfile as nf

if IS_APART:
    import numba

    @numba.njit
    def total(x):
        found = 0.0
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                found += x[i, j]
        return found

    @numba.njit(parallel=True)
    def total_in_parallel(x):
        found = 0.0
        for i in numba.prange(x.shape[0]):
            for j in range(x.shape[1]):
                found += x[i, j]
        return found

    @numba.njit(parallel=True)
    def double(x):
        for i in numba.prange(x.shape[0]):
            for j in range(x.shape[1]):
                x[i, j] *= 2


class Images(nf.memmap):
    pass


@apart
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_the_type_is_that_of_a_plain_array(path, mode):
    np.arange(24, dtype="f4").tofile(path)
    a = nf.memmap(path, "f4", mode, shape=(4, 6))
    plain = np.arange(24, dtype="f4").reshape(4, 6)
    plain.flags.writeable = mode != "r"
    for of_file, of_memory in (
        (a, plain),
        (a.T, plain.T),
        (a[::2, 1:], plain[::2, 1:]),
        (a[0], plain[0]),
        (a[:0], plain[:0]),
    ):
        assert numba.typeof(of_file) == numba.typeof(of_memory)
        assert numba.typeof(of_file).mutable == (mode != "r")
    assert numba.typeof(a.view(Images)) == numba.typeof(plain)


@apart
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_functions_read_every_view(numbers_file, numbers, mode):
    a = nf.memmap(numbers_file, "f4", mode, shape=(3, 4))
    for view, plain in ((a, numbers), (a.T, numbers.T), (a[::-1, ::2], numbers[::-1, ::2]), (a[1:2], numbers[1:2])):
        assert total(view) == total_in_parallel(view) == plain.sum()


@apart
@pytest.mark.parametrize("mode", ["r+", "c"])
def test_functions_write(numbers_file, numbers, mode):
    a = nf.memmap(numbers_file, "f4", mode, shape=(3, 4))
    double(a)
    double(a[:, 1:3])
    expected = numbers * 2
    expected[:, 1:3] *= 2
    assert np.array_equal(a, expected)
    in_file = np.fromfile(numbers_file, "f4").reshape(3, 4)
    assert np.array_equal(in_file, expected if mode == "r+" else numbers)


@apart
def test_a_function_that_writes_is_not_compiled_for_a_read_only_array(numbers_file, numbers):
    a = nf.memmap(numbers_file, "f4", "r", shape=(3, 4))
    with pytest.raises(numba.TypingError, match="Cannot modify readonly array"):
        numba.njit(double.py_func)(a)
    assert np.array_equal(np.fromfile(numbers_file, "f4"), numbers.ravel())


@apart
def test_a_signature_that_reads_takes_both(array, numbers, numbers_file):
    read_only = nf.memmap(numbers_file, "f4", "r", shape=(3, 4))
    kind = numba.types.Array(numba.float32, 2, "C", readonly=True)
    compiled = numba.njit([numba.float64(kind)])(total.py_func)
    assert compiled(read_only) == compiled(array) == numbers.sum()


@apart
def test_what_a_function_returns_of_an_array_keeps_the_file_mapped(numbers_file, numbers):
    @numba.njit
    def rows(x):
        return x[1:]

    view = rows(nf.memmap(numbers_file, "f4", "r+", shape=(3, 4)))
    gc.collect()
    assert np.array_equal(view, numbers[1:])
    view[0, 0] = 99
    assert np.fromfile(numbers_file, "f4")[4] == 99


@apart
def test_records_are_known_by_name(path):
    a = nf.memmap(path, [("x", "f8"), ("n", "i4")], "w+", shape=5)
    a["x"] = np.arange(5)

    @numba.njit
    def weigh(records):
        found = 0.0
        for i in range(len(records)):
            records[i].n = i
            found += records[i].x * records[i].n
        return found

    assert weigh(a) == 30.0
    assert a["n"].tolist() == [0, 1, 2, 3, 4]


@apart
def test_compiled_ufuncs_read_and_write_arrays(numbers_file, numbers):
    a = nf.memmap(numbers_file, "f4", "r+", shape=(3, 4))

    @numba.vectorize(["float32(float32)"])
    def and_one(x):
        return x + 1

    @numba.guvectorize(["void(float32[:], float32[:])"], "(n)->()")
    def row_sum(row, out):
        out[0] = row.sum()

    assert type(and_one(a)) is np.ndarray
    assert np.array_equal(row_sum(a), numbers.sum(1))
    and_one(a, out=a)
    assert np.array_equal(np.fromfile(numbers_file, "f4").reshape(3, 4), numbers + 1)


@apart
@pytest.mark.parametrize("how", ["closed", "cut"])
def test_a_fault_in_compiled_code_is_raised(path, how):
    np.ones((2000, 1000), "f4").tofile(path)
    a = nf.memmap(path, "f4", "r", shape=(2000, 1000))
    assert total(a) == 2e6
    if how == "closed":
        a.close()
    else:
        os.truncate(path, 1 << 20)
    for function in (total, total_in_parallel):
        assert errors_of(lambda function=function: function(a)) == {
            nf.ClosedError if how == "closed" else nf.FaultError
        }


@apart
def test_the_other_order_of_bytes_is_numbas_own_error(path):
    a = nf.memmap(path, ">f4", "w+", shape=(3, 3))
    with pytest.raises(numba.core.errors.NumbaValueError, match=">f4"):
        numba.typeof(a)
    assert total(a.astype("f4")) == 0
