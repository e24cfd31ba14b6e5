"""A batch of candidates as a selection sees it, and what a selection is.

Shape legend: B candidates, T padded length, h width. Padding is on the right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from pipelines.train.selection_config import Positions

Array = np.ndarray[Any, Any]


class Scorer(Protocol):
    """The model as it stands, asked without gradients and in evaluation mode."""

    def states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, padding: bool
    ) -> torch.Tensor:
        """Final hidden states (B, T, h). Without `padding`, there may be anything behind a
        sample's end; with it, there is what the model makes of the padding.
        """

    def losses(self, input_ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Mean loss (B,) of the tokens that `counted` (B, T) marks; none counted: 0."""


@dataclass(frozen=True)
class Candidates:
    """B samples, padded to one length.

    input_ids, attention_mask  (B, T)
    answer_from                (B,): the first token of each answer
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    answer_from: torch.Tensor
    scorer: Scorer

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def counted(self, positions: Positions) -> torch.Tensor:
        """Boolean (B, T): the tokens that count."""
        own = self.attention_mask.bool()
        if positions == "all":
            return torch.ones_like(own)
        if positions == "real":
            return own
        places = torch.arange(own.shape[1], device=own.device)
        return own & (places >= self.answer_from[:, None])

    def states(self, positions: Positions) -> torch.Tensor:
        """Final hidden states (B, T, h), sound where these positions count."""
        return self.scorer.states(self.input_ids, self.attention_mask, padding=positions == "all")

    def losses(self) -> torch.Tensor:
        """Mean loss of the answer's tokens (B,)."""
        return self.scorer.losses(self.input_ids, self.counted("answer"))


@dataclass(frozen=True)
class Chosen:
    """picked: places in the batch, the best first. figures: of each candidate, by name, (B,)."""

    picked: tuple[int, ...]
    figures: Mapping[str, Array]


class BatchSelection(Protocol):
    """Chooses the samples of each batch that are trained on."""

    def begin_step(self) -> None:
        """The weights may have changed since the last batch."""

    def choose(self, batch: Candidates) -> Chosen:
        """At most `keep` of them. Raises NotFinite for scores that are no numbers."""

    def state_dict(self) -> dict[str, Array]:
        """All that makes a resumed training choose alike."""

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from there."""


class NotFinite(Exception):
    """Candidates whose scores are NaN or inf. `places`: which of the batch; empty: not known."""

    def __init__(self, message: str, places: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.places = places


def highest(values: Array, keep: int) -> tuple[int, ...]:
    """The places of the `keep` highest, the highest first, the earlier one among equals."""
    return tuple(np.argsort(-values, kind="stable")[:keep].tolist())
