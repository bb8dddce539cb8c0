"""Prepare text as tokens, and train a small language model on them from a file, under a ceiling of memory.

The text is Python's own standard library, a token is a byte, and the model is plain NumPy, so that nothing needs to be
downloaded or installed. What is shown is the way of the data: tokens by append, batches of windows by `ndfile.batches`,
and a checkpoint from which a run goes on with the very batches that it would have had.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path

import numpy as np

import ndfile as nf

WINDOW = 129  # 128 bytes, and the one that follows them
BATCH = 16
SEED = 1337
ORDERS = (0, 1, 2, 3)  # how many bytes before it a byte is told from
BUCKETS = 4096  # contexts of one order share so many rows by their hash


# ---------------------------------------------------------------- the tokens


def prepare(folder: str, count: int | None) -> None:
    """Append the standard library's sources to two files, one file of ten for validation."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = (path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.relative_to(root).parts)
    os.mkdir(folder)
    with (
        nf.create(os.path.join(folder, "train.npy"), shape=(0,), dtype="uint8") as train,
        nf.create(os.path.join(folder, "validation.npy"), shape=(0,), dtype="uint8") as validation,
    ):
        for path in [path for path in found if path.is_file()][:count]:
            # By the name and not by chance: a file stays on its side, whatever files come and go.
            name = str(path.relative_to(root)).encode()
            part = validation if zlib.crc32(name) % 10 == 0 else train
            part.append(np.frombuffer(path.read_bytes(), "uint8"))
        train.sync()
        validation.sync()


def prepared(folder: str, count: int | None) -> dict[str, str]:
    """Paths of the two files, which are made if they are not there."""
    tokens, draft = os.path.join(folder, "tokens"), os.path.join(folder, "tokens.draft")
    if not os.path.exists(tokens):
        shutil.rmtree(draft, ignore_errors=True)
        prepare(draft, count)
        os.rename(draft, tokens)
    return {part: os.path.join(tokens, f"{part}.npy") for part in ("train", "validation")}


# ----------------------------------------------------------------- the model


class Model:
    """Softmax over the next byte: the sum of a row of logits for each context of 0, 1, 2 and 3 bytes.

    Trained by AdaGrad (Duchi, Hazan and Singer 2011, JMLR 12), which gives each row a pace of its own.
    """

    def __init__(self) -> None:
        self.logits = np.zeros((len(ORDERS) * BUCKETS, 256), np.float32)
        self.squares = np.full((len(ORDERS) * BUCKETS, 256), 1e-4, np.float32)

    def loss(self, windows: np.ndarray) -> float:
        """Mean of -log p of the last bytes of all contexts, in nats; a model that knows nothing has ln 256 = 5.545."""
        return self._forward(windows)[2]

    def train(self, windows: np.ndarray, pace: float = 0.3) -> float:
        rows, gradient, loss = self._forward(windows)
        for of_order in rows:
            # The gradients of positions with the same context are added up.
            by_row = np.argsort(of_order, kind="stable")
            touched, starts = np.unique(of_order[by_row], return_index=True)
            step = np.add.reduceat(gradient[by_row], starts, axis=0)
            self.squares[touched] += step * step
            self.logits[touched] -= pace * step / np.sqrt(self.squares[touched])
        return loss

    def _forward(self, windows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, float]:
        """Rows of each order's contexts, the gradient of the loss by their sum, and the loss."""
        rows, targets = contexts(windows)
        p = np.sum([self.logits[of_order] for of_order in rows], axis=0)
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        positions = np.arange(len(targets))
        loss = -float(np.log(p[positions, targets]).mean())
        p[positions, targets] -= 1
        return rows, p / np.float32(len(targets)), loss


