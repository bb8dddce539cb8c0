"""`ndfile head`, `tail` and `slice`: values as NumPy prints them, as CSV, as JSON."""

import argparse
import csv
import io
import json
import re

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from command_line import golden
from hypothesis.extra import numpy as npst

import ndfile as nf
from ndfile.cli import items, selection

DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(sizes=(64, 128)),
    npst.byte_string_dtypes(max_len=5),
    npst.unicode_string_dtypes(max_len=5),
    npst.datetime64_dtypes(max_period="s"),
    npst.timedelta64_dtypes(),
)


def test_head_and_tail_are_as_numpy_prints_them(recording, fine):
    values = np.load(recording)
    with np.printoptions(linewidth=80):
        assert fine("head", recording) == f"{values[:10]}\n"
        assert fine("tail", recording, "-n", 3) == f"{values[-3:]}\n"
        assert fine("head", recording, "-n", 2000) == f"{values[:2000]}\n"
    with np.printoptions(linewidth=80, threshold=10**6):
        assert fine("head", recording, "-n", 2000, "--full") == f"{values[:2000]}\n"
    assert fine("tail", recording, "-n", 0) == "[]\n"
    assert fine("tail", recording, "-n", 99999, "--csv").count("\n") == 3000


def test_precision_is_numpys(fine):
    np.save("x.npy", np.array([1 / 3, 2.5]))
    assert fine("head", "x.npy", "--precision", 2) == "[0.33 2.5 ]\n"


def test_a_single_item(weights, fine, document):
    assert fine("head", weights, "--key", "step") == "7\n"
    assert fine("tail", weights, "--key", "step", "--csv") == "7\n"
    assert document("head", weights, "--key", "step") == {"dtype": "<i8", "shape": [], "values": 7}


def test_raw_bytes_are_read_as_they_are_said_to_be(samples, fine):
    words = [
        "slice",
        samples,
        "-2:,::2",
        "--dtype",
        ">i2",
        "--shape",
        "(99, 4)",
        "--offset",
        "8",
        "--order",
        "F",
        "--csv",
    ]
    values = np.memmap(samples, ">i2", "r", 8, (99, 4), "F")[-2:, ::2]
    assert fine(*words) == "".join(f"{a},{b}\n" for a, b in values)
    fields = fine("head", samples, "--dtype", "[('a', '>i2'), ('b', 'u1', (2,))]", "-n", 1, "--csv")
    assert fields == "a,b[0],b[1]\n0,0,1\n"


def test_a_dtype_that_numpy_has_no_name_for(fine, document):
    np.arange(5).astype(ml_dtypes.bfloat16).view("u2").tofile("x.dat")
    assert fine("head", "x.dat", "--dtype", "bfloat16", "--csv") == "0.0\n1.0\n2.0\n3.0\n4.0\n"
    assert document("head", "x.dat", "--dtype", "bfloat16")["values"] == [0, 1, 2, 3, 4]


def test_csv_of_structured_items(events, fine):
    golden("events_csv", fine("head", events, "-n", 3, "--csv"))


def test_json_of_structured_items(events, fine):
    golden("events_json", fine("head", events, "-n", 2, "--json"))


def test_what_is_no_number_in_json_is_null_or_a_word(document):
    np.save("x.npy", np.array([1.5, np.nan, np.inf, -np.inf], "f4"))
    assert document("head", "x.npy")["values"] == [1.5, None, "Infinity", "-Infinity"]
    np.save("x.npy", np.array(["2024-01-01T10:00", "NaT"], "M8[m]"))
    assert document("head", "x.npy")["values"] == ["2024-01-01T10:00", None]
    np.save("x.npy", np.array([1 + 2j, complex(0, np.nan)]))
    assert document("head", "x.npy")["values"] == [[1, 2], [0, None]]


def test_csv_is_a_table(fine, ndfile, events):
    np.save("cube.npy", np.zeros((2, 3, 4)))
    code, out, err = ndfile("head", "cube.npy", "--csv")
    assert (code, out) == (1, "")
    assert "an array of shape (2, 3, 4) is no table" in err
    assert fine("slice", "cube.npy", "0", "--csv").count("0.0") == 12
    assert ndfile("slice", events, "...", "--csv").code == 0


