"""Closing: when it may, when it may not, and what it leaves."""

import contextlib
import gc
import os
import threading
import weakref

import numpy as np
import pytest

import ndfile as nf

MODES = ("r", "r+", "w+", "c")


@pytest.fixture
def mapped(numbers_file):
    """A function that maps the numbers; it keeps no reference."""

    def map_numbers(mode="r+", cls=nf.memmap):
        return cls(numbers_file, np.float32, mode, shape=(3, 4))

    return map_numbers


@pytest.fixture
def maps_of(numbers_file):
    """A function that counts the mappings of the numbers' file in this process."""

    def count():
        with open("/proc/self/maps") as maps:
            return maps.read().count(numbers_file)

    return count


# Closing


@pytest.mark.parametrize("mode", MODES)
def test_closing_gives_back_memory_and_descriptor_now(mapped, maps_of, mode):
    descriptors = os.listdir("/proc/self/fd")
    array = mapped(mode)
    assert maps_of() == 1
    array.close()
    assert maps_of() == 0
    assert os.listdir("/proc/self/fd") == descriptors
    assert array.closed is True


@pytest.mark.parametrize("mode", MODES)
def test_an_open_array_is_not_closed(mapped, mode):
    array = mapped(mode)
    assert array.closed is False
    assert array[1:].closed is False


def test_closing_twice_does_nothing(mapped):
    array = mapped()
    array.close()
    array.close()
    assert array.closed


def test_closing_writes_what_was_changed(mapped, numbers_file):
    array = mapped()
    array[2, 3] = 99
    array.close()
    assert np.fromfile(numbers_file, np.float32)[-1] == 99


def test_letting_go_of_the_last_view_gives_back_memory_and_descriptor(mapped, maps_of):
    descriptors = os.listdir("/proc/self/fd")
    array = mapped()
    view = array[1:].T
    del array
    assert maps_of() == 1
    del view
    assert maps_of() == 0
    assert os.listdir("/proc/self/fd") == descriptors


@pytest.mark.parametrize("make", [lambda a: a[1:], lambda a: a.T, np.asarray, memoryview, lambda a: a[0][2:], iter])
def test_a_view_keeps_the_mapping_alive(mapped, maps_of, make):
    view = make(mapped())
    gc.collect()
    assert maps_of() == 1
    del view
    gc.collect()
    assert maps_of() == 0


def test_a_closed_array_still_tells_what_it_was(mapped, numbers_file):
    array = mapped("r")
    array.close()
    assert (array.filename, array.mode, array.offset, array.closed) == (numbers_file, "r", 0, True)
    assert (array.shape, array.dtype, array.nbytes, array.ndim) == ((3, 4), np.float32, 48, 2)


def test_an_array_without_a_file_closes_to_no_effect(mapped):
    plain = np.ones(3).view(nf.memmap)
    plain.close()
    assert plain.closed is False
    assert plain[0] == 1


def test_the_file_can_be_removed_renamed_and_replaced_while_mapped(mapped, numbers_file, numbers):
    array = mapped()
    os.rename(numbers_file, numbers_file + ".old")
    np.testing.assert_array_equal(array, numbers)
    os.unlink(numbers_file + ".old")
    array[0] = 5
    array.flush()
    assert array[0, 0] == 5
    array.close()


# Closing with views, without the guard


@pytest.fixture
def unguarded():
    """The guard turned off, as by NDFILE_GUARD=0: a left-over view then has nobody to answer for it."""
    before = nf.guard(False)
    yield
    nf.guard(before)


