"""References: what they hold, that they open as the same view of the same file, and what they refuse."""

import dataclasses
import hashlib
import mmap
import os
import pickle
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
from drawn_views import view_drawn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twins import meaningful

import ndfile as nf
from ndfile import pathmap
from ndfile import ref as refs

PAGE = mmap.PAGESIZE
MODES = ("r", "r+", "c")
OF_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def npy(tmp_path):
    """The path of a file of 4 pages of int32, from byte 128 on."""
    np.save(tmp_path / "x.npy", np.arange(4 * PAGE // 4, dtype="i4"))
    return str(tmp_path / "x.npy")


@pytest.fixture
def maps_no_paths():
    yield
    nf.map_paths({})


def set_back(path, ref):
    """Give a file the time that it had when the reference was made."""
    os.utime(path, ns=(ref.mtime_ns, ref.mtime_ns))


# ---- What it is ----


def test_a_reference_is_small_frozen_hashable_and_equal_to_what_is_unpickled(npy):
    ref = nf.open(npy)[5:2:-1].ref
    assert isinstance(ref, nf.ArrayRef)
    sent = pickle.dumps(ref)
    assert len(sent) < 1000
    assert pickle.loads(sent) == ref
    assert hash(pickle.loads(sent)) == hash(ref)
    assert len({ref, pickle.loads(sent), nf.open(npy)[5:3:-1].ref}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        ref.offset = 0


def test_a_reference_says_where_the_bytes_are(npy):
    ref = nf.open(npy)[5:2:-1].ref
    status = os.stat(npy)
    assert (ref.path, ref.offset, ref.dtype, ref.shape, ref.strides) == (npy, 148, np.dtype("i4"), (3,), (-4,))
    assert (ref.size, ref.mtime_ns, ref.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)
    assert (ref.host, ref.nbytes, ref.digest) == (socket.gethostname(), 12, None)
    assert repr(ref) == f"<ArrayRef {npy!r}: int32 (3,) from byte 148, mode 'r'>"


def test_a_reference_keeps_nothing_open(npy):
    array = nf.open(npy, "r+")
    ref = array.ref
    array.close()
    os.remove(npy)
    assert ref.path == npy


@OF_ONE_FOLDER
@given(st.data())
def test_any_view_opens_as_the_same_view_of_the_same_bytes(tmp_path, data):
    array = view_drawn(data.draw, tmp_path)
    ref = array.ref
    opened = pickle.loads(pickle.dumps(ref)).open()
    assert type(opened) is nf.memmap
    assert (opened.shape, opened.strides, opened.dtype) == (array.shape, array.strides, array.dtype)
    assert opened.mode == ("r" if not array.flags.writeable else array.mode)
    assert opened.flags.writeable == array.flags.writeable
    assert meaningful(opened) == meaningful(array)
    assert opened.ref == ref
    assert ref.nbytes == array.nbytes
    ref.with_digest().open()
    if opened.mode == "r+" and array.size:
        places = st.tuples(*(st.integers(0, length - 1) for length in array.shape))
        opened[data.draw(places)] = np.array(opened[data.draw(places)])
        assert meaningful(opened) == meaningful(array)


def test_what_is_written_through_a_reference_is_in_the_array_and_in_the_file(npy):
    array = nf.open(npy, "r+")
    array[100:200].ref.open()[3] = -7
    assert array[103] == -7
    assert np.load(npy)[103] == -7


def test_a_new_file_is_not_made_anew_by_its_reference(path):
    array = nf.memmap(path, "i2", "w+", shape=(3,))
    array[:] = 5
    assert array.ref.mode == "r+"
    assert array.ref.open().tolist() == [5, 5, 5]


def test_a_read_only_view_of_an_array_that_writes_is_only_read(npy):
    view = nf.open(npy, "r+")[:]
    view.flags.writeable = False
    assert view.ref.open().mode == "r"


def test_an_opened_reference_is_a_view_and_cannot_grow(npy):
    opened = nf.open(npy, "r+").ref.open()
    with pytest.raises(nf.LayoutError):
        opened.append([1])


def test_a_reference_shows_the_rows_that_there_were(npy):
    array = nf.open(npy, "r+")
    ref = array.ref
    rows = len(array)
    array.append([1, 2, 3])
    assert ref.open().shape == (rows,)
    assert array.ref.open()[-1] == 3


@pytest.mark.parametrize("own", MODES)
@pytest.mark.parametrize("wanted", MODES)
def test_a_reference_of_any_mode_opens_in_any_mode(npy, own, wanted):
    opened = nf.open(npy, own)[2:].ref.open(wanted)
    assert opened.mode == wanted
    assert opened.flags.writeable == (wanted != "r")
    assert opened[0] == 2
    if wanted != "r":
        opened[0] = 9
    assert np.load(npy)[2] == (9 if wanted == "r+" else 2)


@pytest.mark.parametrize("mode", ["w+", "rb", "", 3, ["r"], np.array(["r", "c"])])
def test_other_modes_are_refused(npy, mode):
    with pytest.raises(nf.LayoutError, match="mode must be one of"):
        nf.open(npy).ref.open(mode)


def test_ceiling_and_backend_travel(npy):
    array = nf.open(npy, backend="read", max_rss="8 MiB")
    ref = pickle.loads(pickle.dumps(array.ref))
    opened = ref.open()
    assert (opened.max_rss, opened.backend) == (8 << 20, "read")
    private = ref.open("c")
    assert (private.max_rss, private.backend) == (None, "map")
    private[:] = 1
    assert private[[5, 6]].tolist() == [1, 1]


def test_the_token_that_dask_asks_for_is_of_the_view_and_the_state_of_the_file(npy):
    array = nf.open(npy)
    token = array.ref.__dask_tokenize__()
    assert token == nf.open(npy, "c").ref.__dask_tokenize__()
    assert token != array[1:].ref.__dask_tokenize__()
    assert token != array.view("u4").ref.__dask_tokenize__()
    os.utime(npy, ns=(1, 1))
    assert token != array.ref.__dask_tokenize__()


# ---- Names ----


NAMES = {
    "plain": b"x.npy",
    "spaces": b"  an array .npy",
    "a line break": b"an\narray.npy",
    "not ASCII": "ärray.npy".encode(),
    "no UTF-8": b"\xff\xfe.npy",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("kind", [os.fsdecode, os.fsencode, lambda name: Path(os.fsdecode(name))])
def test_a_file_of_any_name_has_a_reference(tmp_path, name, kind):
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(bytes(range(9)))
    ref = nf.memmap(kind(path), mode="r").ref
    assert ref.path == os.fsdecode(path)
    assert pickle.loads(pickle.dumps(ref)).open().tolist() == list(range(9))


def test_a_relative_path_is_absolute_in_the_reference(npy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ref = nf.open("x.npy").ref
    monkeypatch.chdir("/")
    assert ref.path == npy
    assert ref.open()[3] == 3


def test_a_symbolic_link_is_followed_and_one_that_leads_elsewhere_is_stale(npy, tmp_path):
    np.save(tmp_path / "other.npy", np.load(npy) + 1)
    link = str(tmp_path / "link.npy")
    os.symlink(npy, link)
    ref = nf.open(link).ref
    assert ref.path == link
    assert ref.open()[3] == 3
    os.remove(link)
    os.symlink(tmp_path / "other.npy", link)
    set_back(link, ref)
    with pytest.raises(nf.StaleFileError, match="another file has taken its name"):
        ref.open()


def test_an_array_on_a_named_file_object_has_a_reference(npy):
    with open(npy, "rb") as file:
        array = nf.memmap(file, "i4", "r", 128)
    assert array[7:].ref.open()[0] == 7


# ---- What has none ----


def without_a_name(npy):
    with tempfile.TemporaryFile() as file:
        return nf.memmap(file, "i4", "w+", shape=4)


def unlinked(npy):
    array = nf.open(npy)
    os.remove(npy)
    return array


def replaced(npy):
    array = nf.open(npy)
    os.rename(npy, npy + "-")
    np.save(npy, np.array(array))
    return array


def changed_in_memory(npy):
    array = nf.open(npy, "c")
    array[0] = 1
    return array


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (without_a_name, "has no file with a name"),
        (unlinked, "lost its name"),
        (replaced, "another file has taken it"),
        (changed_in_memory, "changed it in memory alone"),
        (lambda npy: np.zeros_like(nf.open(npy)), "has no file with a name"),
    ],
)
def test_what_no_other_process_could_open_has_no_reference(npy, make, problem):
    array = make(npy)
    with pytest.raises(nf.LayoutError, match=problem) as caught:
        array.ref  # noqa: B018
    assert str(caught.value).startswith("ref: ")


def test_a_name_that_only_this_process_knows_is_none(npy):
    fd = os.open(npy, os.O_RDONLY)
    try:
        array = nf.memmap(f"/proc/self/fd/{fd}", "i4", "r", 128)
        assert array[3] == 3
        with pytest.raises(nf.LayoutError, match="lost its name"):
            array.ref  # noqa: B018
    finally:
        os.close(fd)


def test_only_the_pages_of_the_view_count_for_what_mode_c_has_changed(npy):
    array = nf.open(npy, "c")
    data = array[-32:].ref.offset + 32 * 4 - array.nbytes  # where the items begin in the file
    per_page = PAGE // 4
    first = (PAGE - data) // 4  # the first item of the second page
    array[first + 5] = -1
    with pytest.raises(nf.LayoutError):
        array.ref  # noqa: B018
    with pytest.raises(nf.LayoutError):
        array[first : first + 1].ref  # noqa: B018  # unchanged itself, on a page that is not
    assert array[:first].ref.open().tolist() == list(range(first))
    assert array[first + per_page :].ref.open()[0] == first + per_page
    with pytest.raises(nf.LayoutError):
        array[first - 1 : first + 1][::-1].ref  # noqa: B018
    # From the page behind the changed one backwards into it.
    with pytest.raises(nf.LayoutError):
        array[first + per_page - 1 : first + per_page + 1][::-1].ref  # noqa: B018
    assert array[first + 5 : first + 5].ref.open().shape == (0,)


def test_reading_an_array_of_mode_c_changes_nothing_of_it(npy):
    array = nf.open(npy, "c")
    assert int(array.sum(dtype="i8")) == sum(range(len(array)))
    assert array.ref.open()[-1] == len(array) - 1


def test_there_is_no_reference_in_an_atomic_block(npy):
    array = nf.open(npy, "r+")
    with array.atomic(), pytest.raises(nf.LayoutError, match="an atomic block is open"):
        array.ref  # noqa: B018
    assert array.ref.open()[3] == 3


def test_a_closed_array_has_no_reference(npy):
    array = nf.open(npy)
    view = array[2:]
    array.close()
    for closed in (array, view):
        with pytest.raises(nf.ClosedError):
            closed.ref  # noqa: B018


def test_a_cut_file_is_found_when_the_reference_is_made(npy):
    array = nf.open(npy)
    os.truncate(npy, PAGE)
    with pytest.raises(nf.FaultError, match="was cut"):
        array.ref  # noqa: B018


def test_a_view_of_rows_that_the_array_no_longer_has_has_no_reference(npy):
    array = nf.open(npy, "r+")
    early, late = array[:10], array[50:]
    array.resize(20)
    with pytest.raises(nf.FaultError, match="made shorter"):
        late.ref  # noqa: B018
    assert early.ref.open()[9] == 9


# ---- What became of the file meanwhile ----


def unlink(path, ref):
    os.remove(path)


def replace(path, ref):
    content = Path(path).read_bytes()
    os.rename(path, path + "-")
    Path(path).write_bytes(content)
    set_back(path, ref)


def replace_and_move_back(path, ref):
    replace(path, ref)
    os.rename(path + "-", path)


def touch(path, ref):
    os.utime(path)


def write_in_place(path, ref):
    with open(path, "r+b") as file:
        file.seek(200)
        file.write(b"other")
    os.utime(path, ns=(ref.mtime_ns + 1, ref.mtime_ns + 1))


def grow(path, ref):
    with open(path, "ab") as file:
        file.write(b"more")
    set_back(path, ref)


def cut(path, ref):
    os.truncate(path, ref.size - 1)
    set_back(path, ref)


def cut_behind_the_view(path, ref):
    os.truncate(path, ref.offset + ref.nbytes)
    set_back(path, ref)


def move_away(path, ref):
    os.rename(os.path.dirname(path), os.path.dirname(path) + "-")


# What is done to the file, and what references of mode 'r' (or 'c') and 'r+' to all of it make of that.
STALE, GONE = nf.StaleFileError, FileNotFoundError
CHANGES = [
    (unlink, GONE, GONE),
    (move_away, GONE, GONE),
    (replace, STALE, STALE),
    (replace_and_move_back, None, None),
    (touch, STALE, None),
    (write_in_place, STALE, None),
    (grow, STALE, None),
    (cut, STALE, STALE),
]


def assert_opens(ref, error, mode=None):
    if error is None:
        assert ref.open(mode).shape == ref.shape
        return
    with pytest.raises(error) as caught:
        ref.open(mode)
    assert repr(ref.host) in str(caught.value)
    assert repr(ref.path) in str(caught.value)
    assert caught.value.filename == ref.path


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("change", "of_r", "of_r_plus"), CHANGES, ids=[change[0].__name__ for change in CHANGES])
def test_a_file_that_changed_is_stale_unless_writing_is_what_the_reference_is_for(npy, mode, change, of_r, of_r_plus):
    os.makedirs(os.path.join(os.path.dirname(npy), "folder"))
    os.rename(npy, npy := os.path.join(os.path.dirname(npy), "folder", "x.npy"))
    array = nf.open(npy, mode)
    ref = array.ref
    array.close()
    change(npy, ref)
    error = of_r_plus if mode == "r+" else of_r
    assert_opens(ref, error)
    for wanted in MODES:  # it is the reference's own mode that says what may change
        assert_opens(ref, error, wanted)


def test_a_file_that_was_cut_behind_the_view_is_stale_to_those_who_only_read(npy):
    for mode, error in [("r", STALE), ("r+", None)]:
        array = nf.open(npy, mode)
        ref = array[:10].ref
        array.close()
        cut_behind_the_view(npy, ref)
        assert_opens(ref, error)
        os.truncate(npy, ref.size)
        set_back(npy, ref)


def test_a_stale_file_says_what_it_was_and_what_it_is(npy):
    ref = nf.open(npy).ref
    grow(npy, ref)
    with pytest.raises(OSError, match=rf"it had {ref.size} bytes of .*; now it has {ref.size + 4} bytes") as caught:
        ref.open()
    assert (caught.value.path, caught.value.host) == (npy, ref.host)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_writing_through_an_array_leaves_its_references_good(npy):
    array = nf.open(npy, "r+")
    ref = array.ref
    array[:] = 1
    array.flush()
    assert ref.open()[-1] == 1


# ---- Digests ----


def keep_the_time(path, ref):
    """Change a byte of the file, and neither its size nor its time."""
    with open(path, "r+b") as file:
        file.seek(ref.offset)
        byte = file.read(1)
        file.seek(ref.offset)
        file.write(bytes([byte[0] ^ 1]))
    set_back(path, ref)


@pytest.mark.parametrize("algorithm", [None, "sha256", "xxh3", "blake3"])
@pytest.mark.parametrize("mode", MODES)
def test_a_digest_finds_what_the_stamp_does_not(npy, mode, algorithm):
    array = nf.open(npy, mode)
    ref = array[10:99].ref
    checked = ref.with_digest(algorithm)
    assert checked == dataclasses.replace(ref, digest=checked.digest)
    assert pickle.loads(pickle.dumps(checked)).open()[0] == 10
    array.close()
    keep_the_time(npy, dataclasses.replace(ref, offset=ref.offset - 1))
    checked.open()
    keep_the_time(npy, ref)
    assert ref.open()[0] == 11
    with pytest.raises(nf.StaleFileError, match="bytes of another one"):
        checked.open()


def test_a_digest_is_that_of_the_bytes_in_the_order_of_the_items(path, monkeypatch):
    monkeypatch.setattr(refs, "PIECE_NBYTES", 100)
    with open(path, "wb") as file:
        file.write(np.random.default_rng(1).bytes(2 * 3 * 50 * 7))
    array = nf.memmap(path, "u1", "r", shape=(2, 3, 50, 7))
    views = [array, array.T, array[::-1, 1:, ::3], np.broadcast_to(array, (3, *array.shape), subok=True), array[:0]]
    for view in views:
        assert view.ref.with_digest("sha256").digest == "sha256:" + hashlib.sha256(view.tobytes()).hexdigest()


def test_a_digest_is_of_the_bytes_between_the_fields_too(path):
    dtype = np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [2], "itemsize": 5})
    content = np.random.default_rng(1).integers(0, 256, 50000, "u1")
    content.tofile(path)
    view = nf.memmap(path, dtype, "r")[::2]
    expected = hashlib.sha256(content.reshape(-1, 5)[::2].tobytes()).hexdigest()
    assert view.ref.with_digest("sha256").digest == "sha256:" + expected


