"""Making a file for one array: exclusive, with its space, whole before it has its name; and what a failure leaves."""

import contextlib
import errno
import json
import os
import stat
import threading

import numpy as np
import pytest
from devices import MIB, fill_up, memory_disk
from faulty import is_privileged

import ndfile as nf
from ndfile import formats

SUFFIXES = ["npy", "bin", "raw", "dat", "safetensors"]


@pytest.fixture
def umask():
    """The usual one, whatever that of the tests is."""
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.fixture
def disk(tmp_path):
    with memory_disk(str(tmp_path / "disk"), 4 * MIB) as folder:
        yield folder


def bytes_of(path):
    with open(path, "rb") as file:
        return file.read()


def values_of(path):
    """Opened anew; an archive's one array."""
    opened = nf.open(path)
    array = opened["data"] if isinstance(opened, nf.Archive) else opened
    try:
        return np.array(array)
    finally:
        array.close()


def snapshot(folder):
    """Everything in a folder, with its content and times."""
    found = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        status = os.lstat(path)
        content = bytes_of(path) if stat.S_ISREG(status.st_mode) else None
        found[name] = (status.st_ino, status.st_mode, status.st_mtime_ns, content)
    return found


# ---- What is made ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_new_array_is_zeros_that_can_be_written(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with nf.create(path, (3, 4), "f4") as array:
        assert isinstance(array, nf.memmap)
        assert array.mode == "r+"
        assert not array.any()
        array[1] = np.arange(4)
    assert values_of(path).tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 0, 0]]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(), (1,), 7, [2, 3], (0,), (0, 512), (3, 0, 2), np.array([2, 2]), (1,) * 64])
