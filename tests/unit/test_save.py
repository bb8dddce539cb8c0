"""Saving: the old file or the new one, from arrays of every kind and size, whatever comes in between."""

import _thread
import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from devices import MIB, fill_up, memory_disk
from faulty import call, is_privileged

import ndfile as nf
from ndfile import formats
from ndfile.files.replacement import Draft
from ndfile.stream import COPY_NBYTES, PIECE_NBYTES, Stream

SUFFIXES = ["npy", "npz", "safetensors", "bin"]


@pytest.fixture
def disk(tmp_path):
    with memory_disk(str(tmp_path / "disk"), 4 * MIB) as folder:
        yield folder


def bytes_of(path):
    with open(path, "rb") as file:
        return file.read()


def values_of(path):
    opened = nf.open(path)
    array = opened["data"] if isinstance(opened, nf.Archive) else opened
    try:
        return np.array(array)
    finally:
        array.close()


def snapshot(folder):
    found = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        status = os.lstat(path)
        found[name] = (status.st_ino, status.st_mode, bytes_of(path) if stat.S_ISREG(status.st_mode) else None)
    return found


# ---- Which arrays ----

GRID = np.arange(24, dtype="<f4").reshape(2, 3, 4)
PAIRS = np.array([(1, 2.5), (3, 4.5)], [("a", "<i4"), ("b", "<f8")])
ARRAYS = {
    "plain": GRID,
    "strided": GRID[:, ::2, 1::2],
    "reversed": GRID[::-1, :, ::-1],
    "transposed": GRID.T,
    "axes swapped": GRID.swapaxes(0, 1),
    "broadcast": np.broadcast_to(np.arange(4, dtype="<i2"), (3, 4)),
    "one item broadcast": np.broadcast_to(np.float64(7), (50, 50)),
    "F": np.asfortranarray(GRID),
    "0-d": np.array(5, "<i8"),
    "empty": np.zeros((3, 0, 2)),
    "empty, strided": np.zeros((3, 0, 2))[::2, :, ::-1],
    "64-d": np.ones((1,) * 63 + (3,), "u1")[..., ::-1],
    "unaligned": np.frombuffer(b"\0" * 3 + bytes(range(32)), np.uint8)[3:].view("<u4"),
    "read only": np.frombuffer(bytes(range(16)), "<u2"),
    "structured": PAIRS,
    "structured, reversed": PAIRS[::-1],
    "a field": PAIRS["b"],
    "big-endian": np.arange(5, dtype=">f8")[::-1],
    "bool": np.array([[True, False]]),
    "complex": np.arange(4).astype("c8"),
    "datetime": np.array(["2026-01-01", "NaT"], "M8[ns]"),
    "strings": np.array(["ä", "bcd"])[::-1],
    "bytes": np.array([b"a", b"bcd"]),
    "void": np.array([b"abc", b"def"], "V3"),
    "wide items": np.zeros(2, "V10000000")[::-1],
    "nothing masked": np.ma.array([1, 2, 3]),
    "record": PAIRS.view(np.recarray),
}
LIKE = {
    "list": [[1, 2], [3, 4]],
    "int": 5,
    "float": 2.5,
    "text": "abc",
    "NumPy scalar": np.float32(1.5),
    "range": range(5),
}


@pytest.mark.parametrize("kind", [*ARRAYS, *LIKE])
@pytest.mark.parametrize("suffix", ["npy", "npz", "bin"])
def test_every_array_comes_back(tmp_path, suffix, kind):
    array = ARRAYS.get(kind, LIKE.get(kind))
    wanted = np.asarray(array)
    nf.save(tmp_path / f"x.{suffix}", array)
    found = values_of(tmp_path / f"x.{suffix}")
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    "kind",
    ["plain", "strided", "reversed", "transposed", "broadcast", "F", "0-d", "empty", "unaligned", "bool", "list"],
)
def test_a_format_of_one_order_gets_it(tmp_path, kind):
    array = ARRAYS.get(kind, LIKE.get(kind))
    nf.save(tmp_path / "x.safetensors", array)
    np.testing.assert_array_equal(values_of(tmp_path / "x.safetensors"), array)
    assert values_of(tmp_path / "x.safetensors").dtype == np.asarray(array).dtype


@pytest.mark.parametrize("kind", [*ARRAYS, *LIKE])
def test_numpy_reads_an_npy_as_if_it_had_written_it(tmp_path, kind):
    array = ARRAYS.get(kind, LIKE.get(kind))
    nf.save(tmp_path / "x.npy", array)
    loaded = np.load(tmp_path / "x.npy")
    assert loaded.dtype == np.asarray(array).dtype
    assert loaded.tobytes() == np.asarray(array).tobytes()


