"""Utility-diversity selection inside a training: UDS itself, and its two halves alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pipelines.engines.output_head import OutputHead
from pipelines.train.candidates import Array, Candidates, Chosen, NotFinite
from pipelines.train.selection_config import DiversityOnly, Uds, UtilityOnly
from stages.uds.selector import UtilityDiversitySelector
from stages.uds.sketch import LogitSketch


class UdsSelection:
    """Scores by utility and by distance to what this process has selected before.

    With a frozen head everything about it is computed once. A head that is trained is taken anew at
    each step of the optimiser, which costs 2 V h^2 operations in float64.
    """

    def __init__(
        self, config: Uds | UtilityOnly | DiversityOnly, head: OutputHead, max_length: int
    ) -> None:
        self.keep = config.keep
        self.positions = config.positions
        self.diversity_alone = isinstance(config, DiversityOnly)
        self.head = head
        self.selector = UtilityDiversitySelector(
            head.weight,
            LogitSketch.draw(
                config.sketch_seed,
                max_length,
                int(head.weight.shape[0]),
                config.r_time,
                config.r_vocab,
            ),
            alpha=_alpha(config),
            queue_size=config.queue_size,
            bias=head.bias,
            transform=head.transform,
            ring_order=config.ring_order,
            scale=head.scale,
        )

    def begin_step(self) -> None:
        """Take a head that is trained as it is now."""
        if self.head.is_trained:
            self.selector.refresh(self.head.weight, self.head.bias)

    def choose(self, batch: Candidates) -> Chosen:
        """See BatchSelection. Figures: utility and diversity."""
        mask = None if self.positions == "all" else batch.counted(self.positions)
        states = batch.states(self.positions)
        try:
            measured = self.selector.measure(states, mask)
        except ValueError as error:
            raise NotFinite(str(error), _not_finite(states, mask)) from error
        ranked = measured
        if self.diversity_alone:
            ranked = replace(measured, utility=torch.zeros_like(measured.utility))
        picked = self.selector.pick(ranked, self.keep)
        figures = {
            "utility": measured.utility.cpu().numpy(),
            "diversity": picked.diversity.cpu().numpy(),
        }
        return Chosen(tuple(picked.indices.tolist()), figures)

    def state_dict(self) -> dict[str, Array]:
        """Ring, alpha and projection."""
        return dict(self.selector.state_dict())

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Raises ValueError for a state of another shape."""
        self.selector.load_state_dict(state)


def _alpha(config: Uds | UtilityOnly | DiversityOnly) -> float:
    if isinstance(config, Uds):
        return config.alpha
    # Distances are measured with the utility alone too, so that they can be compared.
    return 0.0 if isinstance(config, UtilityOnly) else 1.0


def _not_finite(states: torch.Tensor, mask: torch.Tensor | None) -> tuple[int, ...]:
    """Which samples hold NaN or inf where it counts."""
    bad: Any = ~torch.isfinite(states).all(dim=-1)
    if mask is not None:
        bad = bad & mask
    return tuple(bad.any(dim=1).nonzero().flatten().tolist())
