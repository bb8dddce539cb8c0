"""Arrays as torch's tensors."""

import gc
import os
import re
import sys

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from apart import IS_APART, apart, errors_of
from hypothesis import strategies

import ndfile as nf

if IS_APART:
    import torch

    torch.set_num_threads(2)

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "longlong", "ulonglong"]
NUMPYS = ["bool", *INTEGERS, "float16", "float32", "float64", "complex64", "complex128"]
EXTENSIONS = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
NOT_TORCHS = [
    np.dtype([("x", "f8"), ("y", "i4")]),
    *map(np.dtype, ("M8[s]", ">M8[s]", "m8[us]", "S3", "U2", ">U2", "V5", "g", "G")),
    np.dtype(ml_dtypes.float8_e3m4),
    np.dtype(ml_dtypes.int4),  # torch has the name, and nothing behind it
]


def is_mapped(path):
    with open("/proc/self/maps") as maps:
        return path in maps.read()


@apart
@pytest.mark.parametrize("mode", ["r+", "c"])
@pytest.mark.parametrize("copy", [None, False])
def test_a_tensor_over_a_writable_array_is_its_memory(file, numbers, mode, copy):
    a = nf.open(file, mode=mode)
    t = a.to_torch(copy)
    assert t.data_ptr() == a.ctypes.data
    assert tuple(t.shape) == a.shape
    t[1, 2] = 99
    assert a[1, 2] == 99
    assert np.load(file)[1, 2] == (99 if mode == "r+" else numbers[1, 2])


@apart
def test_a_tensor_over_a_new_file_fills_it(path):
    a = nf.memmap(path, "int64", "w+", shape=(4, 5))
    a.to_torch()[:] = 3
    assert np.fromfile(path, "int64").tolist() == [3] * 20


@apart
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_tensor_keeps_the_file_mapped(file, numbers, mode):
    t = nf.open(file, mode=mode).to_torch()
    gc.collect()
    assert is_mapped(file)
    assert np.array_equal(t.numpy(), numbers)
    del t
    assert not is_mapped(file)


@apart
def test_an_array_that_grows_leaves_its_tensors_where_they_are(file, numbers):
    a = nf.open(file, mode="r+")
    t = a.to_torch()
    a.append(np.full((1000, 4), 7, "f4"))
    assert np.array_equal(t.numpy(), numbers)
    t[0, 0] = 5
    assert a[0, 0] == 5


@apart
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("copy", [None, False])
def test_a_tensor_over_a_read_only_array_is_copy_on_write(file, numbers, mode, copy):
    a = nf.open(file, mode=mode)[:]
    a.flags.writeable = False
    t = a.to_torch(copy)
    assert np.array_equal(t.numpy(), numbers)
    t += 1
    t[0, 0] = -5
    assert t[0, 0] == -5
    assert np.array_equal(t[1:].numpy(), numbers[1:] + 1)
    assert np.array_equal(a, numbers)
    assert np.array_equal(np.load(file), numbers)


@apart
def test_a_copy_on_write_tensor_takes_memory_for_the_pages_that_are_written_alone(tmp_path):
    nf.create(tmp_path / "x.npy", shape=1 << 24, dtype="float32", sparse=True).close()

    def private_nbytes():
        with open("/proc/self/smaps_rollup") as smaps:
            return 1024 * int(re.search(r"Private_Dirty: +(\d+)", smaps.read())[1])

    t = nf.open(tmp_path / "x.npy").to_torch()
    assert t.sum() == 0
    before = private_nbytes()
    t[:: 1 << 14] = 1  # a page in sixteen
    assert 1024 * 4096 <= private_nbytes() - before < t.nbytes // 4


@apart
def test_a_reader_has_its_tensor_while_a_writer_appends(file, numbers):
    writer, reader = nf.open(file, mode="r+"), nf.open(file)
    for _ in range(5):
        writer.append(np.ones((1000, 4), "f4"))
        assert np.array_equal(reader.to_torch().numpy(), numbers)


