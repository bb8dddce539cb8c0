"""The power cuts themselves: what is recorded is all there was, and what is wrong is found."""

import contextlib
import os
import zlib

import numpy as np
import pytest
from faulty import rounds
from power import SHAPE, arrays, changes, cut, first_state
from recorded_disk import SECTOR, recorded_disk, records_of

STATES = rounds(full=1000, short=100)
STEPS = 24

PAGE = 4096


def test_the_log_has_all_that_reached_the_device_and_a_flush_where_a_file_was_synced(tmp_path):
    with recorded_disk(tmp_path) as disk:
        before = disk.position
        with open(os.path.join(disk.folder, "x"), "wb", buffering=0) as file:
            file.write(b"7" * 100_000)
            os.fsync(file.fileno())
        after = disk.position
        os.sync()
        until = disk.position
        with open(disk.served, "rb") as file:
            device = file.read()
    records = records_of(disk.log)
    sevens = [int((one.data == ord("7")).all(axis=1).sum()) for one in records if before < one.end <= after]
    flushes = [not len(one.data) for one in records if before < one.end <= after]
    assert sum(sevens) == 100_000 // SECTOR
    assert any(flushes[max(np.flatnonzero(sevens)) :])
    replayed = np.frombuffer(bytearray(disk.before), "u1")
    for one in records:
        if one.end <= until:
            replayed[one.offset : one.offset + one.data.size] = one.data.reshape(-1)
    assert bytes(replayed) == device


def test_a_new_file_that_is_renamed_without_a_sync_is_lost_or_torn(tmp_path):
    """What many programs call an atomic save."""

    def work(folder, history):
        path, other = os.path.join(folder, "x.npy"), os.path.join(folder, "other")
        for number, array in enumerate(arrays(STEPS)):
            with history.step(array):
                np.save(f"{path}.new.npy", array)
                os.replace(f"{path}.new.npy", path)
                if not number:
                    os.sync()
            # Another program's sync puts the name on the disk, not the bytes.
            with open(other, "wb") as file:
                os.fsync(file.fileno())

    def look(folder):
        try:
            yield np.load(os.path.join(folder, "x.npy"))
        except (EOFError, ValueError):  # of nothing, or not enough
            yield np.empty(0)

    found = cut(tmp_path, work, look, STATES)
    assert found["lost"]
    assert found["torn"]


# ---- Changes in place ----


def raw(folder):
    with open(os.path.join(folder, "x.dat"), "rb") as file:
        yield np.frombuffer(file.read(), "i8").reshape(SHAPE)


@contextlib.contextmanager
def file_of(folder, history):
    """A file with the first state, on the disk."""
    path = os.path.join(folder, "x.dat")
    with history.step(first_state()):
        first_state().tofile(path)
        os.sync()
    with open(path, "r+b", buffering=0) as file:
        yield file


def in_place(folder, history):
    with file_of(folder, history) as file:
        array = np.memmap(file, "i8", "r+", shape=SHAPE)
        for state, rows in changes(first_state(), STEPS):
            with history.step(state):
                array[rows] = state[rows]
                array.flush()


def test_what_numpy_changes_in_place_is_torn(tmp_path):
    assert cut(tmp_path, in_place, raw, STATES)["torn"]


class Log:
    """The smallest log that can be right: pages are written there, then in place."""

    HEAD = np.dtype([("magic", "S8"), ("count", "i8"), ("checksum", "i8")])

    def __init__(self, log, file, without):
        self.log, self.file, self.without = log.fileno(), file.fileno(), without

    def sync(self, name, fd):
        if name not in self.without:
            os.fdatasync(fd)

    def checksum(self, records):
        return 0 if "checksum" in self.without else zlib.crc32(records)

    def commit(self, rows, pages):
        records = rows.tobytes() + pages.tobytes()
        head = np.array((b"complete", len(rows), self.checksum(records)), self.HEAD)
        os.pwrite(self.log, head.tobytes() + records, 0)
        self.sync("sync of the log", self.log)
        self.apply(rows, pages)

    def apply(self, rows, pages):
        for row, page in zip(rows, pages, strict=True):
            os.pwrite(self.file, page.tobytes(), int(row) * PAGE)
        self.sync("sync of the file", self.file)

    def recover(self):
        content = os.pread(self.log, 1 << 24, 0)
        if len(content) < self.HEAD.itemsize:
            return
        head = np.frombuffer(content, self.HEAD, 1)[0]
        records = content[self.HEAD.itemsize :][: int(head["count"]) * (8 + PAGE)]
        if head["magic"] == b"complete" and head["checksum"] == self.checksum(records):
            rows = np.frombuffer(records, "i8", head["count"])
            self.apply(rows, np.frombuffer(records, "i8", offset=rows.nbytes).reshape(-1, SHAPE[1]))


def logged(folder, without):
    """What cuts leave of changes that go through a log."""

    def work(folder, history):
        with file_of(folder, history) as file, open(os.path.join(folder, "log"), "w+b") as log:
            for state, rows in changes(first_state(), STEPS):
                with history.step(state):
                    Log(log, file, without).commit(rows, state[rows])

    def look(folder):
        with open(os.path.join(folder, "x.dat"), "r+b") as file, open(os.path.join(folder, "log"), "a+b") as log:
            Log(log, file, without).recover()
        return raw(folder)

    return cut(folder, work, look, STATES)


def test_a_right_log_passes(tmp_path):
    """Nothing is asked for that a disk does not give."""
    assert set(logged(tmp_path, without=())) == {"whole"}


@pytest.mark.parametrize("missing", ["sync of the log", "sync of the file", "checksum"])
def test_a_log_without_one_of_its_parts_is_torn(tmp_path, missing):
    assert logged(tmp_path, without=(missing,))["torn"]
