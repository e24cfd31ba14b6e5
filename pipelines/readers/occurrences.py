"""Which keys have been there before, for millions of 128-bit keys, at about 28 bytes each.

A Python set of the keys would take some 100 bytes for each. Here they lie in a few sorted arrays of
growing size; a batch is looked up in each of them at once, and arrays of similar size are merged.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Halves = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
# Arrays are merged when they are less than this many times as long as the next smaller one.
_GROWTH: Final = 4


@dataclass(frozen=True)
class _Run:
    """Keys sorted by their high half; count and first stand beside each."""

    high: Halves
    low: Halves
    count: Numbers
    first: Numbers


class Occurrences:
    """Counts how often each key has been seen."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def add(self, keys: bytes, labels: Numbers) -> tuple[Numbers, Numbers]:
        """For each key of a batch: how many equal ones came before it, and the label of the first.

        `keys` is a row of 16-byte keys, `labels` (keys,) one number for each.
        """
        halves = np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        high, low = halves[order, 0], halves[order, 1]
        begins = np.ones(len(order), dtype=bool)
        begins[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        group = np.cumsum(begins) - 1
        starts = np.flatnonzero(begins)
        distinct = _Run(
            high[starts],
            low[starts],
            np.diff(starts, append=len(order)),
            labels[order[starts]],
        )
        before, first = self._look_up(distinct)
        count = np.empty(len(order), dtype=np.int64)
        label = np.empty(len(order), dtype=np.int64)
        count[order] = before[group] + np.arange(len(order)) - starts[group]
        label[order] = first[group]
        self._insert(distinct)
        return count, label

    def _look_up(self, wanted: _Run) -> tuple[Numbers, Numbers]:
        before = np.zeros(len(wanted.high), dtype=np.int64)
        first = wanted.first.copy()
        for run in self._runs:
            at = np.searchsorted(run.high, wanted.high)
            open_ = np.flatnonzero(at < len(run.high))
            while open_.size:  # twice only where two keys share a high half
                here = at[open_]
                alike = run.high[here] == wanted.high[open_]
                open_, here = open_[alike], here[alike]
                equal = run.low[here] == wanted.low[open_]
                hit = open_[equal]
                before[hit] += run.count[here[equal]]
                first[hit] = np.minimum(first[hit], run.first[here[equal]])
                at[open_] += 1
                open_ = open_[at[open_] < len(run.high)]
        return before, first

    def _insert(self, new: _Run) -> None:
        while self._runs and len(self._runs[-1].high) < _GROWTH * len(new.high):
            new = _merged(self._runs.pop(), new)
        self._runs.append(new)


def _merged(older: _Run, newer: _Run) -> _Run:
    """Both, still sorted. Equal keys stay side by side: looking up adds their counts."""
    high = np.concatenate((older.high, newer.high))
    order = np.argsort(high, kind="stable")  # timsort: linear for two sorted pieces
    return _Run(
        high[order],
        np.concatenate((older.low, newer.low))[order],
        np.concatenate((older.count, newer.count))[order],
        np.concatenate((older.first, newer.first))[order],
    )
