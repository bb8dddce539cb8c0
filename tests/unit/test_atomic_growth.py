"""Growing and shrinking inside an atomic block: part of it, and undone with it."""

import contextlib
import os
import threading

import numpy as np
import pytest
from atomic_tables import OLD, UndoneError, assert_is
from growing import KINDS, rows

import ndfile as nf
from ndfile.errors import FaultError

GROW = {
    "append": lambda a, kind: a.append(kind.turned(rows(30, 55))),
    "append durably": lambda a, kind: a.append(kind.turned(rows(30, 55)), sync=True),
    "append rows one by one": lambda a, _: [a.append(row) for row in rows(30, 55)],
    "extend": lambda a, kind: a.extend(kind.turned(rows(30 + n, 31 + n)) for n in range(25)),
    "grow": lambda a, kind: (a.resize(55), np.copyto(kind.turned(a)[30:], rows(30, 55))),
    "shrink and append": lambda a, kind: (a.resize(10), a.append(kind.turned(rows(10, 55)))),
}


@pytest.mark.parametrize("grow", GROW.values(), ids=GROW)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_growth_inside_is_part_of_the_block(tmp_path, kind, grow):
    path = str(tmp_path / kind.name)
    kind.make(path, rows(0, 30))
    with kind.open(path) as array:
        reader = kind.open(path, "r")
        with array.atomic():
            kind.turned(array)[4] = -1
            grow(array, kind)
            assert kind.turned(array).shape == (55, 100)
            assert reader.refresh() == 0
            np.testing.assert_array_equal(kind.read(path), rows(0, 30))
        assert reader.refresh() == 25
        wanted = rows(0, 55)
        wanted[4] = -1
        for one in (array, reader):
            np.testing.assert_array_equal(kind.turned(one), wanted)
        array.append(kind.turned(rows(55, 60)))
        reader.close()
    np.testing.assert_array_equal(kind.read(path), np.concatenate([wanted, rows(55, 60)]))
    assert os.path.getsize(path) == kind.nbytes_of(path, rows(0, 60))
    assert set(os.listdir(tmp_path)) == kind.names


@pytest.mark.parametrize("grow", GROW.values(), ids=GROW)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_growth_inside_is_rolled_back(tmp_path, kind, grow):
    path = str(tmp_path / kind.name)
    kind.make(path, rows(0, 30))
    with kind.open(path) as array:
        before = kind.turned(array)[20:]
        with contextlib.suppress(UndoneError), array.atomic():
            kind.turned(array)[4] = -1
            grow(array, kind)
            raise UndoneError
        np.testing.assert_array_equal(kind.turned(array), rows(0, 30))
        np.testing.assert_array_equal(before, rows(20, 30))
        np.testing.assert_array_equal(kind.read(path), rows(0, 30))
        array.append(kind.turned(rows(30, 33)))
        np.testing.assert_array_equal(kind.turned(array), rows(0, 33))
    np.testing.assert_array_equal(kind.read(path), rows(0, 33))
    assert os.path.getsize(path) == kind.nbytes_of(path, rows(0, 33))
    assert set(os.listdir(tmp_path)) == kind.names


def look_at_new_rows(kind, path, stop, wrong):
    """Note every new row that is not whole when it is there."""
    with kind.open(path, "r") as reader:
        seen = kind.turned(reader).shape[0]
        while not stop.is_set():
            try:
                new = reader.refresh()
            except Exception as error:
                wrong.append(repr(error))
                return
            if new and not np.array_equal(kind.turned(reader)[seen:], rows(seen, seen + new)):
                wrong.append(f"rows {seen} to {seen + new}")
            seen += new


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_who_looks_while_a_block_is_brought_into_the_file_sees_whole_rows(tmp_path, kind):
    path = str(tmp_path / kind.name)
    kind.make(path, rows(0, 30))
    stop, wrong = threading.Event(), []
    thread = threading.Thread(target=look_at_new_rows, args=(kind, path, stop, wrong))
    thread.start()
    with kind.open(path) as array:
        for start in range(30, 60030, 6000):
            with array.atomic():
                array.append(kind.turned(rows(start, start + 6000)))
    stop.set()
    thread.join()
    assert wrong == []
    np.testing.assert_array_equal(kind.read(path), rows(0, 60030))


@pytest.mark.parametrize("undone", [False, True])
def test_an_array_that_has_grown_before_grows_in_a_block_too(table, table_file, undone):
    table.append(OLD[:3])
    with contextlib.suppress(UndoneError), table.atomic():
        table.append(OLD[3:50])
        if undone:
            raise UndoneError
    table.append(OLD[50:])
    middle = OLD[:0] if undone else OLD[3:50]
    assert_is(table, table_file, np.concatenate([OLD, OLD[:3], middle, OLD[50:]]))


def test_shrinking_inside_is_part_of_the_block(table, table_file):
    with table.atomic():
        table[0] = -1
        table.resize(5)
        np.testing.assert_array_equal(np.load(table_file), OLD)
    wanted = OLD[:5].copy()
    wanted[0] = -1
    assert_is(table, table_file, wanted)


def test_shrinking_inside_is_rolled_back_with_the_views_of_what_was_gone(table, table_file):
    last = table[-3:]
    with contextlib.suppress(UndoneError), table.atomic():
        table.resize(5)
        with pytest.raises(FaultError):
            last.sum()
        raise UndoneError
    assert table.shape == OLD.shape
    np.testing.assert_array_equal(last, OLD[-3:])
    last[:] = -1
    assert (np.load(table_file)[-3:] == -1).all()


def test_views_of_rows_that_were_rolled_back_raise(table):
    with contextlib.suppress(UndoneError), table.atomic():
        table.append(OLD)
        new = table[-10:]
        raise UndoneError
    with pytest.raises(FaultError):
        new.sum()
    np.testing.assert_array_equal(table, OLD)
    table.flush()


def test_the_arrays_own_refresh_inside_finds_no_news(table, table_file):
    with contextlib.suppress(UndoneError), table.atomic():
        table.append(OLD)
        assert table.refresh() == 0
        assert len(table) == 2 * len(OLD)
        raise UndoneError
    assert table.refresh() == 0
    assert_is(table, table_file, OLD)


def test_an_empty_array_grows_in_a_block(tmp_path):
    path = tmp_path / "x.npy"
    with nf.create(path, (0, 3), "f4") as array:
        with contextlib.suppress(UndoneError), array.atomic():
            array.append([[1, 2, 3]])
            raise UndoneError
        assert array.shape == (0, 3)
        with array.atomic():
            array.append([[1, 2, 3]])
    assert np.load(path).tolist() == [[1, 2, 3]]
