"""Near-duplicates among vectors: the rules, and a slow reference in numpy.

The cosine is dot / sqrt(|a|^2 |b|^2) in float64: exactly 1 for equal vectors, and independent of
how rows are blocked, of threads and of the index that found the pair.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stages.engines import FirstKept

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def checked(vectors: Floats, cosine: float) -> None:
    """Raises ValueError for a threshold outside (0, 1] or vectors that are no matrix."""
    if not 0 < cosine <= 1:
        raise ValueError(f"a cosine threshold lies in (0, 1], not at {cosine}")
    if vectors.ndim != 2:
        raise ValueError(f"vectors are a matrix (rows, dim), not of shape {vectors.shape}")


def in_float64(vectors: Floats, first: int, last: int) -> Doubles:
    """Rows first to last - 1 in float64. Raises ValueError where one is not finite."""
    block = np.asarray(vectors[first:last], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if len(bad):
        raise ValueError(f"the vector of row {first + int(bad[0])} is not finite")
    return block


def squared_norms(rows: Doubles) -> Doubles:
    return np.asarray((rows * rows).sum(axis=1))


def cosines(left: Doubles, right: Doubles) -> Doubles:
    """The cosine of each row of `left` with the same row of `right`; 0 where one is zero."""
    product = squared_norms(left) * squared_norms(right)
    dot = (left * right).sum(axis=1)
    return np.asarray(np.divide(dot, np.sqrt(product), out=np.zeros_like(dot), where=product > 0))


class NumpyNeighbours:
    """Row by row against all kept rows. The reference: quadratic and slow."""

    def first_kept(
        self, vectors: Floats, cosine: float, progress: Progress = no_progress
    ) -> FirstKept:
        """See stages.engines.Neighbours."""
        checked(vectors, cosine)
        duplicate_of = np.full(len(vectors), -1, dtype=np.int64)
        found = np.full(len(vectors), np.nan, dtype=np.float32)
        kept: list[int] = []
        for row in range(len(vectors)):
            one = in_float64(vectors, row, row + 1)
            earlier = np.asarray(vectors[kept], dtype=np.float64)
            values = cosines(np.broadcast_to(one, earlier.shape), earlier)
            alike = np.flatnonzero(values >= cosine)
            if len(alike):
                duplicate_of[row], found[row] = kept[alike[0]], values[alike[0]]
            else:
                kept.append(row)
            progress(row + 1, len(vectors))
        return FirstKept(duplicate_of, found)
