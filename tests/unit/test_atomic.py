"""Atomic blocks: all changes of one together or none, however they are made, and whatever ends it."""

import collections
import contextlib
import gc
import itertools
import os
import signal
import sys
import tempfile
import threading

import numpy as np
import pytest
from atomic_tables import OLD, UndoneError, assert_is, enter, names, refused
from faulty import PAGE, call, forked, is_privileged
from growing import JOURNAL, KINDS, rows

import ndfile as nf
from ndfile.errors import ClosedError, FaultError, LayoutError, LockedError

# ---- All of it or none of it ----


def read_into(array):
    with open("/dev/zero", "rb", buffering=0) as zeros:
        zeros.readinto(memoryview(array).cast("B")[3 * PAGE : 5 * PAGE + 7])


WAYS = {
    "item": lambda a: a.__setitem__((3, 5), -1),
    "row": lambda a: a.__setitem__(-1, -1),
    "slice": lambda a: a.__setitem__(slice(2, 60, 3), -1),
    "all": lambda a: a.__setitem__(..., -1),
    "integers": lambda a: a.__setitem__([1, 60, 7], -1),
    "booleans": lambda a: a.__setitem__(np.asarray(a) % 7 == 0, -1),
    "in place": lambda a: a.__iadd__(1),
    "ufunc": lambda a: np.negative(a, out=a),
    "plain view": lambda a: np.asarray(a)[2:9].fill(-1),
    "view of a view": lambda a: a[2:9][::2].fill(-1),
    "transposed": lambda a: a.T[5:50].fill(-1),
    "reversed": lambda a: a[::-1, ::-1].sort(0),
    "bytes": lambda a: a.view("u1")[:, ::97].fill(7),
    "memoryview": lambda a: memoryview(a).__setitem__((9, 9), -1),
    "frombuffer": lambda a: np.frombuffer(a, "u1")[9:99].fill(7),
    "flat": lambda a: a.flat.__setitem__(slice(5000, 6000), -1),
    "put": lambda a: a.put([5, 5000], -1),
    "copyto": lambda a: np.copyto(a[8:], -1),
    "read into": read_into,
}


@pytest.mark.parametrize("change", WAYS.values(), ids=WAYS)
def test_a_block_that_ends_well_is_in_the_file(table, table_file, change):
    wanted = OLD.copy()
    change(wanted)
    assert not np.array_equal(wanted, OLD)
    with table.atomic():
        change(table)
        np.testing.assert_array_equal(table, wanted)
    assert_is(table, table_file, wanted)


@pytest.mark.parametrize("change", WAYS.values(), ids=WAYS)
def test_a_block_that_fails_leaves_nothing_behind(table, table_file, change):
    with refused(table, UndoneError):
        change(table)
        raise UndoneError
    assert_is(table, table_file, OLD)


def test_views_made_before_inside_and_after_are_views_of_the_same_bytes(table, table_file):
    before, plain = table[2:4], np.asarray(table)[4:6]
    place = before.__array_interface__["data"][0]
    with table.atomic():
        inside = table[6:8]
        before[:], plain[:], inside[:] = -1, -2, -3
        assert table[2:8, 0].tolist() == [-1, -1, -2, -2, -3, -3]
    assert before.__array_interface__["data"][0] == place
    before[0], plain[0], inside[0] = -4, -5, -6
    wanted = OLD.copy()
    wanted[2:8] = np.array([-4, -1, -5, -2, -6, -3])[:, None]
    assert_is(table, table_file, wanted)


def test_views_of_a_block_that_was_rolled_back_are_views_of_the_file(table, table_file):
    with contextlib.suppress(UndoneError), table.atomic():
        inside = table[6:8]
        inside[:] = -1
        raise UndoneError
    np.testing.assert_array_equal(inside, OLD[6:8])
    inside[:] = -2
    wanted = OLD.copy()
    wanted[6:8] = -2
    assert_is(table, table_file, wanted)


def test_a_block_may_be_opened_through_what_it_gives(table_file):
    with nf.open(table_file, "r+").atomic() as array:
        array[0] = -1
        del array
    assert np.load(table_file)[:2, 0].tolist() == [-1, OLD[1, 0]]
    gc.collect()
    assert names(table_file) == ["x.npy"]


