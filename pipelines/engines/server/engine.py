"""Chat models behind any OpenAI-compatible server: Generator and Chooser, Likelihood with tokens.

With the model's tokenizer, a server that takes tokens as vLLM does is asked in tokens
(tokens.py); any other one in chats (chats.py).
"""

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.engines.batching import Tokens
from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.first_tokens import first_tokens
from pipelines.engines.kept_answers import Answers, Forgetful
from pipelines.engines.server.budget import Spent
from pipelines.engines.server.chats import ChatRoute
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.keeping import (
    COMPLETIONS,
    LOG_PROBS,
    SHARES,
    Form,
    Parts,
    answered,
    question,
)
from pipelines.engines.server.options import plain_options
from pipelines.engines.server.requests import Server
from pipelines.engines.server.tokenizer import open_chat_tokens
from pipelines.engines.server.tokens import TokenRoute
from stages.engines import AnswerLogProbs, Chat, Completion, Engine, Refused, Sampling

T = TypeVar("T")
Shares = npt.NDArray[np.float32]


class ServerEngine:
    """One model behind one server. For several threads at once."""

    def __init__(self, config: OpenAiModel) -> None:
        """Sends nothing, unless the length of the context is to be asked for.

        Raises ModelUnavailable for a key or a tokenizer that is not there.
        """
        self._server = Server(config)
        try:
            self._chat_tokens = open_chat_tokens(config, self._server)
            self._chats = ChatRoute(self._server)
            self._tokens = _token_route(self._server, self._chat_tokens, self._chats)
        except BaseException:
            self._server.close()
            raise
        self._answers: Answers = Forgetful()
        self._known = [
            config.known_as or [config.base_url, config.model],
            [config.tokenizer, config.tokenizer_revision, config.max_length],
        ]
        self.usage = self._server.usage
        self.notes = self._server.notes
        self._claim()

    @property
    def spent(self) -> Spent:
        """Of its budget."""
        return self._server.ledger.spent

    def go_on_from(self, spent: Spent) -> None:
        """That much was spent before this engine was opened."""
        self._server.ledger.go_on_from(spent)

    def _claim(self) -> None:
        """Set on the instance: without a tokenizer the engine must not claim the capability."""
        if self._tokens is not None:
            self.log_probs = self._log_probs

    def keeping(self, answers: Answers) -> Engine:
        """The same engine, that asks `answers` first and keeps there what it is told."""
        other = copy(self)
        other._answers = answers
        other._claim()
        return other

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        """See stages.engines.Generator.

        Answers are repeatable as far as the server's own seeds go. `tokens` of several answers to
        one request is the server's count, shared out evenly, where they came without their tokens.
        """
        if len(keys) != len(chats):
            raise ValueError(f"{len(chats)} chats came with {len(keys)} keys")
        prompts = self._prompts(chats, room=sampling.max_tokens)

        async def one(at: int, parts: Parts) -> list[Completion] | Refused:
            prompt = prompts[at]
            if isinstance(prompt, Refused):
                return prompt
            if prompt is None or self._tokens is None or not await self._tokens.is_open():
                known = None if prompt is None else len(prompt)
                return await self._chats.write(chats[at], sampling, keys[at], parts, known)
            return await self._tokens.write(prompt, sampling, keys[at])

        asked = [[chat, sampling, key] for chat, key in zip(chats, keys, strict=True)]
        return self._answered(asked, one, COMPLETIONS)

    def choose(self, chats: Sequence[Chat], options: Sequence[str]) -> list[Shares | Refused]:
        """See stages.engines.Chooser. By first tokens, or by sampled answers (options.py).

        Raises ValueError for options that cannot be told apart.
        """
        plain = plain_options(options)
        tokens = self._chat_tokens
        prompts = tokens.choice_prompts(chats, options[0]) if tokens else [None] * len(chats)
        firsts = first_tokens(self._chat_tokens, options) if self._chat_tokens else []

        async def one(at: int, parts: Parts) -> Shares | Refused:
            prompt = prompts[at]
            if isinstance(prompt, Refused):
                return prompt
            if prompt is None or self._tokens is None or not await self._tokens.is_open():
                return await self._chats.choose(chats[at], plain, parts)
            return await self._tokens.choose(prompt, firsts)

        return self._answered([[chat, plain] for chat in chats], one, SHARES)

    def _log_probs(self, chats: Sequence[Chat], max_tokens: int) -> list[AnswerLogProbs | Refused]:
        """See stages.engines.Likelihood. One request for each chat."""
        tokens = self._tokens
        assert tokens is not None, "log_probs was claimed without a tokenizer"
        answers = tokens.chat_tokens.answers(chats, max_tokens)

        async def one(at: int, parts: Parts) -> AnswerLogProbs | Refused:
            answer = answers[at]
            if isinstance(answer, Refused):
                return answer
            await self._need_prompts(tokens)
            return await tokens.log_probs(answer)

        return self._answered([[chat, max_tokens] for chat in chats], one, LOG_PROBS)

    async def _need_prompts(self, tokens: TokenRoute) -> None:
        if not await tokens.tells_prompts():
            config = self._server.config
            raise ModelUnavailable(
                f"the server {config.base_url} gives no log-probabilities of a prompt's tokens "
                f"(vLLM does), so '{config.model}' cannot say how likely an answer is"
            )

    def _prompts(self, chats: Sequence[Chat], room: int) -> Sequence[Tokens | Refused | None]:
        """None where the server cuts the chats into tokens."""
        if self._chat_tokens is None:
            return [None] * len(chats)
        return self._chat_tokens.prompts(chats, room)

    def _answered(
        self,
        asked: Sequence[Any],
        one: Callable[[int, Parts], Awaitable[T | Refused]],
        form: Form[T],
    ) -> list[T | Refused]:
        questions = [question(form.kind, self._known, parts) for parts in asked]

        asks = [partial(one, at) for at in range(len(asked))]
        return answered(self._server, self._answers, questions, asks, form)

    def probe(self) -> None:
        """A small chat; raises EngineError. Not counted in `usage`, but in the budget."""
        self._server.together([self._chats.probe])

    def close(self) -> None:
        """What is in flight is dropped, and who waits for it gets an EngineError."""
        self._server.close()


def _token_route(
    server: Server, chat_tokens: ChatTokens | None, chats: ChatRoute
) -> TokenRoute | None:
    return None if chat_tokens is None else TokenRoute(server, chat_tokens, chats.probe)
