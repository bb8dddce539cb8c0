"""Following: new rows are given as they are published."""

import gc
import os
import signal
import tempfile
import threading
import time

import numpy as np
import pytest
from growing_kinds import numbered
from other_writer import LONG_S, descriptors, writing_elsewhere

import ndfile as nf

MIB = 1 << 20


def test_following_gives_views_of_what_is_new(kind, pair):
    writer, reader = pair
    news = reader.follow(timeout_s=LONG_S)
    for count in (1, 5, 1000):
        start = kind.rows_of(writer).shape[0]
        writer.append(kind.turned(numbered(count, start)))
        rows = next(news)
        assert isinstance(rows, nf.memmap)
        assert rows.base is reader
        np.testing.assert_array_equal(kind.rows_of(rows), numbered(count, start))
        assert reader.shape == writer.shape
    news.close()


def test_rows_that_came_between_are_given_together(npy_pair):
    writer, reader = npy_pair
    news = reader.follow(timeout_s=LONG_S)
    for count in range(4, 9):
        writer.append(numbered(1, count))
    np.testing.assert_array_equal(next(news), numbered(5, 4))
    news.close()


@pytest.mark.parametrize("timeout_s", [0, 0.0, 0.1])
def test_following_ends_without_news(kind, pair, timeout_s):
    _, reader = pair
    start_s = time.monotonic()
    assert list(reader.follow(timeout_s=timeout_s)) == []
    assert time.monotonic() - start_s >= timeout_s


def test_a_timeout_of_nothing_gives_what_is_there(kind, pair):
    writer, reader = pair
    writer.append(kind.turned(numbered(2, 4)))
    (rows,) = reader.follow(timeout_s=0)
    np.testing.assert_array_equal(kind.rows_of(rows), numbered(2, 4))


def test_news_begin_the_timeout_anew(npy_pair):
    writer, reader = npy_pair
    writer.append(numbered(1))
    start_s, seen = time.monotonic(), 0
    for rows in reader.follow(timeout_s=0.4):
        seen += len(rows)
        if seen < 5:
            time.sleep(0.2)
            writer.append(numbered(1))
    assert seen == 5
    assert time.monotonic() - start_s >= 1.2


def test_a_thread_of_the_process_can_be_followed(kind, pair):
    writer, reader = pair

    def append():
        for count in range(4, 300):
            writer.append(kind.turned(numbered(1, count)))

    thread = threading.Thread(target=append)
    thread.start()
    seen = 4
    for rows in reader.follow(timeout_s=LONG_S):
        rows = kind.rows_of(rows)
        np.testing.assert_array_equal(rows, numbered(len(rows), seen))
        seen += len(rows)
        if seen == 300:
            break
    thread.join()
    assert seen == 300


@pytest.mark.parametrize("how", ["fast", "sync"])
def test_another_process_can_be_followed(npy_pair, how):
    writer, reader = npy_pair
    writer.close()
    last = 10_000 if how == "fast" else 30
    with writing_elsewhere(reader.filename, last, how) as process:
        process.stdin.write(b"go\n")
        process.stdin.flush()
        seen = 4
        for rows in reader.follow(timeout_s=LONG_S):
            assert (rows == np.arange(seen, seen + len(rows))[:, None]).all()
            seen += len(rows)
            if seen == last:
                break
    assert seen == last


@pytest.mark.parametrize("timeout_s", [None, LONG_S])
def test_closing_the_array_ends_the_following(npy_pair, timeout_s):
    writer, reader = npy_pair
    given = []

    def follow():
        given.extend(rows.shape for rows in reader.follow(timeout_s))

    thread = threading.Thread(target=follow)
    thread.start()
    writer.append(numbered(2))
    until_s = time.monotonic() + LONG_S
    while not given and time.monotonic() < until_s:
        time.sleep(0.01)
    reader.close()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert given == [(2, 3)]


def test_closing_the_array_between_two_news_ends_the_following(npy_pair):
    writer, reader = npy_pair
    news = reader.follow()
    writer.append(numbered(2))
    assert len(next(news)) == 2
    reader.close()
    assert list(news) == []


