"""Opening by what a file is: its hints, its content, its name; and every way in which that is refused."""

import bz2
import contextlib
import errno
import gzip
import importlib.util
import lzma
import os
import pathlib
import re
import socket
import stat
import subprocess
import sys

import numpy as np
import pytest
from faulty import is_privileged

import ndfile as nf

MODES = ("r", "r+", "c")


@pytest.fixture
def values():
    return np.arange(12, dtype="<f4").reshape(3, 4)


@pytest.fixture
def npy(tmp_path, values):
    path = tmp_path / "x.npy"
    np.save(path, values)
    return str(path)


@pytest.fixture
def npz(tmp_path, values):
    path = tmp_path / "x.npz"
    np.savez(path, kernel=values, bias=np.arange(4))
    return str(path)


@pytest.fixture
def bare(tmp_path, values):
    """Bytes that nothing describes."""
    path = tmp_path / "x.bin"
    values.tofile(path)
    return str(path)


def renamed(path, name):
    new = os.path.join(os.path.dirname(path), name)
    os.rename(path, new)
    return new


def bytes_of(path):
    with open(path, "rb") as file:
        return file.read()


# ---- Which format ----


@pytest.mark.parametrize("name", ["x", "x.npz", "x.bin", "x.safetensors", "x.h5", "x.wav", "x.txt", "x.NPY"])
def test_content_tells_the_format_whatever_the_name(npy, values, name):
    with nf.open(renamed(npy, name)) as array:
        assert isinstance(array, nf.memmap)
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("name", ["x", "x.npy", "x.bin"])
def test_content_tells_an_archive_whatever_the_name(npz, values, name):
    with nf.open(renamed(npz, name)) as archive:
        np.testing.assert_array_equal(archive["kernel"], values)


@pytest.mark.parametrize(
    ("name", "wanted"), [("x.npy", "NUMPY"), ("x.npz", "zip"), ("x.safetensors", "header"), ("x.NPY", "NUMPY")]
)
def test_a_name_tells_the_format_of_content_that_does_not(tmp_path, name, wanted):
    path = tmp_path / name
    path.write_bytes(b"no magic number at all" * 10)
    with pytest.raises(nf.FormatError, match=wanted) as caught:
        nf.open(path)
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors", "x.bin", "x"])
def test_an_empty_file_is_refused_and_stays_empty(tmp_path, name):
    path = tmp_path / name
    path.touch()
    for mode in MODES:
        with pytest.raises(nf.FormatError):
            nf.open(path, mode)
    assert path.stat().st_size == 0


def test_the_format_can_be_named(npy):
    with nf.open(npy, format="npy") as array:
        assert array.shape == (3, 4)
    with pytest.raises(nf.FormatError, match="zip"):
        nf.open(npy, format="npz")
    with nf.open(npy, format="raw", dtype="u1") as array:
        assert bytes(array[:6]) == b"\x93NUMPY"


@pytest.mark.parametrize("name", ["numpy", "NPY", "", "../npy"])
def test_a_format_that_does_not_exist_is_refused_with_those_that_do(npy, name):
    with pytest.raises(nf.LayoutError, match="'npy', 'npz', 'safetensors'"):
        nf.open(npy, format=name)


@pytest.mark.parametrize("suffix", ["", ".dat", ".txt"])
def test_a_file_that_nothing_describes_says_how_to_map_it(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"\1\2\3\4" * 8)
    with pytest.raises(nf.FormatError, match="Pass dtype=") as caught:
        nf.open(path)
    assert caught.value.path == path
    with nf.open(path, dtype="u1") as array:
        assert array.shape == (32,)