@pytest.mark.parametrize("digest", ["", "sha256", "sha256:", "nonsense:00", ":", "sha256:" + "0" * 64, "xxh3:zz"])
def test_a_digest_that_is_none_is_refused(npy, digest):
    with pytest.raises((nf.LayoutError, nf.StaleFileError)):
        dataclasses.replace(nf.open(npy).ref, digest=digest).open()


def test_an_algorithm_that_is_none_is_refused(npy):
    with pytest.raises(nf.LayoutError, match="algorithm must be one of"):
        nf.open(npy).ref.with_digest("crc")


# ---- Other hosts ----


def elsewhere(ref, **facts):
    return dataclasses.replace(ref, host="other", **facts)


def test_on_another_host_the_file_has_another_number(npy):
    ref = nf.open(npy).ref
    assert elsewhere(ref, inode=ref.inode + 1).open()[3] == 3
    with pytest.raises(nf.StaleFileError):
        dataclasses.replace(ref, inode=ref.inode + 1).open()


@pytest.mark.parametrize("unit", [1, 100, 1000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000])
def test_times_are_compared_as_finely_as_the_coarser_file_system_keeps_them(npy, unit):
    fine = 1_700_000_001_987_654_321
    coarse = fine // unit * unit
    for here, there in [(fine, coarse), (coarse, fine)]:
        os.utime(npy, ns=(here, here))
        ref = nf.open(npy).ref
        assert elsewhere(ref, mtime_ns=there).open()[3] == 3
        for wrong in (there + 2 * unit, there - 2 * unit):
            with pytest.raises(nf.StaleFileError):
                elsewhere(ref, mtime_ns=wrong).open()
        if unit > 1:  # on the same host it is the same file system
            with pytest.raises(nf.StaleFileError):
                dataclasses.replace(ref, mtime_ns=there).open()