def test_every_shape_can_be_made(tmp_path, suffix, shape):
    path = tmp_path / f"x.{suffix}"
    wanted = np.zeros(shape)
    with nf.create(path, shape, "f8") as array:
        assert array.shape == wanted.shape
    assert values_of(path).shape == wanted.shape


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (1 << 40, 0), (0, 5), (1, 2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("metadata", [None, {"unit": "m"}, {"long": "x" * 5000}])
def test_the_data_begins_at_a_multiple_of_64(tmp_path, shape, order, metadata):
    for suffix in ("npy", "bin", *(["safetensors"] if order == "C" else [])):
        path = tmp_path / f"x.{suffix}"
        with nf.create(path, shape, "f8", order, metadata=metadata) as array:
            assert array.offset % 64 == 0
        about = nf.info(path)
        assert about.offset % 64 == 0
        assert os.path.getsize(path) == about.offset + array.nbytes


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_is_that_of_the_file(tmp_path, order):
    with nf.create(tmp_path / "x.npy", (3, 4), "i2", order) as array:
        assert (array.flags.c_contiguous, array.flags.f_contiguous) == (order == "C", order == "F")
        array[:] = np.arange(12).reshape(3, 4)
    loaded = np.load(tmp_path / "x.npy")
    assert loaded.flags.f_contiguous == (order == "F")
    np.testing.assert_array_equal(loaded, np.arange(12).reshape(3, 4))


def test_numpy_reads_it(tmp_path):
    with nf.create(tmp_path / "x.npy", (3,), [("a", "<i4"), ("b", "U5")], fill=(7, "hello"), metadata={"a": "b" * 99}):
        pass
    loaded = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert loaded.tolist() == [(7, "hello")] * 3


@pytest.mark.parametrize("metadata", [None, {"unit": "m"}])
def test_the_header_of_an_npy_can_take_any_length_of_the_growing_axis(tmp_path, metadata):
    for order, axis in (("C", 0), ("F", 2)):
        path = tmp_path / f"{order}.npy"
        nf.create(path, (3, 4, 5), "f4", order, metadata=metadata).close()
        head = bytes_of(path)[:128]
        size = str((3, 4, 5)[axis]).encode()
        grown = str(2**63 - 1).encode()
        shape = [b"3", b"4", b"5"]
        shape[axis] = grown
        old = b"(3, 4, 5), }" + b" " * (len(grown) - len(size))
        assert old in head
        new = bytes_of(path).replace(old, b"(" + b", ".join(shape) + b"), }")
        path.write_bytes(new)
        with pytest.raises(nf.FormatError, match=r"9223372036854775807.* needs \d+ bytes, 240 follow the header"):
            nf.open(path)
        path.write_bytes(new.replace(grown, b"9" * 19))
        with pytest.raises(nf.FormatError, match="is not of at most 64 integers that are 0 or more"):
            nf.open(path)


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("?", True),
        ("i1", -5),
        ("u8", 2**64 - 1),
        (">i4", 0x01020304),
        ("f2", 1.5),
        ("f4", np.nan),
        ("f8", -0.0),
        ("f8", -np.inf),
        ("c16", 1 - 2j),
        ("S5", b"abc"),
        ("U4", "äbc"),
        ("V3", b"\1\2\3"),
        ("M8[us]", np.datetime64("2026-01-01T00:00:00.000001")),
        ("M8[ns]", np.datetime64("NaT", "ns")),
        ("m8[s]", np.timedelta64(-5, "s")),
        ([("a", "<i4"), ("b", "f8")], (1, 2.5)),
        ([("a", "<i4", (2, 2)), ("b", "S3")], ([[1, 2], [3, 4]], b"xyz")),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", ["npy", "bin"])
def test_an_array_is_filled_with_any_value(tmp_path, suffix, dtype, fill):
    wanted = np.empty((7, 3), dtype)
    wanted[...] = fill
    with nf.create(tmp_path / f"x.{suffix}", (7, 3), dtype, fill=fill) as array:
        assert np.array(array).tobytes() == wanted.tobytes()
    found = values_of(tmp_path / f"x.{suffix}")
    assert found.dtype == wanted.dtype
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("fill", [0, 0.0, False, None, np.float32(0)])
def test_zeros_are_not_written(tmp_path, fill):
    with nf.create(tmp_path / "x.npy", 1 << 20, "f8", fill=fill, sparse=True) as array:
        assert not array.any()
    assert os.stat(tmp_path / "x.npy").st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("fill", [1, -0.0])
def test_a_fill_larger_than_a_piece_reaches_the_end(tmp_path, fill):
    """A piece is 8 MiB; 24 bytes are no divisor of it."""
    dtype = np.dtype([("a", "f8", (3,))])
    with nf.create(tmp_path / "x.npy", 1_000_003, dtype, fill=fill) as array:
        whole = np.asarray(array).view("u8")
        assert (whole == np.float64(fill).view("u8")).all()


def test_types_of_machine_learning_are_filled(tmp_path, run_python):
    run_python(
        """
        import sys
        try:
            import ml_dtypes
        except ImportError:
            sys.exit()
        import numpy as np, ndfile as nf
        for name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz"):
            dtype = np.dtype(getattr(ml_dtypes, name))
            path = f"{sys.argv[1]}/{name}.npy"
            with nf.create(path, (5, 3), dtype, fill=1.5) as array:
                assert array.dtype == dtype
            with nf.open(path) as array:
                assert array.dtype == dtype
                assert (array == dtype.type(1.5)).all()
            # Plain NumPy reads the bytes.
            plain = np.load(path)
            assert plain.shape == (5, 3)
            assert plain.dtype.itemsize == dtype.itemsize
            assert (plain.view(dtype) == dtype.type(1.5)).all()
        """,
        tmp_path,
    )


def test_float8_e5m2_can_be_opened_again(tmp_path, run_python):
    run_python(
        """
        import sys
        try:
            import ml_dtypes
        except ImportError:
            sys.exit()
        import numpy as np, ndfile as nf
        path = f"{sys.argv[1]}/x.npy"
        nf.create(path, 3, ml_dtypes.float8_e5m2, fill=1.5).close()
        assert np.load(path).dtype.itemsize == 1
        assert nf.open(path).dtype == ml_dtypes.float8_e5m2
        """,
        tmp_path,
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_space_is_reserved(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    nf.create(path, 3 * MIB, "u1").close()
    assert os.stat(path).st_blocks * 512 >= 3 * MIB
    nf.create(tmp_path / f"y.{suffix}", 3 * MIB, "u1", sparse=True).close()
    assert os.stat(tmp_path / f"y.{suffix}").st_blocks * 512 < MIB
    assert os.path.getsize(tmp_path / f"y.{suffix}") == os.path.getsize(path)


def test_the_format_can_be_named(tmp_path):
    nf.create(tmp_path / "x", 3, "f4", format="npy").close()
    assert np.load(tmp_path / "x").shape == (3,)
    nf.create(tmp_path / "y.npy", 3, "f4", format="raw").close()
    assert os.path.getsize(tmp_path / "y.npy") == 12


def test_nothing_is_left_beside_the_file(tmp_path):
    nf.create(tmp_path / "x.npy", 3, "f4").close()
    assert os.listdir(tmp_path) == ["x.npy"]
    nf.create(tmp_path / "x.npy", 3, "f4", overwrite=True).close()
    assert os.listdir(tmp_path) == ["x.npy"]
    nf.create(tmp_path / "y.bin", 3, "f4").close()
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "y.bin", "y.bin.json"]


# ---- Exclusive ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_existing_file_is_an_error_and_untouched(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    nf.create(path, 3, "f4", fill=7).close()
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite=True") as caught:
        nf.create(path, 5, "f8")
    assert caught.value.errno == errno.EEXIST
    assert caught.value.filename == str(path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "kind", ["empty file", "folder", "FIFO", "link", "dangling link to a folder", "link to itself"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_whatever_is_in_the_way_stays(tmp_path, kind, overwrite):
    path = tmp_path / "x.npy"
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"precious")
    if kind == "empty file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(
            {"link": tmp_path / "file", "link to itself": path, "dangling link to a folder": tmp_path / "no" / "x"}[
                kind
            ]
        )
    if overwrite and kind in ("empty file", "link"):
        return  # replaced, see below
    before = snapshot(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011  # FileExistsError; with overwrite what the system says
        nf.create(path, 3, "f4", overwrite=overwrite)
    assert snapshot(tmp_path) == before


def test_of_many_that_create_one_path_one_succeeds(tmp_path):
    outcomes = []
    together = threading.Barrier(8)

    def work(number):
        together.wait()
        try:
            with nf.create(tmp_path / "x.npy", 1000, "i4", fill=number) as array:
                outcomes.append(int(array[0]))
        except FileExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number in outcomes if number is not None]
    assert len(outcomes) == 8
    assert set(np.load(tmp_path / "x.npy")) == {winner}
    assert os.listdir(tmp_path) == ["x.npy"]


def test_a_file_that_has_the_name_of_the_sidecar_is_in_the_way_too(tmp_path):
    (tmp_path / "x.bin.json").write_text("precious")
    with pytest.raises(FileExistsError) as caught:
        nf.create(tmp_path / "x.bin", 3, "f4")
    assert caught.value.filename == str(tmp_path / "x.bin.json")
    assert (tmp_path / "x.bin.json").read_text() == "precious"
    assert os.listdir(tmp_path) == ["x.bin.json"]


def test_a_sidecar_that_cannot_be_made_leaves_no_file(tmp_path):
    (tmp_path / "x.bin.json").mkdir()
    with pytest.raises(OSError):  # noqa: PT011  # FileExistsError or what the system says
        nf.create(tmp_path / "x.bin", 3, "f4")
    assert os.listdir(tmp_path) == ["x.bin.json"]


# ---- In the place of an old one ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_old_file_is_replaced_and_its_readers_keep_it(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    old = nf.create(path, 1000, "i4", fill=7)
    new = nf.create(path, (2, 3), "f8", fill=1.5, overwrite=True)
    assert int(old.sum()) == 7000
    old[0] = 8
    assert (new == 1.5).all()
    old.close()
    new.close()
    found = values_of(path)
    assert (found.shape, found.dtype, found.min(), found.max()) == ((2, 3), np.dtype("f8"), 1.5, 1.5)


def test_overwriting_needs_no_old_file(tmp_path):
    nf.create(tmp_path / "x.npy", 3, "f4", overwrite=True).close()
    assert values_of(tmp_path / "x.npy").shape == (3,)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_leads_to_the_file_that_is_made(tmp_path, overwrite):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.npy").symlink_to(tmp_path / "folder" / "x.npy")
    if overwrite:
        nf.save(tmp_path / "folder" / "x.npy", [1, 2, 3])
    nf.create(tmp_path / "link.npy", 5, "f4", overwrite=overwrite).close()
    assert (tmp_path / "link.npy").is_symlink()
    assert values_of(tmp_path / "folder" / "x.npy").shape == (5,)
    assert sorted(os.listdir(tmp_path / "folder")) == ["x.npy"]


def test_a_file_with_two_names_keeps_its_content_under_the_other(tmp_path):
    nf.save(tmp_path / "x.npy", [1, 2, 3])
    os.link(tmp_path / "x.npy", tmp_path / "y.npy")
    nf.create(tmp_path / "x.npy", 5, "f4", overwrite=True).close()
    assert np.load(tmp_path / "y.npy").tolist() == [1, 2, 3]


# ---- Permissions ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_new_file_has_the_permissions_that_open_gives(tmp_path, umask, suffix):
    for mask, wanted in ((0o022, 0o644), (0o077, 0o600), (0, 0o666)):
        os.umask(mask)
        path = tmp_path / f"{mask}.{suffix}"
        nf.create(path, 3, "f4").close()
        assert stat.S_IMODE(path.stat().st_mode) == wanted


def test_a_replaced_file_keeps_its_permissions_owner_and_attributes(tmp_path):
    path = tmp_path / "x.npy"
    nf.create(path, 3, "f4").close()
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"precious")
    if is_privileged():
        os.chown(path, 1234, 4321)
    before = path.stat()
    nf.create(path, 5, "f4", overwrite=True).close()
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(path, "user.note") == b"precious"


@contextlib.contextmanager
def unprivileged(folder):
    """Be nobody, whom pytest's folders let through meanwhile."""
    if not is_privileged():
        yield
        return
    with contextlib.ExitStack() as stack:
        for above in folder.parents:
            mode = above.stat().st_mode
            if mode & 0o011 != 0o011:
                above.chmod(mode | 0o011)
                stack.callback(above.chmod, stat.S_IMODE(mode))
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
        stack.callback(os.seteuid, 0)
        yield


def test_a_folder_that_may_not_be_written_is_the_systems_error(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    nf.save(folder / "old.npy", [1])
    with unprivileged(folder):
        folder.chmod(0o555)
        for overwrite in (False, True):
            for name in ("new.npy", "old.npy"):
                with pytest.raises((PermissionError, FileExistsError)) as caught:
                    nf.create(folder / name, 3, "f4", overwrite=overwrite)
                assert caught.value.filename == str(folder / name)
        folder.chmod(0o755)
    assert os.listdir(folder) == ["old.npy"]


def test_a_folder_that_may_be_written_but_not_read_is_enough_or_stays_as_it_was(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with unprivileged(folder):
        folder.chmod(0o333)
        try:
            nf.create(folder / "x.npy", 3, "f4").close()
            was_made = True
        except PermissionError:
            was_made = False
        folder.chmod(0o755)
        assert os.path.exists(folder / "x.npy") == was_made


# ---- Refused before anything is touched ----


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"shape": None}, nf.LayoutError),
        ({"shape": -1}, nf.LayoutError),
        ({"shape": (3, -1)}, nf.LayoutError),
        ({"shape": 1.5}, TypeError),
        ({"shape": "3"}, TypeError),
        ({"shape": (1,) * 65}, nf.LayoutError),
        ({"shape": (2**40, 2**40)}, nf.LayoutError),
        ({"shape": (2**63, 0)}, nf.LayoutError),
        ({"dtype": "O"}, nf.LayoutError),
        ({"dtype": np.dtypes.StringDType()}, nf.LayoutError),
        ({"dtype": [("a", "O")]}, nf.LayoutError),
        ({"dtype": "S"}, nf.LayoutError),
        ({"dtype": []}, nf.LayoutError),
        ({"dtype": "nothing"}, TypeError),
        ({"dtype": ("f4", 3)}, nf.LayoutError),
        ({"dtype": {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}}, nf.LayoutError),
        ({"order": "Q"}, nf.LayoutError),
        ({"order": 1}, nf.LayoutError),
        ({"fill": "text"}, ValueError),
        ({"fill": [1, 2]}, ValueError),
        ({"fill": ...}, TypeError),
        ({"fill": 1j}, TypeError),
        ({"dtype": "u1", "fill": 256}, OverflowError),
        ({"dtype": "u1", "fill": -1}, OverflowError),
        ({"dtype": "i4", "fill": float("nan")}, ValueError),
        ({"metadata": 5}, nf.LayoutError),
        ({"metadata": {"a": ...}}, nf.LayoutError),
        ({"metadata": {"a": float("nan")}}, nf.LayoutError),
        ({"metadata": {"a": np.arange(3)}}, nf.LayoutError),
        ({"metadata": {(1, 2): 3}}, nf.LayoutError),
        ({"metadata": {"a": "x" * 10_000}}, nf.LayoutError),
        ({"format": "hdf5"}, nf.LayoutError),
        ({"format": "npz"}, nf.LayoutError),
        ({"format": "nothing"}, nf.LayoutError),
        ({"format": "safetensors", "order": "F"}, nf.LayoutError),
        ({"format": "safetensors", "dtype": ">f4"}, nf.LayoutError),
        ({"format": "safetensors", "dtype": "U3"}, nf.LayoutError),
        ({"nonsense": 1}, TypeError),
    ],
    ids=str,
)
def test_a_bad_argument_is_refused_before_anything_is_touched(tmp_path, arguments, error):
    nf.save(tmp_path / "old.npy", [1, 2, 3])
    before = snapshot(tmp_path)
    for name in ("new.npy", "old.npy"):
        with pytest.raises(error):
            nf.create(tmp_path / name, **({"shape": (2, 3), "dtype": "f4", "overwrite": True} | arguments))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("offsets", [[0, 2], [4, 0]])