def test_what_was_given_stays_whole(npy_pair):
    writer, reader = npy_pair
    news = reader.follow(timeout_s=LONG_S)
    given = []
    for count in range(4, 100):
        writer.append(numbered(1, count))
        given.append(next(news))
    news.close()
    np.testing.assert_array_equal(np.vstack(given), numbered(96, 4))


def test_following_goes_on_after_the_array_was_made_shorter(kind, pair):
    writer, reader = pair
    news = reader.follow(timeout_s=0.1)
    writer.append(kind.turned(numbered(4, 4)))
    assert kind.rows_of(next(news)).shape == (4, 3)
    writer.resize(2)
    assert list(news) == []
    news = reader.follow(timeout_s=LONG_S)
    writer.append(kind.turned(numbered(3, 50)))
    np.testing.assert_array_equal(kind.rows_of(next(news)), numbered(3, 50))
    news.close()


def test_what_is_left_of_following_is_nothing(kind, pair):
    writer, reader = pair
    before = descriptors()
    writer.append(kind.turned(numbered(1, 4)))
    for _ in reader.follow(timeout_s=LONG_S):
        break
    gc.collect()
    assert descriptors() == before
    news = reader.follow(timeout_s=LONG_S)
    writer.append(kind.turned(numbered(1, 5)))
    next(news)
    del news
    gc.collect()
    assert descriptors() == before


def test_two_follow_one_file(npy_pair):
    writer, reader = npy_pair
    with nf.open(writer.filename) as second:
        news = [reader.follow(LONG_S), second.follow(LONG_S)]
        for count in range(4, 20):
            writer.append(numbered(1, count))
            for one in news:
                np.testing.assert_array_equal(next(one), numbered(1, count))
        for one in news:
            one.close()


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), "1"])
def test_a_timeout_that_is_none_is_refused(npy_pair, timeout_s):
    _, reader = npy_pair
    with pytest.raises((ValueError, TypeError)):
        next(reader.follow(timeout_s))


def test_following_can_be_interrupted(npy_pair):
    """A signal's handler runs while it waits, and what the handler raises comes out."""
    _, reader = npy_pair

    class HandlerError(Exception):
        pass

    def handle(*_):
        raise HandlerError

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(HandlerError):
            next(reader.follow())
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
    gc.collect()


def test_following_goes_on_where_nothing_tells_of_changes(npy_pair, run_python):
    """Without descriptors there is no inotify."""
    writer, _ = npy_pair
    writer.close()
    program = """
        import resource, sys, threading
        import numpy as np
        import ndfile as nf
        writer, reader = nf.open(sys.argv[1], "r+"), nf.open(sys.argv[1])
        writer.append(np.ones((1, 3), "f4"))
        assert reader.refresh() == 1
        list(reader.follow(0))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        def append():
            for _ in range(50):
                writer.append(np.ones((1, 3), "f4"))
        thread = threading.Thread(target=append)
        thread.start()
        seen = 0
        for rows in reader.follow(60):
            seen += len(rows)
            if seen == 50:
                break
        thread.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        writer.close()
        reader.close()
    """
    run_python(program, writer.filename)


def test_a_followed_file_may_lie_in_shared_memory(kind):
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        kind.make(folder, numbered(4)) as writer,
        kind.reopen(writer, "r") as reader,
    ):
        news = reader.follow(LONG_S)
        for count in range(4, 20):
            writer.append(kind.turned(numbered(1, count)))
            np.testing.assert_array_equal(kind.rows_of(next(news)), numbered(1, count))
        news.close()


def test_a_link_can_be_followed(npy_pair, tmp_path):
    writer, _ = npy_pair
    os.symlink(writer.filename, tmp_path / "link.npy")
    with nf.open(tmp_path / "link.npy") as reader:
        news = reader.follow(LONG_S)
        writer.append(numbered(1, 4))
        np.testing.assert_array_equal(next(news), numbered(1, 4))
        news.close()
