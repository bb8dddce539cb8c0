"""Checksums of files: what is written, what is found, what is refused."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import pickle
import signal
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from devices import PAGE, fill_up, make_image, memory_disk, mounted, move_page

from ndfile.errors import FaultError, FormatError, LayoutError, LibraryError, NdfileError
from ndfile.integrity import hashing
from ndfile.integrity.checksums import SPARE_NBYTES
from ndfile.integrity.digests import checksum, verify

# Loaded before any test: what a test loads first would be left by it.
with contextlib.suppress(ImportError):
    import blake3
    import xxhash

np.random.default_rng(0)

BLOCK = 1 << 16


def sums_of(path):
    return f"{os.fspath(path)}.checksums.json"


def loaded(path):
    with open(sums_of(path)) as file:
        return json.load(file)


def flip(path, *offsets):
    """Damage single bytes, and leave the time as a disk would."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def random_file(file_of):
    """A function that gives the path of a file of random bytes."""
    return lambda nbytes: file_of(np.random.default_rng(0).bytes(nbytes))


@pytest.fixture
def npy(tmp_path):
    """The path of a C-ordered .npy: 1000 rows of 800 bytes behind a header of 128."""
    path = str(tmp_path / "x.npy")
    np.save(path, np.arange(100_000.0).reshape(1000, 100))
    return path


def names(folder):
    return sorted(os.listdir(folder))


# What is written


@pytest.mark.parametrize("nbytes", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 40 * BLOCK + 17])
def test_each_block_has_the_digest_of_its_bytes(random_file, content, nbytes):
    path = random_file(nbytes)
    checksum(path, algorithm="sha256", block_nbytes=BLOCK)
    data, facts = content(path), loaded(path)
    blocks = [data[start : start + BLOCK] for start in range(0, nbytes, BLOCK)]
    assert facts["blocks"] == [hashlib.sha256(block).hexdigest() for block in blocks]
    assert (facts["size"], facts["block_nbytes"], facts["algorithm"]) == (nbytes, BLOCK, "sha256")
    assert facts["mtime_ns"] == os.stat(path).st_mtime_ns
    assert (facts["format"], facts["version"]) == ("ndfile.checksums", 1)
    joined = b"".join(hashlib.sha256(block).digest() for block in blocks)
    assert facts["digest"] == hashlib.sha256(f"sha256 {BLOCK} {nbytes}\n".encode() + joined).hexdigest()


@pytest.mark.parametrize("block_nbytes", [BLOCK, hashing.PIECE_NBYTES - 1, 3 * hashing.PIECE_NBYTES + 5, 1 << 30])
def test_a_block_need_not_be_a_whole_number_of_pieces(random_file, content, block_nbytes):
    path = random_file(4 << 20)
    sums = checksum(path, algorithm="blake2b", block_nbytes=block_nbytes)
    data = content(path)
    starts = range(0, len(data), block_nbytes)
    assert sums.digests == [hashlib.blake2b(data[start : start + block_nbytes]).digest() for start in starts]
    assert verify(path)


@pytest.mark.parametrize("algorithm", [*hashing.STANDARD, *hashing.EXTRA])
def test_every_algorithm_finds_a_whole_file_whole_and_a_changed_bit(random_file, algorithm):
    if algorithm in hashing.EXTRA:
        pytest.importorskip(hashing.EXTRA[algorithm][0])
    path = random_file(3 * BLOCK)
    sums = checksum(path, algorithm=algorithm, block_nbytes=BLOCK)
    assert sums.algorithm == algorithm
    assert verify(path)
    flip(path, BLOCK)
    found = verify(path)
    assert not found
    assert [damage.blocks for damage in found.damages] == [range(1, 2)]


def test_the_digests_of_extras_are_their_libraries_own(random_file, content):
    pytest.importorskip("xxhash")
    pytest.importorskip("blake3")
    path = random_file(BLOCK)
    assert checksum(path, algorithm="xxh3").digests == [xxhash.xxh3_128_digest(content(path))]
    assert checksum(path, algorithm="blake3").digests == [blake3.blake3(content(path)).digest()]