def test_numpy_and_zip_programs_read_an_npz(tmp_path):
    arrays = {name.replace(",", ""): array for name, array in ARRAYS.items() if name != "wide items"}
    nf.save(tmp_path / "x.npz", arrays, metadata={"unit": "m"})
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None
    with np.load(tmp_path / "x.npz") as loaded:
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], np.asarray(array))
    assert all(member.offset % 64 == 0 for member in nf.info(tmp_path / "x.npz").members.values())


def test_order_is_kept_where_the_format_has_it(tmp_path):
    for suffix in ("npy", "bin", "npz"):
        nf.save(tmp_path / f"x.{suffix}", np.asfortranarray(np.arange(6).reshape(2, 3)))
        (member,) = nf.info(tmp_path / f"x.{suffix}").members.values()
        assert member.order == "F"
    nf.save(tmp_path / "y.npy", np.arange(5))
    assert nf.info(tmp_path / "y.npy").order == "C"


@pytest.mark.parametrize("flip", [False, True])
def test_arrays_larger_than_a_piece_come_back(tmp_path, flip):
    """Pieces are 8 and 16 MiB; items of 24 bytes divide neither."""
    array = np.zeros(1_000_003, [("a", "<f8", (3,))])
    array["a"] = np.arange(3_000_009, dtype="f8").reshape(-1, 3)
    array = array[::-1] if flip else array
    for suffix in ("npy", "npz"):
        nf.save(tmp_path / f"x.{suffix}", array, sync=False)
        assert values_of(tmp_path / f"x.{suffix}").tobytes() == array.tobytes()


def test_maps_are_sources(tmp_path):
    np.save(tmp_path / "old.npy", GRID)
    for number, source in enumerate(
        (
            np.load(tmp_path / "old.npy", mmap_mode="r"),
            nf.open(tmp_path / "old.npy"),
            nf.open(tmp_path / "old.npy", "r+"),
            nf.open(tmp_path / "old.npy", "c"),
        )
    ):
        if number == 3:
            source[:] += 1
        for view in (source, source[::-1], source.T, np.asarray(source)[:, 1:]):
            nf.save(tmp_path / "new.npy", view, sync=False)
            np.testing.assert_array_equal(np.load(tmp_path / "new.npy"), view)
        getattr(source, "close", lambda: None)()


def test_private_changes_survive_being_saved(tmp_path):
    """More than is let into memory before pages are given back."""
    nf.create(tmp_path / "x.npy", 24 * MIB, "f4", sparse=True).close()
    with nf.open(tmp_path / "x.npy", "c") as array:
        array[:] = 3
        nf.save(tmp_path / "y.npy", array, sync=False)
        assert (array[:: 1 << 10] == 3).all()
    with nf.open(tmp_path / "y.npy") as array:
        assert (array[:: 1 << 10] == 3).all()
    os.unlink(tmp_path / "y.npy")


def test_changes_in_place_survive_being_saved(tmp_path):
    with nf.create(tmp_path / "x.npy", 24 * MIB, "f4", sparse=True) as array:
        array[:] = 3
        nf.save(tmp_path / "y.npy", array, sync=False)
        assert (array[:: 1 << 10] == 3).all()
    os.unlink(tmp_path / "y.npy")


@pytest.mark.parametrize("source", ["npz", "safetensors", "numpy"])
def test_an_archive_can_be_saved(tmp_path, source):
    arrays = {"a": GRID, "b": np.arange(3)}
    if source == "numpy":
        np.savez(tmp_path / "old.npz", **arrays)
        with np.load(tmp_path / "old.npz") as archive:
            nf.save(tmp_path / "new.npz", archive)
    else:
        nf.save(tmp_path / f"old.{source}", arrays)
        with nf.open(tmp_path / f"old.{source}") as archive:
            nf.save(tmp_path / "new.npz", archive)
    with np.load(tmp_path / "new.npz") as found:
        assert set(found) == {"a", "b"}
        np.testing.assert_array_equal(found["a"], GRID)