def test_a_missing_file_names_both_hosts_and_says_how_to_find_it(npy):
    ref = elsewhere(nf.open(npy).ref, path="/nowhere/x.npy")
    with pytest.raises(FileNotFoundError) as caught:
        ref.open()
    for part in ("'other'", repr(socket.gethostname()), "'/nowhere/x.npy'", "ndfile.map_paths"):
        assert part in str(caught.value)


MAPPED = {
    # prefixes, path there, path here
    "a folder": ({"/data": "/mnt"}, "/data/x.npy", "/mnt/x.npy"),
    "folders in it": ({"/data": "/mnt/nas"}, "/data/a/b/x.npy", "/mnt/nas/a/b/x.npy"),
    "another": ({"/data": "/mnt"}, "/other/x.npy", "/other/x.npy"),
    "half a name": ({"/data": "/mnt"}, "/data2/x.npy", "/data2/x.npy"),
    "half a name before it": ({"/data": "/mnt"}, "/a/data/x.npy", "/a/data/x.npy"),
    "the longest": ({"/data": "/short", "/data/a": "/long"}, "/data/a/x.npy", "/long/x.npy"),
    "the longest, told first": ({"/data/a": "/long", "/data": "/short"}, "/data/b/x.npy", "/short/b/x.npy"),
    "only once": ({"/data": "/mnt", "/mnt": "/other"}, "/data/x.npy", "/mnt/x.npy"),
    "trailing slashes": ({"/data//": "/mnt/"}, "/data/x.npy", "/mnt/x.npy"),
    "dots": ({"/data/./a/..": "/mnt/../mnt"}, "/data/x.npy", "/mnt/x.npy"),
    "two slashes": ({"//data": "//mnt"}, "//data//x.npy", "/mnt/x.npy"),
    "spaces": ({"/my data ": "/mnt /d"}, "/my data / x.npy", "/mnt /d/ x.npy"),
    "the root there": ({"/": "/mnt/host"}, "/data/x.npy", "/mnt/host/data/x.npy"),
    "the root here": ({"/mnt/host": "/"}, "/mnt/host/data/x.npy", "/data/x.npy"),
    "one file": ({"/data/x.npy": "/mnt/y.npy"}, "/data/x.npy", "/mnt/y.npy"),
    "a Path": ({Path("/data"): Path("/mnt")}, "/data/x.npy", "/mnt/x.npy"),
    "nothing": ({}, "/data/x.npy", "/data/x.npy"),
}


