"""Raw bytes: with a sidecar that says what they are, or with hints; and pairs that are replaced while others read."""

import json
import os
import subprocess
import sys
import textwrap
import time
import tracemalloc

import numpy as np
import numpy.random  # hypothesis asks for it: what it maps stays
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import ndfile as nf
from ndfile.formats import raw

try:  # before the tests: what it maps stays
    import ml_dtypes
except ImportError:
    ml_dtypes = None

MODES = ["r", "r+", "c"]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "x.bin")


def whole(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content, **fields):
    with open(path, "wb") as file:
        file.write(content)
    if fields:
        with open(path + ".json", "w", encoding="utf-8") as file:
            json.dump(fields, file)


NUMBERS = np.arange(12, dtype="<f4").reshape(3, 4)


def assert_same(mapped, expected):
    assert isinstance(mapped, nf.memmap)
    assert (mapped.dtype, mapped.shape) == (expected.dtype, expected.shape)
    assert mapped.tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_sidecar_says_what_the_bytes_are(mode, path):
    write(path, b"head" + NUMBERS.tobytes(), dtype="<f4", shape=[3, 4], offset=4, metadata={"a": [1]})
    content = whole(path)
    with nf.open(path, mode) as mapped:
        assert_same(mapped, NUMBERS)
        assert mapped.offset == 4
        assert mapped.flags.writeable == (mode != "r")
    about = nf.info(path)
    assert (about.format, about.metadata, about.notes) == ("raw", {"a": [1]}, ())
    assert whole(path) == content


def test_only_the_dtype_is_needed(path):
    write(path, NUMBERS.tobytes(), dtype="<f4")
    with nf.open(path) as mapped:
        assert_same(mapped, NUMBERS.ravel())


def test_order_f_is_kept(path):
    write(path, NUMBERS.tobytes("F"), dtype="<f4", shape=[3, 4], order="F")
    with nf.open(path) as mapped:
        assert_same(mapped, NUMBERS)
        assert mapped.flags.f_contiguous


@pytest.mark.parametrize("dtype", [">i2", "<f8", "S5", "<U3", "<M8[ns]", "float32"])
def test_a_sidecar_of_somebody_else_may_have_any_dtype(dtype, path):
    write(path, bytes(120), dtype=dtype)
    with nf.open(path) as mapped:
        assert mapped.dtype == np.dtype(dtype)


def test_a_sidecar_of_somebody_else_may_have_fields(path):
    write(path, bytes(120), dtype=[["a", "<f4"], ["b", ">i2", [3]]])
    with nf.open(path) as mapped:
        assert mapped.dtype == [("a", "<f4"), ("b", ">i2", (3,))]
        assert mapped.shape == (12,)


def test_hints_say_what_the_bytes_are(path):
    write(path, b"head" + NUMBERS.tobytes())
    with nf.open(path, dtype="<f4", shape=(3, 4), offset=4) as mapped:
        assert_same(mapped, NUMBERS)
    with nf.open(path, dtype="<f4", shape=12, offset=4) as mapped:
        assert_same(mapped, NUMBERS.ravel())
    with nf.open(path, dtype="<f4", offset=4) as mapped:
        assert_same(mapped, NUMBERS.ravel())
    with nf.open(path, "r+", dtype="<f4", offset=4, shape=(4, 3), order="F") as mapped:
        assert mapped.flags.f_contiguous
        mapped[3, 2] = 99
    assert np.fromfile(path, "<f4", offset=4)[-1] == 99
    assert nf.info(path, dtype="<f4", shape=3).notes == ("40 bytes follow the array",)


def test_hints_win_over_the_sidecar(path):
    write(path, NUMBERS.tobytes(), dtype="<f4", shape=[3, 4], metadata={"a": 1})
    with nf.open(path, shape=(4, 3)) as mapped:
        assert_same(mapped, NUMBERS.reshape(4, 3))
    with nf.open(path, dtype="<i4") as mapped:
        assert_same(mapped, NUMBERS.view("<i4").ravel())
    with nf.open(path, offset=16, shape=(2, 4)) as mapped:
        assert_same(mapped, NUMBERS[1:])
    assert nf.info(path, dtype="<i4").metadata == {}


def test_a_file_without_suffix_needs_hints(tmp_path):
    path = str(tmp_path / "x")
    write(path, NUMBERS.tobytes())
    with pytest.raises(nf.FormatError, match=r"neither its content nor its name tells a format.*Pass dtype="):
        nf.open(path)
    with pytest.raises(nf.FormatError, match=r"nothing says what its bytes are.*'x\.json'"):
        nf.open(path, format="raw")
    write(path, NUMBERS.tobytes(), dtype="<f4")
    with nf.open(path) as mapped:
        assert_same(mapped, NUMBERS.ravel())


def test_hints_for_a_file_that_describes_itself_are_refused(tmp_path):
    path = str(tmp_path / "x.npy")
    np.save(path, NUMBERS)
    with pytest.raises(nf.FormatError, match=r"its content is npy.*format='raw'"):
        nf.open(path, dtype="<f4")
    with nf.open(path, dtype="<f4", offset=128, format="raw") as mapped:
        assert_same(mapped, NUMBERS.ravel())


