"""unique: as NumPy's of all items, in memory or by way of temporary files, within its memory."""

import os
import tracemalloc

import numpy as np
import pytest
from devices import MIB, memory_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sort_values import DTYPES, assert_same, items_of, mapped

import ndfile as nf
from ndfile.compute import runs, uniques


@pytest.fixture(params=[2, 3, 1000], ids="fan-in {}".format)
def small_runs(request, monkeypatch):
    """Blocks of some items, of which more than a few are set aside."""
    for name, nbytes in [("BLOCK", 64), ("FEW", 24), ("PART", 64), ("GROWTH", 8), ("COUNTED", 32)]:
        monkeypatch.setattr(uniques, f"{name}_NBYTES", nbytes)
    monkeypatch.setattr(runs, "MOST_RUNS", request.param)
    monkeypatch.setattr(runs, "SAMPLE_NBYTES", 64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    count=st.integers(0, 400),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 999),
    equal=st.booleans(),
)
def test_every_way_gives_what_numpy_gives(small_runs, data, count, dtype, seed, equal):
    array = items_of(dtype, count, seed)
    array = data.draw(st.sampled_from([array, array[::-1], array[: count // 7 * 7].reshape(7, -1)[:, ::2]]))
    plain = array.astype("f4") if array.dtype.num >= 256 else array  # ml_dtypes do not order NaNs
    values, counts = np.unique(plain, return_counts=True, equal_nan=equal)
    found, found_counts = nf.unique(array, return_counts=True, equal_nan=equal, threads=2)
    assert_same(found, values.astype(array.dtype))
    assert_same(found_counts, counts)
    assert_same(nf.unique(array, equal_nan=equal, threads=1), found)


def test_the_number_of_threads_makes_no_difference(small_runs):
    array = items_of("f8", 2000, 1) + np.random.default_rng(0).integers(0, 500, 2000)
    assert (
        len({tuple(part.tobytes() for part in nf.unique(array, return_counts=True, threads=n)) for n in (1, 2, 5)}) == 1
    )


@pytest.mark.parametrize(
    ("array", "options", "error"),
    [
        (np.array([None, 1]), {}, TypeError),
        (np.zeros(3), {"return_inverse": True}, TypeError),
        (np.zeros(3), {"threads": 1.5}, ValueError),
        (np.zeros(3), {"tmp_dir": "/no/such/folder"}, NotADirectoryError),
    ],
)
def test_what_cannot_be_done_is_refused(array, options, error):
    with pytest.raises(error):
        nf.unique(array, **options)


def test_a_full_disk_is_an_error(tmp_path):
    values = np.random.default_rng(0).random(MIB)
    with memory_disk(str(tmp_path / "disk"), 2 * MIB) as disk:
        with pytest.raises(OSError, match="tmp_dir"):
            nf.unique(values, tmp_dir=disk)
        assert os.listdir(disk) == []


def test_an_interrupt_and_a_cut_file_leave_no_file(tmp_path):
    def stop(done, _total):
        if done:
            raise KeyboardInterrupt

    nf.save(str(tmp_path / "a.npy"), np.random.default_rng(0).random(2 * MIB))
    with nf.open(str(tmp_path / "a.npy")) as a:
        with pytest.raises(KeyboardInterrupt):
            nf.unique(a, progress=stop)
        with pytest.raises(nf.FaultError):
            nf.unique(a, progress=lambda done, _total: done or os.truncate(a.filename, 6 * MIB), threads=1)
    assert os.listdir(tmp_path) == ["a.npy"]


@pytest.mark.parametrize("distinct", [1000, 1 << 40])
def test_memory_is_bounded(tmp_path, distinct):
    with mapped(str(tmp_path / "a.npy"), np.random.default_rng(0).integers(0, distinct, 12 * MIB)) as a:
        tracemalloc.start()
        values, counts = nf.unique(a, return_counts=True)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * MIB + values.nbytes + counts.nbytes
        assert counts.sum() == a.size
        assert (values[1:] > values[:-1]).all()
