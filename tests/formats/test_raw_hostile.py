"""Raw files whose sidecars lie: each is refused, or what is mapped of it lies inside it."""

import json
import os
import signal

import numpy.random  # noqa: F401  # hypothesis asks for it: what it maps stays
import pytest
from hostile import ANY, MAPPED, REFUSED, Case, check, check_all, check_count, check_together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ndfile as nf

DATA = bytes(range(48))
GOOD = '{"dtype": "<f4", "shape": [3, 4], "order": "C", "offset": 0}'


def pair(name, sidecar, outcome=REFUSED, data=DATA, **more):
    text = sidecar if isinstance(sidecar, bytes) else sidecar.encode()
    return Case(name, data, outcome, {".json": text}, **more)


def said(name, outcome=REFUSED, **fields):
    return pair(name, json.dumps({"dtype": "<f4", "shape": [3, 4]} | fields), outcome)


def text(dtype='"<f4"', shape="[3, 4]", more=""):
    return f'{{"dtype": {dtype}, "shape": {shape}{more}}}'


def lengths():
    for length in range(len(GOOD)):
        yield pair(f"cut-to-{length}", GOOD[:length])
    for length in range(0, 48, 4):
        yield pair(f"data-cut-to-{length}", GOOD, data=DATA[:length])


def changed_bytes():
    content = GOOD.encode()
    for offset in range(len(content)):
        for value in (0x00, 0x39, 0xFF):
            yield pair(f"byte-{offset}-is-{value}", content[:offset] + bytes([value]) + content[offset + 1 :], ANY)


# What is no shape, and what is one that the file has no room for.
SHAPES = [
    "[3, 5]",
    "[13]",
    "[3.0, 4.0]",
    "[12.0]",
    "[true, 12]",
    "[false]",
    "[null]",
    '["3", 4]',
    '["12"]',
    "[[3, 4]]",
    "[[3], [4]]",
    "[{}]",
    "12",
    "12.0",
    "0",
    '"12"',
    '"[3, 4]"',
    "true",
    "{}",
    '{"0": 3}',
    "[NaN]",
    "[Infinity]",
    "[1e400]",
    "[12e0]",
    "[03, 4]",
    "[3, 4,]",
    "[3 4]",
    "[3, 4",
    "(3, 4)",
    "[0x3, 4]",
    "",
]
SIZES = [
    "[-12]",
    "[-3, -4]",
    "[3, -4]",
    "[0, -1]",
    "[9223372036854775807]",
    "[9223372036854775808]",
    "[18446744073709551615]",
    "[18446744073709551616]",
    "[18446744073709551628]",
    "[4611686018427387904, 4]",
    "[4294967296, 4294967296]",
    "[6148914691236517206, 2]",
    "[4611686018427387907, 4]",
    "[-9223372036854775808]",
    "[0, 9223372036854775808]",
    "[0, 4611686018427387904, 4]",
]


def shapes():
    for number, shape in enumerate(SHAPES):
        yield pair(f"shape-{number}-{shape}", text(shape=shape))
        yield pair(f"shape-{number}-{shape}-of-fields", text('[["a", "<f4"]]', shape))
    for number, shape in enumerate(SIZES):
        yield pair(f"sizes-{number}-{shape}", text(shape=shape))
    for digits in (20, 100, 309, 4000, 4300, 4301, 10_000):
        number = "9" * digits
        yield pair(f"a-size-of-{digits}-digits", text(shape=f"[{number}]"))
        yield pair(f"two-sizes-of-{digits}-digits", text(shape=f"[{number}, {number}]"))
        yield pair(f"a-negative-size-of-{digits}-digits", text(shape=f"[-{number}]"))
        yield pair(f"an-offset-of-{digits}-digits", text(more=f', "offset": {number}'))
        yield pair(f"a-negative-offset-of-{digits}-digits", text(more=f', "offset": -{number}'))
        yield pair(f"an-inode-of-{digits}-digits", text(more=f', "inode": {number}'))
    yield pair("64-sizes", text(shape=json.dumps([1] * 64)), MAPPED)
    yield pair("64-sizes-of-2", text(shape=json.dumps([2] * 64)))
    yield pair("64-sizes-of-2**60", text(shape=json.dumps([2**60] * 64)))
    for count in (65, 1000, 100_000):
        for size in (0, 1, 2, 2**62):
            if (count, size) != (100_000, 2**62):
                yield pair(f"{count}-sizes-of-{size}", text(shape=json.dumps([size] * count)))


