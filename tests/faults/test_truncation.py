"""Files cut under their mappings: every way of access, in every mode, at every kind of place."""

import os
import pickle
import time

import faulty
import numpy as np
import pytest
from faulty import PAGE, call, forked, say

import ndfile as nf

MODES = ("r", "r+", "c")

PAGES = 8
SIZE = PAGES * PAGE

CUTS = {
    "0": 0,
    "1": 1,
    "page - 1": PAGE - 1,
    "page": PAGE,
    "inside a page": 3 * PAGE + PAGE // 2,
    "last page": SIZE - PAGE,
}


def sort(array):
    return array.sort() if array.flags.writeable else np.sort(array)


def add_into(array):
    return np.add(1, array, out=array if array.flags.writeable else np.empty(array.shape, array.dtype))


def to_file(array):
    array.tofile(array.filename + ".copy")


# Each reaches the last page. With slices and views it is the reading that does.
WAYS = {
    "scalar": lambda array: array[-1],
    "slice": lambda array: array[5:-5].sum(),
    "ufunc": lambda array: np.add(array, 1),
    "sort": sort,
    "copy": lambda array: array.copy(),
    "bytes": lambda array: bytes(array),
    "memoryview": lambda array: memoryview(array).tobytes(),
    "tofile": to_file,
    "fancy": lambda array: array[[0, -1, -2]],
    "out=": add_into,
    "view": lambda array: np.asarray(array).sum(),
    "pickle": lambda array: pickle.dumps(array),
}
CHANGE_THE_DATA = {"sort", "out="}

CASES = len(MODES) * len(CUTS) * len(WAYS)


def content():
    return (np.arange(SIZE) % 251).astype("u1")


def make_file(folder):
    path = os.path.join(folder, "cut.dat")
    if os.path.exists(path):
        os.unlink(path)
    content().tofile(path)
    return path


def error_of(use):
    """The error that `use` raises, at the latest before the next line."""
    try:
        use()
        return None  # where a plain view's error is raised
    except OSError as error:
        return error


def facts_of(error):
    return [type(error).__name__, *(getattr(error, name, None) for name in ("path", "cause", "offset"))]


def differences(folder, mode, way, cut):
    """What is not as it should be in one case."""
    path = make_file(folder)
    array = nf.memmap(path, "u1", mode)
    os.truncate(path, cut)
    wrong = []

    def expect(what, got, wanted):
        if got != wanted:
            wrong.append([what, got, wanted])

    told = ["FaultError", path, "truncated", cut]
    error = error_of(lambda: WAYS[way](array))
    if way != "tofile" or type(error) is not OSError:
        # write(2) answers EFAULT instead of raising a signal, which NumPy reports by an OSError of its own.
        expect("access", facts_of(error), told)
    expect("check", facts_of(error_of(array.check)), told)
    expect("flush", facts_of(error_of(array.flush)), told if mode == "r+" else ["NoneType", None, None, None])
    if way not in CHANGE_THE_DATA:
        expect("data before the cut", np.array_equal(array[:cut], content()[:cut]), True)
    expect("access again", facts_of(error_of(lambda: array[-1])), told)
    expect("plain access again", facts_of(error_of(lambda: np.asarray(array)[-PAGE:].max())), told)
    expect("close", facts_of(error_of(array.close)), told if mode == "r+" else ["NoneType", None, None, None])
    expect("size of the file", os.path.getsize(path), cut)
    return wrong


def run_matrix(mode, folder):
    failures = []
    for where, cut in CUTS.items():
        for way in WAYS:
            say([mode, where, way])
            wrong = differences(folder, mode, way, cut)
            if wrong:
                failures.append([mode, where, way, wrong])
    return failures


def use_numpys(folder, mode, way, cut):
    path = make_file(folder)
    array = np.memmap(path, "u1", mode)
    os.truncate(path, cut)
    WAYS[way](array)


def run_numpys_matrix(folder):
    return {
        f"{mode}, {where}, {way}": forked(use_numpys, folder, mode, way, cut).how
        for mode in MODES
        for where, cut in CUTS.items()
        for way in WAYS
    }


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """What went wrong in ours, by mode. A death fails here, with the case that it belongs to."""
    started = time.monotonic()
    folder = str(tmp_path_factory.mktemp("ours"))
    found = {mode: call(run_matrix, mode, folder).result() for mode in MODES}
    faulty.record("truncation", started, cases=CASES, deaths=0, failures=sum(map(len, found.values())))
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_access_to_a_cut_file_raises_with_path_cause_and_the_size_of_the_file(failures, mode):
    assert failures[mode] == []