def test_xxh3_is_the_default(random_file):
    pytest.importorskip("xxhash")
    assert checksum(random_file(1)).algorithm == "xxh3"


def test_without_the_extra_the_default_is_hashlibs(random_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "xxhash", None)
    path = random_file(1)
    assert checksum(path).algorithm == "sha256"
    assert verify(path)


def test_a_missing_library_is_named_with_the_line_that_installs_it(random_file, monkeypatch):
    path = random_file(1)
    pytest.importorskip("blake3")
    checksum(path, algorithm="blake3")
    monkeypatch.setitem(sys.modules, "blake3", None)
    for act in (lambda: checksum(path, algorithm="blake3"), lambda: verify(path)):
        with pytest.raises(LibraryError, match=r"pip install 'ndfile\[hash\]'"):
            act()


@pytest.mark.parametrize("algorithm", ["md4", "shake_128", "SHA256", "", 7, ["sha256"]])
def test_an_unknown_algorithm_is_refused_with_the_choices(random_file, algorithm):
    path = random_file(1)
    with pytest.raises(LayoutError, match=r"algorithm must be one of .*'xxh3'.*'sha256'") as caught:
        checksum(path, algorithm=algorithm)
    assert isinstance(caught.value, ValueError)
    assert not os.path.exists(sums_of(path))


@pytest.mark.parametrize("block_nbytes", [0, -1, BLOCK - 1, (1 << 30) + 1, 2**70])
def test_a_block_size_out_of_bounds_is_refused(random_file, block_nbytes):
    path = random_file(1)
    with pytest.raises(LayoutError, match=f"block_nbytes must be from {BLOCK} to {1 << 30}, not {block_nbytes}"):
        checksum(path, block_nbytes=block_nbytes)
    with pytest.raises(TypeError):
        checksum(path, block_nbytes=1e6)
    assert not os.path.exists(sums_of(path))


@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_a_path_may_be_given_in_every_way(random_file, wrap):
    path = random_file(10)
    assert checksum(wrap(path)).path == sums_of(path)
    assert verify(wrap(path)).path == path


def test_a_relative_path_is_one_from_the_working_folder(random_file, monkeypatch):
    path = random_file(10)
    monkeypatch.chdir(os.path.dirname(path))
    assert checksum(os.path.basename(path)).path == sums_of(path)
    assert verify(os.path.basename(path))


def test_a_file_object_is_refused(random_file):
    with open(random_file(10), "rb") as file:
        for act in (checksum, verify):
            with pytest.raises(TypeError):
                act(file)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="FIFO"):
        checksum(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        checksum(tmp_path)
    with pytest.raises(FileNotFoundError):
        checksum(tmp_path / "none")
    assert names(tmp_path) == ["fifo"]


def test_the_file_itself_stays_as_it_is(random_file, content):
    path = random_file(10 * BLOCK)
    before, data = os.stat(path), content(path)
    os.chmod(path, 0o444)
    checksum(path)
    verify(path)
    after = os.stat(path)
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert content(path) == data


def test_new_checksums_replace_the_old_ones_at_once(random_file):
    path = random_file(10)
    checksum(path, algorithm="sha256")
    with open(sums_of(path), "rb") as old:
        before = old.read()
        flip(path, 3)
        assert not verify(path)
        checksum(path, algorithm="sha256")
        old.seek(0)
        assert old.read() == before
    assert verify(path)
    assert names(os.path.dirname(path)) == ["x.dat", "x.dat.checksums.json"]


def test_a_full_disk_leaves_the_old_checksums(tmp_path):
    with memory_disk(tmp_path / "disk", 1 << 20) as folder:
        path = os.path.join(folder, "x.dat")
        with open(path, "wb") as file:
            file.write(bytes(4 * BLOCK))
        checksum(path, algorithm="sha256")
        before = loaded(path)
        fill_up(folder)
        with pytest.raises(OSError, match="No space left") as caught:
            checksum(path, algorithm="sha512", block_nbytes=BLOCK)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, sums_of(path))
        assert loaded(path) == before
        assert names(folder) == ["filler", "x.dat", "x.dat.checksums.json"]