OFFSETS = [
    "4.0",
    "0.0",
    "true",
    "false",
    "null",
    '"0"',
    "[]",
    "[0]",
    "{}",
    "1e1",
    "NaN",
    "Infinity",
    "-Infinity",
    "0x0",
    "",
]
ORDERS = [
    '"c"',
    '"f"',
    '"A"',
    '"K"',
    '"CF"',
    '""',
    '" C"',
    '"C\\u0000"',
    "null",
    "true",
    "0",
    "[]",
    '["C"]',
    "{}",
    "C",
    "NaN",
]
METADATA = [
    "null",
    "1",
    "1.5",
    "true",
    '"text"',
    "[]",
    '[["a", 1]]',
    '[{"a": 1}]',
    "NaN",
    '{"a": NaN}',
    '{"a": Infinity}',
    '{"a": 1, "a": 1}',
    '{"a": {"b": 1, "b": 2}}',
]


def fields():
    for number, offset in enumerate(OFFSETS):
        yield pair(f"offset-{number}-{offset}", text(shape="[1]", more=f', "offset": {offset}'))
    for offset in (1, 4, 47, 48, 49, 1 << 20, 2**40, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -1, -48, -(2**63)):
        yield said(f"offset-{offset}", offset=offset)
    for offset in (1, 2, 47, 49, 100, 2**40, 2**63, 2**64, -1, -4, -48):
        yield pair(f"no-shape-from-{offset}", f'{{"dtype": "<f4", "offset": {offset}}}')
    for nbytes in (1, 2, 47):
        yield pair(f"no-shape-{nbytes}-bytes", '{"dtype": "<f4"}', data=DATA[:nbytes])
    for number, order in enumerate(ORDERS):
        yield pair(f"order-{number}-{order}", text(more=f', "order": {order}'))
    for number, metadata in enumerate(METADATA):
        yield pair(f"metadata-{number}-{metadata}", text(more=f', "metadata": {metadata}'))


# What is no dtype.
DTYPES = [
    '""',
    '"<f3"',
    '"<f5"',
    '"<f99"',
    '"<f-4"',
    '"<f4294967300"',
    '"<<f4"',
    '"<"',
    '"?!"',
    '"S2147483648"',
    '"S4294967300"',
    '"S99999999999999999999"',
    '"U536870912"',
    '"<M8[xx]"',
    '"<M8[99999999999999999999s]"',
    '"<m8[-1s]"',
    '"os.system"',
    "\"__import__('os')\"",
    '"bfloat17"',
    '"float8"',
    '"<f4\\u0000"',
    '"\\ud800"',
    '"(-1,)f4"',
    "null",
    "true",
    "4",
    "4.0",
    "-1",
    "NaN",
    "[[]]",
    "[[[]]]",
    '["<f4"]',
    '[["a"]]',
    '[["a", "<f4", [1], "more"]]',
    '[["a", "<f4", -1]]',
    '[["a", "<f4", [-1]]]',
    '[["a", "<f4", [1.5]]]',
    '[["a", "<f4", "x"]]',
    '[["a", "<f4", null]]',
    '[["a", "<f4", 1000000000]]',
    '[["a", "<f4", [1000000000]]]',
    '[["a", "<f4", [2147483647, 2147483647]]]',
    '[["a", "<f4", [18446744073709551616]]]',
    '[["a", "<f4"], ["a", "<f4"]]',
    '[[1, "<f4"]]',
    '[[null, "<f4"]]',
    '[[["t", "a", "b"], "<f4"]]',
    '[["a", 1]]',
    '[["a", null]]',
    '{"names": ["a"], "formats": ["<f4"]}',
    '{"a": ["<f4", 0]}',
    '"<f4" "<f4"',
    "<f4",
    "'<f4'",
    "",
]
USELESS = [
    '"O"',
    '"|O"',
    '"object"',
    '[["a", "O"]]',
    '[["a", "<f4"], ["b", "|O"]]',
    '"V0"',
    '"S0"',
    '"U0"',
    '"|V"',
    "[]",
    "{}",
    '[["a", "S0"]]',
    '[["a", {}]]',
]
ODD = ['["ab"]', '{"ab": 1}', '{"ab": "<f4"}']


