"""A ceiling on resident memory: what may be asked for, and what becomes of it. tests/faults has whether it holds."""

import gc
import os
import threading
import time

import numpy as np
import pytest

import ndfile as nf
from ndfile.files import memory

MIB = 1 << 20


def threads():
    return len(os.listdir("/proc/self/task"))


@pytest.fixture
def large(path):
    """The path of a file of 64 MiB that is one hole."""
    with open(path, "wb") as file:
        file.truncate(64 * MIB)
    return path


def resident_nbytes(path):
    """What smaps says of the mappings of a file."""
    total, is_ours = 0, False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            words = line.split()
            if not words[0].endswith(":"):
                is_ours = line.rstrip().endswith(path)
            elif is_ours and words[0] == "Rss:":
                total += int(words[1]) << 10
    return total


def waits_until(is_true):
    until_s = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def waits_until_there_are(number):
    """A thread that was joined is over, but may be seen for a moment more."""
    waits_until(lambda: threads() == number)


def test_there_is_no_ceiling_unless_one_is_asked_for(large):
    before = threads()
    with nf.memmap(large) as a:
        assert a.max_rss is None
        assert threads() == before


@pytest.mark.parametrize(
    ("max_rss", "nbytes"), [(8 * MIB, 8 * MIB), ("8 MiB", 8 * MIB), (np.int64(9), 9), (None, None)]
)
def test_a_ceiling_can_be_given_in_every_way_of_opening(large, tmp_path, max_rss, nbytes):
    np.save(tmp_path / "x.npy", np.zeros(3))
    np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.ones(3))
    with nf.memmap(large, max_rss=max_rss) as a:
        assert a.max_rss == nbytes
    with nf.memmap(tmp_path / "new.dat", mode="w+", shape=5, max_rss=max_rss) as a:
        assert a.max_rss == nbytes
    with nf.open(tmp_path / "x.npy", max_rss=max_rss) as a:
        assert a.max_rss == nbytes
    with nf.create(tmp_path / "y.npy", 3, "f8", max_rss=max_rss) as a:
        assert a.max_rss == nbytes
    with nf.open(tmp_path / "x.npz", max_rss=max_rss) as archive:
        assert archive["a"].max_rss == archive["b"].max_rss == nbytes


def test_a_ceiling_is_the_mappings_and_can_be_set_on_any_view(large):
    with nf.memmap(large) as a:
        a[5:].max_rss = "3 MB"
        assert a.max_rss == a[::2].max_rss == 3_000_000
        a.max_rss = None
        assert a[5:].max_rss is None


def test_auto_is_a_quarter_of_what_there_is(large):
    with nf.memmap(large, max_rss="auto") as a:
        assert a.max_rss == memory.most_nbytes() // 4
    assert memory.most_nbytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("max_rss", [1, "auto"])
def test_mode_c_is_refused_with_the_reason(large, max_rss):
    with pytest.raises(nf.LayoutError, match="in memory alone"):
        nf.memmap(large, mode="c", max_rss=max_rss)
    with nf.memmap(large, mode="c") as a:
        with pytest.raises(nf.LayoutError, match="in memory alone"):
            a.max_rss = max_rss
        a.max_rss = None
        assert a.max_rss is None


@pytest.mark.parametrize("max_rss", [0, -1, "nonsense", True, 1.5])
def test_a_refused_ceiling_leaves_file_and_array_as_they_were(large, tmp_path, max_rss, content):
    old = tmp_path / "old"
    old.write_bytes(b"old")
    with pytest.raises((nf.LayoutError, TypeError)):
        nf.memmap(old, mode="w+", shape=7, max_rss=max_rss)
    assert content(old) == b"old"
    with pytest.raises((nf.LayoutError, TypeError)):
        nf.create(tmp_path / "new.npy", 3, "f8", max_rss=max_rss)
    assert not os.path.exists(tmp_path / "new.npy")
    with nf.memmap(large, max_rss=MIB) as a:
        with pytest.raises((nf.LayoutError, TypeError)):
            a.max_rss = max_rss
        assert a.max_rss == MIB


