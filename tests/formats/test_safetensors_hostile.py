"""safetensors files that lie: each is refused, or what is mapped of it lies inside it."""

import json

import numpy.random  # noqa: F401  # hypothesis asks for it: what it maps stays
import pytest
from hostile import ANY, MAPPED, OBSTACLE, REFUSED, Case, changes, check, check_all, check_count, check_together, cuts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

try:  # before the tests: what it maps stays
    import safetensors as safetensors_library
    import safetensors.numpy as _numpy_side  # noqa: F401
except ImportError:
    safetensors_library = None

DATA = bytes(range(48))


def tensor(dtype='"F32"', shape="[3,4]", offsets="[0,48]", more=""):
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}'


def safetensors(header=None, data=DATA, length=None):
    header = f'{{"a":{tensor()}}}' if header is None else header
    text = header if isinstance(header, bytes) else header.encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def one(**fields):
    return safetensors(f'{{"a":{tensor(**fields)}}}')


def two(first, second, data=DATA):
    return safetensors(f'{{"a":{first},"b":{second}}}', data)


GOOD = safetensors()
HEADER = f'{{"a":{tensor()}}}'


def lengths():
    yield from cuts(GOOD)


def bytes_of_the_header():
    yield from changes(GOOD, range(len(GOOD) - 48), (0x00, 0x20, 0x22, 0x7D, 0xFF))


def header_lengths():
    for length in (0, 1, 2, 7, 8, 40, len(HEADER) - 1, len(HEADER) + 1, len(HEADER) + 48, len(HEADER) + 49, 100):
        yield Case(f"header-said-to-have-{length}", safetensors(length=length))
    for bits in (16, 20, 23, 24, 27, 31, 32, 40, 62, 63):
        for more in (-1, 0, 1):
            yield Case(f"header-of-2**{bits}{more:+}", safetensors(length=2**bits + more))
    for length in (100_000_000, 100_000_001, 2**64 - 1, 2**64 - 8, 2**64 - 9):
        yield Case(f"header-of-{length}", safetensors(length=length))
        yield Case(f"header-of-{length}-in-a-large-file", safetensors(length=length), size=1 << 40)


# What is no shape of a tensor of 48 bytes.
SHAPES = [
    "[3,5]",
    "[13]",
    "[]",
    "[0]",
    "[0,12]",
    "[-3,-4]",
    "[-12]",
    "[-1]",
    "[3,-4]",
    "[3.0,4.0]",
    "[12.0]",
    "[1.2e1]",
    "[12e0]",
    "[true,12]",
    "[true]",
    "[false]",
    "[null]",
    '["12"]',
    '["3",4]',
    "[[3,4]]",
    "[[3],[4]]",
    "[{}]",
    "[3,[4]]",
    "12",
    "12.0",
    "null",
    "true",
    '"12"',
    '"[3,4]"',
    "{}",
    '{"0":3,"1":4}',
    "[NaN]",
    "[Infinity]",
    "[-Infinity]",
    "NaN",
    "[1e400]",
    "[1e999]",
    "[03,4]",
    "[+3,4]",
    "[3,4,]",
    "[,3,4]",
    "[3 4]",
    "[3;4]",
    "(3,4)",
    "[0x3,4]",
    "[3_0]",
    "[\u0663,4]",
    "[3",
    "3]",
    "",
    "[-0.0]",
    "[9223372036854775807]",
    "[9223372036854775808]",
    "[18446744073709551615]",
    "[18446744073709551616]",
    "[18446744073709551628]",
    "[4611686018427387904,4]",
    "[4294967296,4294967296]",
    "[4294967296,4294967296,3]",
    "[4611686018427387907,4]",
    "[6148914691236517206,2]",
    "[1152921504606846976,16,12]",
    "[0,9223372036854775808]",
]