@pytest.mark.parametrize(
    "array", [np.array([None]), [object()], None, np.zeros(2, [("a", "O")]), np.array(["a"], np.dtypes.StringDType())]
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pointers_are_refused_before_anything_is_touched(tmp_path, suffix, array):
    nf.save(tmp_path / f"x.{suffix}", [1, 2, 3])
    before = snapshot(tmp_path)
    with pytest.raises(nf.LayoutError, match="pointers"):
        nf.save(tmp_path / f"x.{suffix}", array)
    with pytest.raises(nf.LayoutError, match="pointers"):
        nf.save(tmp_path / f"new.{suffix}", array)
    assert snapshot(tmp_path) == before


def test_a_mask_is_not_dropped_in_silence(tmp_path):
    array = np.ma.array([1, 2, 3], mask=[False, True, False])
    with pytest.raises(NotImplementedError):
        np.save(tmp_path / "x.npy", array)
    with pytest.raises(nf.LayoutError, match=r"masked items.*filled"):
        nf.save(tmp_path / "y.npy", array)
    assert not os.path.exists(tmp_path / "y.npy")
    nf.save(tmp_path / "y.npy", array.filled())


@pytest.mark.parametrize("dtype", ["V0", []])
def test_what_could_not_be_opened_again_is_not_saved(tmp_path, dtype):
    with contextlib.suppress(nf.LayoutError):
        nf.save(tmp_path / "x.npy", np.zeros(3, dtype))
        nf.open(tmp_path / "x.npy").close()


@pytest.mark.parametrize(
    "name",
    ["a", "a b", "a/b/c", "ä", "a.npy", "a.b", "-", "x" * 60_000, "\n"],
    ids=lambda name: repr(name[:9]),
)
def test_names_come_back(tmp_path, name):
    for suffix in ("npz", "safetensors"):
        nf.save(tmp_path / f"x.{suffix}", {name: [1, 2], "other": [3]})
        with nf.open(tmp_path / f"x.{suffix}") as archive:
            assert set(archive) == {name, "other"}
            assert archive[name].tolist() == [1, 2]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a\\b", "a\0b", "\udc80", "x" * 70_000], ids=lambda name: ascii(name[:9])
)
def test_names_that_could_not_be_read_again_are_refused(tmp_path, name):
    with pytest.raises(nf.LayoutError):
        nf.save(tmp_path / "x.npz", {name: [1]})


def test_more_names_than_are_read_again_are_not_saved(tmp_path):
    with contextlib.suppress(nf.LayoutError):
        nf.save(tmp_path / "x.npz", {"x" * 60_000 + str(i): [i] for i in range(150)}, sync=False)
        nf.open(tmp_path / "x.npz").close()


@pytest.mark.parametrize("name", ["", 0, None, b"a", ("a",)])
def test_what_is_no_name_is_refused(tmp_path, name):
    for suffix in ("npz", "safetensors"):
        with pytest.raises(nf.LayoutError, match="must be a str"):
            nf.save(tmp_path / f"x.{suffix}", {name: [1]})
    assert os.listdir(tmp_path) == []


def test_several_arrays_want_a_format_that_holds_them(tmp_path):
    for suffix in ("npy", "bin"):
        with pytest.raises(nf.LayoutError, match="holds one array"):
            nf.save(tmp_path / f"x.{suffix}", {"a": [1]})
    with pytest.raises(nf.LayoutError, match="__metadata__"):
        nf.save(tmp_path / "x.safetensors", {"__metadata__": [1]})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"metadata": {"a": ...}}, nf.LayoutError),
        ({"metadata": {"a": float("inf")}}, nf.LayoutError),
        ({"metadata": {"a": "x" * 10_000}}, nf.LayoutError),
        ({"metadata": 1}, nf.LayoutError),
        ({"format": "hdf5"}, nf.LayoutError),
        ({"format": "nothing"}, nf.LayoutError),
        ({"progress": 5}, TypeError),
        ({"array": [[1], [2, 3]]}, ValueError),
        ({"compressed": True}, TypeError),
    ],
    ids=str,
)
def test_a_bad_argument_is_refused_before_anything_is_touched(tmp_path, arguments, error):
    nf.save(tmp_path / "x.npy", [1, 2, 3])
    before = snapshot(tmp_path)
    for name in ("x.npy", "y.npy"):
        with pytest.raises(error):
            nf.save(tmp_path / name, **({"array": [1]} | arguments))
    assert snapshot(tmp_path) == before


# ---- The file that is replaced ----


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("change", [lambda a: a[::-1], lambda a: a, lambda a: a[:10], lambda a: a * 2], ids="racb")
def test_a_file_is_saved_over_while_it_is_mapped_here(tmp_path, suffix, change):
    path = tmp_path / f"x.{suffix}"
    nf.save(path, np.arange(100_000))
    opened = nf.open(path)
    array = opened["data"] if isinstance(opened, nf.Archive) else opened
    wanted = np.array(change(array))
    nf.save(path, change(array))
    np.testing.assert_array_equal(array, np.arange(100_000))
    array.close()
    np.testing.assert_array_equal(values_of(path), wanted)


