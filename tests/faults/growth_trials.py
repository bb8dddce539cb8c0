"""Trials of files that grow or are changed all at once; what is judged each time.

What was raised, the array and its views in memory, the file as a plain reader has it, the file as whoever opens it
after a crash at this moment has it, the space it takes, the files beside it, and the array's further use.
"""

import contextlib
import errno
import os

import growing
import numpy as np
from failing import Failure, Trial, describe, told_by
from growing import ACTS, PENDING, commit, rows, status_of

import ndfile as nf

__all__ = ["Acting", "Creating", "Naive", "Recovering", "Refreshing", "open_to_read", "open_to_write", "recover"]

# A block of a page more or less is the file system's own affair.
SLACK_BLOCKS = 8


class Acting(Trial):
    """Something is done with an open array."""

    def __init__(self, act, kind, folder, failure, shim):
        super().__init__(kind, folder, failure, shim)
        self.act = act

    def opened(self):
        return self.kind.open(self.path)

    def go(self):
        kind, act = self.kind, self.act
        kind.make(self.path, act.made)
        array = self.opened()
        if act.before is not None:
            act.before(array, kind)
        view, address = kind.turned(array)[1:3], array.ctypes.data
        before = status_of(self.path)
        told = self.attempt(act.do, array, kind)
        state, content = self.after_a_crash()
        if told.error is None:
            self.judge_success(array, state, content)
        else:
            self.judge_error(array, state, content, before)
        if not array.closed:
            if array.ctypes.data != address:
                self.note("the array moved")
            is_whole = state is None and not self.has_lost_its_memory(array)
            if is_whole and not np.array_equal(view, content[1:3]):
                self.note(f"a view that was made before has other rows: {np.array(view)[:, :3]}")
        self.finish(array, view, state, content)

    def judge_success(self, array, state, content):
        after = self.act.after
        if self.act.is_durable:
            self.judge_promise()
        if state is PENDING:
            self.note("said that all is done, and left a commit that has to be recovered")
        if not np.array_equal(content, after):
            self.note(f"said that it was done, and after a crash there are {describe(content)}")
        if not array.closed and not np.array_equal(self.in_memory(array), after):
            self.note(f"said that it was done, and in memory there are {describe(self.in_memory(array))}")

    def judge_error(self, array, state, content, before):
        act, text = self.act, self.told.text
        is_old, is_new = np.array_equal(content, act.start), np.array_equal(content, act.after)
        if state is PENDING:
            if not is_new:
                self.note(f"a commit that is in the journal gives {describe(content)}")
            if "journal" not in text:
                self.note(f"the commit is in the journal, and the error does not say so: {text}")
            return
        # What was published before a sync that fails stays published. And where the memory cannot be shared with the
        # file again, which was all that was left to do, the error says how far the commit came.
        may_be_new = self.failure.is_about_a_sync or (self.failure.function == "mmap" and "durable" in text)
        if not is_old and not (is_new and may_be_new):
            self.note(f"raised {text}, and after a crash there are {describe(content)}")
        if array.closed or self.has_lost_its_memory(array):
            return
        if not np.array_equal(self.in_memory(array), content):
            self.note(f"raised {text}, and in memory there are {describe(self.in_memory(array))}")
        now = status_of(self.path)
        is_given_back = now[0] <= before[0] and now[1] <= before[1] + SLACK_BLOCKS
        if is_old and not is_given_back and not self.failure.goes_on:
            self.note(f"raised {text}, and kept space: size and blocks are {now} after {before}")

    def has_lost_its_memory(self, array):
        """Whether it says that its pages could not be had again."""
        return self.failure.function == "mmap" and told_by(array.check).error == "FaultError"

    def finish(self, array, view, state, content):
        if array.closed:
            self.judge_what_is_left(content, is_closed_well=self.told.error is None)
            return
        usable = self.judge_refusals(array, state, content)
        if usable:
            content = self.use(array, content)
        closed = told_by(array.close)
        if not array.closed:
            self.note(f"close() does not close: {closed.text}")
        elif told_by(lambda: view[0, 0]).error != "ClosedError":
            self.note("can be read after close()")
        if (closed.error is None) != usable:
            self.note(f"close() says {closed.error} {closed.text}")
        self.judge_what_is_left(content, is_closed_well=closed.error is None)

    def judge_refusals(self, array, state, content):
        """Whether the array can still be used. It cannot once the disk has refused bytes, or a commit is pending."""
        row = self.kind.turned(content[:1])
        refusals = [told_by(array.flush), told_by(array.sync), told_by(lambda: array.append(row, sync=True))]
        if state is PENDING:
            # What is changed now would be undone when the commit is completed.
            refusals += [told_by(array.append, row), told_by(array.resize, 1), told_by(commit, array, self.kind)]
        refused = [told.error is not None for told in refusals]
        texts = [told.text for told in refusals]
        if state is PENDING and not all(refused):
            self.note(f"a commit is pending, and flush, sync, append, resize and another commit say {texts}")
        elif len(set(refused)) != 1:
            self.note(f"raised once and was silent later: {texts}")
        elif all(refused) and not self.failure.is_about_a_sync and self.failure.function != "mmap" and state is None:
            self.note(f"cannot be used any more: {texts[0]}")
        elif self.is_final and not any(refused):
            self.note("flushes, syncs and appends without an error after the disk had refused some bytes")
        return not all(refused)

    @property
    def is_final(self):
        """Whether the bytes of the file itself were refused, not those of its journal or of the folder."""
        is_own = self.told.inode in (0, os.stat(self.path).st_ino)
        return self.told.error is not None and self.failure.is_about_a_sync and is_own

    def use(self, array, content):
        """Append (that was done), store, commit and store again, and give what the file must have then."""
        kind, content = self.kind, np.concatenate([content, content[:1]])
        self.expect(array, content, "another append")
        kind.turned(array)[2] = content[2] = 5
        array.flush()
        self.expect(array, content, "another store")
        with array.atomic():
            kind.turned(array)[0:2] = content[0:2] = 6
        self.expect(array, content, "another commit")
        kind.turned(array)[1] = content[1] = 8
        self.expect(array, content, "a store after that")
        return content

    def expect(self, array, content, act):
        if not np.array_equal(self.in_memory(array), content):
            self.note(f"after {act} there are in memory {describe(self.in_memory(array))}")
        state, found = self.after_a_crash()
        if state is PENDING or not np.array_equal(found, content):
            self.note(f"after {act} a crash gives {state} {describe(found)}")