def test_control_numpys_memmap_dies_of_the_same_accesses(tmp_path):
    ends = call(run_numpys_matrix, str(tmp_path)).result()
    assert len(ends) == CASES == 216
    survivors = {case for case, how in ends.items() if how != "SIGBUS"}
    assert all(case.endswith("tofile") for case in survivors)
    assert len(survivors) == len(MODES) * len(CUTS)


# Cuts that give no signal


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [SIZE - 1, SIZE - PAGE + 1, SIZE - PAGE // 2])
def test_a_cut_inside_the_last_page_is_found_by_check_and_flush(tmp_path, mode, cut):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", mode)
    array.check()
    os.truncate(path, cut)
    assert array[-1] == 0  # the control: the access alone cannot tell
    with pytest.raises(nf.FaultError) as caught:
        array.check()
    assert facts_of(caught.value) == ["FaultError", path, "truncated", cut]
    if mode == "r+":
        with pytest.raises(nf.FaultError):
            array.flush()
        with pytest.raises(nf.FaultError):
            array.close()
    np.testing.assert_array_equal(nf.memmap(path, "u1", "r"), content()[:cut])


# From 1 MiB on.
BULK = {
    "sum": lambda array: array.sum(),
    "copy": lambda array: array.copy(),
    "ufunc": lambda array: array + 1,
    "astype": lambda array: array.astype("f8"),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", BULK)
def test_a_cut_inside_the_last_page_is_found_by_bulk_calls(tmp_path, mode, way):
    path = str(tmp_path / "large.dat")
    np.ones(2 << 20, "u1").tofile(path)
    array = nf.memmap(path, "u1", mode)
    BULK[way](array)
    os.truncate(path, (2 << 20) - 1)
    with pytest.raises(nf.FaultError) as caught:
        BULK[way](array)
    assert facts_of(caught.value) == ["FaultError", path, "truncated", (2 << 20) - 1]


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_whole_passes_the_check(tmp_path, mode):
    array = nf.memmap(make_file(tmp_path), "u1", mode)
    array.check()
    array.flush()


def test_a_file_that_grew_passes_the_check(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r+")
    os.truncate(path, 2 * SIZE)
    array.check()
    array.flush()


# Other cuts


def test_an_array_that_starts_inside_the_file_tells_offsets_of_the_file(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r", offset=PAGE + 100)
    os.truncate(path, 2 * PAGE)
    with pytest.raises(nf.FaultError) as caught:
        array.sum()
    assert caught.value.offset == 2 * PAGE
    np.testing.assert_array_equal(array[: PAGE - 100], content()[PAGE + 100 : 2 * PAGE])


def test_an_array_whose_file_was_cut_before_its_start_has_nothing_left(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r", offset=3 * PAGE)
    os.truncate(path, PAGE)
    with pytest.raises(nf.FaultError) as caught:
        array[0]
    assert caught.value.offset == PAGE


def test_a_file_without_a_name_tells_where_it_was_cut(tmp_path):
    path = make_file(tmp_path)
    with open(path, "rb+") as file:
        array = nf.memmap(file, "u1", "r")
        os.unlink(path)
        os.ftruncate(file.fileno(), 3 * PAGE)
        with pytest.raises(nf.FaultError) as caught:
            array.sum()
    assert caught.value.offset == 3 * PAGE
    np.testing.assert_array_equal(array[: 3 * PAGE], content()[: 3 * PAGE])


def test_a_file_that_is_cut_twice_tells_of_the_second_cut_too(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r+")
    for pages in (6, 2):
        os.truncate(path, pages * PAGE)
        for _ in range(2):
            with pytest.raises(nf.FaultError):
                array[pages * PAGE :].sum()
        np.testing.assert_array_equal(array[: pages * PAGE], content()[: pages * PAGE])
    with pytest.raises(nf.FaultError):
        array.close()


def test_what_was_lost_stays_lost_when_the_file_grows_again(tmp_path):
    path = make_file(tmp_path)
    array = nf.memmap(path, "u1", "r")
    os.truncate(path, PAGE)
    with pytest.raises(nf.FaultError):
        array.sum()
    content().tofile(path)
    with pytest.raises(nf.FaultError):
        array.sum()
    np.testing.assert_array_equal(array[:PAGE], content()[:PAGE])
    np.testing.assert_array_equal(nf.memmap(path, "u1", "r"), content())


@pytest.mark.at_once
def test_two_cut_files_in_one_operation_both_stay_lost(tmp_path):
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        content().tofile(path)
    arrays = [nf.memmap(path, "u1", "r") for path in paths]
    views = [np.asarray(array) for array in arrays]
    for path in paths:
        os.truncate(path, PAGE)
    with pytest.raises(nf.FaultError):
        views[0] + views[1]
    for view, path in zip(views, paths, strict=True):
        with pytest.raises(nf.FaultError) as caught:
            view.sum()
        assert caught.value.path == path