@pytest.mark.parametrize(
    ("compress", "kind"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")],
    ids=["gzip", "bzip2", "xz"],
)
@pytest.mark.parametrize("name", ["x", "x.npy.compressed", "x.txt"])
def test_a_compressed_file_is_called_that(tmp_path, npy, compress, kind, name):
    path = tmp_path / name
    path.write_bytes(compress(bytes_of(npy)))
    with pytest.raises(nf.FormatError, match=rf"compressed \({kind}\).*Decompress"):
        nf.open(path)


@pytest.mark.parametrize(
    ("magic", "kind"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4")], ids=["zstd", "lz4"]
)
def test_other_compressed_files_are_called_that_too(tmp_path, magic, kind):
    (tmp_path / "x").write_bytes(magic + bytes(100))
    with pytest.raises(nf.FormatError, match=rf"compressed \({kind}\)"):
        nf.open(tmp_path / "x")


def test_a_compressed_file_with_a_known_name_is_called_that_too(tmp_path, npy):
    content = gzip.compress(bytes_of(npy))
    (tmp_path / "y.npy").write_bytes(content)
    with pytest.raises(nf.FormatError, match=r"compressed \(gzip\)"):
        nf.open(tmp_path / "y.npy")


# ---- Hints ----


def test_hints_describe_bytes_that_nothing_else_does(bare, values):
    with nf.open(bare, dtype="<f4") as array:
        np.testing.assert_array_equal(array, values.ravel())
    with nf.open(bare, dtype="<f4", shape=(2, 2), order="F", offset=16) as array:
        assert array.tolist() == [[4, 6], [5, 7]]


def test_hints_of_a_dtype_are_refused_for_a_file_that_says_its_own(npy):
    with pytest.raises(nf.FormatError, match=r"npy.*dtype='f4'.*format='raw'"):
        nf.open(npy, dtype="f4")


@pytest.mark.parametrize("hints", [{"shape": 3}, {"offset": 0}, {"mmap_mode": "r"}, {"allow_pickle": True}])
def test_a_hint_that_the_format_does_not_take_is_refused(npy, hints):
    with pytest.raises(nf.LayoutError, match=rf"takes no {next(iter(hints))}.*max_header_size"):
        nf.open(npy, **hints)


@pytest.mark.parametrize(
    ("hints", "error"),
    [
        ({"dtype": "no such"}, TypeError),
        ({"dtype": "O"}, nf.LayoutError),
        ({"dtype": "S"}, nf.LayoutError),
        ({"dtype": "f4", "shape": (-1,)}, nf.LayoutError),
        ({"dtype": "f4", "shape": 1.5}, TypeError),
        ({"dtype": "f4", "shape": (2**62, 2**62)}, nf.LayoutError),
        ({"dtype": "f4", "offset": -4}, nf.LayoutError),
        ({"dtype": "f4", "offset": 1000}, nf.SizeError),
        ({"dtype": "f4", "offset": 47}, nf.SizeError),
        ({"dtype": "f4", "shape": 13}, ValueError),
        ({"dtype": "f4", "order": "Q"}, nf.LayoutError),
        ({"dtype": "f4", "mode": "r"}, TypeError),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", MODES)
def test_hints_that_cannot_be_are_refused_and_the_file_is_untouched(bare, mode, hints, error):
    before = bytes_of(bare), os.stat(bare)
    with pytest.raises(error):
        nf.open(bare, mode, **hints)
    assert bytes_of(bare) == before[0]
    assert os.stat(bare).st_mtime_ns == before[1].st_mtime_ns


def test_a_long_npy_header_wants_to_be_trusted(tmp_path):
    array = np.zeros(2, [(f"a_field_with_a_long_name_{i}", "f4") for i in range(1000)])
    path = tmp_path / "x.npy"
    np.save(path, array)
    with pytest.raises(nf.FormatError, match="larger max_header_size"):
        nf.open(path)
    with nf.open(path, max_header_size=1 << 20) as opened:
        assert opened.dtype == array.dtype


def test_a_sidecar_and_hints_go_together(bare):
    pathlib.Path(bare + ".json").write_text('{"dtype": "<f4", "shape": [12]}')
    with nf.open(bare) as array:
        assert array.shape == (12,)
    with nf.open(bare, shape=(4, 3)) as array:
        assert array.shape == (4, 3)
    with nf.open(bare, dtype="u1") as array:
        assert array.shape == (48,)


ODD_SIDECARS = [
    '{"dtype": "<f4", "shape": [-2]}',
    '{"dtype": "<f4", "shape": [9999999999999999999999]}',
    '{"dtype": "<f4", "offset": -1}',
    '{"dtype": "<f4", "offset": 99}',
    '{"dtype": "<f4", "offset": 1}',
    '{"dtype": "|O"}',
    '{"dtype": "V"}',
]


@pytest.mark.parametrize("text", ODD_SIDECARS)
def test_an_odd_sidecar_is_a_format_error(bare, text):
    pathlib.Path(bare + ".json").write_text(text)
    with pytest.raises(nf.FormatError):
        nf.open(bare)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "not JSON", '{"dtype": 1}', '{"dtype": "<f4", "dtype": "<f4"}', "[" * 100_000]
)
def test_a_sidecar_that_makes_no_sense_is_a_format_error(bare, text):
    pathlib.Path(bare + ".json").write_text(text)
    with pytest.raises(nf.FormatError, match=r"x\.bin\.json"):
        nf.open(bare)


def test_a_pair_that_was_copied_while_it_was_replaced_is_not_read_as_the_old_one(tmp_path):
    """What a crash between the rename and the last sidecar leaves, copied to another place: its number is new there."""
    data = np.arange(4, dtype="<i4")
    nf.save(tmp_path / "x.bin", data.view("<f4"))
    old = (tmp_path / "x.bin.json").read_text().strip()
    data.tofile(tmp_path / "x.bin")
    (tmp_path / "x.bin.json").write_text(
        f'{{"dtype": "<i4", "shape": [4], "order": "C", "offset": 0, "inode": 4294967291, "previous": {old}}}'
    )
    try:
        array = nf.open(tmp_path / "x.bin")
    except nf.FormatError:
        return
    np.testing.assert_array_equal(array, data)


# ---- Modes ----


def test_mode_r_only_reads(npy):
    array = nf.open(npy)
    assert array.mode == "r"
    assert not array.flags.writeable
    array.close()


def test_mode_r_plus_changes_the_file_in_place(npy, values):
    inode = os.stat(npy).st_ino
    with nf.open(npy, "r+") as array:
        array[1] = 7
    values[1] = 7
    np.testing.assert_array_equal(np.load(npy), values)
    assert os.stat(npy).st_ino == inode


def test_mode_c_changes_memory_only(npy, values):
    before = bytes_of(npy)
    with nf.open(npy, "c") as array:
        array[:] = 7
        assert array.sum() == 84
    assert bytes_of(npy) == before


@pytest.mark.parametrize(("long", "short"), [("readonly", "r"), ("readwrite", "r+"), ("copyonwrite", "c")])
def test_modes_have_numpys_long_names(npy, long, short):
    with nf.open(npy, long) as array:
        assert array.mode == short


@pytest.mark.parametrize("mode", ["w+", "write"])
def test_opening_makes_no_file(npy, tmp_path, mode):
    before = bytes_of(npy)
    with pytest.raises(nf.LayoutError, match=r"ndfile\.create"):
        nf.open(npy, mode)
    with pytest.raises(nf.LayoutError):
        nf.open(tmp_path / "new.npy", mode)
    assert bytes_of(npy) == before
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("mode", ["w", "a", "rb", "", "r ", None, 0])
def test_a_mode_that_does_not_exist_is_refused(npy, mode):
    with pytest.raises(nf.LayoutError, match="mode must be one of"):
        nf.open(npy, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [1, 47, 48, 49, 100, 170])
def test_a_file_that_was_cut_is_refused_and_never_grows(npy, mode, cut):
    os.truncate(npy, os.path.getsize(npy) - cut)
    before = bytes_of(npy)
    with pytest.raises(nf.FormatError):
        nf.open(npy, mode)
    assert bytes_of(npy) == before


@pytest.mark.parametrize("mode", MODES)
def test_a_small_file_that_claims_to_be_huge_never_grows(npy, mode):
    text = bytes_of(npy).replace(b"(3, 4), }           ", b"(1099511627776,), } ")
    assert b"1099511627776" in text
    assert len(text) == os.path.getsize(npy)
    with open(npy, "wb") as file:
        file.write(text)
    with pytest.raises(nf.FormatError, match="4398046511104 bytes, 48 follow"):
        nf.open(npy, mode)
    assert bytes_of(npy) == text


def test_numpy_lets_such_a_file_grow(npy):
    """The control."""
    text = bytes_of(npy).replace(b"(3, 4), }", b"(99, 4),}")
    with open(npy, "wb") as file:
        file.write(text)
    np.load(npy, mmap_mode="r+")
    assert os.path.getsize(npy) > len(text)


def test_an_array_of_no_items_opens_at_the_end_of_its_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 512), "f4"))
    for mode in MODES:
        with nf.open(tmp_path / "x.npy", mode) as array:
            assert array.shape == (0, 512)