STEPS = [slice(None), slice(1, None), slice(None, None, 2), slice(0, 1), slice(None, None, -1), slice(2, 2), 1]


@apart
@hypothesis.given(
    index=strategies.tuples(*[strategies.sampled_from(STEPS)] * 3),
    axes=strategies.permutations(range(3)),
    mode=strategies.sampled_from(["r", "c"]),
    order=strategies.sampled_from("CF"),
)
@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_every_view_is_the_same_tensor_or_an_error_that_says_copy(tmp_path, index, axes, mode, order):
    path = str(tmp_path / order)
    values = np.arange(60, dtype="i4").reshape(3, 4, 5)
    if not os.path.exists(path):
        values.ravel(order).tofile(path)
    whole = nf.memmap(path, "i4", mode, shape=(3, 4, 5), order=order)
    a, expected = (x.transpose(axes)[(*index, ...)] for x in (whole, values))
    taken = [step for length, step in zip(a.shape, a.strides, strict=True) if length > 1 and a.size]
    if min(taken, default=0) < 0:
        for copy in (None, False):
            with pytest.raises(nf.LayoutError, match=r"strides \(.*copy=True"):
                a.to_torch(copy)
        t = a.to_torch(copy=True)
    else:
        t = a.to_torch(copy=False)
        assert [4 * step for length, step in zip(t.shape, t.stride(), strict=True) if length > 1 and a.size] == taken
    assert tuple(t.shape) == expected.shape
    assert np.array_equal(t.numpy(), expected)


@apart
def test_repeated_and_overlapping_items_and_one_item_can_be_had(file, numbers):
    a = nf.open(file, mode="r+")
    repeated = np.broadcast_to(a[1], (1000, 4), subok=True).to_torch(copy=False)
    assert np.array_equal(repeated.numpy(), [numbers[1]] * 1000)
    windows = np.lib.stride_tricks.sliding_window_view(a, 2, axis=0, subok=True).to_torch(copy=False)
    assert np.array_equal(windows.numpy(), np.lib.stride_tricks.sliding_window_view(numbers, 2, axis=0))
    assert a[1, 1, ...].to_torch(copy=False).item() == numbers[1, 1]


@apart
def test_fields_are_no_copies_where_they_are_a_whole_number_of_items_apart(tmp_path):
    even = nf.memmap(tmp_path / "even", [("x", "f8"), ("y", "i8")], "w+", shape=9)
    even["y"].to_torch()[3] = 7
    assert even[3].tolist() == (0.0, 7)
    odd = nf.memmap(tmp_path / "odd", [("x", "f8"), ("y", "i4")], "w+", shape=9)
    odd["x"] = np.arange(9)
    with pytest.raises(nf.LayoutError, match=r"strides \(12,\).*8 bytes\. .*copy=True"):
        odd["x"].to_torch()
    assert odd["x"].to_torch(copy=True).tolist() == list(range(9))
    odd["x"][:1].to_torch(copy=False)[0] = 5  # a stride that is never taken
    assert odd[0].tolist() == (5.0, 0)


@apart
@pytest.mark.parametrize("mode", ["r+", "r"])
def test_items_that_are_not_aligned_want_a_copy(file_of, mode):
    a = nf.memmap(file_of(b"abc" + np.arange(5.0).tobytes()), "f8", mode, offset=3)
    with pytest.raises(nf.LayoutError, match=r"multiples of 8 bytes, as float64 must.*copy=True"):
        a.to_torch()
    assert a.to_torch(copy=True).tolist() == [0, 1, 2, 3, 4]


