"""Guard and core under the thread sanitizer, in C without Python and as the extension; and the former under the others.

Python and NumPy are not compiled for it, so a report counts if one of its stacks leads through the core's functions.
"""

import contextlib
import gc
import os
import random
import re
import shutil
import subprocess
import sysconfig
import threading
import time

import numpy as np
import pytest
from faulty import PAGE, call, record, rounds

import ndfile as nf

HERE = os.path.dirname(os.path.abspath(__file__))
CORE = os.path.join(HERE, os.pardir, os.pardir, "src", "core")
WITHOUT_PYTHON = [
    "ceiling.c",
    "changed_pages.c",
    "guard.c",
    "lost.c",
    "mapping.c",
    "remote.c",
    "small_faults.c",
    "write_fault.c",
]

C_ROUNDS = rounds(full=2000, short=100)
PYTHON_ROUNDS = rounds(full=400, short=25)
THREADS = 8


def compiled(target, *arguments):
    """Compile with gcc, or skip where it or a sanitizer's library is missing."""
    command = ["gcc", "-std=c11", "-g", "-O1", "-pthread", "-I", CORE, *arguments, "-o", str(target)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no gcc, whose sanitizers these tests use")
    if re.search("cannot find .*san", result.stderr):
        pytest.skip(f"gcc has no sanitizers here: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr
    return str(target)


def run_sanitized(*command):
    options = "halt_on_error=0:exitcode=0:die_after_fork=0"
    environment = {**os.environ, "TSAN_OPTIONS": options}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "FATAL: ThreadSanitizer: unexpected memory mapping" in result.stderr:
        # Where the kernel scatters addresses more widely than the sanitizer's shadow has room for.
        unscattered = ["setarch", "-R", *command]
        result = subprocess.run(unscattered, capture_output=True, text=True, check=False, env=environment)
        if "FATAL: ThreadSanitizer" in result.stderr:
            pytest.skip("the thread sanitizer cannot place its shadow memory on this system")
    return result


@pytest.mark.parametrize("sanitizer", ["thread", "address", "undefined"])
def test_the_guard_without_python_gives_a_sanitizer_nothing_to_report(tmp_path, sanitizer):
    started = time.monotonic()
    sources = [os.path.join(CORE, name) for name in WITHOUT_PYTHON]
    program = compiled(tmp_path / "guard", f"-fsanitize={sanitizer}", os.path.join(HERE, "guard_program.c"), *sources)
    result = run_sanitized(program, str(tmp_path), str(C_ROUNDS))
    assert result.stderr == ""
    assert result.returncode == 0
    faults, mistakes = map(int, re.findall(r"\d+", result.stdout))
    assert (faults > C_ROUNDS * THREADS, mistakes) == (True, 0)
    record(f"sanitizer-{sanitizer}-c", started, rounds=C_ROUNDS, faults=faults, reports=0)


def test_a_race_on_purpose_is_reported(tmp_path):
    """The control."""
    sources = [os.path.join(CORE, name) for name in WITHOUT_PYTHON]
    program = compiled(tmp_path / "guard", "-fsanitize=thread", os.path.join(HERE, "guard_program.c"), *sources)
    assert "WARNING: ThreadSanitizer: data race" in run_sanitized(program, str(tmp_path), "1", "race").stderr


# ---- As the extension ----


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package, its core compiled for the thread sanitizer."""
    folder = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("_core*.so", "__pycache__")
    shutil.copytree(os.path.dirname(nf.__file__), folder / "ndfile", ignore=ignored)
    sources = [os.path.join(CORE, name) for name in sorted(os.listdir(CORE)) if name.endswith(".c")]
    headers = ["-I", sysconfig.get_path("include"), "-I", np.get_include()]
    target = folder / "ndfile" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiled(target, "-fsanitize=thread", "-fvisibility=hidden", "-shared", "-fPIC", *headers, *sources)
    return str(folder)


def with_sanitizer(folder):
    library = subprocess.run(["gcc", "-print-file-name=libtsan.so"], capture_output=True, text=True, check=True).stdout
    return {
        "LD_PRELOAD": os.path.realpath(library.strip()),
        "TSAN_OPTIONS": f"halt_on_error=0:exitcode=0:die_after_fork=0:history_size=7:log_path={folder}/report",
    }


def reports_of_ours(folder):
    """The sanitizer's reports in which our functions occur."""
    text = "".join(path.read_text() for path in folder.glob("report*"))
    reports = [report for report in text.split("=" * 18) if "WARNING" in report and "/core/" in report]
    return [report for report in reports if not is_intended(report)]


# What moves the user's bytes, in the core and in NumPy.
COPYING = {"copy", "copy_row", "read_bytes", "unpack", "nd_put", "nd_write", "_contig_to_contig"}


def is_intended(report):
    """Pages are replaced under threads that read them: that is what losing a page means. They are told.

    Where the sanitizer no longer knows what the other thread did, nobody can say what the report is about. And threads
    that store into rows while others gather them race for the file's bytes, as they asked for.
    """
    if "failed to restore the stack" in report:
        return True
    stacks = [part.split("\n\n")[0] for part in re.split(r" of size \d+ at ", report)[1:3]]
    if not all("#0 " in stack for stack in stacks):
        return True
    copies = [COPYING.intersection(re.findall(r"#[012] (\w+)", stack)) for stack in stacks]
    if (len(copies) == 2 and all(copies)) or re.search(r"Location is global .* \(shared\d", report):
        return True
    return re.search(r"#0 mmap .*\n *#1 mmap .*\n *#2 lose |#0 mmap .*\n *#1 lose ", report) is not None


def rows_of(array, chance):
    """So many that several threads share them."""
    return np.random.default_rng(chance.randrange(1000)).integers(0, array.size, 1 << 16)


def use_all(site, folder, rounds, seed):
    """Open, read, cut, fault, fork and close, in threads that share a few arrays."""
    assert nf.__file__.startswith(site)
    paths = [os.path.join(folder, f"shared{i}") for i in range(4)]
    arrays = [None] * len(paths)
    lock = threading.Lock()
    counts, strange = {}, []

    def renew(which):
        with open(paths[which], "wb") as file:
            file.write(b"\1" * (512 if which == 3 else 16) * PAGE)
        arrays[which] = nf.memmap(paths[which], "u1", ("r", "r+", "c")[which % 3])

    def act(chance):
        which = chance.randrange(len(arrays))
        array = arrays[which]
        names = ["scalar", "sum", "view", "copy", "flush", "cut", "close", "check", "renew", "fork"]
        name = chance.choice([*names, "gather", "scatter", "store", "prefetch", "release", "residency", "backend"])
        try:
            if name == "scalar":
                array[chance.randrange(array.size)]
            elif name == "sum":
                array.sum()
            elif name == "view":
                np.asarray(array[PAGE:]).sum()
                _ = None  # the error comes before the next line
            elif name == "copy":
                array.copy()
            elif name == "gather":
                array[rows_of(array, chance)]
            elif name == "scatter" and array.mode != "r":
                array[rows_of(array, chance)] = 1
            elif name == "store" and array.mode != "r":
                array[...] = np.ones(array.shape, array.dtype)
            elif name == "prefetch":
                array.prefetch(rows_of(array, chance)[:100], wait=chance.random() < 0.5)
            elif name == "release":
                array.release()
            elif name == "residency":
                array.residency()
            elif name == "backend" and array.mode != "c":
                array.backend = chance.choice(["map", "read"])
            elif name == "flush":
                array.flush()
            elif name == "cut":
                with lock:  # never a file that is being renewed: it would be opened empty
                    os.truncate(paths[which], chance.randrange(12) * PAGE)
            elif name == "close":
                array.close()
            elif name == "check":
                array.check()
            elif name == "renew":
                with lock:
                    renew(which)
            elif chance.randrange(10) == 0:
                fork(array)
        except (nf.FaultError, nf.ClosedError, nf.SizeError, FileNotFoundError) as error:
            name = f"{name}: {type(error).__name__}"
        counts[name] = counts.get(name, 0) + 1

    def fork(array):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                array.sum()
            os._exit(0)
        os.waitpid(pid, 0)

    def work(number):
        chance = random.Random(seed * 100 + number)
        done = 0
        while done < rounds * 10:
            done += 1
            try:
                act(chance)
            except (nf.FaultError, nf.ClosedError):
                pass  # raised between two lines, for a plain view
            except Exception as error:
                strange.append(repr(error))

    for which in range(len(paths)):
        renew(which)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    arrays.clear()
    gc.collect()
    return counts, strange


def test_threads_that_open_fault_fork_and_close_give_the_thread_sanitizer_nothing_to_report(
    site, tmp_path, monkeypatch
):
    started = time.monotonic()
    monkeypatch.syspath_prepend(site)  # `call` hands the path on
    ended = call(use_all, site, str(tmp_path), PYTHON_ROUNDS, 1, environment=with_sanitizer(tmp_path))
    if "unexpected memory mapping" in ended.errors:
        pytest.skip("the thread sanitizer cannot place its shadow memory under Python on this system")
    counts, strange = ended.result()
    assert set(strange) == set()
    assert any("FaultError" in name for name in counts)
    assert any("ClosedError" in name for name in counts)
    assert reports_of_ours(tmp_path) == []
    record("sanitizer-thread-python", started, acts=sum(counts.values()), counts=counts, reports=0)


RACE = """
volatile int shared;
int race(void) { for (int i = 0; i < 3000000; i++) shared++; return shared; }
"""


def use_race(library):
    import ctypes

    race = ctypes.CDLL(library).race
    workers = [threading.Thread(target=race) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_a_race_on_purpose_in_an_extension_is_reported(tmp_path):
    """The control."""
    (tmp_path / "core").mkdir()
    source = tmp_path / "core" / "race.c"
    source.write_text(RACE)
    library = compiled(tmp_path / "race.so", "-fsanitize=thread", "-shared", "-fPIC", str(source))
    ended = call(use_race, library, environment=with_sanitizer(tmp_path))
    if "unexpected memory mapping" in ended.errors:
        pytest.skip("the thread sanitizer cannot place its shadow memory under Python on this system")
    ended.result()
    assert reports_of_ours(tmp_path) != []
