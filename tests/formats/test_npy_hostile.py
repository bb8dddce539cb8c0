""".npy files that lie: each is refused, or what is mapped of it lies inside it."""

import os

import numpy as np
import numpy.random  # hypothesis asks for it: what it maps stays
import pytest
from hostile import ANY, MAPPED, OBSTACLE, Case, changes, check, check_all, check_count, check_together, cuts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ndfile as nf

DATA = bytes(range(48))


def fields(descr="'<f4'", order="False", shape="(3, 4)", more=""):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}"


def npy(header=None, data=DATA, version=(1, 0), length=None, magic=b"\x93NUMPY"):
    text = fields() if header is None else header
    text = text if isinstance(text, bytes) else text.encode("latin1")
    text += b" " * (-(len(text) + 13) % 64) + b"\n" if header is None else b"\n"
    width = 2 if version[0] == 1 else 4
    return magic + bytes(version) + (len(text) if length is None else length).to_bytes(width, "little") + text + data


GOOD = npy()

VERSIONS = [(0, 0), (0, 1), (1, 1), (1, 255), (2, 1), (3, 1), (4, 0), (10, 0), (255, 255)]

SHORT_LENGTHS = [0, 1, 2, 10, 40, 10_001, 32_767, 32_768, 65_534, 65_535]
LONG_LENGTHS = [0, 1, 10_001, 65_536, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]

# Shapes that no array of 48 bytes has, and what is no shape.
SHAPES = [
    "(3, 5)",
    "(13,)",
    "(4611686018427387904, 4)",
    "(9223372036854775807,)",
    "(9223372036854775808,)",
    "(18446744073709551615,)",
    "(18446744073709551616,)",
    "(4294967296, 4294967296)",
    "(2147483648, 2147483648, 4)",
    "(65536, 65536, 65536, 65536)",
    "(4611686018427387905, 4)",
    "(0, 9223372036854775808)",
    "(0, 4611686018427387904, 4)",
    "(4294967296, 4294967296, 0)",
    "(-1,)",
    "(-12,)",
    "(-3, -4)",
    "(3, -4)",
    "(0, -1)",
    "(-9223372036854775808,)",
    "(-0x8000000000000001,)",
    "(True,)",
    "(True, 12)",
    "(False,)",
    "(3.0, 4.0)",
    "(12.0,)",
    "(1e308,)",
    "(1e999,)",
    "('3', 4)",
    "('3', '4')",
    "(b'3', 4)",
    "(None,)",
    "(3, None)",
    "((3, 4),)",
    "((3,), 4)",
    "(3, (4,))",
    "(3+0j, 4)",
    "(12j,)",
    "({3}, 4)",
    "([3], 4)",
    "({}, 4)",
    "(..., 4)",
    "[3, 4]",
    "{3, 4}",
    "{3: 4}",
    "12",
    "-1",
    "12.0",
    "'(3, 4)'",
    "'34'",
    "b'34'",
    "None",
    "True",
    "...",
    "",
    "(",
    "(3, 4",
    "3, 4)",
    "(3; 4)",
    "(3 4)",
    "(3,, 4)",
    "(03, 4)",
    "(3_, 4)",
    "(0x, 4)",
    "(3LL, 4)",
    "(3l, 4l,",
    "(*(3, 4),)",
    "(3 * 4,)",
    "(2 ** 3,)",
    "(9 ** 9 ** 9,)",
    "(1 << 62,)",
    "(~-13,)",
    "(not 1,)",
    "(len('abc'), 4)",
    "(x for x in (3, 4))",
    "tuple((3, 4))",
    "(3 if True else 2, 4)",
    "(lambda: 12)()",
    "(y := 3, 4)",
    "f'{3}'",
    "(f'{3}', 4)",
    "(await 3, 4)",
]