@pytest.mark.usefixtures("maps_no_paths")
@pytest.mark.parametrize(("prefixes", "there", "here"), MAPPED.values(), ids=MAPPED)
def test_the_longest_prefix_of_whole_names_says_where_a_file_is(prefixes, there, here):
    nf.map_paths(prefixes)
    assert pathmap.mapped_path(there) == here


@pytest.mark.usefixtures("maps_no_paths")
def test_a_mapped_reference_opens_the_file_that_is_here(npy, tmp_path):
    ref = elsewhere(nf.open(npy)[4:].ref, path="/there/x.npy")
    nf.map_paths({"/there": str(tmp_path)})
    assert ref.open()[0] == 4
    assert ref.open().filename == npy
    os.remove(npy)
    with pytest.raises(FileNotFoundError, match=r"where it is '/there/x\.npy'") as caught:
        ref.open()
    assert caught.value.filename == npy


@pytest.mark.usefixtures("maps_no_paths")
def test_a_copy_under_a_mapped_prefix_is_taken_for_the_file_on_the_same_host_too(npy, tmp_path):
    (tmp_path / "copies").mkdir()
    ref = nf.open(npy).ref
    (tmp_path / "copies" / "x.npy").write_bytes(Path(npy).read_bytes())
    set_back(tmp_path / "copies" / "x.npy", ref)
    nf.map_paths({str(tmp_path): str(tmp_path / "copies")})
    opened = ref.open()
    assert opened.filename == str(tmp_path / "copies" / "x.npy")
    assert opened[3] == 3