@pytest.mark.parametrize("index", ["5", "-1,::2", "...,-1", "[3:7, 2]", " -5: ", "10:20,1:-1", "2999:0:-500"])
def test_a_slice_is_what_numpy_gives(index, recording, fine):
    values = eval(f"np.load(recording)[{index.strip().strip('[]')}]")
    with np.printoptions(linewidth=80):
        assert fine("slice", recording, index) == f"{values}\n"


@pytest.mark.parametrize(
    ("index", "said"), [("3000", "out of bounds"), (":,8", "out of bounds"), ("0,0,0", "too many")]
)
def test_an_index_that_the_array_has_not_got_is_1(index, said, recording, ndfile):
    code, out, err = ndfile("slice", recording, index)
    assert (code, out) == (1, "")
    assert said in err
    assert f"[{index}] of an array of shape (3000, 8)" in err


NUMBERS = st.integers(-(10**18), 10**18)
SLICES = st.builds(slice, *[st.none() | NUMBERS] * 2, st.none() | NUMBERS.filter(bool))


@hypothesis.given(st.lists(NUMBERS | SLICES | st.just(...), min_size=1, max_size=4))
def test_an_index_is_read_as_it_is_written(index):
    hypothesis.assume(sum(one is ... for one in index) <= 1)
    assert selection.index_of(selection.spelled(index)) == tuple(index)


@hypothesis.given(st.text(max_size=12) | st.text("0123456789:,.-+ []", max_size=12))
def test_no_text_is_read_as_an_index_that_it_is_not(text):
    try:
        found = selection.index_of(text)
    except argparse.ArgumentTypeError:
        return
    inner = text.strip()
    if inner.startswith("["):
        inner = inner[1:-1]
    # Python takes no number that begins with 0.
    assert found == eval(f"np.index_exp[{re.sub('(?<![0-9])0+(?=[0-9])', '', inner)}]")


@hypothesis.given(npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
def test_json_gives_the_values_back(values):
    found = json.loads(json.dumps(items.as_json(values), allow_nan=False))
    assert np.array(found, object).shape[: values.ndim] == values.shape or not values.size
    for index in np.ndindex(values.shape):
        plain = found
        for i in index:
            plain = plain[i]
        assert is_the_same(values[index], plain)


def is_the_same(one, plain):
    kind = one.dtype.kind
    if kind == "c":
        return is_the_same(one.real, plain[0]) and is_the_same(one.imag, plain[1])
    if kind in "fMm" and (np.isnan(one) if kind == "f" else np.isnat(one)):
        return plain is None
    if kind == "m":
        return one.astype("i8") == plain
    if kind == "S":
        return one.decode("utf-8", "backslashreplace") == plain
    return one == one.dtype.type(plain)


@hypothesis.given(npst.arrays(npst.floating_dtypes(sizes=(16, 32, 64)) | npst.integer_dtypes(), (3, 2)))
def test_csv_gives_the_numbers_back(values):
    text = io.StringIO()
    items.write_csv(text, values)
    rows = [[values.dtype.type(one) for one in row] for row in csv.reader(text.getvalue().splitlines())]
    np.testing.assert_array_equal(np.array(rows, values.dtype), values)


def test_large_slices_are_written_a_block_at_a_time(run_python, folder):
    with nf.create("x.npy", (10, 1000, 100), "f8") as array:
        array[...] = 0.125
    program = """
    import resource, sys, ndfile.cli
    words = {"json": ["slice", "x.npy", ":", "--json"], "csv": ["slice", "x.npy", "..., :", "--csv"]}[sys.argv[1]]
    words += ["--dtype", "f8", "--offset", "128", "--shape", "10000,100", "--format", "raw"]
    assert ndfile.cli.main([words[0], words[1], "0", *words[3:]]) == 0  # what it takes in any case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert ndfile.cli.main(words) == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
    """
    for way in ("csv", "json"):
        found = run_python(program, way)
        assert found.stdout.count("0.125") == 1_000_100
        # 8 MB of pages of the file; as Python's numbers all of it would be 32 MB, and the text 8 MB.
        assert int(found.stderr) << 10 < 20e6