def test_an_archive_with_checksums_is_not_changed_in_place(npz):
    before = bytes_of(npz)
    with pytest.raises(nf.FormatError, match=r"checksum.*mode='c'"):
        nf.open(npz, "r+")
    with pytest.raises(nf.FormatError, match=r"checksum.*mode='c'"):
        nf.open(npz, "r+", key="bias")
    with nf.open(npz, "c") as archive:
        archive["bias"][:] = 1
    assert bytes_of(npz) == before


def test_a_file_that_may_not_be_written_is_the_systems_error(npy, tmp_path):
    os.chmod(npy, 0o444)
    with unprivileged(tmp_path):
        with pytest.raises(PermissionError):
            nf.open(npy, "r+")
        with nf.open(npy, "c") as array:
            array[0] = 1


@contextlib.contextmanager
def unprivileged(folder):
    """Be nobody, whom pytest's folders let through meanwhile."""
    if not is_privileged():
        yield
        return
    with contextlib.ExitStack() as stack:
        for above in [folder, *folder.parents]:
            mode = above.stat().st_mode
            if mode & 0o011 != 0o011:
                above.chmod(mode | 0o011)
                stack.callback(above.chmod, stat.S_IMODE(mode))
        os.seteuid(65534)
        stack.callback(os.seteuid, 0)
        yield