# What is no dtype, or one that no file of 48 bytes holds 12 items of.
DESCRS = [
    "''",
    "' '",
    "'<f4\\x00'",
    "'<f3'",
    "'<f0'",
    "'<f5'",
    "'<f99'",
    "'<f-4'",
    "'<f4294967300'",
    "'f4f4'",
    "'<<f4'",
    "'<'",
    "'f'*4",
    "'S0'",
    "'<U0'",
    "'V0'",
    "'|S'",
    "'|V'",
    "'<U'",
    "'S-1'",
    "'S5'",
    "'U2'",
    "'S2147483647'",
    "'S2147483648'",
    "'S4294967295'",
    "'S4294967300'",
    "'S18446744073709551620'",
    "'V2147483647'",
    "'V4294967300'",
    "'U536870911'",
    "'U536870912'",
    "'U1073741825'",
    "'S99999999999999999999999'",
    "'<M8[xx]'",
    "'<M8[ns'",
    "'<M8[99999999999999999999s]'",
    "'<m8[-1s]'",
    "'float128x'",
    "'numpy.float32'",
    "'dict'",
    "'os.system'",
    "'<f4, <f4'",
    "'2f4'",
    "'(3,)f4'",
    "'(1000000000,)f4'",
    "'(1000000000,1000000000,1000000000)f4'",
    "'i4:f4'",
    "None",
    "True",
    "4",
    "4.0",
    "...",
    "b'<f4'",
    "b'\\xff'",
    "{}",
    "{'names': ['a'], 'formats': ['<f4']}",
    "{'a': ('<f4', 0)}",
    "{'ab', 'cd'}",
    "[]",
    "[[]]",
    "[()]",
    "['<f4']",
    "[('a',)]",
    "[('a', '<f4', (1,), 'more')]",
    "[('a', '<f4', -1)]",
    "[('a', '<f4', (-1,))]",
    "[('a', '<f4', (0,))]",
    "[('a', '<f4', (2**40,))]",
    "[('a', '<f4', 1000000000)]",
    "[('a', '<f4', (1000000000,))]",
    "[('a', '<f4', (1000000000, 1000000000))]",
    "[('a', '<f4', (2147483647, 2147483647, 2147483647))]",
    "[('a', '<f4', (18446744073709551616,))]",
    "[('a', '<f4', 'x')]",
    "[('a', '<f4', (1.5,))]",
    "[('a', '<f4', None)]",
    "[('a', '<f4'), ('a', '<f4')]",
    "[(1, '<f4')]",
    "[(None, '<f4')]",
    "[(b'a', '<f4')]",
    "[(('t', 'a', 'b'), '<f4')]",
    "[((), '<f4')]",
    "[(('t', 't'), '<f2'), (('t', 'u'), '<f2')]",
    "[('a', 'S0')]",
    "[('a', 'V0')]",
    "[('', 'V4294967300')]",
    "[('', '|V2147483647'), ('b', '|V2147483647')]",
    "[('a', 'S2147483647'), ('b', 'S2147483647'), ('c', 'S2147483647')]",
    "[('a', [('b', [('c', 'nothing')])])]",
    "[('a', [])]",
    "[('a', '<f4'), 'b']",
    "('<f4',)",
    "('<f4', (1000000000,))",
    "('<f4', (1000000000, 1000000000, 1000000000))",
    "('<f4', 'x')",
    "('<f4', -1)",
    "('<f4', (-1,))",
    "('<f4', (0,))",
    "('<f4', (2,), 3)",
    "(('<f4', (2,)), (2,))",
    "()",
    "((), ())",
    "(('a', '<f4'),)",
    "__import__('os')",
    "np.float32",
    "float",
]

# What NumPy makes a dtype of, for a reason or without.
ODD_DESCRS = ["'\\x00'", "['ab']", "('<f4', ())", "('<f4', (1,))", "[(('t', 'a'), '<f4')]", "'=f4'", "'float32'", "'f'"]

OBJECTS = [
    "'O'",
    "'|O'",
    "'|O8'",
    "'object'",
    "[('a', 'O')]",
    "[('a', '<f4'), ('b', '|O')]",
    "[('a', [('b', [('c', 'O')])])]",
    "[('a', '|O', (2,))]",
]

