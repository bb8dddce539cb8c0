"""Make a language-model corpus of Python's own standard library, and use it as an array on disk.

``make demo`` runs this. The work is small functions on an array that do not know which class made it. So each is run
with `ndfile.memmap` and with `numpy.memmap`, each on a file of its own, and the times are printed side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import ndfile as nf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW = 1025  # 1,024 bytes of context, and the one that follows them
BATCH = 64
SEED = 20
WIDTH = 99  # of the report


# ------------------------------------------------------------------ the work


def sources(count: int | None) -> list[Path]:
    """Find the standard library's own modules."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = (path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.relative_to(root).parts)
    return [path for path in found if path.is_file()][:count]


def create(memmap: Any, path: str, files: list[Path]) -> Any:
    """Lay the files end to end in a new array; they are read straight into its pages."""
    sizes = [file.stat().st_size for file in files]
    corpus = memmap(path, dtype=np.uint8, mode="w+", shape=sum(sizes))
    start = 0
    for file, size in zip(files, sizes, strict=True):
        with open(file, "rb", buffering=0) as source:
            source.readinto(corpus[start : start + size])
        start += size
    return corpus


def batches(corpus: Any, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw random windows: inputs x, and targets y, which are the same bytes one further on."""
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        windows = np.empty((BATCH, WINDOW), np.uint8)
        for row, start in enumerate(rng.integers(0, len(corpus) - WINDOW, BATCH).tolist()):
            windows[row] = corpus[start : start + WINDOW]
        yield windows[:, :-1], windows[:, 1:]


def single_bytes(corpus: Any, count: int) -> bytes:
    """Read bytes one at a time, as code does that was not written for arrays."""
    positions = np.random.default_rng(SEED).integers(0, len(corpus), count).tolist()
    return bytes([corpus[position] for position in positions])


def histogram(corpus: Any, block: int = 1 << 20) -> np.ndarray:
    """Count every byte value, a block at a time: bincount makes 8 bytes of each."""
    counts = np.zeros(256, np.intp)
    for start in range(0, len(corpus), block):
        counts += np.bincount(corpus[start : start + block], minlength=256)
    return counts


def occurrences(corpus: Any, word: bytes) -> int:
    """Count a word; `re` reads the array's bytes where they are."""
    return sum(1 for _ in re.finditer(re.escape(word), corpus))


def uppercase(corpus: Any, count: int) -> None:
    """Change random windows in place."""
    rng = np.random.default_rng(SEED)
    for start in rng.integers(0, len(corpus) - WINDOW, count).tolist():
        window = corpus[start : start + WINDOW]
        window -= ((window >= ord("a")) & (window <= ord("z"))) * np.uint8(32)


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def is_held(path: str) -> bool:
    """Ask the kernel whether this process has the file mapped or open."""
    open_files = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
    return path in Path("/proc/self/maps").read_text() or path in open_files


# ------------------------------------------------- timing it, twice, fairly


@dataclass
class Side:
    """One of the two classes, with a file of its own."""

    name: str
    memmap: Any
    path: str
    corpus: Any = None
    archive: str = ""


@dataclass
class Report:
    """Times both sides of each step and prints them."""

    ours: Side
    numpys: Side
    spent: dict[str, float] = field(default_factory=dict)

    def race(self, task: Callable[[Side], object], before: Callable[[Side], object], repeats: int) -> list[float]:
        """Best time of each side; they take turns, and the first of one turn is the last of the next."""
        best = {self.ours.name: float("inf"), self.numpys.name: float("inf")}
        for turn in range(repeats):
            for side in (self.ours, self.numpys)[:: 1 if turn % 2 == 0 else -1]:
                before(side)
                start = perf_counter()
                task(side)
                best[side.name] = min(best[side.name], perf_counter() - start)
        return list(best.values())

    def step(
        self,
        name: str,
        what: str,
        task: Callable[[Side], object],
        *,
        before: Callable[[Side], object] = lambda _: None,
        repeats: int = 5,
        times: int = 1,
        comparable: bool = True,
    ) -> None:
        """Run a step, and print it with the time for one of the `times` that the task does it."""
        ours, numpys = (seconds / times for seconds in self.race(task, before, repeats))
        self.spent[name] = ours * times
        ratio = verdict(ours, numpys) if comparable else "see below"
        print(f"{name:<8}{what:<52}{duration(ours):>10}{duration(numpys):>14}   {ratio}", flush=True)

    def alone(self, name: str, what: str, task: Callable[[], object], numpys: str) -> None:
        """Run a step with ndfile only; `numpys` stands where the other time would."""
        start = perf_counter()
        task()
        spent = perf_counter() - start
        print(f"{name:<8}{what:<52}{duration(spent):>10}{numpys:>14}   see below", flush=True)

    def fact(self, text: str) -> None:
        print(textwrap.fill(text, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8), flush=True)


def duration(seconds: float) -> str:
    """Write a time with three digits."""
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)) if seconds >= u[1]), ("ns", 1e-9))
    value = seconds / size
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def verdict(ours: float, numpys: float) -> str:
    ratio = numpys / ours
    if 0.9 < ratio < 1.1:
        return "same"
    return f"{ratio:.1f}x faster" if ratio > 1 else f"{1 / ratio:.1f}x slower"


