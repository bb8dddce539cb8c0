"""Progress: one convention, and nothing left behind."""

import re
import subprocess
import sys
import textwrap
import threading

import pytest

from ndfile.progress import reported

pytest.importorskip("tqdm")

# Keeps tqdm from being imported, as if it were not installed.
WITHOUT_TQDM = "import sys; sys.modules['tqdm'] = None\n"


@pytest.fixture
def without_tqdm(monkeypatch):
    """As if it were not installed."""
    monkeypatch.setitem(sys.modules, "tqdm", None)


def work(progress, steps=(40, 60), total=100):
    with reported(progress, total, "hash x.npy") as advance:
        for step in steps:
            advance(step)


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_is_shown_unless_it_is_asked_for(progress, capsys):
    work(progress)
    assert capsys.readouterr().err == ""


def test_nothing_is_imported_unless_it_is_asked_for(run_python):
    run_python(
        """
        import sys
        from ndfile.progress import reported
        with reported(None, 100, "x") as advance:
            advance(100)
        assert "tqdm" not in sys.modules
        """
    )


def test_a_callable_gets_the_bytes_done_and_all_from_the_beginning(capsys):
    calls = []
    work(lambda *numbers: calls.append(numbers))
    assert calls == [(0, 100), (40, 100), (100, 100)]
    assert capsys.readouterr().err == ""


def test_a_callable_is_told_of_empty_work_too():
    calls = []
    work(lambda *numbers: calls.append(numbers), steps=(), total=0)
    assert calls == [(0, 0)]


def test_what_a_callable_raises_comes_out():
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(stop)


@pytest.mark.parametrize("progress", ["yes", 1, 0, [], object()])
def test_anything_else_is_a_type_error_before_any_work(progress):
    with pytest.raises(TypeError, match="progress must be None, a bool or a callable"):
        work(progress)


def test_tqdm_draws_the_bar_and_closes_it(capsys):
    work(True)
    text = capsys.readouterr().err
    assert "hash x.npy: 100%" in text
    assert "100/100" in text
    assert text.endswith("\n")


def test_the_bar_is_closed_when_the_work_fails(capsys):
    with pytest.raises(OSError, match="failed"), reported(True, 100, "hash x.npy"):
        raise OSError("failed")
    assert capsys.readouterr().err.endswith("\n")


def test_the_bar_leaves_no_thread(capsys):
    before = threading.enumerate()
    with reported(True, 100, "x") as advance:
        advance(1)
        assert threading.enumerate() == before
    assert threading.enumerate() == before


def test_tqdm_by_itself_leaves_a_thread(run_python):
    """The control."""
    run_python(
        """
        import io, threading, tqdm
        tqdm.tqdm(total=1, file=io.StringIO()).close()
        assert threading.active_count() == 2
        """
    )


def test_without_tqdm_one_line_is_refreshed_in_place(capsys, without_tqdm):
    work(True, steps=[1 << 20] * 50, total=50 << 20)
    text = capsys.readouterr().err
    assert re.fullmatch(r"(\rhash x\.npy: +\d+%, \d+\.0 of 50\.0 MiB)+\n", text)
    assert text.endswith("100%, 50.0 of 50.0 MiB\n")


def test_the_line_is_not_refreshed_more_often_than_can_be_seen(capsys, without_tqdm):
    work(True, steps=[1] * 100_000, total=100_000)
    assert capsys.readouterr().err.count("\r") < 1000


def test_the_line_ends_when_the_work_fails(capsys, without_tqdm):
    with pytest.raises(OSError, match="failed"), reported(True, 100, "x"):
        raise OSError("failed")
    assert capsys.readouterr().err.endswith("MiB\n")


def test_the_line_of_empty_work_says_that_it_is_done(capsys, without_tqdm):
    work(True, steps=(), total=0)
    assert "100%" in capsys.readouterr().err


def test_a_program_without_a_console_works_on():
    program = WITHOUT_TQDM + textwrap.dedent(
        """
        from ndfile.progress import reported
        sys.stderr = None
        with reported(True, 100, "x") as advance:
            advance(100)
        """
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("kind", ["callable", "tqdm", "line"])
def test_threads_lose_no_bytes_and_never_report_at_the_same_time(kind, capsys, monkeypatch):
    calls, inside = [], threading.Lock()

    def show(done, total):
        assert inside.acquire(blocking=False)
        calls.append(done)
        inside.release()

    if kind == "line":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    step, count = 1 << 20, 8 * 500
    with reported(show if kind == "callable" else True, step * count, "x") as advance:
        threads = [threading.Thread(target=lambda: [advance(step) for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if kind == "callable":
        assert calls == list(range(0, step * count + 1, step))
    else:
        assert "100%" in capsys.readouterr().err
