"""sort: as NumPy's, by every way that there is, within its memory, and nothing left behind."""

import errno
import os
import tracemalloc

import numpy as np
import pytest
from devices import MIB, memory_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sort_values import DTYPES, assert_same, expected_of, items_of, mapped

import ndfile as nf
from ndfile.compute import lanes, runs


@pytest.fixture(params=[2, 3, 1000], ids="fan-in {}".format)
def small_runs(request, monkeypatch):
    """Runs of some items, of which few are made one at a time."""
    monkeypatch.setattr(lanes, "RUN_NBYTES", 64)
    monkeypatch.setattr(lanes, "COUNTED_NBYTES", 48)
    monkeypatch.setattr(runs, "MOST_RUNS", request.param)
    monkeypatch.setattr(runs, "SAMPLE_NBYTES", 64)
    monkeypatch.setattr(runs, "NEAR_NBYTES", 16 * request.param)


shapes = st.one_of(
    st.tuples(st.integers(0, 300)),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 5)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 999))
def test_every_way_gives_what_numpy_gives(small_runs, data, shape, dtype, seed):
    array = items_of(dtype, int(np.prod(shape)), seed).reshape(shape, order=data.draw(st.sampled_from("CF")))
    array = data.draw(st.sampled_from([array, array.T, array[::-1], array[..., ::2]]))
    axis = data.draw(st.one_of(st.none(), st.integers(-array.ndim, array.ndim - 1)))
    kind = data.draw(st.sampled_from([None, "stable"]))
    expected = expected_of(array, axis)
    assert_same(nf.sort(array, axis, kind=kind, threads=2), expected)
    out = np.empty(expected.shape, expected.dtype)
    assert nf.sort(array, axis, kind=kind, out=out, threads=1) is out
    assert_same(out, expected)
    if kind == "stable" and out.dtype.char != "g" and out.dtype.num < 256:  # padding; bits of NaNs
        assert out.tobytes() == expected.tobytes()
    if expected.shape == array.shape:
        same = array.copy()
        assert_same(nf.sort(same, axis, kind=kind, out=same), expected)


@pytest.mark.parametrize("dtype", ["f8", ">i4", "u1", "S5"])
def test_a_file_is_sorted_into_another_and_in_place(small_runs, tmp_path, dtype):
    values = items_of(dtype, 1000, 1)
    with mapped(str(tmp_path / "a.npy"), values) as a, mapped(str(tmp_path / "b.npy"), values) as b:
        assert type(nf.sort(a)) is np.ndarray
        assert nf.sort(a, out=b) is b
        np.testing.assert_array_equal(b, np.sort(values))
        np.testing.assert_array_equal(a, values)
        assert nf.sort(a, out=a) is a
        np.testing.assert_array_equal(a, np.sort(values))
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "b.npy"]


def test_equal_items_keep_their_order_where_that_is_asked_for(small_runs):
    zeros = np.where(np.random.default_rng(0).random(500) < 0.5, 0.0, -0.0)
    assert nf.sort(zeros, kind="stable").tobytes() == zeros.tobytes()


def test_the_number_of_threads_makes_no_difference(small_runs):
    array = items_of("f8", 1000, 3)
    out = np.empty_like(array)
    found = {(nf.sort(array, threads=n).tobytes(), nf.sort(array, out=out, threads=n).tobytes()) for n in range(1, 6)}
    assert len(found) == 1


@pytest.mark.parametrize("axis", [2, -3, 1.5])
def test_a_wrong_axis_is_numpys_error(axis):
    with pytest.raises((np.exceptions.AxisError, TypeError)):
        nf.sort(np.zeros((2, 2)), axis)


@pytest.mark.parametrize(
    ("array", "options", "error"),
    [
        (np.array([None, 1]), {}, TypeError),
        (np.array(["a"], np.dtypes.StringDType()), {}, TypeError),
        (np.ma.masked_equal([1, 2], 1), {}, TypeError),
        (np.zeros(3), {"kind": "bogo"}, ValueError),
        (np.zeros(3), {"threads": 0}, ValueError),
        (np.zeros(3), {"progress": 3}, TypeError),
        (np.zeros(3), {"tmp_dir": "/no/such/folder"}, NotADirectoryError),
        (np.zeros(3), {"out": [1, 2, 3]}, TypeError),
        (np.zeros(3), {"out": np.zeros(4)}, ValueError),
        (np.zeros(3), {"out": np.zeros(3, "f4")}, ValueError),
        (np.zeros(3), {"out": np.broadcast_to(0.0, 3)}, ValueError),
    ],
)
def test_what_cannot_be_done_is_refused(array, options, error):
    with pytest.raises(error):
        nf.sort(array, **options)