ORDERS = [
    "0",
    "1",
    "None",
    "'C'",
    "'False'",
    "()",
    "2",
    "0.0",
    "False or True",
    "not True",
    "",
    "true",
    "...",
    "False,",
]

# Whole headers.
HEADERS = [
    "",
    " ",
    "{}",
    "[]",
    "()",
    "None",
    "1",
    "'text'",
    "{",
    "}",
    "{{}}",
    "{'descr': '<f4'}",
    "{'descr': '<f4', 'shape': (3, 4)}",
    "{'fortran_order': False, 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False}",
    "{'DESCR': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr ': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{b'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'more': 1}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 1: 1}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), None: 1}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), 'descr': '<f4'}",
    "{'descr': '<f4', \"descr\": '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr': '<f4', 'de' 'scr': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr': '<f4', '\\x64escr': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'fortran_order': True, 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), **{}}",
    "{**{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)};",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}; 1",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}, ",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}\n{'descr': 1}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)} | {}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}\x00",
    "\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr': '<f4', 'fortran_order': False, \x00'shape': (3, 4)}",
    "{'descr': '<f4' 'fortran_order': False, 'shape': (3, 4)}",
    "{'descr' '<f4', 'fortran_order' False, 'shape' (3, 4)}",
    "{'descr', 'fortran_order', 'shape'}",
    "['descr', '<f4', 'fortran_order', False, 'shape', (3, 4)]",
    "dict(descr='<f4', fortran_order=False, shape=(3, 4))",
    '{"descr": "<f4", "fortran_order": false, "shape": [3, 4]}',
    "descr = '<f4'",
    "import os",
    "# nothing",
    "\\",
    "'''",
    "'",
    "\x85",
    "\f",
    "\t",
    "(yield)",
    "(await x)",
    "f'{1}'",
    "f'{__import__(\"os\").getpid()}'",
    "1 if 1 is 1 else 2",
    "'\\d'",
    "'\\N{DIGIT'",
    "'\\ud800'",
    "b'\\x'",
    "0777",
    "1L",
    "1" * 5000,
    "0x" + "f" * 9000,
]

DEEP = {
    "parentheses": "(" * 4000 + ")" * 4000,
    "open-parentheses": "(" * 9000,
    "lists": "[" * 90 + "]" * 90,
    "many-lists": "[" * 4900 + "]" * 4900,
    "tuples": "(" * 2000 + "1" + ",)" * 2000,
    "dicts": "{1:" * 2000 + "1" + "}" * 2000,
    "minuses": "-" * 9000 + "1",
    "pluses": "1" + "+1" * 4500,
    "complex": "1" + "+1j" * 3000,
    "attributes": "a" + ".a" * 4500,
    "calls": "a" + "()" * 4500,
    "items": "a" + "[0]" * 3000,
    "nots": "not " * 2400 + "1",
    "lambdas": "lambda:" * 1400 + "1",
    "powers": "9" + "**9" * 3000,
    "strings": "'a'" * 3300,
    "tildes": "~" * 9000 + "1",
    "lines": "\n" * 9900,
    "tabs": "".join(" " * (n % 100) + "x\n" for n in range(150)),
}


def lengths():
    yield from cuts(GOOD)