def dtypes():
    for number, dtype in enumerate(DTYPES):
        yield pair(f"dtype-{number}-{dtype}", text(dtype))
        yield pair(f"dtype-{number}-{dtype}-no-shape", f'{{"dtype": {dtype}}}')
    for number, dtype in enumerate(USELESS):
        yield pair(f"useless-{number}-{dtype}", text(dtype))
        yield pair(f"useless-{number}-{dtype}-no-shape", f'{{"dtype": {dtype}}}')
    for number, dtype in enumerate(ODD):
        yield pair(f"odd-{number}-{dtype}", text(dtype))
    yield pair("a-list-of-one", text('[["a", ["<f4"]]]'))
    for number, dtype in enumerate(
        ['"<f8"', '"S5"', '"U2"', '"S2147483647"', '"complex128"', '[["a", "<f8"], ["b", "<f8"]]']
    ):
        yield pair(f"wide-{number}", text(dtype))
    nested = '[["a", ' * 300 + '"<f4"' + "]]" * 300
    yield pair("dtype-300-deep", text(nested), MAPPED)
    yield pair("dtype-3000-deep", text('[["a", ' * 3000 + '"<f4"' + "]]" * 3000))
    yield pair("3000-fields", text(json.dumps([[f"f{n}", "<f4"] for n in range(3000)])))


KEYS = [
    "{}",
    "[]",
    "null",
    "1",
    "true",
    '"<f4"',
    '["<f4", [3, 4]]',
    '{"shape": [3, 4]}',
    '{"DTYPE": "<f4"}',
    '{"dtype ": "<f4"}',
    '{"dtype": "<f4", "more": 1}',
    '{"dtype": "<f4", "Shape": [3, 4]}',
    '{"dtype": "<f4", "": 1}',
    '{"dtype": "<f4", "path": "/etc/passwd"}',
    '{"dtype": "<f4", "strides": [16, 4]}',
    '{"dtype": "<f4", "__class__": "x"}',
    '{"dtype": "<f4", "dtype": "<f4"}',
    '{"dtype": "<i4", "dtype": "<f4"}',
    '{"dtype": "<f4", "shape": [12], "shape": [3, 4]}',
    '{"dtype": "<f4", "\\u0064type": "<f4"}',
    '{"dtype": "<f4"}{}',
    '{"dtype": "<f4"} x',
    '{"dtype": "<f4"}\x00',
    '{"dtype": "<f4",}',
    "{'dtype': '<f4'}",
    '{dtype: "<f4"}',
    '// c\n{"dtype": "<f4"}',
    "",
    " ",
    "\x00",
    "{",
    "dtype: <f4",
    "[" * 100_000,
    '{"dtype":' * 50_000,
    "[" * 900 + "]" * 900,
    "9" * 5000,
    "-",
    "NaN",
]


def keys():
    for number, content in enumerate(KEYS):
        yield pair(f"keys-{number}", content)
    for number, content in enumerate(
        [b"\xff", b"\xff\xfe", b"\x80", GOOD.encode("utf-16")[:-1], b'{"dtype": "\xff"}', b"\xc0\xaf"]
    ):
        yield pair(f"no-utf-8-{number}", content)
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        yield pair(encoding, GOOD.encode(encoding), ANY)