OFFSETS = [
    "[]",
    "[0]",
    "[48]",
    "[0,48,48]",
    "[48,0]",
    "[0,47]",
    "[0,49]",
    "[1,49]",
    "[1,48]",
    "[-1,47]",
    "[-48,0]",
    "[0,-48]",
    "[0,0]",
    "[48,48]",
    "[48,96]",
    "[0.0,48.0]",
    "[0,48.0]",
    "[0,4.8e1]",
    "[false,48]",
    "[0,true]",
    "[null,48]",
    '["0","48"]',
    '[0,"48"]',
    "[[0],[48]]",
    "[[0,48]]",
    "{}",
    '{"0":0,"1":48}',
    "48",
    "null",
    '"0,48"',
    "[0,NaN]",
    "[0,Infinity]",
    "[-Infinity,48]",
    "[0,1e400]",
    "[0,9223372036854775807]",
    "[0,9223372036854775808]",
    "[0,18446744073709551615]",
    "[0,18446744073709551664]",
    "[18446744073709551616,18446744073709551664]",
    "[9223372036854775760,9223372036854775808]",
    "[18446744073709551568,18446744073709551616]",
    "[4294967296,4294967344]",
    "[-18446744073709551616,48]",
]

DTYPES = [
    '""',
    '"f32"',
    '"F32 "',
    '" F32"',
    '"F32\\u0000"',
    '"F33"',
    '"F128"',
    '"I128"',
    '"C128"',
    '"float32"',
    '"<f4"',
    '"O"',
    '"object"',
    '"BF32"',
    '"F8"',
    '"F64"',
    '"F16"',
    '"U8"',
    '"BOOL"',
    '"BF16"',
    '"F8_E5M2"',
    '"F8_E4M3"',
    '"F4"',
    '"F6_E2M3"',
    '"F6_E3M2"',
    '"os.system"',
    '"\\ud800"',
    "null",
    "true",
    "4",
    "4.0",
    "[]",
    '["F32"]',
    "{}",
    '{"F32":1}',
    "F32",
    "'F32'",
    "NaN",
]

KEYS = [
    '{"dtype":"F32","shape":[3,4]}',
    '{"dtype":"F32","data_offsets":[0,48]}',
    '{"shape":[3,4],"data_offsets":[0,48]}',
    '{"dtype":"F32"}',
    "{}",
    "null",
    "true",
    "[]",
    "0",
    "1.0",
    '"F32"',
    '["F32",[3,4],[0,48]]',
    '{"DTYPE":"F32","shape":[3,4],"data_offsets":[0,48]}',
    '{"dtype":"F32","Shape":[3,4],"data_offsets":[0,48]}',
    '{"dtype":"F32","shape":[3,4],"offsets":[0,48]}',
    '{"dtype ":"F32","shape":[3,4],"data_offsets":[0,48]}',
    '{"dtype":"F32","shape":[3,4],"data_offsets":[0,48],"more":1}',
    '{"dtype":"F32","shape":[3,4],"data_offsets":[0,48],"":null}',
    '{"dtype":"F32","shape":[3,4],"data_offsets":[0,48],"strides":[16,4]}',
    '{"dtype":"F32","shape":[3,4],"data_offsets":[0,48],"dtype":"F32"}',
    '{"dtype":"I32","shape":[3,4],"data_offsets":[0,48],"dtype":"F32"}',
    '{"dtype":"F32","shape":[2,2],"shape":[3,4],"data_offsets":[0,48]}',
    '{"dtype":"F32","shape":[3,4],"data_offsets":[0,16],"data_offsets":[0,48]}',
    '{"dtype":"F32","shape":[3,4],"sh\\u0061pe":[3,4],"data_offsets":[0,48]}',
]

METADATA = [
    "null",
    "1",
    "[]",
    '"text"',
    "true",
    '["a"]',
    '{"a":1}',
    '{"a":null}',
    '{"a":true}',
    '{"a":1.5}',
    '{"a":[]}',
    '{"a":{}}',
    '{"a":["b"]}',
    '{"a":{"b":"c"}}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":"b","c":1}',
    '{"a":"b","a":"c"}',
    '{"a":"b","\\u0061":"c"}',
    '{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}',
]

