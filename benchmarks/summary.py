"""Make the README's table and its picture from benchmarks/results: ``.venv/bin/python benchmarks/summary.py``.

What stands in the README is copied by nobody: a row is named here by its family and case, and its numbers are those of
the last saved run.
"""

from __future__ import annotations

import json
import os
import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from case import NUMPY, OURS
from report import duration

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
RESULTS = os.path.join(ROOT, "benchmarks", "results")
PICTURE = os.path.join(ROOT, "docs", "images", "faster.png")

# Family, case, what it is called in the table, and in the picture, if it is there.
ROWS = (
    ("cold_rows", "4,096 rows of 1 KiB of 2 GiB", "`a[idx]`, 4,096 rows of 1 KiB of 2 GiB, cold", "a[idx], cold"),
    (
        "cold_rows",
        "a[idx] = values, 4,096 rows of 1 KiB of 2 GiB",
        "`a[idx] = values`, the same, cold",
        "a[idx] = x, cold",
    ),
    ("warm_rows", "a[idx]: 4,096 of 1 KiB", "`a[idx]`, the same, warm", "a[idx], warm"),
    (
        "windows",
        "cold: 32 batches of 16 GiB",
        "32 batches of 64 windows of 1,025 tokens of 16 GiB, cold",
        "token batches, cold",
    ),
    ("writing", "memmap, 4,096 MiB", "a new file filled with 4 GiB", "4 GiB written"),
    ("statistics", "std, float64", "`np.std(a)`, 1 GiB of float64", "std, float64"),
    ("statistics", "std, uint8", "`np.std(a)`, 1 GiB of uint8", "std, uint8"),
    (
        "statistics",
        "percentile [1, 50, 99], float32",
        "`np.percentile(a, [1, 50, 99])`, 1 GiB of float32",
        "percentile, float32",
    ),
    ("statistics", "sum, float32", "`np.sum(a)`, the same: the least gain", "sum, float32"),
    ("drop_in", "r[5]", "`r[5]`, an item", None),
    ("drop_in", "a[5]", "`a[5]`, a row", "a[5], a row"),
    ("opening", "open, del: r", "open and drop", None),
    (
        "formats",
        ".npz: all of 1,000 members of 256 KiB",
        "have 1,000 members of 256 KiB of a `.npz`; against `np.load`",
        "members of a .npz",
    ),
    (
        "growth",
        "20,000 appends of one row",
        "append 20,000 rows of 1 KiB; against npy-append-array",
        "20,000 appends",
    ),
    (
        "sending",
        "multiprocessing, 1,024 MiB",
        "1 GiB to two worker processes by multiprocessing, until they begin",
        "1 GiB to processes",
    ),
)


def main() -> None:
    found = [(label, short, _case(family, case)) for family, case, label, short in ROWS]
    lines = ["| operation | ndfile | numpy.memmap | faster |", "|---|---|---|---|"]
    for label, _, case in found:
        ours, theirs = case["seconds"][OURS][1], case["seconds"][NUMPY][1]
        times = case["times_faster_than_numpy"][1]
        lines.append(f"| {label} | {duration(ours)} | {duration(theirs)} | {_times(times)} |")
    _put("table", "\n".join(lines))
    _put("machines", _machines())
    _draw([(short, case["times_faster_than_numpy"][1]) for _, short, case in found if short is not None])


def _case(family: str, name: str) -> dict:
    with open(os.path.join(RESULTS, f"{family}.json")) as file:
        cases = {case["case"]: case for case in json.load(file)["cases"]}
    return cases[name]


def _times(times: float) -> str:
    if times >= 1000:
        return f"{round(times, -2):,.0f}x"
    return f"{times:.0f}x" if times >= 10 else f"{times:.1f}x"


def _machines() -> str:
    """Say once what the families of the table ran on."""
    families: dict[str, list[str]] = {}
    for family in dict.fromkeys(row[0] for row in ROWS):
        with open(os.path.join(RESULTS, f"{family}.json")) as file:
            machine = json.load(file)["machine"]
        kernel = re.match(r"Linux \d+\.\d+", machine["kernel"])[0]
        hardware = f"{machine['cores']} cores of an {machine['CPU']}, {machine['memory']}, {machine['file system']}"
        software = f"{kernel}, Python {machine['Python']}, NumPy {machine['NumPy']}"
        families.setdefault(f"{hardware}, {software}", []).append(family)
    machines = sorted(families, key=lambda machine: -len(families[machine]))
    others = "".join(f"; {' and '.join(families[machine])} on {machine}" for machine in machines[1:])
    return f"Medians of interleaved rounds on {machines[0]}{others}."


def _put(name: str, text: str) -> None:
    path = os.path.join(ROOT, "README.md")
    with open(path) as file:
        before = file.read()
    after, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: f"{m[1]}{text}\n{m[2]}", before, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"README.md has no place for {name}")
    with open(path, "w") as file:
        file.write(after)


def _draw(bars: list[tuple[str, float]]) -> None:
    bars = sorted(bars, key=lambda bar: bar[1])
    figure, ax = plt.subplots(figsize=(7.2, 3.4), dpi=150, layout="constrained")
    ax.barh([name for name, _ in bars], [times for _, times in bars], color="#1b7f8c")
    ax.axvline(1, color="#444444", linewidth=1)
    ax.set_xscale("log")
    ax.set_xlim(0.8, 3 * bars[-1][1])
    for place, (_, times) in enumerate(bars):
        ax.annotate(_times(times), (times, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.xaxis.set_major_formatter(lambda times, _: f"{times:,.0f}x")
    ax.set_xlabel("faster than numpy.memmap (.npz: than numpy.load; appends: than npy-append-array)", fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0, labelsize=9)
    os.makedirs(os.path.dirname(PICTURE), exist_ok=True)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
