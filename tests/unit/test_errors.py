"""The errors: sentences, attributes, ancestors."""

import copy
import pathlib
import pickle

import pytest

import ndfile as nf


def closed(act, path):
    """A ClosedError that says so; whatever else it tells does not matter here."""
    values = {"act": act, "path": path, "cause": "closed"}
    return nf.ClosedError(*(values.get(fact, 0) for fact in nf.ClosedError.facts))


ERRORS = [
    nf.LayoutError("order must be 'C' or 'F', not 'Z'", "Pass one of them."),
    nf.SizeError("/d/x.dat", "float32 (1000, 512)", 128, 2048000, 2000000, 4),
    closed("read", "/d/x.dat"),
    closed("flush", pathlib.Path("/d/x.dat")),
    closed("write", None),
]


@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_survives_a_copy_with_its_facts_and_its_sentence(error, duplicate):
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert [getattr(twin, fact) for fact in twin.facts] == [getattr(error, fact) for fact in error.facts]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_is_what_the_standard_library_would_raise(error):
    assert isinstance(error, nf.NdfileError)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_sentence_says_what_was_left_unchanged_and_what_would_work(error):
    assert "Nothing was changed. " in str(error)
    assert str(error).endswith(".")
    assert "  " not in str(error)


def test_facts_are_attributes():
    error = nf.SizeError("/d/x.dat", "float32 (1000, 512)", 128, 2048000, 2000000, 4)
    assert (error.path, error.array, error.offset) == ("/d/x.dat", "float32 (1000, 512)", 128)
    assert (error.needed, error.size, error.itemsize) == (2048000, 2000000, 4)
    assert error.args == ("/d/x.dat", "float32 (1000, 512)", 128, 2048000, 2000000, 4)


@pytest.mark.parametrize(
    ("offset", "needed", "size", "numbers"),
    [
        (128, 2048000, 2000000, ["2048000", "offset 128", "1999872", "48128 short"]),
        (128, None, 131, ["3 bytes", "offset 128", "4 bytes", "3 left over"]),
        (128, None, 100, ["offset 128", "ends at 100", "28 bytes before it"]),
        (128, 4, 100, ["offset 128", "ends at 100", "28 bytes before it"]),
        (128, 4, 0, ["offset 128", "0 bytes"]),
    ],
)
def test_a_size_error_names_both_numbers_and_what_lies_between(offset, needed, size, numbers):
    sentence = str(nf.SizeError("/d/x.dat", "float32", offset, needed, size, 4))
    assert sentence.startswith("open '/d/x.dat': ")
    for number in numbers:
        assert number in sentence


@pytest.mark.parametrize(("path", "shown"), [("/d/x", "'/d/x'"), (pathlib.Path("/d/x"), "'/d/x'")])
def test_a_closed_error_names_the_act_and_the_file(path, shown):
    assert str(closed("flush", path)).startswith(f"flush {shown}: the mapping is closed.")


@pytest.mark.parametrize("wrap", [str, pathlib.Path], ids=["str", "Path"])
def test_a_size_error_shows_a_path_as_text_however_it_was_given(file_of, wrap):
    path = file_of(b"1234")
    with pytest.raises(nf.SizeError) as caught:
        nf.memmap(wrap(path), mode="r", shape=5)
    assert str(caught.value).startswith(f"open {path!r}: ")


def test_a_size_error_about_a_file_without_a_name_does_not_call_it_none():
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(b"1234")
        with pytest.raises(nf.SizeError) as caught:
            nf.memmap(file, mode="r", shape=5)
        assert "open None:" not in str(caught.value)


def test_facts_are_counted():
    with pytest.raises(ValueError, match="zip"):
        nf.LayoutError("problem")