def test_it_gives_the_array_itself(table):
    with table.atomic() as same:
        assert same is table


def test_what_was_stored_before_the_block_is_not_rolled_back(table, table_file):
    table[0] = -1
    with contextlib.suppress(UndoneError), table.atomic():
        table[0] = -2
        table[1] = -2
        raise UndoneError
    wanted = OLD.copy()
    wanted[0] = -1
    assert_is(table, table_file, wanted)


def test_blocks_follow_each_other(table, table_file):
    wanted = OLD.copy()
    for number in range(50):
        with contextlib.suppress(UndoneError), table.atomic():
            table[number % 7 :: 7] += number
            if number % 3 == 2:
                raise UndoneError
            wanted[number % 7 :: 7] += number
    assert_is(table, table_file, wanted)


def test_a_block_that_changes_nothing_writes_nothing(table, table_file):
    before = os.stat(table_file)
    with table.atomic():
        table.sum()
    assert os.stat(table_file).st_mtime_ns == before.st_mtime_ns
    assert_is(table, table_file, OLD)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_file_can_be_changed_at_once(tmp_path, kind):
    path = str(tmp_path / kind.name)
    kind.make(path, rows(0, 30))
    with kind.open(path) as array:
        with array.atomic():
            kind.turned(array)[3:5] = 7
        with contextlib.suppress(UndoneError), array.atomic():
            kind.turned(array)[5:9] = 7
            raise UndoneError
    wanted = rows(0, 30)
    wanted[3:5] = 7
    np.testing.assert_array_equal(kind.read(path), wanted)
    assert set(os.listdir(tmp_path)) == kind.names


# ---- What ends a block ----


@pytest.mark.parametrize(
    "error",
    [
        ValueError,
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        MemoryError,
        StopIteration,
        nf.ClosedError,
        BaseException,
    ],
)
def test_every_exception_rolls_back_and_goes_on_as_it_is(table, table_file, error):
    raised = error()
    with refused(table, error) as caught:
        table[:] = -1
        raise raised
    assert caught.value is raised
    assert_is(table, table_file, OLD)


def test_the_keyboard_rolls_back(table, table_file):
    with refused(table, KeyboardInterrupt):
        table[:] = -1
        signal.raise_signal(signal.SIGINT)
    assert_is(table, table_file, OLD)


def changed_in_a_function(table):
    with table.atomic():
        table[0] = -1
        return True


def changed_in_a_loop(table):
    for _ in range(2):
        with table.atomic():
            table[0] = -1
            break
    for _ in range(1):
        with table.atomic():
            table[0] = -1
            continue


@pytest.mark.parametrize("change", [changed_in_a_function, changed_in_a_loop])
def test_leaving_early_without_an_exception_commits(table, table_file, change):
    change(table)
    wanted = OLD.copy()
    wanted[0] = -1
    assert_is(table, table_file, wanted)


def test_a_generator_that_is_given_up_rolls_back(table, table_file):
    def change():
        with table.atomic():
            table[0] = -1
            yield

    generator = change()
    next(generator)
    del generator
    gc.collect()
    assert_is(table, table_file, OLD)
    with table.atomic():
        pass


def test_a_block_that_is_not_entered_is_none(table, table_file):
    table.atomic()
    table[0] = -1
    assert np.load(table_file)[0, 0] == -1
    with table.atomic():
        pass


def test_closing_inside_rolls_back_and_the_end_says_so(table, table_file):
    with refused(table, ClosedError):
        table[:] = -1
        table.close()
    np.testing.assert_array_equal(np.load(table_file), OLD)
    assert table.closed
    assert names(table_file) == ["x.npy"]


def test_closing_a_view_inside_rolls_back(table, table_file):
    with refused(table, ClosedError):
        table[:] = -1
        table[2:].close()
    np.testing.assert_array_equal(np.load(table_file), OLD)


def test_an_exception_after_closing_inside_is_the_one_that_goes_on(table, table_file):
    with refused(table, UndoneError):
        table[:] = -1
        table.close()
        raise UndoneError
    np.testing.assert_array_equal(np.load(table_file), OLD)


