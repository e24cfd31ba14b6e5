"""The model that is trained, asked for scores: no gradient, no dropout, no logits kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from pipelines.engines.output_head import backbone, causal_model

_IGNORED = -100  # what losses skip among labels


class ModelScorer:
    """See candidates.Scorer. seconds: what the forward passes have taken."""

    def __init__(self, model: Any, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        """autocast: the context that the model is trained in."""
        self.model = model
        self.autocast = autocast
        self.seconds = 0.0

    def states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, padding: bool
    ) -> torch.Tensor:
        """One pass of the backbone; on a CPU one for each sample, without its padding.

        Padding on the right changes no token before it, so no mask is needed unless it counts. On a
        CPU padding costs as much as tokens do, and of dolly's chats in batches of 8 at 256 tokens
        46 % is padding. One by one, a sample's states are also the same to the last bit whatever
        stands beside it.
        """
        with self._scoring():
            if padding:
                return self._pass(input_ids, attention_mask)
            if input_ids.device.type != "cpu":
                return self._pass(input_ids, None)
            return self._one_by_one(input_ids, attention_mask.sum(dim=1).tolist())

    def _one_by_one(self, input_ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        own = [
            self._pass(ids[None, :length], None)[0]
            for ids, length in zip(input_ids, lengths, strict=True)
        ]
        whole = own[0].new_zeros(*input_ids.shape, own[0].shape[-1])
        for place, states in enumerate(own):
            whole[place, : len(states)] = states
        return whole

    def _pass(self, input_ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        made = backbone(self.model)(input_ids=input_ids, attention_mask=mask, use_cache=False)
        states: torch.Tensor = made.last_hidden_state
        return states

    def losses(self, input_ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """One pass with the head that trl gives the model, which keeps no logits."""
        labels = input_ids.masked_fill(~counted, _IGNORED)
        with self._scoring():
            made = causal_model(self.model)(input_ids=input_ids, labels=labels, fused_lm_head=True)
        tokens = made.label_mask.sum(dim=1).clamp(min=1)
        losses: torch.Tensor = -made.log_probs.float().sum(dim=1) / tokens
        return losses

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        was_training = self.model.training
        began = time.perf_counter()
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast():
                yield
            waited_for(self.model.device)
        finally:
            self.model.train(was_training)
            self.seconds += time.perf_counter() - began


def waited_for(device: torch.device) -> None:
    """Let a GPU finish, so that a clock that is read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