# ---------------------------------------------------------------- the steps


def fill_and_flush(report: Report, files: list[Path], size: int, repeats: int) -> None:
    def clean(side: Side) -> None:
        side.corpus = None
        if os.path.exists(side.path):
            os.unlink(side.path)

    def fill(side: Side) -> None:
        side.corpus = create(side.memmap, side.path, files)

    def fill_afresh(side: Side) -> None:
        clean(side)
        fill(side)

    def flush(side: Side) -> None:
        side.corpus.flush()

    report.step("fill", f"{len(files):,} files into a new array on disk", fill, before=clean, repeats=repeats)
    report.step("flush", f"its {size / 1e6:.1f} MB to the disk", flush, before=fill_afresh, repeats=repeats)


def open_and_read(report: Report, times: int, repeats: int) -> None:
    def reopen(side: Side) -> None:
        for _ in range(times):
            side.memmap(side.path, mode="r")

    def keep_open(side: Side) -> None:
        side.corpus = side.memmap(side.path, mode="r")

    report.step("open", "it read only, and let go of it", reopen, times=times)
    for side in (report.ours, report.numpys):
        keep_open(side)

    def sample(side: Side) -> None:
        for _ in batches(side.corpus, times):
            pass

    report.step("sample", f"a batch: {BATCH} random windows of {WINDOW:,} bytes", sample, times=times)
    report.step("peek", "at one byte", lambda side: single_bytes(side.corpus, 50 * times), times=50 * times)
    report.step("count", "every byte value, in blocks of 1 MiB", lambda side: histogram(side.corpus), repeats=repeats)
    report.step("spread", "of the bytes: np.std", lambda side: np.std(side.corpus), repeats=repeats)
    report.step("middle", "of the bytes: np.median", lambda side: np.median(side.corpus), repeats=repeats)
    report.step("search", "the word 'def ' with re", lambda side: occurrences(side.corpus, b"def "), repeats=repeats)


def tell_contents(report: Report) -> None:
    corpus = report.ours.corpus
    x, y = next(batches(corpus, 1))
    text = bytes(x[0, :28]).decode("ascii", "replace")
    report.fact(f"A batch is x {x.shape} and y {y.shape}; x[0] begins {text!r}.")
    counts = histogram(corpus)
    common = ", ".join(f"{chr(value)!r} {counts[value]:,}" for value in np.argsort(counts)[:-6:-1])
    report.fact(f"Most frequent: {common}.")
    report.fact(f"Mean byte {np.mean(corpus):.1f}, deviation {np.std(corpus):.1f}, median {np.median(corpus):.0f}.")
    report.fact(f"'def ' stands there {occurrences(corpus, b'def '):,} times.")