@pytest.mark.usefixtures("maps_no_paths")
@pytest.mark.parametrize("prefixes", [{"data": "/mnt"}, {"/data": "mnt"}, {"": "/mnt"}, {"/data": ""}])
def test_prefixes_that_are_not_absolute_are_refused(prefixes):
    nf.map_paths({"/data": "/mnt"})
    with pytest.raises(nf.LayoutError, match="is no absolute path"):
        nf.map_paths(prefixes)
    assert pathmap.mapped_path("/data/x") == "/mnt/x"


def test_the_environment_maps_paths_until_the_program_does(npy, tmp_path, monkeypatch, run_python):
    ref = elsewhere(nf.open(npy).ref, path="/one/two/x.npy")
    (tmp_path / "ref.pickle").write_bytes(pickle.dumps(ref))
    program = """
    import os, pickle, sys
    import ndfile as nf
    ref = pickle.loads(open(sys.argv[1], "rb").read())
    assert ref.open()[3] == 3
    nf.map_paths({})
    try:
        ref.open()
    except FileNotFoundError:
        print("ended")
    """
    monkeypatch.setenv("NDFILE_PATH_MAP", f"/one=/nowhere:/one/two={tmp_path}:")
    assert run_python(program, tmp_path / "ref.pickle").stdout == "ended\n"
    monkeypatch.setenv("NDFILE_PATH_MAP", "/one")
    assert "NDFILE_PATH_MAP: '' is no absolute path" in run_python(program, tmp_path / "ref.pickle", fails=True).stderr