# ---- Members ----


def test_a_key_opens_one_member(npz, values):
    with nf.open(npz, key="kernel") as array:
        assert isinstance(array, nf.memmap)
        np.testing.assert_array_equal(array, values)


def test_the_only_array_of_a_file_has_a_name_too(npy, values):
    (name,) = nf.info(npy).members
    with nf.open(npy, key=name) as array:
        np.testing.assert_array_equal(array, values)


def test_an_archive_of_one_member_is_an_archive_still(tmp_path, values):
    np.savez(tmp_path / "x.npz", only=values)
    with nf.open(tmp_path / "x.npz") as archive:
        assert isinstance(archive, nf.Archive)


@pytest.mark.parametrize("key", ["kernels", "", "kernel.npy", 0, b"kernel", ("kernel",)])
def test_a_key_that_is_not_there_is_a_key_error_with_those_that_are(npz, key):
    with pytest.raises(KeyError, match="kernel") as caught:
        nf.open(npz, key=key)
    assert isinstance(caught.value, nf.MemberError)
    assert caught.value.names == ("kernel", "bias")
    assert caught.value.key == key


def test_a_wrong_key_of_a_file_of_one_array_is_a_key_error(npy):
    with pytest.raises(nf.MemberError, match="1 member"):
        nf.open(npy, key="other")


def test_a_compressed_member_is_refused_with_the_way_out_and_the_others_open(tmp_path, values):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, packed=values)
    with pytest.raises(nf.FormatError, match=r"member 'packed'.*compressed \(deflate\).*ndfile\.convert") as caught:
        nf.open(path, key="packed")
    assert caught.value.member == "packed"
    with nf.open(path) as archive, pytest.raises(nf.FormatError, match="packed"):
        archive["packed"]


