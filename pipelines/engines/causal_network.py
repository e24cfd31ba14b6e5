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
        ids = torch.arange(8, device=self.device)[None] % self.vocabulary
        whole = self.model(input_ids=ids, use_cache=False).logits.float()
        parts = self._head(self._hidden(ids)).float()
        return bool(torch.allclose(whole, parts, rtol=1e-3, atol=1e-3))

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