def change_a_copy(report: Report, times: int) -> None:
    before = digest(report.ours.path)

    def open_private(side: Side) -> None:
        side.corpus = side.memmap(side.path, mode="c")

    report.step(
        "change",
        "a window to upper case, copy on write",
        lambda side: uppercase(side.corpus, 10 * times),
        before=open_private,
        times=10 * times,
    )
    on_disk = report.ours.memmap(report.ours.path, mode="r")
    changed = np.count_nonzero(report.ours.corpus != on_disk)
    unchanged = "unchanged" if digest(report.ours.path) == before else "CHANGED"
    report.fact(f"{changed:,} bytes differ in memory; the file is {unchanged} (blake2b {before[:16]}).")


def close_and_delete(report: Report) -> None:
    """Close while views of the corpus live, which `numpy.memmap` cannot."""
    views: list[np.ndarray] = []

    def open_and_touch(side: Side) -> None:
        views.clear()
        side.corpus = side.memmap(side.path, mode="r")
        np.count_nonzero(side.corpus)
        if side is report.ours:
            views.extend([side.corpus[:WINDOW], np.asarray(side.corpus)])

    def let_go(side: Side) -> None:
        if side is report.ours:
            side.corpus.close()
        else:
            side.corpus = None

    report.step("close", "it with views alive (numpy.memmap: del, and none)", let_go, before=open_and_touch)
    open_and_touch(report.ours)
    let_go(report.ours)
    for what, view in zip(("A slice", "A plain array"), views, strict=True):
        try:
            view.sum()
        except nf.ClosedError as error:
            report.fact(f"{what} of it, summed afterwards: ClosedError: {short(error)}")
    path = report.ours.path
    os.unlink(path)
    held = "still holds" if is_held(path) else "holds nothing of"
    report.fact(f"The file was deleted at once: the views live, but the process {held} the file.")
    shutil.copyfile(report.numpys.path, path)


def refuse(report: Report) -> None:
    """Ask for -1 rows, as one would of reshape(), in the mode that replaces the file."""
    size = os.path.getsize(report.ours.path)
    sentences = {}

    def ask(side: Side) -> None:
        try:
            side.memmap(side.path, dtype="float32", mode="w+", shape=(-1, 1024))
        except ValueError as error:
            sentences[side.name] = f"{type(error).__name__}: {short(error).rstrip('.')}."

    report.step("refuse", "mode='w+' with shape=(-1, 1024)", ask, repeats=1, comparable=False)
    for side in (report.ours, report.numpys):
        kept = f"The file had {size:,} bytes and now has {os.path.getsize(side.path):,}."
        report.fact(f"{side.name}: {sentences[side.name]} {kept}")


def archive(report: Report, files: list[Path], times: int, repeats: int) -> None:
    """Keep the corpus with the names and ends of its files, in one file that says what it holds."""
    shutil.copyfile(report.ours.path, report.numpys.path)
    ends = np.cumsum([file.stat().st_size for file in files])
    for side in (report.ours, report.numpys):
        side.corpus = side.memmap(side.path, mode="r")
        side.archive = f"{side.path}.npz"
    names = np.array([file.name for file in files])

    def save(side: Side) -> None:
        arrays = {"bytes": side.corpus, "ends": ends, "names": names}
        if side is report.ours:
            nf.save(side.archive, arrays, sync=False)
        else:
            np.savez(side.archive, **arrays)

    def reopen(side: Side) -> None:
        for _ in range(times):
            load = nf.open if side is report.ours else np.load
            load(side.archive)["bytes"][-1]

    report.step("save", "the corpus with its files' names as .npz", save, repeats=repeats)
    report.step("load", "the .npz, and look at the last byte", reopen, times=times, repeats=2)
    members = ", ".join(f"{one.name} {one.dtype} {one.shape}" for one in nf.info(report.ours.archive).members.values())
    report.fact(f"It holds {members}. numpy.load reads a member as a whole; ndfile maps it where it lies.")