@pytest.mark.parametrize(
    ("hints", "problem"),
    [
        ({"shape": (3, 5)}, "needs 60 bytes"),
        ({"shape": (-1,)}, "negative size"),
        ({"offset": -4}, "offset -4 is negative"),
        ({"offset": 49}, "starts at offset 49|49"),
        ({"order": "A B"}, "order must be"),
        ({"dtype": "O"}, "pointers"),
        ({"dtype": "<f8", "offset": 4}, "no whole number"),
        ({"size": 3}, "takes no size"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", MODES)
def test_hints_that_no_file_satisfies_are_refused_and_nothing_grows(hints, problem, mode, path):
    write(path, NUMBERS.tobytes())
    with pytest.raises((nf.LayoutError, nf.SizeError, nf.FormatError), match=problem):
        nf.open(path, mode, **{"dtype": "<f4"} | hints)
    assert whole(path) == NUMBERS.tobytes()


def test_an_unknown_dtype_is_what_numpy_says(path):
    write(path, NUMBERS.tobytes())
    with pytest.raises(TypeError):
        nf.open(path, dtype="no such type")


def test_a_change_through_one_map_is_seen_by_the_other(path):
    nf.save(path, NUMBERS, sync=False)
    with nf.open(path, "r+") as ours:
        theirs = np.memmap(path, "<f4", "r+", shape=(3, 4))
        ours[1, 2] = 100
        assert theirs[1, 2] == 100
        theirs[2, 3] = 200
        assert ours[2, 3] == 200
        theirs._mmap.close()
    assert np.fromfile(path, "<f4").reshape(3, 4)[2, 3] == 200


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0, 3)], ids=str)
@pytest.mark.parametrize("suffix", ["bin", "raw", "dat"])
def test_what_is_saved_numpy_reads(suffix, shape, order, tmp_path):
    path = str(tmp_path / f"x.{suffix}")
    expected = np.asarray(np.arange(np.prod(shape, dtype=int), dtype=">i4").reshape(shape), order=order)
    nf.save(path, expected, metadata={"a": "b"}, sync=False)
    fields = json.loads(whole(path + ".json"))
    assert fields.keys() == {"dtype", "shape", "order", "offset", "metadata"}
    read = np.fromfile(path, fields["dtype"], offset=fields["offset"]).reshape(fields["shape"], order=fields["order"])
    assert read.dtype == expected.dtype
    assert np.array_equal(read, expected)
    with nf.open(path) as mapped:
        assert_same(mapped, expected)
    with nf.create(str(tmp_path / f"y.{suffix}"), shape, ">i4", order, metadata={"a": 1}) as made:
        made[...] = expected
    assert whole(tmp_path / f"y.{suffix}") == whole(path)
    assert nf.info(str(tmp_path / f"y.{suffix}")).metadata == {"a": 1}
    assert sorted(os.listdir(tmp_path)) == sorted([f"{one}.{suffix}{end}" for one in "xy" for end in ("", ".json")])


@pytest.mark.skipif(ml_dtypes is None, reason="ml_dtypes is not installed")
@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_types_of_ml_dtypes_come_back_as_themselves(name, path):
    dtype = np.dtype(getattr(ml_dtypes, name))
    expected = np.arange(8).astype(dtype)
    nf.save(path, expected, sync=False)
    assert json.loads(whole(path + ".json"))["dtype"] == name
    with nf.open(path, "r+") as mapped:
        assert_same(mapped, expected)


@pytest.mark.parametrize(
    "dtype", [[("a", [("b", "<f4")])], [("a", [("b", "<f4", (2,)), ("c", "?")]), ("d", "S3")]], ids=str
)
def test_fields_inside_of_fields_come_back(dtype, path):
    nf.save(path, np.zeros(3, dtype), sync=False)
    with nf.open(path) as mapped:
        assert mapped.dtype == dtype


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays_of.arrays(
        arrays_of.scalar_dtypes() | arrays_of.array_dtypes(max_size=3),
        arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ).filter(lambda array: array.dtype.itemsize and not array.dtype.hasobject),
    order=st.sampled_from("CF"),
)
def test_any_array_comes_back(array, order, path):
    expected = np.asarray(array, order=order)
    nf.save(path, expected, sync=False)
    assert whole(path) == expected.tobytes("A")
    with nf.open(path) as mapped:
        assert mapped.dtype == expected.dtype
        assert mapped.tobytes() == expected.tobytes()


# While a pair is being replaced.


def halfway(path, inode, previous, **fields):
    with open(path + ".json", "w", encoding="utf-8") as file:
        json.dump({"dtype": "<f4", "shape": [4, 3], "inode": inode, "previous": previous} | fields, file)


