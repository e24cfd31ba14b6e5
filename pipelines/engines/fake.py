"""An engine made of plain functions, for tests of stages and of recipes. Imports no model library.

    engine = FakeEngine(log_probs=lambda chat: [-1.0] * len(chat[-1]["content"].split()))
    Context.of({"judge": engine})

Each function answers one request, so results cannot depend on the batch. The engine can do what it
was given functions for, and nothing else: `isinstance(engine, Likelihood)` says so, as for any
engine. A function may return `Refused`, and what it raises passes through.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from stages.engines import (
    AnswerLogProbs,
    Chat,
    ChatStates,
    Completion,
    Geometry,
    Positions,
    Refused,
    Sampling,
    Sketching,
    Usage,
    Vectors,
)

Write: TypeAlias = Callable[[Chat, Sampling, int], str | Refused]  # the int: which sample
Choose: TypeAlias = Callable[[Chat, Sequence[str]], Sequence[float] | Refused]
LogProbs: TypeAlias = Callable[[Chat], Sequence[float] | Refused]
States: TypeAlias = Callable[[Chat], npt.ArrayLike | Refused]
Measure: TypeAlias = Callable[[Chat, Sketching, Positions], Geometry | Refused]
Embed: TypeAlias = Callable[[str], Sequence[float]]
Contradict: TypeAlias = Callable[[str, str], float]


class FakeEngine:
    """Functions in an engine's clothes. A token is a word, wherever tokens are counted.

    generate       (chat, sampling, sample number) -> the text of that sample
    choose         (chat, options) -> weights of the options, scaled here to sum to 1
    log_probs      chat -> log-probabilities of its last turn's tokens, cut here
    hidden_states  chat -> a row for each of its tokens, cut here; the answer begins behind the
                   words of the turns before it
    logit_geometry (chat, sketching, positions) -> its Geometry
    embed          text -> a vector, scaled here to length 1
    contradiction  (premise, hypothesis) -> probability
    probe          called by `probe`: raise EngineError here to play a dead engine
    """

    def __init__(
        self,
        *,
        generate: Write | None = None,
        choose: Choose | None = None,
        log_probs: LogProbs | None = None,
        hidden_states: States | None = None,
        logit_geometry: Measure | None = None,
        embed: Embed | None = None,
        contradiction: Contradict | None = None,
        probe: Callable[[], None] = lambda: None,
    ) -> None:
        self.usage = Usage()
        self.notes: list[str] = []
        self.closed = False
        self._probe = probe
        # Set on the instance: a method of the class would claim the capability without a function.
        methods: dict[str, Any] = {
            "generate": generate and _generating(self, generate),
            "choose": choose and _choosing(self, choose),
            "log_probs": log_probs and _scoring(self, log_probs),
            "hidden_states": hidden_states and _reading(self, hidden_states),
            "logit_geometry": logit_geometry and _measuring(self, logit_geometry),
            "embed": embed and _embedding(self, embed),
            "probability": contradiction and _contradicting(self, contradiction),
        }
        for name, method in methods.items():
            if method is not None:
                setattr(self, name, method)

    def probe(self) -> None:
        self._probe()

    def close(self) -> None:
        self.closed = True

    def count(self, prompt_tokens: int, completion_tokens: int = 0) -> None:
        """One more request answered."""
        self.usage.calls += 1
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens


def _words(chat: Chat) -> int:
    return sum(len((message.get("content") or "").split()) for message in chat)


def _generating(
    engine: FakeEngine, write: Write
) -> Callable[[Sequence[Chat], Sampling, Sequence[bytes]], list[list[Completion] | Refused]]:
    def one(chat: Chat, sampling: Sampling) -> list[Completion] | Refused:
        done = []
        for sample in range(sampling.samples):
            text = write(chat, sampling, sample)
            if isinstance(text, Refused):
                return text
            cuts = [text.index(stop) for stop in sampling.stop if stop in text]
            text = text[: min(cuts, default=len(text))]
            words = len(text.split())
            if words > sampling.max_tokens:
                text = " ".join(text.split()[: sampling.max_tokens])
            done.append(
                Completion(text, min(words, sampling.max_tokens), words <= sampling.max_tokens)
            )
        engine.count(_words(chat), sum(answer.tokens for answer in done))
        return done

    def generate(
        chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        if len(keys) != len(chats):
            raise ValueError(f"{len(chats)} chats came with {len(keys)} keys")
        return [one(chat, sampling) for chat in chats]

    return generate


def _choosing(
    engine: FakeEngine, weigh: Choose
) -> Callable[[Sequence[Chat], Sequence[str]], list[npt.NDArray[np.float32] | Refused]]:
    def one(chat: Chat, options: Sequence[str]) -> npt.NDArray[np.float32] | Refused:
        weights = weigh(chat, options)
        if isinstance(weights, Refused):
            return weights
        engine.count(_words(chat))
        shares = np.asarray(weights, dtype=np.float64)
        return np.asarray(shares / shares.sum(), dtype=np.float32)

    def choose(
        chats: Sequence[Chat], options: Sequence[str]
    ) -> list[npt.NDArray[np.float32] | Refused]:
        return [one(chat, options) for chat in chats]

    return choose


def _scoring(
    engine: FakeEngine, score: LogProbs
) -> Callable[[Sequence[Chat], int], list[AnswerLogProbs | Refused]]:
    def one(chat: Chat, max_tokens: int) -> AnswerLogProbs | Refused:
        if not chat or chat[-1].get("role") != "assistant":
            return Refused("the last turn is not the assistant's")
        values = score(chat)
        if isinstance(values, Refused):
            return values
        engine.count(_words(chat))
        cut = len(values) > max_tokens
        return AnswerLogProbs(np.asarray(values[:max_tokens], dtype=np.float32), cut)

    def log_probs(chats: Sequence[Chat], max_tokens: int) -> list[AnswerLogProbs | Refused]:
        return [one(chat, max_tokens) for chat in chats]

    return log_probs


def _reading(
    engine: FakeEngine, states: States
) -> Callable[[Sequence[Chat], int], list[ChatStates | Refused]]:
    def one(chat: Chat, max_tokens: int) -> ChatStates | Refused:
        if not chat or chat[-1].get("role") != "assistant":
            return Refused("the last turn is not the assistant's")
        values = states(chat)
        if isinstance(values, Refused):
            return values
        rows = np.asarray(values, dtype=np.float32)
        answer_from = _words(chat[:-1])
        if min(len(rows), max_tokens) <= answer_from:
            return Refused(
                f"the prompt has {answer_from:,} tokens, so nothing of the answer "
                f"({len(rows) - answer_from:,}) is among the chat's first {max_tokens:,}"
            )
        engine.count(_words(chat))
        return ChatStates(rows[:max_tokens], answer_from, len(rows) > max_tokens)

    def hidden_states(chats: Sequence[Chat], max_tokens: int) -> list[ChatStates | Refused]:
        return [one(chat, max_tokens) for chat in chats]

    return hidden_states


def _measuring(
    engine: FakeEngine, measure: Measure
) -> Callable[[Sequence[Chat], Sketching, Positions], list[Geometry | Refused]]:
    def one(chat: Chat, sketching: Sketching, positions: Positions) -> Geometry | Refused:
        if not chat or chat[-1].get("role") != "assistant":
            return Refused("the last turn is not the assistant's")
        found = measure(chat, sketching, positions)
        if not isinstance(found, Refused):
            engine.count(_words(chat))
        return found

    def logit_geometry(
        chats: Sequence[Chat], sketching: Sketching, positions: Positions
    ) -> list[Geometry | Refused]:
        return [one(chat, sketching, positions) for chat in chats]

    return logit_geometry


def _embedding(engine: FakeEngine, vector: Embed) -> Callable[[Sequence[str]], Vectors]:
    def one(text: str) -> Vectors:
        engine.count(len(text.split()))
        values = np.asarray(vector(text), dtype=np.float64)
        return np.asarray(values / (np.linalg.norm(values) or 1.0), dtype=np.float32)

    def embed(texts: Sequence[str]) -> Vectors:
        return np.stack([one(text) for text in texts]) if texts else np.zeros((0, 0), np.float32)

    return embed


def _contradicting(
    engine: FakeEngine, judge: Contradict
) -> Callable[[Sequence[tuple[str, str]]], npt.NDArray[np.float32]]:
    def probability(pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        values = [judge(premise, hypothesis) for premise, hypothesis in pairs]
        for premise, hypothesis in pairs:
            engine.count(len(premise.split()) + len(hypothesis.split()))
        return np.asarray(values, dtype=np.float32)

    return probability