# ---- Hostile ones ----


class Word(str):
    __slots__ = ()


HUGE = 1 << 70
NUMBERS = [None, "1", 1.5, True, np.int64(1), -1, HUGE, -HUGE, [1]]
NONSENSE = {
    "path": [
        None,
        5,
        b"/x",
        Path("/x"),
        "",
        "x.npy",
        ".",
        "\0",
        "/a\0b",
        "/\ud800",
        "/" + "x" * 5000,
        Word("/x"),
        ["/x"],
    ],
    "offset": [*NUMBERS, 1 << 63, (1 << 63) - 1, 1 << 62],
    "dtype": [
        *(None, "f4", np.float32, np.dtype("O"), np.dtype("S0"), np.dtype([("a", "O")]), np.dtype(("f4", (3,)))),
        *(np.dtypes.StringDType(), np.dtype([]), np.dtype("V1000000000"), 5),
    ],
    "shape": [*NUMBERS, (-1,), (1.0,), (HUGE,), (1 << 62, 1 << 62), (0, 1 << 62, 4), (1,) * 65, (), ("3",), "3", [4]],
    "strides": [*NUMBERS, (), (4, 4), (4.0,), (HUGE,), (1 << 62,), (-4,), (-(1 << 62),), ("4",), [4]],
    "mode": [None, "w+", "rw", "", 5, Word("r"), ("r",), np.array(["r", "c"])],
    "size": [*NUMBERS, 0, 1, 1 << 62],
    "mtime_ns": [*NUMBERS, 0, (1 << 63) - 1, -(1 << 62)],
    "inode": [*NUMBERS[:-2], 1, 1 << 64],
    "host": [None, 5, b"x", ["x"], Word("x")],
    "max_rss": ["8 MiB", 0, *NUMBERS[1:]],
    "backend": [None, "map", "", 5, ["read"]],
    "digest": [5, b"sha256:00", ["x"], "x", "sha256:" + "0" * 64],
}