# ---- Files that are made, or opened after somebody died ----


class Creating(Trial):
    """A file of zeros is made, in the place of another or of none."""

    def __init__(self, is_there, kind, folder, failure, shim):
        super().__init__(kind, folder, failure, shim)
        self.is_there = is_there

    def create(self):
        shape = growing.NEW.shape
        if self.kind.order == "F":
            shape = shape[::-1]
        return nf.create(self.path, shape, "<i4", self.kind.order, overwrite=self.is_there)

    def go(self):
        if self.is_there:
            self.kind.make(self.path, growing.OLD)
        told = self.attempt(self.create)
        array, told.value = told.value, None
        if told.error is not None:
            self.judge_error()
            return
        # Of the sidecar's syncs the last two only make it shorter.
        if not (self.kind.has_sidecar and self.failure.nth > 4):
            self.judge_promise()
        expected = np.concatenate([growing.NEW, rows(0, 3)])
        appended = told_by(array.append, self.kind.turned(rows(0, 3)))
        if appended.error is not None:
            # Where no address space can be had to grow into there is one for the array alone.
            if self.failure.function != "mmap" or appended.errno != errno.ENOMEM:
                self.note(f"a new file cannot be appended to: {appended.text}")
            expected = growing.NEW
        state, content = self.after_a_crash()
        if state is PENDING or not np.array_equal(content, expected):
            self.note(f"a new file that was appended to has {state} {describe(content)}")
        array.close()
        self.judge_what_is_left(expected, is_closed_well=True)

    def judge_error(self):
        left = self.beside(but=".ndfile-" if self.failure.function == "unlink" else None)
        if left:
            self.note(f"left {left}")
        # The folder's sync comes after the new file has its name, and so does giving up the other one that it had.
        may_be_new = self.failure.is_about_a_sync or self.failure.function == "unlink"
        is_there = os.path.exists(self.path)
        if is_there != self.is_there and not (is_there and may_be_new):
            self.note(f"raised {self.told.text}, and the file is {'there' if is_there else 'gone'}")
        if is_there:
            is_new = may_be_new and np.array_equal(self.kind.read(self.path), growing.NEW)
            self.judge_what_is_left(growing.NEW if is_new else growing.OLD, is_closed_well=True)


