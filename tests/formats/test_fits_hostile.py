"""FITS files that lie: each is refused, or what is mapped of it lies inside it."""

import pytest
from hostile import ANY, REFUSED, Case, check, check_count

import ndfile as nf

BLOCK = 2880

# What stands after "= " where a number should.
VALUES = [
    *("-1", "-2880", "1", "2", "3", "7", "8", "9", "16", "64", "65", "999", "1000", "65536", "2147483648"),
    *(
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "9" * 69,
    ),
    *(
        "1.0",
        "1E400",
        "-1D99",
        "1e",
        "NaN",
        "Infinity",
        "0x10",
        "1_000",
        "T",
        "F",
        "'8'",
        "''",
        "'",
        "(1, 2)",
        "/ 8",
        "",
    ),
    *("\xb2", "\xff" * 60, "\0" * 20, "8 8", "+", "-", ".", "--8", "8/" * 30),
]


def card(key, value, indicator="= "):
    return f"{key:<8}{indicator}{value:>20}".ljust(80)[:80].encode("latin-1")


def header(cards, end=True):
    text = b"".join(line if isinstance(line, bytes) else card(*line) for line in cards)
    text += b"END".ljust(80) if end else b""
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


PRIMARY = (("SIMPLE", "T"), ("BITPIX", "16"), ("NAXIS", "2"), ("NAXIS1", "10"), ("NAXIS2", "20"), ("EXTEND", "T"))
EXTENSION = (
    *(("XTENSION", "'IMAGE   '"), ("BITPIX", "-32"), ("NAXIS", "1"), ("NAXIS1", "50"), ("PCOUNT", "0")),
    *(("GCOUNT", "1"), ("EXTNAME", "'SCI     '")),
)
TABLE = (
    *(("XTENSION", "'BINTABLE'"), ("BITPIX", "8"), ("NAXIS", "2"), ("NAXIS1", "8"), ("NAXIS2", "2"), ("PCOUNT", "4")),
    *(("GCOUNT", "1"), ("TFIELDS", "1"), ("TTYPE1", "'COMPRESSED_DATA'"), ("TFORM1", "'1PB(2)'"), ("ZIMAGE", "T")),
    *(("ZCMPTYPE", "'GZIP_1'"), ("ZBITPIX", "16"), ("ZNAXIS", "2"), ("ZNAXIS1", "2"), ("ZNAXIS2", "2")),
)
GROUPS = (
    *(("SIMPLE", "T"), ("BITPIX", "-32"), ("NAXIS", "2"), ("NAXIS1", "0"), ("NAXIS2", "4"), ("GROUPS", "T")),
    *(("PCOUNT", "2"), ("GCOUNT", "3")),
)
DATA = bytes(BLOCK)


def changed(cards, key, value):
    return tuple((name, value if name == key else old) for name, old in cards)


def without(cards, key):
    return tuple(line for line in cards if line[0] != key)


def whole():
    """The files that are broken below: one array, and an archive."""
    yield header(PRIMARY) + DATA
    yield header(PRIMARY) + DATA + header(EXTENSION) + DATA
    yield header(PRIMARY) + DATA + header(TABLE) + DATA + header(EXTENSION) + DATA