def bytes_of_the_magic():
    yield from changes(GOOD, range(8), (0, 1, 4, 0x7F, 0x80, 0xFF))
    yield Case("only-magic", b"\x93NUMPY")
    yield Case("empty", b"")
    yield Case("magic-in-lower-case", npy(magic=b"\x93numpy"))
    yield Case("magic-without-its-first-byte", npy(magic=b"?NUMPY"))
    yield Case("a-pickle", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins.")
    yield Case("zeros", bytes(4096))
    yield Case("ones", b"\xff" * 4096)


def bytes_of_the_header():
    yield from changes(GOOD, range(8, 72), (0, 0x28, 0xFF))


def versions():
    for version in VERSIONS:
        yield Case(f"version-{version[0]}.{version[1]}", npy(version=version))
    yield Case("version-1-read-as-2", b"\x93NUMPY\x02\x00" + GOOD[8:])
    yield Case("version-2-read-as-1", b"\x93NUMPY\x01\x00" + npy(version=(2, 0))[8:])


def header_lengths():
    for length in SHORT_LENGTHS:
        yield Case(f"header-said-to-have-{length}", npy(length=length))
    for length in LONG_LENGTHS:
        for major in (2, 3):
            yield Case(f"header-of-version-{major}-said-to-have-{length}", npy(version=(major, 0), length=length))


def shapes():
    for number, shape in enumerate(SHAPES):
        yield Case(f"shape-{number}-{shape[:30]}", npy(fields(shape=shape)))


def dtypes():
    for number, descr in enumerate(DESCRS):
        yield Case(f"descr-{number}-{descr[:30]}", npy(fields(descr=descr)))
    for number, descr in enumerate(ODD_DESCRS):
        yield Case(f"odd-descr-{number}-{descr[:30]}", npy(fields(descr=descr)), ANY)
    for number, descr in enumerate(OBJECTS):
        yield Case(f"objects-{number}-{descr[:30]}", npy(fields(descr=descr)), OBSTACLE)


def orders():
    for number, order in enumerate(ORDERS):
        yield Case(f"order-{number}-{order}", npy(fields(order=order)))


def headers():
    for number, header in enumerate(HEADERS):
        yield Case(f"header-{number}-{header[:30]!a}", npy(header))


def deep_headers():
    for name, text in DEEP.items():
        yield Case(f"deep-{name}", npy(text))
        if name in ("parentheses", "lists", "tuples", "minuses", "pluses", "tabs"):
            yield Case(f"deep-{name}-as-shape", npy(fields(shape=text)))


def nested_dtypes():
    """Fields in fields."""
    for depth in (60, 90, 100, 500):
        descr = "[('a'," * depth + "'O'" + ")]" * depth
        yield Case(f"objects-{depth}-deep", npy(fields(descr=descr)), ANY)
        yield Case(f"nothing-{depth}-deep", npy(fields(descr=descr.replace("'O'", "'?!'"))))
        array = "[('a'," * depth + "'<f4'" + ",(1000,))]" * depth
        yield Case(f"arrays-{depth}-deep", npy(fields(descr=array)))
    many = ",".join(f"('{n}','<f4')" for n in range(600))
    yield Case("600-fields", npy(fields(descr=f"[{many}]")))
    yield Case("600-fields-of-a-name", npy(fields(descr="[" + "('a','<f4')," * 600 + "]")))


def sizes():
    """Many sizes, and long ones."""
    yield Case("64-sizes", npy(fields(shape="(" + "1," * 64 + ")")), MAPPED)
    yield Case("65-sizes", npy(fields(shape="(" + "1," * 65 + ")")))
    yield Case("65-sizes-one-of-them-0", npy(fields(shape="(0," + "1," * 64 + ")")))
    yield Case("64-sizes-and-an-array-in-the-item", npy(fields(descr="('<f4', (1,))", shape="(" + "1," * 64 + ")")))
    yield Case("4000-sizes", npy(fields(shape="(" + "1," * 4000 + ")")))
    yield Case("4000-sizes-of-0", npy(fields(shape="(" + "0," * 4000 + ")")))
    yield Case("3000-sizes-of-99", npy(fields(shape="(" + "99," * 3000 + ")")))
    yield Case("64-sizes-of-2**60", npy(fields(shape=f"({f'{2**60},' * 64})")))
    for digits in (20, 310, 1000, 4299, 4301, 9000):
        text = npy(fields(shape=f"({'9' * digits},)"))
        yield Case(f"a-size-of-{digits}-digits", text)
        yield Case(f"a-negative-size-of-{digits}-digits", npy(fields(shape=f"(-{'9' * digits},)")))
    for digits in (20, 400, 4000, 9000):
        text = npy(fields(shape=f"(0x{'f' * digits},)"))
        yield Case(f"a-size-of-{digits}-hexadecimal-digits", text)
    yield Case("a-product-of-8000-digits", npy(fields(shape=f"({'9' * 4000}, {'9' * 4000})")))
    yield Case("a-product-of-8000-digits-and-0", npy(fields(shape=f"(0, {'9' * 4000}, {'9' * 4000})")))
    yield Case("1-TiB-of-a-small-file", npy(fields(shape="(274877906944,)")))
    yield Case("1-TiB-less-a-byte", npy(fields("'|u1'", shape="(49,)")))


def texts():
    """Headers that are no text of their version."""
    for number, byte in enumerate((0x80, 0xC0, 0xE9, 0xF8, 0xFF)):
        text = fields().encode()[:-1] + b"'" + bytes([byte]) + b"': 1}"
        yield Case(f"no-ascii-{number}", npy(text))
        yield Case(f"no-ascii-{number}-version-2", npy(text, version=(2, 0)))
        yield Case(f"no-utf-8-{number}", npy(text, version=(3, 0)))
    surrogate = b"[('\xed\xa0\x80', '<f4')]"
    header = b"{'descr': " + surrogate + b", 'fortran_order': False, 'shape': (3, 4)}"
    yield Case("a-surrogate-in-utf-8", npy(header, version=(3, 0)))
    yield Case("a-byte-order-mark", npy(b"\xef\xbb\xbf" + fields().encode(), version=(3, 0)))
    yield Case("utf-16", npy(fields().encode("utf-16"), version=(3, 0)))
    yield Case("utf-7", npy(b"# coding: utf-7\n+AHs-"))
    yield Case("a-coding-line", npy("# -*- coding: rot13 -*-\n" + fields(shape="(3, 5)")))
    yield Case("no-header-but-newlines", npy("\n" * 100))


def comments():
    """What our own comment can lie about."""
    void = fields("'|V2'", shape="(24,)")
    for number, said in enumerate(
        [
            '{"dtype": "float8_e5m2"}',
            '{"dtype": "float99"}',
            '{"dtype": "float32"}',
            '{"dtype": "object"}',
            '{"dtype": "os.system"}',
            '{"dtype": 1}',
            '{"dtype": ["bfloat16"]}',
            '{"dtype": {"bfloat16": 1}}',
            '{"dtype": true}',
        ]
    ):
        yield Case(f"comment-{number}-{said}", npy(f"{void} # ndfile {said}"))
    for number, said in enumerate(
        [
            "{}",
            '{"dtype": null}',
            '{"metadata": 1}',
            '{"metadata": [1]}',
            '{"metadata": null}',
            '{"metadata": {"a": NaN}}',
            '{"metadata": {"a": "\\ud800"}}',
            '{"more": 1}',
        ]
    ):
        yield Case(f"odd-comment-{number}-{said}", npy(f"{void} # ndfile {said}"), MAPPED)
    for number, said in enumerate(
        [
            "{",
            "}",
            "{]}",
            '{"a": ' * 1500 + "}" * 1500,
            '{"a": ' + "[" * 4000 + "}",
            '{"a": ' + "9" * 5000 + "}",
            "{'a': 1}",
        ]
    ):
        yield Case(f"broken-comment-{number}", npy(f"{void} # ndfile {said}"), ANY)
    yield Case("bfloat16-in-4-bytes", npy(fields() + ' # ndfile {"dtype": "bfloat16"}'))
    yield Case("bfloat16-in-an-integer", npy(fields("'<i2'", shape="(24,)") + ' # ndfile {"dtype": "bfloat16"}'))


def odd_lengths():
    """Files that are longer than what they hold, which is no harm."""
    for more in (1, 48, 5000):
        yield Case(f"{more}-bytes-follow", GOOD + bytes(more), MAPPED)
    yield Case("1-TiB-follows", GOOD, MAPPED, size=1 << 40)
    yield Case("two-files-in-one", GOOD + GOOD, MAPPED)
    yield Case("an-empty-array", npy(fields(shape="(0, 4)"), b""), MAPPED)
    yield Case("an-empty-array-and-data", npy(fields(shape="(0, 4)")), MAPPED)
    yield Case("2-GiB-items-and-none-of-them", npy(fields("'S2147483647'", shape="(0,)"), b""), MAPPED)


GROUPS = [
    lengths,
    bytes_of_the_magic,
    bytes_of_the_header,
    versions,
    header_lengths,
    shapes,
    dtypes,
    orders,
    headers,
    deep_headers,
    nested_dtypes,
    sizes,
    texts,
    comments,
    odd_lengths,
]


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_file_is_refused_or_mapped_inside_itself(group, tmp_path):
    check_all(group(), str(tmp_path), "x.npy")


@pytest.mark.parametrize("group", [versions, header_lengths, orders])
def test_a_hostile_file_without_a_suffix_is_refused(group, tmp_path):
    check_all(group(), str(tmp_path), "x")


def test_all_hostile_files_together_need_little_memory(tmp_path, run_python):
    good = tmp_path / "good.npy"
    good.write_bytes(GOOD)
    check_together(GROUPS, str(good), str(tmp_path / "all"), ".npy", run_python)


def test_the_harness_finds_what_it_should(tmp_path):
    lies = [Case("wrong-outcome", GOOD), Case("right", GOOD, MAPPED), Case("refused", GOOD[:9], MAPPED)]
    with pytest.raises(AssertionError, match=r"'wrong-outcome', 'refused'"):
        check_all(lies, str(tmp_path), "x.npy")


def test_the_harness_finds_a_file_that_changes(tmp_path, monkeypatch):
    path = str(tmp_path / "x.npy")
    describe = nf.info

    def growing(path, **arguments):
        os.truncate(path, os.path.getsize(path) + 1)
        return describe(path, **arguments)

    monkeypatch.setattr(nf, "info", growing)
    with pytest.raises(AssertionError):
        check(Case("grows", GOOD, MAPPED), path)


def test_there_are_enough_hostile_files(tmp_path):
    check_count((case for group in GROUPS for case in group()), str(tmp_path), "x.npy")


# NumPy divides by the 0 of such a unit (or by what it takes for one), and the process dies of SIGFPE.
DEADLY = [
    "'<m8[s/0]'",
    "'<M8[ms/00]'",
    "'<m8[s/+0]'",
    "'<m8[s/-0]'",
    "'<m8[s/ 0]'",
    "'<m8[s/4294967296]'",
    "'f4,<m8[s/0]'",
    "[('a', '<M8[ms/0]')]",
    "[('a', '<M8[ms/0]', (2,))]",
    "[('a', [('b', '<m8[s/0]')])]",
    "[('a', '<f4', '<m8[s/0]')]",
    "[['a', '<m8[s/0]']]",
    "(('<m8[s/0]', (2,)), (2,))",
    "('<f4', '<m8[s/0]')",
    "(('a', '<m8[s/0]'),)",
    "{('a', '<m8[s/0]')}",
    "{('a', '<m8[s/0]'): 1}",
]

ALL_REFUSED = """
    import os
    import sys

    import ndfile as nf

    for name in sorted(os.listdir(sys.argv[1])):
        print(name, flush=True)  # the last one is to blame if the process dies
        try:
            nf.open(os.path.join(sys.argv[1], name))
        except nf.FormatError:
            pass
        else:
            raise AssertionError(f"{name} was opened.")
"""


def test_a_unit_of_time_divided_by_zero_is_refused(tmp_path, run_python):
    for number, descr in enumerate(DEADLY):
        (tmp_path / f"{number:02}.npy").write_bytes(npy(fields(descr=descr)))
    result = run_python(ALL_REFUSED, str(tmp_path))
    assert len(result.stdout.split()) == len(DEADLY)


@pytest.mark.parametrize("unit", ["0", "0s", "00s", "+0s", "-0s", "-5s", "0 s", "99999999999s"])
def test_a_unit_of_time_of_no_length_is_refused(unit, tmp_path):
    check(Case("unit", npy(fields(descr=f"'<m8[{unit}]'", shape="(6,)"))), str(tmp_path / "x.npy"))


@pytest.mark.parametrize("unit", ["s", "ns", "7D", "2147483647s", "D/2", "generic"])
def test_a_unit_of_time_as_numpy_writes_it_is_mapped(unit, tmp_path):
    check(Case("unit", npy(fields(descr=f"'<m8[{unit}]'", shape="(6,)")), MAPPED), str(tmp_path / "x.npy"))


CODE = [
    "__import__('os').mkdir({path!r})",
    "(lambda: __import__('os').mkdir({path!r}))()",
    "[x for x in [__import__('os').mkdir({path!r})]]",
    "f\"{{__import__('os').mkdir({path!r})}}\"",
    "().__class__.__base__.__subclasses__()",
    "exec('import os; os.mkdir({path!r})')",
    "(x := __import__('os').mkdir({path!r}))",
    "open({path!r}, 'w')",
]


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize("place", ["{}", "{{'descr': {}, 'fortran_order': False, 'shape': (3, 4)}}", "{{{}: 1}}"])
def test_code_in_a_header_never_runs(code, place, tmp_path):
    marker = str(tmp_path / "marker")
    check(Case("code", npy(place.format(code.format(path=marker)))), str(tmp_path / "x.npy"))
    assert not os.path.exists(marker)


def test_a_pickle_is_never_loaded(tmp_path):
    path, marker = str(tmp_path / "x.npy"), str(tmp_path / "marker")

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (marker,)

    np.save(path, np.array([Bomb()], object), allow_pickle=True)
    with open(path, "rb") as file:
        check(Case("pickle", file.read(), OBSTACLE), path)
    assert not os.path.exists(marker)
    with pytest.raises(nf.FormatError, match=r"never unpickles.*Make the array anew with a dtype of fixed width\."):
        nf.open(path)


def test_a_header_that_wants_1_tib_does_not_grow_the_file(tmp_path):
    path = str(tmp_path / "x.npy")
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,)}"
    content = npy(header + " " * (174 - 59 - len(header)), bytes(48))
    check(Case("1-TiB", content), path)
    with pytest.raises(nf.FormatError, match="1099511627776 bytes, 48 follow"):
        nf.open(path, "r+")
    assert os.path.getsize(path) == len(content)


