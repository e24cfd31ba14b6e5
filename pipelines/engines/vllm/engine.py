"""Chat models in vLLM, in this process: Generator, Chooser and Likelihood.

Chats are rendered and cut into tokens as for transformers, so that both read the same. The
requests of a call go to vLLM together; it batches them with those of other threads and keeps the
beginnings that prompts share in its cache. Reward models and audio input would each be an engine of
its own beside this one, over the same VllmLoop.
"""

import hashlib
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.engines.batching import Tokens
from pipelines.engines.chat_tokens import Answer, ChatTokens
from pipelines.engines.first_tokens import first_tokens
from pipelines.engines.vllm.config import VllmModel
from pipelines.engines.vllm.loop import VllmLoop
from stages.engines import (
    AnswerLogProbs,
    Chat,
    Completion,
    EngineError,
    Refused,
    Sampling,
    Usage,
)

T = TypeVar("T")
U = TypeVar("U")

_GREEDY_BELOW = 1e-5  # the temperature that vLLM takes for 0


class VllmEngine:
    """One open model. For several threads at once."""

    def __init__(self, config: VllmModel, folder: str, **hub: Any) -> None:
        """`folder` and `hub` go to from_pretrained: a folder, or a hub id and its commit."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
        ChatTokens(tokenizer, 1)  # a model without a chat template is refused before it is loaded
        self.loop = VllmLoop(config, folder, hub.get("revision"))
        self.chat_tokens = ChatTokens(tokenizer, self.loop.model_config.max_model_len)
        self.ends = _end_tokens(self.loop.model_config, tokenizer, self.chat_tokens.end_of_turn)
        self.usage = Usage()
        self.notes: list[str] = []
        self._counting = Lock()

    def log_probs(self, chats: Sequence[Chat], max_tokens: int) -> list[AnswerLogProbs | Refused]:
        """See stages.engines.Likelihood. One forward pass over prompt and answer."""
        return self._log_probs(chats, max_tokens, self._count)

    def _log_probs(
        self, chats: Sequence[Chat], max_tokens: int, count: Callable[[int, int, int], None]
    ) -> list[AnswerLogProbs | Refused]:
        def ask(items: Sequence[Answer]) -> list[AnswerLogProbs]:
            # vLLM wants room for a token to write. It writes one behind the last but one, and is
            # asked how likely the last would have been there: so chats fit that fit transformers.
            prompts = [np.concatenate([item.prompt, item.answer[:-1]]) for item in items]
            outputs = self.loop.generate(prompts, [_scoring(item) for item in items])
            for item, (_, cached) in zip(items, outputs, strict=True):
                count(len(item.prompt) + len(item.answer), cached, 0)
            return [
                AnswerLogProbs(_answer_values(item, output), item.cut)
                for item, (output, _) in zip(items, outputs, strict=True)
            ]

        return _unless_refused(self.chat_tokens.answers(chats, max_tokens), ask)

    def choose(
        self, chats: Sequence[Chat], options: Sequence[str]
    ) -> list[npt.NDArray[np.float32] | Refused]:
        """See stages.engines.Chooser. By first tokens: one forward pass over the prompt.

        Raises ValueError for options that share a first token.
        """
        firsts = first_tokens(self.chat_tokens, options)
        asked = _next_token([token for tokens in firsts for token in tokens])

        def ask(prompts: Sequence[Tokens]) -> list[npt.NDArray[np.float32]]:
            outputs = self.loop.generate(prompts, [asked] * len(prompts))
            for prompt, (_, cached) in zip(prompts, outputs, strict=True):
                self._count(len(prompt), cached, 0)
            return [_shares(_next_log_probs(output), firsts) for output, _ in outputs]

        return _unless_refused(self.chat_tokens.choice_prompts(chats, options[0]), ask)

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        """See stages.engines.Generator. Sampling settings that a model ships with are not used.

        Raises ValueError for what vLLM does not take: a temperature above 2, a schema that it
        cannot follow.
        """
        if len(keys) != len(chats):
            raise ValueError(f"{len(chats)} chats came with {len(keys)} keys")
        # Greedy answers are all alike: one is written and handed out several times.
        samples = sampling.samples if sampling.temperature >= _GREEDY_BELOW else 1
        prompts = self.chat_tokens.prompts(chats, room=sampling.max_tokens)
        own_keys = [
            key
            for key, prompt in zip(keys, prompts, strict=True)
            if not isinstance(prompt, Refused)
        ]

        def ask(prompts: Sequence[Tokens]) -> list[list[Completion]]:
            params = [self._params(sampling, samples, key) for key in own_keys]
            outputs = self.loop.generate(prompts, params)
            results = []
            for prompt, (output, cached) in zip(prompts, outputs, strict=True):
                done = [self._completion(one, sampling) for one in output.outputs]
                self._count(len(prompt) * samples, cached, sum(answer.tokens for answer in done))
                results.append(done * (sampling.samples // samples))
            return results

        return _unless_refused(prompts, ask)

    def _params(self, sampling: Sampling, samples: int, key: bytes) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        schema = sampling.json_schema
        return SamplingParams(
            n=samples,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=_seed(sampling.seed, key),
            stop=list(sampling.stop),
            stop_token_ids=sorted(self.ends),
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
            # Text is made of the tokens here, as for transformers; vLLM needs it to see a stop.
            detokenize=bool(sampling.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def _completion(self, output: Any, sampling: Sampling) -> Completion:
        if output.finish_reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended an answer by itself: {output.finish_reason}")
        tokens = list(output.token_ids)
        text = self.chat_tokens.text(tokens[:-1] if tokens[-1] in self.ends else tokens)
        found = [text.index(stop) for stop in sampling.stop if stop in text]
        cut = text[: min(found, default=len(text))]
        return Completion(cut, len(tokens), output.finish_reason == "stop")

    def _count(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        with self._counting:
            self.usage.calls += 1
            self.usage.prompt_tokens += prompt_tokens
            self.usage.cached_tokens += cached_tokens
            self.usage.completion_tokens += completion_tokens

    def probe(self) -> None:
        """A small real request; raises EngineError. Not counted in `usage`."""
        chat = [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "yes"}]
        try:
            (answer,) = self._log_probs([chat], 8, lambda *_: None)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the model does not answer a plain chat: {error}") from error
        if isinstance(answer, Refused) or not np.isfinite(answer.values).all():
            raise EngineError(f"the model does not answer a plain chat: {answer}")

    def close(self) -> None:
        self.loop.close()


def _unless_refused(
    items: Sequence[T | Refused], ask: Callable[[Sequence[T]], Sequence[U]]
) -> list[U | Refused]:
    """What `ask` answers to the items that are none, each in its place."""
    asked = [item for item in items if not isinstance(item, Refused)]
    answers = iter(ask(asked) if asked else ())
    return [item if isinstance(item, Refused) else next(answers) for item in items]


def _seed(seed: int, key: bytes) -> int:
    """A hash of 62 bits: vLLM adds the number of the sample, and wants an int64."""
    digest = hashlib.blake2b(b"%d\0" % seed + key, digest_size=8).digest()
    return int.from_bytes(digest) >> 2


def _next_token(tokens: Sequence[int], **further: Any) -> Any:
    """Asks for the log-probabilities of these tokens to come next (128 at most)."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0,
        logprob_token_ids=sorted(set(tokens)),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **further,
    )


