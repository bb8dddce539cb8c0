"""The model of pending sectors: what it takes for pending is so, and a journal that lacks something fails in it."""

import contextlib
import itertools
import mmap
import os
import pathlib
import random
import struct
import zlib

import numpy as np
import pytest
from faulty import PAGE, call
from pending import BUDGET, Campaign, Promise, Recorder, compiled_recorder, folder_in_memory, taken
from sectors import SECTOR, cuts


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    return compiled_recorder(tmp_path_factory.mktemp("recorder"))


# ---- The model ----


def two_stores(path):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"a", 0)
    os.pwrite(fd, b"b", SECTOR)
    os.close(fd)


def stores_around_a_sync(path):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"a", 0)
    os.fdatasync(fd)
    os.pwrite(fd, b"b", 0)
    os.pwrite(fd, b"c", 0)
    os.close(fd)


def mapped_stores(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = mapped[PAGE] = ord("a")
        mapped.flush(0, PAGE)


def growth(path):
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"a", 2 * PAGE)
    os.close(fd)


def growth_that_is_synced(path):
    growth(path)
    fd = os.open(path, os.O_RDWR)
    os.fdatasync(fd)
    os.close(fd)


def a_name_without_its_folder(path):
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"a")
    os.fsync(fd)
    os.close(fd)
    os.rename(path + ".new", path)


# What is done to a file of two pages of zeros, and what may be there at the end: its size, and where it is no zero.
PENDING = {
    two_stores: [(2 * PAGE, ""), (2 * PAGE, "0a"), (2 * PAGE, "512b"), (2 * PAGE, "0a 512b")],
    stores_around_a_sync: [(2 * PAGE, "0a"), (2 * PAGE, "0b"), (2 * PAGE, "0c")],
    mapped_stores: [(2 * PAGE, "0a"), (2 * PAGE, "0a 4096a")],
    growth: [(2 * PAGE, ""), (2 * PAGE + 1, ""), (2 * PAGE + 1, "8192a")],
    growth_that_is_synced: [(2 * PAGE + 1, "8192a")],
    a_name_without_its_folder: [(2 * PAGE, ""), (1, "0a")],
}


def pending_after(folder, name):
    act = {act.__name__: act for act in PENDING}[name]
    path = os.path.join(folder, "files", "x")
    os.mkdir(os.path.dirname(path))
    pathlib.Path(path).write_bytes(bytes(2 * PAGE))
    recording = Recorder(folder).of(os.path.dirname(path), act, path)
    contents = [
        cut.files["x"] for cut in cuts(recording, BUDGET, random.Random(1)) if cut.moment == len(recording.steps)
    ]
    return sorted({(len(one), " ".join(f"{at}{one[at]:c}" for at in np.flatnonzero(list(one)))) for one in contents})


@pytest.mark.parametrize("act", PENDING)
def test_what_is_pending_is_what_no_sync_came_after(recorder, tmp_path, act):
    seen = call(pending_after, str(tmp_path), act.__name__, environment={"LD_PRELOAD": recorder}).result()
    assert [tuple(one) for one in seen] == sorted(PENDING[act])


def all_ways(path):
    """Each way to change the files of a folder that is recorded."""
    with open(path, "r+b", buffering=0) as file, mmap.mmap(file.fileno(), 0) as mapped:
        yield file.write(b"write")
        yield os.writev(file.fileno(), [b"wri", b"tev"])
        yield os.pwrite(file.fileno(), b"pwrite", 3 * SECTOR)
        yield os.pwritev(file.fileno(), [b"pwri", b"tev"], 4 * SECTOR)
        yield mapped.__setitem__(PAGE, 1)
        yield os.posix_fallocate(file.fileno(), 0, 3 * PAGE)
        yield os.ftruncate(file.fileno(), 5 * SECTOR + 7)
    yield pathlib.Path(path + ".other").write_bytes(b"open")
    yield os.link(path, path + ".link")
    yield os.rename(path + ".link", path + ".renamed")
    yield os.unlink(path)
    yield os.replace(path + ".other", path)
    yield pathlib.Path(path).write_bytes(b"truncated")