def test_the_end_of_an_outer_with_statement_closes_after_the_commit(table_file):
    with nf.open(table_file, "r+") as table, table.atomic():
        table[0] = -1
    assert np.load(table_file)[0, 0] == -1
    assert names(table_file) == ["x.npy"]


@pytest.mark.parametrize("act", ["flush", "sync"])
def test_flushing_inside_does_nothing(table, table_file, act):
    with contextlib.suppress(UndoneError), table.atomic():
        table[:] = -1
        getattr(table, act)()
        getattr(table[3:5], act)()
        np.testing.assert_array_equal(np.load(table_file), OLD)
        raise UndoneError
    assert_is(table, table_file, OLD)


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(3)", "os.kill(os.getpid(), 9)", "pass"])
def test_a_program_that_ends_inside_leaves_the_old_file(table_file, end):
    program = f"import os, sys\nblock = table.atomic()\nblock.__enter__()\ntable[:] = -1\n{end}"
    call(run, table_file, program)
    np.testing.assert_array_equal(np.load(table_file), OLD)
    assert nf.recover(table_file) in (None, "discarded")
    with nf.open(table_file, "r+") as table, table.atomic():
        table[0] = -1
    assert np.load(table_file)[0, 0] == -1
    assert names(table_file) == ["x.npy"]


def run(path, program):
    exec(program, {"table": nf.open(path, "r+")})


def interrupted(path, at):
    """Change a file in a block, interrupted before the n-th line of Python inside it; False if there are fewer."""
    table = nf.open(path, "r+")
    # The code between the calls that do something; what is open for a moment inside those is not looked at.
    code = {f"{os.path.dirname(nf.__file__)}/{name}.py" for name in ("array", "atomic", "growth")}
    passed = 0

    def trace(frame, event, argument):
        nonlocal passed
        if frame.f_code.co_filename not in code:
            return trace if event == "call" else None
        if event == "line":
            passed += 1
            if passed == at:
                raise KeyboardInterrupt
        return trace

    try:
        sys.settrace(trace)
        with table.atomic():
            table[:] = -1
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
        table.close()
    return passed >= at


def test_an_interrupt_at_any_line_of_the_blocks_own_code_leaves_all_or_nothing(table_file):
    seen = collections.Counter()
    for at in itertools.count(1):
        np.save(table_file, OLD)
        is_reached = interrupted(table_file, at)
        assert nf.recover(table_file) in (None, "discarded")
        values = np.unique(np.load(table_file) == -1)
        assert len(values) == 1
        seen[bool(values[0])] += 1
        if not is_reached:
            break
    assert seen[False] > 3
    assert seen[True] >= 1


# ---- What others see ----


def first_item(path):
    with nf.open(path) as table:
        return int(table[0, 0])


def test_others_see_the_old_bytes_until_the_end(table, table_file):
    readers = [
        nf.open(table_file),
        nf.open(table_file, "c"),
        nf.open(table_file, "r+"),
        np.load(table_file, mmap_mode="r"),
    ]
    with table.atomic():
        table[:] = -1
        for reader in [*readers, np.load(table_file), nf.open(table_file)]:
            np.testing.assert_array_equal(reader, OLD)
        assert call(first_item, table_file).result() == 0
    for reader in [*readers, np.load(table_file), nf.open(table_file)]:
        assert (np.asarray(reader) == -1).all()
    assert call(first_item, table_file).result() == -1


def test_what_others_store_into_other_pages_is_kept(table, table_file):
    other = nf.open(table_file, "r+")
    with table.atomic():
        table[10] = -1
        other[40] = -2
    wanted = OLD.copy()
    wanted[10], wanted[40] = -1, -2
    assert_is(table, table_file, wanted)
    with contextlib.suppress(UndoneError), table.atomic():
        table[20] = -1
        other[50] = -2
        raise UndoneError
    wanted[50] = -2
    assert_is(table, table_file, wanted)
    other.close()