def test_fields_out_of_order_are_a_layout_error(tmp_path, offsets):
    dtype = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": offsets})
    with pytest.raises(nf.LayoutError):
        nf.create(tmp_path / "x.npy", 3, dtype)


def test_metadata_that_is_too_deep_is_a_layout_error(tmp_path):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(nf.LayoutError):
        nf.create(tmp_path / "x.npy", 3, "f4", metadata={"deep": deep})


@pytest.mark.parametrize("name", ["x", "x.txt", "x.h5", "x.npz", "", "x.npy/", ".", "x.npy.gz"])
def test_a_name_that_tells_no_format_for_writing_makes_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nf.LayoutError):
        nf.create(name, 3, "f4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", [5, None, 1.5])
def test_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError):
        nf.create(path, 3, "f4")


def test_a_folder_that_is_not_there_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no"):
        nf.create(tmp_path / "no" / "x.npy", 3, "f4")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        nf.create(tmp_path / "file" / "x.npy", 3, "f4")


def test_a_name_that_is_too_long_is_the_systems_error(tmp_path):
    with pytest.raises(OSError, match="too long"):
        nf.create(tmp_path / f"{'x' * 300}.npy", 3, "f4")
    assert os.listdir(tmp_path) == []
    name = f"{'x' * 251}.npy"
    nf.create(tmp_path / name, 3, "f4").close()
    assert os.listdir(tmp_path) == [name]


