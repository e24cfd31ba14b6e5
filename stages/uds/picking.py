"""Which samples of a batch are taken, given what each is by itself, and what was taken before."""

from dataclasses import dataclass
from typing import Any

from stages.uds.arrays import Array, Namespace, to_numpy
from stages.uds.ring import SketchRing
from stages.uds.ring_order import RingOrder, entering


@dataclass(frozen=True)
class Measured:
    """What a batch is by itself, before it is compared with what was selected.

    utility: float64 (B,), nuclear norm of the logits. sketches: float32 (B, D). cut: bool (B,),
    whether the sample had more positions than the maximum length, and its end was left out.
    """

    utility: Array
    sketches: Array
    cut: Array


@dataclass(frozen=True)
class Picked:
    """The outcome for a batch of B samples.

    indices    int64 (min(k, B),): what to train on, in descending order of score, the lower index
               first among equals
    utility    float64 (B,): nuclear norm of the logits
    diversity  float64 (B,): mean distance to the sketches in the ring, 0 while it is empty
    score      float64 (B,): utility + alpha * diversity
    cut        bool (B,): whether the sample was cut at the maximum length
    """

    indices: Array
    utility: Array
    diversity: Array
    score: Array
    cut: Array


class Picker:
    """Picks by utility + alpha * diversity, and remembers the sketches of what it picked.

    width       numbers in a sketch
    xp, device  the array library and the place of the samples that will come
    alpha, queue_size, ring_order
                as for stages.uds.selector.UtilityDiversitySelector
    """

    def __init__(
        self,
        width: int,
        xp: Namespace,
        device: Any,
        alpha: float = 1.5e-3,
        queue_size: int = 1024,
        ring_order: RingOrder = "released",
    ) -> None:
        self.xp = xp
        self.device = device
        self.alpha = alpha
        self.ring_order = ring_order
        self.ring = SketchRing(queue_size, width, xp, device)

    def pick(self, measured: Measured, k: int) -> Picked:
        """Pick min(k, B) of these samples, and remember them."""
        if k < 1:
            raise ValueError(f"k is {k}, expected at least 1")
        xp = self.xp
        diversity = self.ring.mean_distance(measured.sketches)
        score = measured.utility + self.alpha * diversity
        indices = xp.argsort(-score, stable=True)[:k]
        order = entering(self.ring_order, to_numpy(score).tolist(), to_numpy(indices).tolist())
        places = xp.asarray(order, dtype=xp.int64, device=self.device)
        self.ring.push(xp.take(measured.sketches, places, axis=0))
        return Picked(indices, measured.utility, diversity, score, measured.cut)
