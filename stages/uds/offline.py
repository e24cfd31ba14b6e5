"""Utility-diversity selection from a set that has been measured whole, in order of place.

Shapes: n samples, D numbers in a sketch, B samples in a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.uds.arrays import products
from stages.uds.picking import Measured, Picker

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

_REPORT_EVERY = 64  # batches or rounds: some 100 ms
_BLOCK_ROWS = 4_096  # float64 sketches of 1,024 numbers: 32 MiB
_HELD_BYTES = 2**30  # a set whose float64 sketches fit is converted once, not in every round
# As in stages/uds/ring.py: nearer than this, a difference of products has lost too many digits.
_NEAR = 1e-8


@dataclass(frozen=True)
class Samples:
    """What every sample is by itself.

    utility float64 (n,). sketches float16 (n, D), each divided by its scale, float64 (n,).
    """

    utility: Floats
    sketches: npt.NDArray[np.float16]
    scale: Floats

    def __len__(self) -> int:
        return len(self.utility)

    def of(self, rows: Indices | slice) -> Floats:
        """The sketches of some rows in full: float64 (rows, D)."""
        return np.asarray(self.sketches[rows], np.float64) * self.scale[rows, None]


@dataclass(frozen=True)
class Selection:
    """What became of every sample.

    kept       bool (n,)
    diversity  float64 (n,): mean distance to what had been selected when the sample was judged
    group      int64 (n,): the batch that it was in, or the round that took it (-1: none did)
    """

    kept: Mask
    diversity: Floats
    group: Indices


def select_in_batches(
    samples: Samples,
    batches: Sequence[Indices],
    keep: int,
    alpha: float,
    queue_size: int,
    progress: Progress,
) -> Selection:
    """Walk through the batches (rows of each) and keep min(keep, B) of each, as online.

    Every row is in one batch. `progress` is told (rows done, n). Costs B * min(rows kept so far,
    queue_size) distances a batch.
    """
    chosen = _nothing(len(samples))
    if not batches:
        return chosen
    picker = Picker(samples.sketches.shape[1], np, "cpu", alpha, queue_size)
    done = 0
    for number, rows in enumerate(batches):
        sketches = samples.of(rows).astype(np.float32)
        measured = Measured(samples.utility[rows], sketches, np.zeros(len(rows), bool))
        picked = picker.pick(measured, keep)
        chosen.kept[rows[picked.indices]] = True
        chosen.diversity[rows] = picked.diversity
        chosen.group[rows] = number
        done += len(rows)
        if number % _REPORT_EVERY == 0:
            progress(done, len(samples))
    progress(done, len(samples))
    return chosen


def select_greedily(
    samples: Samples,
    budget: int,
    keep: int,
    alpha: float,
    queue_size: int,
    progress: Progress,
    held_bytes: int = _HELD_BYTES,
) -> Selection:
    """In each round score all that remain and take the `keep` best, until `budget` are taken.

    Ties go to the lower row. Rows that no round took have the diversity of the end. `progress` is
    told (rows taken, rows to take). Costs n * budget distances (twice that beyond queue_size) in
    budget / keep passes over the sketches. Their float64 form is held where it is no larger than
    `held_bytes`, else made anew in every pass, block by block.
    """
    chosen = _nothing(len(samples))
    if not len(samples):
        return chosen
    budget = min(budget, len(samples))
    distances = _Distances(samples, held_bytes)
    sums = np.zeros(len(samples))
    ring: list[int] = []
    taken = rounds = 0
    while taken < budget:
        open_rows = np.flatnonzero(~chosen.kept)
        chosen.diversity[open_rows] = _mean(sums[open_rows], len(ring))
        score = samples.utility[open_rows] + alpha * chosen.diversity[open_rows]
        best = open_rows[_highest(score, min(keep, budget - taken))]
        chosen.kept[best] = True
        chosen.group[best] = rounds
        before, ring = ring, [*ring, *best.tolist()][-queue_size:]
        # Those that no longer stand in the ring are measured once more, to be taken off again.
        sums += distances.summed(np.array(ring[-len(best) :], np.int64))
        if gone := before[: max(0, len(before) + len(best) - queue_size)]:
            sums -= distances.summed(np.array(gone, np.int64))
        taken += len(best)
        rounds += 1
        if rounds % _REPORT_EVERY == 0:
            progress(taken, budget)
    left = ~chosen.kept
    chosen.diversity[left] = _mean(sums[left], len(ring))
    progress(taken, budget)
    return chosen


def lowest_of_each(groups: Indices, keys: npt.NDArray[np.generic], keep: int) -> Mask:
    """The `keep` rows of each group with the lowest keys, among equals the first: bool (n,)."""
    order = np.lexsort((keys, groups))
    ordered = groups[order]
    starts = np.searchsorted(ordered, ordered)  # where the group of each begins
    kept = np.zeros(len(groups), bool)
    kept[order[np.arange(len(order)) - starts < keep]] = True
    return kept


class _Distances:
    """Euclidean distances of all samples to some of them."""

    def __init__(self, samples: Samples, held_bytes: int) -> None:
        self.samples = samples
        self._held: list[tuple[slice, Floats]] | None = None
        if samples.sketches.size * 8 <= held_bytes:
            self._held = list(self._read())
        self.squared = np.concatenate(
            [np.einsum("ij,ij->i", block, block) for _, block in self._blocks()]
        )

    def summed(self, rows: Indices) -> Floats:
        """The sum of the distances of each sample to those in `rows`: float64 (n,)."""
        to = self.samples.of(rows)
        sums = np.empty(len(self.samples))
        for part, block in self._blocks():
            lengths = self.squared[part, None] + self.squared[None, rows]
            square = lengths - 2.0 * products(np, block, to)
            for row, column in np.argwhere(square < _NEAR * lengths):
                square[row, column] = ((block[row] - to[column]) ** 2).sum()
            sums[part] = np.sqrt(square).sum(axis=1)
        return sums

    def _blocks(self) -> Iterator[tuple[slice, Floats]]:
        return self._read() if self._held is None else iter(self._held)

    def _read(self) -> Iterator[tuple[slice, Floats]]:
        for start in range(0, len(self.samples), _BLOCK_ROWS):
            part = slice(start, min(start + _BLOCK_ROWS, len(self.samples)))
            yield part, self.samples.of(part)


def _nothing(rows: int) -> Selection:
    return Selection(np.zeros(rows, bool), np.zeros(rows), np.full(rows, -1, np.int64))


def _mean(sums: Floats, count: int) -> Floats:
    """The mean distance, rounded to float32 as in stages/uds/ring.py: equal samples tie."""
    if not count:
        return np.zeros_like(sums)
    return (np.maximum(sums, 0.0) / count).astype(np.float32).astype(np.float64)


def _highest(scores: Floats, count: int) -> Indices:
    """The places of the `count` highest in descending order, among equals the first."""
    threshold = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero(scores >= threshold)
    best: Indices = candidates[np.argsort(-scores[candidates], kind="stable")][:count]
    return best
