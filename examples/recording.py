"""Record many channels while another process watches, then describe, filter and pick the events.

One process records: it appends blocks of samples, as the driver of an instrument would. This one follows the file,
keeps a running mean and deviation of each channel, and finds spikes as they come. The recorder tells in a second file
which spikes it made, so that in the end everything can be compared.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time

import numpy as np

import ndfile as nf

RATE_HZ = 20_000
BLOCK = 1000  # samples: the instrument hands out 50 ms at a time
SLOT = 500  # a channel has at most one spike in so many samples
SPIKE = -150 * np.exp(-0.5 * ((np.arange(40) - 12) / 3) ** 2) + 40 * np.exp(-0.5 * ((np.arange(40) - 22) / 5) ** 2)
BEFORE, AFTER = 10, 30  # samples of an event around the crossing
SEED = 7


# -------------------------------------------------------------- the recorder


def record(path: str, truth_path: str, blocks: int, pause_s: float) -> None:
    """Append blocks of noise, hum, drift and spikes."""
    rng = np.random.default_rng(SEED)
    with nf.open(path, mode="r+") as recording, nf.open(truth_path, mode="r+") as truth:
        channels = recording.shape[1]
        offsets, phases = rng.uniform(-100, 100, channels), rng.uniform(0, 2 * np.pi, channels)
        for number in range(blocks):
            first = number * BLOCK
            t = np.arange(first, first + BLOCK)[:, None] / RATE_HZ
            block = rng.normal(0, 8, (BLOCK, channels))
            block += offsets + 15 * np.sin(2 * np.pi * 0.3 * t + phases)  # each channel drifts by itself
            block += 12 * np.sin(2 * np.pi * 50 * t)  # and all of them hear the mains
            for slot, channel in np.argwhere(rng.random((BLOCK // SLOT, channels)) < 0.1):
                start = slot * SLOT + rng.integers(0, SLOT - len(SPIKE))
                block[start : start + len(SPIKE), channel] += SPIKE
                truth.append([first + start, channel])
            recording.append(block.round().astype("int16"))
            time.sleep(pause_s)


# ---------------------------------------------------------------- the viewer


class Running:
    """Mean and deviation of each channel, of all samples so far."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.m2 = np.zeros(channels)  # sum of squared deviations from the mean

    def add(self, block: np.ndarray) -> None:
        """Join what is known with a block: Chan, Golub and LeVeque 1983, The American Statistician 37(3), eq. 2.1."""
        count, mean = len(block), block.mean(axis=0)
        m2 = np.square(block - mean).sum(axis=0)
        total, delta = self.count + count, mean - self.mean
        self.mean += delta * count / total
        self.m2 += m2 + delta**2 * self.count * count / total
        self.count = total

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.m2 / self.count)


