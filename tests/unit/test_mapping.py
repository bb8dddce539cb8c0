"""_core.Mapping: the owner of a file's memory, under mmap.mmap's names."""

import errno
import gc
import mmap
import os
import pathlib

import pytest

import ndfile as nf
from ndfile import ClosedError
from ndfile._core import Mapping, regular_size

PAGE = mmap.PAGESIZE
FLAGS = {"r": os.O_RDONLY, "c": os.O_RDONLY, "r+": os.O_RDWR, "w+": os.O_RDWR}
MODES = list(FLAGS)


@pytest.fixture
def pages(file_of):
    """A file of three pages and a half."""
    return file_of(bytes(i % 251 for i in range(3 * PAGE + PAGE // 2)))


@pytest.fixture
def mapped(pages):
    """A function that maps that file."""

    def map_pages(mode="r+", offset=0, nbytes=3 * PAGE, filename="x"):
        fd = os.open(pages, FLAGS[mode])
        try:
            return Mapping(fd, offset, nbytes, mode, filename)
        except BaseException:
            os.close(fd)
            raise

    return map_pages


@pytest.mark.parametrize("mode", MODES)
def test_a_mapping_tells_what_it_was_given(mapped, mode, tmp_path):
    mapping = mapped(mode, 5, 17, tmp_path)
    assert (mapping.mode, mapping.offset, len(mapping), mapping.filename) == (mode, 5, 17, tmp_path)
    assert mapping.closed is False


@pytest.mark.parametrize("offset", [0, 1, 511, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
@pytest.mark.parametrize("nbytes", [0, 1, PAGE // 2])
@pytest.mark.parametrize("mode", MODES)
def test_the_bytes_are_the_files_from_any_offset(mapped, content, pages, mode, offset, nbytes):
    assert bytes(mapped(mode, offset, nbytes)) == content(pages)[offset : offset + nbytes]


@pytest.mark.parametrize(("mode", "kept"), [("r", 0), ("c", 0), ("r+", 1), ("w+", 1)])
def test_only_modes_that_write_keep_a_descriptor(mapped, mode, kept):
    before = len(os.listdir("/proc/self/fd"))
    mapping = mapped(mode)
    assert len(os.listdir("/proc/self/fd")) == before + kept
    mapping.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("mode", MODES)
def test_the_buffer_can_be_written_unless_the_mode_is_r(mapped, pages, content, mode):
    before = content(pages)
    with memoryview(mapped(mode)) as view:
        assert view.readonly == (mode == "r")
        if mode != "r":
            view[:4] = b"abcd"
            assert bytes(view[:4]) == b"abcd"
        changed = content(pages) != before
    assert changed == (mode in ("r+", "w+"))


def test_nothing_is_written_through_a_read_only_buffer(mapped):
    with memoryview(mapped("r")) as view, pytest.raises(TypeError):
        view[0] = 1


def test_no_attributes_can_be_set_or_added(mapped):
    mapping = mapped()
    for name in ("mode", "offset", "filename", "closed", "other"):
        with pytest.raises(AttributeError):
            setattr(mapping, name, 1)


def test_a_mapping_cannot_be_subclassed():
    with pytest.raises(TypeError):
        type("Sub", (Mapping,), {})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), TypeError),
        ((0, 0, 1, "r"), TypeError),
        (("0", 0, 1, "r", None), TypeError),
        ((0, 0.0, 1, "r", None), TypeError),
        ((0, 0, 1, b"r", None), TypeError),
        ((0, 0, 1, "x", None), ValueError),
        ((0, 0, 1, "", None), ValueError),
        ((0, -1, 1, "r", None), ValueError),
        ((0, 0, -1, "r", None), ValueError),
        ((0, 2**62, 2**62, "r", None), ValueError),
        ((0, 2**63, 1, "r", None), OverflowError),
        ((0, 0, 2**63, "r", None), OverflowError),
        ((0, 0, 2**62, "r", None), OSError),
        ((-1, 0, 1, "r", None), OSError),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused_and_the_descriptor_stays_the_callers(pages, arguments, error):
    fd = os.open(pages, os.O_RDONLY)
    if arguments and arguments[0] == 0:
        arguments = (fd, *arguments[1:])
    with pytest.raises(error):
        Mapping(*arguments)
    assert os.fstat(fd).st_size > 0
    os.close(fd)


def test_a_mode_that_is_no_text_is_refused_and_does_not_crash(run_python):
    run_python("""
        from ndfile._core import Mapping
        try:
            Mapping(0, 0, 1, "\\ud800", None)
        except ValueError:
            print("refused")
    """).stdout.index("refused")


def test_a_mapping_takes_no_keywords():
    with pytest.raises(TypeError, match="keyword"):
        Mapping(fd=0)


def test_a_failed_mapping_names_the_file(pages):
    fd = os.open(pages, os.O_RDONLY)
    with pytest.raises(OSError, match=pages) as caught:
        Mapping(fd, 0, PAGE, "r+", pages)
    os.close(fd)
    assert (caught.value.errno, caught.value.filename) == (errno.EACCES, pages)


# Ranges


@pytest.mark.parametrize("act", ["flush", "madvise"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "wanted", [(), (0,), (1,), (PAGE,), (3 * PAGE,), (0, 0), (0, 1), (5, 3 * PAGE - 5), (7, None), (PAGE - 1, 2)]
)
def test_a_range_inside_the_mapping_is_taken(mapped, act, mode, wanted):
    option = () if act == "flush" else (mmap.MADV_NORMAL,)
    assert getattr(mapped(mode, 3), act)(*option, *wanted) is None


@pytest.mark.parametrize("act", ["flush", "madvise"])
@pytest.mark.parametrize(
    "wanted", [(-1,), (3 * PAGE + 1,), (0, 3 * PAGE + 1), (1, 3 * PAGE), (0, -1), (2**63 - 1, 1), (1, 2**63 - 1)]
)
def test_a_range_that_leaves_the_mapping_is_refused_with_both_numbers(mapped, act, wanted):
    option = () if act == "flush" else (mmap.MADV_NORMAL,)
    with pytest.raises(ValueError, match=f"{act} 'x': -?[0-9]+ bytes from {wanted[0]} .* {3 * PAGE} bytes"):
        getattr(mapped("r+", 3), act)(*option, *wanted)


@pytest.mark.parametrize("wanted", [(2**63,), (0, 2**63), (0, -(2**63) - 1)])
def test_a_range_past_every_address_is_an_overflow(mapped, wanted):
    with pytest.raises(OverflowError):
        mapped().flush(*wanted)


@pytest.mark.parametrize("wanted", [("0",), (0.0,), (0, "1"), (0, 1.0), (0, 1, 2)])
def test_a_range_of_anything_but_integers_is_a_type_error(mapped, wanted):
    with pytest.raises(TypeError):
        mapped().flush(*wanted)


def test_unknown_advice_is_the_systems_error_with_the_files_name(mapped, pages):
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mapped(filename=pages).madvise(12345)
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, pages)


def test_an_error_about_a_file_without_a_name_has_no_name(mapped):
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mapped(filename=None).madvise(12345)
    assert caught.value.filename is None


# Truncating


# Closing


@pytest.mark.parametrize("mode", MODES)
def test_closing_twice_closes_once(mapped, mode):
    mapping = mapped(mode)
    mapping.close()
    mapping.close()
    assert mapping.closed is True


@pytest.mark.parametrize(
    "act",
    [
        lambda mapping: mapping.flush(),
        lambda mapping: mapping.flush(0, 1),
        lambda mapping: mapping.madvise(mmap.MADV_NORMAL),
        memoryview,
        bytes,
    ],
    ids=["flush", "flush a range", "madvise", "memoryview", "bytes"],
)
def test_a_closed_mapping_refuses_with_its_name(mapped, act):
    mapping = mapped(filename=pathlib.Path("/d/x"))
    mapping.close()
    with pytest.raises(ClosedError, match=r"'/d/x': the mapping is closed") as caught:
        act(mapping)
    assert caught.value.path == pathlib.Path("/d/x")


def test_a_closed_mapping_still_tells_what_it_was(mapped):
    mapping = mapped("r", 5, 17)
    mapping.close()
    assert (mapping.mode, mapping.offset, len(mapping), mapping.filename) == ("r", 5, 17, "x")


@pytest.mark.parametrize("buffers", [1, 3])
def test_without_the_guard_closing_with_buffers_in_use_closes_nothing_and_counts_them(mapped, buffers):
    before = nf.guard(False)
    mapping = mapped()
    views = [memoryview(mapping) for _ in range(buffers)]
    with pytest.raises(BufferError, match=f"{buffers} buffers"):
        mapping.close()
    assert mapping.closed is False
    assert bytes(views[0][:3]) == b"\0\1\2"
    for view in views:
        view.release()
    mapping.close()
    nf.guard(before)


def test_a_buffer_keeps_the_mapping_alive(mapped, pages, content):
    view = memoryview(mapped())
    gc.collect()
    assert bytes(view) == content(pages)[: 3 * PAGE]
    view.release()


def test_a_mapping_shows_what_it_is_and_whether_it_is_closed(mapped):
    mapping = mapped("r", 5, 17)
    assert repr(mapping) == "<Mapping 'x' mode='r' offset=5 nbytes=17>"
    mapping.close()
    assert repr(mapping) == "<closed Mapping 'x' mode='r' offset=5 nbytes=17>"


# regular_size


def test_the_size_of_a_regular_file_is_in_bytes(pages):
    with open(pages, "rb") as file:
        assert regular_size(file) == regular_size(file.fileno()) == 3 * PAGE + PAGE // 2


def test_what_is_no_regular_file_has_no_size(tmp_path):
    reader, writer = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    assert [regular_size(fd) for fd in (reader, folder)] == [-1, -1]
    for fd in (reader, writer, folder):
        os.close(fd)


@pytest.mark.parametrize(("fd", "error"), [(-1, ValueError), (10**6, OSError), ("x", TypeError), (None, TypeError)])
def test_the_size_of_no_descriptor_is_an_error(fd, error):
    with pytest.raises(error):
        regular_size(fd)
