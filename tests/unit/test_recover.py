"""The journal of atomic blocks: where it lies, what one that was left pending means, and what a damaged one may do."""

import contextlib
import ctypes
import gc
import itertools
import os
import pathlib
import random
import shutil
import stat
import struct
import threading
import time

import numpy as np
import pytest
from atomic_tables import names
from faulty import PAGE, call, is_privileged, record, rounds
from growing import JOURNAL

import ndfile as nf
from ndfile.errors import LockedError, NdfileError, NeedsRecoveryError
from ndfile.files import locks

# docs/journal.md: the header, where the table begins and its entries, and where the data begins.
HEADER, ENTRY = struct.Struct("<QQqqQq"), struct.Struct("<QQII")
HEADER_NBYTES, TABLE = 512, 4096
MAGIC = b"NDFJRNL1"

# A row is a page long and lies on two: the file's header stands before the first.
OLD = np.arange(16 * PAGE // 8).reshape(16, PAGE // 8)
NEW = OLD.copy()
NEW[3] = NEW[9:11] = -1

DISCARDS = rounds(full=20000, short=1500)


@pytest.fixture
def file(tmp_path):
    """The path of a .npy of `OLD`."""
    path = str(tmp_path / "x.npy")
    np.save(path, OLD)
    return path


def change(array):
    array[3] = array[9:11] = -1


def bytes_of(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content):
    """Write to a file that stays the same one, and has no other content then."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
        file.write(content)
        file.truncate()


def parts_of(journal):
    """Where a journal's table ends, its data begins and its data ends."""
    count = HEADER.unpack_from(journal, 16)[4]
    table_end = TABLE + count * ENTRY.size
    data = -(-table_end // TABLE) * TABLE
    return table_end, data, data + sum(ENTRY.unpack_from(journal, TABLE + n * ENTRY.size)[1] for n in range(count))


def completed(journal):
    """What a journal was before it was overwritten at the end of its block, without the space behind it."""
    return MAGIC + journal[8 : parts_of(journal)[-1]]


def leave_pending(path, change=change):
    """Bring a file to where a block that changes it is complete in the journal, and nowhere else.

    Gives the file's bytes before and after, and the journal.
    """
    before = bytes_of(path)
    array = nf.open(path, "r+")
    with array.atomic():
        change(array)
    journal = completed(bytes_of(path + JOURNAL))
    array.close()
    after = bytes_of(path)
    assert before != after
    assert not os.path.exists(path + JOURNAL)
    write(path, before)
    write(path + JOURNAL, journal)
    return before, after, journal


@pytest.fixture
def pending(file):
    """The path of a .npy of `OLD` with a journal that makes `NEW` of it."""
    leave_pending(file)
    return file


# ---- Where it lies ----


def test_the_journal_is_there_from_the_first_block_until_the_array_is_closed(file):
    table = nf.open(file, "r+")
    assert names(file) == ["x.npy"]
    for _ in range(2):
        with table.atomic():
            table[0] += 1
        assert names(file) == ["x.npy", f"x.npy{JOURNAL}"]
    table.close()
    assert names(file) == ["x.npy"]


def test_between_blocks_the_journal_is_none(file):
    with nf.open(file, "r+") as table:
        for _ in range(2):
            with table.atomic():
                table[0] += 1
            assert bytes_of(file + JOURNAL)[:8] != MAGIC
            nf.open(file).close()


def test_the_journal_goes_with_the_last_view(file):
    table = nf.open(file, "r+")
    with table.atomic():
        table[0] = -1
    view = table[3:]
    del table
    gc.collect()
    assert names(file) == ["x.npy", f"x.npy{JOURNAL}"]
    del view
    gc.collect()
    assert names(file) == ["x.npy"]
    assert np.load(file)[0, 0] == -1


def test_the_journal_lies_beside_the_real_file(file, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    os.symlink(file, folder / "link.npy")
    with nf.open(folder / "link.npy", "r+") as table:
        with table.atomic():
            table[0] = -1
        assert os.listdir(folder) == ["link.npy"]
        assert os.path.exists(file + JOURNAL)
    assert np.load(file)[0, 0] == -1
    assert names(file) == ["links", "x.npy"]


def test_the_journal_lies_beside_the_file_wherever_the_program_has_gone(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with nf.open("x.npy", "r+") as table:
        monkeypatch.chdir("/")
        with table.atomic():
            table[0] = -1
        assert names(file) == ["x.npy", f"x.npy{JOURNAL}"]
    assert names(file) == ["x.npy"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_nobody_may_read_the_journal_who_may_not_read_the_file(file, mode):
    os.chmod(file, mode)
    with nf.open(file, "r+") as table:
        with table.atomic():
            table[0] = -1
        assert os.stat(file + JOURNAL).st_mode & 0o777 & ~mode == 0


def test_a_link_in_the_journals_place_is_not_followed(file, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 1000)
    os.symlink(victim, file + JOURNAL)
    with contextlib.suppress(OSError), nf.open(file, "r+") as table, table.atomic():
        table[:] = -1
    os.unlink(file + JOURNAL)
    with nf.open(file, "r+") as table:
        os.symlink(victim, file + JOURNAL)
        with contextlib.suppress(OSError), table.atomic():
            table[:] = -1
    assert victim.read_bytes() == b"precious" * 1000


def test_a_foreign_file_in_the_journals_place_is_a_journal_that_is_not_whole(file):
    write(file + JOURNAL, b"something else" * 1000)
    np.testing.assert_array_equal(nf.open(file), OLD)
    with nf.open(file, "r+") as table, table.atomic():
        change(table)
    np.testing.assert_array_equal(np.load(file), NEW)
    assert names(file) == ["x.npy"]


# ---- Opening with one pending ----


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_mode_that_only_reads_refuses_and_says_the_way_out(pending, mode):
    before = bytes_of(pending), bytes_of(pending + JOURNAL)
    with pytest.raises(NeedsRecoveryError, match="recover") as caught:
        nf.open(pending, mode)
    assert isinstance(caught.value, OSError)
    assert pending in str(caught.value)
    assert (bytes_of(pending), bytes_of(pending + JOURNAL)) == before


OPENINGS = {
    "open": lambda path: nf.open(path),
    "memmap": lambda path: nf.memmap(path, "i8", "r"),
    "memmap copying": lambda path: nf.memmap(path, "i8", "c"),
    "memmap with a shape": lambda path: nf.memmap(path, "i8", "r", shape=(3, 3)),
    "open_memmap": lambda path: nf.open_memmap(path, "r"),
}


@pytest.mark.parametrize("opened", OPENINGS.values(), ids=OPENINGS)
def test_every_way_to_read_refuses(pending, opened):
    with pytest.raises(NeedsRecoveryError):
        opened(pending)
    nf.recover(pending)
    opened(pending).close()


def test_the_way_out_leads_out(pending):
    assert nf.recover(pending) == "replayed"
    np.testing.assert_array_equal(nf.open(pending), NEW)
    assert names(pending) == ["x.npy"]
    assert nf.recover(pending) is None


def test_opening_to_write_replays(pending):
    with nf.open(pending, "r+") as table:
        np.testing.assert_array_equal(table, NEW)
        np.testing.assert_array_equal(np.load(pending), NEW)
        np.testing.assert_array_equal(nf.open(pending), NEW)
    assert names(pending) == ["x.npy"]


def test_numpys_signature_replays_too(pending):
    with nf.memmap(pending, "i8", "r+", 128, OLD.shape) as table:
        np.testing.assert_array_equal(table, NEW)
    assert names(pending) == ["x.npy"]


def test_a_new_file_in_its_place_has_no_journal(pending):
    nf.create(pending, (3,), "i8", overwrite=True).close()
    assert nf.open(pending).tolist() == [0, 0, 0]
    assert nf.recover(pending) in (None, "discarded")
    assert nf.open(pending).tolist() == [0, 0, 0]
    assert names(pending) == ["x.npy"]


def test_info_works_and_says_so(pending):
    about = nf.info(pending)
    assert about.shape == OLD.shape
    assert any("recover" in note for note in about.notes)
    nf.recover(pending)
    assert nf.info(pending).notes == ()


def test_a_link_leads_to_the_journal_of_the_real_file(pending, tmp_path):
    link = tmp_path / "link.npy"
    os.symlink(pending, link)
    with pytest.raises(NeedsRecoveryError):
        nf.open(link)
    assert nf.recover(link) == "replayed"
    np.testing.assert_array_equal(nf.open(link), NEW)


@pytest.mark.parametrize("wrap", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_recover_takes_paths_of_every_kind(pending, wrap):
    assert nf.recover(wrap(pending)) == "replayed"


GROWTHS = {
    "append": lambda a: a.append(OLD),
    "append to what was changed": lambda a: (change(a), a.append(OLD[:3])),
    "shrink": lambda a: a.resize(5),
    "shrink and change": lambda a: (a.resize(12), change(a)),
    "one page": lambda a: a.__setitem__((3, 3), -1),
    "all": lambda a: a.fill(-1),
    "much": lambda a: (a.resize(1000), a.fill(-1)),
}


@pytest.mark.parametrize("grow", GROWTHS.values(), ids=GROWTHS)
def test_a_replay_gives_what_the_commit_would_have_given(file, grow):
    _, after, _ = leave_pending(file, grow)
    assert nf.recover(file) == "replayed"
    assert bytes_of(file) == after


@pytest.mark.parametrize("grow", GROWTHS.values(), ids=GROWTHS)
def test_a_replay_of_what_was_applied_in_part_gives_the_same(file, grow):
    before, after, journal = leave_pending(file, grow)
    random.seed(0)
    for _ in range(20):
        # Some pages are the new ones, some the old ones, and the file has any of the sizes on the way.
        size = random.choice([len(before), len(after), max(len(before), len(after))])
        content = bytearray(before.ljust(size, b"\0")[:size])
        for start in range(0, size, PAGE):
            end = min(start + PAGE, size)
            if random.random() < 0.5:
                content[start:end] = after[start:end].ljust(end - start, b"\0")
        write(file, content)
        write(file + JOURNAL, journal)
        assert nf.recover(file) == "replayed"
        assert bytes_of(file) == after


def test_a_replay_that_was_itself_interrupted_is_made_again(pending):
    journal = bytes_of(pending + JOURNAL)
    for _ in range(3):
        write(pending + JOURNAL, journal)
        assert nf.recover(pending) == "replayed"
        np.testing.assert_array_equal(np.load(pending), NEW)


# ---- With a writer that lives ----


def test_a_living_writer_is_not_recovered_from(file):
    with nf.open(file, "r+") as table, table.atomic():
        change(table)
        with pytest.raises(LockedError):
            nf.recover(file)
    np.testing.assert_array_equal(np.load(file), NEW)


def test_a_file_with_a_living_writer_is_opened_in_every_mode(file):
    with nf.open(file, "r+") as table:
        with table.atomic():
            change(table)
        for mode in ("r", "c", "r+"):
            np.testing.assert_array_equal(nf.open(file, mode), NEW)
        with table.atomic():
            table[0] = -1
            for mode in ("r", "c", "r+"):
                np.testing.assert_array_equal(nf.open(file, mode), NEW)


@contextlib.contextmanager
def locked(path):
    """Hold the lock that a writer holds."""
    fd = os.open(path, os.O_RDWR)
    try:
        locks.take(fd, "exclusive", 0, path)
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_opening_waits_while_a_writer_brings_its_block_into_the_file(pending, mode):
    opened = []
    thread = threading.Thread(target=lambda: opened.append(np.array(nf.open(pending, mode))))
    with locked(pending):
        thread.start()
        time.sleep(0.1)
        assert not opened
        with open(pending, "r+b") as file:
            np.save(file, NEW)
        with open(pending + JOURNAL, "r+b") as journal:
            journal.write(bytes(8))
    thread.join(20)
    np.testing.assert_array_equal(opened[0], NEW)


def test_who_waited_for_a_writer_that_died_is_told_the_way_out(pending):
    errors = []

    def open_and_see():
        try:
            nf.open(pending)
        except NeedsRecoveryError as error:
            errors.append(error)

    thread = threading.Thread(target=open_and_see)
    with locked(pending):
        thread.start()
        time.sleep(0.1)
        assert errors == []
    thread.join(20)
    assert len(errors) == 1


# ---- Journals that are not whole ----


def assert_old(path):
    """It opens as it was before the block, in every mode, and a new block works."""
    for mode in ("r", "c"):
        np.testing.assert_array_equal(nf.open(path, mode), OLD)
    with nf.open(path, "r+") as table:
        np.testing.assert_array_equal(table, OLD)
        with table.atomic():
            change(table)
    np.testing.assert_array_equal(np.load(path), NEW)
    assert names(path) == ["x.npy"]


@pytest.mark.parametrize("nbytes", [0, 1, 8, 511, 512, 4095, 4096, 4119, 4120, 8191, 8192, 9000])
def test_a_journal_that_was_cut_is_as_none(file, nbytes):
    _, _, journal = leave_pending(file)
    assert nbytes < len(journal)
    write(file + JOURNAL, journal[:nbytes])
    assert nf.info(file).shape == OLD.shape
    assert_old(file)


def test_recover_discards_a_journal_that_was_cut_anywhere(file):
    before, _, journal = leave_pending(file)
    for nbytes in sorted({*range(0, len(journal), len(journal) // 300), len(journal) - 1}):
        write(file + JOURNAL, journal[:nbytes])
        assert nf.recover(file) == "discarded"
        assert bytes_of(file) == before
        assert not os.path.exists(file + JOURNAL)


def meant(journal):
    """The bytes of a journal that mean something: not those between its parts."""
    table_end, data, end = parts_of(journal)
    return {*range(HEADER_NBYTES), *range(TABLE, table_end), *range(data, end)}


def test_what_stands_behind_the_data_means_nothing(file):
    _, after, journal = leave_pending(file)
    for behind in (b"\0", b"\xff" * 9000, journal):
        write(file + JOURNAL, journal + behind)
        assert nf.recover(file) == "replayed"
        assert bytes_of(file) == after


def test_a_byte_that_was_flipped_anywhere_discards_the_whole(file):
    started = time.monotonic()
    before, after, journal = leave_pending(file)
    places = meant(journal)
    random.seed(0)
    flipped = [*range(HEADER_NBYTES), *range(TABLE, TABLE + 100), *range(len(journal))]
    flipped = flipped if len(flipped) <= DISCARDS else [*flipped[:612], *random.sample(flipped, DISCARDS - 612)]
    for place in flipped:
        damaged = bytearray(journal)
        damaged[place] ^= random.randrange(1, 256)
        write(file + JOURNAL, damaged)
        result = nf.recover(file)
        assert (place, result) == (place, "discarded" if place in places else "replayed")
        assert bytes_of(file) == (before if place in places else after)
        if place not in places:
            write(file, before)
    record("flipped-journal-bytes", started, flips=len(flipped), journal_nbytes=len(journal))


@pytest.mark.parametrize("place", [0, 9, 13, 20, 30, 35, 45, 50, 300, 4097, 4110, 4116, -1, -PAGE])
def test_a_byte_that_was_flipped_is_no_journal_for_opening_either(file, place):
    _, _, journal = leave_pending(file)
    damaged = bytearray(journal)
    damaged[place] ^= 0x10
    write(file + JOURNAL, damaged)
    assert_old(file)


def test_a_sector_that_never_reached_the_disk_discards_the_whole(file):
    before, _, journal = leave_pending(file)
    for start in range(0, len(journal), 512):
        if not any(journal[start : start + 512]):
            continue
        write(file + JOURNAL, journal[:start] + bytes(512) + journal[start + 512 :])
        assert nf.recover(file) == "discarded"
        assert bytes_of(file) == before


# ---- Journals of other files ----


def assert_foreign(path, content):
    """No mode opens it and nothing is done to it, until it is said what it is."""
    before = bytes_of(path)
    for act in (nf.open, lambda path: nf.open(path, "c"), lambda path: nf.open(path, "r+"), nf.recover):
        with pytest.raises(NeedsRecoveryError, match="copied") as caught:
            act(path)
        assert caught.value.is_foreign
    assert nf.info(path).shape == content.shape
    assert bytes_of(path) == before
    np.testing.assert_array_equal(np.load(path), content)


def test_a_journal_of_another_file_is_not_applied(pending, tmp_path):
    other = str(tmp_path / "y.npy")
    np.save(other, OLD)
    os.rename(pending + JOURNAL, other + JOURNAL)
    assert_foreign(other, OLD)
    assert nf.recover(other, copied=False) == "discarded"
    np.testing.assert_array_equal(nf.open(other), OLD)
    np.testing.assert_array_equal(nf.open(pending), OLD)
    assert names(pending) == ["x.npy", "y.npy"]


def test_a_file_that_was_copied_with_its_journal_can_be_recovered(pending, tmp_path):
    other = str(tmp_path / "y.npy")
    shutil.copy(pending, other)
    shutil.copy(pending + JOURNAL, other + JOURNAL)
    assert_foreign(other, OLD)
    assert nf.recover(other, copied=True) == "replayed"
    np.testing.assert_array_equal(nf.open(other), NEW)
    assert nf.recover(pending) == "replayed"
    np.testing.assert_array_equal(nf.open(pending), NEW)
    assert names(pending) == ["x.npy", "y.npy"]


def test_a_file_that_was_renamed_with_its_journal_is_the_same_one(pending, tmp_path):
    other = str(tmp_path / "y.npy")
    os.rename(pending, other)
    os.rename(pending + JOURNAL, other + JOURNAL)
    assert nf.recover(other) == "replayed"
    np.testing.assert_array_equal(nf.open(other), NEW)


def test_a_journal_of_a_file_that_was_replaced_is_not_applied(pending, tmp_path):
    np.save(tmp_path / "y.npy", OLD + 1)
    os.replace(tmp_path / "y.npy", pending)
    assert_foreign(pending, OLD + 1)
    assert nf.recover(pending, copied=False) == "discarded"
    np.testing.assert_array_equal(nf.open(pending), OLD + 1)
    assert names(pending) == ["x.npy"]


def test_a_journal_of_a_file_that_was_removed_is_not_applied_to_the_next_of_its_number(file, tmp_path):
    # Many file systems give the number of a removed file to the next one that is made.
    leave_pending(file)
    before = os.stat(file).st_ino
    os.unlink(file)
    for number in itertools.count():
        np.save(file, OLD + 1)
        if os.stat(file).st_ino == before:
            break
        if number == 200:
            pytest.skip("this file system gives no number twice")
        os.rename(file, tmp_path / f"{number}.npy")
    assert_foreign(file, OLD + 1)


def test_a_journal_is_not_applied_to_a_file_of_a_size_that_its_block_cannot_have_left(pending):
    # The same file with another content, as numpy.save writes it.
    for other in (OLD[:5], np.concatenate([OLD, OLD])):
        with open(pending, "wb") as same:
            np.save(same, other)
        assert_foreign(pending, other)


def test_a_file_that_is_not_there_has_nothing_to_recover(file):
    leave_pending(file)
    os.unlink(file)
    with pytest.raises(FileNotFoundError):
        nf.recover(file)
    assert names(file) == [f"x.npy{JOURNAL}"]


def make_link(path):
    os.symlink("x.npy", path)


STRANGE = {"folder": os.mkdir, "pipe": os.mkfifo, "link": make_link, "dangling link": lambda p: os.symlink("no", p)}


def open_and_recover(path):
    """What opening and recovering say, in the order in which they are tried."""
    said = []
    for act in (lambda: nf.open(path).close(), lambda: nf.recover(path), lambda: nf.open(path, "r+").close()):
        try:
            said.append(repr(act()))
        except (OSError, NdfileError) as error:
            said.append(type(error).__name__)
    return said


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_what_is_no_file_in_the_journals_place_neither_hangs_nor_harms(file, make):
    make(file + JOURNAL)
    call(open_and_recover, file, timeout_s=30).result()
    np.testing.assert_array_equal(np.load(file), OLD)


@contextlib.contextmanager
def reachable(path):
    """Let everybody through the folders above, which pytest keeps to their owner."""
    changed = [(above, stat.S_IMODE(above.stat().st_mode)) for above in pathlib.Path(path).parents]
    changed = [(above, mode) for above, mode in changed if mode & 0o111 != 0o111]
    for above, mode in changed:
        above.chmod(mode | 0o111)
    try:
        yield
    finally:
        for above, mode in changed:
            above.chmod(mode)


def as_somebody_else(path):
    """What opening to read and recovering say to one who may not write the file."""
    with contextlib.suppress(OSError):  # what is imported at the first time
        nf.open(path)
    os.seteuid(65534)
    said = []
    for act in (nf.open, nf.recover):
        try:
            act(path)
        except OSError as error:
            said.append(type(error).__name__)
    os.seteuid(0)
    return said


PRIVILEGED = pytest.mark.skipif(not is_privileged(), reason="only root can play somebody else")


@PRIVILEGED
def test_a_file_that_may_only_be_read_can_be_told_of_but_not_recovered(pending):
    os.chmod(pending, 0o644)
    os.chmod(pending + JOURNAL, 0o644)
    with reachable(pending):
        assert call(as_somebody_else, pending).result() == ["NeedsRecoveryError", "PermissionError"]
    np.testing.assert_array_equal(np.load(pending), OLD)


@PRIVILEGED
def test_a_journal_that_may_not_be_read_is_not_taken_for_none(pending):
    os.chmod(pending, 0o666)
    os.chmod(pending + JOURNAL, 0)
    with reachable(pending):
        assert call(as_somebody_else, pending).result() == ["PermissionError", "PermissionError"]
    np.testing.assert_array_equal(np.load(pending), OLD)
    assert nf.recover(pending) == "replayed"


# ---- Journals that somebody made ----


def crc32c(content):
    """CRC-32C as in RFC 3720, appendix B.4, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def born_ns(path):
    """When a file was made, which os.stat does not tell: stx_mask, and the time at bytes 80 and 88 of struct statx."""
    found, at_cwd, wanted = ctypes.create_string_buffer(256), -100, 0x800
    assert ctypes.CDLL(None).statx(at_cwd, os.fsencode(path), 0, wanted, found) == 0
    mask, seconds, nanoseconds = (*struct.unpack_from("I", found), *struct.unpack_from("qI", found, 80))
    return seconds * 10**9 + nanoseconds if mask & wanted else 0


def journal_of(path, changes, size_after, **others):
    """A journal for a file as docs/journal.md specifies it. `others` replace fields of its header."""
    status = os.stat(path)
    entries = b"".join(ENTRY.pack(place, len(data), crc32c(data), 0) for place, data in changes)
    facts = {"sequence": 1, "inode": status.st_ino, "before": status.st_size, "after": size_after}
    facts = facts | {"count": len(changes), "born": born_ns(path)} | others
    fields = struct.pack("<I", crc32c(entries)) + HEADER.pack(*facts.values())
    covered = fields.ljust(HEADER_NBYTES - 12, b"\0")
    head = MAGIC + struct.pack("<I", crc32c(covered)) + covered
    filled = head.ljust(TABLE, b"\0") + entries
    return filled.ljust(-(-len(filled) // TABLE) * TABLE, b"\0") + b"".join(data for _, data in changes)


def test_the_checksum_is_the_one_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_a_journal_made_by_the_specification_is_replayed(file):
    before = bytes_of(file)
    changes = [(0, before[:128]), (128, b"abc"), (PAGE + 5, bytes(range(256)) * 20), (len(before) - 1, b"z")]
    write(file + JOURNAL, journal_of(file, changes, len(before)))
    with pytest.raises(NeedsRecoveryError):
        nf.open(file)
    assert nf.recover(file) == "replayed"
    after = bytearray(before)
    for place, data in changes:
        after[place : place + len(data)] = data
    assert bytes_of(file) == after


def test_a_commit_writes_the_journal_of_the_specification(file):
    _, after, journal = leave_pending(file)
    sequence, inode, before, size, count, born = HEADER.unpack_from(journal, 16)
    assert (inode, before, size, born) == (os.stat(file).st_ino, len(after), len(after), born_ns(file))
    place, changes = parts_of(journal)[1], []
    for number in range(count):
        offset, nbytes, checksum, nothing = ENTRY.unpack_from(journal, TABLE + number * ENTRY.size)
        data = journal[place : place + nbytes]
        assert (crc32c(data), data, nothing) == (checksum, after[offset : offset + nbytes], 0)
        changes.append((offset, data))
        place += nbytes
    assert journal[:place] == journal_of(file, changes, size, sequence=sequence)
    assert sum(len(data) for _, data in changes) == 5 * PAGE


HUGE = 1 << 62

# Facts that a checksum makes right and sense does not.
FACTS = {
    "a count of nothing": {"count": 0},
    "a count of more": {"count": 2},
    "a count of far more": {"count": HUGE},
    "a count that is too large for its table": {"count": (1 << 64) // 24 + 1},
    "the largest count": {"count": (1 << 64) - 1},
    "a negative size": {"after": -1},
    "a huge size": {"after": HUGE},
    "the largest size": {"after": (1 << 63) - 1},
    "no size": {"after": 0},
    "a negative size before": {"before": -1},
    "another number": {"inode": 1},
    "another time": {"born": 1},
    "a time that is not known": {"born": 0},
}
PLACES = {
    "behind the end": HUGE,
    "a little behind the end": 1 << 30,
    "negative": (1 << 64) - 5,
    "the largest": (1 << 64) - 1,
    "the largest signed": (1 << 63) - 1,
    "almost": (1 << 63) - 3,
}


def recovered_or_refused(path):
    with contextlib.suppress(OSError, NdfileError):
        nf.open(path).close()
    try:
        return nf.recover(path)
    except (OSError, NdfileError) as error:
        return type(error).__name__


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_facts_without_sense_do_no_harm(file, facts):
    before = bytes_of(file)
    write(file + JOURNAL, journal_of(file, [(128, b"abcd")], len(before), **facts))
    result = recovered_or_refused(file)
    if result == "replayed":
        assert facts in (FACTS["no size"], FACTS["a negative size before"], FACTS["a count of nothing"])
    else:
        assert bytes_of(file) == before


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_places_outside_of_the_file_do_no_harm(file, place):
    before = bytes_of(file)
    write(file + JOURNAL, journal_of(file, [(128, b"abcd"), (place, b"abcd")], len(before)))
    assert recovered_or_refused(file) != "replayed"
    assert bytes_of(file) == before


# ---- Archives and bare files ----


def test_an_archive_with_one_pending_is_recovered_as_a_whole(tmp_path):
    path = str(tmp_path / "w.safetensors")
    nf.save(path, {"kernel": OLD, "bias": np.arange(5)})
    before = bytes_of(path)
    with nf.open(path, "r+") as archive:
        with archive["kernel"].atomic():
            archive["bias"][:] = archive["kernel"][3] = -1
        journal = completed(bytes_of(path + JOURNAL))
    write(path, before)
    write(path + JOURNAL, journal)
    with pytest.raises(NeedsRecoveryError):
        nf.open(path)
    with nf.open(path, "r+") as archive:
        assert archive["bias"].tolist() == [-1] * 5
        assert (archive["kernel"][3] == -1).all()
    assert names(path) == ["w.safetensors"]


def test_a_bare_file_that_was_to_grow_has_its_new_rows_when_it_is_opened(tmp_path):
    path = str(tmp_path / "x.dat")
    OLD.tofile(path)
    before = bytes_of(path)
    with nf.memmap(path, "i8", "r+", shape=OLD.shape) as table:
        with table.atomic():
            table.append(OLD)
        journal = completed(bytes_of(path + JOURNAL))
    write(path, before)
    write(path + JOURNAL, journal)
    with nf.memmap(path, "i8", "r+") as items:
        np.testing.assert_array_equal(items.reshape(OLD.shape[0] * 2, -1), np.concatenate([OLD, OLD]))
    assert names(path) == ["x.dat"]


def test_a_program_that_was_killed_before_its_first_commit_leaves_nothing_to_recover(file):
    call(kill_myself, file)
    np.testing.assert_array_equal(nf.open(file), OLD)
    assert nf.recover(file) in (None, "discarded")
    assert names(file) == ["x.npy"]


def kill_myself(path):
    table = nf.open(path, "r+")
    table.atomic().__enter__()
    change(table)
    os.kill(os.getpid(), 9)
