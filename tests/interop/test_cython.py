"""Arrays as typed memoryviews of Cython's."""

import gc
import importlib.util
import os
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
from apart import errors_of

import ndfile as nf

HERE = os.path.dirname(os.path.realpath(__file__))


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """The module of `views.pyx`."""
    folder = tmp_path_factory.mktemp("cython")
    source, library = str(folder / "views.c"), str(folder / f"views{sysconfig.get_config_var('EXT_SUFFIX')}")
    cython = [sys.executable, "-m", "cython", "-3", os.path.join(HERE, "views.pyx"), "-o", source]
    gcc = ["gcc", "-shared", "-fPIC", "-O1", f"-I{sysconfig.get_path('include')}", source, "-o", library]
    for command in (cython, gcc):
        subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("views", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def file(path):
    np.arange(12.0).tofile(path)
    return path


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_const_view_reads_every_view(views, file, mode):
    a = nf.memmap(file, "f8", mode, shape=(3, 4))
    for view in (a, a.T, a[::-1, ::2], a[1:2], a[:0]):
        assert views.total(view) == np.asarray(view).sum()
    assert views.total_of_rows(a) == 66


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_view_writes(views, file, mode):
    a = nf.memmap(file, "f8", mode, shape=(3, 4))
    views.fill(a[:, 1:3], -1)
    expected = np.arange(12.0).reshape(3, 4)
    assert np.array_equal(np.fromfile(file).reshape(3, 4), expected) == (mode == "c")
    expected[:, 1:3] = -1
    assert np.array_equal(a, expected)


def test_a_view_that_may_write_does_not_take_a_read_only_array(views, file):
    a = nf.memmap(file, "f8", "r", shape=(3, 4))
    with pytest.raises(ValueError, match="read-only"):
        views.fill(a, 1)
    assert np.array_equal(np.fromfile(file), np.arange(12))


def test_another_type_order_or_step_is_cythons_own_error(views, file):
    with pytest.raises(ValueError, match="mismatch"):
        views.total(nf.memmap(file, "f4", "r", shape=(3, 8)))
    with pytest.raises(ValueError, match="Big-endian"):
        views.total(nf.memmap(file, ">f8", "r", shape=(3, 4)))
    with pytest.raises(ValueError, match="contiguous"):
        views.total_of_rows(nf.memmap(file, "f8", "r", shape=(3, 4)).T)


def test_a_view_that_is_kept_keeps_the_file_mapped(views, file):
    kept = views.Kept(nf.memmap(file, "f8", "r", shape=(3, 4)))
    gc.collect()
    with open("/proc/self/maps") as maps:
        assert file in maps.read()
    assert kept.item(2, 1) == 9


def test_a_view_that_is_left_over_raises_after_a_close_and_after_a_cut(views, path):
    np.ones((1000, 100)).tofile(path)
    a, b = (nf.memmap(path, "f8", "r", shape=(1000, 100)) for _ in range(2))
    kept = views.Kept(a)
    a.close()
    assert errors_of(lambda: kept.item(0, 0)) == {nf.ClosedError}
    assert errors_of(lambda: views.total(a)) == {nf.ClosedError}
    os.truncate(path, 8192)
    assert errors_of(lambda: views.total(b)) == {nf.FaultError}