def test_numpy_destroys_a_file_that_it_maps(tmp_path, run_python):
    """The control."""
    path = tmp_path / "x.npy"
    np.save(path, np.arange(100_000))
    program = """
        import sys, numpy as np
        a = np.load(sys.argv[1], mmap_mode="r")
        np.save(sys.argv[1], a[::-1])
        assert np.load(sys.argv[1])[0] == 99_999
    """
    with pytest.raises(AssertionError, match="exit"):
        run_python(program, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_process_keeps_what_it_has_mapped(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    nf.save(path, np.arange(100_000))
    reader = (
        "import sys, ndfile as nf\n"
        "a = nf.open(sys.argv[1])\n"
        "a = a if isinstance(a, nf.memmap) else a['data']\n"
        "print(int(a[0]), flush=True)\n"
        "sys.stdin.readline()\n"
        "print(int(a.sum()))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        nf.save(path, np.ones(3, "f4"))
        said, _ = process.communicate("go\n")
    assert process.returncode == 0
    assert int(said) == 4999950000
    assert values_of(path).tolist() == [1, 1, 1]


# Two arrays of different sizes, types and shapes, so that a mixture is not overlooked.
OLD = np.full((300, 200), 7, "<i4")
NEW = np.full(250_001, 1.5, "<f8")


def read_for_a_while(path, seconds):
    """Open again and again; give what was seen, and what should not be there."""
    seen, odd = set(), []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            array = values_of(path)
        except Exception as error:
            odd.append(repr(error))
            continue
        name = next((name for name, one in (("old", OLD), ("new", NEW)) if one.dtype == array.dtype), "neither")
        wanted = {"old": OLD, "new": NEW}.get(name)
        if wanted is None or not np.array_equal(array, wanted):
            odd.append(f"{name}: {array.dtype} {array.shape}")
        seen.add(name)
    return [sorted(seen), odd[:5]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_readers_see_the_old_file_or_the_new_one(tmp_path, suffix):
    path = str(tmp_path / f"x.{suffix}")
    nf.save(path, OLD)
    results = []
    readers = [threading.Thread(target=lambda: results.append(call(read_for_a_while, path, 1))) for _ in range(2)]
    for reader in readers:
        reader.start()
    turn = 0
    while any(reader.is_alive() for reader in readers):
        nf.save(path, (NEW, OLD)[turn % 2], sync=turn % 10 == 0)
        turn += 1
    for reader in readers:
        reader.join()
    assert turn > 10
    assert [result.result() for result in results] == [[["new", "old"], []]] * 2
    assert {name.removesuffix(".json") for name in os.listdir(tmp_path)} == {f"x.{suffix}"}


def test_readers_of_what_numpy_saves_see_other_things(tmp_path):
    """The control."""
    path = str(tmp_path / "x.npy")
    np.save(path, OLD)
    results = []
    reader = threading.Thread(target=lambda: results.append(call(read_for_a_while, path, 1)))
    reader.start()
    while reader.is_alive():
        np.save(path, NEW)
        np.save(path, OLD)
    reader.join()
    _, odd = results[0].value or (None, results[0].how)
    assert odd


def test_a_replaced_file_keeps_its_permissions_and_a_new_one_has_the_usual(tmp_path):
    old = os.umask(0o027)
    try:
        nf.save(tmp_path / "x.npy", [1])
        assert stat.S_IMODE((tmp_path / "x.npy").stat().st_mode) == 0o640
        (tmp_path / "x.npy").chmod(0o604)
        nf.save(tmp_path / "x.npy", [2])
        assert stat.S_IMODE((tmp_path / "x.npy").stat().st_mode) == 0o604
    finally:
        os.umask(old)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_link_stays_and_leads_to_the_new_file(tmp_path, suffix):
    (tmp_path / "folder").mkdir()
    (tmp_path / f"link.{suffix}").symlink_to(f"folder/x.{suffix}")
    nf.save(tmp_path / f"link.{suffix}", [1])
    nf.save(tmp_path / f"link.{suffix}", [1, 2])
    assert (tmp_path / f"link.{suffix}").is_symlink()
    assert values_of(tmp_path / "folder" / f"x.{suffix}").tolist() == [1, 2]
    assert os.listdir(tmp_path / "folder")[0].startswith("x.")


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link to itself"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_regular_file_stays(tmp_path, kind, suffix):
    path = tmp_path / f"x.{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    before = snapshot(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011  # what the system says
        nf.save(path, [1])
    assert snapshot(tmp_path) == before


def test_a_fifo_in_the_place_of_the_sidecar_does_not_make_anybody_wait(tmp_path):
    nf.save(tmp_path / "x.bin", [1])
    os.unlink(tmp_path / "x.bin.json")
    os.mkfifo(tmp_path / "x.bin.json")
    program = "import sys, ndfile as nf\ntry: nf.save(sys.argv[1], [2])\nexcept OSError: pass"
    try:
        subprocess.run([sys.executable, "-c", program, tmp_path / "x.bin"], check=False, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("it waits")


def test_a_folder_in_the_place_of_the_sidecar_leaves_the_old_file(tmp_path):
    nf.save(tmp_path / "x.bin", [1])
    os.unlink(tmp_path / "x.bin.json")
    os.mkdir(tmp_path / "x.bin.json")
    before = snapshot(tmp_path)
    with pytest.raises(OSError, match="no regular file"):
        nf.save(tmp_path / "x.bin", [2])
    assert snapshot(tmp_path) == before


def test_a_pair_with_much_metadata_can_be_opened_while_it_is_replaced(tmp_path):
    """The sidecar as it is then: the new description with the old one inside."""
    path, beside = str(tmp_path / "x.bin"), str(tmp_path / "x.bin.json")
    raw = formats.named("raw")
    metadata, other = ({"a": letter * (raw.metadata_nbytes - len('{"a": ""}'))} for letter in "xy")
    nf.save(path, [1, 2], metadata=metadata)
    plan = raw.plan({"data": Stream.of(np.zeros(100))}, other)
    for new_inode in (1, 2):  # a writer was killed, and its successor is at work
        text = raw.sidecar(plan, beside, new_inode, os.stat(path).st_ino)
        assert text.count(b"previous") == 1
        with open(beside, "wb") as sidecar:
            sidecar.write(text)
        assert values_of(path).tolist() == [1, 2]
        assert nf.info(path).metadata == metadata
    nf.save(path, [3], metadata=other)
    assert values_of(path).tolist() == [3]
    assert nf.info(path).metadata == other
    assert b"previous" not in bytes_of(beside)


def test_a_folder_that_cannot_be_synced_keeps_the_old_file_or_takes_the_new_one(tmp_path):
    if not is_privileged():
        pytest.skip("to be somebody else takes root")
    folder = tmp_path / "folder"
    folder.mkdir()
    nf.save(folder / "x.npy", [1])
    os.chown(folder / "x.npy", 65534, -1)
    os.chown(folder, 65534, -1)
    folder.chmod(0o333)
    with contextlib.ExitStack() as stack:
        for above in folder.parents:
            mode = above.stat().st_mode
            if mode & 0o011 != 0o011:
                above.chmod(mode | 0o011)
                stack.callback(above.chmod, stat.S_IMODE(mode))
        os.seteuid(65534)
        stack.callback(os.seteuid, 0)
        try:
            nf.save(folder / "x.npy", [2])
            wanted = 2
        except PermissionError:
            wanted = 1
    assert np.load(folder / "x.npy").tolist() == [wanted]


# ---- Failures ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_keeps_the_old_file(disk, suffix):
    path = f"{disk}/x.{suffix}"
    nf.save(path, np.full(MIB, 7, "u1"))
    before = snapshot(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        nf.save(path, np.ones(4 * MIB, "u1"))
    assert caught.value.errno == errno.ENOSPC
    assert snapshot(disk) == before
    with pytest.raises(OSError, match="No space left"):
        nf.save(f"{disk}/new.{suffix}", np.ones(4 * MIB, "u1"))
    assert snapshot(disk) == before


@pytest.mark.parametrize("room", range(0, 5 * 4096, 4096))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_is_full_at_any_byte_keeps_the_old_file(disk, suffix, room):
    """The headers, the end of an .npz and the sidecar need space as well."""
    path = f"{disk}/x.{suffix}"
    nf.save(path, np.full(10, 7, "u1"))
    fill_up(disk)
    size = os.path.getsize(f"{disk}/filler")
    os.truncate(f"{disk}/filler", size - room)
    before = snapshot(disk)
    problem = None
    try:
        nf.save(path, np.arange(8000, dtype="u1"))
    except OSError as error:
        problem = error
    assert not [name for name in os.listdir(disk) if name.startswith(".")]
    if problem is None:
        assert room > 4096
        np.testing.assert_array_equal(values_of(path), np.arange(8000, dtype="u1"))
        return
    assert problem.errno == errno.ENOSPC
    assert values_of(path).tolist() == [7] * 10
    if suffix != "bin":  # whose sidecar may describe both files
        assert snapshot(disk) == before


def test_a_disk_that_is_full_for_a_moment_does_not_tear_an_npz(disk):
    """The zip's own headers are not among the space that is reserved: the last piece is written in parts."""
    array = np.arange(16 * 4096 - 128, dtype="u1")  # with its header whole pages
    fill_up(disk)
    os.truncate(f"{disk}/filler", os.path.getsize(f"{disk}/filler") - 16 * 4096)

    def make_room(done, total):
        if done == total:
            os.truncate(f"{disk}/filler", 0)

    with contextlib.suppress(OSError):
        nf.save(f"{disk}/x.npz", array, progress=make_room)
    if os.path.exists(f"{disk}/x.npz"):
        with zipfile.ZipFile(f"{disk}/x.npz") as archive:
            assert archive.testzip() is None
        np.testing.assert_array_equal(values_of(f"{disk}/x.npz"), array)


def test_the_advice_of_a_full_disk_can_be_followed(disk):
    with pytest.raises(OSError, match="No space left") as caught:
        nf.save(f"{disk}/x.npy", np.ones(8 * MIB, "u1"))
    assert "sparse=True" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("is_strided", [False, True])
@pytest.mark.parametrize("keep", [0, 100, 10 * MIB + 5, 30 * MIB - 1])
def test_a_source_that_is_cut_meanwhile_keeps_the_old_file(tmp_path, suffix, is_strided, keep):
    source = nf.create(tmp_path / "source.npy", 30 * MIB, "u1", sparse=True)
    source[:: 1 << 12] = 1
    path = tmp_path / f"x.{suffix}"
    nf.save(path, [1, 2, 3])
    before = snapshot(tmp_path)
    calls = []

    def cut(done, total):
        calls.append(done)
        if len(calls) == 2:
            os.truncate(tmp_path / "source.npy", keep + (source.offset if keep else 0))

    with pytest.raises(nf.FaultError, match="cut"):
        nf.save(path, source[::-1] if is_strided else source, progress=cut)
    os.unlink(tmp_path / "source.npy")
    del before["source.npy"]
    assert snapshot(tmp_path) == before
    with contextlib.suppress(nf.FaultError):
        source.close()


def test_a_plain_view_of_a_source_that_is_cut_keeps_the_old_file(tmp_path):
    source = nf.create(tmp_path / "source.npy", 30 * MIB, "u1", sparse=True)
    nf.save(tmp_path / "x.npy", [1, 2, 3])
    plain = np.asarray(source)

    def cut(done, total):
        if done:
            os.truncate(tmp_path / "source.npy", 1 << 20)

    with pytest.raises(OSError):  # noqa: PT011  # FaultError, or what the system says of such memory
        nf.save(tmp_path / "x.npy", plain, progress=cut)
    assert np.load(tmp_path / "x.npy").tolist() == [1, 2, 3]
    assert sorted(os.listdir(tmp_path)) == ["source.npy", "x.npy"]
    with contextlib.suppress(nf.FaultError):
        source.close()


@pytest.mark.parametrize("is_strided", [False, True])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_source_that_is_closed_keeps_the_old_file(tmp_path, is_strided, when):
    source = nf.create(tmp_path / "source.npy", 30 * MIB, "u1", sparse=True)
    nf.save(tmp_path / "x.npy", [1, 2, 3])
    before = snapshot(tmp_path)
    view = source[::-1] if is_strided else source

    def close(done, total):
        if done:
            source.close()

    if when == "before":
        source.close()
    with pytest.raises(nf.ClosedError):
        nf.save(tmp_path / "x.npy", view, progress=close)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, MemoryError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("at", [0, 8 * MIB, 20 * MIB])
def test_what_progress_raises_keeps_the_old_file(tmp_path, suffix, error, at):
    path = tmp_path / f"x.{suffix}"
    nf.save(path, [1, 2, 3])
    before = snapshot(tmp_path)

    def stop(done, total):
        if done >= at:
            raise error

    with pytest.raises(error):
        nf.save(path, np.broadcast_to(np.uint8(1), 20 * MIB), progress=stop)
    with pytest.raises(error):
        nf.save(tmp_path / f"new.{suffix}", np.broadcast_to(np.uint8(1), 20 * MIB), progress=stop)
    assert snapshot(tmp_path) == before


def save_and_be_interrupted(path, rounds):
    """As Ctrl-C does it, between any two instructions. Gives how often."""
    arrays = [np.full(2 * MIB, number, "u1") for number in range(2)]
    nf.save(path, arrays[0], sync=False)
    interrupted = 0
    for number in range(rounds):
        timer = threading.Timer(number * 0.0002, _thread.interrupt_main)
        try:
            timer.start()
            nf.save(path, arrays[number % 2], sync=False)
            time.sleep(0.2)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        loaded = np.load(path)
        assert len(loaded) == 2 * MIB
        assert loaded.min() == loaded.max()
    return interrupted


def test_an_interrupt_at_any_time_leaves_the_old_file_or_the_new_one(tmp_path):
    """In another process: an interrupt in the middle of opening costs a descriptor and a temporary file."""
    assert call(save_and_be_interrupted, str(tmp_path / "x.npy"), 25).result() >= 20
    names = set(os.listdir(tmp_path)) - {"x.npy"}
    assert all(name.startswith(".ndfile-") for name in names)
    assert len(names) < 10


# ---- Progress ----


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "array",
    [np.zeros(20 * MIB + 3, "u1"), np.zeros((5 * MIB, 4), "u1")[:, ::-1], np.zeros(0), np.zeros(())],
    ids=["plain", "strided", "empty", "0-d"],
)
def test_progress_rises_from_nothing_to_all(tmp_path, suffix, array):
    calls = []
    nf.save(tmp_path / f"x.{suffix}", array, progress=lambda *numbers: calls.append(numbers), sync=False)
    done = [one for one, _ in calls]
    assert {total for _, total in calls} == {array.nbytes}
    assert done[0] == 0
    assert done[-1] == array.nbytes
    assert all(before < after for before, after in itertools.pairwise(done))
    piece_nbytes = PIECE_NBYTES if array.flags.c_contiguous else COPY_NBYTES
    assert len(done) >= 1 + array.nbytes / piece_nbytes


def test_progress_counts_all_arrays(tmp_path):
    calls = []
    nf.save(tmp_path / "x.npz", {"a": np.zeros(100), "b": np.ones(50)}, progress=lambda *numbers: calls.append(numbers))
    assert calls == [(0, 1200), (800, 1200), (1200, 1200)]


def test_a_bar_is_drawn_on_standard_error(tmp_path, capsys):
    nf.save(tmp_path / "x.npy", np.zeros(1000), progress=True)
    captured = capsys.readouterr()
    assert "save x.npy" in captured.err
    assert captured.out == ""
    nf.save(tmp_path / "x.npy", np.zeros(1000), progress=False)
    assert capsys.readouterr().err == ""


# ---- On the disk ----


def calls_of(tmp_path, statement):
    """What the system was asked for, in order: the call and the name of the file."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    log = tmp_path / "strace.log"
    wanted = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,sync_file_range,msync"
    command = ["strace", "-f", "-y", "-e", wanted, "-o", log, sys.executable, "-c", f"import ndfile as nf\n{statement}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    if "PTRACE" in result.stderr or "ptrace" in result.stderr:
        pytest.skip("no program can be traced here")
    assert result.returncode == 0, result.stderr
    calls = []
    for line in log.read_text().splitlines():
        match = re.match(r"\d+ +(\w+)\((.*)\) += 0", line)
        if match:
            name, arguments = match.groups()
            paths = re.findall(r'<(/[^>]*)>|"([^"]*)"', arguments)
            files = [os.path.basename(one or other) for one, other in paths]
            # Temporary names are drawn by lot.
            files = [re.sub(r"^\.ndfile-\w+$", "temporary", one) for one in files]
            calls.append(
                (re.sub(r"at2?$", "", name), *[one for one in files if one != tmp_path.name or len(files) == 1])
            )
    return [(call[0], *("folder" if one == tmp_path.name else one for one in call[1:])) for call in calls]


NEW_NAME = ("rename", "temporary", "x.npy")
SIDECAR = [("fsync", "temporary"), ("rename", "temporary", "x.bin.json"), ("fsync", "folder")]


def test_the_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path):
    wanted = [("fsync", "temporary"), NEW_NAME, ("fsync", "folder")]
    assert calls_of(tmp_path, "nf.save('x.npy', [1, 2])") == wanted
    assert calls_of(tmp_path, "nf.save('x.npy', [1, 2])") == wanted
    assert calls_of(tmp_path, "nf.convert('x.npy', 'x.npy')") == wanted


def test_an_archive_is_published_the_same_way(tmp_path):
    wanted = [("fsync", "temporary"), ("rename", "temporary", "x.npz"), ("fsync", "folder")]
    assert calls_of(tmp_path, "nf.save('x.npz', {'a': [1, 2]})") == wanted


def test_without_sync_nothing_waits_for_the_disk(tmp_path):
    assert calls_of(tmp_path, "nf.save('x.npy', [1, 2], sync=False)") == [NEW_NAME]


def test_a_new_array_has_a_durable_name(tmp_path):
    first = calls_of(tmp_path, "nf.create('x.npy', 3, 'f4')")
    assert first[:3] == [("fsync", "temporary"), ("link", "temporary", "x.npy"), ("fsync", "folder")]


def test_a_raw_file_and_its_sidecar_are_durable_in_order(tmp_path):
    calls = calls_of(tmp_path, "nf.save('x.bin', [1, 2])")
    names = [call[-1] for call in calls if call[0] == "rename"]
    assert names == ["x.bin.json", "x.bin", "x.bin.json"]
    assert calls[0] == ("fsync", "temporary")
    assert calls[1:4] == SIDECAR
    assert calls[4:] == [("rename", "temporary", "x.bin"), ("fsync", "folder"), *SIDECAR]


# ---- Memory ----

MEASURED = """
    import sys
    import numpy as np
    import ndfile as nf

    def kib(key):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key))

    library, source, destination, view = sys.argv[1:]
    array = nf.open(source) if library == "ndfile" else np.load(source, mmap_mode="r")
    array = {"as it is": array, "transposed": array.T, "strided": array[:, ::-1]}[view]
    save = {"ndfile": lambda *a: nf.save(*a, sync=False), "numpy": np.save}[library]
    save(destination, np.zeros((3, 3), "f4")[:, ::-1])  # whatever is imported on use
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = kib("VmRSS")
    save(destination, array)
    print((kib("VmHWM") - before) // 1024)
"""


def growth_of(run_python, tmp_path, rows, destination, view, library="ndfile"):
    """MiB that a process grows by at most while it saves a map of `rows` times 64 KiB."""
    nf.create(tmp_path / "source.npy", (rows, 1 << 14), "f4", sparse=True, overwrite=True).close()
    grown = int(run_python(MEASURED, library, tmp_path / "source.npy", tmp_path / destination, view).stdout)
    os.unlink(tmp_path / destination)
    return grown


@pytest.mark.parametrize(("view", "rows"), [("as it is", 1 << 14), ("transposed", 1 << 14), ("strided", 1 << 12)])
def test_a_large_map_is_saved_in_little_memory(run_python, tmp_path, view, rows):
    """1 GiB, and a quarter of it."""
    assert growth_of(run_python, tmp_path, rows, "x.npy", view) < 128


def test_numpy_takes_all_of_it(run_python, tmp_path):
    """The control."""
    assert growth_of(run_python, tmp_path, 1 << 12, "x.npy", "transposed", "numpy") > 200


def test_a_large_map_is_saved_in_the_other_order_in_little_memory(run_python, tmp_path):
    assert growth_of(run_python, tmp_path, 1 << 12, "x.safetensors", "transposed") < 128


def test_a_large_array_takes_its_bytes_on_the_disk_and_no_more(tmp_path):
    with nf.create(tmp_path / "x.npy", 40 * MIB, "u1", sparse=True) as array:
        nf.save(tmp_path / "y.npy", array, sync=False)
    assert os.path.getsize(tmp_path / "y.npy") == 40 * MIB + 128
    assert json.dumps(nf.info(tmp_path / "y.npy").to_dict())


@pytest.mark.parametrize(("fields", "metadata"), [(2000, {"a": "x" * 100_000}), (12_000, {}), (14_000, {})], ids=str)
def test_a_description_that_would_not_be_read_again_is_refused_and_the_old_pair_opens(tmp_path, fields, metadata):
    nf.save(tmp_path / "x.bin", [1, 2])
    array = np.zeros(2, [(f"f{number:06}", "<f4") for number in range(fields)])
    with pytest.raises(nf.LayoutError, match=r"its sidecar would have \d+ bytes"):
        nf.save(tmp_path / "x.bin", array, metadata=metadata)
    assert nf.open(tmp_path / "x.bin").tolist() == [1, 2]


def test_a_sidecar_without_its_file_is_left_as_it_was_by_a_save_that_fails(tmp_path):
    (tmp_path / "x.bin.json").write_text("somebody's notes")
    original = Draft.replace

    def fail(self):
        if self._place.name == "x.bin":
            raise KeyboardInterrupt
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            nf.save(tmp_path / "x.bin", [1, 2])
    assert os.listdir(tmp_path) == ["x.bin.json"]
    assert (tmp_path / "x.bin.json").read_text() == "somebody's notes"