def test_metadata_may_be_as_large_as_numpy_reads(tmp_path):
    metadata = {"a": "x" * (9000 - len('{"a": ""}'))}
    nf.create(tmp_path / "x.npy", (2, 3), "f4", metadata=metadata).close()
    assert nf.info(tmp_path / "x.npy").metadata == metadata
    assert np.load(tmp_path / "x.npy").shape == (2, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_may_be_as_large_as_the_format_says_and_no_larger(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    most = formats.for_suffix(str(path)).metadata_nbytes
    metadata = {"a": "x" * (most - len('{"a": ""}'))}
    for _ in range(2):  # a sidecar describes both files while the first is replaced
        nf.create(path, (2, 3), "f4", metadata=metadata, overwrite=True).close()
        assert nf.info(path).metadata == metadata
    before = snapshot(tmp_path)
    with pytest.raises(nf.LayoutError, match=f"{most + 1} bytes as JSON, .* takes {most}"):
        nf.create(path, (2, 3), "f4", metadata={"a": metadata["a"] + "x"}, overwrite=True)
    assert snapshot(tmp_path) == before


def test_metadata_that_is_not_only_ascii_comes_back(tmp_path):
    metadata = {"ü": "\U0001f600\n'\"} # ndfile {", "n": [1, None, True, {"x": 2.5}], "": "\x00"}
    for suffix in ("npy", "bin"):
        nf.create(tmp_path / f"x.{suffix}", 3, [("ä", "f4")], metadata=metadata).close()
        assert nf.info(tmp_path / f"x.{suffix}").metadata == metadata
    assert np.load(tmp_path / "x.npy").dtype.names == ("ä",)


# ---- A full disk ----


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing_behind(disk, suffix):
    path = f"{disk}/x.{suffix}"
    with pytest.raises(OSError, match="sparse=True") as caught:
        nf.create(path, 8 * MIB, "u1")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == path
    assert os.listdir(disk) == []
    nf.create(path, 3 * MIB, "u1").close()  # the space is there again


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file_whole(disk, suffix):
    path = f"{disk}/x.{suffix}"
    nf.create(path, 1 * MIB, "u1", fill=7).close()
    before = snapshot(disk)
    for fill in (None, 3):
        with pytest.raises(OSError, match="No space left"):
            nf.create(path, 4 * MIB, "u1", fill=fill, overwrite=True)
    assert snapshot(disk) == before
    assert (values_of(path) == 7).all()


def test_a_full_disk_under_a_sparse_fill_leaves_nothing_behind(disk):
    with pytest.raises(OSError, match="No space left"):
        nf.create(f"{disk}/x.npy", 8 * MIB, "u1", fill=7, sparse=True)
    assert os.listdir(disk) == []


def test_a_disk_without_room_for_the_sidecar_leaves_nothing_behind(disk):
    fill_up(disk)
    os.truncate(f"{disk}/filler", os.path.getsize(f"{disk}/filler") - 4096)
    with pytest.raises(OSError, match="No space left"):
        nf.create(f"{disk}/x.bin", 4096, "u1")
    assert os.listdir(disk) == ["filler"]


def test_a_disk_without_room_for_the_last_sidecar_has_one_that_describes_the_file_already(disk):
    """The sidecar with the file's number takes the last page; the shorter one would want another meanwhile."""
    fill_up(disk)
    os.truncate(f"{disk}/filler", os.path.getsize(f"{disk}/filler") - 2 * 4096)
    nf.create(f"{disk}/x.bin", 4096, "u1", fill=7).close()
    assert sorted(os.listdir(disk)) == ["filler", "x.bin", "x.bin.json"]
    with open(f"{disk}/x.bin.json") as sidecar:
        assert json.load(sidecar)["inode"] == os.stat(f"{disk}/x.bin").st_ino
    assert values_of(f"{disk}/x.bin").tolist() == [7] * 4096


@pytest.mark.parametrize("shape", [1 << 50, (1 << 62) - 5000])
def test_a_size_that_no_disk_has_leaves_nothing_behind(tmp_path, shape):
    for sparse in (False, True):
        with pytest.raises(OSError):  # noqa: PT011  # ENOSPC or EFBIG
            nf.create(tmp_path / "x.npy", shape, "u1", sparse=sparse)
    assert os.listdir(tmp_path) == []