def test_an_out_that_overlaps_is_refused(tmp_path):
    array = np.arange(9.0)[::-1].copy()
    for a, out in [(array[1:], array[:-1]), (array, array[::-1])]:
        with pytest.raises(ValueError, match="shares memory"):
            nf.sort(a, out=out)
    assert array[0] == 8
    nf.sort(array[1::2], out=array[:8:2])
    assert array.tolist() == [1, 7, 3, 5, 5, 3, 7, 1, 0]


def test_two_maps_of_one_file_overlap(tmp_path):
    path = str(tmp_path / "x.dat")
    with (
        nf.memmap(path, "f8", "w+", shape=100) as out,
        nf.memmap(path, "f8", "r") as a,
        nf.memmap(path, "f8", "r", shape=50) as low,
        nf.memmap(path, "f8", "r+", offset=400) as high,
    ):
        with pytest.raises(ValueError, match="shares memory"):
            nf.sort(a, out=out)
        assert nf.sort(low, out=high) is high


def test_a_full_disk_is_an_error_before_anything_is_changed(small_runs, tmp_path):
    values = items_of("f8", MIB // 8, 5)
    with memory_disk(str(tmp_path / "disk"), MIB + MIB // 2) as disk, mapped(f"{disk}/a.npy", values) as a:
        with pytest.raises(OSError, match="tmp_dir") as caught:
            nf.sort(a, out=a)
        assert caught.value.errno == errno.ENOSPC
        assert np.array_equal(a, values, equal_nan=True)
        assert os.listdir(disk) == ["a.npy"]


def test_an_exception_ends_it_and_leaves_no_file(small_runs, tmp_path):
    values = items_of("f8", 1000, 6)

    def stop(done, _total):
        if done:
            raise KeyboardInterrupt

    with (
        mapped(str(tmp_path / "a.npy"), values) as a,
        mapped(str(tmp_path / "b.npy"), values) as b,
        pytest.raises(KeyboardInterrupt),
    ):
        nf.sort(a, out=b, progress=stop)
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "b.npy"]


def test_a_file_that_is_cut_meanwhile_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(lanes, "RUN_NBYTES", MIB)
    values = items_of("f8", MIB, 7)
    nf.save(str(tmp_path / "a.npy"), values)
    with (
        nf.open(str(tmp_path / "a.npy")) as a,
        mapped(str(tmp_path / "b.npy"), values) as b,
        pytest.raises(nf.FaultError),
    ):
        nf.sort(a, out=b, progress=lambda done, _total: done or os.truncate(a.filename, 2 * MIB), threads=1)
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "b.npy"]


def test_progress_ends_at_the_total(small_runs):
    for options in ({}, {"kind": "stable"}, {"out": np.empty(500)}):
        seen = []
        nf.sort(items_of("f8", 500, 8), progress=lambda *both, seen=seen: seen.append(both), **options)
        assert seen[0][0] == 0
        assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("dtype", ["f8", "i2"])
def test_memory_is_bounded(tmp_path, dtype):
    values = np.random.default_rng(0).integers(-30000, 30000, 160 * MIB // np.dtype(dtype).itemsize, "i2").astype(dtype)
    with mapped(str(tmp_path / "a.npy"), values) as a:
        del values
        tracemalloc.start()
        nf.sort(a, out=a)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * MIB
        assert (a[1:] >= a[:-1]).all()


def test_more_than_the_process_may_have_is_sorted(tmp_path, run_python):
    path = str(tmp_path / "a.npy")
    nf.save(path, np.random.default_rng(0).random(24 * MIB))
    run_python(
        """
        import resource, sys
        import numpy as np
        import ndfile as nf
        a = nf.open(sys.argv[1], "r+")
        with open("/proc/self/statm") as file:
            data = int(file.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (data + (80 << 20),) * 2)
        nf.sort(a, out=a)
        blocks = [a[start : start + 10**6 + 1] for start in range(0, a.size, 10**6)]
        assert all((block[1:] >= block[:-1]).all() for block in blocks)
        """,
        path,
    )
