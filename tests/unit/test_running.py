"""The engine under the statistics: blocks that cover an array, results in order, and an end for all at once."""

import contextlib
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndfile as nf
from ndfile.compute import blocks
from ndfile.compute.blocks import Blocks, Input
from ndfile.compute.running import run

PAGE = 4096


# ---- Blocks ----


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple),
    items=st.integers(1, 200),
    data=st.data(),
)
def test_blocks_are_each_item_once_and_bounded(shape, items, data):
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    seen = np.zeros(shape, int)
    found = Blocks(shape, order, items)
    for block in found:
        seen[block] += 1
        assert seen[block].size <= items
    assert (seen == 1).all()
    assert len(list(found)) == len(found)


def test_blocks_of_an_array_follow_its_memory():
    array = np.zeros((4, 6, 5), order="F")[:, ::-1]
    starts = []
    for block in Blocks.of(array, 8 * 5):
        part = array[block]
        starts.append(min(part.__array_interface__["data"][0], part[:, -1:].__array_interface__["data"][0]))
    assert len(starts) > 10
    assert len(set(np.sign(np.diff(starts)))) <= 2


def test_a_block_that_is_not_there_is_an_index_error():
    found = Blocks((3,), (0,), 2)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            found[index]


# ---- Order, errors, ends ----


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_the_blocks_order_whatever_the_threads(threads):
    delays = np.random.default_rng(0).random(60) * 1e-3
    seen = []

    def work(block):
        time.sleep(delays[block])
        return block * block

    run(work, range(60), lambda block, result: seen.append((block, result)), threads=threads)
    assert seen == [(block, block * block) for block in range(60)]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_few_results_wait_for_a_slow_block(threads):
    done = []
    taken = []

    def work(block):
        if block == 0:
            until_s = time.monotonic() + 10
            while len(done) < 2 * threads - 1 and time.monotonic() < until_s:
                time.sleep(1e-3)
            time.sleep(0.02)
            assert len(done) <= 2 * threads - 1
        done.append(block)

    run(work, range(50) if threads > 1 else range(1, 50), lambda block, _: taken.append(block), threads=threads)
    assert taken == sorted(taken)


@pytest.mark.parametrize("threads", [1, 4])
def test_an_exception_is_that_of_the_first_block_and_ends_all(threads):
    begun = []

    def work(block):
        begun.append(block)
        if block >= 5:
            raise ValueError(f"block {block}")

    with pytest.raises(ValueError, match=r"^block 5$"):
        run(work, range(1000), lambda *_: None, threads=threads)
    assert len(begun) < 20


def test_an_exception_where_results_are_taken_ends_all():
    def take(block, _):
        if block == 3:
            raise KeyError(block)

    with pytest.raises(KeyError):
        run(lambda block: block, range(1000), take, threads=3)


@pytest.mark.parametrize("threads", [1, 4])
def test_no_blocks_are_no_work(threads):
    run(lambda _: 1 / 0, [], lambda *_: 1 / 0, threads=threads)


@pytest.mark.parametrize("threads", [1, 4])
def test_enough_is_enough(threads):
    begun, taken = [], []

    def take(block, _):
        taken.append(block)
        return block == 10

    run(begun.append, range(10_000), take, threads=threads)
    assert taken == list(range(11))
    assert len(begun) < 100


@pytest.mark.parametrize("threads", [0, -1, True, 1.5])
def test_threads_must_be_a_number(threads):
    with pytest.raises((ValueError, TypeError)):
        run(lambda block: block, range(3), lambda *_: None, threads=threads)


def test_progress_ends_with_everything_done():
    seen = []
    run(lambda _: None, range(7), lambda *_: None, threads=2, progress=lambda *facts: seen.append(facts), nbytes=1000)
    assert seen[0] == (0, 1000)
    assert seen[-1] == (1000, 1000)
    assert seen == sorted(seen)


def test_what_a_progress_raises_ends_all():
    def show(done, _total):
        if done:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        run(lambda b: b, range(100), lambda *_: None, threads=3, progress=show, nbytes=100)


def test_ctrl_c_ends_all_within_a_block(no_thread_is_left):
    done = []

    def work(block):
        time.sleep(0.01)
        done.append(block)

    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(work, range(100_000), lambda *_: None, threads=3)
    finally:
        timer.join()
    count = len(done)
    assert count < 50_000
    time.sleep(0.05)
    assert len(done) == count


def test_an_errstate_holds_in_all_threads():
    def work(_block):
        return np.float64(1) / np.float64(0)

    with np.errstate(divide="ignore"):
        run(work, range(50), lambda *_: None, threads=3)


# ---- Files ----


def test_a_file_that_is_cut_meanwhile_is_an_exception(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NBYTES", PAGE)
    path = tmp_path / "x.bin"
    path.write_bytes(b"\1" * 64 * PAGE)
    with nf.memmap(path, mode="r") as array:
        source = Input(array)

        def work(block):
            if block[0].start == 8 * PAGE:
                with open(path, "r+b") as file:
                    file.truncate(4 * PAGE)
            total = int(source.read(block).sum())
            source.check(block)
            return total

        with pytest.raises(nf.FaultError):
            run(work, Blocks.of(array, PAGE), lambda *_: None, threads=2)
        with contextlib.suppress(nf.FaultError):
            array.check()


def test_an_array_that_was_closed_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\1" * PAGE)
    array = nf.memmap(tmp_path / "x.bin", mode="r")
    array.close()
    for function in (nf.compute.sum, nf.compute.std, nf.compute.min, nf.compute.argmax, nf.describe):
        with pytest.raises(nf.ClosedError):
            function(array)