HEADERS = [
    "",
    " ",
    "{",
    "}",
    "[]",
    "null",
    "1",
    '"a"',
    "{}",
    "{} ",
    "{}{}",
    f"[{HEADER}]",
    f" {HEADER}",
    f"\n{HEADER}",
    f"\ufeff{HEADER}",
    f"{HEADER}{HEADER}",
    f"{HEADER},",
    f"{HEADER}]",
    f"{HEADER}\x00",
    f"{HEADER}x",
    f"{HEADER}//",
    f"{HEADER}\x00\x00\x00",
    f"{HEADER}\u00a0",
    HEADER[:-1] + ",}",
    HEADER.replace('"', "'"),
    HEADER.replace('"a"', "a"),
    HEADER.replace('"a"', "1"),
    HEADER.replace('"a"', "null"),
    HEADER.replace(":", "="),
    HEADER.replace('"a":', '"a"'),
    HEADER.replace('"a"', '"a\x00"'),
    HEADER.replace('"a"', '"a\n"'),
    HEADER.replace('"a"', '"\\x61"'),
    HEADER.replace('"a"', '"\\u00"'),
    HEADER.replace("{", "{/**/", 1),
    f'{{"a":{tensor()},"a":{tensor()}}}',
    f'{{"a":{tensor()},"\\u0061":{tensor()}}}',
    f'{{"a":{tensor(shape="[0]", offsets="[0,0]")},"a":{tensor()}}}',
    f'{{"__metadata__":{{}},"a":{tensor()},"__metadata__":{{}}}}',
    f'{{"__metadata__":{{"x":"y"}},"a":{tensor()},"__metadata__":{{"x":"z"}}}}',
    '{"__metadata__":{}}',
    f'{{"__metadata__":{tensor()}}}',
    '{"a":__import__("os")}',
]


def fields():
    for number, shape in enumerate(SHAPES):
        yield Case(f"shape-{number}-{shape[:30]}", one(shape=shape))
    for number, offsets in enumerate(OFFSETS):
        yield Case(f"offsets-{number}-{offsets[:30]}", one(offsets=offsets))
    for number, dtype in enumerate(DTYPES):
        yield Case(f"dtype-{number}-{dtype}", one(dtype=dtype))
    for number, keys in enumerate(KEYS):
        yield Case(f"keys-{number}", safetensors(f'{{"a":{keys}}}'))
        yield Case(f"keys-{number}-of-the-second", two(tensor(), keys, DATA * 2))
    for number, metadata in enumerate(METADATA):
        yield Case(f"metadata-{number}", safetensors(f'{{"__metadata__":{metadata},"a":{tensor()}}}'))
        yield Case(f"metadata-{number}-last", safetensors(f'{{"a":{tensor()},"__metadata__":{metadata}}}'))


def headers():
    for number, header in enumerate(HEADERS):
        yield Case(f"header-{number}", safetensors(header))
    yield Case("empty", b"")
    yield Case("zeros", bytes(4096))
    yield Case("ones", b"\xff" * 4096)
    yield Case("nothing-but-a-length", (8).to_bytes(8, "little"))
    yield Case("big-endian-length", len(HEADER).to_bytes(8, "big") + GOOD[8:])
    yield Case("a-length-of-4-bytes", len(HEADER).to_bytes(4, "little") + GOOD[8:])
    yield Case("a-json-file", HEADER.encode())