def state_of(folder):
    return {
        name: (os.lstat(os.path.join(folder, name)).st_size, os.lstat(os.path.join(folder, name)).st_mtime_ns)
        for name in os.listdir(folder)
    }


@pytest.mark.parametrize("own", MODES)
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_any_field_is_an_error_and_nothing_else(npy, tmp_path, monkeypatch, name, own):
    monkeypatch.chdir(tmp_path)
    ref = nf.open(npy, own)[:].ref
    before = state_of(tmp_path)
    for value in NONSENSE[name]:
        hostile = pickle.loads(pickle.dumps(dataclasses.replace(ref, **{name: value})))
        lenient = own == "r+" and name in ("size", "mtime_ns") and type(value) is int and 0 <= value < 1 << 63
        lenient |= name == "mtime_ns" and own == "r+" and type(value) is int and abs(value) < 1 << 63
        for mode in (None, *MODES):
            if lenient:
                hostile.open(mode)
                continue
            with pytest.raises((nf.LayoutError, nf.StaleFileError, OSError)) as caught:
                hostile.open(mode)
            assert len(str(caught.value)) < 6000
            assert str(caught.value).count("Nothing was") <= 1
        repr(hostile)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("own", MODES)
def test_a_reference_with_wrong_numbers_is_refused_or_shows_bytes_of_the_file(npy, tmp_path, own):
    base = nf.open(npy, own)[:].ref
    content = np.fromfile(npy, "u1")

    @settings(max_examples=150)
    @given(st.data())
    def check(data):
        dimensions = data.draw(st.integers(0, 3))
        number = st.one_of(
            st.integers(-9, 9), st.integers(-len(content), len(content)), st.integers(-(1 << 65), 1 << 65)
        )
        numbers = st.lists(number, min_size=dimensions, max_size=dimensions).map(tuple)
        few = st.lists(st.integers(-1, 5), min_size=dimensions, max_size=dimensions).map(tuple)
        ref = dataclasses.replace(
            base,
            offset=data.draw(number),
            shape=data.draw(few | numbers),
            strides=data.draw(few | numbers),
            dtype=np.dtype(data.draw(st.sampled_from(["u1", ">i4", "V3", "i1,i8"]))),
        )
        try:
            opened = ref.open()
        except (nf.LayoutError, nf.StaleFileError):
            return
        if opened.size < 10000:
            expected = np.ndarray(ref.shape, ref.dtype, content, ref.offset, ref.strides) if opened.size else opened
            assert meaningful(opened) == meaningful(expected)

    before = state_of(tmp_path)
    check()
    assert state_of(tmp_path) == before