def replacements():
    """Sidecars of a pair that is being replaced."""
    other = {"dtype": "<f4", "shape": [3, 4], "inode": 1}
    for number, previous in enumerate([None, other, other | {"previous": None}, other | {"previous": other}]):
        yield said(f"of-another-file-{number}", inode=1, previous=previous)
    for number, previous in enumerate(
        [1, True, "text", [], {}, {"shape": [3, 4]}, {"dtype": "<f4", "more": 1}, [other]]
    ):
        yield said(f"previous-{number}", inode=1, previous=previous)
        yield said(f"previous-of-previous-{number}", inode=1, previous=other | {"previous": previous})
    for number, inode in enumerate([None, True, "1", 1.0, [], {}, [1], -1, 2**64, 2**200]):
        yield said(f"inode-{number}", inode=inode)
    for number, previous in enumerate(
        [{"dtype": "<f3"}, {"dtype": "<f4", "shape": [13]}, {"dtype": "<f4", "shape": "x"}]
    ):
        yield said(f"broken-previous-{number}", inode=1, previous=previous)
    for depth in (1, 10, 300, 700):
        nested = '{"dtype": "<f4", "inode": 1, "previous": ' * depth + '{"dtype": "<f4", "shape": [13]}' + "}" * depth
        yield pair(f"previous-{depth}-deep", nested)
    for depth in range(930, 1000, 3):
        nested = '{"dtype": "<f4", "inode": 1, "previous": ' * depth + '{"dtype": "<f4"}' + "}" * depth
        yield pair(f"previous-{depth}-deep", nested, ANY)


MOST_SIDECAR_NBYTES = 256 << 10


def large():
    lists = f'"metadata": {{"a": [{"[]," * 340_000}[]]}}'
    yield pair("340000-lists", f'{{"dtype": "<f3", {lists}}}')
    for nbytes in (MOST_SIDECAR_NBYTES + 1, 1 << 20):
        yield pair(f"{nbytes}-bytes-of-metadata", text(more=f', "metadata": {{"a": "{"x" * nbytes}"}}'))
        yield pair(f"{nbytes}-bytes-with-spaces", GOOD + " " * (nbytes - len(GOOD)))
    yield pair("as-many-bytes-as-are-read", GOOD + " " * (MOST_SIDECAR_NBYTES - len(GOOD)), MAPPED)
    yield pair("80000-lists", text('"<f3"', more=f', "metadata": {{"a": [{"[]," * 80_000}[]]}}'))
    yield pair("100000-keys", "{" + ",".join(f'"{n}": 1' for n in range(20_000)) + "}")
    yield Case("1-TiB-of-sidecar-is-not-read", DATA, REFUSED, {".json": bytes(1 << 21)})


def without():
    """No sidecar that says what a file is."""
    for suffix in ("", "bin", "json"):
        yield Case(f"no-sidecar-{suffix}", DATA + suffix.encode())
    for number, suffix in enumerate([".JSON", ".jsn", ".json.", "json"]):
        yield Case(f"another-suffix-{number}", DATA, beside={suffix: GOOD.encode()})
    yield pair("empty-data", GOOD, data=b"")
    yield pair("bytes-follow", GOOD, MAPPED, data=DATA + bytes(5))
    yield pair("1-TiB-follows", GOOD, MAPPED, size=1 << 40)
    yield pair("1-TiB-without-shape", '{"dtype": "|u1"}', MAPPED, size=1 << 40)
    yield pair("an-empty-array", text(shape="[0, 4]"), MAPPED)


GROUPS = [lengths, changed_bytes, shapes, fields, dtypes, keys, replacements, large, without]


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_pair_is_refused_or_mapped_inside_the_file(group, tmp_path):
    check_all(group(), str(tmp_path), "x.bin")