def contexts(windows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """For each byte that has enough before it the rows of its contexts, and the byte itself."""
    longest = max(ORDERS)
    rows = []
    for number, order in enumerate(ORDERS):
        hashed = np.zeros(windows[:, longest:].shape, np.uint32)
        for back in range(1, order + 1):
            hashed = (hashed + windows[:, longest - back : -back] + np.uint32(1)) * np.uint32(2654435761)
        rows.append((number * BUCKETS + (hashed >> np.uint32(20))).ravel().astype(np.intp))
    return rows, windows[:, longest:].ravel()


# -------------------------------------------------------------- the training


def train(tokens: dict[str, str], checkpoint: str, steps: int, max_rss: str) -> Model:
    """Train to `steps` from where the checkpoint is, if there is one, and leave a checkpoint."""
    model, done, most = Model(), 0, 0
    if os.path.exists(checkpoint):
        with nf.open(checkpoint) as saved:
            model.logits[:], model.squares[:] = saved["logits"], saved["squares"]
            done = int(saved["position"])
    with nf.open(tokens["train"], max_rss=max_rss) as text, nf.open(tokens["validation"], max_rss=max_rss) as unseen:
        # `start` is all that a restart needs: the order comes from the seed, and takes no memory.
        batches = nf.batches(text, batch_size=BATCH, windows=WINDOW, seed=SEED, epochs=None, start=done)
        while batches.position < steps:
            loss = model.train(next(batches))  # with torch, torch.from_numpy(next(batches)) is what the device gets
            most = max(most, resident_nbytes(text.filename))
            if batches.position % max(1, steps // 5) == 0:
                print(
                    f"  step {batches.position:>5}  loss {loss:.3f}  unseen {validate(model, unseen):.3f}", flush=True
                )
    print(f"  at most {most / 1e6:.1f} MB of the training file were mapped into memory at a time")
    # The old one or the new one is there, whenever the process ends.
    nf.save(checkpoint, {"logits": model.logits, "squares": model.squares, "position": np.int64(max(done, steps))})
    return model


def validate(model: Model, unseen: np.ndarray) -> float:
    """Mean loss on four batches, the same ones each time."""
    some = nf.batches(unseen, batch_size=BATCH, windows=WINDOW, seed=SEED)
    return float(np.mean([model.loss(next(some)) for _ in range(4)]))


def resident_nbytes(path: str) -> int:
    """What of a file is mapped into this process's memory at the moment."""
    found, is_this = 0, False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if "-" in line.split(" ", 1)[0]:
                is_this = line.rstrip().endswith(path)
            elif is_this and line.startswith("Rss:"):
                found += int(line.split()[1]) * 1024
    return found


def without_ceiling(path: str, steps: int) -> int:
    """What the same batches leave mapped when nothing is let go."""
    with nf.open(path) as text:
        batches = nf.batches(text, batch_size=BATCH, windows=WINDOW, seed=SEED, epochs=None)
        while batches.position < steps:
            next(batches)
        return resident_nbytes(text.filename)


def run(folder: str, steps: int, count: int | None, max_rss: str, *, is_kept: bool) -> None:
    tokens, checkpoint = prepared(folder, count), os.path.join(folder, "checkpoint.npz")
    sizes = {part: nf.info(path).shape[0] for part, path in tokens.items()}
    print(f"Tokens: {sizes['train']:,} to train with, {sizes['validation']:,} for validation.")
    print(f"Training to step {steps}, with a ceiling of {max_rss} on each file's memory:")
    straight = train(tokens, checkpoint, steps, max_rss)
    if is_kept:
        return
    os.unlink(checkpoint)
    print(f"Once more, but stopped after step {steps // 2}:")
    train(tokens, checkpoint, steps // 2, max_rss)
    print("and gone on with from the checkpoint:")
    restarted = train(tokens, checkpoint, steps, max_rss)
    same = np.array_equal(straight.logits, restarted.logits)
    print(f"The two models are {'equal, bit by bit' if same else 'DIFFERENT'}.")
    print(f"Without a ceiling the same batches map {without_ceiling(tokens['train'], steps) / 1e6:.1f} MB.")
    sys.exit(not same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="keep tokens and checkpoint here, and go on from there; by default neither")
    parser.add_argument("--steps", type=int, help="train to this step (default 300, with --small 20)")
    parser.add_argument("--max-rss", default="8 MiB", help="ceiling on each file's memory (default %(default)s)")
    parser.add_argument("--small", action="store_true", help="a part of the text and few steps, for tests")
    options = parser.parse_args()
    steps, count = options.steps or (20 if options.small else 300), 60 if options.small else None
    if options.folder:
        os.makedirs(options.folder, exist_ok=True)
        run(options.folder, steps, count, options.max_rss, is_kept=True)
        return
    with tempfile.TemporaryDirectory(prefix="ndfile-example-") as folder:
        run(folder, steps, count, options.max_rss, is_kept=False)


if __name__ == "__main__":
    main()
