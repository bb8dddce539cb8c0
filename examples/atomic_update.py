"""Keep a ledger whose balances always add up, although its writer is killed at random moments.

A child process moves money between accounts, which leaves the sum of all balances as it is, and is killed by kill -9
again and again. First it changes the file in ``with ledger.atomic():``, then, as a control, without. After each kill
the file is opened as anyone would after a crash, and the sum is looked at. A checkpoint of a model, or a table and its
index in one file, are the same case: something must hold for the whole file.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import ndfile as nf

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ACCOUNTS = 20_000  # of 8 bytes: some 40 pages of the file, which the kernel writes one by one
SCATTERED = 1 + np.random.default_rng(0).permutation(ACCOUNTS)  # the accounts' items, in no order
OPENING_BALANCE = 1_000_000
LONGEST_S = 0.03  # that a child lives after its first change

# A child is forked within milliseconds; with spawn each would import NumPy first.
FORK = multiprocessing.get_context("fork")


# ---------------------------------------------------------------- the ledger


def create(path: str) -> None:
    """Item 0 counts the changes, the others are balances."""
    with nf.create(path, shape=(1 + ACCOUNTS,), dtype="int64", fill=OPENING_BALANCE) as ledger:
        ledger[0] = 0


def transfer(ledger: nf.memmap, rng: np.random.Generator) -> None:
    """Move money from half of the accounts to the other half."""
    payers, payees = np.split(np.roll(SCATTERED, rng.integers(ACCOUNTS)), 2)
    amounts = rng.integers(0, 100, len(payers))
    ledger[payers] -= amounts
    ledger[payees] += amounts  # between these two lines money is missing
    ledger[0] += 1


def adds_up(ledger: nf.memmap) -> bool:
    return int(ledger[1:].sum()) == ACCOUNTS * OPENING_BALANCE


def change(path: str, seed: int, told: Connection, *, is_atomic: bool) -> None:
    """Transfer without end, and tell of each transfer that is done. This is what is killed."""
    rng = np.random.default_rng(seed)
    with nf.open(path, mode="r+") as ledger:
        while True:
            with ledger.atomic() if is_atomic else contextlib.nullcontext():
                transfer(ledger, rng)
            told.send_bytes(int(ledger[0]).to_bytes(8, "little"))


# ------------------------------------------------------------------ the kills


@dataclass
class Outcome:
    """What was found after the kills."""

    kills: int = 0
    changes: int = 0
    broken: int = 0  # times that the sum was wrong
    lost: int = 0  # times that a change was missing of which the child had told
    recoveries: dict[str | None, int] = field(default_factory=lambda: {"replayed": 0, "discarded": 0, None: 0})


def kill_one(path: str, seed: int, *, is_atomic: bool) -> int:
    """Let a child change the ledger, kill it, and give the last change that it told of."""
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=change, args=(path, seed, theirs), kwargs={"is_atomic": is_atomic})
    child.start()
    theirs.close()
    done = 0
    with ours:
        if not ours.poll(30):
            raise SystemExit("the child does nothing")
        time.sleep(random.Random(seed).random() * LONGEST_S)
        child.kill()  # SIGKILL
        child.join()
        with contextlib.suppress(EOFError):
            while True:
                done = int.from_bytes(ours.recv_bytes(), "little")
    return done


def campaign(path: str, kills: int, *, is_atomic: bool) -> Outcome:
    found = Outcome(kills)
    create(path)
    for seed in range(kills):
        done = kill_one(path, seed, is_atomic=is_atomic)
        # Opening with mode 'r+' would do this too. Called by its name it says what there was to do.
        found.recoveries[nf.recover(path)] += 1
        with nf.open(path, mode="r+") as ledger:
            found.changes = int(ledger[0])
            found.lost += found.changes < done
            if not adds_up(ledger):
                found.broken += 1
                ledger[1:] = OPENING_BALANCE  # start from a good one again
    return found


def report(name: str, found: Outcome) -> None:
    print(f"{name:<18}{found.kills:>6}{found.changes:>9}{found.broken:>8}{found.lost:>6}", end="")
    print("".join(f"{count:>11}" for count in found.recoveries.values()))


def run(folder: str, kills: int) -> bool:
    print(f"A ledger of {ACCOUNTS:,} accounts; each change touches all of them.")
    print(
        f"{'':<18}{'kills':>6}{'changes':>9}{'broken':>8}{'lost':>6}{'completed':>11}{'discarded':>11}{'nothing':>11}"
    )
    atomic = campaign(os.path.join(folder, "ledger.npy"), kills, is_atomic=True)
    report("with atomic()", atomic)
    control = campaign(os.path.join(folder, "control.npy"), kills, is_atomic=False)
    report("without (control)", control)
    print("broken: the sum was wrong after the kill. lost: a change was missing that had been told of.")
    print("completed, discarded, nothing: what recovery had to do.")
    if not control.broken:
        print("The control was never broken, so this run proves nothing: kill more often.")
    return bool(control.broken and not atomic.broken and not atomic.lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of each kind (default %(default)s)")
    parser.add_argument("--folder", help="make the ledgers here, on another disk say; they are removed in the end")
    parser.add_argument("--small", action="store_true", help="30 kills of each kind, for tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ndfile-example-", dir=options.folder) as folder:
        sys.exit(not run(folder, 30 if options.small else options.kills))


if __name__ == "__main__":
    main()