def watch(recording: nf.memmap, samples: int) -> tuple[Running, np.ndarray]:
    """Follow the recording; give the statistics, and sample and channel of each downward crossing of mean - 5 std."""
    running = Running(recording.shape[1])
    events, seen, looks = [np.empty((0, 2), np.intp)], 0, 0
    was_below = np.zeros((1, recording.shape[1]), bool)
    for news in recording.follow(timeout_s=30):
        running.add(news)
        is_below = np.concatenate([was_below, news < running.mean - 5 * running.std])
        rows, channels = np.nonzero(is_below[1:] & ~is_below[:-1])
        events.append(np.stack([seen + rows, channels], axis=1))
        was_below = is_below[-1:]
        seen, looks = seen + len(news), looks + 1
        if seen >= samples:
            break
    found = apart(np.concatenate(events), SLOT // 10)
    print(f"Followed {seen:,} samples of {recording.shape[1]} channels in {looks} looks; {len(found)} crossings.")
    return running, found


def apart(events: np.ndarray, least: int) -> np.ndarray:
    """Leave out crossings that come less than `least` samples after another one of their channel: the same spike."""
    events = events[np.lexsort(events.T)]  # by channel, then by sample
    is_new = np.diff(events, axis=0, prepend=[[0, -1]])
    return events[(is_new[:, 1] != 0) | (is_new[:, 0] >= least)]


# ----------------------------------------------------------------- afterwards


def compare(recording: nf.memmap, running: Running, found: np.ndarray, truth: np.ndarray) -> bool:
    """Print how far the running statistics are from those of the whole, and the crossings from the spikes made."""
    whole = nf.describe(recording, axis=0)  # one read, block by block
    off = max(abs(running.mean - whole.mean).max(), abs(running.std - whole.std).max())
    values = np.array(recording, dtype="int64")  # the same from integers in memory, without rounding
    total, squares, count = values.sum(axis=0), np.square(values).sum(axis=0), len(values)
    mean, std = total / count, np.sqrt(count * squares - total**2) / count
    off_exact = max(abs(whole.mean - mean).max(), abs(whole.std - std).max())
    print(f"Mean and deviation: running and nf.describe differ by {off:.1e} at most,")
    print(f"nf.describe and exact integers by {off_exact:.1e}.")
    near = abs(found[:, None, 0] - (truth[None, :, 0] + np.argmin(SPIKE))) < 10
    pairs = near & (found[:, None, 1] == truth[None, :, 1])
    hits, misses, false = pairs.any(axis=0).sum(), (~pairs.any(axis=0)).sum(), (~pairs.any(axis=1)).sum()
    print(f"Spikes: {len(truth)} were made, {hits} of them found, {misses} missed, {false} crossings were none.")
    return bool(max(off, off_exact) < 1e-9 and misses + false < 0.02 * len(truth))


def clean(recording: nf.memmap, path: str) -> nf.memmap:
    """Subtract from each sample the median of all channels, which is what they hear in common, into a new file."""
    mean = np.mean(recording, axis=0)

    def common_reference(block: np.ndarray) -> np.ndarray:
        centred = block - mean
        return centred - np.median(centred, axis=1, keepdims=True)

    filtered = nf.create(path, shape=recording.shape, dtype="float32")
    nf.map_blocks(common_reference, recording, out=filtered, rows=True)
    before, after = (np.std(a, axis=0).mean() for a in (recording, filtered))
    print(
        f"Filtered into a new file of {filtered.nbytes / 1e6:.1f} MB: deviation {before:.1f} before, {after:.1f} after."
    )
    return filtered


def pick(filtered: nf.memmap, found: np.ndarray) -> None:
    """Take all events that are there as a whole: their rows, by number, at once."""
    whole = found[(found[:, 0] >= BEFORE) & (found[:, 0] < len(filtered) - AFTER)]
    rows = whole[:, :1] + np.arange(-BEFORE, AFTER)
    events = filtered[rows]  # (events, samples, channels)
    own = np.take_along_axis(events, whole[:, None, 1:], axis=2)[:, :, 0]
    mean = own.mean(axis=0)
    print(f"Picked {len(own)} events by row numbers, {events.nbytes / 1e6:.1f} MB; their mean has its lowest value at")
    print(f"{mean.min():.0f}, the spike that was put in at {SPIKE.min():.0f}.")


def run(folder: str, channels: int, seconds: float, pause_s: float) -> bool:
    blocks = max(1, round(seconds * RATE_HZ / BLOCK))
    path, truth_path = os.path.join(folder, "recording.npy"), os.path.join(folder, "spikes.npy")
    # Made here, so that there is something to follow from the beginning; the recorder is the one who writes.
    nf.create(path, shape=(0, channels), dtype="int16", metadata={"rate_hz": RATE_HZ}).close()
    nf.create(truth_path, shape=(0, 2), dtype="int64").close()
    recorder = multiprocessing.get_context("spawn").Process(target=record, args=(path, truth_path, blocks, pause_s))
    recorder.start()
    with nf.open(path) as recording:
        running, found = watch(recording, blocks * BLOCK)
        recorder.join()
        with nf.open(truth_path) as truth:
            is_right = compare(recording, running, found, np.asarray(truth))
        with clean(recording, os.path.join(folder, "filtered.npy")) as filtered:
            pick(filtered, found)
    return is_right and recorder.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="leave the files here, which must be new; by default they are removed")
    parser.add_argument("--channels", type=int, default=32, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of the recording (default %(default)s)")
    parser.add_argument("--small", action="store_true", help="8 channels and 3 seconds, for tests")
    options = parser.parse_args()
    size = (8, 3, 0.005) if options.small else (options.channels, options.seconds, 0.01)
    if options.folder:
        os.mkdir(options.folder)
        sys.exit(not run(options.folder, *size))
    with tempfile.TemporaryDirectory(prefix="ndfile-example-") as folder:
        sys.exit(not run(folder, *size))


if __name__ == "__main__":
    main()