class Recovering(Trial):
    """A file whose journal holds a commit is opened, or recovered."""

    def __init__(self, how, kind, folder, failure, shim):
        super().__init__(kind, folder, failure, shim)
        self.how = how

    def leave_a_commit(self):
        """Commit, and let the first write fail for which the journal is complete: the file has nothing of it yet."""
        for nth in range(1, 40):
            self.kind.make(self.path, growing.OLD)
            array = self.kind.open(self.path)
            self._shim.attempt(Failure("pwrite", nth, errno.EIO), growing.commit_growth, array, self.kind)
            told_by(array.close)
            told = told_by(self.kind.open, self.path, "r")
            if told.needs_recovery:
                return
            if told.value is not None:
                told.value.close()
            for name in self.beside():
                os.unlink(os.path.join(self.folder, name))
        raise AssertionError("no failure leaves a commit in the journal")

    def go(self):
        self.leave_a_commit()
        after = ACTS["commit growth"].after
        told = self.attempt(self.how, self.kind, self.path)
        state, content = self.after_a_crash()
        if not np.array_equal(content, after):
            self.note(f"{told.text}, and after a crash there are {describe(content)}")
        if told.error is None:
            self.judge_promise()
            if (state is PENDING) != (self.how is open_to_read):
                self.note(f"said nothing, and the commit is {state or 'in the file'}")
        self.judge_what_is_left(after, is_closed_well=told.error is None and state is not PENDING)


def open_to_write(kind, path):
    kind.open(path).close()


def open_to_read(kind, path):
    with contextlib.suppress(nf.errors.NeedsRecoveryError):
        kind.open(path, "r").close()
        raise AssertionError("half a commit is shown")


def recover(kind, path):
    found = nf.recover(path)
    assert found == "replayed", found


class Refreshing(Trial):
    """A reader looks for what a writer has published meanwhile."""

    def __init__(self, act, kind, folder, failure, shim):
        super().__init__(kind, folder, failure, shim)
        self.act = act

    def go(self):
        kind, start, after = self.kind, growing.OLD, self.act.after
        kind.make(self.path, start)
        with kind.open(self.path) as writer, kind.open(self.path, "r") as reader:
            view, address = kind.turned(reader)[1:3], reader.ctypes.data
            self.act.do(writer, kind)
            told = self.attempt(reader.refresh)
            if told.error is None and told.value != len(after) - len(start):
                self.note(f"refresh() gave {told.value}")
            if told.error is not None:
                if kind.turned(reader).shape != start.shape:
                    self.note(f"raised {told.text}, and has shape {reader.shape}")
                again = told_by(reader.refresh)
                if again.value != len(after) - len(start):
                    self.note(f"the next refresh() gave {again.value} {again.text}")
            if not np.array_equal(self.in_memory(reader), after):
                self.note(f"has {describe(self.in_memory(reader))}")
            if not np.array_equal(view, start[1:3]) or reader.ctypes.data != address:
                self.note("a view that was made before has other rows, or the array moved")
            del view


# ---- The control ----


class Naive:
    """Growth as people write it: the rows behind the file, its header anew, another map. And commits: a flush."""

    def __init__(self, path):
        self.path = path
        self.map = np.lib.format.open_memmap(path, "r+")
        self.closed = False

    def append(self, more, sync=False):
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            file.write(more.tobytes())
            file.seek(0)
            shape = (self.map.shape[0] + len(more), *self.map.shape[1:])
            header = {"descr": self.map.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            if sync:
                os.fsync(file.fileno())
        self.map = np.lib.format.open_memmap(self.path, "r+")

    @contextlib.contextmanager
    def atomic(self):
        yield self
        self.flush()

    def flush(self):
        self.map.flush()

    sync = flush

    def close(self):
        self.closed = True

    def __getattr__(self, name):
        return getattr(self.map, name)

    def __getitem__(self, index):
        return self.map[index]

    def __setitem__(self, index, value):
        self.map[index] = value

    def __array__(self, dtype=None, copy=None):
        return np.array(self.map)