def test_two_arrays_on_one_file_see_each_other_again_afterwards(table, table_file):
    other, theirs = nf.open(table_file, "r+"), np.load(table_file, mmap_mode="r+")
    for undone in (False, True):
        with contextlib.suppress(UndoneError), table.atomic():
            table[0] = -1
            if undone:
                raise UndoneError
        table[1, 1], other[2, 2], theirs[3, 3] = 5, 6, 7
        for array in (table, other, theirs):
            assert [int(array[i, i]) for i in range(4)] == [-1, 5, 6, 7]
    other.close()


def test_the_idioms_of_memmap_hold_afterwards(table, table_file):
    with table.atomic():
        table[0] = -1
    assert isinstance(table, np.memmap)
    table[1] = -2
    table.flush()
    table[2:3].flush()
    table.sync()
    mapping = table._mmap
    assert mapping is table[3:]._mmap
    np.testing.assert_array_equal(np.load(table_file)[:2, 0], [-1, -2])
    view = table[2:]
    del table, mapping
    view[0] = -3
    view.close()
    np.testing.assert_array_equal(np.load(table_file)[:3, 0], [-1, -2, -3])


def test_a_copy_on_write_array_keeps_its_own_bytes(table, table_file):
    copied = nf.open(table_file, "c")
    copied[0] = 5
    with table.atomic():
        table[:6] = -1
    assert copied[[0, 5], 0].tolist() == [5, -1]
    copied.close()


# ---- One block at a time ----


@pytest.mark.parametrize("inner", [enter, lambda table: enter(table[3:])], ids=["array", "view"])
@pytest.mark.parametrize("undone", [False, True])
def test_a_nested_block_is_refused_and_leaves_the_first_as_it_is(table, table_file, inner, undone):
    with contextlib.suppress(UndoneError), table.atomic():
        table[0] = -1
        with pytest.raises(LockedError):
            inner(table)
        table[1] = -1
        if undone:
            raise UndoneError
    wanted = OLD.copy()
    wanted[:2] = OLD[:2] if undone else -1
    assert_is(table, table_file, wanted)


def test_a_nested_block_is_a_locked_error(table, table_file):
    with table.atomic(), pytest.raises(LockedError) as caught:
        enter(table)
    assert isinstance(caught.value, BlockingIOError)
    assert table_file in str(caught.value)


def test_another_threads_block_is_refused(table, table_file):
    failures = []

    def enter_too():
        try:
            enter(table)
        except LockedError as error:
            failures.append(error)

    with table.atomic():
        table[0] = -1
        thread = threading.Thread(target=enter_too)
        thread.start()
        thread.join()
    assert len(failures) == 1
    assert np.load(table_file)[0, 0] == -1


@pytest.mark.parametrize("act", [enter, lambda a: a.append(OLD[:1]), lambda a: a.resize(3)])
def test_another_array_cannot_write_its_own_until_the_first_is_closed(table, table_file, act):
    with nf.open(table_file, "r+") as other:
        with table.atomic():
            table[0] = -1
            with pytest.raises(LockedError):
                act(other)
        with pytest.raises(LockedError):
            act(other)
        table.close()
        act(other)
    assert np.load(table_file)[0, 0] == -1


def enter_elsewhere(path):
    with nf.open(path, "r+") as table:
        try:
            enter(table)
        except LockedError:
            return "locked"
    return "entered"


def test_another_process_cannot_until_the_first_is_closed(table, table_file):
    with table.atomic():
        assert call(enter_elsewhere, table_file).result() == "locked"
    table.close()
    assert call(enter_elsewhere, table_file).result() == "entered"


@pytest.mark.parametrize("undone", [False, True])
def test_blocks_on_two_files_do_not_touch_each_other(table, table_file, tmp_path, undone):
    with nf.create(tmp_path / "y.npy", 5, "i8", fill=3) as other:
        with table.atomic():
            table[0] = -1
            with contextlib.suppress(UndoneError), other.atomic():
                other[0] = -1
                if undone:
                    raise UndoneError
            assert np.load(tmp_path / "y.npy")[0] == (3 if undone else -1)
            np.testing.assert_array_equal(np.load(table_file), OLD)
        assert np.load(table_file)[0, 0] == -1