def test_before_the_new_file_has_its_name_the_old_description_holds(path):
    write(path, NUMBERS.tobytes(), dtype="<f4", shape=[3, 4])
    inode = os.stat(path).st_ino
    old = {"dtype": "<f4", "shape": [3, 4], "metadata": {"old": 1}, "inode": inode}
    halfway(path, inode + 12345, old)
    with nf.open(path) as mapped:
        assert mapped.shape == (3, 4)
    assert nf.info(path).metadata == {"old": 1}


def test_after_the_new_file_has_its_name_the_new_description_holds(path):
    write(path, NUMBERS.tobytes())
    halfway(path, os.stat(path).st_ino, {"dtype": "<f4", "shape": [3, 4]}, metadata={"new": 1})
    with nf.open(path) as mapped:
        assert mapped.shape == (4, 3)
    assert nf.info(path).metadata == {"new": 1}


def test_a_replacement_that_was_killed_does_not_hinder_the_next(path):
    write(path, NUMBERS.tobytes())
    halfway(path, 1, {"dtype": "<f4", "shape": [3, 4], "inode": os.stat(path).st_ino})
    with nf.open(path) as mapped:
        assert mapped.shape == (3, 4)
    nf.save(path, NUMBERS.ravel(), sync=False)
    assert json.loads(whole(path + ".json")).keys() == {"dtype", "shape", "order", "offset"}
    with nf.open(path) as mapped:
        assert mapped.shape == (12,)


def test_a_description_of_another_file_alone_is_refused(path):
    write(path, NUMBERS.tobytes())
    other = {"dtype": "<f4", "shape": [3, 4]}
    for previous in (None, other, other | {"inode": 2}):
        halfway(path, 1, previous)
        with pytest.raises(nf.FormatError, match="describes another file"):
            nf.open(path)


def test_between_the_two_both_descriptions_are_there(path, monkeypatch):
    nf.save(path, NUMBERS, sync=False)
    seen = []
    replace = os.rename

    def looking(source, destination, **folders):
        replace(source, destination, **folders)
        with nf.open(path) as mapped:
            seen.append(mapped.shape)

    monkeypatch.setattr(os, "rename", looking)
    nf.save(path, NUMBERS.reshape(2, 6), sync=False)
    assert seen == [(3, 4), (2, 6), (2, 6)]


REPLACING = """
    import sys

    import numpy as np

    import ndfile as nf

    path = sys.argv[1]
    print("ready", flush=True)
    number = 0
    while True:
        rows = number % 50 + 1
        kind = ("<i4", ">i8", "<u2")[number % 3]
        order = "CF"[number % 2]
        array = np.full((rows, 100 // rows + 1), rows, kind, order)
        nf.save(path, array, sync=False)
        number += 1
"""


def test_a_pair_that_is_replaced_between_its_two_files_is_opened_anew(path, monkeypatch):
    nf.save(path, np.zeros(3, "<f8"), sync=False)
    read, others = raw._read, [np.ones(100, "<i4"), np.ones(200, "<i8")]

    def late(sidecar, source):
        if others:
            nf.save(path, others.pop(), sync=False)
        return read(sidecar, source)

    monkeypatch.setattr(raw, "_read", late)
    with nf.open(path) as mapped:
        assert_same(mapped, np.ones(100, "<i4"))
    assert others == []


@pytest.mark.parametrize("opening", ["r", "c", "info"])
def test_a_reader_never_sees_a_mixture_while_a_pair_is_replaced(opening, path):
    nf.save(path, np.full((1, 101), 1, "<i4"), sync=False)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(REPLACING), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            shapes = set()
            enough_s = time.monotonic() + 1.5
            while time.monotonic() < (enough_s if len(shapes) > 3 else enough_s + 60):
                if opening == "info":
                    about = nf.info(path)
                    rows, columns = about.shape
                    assert about.size == rows * columns * about.dtype.itemsize
                    assert about.notes == ()
                else:
                    with nf.open(path, opening) as mapped:
                        rows, columns = mapped.shape
                        assert np.all(np.asarray(mapped) == rows)
                assert columns == 100 // rows + 1
                shapes.add((rows, columns))
            assert process.poll() is None
        finally:
            process.kill()
    # Somebody did replace the pair meanwhile.
    assert len(shapes) > 3
    with nf.open(path) as mapped:
        assert np.all(np.asarray(mapped) == mapped.shape[0])


def test_20_gib_open_in_5_ms_and_5_mib(path):
    write(path, b"", dtype="<f4", shape=[5, 1 << 30])
    os.truncate(path, 20 << 30)
    for hints in ({}, {"dtype": "<f4"}):
        for act in (nf.open, nf.info):
            seconds = []
            for _ in range(20):
                start = time.process_time()
                found = act(path, **hints)
                seconds.append(time.process_time() - start)
                if act is nf.open:
                    found.close()
            assert min(seconds) < 0.005
            tracemalloc.start()
            try:
                found = act(path, **hints)
                if act is nf.open:
                    found.close()
                assert tracemalloc.get_traced_memory()[1] < 5 << 20
            finally:
                tracemalloc.stop()
    with nf.open(path) as mapped:
        assert mapped.shape == (5, 1 << 30)
        assert mapped[4, -1] == 0
    assert os.stat(path).st_blocks == 0