def _scoring(item: Answer) -> Any:
    """Asks how likely an answer is that ends behind what is given as prompt."""
    last = [int(item.answer[-1])]
    if len(item.answer) == 1:
        return _next_token(last)
    return _next_token(last, prompt_logprobs=0, flat_logprobs=True)


def _next_log_probs(output: Any) -> dict[int, float]:
    (position,) = output.outputs[0].logprobs
    return {token: found.logprob for token, found in position.items()}


def _answer_values(item: Answer, output: Any) -> npt.NDArray[np.float32]:
    values = np.empty(len(item.answer), dtype=np.float32)
    values[-1] = _next_log_probs(output)[int(item.answer[-1])]
    if len(values) > 1:
        given = output.prompt_logprobs  # one token at each position but the first
        values[:-1] = given.logprobs[-len(values) + 1 :]
    return values


def _shares(
    log_probs: dict[int, float], firsts: Sequence[Sequence[int]]
) -> npt.NDArray[np.float32]:
    weights = [np.logaddexp.reduce([log_probs[token] for token in tokens]) for tokens in firsts]
    shares = np.exp(np.array(weights) - max(weights))
    return np.asarray(shares / shares.sum(), dtype=np.float32)


def _end_tokens(model_config: Any, tokenizer: Any, end_of_turn: int | None) -> frozenset[int]:
    """Tokens that end an answer: by the model's own word, its tokenizer's and its template's."""
    own = model_config.try_get_generation_config().get("eos_token_id")
    every = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id, end_of_turn]
    return frozenset(token for token in every if token is not None)