@apart
@pytest.mark.parametrize("mode", ["r+", "r"])
@pytest.mark.parametrize("name", NUMPYS)
def test_numpys_types_that_torch_has(path, name, mode):
    dtype = np.dtype(name)
    values = np.random.default_rng(1).integers(0, 100, 50).astype(dtype)
    values.tofile(path)
    a = nf.memmap(path, dtype, mode)
    t = a.to_torch(copy=False)
    assert t.dtype == getattr(torch, dtype.name)
    assert (t.data_ptr() == a.ctypes.data) == (mode == "r+")
    assert np.array_equal(t.numpy(), values)


@apart
@pytest.mark.parametrize("mode", ["r+", "r"])
@pytest.mark.parametrize("name", EXTENSIONS)
def test_every_number_of_the_short_floats_is_the_same_in_torch(path, name, mode):
    dtype = np.dtype(getattr(ml_dtypes, name))
    every = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    every.tofile(path)
    a, expected = nf.memmap(path, dtype, mode), every.view(dtype).astype("f4")
    for t in (a.to_torch(copy=False), a.to_torch(copy=True)):
        assert t.dtype == getattr(torch, name)
        assert np.array_equal(t.float().numpy(), expected, equal_nan=True)
    assert np.array_equal(a[::2].to_torch().float().numpy(), expected[::2], equal_nan=True)


@apart
@pytest.mark.parametrize("dtype", NOT_TORCHS, ids=str)
def test_what_torch_has_no_type_for_is_refused_with_what_works_instead(path, dtype):
    a = nf.memmap(path, dtype, "w+", shape=6)
    for copy in (None, True, False):
        with pytest.raises(nf.LayoutError) as caught:
            a.to_torch(copy)
        assert f"has no type for {dtype}" in caught.value.problem
    instead = eval(re.search(r"\ba[.\[].*?(?=\.$|, the )", caught.value.advice)[0], {"a": a})
    t = instead.to_torch(copy=True) if isinstance(instead, nf.memmap) else torch.from_numpy(instead)
    assert t.nbytes >= 6 * 1


@apart
@pytest.mark.parametrize("name", [">f4", ">i2", ">u8", ">c16"])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_the_other_order_of_bytes_is_put_right_in_a_copy(path, name, mode):
    values = np.arange(10).astype(name)
    values.tofile(path)
    a = nf.memmap(path, name, mode)
    for copy in (None, True):
        t = a.to_torch(copy)
        assert np.array_equal(t.numpy(), values)
        t[0] = 1
        assert a[0] == 0
    with pytest.raises(nf.LayoutError, match=f"copy=False, and {name}"):
        a.to_torch(copy=False)


@apart
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_copy_is_memory_of_its_own_in_order_c(file, numbers, mode):
    a = nf.open(file, mode=mode)
    t = a.T.to_torch(copy=True)
    assert t.is_contiguous()
    t[0, 0] = 99
    assert np.array_equal(a, numbers)
    a.close()
    assert np.array_equal(t.numpy()[1:], numbers.T[1:])


@apart
@pytest.mark.parametrize("what", ["deleted", "replaced", "in an atomic block", "changed in memory"])
def test_a_read_only_array_that_cannot_be_mapped_anew_says_copy(file, numbers, what):
    a = nf.open(file, mode={"in an atomic block": "r+", "changed in memory": "c"}.get(what, "r"))
    expected = numbers.copy()

    def is_refused():
        view = a[1:]
        view.flags.writeable = False
        with pytest.raises(nf.LayoutError, match=r"read-only.*copy=True"):
            view.to_torch()
        assert np.array_equal(view.to_torch(copy=True).numpy(), expected[1:])

    if what == "deleted":
        os.remove(file)
        is_refused()
    elif what == "replaced":
        nf.save(file, numbers + 1)
        is_refused()
    elif what == "in an atomic block":
        with a.atomic():
            a[2, 2] = expected[2, 2] = 99
            is_refused()
    else:
        a[2, 2] = expected[2, 2] = 99
        is_refused()


@apart
def test_a_closed_array_is_no_tensor(file):
    a = nf.open(file)
    a.close()
    for copy in (None, True, False):
        with pytest.raises(nf.ClosedError, match="to_torch"):
            a.to_torch(copy)


