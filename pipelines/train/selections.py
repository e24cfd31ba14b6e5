"""Selections that need no memory of what was selected before: the baselines, and plain training."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.train.candidates import Array, Candidates, Chosen, NotFinite, highest
from pipelines.train.selection_config import Positions


class _Stateless:
    def begin_step(self) -> None: ...

    def state_dict(self) -> dict[str, Array]:
        return {}

    def load_state_dict(self, state: Mapping[str, Array]) -> None: ...


class KeepAll(_Stateless):
    """Plain training."""

    def choose(self, batch: Candidates) -> Chosen:
        return Chosen(tuple(range(len(batch))), {})


@dataclass(frozen=True)
class LongestSelection(_Stateless):
    """The samples with the most tokens."""

    keep: int
    positions: Positions

    def choose(self, batch: Candidates) -> Chosen:
        tokens = batch.counted(self.positions).sum(dim=1).cpu().numpy()
        return Chosen(highest(tokens, self.keep), {"tokens": tokens})


@dataclass(frozen=True)
class LossSelection(_Stateless):
    """The samples whose answers have the highest mean loss.

    The figure is `answer_loss`: `loss` is what a training logs of the samples that it keeps.
    """

    keep: int

    def choose(self, batch: Candidates) -> Chosen:
        losses = batch.losses().double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            raise NotFinite("the loss is NaN or inf", tuple(bad.tolist()))
        return Chosen(highest(losses, self.keep), {"answer_loss": losses})


@dataclass
class RandomSelection:
    """Any samples. Each process draws for itself, from (seed, process, batches drawn before)."""

    keep: int
    seed: int
    process: int = 0
    drawn: int = 0

    def begin_step(self) -> None: ...

    def choose(self, batch: Candidates) -> Chosen:
        random = np.random.default_rng([self.seed, self.process, self.drawn])
        self.drawn += 1
        picked = random.permutation(len(batch))[: self.keep]
        return Chosen(tuple(picked.tolist()), {})

    def state_dict(self) -> dict[str, Array]:
        return {"drawn": np.array(self.drawn)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        self.drawn = int(state["drawn"])
