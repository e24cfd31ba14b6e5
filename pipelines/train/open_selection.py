"""A selection from its config."""

from typing import Any, assert_never

from pipelines.engines.output_head import output_head
from pipelines.train.candidates import BatchSelection
from pipelines.train.selection_config import (
    AnySelection,
    DiversityOnly,
    Everything,
    HighestLoss,
    Longest,
    RandomChoice,
    Uds,
    UtilityOnly,
)
from pipelines.train.selections import (
    KeepAll,
    LongestSelection,
    LossSelection,
    RandomSelection,
)
from pipelines.train.uds_selection import UdsSelection


def open_selection(
    config: AnySelection, model: Any, *, max_length: int, seed: int, process: int
) -> BatchSelection:
    """The selection for `model`, where it stands on its device.

    seed: of the training. process: which of several this is. Raises ModelUnavailable for a model
    whose logits cannot be scored.
    """
    if isinstance(config, Uds | UtilityOnly | DiversityOnly):
        return UdsSelection(config, output_head(model), max_length)
    if isinstance(config, RandomChoice):
        own = seed if config.seed is None else config.seed
        return RandomSelection(config.keep, own, process)
    if isinstance(config, HighestLoss):
        return LossSelection(config.keep)
    if isinstance(config, Longest):
        return LongestSelection(config.keep, config.positions)
    if isinstance(config, Everything):
        return KeepAll()
    assert_never(config)