def rot(report: Report) -> None:
    """Change one byte behind everybody's back, and find it."""
    path, told = report.ours.path, ""
    position = os.path.getsize(path) // 3

    def find() -> None:
        nonlocal told
        told = str(nf.verify(path).damages[0])

    report.alone("hash", "every block of the corpus", lambda: nf.checksum(path), "not there")
    with open(path, "r+b") as file:
        file.seek(position)
        old = file.read(1)
        file.seek(position)
        file.write(bytes([old[0] ^ 1]))
    report.alone("verify", "it, with one bit flipped since", find, "not there")
    report.fact(f"The bit is in byte {position:,}. verify: {told}.")
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(old)


NUMPYS_END = """
import os, resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
corpus = np.memmap(sys.argv[1], mode="r")
os.truncate(sys.argv[1], corpus.size // 2)
corpus.sum()
"""


def cut(report: Report) -> None:
    """Cut the files to their first halves while they are mapped, as a careless program does."""
    ended = subprocess.run([sys.executable, "-c", NUMPYS_END, report.numpys.path], check=False).returncode
    end = signal.Signals(-ended).name if ended < 0 else f"exit {ended}"
    path, told = report.ours.path, ""
    corpus = report.ours.memmap(path, mode="r")
    half = len(corpus) // 2
    os.truncate(path, half)

    def use() -> None:
        nonlocal told
        try:
            histogram(corpus)
        except nf.FaultError as error:
            told = f"FaultError: {short(error)}"

    report.alone("cut", "the file to half under the map, then count", use, end)
    report.fact(f"ndfile: {told}")
    whole = corpus[: half // WINDOW * WINDOW]
    report.fact(f"The first half is still there: 'def ' stands in it {occurrences(whole, b'def '):,} times.")
    report.fact(f"numpy.memmap: a child process that did the same ended with {end}.")


def short(error: Exception) -> str:
    """The message, with the name of the temporary folder left out."""
    return re.sub(r"'[^']*/([^'/]+)'", r"'.../\1'", str(error))


def conclude(report: Report) -> None:
    total = sum(report.spent.values())
    steps = sorted(report.spent.items(), key=lambda item: -item[1])[:5]
    shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in steps)
    text = (
        f"Where ndfile's {duration(total)} went: {shares}. Filling, flushing, counting and searching are the "
        "work of the kernel, NumPy and re; opening and indexing are ndfile's own. "
        "Next: `make bench` measures those one by one."
    )
    print("\n" + textwrap.fill(text, WIDTH))


def run(folder: str, *, small: bool) -> None:
    files = sources(60 if small else None)
    size = sum(file.stat().st_size for file in files)
    times, repeats = (20, 2) if small else (200, 7)
    ours = Side("ndfile", nf.memmap, os.path.join(folder, "corpus.bin"))
    numpys = Side("numpy.memmap", np.memmap, os.path.join(folder, "numpy-corpus.bin"))
    report = Report(ours, numpys)
    print(
        f"ndfile {nf.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs\n"
        f"Input: the standard library's sources, {len(files):,} files, {size:,} bytes. Best of several runs.\n"
        f"\n{'step':<8}{'what':<52}{'ndfile':>10}{'numpy.memmap':>14}   ndfile is",
    )
    fill_and_flush(report, files, size, repeats)
    open_and_read(report, times, repeats)
    tell_contents(report)
    change_a_copy(report, times)
    close_and_delete(report)
    refuse(report)
    archive(report, files, times, repeats)
    rot(report)
    cut(report)
    conclude(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a part of the input and few repeats, for tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ndfile-demo-") as folder:
        run(folder, small=options.small)


if __name__ == "__main__":
    main()