@apart
def test_a_tensor_that_is_left_over_raises_as_a_plain_view_does(file):
    a = nf.open(file, mode="r+")
    t = a.to_torch()
    a.close()
    for act in (lambda: t[0, 0].item(), lambda: t.fill_(1), t.sum, lambda: repr(t)):
        assert errors_of(act) == {nf.ClosedError}


@apart
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_what_torch_makes_of_a_read_only_array_by_itself_raises_when_it_is_written(file, numbers):
    a = nf.open(file)
    t = torch.from_numpy(a)
    for act in (lambda: t.fill_(7), lambda: t[0].add_(1)):
        assert errors_of(act) == {nf.ReadOnlyError}
        assert np.array_equal(a, numbers)
        assert np.array_equal(np.load(file), numbers)


@apart
@pytest.mark.parametrize("act", ["sum", "sqrt_", "clone", "sort"])
def test_what_torchs_own_threads_meet_after_a_close_is_raised(tmp_path, act):
    a = nf.create(tmp_path / "x.npy", shape=(2000, 1000), dtype="float32")
    t = a.to_torch()
    a.close()
    assert errors_of(getattr(t, act)) == {nf.ClosedError}


@apart
def test_a_copy_on_write_tensor_outlives_a_close(file, numbers):
    a = nf.open(file)
    t = a.to_torch()
    a.close()
    t[0] = 1
    assert np.array_equal(t[1:].numpy(), numbers[1:])


@apart
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_tensor_over_a_file_that_is_cut_raises(tmp_path, mode):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((2000, 1000), "f4"))
    a = nf.open(path, mode=mode)
    t = a.to_torch()
    os.truncate(path, 1 << 20)
    assert errors_of(t.sum) == {nf.FaultError}
    assert t[:100].sum() == 100_000
    with pytest.raises(nf.FaultError):
        a.to_torch()
    if mode == "r+":
        with pytest.raises(nf.FaultError):
            a.close()


class Rows:
    """A data set of rows and their numbers."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], i


class CopiedRows(Rows):
    def __getitem__(self, i):
        return self.rows[i].copy(), i


@apart
@pytest.mark.parametrize("held", ["an array of mode r", "an array of mode c", "a tensor"])
def test_workers_of_a_data_loader_read_the_file(tmp_path, held):
    values = np.random.default_rng(3).random((100, 6), "f4")
    np.save(tmp_path / "x.npy", values)
    a = nf.open(tmp_path / "x.npy", mode="c" if held == "an array of mode c" else "r")
    rows = Rows(a.to_torch()) if held == "a tensor" else (CopiedRows(a) if a.mode == "r" else Rows(a))
    order = torch.Generator().manual_seed(1)
    loader = torch.utils.data.DataLoader(
        rows, 10, shuffle=True, num_workers=2, multiprocessing_context="fork", generator=order
    )
    seen = []
    for batch, numbers in loader:
        assert np.array_equal(batch.numpy(), values[numbers.numpy()])
        seen += numbers.tolist()
    assert sorted(seen) == list(range(100))


@apart
def test_a_model_learns_from_a_file_what_it_learns_from_memory(tmp_path):
    values = np.random.default_rng(5).random((400, 8), "f4")
    np.save(tmp_path / "x.npy", values)

    def weights(x):
        torch.manual_seed(1)
        torch.set_num_threads(1)
        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for rows in x.split(50):
            optimizer.zero_grad()
            (model(rows) - rows.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
        return model.weight.detach().numpy()

    assert np.array_equal(weights(nf.open(tmp_path / "x.npy").to_torch()), weights(torch.from_numpy(values)))


def test_without_torch_the_error_says_what_to_install(array, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(nf.LibraryError, match=r"to_torch needs torch.*ndfile\[torch\]"):
        array.to_torch()