def hostile():
    single, double, _ = whole()
    for length in range(0, len(double), 241):
        # Between two HDUs, and in the zeros behind the last data, nothing is missing.
        yield f"cut-to-{length}", double[:length], not 2880 + 400 <= length < 5760 + 8 and length < 8640 + 200
    for cards, kind, keys in (
        (PRIMARY, "primary", ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2")),
        (EXTENSION, "extension", ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "PCOUNT", "GCOUNT", "EXTNAME")),
        (TABLE, "table", ("NAXIS2", "PCOUNT", "ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZNAXIS1")),
        (GROUPS, "groups", ("NAXIS1", "PCOUNT", "GCOUNT", "GROUPS")),
    ):
        before = b"" if cards in (PRIMARY, GROUPS) else single
        for key in keys:
            for number, value in list(enumerate(VALUES))[:: 4 if cards in (TABLE, GROUPS) else 2]:
                if (key, value) not in cards:
                    yield f"{kind}-{key}-is-value-{number}", before + header(changed(cards, key, value)) + DATA, False
            yield f"{kind}-without-{key}", before + header(without(cards, key)) + DATA, False
            for value in ("12", "T"):
                twice = header((*cards, (key, value))) + DATA
                yield f"{kind}-{key}-twice-{value}", before + twice, (key, value) not in cards and key != "EXTNAME"
    for key in ("BSCALE", "BZERO", "BLANK", "EXTVER", "EXTNAME", "CHECKSUM"):
        for number, value in list(enumerate(VALUES))[::3]:
            yield f"{key}-is-value-{number}", header((*PRIMARY, (key, value))) + DATA, False
    for count in (3, 64, 65, 100, 998, 999):
        ones = [("NAXIS", str(count)), *((f"NAXIS{axis}", "1") for axis in range(1, count + 1))]
        yield f"{count}-axes", header((*PRIMARY[:2], *ones)) + DATA, count > 64
        huge = [("NAXIS", str(count)), *((f"NAXIS{axis}", "9223372036854775807") for axis in range(1, count + 1))]
        yield f"{count}-huge-axes", header((*PRIMARY[:2], *huge)) + DATA, True
        none = [("NAXIS", str(count)), ("NAXIS1", "0"), *huge[2:]]
        yield f"{count}-huge-axes-after-0", header((*PRIMARY[:2], *none)) + DATA, True
    yield "compressed-cut", single + header(TABLE) + bytes(10), True
    yield "no-end", header(PRIMARY, end=False) + DATA, True
    yield "no-end-in-8-mib", header(PRIMARY, end=False) + b" " * (8 << 20), True
    yield "end-between-cards", header(PRIMARY, end=False).rstrip() + b"END".ljust(87) + DATA, True
    yield "END-in-lower-case", header(PRIMARY).replace(b"END ", b"end ") + DATA, True
    yield "naxis-of-20000000", header((*PRIMARY[:2], ("NAXIS", "20000000"))), True
    yield "goes-back", header(PRIMARY) + DATA + header(changed(EXTENSION, "NAXIS1", "-2160")) + DATA, True
    yield "goes-back-by-pcount", header(PRIMARY) + DATA + header(changed(EXTENSION, "PCOUNT", "-2160")) + DATA, True
    yield "no-groups", header(changed(GROUPS, "GCOUNT", "0")) + DATA, False
    yield (
        "too-many-hdus",
        header((("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0")))
        + header((("XTENSION", "'IMAGE'"), ("BITPIX", "8"), ("NAXIS", "0"))) * 300
        + header((("XTENSION", "'IMAGE'"), ("BITPIX", "8"), ("NAXIS", "1"), ("NAXIS1", "1"))),
        True,
    )
    yield "unknown-extension", header(PRIMARY) + DATA + header(changed(EXTENSION, "XTENSION", "'OTHER'")) + DATA, False
    yield "same-names", header(PRIMARY) + DATA + (header(EXTENSION) + DATA) * 3, False
    yield "name-of-a-number", header(PRIMARY) + DATA + header(changed(EXTENSION, "EXTNAME", "'0'")) + DATA, False
    for indicator in ("  ", " =", "=", "==", "=\0"):
        lines = [card("NAXIS1", "10", indicator) if line[0] == "NAXIS1" else line for line in PRIMARY]
        yield f"indicator-{indicator!r}", header(lines) + DATA, indicator in ("  ", " =", "==", "=\0")
    for name, magic in (("lower", b"simple  ="), ("short", b"SIMPLE ="), ("zeros", bytes(9)), ("other", b"XTENSION=")):
        yield f"magic-{name}", magic + single[9:], True
    yield "zeros", bytes(5760), True
    yield "spaces", b" " * 5760, True


def cases():
    for name, content, is_refused in hostile():
        yield Case(name, content, REFUSED if is_refused else ANY)


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_hostile_file_is_refused_or_mapped_inside_itself(case, tmp_path):
    check(case, str(tmp_path / "x.fits"))


def test_what_is_broken_here_is_good_while_whole(tmp_path):
    path = str(tmp_path / "x.fits")
    for content in whole():
        with open(path, "wb") as file:
            file.write(content)
        nf.open(path, "r+").close()


def test_there_are_enough_hostile_files(tmp_path):
    check_count(cases(), str(tmp_path), "x.fits")