HOLDERS = {
    "view": lambda a: a[1:],
    "transposed": lambda a: a.T,
    "view of a view": lambda a: a[1:][0],
    "plain view": np.asarray,
    "view of a plain view": lambda a: np.asarray(a)[1:],
    "memoryview": memoryview,
    "variable": lambda a: a,
    "list": lambda a: [a],
    "iterator": iter,
    "flat": lambda a: a.flat,
    "mapping": lambda a: a._mmap,
    "mapping's buffer": lambda a: memoryview(a._mmap),
    "method": lambda a: (a.sum, a.flush),
    "closure": lambda a: lambda: a,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "from buffer": lambda a: np.frombuffer(a, "u1"),
    "dlpack": np.from_dlpack,
    "interface": lambda a: np.ndarray((2,), "f4", a),
    "masked": np.ma.asarray,
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_closing_with_something_else_that_refers_to_it_closes_nothing(
    unguarded, mapped, numbers, numbers_file, hold, mode
):
    array = mapped(mode)
    holder = hold(array)
    with pytest.raises(BufferError, match="Nothing was closed") as caught:
        array.close()
    assert numbers_file in str(caught.value)
    assert array.closed is False
    np.testing.assert_array_equal(array, numbers)
    del holder, caught
    gc.collect()
    array.close()
    assert array.closed


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_closing_a_view_with_something_else_that_refers_to_it_closes_nothing(unguarded, mapped, numbers, hold):
    view = mapped()[1:]
    holder = hold(view)
    with pytest.raises(BufferError, match="Nothing was closed"):
        view.close()
    np.testing.assert_array_equal(view, numbers[1:])
    assert view.closed is False
    del holder


def test_closing_the_array_through_its_only_view_closes_it(mapped, maps_of):
    view = mapped()[1:]
    view.close()
    assert view.closed
    assert maps_of() == 0


def test_a_view_of_a_closed_array_is_closed(unguarded, mapped):
    array = mapped()
    views = [array[1:]]
    with pytest.raises(BufferError):
        array.close()
    mapping = array._mmap
    mapping.close()
    assert array.closed
    assert views[0].closed
    with pytest.raises(nf.ClosedError):
        views[0][0]


def test_a_subclass_closes_too(unguarded, mapped, maps_of):
    class Sub(nf.memmap):
        pass

    array = mapped(cls=Sub)
    view = array[1:]
    with pytest.raises(BufferError):
        array.close()
    del view
    array.close()
    assert maps_of() == 0
    with pytest.raises(nf.ClosedError):
        array + 1


# with


@pytest.mark.parametrize("mode", MODES)
def test_a_with_statement_closes_at_its_end(mapped, maps_of, mode):
    with mapped(mode) as array:
        assert array.closed is False
        assert maps_of() == 1
    assert array.closed
    assert maps_of() == 0


def test_a_with_statement_closes_without_a_name(mapped, maps_of):
    with mapped():
        assert maps_of() == 1
    assert maps_of() == 0


def test_a_with_statement_closes_an_array_that_has_a_name_already(mapped):
    array = mapped()
    with array:
        array[0] = 3
    assert array.closed


def test_a_with_statement_closes_on_an_error_and_lets_it_through(mapped, maps_of):
    array = mapped()
    with pytest.raises(KeyError), array:
        raise KeyError
    assert array.closed
    assert maps_of() == 0


def test_an_array_closed_inside_its_with_statement_is_left_in_peace(mapped):
    with mapped() as array:
        array.close()
    assert array.closed


def test_a_closed_array_is_not_entered(mapped):
    array = mapped()
    array.close()
    with pytest.raises(nf.ClosedError, match="enter"), array:
        pass


def test_a_with_statement_with_a_view_left_over_says_so(unguarded, mapped):
    views = []
    with pytest.raises(BufferError), mapped() as array:
        views.append(array[1:])
    assert array.closed is False


def test_an_exit_stack_closes(mapped, maps_of):
    with contextlib.ExitStack() as stack:
        array = stack.enter_context(mapped())
        assert array[0, 1] == 1
    assert array.closed
    assert maps_of() == 0


# After closing


USES = {
    "item": lambda a: a[0, 0],
    "row": lambda a: a[0],
    "last row": lambda a: a[-1],
    "slice": lambda a: a[1:],
    "integers": lambda a: a[[0, 1]],
    "booleans": lambda a: a[np.ones((3, 4), bool)],
    "ellipsis": lambda a: a[...],
    "assign item": lambda a: a.__setitem__((0, 0), 1),
    "assign row": lambda a: a.__setitem__(0, 1),
    "assign all": lambda a: a.__setitem__(slice(None), 1),
    "assign integers": lambda a: a.__setitem__([0, 1], 1),
    "add": lambda a: a + 1,
    "radd": lambda a: 1 + a,
    "radd of an array": lambda a: np.ones((3, 4)) + a,
    "neg": lambda a: -a,
    "power": lambda a: a**2,
    "matmul": lambda a: a @ np.ones(4),
    "compare": lambda a: a == 1,
    "less": lambda a: a < 1,
    "iadd": lambda a: a.__iadd__(1),
    "imul of a plain array": lambda a: np.ones((3, 4)).__imul__(a),
    "ufunc": np.sqrt,
    "ufunc into": lambda a: np.add(1, 1, out=a),
    "ufunc into a plain array": lambda a: np.add(a, 1, out=np.ones((3, 4))),
    "sum": lambda a: a.sum(),
    "sum of an axis": lambda a: a.sum(0),
    "np.sum": np.sum,
    "max": lambda a: a.max(),
    "mean": lambda a: a.mean(),
    "std": lambda a: a.std(),
    "any": lambda a: a.any(),
    "argmax": lambda a: a.argmax(),
    "cumsum": lambda a: a.cumsum(),
    "iteration": list,
    "memoryview": memoryview,
    "bytes": bytes,
    "flush": lambda a: a.flush(),
    "copy": lambda a: a.copy(),
    "astype": lambda a: a.astype("f8"),
    "take": lambda a: a.take([0]),
    "flatten": lambda a: a.flatten(),
    "dot": lambda a: a.dot(np.ones(4)),
    "argsort": lambda a: a.argsort(),
    "pickle": lambda a: a.__reduce_ex__(2),
    "str": str,
    "repr": repr,
    "contains": lambda a: 1 in a,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_using_a_closed_array_raises_closed_error_with_its_name(mapped, numbers_file, use):
    array = mapped()
    array.close()
    with pytest.raises(nf.ClosedError, match="the mapping is closed") as caught:
        use(array)
    assert caught.value.path == numbers_file


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_using_a_closed_array_of_mode_r_raises_closed_error_or_what_numpy_raises(mapped, use):
    array = mapped("r")
    array.close()
    with pytest.raises(ValueError, match=r"closed|read-only"):
        use(array)


REFUSED_OR_HARMLESS = {
    "tolist": lambda a: a.tolist(),
    "tobytes": lambda a: a.tobytes(),
    "item()": lambda a: a.item(0),
    "sort": lambda a: a.sort(),
    "fill": lambda a: a.fill(3),
    "put": lambda a: a.put(0, 3),
    "partition": lambda a: a.partition(1),
    "nonzero": lambda a: a.nonzero(),
    "searchsorted": lambda a: a.ravel().searchsorted(1),
    "asarray": lambda a: np.asarray(a).item(0),
    "write through asarray": lambda a: np.asarray(a).fill(3),
    "flat": lambda a: list(a.flat),
    "write flat": lambda a: a.flat.__setitem__(0, 3),
    "copyto": lambda a: np.copyto(a, 3),
    "T": lambda a: a.T.sum(),
    "hash of bytes": lambda a: hash(a.data),
    "concatenate": lambda a: np.concatenate([a, a]),
    "tofile": lambda a: a.tofile(os.devnull),
    "view": lambda a: a.view("u1"),
    "diagonal": lambda a: a.diagonal(),
    "save": lambda a: np.save(os.devnull, a),
    "choose": lambda a: np.choose([0, 1, 2, 0], a),
}


@pytest.mark.parametrize("use", REFUSED_OR_HARMLESS.values(), ids=REFUSED_OR_HARMLESS)
@pytest.mark.parametrize("mode", MODES)
def test_no_use_of_a_closed_array_crashes_or_reaches_the_file(mapped, content, numbers_file, numbers, use, mode):
    array = mapped("r" if mode == "w+" else mode)
    array.close()
    with contextlib.suppress(ValueError, TypeError):
        use(array)
    assert content(numbers_file) == numbers.tobytes()


# Many, and at the same time


def test_thousands_of_files_can_be_mapped_under_a_small_limit_of_descriptors(run_python, tmp_path):
    run_python(
        """
        import os, resource, sys
        import ndfile as nf

        folder = sys.argv[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        for i in range(5000):
            with open(os.path.join(folder, f"{i}.dat"), "wb") as file:
                file.write(i.to_bytes(4, "little"))
        arrays = [nf.memmap(os.path.join(folder, f"{i}.dat"), "<u4", "rc"[i % 2]) for i in range(5000)]
        assert [int(array[0]) for array in arrays] == list(range(5000))
        assert len(os.listdir("/proc/self/fd")) < 20
        with open("/proc/self/maps") as maps:
            assert maps.read().count(folder) == 5000
        for array in arrays:
            pass
        del array
        while arrays:
            arrays.pop().close() if len(arrays) % 2 else arrays.pop()
        with open("/proc/self/maps") as maps:
            assert folder not in maps.read()
        """,
        tmp_path,
    )


def test_a_limit_of_descriptors_is_reached_by_arrays_that_write_and_nothing_is_lost(run_python, tmp_path):
    run_python(
        """
        import errno, os, resource, sys
        import ndfile as nf

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        arrays = []
        try:
            for i in range(100):
                arrays.append(nf.memmap(os.path.join(sys.argv[1], f"{i}.dat"), "u1", "w+", shape=3))
        except OSError as error:
            assert error.errno == errno.EMFILE
        assert 40 < len(arrays) < 64
        count = len(arrays)
        assert not os.path.exists(os.path.join(sys.argv[1], f"{count}.dat"))
        arrays.clear()
        nf.memmap(os.path.join(sys.argv[1], "more.dat"), "u1", "w+", shape=3)
        """,
        tmp_path,
    )


def test_arrays_are_opened_used_and_closed_in_many_threads(mapped, numbers, maps_of):
    failures = []

    def work():
        try:
            for i in range(200):
                with mapped("rc"[i % 2]) as array:
                    np.testing.assert_array_equal(array[1:] + 0, numbers[1:])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert maps_of() == 0


def test_only_one_of_many_threads_closes_a_mapping(mapped):
    for _ in range(50):
        mapping = mapped()._mmap
        start = threading.Barrier(4)

        def close(mapping=mapping, start=start):
            start.wait()
            mapping.close()

        threads = [threading.Thread(target=close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert mapping.closed


def test_a_weak_reference_does_not_keep_an_array_open(mapped, maps_of):
    array = mapped()
    reference = weakref.ref(array)
    array.close()
    del array
    assert reference() is None
    assert maps_of() == 0
