"""The sketches of the last selected samples, and how far a new one is from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.uds.arrays import Array, Namespace, products, to_numpy

# Squared distances below this share of the squared lengths are computed from the differences: a
# difference of products has lost more than 1e-15 / 1e-8 = 1e-7 of its value there.
_NEAR = 1e-8


class SketchRing:
    """First in, first out: the newest `size` sketches.

    Sketches are kept at float32 precision (and stored as float64, which the products need).
    """

    def __init__(self, size: int, width: int, xp: Namespace, device: Any) -> None:
        if size < 1 or width < 1:
            raise ValueError(f"a ring holds at least 1 x 1 numbers, not {size} x {width}")
        self.xp = xp
        self.rows = xp.zeros((size, width), dtype=xp.float64, device=device)
        self.squared = xp.zeros((size,), dtype=xp.float64, device=device)
        self.count = 0
        self.pointer = 0

    @property
    def size(self) -> int:
        return int(self.rows.shape[0])

    def mean_distance(self, sketches: Array) -> Array:
        """Mean Euclidean distance of each sketch (B, D) to those in the ring: float64 (B,).

        0 while the ring is empty. Rounded to float32, so that equal samples tie whatever the last
        bits of a matrix product are.
        """
        xp = self.xp
        new = xp.astype(xp.astype(sketches, xp.float32), xp.float64)
        if not self.count:
            return xp.zeros_like(new[:, 0])
        held = self.rows[: self.count, :]
        lengths = xp.sum(new * new, axis=1)[:, None] + self.squared[: self.count][None, :]
        square = lengths - 2.0 * products(xp, held, new).T
        near = to_numpy(xp.any(square < _NEAR * lengths, axis=1))
        distances = xp.mean(xp.sqrt(xp.clip(square, min=0.0)), axis=1)
        for place in np.flatnonzero(near).tolist():
            distances[place] = xp.mean(xp.linalg.vector_norm(held - new[place, :], axis=1))
        return xp.astype(xp.astype(distances, xp.float32), xp.float64)

    def push(self, sketches: Array) -> None:
        """Put these (n, D) in, in this order; the oldest go."""
        xp, size, added = self.xp, self.size, sketches.shape[0]
        newest = xp.astype(xp.astype(sketches[-size:, :], xp.float32), xp.float64)
        start = (self.pointer + max(0, added - size)) % size
        before_end = min(newest.shape[0], size - start)
        for to, part in ((start, newest[:before_end, :]), (0, newest[before_end:, :])):
            self.rows[to : to + part.shape[0], :] = part
            self.squared[to : to + part.shape[0]] = xp.sum(part * part, axis=1)
        self.pointer = (self.pointer + added) % size
        self.count = min(size, self.count + added)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """ring: float32 (size, D), zeros where nothing was put yet. count, pointer: int64 ()."""
        return {
            "ring": to_numpy(self.rows).astype(np.float32),
            "count": np.array(self.count, dtype=np.int64),
            "pointer": np.array(self.pointer, dtype=np.int64),
        }

    def problems(self, state: Mapping[str, Array]) -> list[str]:
        """What is wrong with a state that `load` is to take."""
        ring, shape = to_numpy(state["ring"]), tuple(self.rows.shape)
        if ring.shape != shape:
            return [f"ring is {ring.shape}, expected {shape} (queue_size, sketch width)"]
        count, pointer = int(state["count"]), int(state["pointer"])
        fits = 0 <= count <= self.size and 0 <= pointer < self.size
        if not fits or (count < self.size and pointer != count):
            return [f"count {count} and pointer {pointer} do not fit a ring of {self.size}"]
        if not np.isfinite(ring).all():
            return ["ring holds NaN or inf"]
        return []

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave, once `problems` finds nothing."""
        values = to_numpy(state["ring"]).astype(np.float64)
        self.rows[:, :] = self.xp.asarray(values, device=self.rows.device)
        self.squared[:] = self.xp.sum(self.rows * self.rows, axis=1)
        self.count, self.pointer = int(state["count"]), int(state["pointer"])
