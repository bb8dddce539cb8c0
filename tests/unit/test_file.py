"""File: opening, names, sizes, growth, and how it is all undone."""

import fcntl
import os
import pathlib
import stat
import tempfile

import pytest

from ndfile import LayoutError
from ndfile.files.file import FLAGS, MODES, File, names_a_path, refused_mode
from ndfile.files.new_file import NewFile

READING, WRITING = ("r", "c"), ("r+", "w+")


def open_anew(source, mode):
    """What the constructor of an array opens."""
    return NewFile(source) if mode == "w+" and names_a_path(source) else File(source, mode)


@pytest.fixture
def opened():
    """A function like File that gives the descriptors back after the test."""
    files = []

    def open_file(source, mode):
        files.append(open_anew(source, mode))
        return files[-1]

    yield open_file
    for file in files:
        file.abandon()


@pytest.mark.parametrize("mode", FLAGS)
def test_an_opened_file_knows_its_size_and_mode(file_of, opened, mode):
    file = opened(file_of(b"12345"), mode)
    assert (file.size, file.mode) == (5, mode)


@pytest.mark.parametrize("mode", FLAGS)
def test_a_descriptor_is_not_inherited_by_children(file_of, opened, mode):
    file = opened(file_of(b"12345"), mode)
    assert fcntl.fcntl(file.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@pytest.mark.parametrize(("modes", "access"), [(READING, os.O_RDONLY), (WRITING, os.O_RDWR)])
def test_modes_that_read_open_read_only(file_of, opened, modes, access):
    for mode in modes:
        file = opened(file_of(b"12345"), mode)
        assert fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_ACCMODE == access


def test_long_names_stand_for_short_modes():
    assert {name: MODES[name] for name in MODES if len(name) > 2} == {
        "readonly": "r",
        "readwrite": "r+",
        "write": "w+",
        "copyonwrite": "c",
    }


@pytest.mark.parametrize("mode", ["w", "rb", "", None, 5])
def test_a_refused_mode_is_shown_beside_those_that_are_taken(mode):
    with pytest.raises(LayoutError) as caught:
        refused_mode(mode)
    for name in MODES:
        assert repr(name) in str(caught.value)
    assert f"not {mode!r}" in str(caught.value)


@pytest.mark.parametrize("wrap", [str, os.fsencode], ids=["str", "bytes"])
def test_a_relative_name_becomes_absolute(file_of, opened, monkeypatch, wrap):
    path = file_of(b"12345")
    monkeypatch.chdir(os.path.dirname(path))
    assert opened(wrap("x.dat"), "r").name == path
    assert opened(wrap("./x.dat"), "r").name == path


def test_a_path_stays_a_path_and_loses_its_links(file_of, opened, tmp_path):
    path = pathlib.Path(file_of(b"12345"))
    link = tmp_path / "link"
    link.symlink_to(path)
    assert opened(link, "r").name == path.resolve()


def test_a_file_object_has_the_name_that_it_was_opened_with(file_of, opened, monkeypatch):
    path = file_of(b"12345")
    monkeypatch.chdir(os.path.dirname(path))
    with open("x.dat", "rb") as file:
        assert opened(file, "r").name == path


def test_an_unnamed_file_object_has_no_name(opened):
    with tempfile.TemporaryFile() as file:
        assert opened(file, "r").name is None
        assert opened(file, "r").path == "<file object>"


def test_bytes_still_in_a_file_objects_buffer_count(opened, path):
    with open(path, "wb+") as file:
        file.write(b"12345")
        assert opened(file, "r").size == 5


def test_a_file_object_keeps_its_descriptor(file_of):
    with open(file_of(b"12345"), "rb") as source:
        file = File(source, "r")
        assert file.fd != source.fileno()
        file.abandon()
        assert source.read() == b"12345"


@pytest.mark.parametrize(("how", "mode"), [("rb", "r+"), ("rb", "w+"), ("ab", "r"), ("ab", "c"), ("ab", "r+")])
def test_a_file_object_opened_for_less_than_the_mode_needs_is_refused(file_of, how, mode):
    with open(file_of(b"12345"), how) as source, pytest.raises(PermissionError, match=f"mode '{mode[0]}") as caught:
        open_anew(source, mode)
    assert caught.value.filename == source.name


def test_making_a_file_creates_it_with_the_processs_mask(path):
    mask = os.umask(0o027)
    try:
        open_anew(path, "w+").map(0, 1)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_abandoning_removes_a_file_that_was_made_and_no_other(path):
    open_anew(path, "w+").abandon()
    assert not os.path.exists(path)
    with open(path, "wb"):
        pass
    open_anew(path, "w+").abandon()
    assert os.path.exists(path)


def test_abandoning_removes_the_file_that_was_made_not_its_namesake(tmp_path):
    # link/../x.dat is far/x.dat to the system, and x.dat beside the link to whoever only cuts the text.
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "inner")
    namesake = tmp_path / "x.dat"
    namesake.write_bytes(b"precious")
    open_anew(str(tmp_path / "link") + "/../x.dat", "w+").abandon()
    assert namesake.exists()
    assert not (tmp_path / "far" / "x.dat").exists()


def test_abandoning_removes_what_a_dangling_link_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    open_anew(str(tmp_path / "link"), "w+").abandon()
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.parametrize("mode", WRITING)
def test_mapping_past_the_end_lets_the_file_grow(file_of, content, mode):
    path = file_of(b"12345")
    mapping = open_anew(path, mode).map(3, 7)
    assert len(mapping) == 7
    assert content(path) == (b"12345" if mode == "r+" else bytes(5)) + bytes(5)


@pytest.mark.parametrize("mode", READING)
def test_mapping_to_read_leaves_the_file_alone(file_of, content, mode):
    path = file_of(b"12345")
    mapping = open_anew(path, mode).map(3, 2)
    assert bytes(mapping) == b"45"
    assert content(path) == b"12345"


def test_mapping_nothing_leaves_one_byte_as_numpy_does(path, content):
    mapping = open_anew(path, "w+").map(0, 0)
    assert len(mapping) == 0
    assert content(path) == b"\0"
