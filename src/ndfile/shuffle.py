"""A permutation of any size that is computed, not stored. Pure arithmetic."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Shuffle"]

# Up to here a permutation is a table, sorted by random keys: Feistel networks of a few values are noticeably uneven.
MOST_IN_TABLE = 1 << 14

# Each half is changed three times. Four are enough for a network with ideal round functions, and these are not ideal.
ROUNDS = 6

WORD = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio


class Shuffle:
    """Permutations of ``range(n)``, another one for each epoch, all of them given by a seed.

    Parameters
    ----------
    n : int
        From 0 to 2**63 - 1.
    seed : int
        Its low 64 bits count.

    Notes
    -----
    Cost: constant memory; 0.05 us or so for each position where some thousand are asked for at once. An epoch of at
    most 16384 positions takes a millisecond in the beginning, and 128 KiB.

    Platforms: the same numbers everywhere, and in every version: a change would move who restarts to another order.

    Threads: safe.

    A position is written as ``l * b + r`` with ``l < a``, ``r < b`` and ``a * b`` barely more than ``n``. A generalized
    Feistel network changes its halves by turns: ``l = (l + f(r)) % a`` and ``r = (r + f(l)) % b``. What comes out too
    large goes through again, until it fits (cycle walking). Both are from J. Black and P. Rogaway, "Ciphers with
    Arbitrary Finite Domains" (2002). ``f`` is the finalizer of MurmurHash3 (A. Appleby, ``fmix32``), with a key for
    each round. Keys, and the random numbers that tables are sorted by, come from SplitMix64 (G. Steele, D. Lea and C.
    Flood, "Fast Splittable Pseudorandom Number Generators", 2014). A 32-bit hash is brought into a range by
    multiplication and shift (D. Lemire, "Fast Random Integer Generation in an Interval", 2019).
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self._state = _mixed(seed & WORD)
        self._a = math.isqrt(max(n - 1, 0)) + 1
        self._b = -(-n // self._a)
        self._table: tuple[int, np.ndarray] | None = None

    def permute(self, positions: np.ndarray, epoch: int) -> np.ndarray:
        """Say what stands at some positions of an epoch's permutation.

        Parameters
        ----------
        positions : ndarray of int64
            Each from 0 to n - 1.
        epoch : int
            0 or more.

        Returns
        -------
        ndarray of int64
        """
        if self.n <= MOST_IN_TABLE:
            found: np.ndarray = self._table_of(epoch)[positions]
            return found
        return self.walk(positions, epoch)

    def walk(self, positions: np.ndarray, epoch: int) -> np.ndarray:
        """Do what `permute` does, by the network whatever the size."""
        keys = self._keys(epoch)
        values = self._through(positions.astype(np.uint64), keys)
        while True:
            (outside,) = np.nonzero(values >= self.n)
            if not len(outside):
                return values.view(np.int64)
            values[outside] = self._through(values[outside], keys)

    def _keys(self, epoch: int) -> list[int]:
        # Each epoch has its own outputs of one generator, so no two of them share a key but by chance.
        first = epoch * ROUNDS + 1
        return [_mixed(self._state + i * STEP & WORD) >> 32 for i in range(first, first + ROUNDS)]

    def _through(self, values: np.ndarray, keys: list[int]) -> np.ndarray:
        """Send values through the network once."""
        sizes = np.uint64(self._a), np.uint64(self._b)
        halves = np.divmod(values, sizes[1])
        scratch = _Scratch(len(values))
        for turn, key in enumerate(keys):
            own = turn % 2
            step = scratch.hashed(halves[1 - own], key, sizes[own])
            half = halves[own]
            half += step
            # The sum is less than twice the size, and what would be negative is huge: the smaller one is the remainder.
            np.subtract(half, sizes[own], out=step)
            np.minimum(half, step, out=half)
        left, right = halves
        left *= sizes[1]
        left += right
        return left

    def _table_of(self, epoch: int) -> np.ndarray:
        table = self._table  # looked at once: another thread may put another epoch's there
        if table is not None and table[0] == epoch:
            return table[1]
        state = _mixed(self._state + (epoch + 1) * STEP & WORD)
        keys = np.arange(1, self.n + 1, dtype=np.uint64)
        keys *= np.uint64(STEP)
        keys += np.uint64(state)
        _mix(keys)
        numbers = np.argsort(keys, kind="stable").astype(np.int64, copy=False)
        self._table = epoch, numbers
        return numbers


class _Scratch:
    """Room for the hashes of some values: new arrays at each step would cost more than the arithmetic."""

    def __init__(self, count: int) -> None:
        self._hash = np.empty(count, np.uint32)
        self._shifted = np.empty(count, np.uint32)
        self._scaled = np.empty(count, np.uint64)

    def hashed(self, values: np.ndarray, key: int, size: np.uint64) -> np.ndarray:
        """Hash values below 2**32 to numbers below `size`."""
        x, shifted, scaled = self._hash, self._shifted, self._scaled
        x[...] = values
        x ^= np.uint32(key)
        x ^= np.right_shift(x, np.uint32(16), out=shifted)
        x *= np.uint32(0x85EBCA6B)
        x ^= np.right_shift(x, np.uint32(13), out=shifted)
        x *= np.uint32(0xC2B2AE35)
        x ^= np.right_shift(x, np.uint32(16), out=shifted)
        scaled[...] = x
        scaled *= size
        scaled >>= np.uint64(32)
        return scaled


def _mixed(x: int) -> int:
    """The output function of SplitMix64."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


def _mix(x: np.ndarray) -> None:
    """The same for an array of uint64, in place."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