def test_the_result_shows_itself_in_a_line(random_file):
    sums = checksum(random_file(3 * BLOCK), algorithm="sha1", block_nbytes=BLOCK)
    assert repr(sums).startswith("Checksums('/")
    assert f"sha1 of 3 blocks of {BLOCK} bytes, {3 * BLOCK} in all: {sums.digest}" in repr(sums)


def test_equal_files_have_equal_digests_wherever_they_are(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"equal")
        os.utime(tmp_path / name, ns=(0, ord(name)))
    first, second = (checksum(tmp_path / name) for name in "ab")
    assert first.digest == second.digest


def test_only_the_data_of_a_raw_file_is_hashed(tmp_path):
    path = tmp_path / "x.bin"
    np.arange(40_000, dtype="<i4").tofile(path)
    sidecar = tmp_path / "x.bin.json"
    sidecar.write_text(json.dumps({"dtype": "<i4", "shape": [400, 100]}))
    checksum(path, block_nbytes=BLOCK)
    assert names(tmp_path) == ["x.bin", "x.bin.checksums.json", "x.bin.json"]
    sidecar.unlink()
    assert verify(path)


# What is found


def test_a_whole_file_is_true_and_shown_in_a_line(npy):
    checksum(npy, algorithm="sha256")
    found = verify(npy)
    assert found
    assert found.damages == ()
    assert repr(found) == str(found) == f"{npy!r} is whole: 1 block of 4194304 bytes (sha256)"