def test_objects_are_refused_and_never_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([Trap(tmp_path / "sprung")], object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", trap=np.array([Trap(tmp_path / "sprung")], object))
    for mode in MODES:
        with pytest.raises(nf.FormatError, match="unpickles"):
            nf.open(tmp_path / "x.npy", mode)
    with nf.open(tmp_path / "x.npz") as archive, pytest.raises(nf.FormatError, match="unpickles"):
        archive["trap"]
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)  # the control
    assert (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# ---- Paths ----


@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_every_kind_of_path_opens(npy, values, wrap):
    with nf.open(wrap(npy)) as array:
        np.testing.assert_array_equal(array, values)
        assert os.fspath(array.filename) == npy


def test_a_path_object_stays_one_as_in_memmap(npy):
    with nf.memmap(pathlib.Path(npy), mode="r") as array:
        assert isinstance(array.filename, pathlib.Path)
    with nf.open(pathlib.Path(npy)) as array:
        assert isinstance(array.filename, pathlib.Path)


def test_a_relative_path_is_made_absolute(npy, values, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    array = nf.open("x.npy")
    monkeypatch.chdir("/")
    assert array.filename == npy
    np.testing.assert_array_equal(array, values)
    array.close()


@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_a_link_is_followed(npy, values, tmp_path, wrap):
    (tmp_path / "link").symlink_to(npy)
    with nf.open(wrap(str(tmp_path / "link")), "r+") as array:
        array[0, 0] = 99
    assert np.load(npy)[0, 0] == 99


@pytest.mark.parametrize("wrap", [str, pathlib.Path])
def test_a_link_leads_to_a_raw_file_and_its_sidecar(tmp_path, values, wrap):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.bin").symlink_to(tmp_path / "folder" / "x.bin")
    nf.save(wrap(str(tmp_path / "x.bin")), values)
    with nf.open(wrap(str(tmp_path / "x.bin"))) as array:
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("name", ["a b.npy", "ä.npy", "\udcff.npy", "x\n.npy", "%s.npy", "{}.npy", "-.npy"])
def test_odd_names_open(npy, values, name):
    with nf.open(renamed(npy, name)) as array:
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("path", [5, None, 1.5, ["x.npy"]])
def test_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError):
        nf.open(path)


def test_a_file_object_is_a_type_error(npy):
    with open(npy, "rb") as file, pytest.raises(TypeError):
        nf.open(file)


@pytest.mark.parametrize("path", ["", "no/such/x.npy", "nothing.npy"])
def test_a_file_that_is_not_there_is_a_file_not_found_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for mode in MODES:
        with pytest.raises(FileNotFoundError):
            nf.open(path, mode)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket", "/dev/zero"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, mode, kind):
    path = str(tmp_path / "odd.npy")
    if kind == "folder":
        os.mkdir(path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    else:
        path = kind
    with pytest.raises(OSError) as caught:  # noqa: PT011  # one of the numbers below
        nf.open(path, mode)
    assert caught.value.errno in (errno.EISDIR, errno.EINVAL, errno.ENXIO)


def test_a_fifo_beside_a_raw_file_does_not_make_anybody_wait(bare):
    os.mkfifo(bare + ".json")
    program = "import sys, ndfile as nf\ntry: nf.open(sys.argv[1], format='raw')\nexcept nf.FormatError: pass"
    ended = None
    try:
        ended = subprocess.run([sys.executable, "-c", program, bare], check=False, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail("it waits")
    assert ended.returncode == 0


# ---- What an error is ----


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (nf.FormatError, ValueError),
        (nf.LayoutError, ValueError),
        (nf.SizeError, ValueError),
        (nf.MemberError, KeyError),
        (nf.LibraryError, ImportError),
    ],
)
def test_errors_are_also_what_the_standard_library_would_raise(error, base):
    assert issubclass(error, base)
    assert issubclass(error, nf.NdfileError)


def test_a_refusal_says_what_and_where_and_what_to_do(npy):
    os.truncate(npy, 150)
    with pytest.raises(nf.FormatError) as caught:
        nf.open(npy)
    assert caught.value.path == npy
    assert caught.value.offset == 128
    assert str(caught.value) == (
        f"open {npy!r}: member 'data': float32 (3, 4) needs 48 bytes, 22 follow the header (at byte 128). "
        "Nothing was changed. Restore the file from where it came, or make it anew."
    )


# ---- Libraries ----

# Each makes a file that needs its library. They run in other processes: what they import is not to stay in this one.
MAKERS = {
    "h5py": ("x.h5", "h5py.File(path, 'w')['a'] = numpy.arange(3)"),
    "nibabel": ("x.nii", "nibabel.save(nibabel.Nifti1Image(numpy.zeros((2, 3, 4), 'f4'), numpy.eye(4)), path)"),
    "pyarrow": (
        "x.arrow",
        "table = pyarrow.table({'a': numpy.arange(3)})\n"
        "with pyarrow.OSFile(path, 'wb') as file, pyarrow.ipc.new_file(file, table.schema) as writer:\n"
        "    writer.write_table(table)",
    ),
    "ml_dtypes": ("x.npy", "ndfile.save(path, numpy.ones(3, ml_dtypes.bfloat16))"),
    "tifffile": ("x.tif", "tifffile.imwrite(path, numpy.zeros((64, 64), 'u1'), compression='zlib')"),
    "astropy": (
        "x.fits",
        "from astropy.io import fits\nfits.PrimaryHDU(numpy.arange(5, dtype='u2')).writeto(path)",
    ),
}

# What is mapped needs no library for two of them, what is decoded does.
MISSING = """
    import sys
    library, path, copy = sys.argv[1:]
    sys.modules[library] = None
    import ndfile as nf
    try:
        nf.open(path) if library not in ("tifffile", "astropy") else nf.convert(path, copy)
    except nf.LibraryError as error:
        assert isinstance(error, ImportError), type(error)
        assert error.name == error.library
        print(error.library, error, sep="|")
"""


@pytest.mark.parametrize("library", MAKERS)
def test_a_missing_library_is_an_import_error_with_the_line_that_installs_it(tmp_path, run_python, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed, and the file is to be made by it")
    name, make = MAKERS[library]
    program = f"import sys, numpy, ndfile, {library}\npath = sys.argv[1]\n{make}"
    subprocess.run([sys.executable, "-c", program, tmp_path / name], check=True)
    said = run_python(MISSING, library, tmp_path / name, tmp_path / "copy.npz").stdout
    wanted, _, sentence = said.partition("|")
    assert wanted.partition(".")[0] == library
    assert re.search(r"is not installed\. Run: pip install 'ndfile\[\w+\]'$", sentence)
    assert not (tmp_path / "copy.npz").exists()


def test_a_missing_library_does_not_keep_other_files_from_opening(npy, run_python):
    program = """
        import sys
        for library in ("h5py", "tifffile", "nibabel", "astropy", "pyarrow", "ml_dtypes", "safetensors", "tqdm"):
            sys.modules[library] = None
        import ndfile as nf
        print(nf.open(sys.argv[1]).shape)
    """
    assert run_python(program, npy).stdout == "(3, 4)\n"


HEAVY = (
    "zipfile",
    "importlib.metadata",
    "h5py",
    "tifffile",
    "nibabel",
    "astropy",
    "pyarrow",
    "ml_dtypes",
    "safetensors",
    "xxhash",
    "blake3",
    "tqdm",
    "hashlib",
    "concurrent.futures",
    "multiprocessing",
    "inspect",
    "tempfile",
    "lzma",
    "difflib",
)


def modules_after(run_python, first, then):
    """Which of the heavy ones the second statement brings."""
    program = f"""
        import sys
        {first}
        before = set(sys.modules)
        {then}
        print(*(set(sys.modules) - before))
    """
    return set(run_python(program).stdout.split()).intersection(HEAVY)


def test_importing_brings_nothing_that_only_some_files_need(run_python):
    assert modules_after(run_python, "import numpy", "import ndfile") == set()


def test_opening_an_npy_brings_nothing_that_only_others_need(npy, run_python):
    assert modules_after(run_python, "import ndfile", f"ndfile.open({npy!r})") == set()


def test_the_check_on_imports_sees_them(npz, run_python):
    """The control."""
    assert "zipfile" in modules_after(run_python, "import ndfile", f"ndfile.open({npz!r})")
