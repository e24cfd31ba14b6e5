"""Chat models through transformers: everything that is asked of one, on CPU or GPU.

The reference that other engines are compared with. Requests are batched by length; in float32 the
results do not depend on the batch beyond 1e-4 or so.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.engines.batching import Tokens, answered
from pipelines.engines.chat_tokens import Answer, ChatTokens
from pipelines.engines.first_tokens import first_tokens
from pipelines.engines.local.causal_network import CausalNetwork
from pipelines.engines.local.config import TransformersModel
from pipelines.engines.local.decoding import Written, written_answers
from pipelines.engines.local.device import (
    chosen_device,
    device_errors,
    free_memory,
    torch_dtype,
)
from pipelines.engines.local.sampling import noise
from pipelines.engines.logit_geometry import HeadGeometry, Span
from pipelines.engines.one_at_a_time import one_at_a_time
from pipelines.engines.output_head import output_head
from stages.engines import (
    AnswerLogProbs,
    Chat,
    ChatStates,
    Completion,
    EngineError,
    Geometry,
    Positions,
    Refused,
    Sampling,
    Sketching,
    Usage,
)

_ADVICE = "a smaller batch_tokens or batch_rows needs less"
# Keys and values of writing answers are kept for 8 times the tokens of one forward pass: 32 answers
# of 500 tokens with prompts, 750 MB for SmolLM2-135M in float32.
_CACHE_TOKENS = 8
# Of prompts to be answered, 4 times those tokens are read at once: a batch that is cut by what is
# read writes fewer answers side by side, and each of their tokens costs about as much as before.
_READ_TOKENS = 4
_STOP_WINDOW = 16  # tokens decoded beyond the longest stop string to look for it


class TransformersEngine:
    """One open model, one call at a time.

    Generator, Chooser, Likelihood, HiddenStates and LogitGeometry.
    """

    def __init__(self, config: TransformersModel, folder: str, **hub: Any) -> None:
        """`folder` and `hub` go to from_pretrained: a folder, or a hub id and its commit."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = chosen_device(config.device)
        with device_errors(_ADVICE):
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch_dtype(config.dtype), **hub
            )
            model = model.to(device).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
            self.chat_tokens = ChatTokens(tokenizer, _context(model, config))
            # Not the pad token, which may lie beyond the embedding.
            self.network = CausalNetwork(model, device, fill=0)
        on_cpu = device.type == "cpu"
        self.batch_tokens = config.batch_tokens or (2_048 if on_cpu else 16_384)
        self.batch_rows = config.batch_rows or (32 if on_cpu else 128)
        self.geometry: HeadGeometry | None = None
        self.ends = _end_tokens(model, tokenizer, self.chat_tokens.end_of_turn)
        self.usage = Usage()
        self.notes: list[str] = []
        self.lock = threading.RLock()

    @one_at_a_time
    def log_probs(self, chats: Sequence[Chat], max_tokens: int) -> list[AnswerLogProbs | Refused]:
        """See stages.engines.Likelihood. One forward pass over prompt and answer."""
        answers = self.chat_tokens.answers(chats, max_tokens)
        return answered(
            answers,
            lambda item: len(item.prompt) + len(item.answer) - 1,
            self._answer_log_probs,
            self._forward_tokens(),
        )

    def _answer_log_probs(self, items: Sequence[Answer]) -> list[AnswerLogProbs]:
        rows = [np.concatenate([item.prompt, item.answer[:-1]]) for item in items]
        wanted = [
            range(len(item.prompt) - 1, len(row)) for item, row in zip(items, rows, strict=True)
        ]
        targets = torch.from_numpy(np.concatenate([item.answer for item in items]).astype(np.int64))
        targets = targets.to(self.network.device)
        values = np.empty(len(targets), dtype=np.float32)
        with device_errors(_ADVICE):
            for part, logits in self.network.logits_behind(rows, wanted):
                chosen = logits.gather(-1, targets[part, None]).squeeze(-1)
                values[part] = (chosen - logits.logsumexp(-1)).cpu().numpy()
        self._count([len(item.prompt) + len(item.answer) for item in items])
        borders = np.cumsum([len(item.answer) for item in items])[:-1]
        own = zip(np.split(values, borders), items, strict=True)
        return [AnswerLogProbs(value, item.cut) for value, item in own]

    @one_at_a_time
    def hidden_states(self, chats: Sequence[Chat], max_tokens: int) -> list[ChatStates | Refused]:
        """See stages.engines.HiddenStates. One forward pass; no logits are made.

        Raises ModelUnavailable for a model that changes its states before the output head.
        """
        self.network.check_states_are_what_the_head_reads()
        return answered(
            self.chat_tokens.beginnings(chats, max_tokens),
            lambda item: len(item.prompt) + len(item.answer),
            self._states,
            self.batch_tokens,
        )

    def _states(self, items: Sequence[Answer]) -> list[ChatStates]:
        rows = [np.concatenate([item.prompt, item.answer]) for item in items]
        with device_errors(_ADVICE):
            states = self.network.final_states(rows)
        self._count([len(row) for row in rows])
        own = zip(states, items, strict=True)
        return [ChatStates(values, len(item.prompt), item.cut) for values, item in own]

    @one_at_a_time
    def logit_geometry(
        self, chats: Sequence[Chat], sketching: Sketching, positions: Positions
    ) -> list[Geometry | Refused]:
        """See stages.engines.LogitGeometry. One forward pass; states stay on the device.

        Raises ModelUnavailable for a head that pipelines/engines/output_head.py does not know.
        """
        if self.geometry is None:
            self.geometry = HeadGeometry(output_head(self.network.model))
        geometry = self.geometry

        def measured(items: Sequence[Answer]) -> list[Geometry]:
            rows = [np.concatenate([item.prompt, item.answer]) for item in items]
            spans = [
                Span(len(row), len(item.prompt), item.cut)
                for row, item in zip(rows, items, strict=True)
            ]
            with device_errors(_ADVICE):
                states = self.network.padded_states(rows)
                found = geometry.of_padded(states, spans, sketching, positions)
            self._count([len(row) for row in rows])
            return found

        return answered(
            self.chat_tokens.beginnings(chats, sketching.max_length),
            lambda item: len(item.prompt) + len(item.answer),
            measured,
            self.batch_tokens,
        )

    @one_at_a_time
    def choose(
        self, chats: Sequence[Chat], options: Sequence[str]
    ) -> list[npt.NDArray[np.float32] | Refused]:
        """See stages.engines.Chooser. By first tokens: one forward pass over the prompt.

        Raises ValueError for options that share a first token.
        """
        firsts = first_tokens(self.chat_tokens, options)
        return answered(
            self.chat_tokens.choice_prompts(chats, options[0]),
            len,
            lambda prompts: self._option_shares(prompts, firsts),
            self._forward_tokens(),
        )

    def _option_shares(
        self, prompts: Sequence[Tokens], firsts: Sequence[Sequence[int]]
    ) -> list[npt.NDArray[np.float32]]:
        wanted = [range(len(prompt) - 1, len(prompt)) for prompt in prompts]
        shares = np.empty((len(prompts), len(firsts)), dtype=np.float32)
        with device_errors(_ADVICE):
            for part, logits in self.network.logits_behind(prompts, wanted):
                options = [logits[:, list(tokens)].logsumexp(-1) for tokens in firsts]
                shares[part] = torch.stack(options, dim=-1).softmax(-1).cpu().numpy()
        self._count([len(prompt) for prompt in prompts])
        return list(shares)

    @one_at_a_time
    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        """See stages.engines.Generator. Sampling settings that a model ships with are not used."""
        if len(keys) != len(chats):
            raise ValueError(f"{len(chats)} chats came with {len(keys)} keys")
        prompts = self.chat_tokens.prompts(chats, room=sampling.max_tokens)
        # Greedy answers are all alike: one is written and handed out several times.
        samples = sampling.samples if sampling.temperature > 0 else 1
        return answered(
            [
                prompt if isinstance(prompt, Refused) else (prompt, key)
                for prompt, key in zip(prompts, keys, strict=True)
            ],
            # Prompts are read in one forward pass, each once; its samples are written together.
            lambda asked: max(
                _CACHE_TOKENS // _READ_TOKENS * len(asked[0]),
                (len(asked[0]) + sampling.max_tokens) * samples,
            ),
            lambda asked: self._completions(asked, sampling, samples),
            _CACHE_TOKENS * self.batch_tokens,
            max(1, self.batch_rows // samples),
        )

    def _completions(
        self, asked: Sequence[tuple[Tokens, bytes]], sampling: Sampling, samples: int
    ) -> list[list[Completion]]:
        drawn = [
            noise(sampling.seed, key, sample, sampling.max_tokens)
            for _, key in asked
            for sample in range(samples)
        ]
        prompts = [prompt for prompt, _ in asked]
        with device_errors(_ADVICE):
            answers = written_answers(
                self.network, prompts, np.stack(drawn), sampling, self._ends_of(sampling)
            )
        done = [self._completion(answer, sampling) for answer in answers]
        self._count([len(prompt) for prompt in prompts], sum(answer.tokens for answer in done))
        own = [done[start : start + samples] for start in range(0, len(done), samples)]
        return [completions * (sampling.samples // samples) for completions in own]

    def _ends_of(self, sampling: Sampling) -> Callable[[Written], bool]:
        window = _STOP_WINDOW + max(map(len, sampling.stop), default=0)

        def ends(answer: Written) -> bool:
            if answer.tokens[-1] in self.ends:
                return True
            if not sampling.stop:
                return False
            tail = self.chat_tokens.text(answer.tokens[-window:])
            return any(stop in tail for stop in sampling.stop)

        return ends

    def _completion(self, answer: Written, sampling: Sampling) -> Completion:
        tokens = answer.tokens
        text = self.chat_tokens.text(tokens[:-1] if tokens[-1] in self.ends else tokens)
        found = [text.index(stop) for stop in sampling.stop if stop in text]
        return Completion(text[: min(found, default=len(text))], len(tokens), answer.ended)

    def _forward_tokens(self) -> int:
        return min(self.batch_tokens, self.network.most_tokens or self.batch_tokens)

    def _count(self, prompt_tokens: Sequence[int], completion_tokens: int = 0) -> None:
        self.usage.calls += len(prompt_tokens)
        self.usage.prompt_tokens += sum(prompt_tokens)
        self.usage.completion_tokens += completion_tokens

    @one_at_a_time
    def probe(self) -> None:
        """A small real request; raises EngineError. Not counted in `usage`."""
        before = self.usage.copy()
        chat = [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "yes"}]
        try:
            (answer,) = self.log_probs([chat], max_tokens=8)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the model does not answer a plain chat: {error}") from error
        finally:
            self.usage = before
        if isinstance(answer, Refused) or not np.isfinite(answer.values).all():
            raise EngineError(f"the model does not answer a plain chat: {answer}")

    @one_at_a_time
    def close(self) -> None:
        del self.network, self.geometry
        free_memory()


def _context(model: Any, config: TransformersModel) -> int:
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [limit for limit in (own, config.max_length) if limit]
    if not limits:
        raise EngineError(f"'{config.model}' names no context limit: give max_length in the recipe")
    return int(min(limits))


def _end_tokens(model: Any, tokenizer: Any, end_of_turn: int | None) -> frozenset[int]:
    """Tokens that end an answer: by the model's own word, its tokenizer's and its template's."""
    own = model.generation_config.eos_token_id
    every = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id, end_of_turn]
    return frozenset(token for token in every if token is not None)