def coverage():
    """Tensors that overlap, leave gaps, or leave something over."""
    half = {"shape": "[2,3]"}
    for number, (first, second) in enumerate(
        [
            ("[0,24]", "[0,24]"),
            ("[0,24]", "[20,44]"),
            ("[0,24]", "[23,47]"),
            ("[0,24]", "[25,49]"),
            ("[0,24]", "[28,52]"),
            ("[1,25]", "[25,49]"),
            ("[24,48]", "[24,48]"),
            ("[24,48]", "[12,36]"),
            ("[24,48]", "[48,72]"),
        ]
    ):
        content = two(tensor(offsets=first, **half), tensor(offsets=second, **half))
        yield Case(f"offsets-of-two-{number}", content)
    for at in (1, 24, 47, 49, 2**40):
        yield Case(f"an-empty-one-at-{at}", two(tensor(), tensor(shape="[0]", offsets=f"[{at},{at}]")))
    for at in (0, 48):
        yield Case(
            f"an-empty-one-well-placed-at-{at}", two(tensor(), tensor(shape="[0]", offsets=f"[{at},{at}]")), MAPPED
        )
    for more in (1, 3, 48, 4096):
        yield Case(f"{more}-bytes-left-over", GOOD + bytes(more))
        yield Case(f"{more}-bytes-left-over-without-tensors", safetensors("{}", bytes(more)))
    yield Case("1-TiB-left-over", GOOD, size=1 << 40)
    yield Case("a-whole-file-left-over", GOOD + GOOD)
    for missing in (1, 24, 47, 48):
        yield Case(f"{missing}-bytes-missing", safetensors(data=DATA[missing:]))
    yield Case("one-in-another", two(tensor(), tensor(shape="[1]", offsets="[4,8]")))
    yield Case("one-holds-all", two(tensor(shape="[6]", offsets="[0,24]"), tensor()))
    pieces = {str(n): (n * 4, n * 4 + 4) for n in range(12)}
    for name, change in {"overlap": (4, 8), "gap": (48, 52), "swap": (8, 4)}.items():
        places = pieces | {"0": change}
        text = json.dumps({n: {"dtype": "F32", "shape": [1], "data_offsets": place} for n, place in places.items()})
        yield Case(f"12-tensors-{name}", safetensors(text))
    for kind, bits in (("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6)):
        fits, odd = 48 * 8 // bits, 48 * 8 // bits + 1
        yield Case(f"{kind}-packed", one(dtype=f'"{kind}"', shape=f"[{fits}]"), OBSTACLE)
        yield Case(f"{kind}-of-half-bytes", one(dtype=f'"{kind}"', shape=f"[{odd}]"))


def numbers():
    for digits in (19, 20, 100, 309, 4300, 4301, 10_000):
        number = "9" * digits
        yield Case(f"shape-of-{digits}-digits", one(shape=f"[{number}]"))
        yield Case(f"negative-shape-of-{digits}-digits", one(shape=f"[-{number}]"))
        yield Case(f"offset-of-{digits}-digits", one(offsets=f"[0,{number}]"))
        yield Case(f"offsets-of-{digits}-digits", one(offsets=f"[{number},{number}]"))
        yield Case(f"fraction-of-{digits}-digits", one(shape=f"[3.{number}]"))
        yield Case(f"exponent-of-{digits}-digits", one(shape=f"[1e{number}]"))
        yield Case(f"key-of-{digits}-digits", one(more=f',"{number}":{number}'))
        yield Case(f"dtype-of-{digits}-digits", one(dtype=number))
    for count in (2, 3, 10, 16, 17, 20, 64):
        yield Case(f"{count}-sizes-of-2**63", one(shape=f"[{','.join([str(2**63 - 1)] * count)}]"))
    for count in (64, 65, 1000, 100_000):
        for size in (0, 1, 2, 2**62):
            if (count, size) != (100_000, 2**62):
                yield Case(f"{count}-sizes-of-{size}", one(shape=f"[{','.join([str(size)] * count)}]"))
    yield Case("64-sizes", one(shape="[" + "1," * 62 + "3,4]"), MAPPED)
    yield Case(
        "64-sizes-and-0", safetensors(f'{{"a":{tensor(shape="[" + "9," * 63 + "0]", offsets="[0,0]")}}}', b""), ANY
    )
    zero = tensor(shape=f"[0,{2**63 - 1},{2**63 - 1}]", offsets="[0,0]")
    yield Case("large-sizes-beside-0", safetensors(f'{{"a":{zero}}}', b""))
    zero = tensor('"F4"', shape=f"[0,{2**63 - 1},{2**63 - 1}]", offsets="[0,0]")
    yield Case("large-sizes-beside-0-packed", safetensors(f'{{"a":{zero}}}', b""), ANY)


def texts():
    for number, name in enumerate([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80", b"\xe9"]):
        yield Case(f"no-utf-8-{number}", safetensors(HEADER.encode().replace(b'"a"', b'"' + name + b'"')))
        yield Case(f"no-utf-8-{number}-in-dtype", safetensors(HEADER.encode().replace(b"F32", name)))
        said = b'{"__metadata__":{"x":"' + name + b'"},' + HEADER.encode()[1:]
        yield Case(f"no-utf-8-{number}-in-metadata", safetensors(said))
    for number, name in enumerate(["\\ud800", "\\udfff", "\\ud800\\ud800", "\\udc00\\ud800"]):
        yield Case(f"surrogate-{number}", safetensors(HEADER.replace('"a"', f'"{name}"')))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        yield Case(encoding, safetensors(HEADER.encode(encoding)))
    yield Case("a-name-of-100000", safetensors(HEADER.replace('"a"', f'"{"x" * 100_000}"')), MAPPED)
    yield Case("a-bad-name-of-100000", safetensors(HEADER.replace('"a"', f'"{"x" * 100_000}"').replace("48", "47")))
    for number, name in enumerate(["", "..", "../../x", "/etc/passwd", "a\\u0000b", "\\n", "\\u202e", "a/b", "data"]):
        yield Case(f"odd-name-{number}", safetensors(HEADER.replace('"a"', f'"{name}"')), MAPPED)


DEEP = {
    "lists": "[" * 100_000 + "]" * 100_000,
    "open-lists": "[" * 200_000,
    "open-objects": '{"a":' * 50_000,
    "objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "both": '[{"a":' * 20_000,
    "400-lists": "[" * 400 + "]" * 400,
    "400-objects": '{"a":' * 400 + "1" + "}" * 400,
    "empty-lists": "[" + "[]," * 20_000 + "[]]",
}


def deep_headers():
    for name, text in DEEP.items():
        yield Case(f"deep-{name}", safetensors(f'{{"a":{text}}}'))
        yield Case(f"deep-{name}-as-shape", one(shape=text))
        yield Case(f"deep-{name}-as-metadata", safetensors(f'{{"__metadata__":{text},"a":{tensor()}}}'))


EIGHT_MIB = 8 << 20


def large_headers():
    yield Case("large-header-of-sizes", one(shape=f"[{'1,' * 2_000_000}1]"))
    yield Case("large-header-of-lists", one(shape=f"[{'[],' * 500_000}1]"))
    tensors = ",".join(f'"{n}":{{}}' for n in range(100_000))
    yield Case("large-header-of-tensors", safetensors(f"{{{tensors}}}"))
    yield Case("large-header-of-a-text", one(dtype=f'"{"x" * 8_300_000}"'))
    # It has all that the rules want, but for the byte left over.
    tensors = ",".join(f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(100_000))
    yield Case("100000-empty-tensors-and-a-byte", safetensors(f"{{{tensors}}}", b"x"), is_long=True)
    for count in (0, 1, 20):
        tensors = ",".join(f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(count))
        room = (256 << 10) + count * 1024
        for more, outcome in ((0, MAPPED), (8, REFUSED)):
            header = f"{{{tensors}}}".ljust(room + more)
            yield Case(f"{len(header)}-bytes-for-{count}-tensors", safetensors(header, b""), outcome)
    yield Case("header-of-spaces", safetensors('{"a":1}' + " " * 1_000_000))
    yield Case("header-larger-than-8-MiB", safetensors(HEADER + " " * EIGHT_MIB))


GROUPS = [
    lengths,
    bytes_of_the_header,
    header_lengths,
    fields,
    headers,
    coverage,
    numbers,
    texts,
    deep_headers,
    large_headers,
]


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_file_is_refused_or_mapped_inside_itself(group, tmp_path):
    check_all(group(), str(tmp_path), "x.safetensors")


@pytest.mark.parametrize("group", [fields, coverage])
def test_a_hostile_file_without_a_suffix_is_refused(group, tmp_path):
    check_all(group(), str(tmp_path), "x")


def test_the_library_refuses_them_too():
    if safetensors_library is None:
        pytest.skip("safetensors is not installed")
    load = safetensors_library.numpy.load
    assert load(GOOD)["a"].tobytes() == DATA
    for group in (header_lengths, coverage):
        for case in group():
            if case.outcome == "refused" and not case.size and len(case.content) < 10_000:
                with pytest.raises((safetensors_library.SafetensorError, ValueError)):
                    load(case.content)


def test_all_hostile_files_together_need_little_memory(tmp_path, run_python):
    good = tmp_path / "good.safetensors"
    good.write_bytes(GOOD)
    check_together(GROUPS, str(good), str(tmp_path / "all"), ".safetensors", run_python)


def test_there_are_enough_hostile_files(tmp_path):
    check_count((case for group in GROUPS for case in group()), str(tmp_path), "x.safetensors")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["F32", "dtype", "shape"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.binary(max_size=100) | JSON.map(lambda value: json.dumps({"a": value}).encode()))
def test_whatever_the_header_is_nothing_but_formaterror_comes(header, tmp_path):
    check(Case("drawn", safetensors(header), ANY), str(tmp_path / "x.safetensors"))
