"""A causal language model, asked for logits only where they are needed.

The logits of a whole batch (B, T, V) are the largest thing in sight: 2,048 tokens times 150,000
words in float32 are 1.2 GB. Final hidden states are 100 times smaller, so the output layer is
applied to the wanted positions alone, some at a time.

Shape legend: B rows, T padded length, N wanted positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from pipelines.engines.batching import Tokens, padded_right
from pipelines.engines.errors import ModelUnavailable
from stages.engines import Vectors

_SLICE_BYTES = 2**28  # float32 logits held at one time


class CausalNetwork:
    """A model of transformers in evaluation mode, and what it does with padded batches."""

    def __init__(self, model: Any, device: torch.device, fill: int) -> None:
        self.model = model
        self.device = device
        self.fill = fill  # any token will do behind the end: nothing looks ahead
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self._head_is_all = self._head_alone_gives_logits()
        if not self._head_is_all:
            self.most_tokens: int | None = max(1, _SLICE_BYTES // (4 * self.vocabulary))
        else:
            self.most_tokens = None

    @torch.inference_mode()
    def _head_alone_gives_logits(self) -> bool:
        # Some models scale or cap what the output layer gives (Gemma 2, Granite, Cohere). They are
        # found by trying, and take the long way: full logits, in batches small enough for that.
        ids = self._few_tokens()
        whole = self.model(input_ids=ids, use_cache=False).logits.float()
        return _close(whole, self._head(self._hidden(ids)))

    @torch.inference_mode()
    def check_states_are_what_the_head_reads(self) -> None:
        """Raises ModelUnavailable for a model that scales or maps its states before the head."""
        if self._head_is_all:
            return
        read: list[torch.Tensor] = []
        watch = self.model.get_output_embeddings().register_forward_pre_hook(
            lambda _, given: read.append(given[0])
        )
        try:
            self.model(input_ids=self._few_tokens(), use_cache=False)
        finally:
            watch.remove()
        if len(read) != 1 or not _close(read[0].float(), self._hidden(self._few_tokens())):
            raise ModelUnavailable(
                f"{type(self.model).__name__} changes its final hidden states before the output "
                "head, so they do not give its logits: choose a model that does not"
            )

    def _few_tokens(self) -> torch.Tensor:
        return torch.arange(8, device=self.device)[None] % self.vocabulary

    @torch.inference_mode()
    def final_states(self, rows: Sequence[Tokens]) -> list[Vectors]:
        """What the output head is applied to: float32 (tokens, width) for each row.

        Rows are padded on the right, as in `logits_behind`.
        """
        states = self.padded_states(rows)
        # Copies: a slice would keep the whole batch with its padding alive.
        return [
            np.array(own[: len(row)].float().cpu().numpy())
            for own, row in zip(states, rows, strict=True)
        ]

    @torch.inference_mode()
    def padded_states(self, rows: Sequence[Tokens]) -> torch.Tensor:
        """The same on the device, in the model's dtype: (B, T, width), each row from its start."""
        return self._hidden(torch.from_numpy(padded_right(rows, self.fill)).to(self.device))

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        backbone = self.model.base_model
        hidden: torch.Tensor = backbone(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    @torch.inference_mode()
    def logits_behind(
        self, rows: Sequence[Tokens], wanted: Sequence[range]
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Logits float32 (n, V) for the token behind each wanted position of each row.

        The positions of all rows stand one after the other, N in all; the slices cover them in
        order. Rows are padded on the right: a causal model never looks there, so no mask is needed
        and attention takes its fastest way.
        """
        ids = torch.from_numpy(padded_right(rows, self.fill)).to(self.device)
        counts = [len(positions) for positions in wanted]
        row = np.repeat(np.arange(len(rows)), counts)
        column = np.concatenate([np.arange(p.start, p.stop) for p in wanted])
        at = (torch.from_numpy(row).to(self.device), torch.from_numpy(column).to(self.device))
        if self._head_is_all:
            picked = self._hidden(ids)[at]
        else:
            picked = self.model(input_ids=ids, use_cache=False).logits[at]
        step = max(1, _SLICE_BYTES // (4 * self.vocabulary))
        for start in range(0, len(column), step):
            part = picked[start : start + step]
            logits = self._head(part) if self._head_is_all else part
            yield slice(start, start + len(part)), logits.float()


def _close(expected: torch.Tensor, found: torch.Tensor) -> bool:
    return bool(torch.allclose(expected, found.float(), rtol=1e-3, atol=1e-3))