def test_an_array_without_a_file_takes_none_alone():
    a = np.zeros(3).view(nf.memmap)
    assert a.max_rss is None
    a.max_rss = None
    with pytest.raises(nf.LayoutError, match="no file"):
        a.max_rss = 1


def test_a_closed_array_has_no_ceiling_and_takes_none(large):
    a = nf.memmap(large, max_rss=MIB)
    view = a[3:]
    a.close()
    assert a.max_rss is None
    view.max_rss = None
    with pytest.raises(nf.ClosedError):
        view.max_rss = 1


def test_one_thread_is_for_all_mappings_and_goes_with_the_last(large):
    before = threads()
    a, b = nf.memmap(large, max_rss=MIB), nf.memmap(large, mode="r", max_rss="2 MiB")
    assert threads() == before + 1
    a.close()
    assert threads() == before + 1
    b.max_rss = None
    waits_until_there_are(before)
    b.max_rss = 1
    assert threads() == before + 1
    del b
    gc.collect()
    waits_until_there_are(before)


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_what_is_over_the_ceiling_is_let_go_and_what_is_below_stays(large, mode):
    with nf.memmap(large, mode=mode) as a:
        a[: 8 * MIB].sum()
        a.max_rss = 16 * MIB
        time.sleep(0.1)
        assert resident_nbytes(large) >= 8 * MIB
        a.max_rss = 4 * MIB
        waits_until(lambda: resident_nbytes(large) <= 4 * MIB)
        a.max_rss = None
        a.sum()
        time.sleep(0.1)
        assert resident_nbytes(large) == 64 * MIB


def test_another_arrays_growth_does_not_take_pages_that_are_below_their_ceiling(large, tmp_path):
    other = tmp_path / "other"
    with open(other, "wb") as file:
        file.truncate(256 * MIB)
    with nf.memmap(large, mode="r", max_rss=32 * MIB) as a, nf.memmap(other, mode="r") as b:
        a[: 16 * MIB].sum()
        time.sleep(0.1)
        b.sum()
        time.sleep(0.1)
        a[: 16 * MIB].sum()
        b.sum()
        time.sleep(0.1)
        assert resident_nbytes(large) >= 16 * MIB


def test_empty_grown_shortened_and_cut_arrays_may_have_a_ceiling(tmp_path):
    path = str(tmp_path / "x.npy")
    a = nf.create(path, (0, 1024), "u1", max_rss=1)
    for _ in range(50):
        a.append(np.full((512, 1024), 7, "u1"))
    assert (np.asarray(a) == 7).all()
    a.resize(100)
    assert int(np.asarray(a).sum()) == 7 * 100 * 1024
    os.truncate(path, 5000)
    with pytest.raises(nf.FaultError):
        a.sum()
    a.max_rss = 2
    time.sleep(0.02)
    with pytest.raises(nf.FaultError):
        a.close()
    assert a.max_rss is None


def test_an_atomic_block_keeps_what_is_nowhere_else(tmp_path):
    rng = np.random.default_rng(1)
    with nf.create(tmp_path / "x.npy", (32, MIB), "u1", max_rss=1) as a:
        scanned = nf.memmap(tmp_path / "scanned", mode="w+", shape=128 * MIB, sparse=True, max_rss=1)
        for _ in range(4):
            rows, seen = rng.integers(0, 256, a.shape, "u1"), []
            with a.atomic():
                scan = threading.Thread(target=lambda seen=seen: seen.append(int(np.asarray(scanned).sum())))
                scan.start()
                for i in range(len(a)):
                    np.asarray(a)[i] = rows[i]
                scan.join()
                assert (np.asarray(a) == rows).all()
            assert seen == [0]
            assert (np.load(tmp_path / "x.npy") == rows).all()
        scanned.close()


def test_a_block_that_is_rolled_back_under_a_ceiling_leaves_the_old_bytes(tmp_path):
    with nf.create(tmp_path / "x.npy", (8, MIB), "u1", fill=5, max_rss=1) as a:
        block = a.atomic()
        block.__enter__()
        np.asarray(a)[...] = 9
        time.sleep(0.01)
        assert (np.asarray(a) == 9).all()
        block.__exit__(KeyError, KeyError(), None)
        assert (np.asarray(a) == 5).all()