def no_file(kind, path):
    """Make something that is no regular file."""
    if kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.symlink({"link to itself": path, "link to a device": "/dev/zero"}[kind], path)


@pytest.fixture
def in_time():
    """Raise TimeoutError in a test that waits for somebody."""

    def late(signum, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# What format="raw" says of them; the first words of the last are the system's.
KINDS = {
    "folder": (nf.FormatError, "it is a folder"),
    "fifo": (nf.FormatError, "it is no regular file"),
    "link to a device": (nf.FormatError, "it is no regular file"),
    "link to itself": (OSError, "symbolic links"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sidecar_that_is_no_file_is_not_read(kind, in_time, tmp_path):
    path = str(tmp_path / "x.bin")
    Case("alone", DATA).write(path)
    no_file(kind, path + ".json")
    with pytest.raises(nf.FormatError, match="neither its content nor its name tells a format"):
        nf.open(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sidecar_that_is_no_file_is_not_read_for_a_format_either(kind, in_time, tmp_path):
    path = str(tmp_path / "x.bin")
    Case("alone", DATA).write(path)
    no_file(kind, path + ".json")
    error, problem = KINDS[kind]
    with pytest.raises(error, match=problem):
        nf.open(path, format="raw")


# NumPy divides by the 0 of such a unit (or by what it takes for one), and the process dies of SIGFPE.
DEADLY = [
    '"<m8[s/0]"',
    '"<m8[s/+0]"',
    '"<m8[s/4294967296]"',
    '[["a", "<m8[s/0]"]]',
    '[["a", "<m8[s/0]", [2]]]',
    '[["a", [["b", "<m8[s/0]"]]]]',
    '[["a", "<f4", "<m8[s/0]"]]',
    '[["a", "<f4", ["<m8[s/0]"]]]',
    '{"ab": "<m8[s/0]"}',
]

ALL_REFUSED = """
    import os
    import sys

    import ndfile as nf

    for name in sorted(os.listdir(sys.argv[1])):
        if not name.endswith(".json"):
            print(name, flush=True)  # the last one is to blame if the process dies
            try:
                nf.open(os.path.join(sys.argv[1], name))
            except nf.FormatError:
                pass
            else:
                raise AssertionError(f"{name} was opened.")
"""


def test_a_unit_of_time_divided_by_zero_is_refused(tmp_path, run_python):
    for number, dtype in enumerate(DEADLY):
        pair("zero", f'{{"dtype": {dtype}}}').write(str(tmp_path / f"{number}.bin"))
    result = run_python(ALL_REFUSED, str(tmp_path))
    assert len(result.stdout.split()) == len(DEADLY)


def test_a_formaterror_about_a_sidecar_names_the_sidecar(tmp_path):
    path = str(tmp_path / "x.bin")
    pair("bad", '{"dtype": "<f3"}').write(path)
    with pytest.raises(nf.FormatError, match=r"x\.bin\.json.*Write the sidecar anew, or pass dtype=") as caught:
        nf.open(path)
    assert caught.value.path == path + ".json"
    with nf.open(path, dtype="<f4") as array:
        assert array.tobytes() == DATA


def test_all_hostile_pairs_together_need_little_memory(tmp_path, run_python):
    good = tmp_path / "good.bin"
    pair("good", GOOD).write(str(good))
    check_together(GROUPS, str(good), str(tmp_path / "all"), ".bin", run_python)


def test_there_are_enough_hostile_pairs(tmp_path):
    check_count((case for group in GROUPS for case in group()), str(tmp_path), "x.bin")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 20) | st.floats() | st.sampled_from(["<f4", "O", "a", "bfloat16", "C"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["dtype", "shape", "a"]), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = ["dtype", "shape", "order", "offset", "metadata", "inode", "previous"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=7), dtype=JSON)
def test_whatever_the_sidecar_says_nothing_but_formaterror_comes(fields, dtype, tmp_path):
    check(pair("drawn", json.dumps({"dtype": dtype} | fields), ANY), str(tmp_path / "x.bin"))
