"""Utility-diversity selection (UDS): of a batch of samples, the ones to train on.

    sketch = LogitSketch.draw(seed=0, max_length=512, vocab=49_152)
    selector = UtilityDiversitySelector(lm_head=head, sketch=sketch)
    picked = selector.select(hidden, k=2, mask=mask)

Written against the array API: numpy and torch, CPU and GPU, without importing torch. The arrays
that come in and the head are of one library and on one device; what goes out is too.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import array_api_compat
import numpy as np

from stages.uds.arrays import Array, each_on_a_thread, on_cpu, to_numpy, without_gradient
from stages.uds.heads import GramHead, Head, LogitsHead, Transform
from stages.uds.picking import Measured as Measured
from stages.uds.picking import Picked as Picked
from stages.uds.picking import Picker
from stages.uds.ring import SketchRing
from stages.uds.ring_order import RingOrder
from stages.uds.sketch import LogitSketch


class UtilityDiversitySelector:
    """Scores batches by utility + alpha * diversity and remembers what was selected.

    lm_head     (V, h): the output head's weight
    sketch      for this vocabulary; its maximum length is where samples are cut
    alpha       weight of diversity. 1.5e-3 is the paper's, tied to the scale of this sketch
    queue_size  selected samples that are remembered
    bias        (V,): added to the logits. As exact and as fast as none
    scale       of the logits, bias included: as exact and as fast as none
    transform   what else is done to single logits then (a soft-cap). Takes the slow route, which
                makes the logits in blocks of the vocabulary
    ring_order  how the samples of one batch enter the ring, see stages/uds/ring_order.py

    Neither route ever holds a T x V matrix. Float64 throughout, whatever comes in (half
    precisions too), outside autocast and without gradients. MPS has no float64: move to CPU.

    Source: Zou et al. 2025, https://arxiv.org/abs/2510.16882, whose released scores these are. Raw
    nuclear norms change with a constant added to all logits: they are never centred.
    """

    def __init__(
        self,
        lm_head: Array,
        sketch: LogitSketch,
        alpha: float = 1.5e-3,
        queue_size: int = 1024,
        bias: Array | None = None,
        transform: Transform | None = None,
        ring_order: RingOrder = "released",
        scale: float = 1.0,
    ) -> None:
        self.sketch = sketch
        self.scale = scale
        self.transform = transform
        self.xp = array_api_compat.array_namespace(lm_head)
        self.device: Any = array_api_compat.device(lm_head)
        self.picker = Picker(sketch.width, self.xp, self.device, alpha, queue_size, ring_order)
        self.refresh(lm_head, bias)

    @property
    def ring(self) -> SketchRing:
        """The sketches of what was selected last."""
        return self.picker.ring

    @property
    def alpha(self) -> float:
        return self.picker.alpha

    def refresh(self, lm_head: Array, bias: Array | None = None) -> None:
        """Take a head that has changed: call it before each `select` while the head is trained.

        Costs 2 V h^2 operations in float64. Raises ValueError for a head of another vocabulary.
        """
        if lm_head.ndim != 2 or lm_head.shape[0] != self.sketch.vocab:
            raise ValueError(
                f"the head is {tuple(lm_head.shape)}, expected ({self.sketch.vocab}, width): "
                "the sketch was drawn for that vocabulary"
            )
        if bias is not None and tuple(bias.shape) != (self.sketch.vocab,):
            raise ValueError(f"the bias is {tuple(bias.shape)}, expected ({self.sketch.vocab},)")
        self._given = (lm_head, bias)
        self._width = int(lm_head.shape[1])
        self._head = self._built(self.sketch)

    def _built(self, sketch: LogitSketch) -> Head:
        if self.transform is None:
            return GramHead(*self._given, sketch, self.scale)
        return LogitsHead(*self._given, sketch, self.transform, self.scale)

    def select(self, hidden: Array, k: int, mask: Array | None = None) -> Picked:
        """Pick min(k, B) samples and remember them.

        hidden: (B, T, h), final hidden states. mask: (B, T), the positions that count, by default
        all; a sample's scores then depend on nothing else, and what is not counted may be anything.
        Raises as `measure` does, and ValueError for k < 1; the ring is then as it was.
        """
        return self.pick(self.measure(hidden, mask), k)

    def measure(self, hidden: Array, mask: Array | None = None) -> Measured:
        """Utility and sketch of each sample. Changes nothing.

        Positions that count are moved to the front and cut at the maximum length. A sample without
        any has utility 0 and a sketch of zeros. Raises ValueError, with the rows, for NaN or inf at
        positions that count, and for shapes that do not fit.
        """
        xp = self.xp
        self._check_shapes(hidden, mask)
        hidden = without_gradient(hidden)
        kept = None if mask is None else xp.astype(without_gradient(mask), xp.bool)
        samples, longest = int(hidden.shape[0]), self.sketch.max_length
        counts = np.full(samples, hidden.shape[1])
        if kept is not None:
            counts = to_numpy(xp.sum(xp.astype(kept, xp.int64), axis=1))
        parts = _parts(np.minimum(counts, longest), each=on_cpu(hidden))

        def scored(part: list[int]) -> tuple[Array, Array, Array]:
            rows = [hidden[at] if kept is None else hidden[at][kept[at]] for at in part]
            states = xp.stack([xp.astype(row[:longest, :], xp.float64) for row in rows])
            # Checked here, on the sample's own thread: over the whole batch it takes 2 ms more.
            finite = xp.all(xp.isfinite(states), axis=(-2, -1))
            if not bool(xp.all(finite)):
                states = xp.where(finite[:, None, None], states, 0.0)
            return *self._head.measure(states), finite

        done = each_on_a_thread(xp, scored, parts) if on_cpu(hidden) else list(map(scored, parts))
        order = xp.asarray(np.argsort(np.concatenate(parts)), device=self.device)
        utility, sketches, finite = (
            xp.take(xp.concat(list(one)), order, axis=0) for one in zip(*done, strict=True)
        )
        _check_rows(finite, "hidden states of rows {} of the batch hold NaN or inf")
        sketches = xp.astype(sketches, xp.float32)
        measured = Measured(utility, sketches, xp.asarray(counts > longest, device=self.device))
        _check_rows(
            xp.isfinite(utility) & xp.all(xp.isfinite(sketches), axis=1),
            "the scores of rows {} are not finite: their logits are too large or not numbers",
        )
        return measured

    def pick(self, measured: Measured, k: int) -> Picked:
        """Pick min(k, B) of samples that were measured before, and remember them."""
        return self.picker.pick(measured, k)

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that a resumed run needs to go on alike, as numpy arrays; the head is not in it.

        ring, count, pointer (see SketchRing.state), alpha and the four arrays of the sketch.
        """
        alpha = np.array(self.alpha, dtype=np.float64)
        return {**self.ring.state(), "alpha": alpha, **self.sketch.arrays()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state_dict` gave (arrays of any library): ring, alpha and sketch.

        Raises ValueError that tells all that does not fit; nothing is changed then.
        """
        mine = self.state_dict()
        wrong = [f"'{name}' is missing" for name in mine if name not in state]
        if not wrong:
            wrong = self.ring.problems(state)
            wrong += [
                f"{name} is {tuple(state[name].shape)}, expected {mine[name].shape}"
                for name in ("alpha", *self.sketch.arrays())
                if tuple(state[name].shape) != mine[name].shape
            ]
        if wrong:
            raise ValueError(
                "this selection state does not fit the selector:\n"
                + "\n".join(f"  - {problem}" for problem in wrong)
            )
        if not self.sketch.equals(state):
            sketch = LogitSketch(**{name: state[name] for name in self.sketch.arrays()})
            self._head, self.sketch = self._built(sketch), sketch
        self.picker.alpha = float(state["alpha"])
        self.ring.load(state)

    def _check_shapes(self, hidden: Array, mask: Array | None) -> None:
        shape = tuple(hidden.shape)
        if len(shape) != 3 or shape[-1] != self._width or not shape[0]:
            raise ValueError(
                f"hidden states are {shape}, expected (samples, positions, {self._width})"
            )
        if mask is not None and tuple(mask.shape) != shape[:2]:
            raise ValueError(f"the mask is {tuple(mask.shape)}, expected {shape[:2]}")


def _parts(lengths: np.ndarray[Any, Any], *, each: bool) -> list[list[int]]:
    """Samples that are computed together: on CPU one by one, elsewhere those of equal length.

    One by one, a sample's scores are the same to the last bit whatever stands beside it.
    """
    if each:
        return [[place] for place in range(len(lengths))]
    groups: dict[int, list[int]] = defaultdict(list)
    for place, length in enumerate(lengths.tolist()):
        groups[length].append(place)
    return list(groups.values())


def _check_rows(good: Array, message: str) -> None:
    bad = np.flatnonzero(~to_numpy(good))
    if bad.size:
        raise ValueError(message.format(", ".join(map(str, bad.tolist()))))
