"""Answers written token by token, for one batch of prompts.

Each prompt is read once; its keys and values are then shared out to its samples. Prompts are padded
on the left with explicit positions. A row that has ended leaves the batch.

Shape legend: B rows (prompts times samples), T padded prompt length, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from pipelines.engines.batching import Tokens, padded_left
from pipelines.engines.local.causal_network import CausalNetwork
from pipelines.engines.local.sampling import drawing_device, next_tokens
from stages.engines import Sampling


@dataclass
class Written:
    """One answer in the making. `ended`: it came to an end by itself."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False


@torch.inference_mode()
def written_answers(
    network: CausalNetwork,
    prompts: Sequence[Tokens],
    noise: npt.NDArray[np.float64],
    sampling: Sampling,
    ends: Callable[[Written], bool],
) -> list[Written]:
    """`samples` answers for each prompt, prompt by prompt.

    noise: (B, max_tokens) in [0, 1), row i for answer i; `samples` = B / prompts. `ends` looks at
    an answer after each of its tokens and says whether it is complete.
    """
    from transformers import DynamicCache

    model, device = network.model, network.device
    samples = len(noise) // len(prompts)
    ids, seen = (torch.from_numpy(a).to(device) for a in padded_left(prompts, network.fill))
    positions = (seen.cumsum(-1) - 1).clamp_(min=0)
    cache = DynamicCache(config=model.config)
    logits = model(
        input_ids=ids,
        attention_mask=seen,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    behind = positions[:, -1:] + 1
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        logits, seen, behind = (a.repeat_interleave(samples, 0) for a in (logits, seen, behind))
    answers = [Written() for _ in noise]
    alive = list(range(len(answers)))  # which answer each row of the batch writes
    draws_on = drawing_device(device)
    for position in range(sampling.max_tokens):
        uniform = torch.from_numpy(noise[alive, position]).to(draws_on)
        logits = logits.float().to(draws_on)
        tokens = next_tokens(logits, uniform, sampling.temperature, sampling.top_p).to(device)
        going = _written_on(answers, alive, tokens.tolist(), ends)
        if not going or position + 1 == sampling.max_tokens:
            break
        if len(going) < len(alive):
            rows = torch.tensor(going, device=device)
            cache.batch_select_indices(rows)
            tokens, seen, behind = tokens[rows], seen[rows], behind[rows]
            alive = [alive[row] for row in going]
        seen = torch.cat([seen, seen.new_ones(len(alive), 1)], dim=-1)
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=seen,
            position_ids=behind,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        behind = behind + 1
    return answers


def _written_on(
    answers: Sequence[Written],
    alive: Sequence[int],
    tokens: Sequence[int],
    ends: Callable[[Written], bool],
) -> list[int]:
    """Append a token to each living answer; returns the rows of the batch that go on."""
    going = []
    for row, (index, token) in enumerate(zip(alive, tokens, strict=True)):
        answer = answers[index]
        answer.tokens.append(token)
        answer.ended = ends(answer)
        if not answer.ended:
            going.append(row)
    return going