def test_blocks_that_begin_while_pages_are_let_go_lose_nothing(tmp_path):
    with nf.create(tmp_path / "x.npy", (4, MIB), "u1", max_rss=1) as a:
        plain = np.asarray(a)
        for i in range(60):
            plain.sum()
            with a.atomic():
                plain[...] = i
                assert (plain == i).all()
        assert (np.load(tmp_path / "x.npy") == 59).all()


def test_closing_in_another_thread_while_pages_are_let_go_and_read_is_an_error_at_most(large):
    before = threads()
    for _ in range(20):
        a = nf.memmap(large, max_rss=1)
        closer = threading.Timer(0.002, a.close)
        closer.start()
        try:
            for i in range(0, a.size, MIB):
                a[i : i + MIB].sum()
        except nf.ClosedError:
            pass
        closer.join()
        assert a.closed
    waits_until_there_are(before)


def test_threads_that_set_open_and_close_at_once_leave_no_thread(large):
    before = threads()

    def work(number):
        for i in range(40):
            with nf.memmap(large, mode="r", max_rss=i + number + 1) as a:
                a[: 4 * MIB].sum()
                a.max_rss = None if i % 3 else 2

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    waits_until_there_are(before)


def test_a_forked_child_has_its_own_thread(run_python, large):
    run_python(
        """
        import os, sys, time
        import numpy as np
        import ndfile as nf

        def settled(a):
            np.asarray(a).sum()
            until_s = time.monotonic() + 20
            while time.monotonic() < until_s:
                with open("/proc/self/smaps") as maps:
                    text = maps.read().split(sys.argv[1] + "\\n")[1]
                if int(text.split("Rss:")[1].split()[0]) < 1024:
                    return True
            return False

        a = nf.memmap(sys.argv[1], mode="r", max_rss="1 MiB")
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                is_well = len(os.listdir("/proc/self/task")) == 2 and settled(a)
                a.max_rss = None
                until_s = time.monotonic() + 20
                while len(os.listdir("/proc/self/task")) > 1:  # it was joined, and may be seen for a moment more
                    is_well = is_well and time.monotonic() < until_s
                os._exit(not is_well)
            assert os.waitpid(pid, 0)[1] == 0
        assert settled(a)
        """,
        large,
    )


def test_the_least_limit_of_all_control_groups_counts(tmp_path, monkeypatch):
    """The folders are the kernel's in other places: who runs the tests may not make groups."""
    monkeypatch.setattr(memory, "CGROUPS", str(tmp_path))
    for folder, limit in {"a/b/c": "max", "a/b": "5000000", "a": "7000000"}.items():
        os.makedirs(tmp_path / folder, exist_ok=True)
        (tmp_path / folder / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("4000000\n")
    assert memory._limit_in("", "/a/b/c", "memory.max") == 5000000
    assert memory._limit_in("", "/a", "memory.max") == 7000000
    assert memory._limit_in("/memory", "/not/seen/here", "memory.limit_in_bytes") == 4000000
    assert memory._limit_in("", "/", "memory.max") == 1 << 62


def test_a_real_control_groups_limit_is_auto_times_four(run_python, path):
    """In version 1 or 2, whichever has the memory controller; as root."""
    roots = {"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"}
    group = None
    for root, name in roots.items():
        folder = f"{root}/ndfile-test-{os.getpid()}"
        try:
            os.mkdir(folder)
        except OSError:
            continue
        if os.path.exists(f"{folder}/{name}"):
            group = f"{folder}/{name}"
            break
        os.rmdir(folder)
    if group is None:
        pytest.skip("no control group can be made here")
    try:
        with open(group, "w") as limit:
            limit.write(str(512 * MIB))
        run_python(
            """
            import os, sys
            with open(sys.argv[1] + "/cgroup.procs", "w") as processes:
                processes.write(str(os.getpid()))
            import ndfile as nf
            with nf.memmap(sys.argv[2], mode="w+", shape=9, max_rss="auto") as a:
                assert a.max_rss == 128 << 20, a.max_rss
            """,
            os.path.dirname(group),
            path,
        )
    finally:
        os.rmdir(os.path.dirname(group))
