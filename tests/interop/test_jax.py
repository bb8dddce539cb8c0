"""Arrays in jax, on the CPU."""

import os

import ml_dtypes
import numpy as np
import pytest
from apart import IS_APART, apart, errors_of

import ndfile as nf

if IS_APART:
    import jax
    import jax.numpy as jnp

MAKERS = ["asarray", "array", "device_put"]


def made(array, maker):
    return {"asarray": jnp.asarray, "array": jnp.array, "device_put": jax.device_put}[maker](array)


@pytest.fixture
def table(tmp_path):
    """Values, and the path of a file of them."""
    values = np.random.default_rng(7).random((300, 40), "f4")
    np.save(tmp_path / "x.npy", values)
    return values, str(tmp_path / "x.npy")


@apart
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("maker", MAKERS)
def test_the_values_are_the_files(table, mode, maker):
    values, path = table
    a = nf.open(path, mode=mode)
    for view, expected in ((a, values), (a[::-1, ::2], values[::-1, ::2]), (a.T, values.T), (a[:0], values[:0])):
        assert np.array_equal(np.asarray(made(view, maker)), expected)


@apart
@pytest.mark.parametrize("maker", ["asarray", "array"])
def test_asarray_and_array_copy(table, maker):
    values, path = table
    a = nf.open(path, mode="r+")
    j = made(a, maker)
    a[...] = 0
    assert np.array_equal(np.asarray(j), values)
    a.close()
    assert np.array_equal(np.asarray(j), values)


@apart
def test_device_put_may_share_and_keeps_the_file_mapped(table):
    values, path = table
    j = jax.device_put(nf.open(path))
    with open("/proc/self/maps") as maps:
        assert path in maps.read()
    assert np.array_equal(np.asarray(j), values)


@apart
@pytest.mark.parametrize("maker", MAKERS)
def test_wide_types_become_narrow_ones_unless_jax_is_told_to_have_them(path, maker):
    for wide, narrow in (("f8", "f4"), ("i8", "i4"), ("u8", "u4"), ("c16", "c8")):
        values = np.arange(10).astype(wide)
        values.tofile(path)
        a = nf.memmap(path, wide, "r")
        assert made(a, maker).dtype == narrow
        assert np.array_equal(np.asarray(made(a, maker)), values)
        with jax.enable_x64(True):
            assert made(a, maker).dtype == wide


@apart
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_short_floats_arrive(path, name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    np.arange(0, 60, dtype=f"u{dtype.itemsize}").tofile(path)
    a = nf.memmap(path, dtype, "r")
    j = jnp.asarray(a)
    assert j.dtype == dtype
    assert np.array_equal(np.asarray(j.astype("f4")), a.astype("f4"))


@apart
@pytest.mark.parametrize("name", [">f4", "M8[s]", "S3"])
def test_what_jax_has_no_type_for_is_a_type_error(path, name):
    a = nf.memmap(path, name, "w+", shape=6)
    with pytest.raises(TypeError):
        jnp.asarray(a)


@apart
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_compiled_functions_take_slices(table, mode):
    values, path = table
    a = nf.open(path, mode=mode)

    @jax.jit
    def loss(rows, weights):
        return ((rows @ weights) ** 2).mean()

    weights = np.ones(40, "f4")
    for start in range(0, 300, 100):
        rows = slice(start, start + 100)
        assert loss(a[rows], weights) == loss(values[rows], weights)
        given = jax.grad(loss, argnums=1)(a[rows], weights)
        assert np.array_equal(given, jax.grad(loss, argnums=1)(values[rows], weights))


@apart
def test_numpys_functions_take_what_jax_gives_into_a_file(table):
    values, path = table
    a = nf.open(path, mode="r+")
    a[:] = jnp.asarray(a) * 2
    assert np.array_equal(a, values * 2)


@apart
@pytest.mark.parametrize("maker", ["asarray", "array"])
def test_a_closed_array_is_refused(table, maker):
    a = nf.open(table[1])
    a.close()
    with pytest.raises(nf.ClosedError):
        made(a, maker)


@apart
@pytest.mark.parametrize("how", ["closed", "cut"])
def test_what_shares_the_memory_raises_after_a_close_or_a_cut(tmp_path, how):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((2000, 1000), "f4"))
    a = nf.open(path)
    j = jax.device_put(a)
    assert j.unsafe_buffer_pointer() == a.ctypes.data
    if how == "closed":
        a.close()
    else:
        os.truncate(path, 1 << 20)
    expected = nf.ClosedError if how == "closed" else nf.FaultError
    for act in (lambda: float(j.sum()), lambda: np.asarray(j).sum(), lambda: float((j.T @ j).sum())):
        assert errors_of(act) == {expected}