def test_a_longer_header_is_read_if_the_user_says_so(tmp_path):
    path = str(tmp_path / "x.npy")
    with open(path, "wb") as file:
        file.write(npy(fields() + " " * 20_000))
    with pytest.raises(nf.FormatError, match=r"10000 are read.*pass a larger max_header_size"):
        nf.open(path)
    with nf.open(path, max_header_size=30_000) as array:
        assert array.tobytes() == DATA


def test_bytes_that_follow_the_array_are_noted(tmp_path):
    path = str(tmp_path / "x.npy")
    with open(path, "wb") as file:
        file.write(GOOD + bytes(7))
    assert nf.info(path).notes == ("7 bytes follow the array",)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_bytes_are_nothing_but_formaterror_comes(data, tmp_path):
    path = str(tmp_path / "x.npy")
    version = data.draw(st.sampled_from([(1, 0), (2, 0), (3, 0)]))
    words = st.sampled_from(
        [
            "'descr'",
            "'shape'",
            "'fortran_order'",
            "'<f4'",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ":",
            ",",
            "1",
            "-",
            "True",
            "'O'",
        ]
    )
    text = data.draw(
        st.one_of(st.binary(max_size=200), st.lists(words, max_size=40).map(lambda w: " ".join(w).encode()))
    )
    check(Case("drawn", npy(text, version=version), ANY), path)