def follow_all_ways(folder):
    """How often the model's files were those of the folder, where nothing was lost and a remark was made after each."""
    path = os.path.join(folder, "files", "x")
    os.mkdir(os.path.dirname(path))
    pathlib.Path(path).write_bytes(bytes(2 * PAGE))
    recorder, seen = Recorder(folder), []

    def act():
        for _ in all_ways(path):
            seen.append(taken(os.path.dirname(path)))
            recorder.mark(b"done")

    recording = recorder.of(os.path.dirname(path), act)
    states = [[] for _ in seen]
    for cut in cuts(recording, BUDGET, random.Random(1)):
        if len(cut.marks) < len(seen):
            states[len(cut.marks)].append(cut.files)
    return [was in among for was, among in zip(seen, states, strict=True)]


def test_if_nothing_is_lost_the_model_has_the_files_as_they_are(recorder, tmp_path):
    assert call(follow_all_ways, str(tmp_path), environment={"LD_PRELOAD": recorder}).result() == [True] * 13


# ---- The controls: a journal as small as can be ----


class Tiny:
    """A file of numbers with a redo journal. `without` is what its writer forgets."""

    def __init__(self, path, without):
        self.path = path
        self.without = without

    def commit(self, changes):
        body = b"".join(struct.pack("=QQ", 8 * place, value) for place, value in changes.items())
        head = struct.pack("=8sQQ", b"complete", len(body), zlib.crc32(body))
        file = os.open(self.path, os.O_RDWR)
        journal = os.open(self.path + ".journal", os.O_RDWR | os.O_CREAT)
        os.pwrite(journal, body, SECTOR)
        os.pwrite(journal, head, 0)
        self.sync("journal", journal)
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
        self.sync("folder", folder)
        apply(file, body)
        self.sync("file", file)
        os.pwrite(journal, bytes(8), 0)
        for fd in (file, journal, folder):
            os.close(fd)

    def sync(self, what, fd):
        if what not in self.without:
            os.fsync(fd)

    def recover(self):
        with contextlib.suppress(FileNotFoundError), open(self.path + ".journal", "r+b") as journal:
            magic, size, checksum = struct.unpack("=8sQQ", journal.read(24).ljust(24, b"\0"))
            journal.seek(SECTOR)
            body = journal.read(size)
            if magic == b"complete" and ("checksum" in self.without or zlib.crc32(body) == checksum):
                with open(self.path, "r+b") as file:
                    apply(file.fileno(), body)
                    os.fsync(file.fileno())
                journal.seek(0)
                journal.write(bytes(8))
        return np.fromfile(self.path, "=u8")


def apply(file, body):
    for offset, value in struct.iter_unpack("=QQ", body):
        os.pwrite(file, struct.pack("=Q", value), offset)


def commit_twice(path, promise, without):
    value = promise.values[0]
    for turn in (1, 2):
        # More than a sector of the journal, in some sectors of the file.
        changes = dict.fromkeys(range(turn, 256, 5), turn)
        value = value.copy()
        value[list(changes)] = turn
        with promise.step(value):
            Tiny(path, without).commit(changes)


def examine_tiny(folder, without):
    """The problems of a writer that forgets something, and the syncs that matter to it."""
    recorder, first = Recorder(folder), np.zeros(256, "=u8")
    with folder_in_memory(folder) as place:
        path = os.path.join(place, "x.bin")
        first.tofile(path)
        promise = Promise(path, first, recorder.mark)
        recording = recorder.of(place, commit_twice, path, promise, without)
        campaign = Campaign(place, "x.bin", recorder, lambda _, __: (Tiny(path, without).recover(), False))
        problems = list(itertools.islice(campaign.problems(recording, promise.verdict), 3))
        return [problems, *([] if problems else campaign.syncs_that_matter(recording, promise.verdict))]


def test_a_right_journal_passes_and_its_syncs_matter(recorder, tmp_path):
    seen = call(examine_tiny, str(tmp_path), [], environment={"LD_PRELOAD": recorder}).result()
    problems, matter, rest, _ = seen
    assert problems == []
    first = ["fsync x.bin.journal 1", "fsync folder 1", "fsync x.bin 1"]
    assert matter == [*first, "fsync x.bin.journal 2", "fsync x.bin 2"]
    assert rest == ["fsync folder 2"]  # the journal has had its name since the first commit


@pytest.mark.parametrize("forgotten", ["journal", "folder", "file", "checksum"])
def test_a_journal_that_lacks_something_fails(recorder, tmp_path, forgotten):
    problems, *_ = call(examine_tiny, str(tmp_path), [forgotten], environment={"LD_PRELOAD": recorder}).result()
    assert problems
