"""The loss on what is held out, in nats per token that is predicted."""

from collections.abc import Callable

import torch


class HeldOutLoss:
    """Adds up batches, so that the same rows in other batches have the same loss."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._tokens = 0

    def add(self, mean: torch.Tensor, tokens: int) -> None:
        """A batch by its mean loss, 0 where it has no token."""
        self._sum += float(mean) * tokens
        self._tokens += tokens

    def mean(self, added_up: Callable[[torch.Tensor], torch.Tensor]) -> float:
        """Over the batches of all processes. added_up: a tensor over them, element by element.

        Rows that fill up the last batch of several processes count twice.
        """
        totals = torch.tensor([self._sum, float(self._tokens)], dtype=torch.float64)
        summed, tokens = added_up(totals).tolist()
        return float(summed / tokens)