def test_blocks_on_two_files_may_overlap(table, table_file, tmp_path):
    with nf.create(tmp_path / "y.npy", 5, "i8", fill=3) as other:
        first, second = table.atomic(), other.atomic()
        first.__enter__()
        second.__enter__()
        table[0], other[0] = -1, -1
        first.__exit__(None, None, None)
        second.__exit__(UndoneError, UndoneError(), None)
        assert np.load(tmp_path / "y.npy")[0] == 3
    assert np.load(table_file)[0, 0] == -1


# ---- Archives ----


@pytest.fixture
def weights(tmp_path):
    """A file of two arrays that can be changed in place."""
    path = str(tmp_path / "w.safetensors")
    nf.save(path, {"kernel": OLD, "bias": np.arange(5)})
    return path


@pytest.mark.parametrize("undone", [False, True])
def test_a_block_on_a_member_is_one_on_all_of_its_archive(weights, undone):
    with nf.open(weights, "r+") as archive:
        kernel = archive["kernel"]
        with contextlib.suppress(UndoneError), kernel.atomic():
            kernel[0] = -1
            archive["bias"][:] = -1
            np.testing.assert_array_equal(nf.open(weights)["bias"], np.arange(5))
            with pytest.raises(LockedError):
                enter(archive["bias"])
            if undone:
                raise UndoneError
    with nf.open(weights) as archive:
        assert archive["kernel"][0, 0] == (0 if undone else -1)
        assert archive["bias"].tolist() == (list(range(5)) if undone else [-1] * 5)
        np.testing.assert_array_equal(archive["kernel"][1:], OLD[1:])
    assert names(weights) == ["w.safetensors"]


@pytest.mark.parametrize("act", [lambda a: a.append(OLD[:1]), lambda a: a.resize(3)])
def test_a_member_does_not_grow_inside_either(weights, act):
    with nf.open(weights, "r+") as archive:
        with archive["kernel"].atomic(), pytest.raises(ValueError, match=r"append|resize"):
            act(archive["kernel"])
        np.testing.assert_array_equal(archive["kernel"], OLD)


# ---- What cannot be ----


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_mode_that_does_not_change_the_file_has_no_blocks(table_file, mode):
    with nf.open(table_file, mode) as array:
        with pytest.raises(LayoutError, match=mode):
            enter(array)
        assert names(table_file) == ["x.npy"]


def test_a_file_without_a_name_has_no_blocks():
    with tempfile.TemporaryFile() as file:
        array = nf.memmap(file, "u1", "w+", shape=10)
        with pytest.raises(LayoutError):
            enter(array)
        array[0] = 1
        array.close()
        file.seek(0)
        assert file.read(1) == b"\1"


def test_the_position_of_a_file_object_does_not_change(table_file):
    with open(table_file, "r+b", buffering=0) as source:
        source.seek(77)
        with nf.memmap(source, "i8", "r+", 128, OLD.shape) as table, contextlib.suppress(LayoutError):
            with table.atomic():
                table[0] = -1
            assert np.load(table_file)[0, 0] == -1
        assert source.tell() == 77


def test_a_closed_array_has_no_blocks(table):
    table.close()
    with pytest.raises(ClosedError):
        enter(table)


def test_a_mapping_that_has_failed_does_not_commit(table, table_file):
    with refused(table, FaultError):
        table[0] = -1
        os.truncate(table_file, 5 * PAGE)
        with contextlib.suppress(FaultError):
            table.sum()
    assert np.fromfile(table_file, "i8", offset=128)[0] == 0
    assert names(table_file) == ["x.npy", f"x.npy{JOURNAL}"]
    with contextlib.suppress(FaultError):
        table.close()


@pytest.mark.skipif(not is_privileged(), reason="only root can play somebody else")
def test_a_folder_that_cannot_be_written_refuses_the_block_before_it_begins(table_file, tmp_path):
    os.chmod(tmp_path, 0o555)

    def enter_unprivileged():
        table = nf.open(table_file, "r+")
        os.seteuid(65534)
        with pytest.raises(PermissionError):
            enter(table)
        table[0] = -1  # goes to the file, for there is no block
        os.seteuid(0)
        return True

    try:
        assert forked(enter_unprivileged).result()
    finally:
        os.chmod(tmp_path, 0o755)
    assert np.load(table_file)[0, 0] == -1