def test_rows_of_a_c_ordered_array_count_along_the_first_axis(npy):
    checksum(npy, block_nbytes=BLOCK)
    flip(npy, 128 + 800 * 500 + 3)
    (damage,) = verify(npy).damages
    block = (128 + 800 * 500) // BLOCK
    assert damage.blocks == range(block, block + 1)
    assert damage.bytes == range(block * BLOCK, (block + 1) * BLOCK)
    assert damage.rows == {"data": range((block * BLOCK - 128) // 800, -(-((block + 1) * BLOCK - 128) // 800))}
    assert 500 in damage.rows["data"]
    assert not damage.is_missing


def test_rows_of_a_fortran_ordered_array_count_along_the_last_axis(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(np.ones((100, 1000))))
    checksum(path, block_nbytes=BLOCK)
    flip(path, 128 + 800 * 700)
    (damage,) = verify(path).damages
    assert 700 in damage.rows["data"]
    assert len(damage.rows["data"]) <= BLOCK // 800 + 2


def test_exactly_the_rows_with_a_byte_in_the_damaged_blocks_are_told(tmp_path):
    """Against a count of rows one by one, for many shapes."""
    random = np.random.default_rng(7)
    for case in range(30):
        shape = tuple(int(size) for size in random.integers(1, 90, 3))
        order = "CF"[case % 2]
        path = tmp_path / f"{case}.npy"
        np.save(path, np.zeros(shape, "i8", order=order))
        checksum(path, block_nbytes=BLOCK, algorithm="md5")
        damaged = int(random.integers(128, os.path.getsize(path)))
        flip(path, damaged)
        block = range(damaged // BLOCK * BLOCK, min(damaged // BLOCK * BLOCK + BLOCK, os.path.getsize(path)))
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            _, is_fortran, _ = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        count = shape[-1 if is_fortran else 0]
        row = int(np.prod(shape)) * 8 // count
        rows = [n for n in range(count) if start + n * row < block.stop and start + (n + 1) * row > block.start]
        (found,) = verify(path).damages
        assert list(found.rows["data"]) == rows, (shape, order, damaged)


def test_rows_are_told_of_every_member_that_a_block_touches(tmp_path):
    path = tmp_path / "x.npz"
    arrays = {name: np.full((100, 64), ord(name), "f8") for name in "abcd"}
    np.savez(path, **arrays)
    checksum(path, block_nbytes=BLOCK)
    with open(path, "rb") as file:
        data = file.read()
    target = data.index(arrays["b"].tobytes())
    flip(path, target)
    (damage,) = verify(path).damages
    assert 0 in damage.rows["b"]
    block = target // BLOCK * BLOCK
    touched = {
        name
        for name, array in arrays.items()
        if data.index(array.tobytes()) < block + BLOCK and data.index(array.tobytes()) + array.nbytes > block
    }
    assert set(damage.rows) == touched


def test_compressed_members_have_no_rows(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(40_000))
    checksum(path, block_nbytes=BLOCK)
    flip(path, 2 * BLOCK)
    (damage,) = verify(path).damages
    assert damage.rows == {}
    assert damage.blocks == range(2, 3)


def test_a_scalar_is_one_row(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.float64(3))
    checksum(path)
    flip(path, 130)
    assert verify(path).damages[0].rows == {"data": range(1)}


def test_adjacent_blocks_are_one_damage(random_file):
    path = random_file(10 * BLOCK)
    checksum(path, block_nbytes=BLOCK)
    flip(path, 0, 3 * BLOCK, 4 * BLOCK + 7, 5 * BLOCK - 1, 5 * BLOCK, 9 * BLOCK)
    found = verify(path)
    assert [damage.blocks for damage in found.damages] == [range(1), range(3, 6), range(9, 10)]
    assert [damage.bytes for damage in found.damages] == [
        range(BLOCK),
        range(3 * BLOCK, 6 * BLOCK),
        range(9 * BLOCK, 10 * BLOCK),
    ]


def test_a_file_of_no_known_format_has_byte_ranges_only(random_file):
    path = random_file(3 * BLOCK)
    checksum(path, block_nbytes=BLOCK)
    flip(path, BLOCK)
    assert [damage.rows for damage in verify(path).damages] == [{}]


def test_a_file_with_a_damaged_header_has_byte_ranges_only(npy):
    checksum(npy, block_nbytes=BLOCK)
    flip(npy, 12, 5 * BLOCK)
    assert [damage.rows for damage in verify(npy).damages] == [{}, {}]


@pytest.mark.parametrize("left", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5, 10 * BLOCK])
def test_the_blocks_that_a_shorter_file_lacks_are_missing(random_file, left):
    path = random_file(10 * BLOCK + 100)
    checksum(path, block_nbytes=BLOCK)
    os.truncate(path, left)
    found = verify(path)
    assert not found
    assert (found.size, found.expected_size) == (left, 10 * BLOCK + 100)
    (damage,) = found.damages
    assert damage.is_missing
    assert damage.blocks == range(left // BLOCK, 11)
    assert damage.bytes == range(left // BLOCK * BLOCK, 10 * BLOCK + 100)
    assert f"{10 * BLOCK + 100 - left} shorter" in str(found)


def test_the_rows_that_a_shorter_file_lacks_are_told(npy):
    checksum(npy, block_nbytes=BLOCK)
    os.truncate(npy, 5 * BLOCK)
    (damage,) = verify(npy).damages
    assert damage.is_missing
    assert damage.rows == {"data": range((5 * BLOCK - 128) // 800, 1000)}


@pytest.mark.parametrize("more", [1, BLOCK, 5 * BLOCK])
def test_a_longer_file_is_not_whole_though_every_block_is(random_file, more):
    path = random_file(2 * BLOCK + 9)
    checksum(path, block_nbytes=BLOCK)
    with open(path, "ab") as file:
        file.write(bytes(more))
    found = verify(path)
    assert not found
    assert found.damages == ()
    assert f"{more} longer" in str(found)


def test_rows_of_a_file_that_grew_are_told(npy):
    checksum(npy, block_nbytes=BLOCK)
    flip(npy, 5 * BLOCK)
    with open(npy, "ab") as file:
        file.write(bytes(100))
    (damage,) = verify(npy).damages
    assert 450 in damage.rows["data"]


def test_damage_by_the_disk_and_writing_are_told_apart(random_file):
    path = random_file(100)
    checksum(path)
    flip(path, 5)
    assert not verify(path).was_written
    assert "nobody is known to have written" in str(verify(path))
    os.utime(path, ns=(1, 1))
    assert verify(path).was_written
    assert "somebody wrote to the file" in str(verify(path))


def test_damage_is_shown_as_a_short_table(npy):
    checksum(npy, block_nbytes=BLOCK, algorithm="sha256")
    flip(npy, 5 * BLOCK)
    assert str(verify(npy)).splitlines() == [
        f"{npy!r} is not what it was: 1 of 13 blocks of 65536 bytes (sha256) differ or are missing",
        "  blocks 5:6 differ: bytes 327680:393216, rows 409:492 of 'data'",
        "  nobody is known to have written to the file since it was hashed",
    ]


def test_the_table_stays_short_however_much_is_damaged(random_file):
    path = random_file(200 * BLOCK)
    checksum(path, block_nbytes=BLOCK)
    flip(path, *range(0, 200 * BLOCK, 2 * BLOCK))
    found = verify(path)
    assert len(found.damages) == 100
    assert len(str(found).splitlines()) < 30
    assert "and 80 more" in str(found)


def test_a_verification_can_be_pickled(npy):
    checksum(npy)
    flip(npy, 1000)
    found = verify(npy)
    assert pickle.loads(pickle.dumps(found)) == found


def test_missing_checksums_are_an_error_that_says_how_to_make_them(random_file):
    path = random_file(1)
    with pytest.raises(FileNotFoundError, match=r"ndfile\.checksum\(path\)") as caught:
        verify(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, sums_of(path))


# Broken and hostile checksums


def broken_texts(facts):
    """Names and contents of files of checksums that are none."""
    good = json.dumps(facts)
    yield "empty", b""
    yield "cut", good[:-5].encode()
    yield "not text", b"\xff\xfe" + good.encode()
    yield "not ascii", good.replace("sha256", "sha\u00e9").encode()
    yield "a list", b"[]"
    yield "a number", b"7"
    yield "null", b"null"
    yield "two documents", (good + good).encode()
    yield "deep", b"[" * 100_000
    yield "deep inside", b'{"a":' * 100_000
    yield "many empty lists", b"[" + b"[]," * 500_000 + b"[]]"
    yield "many zeros", b"[" + b"0," * 900_000 + b"0]"
    yield "a long number", b'{"size": ' + b"9" * 1_000_000 + b"}"
    yield "a long text", b'{"algorithm": "' + b"a" * 1_000_000 + b'"}'
    yield "too long", b" " * (SPARE_NBYTES + 100_000)
    yield "NaN", good.replace(str(facts["size"]), "NaN", 1).encode()
    changes = {
        "format": [None, "other", 7, ["ndfile.checksums"]],
        "version": [None, 0, 2, True, "1", 10**30, [], {}],
        "algorithm": [None, "md4", "", 7, [], {}, "x" * 5000, "sha512", "../sha256", "shake_128"],
        "block_nbytes": [
            None,
            0,
            -1,
            1,
            BLOCK - 1,
            BLOCK // 2,
            (1 << 30) + 1,
            2**64,
            10**400,
            65536.0,
            True,
            "65536",
            [],
        ],
        "size": [None, -1, 2**63, 10**300, 1.5, False, "9", [], facts["size"] + 1, facts["size"] - 1, 2**62, 0],
        "mtime_ns": [None, "now", 1.5, 2**80, True],
        "digest": [None, "", 7, "00" * 32, facts["digest"][:-2], facts["digest"].upper() + " ", [facts["digest"]]],
        "blocks": [None, [], {}, "", 7, facts["blocks"][:-1], [*facts["blocks"], "00" * 32], facts["blocks"][::-1]],
    }
    first = facts["blocks"][0]
    for name, text in {
        "number": 7,
        "null": None,
        "short": first[:-2],
        "long": first + "00",
        "odd": first[:-1],
        "no digits": "zz" * 32,
        "spaces": " " * 64,
        "not ascii": "\u0660" * 64,
        "list": [first],
        "other": "00" * 32,
    }.items():
        yield f"a digest: {name}", json.dumps(facts | {"blocks": [text, *facts["blocks"][1:]]}).encode()
    for name, values in changes.items():
        without = {key: value for key, value in facts.items() if key != name}
        yield f"no {name}", json.dumps(without).encode()
        for value in values:
            yield f"{name} {value!r:.40}", json.dumps(facts | {name: value}).encode()


def test_broken_checksums_are_a_format_error_with_their_path_at_once(random_file, content):
    path = random_file(3 * BLOCK)
    checksum(path, algorithm="sha256", block_nbytes=BLOCK)
    data = content(path)
    cases = dict(broken_texts(loaded(path)))
    assert len(cases) > 80
    for name, text in cases.items():
        with open(sums_of(path), "wb") as file:
            file.write(text)
        took_s, error = min((refusal(path) for _ in range(3)), key=lambda outcome: outcome[0])
        assert isinstance(error, FormatError), (name, error)
        assert error.path == sums_of(path), name
        assert len(str(error)) < 1000, name
        assert "ndfile.checksum(path)" in str(error), name
        assert took_s < 0.05, name
        assert content(sums_of(path)) == text
        assert content(path) == data


def refusal(path):
    start_s = time.process_time()
    try:
        verify(path)
    except (NdfileError, ValueError) as error:
        return time.process_time() - start_s, error
    return 0.0, None


def test_broken_checksums_take_little_memory(random_file):
    path = random_file(3 * BLOCK)
    checksum(path, algorithm="sha256", block_nbytes=BLOCK)
    for name, text in list(broken_texts(loaded(path))):
        with open(sums_of(path), "wb") as file:
            file.write(text)
        del text
        tracemalloc.start()
        assert isinstance(refusal(path)[1], FormatError), name
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20, name


def test_checksums_that_others_formatted_are_read(random_file):
    path = random_file(3 * BLOCK)
    checksum(path, block_nbytes=BLOCK)
    facts = loaded(path)
    for indent in (None, 2, 4):
        with open(sums_of(path), "w") as file:
            json.dump(dict(reversed(facts.items())) | {"comment": "kept"}, file, indent=indent)
        assert verify(path)


def test_checksums_of_a_large_file_that_was_cut_to_nothing_are_read(tmp_path):
    path = tmp_path / "x.dat"
    path.touch()
    os.truncate(path, 1 << 28)
    checksum(path, block_nbytes=BLOCK, algorithm="md5")
    os.truncate(path, 0)
    found = verify(path)
    assert found.damages[0].blocks == range(1 << 12)
    assert found.damages[0].is_missing


def test_checksums_that_are_no_regular_file_are_an_error(random_file):
    path = random_file(1)
    os.mkfifo(sums_of(path))
    with pytest.raises(OSError, match="FIFO"):
        verify(path)


# A file that does not hold still


def once(act):
    """A progress that does something to the file after the first block."""
    done = []

    def show(done_nbytes, total_nbytes):
        if done_nbytes and not done:
            done.append(True)
            act()

    return show


def write_byte(path):
    with open(path, "r+b") as file:
        file.write(b"!")
    os.utime(path, ns=(1, 1))


def replace(path):
    with open(f"{path}.new", "wb") as file:
        file.write(b"another")
    os.rename(f"{path}.new", path)


CHANGES = {
    "written": write_byte,
    "longer": lambda path: os.truncate(path, os.path.getsize(path) + 1),
    "cut": lambda path: os.truncate(path, BLOCK),
    "replaced": replace,
    "removed": os.unlink,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("act", [checksum, verify])
def test_a_file_that_changes_meanwhile_is_an_error_and_nothing_is_written(random_file, content, act, change):
    path = random_file(64 * BLOCK)
    checksum(path, block_nbytes=BLOCK)
    before = content(sums_of(path))
    arguments = {"block_nbytes": BLOCK} if act is checksum else {}
    with pytest.raises(OSError, match="The file changed while it was hashed") as caught:
        act(path, progress=once(lambda: change(path)), **arguments)
    assert (caught.value.errno, caught.value.filename) == (errno.ESTALE, path)
    assert content(sums_of(path)) == before
    assert not [name for name in names(os.path.dirname(path)) if name.startswith(".ndfile")]


def test_a_device_that_cannot_read_a_block_is_a_fault_that_names_the_byte(tmp_path):
    pages, blocks, bad = 64, 2048, 40
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "x.dat").write_bytes(b"\7" * (pages * PAGE))
    image = tmp_path / "image"
    make_image(image, blocks * PAGE, content=tmp_path / "content")
    move_page(image, "/x.dat", bad, blocks - 1)
    with mounted(tmp_path / "disk", "-o", "loop", image) as folder:
        os.truncate(image, (blocks - 1) * PAGE)
        path = str(folder / "x.dat")
        with pytest.raises(FaultError, match=f"could not read byte {bad * PAGE}") as caught:
            checksum(path)
        assert (caught.value.errno, caught.value.path, caught.value.offset) == (errno.EIO, path, bad * PAGE)
        assert names(folder) == ["lost+found", "x.dat"]


# Progress, interruption, threads


@pytest.mark.parametrize("act", [checksum, verify])
def test_progress_counts_every_byte_in_this_thread(random_file, act, monkeypatch):
    monkeypatch.setattr(hashing, "WINDOW_NBYTES", BLOCK)  # it is told window by window
    path = random_file(20 * BLOCK + 3)
    checksum(path, block_nbytes=BLOCK)
    calls, threads = [], set()

    def show(done, total):
        calls.append((done, total))
        threads.add(threading.get_ident())

    act(path, progress=show, **({"block_nbytes": BLOCK} if act is checksum else {}))
    done = [numbers[0] for numbers in calls]
    assert done == sorted(done)
    assert (calls[0], calls[-1]) == ((0, 20 * BLOCK + 3), (20 * BLOCK + 3, 20 * BLOCK + 3))
    assert len(calls) == 22
    assert threads == {threading.get_ident()}


def test_a_bar_names_the_file(random_file, capsys):
    path = random_file(BLOCK)
    checksum(path, progress=True)
    verify(path, progress=True)
    shown = capsys.readouterr().err
    assert "checksum x.dat" in shown
    assert "verify x.dat" in shown


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, SystemExit])
@pytest.mark.parametrize("act", [checksum, verify])
def test_what_a_callable_raises_ends_the_work_and_all_threads(random_file, act, kind):
    path = random_file(200 * BLOCK)
    checksum(path, block_nbytes=BLOCK)

    def stop(done, total):
        if done > 3 * BLOCK:
            raise kind

    threads = threading.enumerate()
    with pytest.raises(kind):
        act(path, progress=stop, **({"block_nbytes": BLOCK} if act is checksum else {}))
    assert threading.enumerate() == threads


@pytest.fixture
def heeds_ctrl_c():
    """A shell starts what it puts into the background with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_stops_at_once_and_leaves_nothing(tmp_path):
    path = tmp_path / "sparse.dat"
    path.touch()
    os.truncate(path, 1 << 40)  # hours
    threads, sent_s = threading.enumerate(), []

    def interrupt():
        sent_s.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        checksum(path, algorithm="sha512", block_nbytes=1 << 30)
    assert time.monotonic() - sent_s[0] < 60
    timer.join()
    assert threading.enumerate() == threads
    assert names(tmp_path) == ["sparse.dat"]


def test_the_result_does_not_depend_on_the_number_of_threads(random_file, monkeypatch):
    path = random_file(50 * BLOCK + 1)
    results = set()
    for count in (1, 2, 3, 16):
        monkeypatch.setattr(hashing, "_most_threads", lambda count=count: count)
        results.add(checksum(path, block_nbytes=BLOCK).digest)
    assert len(results) == 1


def test_threads_that_cannot_be_started_are_an_error_that_leaves_none(random_file, monkeypatch):
    # What `threading` starts a thread by has another name since CPython 3.13.
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    real, started = getattr(threading, name), []

    def start(*arguments, **options):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(True)
        return real(*arguments, **options)

    path = random_file(50 * BLOCK)
    threads = threading.enumerate()
    monkeypatch.setattr(threading, name, start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        checksum(path, block_nbytes=BLOCK)
    assert threading.enumerate() == threads


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "sparse.dat"
    path.touch()
    os.truncate(path, 256 << 20)
    most = hashing._most_threads() * hashing.PIECE_NBYTES + (1 << 20)
    tracemalloc.start()
    checksum(path, block_nbytes=64 << 20)
    checksum(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most