def fifo(folder):
    os.mkfifo(os.path.join(folder, "fifo"))
    return os.path.join(folder, "fifo")


def a_socket(folder):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.join(folder, "socket"))
    return os.path.join(folder, "socket")


def a_link_to_itself(folder):
    os.symlink("loop", os.path.join(folder, "loop"))
    return os.path.join(folder, "loop")


def a_link_to_nothing(folder):
    os.symlink("nothing", os.path.join(folder, "link"))
    return os.path.join(folder, "link")


def below_a_file(folder):
    return os.path.join(folder, "x.npy", "y.npy")


NO_FILES = {
    "a FIFO": fifo,
    "a socket": a_socket,
    "a link to itself": a_link_to_itself,
    "a link to nothing": a_link_to_nothing,
    "below a file": below_a_file,
    "a folder": str,
    "a terminal": lambda _: "/dev/tty",
    "zeros": lambda _: "/dev/zero",
    "null": lambda _: "/dev/null",
    "memory": lambda _: "/proc/self/mem",
    "maps": lambda _: "/proc/self/maps",
    "the page map": lambda _: "/proc/self/pagemap",
    "kernel memory": lambda _: "/proc/kcore",
    "a setting": lambda _: "/proc/self/oom_score_adj",
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_regular_file_is_refused_at_once(npy, tmp_path, make):
    ref = nf.open(npy).ref
    path = make(str(tmp_path))
    before = state_of(tmp_path)
    size = os.stat(path).st_size if os.path.exists(path) else 0
    for mode in MODES:
        hostile = dataclasses.replace(elsewhere(ref), path=path, shape=(3,), size=size, offset=0, mode=mode)
        with pytest.raises((OSError, nf.LayoutError)):
            hostile.open()
    assert state_of(tmp_path) == before
