"""What arrays give other libraries through DLPack."""

import gc
import os

import numpy as np
import pytest
from apart import IS_APART, apart, errors_of

import ndfile as nf

if IS_APART:
    import jax.numpy as jnp
    import torch

    torch.set_num_threads(2)

READERS = ["numpy", "torch", "jax"]


def taken(array, reader, **how):
    return {"numpy": np, "torch": torch, "jax": jnp}[reader].from_dlpack(array, **how)


def address(taken):
    if isinstance(taken, np.ndarray):
        return taken.ctypes.data
    return taken.data_ptr() if isinstance(taken, torch.Tensor) else taken.unsafe_buffer_pointer()


@apart
@pytest.mark.parametrize("mode", ["r+", "c"])
@pytest.mark.parametrize("reader", READERS)
def test_writable_arrays_are_shared(file, numbers, mode, reader):
    a = nf.open(file, mode=mode)
    t = taken(a, reader)
    assert address(t) == a.ctypes.data
    assert np.array_equal(np.asarray(t), numbers)
    if reader != "jax":  # whose arrays cannot be changed
        t[1, 2] = 99
        assert a[1, 2] == 99
    assert np.load(file)[1, 2] == (99 if reader != "jax" and mode == "r+" else numbers[1, 2])


@apart
def test_numpy_takes_a_read_only_array_as_a_read_only_one(file, numbers):
    a = nf.open(file)
    t = np.from_dlpack(a)
    assert address(t) == a.ctypes.data
    assert not t.flags.writeable
    assert np.array_equal(t, numbers)
    with pytest.raises(ValueError, match="read-only"):
        t[0] = 1


@apart
def test_jax_does_not_take_a_read_only_array_by_dlpack(file):
    with pytest.raises(BufferError, match="readonly"):
        jnp.from_dlpack(nf.open(file))


@apart
@pytest.mark.parametrize("rows", [3, 500_000])
def test_torch_takes_a_read_only_array_for_a_writable_one_and_writing_raises(tmp_path, rows):
    path = str(tmp_path / "x.npy")
    np.save(path, np.ones((rows, 4), "f4"))
    a = nf.open(path)
    t = torch.from_dlpack(a)
    assert address(t) == a.ctypes.data
    for act in (lambda: t.fill_(7), lambda: t.add_(1), lambda: t[0].mul_(3)):
        assert errors_of(act) == {nf.ReadOnlyError}
        assert (np.load(path) == 1).all()
        assert (a == 1).all()


@apart
@pytest.mark.parametrize("reader", READERS)
def test_what_was_taken_keeps_the_file_mapped(file, numbers, reader):
    def is_mapped():
        gc.collect()
        with open("/proc/self/maps") as maps:
            return file in maps.read()

    t = taken(nf.open(file, mode="c"), reader)
    assert is_mapped()
    assert np.array_equal(np.asarray(t), numbers)
    del t
    assert not is_mapped()


@apart
@pytest.mark.parametrize("reader", READERS)
def test_after_a_close_it_raises_as_a_plain_view_does(tmp_path, reader):
    a = nf.create(tmp_path / "x.npy", shape=(2000, 1000), dtype="float32")
    t = taken(a, reader)
    a.close()
    assert errors_of(lambda: float(t.sum())) == {nf.ClosedError}
    with pytest.raises(nf.ClosedError, match="export"):
        taken(a, reader)


@apart
@pytest.mark.parametrize("reader", READERS)
def test_after_a_cut_it_raises(tmp_path, reader):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((2000, 1000), "f4"))
    a = nf.open(path, mode="c")
    t = taken(a, reader)
    os.truncate(path, 1 << 20)
    assert errors_of(lambda: float(t.sum())) == {nf.FaultError}
    with pytest.raises(nf.FaultError):
        taken(a, reader)


@apart
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["bool", "int8", "uint16", "int64", "float16", "float64", "complex64"])
def test_types_arrive(path, name, reader):
    values = np.arange(7).astype(name)
    values.tofile(path)
    t = taken(nf.memmap(path, name, "c"), reader)
    assert np.array_equal(np.asarray(t), values.astype({"int64": "i4", "float64": "f4"}.get(name, name)))


@apart
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", [">f4", "M8[s]", "S3", "V4"])
def test_types_that_dlpack_lacks_are_a_buffer_error(path, name, reader):
    a = nf.memmap(path, name, "w+", shape=6)
    with pytest.raises(BufferError, match="DLPack only supports"):
        taken(a, reader)


@apart
@pytest.mark.parametrize("reader", ["numpy", "torch"])
def test_views_are_shared(file, numbers, reader):
    a = nf.open(file, mode="c")
    for view, expected in ((a.T, numbers.T), (a[::2, 1::2], numbers[::2, 1::2]), (a[:0], numbers[:0])):
        t = taken(view, reader)
        assert np.array_equal(np.asarray(t), expected)
        assert not view.size or address(t) == view.ctypes.data


@apart
@pytest.mark.parametrize("reader", READERS)
def test_negative_strides_are_refused_for_torch_would_end_the_process(file, numbers, reader):
    a = nf.open(file, mode="c")
    for view in (a[::-1], a[:, ::-1], a[::-1].T):
        with pytest.raises(BufferError, match=r"strides \(.*Pass a\.copy\(\)"):
            taken(view, reader)
        assert np.array_equal(np.asarray(taken(view.copy(), reader)), np.asarray(view))
    assert np.array_equal(np.asarray(taken(a[::-1][:1], reader)), numbers[2:])  # a stride that is never taken
    assert np.array_equal(np.asarray(taken(a[:0][::-1], reader)), numbers[:0])


@apart
def test_the_control_torch_ends_the_process_over_negative_strides_of_a_plain_array(run_python):
    """When this fails, torch has learned it, and the refusal may go."""
    result = run_python("import torch, numpy; torch.from_dlpack(numpy.zeros(5)[::-1])", fails=True)
    assert result.returncode < 0


@apart
@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("reader", ["numpy", "torch"])
def test_a_copy_is_memory_of_its_own(file, numbers, mode, reader):
    a = nf.open(file, mode=mode)
    for view, expected in ((a, numbers), (a[::-1], numbers[::-1])):
        t = taken(view, reader, copy=True)
        t[0, 0] = 99
        assert np.array_equal(view, expected)
        assert np.array_equal(np.asarray(t)[1:], expected[1:])
