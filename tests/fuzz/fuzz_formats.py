"""Fuzz the parsers of the package: ``python tests/fuzz/fuzz_formats.py npy -runs=200000``.

Takes names of targets (all, if there are none) and options of libFuzzer's; ``-runs`` is shared out among the targets,
of which as many run at once as there are cores. Ends with 1 if a parser broke a promise. The inputs that broke it, and
the figures, go to the folder that NDFILE_FUZZ_RESULTS names, else to build/fuzz.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.environ.get("NDFILE_FUZZ_RESULTS", os.path.join(HERE, "..", "..", "build", "fuzz"))

# How many runs of all a target gets: more where there is more to find.
SHARES = {
    "npy": 4,
    "npz": 5,
    "raw": 3,
    "safetensors": 3,
    "wav": 2,
    "checksums": 2,
    "tiff": 3,
    "fits": 2,
    "arrow": 2,
}
RUNS = 1_200_000

# Enough for a number longer than Python writes. Parsing takes as long as what is parsed, so that there is less of it in
# the same time; what longer inputs do is for the tests of each format.
MOST_NBYTES = 4096

# Of what is changed to make others: long ones would make long ones.
MOST_SEED_NBYTES = {"fits": 6000}
USUAL_SEED_NBYTES = 1200

# A hang, and far more than fuzzing needs by itself. The promises are narrower, and `Watch` holds to them.
LIMITS = ("-timeout=20", "-rss_limit_mb=2048")

INSTRUMENTED = [
    "ndfile",
    "zipfile",
    "numpy.lib.format",
    "numpy.lib._format_impl",
    "numpy._core._internal",
    "json",
    "ast",
]

# libFuzzer ends the process without letting Python know, so the state goes to a file every now and then.
RUNS_BETWEEN_STATES = 500

OWN = ("-print_final_stats=1", "-entropic_scale_per_exec_time=1")

LAST_LINE = re.compile(r"#\d+\s+DONE\s+cov: (\d+) ft: (\d+)")
EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--inside"]:
        inside(*arguments[1:3], arguments[3:])
        return 0
    names = [name for name in arguments if not name.startswith("-")] or list(SHARES)
    options = [option for option in arguments if option.startswith("-") and not option.startswith("-runs=")]
    runs = next((int(one.removeprefix("-runs=")) for one in arguments if one.startswith("-runs=")), RUNS)
    whole = sum(SHARES.get(name, 1) for name in names)
    # The longest first, so that the cores end together.
    names.sort(key=lambda name: -SHARES.get(name, 1))
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [pool.submit(campaign, name, runs * SHARES.get(name, 1) // whole, options) for name in names]
        ended = [job.result() for job in jobs]
    return int(any(figures["findings"] for figures in ended))


def campaign(name: str, runs: int, options: list[str]) -> dict[str, Any]:
    """Fuzz one target in a process of its own; gives the figures, which are in a file as well then."""
    started = time.monotonic()
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="fuzz", dir=shared)
    try:
        command = [sys.executable, __file__, "--inside", name, folder, f"-runs={runs}", *LIMITS, *options]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        figures = summary(name, folder, ended)
    finally:
        shutil.rmtree(folder)
    figures["seconds"] = round(time.monotonic() - started, 1)
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, f"{name}.json"), "w") as file:
        json.dump(figures, file, indent=1)
        file.write("\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    return figures


def summary(name: str, folder: str, ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    state: dict[str, Any] = {"findings": {}}
    with_state = os.path.join(folder, "state.json")
    if os.path.exists(with_state):
        with open(with_state) as file:
            state = json.load(file)
    findings = {finding: keep(name, bytes.fromhex(data)) for finding, data in state.pop("findings").items()}
    if "slowest_input" in state:
        state["slowest_input"] = keep(name, bytes.fromhex(state["slowest_input"]))
    # What libFuzzer leaves when the process dies, hangs or takes all memory.
    left = [
        one for one in sorted(os.listdir(folder)) if one.startswith(("crash-", "timeout-", "oom-", "leak-", "slow-"))
    ]
    for one in left:
        with open(os.path.join(folder, one), "rb") as file:
            findings[one.partition("-")[0]] = keep(name, file.read())
    executed, last = EXECUTED.search(ended.stderr), LAST_LINE.search(ended.stderr)
    if executed is None or last is None or ended.returncode:
        sys.stderr.write(ended.stdout + ended.stderr)
        findings.setdefault(f"ended with {ended.returncode}", "")
    return {
        "campaign": name,
        "executions": int(executed[1]) if executed else 0,
        "coverage": int(last[1]) if last else 0,
        "features": int(last[2]) if last else 0,
        "crashes": len(left),
        **state,
        "findings": findings,
    }


def keep(name: str, data: bytes) -> str:
    """Put an input where it survives the campaign."""
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, f"{name}-{hashlib.sha256(data).hexdigest()[:12]}")
    with open(path, "wb") as file:
        file.write(data)
    return os.path.relpath(path)


def inside(name: str, folder: str, options: list[str]) -> None:
    """Fuzz one target in this process. Does not return."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import controls
        import mutations
        import regressions
        import seeds
        import targets

    target = {**targets.TARGETS, **controls.CONTROLS}[name]
    corpus = os.path.join(folder, "corpus")
    os.mkdir(corpus)
    known = [*seeds.seeds(target.name), *regressions.REGRESSIONS[target.name].values()]
    most = MOST_SEED_NBYTES.get(target.name, USUAL_SEED_NBYTES)
    for number, data in enumerate(one for one in known if len(one) <= most):
        with open(os.path.join(corpus, str(number)), "wb") as file:
            file.write(data)
    words = os.path.join(folder, "words")
    with open(words, "w") as file:
        file.writelines(
            '"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word)) for word in seeds.WORDS[target.name]
        )
    watch = targets.Watch(target, folder)
    for data in known:  # what is imported late is imported now
        watch.run(data)
    watch.reset()
    # Whoever makes errors of warnings gets none of another kind than others get.
    warnings.simplefilter("error")
    runs = next(int(one.removeprefix("-runs=")) for one in options if one.startswith("-runs="))
    count = 0

    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        found = len(watch.findings)
        watch.run(data)
        if count % RUNS_BETWEEN_STATES == 0 or count >= runs - 1 or len(watch.findings) > found:
            write_state(watch, folder)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return mutations.mutated(target.name, data, most, seed, atheris.Mutate)

    own = [f"-dict={words}", f"-artifact_prefix={folder}/", f"-max_len={max(most, MOST_NBYTES)}", *OWN]
    atheris.Setup([sys.argv[0], *own, *options, corpus], run, custom_mutator=mutate)
    atheris.Fuzz()


def write_state(watch: Any, folder: str) -> None:
    state = {
        **watch.counts,
        "slowest_ms": round(watch.slowest_s * 1e3, 2),
        "slowest_input": watch.slowest.hex(),
        "most_memory_kib": watch.most_nbytes >> 10,
        "findings": {finding: data.hex() for finding, data in watch.findings.items()},
    }
    path = os.path.join(folder, "state")
    with open(path, "w") as file:
        json.dump(state, file)
    os.rename(path, path + ".json")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
